package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// eachPath runs a test with every engine of this machine.
func eachPath(t *testing.T, f func(t *testing.T)) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			usePath(t, e)
			f(t)
		})
	}
}

// usePath makes e the active engine for the length of a test.
func usePath(t testing.TB, e *engine) {
	old := active
	active = e
	t.Cleanup(func() { active = old })
}

func uniform(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = r.Float32()*2 - 1
	}
	return s
}

// fenced returns n floats of uninitialised content (NaN) between guards, and a check that the guards are untouched.
func fenced(t testing.TB, name string, n int) ([]float32, func()) {
	const guard, mark = 64, -12345.5
	all := make([]float32, n+2*guard)
	for i := range all {
		all[i] = mark
	}
	s := all[guard : guard+n : guard+n]
	for i := range s {
		s[i] = float32(math.NaN())
	}
	return s, func() {
		t.Helper()
		for i := range guard {
			if all[i] != mark || all[guard+n+i] != mark {
				t.Fatalf("%s: guard value %d before or after the buffer was overwritten", name, i)
			}
		}
	}
}

// naiveConv is the definition, in float64, with the sum of absolute terms of each output as the scale of its rounding.
func naiveConv(c Conv, x, w, bias []float32) (y, scale []float64) {
	oh, ow := c.OutH(), c.OutW()
	y, scale = make([]float64, c.N*c.Cout*oh*ow), make([]float64, c.N*c.Cout*oh*ow)
	c.each(func(yi, xi, wi int) {
		v := float64(x[xi]) * float64(w[wi])
		y[yi] += v
		scale[yi] += math.Abs(v)
	})
	if bias != nil {
		for i := range y {
			b := float64(bias[i/(oh*ow)%c.Cout])
			y[i] += b
			scale[i] += math.Abs(b)
		}
	}
	return y, scale
}

// each calls f with the flat indices of every product of the convolution.
func (c Conv) each(f func(yi, xi, wi int)) {
	oh, ow := c.OutH(), c.OutW()
	for n := range c.N {
		for o := range c.Cout {
			for i := range oh {
				for j := range ow {
					yi := ((n*c.Cout+o)*oh+i)*ow + j
					for ci := range c.Cin {
						for u := range c.KH {
							r := i*c.StrideH + u*c.DilH - c.PadTop
							if r < 0 || r >= c.H {
								continue
							}
							for v := range c.KW {
								q := j*c.StrideW + v*c.DilW - c.PadLeft
								if q < 0 || q >= c.W {
									continue
								}
								f(yi, ((n*c.Cin+ci)*c.H+r)*c.W+q, ((o*c.Cin+ci)*c.KH+u)*c.KW+v)
							}
						}
					}
				}
			}
		}
	}
}

// near fails unless every value is within 1e-5 of its scale.
func near(t testing.TB, what string, got []float32, want, scale []float64) {
	t.Helper()
	for i, g := range got {
		if d := math.Abs(float64(g) - want[i]); !(d <= 1e-5*scale[i]) {
			t.Fatalf("%s[%d] = %g, want %g (scale %g)", what, i, g, want[i], scale[i])
		}
	}
}

func sameBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s[%d] = %x, want the same bits as %x", what, i, math.Float32bits(got[i]), math.Float32bits(want[i]))
		}
	}
}

// square returns a convolution with the padding that keeps the size at stride 1.
func square(n, cin, cout, size, k, stride, dilation int) Conv {
	p := dilation * (k - 1) / 2
	return Conv{N: n, Cin: cin, H: size, W: size, Cout: cout, KH: k, KW: k, StrideH: stride, StrideW: stride, DilH: dilation, DilW: dilation,
		PadTop: p, PadBottom: p, PadLeft: p, PadRight: p}
}

func (c Conv) String() string {
	return fmt.Sprintf("n%d_%dx%dx%d_to_%d_k%dx%d_s%dx%d_d%dx%d_p%d.%d.%d.%d", c.N, c.Cin, c.H, c.W, c.Cout, c.KH, c.KW, c.StrideH, c.StrideW, c.DilH, c.DilW,
		c.PadTop, c.PadBottom, c.PadLeft, c.PadRight)
}

// randomConv returns a small valid convolution of any kind.
func randomConv(r *rand.Rand) Conv {
	for {
		pick := func(list ...int) int { return list[r.IntN(len(list))] }
		c := Conv{N: 1 + r.IntN(3), Cin: 1 + r.IntN(20), H: 1 + r.IntN(19), W: 1 + r.IntN(36), Cout: 1 + r.IntN(20), KH: pick(1, 2, 3, 3, 5, 7), StrideH: pick(1, 1, 2, 3), DilH: pick(1, 1, 2, 3),
			PadTop: r.IntN(4), PadBottom: r.IntN(4), PadLeft: r.IntN(4), PadRight: r.IntN(4)}
		c.KW, c.StrideW, c.DilW = c.KH, c.StrideH, c.DilH
		switch r.IntN(4) {
		case 0:
			c.KW, c.StrideW, c.DilW = pick(1, 3, 5), pick(1, 2, 3), pick(1, 2, 4)
		case 1:
			c.PadTop = c.DilH * (c.KH - 1) / 2
			c.PadBottom, c.PadLeft, c.PadRight = c.PadTop, c.PadTop, c.PadTop
		case 2:
			c.PadTop, c.PadBottom, c.PadLeft, c.PadRight = 0, 0, 0, 0
		}
		if c.Check() == nil {
			return c
		}
	}
}

// checkConv compares all three functions with the definition.
func checkConv(t testing.TB, p *Pool, c Conv, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	oh, ow := c.OutH(), c.OutW()
	x, w, bias, dy := uniform(r, c.N*c.Cin*c.H*c.W), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout), uniform(r, c.N*c.Cout*oh*ow)
	if r.IntN(3) == 0 {
		bias = nil
	}
	y, guardY := fenced(t, "y", len(dy))
	scratch, guardS := fenced(t, "scratch", c.ScratchForward(p.Threads()))
	ConvForward(p, c, y, x, w, bias, scratch)
	guardY()
	guardS()
	want, scale := naiveConv(c, x, w, bias)
	if c.winogradWins() {
		neighbours(scale)
	}
	near(t, c.String()+" y", y, want, scale)

	dx, guardX := fenced(t, "dx", len(x))
	scratch, guardS = fenced(t, "scratch", c.ScratchData(p.Threads()))
	ConvBackwardData(p, c, dx, dy, w, scratch)
	guardX()
	guardS()
	want, scale = make([]float64, len(x)), make([]float64, len(x))
	c.each(func(yi, xi, wi int) {
		v := float64(dy[yi]) * float64(w[wi])
		want[xi] += v
		scale[xi] += math.Abs(v)
	})
	if a, ok := c.adjoint(); ok && a.winogradWins() {
		neighbours(scale)
	}
	near(t, c.String()+" dx", dx, want, scale)

	dw, guardW := fenced(t, "dw", len(w))
	scratch, guardS = fenced(t, "scratch", c.ScratchWeight(p.Threads()))
	ConvBackwardWeight(p, c, dw, dy, x, scratch)
	guardW()
	guardS()
	want, scale = make([]float64, len(w)), make([]float64, len(w))
	c.each(func(yi, xi, wi int) {
		v := float64(dy[yi]) * float64(x[xi])
		want[wi] += v
		scale[wi] += math.Abs(v)
	})
	near(t, c.String()+" dw", dw, want, scale)
}

func TestConvShapes(t *testing.T) {
	pad := func(c Conv, top, bottom, left, right int) Conv {
		c.PadTop, c.PadBottom, c.PadLeft, c.PadRight = top, bottom, left, right
		return c
	}
	cases := []Conv{
		square(2, 24, 24, 8, 3, 1, 1),
		square(1, 9, 7, 16, 3, 1, 2),
		square(5, 12, 24, 4, 3, 1, 1),
		square(2, 30, 26, 7, 3, 1, 1),
		square(1, 5, 6, 20, 5, 1, 3),
		square(1, 4, 6, 13, 7, 1, 1),
		square(3, 6, 8, 16, 3, 2, 1),
		square(2, 6, 8, 15, 3, 2, 2),
		square(1, 3, 5, 17, 5, 3, 2),
		square(2, 48, 24, 8, 1, 1, 1),
		square(2, 10, 7, 5, 1, 1, 1),
		square(2, 10, 7, 9, 1, 2, 1),
		pad(square(2, 6, 8, 16, 3, 2, 1), 0, 1, 0, 1), // the autoencoder's downsampling
		pad(square(1, 6, 8, 9, 3, 1, 1), 0, 0, 0, 0),
		pad(square(1, 6, 8, 16, 3, 1, 1), 4, 3, 5, 0), // more padding than the kernel reaches
		pad(square(1, 6, 8, 6, 1, 1, 1), 1, 2, 0, 3),
		square(1, 2, 3, 3, 3, 1, 4), // most taps outside
		square(1, 40, 6, 8, 3, 1, 1),
		square(2, 3, 2, 1, 1, 1, 1),
		pad(square(1, 5, 3, 15, 2, 2, 1), 0, 1, 0, 1), // the phases of dx differ in width, and one could read dy in place
		pad(Conv{N: 2, Cin: 18, H: 16, W: 9, Cout: 10, KH: 3, KW: 3, StrideH: 3, StrideW: 3, DilH: 1, DilW: 1}, 2, 3, 2, 2), // phases narrower than dy, read in place
		square(9, 64, 8, 32, 1, 1, 1),   // the gradient of the weights takes the batch in pieces
		square(1, 30, 520, 12, 3, 1, 1), // several blocks of every loop
		square(33, 12, 8, 4, 3, 1, 1),
		square(3, 24, 40, 16, 3, 1, 1), // Winograd forward and backward
		pad(square(2, 17, 36, 16, 3, 1, 2), 3, 1, 0, 4),
		square(2, 18, 20, 16, 5, 1, 2),
		square(1, 17, 24, 13, 7, 1, 1),
		square(1, 200, 176, 5, 3, 1, 1), // by strips of outputs
		square(13, 8, 12, 8, 3, 2, 1),
		square(9, 20, 14, 4, 1, 1, 1),
		square(1, 3, 104, 6, 3, 1, 1),
	}
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		for i, c := range cases {
			checkConv(t, p, c, uint64(i))
		}
	})
}

// Padding wider than the kernel reaches leaves rows of dy that no input sees: the adjoint would have to crop them.
func TestAdjointRefusesWidePadding(t *testing.T) {
	c := square(1, 24, 20, 16, 3, 1, 1)
	if _, ok := c.adjoint(); !ok {
		t.Fatalf("%v has no adjoint", c)
	}
	c.PadTop = 3
	if a, ok := c.adjoint(); ok {
		t.Fatalf("%v has the adjoint %v, want none", c, a)
	}
}

func TestConvRandomShapes(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(3)
		defer p.Close()
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 80 {
			checkConv(t, p, randomConv(r), uint64(i))
		}
	})
}

// A picture has the same bits alone or in any batch, with any number of threads.
func TestConvSameBits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, c := range []Conv{square(8, 24, 30, 12, 3, 1, 1), square(8, 40, 20, 8, 3, 2, 1), square(8, 33, 16, 4, 3, 1, 2), square(8, 300, 10, 6, 1, 1, 1)} {
			r := rand.New(rand.NewPCG(3, 4))
			in, out := c.Cin*c.H*c.W, c.Cout*c.OutH()*c.OutW()
			x, w, bias, dy := uniform(r, c.N*in), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout), uniform(r, c.N*out)
			var y, dx, dw []float32
			for _, threads := range []int{1, 2, 3, 7} {
				p := NewPool(threads)
				for _, batch := range []int{8, 4, 2, 1} {
					b := c
					b.N = batch
					gotY, gotX := make([]float32, len(dy)), make([]float32, len(x))
					for n := 0; n < c.N; n += batch {
						ConvForward(p, b, gotY[n*out:][:batch*out], x[n*in:][:batch*in], w, bias, make([]float32, b.ScratchForward(threads)))
						ConvBackwardData(p, b, gotX[n*in:][:batch*in], dy[n*out:][:batch*out], w, make([]float32, b.ScratchData(threads)))
					}
					if y == nil {
						y, dx = gotY, gotX
					}
					sameBits(t, c.String()+" y", gotY, y)
					sameBits(t, c.String()+" dx", gotX, dx)
				}
				gotW := make([]float32, len(w))
				ConvBackwardWeight(p, c, gotW, dy, x, make([]float32, c.ScratchWeight(threads)))
				if dw == nil {
					dw = gotW
				}
				sameBits(t, c.String()+" dw", gotW, dw)
				p.Close()
			}
		}
	})
}

func TestConvCheck(t *testing.T) {
	good := square(1, 2, 3, 8, 3, 1, 1)
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Conv){
		"N":       func(c *Conv) { c.N = 0 },
		"StrideW": func(c *Conv) { c.StrideW = 0 },
		"DilH":    func(c *Conv) { c.DilH = 0 },
		"PadLeft": func(c *Conv) { c.PadLeft = -1 },
		"covers":  func(c *Conv) { c.DilH = 9 },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !containsWord(err.Error(), name) {
			t.Errorf("%s: error %v does not name it", name, err)
		}
	}
}

func containsWord(s, word string) bool {
	for i := 0; i+len(word) <= len(s); i++ {
		if s[i:i+len(word)] == word {
			return true
		}
	}
	return false
}

// A poisoned value reaches every output that depends on it, and no other.
func TestConvKeepsNaN(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		c := square(1, 9, 7, 12, 3, 1, 1)
		r := rand.New(rand.NewPCG(5, 6))
		x, w := uniform(r, c.Cin*c.H*c.W), make([]float32, c.Cout*c.Cin*9) // weights of zero: 0*NaN is NaN
		x[4*144+5*12+11] = float32(math.NaN())
		y := make([]float32, c.Cout*144)
		ConvForward(nil, c, y, x, w, nil, make([]float32, c.ScratchForward(1)))
		for i, v := range y {
			row, col := i%144/12, i%12
			touched := row >= 4 && row <= 6 && col >= 10
			if (v != v) != touched {
				t.Fatalf("output (%d,%d) is %g, want NaN: %t", row, col, v, touched)
			}
		}
	})
}
