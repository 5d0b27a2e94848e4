package reports

import (
	"bytes"
	"fmt"
	"strings"
)

var latexSpecial = strings.NewReplacer(
	`\`, `\textbackslash{}`, `{`, `\{`, `}`, `\}`, `&`, `\&`, `%`, `\%`, `$`, `\$`,
	`#`, `\#`, `_`, `\_`, `~`, `\textasciitilde{}`, `^`, `\textasciicircum{}`,
	`<`, `\textless{}`, `>`, `\textgreater{}`, `|`, `\textbar{}`, `"`, `\textquotedbl{}`,
	`×`, `$\times$`, `·`, `$\cdot$`, `±`, `$\pm$`, `−`, `$-$`, `≤`, `$\leq$`, `≥`, `$\geq$`,
	`→`, `$\rightarrow$`, `↑`, `$\uparrow$`, `↓`, `$\downarrow$`, `Δ`, `$\Delta$`,
	`τ`, `$\tau$`, `σ`, `$\sigma$`, `η`, `$\eta$`, `²`, `$^2$`, `³`, `$^3$`, `–`, `--`, `—`, `---`, `…`, `\ldots{}`,
)

// escapeLaTeX makes s plain text in a LaTeX paragraph or table.
func escapeLaTeX(s string) string { return latexSpecial.Replace(s) }

// latexLabel is escapeLaTeX for the first cell of a line, where a bracket or a
// star would be taken for an argument of the line end before it.
func latexLabel(s string) string {
	s = escapeLaTeX(s)
	if strings.HasPrefix(s, "[") || strings.HasPrefix(s, "*") {
		s = "{}" + s
	}
	return s
}

// latexTable writes a booktabs tabular: the first column left, others right.
func latexTable(comment string, head []string, body func(p func(format string, args ...any))) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("%% %s\n%% Needs \\usepackage{booktabs} and, for accented letters, a UTF-8 engine.\n", comment)
	p("\\begin{tabular}{l%s}\n\\toprule\n", strings.Repeat("r", len(head)-1))
	for i, h := range head {
		if i > 0 {
			p(" & ")
		}
		p("%s", escapeLaTeX(h))
	}
	p(" \\\\\n\\midrule\n")
	body(p)
	p("\\bottomrule\n\\end{tabular}\n")
	return b.Bytes()
}

// latexValue sets the mean, and the interval smaller beside it.
func latexValue(mean, interval string, bold bool) string {
	t := "$" + mean + "$"
	if mean == missing {
		t = "--"
	}
	if bold {
		t = `\textbf{` + mean + `}`
	}
	if interval != "" {
		t += ` {\scriptsize $` + interval + `$}`
	}
	return t
}

// resultsLaTeX is the result table.
func resultsLaTeX(v *view) []byte {
	head := []string{"cell", "N", "NFE", "s"}
	for _, c := range v.columns {
		head = append(head, c.head)
	}
	comment := "Mean [95% bootstrap interval]. Bold: significantly better than the baseline and not separated from the best mean."
	return latexTable(comment, head, func(p func(string, ...any)) {
		for i, r := range v.rows {
			if i > 0 && !r.reference && v.rows[i-1].reference {
				p("\\midrule\n")
			}
			p("%s & %s & %s & %s", latexLabel(r.tag()), escapeLaTeX(r.n), escapeLaTeX(r.nfe), escapeLaTeX(r.seconds))
			if r.failed && len(r.entries) > 0 {
				p(" & \\multicolumn{%d}{l}{failed: %s}", len(r.entries), escapeLaTeX(shorten(r.reason, 60)))
			} else {
				for _, e := range r.entries {
					p(" & %s", latexValue(e.mean, e.interval, e.best))
				}
			}
			p(" \\\\\n")
		}
	})
}

// effectsLaTeX is the table of differences to the baseline.
func effectsLaTeX(v *view) []byte {
	head := []string{"cell"}
	for _, c := range v.effects.columns {
		head = append(head, c.head)
	}
	comment := "Paired difference to the baseline [95% interval]; * marks an interval that excludes zero after Holm's correction."
	return latexTable(comment, head, func(p func(string, ...any)) {
		for _, r := range v.effects.rows {
			p("%s", latexLabel(r.label))
			for _, e := range r.entries {
				t := latexValue(e.mean, e.interval, false)
				if e.mark != 0 {
					t += `$^{*}$`
				}
				p(" & %s", t)
			}
			p(" \\\\\n")
		}
	})
}
