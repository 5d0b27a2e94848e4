package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A piece of C has the same bits however the product around it is cut.
func TestGemmSameBits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		const m, n, k = 61, 75, 530
		r := rand.New(rand.NewPCG(12, 9))
		a, b := uniform(r, m*k), uniform(r, k*n)
		whole := make([]float32, m*n)
		gemmBlock(m, n, k, whole, n, a, k, 1, b, n, false)
		for range 40 {
			i0, j0 := r.IntN(m), r.IntN(n)
			rows, cols := 1+r.IntN(m-i0), 1+r.IntN(n-j0)
			part := make([]float32, rows*cols)
			gemmBlock(rows, cols, k, part, cols, a[i0*k:], k, 1, b[j0:], n, false)
			for i := range rows {
				sameBits(t, "piece", part[i*cols:(i+1)*cols], whole[(i0+i)*n+j0:][:cols])
			}
		}
		for _, threads := range []int{2, 3, 8} {
			p := NewPool(threads)
			got := make([]float32, m*n)
			Gemm(p, m, n, k, got, n, a, k, 1, b, n, false)
			sameBits(t, "threads", got, whole)
			p.Close()
		}
	})
}

// The engines' data movement equals the portable loops, and stays inside its destination.
func TestMovement(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		e := active
		r := rand.New(rand.NewPCG(13, 9))
		for range 300 {
			rows, cols := 1+r.IntN(20), 1+r.IntN(20)
			ldd, lds := 2*cols+r.IntN(3), 2*cols+r.IntN(3)
			src, other := uniform(r, rows*lds), uniform(r, rows*lds)
			compare := func(name string, size int, fast, slow func(dst []float32)) {
				t.Helper()
				got, guard := fenced(t, name, size)
				want := make([]float32, size)
				for i := range got {
					got[i], want[i] = 7, 7
				}
				fast(got)
				slow(want)
				guard()
				sameBits(t, name, got, want)
			}
			compare("copyRows", rows*ldd, func(dst []float32) { copyRows(e, dst, ldd, src, lds, rows, cols) },
				func(dst []float32) { copyRowsPortable(dst, ldd, src, lds, rows, cols) })
			ldt := rows + r.IntN(4)
			compare("transpose", cols*ldt, func(dst []float32) { transposeFast(e, dst, ldt, src, lds, rows, cols) },
				func(dst []float32) { transposePortable(dst, ldt, src, lds, rows, cols) })
			compare("split", 2*rows*ldd, func(dst []float32) { split(e, dst, dst[rows*ldd:], ldd, src, lds, rows, cols) },
				func(dst []float32) { splitPortable(dst, dst[rows*ldd:], ldd, src, lds, rows, cols) })
			compare("merge", rows*ldd, func(dst []float32) { merge(e, dst, ldd, src, other, lds, lds, rows, cols) },
				func(dst []float32) { mergePortable(dst, ldd, src, other, lds, lds, rows, cols) })
		}
		if 2*e.vec == 16 && e.kind != portable {
			src, off := uniform(r, 200), []int32{5, 0, 170, 33}
			got, guard := fenced(t, "gatherRows", 64)
			gatherRows(e, got, src, off, 7)
			guard()
			for p, o := range off {
				for i := range 16 {
					if want := src[int(o)+i/4*7+i%4]; got[p*16+i] != want {
						t.Fatalf("gatherRows[%d][%d] = %g, want %g", p, i, got[p*16+i], want)
					}
				}
			}
		}
	})
}

// FuzzKernels runs every engine over shapes drawn from the seed: against the definition, and against each other.
func FuzzKernels(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 14))
		c := randomConv(r)
		l := Linear{T: r.IntN(70), K: 1 + r.IntN(70), O: 1 + r.IntN(70)}
		m, n, k, threads := 1+r.IntN(60), 1+r.IntN(60), r.IntN(600), 1+r.IntN(4)
		x, w, bias := uniform(r, c.N*c.Cin*c.H*c.W), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout)
		p := NewPool(threads)
		defer p.Close()
		var first []float32
		for _, e := range engines() {
			usePath(t, e)
			checkConv(t, p, c, seed)
			checkLinear(t, p, l, seed)
			checkGemm(t, p, m, n, k, seed%2 == 0, seed%3 == 0, n+int(seed%5), n+int(seed%4), seed)
			y := make([]float32, c.N*c.Cout*c.OutH()*c.OutW())
			ConvForward(p, c, y, x, w, bias, make([]float32, c.ScratchForward(threads)))
			if first == nil {
				first = y
			}
			for i, v := range y {
				if limit := 1e-5 * float64(1+c.Cin*c.KH*c.KW); math.Abs(float64(v-first[i])) > limit {
					t.Fatalf("%v: %s gives y[%d] = %g, portable %g", c, e.name, i, v, first[i])
				}
			}
		}
	})
}
