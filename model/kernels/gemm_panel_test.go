package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// randomPanel draws a panel with values of value, every slice exactly as long as the panel says; alloc provides the slices.
func randomPanel(r *rand.Rand, value func() float32, alloc func(values []float32) []float32) panel {
	take := func(n int) []float32 {
		s := make([]float32, n)
		for i := range s {
			s[i] = value()
		}
		return alloc(s)
	}
	p := panel{m: 1 + r.IntN(40), k: 1 + r.IntN(40), add: r.IntN(2) == 0, narrow: r.IntN(2) == 0}
	nr := p.width()
	p.ars, p.ldc = p.k+r.IntN(3), nr+r.IntN(5)
	p.a, p.b, p.c = take((p.m-1)*p.ars+p.k), take(p.k*nr), take((p.m-1)*p.ldc+nr)
	if r.IntN(2) == 0 {
		p.bias = take(p.m)
	}
	if p.m < 8 || r.IntN(4) == 0 {
		return p
	}
	far := int32(0)
	p.off = make([]int32, p.k)
	for q := range p.off {
		p.off[q] = int32(r.IntN(300))
		far = max(far, p.off[q])
	}
	p.off = asInt32(alloc(asFloats(p.off)))
	p.from0, p.from1, p.from2 = take(int(far)+8), take(int(far)+8), take(int(far)+8)
	p.later0, p.later1, p.later2 = p.from1, p.from2, p.from0
	p.step = 64 + 32*r.IntN(2)
	p.to = take((p.k-1)*p.step/4 + 24)
	return p
}

// The micro-kernel for wide panels equals the plain one where sums are exact, and rounds no worse than the sums' length allows
// elsewhere; what it packs are the same bits.
func TestPanel(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(51, 1))
		for i := range 600 {
			value := func() float32 { return float32(r.IntN(17) - 8) }
			if i%2 == 1 {
				value = func() float32 { return r.Float32()*2 - 1 }
			}
			got := randomPanel(r, value, func(s []float32) []float32 { return s })
			want := got
			want.c, want.to = append([]float32{}, got.c...), append([]float32{}, got.to...)
			want.generic()
			got.run(active)
			sameBits(t, "the next panel", got.to, want.to)
			limit := 0.0
			if i%2 == 1 {
				limit = 6e-8 * float64(got.k+3) * float64(got.k+3)
			}
			for j, v := range got.c {
				if !(math.Abs(float64(v-want.c[j])) <= limit) {
					t.Fatalf("panel %d, %d rows, %d terms: value %d is %g, plain %g", i, got.m, got.k, j, v, want.c[j])
				}
			}
		}
	})
}

// A row's bits depend on neither the rows beside it nor the width.
func TestPanelSameBits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(52, 1))
		const m, k = 11, 37
		a, b := uniform(r, m*k), uniform(r, k*24)
		want := make([]float32, m*24)
		whole := panel{a: a, b: b, c: want, m: m, k: k, ars: k, ldc: 24}
		whole.run(active)
		half := make([]float32, k*16)
		copyRows(active, half, 16, b, 24, k, 16)
		for i := range m {
			for rows := 1; rows <= m-i; rows++ {
				c := make([]float32, rows*24)
				p := panel{a: a[i*k:], b: b, c: c, m: rows, k: k, ars: k, ldc: 24}
				p.run(active)
				sameBits(t, "rows", c, want[i*24:(i+rows)*24])
				p.b, p.narrow = half, true
				p.run(active)
				sameBits(t, "narrow rows", c, want[i*24:(i+rows)*24])
			}
		}
	})
}

// wideCases are convolutions that take wide panels where there are any: every remainder of the pixels and of the rows of A, panels that
// the micro-kernel packs and others, sums of one and of several blocks, whole images and such as are shared by the threads.
func wideCases() []Conv {
	return []Conv{
		square(3, 7, 8, 8, 1, 1, 1),    // 64 pixels: 24, 24 and 16
		square(2, 33, 21, 4, 1, 1, 1),  // 16
		square(3, 12, 10, 3, 1, 1, 1),  // 9: ragged
		square(2, 5, 33, 6, 1, 1, 1),   // 36: ragged after a whole one
		square(1, 300, 14, 8, 1, 1, 1), // two blocks
		square(1, 520, 9, 5, 1, 1, 1),
		square(1, 12, 64, 24, 1, 1, 1),
		square(3, 5, 163, 8, 3, 2, 1), // padded, 4 wide
		square(3, 4, 161, 8, 3, 1, 1), // padded, 8 wide
		square(1, 3, 164, 11, 3, 1, 1),
		square(2, 3, 160, 24, 1, 1, 1),
		square(2, 40, 162, 16, 3, 2, 1), // two blocks
		square(3, 4, 32, 16, 3, 2, 1),   // few rows
	}
}

// Wide convolutions are right on every path, and have the same bits for any batch and number of threads.
func TestWideConv(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		wide := 0
		for i, c := range wideCases() {
			if c.correlation().wide() {
				wide++
			}
			r := rand.New(rand.NewPCG(uint64(i), 53))
			in, out := c.Cin*c.H*c.W, c.Cout*c.OutH()*c.OutW()
			x, w, bias, residual := uniform(r, c.N*in), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout), uniform(r, c.N*out)
			sum, scale := naiveConv(c, x, w, bias)
			for mask := range 4 {
				want := append([]float64{}, sum...)
				for j := range want {
					scale[j]++
					if mask&1 != 0 {
						want[j] = silu64(want[j])
					}
					if mask&2 != 0 {
						want[j] += float64(residual[j])
					}
				}
				run := func(p *Pool, batch int) []float32 {
					y, guard := fenced(t, "y", c.N*out)
					b := c
					b.N = batch
					for n := 0; n < c.N; n += batch {
						a := ConvArgs{Y: y[n*out:][:batch*out], X: x[n*in:][:batch*in], W: w, Bias: bias, SiLU: mask&1 != 0, Scratch: make([]float32, b.ScratchForward(p.Threads()))}
						if mask&2 != 0 {
							a.Residual = residual[n*out:]
						}
						b.direct(p, &a)
					}
					guard()
					return y
				}
				y := run(p, c.N)
				near(t, c.String(), y, want, scale)
				sameBits(t, c.String()+" one by one", run(p, 1), y)
				sameBits(t, c.String()+" on one thread", run(nil, c.N), y)
			}
		}
		if active.kind == avx2 && wide != len(wideCases()) {
			t.Errorf("%d of %d cases take wide panels", wide, len(wideCases()))
		}
	})
}
