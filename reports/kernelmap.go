package reports

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"scalecrafter/ablation"
)

// Sizes of a kernel map in points.
const (
	kernelPanel  = vg.Length(152) // side of one kernel
	kernelGap    = vg.Length(16)
	kernelTitle  = vg.Length(30)
	kernelPerRow = 4
	kernelBar    = vg.Length(46) // the colour bar with its labels
	// kernelNumbered is the largest side whose numbers fit into their taps.
	kernelNumbered = 9
)

// diverging runs from the most negative through zero to the most positive
// value: ColorBrewer's RdBu turned round, which stays apart for readers with
// any common colour vision.
var diverging = []color.NRGBA{
	rgb(0x2166AC), rgb(0x4393C3), rgb(0x92C5DE), rgb(0xD1E5F0), rgb(0xF7F7F7),
	rgb(0xFDDBC7), rgb(0xF4A582), rgb(0xD6604D), rgb(0xB2182B),
}

// divergingAt is the colour of v in -1 to 1, in between by linear mixing.
func divergingAt(v float64) color.NRGBA {
	x := (min(max(v, -1), 1) + 1) / 2 * float64(len(diverging)-1)
	i := min(int(x), len(diverging)-2)
	a, b, f := diverging[i], diverging[i+1], x-float64(i)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-f) + float64(b)*f)) }
	return color.NRGBA{R: mix(a.R, b.R), G: mix(a.G, b.G), B: mix(a.B, b.B), A: 255}
}

// kernelImage is one kernel of a kernel map.
type kernelImage struct {
	title, note string
	side        int
	values      []float64 // [side, side]
}

// kernelImages are what a transform makes of the kernel of all ones and of
// every tap that is not another's mirror image; worst is the largest value.
func kernelImages(t *ablation.Transform) (images []kernelImage, worst float64) {
	add := func(title string, values []float64) {
		sum := 0.0
		for _, v := range values {
			sum += v
			worst = max(worst, math.Abs(v))
		}
		images = append(images, kernelImage{title: title, note: "sum " + number(sum, 4), side: t.Large, values: values})
	}
	add(fmt.Sprintf("all %d taps 1", t.Small*t.Small), t.Flat())
	for _, j := range t.DistinctTaps() {
		add("tap "+t.TapName(j), t.Tap(j))
	}
	return images, worst
}

// KernelMap draws what a dispersion transform makes of the kernel of all ones
// and of each distinct tap, as a heat map at path: PNG, or SVG where the path
// ends in .svg. Colours mean the same in all kernels of the figure.
func KernelMap(path string, t *ablation.Transform, title, subtitle string) error {
	if err := CheckKernelMap(path); err != nil {
		return err
	}
	images, worst := kernelImages(t)
	if worst == 0 {
		worst = 1
	}
	columns := min(kernelPerRow, len(images))
	rows := (len(images) + columns - 1) / columns
	w := 2*plotMargin + vg.Length(columns)*(kernelPanel+kernelGap) + kernelBar
	h := 2*plotMargin + 36 + vg.Length(rows)*(kernelTitle+kernelPanel)
	f := figure{name: "kernel", title: title, alt: kernelAlt(title, images)}
	err := f.render(w, h, func(c draw.Canvas) {
		background(c)
		c = draw.Crop(c, plotMargin, -plotMargin, plotMargin, -plotMargin)
		c = header(c, title, subtitle)
		top := c.Max.Y
		for i, image := range images {
			x := c.Min.X + vg.Length(i%columns)*(kernelPanel+kernelGap)
			y := top - vg.Length(i/columns)*(kernelTitle+kernelPanel)
			drawKernel(&c, image, worst, vg.Point{X: x, Y: y})
		}
		drawColourBar(&c, worst, c.Max.X-kernelBar, top-kernelTitle-min(kernelPanel, c.Max.Y-c.Min.Y), top-kernelTitle)
	})
	if err != nil {
		return err
	}
	data := f.png
	if strings.EqualFold(filepath.Ext(path), ".svg") {
		data = f.svg
	}
	if err := replaceFile(path, data); err != nil {
		return fmt.Errorf("reports: kernel map %s: %w", path, err)
	}
	return nil
}

// CheckKernelMap returns an error for a path that KernelMap cannot serve.
func CheckKernelMap(path string) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".png", ".svg":
		return nil
	}
	return fmt.Errorf("%s: a kernel map is drawn as .png or .svg", path)
}

// drawKernel draws one kernel below at: its title, then its taps.
func drawKernel(c *draw.Canvas, k kernelImage, worst float64, at vg.Point) {
	t, n := textStyle(9.5, ink), right(textStyle(8.5, muted))
	c.FillText(t, vg.Point{X: at.X, Y: at.Y - 11}, k.title)
	c.FillText(n, vg.Point{X: at.X + kernelPanel, Y: at.Y - 12}, k.note)
	cell := kernelPanel / vg.Length(k.side)
	top := at.Y - kernelTitle + 4
	for i, v := range k.values {
		x, y := at.X+vg.Length(i%k.side)*cell, top-vg.Length(i/k.side)*cell
		fill := divergingAt(v / worst)
		c.FillPolygon(fill, box(x, y-cell, x+cell, y))
		if k.side <= kernelNumbered {
			s := textStyle(min(8.5, cell*0.31), inkOn(fill))
			s.XAlign, s.YAlign = draw.XCenter, draw.YCenter
			digits := 3
			if k.side > 5 {
				digits = 2
			}
			text := strings.Replace(number(v, digits), "0.", ".", 1)
			if strings.Trim(text, ".0") == "" {
				text = "0"
			}
			c.FillText(s, vg.Point{X: x + cell/2, Y: y - cell/2}, text)
		}
	}
	c.StrokeLines(draw.LineStyle{Color: muted, Width: 0.6}, append(box(at.X, top-kernelPanel, at.X+kernelPanel, top), vg.Point{X: at.X, Y: top - kernelPanel}))
}

// drawColourBar draws the scale of colours between the heights bottom and top.
func drawColourBar(c *draw.Canvas, worst float64, x, bottom, top vg.Length) {
	const steps, width = 64, vg.Length(11)
	bottom, top = bottom+4, top+4
	step := (top - bottom) / steps
	for i := range steps {
		v := 2*(float64(i)+0.5)/steps - 1
		y := bottom + vg.Length(i)*step
		c.FillPolygon(divergingAt(v), box(x, y, x+width, min(top, y+step+0.3)))
	}
	c.StrokeLines(draw.LineStyle{Color: muted, Width: 0.6}, append(box(x, bottom, x+width, top), vg.Point{X: x, Y: bottom}))
	s := textStyle(8.5, ink)
	s.YAlign = draw.YCenter
	for _, share := range []float64{-1, -0.5, 0, 0.5, 1} {
		y := bottom + (top-bottom)*vg.Length((share+1)/2)
		c.StrokeLine2(draw.LineStyle{Color: muted, Width: 0.6}, x+width, y, x+width+3, y)
		c.FillText(s, vg.Point{X: x + width + 5, Y: y}, signed(share*worst, 2))
	}
}

func box(x0, y0, x1, y1 vg.Length) []vg.Point {
	return []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}}
}

// inkOn is the text colour that is read better on the fill, by its relative
// luminance (WCAG 2).
func inkOn(fill color.NRGBA) color.NRGBA {
	linear := func(v uint8) float64 { return math.Pow(float64(v)/255, 2.2) }
	if 0.2126*linear(fill.R)+0.7152*linear(fill.G)+0.0722*linear(fill.B) < 0.18 {
		return paper
	}
	return ink
}

func kernelAlt(title string, images []kernelImage) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.", title)
	for _, k := range images {
		fmt.Fprintf(&b, " %s, %s: centre %s, corner %s.", k.title, k.note, number(k.values[len(k.values)/2], 3), number(k.values[0], 3))
	}
	return b.String()
}

// KernelText writes the kernels of KernelMap as text: their numbers, and beside
// them a map in characters whose darkness is the value's share of the largest.
// colour tints positive and negative values for a terminal.
func KernelText(w io.Writer, t *ablation.Transform, colour bool) error {
	images, worst := kernelImages(t)
	if worst == 0 {
		worst = 1
	}
	var b strings.Builder
	for _, k := range images {
		fmt.Fprintf(&b, "\n%s, %s\n", k.title, k.note)
		for y := range k.side {
			for _, v := range k.values[y*k.side:][:k.side] {
				fmt.Fprintf(&b, " %9s", number(v, 6))
			}
			b.WriteString("   ")
			for _, v := range k.values[y*k.side:][:k.side] {
				b.WriteString(kernelShade(v/worst, colour))
			}
			b.WriteByte('\n')
		}
	}
	fmt.Fprintf(&b, "\nmap: %s to %s, by quarters of %s; %s is under 1%% of it\n",
		strings.Join([]string{kernelShade(-1, colour), kernelShade(-.7, colour), kernelShade(-.4, colour), kernelShade(-.1, colour)}, " ")+" negative",
		strings.Join([]string{kernelShade(.1, colour), kernelShade(.4, colour), kernelShade(.7, colour), kernelShade(1, colour)}, " ")+" positive",
		number(worst, 3), kernelShade(0, false))
	_, err := io.WriteString(w, b.String())
	return err
}

// kernelShade is the two characters of a tap whose value is v of the largest.
func kernelShade(v float64, colour bool) string {
	level := min(int(math.Abs(v)*4), 3)
	switch {
	case math.Abs(v) < 0.01:
		return " ·"
	case v > 0:
		s := []string{"░░", "▒▒", "▓▓", "██"}[level]
		if colour {
			return "\x1b[31m" + s + "\x1b[0m"
		}
		return s
	}
	s := []string{"--", "==", "≡≡", "##"}[level]
	if colour {
		return "\x1b[34m" + s + "\x1b[0m"
	}
	return s
}
