package kernels

import (
	"fmt"
	"math"
	"math/cmplx"
	"reflect"
	"strings"
	"testing"
)

// filterByTransform is the filter as upstream writes it: the whole spectrum,
// shifted so that frequency 0 is in the middle, a window of it scaled, and back.
func filterByTransform(x []float32, h, w, threshold int, scale float64) []float64 {
	wave := func(u, j, n int) complex128 {
		return cmplx.Exp(complex(0, 2*math.Pi*float64(u)*float64(j)/float64(n)))
	}
	spectrum := make([]complex128, h*w)
	for u := range h {
		for v := range w {
			fu, fv := u-h/2, v-w/2
			for r := range h {
				for c := range w {
					spectrum[u*w+v] += complex(float64(x[r*w+c]), 0) * cmplx.Conj(wave(fu, r, h)*wave(fv, c, w))
				}
			}
			if fu >= -threshold && fu < threshold && fv >= -threshold && fv < threshold {
				spectrum[u*w+v] *= complex(scale, 0)
			}
		}
	}
	y := make([]float64, h*w)
	for r := range h {
		for c := range w {
			sum := complex(0, 0)
			for u := range h {
				for v := range w {
					sum += spectrum[u*w+v] * wave(u-h/2, r, h) * wave(v-w/2, c, w)
				}
			}
			y[r*w+c] = real(sum) / float64(h*w)
		}
	}
	return y
}

// The closed form is the transform, on even, odd and tiny sides, whatever the
// number of planes and threads, and in place.
func TestFourierFilter(t *testing.T) {
	for _, s := range [][3]int{{8, 8, 1}, {8, 8, 4}, {7, 9, 2}, {4, 6, 2}, {1, 1, 1}, {1, 5, 1}, {2, 3, 1}, {3, 2, 1}, {12, 5, 2}} {
		h, w, threshold := s[0], s[1], s[2]
		for _, scale := range []float32{0.9, 0.2, 0, 1, -1.5} {
			const planes = 3
			f := FourierFilter{Planes: planes, H: h, W: w, Threshold: threshold, Scale: scale}
			x := normals(planes*h*w, uint64(h*w))
			y := make([]float32, len(x))
			FourierFilterForward(nil, f, y, x)
			for p := range planes {
				want := filterByTransform(x[p*h*w:(p+1)*h*w], h, w, threshold, float64(scale))
				for i, v := range want {
					if d := math.Abs(float64(y[p*h*w+i]) - v); !(d <= 1e-6) {
						t.Fatalf("%dx%d, threshold %d, scale %v: plane %d at %d is %v, want %v", h, w, threshold, scale, p, i, y[p*h*w+i], v)
					}
				}
			}
			if scale == 1 && !reflect.DeepEqual(x, y) {
				t.Errorf("%dx%d: scale 1 is not the identity", h, w)
			}
			other := append([]float32(nil), x...)
			FourierFilterForward(NewPool(3), f, other, other)
			if !reflect.DeepEqual(other, y) {
				t.Errorf("%dx%d, threshold %d: in place on three threads it has other bits", h, w, threshold)
			}
			f.Planes = 1
			FourierFilterForward(nil, f, other[:h*w], x[h*w:2*h*w])
			if !reflect.DeepEqual(other[:h*w], y[h*w:2*h*w]) {
				t.Errorf("%dx%d, threshold %d: a plane alone has other bits", h, w, threshold)
			}
		}
	}
}

// Windows that upstream's slices would wrap, and sizes that are none, are refused.
func TestFourierFilterRefuses(t *testing.T) {
	for _, f := range []FourierFilter{
		{Planes: 1, H: 4, W: 4, Threshold: 0}, {Planes: 1, H: 4, W: 4, Threshold: 3}, {Planes: 1, H: 8, W: 3, Threshold: 2},
		{Planes: 1, H: 0, W: 4, Threshold: 1}, {Planes: -1, H: 4, W: 4, Threshold: 1},
	} {
		func() {
			defer func() {
				if r := fmt.Sprint(recover()); !strings.Contains(r, "FourierFilter") {
					t.Errorf("%+v: panic %q, want one that names the filter", f, r)
				}
			}()
			FourierFilterForward(nil, f, make([]float32, 64), make([]float32, 64))
		}()
	}
}

func TestScaleChannels(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		const n, c, hw = 2, 5, 37
		x := normals(n*c*hw, 3)
		for _, first := range []int{0, 2, c} {
			y := append([]float32(nil), x...)
			ScaleChannels(NewPool(2), n, c, hw, first, 1.4, y, y)
			for i, v := range x {
				want := v
				if i/hw%c < first {
					want *= 1.4
				}
				if y[i] != want {
					t.Fatalf("first %d: value %d is %v, want %v", first, i, y[i], want)
				}
			}
		}
	})
}
