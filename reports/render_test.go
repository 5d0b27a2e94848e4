package reports

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scalecrafter/reports/results"
)

// short is the sample cut down so that a whole report takes little time.
func short(t testing.TB) *results.Summary {
	s := sample(t, "")
	last := len(s.Cells) - 1
	s.Cells = []results.Cell{s.Cells[0], s.Cells[3], s.Cells[7], s.Cells[last-2], s.Cells[last]}
	s.Comparisons[0].To, s.Comparisons[1].From = s.Cells[1].ID, s.Cells[1].ID
	return s
}

func find(t testing.TB, files []artifact, name string) []byte {
	t.Helper()
	for _, f := range files {
		if f.name == name {
			return f.data
		}
	}
	t.Fatalf("no file %s", name)
	return nil
}

func TestEqualInputGivesEqualBytes(t *testing.T) {
	dir := t.TempDir()
	s := short(t)
	s.Cells[0].Images = []string{"a.png"}
	writePNG(t, filepath.Join(dir, "a.png"), 20, 10)
	first, err := render(s, dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := render(copyOf(t, s), dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != len(second) {
		t.Fatalf("%d files, then %d", len(first), len(second))
	}
	for i := range first {
		if first[i].name != second[i].name || !bytes.Equal(first[i].data, second[i].data) {
			t.Errorf("%s differs between two runs", first[i].name)
		}
	}
}

// wellFormed decodes doc as XML to its end.
func wellFormed(doc []byte) error {
	d := xml.NewDecoder(bytes.NewReader(doc))
	for {
		if _, err := d.Token(); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

func TestFiguresAreWellFormed(t *testing.T) {
	s := short(t)
	s.Cells[1].Label = `<b>"&' 漢字 ü`
	files, err := render(s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	date := regexp.MustCompile(`20\d\d-\d\d-\d\d`)
	svgs := 0
	for _, f := range files {
		switch filepath.Ext(f.name) {
		case ".svg":
			svgs++
			if err := wellFormed(f.data); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
			if date.Match(f.data) {
				t.Errorf("%s holds a date", f.name)
			}
			if bytes.Contains(f.data, []byte("NaN")) || bytes.Contains(f.data, []byte("Inf")) {
				t.Errorf("%s holds a number that is none", f.name)
			}
		case ".png":
			if _, err := png.Decode(bytes.NewReader(f.data)); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
		}
	}
	if want := len(s.Plots) + 3; svgs != want {
		t.Errorf("%d drawings, want %d: the plots and the plans that change a layer", svgs, want)
	}
}

var (
	linkRE = regexp.MustCompile(`(?:src|href)="([^"]*)"`)
	tagRE  = regexp.MustCompile(`<(/?)([a-z][a-z0-9]*)((?:"[^"]*"|[^">])*)>`)
	voidEl = map[string]bool{"meta": true, "link": true, "img": true}
)

// checkPage holds what every page must be: balanced, self-contained, without
// script, and with the answer before anything else.
func checkPage(t testing.TB, page string) {
	t.Helper()
	for _, m := range linkRE.FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(m[1], "data:") && !strings.HasPrefix(m[1], "#") {
			t.Errorf("the page links to %q", m[1])
		}
		if id, ok := strings.CutPrefix(m[1], "#"); ok && !strings.Contains(page, `id="`+id+`"`) {
			t.Errorf("the page has no part %q", id)
		}
	}
	for _, bad := range []string{"<script", "@import", "url(", "ZgotmplZ", "<no value>"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	var open []string
	for _, m := range tagRE.FindAllStringSubmatch(page, -1) {
		switch {
		case voidEl[m[2]] || strings.HasSuffix(m[3], "/"):
		case m[1] == "":
			open = append(open, m[2])
		case len(open) == 0 || open[len(open)-1] != m[2]:
			t.Fatalf("</%s> closes %v", m[2], open)
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("open elements %v", open)
	}
	for _, m := range regexp.MustCompile(`<(th|img|svg)\b[^>]*>`).FindAllString(page, -1) {
		if strings.HasPrefix(m, "<th") && !strings.Contains(m, "scope=") && !strings.HasPrefix(m, "<thead") {
			t.Errorf("no scope: %s", m)
		}
		if strings.HasPrefix(m, "<img") && !strings.Contains(m, "alt=") || strings.HasPrefix(m, "<svg") && !strings.Contains(m, "aria-label=") {
			t.Errorf("no text for those who do not see it: %.80s", m)
		}
	}
	if a, r := strings.Index(page, `id="answer"`), strings.Index(page, "<table"); a < 0 || r < a {
		t.Error("the answer does not come before the tables")
	}
}

func TestPage(t *testing.T) {
	dir := t.TempDir()
	s := short(t)
	s.Title = `</title><script>alert("x")</script>`
	s.Cells[1].Label = `<img src=x onerror=alert(1)>`
	s.Prompts[0] = `"><script>`
	s.ResolvedTOML = "a = \"</pre><script>\""
	s.Cells[0].Images = []string{"a.png", "lost.png"}
	s.Cells[1].Images = []string{"a.png"}
	writePNG(t, filepath.Join(dir, "a.png"), 16, 16)
	files, err := render(s, dir)
	if err != nil {
		t.Fatal(err)
	}
	page := string(find(t, files, "report.html"))
	checkPage(t, page)
	for _, want := range []string{"Yes: re-dilation", "1 cell failed", "lower the factor", "file is missing", "not drawn", "data:image/png;base64,",
		"prefers-color-scheme: dark", "configs/ablate_dilation.toml", "critter-net reads", "as trained at every step", "tables/receipt_03-img-src-x-onerror-alert-1.csv", "Noise-damped guidance"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "<img src=x") {
		t.Error("a label got into the page unescaped")
	}
}

func TestShapes(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(s *results.Summary)
		want string // in the page
	}{
		{"one cell", func(s *results.Summary) { s.Cells, s.Reference, s.Comparisons = s.Cells[:1], nil, nil }, "No cell has both this metric and the setting"},
		{"all failed", func(s *results.Summary) {
			s.Reference = nil
			for i := range s.Cells {
				s.Cells[i].Status, s.Cells[i].Error, s.Cells[i].Baseline = "failed", "out of memory", i == 0
			}
		}, "5 cells failed"},
		{"no columns", func(s *results.Summary) { s.Columns, s.Plots = nil, nil }, "direct sampling"},
		{"no baseline", func(s *results.Summary) { s.Cells, s.Comparisons = s.Cells[1:], nil }, "Against the baseline"},
		{"no findings", func(s *results.Summary) { s.Findings = nil }, "No finding was computed"},
		{"bare", func(s *results.Summary) {
			*s = results.Summary{Version: s.Version, Cells: []results.Cell{{Status: "done"}}}
		}, "Ablation report"},
		{"thirty cells, long and foreign labels", func(s *results.Summary) {
			one := s.Cells[1]
			for i := range 30 {
				c := one
				c.ID, c.Plan = strconv.Itoa(i), nil
				c.Label = strings.Repeat("überlange Bezeichnung – 非常に長い ", 4) + strconv.Itoa(i)
				c.Method = "method " + strconv.Itoa(i)
				s.Cells = append(s.Cells, c)
			}
		}, "非常に長い 29"},
		{"equal values", func(s *results.Summary) {
			for i := range s.Cells {
				for k := range s.Cells[i].Metrics {
					s.Cells[i].Metrics[k] = results.Value{Mean: 0.5, Lo: 0.5, Hi: 0.5, HasInterval: true}
				}
			}
		}, "50.0"},
		{"named axis, no numbers", func(s *results.Summary) {
			for i := range s.Cells {
				for j := range s.Cells[i].Axes {
					s.Cells[i].Axes[j].Number = nil
				}
			}
		}, "factor ×2"},
		{"no intervals", func(s *results.Summary) {
			for i := range s.Cells {
				for k, v := range s.Cells[i].Metrics {
					v.HasInterval = false
					s.Cells[i].Metrics[k] = v
				}
			}
		}, "66.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := short(t)
			s.Plots = s.Plots[1:3]
			tt.edit(s)
			files, err := render(s, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			page := string(find(t, files, "report.html"))
			checkPage(t, page)
			if !strings.Contains(page, tt.want) {
				t.Errorf("the page lacks %q", tt.want)
			}
			for _, f := range files {
				if len(f.data) == 0 {
					t.Errorf("%s is empty", f.name)
				}
			}
		})
	}
}

func TestWriteReplacesAndTidies(t *testing.T) {
	dir := t.TempDir()
	s := short(t)
	s.Plots = s.Plots[:2]
	if err := Write(s, dir); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "figures", "notes.txt")
	if err := os.WriteFile(own, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}

	bad := copyOf(t, s)
	bad.Cells[1].Status = "?"
	if err := Write(bad, dir); err == nil {
		t.Fatal("a bad summary was written")
	}
	if now, err := os.ReadFile(filepath.Join(dir, "report.html")); err != nil || !bytes.Equal(now, old) {
		t.Error("a refused summary changed the report")
	}

	s.Plots = s.Plots[:1]
	for i := range s.Cells {
		s.Cells[i].Effects = nil
	}
	if err := Write(s, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"right-over-tau.svg": true, "eyes-over-tau.svg": false, "eyes-over-tau.png": false, "notes.txt": true, "../tables/effects.tex": false} {
		if _, err := os.Stat(filepath.Join(dir, "figures", name)); (err == nil) != want {
			t.Errorf("figures/%s exists: %v, want %v", name, err == nil, want)
		}
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if strings.Contains(path, ".tmp") {
			t.Errorf("%s was left behind", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func writePNG(t testing.TB, path string, w, h int) *image.NRGBA {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetNRGBA(x, y, color.NRGBA{uint8(37 * x), uint8(91 * y), uint8(x ^ y), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return img
}

func TestReadPicture(t *testing.T) {
	dir := t.TempDir()
	writePNG(t, filepath.Join(dir, "good.png"), 9, 7)
	whole, err := os.ReadFile(filepath.Join(dir, "good.png"))
	if err != nil {
		t.Fatal(err)
	}
	huge := append([]byte{}, whole...)
	copy(huge[16:24], []byte{0, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff}) // IHDR width, height
	for name, data := range map[string][]byte{"half.png": whole[:len(whole)/2], "text.png": []byte("no picture"), "empty.png": nil, "huge.png": huge} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"good.png": "", "lost.png": "file is missing", "half.png": "not a whole PNG file",
		"text.png": "not a whole PNG file", "empty.png": "not a whole PNG file", "huge.png": "not a whole PNG file", ".": "file cannot be read"} {
		p := readPicture(dir, name)
		if p.problem != want || (p.img == nil) != (want != "") {
			t.Errorf("%s: problem %q, want %q", name, p.problem, want)
		}
	}
}

// Enlarging copies every pixel into a block; reducing keeps a flat colour.
func TestResized(t *testing.T) {
	img := writePNG(t, filepath.Join(t.TempDir(), "x.png"), 12, 8)
	out := resized(img, 40)
	if got, want := out.Bounds().Size(), image.Pt(36, 24); got != want {
		t.Fatalf("enlarged to %v, want %v", got, want)
	}
	for y := range 24 {
		for x := range 36 {
			if got, want := out.At(x, y), img.At(x/3, y/3); got != want {
				t.Fatalf("pixel %d,%d is %v, want %v", x, y, got, want)
			}
		}
	}
	if got := resized(img, 12); got != image.Image(img) {
		t.Error("a picture that fits was changed")
	}
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 60).Draw(t, "w"), rapid.IntRange(1, 60).Draw(t, "h")
		side := rapid.IntRange(1, 30).Draw(t, "side")
		flat := image.NewNRGBA(image.Rect(0, 0, w, h))
		c := color.NRGBA{10, 200, 90, 255}
		for i := range flat.Pix {
			flat.Pix[i] = []uint8{c.R, c.G, c.B, c.A}[i%4]
		}
		out := resized(flat, side)
		b := out.Bounds()
		if b.Dx() > max(side, 1) && b.Dx() > 1 || b.Dy() > side && b.Dy() > 1 {
			t.Fatalf("%dx%d in %d gave %v", w, h, side, b)
		}
		for y := range b.Dy() {
			for x := range b.Dx() {
				if got := color.NRGBAModel.Convert(out.At(x, y)); got != c {
					t.Fatalf("pixel %d,%d is %v, want %v", x, y, got, c)
				}
			}
		}
	})
}

// The grid shows every pixel of a picture where it says it does.
func TestGridIsPixelExact(t *testing.T) {
	dir := t.TempDir()
	img := writePNG(t, filepath.Join(dir, "a.png"), 64, 64)
	s := short(t)
	s.Reference = nil
	s.Cells = s.Cells[:1]
	s.Cells[0].Images = []string{"a.png"}
	g := loadPictures(newView(s), dir)
	data, err := g.png()
	if err != nil {
		t.Fatal(err)
	}
	out, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	b := out.Bounds()
	x0, y0 := gridGap+gridLabel, b.Dy()-gridGap-minTile
	for y := range minTile {
		for x := range minTile {
			if got, want := color.NRGBAModel.Convert(out.At(x0+x, y0+y)), img.At(x/2, y/2); got != want {
				t.Fatalf("pixel %d,%d is %v, want %v", x, y, got, want)
			}
		}
	}
}

func TestRoundTicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.Float64Range(-1000, 1000).Draw(t, "lo")
		hi := lo + rapid.Float64Range(1e-3, 2000).Draw(t, "range")
		ticks := roundTicks{5}.Ticks(lo, hi)
		if len(ticks) < 2 || len(ticks) > 7 {
			t.Fatalf("%d ticks in [%g, %g]", len(ticks), lo, hi)
		}
		for i, k := range ticks {
			v, err := strconv.ParseFloat(k.Label, 64)
			if err != nil || abs(v-k.Value) > 1e-9*(1+abs(v)) {
				t.Fatalf("tick %g is labelled %q in [%g, %g]", k.Value, k.Label, lo, hi)
			}
			if k.Value < lo-1e-6*(hi-lo) || k.Value > hi+1e-6*(hi-lo) || i > 0 && k.Value <= ticks[i-1].Value {
				t.Fatalf("tick %g is out of order or of [%g, %g]", k.Value, lo, hi)
			}
		}
	})
}

func abs(v float64) float64 { return max(v, -v) }

// A line never has two points at one place: another axis splits the group.
func TestGroupsDoNotDoubleBack(t *testing.T) {
	var pts []point
	for i, tau := range []float64{3, 1, 2, 1, 2} {
		factor := 2.0
		if i > 2 {
			factor = 4
		}
		c := &results.Cell{Method: "m", Axes: []results.Axis{{Name: "tau", Text: exact(tau)}, {Name: "factor", Text: exact(factor)}, {Name: "seed", Text: "1"}}}
		pts = append(pts, point{x: tau, xText: exact(tau), cell: c})
	}
	twin := &results.Cell{Method: "n", Axes: pts[1].cell.Axes}
	got := ""
	for _, g := range groupPoints(pts, "tau", "") {
		got += g.name + ":"
		for _, p := range g.points {
			got += " " + exact(p.x)
		}
		got += "; "
	}
	if want := "m, factor 2: 1 2 3; m, factor 4: 1 2; "; got != want {
		t.Errorf("groups %q, want %q", got, want)
	}
	// Equal axes: the method tells them apart; all equal: the cell does.
	for _, label := range []string{"", "m"} {
		twin.Method = "n" + label
		all := append(pts[:3:3], point{x: 1, xText: "1", cell: twin, label: "twin"})
		if got := groupPoints(all, "tau", "factor"); len(got) != 2 || doublesBack(got) {
			t.Errorf("%d groups, want 2 that do not double back: %+v", len(got), got)
		}
	}
	twin.Method = "m"
	all := append(pts[:2:2], point{x: 1, xText: "1", cell: twin, label: "twin"})
	if got := groupPoints(all, "tau", ""); doublesBack(got) {
		t.Errorf("groups double back: %+v", got)
	}
}

func TestLegendFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var entries []legendEntry
		for i := range rapid.IntRange(1, 30).Draw(t, "n") {
			entries = append(entries, legendEntry{text: strings.Repeat("wide ", rapid.IntRange(1, 40).Draw(t, "w")) + strconv.Itoa(i)})
		}
		style := textStyle(legendSize, ink)
		n := 0
		for _, row := range legendRows(entries, 300) {
			x := legendSwash * 0
			for _, e := range row {
				if end := x + legendSwash + 6 + style.Width(e.text); end > 300.01 {
					t.Fatalf("entry %q ends at %v of 300", e.text, end)
				}
				x += legendSwash + 6 + style.Width(e.text) + 14
				n++
			}
		}
		if n != len(entries) {
			t.Fatalf("%d entries drawn, want %d", n, len(entries))
		}
	})
}

// A receipt's drawing has every layer of both networks once, in the order of
// execution, and tells apart what ran as trained and what did not run.
func TestHeat(t *testing.T) {
	c := sample(t, "").Cells[10]
	h := newHeat(&c)
	if len(h.networks) != 2 || h.steps != 30 || len(h.layers) != len(samplePlan(1, 0, 2, false)) {
		t.Fatalf("%d networks, %d steps, %d layers", len(h.networks), h.steps, len(h.layers))
	}
	for i := range c.Plan {
		r := &c.Plan[i]
		n := h.networks[i/len(h.layers)]
		for step, k := range n.rows[i%len(h.layers)] {
			side, transform := r.Kernel(step)
			if n.name != r.Network || h.layers[i%len(h.layers)] != r.Layer || k.rows != r.Factors[step] || k.columns != r.Column(step) || k.kernel != side || k.transform != transform {
				t.Fatalf("%s %s step %d: drawn as %+v", r.Network, r.Layer, step, k)
			}
		}
	}
	for _, want := range []string{
		"D: 24 of 24 layers at ×2, ×1 in steps 0–23, 4 of them with a dispersed kernel (5×5, R20to1_new) in steps 0–17",
		"V, which gave the base term in steps 0–23: 17 of 24 layers at 2×1 (rows × columns)",
		"attention sharpened ×1.17 to ×1.25 for ×4 pixels at every step",
	} {
		if line := receiptLine(sample(t, ""), &c); !strings.Contains(line, want) {
			t.Errorf("the line lacks %q:\n%s", want, line)
		}
	}
	// Self-attentions that ran alike share a line; files without them have the ratio.
	strips := func(h *heat, step int, network string) string {
		var out []string
		for _, s := range attentionStrips(h) {
			out = append(out, s.label+" "+s.of(step, network))
		}
		return strings.Join(out, "; ")
	}
	if got, want := strips(h, 3, "damped"), "attn down 1, up 2 ×1.170; attn mid ×1.250"; got != want {
		t.Errorf("self-attention of V is drawn as %q, want %q", got, want)
	}
	if got, want := strips(h, 29, "damped"), "attn down 1, up 2 ; attn mid "; got != want {
		t.Errorf("where V does not run its self-attention is drawn as %q, want %q", got, want)
	}
	c.Attention = nil
	if got, want := strips(newHeat(&c), 3, "main"), "attention ×4 px"; got != want {
		t.Errorf("an old file's self-attention is drawn as %q, want %q", got, want)
	}
	// Without rows both networks stand as one row each.
	c.Plan = nil
	if h := newHeat(&c); len(h.layers) != 1 || !h.networks[0].rows[0][29].trained() || !h.networks[1].rows[0][0].trained() || !h.networks[1].rows[0][29].off() {
		t.Errorf("a cell without rows is drawn as %+v", h)
	}
	// A file of the first schema's early days has factors only.
	old := results.Cell{Plan: []results.PlanRow{{Layer: "mid_block.resnets.0.conv1", Network: "main", Factors: []float64{2, 1}}}}
	if h := newHeat(&old); h.steps != 2 || h.networks[0].rows[0][0] != (heatCell{rows: 2, columns: 2, kernel: 3}) {
		t.Errorf("an old receipt is drawn as %+v", h)
	}
	rapid.Check(t, func(t *rapid.T) {
		factors := rapid.SliceOfN(rapid.SampledFrom([]float64{1, 2, 2.5}), 1, 20).Draw(t, "factors")
		var back []float64
		for _, s := range spans(factors) {
			for range s.to - s.from {
				back = append(back, s.value)
			}
		}
		if !equal(back, factors) {
			t.Fatalf("spans of %v give %v", factors, back)
		}
	})
}

// The data file has one line a step, network and layer that ran.
func TestReceiptCSV(t *testing.T) {
	c := sample(t, "").Cells[10]
	c.Steps[0] = results.StepRow{} // skipped
	for i := range c.Attention {
		c.Attention[i].Scales[0] = 0
	}
	for i := range c.Plan {
		r := &c.Plan[i]
		r.Factors[0] = 0
		if r.Columns != nil {
			r.Columns[0] = 0
		}
		if r.Kernels != nil {
			r.Kernels[0], r.Transforms[0] = 0, ""
		}
	}
	p := &problems{}
	if p.cell("the sample", &c); p.err() != nil {
		t.Fatal(p.err())
	}
	lines, err := csv.NewReader(bytes.NewReader(receiptCSV(&c))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	layers := len(newHeat(&c).layers)
	if want := 1 + 1 + 29*(layers+3) + 23*(layers+3); len(lines) != want {
		t.Fatalf("%d lines, want %d", len(lines), want)
	}
	if got := strings.Join(lines[1], ","); got != "0"+strings.Repeat(",", 13) {
		t.Errorf("the skipped step is %q", got)
	}
	if got, want := strings.Join(lines[2], ","), "1,main,uncond cond,4,1.2,1.4,0.9,0.2,down_blocks.0.resnets.0.conv1,2,2,3,,"; got != want {
		t.Errorf("line 2 is %q, want %q", got, want)
	}
	n := 0
	if got, want := strings.Join(lines[2+layers], ","), "1,main,uncond cond,4,1.2,1.4,0.9,0.2,down_blocks.1.attentions.0.transformer_blocks.0.attn1,,,,,1.17"; got != want {
		t.Errorf("line %d is %q, want %q", 2+layers, got, want)
	}
	for _, l := range lines {
		if l[12] == "R20to1_new" && l[11] == "5" && l[9] == "1" {
			n++
		}
	}
	if want := 4 * 17; n != want {
		t.Errorf("%d dispersed lines, want %d", n, want)
	}
}

func TestSplitLayer(t *testing.T) {
	for path, want := range map[string]string{
		"down_blocks.1.resnets.0.conv1":       "down 1|res 0 conv1",
		"up_blocks.0.upsamplers.0.conv":       "up 0|upsample 0 conv",
		"down_blocks.0.downsamplers.0.conv":   "down 0|downsample 0 conv",
		"mid_block.resnets.1.conv2":           "mid|res 1 conv2",
		"mid_block.attentions.0.proj":         "mid|attentions 0 proj",
		"conv_in":                             "conv_in|",
		"":                                    "|",
		"down_blocks":                         "down_blocks|",
		"encoder.down.resnets.0.downsamplers": "encoder|down res 0 downsample",
	} {
		if block, rest := splitLayer(path); block+"|"+rest != want {
			t.Errorf("splitLayer(%q) = %q|%q, want %q", path, block, rest, want)
		}
	}
}
