package reports

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scalecrafter/reports/results"
)

// jointSample is the short sample at two sizes, the second without its failed
// cell and without comparisons.
func jointSample(t testing.TB) *results.Joint {
	t.Helper()
	small, large := short(t), copyOf(t, short(t))
	for i := range large.Cells {
		large.Cells[i].ID = "large-" + large.Cells[i].ID
	}
	large.Height, large.Width, large.Comparisons = 256, 128, nil
	large.Cells = large.Cells[:len(large.Cells)-1]
	sized := func(s *results.Summary, text string) {
		for i := range s.Cells {
			s.Cells[i].Axes = append(s.Cells[i].Axes, results.Axis{Name: "size", Text: text})
		}
	}
	sized(small, "128x128")
	sized(large, "256x128")
	return &results.Joint{
		Version: results.SchemaVersion, Name: "ablate", Title: "At two sizes", Question: "Does it hold?",
		Columns:    small.Columns[:3],
		Panels:     []results.Panel{{Folder: "128x128", Summary: small}, {Folder: "256x128", Summary: large}},
		Plots:      []results.Plot{{Name: "over-size", Metric: "right_share", X: "size"}},
		Findings:   []results.Finding{{Text: "It holds at both."}, {Text: "More of it."}},
		Provenance: small.Provenance, ResolvedTOML: "sizes = [[128, 128], [256, 128]]\n",
	}
}

func TestJointReport(t *testing.T) {
	dir := t.TempDir()
	j := jointSample(t)
	for _, p := range j.Panels {
		if err := os.MkdirAll(filepath.Join(dir, p.Folder), 0o755); err != nil {
			t.Fatal(err)
		}
		writePNG(t, filepath.Join(dir, p.Folder, "a.png"), 300, 200)
		p.Summary.Cells[0].Images = []string{"a.png"}
	}
	stale := filepath.Join(dir, "figures", "receipt_00-old.png")
	if err := os.MkdirAll(filepath.Dir(stale), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteJoint(j, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("a figure of an older report was left")
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	page := read("report.html")
	links := 0
	for _, link := range []string{"128x128/report.html", "256x128/report.html"} {
		links += strings.Count(page, `href="`+link+`"`)
		page = strings.ReplaceAll(page, `href="`+link+`"`, `href="#results"`)
	}
	if links < 8 {
		t.Errorf("%d links to the panels, want several each", links)
	}
	checkPage(t, page)
	for _, want := range []string{"It holds at both.", "1 cell failed", "128×128 px", "256×128 px", "4× the training pixels", "8× the training pixels",
		"Noise-damped guidance, 128×128 px", "data:image/png;base64,", "sizes = [[128, 128], [256, 128]]", "2 sizes: 128×128 px, 256×128 px"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "Noise-damped guidance, 256×128 px") || strings.Contains(page, "prompt kept") {
		t.Error("the page has a comparison that was not made, or a column that the joint table lacks")
	}
	lines, err := csv.NewReader(strings.NewReader(read("tables/results.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if want := 1 + 5 + 4 + 2*2; len(lines) != want || lines[1][0] != "128x128" || lines[len(lines)-1][0] != "256x128" {
		t.Errorf("%d lines, want %d", len(lines), want)
	}
	for _, name := range []string{"report.md", "report.txt"} {
		text := read(name)
		for _, want := range []string{"256×128 px, 8× the training pixels", "It holds at both.", "lower the factor", "▲"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
	}
	var b bytes.Buffer
	if err := TerminalJoint(&b, j); err != nil || b.String() != read("report.txt") {
		t.Errorf("the terminal differs from report.txt (%v)", err)
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if w := displayWidth(line); w > terminalWidth {
			t.Errorf("line of %d columns: %q", w, line)
		}
	}
	if svg := read("figures/over-size.svg"); !strings.Contains(svg, "256x128") || !strings.Contains(svg, "direct sampling") {
		t.Error("the plot over size lacks a size or the baseline")
	}
	// Equal input, equal bytes.
	again := t.TempDir()
	v, err := newJointView(jointSample(t))
	if err != nil {
		t.Fatal(err)
	}
	one, err := renderJoint(v, again)
	if err != nil {
		t.Fatal(err)
	}
	two, err := renderJoint(v, again)
	if err != nil {
		t.Fatal(err)
	}
	for i := range one {
		if !bytes.Equal(one[i].data, two[i].data) {
			t.Errorf("%s differs between two runs", one[i].name)
		}
	}
}

func TestJointRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(j *results.Joint)
		want string
	}{
		{"other schema", func(j *results.Joint) { j.Version = 99 }, "schema version 99"},
		{"no panels", func(j *results.Joint) { j.Panels = nil }, "no panels"},
		{"folder outside", func(j *results.Joint) { j.Panels[1].Folder = "../x" }, `folder "../x"`},
		{"folder twice", func(j *results.Joint) { j.Panels[1].Folder = "128x128" }, "folder of its own"},
		{"no summary", func(j *results.Joint) { j.Panels[1].Summary = nil }, "and a summary"},
		{"a broken panel", func(j *results.Joint) { j.Panels[1].Summary.Cells[1].Status = "?" }, `panel 256x128: reports: cannot report these results`},
		{"a plot of no column", func(j *results.Joint) { j.Plots[0].Metric = "x" }, `metric "x" is no column`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j, dir := jointSample(t), t.TempDir()
			tt.edit(j)
			if err := WriteJoint(j, dir); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("a refused summary left %v", entries)
			}
		})
	}
	if err := WriteJoint(nil, t.TempDir()); err == nil {
		t.Error("a nil summary passed")
	}
}

// No two factors of a report look alike, however many there are.
func TestShadesDiffer(t *testing.T) {
	for n := 1; n <= 40; n++ {
		row := results.PlanRow{Layer: "a", Network: "main"}
		for i := range n {
			row.Factors = append(row.Factors, 0.5+0.25*float64(i))
		}
		v := &view{s: &results.Summary{Cells: []results.Cell{{Plan: []results.PlanRow{row}}}}}
		seen := map[factorShade]bool{}
		for _, s := range shadeOf(v) {
			if seen[s] || s.fill == plainInk {
				t.Fatalf("%d factors: %v twice, or as the grey of what ran as trained", n, s.fill)
			}
			seen[s] = true
		}
	}
}

// The grid shows the cells and samples that the summary asks for; the others
// stay at hand for the glance.
func TestPicturesAsked(t *testing.T) {
	dir := t.TempDir()
	s := short(t)
	writePNG(t, filepath.Join(dir, "a.png"), 16, 16)
	for i := range s.Cells {
		s.Cells[i].Images = []string{"a.png", "a.png", "a.png"}
	}
	s.PictureRows, s.PictureColumns = []string{s.Cells[1].ID}, []int{2, 0, 7}
	g := loadPictures(newView(s), dir)
	rows := g.shown()
	if len(rows) != 1 || rows[0].cell.ID != s.Cells[1].ID || len(g.rows) != 5 {
		t.Errorf("%d rows shown of %d, want one", len(rows), len(g.rows))
	}
	if len(g.prompts) != 2 || g.prompts[0] != s.Prompts[2] || g.prompts[1] != s.Prompts[0] || len(rows[0].pictures) != 2 {
		t.Errorf("columns %q", g.prompts)
	}
}
