package reports

import (
	"fmt"
	"io"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"github.com/olekukonko/tablewriter/tw"
)

// Columns of a terminal that the tables and the text keep to; a wider table
// is split by metric, never cut.
const (
	terminalWidth = 112
	labelWidth    = 38
)

// displayWidth is the number of terminal columns that s takes, the same on
// every machine: the environment's East Asian setting is not asked.
func displayWidth(s string) int { return twwidth.WidthWithOptions(s, twwidth.Options{}) }

func fitsColumns(n int) func(string) bool {
	return func(s string) bool { return displayWidth(s) <= n }
}

// terminal writes title, question, tables and findings as plain text.
func terminal(w io.Writer, v *view) error {
	var b strings.Builder
	para := func(indent, text string) {
		for i, line := range wrap(text, fitsColumns(terminalWidth-len(indent))) {
			if i > 0 && indent != "" {
				indent = strings.Repeat(" ", displayWidth(indent))
			}
			b.WriteString(indent + line + "\n")
		}
	}
	para("", v.title)
	if v.question != "" {
		para("", v.question)
	}
	para("", strings.Join(v.facts, " · "))

	b.WriteString("\nResults\n")
	head, rows := resultLines(v, func(e entry) string {
		t := e.text() + markText(e.mark)
		if e.best {
			t += " *"
		}
		return t
	})
	if err := textTables(&b, head, rows); err != nil {
		return err
	}
	para("", noteValues+" "+noteMark+" * "+noteBest)
	if v.comparisons != nil {
		b.WriteString("\nWhat each component adds\n")
		head, rows := comparisonLines(v)
		if err := textTables(&b, head, rows); err != nil {
			return err
		}
		para("", noteCompare)
	}
	b.WriteString("\nExecuted\n")
	for i := range v.rows {
		if r := &v.rows[i]; !r.reference && !r.failed {
			para("  · ", r.label+": "+receiptLine(v.s, r.cell))
		}
	}
	if len(v.failed) > 0 {
		b.WriteString("\nFailed\n")
		for _, r := range v.failed {
			para("  ✗ ", r.label+": "+r.reason)
		}
	}
	b.WriteString("\nAnswer\n")
	if len(v.answer) == 0 {
		b.WriteString("  No finding was computed.\n")
	}
	for _, t := range v.answer {
		para("  • ", t)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("reports: terminal table: %w", err)
	}
	return nil
}

// baselineName is ": label" of the baseline, or nothing.
func baselineName(v *view) string {
	if v.baseline == nil {
		return ""
	}
	return ": " + v.baseline.label
}

// resultLines is the result table as text; format writes one entry. A failed
// cell says so in its first metric.
func resultLines(v *view, format func(entry) string) (head []string, rows [][]string) {
	head = []string{"cell", "N", "NFE", "s"}
	for _, c := range v.columns {
		head = append(head, c.head)
	}
	for _, r := range v.rows {
		line := []string{r.tag(), r.n, r.nfe, r.seconds}
		for _, e := range r.entries {
			line = append(line, format(e))
		}
		if r.failed && len(line) > 4 {
			line[4] = "failed"
		}
		rows = append(rows, line)
	}
	return head, rows
}

func effectLines(v *view) (head []string, rows [][]string) { return differenceLines(v.effects, "cell") }

// comparisonLines is the table of comparisons as text.
func comparisonLines(v *view) (head []string, rows [][]string) {
	return differenceLines(v.comparisons, "component")
}

// differenceLines is a table of differences as text; first heads the labels.
func differenceLines(t *effectTable, first string) (head []string, rows [][]string) {
	head = []string{first}
	for _, c := range t.columns {
		head = append(head, c.head)
	}
	for _, r := range t.rows {
		label := r.label
		if r.detail != "" {
			label += " (" + r.detail + ")"
		}
		line := []string{label}
		for _, e := range r.entries {
			line = append(line, e.text())
		}
		rows = append(rows, line)
	}
	return head, rows
}

// textTables writes one table, or several that share the label column where
// one would be wider than the terminal.
func textTables(w io.Writer, head []string, rows [][]string) error {
	width := make([]int, len(head))
	lines := make([][]string, len(rows))
	for i, r := range rows {
		lines[i] = append([]string{}, r...)
		lines[i][0] = strings.Join(wrap(r[0], fitsColumns(labelWidth)), "\n")
	}
	for j := range head {
		width[j] = displayWidth(head[j])
		for _, r := range lines {
			for _, part := range strings.Split(r[j], "\n") {
				width[j] = max(width[j], displayWidth(part))
			}
		}
		width[j] += 3
	}
	for from := 1; from < len(head); {
		to, total := from, width[0]+1
		for to < len(head) && (to == from || total+width[to] <= terminalWidth) {
			total += width[to]
			to++
		}
		pick := func(r []string) []string { return append([]string{r[0]}, r[from:to]...) }
		part := make([][]string, len(lines))
		for i, r := range lines {
			part[i] = pick(r)
		}
		t := newTable(w, to-from+1)
		if err := renderTable(t, pick(head), part); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// newTable is a table whose first column is text and whose others are
// numbers, with nothing reformatted.
func newTable(w io.Writer, columns int, opts ...tablewriter.Option) *tablewriter.Table {
	align := make(tw.Alignment, columns)
	for i := range align {
		align[i] = tw.AlignRight
	}
	align[0] = tw.AlignLeft
	base := []tablewriter.Option{
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithTrimSpace(tw.Off),
		tablewriter.WithEastAsian(tw.Off),
		tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithRowAlignmentConfig(tw.CellAlignment{PerColumn: align}),
	}
	return tablewriter.NewTable(w, append(base, opts...)...)
}

func renderTable(t *tablewriter.Table, head []string, rows [][]string) error {
	t.Header(head)
	for _, r := range rows {
		if err := t.Append(r); err != nil {
			return fmt.Errorf("reports: table: %w", err)
		}
	}
	if err := t.Render(); err != nil {
		return fmt.Errorf("reports: table: %w", err)
	}
	return nil
}
