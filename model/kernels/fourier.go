package kernels

import (
	"math"
	"sync"
)

// FourierFilter multiplies some low frequencies of picture planes [H,W] by
// Scale and keeps the real part:
//
//	y = x - (1-Scale)/(H W) Re sum_{u,v} X(u,v) exp(2 pi i (u r/H + v c/W))
//
// with X the plane's discrete Fourier transform and u, v from -Threshold to
// Threshold-1, cut off at the spectrum's edge. That window is not symmetric
// about frequency 0, hence the real part. Only the few coefficients in it are
// computed; there is no FFT. The filter is its own adjoint, and so its own
// gradient.
//
// Source: FreeU (arXiv 2309.11497), section 3; the window as in
// YingqingHe/ScaleCrafter, free_lunch_utils.py, Fourier_filter.
type FourierFilter struct {
	Planes, H, W, Threshold int
	Scale                   float32
}

// check panics with the offending numbers. Upstream's window wraps around the
// spectrum's edge, and is another one, where Threshold is above half a side.
func (f FourierFilter) check() {
	if f.Planes < 0 || f.H < 1 || f.W < 1 || f.Threshold < 1 || f.Threshold > max(f.H/2, 1) || f.Threshold > max(f.W/2, 1) {
		panicf("FourierFilter: %d planes of %dx%d, threshold %d: want sides of 1 or more and a threshold of 1 to half of each", f.Planes, f.H, f.W, f.Threshold)
	}
}

// waves are exp(-2 pi i u j/n) for the window's frequencies u of an axis of
// length n: real parts and imaginary parts, one line of n a frequency.
type waves struct {
	n        int
	cos, sin []float64
}

func newWaves(n, threshold int) waves {
	first, last := max(-threshold, -(n/2)), min(threshold, n-n/2)
	w := waves{n: n}
	for u := first; u < last; u++ {
		for j := range n {
			// Reduced first, so that the angle is exact for every u.
			turn := float64(((u*j)%n+n)%n) / float64(n)
			sin, cos := math.Sincos(-2 * math.Pi * turn)
			w.cos, w.sin = append(w.cos, cos), append(w.sin, sin)
		}
	}
	return w
}

// waveKey is an axis' length and a threshold.
type waveKey struct{ n, threshold int }

var wavesMade plans[waveKey, waves]

// wavesOf is newWaves that keeps the tables, which nobody may change.
func wavesOf(n, threshold int) waves {
	return wavesMade.get(waveKey{n, threshold}, func(k waveKey) waves { return newWaves(k.n, k.threshold) })
}

func (w waves) count() int { return len(w.cos) / w.n }

// FourierFilterForward computes y [Planes,H,W] from x; y may be x. Sums are in
// float64 in the order of the pixels, and each plane is one task, so neither
// batch nor threads change a bit.
func FourierFilterForward(p *Pool, f FourierFilter, y, x []float32) {
	f.check()
	hw := f.H * f.W
	need("FourierFilterForward: y", y, f.Planes*hw)
	need("FourierFilterForward: x", x, f.Planes*hw)
	s := filtering{FourierFilter: f, y: y, x: x, rows: wavesOf(f.H, f.Threshold), cols: wavesOf(f.W, f.Threshold), factor: (1 - float64(f.Scale)) / float64(hw)}
	workers := min(poolThreads(p), max(f.Planes, 1))
	buffer := fourierBuffers.Get().(*[]float64)
	if want := workers * s.size(); len(*buffer) < want {
		*buffer = make([]float64, want)
	}
	s.work = *buffer
	eachOn(p, workers, f.Planes, s, (*filtering).plane)
	fourierBuffers.Put(buffer)
}

// fourierBuffers keeps buffers between calls.
var fourierBuffers = sync.Pool{New: func() any { return new([]float64) }}

// filtering is the state of the loop over planes.
type filtering struct {
	FourierFilter
	y, x       []float32
	rows, cols waves
	factor     float64
	work       []float64 // of all workers, size each
}

// size is what a worker wants: X(u,v), complex; then one row's sum over u, a number for every v.
func (s *filtering) size() int { return 2 * s.cols.count() * (s.rows.count() + 1) }

func (s *filtering) plane(worker, plane int) {
	f, rows, cols, factor := &s.FourierFilter, &s.rows, &s.cols, s.factor
	hw, nu, nv := f.H*f.W, rows.count(), cols.count()
	own := s.work[worker*s.size():][:s.size()]
	coef, line := own[:2*nv*nu], own[2*nv*nu:]
	clear(coef)
	in, out := s.x[plane*hw:][:hw], s.y[plane*hw:][:hw]
	for r := range f.H {
		row := in[r*f.W:][:f.W]
		for v := range nv {
			cos, sin := cols.cos[v*f.W:][:f.W], cols.sin[v*f.W:][:f.W]
			var re, im float64
			for c, a := range row {
				re += float64(float64(a) * cos[c])
				im += float64(float64(a) * sin[c])
			}
			for u := range nu {
				cr, ci := rows.cos[u*f.H+r], rows.sin[u*f.H+r]
				coef[2*(u*nv+v)] += float64(re*cr) - float64(im*ci)
				coef[2*(u*nv+v)+1] += float64(re*ci) + float64(im*cr)
			}
		}
	}
	for r := range f.H {
		clear(line)
		for u := range nu {
			cr, ci := rows.cos[u*f.H+r], -rows.sin[u*f.H+r] // the inverse's waves
			for v := range nv {
				re, im := coef[2*(u*nv+v)], coef[2*(u*nv+v)+1]
				line[2*v] += factor * (float64(re*cr) - float64(im*ci))
				line[2*v+1] += factor * (float64(re*ci) + float64(im*cr))
			}
		}
		from, to := in[r*f.W:][:f.W], out[r*f.W:][:f.W]
		for c, a := range from {
			low := 0.0
			for v := range nv { // Re (line times the inverse's wave)
				low += float64(line[2*v]*cols.cos[v*f.W+c]) + float64(line[2*v+1]*cols.sin[v*f.W+c])
			}
			to[c] = float32(float64(a) - low)
		}
	}
}

// ScaleChannels computes y [N,C,HW] from x: the first channels of every image
// times scale, the others as they are. y may be x.
func ScaleChannels(p *Pool, N, C, HW, first int, scale float32, y, x []float32) {
	if first < 0 || first > C {
		panicf("ScaleChannels: the first %d of %d channels", first, C)
	}
	need("ScaleChannels: y", y, N*C*HW)
	need("ScaleChannels: x", x, N*C*HW)
	eachChunk(p, N*C, rowsPerTask(HW), scaling{operands{y: y, a: x, n: HW, m: C, scale: scale}, first}, func(s *scaling, lo, hi int) {
		for i := lo; i < hi; i++ {
			from, to := s.a[i*s.n:][:s.n], s.y[i*s.n:][:s.n]
			if i%s.m < s.first {
				vecAffine(to, from, s.scale, 0)
			} else {
				copy(to, from)
			}
		}
	})
}

type scaling struct {
	operands
	first int
}
