package metrics

import (
	"fmt"
	"image"
	"math"
)

// Filter is a resampling kernel.
type Filter int

// The kernels of Pillow. Their support is measured in source pixels when
// enlarging and in target pixels when reducing.
const (
	Bilinear Filter = iota // triangle, support 1
	Bicubic                // Keys' cubic with a = -0.5, support 2
	Lanczos                // windowed sinc, support 3
)

// String is the filter's lower-case name.
func (f Filter) String() string {
	switch f {
	case Bilinear:
		return "bilinear"
	case Bicubic:
		return "bicubic"
	case Lanczos:
		return "lanczos"
	}
	return fmt.Sprintf("Filter(%d)", int(f))
}

func (f Filter) support() float64 { return float64(f) + 1 }

func (f Filter) at(x float64) float64 {
	x = math.Abs(x)
	switch {
	case x >= f.support():
		return 0
	case f == Bilinear:
		return 1 - x
	case f == Bicubic && x < 1:
		return (1.5*x-2.5)*x*x + 1
	case f == Bicubic:
		return ((-0.5*x+2.5)*x-4)*x + 2
	case x == 0:
		return 1
	}
	return sinc(x) * sinc(x/3)
}

func sinc(x float64) float64 { return math.Sin(math.Pi*x) / (math.Pi * x) }

// taps are the weights of one axis: output i reads input first[i]+j with
// weight[i*width+j] for j < count[i].
type taps struct {
	in, out, width int
	first, count   []int
	weight         []float64
	fixed          []int32 // weight in units of 2^-22, for 8-bit samples
}

// fixedBits is the fraction of the 8-bit path's weights: 32 bits less 8 for
// the sample and 2 for overshoot.
const fixedBits = 22

// newTaps is the antialiased sampling rule of Pillow: the kernel is stretched
// by the reduction factor, cut off at the border and normalised to sum one.
func newTaps(filter Filter, in, out int) *taps {
	scale := float64(in) / float64(out)
	stretch := math.Max(scale, 1)
	support := filter.support() * stretch
	t := &taps{in: in, out: out, width: int(math.Ceil(support))*2 + 1,
		first: make([]int, out), count: make([]int, out)}
	t.weight = make([]float64, out*t.width)
	t.fixed = make([]int32, out*t.width)
	for i := range out {
		centre := (float64(i) + 0.5) * scale
		first := max(int(centre-support+0.5), 0)
		last := min(int(centre+support+0.5), in)
		w := t.weight[i*t.width:][:last-first]
		sum := 0.0
		for j := range w {
			w[j] = filter.at((float64(first+j) - centre + 0.5) / stretch)
			sum += w[j]
		}
		for j := range w {
			if sum != 0 {
				w[j] /= sum
			}
			t.fixed[i*t.width+j] = int32(math.Round(w[j] * (1 << fixedBits)))
		}
		t.first[i], t.count[i] = first, len(w)
	}
	return t
}

// Resizer brings pictures of one size to another the way Pillow does, which is
// what clean-fid and most evaluation code call: separable, rows first, an axis
// whose size does not change is left alone. It is immutable and safe for
// concurrent use. Source: Parmar et al. 2022 (arXiv 2104.11222) for why it
// matters.
type Resizer struct {
	x, y *taps
}

// NewResizer plans a resize of [height,width] to [toHeight,toWidth].
func NewResizer(filter Filter, height, width, toHeight, toWidth int) (*Resizer, error) {
	if filter < Bilinear || filter > Lanczos {
		return nil, fmt.Errorf("metrics: resize: unknown filter %v; choose bilinear, bicubic or lanczos", filter)
	}
	if err := checkSizes(height, width, toHeight, toWidth); err != nil {
		return nil, err
	}
	r := &Resizer{x: newTaps(filter, width, toWidth)}
	if height == width && toHeight == toWidth {
		r.y = r.x
	} else {
		r.y = newTaps(filter, height, toHeight)
	}
	return r, nil
}

func checkSizes(height, width, toHeight, toWidth int) error {
	const most = 1 << 16
	for _, n := range []int{height, width, toHeight, toWidth} {
		if n < 1 || n > most {
			return fmt.Errorf("metrics: resize %dx%d to %dx%d: want sizes of 1 to %d pixels", height, width, toHeight, toWidth, most)
		}
	}
	return nil
}

// Clean resizes planes [C,H,W] of 0..255 to [C,toH,toW], clipped to 0..255 and
// not rounded. Sums are float64, the rows between the two passes float32.
func (r *Resizer) Clean(planes []float32) ([]float32, error) {
	c, err := r.channels(len(planes))
	if err != nil {
		return nil, err
	}
	w, ow, oh := r.x.in, r.x.out, r.y.out
	out := make([]float32, c*oh*ow)
	rows := make([]float32, r.y.in*ow)
	sums := make([]float64, ow)
	for ch := range c {
		src := planes[ch*r.y.in*w:][:r.y.in*w]
		dst := out[ch*oh*ow:][:oh*ow]
		middle := src
		if w != ow {
			middle = rows
			r.x.lines(rows, src)
		}
		if r.y.in == oh {
			copy(dst, middle)
		} else {
			r.y.columns(dst, middle, sums)
		}
		for i, v := range dst {
			// Written so that NaN is kept.
			if v < 0 {
				dst[i] = 0
			} else if v > 255 {
				dst[i] = 255
			}
		}
	}
	return out, nil
}

// lines resamples every line of src [lines,in]. Four lines go together, which
// hides the latency of the additions; each sum still runs in tap order.
func (t *taps) lines(dst, src []float32) {
	y, n := 0, len(src)/t.in
	for ; y+4 <= n; y += 4 {
		s0, s1, s2, s3 := src[y*t.in:], src[(y+1)*t.in:], src[(y+2)*t.in:], src[(y+3)*t.in:]
		d := dst[y*t.out:]
		for i := range t.out {
			w, first := t.weight[i*t.width:][:t.count[i]], t.first[i]
			x0, x1, x2, x3 := s0[first:][:len(w)], s1[first:][:len(w)], s2[first:][:len(w)], s3[first:][:len(w)]
			var a0, a1, a2, a3 float64
			for j, k := range w {
				a0 += float64(x0[j]) * k
				a1 += float64(x1[j]) * k
				a2 += float64(x2[j]) * k
				a3 += float64(x3[j]) * k
			}
			d[i], d[t.out+i], d[2*t.out+i], d[3*t.out+i] = float32(a0), float32(a1), float32(a2), float32(a3)
		}
	}
	for ; y < n; y++ {
		for i := range t.out {
			w := t.weight[i*t.width:][:t.count[i]]
			x := src[y*t.in+t.first[i]:][:len(w)]
			sum := 0.0
			for j, k := range w {
				sum += float64(x[j]) * k
			}
			dst[y*t.out+i] = float32(sum)
		}
	}
}

// columns resamples all columns of src [in,len(sums)] at once, line by line;
// two taps a sweep, in tap order.
func (t *taps) columns(dst, src []float32, sums []float64) {
	n := len(sums)
	for i := range t.out {
		clear(sums)
		w := t.weight[i*t.width:][:t.count[i]]
		j := 0
		for ; j+2 <= len(w); j += 2 {
			k0, k1 := w[j], w[j+1]
			line0 := src[(t.first[i]+j)*n:][:n]
			line1 := src[(t.first[i]+j+1)*n:][:n]
			for x := range sums {
				sums[x] = sums[x] + float64(line0[x])*k0 + float64(line1[x])*k1
			}
		}
		if j < len(w) {
			k := w[j]
			for x, v := range src[(t.first[i]+j)*n:][:n] {
				sums[x] += float64(v) * k
			}
		}
		for x, v := range sums {
			dst[i*n+x] = float32(v)
		}
	}
}

// Bytes resizes 8-bit planes [C,H,W] in Pillow's fixed-point arithmetic: both
// passes round to 8 bits.
func (r *Resizer) Bytes(planes []uint8) ([]uint8, error) {
	c, err := r.channels(len(planes))
	if err != nil {
		return nil, err
	}
	w, ow, oh := r.x.in, r.x.out, r.y.out
	out := make([]uint8, c*oh*ow)
	rows := make([]uint8, r.y.in*ow)
	for ch := range c {
		src := planes[ch*r.y.in*w:][:r.y.in*w]
		dst := out[ch*oh*ow:][:oh*ow]
		middle := src
		if w != ow {
			middle = rows
			for y := range r.y.in {
				for i := range ow {
					rows[y*ow+i] = r.x.fixedSum(i, src[y*w:], 1)
				}
			}
		}
		if r.y.in == oh {
			copy(dst, middle)
			continue
		}
		for i := range oh {
			for x := range ow {
				dst[i*ow+x] = r.y.fixedSum(i, middle[x:], ow)
			}
		}
	}
	return out, nil
}

// fixedSum is output i of a line whose samples lie stride apart.
func (t *taps) fixedSum(i int, src []uint8, stride int) uint8 {
	sum := int64(1) << (fixedBits - 1)
	at := t.first[i] * stride
	for j := range t.count[i] {
		sum += int64(src[at]) * int64(t.fixed[i*t.width+j])
		at += stride
	}
	return uint8(min(max(sum>>fixedBits, 0), 255))
}

// channels checks the length of planes and returns C.
func (r *Resizer) channels(values int) (int, error) {
	plane := r.x.in * r.y.in
	if values == 0 || values%plane != 0 {
		return 0, fmt.Errorf("metrics: resize: %d values are no whole number of %dx%d planes", values, r.y.in, r.x.in)
	}
	return values / plane, nil
}

// ResizeClean resizes a picture to planes [3,height,width] (red, green, blue)
// of 0..255 by clean-fid's rule: antialiased bicubic on float channels, clipped,
// not rounded. Alpha is ignored.
func ResizeClean(img *image.NRGBA, height, width int) ([]float32, error) {
	planes, h, w := Planes(img)
	r, err := NewResizer(Bicubic, h, w, height, width)
	if err != nil {
		return nil, err
	}
	return r.Clean(planes)
}

// Planes copies a picture into planes [3,H,W] (red, green, blue) of 0..255.
// Alpha is ignored.
func Planes(img *image.NRGBA) (planes []float32, height, width int) {
	height, width = img.Rect.Dy(), img.Rect.Dx()
	area := height * width
	planes = make([]float32, 3*area)
	red, green, blue := planes[:area], planes[area:2*area], planes[2*area:]
	for y := range height {
		line := img.Pix[img.PixOffset(img.Rect.Min.X, img.Rect.Min.Y+y):]
		for x := range width {
			i := y*width + x
			red[i], green[i], blue[i] = float32(line[4*x]), float32(line[4*x+1]), float32(line[4*x+2])
		}
	}
	return planes, height, width
}

// ResizeTF1 is TensorFlow 1's bilinear rule on planes [C,H,W], as used by the
// original FID code: output i reads position i*in/out (no half-pixel shift, no
// antialias), positions in float32.
func ResizeTF1(planes []float32, height, width, toHeight, toWidth int) ([]float32, error) {
	ratioY, ratioX := float32(height)/float32(toHeight), float32(width)/float32(toWidth)
	return lerpPlanes(planes, height, width, toHeight, toWidth,
		func(i int) float32 { return float32(i) * ratioY },
		func(i int) float32 { return float32(i) * ratioX })
}

// ResizeHalfPixel is PyTorch's bilinear interpolation on planes [C,H,W] with
// half-pixel positions and no antialias (clean-fid's mode "legacy_pytorch").
func ResizeHalfPixel(planes []float32, height, width, toHeight, toWidth int) ([]float32, error) {
	half := func(in, out int) func(int) float32 {
		ratio := float32(in) / float32(out)
		return func(i int) float32 { return max(ratio*(float32(i)+0.5)-0.5, 0) }
	}
	return lerpPlanes(planes, height, width, toHeight, toWidth, half(height, toHeight), half(width, toWidth))
}

// lerpPlanes interpolates between the four pixels around (rowAt(y), columnAt(x)).
func lerpPlanes(planes []float32, height, width, toHeight, toWidth int, rowAt, columnAt func(int) float32) ([]float32, error) {
	if err := checkSizes(height, width, toHeight, toWidth); err != nil {
		return nil, err
	}
	if len(planes) == 0 || len(planes)%(height*width) != 0 {
		return nil, fmt.Errorf("metrics: resize: %d values are no whole number of %dx%d planes", len(planes), height, width)
	}
	split := func(at float32, n int) (lo, hi int, part float32) {
		lo = min(int(at), n-1)
		return lo, min(lo+1, n-1), at - float32(lo)
	}
	c := len(planes) / (height * width)
	out := make([]float32, c*toHeight*toWidth)
	for y := range toHeight {
		y0, y1, dy := split(rowAt(y), height)
		for x := range toWidth {
			x0, x1, dx := split(columnAt(x), width)
			for ch := range c {
				p := planes[ch*height*width:]
				top := p[y0*width+x0] + (p[y0*width+x1]-p[y0*width+x0])*dx
				bottom := p[y1*width+x0] + (p[y1*width+x1]-p[y1*width+x0])*dx
				out[(ch*toHeight+y)*toWidth+x] = top + (bottom-top)*dy
			}
		}
	}
	return out, nil
}
