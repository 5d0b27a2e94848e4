package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// matmulPaths runs a test with every engine of this machine, and with the widest tile in plain Go.
func matmulPaths(t *testing.T, f func(t *testing.T)) {
	for _, e := range append(slices.Clone(engines()), &wideEngine) {
		t.Run(e.name, func(t *testing.T) {
			usePath(t, e)
			f(t)
		})
	}
}

// pack returns w in the layout of l's Packing.
func (l Linear) pack(t testing.TB, p *Pool, w []float32) []float32 {
	t.Helper()
	k, ok := l.Packing()
	if !ok {
		t.Fatalf("%+v has no packing", l)
	}
	packed, guard := fenced(t, "packed", k.Floats())
	k.Pack(p, packed, w)
	guard()
	return packed
}

// matmulShapes have every way through a large product: sums of one block and of many, sums that wait for others, copied rows of
// A, B packed by all threads and by each, and edges everywhere.
func matmulShapes(r *rand.Rand) []Linear {
	shapes := []Linear{
		{T: 1, K: 1, O: 1}, {T: 6, K: 256, O: 16}, {T: 7, K: 257, O: 17}, {T: 64, K: 96, O: 96}, {T: 100, K: 512, O: 144},
		{T: 5, K: 1700, O: 40}, {T: 110, K: 1601, O: 33}, {T: 30, K: 2560, O: 260}, {T: 400, K: 9, O: 24}, {T: 97, K: 1024, O: 8},
	}
	for range 25 {
		shapes = append(shapes, Linear{T: 1 + r.IntN(60), K: 1 + r.IntN(300), O: 1 + r.IntN(90)})
	}
	return shapes
}

// LinearRun is the product with bias and residual in place or apart, the same in every bit for packed weights, for any threads
// and for any piece of the rows.
func TestLinearRun(t *testing.T) {
	matmulPaths(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(31, 9))
		two := NewPool(2)
		defer two.Close()
		many := NewPool(5)
		defer many.Close()
		for i, l := range matmulShapes(r) {
			x, w, bias, residual := uniform(r, l.T*l.K), uniform(r, l.O*l.K), uniform(r, l.O), uniform(r, l.T*l.O)
			if i%4 == 1 {
				bias = nil
			}
			if i%3 == 1 {
				residual = nil
			}
			packed := l.pack(t, two, w)
			name := fmt.Sprintf("%+v", l)
			run := func(p *Pool, a LinearArgs, inPlace bool) []float32 {
				t.Helper()
				y, guard := fenced(t, name, l.T*l.O)
				scratch, guardS := fenced(t, "scratch", l.Scratch(p.Threads()))
				a.Y, a.X, a.Bias, a.Residual, a.Scratch = y, x, bias, residual, scratch
				if inPlace && residual != nil {
					copy(y, residual)
					a.Residual = y
				}
				LinearRun(p, l, a)
				guard()
				guardS()
				return y
			}
			y := run(nil, LinearArgs{W: w}, false)
			initial := func(i, j int) float32 {
				var s float32
				if bias != nil {
					s = bias[j]
				}
				return s
			}
			want, scale := naiveProduct(l.T, l.O, l.K, func(i, p int) float32 { return x[i*l.K+p] }, func(p, j int) float32 { return w[j*l.K+p] }, initial)
			for i, v := range residual {
				want[i] += float64(v)
				scale[i] += math.Abs(float64(v))
			}
			near(t, name, y, want, scale)
			sameBits(t, name+" packed", run(nil, LinearArgs{Packed: packed}, false), y)
			sameBits(t, name+" two threads", run(two, LinearArgs{W: w}, true), y)
			sameBits(t, name+" packed, two threads", run(two, LinearArgs{W: w, Packed: packed}, true), y)
			sameBits(t, name+" five threads", run(many, LinearArgs{W: w}, true), y)
			sameBits(t, name+" packed, five threads", run(many, LinearArgs{Packed: packed}, false), y)
			first := r.IntN(l.T)
			part := Linear{T: 1 + r.IntN(l.T-first), K: l.K, O: l.O}
			got := make([]float32, part.T*l.O)
			a := LinearArgs{Y: got, X: x[first*l.K:], W: w, Bias: bias, Scratch: make([]float32, part.Scratch(2))}
			if residual != nil {
				a.Residual = residual[first*l.O:]
			}
			LinearRun(two, part, a)
			sameBits(t, name+" some rows", got, y[first*l.O:][:len(got)])
		}
	})
}

// The order of sums is the documented one: blocks of kc in order, the bias after the first, the residual after the last.
func TestLinearRunOrder(t *testing.T) {
	usePath(t, &portableEngine)
	r := rand.New(rand.NewPCG(32, 9))
	for _, l := range []Linear{{T: 9, K: 700, O: 21}, {T: 3, K: 200, O: 8}, {T: 4, K: 2000, O: 9}} {
		x, w, bias, residual := uniform(r, l.T*l.K), uniform(r, l.O*l.K), uniform(r, l.O), uniform(r, l.T*l.O)
		y, want := make([]float32, l.T*l.O), make([]float32, l.T*l.O)
		LinearRun(nil, l, LinearArgs{Y: y, X: x, W: w, Bias: bias, Residual: residual, Scratch: make([]float32, l.Scratch(1))})
		for i := range l.T {
			for j := range l.O {
				var total float32
				for p0 := 0; p0 < l.K; p0 += 256 {
					var s float32
					for p := p0; p < min(p0+256, l.K); p++ {
						s += float32(x[i*l.K+p] * w[j*l.K+p])
					}
					if p0 == 0 {
						total = s + bias[j]
					} else {
						total += s
					}
				}
				want[i*l.O+j] = total + residual[i*l.O+j]
			}
		}
		sameBits(t, fmt.Sprintf("%+v", l), y, want)
	}
}

// The error is at most three times that of a plain float32 sum, for values of unit scale.
func TestLinearRunError(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(33, 9))
		for _, l := range []Linear{{T: 12, K: 320, O: 64}, {T: 12, K: 1280, O: 64}, {T: 8, K: 5120, O: 48}} {
			x, w := make([]float32, l.T*l.K), make([]float32, l.O*l.K)
			for _, s := range [][]float32{x, w} {
				for i := range s {
					s[i] = float32(r.NormFloat64())
				}
			}
			y := make([]float32, l.T*l.O)
			LinearRun(nil, l, LinearArgs{Y: y, X: x, Packed: l.pack(t, nil, w), Scratch: make([]float32, l.Scratch(1))})
			var plain, ours float64
			for i := range l.T {
				for j := range l.O {
					var exact float64
					var sum float32
					for p := range l.K {
						exact += float64(x[i*l.K+p]) * float64(w[j*l.K+p])
						sum += float32(x[i*l.K+p] * w[j*l.K+p])
					}
					plain += math.Pow(float64(sum)-exact, 2)
					ours += math.Pow(float64(y[i*l.O+j])-exact, 2)
				}
			}
			if !(math.Sqrt(ours) <= 3*math.Sqrt(plain)) || ours == 0 {
				t.Errorf("%+v: error %g, that of a plain sum %g", l, math.Sqrt(ours), math.Sqrt(plain))
			}
		}
	})
}

// What is no number reaches exactly the outputs that it belongs to.
func TestLinearRunNaN(t *testing.T) {
	matmulPaths(t, func(t *testing.T) {
		nan := float32(math.NaN())
		r := rand.New(rand.NewPCG(34, 9))
		for _, l := range []Linear{{T: 10, K: 40, O: 37}, {T: 8, K: 600, O: 16}} {
			const row, col = 7, 11
			for _, in := range []string{"x", "w", "bias", "residual"} {
				x, w, bias, residual := uniform(r, l.T*l.K), uniform(r, l.O*l.K), uniform(r, l.O), uniform(r, l.T*l.O)
				bad := func(i, j int) bool { return j == col }
				switch in {
				case "x":
					x[row*l.K+l.K/2], bad = nan, func(i, j int) bool { return i == row }
				case "w":
					w[col*l.K+l.K-1] = float32(math.Inf(1))
					for i := range l.T {
						x[i*l.K+l.K-1] = 0 // 0 times infinity
					}
				case "bias":
					bias[col] = nan
				case "residual":
					residual[row*l.O+col], bad = nan, func(i, j int) bool { return i == row && j == col }
				}
				LinearRun(nil, l, LinearArgs{Y: residual, X: x, Packed: l.pack(t, nil, w), Bias: bias, Residual: residual, Scratch: make([]float32, l.Scratch(1))})
				for i, v := range residual {
					if want := bad(i/l.O, i%l.O); math.IsNaN(float64(v)) != want {
						t.Fatalf("%+v: NaN in %s: output [%d,%d] is %v", l, in, i/l.O, i%l.O, v)
					}
				}
			}
		}
	})
}

// The large product has the bits of the small one, whichever way A lies.
func TestGemmLarge(t *testing.T) {
	matmulPaths(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(35, 9))
		p := NewPool(2)
		defer p.Close()
		for i := range 24 {
			m, n, k := 1+r.IntN(120), 1+r.IntN(90), 1+r.IntN(80)
			if i%4 == 0 {
				k += 500
			}
			if i%8 == 0 {
				m, k = 1+r.IntN(20), k+1100
			}
			ars, acs := k+r.IntN(3), 1
			switch i % 3 {
			case 1:
				ars, acs = 1, m+r.IntN(3)
			case 2:
				ars, acs = 2, 2*m
			}
			ldb, ldc := n+r.IntN(4), n+r.IntN(4)
			a, b, before := uniform(r, (m-1)*ars+(k-1)*acs+1), uniform(r, (k-1)*ldb+n), uniform(r, (m-1)*ldc+n)
			want, got := slices.Clone(before), slices.Clone(before)
			gemmBlock(m, n, k, want, ldc, a, ars, acs, b, ldb, i%2 == 0)
			gemmLarge(p, m, n, k, got, ldc, a, ars, acs, b, ldb, i%2 == 0)
			sameBits(t, fmt.Sprintf("%dx%dx%d, A by %d and %d", m, n, k, ars, acs), got, want)
		}
		for _, s := range [][3]int{{1030, 40, 70}, {100, 650, 260}} { // what Gemm itself takes for large
			m, n, k := s[0], s[1], s[2]
			a, b := uniform(r, m*k), uniform(r, k*n)
			got, want := make([]float32, m*n), make([]float32, m*n)
			ars, acs := k, 1
			if n > m {
				ars, acs = 1, m
			}
			Gemm(p, m, n, k, got, n, a, ars, acs, b, n, false)
			gemmBlock(m, n, k, want, n, a, ars, acs, b, n, false)
			sameBits(t, fmt.Sprint(s), got, want)
		}
	})
}

// A strip is what tiles make of it, in every bit.
func TestStripEqualsGeneric(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		e, nr := active, 2*active.vec
		r := rand.New(rand.NewPCG(36, 9))
		for i := range 120 {
			s := randomStrip(r, e, func(v []float32) []float32 { return v })
			before := slices.Clone(s.c)
			other := s
			other.c = slices.Clone(before)
			if i%4 == 0 { // residual, or what is added to, in place
				s.residual, s.ldr = s.c, s.ldc
				other.residual, other.ldr = other.c, s.ldc
			} else if i%4 == 1 && s.bias == nil {
				s.from, s.ldf = s.c, s.ldc
				other.from, other.ldf = other.c, s.ldc
			}
			s.run(e)
			other.generic(e)
			sameBits(t, fmt.Sprintf("%d rows of %d, %d terms", s.m, nr, s.k), s.c, other.c)
		}
	})
}

// randomStrip draws a strip, every slice exactly as long as it has to be.
func randomStrip(r *rand.Rand, e *engine, alloc func(values []float32) []float32) strip {
	nr := 2 * e.vec
	s := strip{m: 1 + r.IntN(40), k: 1 + r.IntN(24)}
	if r.IntN(8) == 0 {
		s.k = e.kc - r.IntN(3)
	}
	strips := ceilDiv(s.m, e.mr)
	last := s.m - (strips-1)*e.mr
	if r.IntN(2) == 0 {
		s.ars, s.acs = s.k+r.IntN(3), 1
		s.step = e.mr * s.ars
	} else {
		s.ars, s.acs, s.step = 1, e.mr, e.mr*s.k
	}
	s.a = alloc(uniform(r, (strips-1)*s.step+(last-1)*s.ars+(s.k-1)*s.acs+1))
	s.b = alloc(uniform(r, s.k*nr))
	matrix := func() ([]float32, int) {
		ld := nr + r.IntN(5)
		return alloc(uniform(r, (s.m-1)*ld+nr)), ld
	}
	s.c, s.ldc = matrix()
	switch r.IntN(3) {
	case 0:
		s.bias = alloc(uniform(r, nr))
	case 1:
		s.from, s.ldf = matrix()
	}
	if r.IntN(2) == 0 {
		s.residual, s.ldr = matrix()
	}
	if r.IntN(2) == 0 {
		s.next, s.ahead = s.b, 16*(1+r.IntN(8))
	}
	return s
}

func TestLinearRunPanics(t *testing.T) {
	l := Linear{T: 3, K: 5, O: 7}
	floats := func(n int) []float32 { return make([]float32, n) }
	good := func() LinearArgs {
		return LinearArgs{Y: floats(21), X: floats(15), W: floats(35), Bias: floats(7), Residual: floats(21), Scratch: floats(l.Scratch(1))}
	}
	LinearRun(nil, l, good())
	for name, spoil := range map[string]func(a *LinearArgs){
		"y":        func(a *LinearArgs) { a.Y = a.Y[1:] },
		"x":        func(a *LinearArgs) { a.X = a.X[1:] },
		"w":        func(a *LinearArgs) { a.W = a.W[1:] },
		"packed":   func(a *LinearArgs) { a.Packed = floats(35) },
		"bias":     func(a *LinearArgs) { a.Bias = a.Bias[1:] },
		"residual": func(a *LinearArgs) { a.Residual = a.Residual[1:] },
		"scratch":  func(a *LinearArgs) { a.Scratch = nil },
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !containsWord(fmt.Sprint(r), name) {
					t.Errorf("%s too short: %v", name, r)
				}
			}()
			a := good()
			spoil(&a)
			LinearRun(nil, l, a)
		}()
	}
}

func TestPackingRefuses(t *testing.T) {
	l := Linear{T: 1, K: 8, O: 8}
	k, _ := l.Packing()
	if other := (Linear{T: 99, K: 8, O: 8}); func() Packing { p, _ := other.Packing(); return p }() != k {
		t.Error("the packing depends on T")
	}
	w := make([]float32, 64)
	for name, f := range map[string]func(){
		"dst":  func() { k.Pack(nil, make([]float32, k.Floats()-1), w) },
		"w":    func() { k.Pack(nil, make([]float32, k.Floats()), w[1:]) },
		"path": func() { other := k; other.Engine = "none"; other.Pack(nil, make([]float32, k.Floats()), w) },
		"kind": func() { other := k; other.Kind = NoPacking; other.Pack(nil, make([]float32, k.Floats()), w) },
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !containsWord(fmt.Sprint(r), name) {
					t.Errorf("%s: %v", name, r)
				}
			}()
			f()
		}()
	}
}

func BenchmarkLinearRun(b *testing.B) {
	for _, l := range []Linear{{T: 8192, K: 320, O: 2560}, {T: 512, K: 1280, O: 10240}, {T: 512, K: 5120, O: 1280}, {T: 4096, K: 320, O: 320}, {T: 2048, K: 96, O: 768}, {T: 8192, K: 48, O: 48}} {
		r := rand.New(rand.NewPCG(1, 1))
		x, w, bias, y := uniform(r, l.T*l.K), uniform(r, l.O*l.K), uniform(r, l.O), make([]float32, l.T*l.O)
		packed := l.pack(b, nil, w)
		for _, threads := range []int{1, 2} {
			for name, a := range map[string]LinearArgs{
				"plain": {W: w, Bias: bias}, "packed": {Packed: packed, Bias: bias}, "residual": {Packed: packed, Bias: bias, Residual: y},
			} {
				b.Run(fmt.Sprintf("t%d_%d-%d/%s/t%d", l.T, l.K, l.O, name, threads), func(b *testing.B) {
					peak(threads)
					p := NewPool(threads)
					defer p.Close()
					a.Y, a.X, a.Scratch = y, x, make([]float32, l.Scratch(threads))
					for b.Loop() {
						LinearRun(p, l, a)
					}
					report(b, 2*float64(l.T)*float64(l.K)*float64(l.O), threads)
				})
			}
		}
	}
}
