package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// normals returns n standard normal values of a fixed stream.
func normals(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// ulps returns the distance of got from want in units of want's last place.
func ulps(got float32, want float64) float64 {
	w := float32(want)
	if got == w {
		return 0
	}
	u := float64(math.Nextafter32(float32(math.Abs(want)), float32(math.Inf(1)))) - math.Abs(float64(float32(math.Abs(want))))
	return math.Abs(float64(got)-want) / u
}

// evenly returns n values spread evenly over lo..hi.
func evenly(n int, lo, hi float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(lo + (hi-lo)*float64(i)/float64(n-1))
	}
	return x
}

func TestExpAccuracy(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		x := append(evenly(100_000, -87.3, 88.72), evenly(40_000, -1, 1)...)
		y := make([]float32, len(x))
		vecExp(y, x)
		worst := 0.0
		for i, v := range x {
			worst = max(worst, ulps(y[i], math.Exp(float64(v))))
		}
		t.Logf("worst error %.2f ulp", worst)
		if worst > 2 {
			t.Errorf("worst error %.2f ulp, want at most 2", worst)
		}
	})
}

func TestExpSpecials(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	eachPath(t, func(t *testing.T) {
		for _, tt := range []struct{ x, want float32 }{
			{0, 1}, {inf, inf}, {-inf, 0}, {89, inf}, {1e30, inf}, {-1e30, 0}, {-105, 0}, {nan, nan},
			{-100, float32(math.Exp(-100))}, // subnormal
		} {
			y := make([]float32, 1)
			vecExp(y, []float32{tt.x})
			if y[0] != tt.want && !(y[0] != y[0] && tt.want != tt.want) {
				t.Errorf("exp(%v) = %v, want %v", tt.x, y[0], tt.want)
			}
		}
	})
}

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
func phi64(x float64) float64     { return 0.5 * math.Erfc(-x/math.Sqrt2) }
func density64(x float64) float64 { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }

// elementwise lists the loops of one output with a float64 reference. a, b and
// c are fixed factors; the inputs are u (for y += ..., also the old y) and v.
var elementwise = []struct {
	name string
	run  func(y, u, v []float32)
	want func(u, v float64) float64
	tol  float64 // relative to 1 + |want| + |u| + |v|
}{
	{"exp", func(y, u, v []float32) { vecExp(y, u) }, func(u, v float64) float64 { return math.Exp(u) }, 2.5e-7},
	{"silu", func(y, u, v []float32) { vecSiLU(y, u) }, func(u, v float64) float64 { return u * sigmoid64(u) }, 2e-7},
	{"siluGrad", func(y, u, v []float32) { vecSiLUGrad(y, u, v) },
		func(u, v float64) float64 { s := sigmoid64(v); return u * s * (1 + v*(1-s)) }, 4e-7},
	{"gelu", func(y, u, v []float32) { vecGELU(y, u) }, func(u, v float64) float64 { return u * phi64(u) }, 1e-7},
	{"geluGrad", func(y, u, v []float32) { vecGELUGrad(y, u, v) },
		func(u, v float64) float64 { return u * (phi64(v) + v*density64(v)) }, 3e-7},
	{"affine", func(y, u, v []float32) { vecAffine(y, u, 1.25, -0.5) }, func(u, v float64) float64 { return 1.25*u - 0.5 }, 1e-7},
	{"affineSiLU", func(y, u, v []float32) { vecAffineSiLU(y, u, 1.25, -0.5) },
		func(u, v float64) float64 { z := 1.25*u - 0.5; return z * sigmoid64(z) }, 3e-7},
	{"affineSiLUGrad", func(y, u, v []float32) { vecAffineSiLUGrad(y, u, v, 1.25, -0.5) },
		func(u, v float64) float64 { z := 1.25*v - 0.5; s := sigmoid64(z); return u * s * (1 + z*(1-s)) }, 5e-7},
	{"affine2", func(y, u, v []float32) { vecAffine2(y, u, v, 1.25, -0.5, 3) },
		func(u, v float64) float64 { return 1.25*u - 0.5*v + 3 }, 2e-7},
	{"add", vecAdd, func(u, v float64) float64 { return u + v }, 1e-7},
	{"mul", vecMul, func(u, v float64) float64 { return u * v }, 1e-7},
	{"axpy", func(y, u, v []float32) { copy(y, u); vecAxpy(y, v, 0.75) }, func(u, v float64) float64 { return u + 0.75*v }, 1e-7},
	{"lerp", func(y, u, v []float32) { vecLerp(y, u, v, 0.3, 0.7) },
		func(u, v float64) float64 { return float64(float32(0.3))*u + float64(float32(0.7))*v }, 1e-7},
}

func TestElementwiseAgainstFloat64(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, f := range elementwise {
			t.Run(f.name, func(t *testing.T) {
				for _, n := range []int{0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 100, 4099} {
					u, v := normals(n, 1), normals(n, 2)
					for i := range v { // reach far into the tails as well
						if i%3 == 0 {
							u[i], v[i] = 4*u[i], 4*v[i]
						}
					}
					y, check := fenced(t, "y", n)
					f.run(y, u, v)
					check()
					for i, got := range y {
						a, b := float64(u[i]), float64(v[i])
						want := f.want(a, b)
						if !(math.Abs(float64(got)-want) <= f.tol*(1+math.Abs(want)+math.Abs(a)+math.Abs(b))) {
							t.Fatalf("n %d: element %d of (%v, %v) is %v, want %v", n, i, u[i], v[i], got, want)
						}
					}
				}
			})
		}
	})
}

// TestElementwisePlaceDoesNotMatter: an element's bits do not depend on its
// index, so work may be cut anywhere.
func TestElementwisePlaceDoesNotMatter(t *testing.T) {
	u, v := normals(37, 3), normals(37, 4)
	eachPath(t, func(t *testing.T) {
		for _, f := range elementwise {
			whole := make([]float32, 37)
			f.run(whole, u, v)
			for i := range whole {
				one := make([]float32, 1)
				f.run(one, u[i:i+1], v[i:i+1])
				if math.Float32bits(one[0]) != math.Float32bits(whole[i]) {
					t.Errorf("%s: element %d alone is %v, in a row %v", f.name, i, one[0], whole[i])
				}
			}
		}
	})
}

// TestElementwiseKeepsNaN: NaN in any input is NaN in the output, in the
// vector part and in the tail.
func TestElementwiseKeepsNaN(t *testing.T) {
	nan := float32(math.NaN())
	eachPath(t, func(t *testing.T) {
		for _, f := range elementwise {
			for _, at := range []int{2, 10} {
				u, v, y := normals(11, 5), normals(11, 6), make([]float32, 11)
				u[at], v[at] = nan, nan
				f.run(y, u, v)
				for i, got := range y {
					if (got != got) != (i == at) {
						t.Errorf("%s: NaN at %d, output %d is %v", f.name, at, i, got)
					}
				}
			}
		}
	})
}

// TestActivationTails: far from 0 the functions reach their limits and finite
// inputs give finite outputs.
func TestActivationTails(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		x := []float32{-1e10, -1000, -100, -88, -30, 30, 88, 100, 1000, 1e10}
		ones := make([]float32, len(x))
		for i := range ones {
			ones[i] = 1
		}
		y, d := make([]float32, len(x)), make([]float32, len(x))
		for act := SiLU; act <= QuickGELU; act++ {
			ActForward(nil, act, y, x)
			ActBackward(nil, act, d, ones, x)
			for i, v := range x {
				want, slope := float32(0), float32(0)
				if v > 0 {
					want, slope = v, 1
				}
				if !(math.Abs(float64(y[i]-want)) <= 1e-5) || !(math.Abs(float64(d[i]-slope)) <= 1e-5) {
					t.Errorf("%v(%v) = %v with slope %v, want %v and %v", act, v, y[i], d[i], want, slope)
				}
			}
		}
	})
}

func TestReductions(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, n := range []int{1, 3, 7, 8, 9, 15, 16, 17, 40, 100_003} {
			x, z := normals(n, 7), normals(n, 8)
			for i := range x {
				x[i] += 100 // an offset that single-precision sums would not survive
			}
			var sum, sq, dot, exps float64
			top := math.Inf(-1)
			for i, v := range x {
				d := float64(v)
				sum += d
				sq += (d - 99.5) * (d - 99.5)
				dot += d * float64(z[i])
				top = max(top, d)
			}
			s, m := float32(0.75), float32(0.75*top)
			for _, v := range x {
				exps += math.Exp(0.75*float64(v) - float64(m))
			}
			near := func(name string, got, want, tol float64) {
				t.Helper()
				if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) {
					t.Errorf("n %d: %s is %v, want %v", n, name, got, want)
				}
			}
			near("sum", vecSum(x), sum, 1e-12)
			near("sum of squares", vecSumSquares(x, 99.5), sq, 1e-12)
			near("dot", vecDot(x, z), dot, 1e-10)
			near("max", float64(vecMax(x)), top, 0)
			y, check := fenced(t, "y", n)
			near("sum of exponentials", float64(vecExpSum(y, x, s, m)), exps, 2e-5)
			check()
		}
		for i := range 20 { // the largest element may stand anywhere, all may be negative
			x := evenly(20, -5, -4)
			x[i] = -1
			if got := vecMax(x); got != -1 {
				t.Errorf("max with the largest at %d is %v", i, got)
			}
		}
		if got := vecMax(nil); !math.IsInf(float64(got), -1) {
			t.Errorf("max of nothing is %v, want -Inf", got)
		}
	})
}

func TestExpSumMasked(t *testing.T) {
	inf := float32(math.Inf(1))
	eachPath(t, func(t *testing.T) {
		x := []float32{1, -inf, 2, -inf, 1, -inf, 2, -inf, 3, -inf}
		y := make([]float32, len(x))
		vecExpSum(y, x, 1, 3)
		for i := 1; i < len(x); i += 2 {
			if y[i] != 0 {
				t.Errorf("exp(-Inf) at %d is %v, want exactly 0", i, y[i])
			}
		}
		x[9] = float32(math.NaN())
		if s := vecExpSum(y, x, 1, 3); s == s {
			t.Errorf("sum over NaN is %v", s)
		}
	})
}

func TestAccumulate(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for n := range 12 {
			x := normals(n, 9)
			acc := make([]float64, n+1)
			for i := range acc {
				acc[i] = float64(i)
			}
			vecAccumulate(acc[:n], x)
			for i, v := range x {
				if want := float64(i) + float64(v); acc[i] != want {
					t.Errorf("n %d: element %d is %v, want %v", n, i, acc[i], want)
				}
			}
			if acc[n] != float64(n) {
				t.Errorf("n %d: wrote past the end", n)
			}
		}
	})
}

// FuzzElementwise holds each path to the portable loops over lengths, offsets
// and values.
func FuzzElementwise(f *testing.F) {
	f.Add(uint64(1), uint8(17), uint8(3))
	f.Add(uint64(2), uint8(8), uint8(0))
	f.Fuzz(func(t *testing.T, seed uint64, length, offset uint8) {
		n, o := int(length), int(offset)
		u, v := normals(n+o, seed)[o:], normals(n+o, seed+1)[o:]
		for _, e := range elementwise {
			usePath(t, &portableEngine)
			want := make([]float32, n)
			e.run(want, u, v)
			for _, path := range engines() {
				usePath(t, path)
				y, check := fenced(t, "y", n)
				e.run(y, u, v)
				check()
				for i := range y {
					if !(math.Abs(float64(y[i]-want[i])) <= 2*e.tol*float64(1+abs32(want[i])+abs32(u[i])+abs32(v[i]))) {
						t.Fatalf("%s on %s: element %d is %v, portable %v", e.name, path.name, i, y[i], want[i])
					}
				}
			}
		}
	})
}

func abs32(x float32) float32 { return float32(math.Abs(float64(x))) }

func BenchmarkElementwise(b *testing.B) {
	const n = 4096
	u, v, y := normals(n, 1), normals(n, 2), make([]float32, n)
	saved := active
	defer func() { active = saved }()
	for _, e := range engines() {
		active = e
		for _, f := range elementwise {
			b.Run(fmt.Sprintf("%s/%s", e.name, f.name), func(b *testing.B) {
				for b.Loop() {
					f.run(y, u, v)
				}
				perElement(b, n)
			})
		}
		for _, r := range []struct {
			name string
			run  func()
		}{
			{"sum", func() { vecSum(u) }},
			{"sumSquares", func() { vecSumSquares(u, 0.1) }},
			{"dot", func() { vecDot(u, v) }},
			{"max", func() { vecMax(u) }},
			{"expSum", func() { vecExpSum(y, u, 1, 4) }},
		} {
			b.Run(fmt.Sprintf("%s/%s", e.name, r.name), func(b *testing.B) {
				for b.Loop() {
					r.run()
				}
				perElement(b, n)
			})
		}
	}
}
