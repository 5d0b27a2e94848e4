package critters

import (
	"fmt"
	"image"
	"math"
)

// Render draws the scene. A pixel's colour is the blend, in sRGB values, of the
// layers by the share of the pixel that each covers, taken from the signed
// distance at its middle. It panics on a size below 1.
func (s Scene) Render(height, width int) *image.NRGBA {
	checkSize(height, width)
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	const band = 16
	planes := make([]float32, 3*band*width)
	for y0 := 0; y0 < height; y0 += band {
		n := (min(y0+band, height) - y0) * width
		r, g, b := planes[:n], planes[n:2*n], planes[2*n:3*n]
		s.renderRows(r, g, b, height, width, y0, y0+n/width)
		pix := img.Pix[y0*img.Stride:]
		for i := range r {
			pix[4*i], pix[4*i+1], pix[4*i+2], pix[4*i+3] = toByte(r[i]), toByte(g[i]), toByte(b[i]), 255
		}
	}
	return img
}

// RenderFloat draws the scene into dst as [3,height,width] planes of red, green
// and blue in [-1,1], before any rounding to 8 bits. It allocates nothing. It
// panics if dst is not 3*height*width long.
func (s Scene) RenderFloat(dst []float32, height, width int) {
	checkSize(height, width)
	n := height * width
	if len(dst) != 3*n {
		panic(fmt.Sprintf("critters: RenderFloat of %dx%d px wants %d values, dst has %d", height, width, 3*n, len(dst)))
	}
	s.renderRows(dst[:n], dst[n:2*n], dst[2*n:], height, width, 0, height)
}

func checkSize(height, width int) {
	if height < 1 || width < 1 {
		panic(fmt.Sprintf("critters: cannot render %dx%d px: both sides must be at least 1", height, width))
	}
}

// toByte maps [-1,1] to 0..255, rounding to nearest.
func toByte(v float32) uint8 {
	return uint8(min(max((v+1)*127.5+0.5, 0), 255))
}

// renderRows draws rows y0 <= y < y1 into planes that begin at row y0.
func (s Scene) renderRows(r, g, b []float32, height, width, y0, y1 int) {
	scale := float64(min(height, width)) // pixels per canvas unit
	w, h := float64(width)/scale, float64(height)/scale
	s.Back.render(r, g, b, width, y0, y1, scale, w, h)
	for i := range s.Critters {
		c := &s.Critters[i]
		x, y := s.place(*c, w, h)
		c.render(r, g, b, width, y0, y1, scale, x, y)
	}
}

// signed maps an 8-bit level to [-1,1].
func signed(v float64) float64 { return v/127.5 - 1 }

func (k *Backdrop) render(r, g, b []float32, width, y0, y1 int, scale, w, h float64) {
	base := backColors[k.Color]
	br, bg, bb := float32(signed(base[0])), float32(signed(base[1])), float32(signed(base[2]))
	amp := k.Contrast / 127.5
	sin, cos := math.Sincos(k.Angle)
	// u runs across the pattern, v along it; both grow linearly in a row.
	step := 1 / scale
	reach := (w*math.Abs(cos) + h*math.Abs(sin)) / 2
	inv := 1 / k.Period
	edge := k.Period * scale // pixels per period: how sharp an edge is
	i := 0
	for y := y0; y < y1; y++ {
		cy := (float64(y)+0.5)*step - h/2
		switch k.Pattern {
		case gradient:
			u0, du := (cy*sin-w/2*cos+0.5*step*cos)/reach*amp, step*cos/reach*amp
			for x := 0; x < width; x++ {
				t := float32(u0 + float64(x)*du)
				r[i], g[i], b[i] = br+t, bg+t, bb+t
				i++
			}
		case stripes:
			u0, du := (cy*sin-w/2*cos+0.5*step*cos)*inv+k.Phase, step*cos*inv
			for x := 0; x < width; x++ {
				t := float32(wave(u0+float64(x)*du, edge) * amp)
				r[i], g[i], b[i] = br+t, bg+t, bb+t
				i++
			}
		case checks:
			u0, du := (cy*sin-w/2*cos+0.5*step*cos)*inv+k.Phase, step*cos*inv
			v0, dv := (cy*cos+w/2*sin-0.5*step*sin)*inv+k.Phase, -step*sin*inv
			for x := 0; x < width; x++ {
				f := float64(x)
				t := float32(wave(u0+f*du, edge) * wave(v0+f*dv, edge) * amp)
				r[i], g[i], b[i] = br+t, bg+t, bb+t
				i++
			}
		}
	}
}

// wave is a square wave of period 1 between -1 and 1, its jumps softened over
// one pixel; edge is the number of pixels in a period.
func wave(u, edge float64) float64 {
	u -= math.Floor(u)
	d := (math.Abs(u-0.5) - 0.25) * edge * 2
	return min(max(d, -1), 1)
}

// sharp returns the share of a pixel covered by a region whose edge lies d
// pixels away, negative inside.
func sharp(d float64) float64 { return min(max(0.5-d, 0), 1) }

// render draws a critter whose middle is at (mx, my) canvas units.
func (c *Critter) render(r, g, b []float32, width, y0, y1 int, scale, mx, my float64) {
	ex, ey := c.extent()
	left := max(0, int(math.Floor((mx-ex)*scale-1)))
	right := min(width, int(math.Ceil((mx+ex)*scale+1)))
	top := max(y0, int(math.Floor((my-ey)*scale-1)))
	bottom := min(y1, int(math.Ceil((my+ey)*scale+1)))
	sin, cos := math.Sincos(c.Angle)
	unit := c.Size * scale // pixels per critter unit
	inv := 1 / unit
	body := bodyColors[c.Color]
	face := 0.0
	if c.Shape == triangle {
		face = triFace
	}
	eyeY, lipY := face-eyeAbove, face+mouthBelow
	for y := top; y < bottom; y++ {
		dy := (float64(y) + 0.5 - my*scale) * inv
		for x := left; x < right; x++ {
			dx := (float64(x) + 0.5 - mx*scale) * inv
			// (px, py): this pixel in the critter's own frame.
			px, py := dx*cos+dy*sin, dy*cos-dx*sin
			d := c.distance(px, py)
			over := sharp(d * unit)
			if over == 0 {
				continue
			}
			fill := sharp((d + outlineWidth) * unit)
			shade := outlineShade + (1-outlineShade-bodyGlow*py)*fill
			pr, pg, pb := body[0]*shade, body[1]*shade, body[2]*shade
			if fill > 0 && py < lipY+mouthLarge+0.1 && math.Abs(px) < 0.75 {
				// Eyes mirror each other; pupils look the same way.
				side := eyeApart
				if px < 0 {
					side = -eyeApart
				}
				qx, qy := px-side, py-eyeY
				if q := qx*qx + qy*qy; q < 0.12 {
					white := sharp((math.Sqrt(q) - eyeRadius) * unit)
					gx, gy := qx-c.GazeX, qy-c.GazeY
					dark := sharp((math.Sqrt(gx*gx+gy*gy) - pupilRadius) * unit)
					pr, pg, pb = blend(pr, pg, pb, eyeWhite, white)
					pr, pg, pb = blend(pr, pg, pb, pupilDark, dark)
				}
				lx, ly := px, py-lipY
				if ly*unit > -1 {
					// A half-disc, and a tongue that keeps off its rim.
					md := max(math.Sqrt(lx*lx+ly*ly)-c.Mouth, -ly)
					if open := sharp(md * unit); open > 0 {
						pr, pg, pb = blend(pr, pg, pb, mouthDark, open)
						ty := ly - 0.95*c.Mouth
						td := max(math.Sqrt(lx*lx+ty*ty)-0.56*c.Mouth, md+0.13*c.Mouth)
						pr, pg, pb = blend(pr, pg, pb, tongueDark, sharp(td*unit))
					}
				}
			}
			i := (y-y0)*width + x
			o := float32(over)
			r[i] += (float32(signed(pr)) - r[i]) * o
			g[i] += (float32(signed(pg)) - g[i]) * o
			b[i] += (float32(signed(pb)) - b[i]) * o
		}
	}
}

func blend(r, g, b float64, over rgb, t float64) (float64, float64, float64) {
	return r + (over[0]-r)*t, g + (over[1]-g)*t, b + (over[2]-b)*t
}

// distance is the signed distance from the body's edge at (x, y), in critter
// units, negative inside. Corners are rounded by shrinking a shape whose edges
// stay where they are and growing it again.
func (c *Critter) distance(x, y float64) float64 {
	switch c.Shape {
	case square:
		qx, qy := math.Abs(x)-(squareHalf-squareRound), math.Abs(y)-(squareHalf-squareRound)
		ox, oy := max(qx, 0), max(qy, 0)
		return math.Sqrt(ox*ox+oy*oy) + min(max(qx, qy), 0) - squareRound
	case triangle:
		x = math.Abs(x)
		// The core triangle: every edge moved in by triSoft.
		d1 := segment(x, y, 0, coreTop, coreHalf, coreTop)
		d2 := segment(x, y, coreHalf, coreTop, 0, coreTip)
		d := math.Sqrt(min(d1, d2))
		if y > coreTop && (x-coreHalf)*(coreTip-coreTop)+(y-coreTop)*coreHalf < 0 {
			d = -d
		}
		return d - triSoft
	case diamond:
		x, y = math.Abs(x), math.Abs(y)
		const core = diamondHalf - diamondSoft*math.Sqrt2
		d := math.Sqrt(segment(x, y, core, 0, 0, core))
		if x+y < core {
			d = -d
		}
		return d - diamondSoft
	case pill:
		ox := max(math.Abs(x)-(pillHalf-pillHigh), 0)
		return math.Sqrt(ox*ox+y*y) - pillHigh
	default:
		return math.Sqrt(x*x+y*y) - 1
	}
}

// The core of the triangle, found from its slanted edge's length.
var (
	triEdge  = math.Hypot(triHalf, triTip-triTop)
	coreTop  = triTop + triSoft
	coreTip  = triTip - triSoft*triEdge/triHalf
	coreHalf = (coreTip - coreTop) * triHalf / (triTip - triTop)
)

// segment is the squared distance from (x, y) to the segment (ax, ay)-(bx, by).
func segment(x, y, ax, ay, bx, by float64) float64 {
	ux, uy := bx-ax, by-ay
	vx, vy := x-ax, y-ay
	t := min(max((vx*ux+vy*uy)/(ux*ux+uy*uy), 0), 1)
	vx -= t * ux
	vy -= t * uy
	return vx*vx + vy*vy
}
