package critters

import (
	"reflect"
	"strings"
	"testing"
)

func eachAttributes(f func(Attributes)) {
	for s := range Shapes {
		for c := range Colors {
			for b := range Backgrounds {
				for p := range Patterns {
					f(Attributes{Shape: s, Color: c, Background: b, Pattern: p})
				}
			}
		}
	}
}

func TestPromptRoundTrip(t *testing.T) {
	seen := map[string]bool{}
	eachAttributes(func(a Attributes) {
		p := a.Prompt()
		got, err := ParsePrompt(p)
		if err != nil || got != a {
			t.Fatalf("ParsePrompt(%q) = %+v, %v; want %+v", p, got, err, a)
		}
		tokens, err := Tokenize(p)
		if err != nil || len(tokens) != Tokens || tokens[0] != TokenStart {
			t.Fatalf("Tokenize(%q) = %v, %v", p, tokens, err)
		}
		var words []string
		for _, id := range tokens[1:] {
			words = append(words, Vocabulary[id])
		}
		if s := strings.Join(words, " "); s != p || seen[s] {
			t.Fatalf("tokens of %q spell %q (seen before: %v)", p, s, seen[s])
		}
		seen[p] = true
	})
}

func TestEmptyPrompt(t *testing.T) {
	want := make([]int, Tokens)
	want[0] = TokenStart
	for _, p := range []string{"", "  \t"} {
		if got, err := Tokenize(p); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Tokenize(%q) = %v, %v; want %v", p, got, err, want)
		}
	}
	if _, err := ParsePrompt(""); err == nil {
		t.Error("ParsePrompt took an empty prompt, which names no scene")
	}
}

func TestVocabularyHasNoDuplicates(t *testing.T) {
	if len(tokenOf) != len(Vocabulary) {
		t.Errorf("%d tokens, %d distinct", len(Vocabulary), len(tokenOf))
	}
}

func TestParsePromptErrors(t *testing.T) {
	for _, c := range []struct{ prompt, want string }{
		{"a rde square critter on sky stripes", `unknown word "rde" where a colour should be`},
		{"a rde square critter on sky stripes", `did you mean "red"?`},
		{"a red squar critter on sky stripes", `did you mean "square"?`},
		{"a red square critter on sky stripe", `did you mean "stripes"?`},
		{"a red square critter on sky zebra", `(gradient, stripes, checks)`},
		{"a square red critter on sky stripes", `word 2 should be a colour`},
		{"a red square critter on blue stripes", `word 6 should be a background (sky, sand`},
		{"a red square critter", `ends after 4 of 7 words`},
		{"a red square critter on sky stripes and sand", `"and sand" follows`},
		{"a red square critter on sky <pad>", `unknown word "<pad>"`},
	} {
		_, err := ParsePrompt(c.prompt)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParsePrompt(%q): %v; want it to say %s", c.prompt, err, c.want)
		}
		if _, err := Tokenize(c.prompt); err == nil {
			t.Errorf("Tokenize(%q) succeeded", c.prompt)
		}
	}
	if a, err := ParsePrompt("  A Red  SQUARE critter on sky stripes "); err != nil || a != (Attributes{Shape: square, Pattern: stripes}) {
		t.Errorf("case and space matter: %+v, %v", a, err)
	}
}

// After any number of prompts no value of an attribute leads by more than one.
func TestPromptAttributesAreBalanced(t *testing.T) {
	var counts [4][16]int
	sizes := [4]int{len(Shapes), len(Colors), len(Backgrounds), len(Patterns)}
	pairs := map[[2]int]int{}
	for i := uint64(0); i < 512; i++ {
		a := PromptAttributes(17, i)
		pairs[[2]int{a.Shape, a.Color}]++
		for k, v := range [4]int{a.Shape, a.Color, a.Background, a.Pattern} {
			counts[k][v]++
			low, high := counts[k][0], counts[k][0]
			for _, n := range counts[k][:sizes[k]] {
				low, high = min(low, n), max(high, n)
			}
			if high-low > 1 {
				t.Fatalf("attribute %d after %d prompts: %v", k, i+1, counts[k][:sizes[k]])
			}
		}
	}
	if len(pairs) != len(Shapes)*len(Colors) {
		t.Errorf("only %d of %d pairs of shape and colour occur", len(pairs), len(Shapes)*len(Colors))
	}
	if PromptAttributes(17, 5) != PromptAttributes(17, 5) {
		t.Error("prompts are not reproducible")
	}
}

func FuzzParsePrompt(f *testing.F) {
	f.Add("a red square critter on sky stripes")
	f.Add("")
	f.Add("a rde \x00 critter on on on")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParsePrompt(s)
		if err != nil {
			return
		}
		if err := a.Check(); err != nil {
			t.Fatalf("ParsePrompt(%q) = %+v: %v", s, a, err)
		}
		if got := strings.Join(strings.Fields(strings.ToLower(s)), " "); got != a.Prompt() {
			t.Fatalf("ParsePrompt(%q) reads as %q", s, a.Prompt())
		}
	})
}
