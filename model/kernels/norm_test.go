package kernels

import (
	"fmt"
	"math"
	"testing"
)

// groupNorm64 is GroupNorm's definition in float64.
func groupNorm64(g GroupNorm, x, gamma, beta []float64) []float64 {
	y := make([]float64, len(x))
	per := g.C / g.Groups
	m := per * g.HW
	for i := range g.N * g.Groups {
		in, out := x[i*m:(i+1)*m], y[i*m:(i+1)*m]
		var mean, variance float64
		for _, v := range in {
			mean += v / float64(m)
		}
		for _, v := range in {
			variance += (v - mean) * (v - mean) / float64(m)
		}
		for j, v := range in {
			c := i%g.Groups*per + j/g.HW
			z := gamma[c]*(v-mean)/math.Sqrt(variance+float64(g.Eps)) + beta[c]
			if g.SiLU {
				z *= sigmoid64(z)
			}
			out[j] = z
		}
	}
	return y
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func sum64(x, y []float64) (s float64) {
	for i, v := range x {
		s += v * y[i]
	}
	return s
}

// gradient64 differentiates dot(f(x), dy) by central differences in float64.
func gradient64(f func() []float64, x, dy []float64) []float64 {
	const h = 1e-5
	d := make([]float64, len(x))
	for i, v := range x {
		x[i] = v + h
		up := sum64(f(), dy)
		x[i] = v - h
		d[i] = (up - sum64(f(), dy)) / (2 * h)
		x[i] = v
	}
	return d
}

// closeTo compares with a tolerance relative to the largest reference value.
func closeTo(t *testing.T, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	top := 1.0
	for _, w := range want {
		top = max(top, math.Abs(w))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) <= tolerance*top) {
			t.Fatalf("%s: element %d is %v, want %v within %g", what, i, got[i], w, tolerance*top)
		}
	}
}

func TestGroupNormAgainstFloat64(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, g := range []GroupNorm{
			{N: 1, C: 4, HW: 5, Groups: 2, Eps: 1e-5},
			{N: 2, C: 6, HW: 7, Groups: 3, Eps: 1e-5, SiLU: true},
			{N: 3, C: 8, HW: 1, Groups: 2, Eps: 1e-6, SiLU: true},
			{N: 2, C: 3, HW: 9, Groups: 3, Eps: 1e-5, SiLU: true},
		} {
			t.Run(fmt.Sprintf("%+v", g), func(t *testing.T) {
				n := g.N * g.C * g.HW
				x, dy, gamma, beta := normals(n, 1), normals(n, 2), normals(g.C, 3), normals(g.C, 4)
				x64, dy64, gamma64, beta64 := widen(x), widen(dy), widen(gamma), widen(beta)
				f := func() []float64 { return groupNorm64(g, x64, gamma64, beta64) }
				y, checkY := fenced(t, "y", n)
				GroupNormForward(nil, g, y, x, gamma, beta)
				checkY()
				closeTo(t, "y", y, f(), 1e-6)
				dx, checkX := fenced(t, "dx", n)
				dgamma, checkG := fenced(t, "dgamma", g.C)
				dbeta, checkB := fenced(t, "dbeta", g.C)
				scratch, checkS := fenced(t, "scratch", g.ScratchBackward())
				GroupNormBackward(nil, g, dx, dgamma, dbeta, dy, x, gamma, beta, scratch)
				checkX()
				checkG()
				checkB()
				checkS()
				closeTo(t, "dx", dx, gradient64(f, x64, dy64), 2e-6)
				closeTo(t, "dgamma", dgamma, gradient64(f, gamma64, dy64), 2e-6)
				closeTo(t, "dbeta", dbeta, gradient64(f, beta64, dy64), 2e-6)
				inPlace := append([]float32(nil), dy...)
				GroupNormBackward(nil, g, inPlace, dgamma, dbeta, inPlace, x, gamma, beta, scratch)
				sameBits(t, "dx written over dy", inPlace, dx)
			})
		}
	})
}

// TestGroupNormLargeOffset: 100,000 elements far from zero must not cancel.
func TestGroupNormLargeOffset(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		g := GroupNorm{N: 1, C: 2, HW: 50_000, Groups: 1, Eps: 1e-5}
		x := normals(g.C*g.HW, 1)
		for i := range x {
			x[i] += 1000
		}
		one, zero := []float32{1, 1}, []float32{0, 0}
		y := make([]float32, len(x))
		GroupNormForward(nil, g, y, x, one, zero)
		// x itself has steps of 6e-5 there, and y = a*x+b rounds a*x's offset once.
		closeTo(t, "y", y, groupNorm64(g, widen(x), widen(one), widen(zero)), 5e-5)
	})
}

// checkThreadsAndBatch demands the same bits from 1, 2 and 3 threads, and from
// a batch as from its rows alone. run works on rows of the shared inputs.
func checkThreadsAndBatch(t *testing.T, batch int, run func(p *Pool, from, rows int) [][]float32) {
	t.Helper()
	want := run(nil, 0, batch)
	for _, threads := range []int{2, 3} {
		p := NewPool(threads)
		for i, got := range run(p, 0, batch) {
			sameBits(t, fmt.Sprintf("output %d with %d threads", i, threads), got, want[i])
		}
		p.Close()
	}
	for n := range batch {
		for i, got := range run(nil, n, 1) {
			size := len(want[i]) / batch
			sameBits(t, fmt.Sprintf("output %d of row %d alone", i, n), got, want[i][n*size:(n+1)*size])
		}
	}
}

func TestNormSameBits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		g := GroupNorm{C: 24, HW: 100, Groups: 8, Eps: 1e-5, SiLU: true}
		m := g.C * g.HW
		x, dy, gamma, beta := normals(3*m, 1), normals(3*m, 2), normals(g.C, 3), normals(g.C, 4)
		checkThreadsAndBatch(t, 3, func(p *Pool, from, rows int) [][]float32 {
			g := g
			g.N = rows
			y, dx := make([]float32, rows*m), make([]float32, rows*m)
			dgamma, dbeta := make([]float32, g.C), make([]float32, g.C)
			GroupNormForward(p, g, y, x[from*m:], gamma, beta)
			GroupNormBackward(p, g, dx, dgamma, dbeta, dy[from*m:], x[from*m:], gamma, beta, make([]float32, g.ScratchBackward()))
			return [][]float32{y, dx}
		})
		l := LayerNorm{C: 24, Eps: 1e-5}
		checkThreadsAndBatch(t, 3, func(p *Pool, from, rows int) [][]float32 {
			l := l
			l.T = rows * g.HW
			y, dx := make([]float32, rows*m), make([]float32, rows*m)
			dgamma, dbeta := make([]float32, l.C), make([]float32, l.C)
			LayerNormForward(p, l, y, x[from*m:], gamma, beta)
			LayerNormBackward(p, l, dx, dgamma, dbeta, dy[from*m:], x[from*m:], gamma, beta, make([]float32, l.ScratchBackward()))
			return [][]float32{y, dx}
		})
	})
}

// TestParameterGradientsSameBits: gradients summed over the batch do not
// depend on the threads either.
func TestParameterGradientsSameBits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		const N, C, HW = 3, 130, 40
		x, dy, gamma, beta := normals(N*C*HW, 1), normals(N*C*HW, 2), normals(C, 3), normals(C, 4)
		checkThreadsAndBatch(t, 1, func(p *Pool, _, _ int) [][]float32 {
			var out [][]float32
			for range 6 {
				out = append(out, make([]float32, C))
			}
			dx := make([]float32, len(x))
			g := GroupNorm{N: N, C: C, HW: HW, Groups: 13, Eps: 1e-5, SiLU: true}
			GroupNormBackward(p, g, dx, out[0], out[1], dy, x, gamma, beta, make([]float32, g.ScratchBackward()))
			l := LayerNorm{T: N * HW, C: C, Eps: 1e-5}
			LayerNormBackward(p, l, dx, out[2], out[3], dy, x, gamma, beta, make([]float32, l.ScratchBackward()))
			SumRows(p, N*HW, C, out[4], dy)
			SumBatchSpatial(p, N, C, HW, out[5], dy)
			return out
		})
	})
}

func TestLayerNormAgainstFloat64(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, l := range []LayerNorm{{T: 1, C: 3, Eps: 1e-5}, {T: 5, C: 7, Eps: 1e-5}, {T: 3, C: 70, Eps: 1e-5}} {
			n := l.T * l.C
			x, dy, gamma, beta := normals(n, 1), normals(n, 2), normals(l.C, 3), normals(l.C, 4)
			x64, dy64, gamma64, beta64 := widen(x), widen(dy), widen(gamma), widen(beta)
			// A row is a group of C channels of one pixel.
			f := func() []float64 {
				return groupNorm64(GroupNorm{N: l.T, C: l.C, HW: 1, Groups: 1, Eps: l.Eps}, x64, gamma64, beta64)
			}
			y, checkY := fenced(t, "y", n)
			LayerNormForward(nil, l, y, x, gamma, beta)
			checkY()
			closeTo(t, "y", y, f(), 1e-6)
			dx, checkX := fenced(t, "dx", n)
			dgamma, checkG := fenced(t, "dgamma", l.C)
			dbeta, checkB := fenced(t, "dbeta", l.C)
			LayerNormBackward(nil, l, dx, dgamma, dbeta, dy, x, gamma, beta, make([]float32, l.ScratchBackward()))
			checkX()
			checkG()
			checkB()
			closeTo(t, "dx", dx, gradient64(f, x64, dy64), 2e-6)
			closeTo(t, "dgamma", dgamma, gradient64(f, gamma64, dy64), 2e-6)
			closeTo(t, "dbeta", dbeta, gradient64(f, beta64, dy64), 2e-6)
		}
	})
}

func TestGroupNormKeepsNaN(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		g := GroupNorm{N: 2, C: 4, HW: 9, Groups: 2, Eps: 1e-5, SiLU: true}
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
			x, y := normals(72, 1), make([]float32, 72)
			x[20] = bad // group 1 of row 0: elements 18..35
			GroupNormForward(nil, g, y, x, normals(4, 2), normals(4, 3))
			for i, v := range y {
				if (v != v) != (i >= 18 && i < 36) {
					t.Fatalf("%v in group 1: output %d is %v", bad, i, v)
				}
			}
		}
	})
}

func TestNormPanicsOnBadShapes(t *testing.T) {
	for name, f := range map[string]func(){
		"groups": func() {
			GroupNormForward(nil, GroupNorm{N: 1, C: 4, HW: 1, Groups: 3}, make([]float32, 4), make([]float32, 4), make([]float32, 4), make([]float32, 4))
		},
		"short y": func() {
			GroupNormForward(nil, GroupNorm{N: 1, C: 4, HW: 1, Groups: 2}, make([]float32, 3), make([]float32, 4), make([]float32, 4), make([]float32, 4))
		},
		"short scratch": func() {
			x := make([]float32, 4)
			GroupNormBackward(nil, GroupNorm{N: 1, C: 4, HW: 1, Groups: 2}, x, x, x, x, x, x, x, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

func BenchmarkGroupNormSiLU(b *testing.B) {
	for _, s := range []struct{ n, c, hw int }{{1, 24, 4096}, {1, 48, 1024}, {1, 96, 256}, {1, 192, 64}, {32, 24, 1024}} {
		g := GroupNorm{N: s.n, C: s.c, HW: s.hw, Groups: 8, Eps: 1e-5, SiLU: true}
		m := s.n * s.c * s.hw
		x, dy, y, gamma, beta := normals(m, 1), normals(m, 2), make([]float32, m), normals(s.c, 3), normals(s.c, 4)
		dgamma, dbeta, scratch := make([]float32, s.c), make([]float32, s.c), make([]float32, g.ScratchBackward())
		b.Run(fmt.Sprintf("forward/%dx%dx%d", s.n, s.c, s.hw), func(b *testing.B) {
			for b.Loop() {
				GroupNormForward(nil, g, y, x, gamma, beta)
			}
			perElement(b, m)
		})
		b.Run(fmt.Sprintf("backward/%dx%dx%d", s.n, s.c, s.hw), func(b *testing.B) {
			for b.Loop() {
				GroupNormBackward(nil, g, y, dgamma, dbeta, dy, x, gamma, beta, scratch)
			}
			perElement(b, m)
		})
	}
}

// perElement reports the time of one of n elements of an iteration.
func perElement(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/elem")
}

// TestGroupNormWays: a group by one task and in pieces give the same bits, for
// groups of one piece and many, and with more threads than groups.
func TestGroupNormWays(t *testing.T) {
	for _, g := range []GroupNorm{
		{N: 1, C: 4, HW: 5, Groups: 1, Eps: 1e-5},
		{N: 1, C: 6, HW: momentPiece, Groups: 3, Eps: 1e-5, SiLU: true},
		{N: 2, C: 10, HW: 3001, Groups: 1, Eps: 1e-5, SiLU: true},
		{N: 3, C: 4, HW: 2*momentPiece + 7, Groups: 2, Eps: 1e-5},
	} {
		n := g.N * g.C * g.HW
		x, gamma, beta := normals(n, 1), normals(g.C, 2), normals(g.C, 3)
		want := make([]float32, n)
		GroupNormForward(nil, g, want, x, gamma, beta)
		for _, threads := range []int{2, 4, 7} {
			p := NewPool(threads)
			y := make([]float32, n)
			for range 2 {
				GroupNormForward(p, g, y, x, gamma, beta)
				sameBits(t, fmt.Sprintf("%+v on %d threads", g, threads), y, want)
			}
			copy(y, x)
			GroupNormForward(p, g, y, y, gamma, beta)
			sameBits(t, fmt.Sprintf("%+v on %d threads, in place", g, threads), y, want)
			p.Close()
		}
	}
}

// TestMomentsFarFromZero: one pass over the numbers loses what momentOf says, and never a negative variance.
func TestMomentsFarFromZero(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, offset := range []float32{0, 1, -1000, 1e4, 1e6} {
			for _, n := range []int{1, 5, 16, 33, 768, momentPiece, 3*momentPiece + 7} {
				x := normals(n, 3)
				var sum, m2 float64
				for i := range x {
					x[i] += offset
					sum += float64(x[i])
				}
				mean := sum / float64(n)
				for _, v := range x {
					m2 += (float64(v) - mean) * (float64(v) - mean)
				}
				m := moment{}
				for lo := 0; lo < n; lo += momentPiece {
					m = m.plus(momentOf(x[lo:min(lo+momentPiece, n)]))
				}
				variance := m2 / float64(n)
				if d := math.Abs(m.mean - mean); !(d <= 1e-14*(1+math.Abs(mean))) {
					t.Errorf("offset %v, n %d: mean is off by %g", offset, n, d)
				}
				if d := math.Abs(m.m2/m.n - variance); m.n != float64(n) || !(d <= 1e-14*(mean*mean+variance)) || m.m2 < 0 {
					t.Errorf("offset %v, n %d: %+v, variance %v is off by %g", offset, n, m, variance, d)
				}
			}
		}
		for _, c := range []float32{0, 1e-40, 3.3, -1e5, 1e15} {
			x := make([]float32, 777)
			for i := range x {
				x[i] = c
			}
			if m := momentOf(x); m.m2 < 0 || m.m2/m.n > 1e-15*float64(c)*float64(c) || math.Abs(m.mean-float64(c)) > 1e-14*math.Abs(float64(c)) {
				t.Errorf("777 times %v: %+v", c, m)
			}
		}
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
			for at := range 19 {
				x := normals(19, 1)
				x[at] = bad
				if m := momentOf(x); m.m2 == m.m2 {
					t.Errorf("%v at %d: %+v", bad, at, m)
				}
			}
		}
	})
}

// TestLayerNormRows holds rows of widths with and without a loop of their own to float64, near zero and far from it, in place and
// one by one; a row with NaN keeps it to itself, and a constant row becomes beta.
func TestLayerNormRows(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, c := range []int{5, 15, 16, 24, 96, 320, 1280} {
			for _, offset := range []float32{0, 100} {
				const T = 9
				l := LayerNorm{T: T, C: c, Eps: 1e-5}
				x, gamma, beta := normals(T*c, 1), normals(c, 2), normals(c, 3)
				for i := range x {
					x[i] += offset
					if i/c == 4 {
						x[i] = 1.5
					}
				}
				want := groupNorm64(GroupNorm{N: T, C: c, HW: 1, Groups: 1, Eps: l.Eps}, widen(x), widen(gamma), widen(beta))
				y, check := fenced(t, "y", T*c)
				LayerNormForward(nil, l, y, x, gamma, beta)
				check()
				what := fmt.Sprintf("%d channels at %v", c, offset)
				closeTo(t, what, y[:4*c], want[:4*c], 1e-6+1.5e-7*float64(offset))
				closeTo(t, what, y[5*c:], want[5*c:], 1e-6+1.5e-7*float64(offset))
				closeTo(t, what+", constant row", y[4*c:5*c], widen(beta), 1e-4)
				one := make([]float32, c)
				for i := range T {
					LayerNormForward(nil, LayerNorm{T: 1, C: c, Eps: l.Eps}, one, x[i*c:], gamma, beta)
					sameBits(t, "row alone", one, y[i*c:(i+1)*c])
				}
				again := append([]float32(nil), x...)
				LayerNormForward(nil, l, again, again, gamma, beta)
				sameBits(t, "in place", again, y)
				again = append(again[:0], x...)
				again[2*c+c/2] = float32(math.NaN())
				LayerNormForward(nil, l, again, again, gamma, beta)
				for i, v := range again {
					if (v != v) != (i/c == 2) {
						t.Fatalf("%d channels: NaN in row 2, element %d of row %d is %v", c, i%c, i/c, v)
					}
				}
			}
		}
	})
}
