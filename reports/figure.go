package reports

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// figure is one drawing in both formats.
type figure struct {
	name    string // file name without extension
	title   string
	caption string // what the marks mean and what is not shown
	alt     string // what a reader who cannot see it is told
	cell    string // label of the cell it belongs to, or ""
	svg     []byte // standalone
	png     []byte
	width   vg.Length
	inline  string // svg element for an HTML page, colours from CSS variables
}

// Inks that are not data. In the page each is a CSS variable, so that the
// figures follow the reader's light or dark scheme.
var (
	paper    = rgb(0xFFFFFF)
	ink      = rgb(0x1C2024)
	muted    = rgb(0x60646C)
	gridline = rgb(0xE3E5E8)
	plainInk = rgb(0xE8EAED) // "as trained" in the plans
	baseInk  = rgb(0x6B7280)
)

// palette holds the series' colours: Okabe and Ito's, which stay apart for
// readers with any common colour vision, less the yellow that is lost on
// white. Markers differ too.
var palette = []color.NRGBA{
	rgb(0x0072B2), rgb(0xD55E00), rgb(0x009E73), rgb(0xCC79A7), rgb(0xE69F00), rgb(0x56B4E9),
}

var markers = []draw.GlyphDrawer{
	draw.CircleGlyph{},
	solid{{-.9, -.9}, {.9, -.9}, {.9, .9}, {-.9, .9}},
	solid{{-1.15, -.8}, {1.15, -.8}, {0, 1.25}},
	solid{{-1.3, 0}, {0, -1.3}, {1.3, 0}, {0, 1.3}},
	solid{{-1.15, .8}, {1.15, .8}, {0, -1.25}},
	solid{{-.4, -1.2}, {.4, -1.2}, {.4, -.4}, {1.2, -.4}, {1.2, .4}, {.4, .4}, {.4, 1.2}, {-.4, 1.2}, {-.4, .4}, {-1.2, .4}, {-1.2, -.4}, {-.4, -.4}},
	solid{{-1.25, -.35}, {0, -1.2}, {1.25, -.35}, {.75, 1.1}, {-.75, 1.1}},
}

// solid is a filled marker: a polygon around the origin in units of the
// glyph's radius.
type solid [][2]float64

func (s solid) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, at vg.Point) {
	pts := make([]vg.Point, len(s))
	for i, p := range s {
		pts[i] = vg.Point{X: at.X + sty.Radius*vg.Length(p[0]), Y: at.Y + sty.Radius*vg.Length(p[1])}
	}
	c.FillPolygon(sty.Color, pts)
}

var dashes = [][]vg.Length{nil, {6, 2}, {2, 2}, {7, 2, 2, 2}}

func rgb(v uint32) color.NRGBA {
	return color.NRGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 255}
}

func fade(c color.NRGBA, alpha float64) color.NRGBA {
	c.A = uint8(alpha*255 + 0.5)
	return c
}

// themed maps the hexadecimal text of an ink in SVG to its CSS variable.
var themed = func() *strings.Replacer {
	var pairs []string
	add := func(c color.NRGBA, name string) {
		pairs = append(pairs, fmt.Sprintf(":#%.2X%.2X%.2X", c.R, c.G, c.B), ":var(--"+name+")")
	}
	add(paper, "paper")
	add(ink, "ink")
	add(muted, "muted")
	add(gridline, "rule")
	add(plainInk, "plain")
	add(baseInk, "base")
	for i, c := range palette {
		add(c, fmt.Sprintf("s%d", i))
	}
	return strings.NewReplacer(append(pairs, "font-family:Liberation Sans", "font-family:var(--plot)",
		"font-variant:normal;", "", "font-style:normal;", "", "font-weight:normal;", "")...)
}()

// textStyle is sans-serif text of the given size in points.
func textStyle(size vg.Length, c color.Color) draw.TextStyle {
	return draw.TextStyle{
		Color:   c,
		Font:    font.Font{Typeface: "Liberation", Variant: "Sans", Size: size},
		YAlign:  draw.YTop,
		Handler: plot.DefaultTextHandler,
	}
}

func bold(t draw.TextStyle) draw.TextStyle {
	t.Font.Weight = xfont.WeightBold
	return t
}

func right(t draw.TextStyle) draw.TextStyle {
	t.XAlign = draw.XRight
	return t
}

// shortenTo cuts s so that it is at most w wide. The middle goes: labels of
// one experiment often differ at the end.
func shortenTo(s string, t draw.TextStyle, w vg.Length) string {
	if t.Width(s) <= w {
		return s
	}
	r := []rune(s)
	cut := ""
	for n := len(r) - 1; n >= 0; n-- {
		head := (n + 1) / 2
		cut = strings.TrimRight(string(r[:head]), " ") + "…" + strings.TrimLeft(string(r[len(r)-(n-head):]), " ")
		if t.Width(cut) <= w {
			break
		}
	}
	return cut
}

// pngDPI is the resolution of the PNG files.
const pngDPI = 150

// render draws f once in each format. draw must be a pure function.
func (f *figure) render(w, h vg.Length, paint func(draw.Canvas)) error {
	s := vgsvg.New(w, h)
	paint(draw.New(s))
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		return fmt.Errorf("reports: figure %s: svg: %w", f.name, err)
	}
	f.svg = bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
	inline, err := inlineSVG(b.String(), float64(w), float64(h), f.alt)
	if err != nil {
		return fmt.Errorf("reports: figure %s: %w", f.name, err)
	}
	f.inline, f.width = inline, w

	p := vgimg.NewWith(vgimg.UseWH(w, h), vgimg.UseDPI(pngDPI), vgimg.UseBackgroundColor(paper))
	paint(draw.New(p))
	var out bytes.Buffer
	if _, err := (vgimg.PngCanvas{Canvas: p}).WriteTo(&out); err != nil {
		return fmt.Errorf("reports: figure %s: png: %w", f.name, err)
	}
	f.png = out.Bytes()
	return nil
}

// inlineSVG turns a standalone document into an element for an HTML page: no
// prologue, scaled by its container, named for screen readers, in the page's
// colours and font.
func inlineSVG(doc string, w, h float64, alt string) (string, error) {
	_, rest, ok := strings.Cut(doc, "<svg")
	if !ok {
		return "", fmt.Errorf("the drawing library wrote no svg element")
	}
	_, body, ok := strings.Cut(rest, ">")
	if !ok {
		return "", fmt.Errorf("the drawing library wrote an open svg tag")
	}
	return fmt.Sprintf(`<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, w, h, html.EscapeString(alt)) +
		themed.Replace(body), nil
}

// background fills the canvas, so that a standalone SVG is legible on a dark
// desktop.
func background(c draw.Canvas) {
	c.SetColor(paper)
	c.Fill(c.Rectangle.Path())
}

// legendEntry is one key of a legend: a line with a marker, a band, or both.
type legendEntry struct {
	text  string
	color color.NRGBA
	glyph draw.GlyphDrawer
	dash  []vg.Length
	line  bool
}

const (
	legendSize  = vg.Length(9)
	legendRow   = vg.Length(14)
	legendSwash = vg.Length(18)
)

// legendRows breaks the entries into rows of at most width w.
func legendRows(entries []legendEntry, w vg.Length) [][]legendEntry {
	var rows [][]legendEntry
	t := textStyle(legendSize, ink)
	used := vg.Length(0)
	for _, e := range entries {
		e.text = shortenTo(e.text, t, w-legendSwash-6)
		need := legendSwash + 6 + t.Width(e.text) + 14
		if len(rows) == 0 || used+need-14 > w {
			rows = append(rows, nil)
			used = 0
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], e)
		used += need
	}
	return rows
}

// drawLegend draws the rows below top, from the left.
func drawLegend(c *draw.Canvas, rows [][]legendEntry, left, top vg.Length) {
	t := textStyle(legendSize, ink)
	t.YAlign = draw.YCenter
	for _, row := range rows {
		x, y := left, top-legendRow/2
		for _, e := range row {
			if e.line {
				c.StrokeLine2(draw.LineStyle{Color: e.color, Width: 1.6, Dashes: e.dash}, x, y, x+legendSwash, y)
			}
			if e.glyph != nil {
				c.DrawGlyphNoClip(draw.GlyphStyle{Color: e.color, Radius: 3, Shape: e.glyph}, vg.Point{X: x + legendSwash/2, Y: y})
			}
			c.FillText(t, vg.Point{X: x + legendSwash + 6, Y: y}, e.text)
			x += legendSwash + 6 + t.Width(e.text) + 14
		}
		top -= legendRow
	}
}

// header draws title and subtitle at the top left and returns what is left
// of the canvas.
func header(c draw.Canvas, title, subtitle string) draw.Canvas {
	t := bold(textStyle(11.5, ink))
	w := c.Max.X - c.Min.X
	lines := wrap(title, func(s string) bool { return t.Width(s) <= w })
	if len(lines) > 2 {
		lines = []string{lines[0], shortenTo(strings.Join(lines[1:], " "), t, w)}
	}
	for _, line := range lines {
		c.FillText(t, vg.Point{X: c.Min.X, Y: c.Max.Y}, line)
		c.Max.Y -= 15
	}
	sub := textStyle(9, muted)
	c.FillText(sub, vg.Point{X: c.Min.X, Y: c.Max.Y}, shortenTo(subtitle, sub, w))
	c.Max.Y -= 17
	return c
}
