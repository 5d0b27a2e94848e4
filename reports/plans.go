package reports

import (
	"fmt"
	"math"
	"sort"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"scalecrafter/reports/results"
)

// Sizes of a plan figure in points.
const (
	planWidth = vg.Length(300)
	planRow   = vg.Length(12)
)

// planBlock is neighbouring layers of one block that ran alike.
type planBlock struct {
	label   string
	network string
	factors []float64
}

// ramp holds the factors' fills in rising order, and the inks on them.
var ramp = []struct{ fill, text uint32 }{
	{0x9CCBEA, 0x10151A}, {0x5BA3D0, 0x10151A}, {0x1F6FA8, 0xFEFEFE},
	{0x7B4FA3, 0xFEFEFE}, {0xB0388A, 0xFEFEFE}, {0xC2410C, 0xFEFEFE},
}

// drawPlans draws what was executed, layer by step, one figure a cell whose
// plan changes anything. Fills mean the same factor in all of them.
func drawPlans(v *view) ([]figure, error) {
	shades := shadeOf(v)
	var out []figure
	for i := range v.rows {
		r := &v.rows[i]
		if r.reference || planIsPlain(r.cell) {
			continue
		}
		f := figure{
			name:  fmt.Sprintf("plan-%02d-%s", i, slug(r.label, 40)),
			title: r.label,
			cell:  r.label,
		}
		f.name = strings.TrimRight(f.name, "-")
		blocks := planBlocks(r.cell.Plan)
		f.alt = planAlt(r.label, blocks)
		if err := drawPlan(&f, blocks, shades); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// planIsPlain reports whether the cell has no plan or one that leaves every
// layer as it was trained.
func planIsPlain(c *results.Cell) bool {
	for _, row := range c.Plan {
		for _, f := range row.Factors {
			if f != 1 {
				return false
			}
		}
	}
	return true
}

// shadeOf gives every factor of the summary its place in the ramp.
func shadeOf(v *view) map[float64]int {
	seen := map[float64]bool{}
	var all []float64
	for i := range v.s.Cells {
		for _, row := range v.s.Cells[i].Plan {
			for _, f := range row.Factors {
				if f != 1 && !seen[f] {
					seen[f] = true
					all = append(all, f)
				}
			}
		}
	}
	sort.Float64s(all)
	shades := map[float64]int{}
	for i, f := range all {
		// Few factors: start inside the ramp, where fills stand out from
		// "as trained". Many: spread over all of it.
		k := i + 1
		if len(all) > len(ramp)-1 {
			k = int(math.Round(float64(i*(len(ramp)-1)) / float64(max(len(all)-1, 1))))
		}
		shades[f] = k
	}
	return shades
}

// planBlocks joins neighbouring layers of one block and network that ran
// alike, so that fifty layers make a dozen rows.
func planBlocks(rows []results.PlanRow) []planBlock {
	var out []planBlock
	count := 0
	prefix := ""
	for _, r := range rows {
		block, rest := splitLayer(r.Layer)
		if n := len(out); n > 0 && prefix == block && out[n-1].network == r.Network && equal(out[n-1].factors, r.Factors) {
			count++
			out[n-1].label = fmt.Sprintf("%s, %d layers", block, count)
			continue
		}
		label := block
		if rest != "" {
			label += " " + rest
		}
		out = append(out, planBlock{label: label, network: r.Network, factors: r.Factors})
		prefix, count = block, 1
	}
	return out
}

func equal(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// splitLayer shortens a layer's path for reading:
// "down_blocks.1.resnets.0.conv1" is block "down 1", layer "res 0 conv1".
func splitLayer(path string) (block, rest string) {
	parts := strings.Split(clean(path), ".")
	switch {
	case (parts[0] == "down_blocks" || parts[0] == "up_blocks") && len(parts) > 1:
		block = strings.TrimSuffix(parts[0], "_blocks") + " " + parts[1]
		parts = parts[2:]
	case parts[0] == "mid_block":
		block = "mid"
		parts = parts[1:]
	default:
		block = parts[0]
		parts = parts[1:]
	}
	for i, p := range parts {
		switch p {
		case "resnets":
			parts[i] = "res"
		case "downsamplers", "upsamplers":
			parts[i] = strings.TrimSuffix(p, "samplers") + "sample"
		}
	}
	return block, strings.Join(parts, " ")
}

// span is a run of steps with one factor: steps from..to-1.
type span struct {
	from, to int
	factor   float64
}

func spans(factors []float64) []span {
	var out []span
	for i, f := range factors {
		if n := len(out); n > 0 && out[n-1].factor == f {
			out[n-1].to = i + 1
			continue
		}
		out = append(out, span{i, i + 1, f})
	}
	return out
}

// planAlt tells the plan in words.
func planAlt(label string, blocks []planBlock) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Dilation factors that were executed for %s.", label)
	for _, k := range blocks {
		fmt.Fprintf(&b, " %s %s:", networkName(k.network), k.label)
		for i, s := range spans(k.factors) {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " %s in steps %d to %d", exact(s.factor), s.from, s.to-1)
		}
		b.WriteString(".")
	}
	return b.String()
}

func networkName(n string) string {
	switch n {
	case "", "main":
		return "main network"
	case "damped":
		return "damping network"
	}
	return clean(n)
}

// drawPlan draws layers down, steps across.
func drawPlan(f *figure, blocks []planBlock, shades map[float64]int) error {
	small := textStyle(8, muted)
	title := bold(textStyle(9.5, ink))
	labels := vg.Length(0)
	sections := 0
	for i := range blocks {
		blocks[i].label = shortenTo(blocks[i].label, small, planWidth*0.4)
		labels = max(labels, small.Width(blocks[i].label))
		if i > 0 && blocks[i].network != blocks[i-1].network {
			sections++
		}
	}
	if sections > 0 {
		sections++ // both networks get a heading
	}
	lines := wrap(f.title, func(s string) bool { return title.Width(s) <= planWidth-2*plotMargin })
	if len(lines) > 2 {
		lines = []string{lines[0], shortenTo(strings.Join(lines[1:], " "), title, planWidth-2*plotMargin)}
	}
	height := 2*plotMargin + 12 + 13*vg.Length(len(lines)) + 4 + planRow*vg.Length(len(blocks)+sections) + 14
	return f.render(planWidth, height, func(c draw.Canvas) {
		background(c)
		c = draw.Crop(c, plotMargin, -plotMargin, plotMargin, -plotMargin)
		for _, line := range lines {
			c.FillText(title, vg.Point{X: c.Min.X, Y: c.Max.Y}, line)
			c.Max.Y -= 13
		}
		c.FillText(small, vg.Point{X: c.Min.X, Y: c.Max.Y}, "executed dilation factor; grey: as trained")
		c.Max.Y -= 12
		left := c.Min.X + labels + 6
		y := c.Max.Y - 4
		name := right(small)
		name.YAlign = draw.YCenter
		for i, k := range blocks {
			if sections > 0 && (i == 0 || k.network != blocks[i-1].network) {
				h := textStyle(8, ink)
				h.YAlign = draw.YCenter
				c.FillText(h, vg.Point{X: left, Y: y - planRow/2}, networkName(k.network))
				y -= planRow
			}
			c.FillText(name, vg.Point{X: left - 6, Y: y - planRow/2}, k.label)
			step := (c.Max.X - left) / vg.Length(len(k.factors))
			for _, s := range spans(k.factors) {
				x0, x1 := left+step*vg.Length(s.from), left+step*vg.Length(s.to)
				fill, text := plainInk, muted
				if s.factor != 1 {
					shade := ramp[shades[s.factor]]
					fill, text = rgb(shade.fill), rgb(shade.text)
				}
				fillBox(&c, fill, x0+0.4, y-planRow+0.8, x1-0.4, y-0.8)
				t := textStyle(7.5, text)
				t.XAlign, t.YAlign = draw.XCenter, draw.YCenter
				if label := exact(s.factor); t.Width(label)+2 < x1-x0 && s.factor != 1 {
					c.FillText(t, vg.Point{X: (x0 + x1) / 2, Y: y - planRow/2}, label)
				}
			}
			y -= planRow
		}
		last := len(blocks[0].factors) - 1
		c.FillText(small, vg.Point{X: left, Y: y - 3}, "step 0, noisiest")
		if last > 0 {
			c.FillText(right(small), vg.Point{X: c.Max.X, Y: y - 3}, fmt.Sprintf("%d", last))
		}
	})
}
