package reports

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"scalecrafter/reports/results"
)

// Sizes in points.
const (
	plotWidth   = vg.Length(470)
	lineHeight  = vg.Length(300)
	dotRow      = vg.Length(17)
	dotRow2     = vg.Length(25) // where a label has two lines
	labelLine   = vg.Length(10.5)
	plotMargin  = vg.Length(10)
	maxXLabels  = 12
	bandOpacity = 0.16
)

// point is one cell in a plot, in shown units (percent for shares).
type point struct {
	x         float64
	xText     string
	label     string
	cell      *results.Cell
	y, lo, hi float64
	interval  bool
	group     int // of a dot plot: index of the colour, baselineRow or referenceRow
}

// series is the points of one group, ordered by x.
type series struct {
	name   string
	points []point
}

// drawPlots draws every plot that the summary asks for.
func drawPlots(v *view) ([]figure, error) {
	var out []figure
	for _, spec := range v.s.Plots {
		var col column
		for _, c := range v.columns {
			if c.Key == spec.Metric {
				col = c
			}
		}
		f := figure{name: spec.Name, title: clean(spec.Title)}
		if f.title == "" {
			f.title = col.Title
			if spec.X != "" {
				f.title += " over " + axisTitle(spec.X)
			}
		}
		var err error
		if spec.X == "" {
			err = drawDots(v, spec, col, &f)
		} else {
			err = drawLines(v, spec, col, &f)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// shows reports whether a plot shows a row.
func shows(spec results.Plot, r *row) bool {
	return len(spec.Methods) == 0 || r.reference || r.cell.Baseline || containsText(spec.Methods, r.cell.Method)
}

// newPoint reads a cell's metric in shown units.
func newPoint(c *results.Cell, label string, m results.Metric) (point, bool) {
	val, ok := c.Metrics[m.Key]
	if !ok || c.Status == "failed" {
		return point{}, false
	}
	k := scale(m)
	p := point{label: label, cell: c, y: k * val.Mean, lo: k * val.Mean, hi: k * val.Mean, interval: val.HasInterval}
	if val.HasInterval {
		p.lo, p.hi = k*val.Lo, k*val.Hi
	}
	return p, true
}

// axisTitles say in words what the settings are.
var axisTitles = map[string]string{
	"size": "height x width, px", "factor": "dilation factor", "tau": "dilated steps", "tau_share": "share of dilated steps",
	"min_depth": "outermost dilated level", "layers": "dilated layers", "decay": "how the factor falls over the steps",
	"damped": "noise-damped guidance", "damped_tau": "damped steps", "damped_tau_share": "share of damped steps", "damped_layers": "what the damped network dilates",
	"dispersed": "dispersed kernels", "eta": "eta of the dispersion solver", "input": "input size of the dispersion solver", "dc": "equal gain",
	"dispersion_tau": "dispersed steps", "dispersion_tau_share": "share of dispersed steps", "attention_scaling": "attention scaling",
	"guidance_scale": "guidance scale", "guidance_rescale": "guidance rescale", "sdedit": "steps that SDEdit skips",
}

func axisTitle(name string) string {
	if t, ok := axisTitles[name]; ok {
		return t
	}
	return clean(name)
}

// groupName names the line or colour that a cell belongs to.
func groupName(c *results.Cell, axis string) string {
	if axis != "" {
		if a := findAxis(c, axis); a != nil {
			return clean(axis + " " + a.Text)
		}
	}
	if m := clean(c.Method); m != "" {
		return m
	}
	return clean(c.Kind)
}

// subtitle says what the value axis shows.
func subtitle(col column) string {
	if col.HigherIsBetter {
		return col.plain + ", higher is better"
	}
	return col.plain + ", lower is better"
}

// newPlot is an empty plot in the house style: light horizontal rules, no
// boxes.
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		t := textStyle(9, muted)
		t.XAlign, t.YAlign = a.Tick.Label.XAlign, a.Tick.Label.YAlign
		a.Tick.Label = t
		a.Tick.Length = 0
		a.Tick.LineStyle.Color = gridline
		a.LineStyle.Color = gridline
		a.LineStyle.Width = 0.8
		l := textStyle(9, muted)
		l.XAlign, l.YAlign = a.Label.TextStyle.XAlign, a.Label.TextStyle.YAlign
		a.Label.TextStyle = l
		a.Label.Padding = 4
		a.Padding = 4
		a.Tick.Marker = roundTicks{5}
	}
	p.Y.LineStyle.Width = 0
	return p
}

// roundTicks places about n ticks at round values, with no more decimals than
// their distance needs.
type roundTicks struct{ n int }

func (r roundTicks) Ticks(lo, hi float64) []plot.Tick {
	if !(hi > lo) {
		return nil
	}
	exponent := math.Floor(math.Log10((hi - lo) / float64(r.n)))
	unit := math.Pow(10, exponent)
	step, digits := unit, int(math.Max(0, -exponent))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		step = m * unit
		if (hi-lo)/step <= float64(r.n)+0.5 {
			if m == 2.5 && exponent <= 0 {
				digits++
			}
			if m == 10 {
				digits = int(math.Max(0, -exponent-1))
			}
			break
		}
	}
	var out []plot.Tick
	for i := math.Ceil(lo/step - 1e-9); i*step <= hi+1e-9*step; i++ {
		out = append(out, plot.Tick{Value: i * step, Label: number(i*step, digits)})
	}
	return out
}

// setRange pads the values' range and keeps shares within 0..100%.
func setRange(a *plot.Axis, m results.Metric, lo, hi float64) {
	pad := 0.06 * (hi - lo)
	switch {
	case lo == 0 && hi == 0: // nothing anywhere: no digits that say otherwise
		pad = 1
	case pad == 0:
		pad = math.Max(math.Abs(hi)*0.1, 1e-3)
	}
	a.Min, a.Max = lo-pad, hi+pad
	// Close to zero, show it: a share of 2% should not look like much.
	if lo >= 0 && lo < 0.35*hi || lo == 0 && hi == 0 {
		a.Min = 0
	}
	if m.Percent && lo >= 0 && hi <= 100 {
		a.Min, a.Max = math.Max(a.Min, 0), math.Min(a.Max, 100.5)
	}
}

// drawLines draws one line a group over a numeric or named axis.
func drawLines(v *view, spec results.Plot, col column, f *figure) error {
	var pts []point
	var off, unmeasured []string
	numeric := true
	for i := range v.rows {
		r := &v.rows[i]
		if r.reference || r.failed || r.cell.Baseline || !shows(spec, r) {
			continue
		}
		p, ok := newPoint(r.cell, r.label, col.Metric)
		a := findAxis(r.cell, spec.X)
		switch {
		case !ok:
			unmeasured = append(unmeasured, r.label)
			continue
		case a == nil:
			e := entryOf(r, v, col.Key)
			off = append(off, r.label+" "+e.text())
			continue
		}
		p.xText = clean(a.Text)
		if a.Number == nil {
			numeric = false
		} else {
			// Settings such as 0.6 and 3*0.2 are one place, not two.
			p.x, _ = strconv.ParseFloat(strconv.FormatFloat(*a.Number, 'g', 12, 64), 64)
		}
		pts = append(pts, p)
	}
	ticks := placeX(pts, numeric)
	groups := groupPoints(pts, spec.X, spec.GroupBy)

	base, hasBase := point{}, false
	if v.baseline != nil {
		base, hasBase = newPoint(v.baseline.cell, v.baseline.label, col.Metric)
	}
	if len(pts) == 0 {
		return drawEmpty(f, col, "No cell has both this metric and the setting "+axisTitle(spec.X)+".")
	}

	p := newPlot()
	p.X.Label.Text = axisTitle(spec.X)
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	xlo, xhi := pts[0].x, pts[0].x
	ylo, yhi := pts[0].lo, pts[0].hi
	all := pts
	if hasBase {
		all = append(append([]point{}, pts...), base)
	}
	for i, q := range all {
		if i < len(pts) {
			xlo, xhi = math.Min(xlo, q.x), math.Max(xhi, q.x)
		}
		ylo, yhi = math.Min(ylo, math.Min(q.lo, q.y)), math.Max(yhi, math.Max(q.hi, q.y))
	}
	pad := 0.04 * (xhi - xlo)
	if !numeric {
		pad = 0.3
	}
	if pad == 0 {
		pad = 1
	}
	p.X.Min, p.X.Max = xlo-pad, xhi+pad
	setRange(&p.Y, col.Metric, ylo, yhi)
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = gridline
	grid.Horizontal.Width = 0.6
	p.Add(grid)
	// Beside each other, but never as far as the next name.
	room := 0.7 * (plotWidth - 60) / vg.Length(xhi-xlo+2*pad)
	apart := min(7, room/vg.Length(max(len(groups), 1)))
	var legend []legendEntry
	if hasBase {
		p.Add(baseLine{base, false})
		legend = append(legend, legendEntry{text: base.label + " (baseline)", color: baseInk, dash: baseDash, line: true})
	}
	for i, g := range groups {
		s := drawnSeries{series: g, index: i}
		if !numeric {
			s.named, s.joined, s.aside = true, ordered(spec.X, pts), apart*(vg.Length(i)-vg.Length(len(groups)-1)/2)
		}
		p.Add(s)
		legend = append(legend, legendEntry{text: g.name, color: s.color(), glyph: s.glyph(), dash: s.dash(), line: true})
	}

	f.caption = lineCaption(numeric, hasBase, off, unmeasured, v.failed)
	f.alt = altText(f.title, subtitle(col), groups, base, hasBase, col.Digits)
	rows := legendRows(legend, plotWidth-2*plotMargin)
	height := lineHeight + legendRow*vg.Length(len(rows)-1)
	return f.render(plotWidth, height, func(c draw.Canvas) {
		background(c)
		c = draw.Crop(c, plotMargin, -plotMargin, plotMargin, -plotMargin)
		c = header(c, f.title, subtitle(col))
		drawLegend(&c, rows, c.Min.X, c.Max.Y)
		c.Max.Y -= legendRow*vg.Length(len(rows)) + 6
		p.Draw(c)
	})
}

// ordered reports whether the places of a named axis have an order: sizes, each
// of more pixels than the one before. A line says so.
func ordered(axis string, pts []point) bool {
	if axis != "size" {
		return false
	}
	area := map[float64]int{}
	for _, p := range pts {
		var h, w int
		if n, _ := fmt.Sscanf(p.xText, "%dx%d", &h, &w); n != 2 {
			return false
		}
		area[p.x] = h * w
	}
	for x, n := range area {
		if before, ok := area[x-1]; ok && before >= n {
			return false
		}
	}
	return true
}

// entryOf is the row's formatted entry of a column.
func entryOf(r *row, v *view, key string) entry {
	for j, c := range v.columns {
		if c.Key == key {
			return r.entries[j]
		}
	}
	return entry{}
}

// placeX gives points of a named axis the places 0, 1, ... in order of
// appearance, and makes the axis' ticks: the settings that were run, named as
// the cells name them.
func placeX(pts []point, numeric bool) []plot.Tick {
	if !numeric {
		place := map[string]float64{}
		for i := range pts {
			if _, ok := place[pts[i].xText]; !ok {
				place[pts[i].xText] = float64(len(place))
			}
			pts[i].x = place[pts[i].xText]
		}
	}
	texts := map[float64]string{}
	var xs []float64
	for _, p := range pts {
		if _, ok := texts[p.x]; !ok {
			xs = append(xs, p.x)
			texts[p.x] = p.xText
			if p.xText == "" {
				texts[p.x] = exact(p.x)
			}
		}
	}
	sort.Float64s(xs)
	every := (len(xs) + maxXLabels - 1) / maxXLabels
	t := textStyle(9, muted)
	room := (plotWidth - 60) / vg.Length(max(1, (len(xs)+every-1)/max(every, 1)))
	var ticks []plot.Tick
	for i, x := range xs {
		if i%every == 0 {
			ticks = append(ticks, plot.Tick{Value: x, Label: shortenTo(texts[x], t, room)})
		}
	}
	return ticks
}

// groupPoints makes one series a group. Where cells of a group share an x,
// because something else varies too, the group is split by the other axes, then
// by method, at last by cell, so that no line runs up and down on the spot.
func groupPoints(pts []point, x, by string) []series {
	split := func(pts []point, name func(point) string) []series {
		var out []series
		at := map[string]int{}
		for _, p := range pts {
			n := name(p)
			i, ok := at[n]
			if !ok {
				i = len(out)
				at[n] = i
				out = append(out, series{name: n})
			}
			out[i].points = append(out[i].points, p)
		}
		return out
	}
	var out []series
	for _, g := range split(pts, func(p point) string { return groupName(p.cell, by) }) {
		vary := varyingAxes(g.points, x, by)
		parts := []series{g}
		for _, name := range []func(point) string{
			func(p point) string { return g.name + axisTexts(p.cell, vary) },
			func(p point) string { return g.name + axisTexts(p.cell, vary) + ", " + clean(p.cell.Method) },
			func(p point) string { return p.label },
			func(p point) string { return p.label + " " + p.cell.ID },
		} {
			if !doublesBack(parts) {
				break
			}
			parts = split(g.points, name)
		}
		out = append(out, parts...)
	}
	for i := range out {
		p := out[i].points
		sort.SliceStable(p, func(a, b int) bool { return p[a].x < p[b].x })
	}
	return out
}

// doublesBack reports whether a series has two points at one place.
func doublesBack(all []series) bool {
	for _, s := range all {
		seen := map[float64]bool{}
		for _, p := range s.points {
			if seen[p.x] {
				return true
			}
			seen[p.x] = true
		}
	}
	return false
}

// sameSetting reports whether two axes are one setting in two units: steps,
// counted and as a share of all.
func sameSetting(a, b string) bool {
	return a != b && strings.TrimSuffix(a, "_share") == strings.TrimSuffix(b, "_share")
}

// varyingAxes names the axes, other than x and the group's, on which the
// points differ.
func varyingAxes(pts []point, x, by string) []string {
	var names []string
	first := map[string]string{}
	differs := map[string]bool{}
	for i, p := range pts {
		for _, a := range p.cell.Axes {
			if a.Name == x || a.Name == by || sameSetting(a.Name, x) || sameSetting(a.Name, by) {
				continue
			}
			t, ok := first[a.Name]
			if !ok {
				first[a.Name] = a.Text
				names = append(names, a.Name)
				differs[a.Name] = i > 0
			} else if t != a.Text {
				differs[a.Name] = true
			}
		}
	}
	out := names[:0]
	for _, n := range names {
		if differs[n] && !(differs[n+"_share"] && first[n+"_share"] != "") { // one setting in two units
			out = append(out, n)
		}
	}
	return out
}

func axisTexts(c *results.Cell, names []string) string {
	t := ""
	for _, n := range names {
		if a := findAxis(c, n); a != nil {
			t += ", " + clean(n+" "+a.Text)
		}
	}
	return t
}

// lineCaption says what the marks mean and what the plot leaves out.
func lineCaption(numeric, hasBase bool, off, unmeasured []string, failed []row) string {
	t := "Bands are 95% intervals"
	if !numeric {
		t = "Bars are 95% intervals; points of one place stand side by side"
	}
	if hasBase {
		t += "; dashed: the baseline with its own"
	}
	t += "."
	if len(off) > 0 {
		t += " Not on this axis: " + strings.Join(off, "; ") + "."
	}
	return t + leftOut(unmeasured, failed)
}

func leftOut(unmeasured []string, failed []row) string {
	t := ""
	if len(unmeasured) > 0 {
		t += " Not measured: " + strings.Join(unmeasured, "; ") + "."
	}
	if len(failed) > 0 {
		var names []string
		for _, r := range failed {
			names = append(names, r.label)
		}
		t += " Failed: " + strings.Join(names, "; ") + "."
	}
	return t
}

// altText tells the figure's numbers.
func altText(title, sub string, groups []series, base point, hasBase bool, digits int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s.", title, sub)
	for _, g := range groups {
		fmt.Fprintf(&b, " %s:", g.name)
		for i, p := range g.points {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " %s at %s", number(p.y, digits), p.xText)
		}
		b.WriteString(".")
	}
	if hasBase {
		fmt.Fprintf(&b, " Baseline: %s.", number(base.y, digits))
	}
	return b.String()
}

// drawEmpty draws a figure that says why it is empty.
func drawEmpty(f *figure, col column, why string) error {
	f.caption = why
	f.alt = f.title + ": " + why
	return f.render(plotWidth, 90, func(c draw.Canvas) {
		background(c)
		c = draw.Crop(c, plotMargin, -plotMargin, plotMargin, -plotMargin)
		c = header(c, f.title, subtitle(col))
		t := textStyle(9, muted)
		c.FillText(t, vg.Point{X: c.Min.X, Y: c.Max.Y - 8}, shortenTo(why, t, c.Max.X-c.Min.X))
	})
}

// drawDots draws one row a cell: a marker with its interval, the value as
// text, and the baseline as a dashed line with its band.
func drawDots(v *view, spec results.Plot, col column, f *figure) error {
	var pts []point
	var unmeasured []string
	groups := map[string]int{}
	var order []string
	var base point
	hasBase := false
	for i := range v.rows {
		r := &v.rows[i]
		if r.failed || !shows(spec, r) {
			continue
		}
		p, ok := newPoint(r.cell, r.label, col.Metric)
		if !ok {
			if !r.reference {
				unmeasured = append(unmeasured, r.label)
			}
			continue
		}
		e := entryOf(r, v, col.Key)
		p.xText = e.text()
		switch {
		case r.reference:
			p.group = referenceRow
		case r.cell.Baseline:
			p.group = baselineRow
			base, hasBase = p, true
		default:
			n := groupName(r.cell, spec.GroupBy)
			if _, ok := groups[n]; !ok {
				groups[n] = len(order)
				order = append(order, n)
			}
			p.group = groups[n]
		}
		pts = append(pts, p)
	}
	if len(pts) == 0 {
		return drawEmpty(f, col, "No cell has this metric.")
	}
	lo, hi := pts[0].lo, pts[0].hi
	labelStyle, valueStyle := textStyle(9, ink), textStyle(8.5, muted)
	labels, values := vg.Length(0), vg.Length(0)
	lines := make([][]string, len(pts)) // of the labels, two at most
	row := dotRow
	for i := range pts {
		p := &pts[i]
		lo, hi = math.Min(lo, math.Min(p.lo, p.y)), math.Max(hi, math.Max(p.hi, p.y))
		fits := func(s string) bool { return labelStyle.Width(s) <= plotWidth*0.42 }
		lines[i] = twoLines(p.label, fits)
		if len(lines[i]) > 1 {
			row = dotRow2
		}
		for k := range lines[i] { // may be longer even so
			lines[i][k] = shortenTo(lines[i][k], labelStyle, plotWidth*0.42)
			labels = max(labels, labelStyle.Width(lines[i][k]))
		}
		values = max(values, valueStyle.Width(p.xText))
	}
	p := newPlot()
	setRange(&p.X, col.Metric, lo, hi)
	p.Y.Min, p.Y.Max = -float64(len(pts))+0.4, 0.6
	p.Y.Tick.Marker = plot.ConstantTicks(nil)
	p.Y.Padding = 0
	grid := plotter.NewGrid()
	grid.Horizontal.Width = 0
	grid.Vertical.Color = gridline
	grid.Vertical.Width = 0.6
	p.Add(grid)
	if hasBase {
		p.Add(baseLine{base, true})
	}
	p.Add(dots(pts))

	var legend []legendEntry
	if hasBase {
		legend = append(legend, legendEntry{text: "baseline", color: baseInk, dash: baseDash, line: true})
	}
	// Where every row is a group of its own the labels say it all.
	if len(order) > 1 && len(order) < len(pts)-1 {
		for i, n := range order {
			s := drawnSeries{index: i}
			legend = append(legend, legendEntry{text: n, color: s.color(), glyph: s.glyph()})
		}
	}
	rows := legendRows(legend, plotWidth-2*plotMargin)
	f.caption = "Bars are 95% intervals."
	if hasBase {
		f.caption = "Bars are 95% intervals; dashed: the baseline with its own."
	}
	f.caption += leftOut(unmeasured, v.failed)
	f.alt = dotAlt(f.title, subtitle(col), pts)
	height := 2*plotMargin + 34 + legendRow*vg.Length(len(rows)) + 24 + row*vg.Length(len(pts))
	return f.render(plotWidth, height, func(c draw.Canvas) {
		background(c)
		c = draw.Crop(c, plotMargin, -plotMargin, plotMargin, -plotMargin)
		c = header(c, f.title, subtitle(col))
		drawLegend(&c, rows, c.Min.X, c.Max.Y)
		c.Max.Y -= legendRow * vg.Length(len(rows))
		inner := draw.Crop(c, labels+8, -(values + 8), 0, 0)
		p.Draw(inner)
		data := p.DataCanvas(inner)
		_, y := p.Transforms(&data)
		l, r := right(labelStyle), right(valueStyle)
		l.YAlign, r.YAlign = draw.YCenter, draw.YCenter
		for i, q := range pts {
			for k, line := range lines[i] {
				above := (vg.Length(len(lines[i])-1)/2 - vg.Length(k)) * labelLine
				c.FillText(l, vg.Point{X: c.Min.X + labels, Y: y(-float64(i)) + above}, line)
			}
			c.FillText(r, vg.Point{X: c.Max.X, Y: y(-float64(i))}, q.xText)
		}
	})
}

// twoLines breaks a label that does not fit: at the last comma after which both
// parts do, else anywhere.
func twoLines(label string, fits func(string) bool) []string {
	if fits(label) {
		return []string{label}
	}
	for i := strings.LastIndex(label, ", "); i > 0; i = strings.LastIndex(label[:i], ", ") {
		if fits(label[:i+1]) && fits(label[i+2:]) {
			return []string{label[:i+1], label[i+2:]}
		}
	}
	lines := wrap(label, fits)
	if len(lines) > 2 {
		lines = []string{lines[0], strings.Join(lines[1:], " ")}
	}
	return lines
}

func dotAlt(title, sub string, pts []point) string {
	t := title + ": " + sub + "."
	for _, p := range pts {
		t += " " + p.label + ": " + p.xText + "."
	}
	return t
}
