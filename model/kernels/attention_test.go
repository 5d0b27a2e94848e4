package kernels

import (
	"fmt"
	"math"
	"testing"
)

// attention64 is Attention's definition in float64.
func attention64(a Attention, q, k, v []float64) []float64 {
	width, scale := a.Heads*a.D, float64(a.scale())
	o := make([]float64, a.N*a.Tq*width)
	p := make([]float64, a.Tk)
	for n := range a.N {
		for h := range a.Heads {
			for i := range a.Tq {
				keys := a.Tk
				if a.Causal {
					keys = min(keys, i+1)
				}
				qi := q[(n*a.Tq+i)*width+h*a.D:][:a.D]
				top, sum := math.Inf(-1), 0.0
				for j := range keys {
					p[j] = scale * sum64(qi, k[(n*a.Tk+j)*width+h*a.D:][:a.D])
					top = max(top, p[j])
				}
				for j := range keys {
					p[j] = math.Exp(p[j] - top)
					sum += p[j]
				}
				out := o[(n*a.Tq+i)*width+h*a.D:][:a.D]
				for j := range keys {
					for d, x := range v[(n*a.Tk+j)*width+h*a.D:][:a.D] {
						out[d] += p[j] / sum * x
					}
				}
			}
		}
	}
	return o
}

func TestAttentionAgainstFloat64(t *testing.T) {
	shapes := []Attention{
		{N: 1, Heads: 1, Tq: 1, Tk: 1, D: 8},
		{N: 2, Heads: 2, Tq: 5, Tk: 1, D: 24},
		{N: 1, Heads: 2, Tq: 70, Tk: 8, D: 24},
		{N: 1, Heads: 3, Tq: 65, Tk: 77, D: 9},
		{N: 1, Heads: 2, Tq: 130, Tk: 300, D: 16},
		{N: 1, Heads: 1, Tq: 3, Tk: 129, D: 512},
		{N: 1, Heads: 1, Tq: 9, Tk: 140, D: 8, Scale: -0.7},
		{N: 2, Heads: 2, Tq: 77, Tk: 77, D: 12, Causal: true},
		{N: 1, Heads: 1, Tq: 200, Tk: 200, D: 8, Causal: true},
		{N: 1, Heads: 1, Tq: 10, Tk: 4, D: 8, Causal: true},
		{N: 1, Heads: 1, Tq: 4, Tk: 300, D: 8, Causal: true},
	}
	eachPath(t, func(t *testing.T) {
		for _, a := range shapes {
			t.Run(fmt.Sprintf("%+v", a), func(t *testing.T) {
				width := a.Heads * a.D
				q, k, v := normals(a.N*a.Tq*width, 1), normals(a.N*a.Tk*width, 2), normals(a.N*a.Tk*width, 3)
				for i := range q { // peaked rows, so that the running maximum moves
					q[i] *= 3
				}
				o, checkO := fenced(t, "o", len(q))
				scratch, checkS := fenced(t, "scratch", a.Scratch(1))
				AttentionForward(nil, a, o, q, k, v, scratch)
				checkO()
				checkS()
				closeTo(t, "o", o, attention64(a, widen(q), widen(k), widen(v)), 3e-6)
			})
		}
	})
}

// TestAttentionGradients compares with central differences along random
// directions: all of dq, dk and dv enter.
func TestAttentionGradients(t *testing.T) {
	shapes := []Attention{
		{N: 1, Heads: 1, Tq: 1, Tk: 1, D: 8},
		{N: 2, Heads: 2, Tq: 7, Tk: 5, D: 9},
		{N: 1, Heads: 2, Tq: 70, Tk: 8, D: 24},
		{N: 1, Heads: 1, Tq: 130, Tk: 150, D: 8},
		{N: 1, Heads: 2, Tq: 70, Tk: 70, D: 8, Causal: true},
		{N: 1, Heads: 1, Tq: 9, Tk: 20, D: 8, Scale: -0.7},
	}
	eachPath(t, func(t *testing.T) {
		for _, a := range shapes {
			t.Run(fmt.Sprintf("%+v", a), func(t *testing.T) {
				width := a.Heads * a.D
				nq, nk := a.N*a.Tq*width, a.N*a.Tk*width
				q, k, v, do := normals(nq, 1), normals(nk, 2), normals(nk, 3), normals(nq, 4)
				dq, checkQ := fenced(t, "dq", nq)
				dk, checkK := fenced(t, "dk", nk)
				dv, checkV := fenced(t, "dv", nk)
				scratch, checkS := fenced(t, "scratch", a.ScratchBackward(1))
				AttentionBackward(nil, a, dq, dk, dv, q, k, v, do, scratch)
				checkQ()
				checkK()
				checkV()
				checkS()
				in := [][]float64{widen(q), widen(k), widen(v)}
				value := func() float64 { return sum64(attention64(a, in[0], in[1], in[2]), widen(do)) }
				for which, grad := range [][]float32{dq, dk, dv} {
					for trial := range 4 {
						x := in[which]
						direction := widen(normals(len(x), uint64(10+trial)))
						const h = 1e-5
						move := func(s float64) {
							for i, d := range direction {
								x[i] += s * d
							}
						}
						move(h)
						up := value()
						move(-2 * h)
						want := (up - value()) / (2 * h)
						move(h)
						got := sum64(widen(grad), direction)
						scale := math.Sqrt(sum64(widen(grad), widen(grad))) + 1
						if !(math.Abs(got-want) <= 5e-6*scale) {
							t.Errorf("gradient %d along direction %d is %v, want %v within %g", which, trial, got, want, 5e-6*scale)
						}
					}
				}
			})
		}
	})
}

func TestAttentionSameBits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, a := range []Attention{
			{Heads: 2, Tq: 150, Tk: 150, D: 24}, {Heads: 2, Tq: 70, Tk: 8, D: 24}, {Heads: 1, Tq: 100, Tk: 100, D: 8, Causal: true},
		} {
			width := a.Heads * a.D
			nq, nk := a.Tq*width, a.Tk*width
			q, k, v, do := normals(3*nq, 1), normals(3*nk, 2), normals(3*nk, 3), normals(3*nq, 4)
			checkThreadsAndBatch(t, 3, func(p *Pool, from, rows int) [][]float32 {
				a := a
				a.N = rows
				q, k, v, do := q[from*nq:], k[from*nk:], v[from*nk:], do[from*nq:]
				o, dq, dk, dv := make([]float32, rows*nq), make([]float32, rows*nq), make([]float32, rows*nk), make([]float32, rows*nk)
				AttentionForward(p, a, o, q, k, v, make([]float32, a.Scratch(p.Threads())))
				AttentionBackward(p, a, dq, dk, dv, q, k, v, do, make([]float32, a.ScratchBackward(p.Threads())))
				return [][]float32{o, dq, dk, dv}
			})
		}
	})
}

// TestAttentionShowsBadInputs: a NaN or an infinity in q, k or v reaches every
// output that depends on it, in any key block, and in the causal case no
// output of an earlier query block.
func TestAttentionShowsBadInputs(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		a := Attention{N: 1, Heads: 1, Tq: 130, Tk: 300, D: 8}
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
			for which := range 3 {
				for _, row := range []int{0, 127, 129} {
					in := [][]float32{normals(a.Tq*a.D, 1), normals(a.Tk*a.D, 2), normals(a.Tk*a.D, 3)}
					in[which][row*a.D+3] = bad
					o := make([]float32, a.Tq*a.D)
					AttentionForward(nil, a, o, in[0], in[1], in[2], make([]float32, a.Scratch(1)))
					for i := range a.Tq {
						wrong := false
						for _, v := range o[i*a.D : (i+1)*a.D] {
							wrong = wrong || math.IsNaN(float64(v)) || math.IsInf(float64(v), 0)
						}
						want := which != 0 || i == row
						// A score of -Inf is a legal "never": it may vanish.
						if which == 1 && math.IsInf(float64(bad), 0) && !wrong {
							s := in[0][i*a.D+3] * bad
							want = !math.IsInf(float64(s), -1)
						}
						if wrong != want {
							t.Fatalf("%v in input %d row %d: query %d not finite is %v, want %v", bad, which, row, i, wrong, want)
						}
					}
				}
			}
		}
		c := Attention{N: 1, Heads: 1, Tq: 200, Tk: 200, D: 8, Causal: true}
		k := normals(200*8, 2)
		k[199*8] = float32(math.NaN())
		o := make([]float32, 200*8)
		AttentionForward(nil, c, o, normals(200*8, 1), k, normals(200*8, 3), make([]float32, c.Scratch(1)))
		for i, v := range o {
			if (v != v) != (i >= 199*8) {
				t.Fatalf("causal: NaN in the last key, output of query %d is %v", i/8, v)
			}
		}
	})
}

func TestAttentionScratchIsLinear(t *testing.T) {
	short, long := Attention{N: 1, Heads: 1, Tq: 1 << 12, Tk: 1 << 12, D: 64}, Attention{N: 1, Heads: 1, Tq: 1 << 13, Tk: 1 << 13, D: 64}
	if s, l := short.Scratch(1), long.Scratch(1); l > 2*s {
		t.Errorf("twice the tokens take %d floats of scratch instead of %d", l, s)
	}
}

func BenchmarkAttention(b *testing.B) {
	for _, a := range []Attention{
		{N: 1, Heads: 2, Tq: 1024, Tk: 1024, D: 24}, {N: 1, Heads: 4, Tq: 256, Tk: 256, D: 24},
		{N: 1, Heads: 4, Tq: 64, Tk: 64, D: 24}, {N: 1, Heads: 2, Tq: 1024, Tk: 8, D: 24},
	} {
		width := a.Heads * a.D
		q, k, v, o := normals(a.Tq*width, 1), normals(a.Tk*width, 2), normals(a.Tk*width, 3), make([]float32, a.Tq*width)
		dq, dk, dv := make([]float32, len(q)), make([]float32, len(k)), make([]float32, len(k))
		forward, backward := make([]float32, a.Scratch(1)), make([]float32, a.ScratchBackward(1))
		name := fmt.Sprintf("%dx%dx%d heads %d", a.Tq, a.Tk, a.D, a.Heads)
		b.Run("forward/"+name, func(b *testing.B) {
			for b.Loop() {
				AttentionForward(nil, a, o, q, k, v, forward)
			}
			perElement(b, a.Heads*a.Tq*a.Tk)
		})
		b.Run("backward/"+name, func(b *testing.B) {
			for b.Loop() {
				AttentionBackward(nil, a, dq, dk, dv, q, k, v, q, backward)
			}
			perElement(b, a.Heads*a.Tq*a.Tk)
		})
	}
}
