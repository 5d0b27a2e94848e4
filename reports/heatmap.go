package reports

import (
	"fmt"
	"image/color"
	"math"
	"sort"
	"strconv"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"scalecrafter/reports/results"
)

// ramp holds the factors' fills in rising order; those between are mixed.
var ramp = []uint32{0x9CCBEA, 0x5BA3D0, 0x1F6FA8, 0x7B4FA3, 0xB0388A, 0xC2410C}

// factorShade is a factor's fill and the ink on it.
type factorShade struct{ fill, text color.NRGBA }

// shadeOf gives every factor of the summary a shade, so that a fill means the
// same in all receipts of a report and no two factors have one.
func shadeOf(v *view) map[float64]factorShade {
	seen := map[float64]bool{}
	var all []float64
	note := func(f float64, trained bool) {
		if f > 0 && !trained && !seen[f] {
			seen[f] = true
			all = append(all, f)
		}
	}
	for i := range v.s.Cells {
		for j := range v.s.Cells[i].Plan {
			for _, k := range cellsOf(&v.s.Cells[i].Plan[j]) {
				// A dispersed kernel at 1, or one axis of two, is coloured too.
				note(k.rows, k.trained())
				note(k.columns, k.trained())
			}
		}
	}
	sort.Float64s(all)
	shades := map[float64]factorShade{}
	for i, f := range all {
		// Few factors: start inside the ramp, where fills stand out from
		// "as trained". Many: spread over all of it.
		at := float64(i + 1)
		if len(all) > len(ramp)-1 {
			at = float64(i*(len(ramp)-1)) / float64(len(all)-1)
		}
		shades[f] = shadeAt(at)
	}
	return shades
}

// shadeAt mixes the ramp's colours around a place in it.
func shadeAt(at float64) factorShade {
	i := min(int(at), len(ramp)-2)
	a, b, t := rgb(ramp[i]), rgb(ramp[i+1]), at-float64(i)
	mix := func(x, y uint8) uint8 { return uint8(math.Round(float64(x) + t*(float64(y)-float64(x)))) }
	fill := color.NRGBA{R: mix(a.R, b.R), G: mix(a.G, b.G), B: mix(a.B, b.B), A: 255}
	if 0.299*float64(fill.R)+0.587*float64(fill.G)+0.114*float64(fill.B) > 130 {
		return factorShade{fill, rgb(0x10151A)}
	}
	return factorShade{fill, rgb(0xFEFEFE)}
}

// drawReceipts draws what was executed, layer by step, one figure a cell in
// which anything differs from the network as trained.
func drawReceipts(v *view) ([]figure, error) {
	shades := shadeOf(v)
	var out []figure
	for i := range v.rows {
		r := &v.rows[i]
		if !r.hasReceipt() {
			continue
		}
		f := figure{name: r.receiptName(i), title: r.label, cell: r.label, caption: receiptLine(v.s, r.cell)}
		h := newHeat(r.cell)
		f.alt = fmt.Sprintf("What was executed for %s: %s.", r.label, f.caption)
		if err := drawReceipt(&f, h, shades); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// receiptName names the files of the row's receipt.
func (r *row) receiptName(i int) string {
	return strings.TrimRight(fmt.Sprintf("receipt_%02d-%s", i, slug(r.label, 40)), "-")
}

// Sizes of a receipt in points.
const (
	heatRow     = vg.Length(9.5)
	heatGap     = vg.Length(3.5) // between blocks
	heatStrip   = vg.Length(9)
	heatPanel   = vg.Length(262) // widest panel of one network
	heatStep    = vg.Length(16)  // widest step
	heatBetween = vg.Length(16)  // between the networks
	heatNumber  = vg.Length(6.8)
)

// stripRow is one line above the layers: at every step a text, "" for none.
type stripRow struct {
	label string
	fill  func() (colour, text uint32)
	of    func(step int, network string) string // "": off
}

// drawReceipt draws layers down, steps across, D and V side by side.
func drawReceipt(f *figure, h *heat, shades map[float64]factorShade) error {
	tiny := textStyle(7, muted)
	head := bold(textStyle(8.5, ink))
	block := bold(textStyle(7.5, ink))
	name := right(textStyle(7.5, muted))
	name.YAlign, block.YAlign = draw.YCenter, draw.YCenter

	// Rows: one a layer, with the block's name at its first.
	type line struct {
		block, layer string
		first        bool
	}
	lines := make([]line, len(h.layers))
	blockWidth, layerWidth := vg.Length(0), vg.Length(0)
	for i, path := range h.layers {
		b, l := splitLayer(path)
		if path == "" {
			b, l = "", "convolutions"
		}
		lines[i] = line{block: shortenTo(b, block, 90), layer: shortenTo(l, name, 120), first: i == 0 || lines[i-1].block != shortenTo(b, block, 90)}
		blockWidth = max(blockWidth, block.Width(lines[i].block))
		layerWidth = max(layerWidth, name.Width(lines[i].layer))
	}
	strips := stripsOf(h)
	for _, s := range strips {
		layerWidth = max(layerWidth, name.Width(s.label)-blockWidth-8)
	}
	labels := blockWidth + 8 + layerWidth + 5
	step := min(heatStep, heatPanel/vg.Length(max(h.steps, 1)))
	panel := step * vg.Length(h.steps)
	for _, n := range h.networks {
		panel = max(panel, head.Width(networkName(n.name)))
	}
	width := 2*plotMargin + labels + panel*vg.Length(len(h.networks)) + heatBetween*vg.Length(len(h.networks)-1)
	width = max(width, 300)
	inner := width - 2*plotMargin

	title := bold(textStyle(9.5, ink))
	titles := wrap(f.title, func(s string) bool { return title.Width(s) <= inner })
	if len(titles) > 2 {
		titles = []string{titles[0], shortenTo(strings.Join(titles[1:], " "), title, inner)}
	}
	keys := heatKeys(h, shades)
	keyRows := layKeys(keys, tiny, inner)
	heading := vg.Length(13)
	if len(h.networks) == 1 {
		heading = 0 // which network goes without saying
	}
	height := 2*plotMargin + 13*vg.Length(len(titles)) + 4 + heading + heatStrip*vg.Length(len(strips)) + 3 +
		heatRow*vg.Length(len(lines)) + 16 + 12*vg.Length(len(keyRows))
	for _, l := range lines {
		if l.first {
			height += heatGap
		}
	}
	return f.render(width, height, func(c draw.Canvas) {
		background(c)
		c = draw.Crop(c, plotMargin, -plotMargin, plotMargin, -plotMargin)
		for _, t := range titles {
			c.FillText(title, vg.Point{X: c.Min.X, Y: c.Max.Y}, t)
			c.Max.Y -= 13
		}
		top := c.Max.Y - 4
		left := c.Min.X + labels
		bottom := vg.Length(0)
		for k, n := range h.networks {
			x := left + (panel+heatBetween)*vg.Length(k)
			y := top
			if heading > 0 {
				c.FillText(head, vg.Point{X: x, Y: y}, networkName(n.name))
			}
			y -= heading
			for _, s := range strips {
				if k == 0 {
					c.FillText(name, vg.Point{X: left - 5, Y: y - heatStrip/2 + 0.6}, s.label)
				}
				drawStrip(&c, s, h, n.name, x, y, step)
				y -= heatStrip
			}
			y -= 3
			for from := 0; from < len(lines); {
				// Neighbouring layers of a block that ran alike share their numbers.
				to := from + 1
				for to < len(lines) && !lines[to].first && equal(n.rows[to], n.rows[from]) {
					to++
				}
				if lines[from].first {
					y -= heatGap
				}
				for l := from; l < to; l++ {
					at := y - heatRow*vg.Length(l-from)
					if k == 0 {
						if lines[l].first {
							c.FillText(block, vg.Point{X: c.Min.X, Y: at - heatRow/2 + 0.6}, lines[l].block)
						}
						c.FillText(name, vg.Point{X: left - 5, Y: at - heatRow/2 + 0.6}, lines[l].layer)
					}
					drawHeatRow(&c, n.rows[l], shades, x, at, step)
				}
				drawNumbers(&c, n.rows[from], shades, x, y, step, heatRow*vg.Length(to-from))
				y -= heatRow * vg.Length(to-from)
				from = to
			}
			drawSteps(&c, h.steps, x, y-2, step)
			bottom = y
		}
		drawKeys(&c, keyRows, tiny, c.Min.X, bottom-16, shades)
	})
}

// stripsOf lists the lines above the layers that this receipt needs.
func stripsOf(h *heat) []stripRow {
	if len(h.records) == 0 {
		return nil
	}
	term := func(label string, of func(*results.StepRow) string) stripRow {
		return stripRow{label: label, fill: func() (uint32, uint32) { return 0x4B5563, 0xFEFEFE },
			of: func(step int, network string) string {
				if of(&h.records[step]) == network {
					return "on"
				}
				return ""
			}}
	}
	all := []stripRow{
		term("base term", func(s *results.StepRow) string { return s.Base }),
		term("uncond term", func(s *results.StepRow) string { return s.Uncond }),
		term("cond term", func(s *results.StepRow) string { return s.Cond }),
		{label: "FreeU", fill: func() (uint32, uint32) { return 0x009E73, 0xFEFEFE }, of: func(step int, network string) string {
			if n := h.records[step].Of(network); n != nil && n.FreeU != nil {
				return strings.TrimPrefix(freeuText(n.FreeU), "FreeU ")
			}
			return ""
		}},
	}
	all = append(all, attentionStrips(h)...)
	var out []stripRow
	for _, s := range all {
		used := false
		for i := range h.records {
			for _, n := range h.networks {
				used = used || s.of(i, n.name) != ""
			}
		}
		if used {
			out = append(out, s)
		}
	}
	return out
}

// attentionStrips are the factors on the logits of the self-attentions, one line
// for all those that ran alike; in files that lack them, the pixel ratio.
func attentionStrips(h *heat) []stripRow {
	fill := func() (uint32, uint32) { return 0xE69F00, 0x10151A }
	if len(h.attention) == 0 {
		return []stripRow{{label: "attention", fill: fill, of: func(step int, network string) string {
			if n := h.records[step].Of(network); n != nil && sharpened(n) {
				return "×" + shortNumber(n.AttentionRatio) + " px"
			}
			return ""
		}}}
	}
	type group struct {
		key    string
		blocks []string
		rows   map[string][]float64 // by network
	}
	var layers []string
	rows := map[string]map[string][]float64{} // by layer and network
	for _, r := range h.attention {
		if rows[r.Layer] == nil {
			rows[r.Layer] = map[string][]float64{}
			layers = append(layers, r.Layer)
		}
		rows[r.Layer][r.Network] = r.Scales
	}
	var groups []*group
	for _, layer := range layers {
		key := fmt.Sprint(rows[layer])
		var g *group
		for _, have := range groups {
			if have.key == key {
				g = have
			}
		}
		if g == nil {
			g = &group{key: key, rows: rows[layer]}
			groups = append(groups, g)
		}
		if b, _ := splitLayer(layer); !containsText(g.blocks, b) {
			g.blocks = append(g.blocks, b)
		}
	}
	var out []stripRow
	for _, g := range groups {
		out = append(out, stripRow{label: "attn " + strings.Join(g.blocks, ", "), fill: fill, of: func(step int, network string) string {
			if scales := g.rows[network]; scales != nil && scales[step] != 0 && scales[step] != 1 {
				return fmt.Sprintf("×%.3f", scales[step])
			}
			return ""
		}})
	}
	return out
}

func drawStrip(c *draw.Canvas, s stripRow, h *heat, network string, x, y, step vg.Length) {
	texts := make([]string, len(h.records))
	for i := range texts {
		texts[i] = s.of(i, network)
	}
	fill, text := s.fill()
	for _, k := range spans(texts) {
		x0, x1 := x+step*vg.Length(k.from), x+step*vg.Length(k.to)
		if k.value == "" {
			mid := y - heatStrip/2
			c.StrokeLine2(draw.LineStyle{Color: gridline, Width: 0.7}, x0+0.4, mid, x1-0.4, mid)
			continue
		}
		fillBox(c, rgb(fill), x0+0.3, y-heatStrip+1.4, x1-0.3, y-1.4)
		t := textStyle(6.2, rgb(text))
		t.XAlign, t.YAlign = draw.XCenter, draw.YCenter
		if k.value != "on" && t.Width(k.value)+3 < x1-x0 {
			c.FillText(t, vg.Point{X: (x0 + x1) / 2, Y: y - heatStrip/2 + 0.5}, k.value)
		}
	}
}

// drawHeatRow draws one layer: filled runs, halves where rows and columns
// differ, a dot a step where the kernel is dispersed, nothing but a hatch where
// the network was not evaluated.
func drawHeatRow(c *draw.Canvas, cells []heatCell, shades map[float64]factorShade, x, y, step vg.Length) {
	const gap = 0.45
	for _, s := range spans(cells) {
		x0, x1 := x+step*vg.Length(s.from)+gap, x+step*vg.Length(s.to)-gap
		y0, y1 := y-heatRow+gap, y-gap
		k := s.value
		if k.off() {
			hatch(c, x0, y0, x1, y1)
			continue
		}
		paint := func(f float64, y0, y1 vg.Length) {
			fill := plainInk
			if !k.trained() {
				fill = shades[f].fill
			}
			fillBox(c, fill, x0, y0, x1, y1)
		}
		if k.rows == k.columns {
			paint(k.rows, y0, y1)
		} else {
			mid := (y0 + y1) / 2
			paint(k.rows, mid, y1)
			paint(k.columns, y0, mid)
		}
		if k.transform == "" {
			continue
		}
		text := shades[k.rows].text
		if step < 3 {
			mid := (y0 + y1) / 2
			c.StrokeLine2(draw.LineStyle{Color: text, Width: 1, Dashes: []vg.Length{1.5, 1.5}}, x0, mid, x1, mid)
			continue
		}
		for i := s.from; i < s.to; i++ {
			at := vg.Point{X: x + step*(vg.Length(i)+0.5), Y: y - heatRow/2}
			c.DrawGlyphNoClip(draw.GlyphStyle{Color: text, Radius: dotRadius(k.kernel, step), Shape: draw.CircleGlyph{}}, at)
		}
	}
}

// dotRadius grows with the kernel.
func dotRadius(kernel int, step vg.Length) vg.Length {
	return min(vg.Length(0.9+0.25*float64(kernel-3)), 0.3*step)
}

// hatch fills a box with faint diagonals.
func hatch(c *draw.Canvas, x0, y0, x1, y1 vg.Length) {
	sty := draw.LineStyle{Color: gridline, Width: 0.6}
	const apart = vg.Length(4)
	// The lines x - y = d; all boxes share them, so that neighbours join.
	for d := vg.Length(math.Ceil(float64((x0-y1)/apart))) * apart; d < x1-y0; d += apart {
		a, b := max(x0, y0+d), min(x1, y1+d)
		if a < b {
			c.StrokeLine2(sty, a, a-d, b, b-d)
		}
	}
}

// drawNumbers writes every run's factor once over the layers that share it.
func drawNumbers(c *draw.Canvas, cells []heatCell, shades map[float64]factorShade, x, y, step, height vg.Length) {
	for _, s := range spans(cells) {
		k := s.value
		if k.off() || k.trained() {
			continue
		}
		paint := shades[k.rows]
		t := bold(textStyle(heatNumber, paint.text))
		t.XAlign, t.YAlign = draw.XCenter, draw.YCenter
		label := k.factor()
		x0, x1 := x+step*vg.Length(s.from), x+step*vg.Length(s.to)
		w := t.Width(label)
		if w+3 > x1-x0 {
			continue
		}
		mid := vg.Point{X: (x0 + x1) / 2, Y: y - height/2}
		// Clear of dots, halves and the gaps between layers.
		fillBox(c, paint.fill, mid.X-w/2-1.5, mid.Y-heatRow/2+0.6, mid.X+w/2+1.5, mid.Y+heatRow/2-0.6)
		c.FillText(t, vg.Point{X: mid.X, Y: mid.Y + 0.5}, label)
	}
}

// drawSteps writes the axis below a panel.
func drawSteps(c *draw.Canvas, n int, x, y, step vg.Length) {
	t := textStyle(7, muted)
	t.XAlign = draw.XCenter
	every := 1
	for _, k := range []int{1, 2, 5, 10, 20, 50, 100, 200, 500} {
		every = k
		if step*vg.Length(k) > t.Width("000")+4 {
			break
		}
	}
	for i := 0; i < n; i += every {
		c.FillText(t, vg.Point{X: x + step*(vg.Length(i)+0.5), Y: y}, strconv.Itoa(i))
	}
}

// heatKey is one entry of the legend.
type heatKey struct {
	text   string
	cell   heatCell
	marked bool // the dot of a dispersed kernel
}

// heatKeys lists what the figure's fills and marks mean, in rising order.
func heatKeys(h *heat, shades map[float64]factorShade) []heatKey {
	var trained, off, apart bool
	factors := map[float64]bool{}
	var kernels []heatKey
	for _, n := range h.networks {
		for _, row := range n.rows {
			for _, k := range row {
				switch {
				case k.off():
					off = true
					continue
				case k.trained():
					trained = true
					continue
				}
				factors[k.rows], factors[k.columns] = true, true
				apart = apart || k.rows != k.columns
				if k.transform == "" {
					continue
				}
				text := fmt.Sprintf("dispersed to %d×%d (%s)", k.kernel, k.kernel, clean(k.transform))
				known := false
				for _, have := range kernels {
					known = known || have.text == text
				}
				if !known {
					kernels = append(kernels, heatKey{text: text, cell: heatCell{kernel: k.kernel, transform: k.transform}, marked: true})
				}
			}
		}
	}
	var out []heatKey
	if trained {
		out = append(out, heatKey{text: "as trained", cell: heatCell{rows: 1, columns: 1, kernel: 3}})
	}
	var order []float64
	for f := range factors {
		order = append(order, f)
	}
	sort.Float64s(order)
	for i, f := range order {
		text := "×" + exact(f)
		if i == 0 {
			text = "dilated ×" + exact(f)
		}
		out = append(out, heatKey{text: text, cell: heatCell{rows: f, columns: f, kernel: 3, transform: "-"}})
	}
	out = append(out, kernels...)
	if off {
		out = append(out, heatKey{text: "not evaluated"})
	}
	if apart {
		out = append(out, heatKey{text: "halves: rows above, columns below", cell: heatCell{rows: -1}})
	}
	out = append(out, heatKey{text: "step 0 is the noisiest", cell: heatCell{rows: -1}})
	return out
}

const (
	keySwatch = vg.Length(12)
	keyGap    = vg.Length(10)
)

func keyWidth(k heatKey, t draw.TextStyle) vg.Length {
	if k.cell.rows < 0 {
		return t.Width(k.text) + keyGap
	}
	return keySwatch + 4 + t.Width(k.text) + keyGap
}

func layKeys(keys []heatKey, t draw.TextStyle, w vg.Length) [][]heatKey {
	var rows [][]heatKey
	used := vg.Length(0)
	for _, k := range keys {
		k.text = shortenTo(k.text, t, w-keySwatch-4)
		need := keyWidth(k, t)
		if len(rows) == 0 || used+need-keyGap > w {
			rows = append(rows, nil)
			used = 0
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], k)
		used += need
	}
	return rows
}

func drawKeys(c *draw.Canvas, rows [][]heatKey, t draw.TextStyle, left, top vg.Length, shades map[float64]factorShade) {
	t.YAlign = draw.YCenter
	for _, row := range rows {
		x, y := left, top-6
		for _, k := range row {
			at := x
			if k.cell.rows >= 0 {
				x0, y0, x1, y1 := x, y-3.6, x+keySwatch, y+3.6
				switch {
				case k.marked:
					c.StrokeLines(draw.LineStyle{Color: gridline, Width: 0.7}, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}, {X: x0, Y: y0}})
					for _, dx := range []vg.Length{0.28, 0.72} {
						c.DrawGlyphNoClip(draw.GlyphStyle{Color: ink, Radius: dotRadius(k.cell.kernel, 10), Shape: draw.CircleGlyph{}}, vg.Point{X: x0 + dx*keySwatch, Y: y})
					}
				case k.cell.off():
					hatch(c, x0, y0, x1, y1)
					c.StrokeLines(draw.LineStyle{Color: gridline, Width: 0.7}, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}, {X: x0, Y: y0}})
				case k.cell.trained():
					fillBox(c, plainInk, x0, y0, x1, y1)
				default:
					fillBox(c, shades[k.cell.rows].fill, x0, y0, x1, y1)
				}
				at += keySwatch + 4
			}
			c.FillText(t, vg.Point{X: at, Y: y}, k.text)
			x += keyWidth(k, t)
		}
		top -= 12
	}
}
