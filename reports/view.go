package reports

import (
	"fmt"
	"strings"

	"scalecrafter/reports/results"
)

// view is a summary made ready for reading: every text cleaned, every number
// formatted, every mark decided once, so that all outputs agree.
type view struct {
	s           *results.Summary
	title       string
	question    string
	facts       []string // size, steps, ...: one short phrase each
	answer      []string // the findings
	columns     []column
	rows        []row        // reference rows first, then cells
	effects     *effectTable // nil where no effect was measured
	comparisons *effectTable // nil where none was asked for
	failed      []row
	baseline    *row // nil where there is none
}

// column is one metric in the result table.
type column struct {
	results.Metric
	head  string // title, direction and unit: "right ↑ [%]"
	plain string // title and unit, without the arrow
}

// row is one line of the result table.
type row struct {
	cell      *results.Cell
	label     string
	reference bool
	failed    bool
	reason    string
	n         string
	nfe       string
	seconds   string
	entries   []entry // one a column
}

// entry is one metric of one row. text is all of it on one line.
type entry struct {
	mean, interval string
	best           bool
	mark           int // against the baseline, as in effectEntry
	measured       bool
}

func (e entry) text() string { return strings.TrimSpace(e.mean + " " + e.interval) }

// effectTable holds differences to the baseline.
type effectTable struct {
	columns []column
	rows    []effectRow
}

type effectRow struct {
	label   string
	detail  string // "from → to" of a comparison
	entries []effectEntry
}

// effectEntry is a difference; mark is +1 for significantly better than the
// baseline, -1 for significantly worse, 0 for neither.
type effectEntry struct {
	mean, interval string
	mark           int
	measured       bool
}

func (e effectEntry) text() string {
	return strings.TrimSpace(e.mean+" "+e.interval) + markText(e.mark)
}

// markText is what follows a number that differs from the baseline.
func markText(mark int) string {
	switch mark {
	case 1:
		return " ▲"
	case -1:
		return " ▼"
	}
	return ""
}

// Sentences that every output shows below its tables.
const (
	noteValues = "Values are mean [95% bootstrap interval]."
	noteBest   = "is given only to cells that are significantly better than the baseline and whose interval overlaps that of the best mean; several in a column tie."
	noteEffect = "Differences to the baseline, paired by sample (same prompt, same noise), with 95% intervals. " +
		noteMark
	noteCompare = "What a component adds: the second cell less the first, paired by sample (same prompt, same noise), with 95% intervals. " +
		"▲ better, ▼ worse: only where the interval excludes zero after Holm's correction over this table; unmarked, no difference could be shown."
	noteMark = "▲ better, ▼ worse than the baseline: only where the paired interval excludes zero after Holm's correction over the table."
)

// newView formats a checked summary.
func newView(s *results.Summary) *view {
	v := &view{s: s, title: clean(s.Title), question: clean(s.Question)}
	if v.title == "" {
		v.title = clean(s.Name)
	}
	if v.title == "" {
		v.title = "Ablation report"
	}
	for _, f := range s.Findings {
		if t := clean(f.Text); t != "" {
			v.answer = append(v.answer, t)
		}
	}
	for _, m := range s.Columns {
		v.columns = append(v.columns, newColumn(m))
	}
	for i := range s.Reference {
		v.rows = append(v.rows, v.newRow(&s.Reference[i], true))
	}
	for i := range s.Cells {
		v.rows = append(v.rows, v.newRow(&s.Cells[i], false))
	}
	v.markBest()
	for i := range v.rows {
		r := &v.rows[i]
		if r.failed {
			v.failed = append(v.failed, *r)
		}
		if !r.reference && r.cell.Baseline {
			v.baseline = r
		}
	}
	v.effects = v.newEffects()
	v.comparisons = v.newComparisons()
	v.facts = facts(s)
	return v
}

func newColumn(m results.Metric) column {
	m.Title, m.Unit, m.Help = clean(m.Title), clean(m.Unit), clean(m.Help)
	if m.Title == "" {
		m.Title = m.Key
	}
	arrow := " ↓"
	if m.HigherIsBetter {
		arrow = " ↑"
	}
	u, _ := unit(m)
	if u != "" {
		u = " [" + u + "]"
	}
	return column{Metric: m, head: m.Title + arrow + u, plain: m.Title + u}
}

func (v *view) newRow(c *results.Cell, reference bool) row {
	r := row{
		cell:      c,
		label:     clean(c.Label),
		reference: reference,
		failed:    c.Status == "failed",
		n:         count(c.N),
		nfe:       evaluations(c.NFE),
		seconds:   seconds(c.Seconds),
	}
	if r.label == "" {
		r.label = clean(c.Method)
	}
	if r.label == "" {
		r.label = clean(c.ID)
	}
	if r.failed {
		r.reason = clean(c.Error)
		if r.reason == "" {
			r.reason = "no reason was recorded"
		}
	}
	for _, col := range v.columns {
		val, ok := c.Metrics[col.Key]
		if !ok || r.failed {
			r.entries = append(r.entries, entry{mean: missing})
			continue
		}
		r.entries = append(r.entries, entry{
			mean:     number(scale(col.Metric)*val.Mean, col.Digits),
			interval: interval(val, col.Metric, false),
			measured: true,
		})
		if !reference {
			r.entries[len(r.entries)-1].mark = mark(c, col.Metric)
		}
	}
	return r
}

// tag is the label with what the row is: the baseline says so.
func (r row) tag() string {
	if !r.reference && r.cell.Baseline {
		return r.label + " (baseline)"
	}
	return r.label
}

// hasReceipt reports whether there is anything to show of how the row ran.
func (r *row) hasReceipt() bool { return !r.reference && !r.failed && !receiptIsPlain(r.cell) }

// competes reports whether the row may be best in a column, and its value.
func (r row) competes(key string) (results.Value, bool) {
	if r.reference || r.failed {
		return results.Value{}, false
	}
	v, ok := r.cell.Metrics[key]
	return v, ok && v.HasInterval
}

// markBest marks the cells that earned it: a cell is marked where it is
// significantly better than the baseline and its interval overlaps the one of
// the best mean. The baseline is marked where every other cell is
// significantly worse. A high rank alone marks nobody.
func (v *view) markBest() {
	for j, col := range v.columns {
		var best *results.Value
		others, worse := 0, 0
		for i := range v.rows {
			r := &v.rows[i]
			val, ok := r.competes(col.Key)
			if !ok {
				continue
			}
			if best == nil || better(col.Metric, val.Mean, best.Mean) {
				best = &val
			}
			if !r.cell.Baseline {
				others++
				if mark(r.cell, col.Metric) < 0 {
					worse++
				}
			}
		}
		for i := range v.rows {
			r := &v.rows[i]
			val, ok := r.competes(col.Key)
			if !ok {
				continue
			}
			if r.cell.Baseline {
				r.entries[j].best = others > 0 && worse == others
			} else {
				r.entries[j].best = mark(r.cell, col.Metric) > 0 && val.Lo <= best.Hi && best.Lo <= val.Hi
			}
		}
	}
}

func better(m results.Metric, a, b float64) bool {
	if m.HigherIsBetter {
		return a > b
	}
	return a < b
}

// mark is +1 where the cell's effect in m is significantly good, -1 where it
// is significantly bad. An effect flagged significant whose own interval
// holds zero is not marked.
func mark(c *results.Cell, m results.Metric) int {
	e, ok := c.Effects[m.Key]
	if !ok || c.Baseline {
		return 0
	}
	return markEffect(e, m)
}

func markEffect(e results.Effect, m results.Metric) int {
	if !e.Significant || e.Mean == 0 {
		return 0
	}
	if e.HasInterval && e.Lo <= 0 && e.Hi >= 0 {
		return 0
	}
	if better(m, e.Mean, 0) {
		return 1
	}
	return -1
}

// newEffects makes the table of effects: columns and rows that have any.
func (v *view) newEffects() *effectTable {
	t := &effectTable{}
	for _, col := range v.columns {
		for i := range v.s.Cells {
			c := &v.s.Cells[i]
			if _, ok := c.Effects[col.Key]; ok && !c.Baseline && c.Status != "failed" {
				t.columns = append(t.columns, col)
				break
			}
		}
	}
	for i := range v.rows {
		r := &v.rows[i]
		if r.reference || r.failed || r.cell.Baseline {
			continue
		}
		line := effectRow{label: r.label}
		any := false
		for _, col := range t.columns {
			e, ok := r.cell.Effects[col.Key]
			if !ok {
				line.entries = append(line.entries, effectEntry{mean: missing})
				continue
			}
			any = true
			line.entries = append(line.entries, effectEntry{
				mean:     signed(scale(col.Metric)*e.Mean, col.Digits),
				interval: interval(e.Value, col.Metric, true),
				mark:     mark(r.cell, col.Metric),
				measured: true,
			})
		}
		if any {
			t.rows = append(t.rows, line)
		}
	}
	if len(t.rows) == 0 {
		return nil
	}
	t.nameDifferences()
	return t
}

// nameDifferences heads the columns as differences.
func (t *effectTable) nameDifferences() {
	for i := range t.columns {
		c := &t.columns[i]
		arrow := " ↓"
		if c.HigherIsBetter {
			arrow = " ↑"
		}
		c.head = "Δ " + c.Title + arrow
		c.plain = "Δ " + c.Title
		if _, u := unit(c.Metric); u != "" {
			c.head += " [" + u + "]"
			c.plain += " [" + u + "]"
		}
	}
}

// newComparisons makes the table of what each component adds.
func (v *view) newComparisons() *effectTable {
	t := &effectTable{}
	for _, col := range v.columns {
		for _, c := range v.s.Comparisons {
			if _, ok := c.Effects[col.Key]; ok {
				t.columns = append(t.columns, col)
				break
			}
		}
	}
	for _, c := range v.s.Comparisons {
		line := effectRow{label: clean(c.Name), detail: v.labelOf(c.From) + " → " + v.labelOf(c.To)}
		for _, col := range t.columns {
			e, ok := c.Effects[col.Key]
			if !ok {
				line.entries = append(line.entries, effectEntry{mean: missing})
				continue
			}
			line.entries = append(line.entries, effectEntry{
				mean:     signed(scale(col.Metric)*e.Mean, col.Digits),
				interval: interval(e.Value, col.Metric, true),
				mark:     markEffect(e, col.Metric),
				measured: true,
			})
		}
		t.rows = append(t.rows, line)
	}
	if len(t.rows) == 0 || len(t.columns) == 0 {
		return nil
	}
	t.nameDifferences()
	return t
}

// labelOf is the label of the cell with this id.
func (v *view) labelOf(id string) string {
	for i := range v.rows {
		if r := &v.rows[i]; !r.reference && r.cell.ID == id {
			return r.label
		}
	}
	return clean(id)
}

// facts are the short phrases below the title.
func facts(s *results.Summary) []string {
	var f []string
	n := fmt.Sprintf("%d cells", len(s.Cells))
	if len(s.Cells) == 1 {
		n = "1 cell"
	}
	f = append(f, n)
	lo, hi := 0, 0
	for _, c := range s.Cells {
		if c.Status == "failed" {
			continue
		}
		if hi == 0 || c.N < lo {
			lo = c.N
		}
		hi = max(hi, c.N)
	}
	switch {
	case hi > 0 && lo == hi:
		f = append(f, fmt.Sprintf("%d images each", hi))
	case hi > 0:
		f = append(f, fmt.Sprintf("%d to %d images each", lo, hi))
	}
	if s.Height > 0 && s.Width > 0 {
		f = append(f, fmt.Sprintf("%d×%d px", s.Height, s.Width))
	}
	if s.TrainHeight > 0 && s.TrainWidth > 0 {
		f = append(f, fmt.Sprintf("trained at %d×%d px", s.TrainHeight, s.TrainWidth))
	}
	if s.Steps > 0 {
		f = append(f, fmt.Sprintf("%d sampling steps", s.Steps))
	}
	if s.GuidanceScale != 0 {
		f = append(f, "guidance "+exact(s.GuidanceScale))
	}
	return f
}

// definitions explains every column and mark: term, then sentence.
func (v *view) definitions() [][2]string {
	var d [][2]string
	for _, c := range v.columns {
		text := c.Help
		if text == "" {
			text = "No description was recorded."
		}
		if c.HigherIsBetter {
			text += " Higher is better."
		} else {
			text += " Lower is better."
		}
		d = append(d, [2]string{c.plain, text})
	}
	d = append(d,
		[2]string{"N", "Images drawn and measured in the cell."},
		[2]string{"NFE", "Network evaluations per image; guidance and damping passes count."},
		[2]string{"s", "Wall time of the cell's sampling in seconds, on the machine that drew it."},
		[2]string{"[lo, hi]", "95% bootstrap interval of the mean: how far it moves when the images are drawn again, with replacement, from those measured."},
		[2]string{"▲ ▼", "Significantly better, significantly worse than the baseline: the paired 95% interval excludes zero after Holm's correction over the table."},
	)
	return d
}

// provenance lists what one needs to judge whether two numbers may be
// compared. Empty fields are left out.
func (v *view) provenance() [][2]string { return provenanceOf(v.s.Provenance) }

func provenanceOf(p results.Provenance) [][2]string {
	var out [][2]string
	add := func(k, val string) {
		if val = clean(val); val != "" {
			out = append(out, [2]string{k, val})
		}
	}
	add("Command", p.Command)
	add("Configuration", p.ConfigFile)
	add("Program", p.Program)
	add("Commit", p.Commit)
	add("Protocol", p.Protocol)
	add("World", p.WorldVersion)
	add("Model", p.ModelDigest)
	add("Features", p.FeatureDigest)
	add("Go", p.GoVersion)
	add("System", p.OS)
	cpu := p.CPU
	if p.Cores > 0 {
		cpu = strings.TrimSpace(fmt.Sprintf("%s, %d cores", cpu, p.Cores))
		cpu = strings.TrimPrefix(cpu, ", ")
	}
	add("Processor", cpu)
	add("Kernels", p.KernelPath)
	add("Arithmetic", p.Math)
	add("Arithmetic asked for", p.MathNote)
	const layout = "2006-01-02 15:04:05 UTC"
	if !p.Started.IsZero() {
		add("Started", p.Started.UTC().Format(layout))
	}
	if !p.Finished.IsZero() {
		add("Finished", p.Finished.UTC().Format(layout))
	}
	if !p.Started.IsZero() && p.Finished.After(p.Started) {
		add("Took", p.Finished.Sub(p.Started).Round(1e9).String())
	}
	return out
}
