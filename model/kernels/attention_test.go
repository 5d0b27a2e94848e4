package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
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
		{N: 1, Heads: 1, Tq: 26, Tk: 40, D: 130},
		{N: 1, Heads: 2, Tq: 97, Tk: 131, D: 40},
		{N: 2, Heads: 3, Tq: 33, Tk: 77, D: 64},
		{N: 1, Heads: 1, Tq: 104, Tk: 257, D: 80},
		{N: 1, Heads: 1, Tq: 16, Tk: 130, D: 160},
		{N: 1, Heads: 1, Tq: 98, Tk: 260, D: 3, Causal: true},
		{N: 1, Heads: 1, Tq: 9, Tk: 140, D: 8, Scale: -0.7},
		{N: 2, Heads: 2, Tq: 77, Tk: 77, D: 12, Causal: true},
		{N: 1, Heads: 1, Tq: 200, Tk: 200, D: 8, Causal: true},
		{N: 1, Heads: 1, Tq: 10, Tk: 4, D: 8, Causal: true},
		{N: 1, Heads: 1, Tq: 1, Tk: 3, D: 8, Causal: true},
		{N: 1, Heads: 1, Tq: 97, Tk: 131, D: 8, Causal: true},
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
			{Heads: 3, Tq: 130, Tk: 150, D: 40},
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

// randomAttention draws a small shape.
func randomAttention(r *rand.Rand) Attention {
	return Attention{N: 1 + r.IntN(2), Heads: 1 + r.IntN(3), Tq: 1 + r.IntN(120), Tk: 1 + r.IntN(150), D: 1 + r.IntN(50), Causal: r.IntN(4) == 0}
}

func TestAttentionRandomShapes(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(31, 7))
		for range 60 {
			a := randomAttention(r)
			width := a.Heads * a.D
			q, k, v := normals(a.N*a.Tq*width, r.Uint64()), normals(a.N*a.Tk*width, r.Uint64()), normals(a.N*a.Tk*width, r.Uint64())
			o := make([]float32, len(q))
			AttentionForward(nil, a, o, q, k, v, make([]float32, a.Scratch(1)))
			closeTo(t, fmt.Sprintf("%+v: o", a), o, attention64(a, widen(q), widen(k), widen(v)), 2e-6)
		}
	})
}

// attention32 is Attention with every sum in float32, in order: plain arithmetic.
func attention32(a Attention, q, k, v []float32) []float32 {
	width := a.Heads * a.D
	o, p := make([]float32, len(q)), make([]float32, a.Tk)
	for i := range a.N * a.Tq * a.Heads {
		n, at := i/a.Heads/a.Tq, i/a.Heads*width+i%a.Heads*a.D
		row := func(x []float32, j int) []float32 { return x[(n*a.Tk+j)*width+i%a.Heads*a.D:][:a.D] }
		top, sum := float32(math.Inf(-1)), float32(0)
		for j := range p {
			var s float32
			for d, x := range row(k, j) {
				s += q[at+d] * x
			}
			p[j] = s * a.scale()
			top = max(top, p[j])
		}
		for j := range p {
			p[j] = float32(math.Exp(float64(p[j] - top)))
			sum += p[j]
		}
		for j := range p {
			for d, x := range row(v, j) {
				o[at+d] += p[j] / sum * x
			}
		}
	}
	return o
}

// TestAttentionError: on unit-scale data the error is at most 3 times that of
// plain float32 arithmetic, root mean square and worst.
func TestAttentionError(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, a := range []Attention{
			{N: 1, Heads: 2, Tq: 50, Tk: 1500, D: 40}, {N: 1, Heads: 1, Tq: 30, Tk: 256, D: 160}, {N: 1, Heads: 2, Tq: 60, Tk: 77, D: 64}, {N: 1, Heads: 1, Tq: 12, Tk: 400, D: 512},
		} {
			width := a.Heads * a.D
			q, k, v := normals(a.Tq*width, 1), normals(a.Tk*width, 2), normals(a.Tk*width, 3)
			want := attention64(a, widen(q), widen(k), widen(v))
			errors := func(o []float32) (rms, worst float64) {
				for i, x := range o {
					e := math.Abs(float64(x) - want[i])
					rms, worst = rms+e*e, max(worst, e)
				}
				return math.Sqrt(rms / float64(len(o))), worst
			}
			o := make([]float32, len(q))
			AttentionForward(nil, a, o, q, k, v, make([]float32, a.Scratch(1)))
			rms, worst := errors(o)
			plainRMS, plainWorst := errors(attention32(a, q, k, v))
			t.Logf("%+v: error %.2g, worst %.2g; plain float32 %.2g, %.2g", a, rms, worst, plainRMS, plainWorst)
			if rms > 3*plainRMS || worst > 3*plainWorst {
				t.Errorf("%+v: error %.2g, worst %.2g; plain float32 has %.2g, %.2g", a, rms, worst, plainRMS, plainWorst)
			}
		}
	})
}

// TestAttentionExtremeLogits: where one logit is far above all others, the
// output is the value of its key, whatever the logits' size, and however late
// the key comes.
func TestAttentionExtremeLogits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, size := range []float32{104, 200, 1e4, 1e7, 1e15, 1e30} {
			for _, shift := range []float32{0, -1, 1} { // all logits far below 0, around it, far above
				a := Attention{N: 1, Heads: 1, Tq: 100, Tk: 302, D: 8, Scale: 1}
				q, k, v := make([]float32, a.Tq*a.D), make([]float32, a.Tk*a.D), normals(a.Tk*a.D, 3)
				best := func(i int) int { return (i*60 + 1) % a.Tk } // the last is in a group that is not full
				for i := range a.Tq {
					q[i*8], q[i*8+1] = 1, 1
					q[i*8+2+i%6] = 1
				}
				for j := range a.Tk {
					k[j*8] = size * shift
				}
				for i := range 6 { // each group of queries has its own key
					k[best(i)*8+2+i] = size
				}
				o := make([]float32, a.Tq*a.D)
				AttentionForward(nil, a, o, q, k, v, make([]float32, a.Scratch(1)))
				for i := range a.Tq {
					for d := range 8 {
						if got, want := o[i*8+d], v[best(i%6)*8+d]; !(abs32(got-want) <= 2e-7*abs32(want)) {
							t.Fatalf("size %g, shift %g: output of query %d is %v, want %v", size, shift, i, got, want)
						}
					}
				}
			}
		}
	})
}

// TestAttentionEqualLogits: where all logits are equal, the output is the mean of
// the values, whatever the logits' size.
func TestAttentionEqualLogits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, size := range []float32{0, 1e3, -1e3, 1e7, -1e7, 1e15, -1e15, 1e30, -1e30} {
			a := Attention{N: 1, Heads: 1, Tq: 30, Tk: 403, D: 8, Scale: 1}
			q, k, v := make([]float32, a.Tq*a.D), make([]float32, a.Tk*a.D), normals(a.Tk*a.D, 3)
			for i := range q {
				q[i] = 1
			}
			for j := range a.Tk {
				k[j*8] = size
			}
			var mean [8]float64
			for i, x := range v {
				mean[i%8] += float64(x) / float64(a.Tk)
			}
			o := make([]float32, a.Tq*a.D)
			AttentionForward(nil, a, o, q, k, v, make([]float32, a.Scratch(1)))
			for i, x := range o {
				if !(math.Abs(float64(x)-mean[i%8]) <= 1e-6) {
					t.Fatalf("logits of %g: output of query %d is %v, want %v", size, i/8, x, mean[i%8])
				}
			}
		}
	})
}

// TestExponentials: powers of two within 1.5 ulp wherever they are normal
// numbers, exactly 0 for -Inf, and NaN where NaN was, for small maxima, where
// they are taken off by the magic number, and for large ones.
func TestExponentials(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	eachPath(t, func(t *testing.T) {
		cols := 3 * attentionLanes()
		for _, top := range []float32{0, 0.3, -5.75, 100, -99.5, 1 << 19, -(1 << 21), 3 << 21} {
			const keys = 4001
			m := math.Ceil(float64(top))
			s, in := make([]float32, keys*cols), []float32(nil)
			for i := range s {
				s[i] = top - 125*float32(i)/float32(len(s))
			}
			s[5*cols+1], s[6*cols+2], s[8*cols+cols-1] = -inf, nan, float32(m)-200
			in = append(in, s...)
			tops, sums, factors := make([]float32, cols), make([]float32, cols), make([]float32, cols)
			for c := range cols {
				tops[c], sums[c], factors[c] = top, 2, top-float32(c)
			}
			vecExponentials(s, keys, cols, tops, sums, factors)
			worst := 0.0
			want := make([]float64, cols)
			for i, x := range in {
				switch y := s[i]; {
				case x != x:
					if y == y {
						t.Errorf("top %v: NaN became %v", top, y)
					}
				case float64(x)-m < -127:
					if y != 0 {
						t.Errorf("top %v: %v became %v, want exactly 0", top, x, y)
					}
				default:
					worst = max(worst, ulps(y, math.Exp2(float64(x)-m)))
				}
				want[i%cols] += math.Exp2(float64(x) - m)
			}
			t.Logf("top %v: worst error %.2f ulp", top, worst)
			if worst > 1.5 {
				t.Errorf("top %v: worst error %.2f ulp, want at most 1.5", top, worst)
			}
			for c := range cols {
				factor := math.Exp2(math.Ceil(float64(top)-float64(c)) - m)
				if float64(top-float32(c)) == float64(top)-float64(c) && float64(factors[c]) != factor {
					t.Errorf("top %v: factor %d is %v, want %v", top, c, factors[c], factor)
				}
				if w := want[c] + 2*factor; !(math.Abs(float64(sums[c])-w) <= 1e-5*w) && w == w {
					t.Errorf("top %v: sum %d is %v, want %v", top, c, sums[c], w)
				}
			}
			if sums[2] == sums[2] {
				t.Errorf("top %v: the sum over NaN is %v", top, sums[2])
			}
		}
	})
}

// stripCase is a strip with random contents for the loops on strips.
func stripCase(r *rand.Rand, cols, groups, depth, outs, keys int, place func([]float32) []float32) (t attentionStrip, k, v []float32) {
	random := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = 2*r.Float32() - 1
		}
		return place(x)
	}
	t = attentionStrip{cols: cols, q: random(depth * cols), acc: random(4 * outs * cols), stats: random(attentionStats * cols), s: random(max(4*groups, keys) * cols)}
	for i := range t.q { // scores of a size that a power of two bears
		t.q[i] /= 4
	}
	for i, m := range t.ref() {
		m = float32(math.Round(float64(4 * m)))
		t.ref()[i], t.low()[i], t.magic()[i] = m, m+exp2Min, exp2Magic-m
	}
	return t, random(4 * groups * depth), random(4 * outs * keys)
}

// TestAttentionLoops holds each path's loops on strips to the portable ones.
func TestAttentionLoops(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for i := range 60 {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			cols := (2 + i%2) * attentionLanes()
			groups, depth, outs, keys, more := 1+r.IntN(9), 1+r.IntN(40), 1+r.IntN(12), 1+r.IntN(40), r.IntN(2) == 0
			run := func(portable bool) [][]float32 {
				s, k, v := stripCase(rand.New(rand.NewPCG(uint64(i), 4)), cols, groups, depth, outs, keys, func(x []float32) []float32 { return x })
				var raw []float32
				if portable {
					scoresGo(s.s, k, s.q, s.top(), cols, groups, depth, 4*depth, more)
					raw = append(raw, s.s...)
					powersGo(s.s, k, s.q, s.stats, cols, groups, depth, 4*depth, more)
					valuesGo(s.acc, v, s.s, s.factor(), cols, outs, keys, 4*keys, !more)
					divideColumnsGo(s.acc, 4*outs, cols, s.sum())
					outerGo(s.s, k, s.q, cols, groups, depth, depth)
				} else {
					vecScores(s.s, k, s.q, s.top(), cols, groups, depth, 4*depth, more)
					raw = append(raw, s.s...)
					vecPowers(s.s, k, s.q, s.stats, cols, groups, depth, 4*depth, more)
					vecValues(s.acc, v, s.s, s.factor(), cols, outs, keys, 4*keys, !more)
					vecDivideColumns(s.acc, 4*outs, cols, s.sum())
					vecOuter(s.s, k, s.q, cols, groups, depth, depth)
				}
				return [][]float32{raw, s.s, s.stats, s.acc}
			}
			want := run(true)
			for j, got := range run(false) {
				closeTo(t, fmt.Sprintf("case %d, result %d", i, j), got, widen(want[j]), 2e-6)
			}
		}
	})
}

func BenchmarkAttention(b *testing.B) {
	for _, a := range []Attention{
		{N: 1, Heads: 2, Tq: 1024, Tk: 1024, D: 24}, {N: 1, Heads: 4, Tq: 256, Tk: 256, D: 24},
		{N: 1, Heads: 4, Tq: 64, Tk: 64, D: 24}, {N: 1, Heads: 2, Tq: 1024, Tk: 8, D: 24},
		{N: 1, Heads: 8, Tq: 384, Tk: 4096, D: 40}, {N: 1, Heads: 8, Tq: 512, Tk: 77, D: 40}, {N: 1, Heads: 8, Tq: 256, Tk: 256, D: 160},
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

// Keys that no query may see, in the group of the last one seen, change nothing
// however large their scores are.
func TestAttentionHiddenKeys(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, tq := range []int{1, 2, 97, 193} {
			a := Attention{N: 1, Heads: 1, Tq: tq, Tk: tq + 3, D: 8, Causal: true}
			r := rand.New(rand.NewPCG(7, uint64(tq)))
			q, k, v := uniform(r, tq*8), uniform(r, (tq+3)*8), uniform(r, (tq+3)*8)
			for i := range q {
				q[i] = 1
			}
			for i := tq * 8; i < len(k); i++ {
				k[i] = 100
			}
			got, want := make([]float32, tq*8), make([]float32, tq*8)
			AttentionForward(nil, a, got, q, k, v, make([]float32, a.Scratch(1)))
			a.Tk = tq
			AttentionForward(nil, a, want, q, k[:tq*8], v[:tq*8], make([]float32, a.Scratch(1)))
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%d queries: output %d is %v, without hidden keys %v", tq, i, got[i], want[i])
				}
			}
		}
	})
}
