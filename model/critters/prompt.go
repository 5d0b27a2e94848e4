package critters

import (
	"fmt"
	"strings"
)

// Tokens is the length of every token sequence: the start token and the seven
// words of a prompt. The empty prompt of guidance is the start token and pads.
const Tokens = 8

// Special tokens, as indexes into Vocabulary.
const (
	TokenPad   = 0
	TokenStart = 1
)

// Vocabulary lists every token; a token's index is its position here.
var Vocabulary = buildVocabulary()

var (
	tokenOf = buildTokenIndex()
	// grammar is what a prompt's words may be, in order.
	grammar = []struct {
		what  string
		words []string
	}{
		{"the article", []string{"a"}},
		{"a colour", Colors},
		{"a shape", Shapes},
		{"the noun", []string{"critter"}},
		{"the preposition", []string{"on"}},
		{"a background", Backgrounds},
		{"a pattern", Patterns},
	}
)

func buildVocabulary() []string {
	v := []string{"<pad>", "<start>", "a", "critter", "on"}
	for _, words := range [][]string{Colors, Shapes, Backgrounds, Patterns} {
		v = append(v, words...)
	}
	return v
}

func buildTokenIndex() map[string]int {
	m := make(map[string]int, len(Vocabulary))
	for i, w := range Vocabulary {
		m[w] = i
	}
	return m
}

// Prompt is the sentence for the attributes, such as
// "a red square critter on sky stripes". It panics where Check refuses.
func (a Attributes) Prompt() string {
	if err := a.Check(); err != nil {
		panic(err)
	}
	return fmt.Sprintf("a %s %s critter on %s %s", Colors[a.Color], Shapes[a.Shape], Backgrounds[a.Background], Patterns[a.Pattern])
}

// ParsePrompt is the inverse of Attributes.Prompt. Letter case and the amount
// of space do not matter; anything else does, since a model has seen no other
// sentence. An error names the word at fault and what may stand in its place.
func ParsePrompt(s string) (Attributes, error) {
	words := strings.Fields(strings.ToLower(s))
	var picks [Tokens - 1]int
	for i, slot := range grammar {
		if i >= len(words) {
			return Attributes{}, promptError(s, fmt.Sprintf("it ends after %d of %d words, where %s should follow (%s)",
				len(words), len(grammar), slot.what, strings.Join(slot.words, ", ")))
		}
		picks[i] = position(slot.words, words[i])
		if picks[i] < 0 {
			return Attributes{}, promptError(s, explain(words[i], i))
		}
	}
	if extra := words[len(grammar):]; len(extra) > 0 {
		return Attributes{}, promptError(s, fmt.Sprintf("%q follows where the sentence should end", strings.Join(extra, " ")))
	}
	return Attributes{Color: picks[1], Shape: picks[2], Background: picks[5], Pattern: picks[6]}, nil
}

// Tokenize returns the Tokens token indexes of a prompt that ParsePrompt takes,
// or of the empty prompt.
func Tokenize(prompt string) ([]int, error) {
	tokens := make([]int, Tokens) // TokenPad is zero
	tokens[0] = TokenStart
	if strings.TrimSpace(prompt) == "" {
		return tokens, nil
	}
	a, err := ParsePrompt(prompt)
	if err != nil {
		return nil, err
	}
	a.Tokens(tokens)
	return tokens, nil
}

// Tokens writes the tokens of the attributes' prompt to dst, which must hold
// Tokens values; it is Tokenize without the text, for training loops.
func (a Attributes) Tokens(dst []int) {
	const fixed = 5 // specials and the three words that never change
	shapes := fixed + len(Colors)
	backs := shapes + len(Shapes)
	patterns := backs + len(Backgrounds)
	copy(dst, []int{TokenStart, 2, fixed + a.Color, shapes + a.Shape, 3, 4, backs + a.Background, patterns + a.Pattern})
}

// RandomAttributes draws the attributes of NewScene(seed, index).
func RandomAttributes(seed, index uint64) Attributes {
	st := newStream(seed, index, domainAttributes)
	return Attributes{Shape: st.below(len(Shapes)), Color: st.below(len(Colors)),
		Background: st.below(len(Backgrounds)), Pattern: st.below(len(Patterns))}
}

// PromptAttributes gives prompt i of the evaluation list with that seed. Each
// attribute runs through random orders of its values, one after another, so
// that in the first n prompts no value is more than one ahead of another.
func PromptAttributes(seed, i uint64) Attributes {
	pick := func(which uint64, n int) int {
		st := newStream(seed, i/uint64(n), domainPrompt+16*(which+1))
		var order [16]int
		for k := 0; k < n; k++ { // Fisher-Yates, inside out
			j := st.below(k + 1)
			order[k] = order[j]
			order[j] = k
		}
		return order[i%uint64(n)]
	}
	return Attributes{Shape: pick(0, len(Shapes)), Color: pick(1, len(Colors)),
		Background: pick(2, len(Backgrounds)), Pattern: pick(3, len(Patterns))}
}

func promptError(prompt, why string) error {
	return fmt.Errorf("critters: prompt %q: %s; a prompt reads like %q", prompt, why, Attributes{Color: 0, Shape: square, Pattern: stripes}.Prompt())
}

// explain says why word cannot stand at place i of the grammar.
func explain(word string, i int) string {
	slot := grammar[i]
	list := strings.Join(slot.words, ", ")
	if t, known := tokenOf[word]; known && t > TokenStart {
		return fmt.Sprintf("word %d should be %s (%s), not %q", i+1, slot.what, list, word)
	}
	best, distance := "", 3 // a suggestion is at most two edits away
	for _, w := range append(append([]string{}, slot.words...), Vocabulary[TokenStart+1:]...) {
		if d := edits(word, w); d < distance && d < len(w) {
			best, distance = w, d
		}
	}
	hint := ""
	if best != "" {
		hint = fmt.Sprintf("; did you mean %q?", best)
	}
	return fmt.Sprintf("unknown word %q where %s should be (%s)%s", word, slot.what, list, hint)
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func position(words []string, w string) int {
	for i, v := range words {
		if v == w {
			return i
		}
	}
	return -1
}
