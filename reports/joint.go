package reports

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"scalecrafter/reports/results"
)

var (
	//go:embed joint.html
	jointSource string

	jointTemplate = template.Must(template.Must(commonTemplate.Clone()).New("joint").Parse(jointSource))
)

// The joint page shows fewer and smaller pictures than the panels' own.
const (
	jointPictures = 4
	jointTile     = 128 // px
)

// jointView is a joint summary made ready for reading.
type jointView struct {
	j        *results.Joint
	title    string
	question string
	facts    []string
	answer   []string
	panels   []jointPanel
}

// jointPanel is one size: its view in the joint columns.
type jointPanel struct {
	*view
	size   string // "256×256 px"
	times  string // "16× the training pixels"; "" where that is unknown
	folder string
}

// WriteJoint renders the joint report of an experiment at several sizes into
// runDir, beside the panels' folders, which Write has filled:
//
//	report.html                 the page, self-contained; it links to the panels' pages
//	report.md, report.txt       the same as text
//	tables/results.csv          all panels' cells in the joint columns
//	tables/comparisons.csv      what each component adds at each size
//	figures/*.png, *.svg        the plots over size
//
// It writes as Write does.
func WriteJoint(j *results.Joint, runDir string) error {
	v, err := newJointView(j)
	if err != nil {
		return err
	}
	files, err := renderJoint(v, runDir)
	if err != nil {
		return err
	}
	return put(files, runDir)
}

// TerminalJoint writes the joint tables and, last, the findings.
func TerminalJoint(w io.Writer, j *results.Joint) error {
	v, err := newJointView(j)
	if err != nil {
		return err
	}
	return v.terminal(w)
}

// newJointView checks and formats a joint summary.
func newJointView(j *results.Joint) (*jointView, error) {
	if j == nil {
		return nil, errors.New("reports: no summary given")
	}
	if j.Version != results.SchemaVersion {
		return nil, fmt.Errorf("reports: summary has schema version %d, want %d; run the experiment again with this program", j.Version, results.SchemaVersion)
	}
	if len(j.Panels) == 0 {
		return nil, errors.New("reports: the joint summary has no panels; nothing was run")
	}
	v := &jointView{j: j, title: clean(j.Title), question: clean(j.Question)}
	if v.title == "" {
		v.title = clean(j.Name)
	}
	for _, f := range j.Findings {
		if t := clean(f.Text); t != "" {
			v.answer = append(v.answer, t)
		}
	}
	var wrong []error
	folders := map[string]bool{}
	for i, p := range j.Panels {
		if p.Summary == nil || !filepath.IsLocal(filepath.FromSlash(p.Folder)) || folders[p.Folder] {
			wrong = append(wrong, fmt.Errorf("reports: panel %d: folder %q, want a folder of its own inside the run's, and a summary", i, p.Folder))
			continue
		}
		folders[p.Folder] = true
		if err := check(p.Summary); err != nil {
			wrong = append(wrong, fmt.Errorf("panel %s: %w", p.Folder, err))
			continue
		}
		s := *p.Summary
		if len(j.Columns) > 0 {
			s.Columns = j.Columns
		}
		panel := jointPanel{view: newView(&s), folder: p.Folder, size: fmt.Sprintf("%d×%d px", s.Height, s.Width)}
		if s.TrainHeight > 0 && s.TrainWidth > 0 {
			panel.times = fmt.Sprintf("%s× the training pixels", shortNumber(float64(s.Height*s.Width)/float64(s.TrainHeight*s.TrainWidth)))
		}
		v.panels = append(v.panels, panel)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	v.facts = v.newFacts()
	return v, nil
}

// newFacts are the short phrases below the title: what all panels share.
func (v *jointView) newFacts() []string {
	var sizes []string
	for _, p := range v.panels {
		sizes = append(sizes, p.size)
	}
	f := []string{fmt.Sprintf("%d sizes: %s", len(sizes), strings.Join(sizes, ", "))}
	seen := map[string]int{}
	for _, p := range v.panels {
		for _, fact := range p.facts {
			seen[fact]++
		}
	}
	for _, fact := range v.panels[0].facts {
		if seen[fact] == len(v.panels) {
			f = append(f, fact)
		}
	}
	return f
}

// renderJoint makes every file of the joint report.
func renderJoint(v *jointView, runDir string) ([]artifact, error) {
	plots, err := v.drawPlots()
	if err != nil {
		return nil, err
	}
	var files []artifact
	add := func(name string, data []byte) { files = append(files, artifact{name, data}) }
	for _, f := range plots {
		add("figures/"+f.name+".svg", f.svg)
		add("figures/"+f.name+".png", f.png)
	}
	add("tables/results.csv", v.resultsCSV())
	if v.compared() {
		add("tables/comparisons.csv", v.comparisonsCSV())
	}
	var text bytes.Buffer
	if err := v.terminal(&text); err != nil {
		return nil, err
	}
	add("report.txt", text.Bytes())
	md, err := v.markdown(plots)
	if err != nil {
		return nil, err
	}
	add("report.md", md)
	page, err := v.page(plots, runDir)
	if err != nil {
		return nil, err
	}
	add("report.html", page)
	return files, nil
}

// drawPlots draws the plots over size: the cells of all panels, the baselines
// among them, as if they were one table.
func (v *jointView) drawPlots() ([]figure, error) {
	if len(v.j.Plots) == 0 {
		return nil, nil
	}
	all := &results.Summary{Version: results.SchemaVersion}
	seen := map[string]bool{}
	labels := map[string]string{} // by method; "" where its cells have several
	for _, p := range v.j.Panels {
		for _, c := range p.Summary.Cells {
			if old, ok := labels[c.Method]; ok && old != c.Label {
				labels[c.Method] = ""
			} else if !ok {
				labels[c.Method] = c.Label
			}
		}
	}
	named := func(method string) string {
		if l := labels[method]; l != "" {
			return l
		}
		return method
	}
	for _, plot := range v.j.Plots {
		plot.Methods = append([]string(nil), plot.Methods...)
		for i, m := range plot.Methods {
			plot.Methods[i] = named(m)
		}
		all.Plots = append(all.Plots, plot)
	}
	for _, p := range v.j.Panels {
		for _, m := range p.Summary.Columns {
			if !seen[m.Key] {
				seen[m.Key] = true
				all.Columns = append(all.Columns, m)
			}
		}
		for _, c := range p.Summary.Cells {
			c.Method = named(c.Method)
			c.ID = p.Folder + " " + c.ID
			c.Label = clean(c.Label) + ", " + p.Folder
			c.Baseline, c.Images, c.Plan, c.Steps, c.Attention = false, nil, nil, nil, nil
			all.Cells = append(all.Cells, c)
		}
	}
	if err := check(all); err != nil {
		return nil, err
	}
	return drawPlots(newView(all))
}

// compared reports whether any panel has comparisons.
func (v *jointView) compared() bool {
	for _, p := range v.panels {
		if p.comparisons != nil {
			return true
		}
	}
	return false
}

// compareTable joins the panels' tables of components, one after the other.
func (v *jointView) compareTable() *effectTable {
	out := &effectTable{}
	for _, p := range v.panels {
		if p.comparisons == nil {
			continue
		}
		at := map[string]int{}
		for i, c := range out.columns {
			at[c.Key] = i
		}
		for _, c := range p.comparisons.columns {
			if !hasKey(at, c.Key) {
				at[c.Key] = len(out.columns)
				out.columns = append(out.columns, c)
				for i := range out.rows {
					out.rows[i].entries = append(out.rows[i].entries, effectEntry{mean: missing})
				}
			}
		}
		for _, r := range p.comparisons.rows {
			line := effectRow{label: r.label + ", " + p.size, detail: r.detail, entries: make([]effectEntry, len(out.columns))}
			for i := range line.entries {
				line.entries[i] = effectEntry{mean: missing}
			}
			for i, c := range p.comparisons.columns {
				line.entries[at[c.Key]] = r.entries[i]
			}
			out.rows = append(out.rows, line)
		}
	}
	if len(out.rows) == 0 {
		return nil
	}
	return out
}

func (v *jointView) resultsCSV() []byte {
	head := []string{"size", "row", "id", "label", "method", "status", "n", "nfe", "seconds"}
	for _, c := range v.panels[0].columns {
		head = append(head, c.Key, c.Key+"_lo", c.Key+"_hi", c.Key+"_n",
			c.Key+"_difference", c.Key+"_difference_lo", c.Key+"_difference_hi", c.Key+"_difference_n", c.Key+"_p", c.Key+"_significant")
	}
	records := [][]string{head}
	for _, p := range v.panels {
		for i := range p.rows {
			r := &p.rows[i]
			role := "cell"
			switch {
			case r.reference:
				role = "reference"
			case r.cell.Baseline:
				role = "baseline"
			}
			line := []string{p.folder, role, r.cell.ID, r.label, clean(r.cell.Method), r.cell.Status, strconv.Itoa(r.cell.N), exact(r.cell.NFE), exact(r.cell.Seconds)}
			for _, c := range p.columns {
				val, ok := r.cell.Metrics[c.Key]
				line = append(line, csvValue(val, ok && !r.failed)...)
				e, ok := r.cell.Effects[c.Key]
				line = append(line, csvValue(e.Value, ok && !r.failed)...)
				if ok && !r.failed {
					line = append(line, exact(e.P), strconv.FormatBool(e.Significant))
				} else {
					line = append(line, "", "")
				}
			}
			records = append(records, line)
		}
	}
	return csvBytes(records)
}

func (v *jointView) comparisonsCSV() []byte {
	var b bytes.Buffer
	for _, p := range v.panels {
		if p.comparisons == nil {
			continue
		}
		lines := strings.SplitAfter(string(comparisonsCSV(p.view)), "\n")
		for i, line := range lines {
			switch {
			case line == "" || i == 0 && b.Len() > 0:
			case i == 0:
				b.WriteString("size," + line)
			default:
				b.WriteString(p.folder + "," + line)
			}
		}
	}
	return b.Bytes()
}

// terminal writes a table a panel, the components and the findings.
func (v *jointView) terminal(w io.Writer) error {
	var b strings.Builder
	para := func(indent, text string) {
		for i, line := range wrap(text, fitsColumns(terminalWidth-len(indent))) {
			if i > 0 {
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
	for _, p := range v.panels {
		b.WriteString("\n" + p.heading() + "\n")
		head, rows := resultLines(p.view, func(e entry) string {
			t := e.text() + markText(e.mark)
			if e.best {
				t += " *"
			}
			return t
		})
		if err := textTables(&b, head, rows); err != nil {
			return err
		}
		for _, r := range p.failed {
			para("  ✗ ", r.label+": "+r.reason)
		}
	}
	para("", noteValues+" "+jointMark+" * "+noteBest)
	if t := v.compareTable(); t != nil {
		b.WriteString("\nWhat each component adds\n")
		head, rows := differenceLines(t, "component")
		if err := textTables(&b, head, rows); err != nil {
			return err
		}
		para("", jointCompare)
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

// jointMark is noteMark where every size has a baseline of its own.
const jointMark = "▲ better, ▼ worse than the baseline of the same size: only where the paired interval excludes zero after Holm's correction over that size's table."

// jointCompare is noteCompare where every size has a table of its own.
var jointCompare = strings.Replace(noteCompare, "over this table", "over the comparisons of one size", 1)

func (p *jointPanel) heading() string {
	if p.times == "" {
		return p.size
	}
	return p.size + ", " + p.times
}

// link is the panel's page, relative to the joint one.
func (p *jointPanel) link() string { return path.Join(p.folder, "report.html") }

func (v *jointView) markdown(plots []figure) ([]byte, error) {
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
	p("\n## Results\n")
	for i := range v.panels {
		panel := &v.panels[i]
		p("\n### %s\n\n", escapeMarkdown(panel.heading()))
		head, rows := resultLines(panel.view, func(e entry) string {
			t := e.text() + markText(e.mark)
			if e.best {
				return "\x00" + t
			}
			return t
		})
		if err := markdownTable(&b, head, rows); err != nil {
			return nil, err
		}
		for _, r := range panel.failed {
			p("\n- %s failed: %s\n", escapeMarkdown(r.label), escapeMarkdown(r.reason))
		}
		p("\n[The whole report at %s](%s/report.md), [as a page](%s)\n", escapeMarkdown(panel.size), panel.folder, panel.link())
	}
	p("\n%s %s Bold %s\n", noteValues, jointMark, noteBest)
	if t := v.compareTable(); t != nil {
		p("\n## What each component adds\n\n")
		head, rows := differenceLines(t, "component")
		if err := markdownTable(&b, head, rows); err != nil {
			return nil, err
		}
		p("\n%s\n", jointCompare)
	}
	if len(plots) > 0 {
		p("\n## Over the size\n")
		for _, f := range plots {
			p("\n![%s](figures/%s.png)\n\n%s\n", escapeMarkdown(f.alt), f.name, escapeMarkdown(f.caption))
		}
	}
	p("\n## Pictures\n\nRows are cells, columns are prompts; a column shares its noise.\n")
	for i := range v.panels {
		p("\n### %s\n\n![Picture grid](%s/figures/pictures.png)\n", escapeMarkdown(v.panels[i].size), v.panels[i].folder)
	}
	p("\n## Columns\n\n")
	for _, d := range v.panels[0].definitions() {
		p("- **%s**: %s\n", escapeMarkdown(d[0]), escapeMarkdown(d[1]))
	}
	if prov := provenanceOf(v.j.Provenance); len(prov) > 0 {
		p("\n## Provenance\n\n")
		for _, d := range prov {
			p("- %s: %s\n", d[0], codeSpan(d[1]))
		}
	}
	if strings.TrimSpace(v.j.ResolvedTOML) != "" {
		f := fence(v.j.ResolvedTOML)
		p("\n## Resolved configuration\n\n%stoml\n%s\n%s\n", f, strings.TrimRight(v.j.ResolvedTOML, "\n"), f)
	}
	return b.Bytes(), nil
}

// jointPage is what the joint template reads.
type jointPage struct {
	Style       template.CSS
	Title       string
	Question    string
	Facts       []string
	Lead        string
	More        []string
	FailedCells int
	Columns     []column
	Panels      []jointPagePanel
	Compared    *pageEffects
	Notes       map[string]string
	Plots       []pageFigure
	Terms       [][2]string
	Provenance  [][2]string
	TOML        string
	Sections    []pageSection
}

type jointPagePanel struct {
	ID, Size, Times, Link string
	Rows                  []pageRow
	Prompts               []string
	Pictures              []pagePictures
	Span                  int // columns of the table
}

// page renders the self-contained joint page.
func (v *jointView) page(plots []figure, runDir string) ([]byte, error) {
	d := jointPage{
		Style: template.CSS(pageStyle), Title: v.title, Question: v.question, Facts: v.facts, Columns: v.panels[0].columns,
		Compared: pageTable(v.compareTable()), Terms: v.panels[0].definitions(), Provenance: provenanceOf(v.j.Provenance),
		Notes: map[string]string{"values": noteValues, "best": noteBest, "mark": jointMark, "compare": jointCompare},
		TOML:  strings.TrimSpace(v.j.ResolvedTOML),
	}
	if len(v.answer) > 0 {
		d.Lead, d.More = v.answer[0], v.answer[1:]
	}
	for _, f := range plots {
		d.Plots = append(d.Plots, pageFigure{template.HTML(f.inline), f.caption})
	}
	pictures := false
	for i := range v.panels {
		p := &v.panels[i]
		d.FailedCells += len(p.failed)
		panel := jointPagePanel{ID: "size-" + slug(p.folder, 40), Size: p.size, Times: p.times, Link: p.link(), Span: len(d.Columns) + 4}
		for _, r := range p.rows {
			if r.reference {
				continue
			}
			panel.Rows = append(panel.Rows, newPageRow(r, len(d.Columns)))
		}
		// Fewer pictures than on the panel's own page, which has them all.
		s := *p.s
		if len(s.PictureColumns) > jointPictures {
			s.PictureColumns = s.PictureColumns[:jointPictures]
		} else if len(s.PictureColumns) == 0 {
			s.PictureColumns = []int{0, 1, 2, 3}[:jointPictures]
		}
		small := *p.view
		small.s = &s
		g := loadPictures(&small, filepath.Join(runDir, filepath.FromSlash(p.folder)))
		panel.Prompts = g.prompts
		for _, r := range g.shown() {
			row, err := r.page(g.prompts, jointTile)
			if err != nil {
				return nil, err
			}
			panel.Pictures = append(panel.Pictures, row)
			pictures = true
		}
		d.Panels = append(d.Panels, panel)
	}
	d.Sections = []pageSection{{"results", "Results"}}
	for _, s := range []struct {
		ok       bool
		id, name string
	}{
		{d.Compared != nil, "components", "Components"}, {len(d.Plots) > 0, "plots", "Over the size"}, {pictures, "pictures", "Pictures"},
		{true, "terms", "Terms"}, {len(d.Provenance) > 0 || d.TOML != "", "provenance", "Provenance"},
	} {
		if s.ok {
			d.Sections = append(d.Sections, pageSection{s.id, s.name})
		}
	}
	var b bytes.Buffer
	if err := jointTemplate.Execute(&b, d); err != nil {
		return nil, fmt.Errorf("reports: joint page: %w", err)
	}
	return b.Bytes(), nil
}
