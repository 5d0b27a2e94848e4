package reports

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
)

var markdownSpecial = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`,
	"<", "&lt;", ">", "&gt;", "|", `\|`, "#", `\#`, "~", `\~`, "&", "&amp;", "$", `\$`,
)

// escapeMarkdown makes s plain text wherever it stands in a Markdown page.
func escapeMarkdown(s string) string { return markdownSpecial.Replace(s) }

// markdown renders the report as one Markdown file beside the figures.
func markdown(v *view, plots, receipts []figure, grid bool) ([]byte, error) {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# %s\n\n", escapeMarkdown(v.title))
	if v.question != "" {
		p("%s\n\n", escapeMarkdown(v.question))
	}
	p("%s\n\n## Answer\n\n", escapeMarkdown(strings.Join(v.facts, " · ")))
	if len(v.answer) == 0 {
		p("No finding was computed.\n")
	}
	for _, t := range v.answer {
		p("- %s\n", escapeMarkdown(t))
	}
	p("\n## Results\n\n")
	head, rows := resultLines(v, func(e entry) string {
		if e.best {
			return "\x00" + e.text()
		}
		return e.text()
	})
	if err := markdownTable(&b, head, rows); err != nil {
		return nil, err
	}
	p("\n%s Bold %s\n", noteValues, noteBest)
	if v.comparisons != nil {
		p("\n## What each component adds\n\n")
		head, rows := comparisonLines(v)
		if err := markdownTable(&b, head, rows); err != nil {
			return nil, err
		}
		p("\n%s\n", noteCompare)
	}
	if v.effects != nil {
		p("\n## Against the baseline%s\n\n", escapeMarkdown(baselineName(v)))
		head, rows := effectLines(v)
		if err := markdownTable(&b, head, rows); err != nil {
			return nil, err
		}
		p("\n%s\n", noteEffect)
	}
	if len(v.failed) > 0 {
		p("\n## Failed\n\n")
		for _, r := range v.failed {
			p("- %s: %s\n", escapeMarkdown(r.label), escapeMarkdown(r.reason))
		}
	}
	if len(plots) > 0 {
		p("\n## Plots\n")
		for _, f := range plots {
			p("\n![%s](figures/%s.png)\n\n%s\n", escapeMarkdown(f.alt), f.name, escapeMarkdown(f.caption))
		}
	}
	if grid {
		p("\n## Pictures\n\nRows are cells, columns are prompts; a column shares its noise.\n\n![Picture grid](figures/pictures.png)\n")
	}
	markdownReceipts(p, v, receipts)
	p("\n## Columns\n\n")
	for _, d := range v.definitions() {
		p("- **%s**: %s\n", escapeMarkdown(d[0]), escapeMarkdown(d[1]))
	}
	if prov := v.provenance(); len(prov) > 0 {
		p("\n## Provenance\n\n")
		for _, d := range prov {
			p("- %s: %s\n", d[0], codeSpan(d[1]))
		}
	}
	if strings.TrimSpace(v.s.ResolvedTOML) != "" {
		fence := fence(v.s.ResolvedTOML)
		p("\n## Resolved configuration\n\n%stoml\n%s\n%s\n", fence, strings.TrimRight(v.s.ResolvedTOML, "\n"), fence)
	}
	return b.Bytes(), nil
}

// markdownReceipts lists what every cell executed, the drawings folded.
func markdownReceipts(p func(string, ...any), v *view, receipts []figure) {
	drawn := map[string]figure{}
	for _, f := range receipts {
		drawn[f.name] = f
	}
	first := true
	for i := range v.rows {
		r := &v.rows[i]
		if r.reference || r.failed {
			continue
		}
		if first {
			p("\n## What was executed\n")
			first = false
		}
		p("\n- **%s**: %s\n", escapeMarkdown(r.tag()), escapeMarkdown(receiptLine(v.s, r.cell)))
		if f, ok := drawn[r.receiptName(i)]; ok {
			p("\n  <details><summary>layers and steps</summary>\n\n  ![%s](figures/%s.png)\n\n  As data: [tables/%s.csv](tables/%s.csv)\n\n  </details>\n", escapeMarkdown(f.alt), f.name, f.name, f.name)
		}
	}
}

// codeSpan writes s between more backticks than it holds in a row.
func codeSpan(s string) string {
	ticks := strings.Repeat("`", longestRun(s)+1)
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		s = " " + s + " "
	}
	return ticks + s + ticks
}

// fence is a code fence that s cannot close.
func fence(s string) string { return strings.Repeat("`", max(3, longestRun(s)+1)) }

// longestRun is the length of the longest run of backticks in s.
func longestRun(s string) int {
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	return longest
}

// markdownTable writes a pipe table; entries that begin with a NUL, which no
// cleaned text holds, are set bold.
func markdownTable(b *bytes.Buffer, head []string, rows [][]string) error {
	esc := func(line []string) []string {
		out := make([]string, len(line))
		for i, s := range line {
			if t, ok := strings.CutPrefix(s, "\x00"); ok {
				out[i] = "**" + escapeMarkdown(t) + "**"
			} else {
				out[i] = escapeMarkdown(s)
			}
		}
		return out
	}
	lines := make([][]string, len(rows))
	for i, r := range rows {
		lines[i] = esc(r)
	}
	return renderTable(newTable(b, len(head), tablewriter.WithRenderer(renderer.NewMarkdown())), esc(head), lines)
}
