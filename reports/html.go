package reports

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"

	"scalecrafter/reports/results"
)

var (
	//go:embed common.html
	commonSource string // what the two pages share
	//go:embed page.html
	pageSource string
	//go:embed page.css
	pageStyle string

	commonTemplate = template.Must(template.New("common").Funcs(template.FuncMap{
		"minus": func(s string) string { return strings.ReplaceAll(s, "-", "−") },
		"differences": func(t *pageEffects, id, name, head, note string) differences {
			return differences{Table: t, ID: id, Name: name, Head: head, Note: note}
		},
	}).Parse(commonSource))
	pageTemplate = template.Must(template.Must(commonTemplate.Clone()).New("page").Parse(pageSource))
)

// pageData is what the template reads: text only, all escaped by it, but for
// the drawings and data URIs, which this package made.
type pageData struct {
	Style      template.CSS
	Title      string
	Question   string
	Facts      []string
	Lead       string
	More       []string
	Columns    []column
	Rows       []pageRow
	Glance     *pageGlance
	Effects    *pageEffects
	Baseline   string
	Notes      map[string]string
	Failed     []pageFailure
	Plots      []pageFigure
	Compared   *pageEffects
	Receipts   []pageReceipt
	Prompts    []string
	Pictures   []pagePictures
	Terms      [][2]string
	Provenance [][2]string
	TOML       string
	Sections   []pageSection
}

// FailedCells is how many cells failed.
func (d pageData) FailedCells() int { return len(d.Failed) }

type pageSection struct{ ID, Name string }

type pageFailure struct{ Label, Reason string }

// pageReceipt is what one cell executed: a line and, where anything differs
// from the network as trained, a drawing and the file of its data.
type pageReceipt struct {
	Label, Line string
	SVG         template.HTML
	Width       float64 // rem, at which all receipts have one scale
	Data        string
}

type pageFigure struct {
	SVG     template.HTML
	Caption string
}

type pageRow struct {
	Label, Detail      string
	N, NFE, Seconds    string
	Reference          bool
	LastReference      bool
	Baseline           bool
	Failed             bool
	Reason             string
	Span               int
	Entries            []pageEntry
	LabelledByBaseline string
}

type pageEntry struct {
	Mean, Interval string
	Best, Measured bool
	Mark           int
}

// pageGlance is the baseline's pictures above those of the best cell in the
// first column, where there is one that earned it.
type pageGlance struct {
	Prompts []string
	Rows    []pagePictures
}

// differences is a table of differences with its words.
type differences struct {
	Table                *pageEffects
	ID, Name, Head, Note string
}

type pageEffects struct {
	Columns []column
	Rows    []pageRow
}

type pagePictures struct {
	Label     string
	Reference bool
	Message   string
	Value     string // the first column's, in the glance
	Tiles     []pageTile
}

type pageTile struct {
	URI     template.URL
	Width   float64 // rem, where it is not square; else 0
	Alt     string
	Problem string
}

// Head and Plain let the template read a column.
func (c column) Head() string  { return c.head }
func (c column) Plain() string { return c.plain }

// Arrow, Name and Measure are the parts of a column's head.
func (c column) Arrow() string {
	if c.HigherIsBetter {
		return "↑"
	}
	return "↓"
}

func (c column) Direction() string {
	if c.HigherIsBetter {
		return "higher is better"
	}
	return "lower is better"
}

// Measure is the unit of values, Points that of differences.
func (c column) Measure() string { u, _ := unit(c.Metric); return u }
func (c column) Points() string  { _, u := unit(c.Metric); return u }

// htmlPage renders the self-contained page.
func htmlPage(v *view, plots, receipts []figure, g *pictures) ([]byte, error) {
	d := pageData{
		Style:      template.CSS(pageStyle),
		Title:      v.title,
		Question:   v.question,
		Facts:      v.facts,
		Columns:    v.columns,
		Notes:      map[string]string{"values": noteValues, "best": noteBest, "effects": noteEffect, "compare": noteCompare},
		Prompts:    g.prompts,
		Terms:      v.definitions(),
		Provenance: v.provenance(),
		TOML:       strings.TrimSpace(v.s.ResolvedTOML),
	}
	if v.baseline != nil {
		d.Baseline = v.baseline.label
	}
	if len(v.answer) > 0 {
		d.Lead, d.More = v.answer[0], v.answer[1:]
	}
	for i, r := range v.rows {
		row := newPageRow(r, len(v.columns))
		row.LastReference = r.reference && i+1 < len(v.rows) && !v.rows[i+1].reference
		d.Rows = append(d.Rows, row)
	}
	for _, r := range v.failed {
		d.Failed = append(d.Failed, pageFailure{r.label, r.reason})
	}
	d.Effects, d.Compared = pageTable(v.effects), pageTable(v.comparisons)
	for _, f := range plots {
		d.Plots = append(d.Plots, pageFigure{template.HTML(f.inline), f.caption})
	}
	drawn := map[string]figure{}
	for _, f := range receipts {
		drawn[f.name] = f
	}
	for i := range v.rows {
		r := &v.rows[i]
		if r.reference || r.failed {
			continue
		}
		receipt := pageReceipt{Label: r.tag(), Line: receiptLine(v.s, r.cell)}
		if f, ok := drawn[r.receiptName(i)]; ok {
			receipt.SVG, receipt.Width, receipt.Data = template.HTML(f.inline), math.Round(float64(f.width))/10, "tables/"+f.name+".csv"
		}
		d.Receipts = append(d.Receipts, receipt)
	}
	shown := map[*results.Cell]pagePictures{}
	for _, r := range g.rows {
		row, err := r.page(g.prompts, maxEmbedded)
		if err != nil {
			return nil, err
		}
		if !r.hidden {
			d.Pictures = append(d.Pictures, row)
		}
		shown[r.cell] = row
	}
	d.Glance = glance(v, shown, g.prompts)
	d.Sections = sections(d)
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, d); err != nil {
		return nil, fmt.Errorf("reports: page: %w", err)
	}
	return b.Bytes(), nil
}

// newPageRow is a line of the result table with this many metrics.
func newPageRow(r row, columns int) pageRow {
	out := pageRow{
		Label: r.label, N: r.n, NFE: r.nfe, Seconds: r.seconds,
		Reference: r.reference, Baseline: !r.reference && r.cell.Baseline,
		Failed: r.failed, Reason: r.reason, Span: max(columns, 1),
	}
	for _, e := range r.entries {
		out.Entries = append(out.Entries, pageEntry{Mean: e.mean, Interval: e.interval, Best: e.best, Mark: e.mark, Measured: e.measured})
	}
	return out
}

// page is the row with its pictures embedded, none larger than side px.
func (r pictureRow) page(prompts []string, side int) (pagePictures, error) {
	out := pagePictures{Label: r.label, Reference: r.reference, Message: r.message}
	for i, p := range r.pictures {
		tile := pageTile{Problem: p.problem, Alt: fmt.Sprintf("%s: %s", r.label, prompts[i])}
		if p.img != nil {
			uri, err := p.dataURI(side)
			if err != nil {
				return out, err
			}
			tile.URI = template.URL(uri)
			// Pictures of one area, whatever their shape.
			if b := p.img.Bounds(); b.Dx() != b.Dy() {
				tile.Width = 7 * math.Sqrt(float64(b.Dx())/float64(b.Dy()))
			}
		}
		out.Tiles = append(out.Tiles, tile)
	}
	return out, nil
}

// pageTable is a table of differences; nil where there is none.
func pageTable(t *effectTable) *pageEffects {
	if t == nil {
		return nil
	}
	out := &pageEffects{Columns: t.columns}
	for _, r := range t.rows {
		row := pageRow{Label: r.label, Detail: r.detail}
		for _, e := range r.entries {
			row.Entries = append(row.Entries, pageEntry{Mean: e.mean, Interval: e.interval, Mark: e.mark, Measured: e.measured})
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

// glance picks the two rows that show the answer. It returns nil where no
// cell is better than the baseline, or pictures lack.
func glance(v *view, shown map[*results.Cell]pagePictures, prompts []string) *pageGlance {
	if v.baseline == nil || len(v.columns) == 0 || v.baseline.failed {
		return nil
	}
	m := v.columns[0].Metric
	var best *row
	for i := range v.rows {
		r := &v.rows[i]
		if !r.entries[0].best || r.cell.Baseline || len(r.cell.Images) == 0 {
			continue
		}
		if best == nil || better(m, r.cell.Metrics[m.Key].Mean, best.cell.Metrics[m.Key].Mean) {
			best = r
		}
	}
	if best == nil || len(v.baseline.cell.Images) == 0 {
		return nil
	}
	out := &pageGlance{Prompts: prompts}
	for _, r := range []*row{v.baseline, best} {
		p := shown[r.cell]
		p.Label = r.label
		u, _ := unit(m)
		p.Value = strings.TrimSpace(fmt.Sprintf("%s %s %s", v.columns[0].Title, r.entries[0].mean, u))
		out.Rows = append(out.Rows, p)
	}
	return out
}

// sections lists the parts that the page has, for its navigation.
func sections(d pageData) []pageSection {
	s := []pageSection{{"results", "Results"}}
	add := func(ok bool, id, name string) {
		if ok {
			s = append(s, pageSection{id, name})
		}
	}
	add(d.Compared != nil, "components", "Components")
	add(d.Effects != nil, "effects", "Effects")
	add(len(d.Plots) > 0, "plots", "Plots")
	add(len(d.Prompts) > 0, "pictures", "Pictures")
	add(len(d.Receipts) > 0, "receipts", "What was executed")
	add(true, "terms", "Terms")
	add(len(d.Provenance) > 0 || d.TOML != "", "provenance", "Provenance")
	return s
}
