package reports

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scalecrafter/reports/results"
)

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		v      float64
		digits int
		plain  string
		signed string
	}{
		{"zero", 0, 1, "0.0", "0.0"},
		{"negative zero", math.Copysign(0, -1), 2, "0.00", "0.00"},
		{"rounds to zero from below", -0.0004, 2, "0.00", "0.00"},
		{"rounds to zero from above", 0.0004, 2, "0.00", "0.00"},
		{"positive", 12.34, 1, "12.3", "+12.3"},
		{"negative", -12.36, 1, "-12.4", "-12.4"},
		{"no decimals", 99.6, 0, "100", "+100"},
		{"ten without decimals", 10, 0, "10", "+10"},
		{"large", 123456.789, 2, "123456.79", "+123456.79"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := number(tt.v, tt.digits); got != tt.plain {
				t.Errorf("number(%g, %d) = %q, want %q", tt.v, tt.digits, got, tt.plain)
			}
			if got := signed(tt.v, tt.digits); got != tt.signed {
				t.Errorf("signed(%g, %d) = %q, want %q", tt.v, tt.digits, got, tt.signed)
			}
		})
	}
}

func TestExactReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64().Filter(func(v float64) bool { return !math.IsNaN(v) }).Draw(t, "v")
		got, err := strconv.ParseFloat(exact(v), 64)
		if err != nil || got != v {
			t.Fatalf("exact(%v) = %q reads back as %v (%v)", v, exact(v), got, err)
		}
	})
}

func TestIntervalTexts(t *testing.T) {
	share := results.Metric{Key: "s", Percent: true, Digits: 1}
	v := results.Value{Mean: 0.5, Lo: 0.421, Hi: 0.58, HasInterval: true}
	if got, want := interval(v, share, false), "[42.1, 58.0]"; got != want {
		t.Errorf("interval = %q, want %q", got, want)
	}
	if got, want := interval(v, share, true), "[+42.1, +58.0]"; got != want {
		t.Errorf("signed interval = %q, want %q", got, want)
	}
	v.HasInterval = false
	if got := interval(v, share, false); got != "" {
		t.Errorf("interval of a value without one = %q, want nothing", got)
	}
}

func TestEscapes(t *testing.T) {
	for _, tt := range []struct{ in, latex, markdown string }{
		{"FID_r 50%", `FID\_r 50\%`, `FID\_r 50%`},
		{`a\b{c}`, `a\textbackslash{}b\{c\}`, `a\\b{c}`},
		{"x|y*z", `x\textbar{}y*z`, `x\|y\*z`},
		{"<b>&$#~^", `\textless{}b\textgreater{}\&\$\#\textasciitilde{}\textasciicircum{}`, `&lt;b&gt;&amp;\$\#\~^`},
		{"×2 ≥ 1 – ↑", `$\times$2 $\geq$ 1 -- $\uparrow$`, "×2 ≥ 1 – ↑"},
		{"`code` [link]", "`code` [link]", "\\`code\\` \\[link\\]"},
	} {
		if got := escapeLaTeX(tt.in); got != tt.latex {
			t.Errorf("escapeLaTeX(%q) = %q, want %q", tt.in, got, tt.latex)
		}
		if got := escapeMarkdown(tt.in); got != tt.markdown {
			t.Errorf("escapeMarkdown(%q) = %q, want %q", tt.in, got, tt.markdown)
		}
	}
}

// An escaped text has no character left that LaTeX would act on unescaped.
func TestLaTeXEscapeLeavesNothingActive(t *testing.T) {
	strip := strings.NewReplacer(`\textbackslash{}`, "", `\textasciitilde{}`, "", `\textasciicircum{}`, "",
		`\{`, "", `\}`, "", `\&`, "", `\%`, "", `\$`, "", `\#`, "", `\_`, "")
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOf(rapid.RuneFrom([]rune(`\{}&%$#_~^ab`))).Draw(t, "s")
		if rest := strip.Replace(escapeLaTeX(s)); strings.ContainsAny(rest, `\{}&%$#_~^`) {
			t.Fatalf("escapeLaTeX(%q) = %q leaves %q", s, escapeLaTeX(s), rest)
		}
	})
}

func TestWrapKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOf(rapid.RuneFrom([]rune("ab é漢×  -"))).Draw(t, "s")
		n := rapid.IntRange(2, 20).Draw(t, "n")
		lines := wrap(s, fitsColumns(n))
		if len(lines) == 0 {
			t.Fatal("no line")
		}
		for _, l := range lines {
			if displayWidth(l) > n {
				t.Fatalf("line %q is wider than %d", l, n)
			}
		}
		join := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if got, want := join(strings.Join(lines, " ")), join(s); got != want {
			t.Fatalf("wrap(%q) holds %q", s, got)
		}
	})
}

func TestCleanAndSlug(t *testing.T) {
	if got, want := clean(" a\tb\r\nc\x00 d\xff "), "a b c d\uFFFD"; got != want {
		t.Errorf("clean = %q, want %q", got, want)
	}
	for in, want := range map[string]string{
		"Re-dilation ×2, 60% of steps": "re-dilation-2-60-of-steps",
		"../../etc/passwd":             "etc-passwd",
		"漢字":                           "",
	} {
		if got := slug(in, 40); got != want {
			t.Errorf("slug(%q) = %q, want %q", in, got, want)
		}
	}
	if got := shorten("abcdef", 4); got != "abc…" {
		t.Errorf("shorten = %q", got)
	}
}

func TestCodeSpanCannotBeClosed(t *testing.T) {
	for in, want := range map[string]string{"a": "`a`", "a`b": "``a`b``", "`": "`` ` ``"} {
		if got := codeSpan(in); got != want {
			t.Errorf("codeSpan(%q) = %q, want %q", in, got, want)
		}
	}
	if got := fence("x\n```\ny"); got != "````" {
		t.Errorf("fence = %q, want four backticks", got)
	}
}
