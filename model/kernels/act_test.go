package kernels

import (
	"fmt"
	"math"
	"testing"
)

// everywhere is numbers from the smallest subnormal to the largest of both signs, dense where the activations bend.
func everywhere() []float32 {
	x := append(evenly(200_001, -100, 100), evenly(100_001, -7, 7)...)
	for e := -149; e < 128; e++ {
		for _, m := range []float64{1, 1.3, 1.999} {
			x = append(x, float32(math.Ldexp(m, e)), -float32(math.Ldexp(m, e)))
		}
	}
	return append(x, 0, 86.9, 87, 87.1, 87.5, 88, 88.8, 89, -86.9, -87, -87.1, -87.5, -88, -88.8, -89)
}

// TestSiLUEverywhere bounds the error of SiLU by that of a float32 exponential, whose argument's last place is |x|*2^-24.
func TestSiLUEverywhere(t *testing.T) {
	x := everywhere()
	eachPath(t, func(t *testing.T) {
		y, z := make([]float32, len(x)), make([]float32, len(x))
		vecSiLU(y, x)
		vecAffineSiLU(z, x, 1, 0)
		sameBits(t, "silu(1*x+0)", z, y)
		worst := 0.0
		for i, v := range x {
			v := float64(v)
			want := v * sigmoid64(v)
			// Below -87 the result is x*1.6e-38 or 0 instead of something smaller yet.
			tol := (2.5e-7+1.5e-8*math.Abs(v))*math.Abs(want) + 1e-45
			if v < -87 {
				tol = 1.7e-38 * -v
			}
			if !(math.Abs(float64(y[i])-want) <= tol) {
				t.Fatalf("silu(%v) is %v, want %v", v, y[i], want)
			}
			if math.Abs(v) < 20 && want != 0 && math.Abs(want) > 1e-30 {
				worst = max(worst, math.Abs(float64(y[i])/want-1))
			}
			if v > 88 && float64(y[i]) != v {
				t.Fatalf("silu(%v) is %v", v, y[i])
			}
		}
		t.Logf("largest relative error for |x| < 20: %.2g", worst)
	})
}

// TestSiLUGradEverywhere: the slope is right within the rounding of its two terms, and 1 and 0 far out.
func TestSiLUGradEverywhere(t *testing.T) {
	x := everywhere()
	ones := make([]float32, len(x))
	for i := range ones {
		ones[i] = 1
	}
	eachPath(t, func(t *testing.T) {
		d, e := make([]float32, len(x)), make([]float32, len(x))
		vecSiLUGrad(d, ones, x)
		vecAffineSiLUGrad(e, ones, x, 1, 0)
		sameBits(t, "slope at 1*x+0", e, d)
		for i, v := range x {
			v := float64(v)
			s := sigmoid64(v)
			want := s
			if math.Abs(v) < 700 {
				want = s * (1 + v*sigmoid64(-v))
			}
			if v < -87 {
				want = 0
			}
			if !(math.Abs(float64(d[i])-want) <= 3e-7) {
				t.Fatalf("slope at %v is %v, want %v", v, d[i], want)
			}
		}
	})
}

// TestGELUEverywhere bounds the error by a last place of 1, or of the result where that is larger.
func TestGELUEverywhere(t *testing.T) {
	x := everywhere()
	ones := make([]float32, len(x))
	for i := range ones {
		ones[i] = 1
	}
	eachPath(t, func(t *testing.T) {
		y, z := make([]float32, len(x)), make([]float32, len(x))
		vecGELU(y, x)
		vecGEGLU(z, ones, x)
		sameBits(t, "1*gelu(x)", z, y)
		worst, small := 0.0, 0.0
		for i, v := range x {
			v := float64(v)
			want := v * phi64(v)
			err := math.Abs(float64(y[i]) - want)
			if !(err <= 1.2e-7*max(1, math.Abs(want))) {
				t.Fatalf("gelu(%v) is %v, want %v", v, y[i], want)
			}
			if math.Abs(v) < 0.25 && math.Abs(v) > 1e-30 {
				// Near 0 it is the relative error that is bounded.
				small = max(small, err/math.Abs(want))
			}
			worst = max(worst, err/max(1, math.Abs(want)))
		}
		t.Logf("largest error %.2g of max(1,|y|), %.2g relative for |x| < 0.25", worst, small)
		if small > 5e-7 {
			t.Errorf("largest relative error for |x| < 0.25 is %.2g", small)
		}
	})
}

// TestActivationsAtInfinity: NaN stays NaN, +Inf is kept; -Inf gives 0, -Inf or NaN, never a number.
func TestActivationsAtInfinity(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	eachPath(t, func(t *testing.T) {
		for name, f := range map[string]func(y, x []float32){"silu": vecSiLU, "gelu": vecGELU, "affineSiLU": func(y, x []float32) { vecAffineSiLU(y, x, 2, 1) }} {
			for at := range 27 { // in pairs of vectors, one vector and a tail
				x, y := make([]float32, 27), make([]float32, 27)
				for _, v := range []float32{inf, -inf, nan} {
					x[at] = v
					f(y, x)
					got := float64(y[at])
					ok := v != v && got != got || v == inf && math.IsInf(got, 1) || v == -inf && (got != got || got == 0 || math.IsInf(got, -1))
					if !ok {
						t.Errorf("%s(%v) at %d is %v", name, v, at, got)
					}
					for i, w := range y {
						if i != at && (w != w || math.IsInf(float64(w), 0)) {
							t.Errorf("%s: %v at %d makes %v at %d", name, v, at, w, i)
						}
					}
				}
			}
		}
	})
}

// TestActivationPlace: an element's bits are the same in a pair of vectors, in one, and in a tail of any length, and no path is
// further from the portable one than both may be from the truth.
func TestActivationPlace(t *testing.T) {
	u, v := normals(64, 11), normals(64, 12)
	for i := range v {
		v[i] *= 3
	}
	functions := []struct {
		name string
		run  func(y, u, v []float32)
	}{
		{"silu", func(y, _, v []float32) { vecSiLU(y, v) }},
		{"affineSiLU", func(y, _, v []float32) { vecAffineSiLU(y, v, 1.25, -0.5) }},
		{"gelu", func(y, _, v []float32) { vecGELU(y, v) }},
		{"geglu", vecGEGLU},
	}
	for _, f := range functions {
		var reference []float32
		eachPath(t, func(t *testing.T) {
			whole := make([]float32, 64)
			f.run(whole, u, v)
			for from := range 12 {
				for to := from + 1; to <= 64; to++ {
					y, check := fenced(t, "y", to-from)
					f.run(y, u[from:to], v[from:to])
					check()
					sameBits(t, fmt.Sprintf("%s of %d..%d", f.name, from, to), y, whole[from:to])
				}
			}
			if reference == nil {
				reference = whole
			}
			for i, r := range reference {
				if !(abs32(r-whole[i]) <= 5e-7*(1+abs32(r))) {
					t.Errorf("%s: element %d is %v, portable %v", f.name, i, whole[i], r)
				}
			}
		})
	}
}

func TestGEGLUAgainstFloat64(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, o := range []int{1, 5, 8, 21, 96} {
			const T = 7
			x := normals(2*T*o, 1)
			y, check := fenced(t, "y", T*o)
			GEGLUForward(nil, T, o, y, x)
			check()
			for i, got := range y {
				value, gate := float64(x[i/o*2*o+i%o]), float64(x[(i/o*2+1)*o+i%o])
				want := value * gate * phi64(gate)
				if !(math.Abs(float64(got)-want) <= 1.2e-7*max(1, math.Abs(value))*max(1, math.Abs(gate))) {
					t.Fatalf("o %d: element %d is %v, want %v", o, i, got, want)
				}
			}
		}
	})
}
