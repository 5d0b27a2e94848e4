package kernels

import "fmt"

// Linear describes y[T,O] = x[T,K] w[O,K]^T + bias[O], row-major float32: T tokens or rows of a batch.
type Linear struct {
	T, K, O int
	Math    Math
}

func (l Linear) must(name string, y, x, w []float32) {
	if l.T < 0 || l.K < 1 || l.O < 1 {
		panic(fmt.Sprintf("kernels: %s: sizes T %d, K %d, O %d, want T 0 or more, K and O 1 or more", name, l.T, l.K, l.O))
	}
	mustHave(name, "x", x, l.T*l.K)
	mustHave(name, "y", y, l.T*l.O)
	mustHave(name, "w", w, l.O*l.K)
}

// Scratch returns how many floats of scratch the three functions want with a pool of the given number of threads.
func (l Linear) Scratch(threads int) int { return threads * linearWork() }

const linearRows = 96

func linearWork() int { return (maxKC + linearRows) * maxNR }

// LinearForward computes y, overwriting it; bias has O values or is nil. scratch has Scratch floats of any content. y must
// not overlap the inputs. The bits of a row depend on neither T nor the pool's threads.
func LinearForward(p *Pool, l Linear, y, x, w, bias, scratch []float32) {
	l.must("LinearForward", y, x, w)
	if bias != nil {
		mustHave("LinearForward", "bias", bias, l.O)
	}
	if l.T == 0 {
		return
	}
	s := carver{scratch}
	work := s.take(p.Threads() * linearWork())
	g := splitGrid(p.Threads(), l.T, l.O)
	p.run(g.units(), func(worker, u int) {
		i0, i1, j0, j1 := g.unit(u)
		l.forward(y, x, w, bias, i0, i1, j0, j1, work[worker*linearWork():][:linearWork()])
	})
}

// forward computes rows [i0,i1) and columns [j0,j1) of y. Strips of w are transposed into a panel as they are needed.
func (l Linear) forward(y, x, w, bias []float32, i0, i1, j0, j1 int, work []float32) {
	e := active
	nr := 2 * e.vec
	panel, edge := work[:maxKC*maxNR], work[maxKC*maxNR:]
	if bias != nil {
		for i := i0; i < i1; i++ {
			copy(y[i*l.O+j0:i*l.O+j1], bias[j0:j1])
		}
	}
	t := tile{ars: l.K, acs: 1}
	for p0 := 0; p0 < l.K; p0 += e.kc {
		kc := min(e.kc, l.K-p0)
		add := p0 > 0 || bias != nil
		t.off = packedOffsets[nr][:kc]
		t.b0, t.b1 = panel, panel[e.vec:]
		for j := j0; j < j1; j += nr {
			n := min(nr, j1-j)
			transposeFast(e, panel, nr, w[j*l.K+p0:], l.K, n, kc)
			if n == nr || n == e.vec {
				t.a, t.m, t.ldc, t.add, t.one = x[i0*l.K+p0:], i1-i0, l.O, add, n == e.vec
				t.c0 = y[i0*l.O+j:]
				if !t.one {
					t.c1 = y[i0*l.O+j+e.vec:]
				}
				t.run(e)
				continue
			}
			t.ldc, t.add, t.one = nr, false, false
			t.c0, t.c1 = edge, edge[e.vec:]
			for i := i0; i < i1; i += linearRows {
				t.a, t.m = x[i*l.K+p0:], min(linearRows, i1-i)
				t.run(e)
				addRows(y[i*l.O+j:], l.O, edge, nr, t.m, n, add)
			}
		}
	}
}

// LinearBackwardData computes dx[T,K] = dy[T,O] w[O,K], overwriting dx, which must not overlap dy or w. The bits of a row
// depend on neither T nor the pool's threads.
func LinearBackwardData(p *Pool, l Linear, dx, dy, w, scratch []float32) {
	l.must("LinearBackwardData", dy, dx, w)
	Gemm(p, l.T, l.K, l.O, dx, l.K, dy, l.O, 1, w, l.K, false)
}

// LinearBackwardWeight computes dw[O,K] = dy[T,O]^T x[T,K], overwriting dw, which must not overlap dy or x. The bits do not
// depend on the pool's threads.
func LinearBackwardWeight(p *Pool, l Linear, dw, dy, x, scratch []float32) {
	l.must("LinearBackwardWeight", dy, x, dw)
	Gemm(p, l.O, l.K, l.T, dw, l.K, dy, 1, l.O, x, l.K, false)
}
