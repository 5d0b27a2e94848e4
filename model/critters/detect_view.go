package critters

import (
	"image"
	"math"
)

// The detector's own resolution: the shorter side in px. Pictures are brought
// into this span before they are smoothed.
const (
	viewMin    = 128
	viewMax    = 256
	viewSmooth = 0.8 // standard deviation of the smoothing, px
)

// view is the picture as the detector sees it: planes of 0..255 levels.
type view struct {
	w, h   int
	pix    [3][]float32
	bounds image.Rectangle // of the picture itself
}

// span returns the largest and smallest channel at a pixel.
func (v *view) span(at int) (high, low float32) {
	r, g, b := v.pix[0][at], v.pix[1][at], v.pix[2][at]
	return max(r, g, b), min(r, g, b)
}

// original maps a rectangle of the view to the picture's pixels.
func (v *view) original(r image.Rectangle) image.Rectangle {
	fx, fy := float64(v.bounds.Dx())/float64(v.w), float64(v.bounds.Dy())/float64(v.h)
	return image.Rect(int(math.Round(float64(r.Min.X)*fx)), int(math.Round(float64(r.Min.Y)*fy)),
		int(math.Round(float64(r.Max.X)*fx)), int(math.Round(float64(r.Max.Y)*fy))).Add(v.bounds.Min).Intersect(v.bounds)
}

// normalise resamples and smooths a picture; nil for an empty one.
func normalise(img image.Image) *view {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	if w < 1 || h < 1 {
		return nil
	}
	factor := float64(min(max(min(w, h), viewMin), viewMax)) / float64(min(w, h))
	v := &view{w: max(1, int(math.Round(float64(w)*factor))), h: max(1, int(math.Round(float64(h)*factor))), bounds: b}
	rows := taps(h, v.h)
	cols := taps(w, v.w)
	for c, plane := range planes(img) {
		v.pix[c] = alongRows(alongColumns(plane, w, rows), w, cols)
	}
	return v
}

// planes copies a picture's colours, without regard to opacity beyond what
// premultiplication has left, into levels of 0 to 255.
func planes(img image.Image) [3][]float32 {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	var out [3][]float32
	for c := range out {
		out[c] = make([]float32, w*h)
	}
	if n, ok := img.(*image.NRGBA); ok {
		for y := 0; y < h; y++ {
			row := n.Pix[n.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := 0; x < w; x++ {
				for c := range out {
					out[c][y*w+x] = float32(row[4*x+c])
				}
			}
		}
		return out
	}
	for y := 0; y < h; y++ {
		for x := 0; x < w; x++ {
			r, g, bl, _ := img.At(b.Min.X+x, b.Min.Y+y).RGBA()
			out[0][y*w+x], out[1][y*w+x], out[2][y*w+x] = float32(r)/257, float32(g)/257, float32(bl)/257
		}
	}
	return out
}

// tap says how one output sample is made from a run of input samples.
type tap struct {
	from    int
	weights []float32
}

// taps builds the filter from n samples to m: Catmull-Rom cubic where it
// enlarges, a triangle over the shrunk pixel where it shrinks, and after either
// the smoothing by a Gaussian of viewSmooth output pixels. Edges repeat.
func taps(n, m int) []tap {
	ratio := float64(n) / float64(m) // input samples per output sample
	reach := 2.0
	if ratio > 1 {
		reach = ratio
	}
	const half = 3
	var bell [2*half + 1]float64
	total := 0.0
	for k := range bell {
		d := float64(k-half) / viewSmooth
		bell[k] = math.Exp(-d * d / 2)
		total += bell[k]
	}
	out := make([]tap, m)
	dense := make([]float64, n)
	for o := range out {
		low, high := n, -1
		for k, g := range bell {
			centre := (float64(min(max(o+k-half, 0), m-1))+0.5)*ratio - 0.5
			from, to := int(math.Ceil(centre-reach)), int(math.Floor(centre+reach))
			sum := 0.0
			for i := from; i <= to; i++ {
				sum += kernel(float64(i)-centre, ratio)
			}
			for i := from; i <= to; i++ {
				at := min(max(i, 0), n-1)
				dense[at] += kernel(float64(i)-centre, ratio) / sum * g / total
				low, high = min(low, at), max(high, at)
			}
		}
		t := tap{from: low, weights: make([]float32, high-low+1)}
		for i := low; i <= high; i++ {
			t.weights[i-low] = float32(dense[i])
			dense[i] = 0
		}
		out[o] = t
	}
	return out
}

// kernel is the resampling weight at distance d, in input samples, when ratio
// input samples make one output sample.
func kernel(d, ratio float64) float64 {
	d = math.Abs(d)
	switch {
	case ratio > 1:
		return max(0, 1-d/ratio)
	case d < 1:
		return 1.5*d*d*d - 2.5*d*d + 1
	case d < 2:
		return -0.5*d*d*d + 2.5*d*d - 4*d + 2
	}
	return 0
}

func alongColumns(src []float32, w int, rows []tap) []float32 {
	dst := make([]float32, len(rows)*w)
	for y, t := range rows {
		to := dst[y*w : (y+1)*w]
		for k, weight := range t.weights {
			from := src[(t.from+k)*w : (t.from+k+1)*w]
			for x, v := range from {
				to[x] += weight * v
			}
		}
	}
	return dst
}

func alongRows(src []float32, w int, cols []tap) []float32 {
	h := len(src) / w
	dst := make([]float32, h*len(cols))
	for y := 0; y < h; y++ {
		row := src[y*w : (y+1)*w]
		for x, t := range cols {
			sum := float32(0)
			for k, weight := range t.weights {
				sum += weight * row[t.from+k]
			}
			dst[y*len(cols)+x] = sum
		}
	}
	return dst
}
