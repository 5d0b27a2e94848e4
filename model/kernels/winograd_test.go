package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// runWinograd computes c by Winograd's algorithm whatever ConvForward would choose, in either order of work, which must agree.
func runWinograd(t testing.TB, p *Pool, c Conv, x, w, bias []float32) []float32 {
	t.Helper()
	var first []float32
	for _, strips := range []bool{false, true} {
		k := newWinogradAs(c, p.Threads(), strips)
		y, guardY := fenced(t, "y", c.N*c.Cout*c.OutH()*c.OutW())
		scratch, guardS := fenced(t, "scratch", k.scratch(p.Threads()))
		k.forward(p, &ConvArgs{Y: y, X: x, W: w, Bias: bias, Scratch: scratch})
		guardY()
		guardS()
		if first == nil {
			first = y
		}
		sameBits(t, c.String()+" by strips", y, first)
	}
	return first
}

// randomWinograd returns a convolution of stride 1 with 3 to 7 taps a side, of any size, dilation and padding.
func randomWinograd(r *rand.Rand) Conv {
	for {
		c := Conv{N: 1 + r.IntN(3), Cin: 1 + r.IntN(28), H: 1 + r.IntN(23), W: 1 + r.IntN(36), Cout: 1 + r.IntN(28), KH: 3 + 2*r.IntN(3), KW: 3 + 2*r.IntN(3), StrideH: 1, StrideW: 1, DilH: 1 + r.IntN(4), DilW: 1 + r.IntN(4),
			PadTop: r.IntN(6), PadBottom: r.IntN(6), PadLeft: r.IntN(6), PadRight: r.IntN(6)}
		if r.IntN(2) == 0 { // the usual one
			c.DilW, c.PadTop, c.PadBottom, c.PadLeft, c.PadRight = c.DilH, c.DilH, c.DilH, c.DilH, c.DilH
		}
		if c.Check() == nil {
			return c
		}
	}
}

// neighbours adds to the scale of Winograd's outputs what the neighbours in its tile add to the rounding of one with few terms.
func neighbours(scale []float64) {
	for i := range scale {
		scale[i]++
	}
}

func checkWinograd(t testing.TB, p *Pool, c Conv, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 17))
	x, w, bias := uniform(r, c.N*c.Cin*c.H*c.W), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout)
	if r.IntN(3) == 0 {
		bias = nil
	}
	want, scale := naiveConv(c, x, w, bias)
	neighbours(scale)
	near(t, c.String()+" y", runWinograd(t, p, c, x, w, bias), want, scale)
}

func TestWinogradShapes(t *testing.T) {
	pad := func(c Conv, top, bottom, left, right int) Conv {
		c.PadTop, c.PadBottom, c.PadLeft, c.PadRight = top, bottom, left, right
		return c
	}
	cases := []Conv{
		square(2, 32, 32, 16, 3, 1, 1),
		square(3, 24, 40, 8, 3, 1, 1),
		square(17, 16, 16, 8, 3, 1, 1),
		square(1, 33, 17, 32, 3, 1, 2),
		square(1, 8, 8, 21, 3, 1, 3),
		square(2, 70, 9, 13, 3, 1, 4),
		square(1, 130, 24, 6, 3, 1, 1),
		square(1, 4, 3, 1, 3, 1, 1),
		square(2, 24, 40, 16, 3, 1, 3), // tiles of 3 and 2 outputs only
		square(1, 16, 24, 27, 3, 1, 2), // of 4, 3 and 2
		square(1, 16, 24, 8, 3, 1, 4),  // of 2 only
		square(3, 9, 20, 6, 5, 1, 1),
		square(1, 40, 17, 18, 7, 1, 3),
		square(1, 3, 5, 5, 3, 1, 4), // a dilation that leaves some grids with one pixel
		square(1, 3, 5, 3, 3, 1, 7), // a dilation larger than the map: grids without pixels
		pad(square(1, 5, 6, 9, 3, 1, 1), 0, 0, 0, 0),
		pad(square(1, 5, 6, 9, 3, 1, 2), 9, 3, 0, 7), // tiles that see nothing but padding
		pad(square(2, 9, 16, 17, 3, 1, 3), 0, 6, 6, 0),
	}
	wide := square(1, 20, 24, 64, 3, 1, 1)
	wide.H = 5
	cases = append(cases, wide)
	wide.W = 300 // a row of more tiles than are worked on at a time
	cases = append(cases, wide, square(1, 20, 9, 45, 3, 1, 6))
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		for i, c := range cases {
			checkWinograd(t, p, c, uint64(i))
		}
	})
}

func TestWinogradRandomShapes(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(3)
		defer p.Close()
		r := rand.New(rand.NewPCG(18, 2))
		for i := range 40 {
			checkWinograd(t, p, randomWinograd(r), uint64(i))
		}
	})
}

func FuzzWinograd(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, shape, values uint64) {
		have := engines()
		usePath(t, have[values%uint64(len(have))])
		p := NewPool(1 + int(values%3))
		defer p.Close()
		checkWinograd(t, p, randomWinograd(rand.New(rand.NewPCG(shape, 1))), values)
	})
}

// A picture has the same bits alone or in any batch, with any number of threads, however the tiles are dealt out.
func TestWinogradSameBits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, c := range []Conv{square(8, 24, 30, 8, 3, 1, 1), square(8, 40, 20, 20, 3, 1, 2), square(6, 17, 16, 13, 3, 1, 3), square(4, 17, 24, 16, 3, 1, 3), square(4, 9, 16, 11, 5, 1, 2), square(6, 130, 16, 8, 3, 1, 1)} {
			r := rand.New(rand.NewPCG(3, 14))
			in := c.Cin * c.H * c.W
			x, w, bias := uniform(r, c.N*in), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout)
			var first []float32
			for _, threads := range []int{1, 2, 3, 7} {
				p := NewPool(threads)
				for batch := c.N; batch > 0; batch /= 2 {
					b := c
					b.N = batch
					var got []float32
					for n := 0; n+batch <= c.N; n += batch {
						got = append(got, runWinograd(t, p, b, x[n*in:][:batch*in], w, bias)...)
					}
					if first == nil {
						first = got
					}
					sameBits(t, fmt.Sprintf("%v, %d at a time, %d threads: y", c, batch, threads), got, first[:len(got)])
				}
				p.Close()
			}
		}
	})
}

// The error on unit-scale data is at most three times that of a sum taken term by term, and four times the direct kernel's, by the
// root of the mean square.
func TestWinogradError(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, c := range []Conv{square(1, 32, 8, 16, 3, 1, 1), square(1, 96, 8, 16, 3, 1, 1), square(1, 192, 8, 16, 3, 1, 1), square(1, 640, 8, 8, 3, 1, 1), square(1, 32, 8, 18, 3, 1, 3), square(1, 32, 8, 16, 3, 1, 3), square(1, 32, 8, 12, 3, 1, 6), square(1, 640, 8, 12, 3, 1, 4), square(1, 24, 8, 15, 5, 1, 5), square(1, 24, 8, 16, 5, 1, 1), square(1, 96, 8, 16, 5, 1, 2), square(1, 320, 8, 8, 5, 1, 1), square(1, 48, 8, 16, 7, 1, 1)} {
			r := rand.New(rand.NewPCG(5, 14))
			x, w := make([]float32, c.N*c.Cin*c.H*c.W), make([]float32, c.Cout*c.Cin*c.KH*c.KW)
			for _, s := range [][]float32{x, w} {
				for i := range s {
					s[i] = float32(r.NormFloat64())
				}
			}
			want, _ := naiveConv(c, x, w, nil)
			direct := make([]float32, len(want))
			c.direct(nil, &ConvArgs{Y: direct, X: x, W: w, Scratch: make([]float32, c.scratchDirect(1))})
			plain := make([]float32, len(want)) // the sum as a loop would do it
			c.each(func(yi, xi, wi int) { plain[yi] += float32(x[xi] * w[wi]) })
			rms := func(y []float32) float64 {
				var errs, all float64
				for i, v := range y {
					errs += (float64(v) - want[i]) * (float64(v) - want[i])
					all += want[i] * want[i]
				}
				return math.Sqrt(errs / all)
			}
			fast, slow, loop := rms(runWinograd(t, nil, c, x, w, nil)), rms(direct), rms(plain)
			t.Logf("%v: relative rms error %.3g, direct %.3g, ratio %.2f, to a plain loop %.2f", c, fast, slow, fast/slow, fast/loop)
			if fast > 3*loop || fast > 4*slow || fast < slow/10 {
				t.Errorf("%v: relative rms error %.3g, direct kernel %.3g, plain loop %.3g", c, fast, slow, loop)
			}
		}
	})
}

// A poisoned value reaches every output that depends on it, and no tile of which none does.
func TestWinogradKeepsNaN(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, poison := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
			for _, c := range []Conv{square(1, 9, 7, 24, 3, 1, 2), square(1, 9, 7, 24, 3, 1, 4), square(1, 9, 7, 24, 3, 1, 5), square(1, 9, 7, 24, 3, 1, 12)} {
				r := rand.New(rand.NewPCG(5, 6))
				x, w := uniform(r, c.Cin*c.H*c.W), make([]float32, c.Cout*c.Cin*c.KH*c.KW) // weights of zero: 0*NaN is NaN
				const row, col = 7, 22
				d := c.DilH
				x[4*c.H*c.W+row*c.W+col] = poison
				for i, v := range runWinograd(t, nil, c, x, w, nil) {
					i, j := i%(c.H*c.W)/c.W, i%c.W
					depends := (i-row)%d == 0 && (j-col)%d == 0 && max(i-row, row-i) <= d && max(j-col, col-j) <= d
					// Its grid, and tiles of 4x4 pixels there.
					may := (i-row)%d == 0 && (j-col)%d == 0 && max(i-row, row-i) <= 5*d && max(j-col, col-j) <= 5*d
					if bad := v != v; depends && !bad || bad && !may {
						t.Fatalf("%v: output (%d,%d) is %g after %g at (%d,%d)", c, i, j, v, poison, row, col)
					}
				}
			}
		}
	})
}

func TestWinogradStaysInsideScratch(t *testing.T) {
	c := square(1, 16, 16, 8, 3, 1, 1)
	k := newWinograd(c, 1)
	defer func() {
		if recover() == nil {
			t.Error("scratch that is too small was accepted")
		}
	}()
	k.forward(nil, &ConvArgs{Y: make([]float32, 16*64), X: make([]float32, 16*64), W: make([]float32, 16*16*9), Scratch: make([]float32, k.scratch(1)-16)})
}

// BenchmarkWinograd alternates with the direct kernel, so that both meet the same machine, and compares the fastest rounds.
func BenchmarkWinograd(b *testing.B) {
	shapes := []Conv{}
	for _, n := range []int{16} {
		shapes = append(shapes,
			square(n, 32, 32, 64, 3, 1, 1), square(n, 64, 32, 64, 3, 1, 1), square(n, 80, 32, 64, 3, 1, 1),
			square(n, 32, 32, 32, 3, 1, 1), square(n, 48, 48, 32, 3, 1, 1), square(n, 144, 48, 32, 3, 1, 1), square(n, 80, 48, 32, 3, 1, 1), square(n, 48, 48, 32, 3, 1, 2), square(n, 48, 48, 32, 3, 1, 3), square(n, 48, 48, 48, 3, 1, 3),
			square(n, 48, 96, 16, 3, 1, 1), square(n, 96, 96, 16, 3, 1, 1), square(n, 192, 96, 16, 3, 1, 1), square(n, 144, 96, 16, 3, 1, 1), square(n, 96, 96, 16, 3, 1, 2), square(n, 96, 96, 16, 3, 1, 3), square(n, 96, 96, 24, 3, 1, 3), square(n, 96, 96, 11, 3, 1, 1),
			square(n, 96, 96, 8, 3, 1, 1), square(n, 192, 96, 8, 3, 1, 1), square(n, 96, 96, 8, 3, 1, 2), square(n, 96, 96, 8, 3, 1, 3), square(n, 96, 96, 6, 3, 1, 1), square(n, 96, 96, 4, 3, 1, 1), square(n, 192, 96, 4, 3, 1, 1),
			square(n, 16, 16, 64, 3, 1, 1), square(n, 16, 16, 16, 3, 1, 1), square(n, 24, 24, 64, 3, 1, 1), square(n, 24, 24, 8, 3, 1, 1), square(n, 16, 16, 8, 3, 1, 1), square(n, 48, 48, 8, 3, 1, 1))
	}
	shapes = append(shapes, square(1, 32, 32, 64, 3, 1, 1), square(1, 96, 96, 16, 3, 1, 1), square(1, 96, 96, 8, 3, 1, 1), square(1, 192, 96, 8, 3, 1, 1), square(1, 320, 320, 64, 3, 1, 1), square(2, 320, 320, 64, 3, 1, 2), square(2, 640, 640, 32, 3, 1, 1), square(2, 1280, 1280, 16, 3, 1, 1), square(2, 1280, 1280, 8, 3, 1, 1))
	for _, c := range shapes {
		b.Run(fmt.Sprintf("n%d_%d-%d_%dx%d_d%d", c.N, c.Cin, c.Cout, c.H, c.W, c.DilH), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			x, w, bias, y := uniform(r, c.N*c.Cin*c.H*c.W), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout), make([]float32, c.N*c.Cout*c.OutH()*c.OutW())
			k := newWinograd(c, 1)
			scratch := make([]float32, max(k.scratch(1), c.scratchDirect(1)))
			fast, slow := math.Inf(1), math.Inf(1)
			for b.Loop() {
				start := time.Now()
				k.forward(nil, &ConvArgs{Y: y, X: x, W: w, Bias: bias, Scratch: scratch})
				middle := time.Now()
				c.direct(nil, &ConvArgs{Y: y, X: x, W: w, Bias: bias, Scratch: scratch})
				fast, slow = min(fast, middle.Sub(start).Seconds()), min(slow, time.Since(middle).Seconds())
			}
			b.ReportMetric(fast*1e3, "ms")
			b.ReportMetric(slow*1e3, "direct-ms")
			b.ReportMetric(slow/fast, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
