package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// naiveProduct returns A*B (+ initial) in float64 with the scale of each sum's rounding.
func naiveProduct(m, n, k int, a func(i, p int) float32, b func(p, j int) float32, initial func(i, j int) float32) (c, scale []float64) {
	c, scale = make([]float64, m*n), make([]float64, m*n)
	for i := range m {
		for j := range n {
			s := float64(initial(i, j))
			abs := math.Abs(s)
			for p := range k {
				v := float64(a(i, p)) * float64(b(p, j))
				s += v
				abs += math.Abs(v)
			}
			c[i*n+j], scale[i*n+j] = s, abs
		}
	}
	return c, scale
}

func zero(int, int) float32 { return 0 }

func checkGemm(t testing.TB, p *Pool, m, n, k int, transposed, accumulate bool, ldb, ldc int, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 8))
	a, b := uniform(r, m*k), uniform(r, max(0, (k-1)*ldb+n))
	ars, acs := k, 1
	if transposed {
		ars, acs = 1, m
	}
	c, guard := fenced(t, "c", (m-1)*ldc+n)
	before := uniform(r, len(c))
	if accumulate {
		copy(c, before)
	}
	for i := range m - 1 { // what lies between the rows of C is not Gemm's
		copy(c[i*ldc+n:(i+1)*ldc], before[i*ldc+n:])
	}
	Gemm(p, m, n, k, c, ldc, a, ars, acs, b, ldb, accumulate)
	guard()
	initial := zero
	if accumulate {
		initial = func(i, j int) float32 { return before[i*ldc+j] }
	}
	want, scale := naiveProduct(m, n, k, func(i, p int) float32 { return a[i*ars+p*acs] }, func(p, j int) float32 { return b[p*ldb+j] }, initial)
	name := fmt.Sprintf("gemm %dx%dx%d transposed %t accumulate %t", m, n, k, transposed, accumulate)
	for i := range m {
		near(t, name, c[i*ldc:i*ldc+n], want[i*n:], scale[i*n:])
		if i < m-1 {
			sameBits(t, name+" between rows", c[i*ldc+n:(i+1)*ldc], before[i*ldc+n:])
		}
	}
}

func TestGemm(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		checkGemm(t, p, 6, 16, 4, false, false, 16, 16, 1)
		checkGemm(t, p, 50, 65, 300, false, true, 70, 66, 2)
		checkGemm(t, p, 3, 5, 0, false, false, 5, 5, 3)
		checkGemm(t, p, 3, 5, 0, false, true, 5, 5, 3)
		r := rand.New(rand.NewPCG(9, 9))
		for i := range 100 {
			m, n, k := 1+r.IntN(70), 1+r.IntN(70), r.IntN(40)
			if i%10 == 0 {
				k += 500
			}
			checkGemm(t, p, m, n, k, r.IntN(2) == 0, r.IntN(2) == 0, n+r.IntN(5), n+r.IntN(5), uint64(i))
		}
	})
}

func checkLinear(t testing.TB, p *Pool, l Linear, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	x, w, bias, dy := uniform(r, l.T*l.K), uniform(r, l.O*l.K), uniform(r, l.O), uniform(r, l.T*l.O)
	if r.IntN(3) == 0 {
		bias = nil
	}
	name := fmt.Sprintf("linear %+v", l)
	y, guard := fenced(t, "y", l.T*l.O)
	scratch, guardS := fenced(t, "scratch", l.Scratch(p.Threads()))
	LinearForward(p, l, y, x, w, bias, scratch)
	guard()
	guardS()
	initial := zero
	if bias != nil {
		initial = func(i, j int) float32 { return bias[j] }
	}
	want, scale := naiveProduct(l.T, l.O, l.K, func(i, p int) float32 { return x[i*l.K+p] }, func(p, j int) float32 { return w[j*l.K+p] }, initial)
	near(t, name+" y", y, want, scale)
	dx, guard := fenced(t, "dx", l.T*l.K)
	LinearBackwardData(p, l, dx, dy, w, scratch)
	guard()
	want, scale = naiveProduct(l.T, l.K, l.O, func(i, p int) float32 { return dy[i*l.O+p] }, func(p, j int) float32 { return w[p*l.K+j] }, zero)
	near(t, name+" dx", dx, want, scale)
	dw, guard := fenced(t, "dw", l.O*l.K)
	LinearBackwardWeight(p, l, dw, dy, x, scratch)
	guard()
	guardS()
	want, scale = naiveProduct(l.O, l.K, l.T, func(i, p int) float32 { return dy[p*l.O+i] }, func(p, j int) float32 { return x[p*l.K+j] }, zero)
	near(t, name+" dw", dw, want, scale)
}

func TestLinear(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		for i, l := range []Linear{{T: 1, K: 1, O: 1}, {T: 8, K: 96, O: 384}, {T: 1, K: 320, O: 129}, {T: 77, K: 40, O: 48}, {T: 300, K: 24, O: 72}, {T: 130, K: 513, O: 17}, {T: 0, K: 3, O: 5}} {
			checkLinear(t, p, l, uint64(i))
		}
		r := rand.New(rand.NewPCG(10, 9))
		for i := range 60 {
			checkLinear(t, p, Linear{T: 1 + r.IntN(60), K: 1 + r.IntN(60), O: 1 + r.IntN(60)}, uint64(i))
		}
	})
}

func TestLinearSameBits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		l := Linear{T: 64, K: 300, O: 100}
		r := rand.New(rand.NewPCG(11, 9))
		x, w, bias, dy := uniform(r, l.T*l.K), uniform(r, l.O*l.K), uniform(r, l.O), uniform(r, l.T*l.O)
		var y, dx, dw []float32
		for _, threads := range []int{1, 2, 5} {
			p := NewPool(threads)
			for _, rows := range []int{64, 32, 16, 1} {
				b := Linear{T: rows, K: l.K, O: l.O}
				gotY, gotX := make([]float32, l.T*l.O), make([]float32, l.T*l.K)
				scratch := make([]float32, b.Scratch(threads))
				for i := 0; i < l.T; i += rows {
					LinearForward(p, b, gotY[i*l.O:][:rows*l.O], x[i*l.K:][:rows*l.K], w, bias, scratch)
					LinearBackwardData(p, b, gotX[i*l.K:][:rows*l.K], dy[i*l.O:][:rows*l.O], w, scratch)
				}
				if y == nil {
					y, dx = gotY, gotX
				}
				sameBits(t, "y", gotY, y)
				sameBits(t, "dx", gotX, dx)
			}
			gotW := make([]float32, l.O*l.K)
			LinearBackwardWeight(p, l, gotW, dy, x, make([]float32, l.Scratch(threads)))
			if dw == nil {
				dw = gotW
			}
			sameBits(t, "dw", gotW, dw)
			p.Close()
		}
	})
}

func TestPoolRunsEachOnce(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 5} {
		p := NewPool(threads)
		for _, n := range []int{0, 1, 2, 3, 100} {
			counts := make([]atomic.Int32, n)
			var inner atomic.Int32
			p.Run(n, func(i int) {
				counts[i].Add(1)
				p.Run(3, func(int) { inner.Add(1) }) // a loop inside a loop
			})
			for i := range counts {
				if got := counts[i].Load(); got != 1 {
					t.Errorf("%d threads: piece %d of %d ran %d times", threads, i, n, got)
				}
			}
			if got := inner.Load(); int(got) != 3*n {
				t.Errorf("%d threads: %d inner pieces, want %d", threads, got, 3*n)
			}
		}
		p.Close()
	}
	var none *Pool
	total := 0
	none.Run(4, func(i int) { total += i })
	if total != 6 || none.Threads() != 1 {
		t.Errorf("nil pool: sum %d, threads %d, want 6 and 1", total, none.Threads())
	}
	none.Close()
}

func TestPoolPanicReachesCaller(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	for range 20 {
		func() {
			defer func() {
				if r := recover(); r != "piece 7" {
					t.Errorf("recovered %v, want piece 7", r)
				}
			}()
			p.Run(50, func(i int) {
				if i == 7 {
					panic("piece 7")
				}
			})
			t.Error("Run returned")
		}()
	}
	p.Run(5, func(int) {}) // still usable
}

func TestChoosePath(t *testing.T) {
	if e, err := choose("portable"); err != nil || e.name != "portable" {
		t.Errorf("portable: %v, %v", e.name, err)
	}
	best := engines()[len(engines())-1]
	if e, err := choose("quantum"); err == nil || e != best || !containsWord(err.Error(), "quantum") || !containsWord(err.Error(), "portable") {
		t.Errorf("unknown path: engine %s, error %v", e.name, err)
	}
	if e, err := choose(""); err != nil || e != best {
		t.Errorf("no path asked for: %s, %v", e.name, err)
	}
}
