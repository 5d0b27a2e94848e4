package reports

import (
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// The marks of the plots: each implements plot.Plotter in data coordinates.

var baseDash = []vg.Length{5, 3}

// baseLine draws the baseline across the plot: a dashed line with its band.
type baseLine struct {
	point
	upright bool // the values run along x
}

func (b baseLine) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	line := draw.LineStyle{Color: baseInk, Width: 1.2, Dashes: baseDash}
	fill := fade(baseInk, bandOpacity)
	if b.upright {
		if b.interval {
			fillBox(&c, fill, x(b.lo), c.Min.Y, x(b.hi), c.Max.Y)
		}
		c.StrokeLine2(line, x(b.y), c.Min.Y, x(b.y), c.Max.Y)
		return
	}
	if b.interval {
		fillBox(&c, fill, c.Min.X, y(b.lo), c.Max.X, y(b.hi))
	}
	c.StrokeLine2(line, c.Min.X, y(b.y), c.Max.X, y(b.y))
}

func fillBox(c *draw.Canvas, col color.Color, x0, y0, x1, y1 vg.Length) {
	c.FillPolygon(col, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}})
}

// drawnSeries draws a line with its interval band and markers; a lone point
// has its interval as a bar.
type drawnSeries struct {
	series
	index int
	// On an axis of names, where series share few places, every point has its
	// interval as a bar and stands aside from the others' by aside.
	named  bool
	joined bool // by a line, as the names have an order
	aside  vg.Length
}

func (s drawnSeries) color() color.NRGBA      { return palette[s.index%len(palette)] }
func (s drawnSeries) glyph() draw.GlyphDrawer { return markers[s.index%len(markers)] }
func (s drawnSeries) dash() []vg.Length       { return dashes[s.index/len(palette)%len(dashes)] }

func (s drawnSeries) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	col := s.color()
	var line, upper, lower []vg.Point
	for _, q := range s.points {
		at := x(q.x) + s.aside
		line = append(line, vg.Point{X: at, Y: y(q.y)})
		upper = append(upper, vg.Point{X: at, Y: y(q.hi)})
		lower = append(lower, vg.Point{X: at, Y: y(q.lo)})
	}
	if s.named {
		for i, q := range s.points {
			if q.interval {
				errorBar(&c, fade(col, 0.75), lower[i], upper[i])
			}
		}
		if len(line) > 1 && s.joined {
			c.StrokeLines(draw.LineStyle{Color: fade(col, 0.55), Width: 1.2, Dashes: s.dash()}, line)
		}
	} else if len(line) > 1 {
		band := append([]vg.Point{}, upper...)
		for i := len(lower) - 1; i >= 0; i-- {
			band = append(band, lower[i])
		}
		c.FillPolygon(fade(col, bandOpacity), band)
		c.StrokeLines(draw.LineStyle{Color: col, Width: 1.6, Dashes: s.dash()}, line)
	} else if len(line) == 1 && s.points[0].interval {
		errorBar(&c, col, lower[0], upper[0])
	}
	for _, pt := range line {
		c.DrawGlyphNoClip(draw.GlyphStyle{Color: col, Radius: 3, Shape: s.glyph()}, pt)
	}
}

// errorBar draws the line between a and b, which lie along one axis, with
// caps across its ends.
func errorBar(c *draw.Canvas, col color.Color, a, b vg.Point) {
	const half = vg.Length(2.5)
	sty := draw.LineStyle{Color: col, Width: 1.6}
	c.StrokeLine2(sty, a.X, a.Y, b.X, b.Y)
	for _, e := range []vg.Point{a, b} {
		if math.Abs(float64(a.X-b.X)) > math.Abs(float64(a.Y-b.Y)) {
			c.StrokeLine2(sty, e.X, e.Y-half, e.X, e.Y+half)
		} else {
			c.StrokeLine2(sty, e.X-half, e.Y, e.X+half, e.Y)
		}
	}
}

// dots draws one row a point, the first on top.
type dots []point

// Rows that are not of a group.
const (
	baselineRow  = -1
	referenceRow = -2
)

func (d dots) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for i, q := range d {
		at := y(-float64(i))
		s := drawnSeries{index: max(q.group, 0)}
		col, glyph := s.color(), s.glyph()
		switch q.group {
		case baselineRow:
			col, glyph = baseInk, draw.CircleGlyph{}
		case referenceRow:
			col, glyph = baseInk, draw.RingGlyph{}
		}
		if q.interval {
			errorBar(&c, col, vg.Point{X: x(q.lo), Y: at}, vg.Point{X: x(q.hi), Y: at})
		}
		c.DrawGlyphNoClip(draw.GlyphStyle{Color: col, Radius: 3.2, Shape: glyph}, vg.Point{X: x(q.y), Y: at})
	}
}
