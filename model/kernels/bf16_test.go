package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

// withBF runs f with the named bfloat16 path forced, or skips the test.
func withBF(t testing.TB, name string, f func()) {
	t.Helper()
	startBF()
	for _, e := range bfEngines() {
		if e.name != name {
			continue
		}
		if e.check != nil {
			if err := e.check(); err != nil {
				t.Fatal(err)
			}
		}
		old, forced := activeBF, activeBFForced
		activeBF, activeBFForced = e, true
		defer func() { activeBF, activeBFForced = old, forced }()
		f()
		return
	}
	t.Skipf("this machine has no %s", name)
}

var bfNames = []string{"portable", "avx2", "avx512", "avx512-bf16", "amx"}

func gaussian(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

// Rounding is to nearest even, keeps NaNs, infinities and signs, and overflows like any rounding.
func TestBFRound(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		x    float32
		want uint16
	}{
		{0, 0}, {float32(math.Copysign(0, -1)), 0x8000}, {1, 0x3f80}, {-2, 0xc000}, {inf, 0x7f80}, {-inf, 0xff80},
		{math.Float32frombits(0x3f808000), 0x3f80}, {math.Float32frombits(0x3f818000), 0x3f82}, // ties
		{math.Float32frombits(0x3f808001), 0x3f81}, {math.Float32frombits(0x3f807fff), 0x3f80},
		{math.MaxFloat32, 0x7f80}, {math.Float32frombits(1), 0}, {math.Float32frombits(0x0000ffff), 1},
	} {
		if got := bfRound(c.x); got != c.want {
			t.Errorf("%g rounds to %#04x, want %#04x", c.x, got, c.want)
		}
	}
	for _, bits := range []uint32{0x7f800001, 0xff800001, 0x7fffffff, 0x7fc00000} {
		if f := bfFloat(bfRound(math.Float32frombits(bits))); f == f {
			t.Errorf("the NaN %#x rounds to %g", bits, f)
		}
	}
}

// odd are numbers that conversions may get wrong.
func odd(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		switch r.IntN(4) {
		case 0:
			s[i] = math.Float32frombits(r.Uint32())
		case 1:
			s[i] = math.Float32frombits(r.Uint32()&0xffff0000 | 0x8000)
		default:
			s[i] = float32(r.NormFloat64())
		}
		if s[i] != s[i] || math.IsInf(float64(s[i]), 0) {
			s[i] = 1 // a NaN's bits after a subtraction are nobody's promise
		}
	}
	return s
}

// The assembly's conversions have the bits of the portable ones.
func TestBFConversions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 8, 13, 32, 64, 100} {
		a, b := odd(r, n), odd(r, n)
		for _, split := range []bool{false, true} {
			var got, want [2][]uint32
			for i := range 2 {
				got[i], want[i] = make([]uint32, n), make([]uint32, n)
			}
			if split {
				bfPairs(got[0], got[1], a, b)
				bfPairsGo(want[0], want[1], a, b, 0)
			} else {
				bfPairs(got[0], nil, a, b)
				bfPairsGo(want[0], nil, a, b, 0)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%d pairs, split %v: %x, want %x", n, split, got, want)
			}
			m := BF16
			if split {
				m = BF16x3
			}
			x, y := make([]uint16, 8*2*bfPlane), make([]uint16, 8*2*bfPlane)
			bfRow(x, m, a)
			bfRowGo(y, m, a, 0)
			if fmt.Sprint(x) != fmt.Sprint(y) {
				t.Fatalf("row of %d, split %v: differs", n, split)
			}
		}
	}
	// Special values in whole vectors.
	a := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, 1, 2, 3, math.MaxFloat32}
	hi := make([]uint32, 8)
	bfPairs(hi, nil, a, a)
	for i, h := range hi {
		want := bfRound(a[i])
		if uint16(h) != want || uint16(h>>16) != want {
			t.Errorf("%g converts to %#x, want %#x twice", a[i], h, want)
		}
	}
}

// What the three ways of packing put where, read back by the layout's description.
func TestBFPacking(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, m := range []Math{BF16, BF16x3} {
		for _, size := range [][3]int{{32, 32, 32}, {40, 70, 33}, {5, 1, 100}, {64, 64, 96}} {
			rows, cols, terms := size[0], size[1], size[2]
			g := newBFGrid(m, rows, cols, terms)
			a, b, bt := gaussian(r, rows*terms), gaussian(r, terms*cols), make([]float32, cols*terms)
			for k := range terms {
				for j := range cols {
					bt[j*terms+k] = b[k*cols+j]
				}
			}
			pa := make([]uint16, g.blocks*g.aBlock)
			for i := range g.blocks {
				g.packA(pa[i*g.aBlock:][:g.aBlock], a[i*bfRows*terms:], terms, min(bfRows, rows-i*bfRows), terms)
			}
			pb, pt := make([]uint16, g.panels*g.bPanel), make([]uint16, g.panels*g.bPanel)
			g.packRows(pb, b, cols, terms, cols)
			for j := range g.panels {
				g.packBT(pt[j*g.bPanel:][:g.bPanel], bt[j*bfRows*terms:], terms, min(bfRows, cols-j*bfRows), terms)
			}
			for k := range g.chunks * bfTerms {
				for i := range g.blocks * bfRows {
					at := i/bfRows*g.aBlock + k/bfTerms*g.chunkAt + i%bfRows*bfTerms + k%bfTerms
					var hi, lo uint16
					if i < rows && k < terms {
						hi, lo = bfSplit(a[i*terms+k])
					}
					if pa[at] != hi || m == BF16x3 && pa[at+bfPlane] != lo {
						t.Fatalf("%v %v: A[%d,%d] is packed as %#x", m, size, i, k, pa[at])
					}
				}
				for j := range g.panels * bfRows {
					at := j/bfRows*g.bPanel + k/bfTerms*g.chunkAt + j%bfRows/16*bfPlane/2 + k%bfTerms/2*32 + j%16*2 + k%2
					var hi, lo uint16
					if j < cols && k < terms {
						hi, lo = bfSplit(b[k*cols+j])
					}
					for _, p := range [][]uint16{pb, pt} {
						if p[at] != hi || m == BF16x3 && p[at+bfPlane] != lo {
							t.Fatalf("%v %v: B[%d,%d] is packed as %#x", m, size, k, j, p[at])
						}
					}
				}
			}
		}
	}
}

// The generator's offsets are the fields'.
func TestBFTileFields(t *testing.T) {
	var b bfTile
	got := []uintptr{unsafe.Offsetof(b.a), unsafe.Offsetof(b.b), unsafe.Offsetof(b.c), unsafe.Offsetof(b.aStep), unsafe.Offsetof(b.bStep),
		unsafe.Offsetof(b.cRow), unsafe.Offsetof(b.m), unsafe.Offsetof(b.n), unsafe.Offsetof(b.chunks), unsafe.Offsetof(b.split), unsafe.Offsetof(b.add)}
	for i, o := range got {
		if o != uintptr(8*i) {
			t.Errorf("field %d is at %d, want %d", i, o, 8*i)
		}
	}
}

// Every path computes what the portable one does: small integers exactly (the self-check), anything else to rounding, and bit by
// bit where bf16.go says so.
func TestBFTilePaths(t *testing.T) {
	for _, name := range bfNames {
		t.Run(name, func(t *testing.T) {
			withBF(t, name, func() {
				if err := bfCheck(func(b *bfTile) { b.run(activeBF.kind) }); err != nil {
					t.Error(err)
				}
				r := rand.New(rand.NewPCG(5, 6))
				for _, m := range []Math{BF16, BF16x3} {
					const rows, cols, terms = 64, 96, 160
					g := newBFGrid(m, rows, cols, terms)
					x, y := gaussian(r, rows*terms), gaussian(r, terms*cols)
					a, b := make([]uint16, g.blocks*g.aBlock), make([]uint16, g.panels*g.bPanel)
					for i := range g.blocks {
						g.packA(a[i*g.aBlock:][:g.aBlock], x[i*bfRows*terms:], terms, bfRows, terms)
					}
					g.packRows(b, y, cols, terms, cols)
					got := make([]float32, rows*cols)
					g.multiply(got, cols, a, b, g.blocks, g.panels, g.chunks, false)
					// In two pieces, the second one added: the same bits.
					again := make([]float32, rows*cols)
					g.multiply(again, cols, a, b, g.blocks, g.panels, 2, false)
					g.multiply(again, cols, a[2*g.chunkAt:], b[2*g.chunkAt:], g.blocks, g.panels, g.chunks-2, true)
					want := make([]float32, rows*cols)
					tile := bfTile{a: &a[0], b: &b[0], c: &want[0], aStep: 2 * g.aBlock, bStep: 2 * g.bPanel, cRow: 4 * cols, m: g.blocks, n: g.panels, chunks: g.chunks, split: m.planes() - 1}
					bfTilePortable(&tile)
					same := 0
					for i, v := range got {
						if v != again[i] {
							t.Fatalf("%v: %d in pieces is %g, whole %g", m, i, again[i], v)
						}
						var size float64
						for k := range terms {
							size += math.Abs(float64(x[i/cols*terms+k]) * float64(y[k*cols+i%cols]))
						}
						if d := math.Abs(float64(v) - float64(want[i])); d > 3e-6*size {
							t.Fatalf("%v: element %d is %g, want %g", m, i, v, want[i])
						}
						if v == want[i] {
							same++
						}
					}
					t.Logf("%v: %d of %d have the portable path's bits", m, same, len(got))
					if activeBF.kind != bfAMX && same != len(got) {
						t.Errorf("%v: %d of %d have the portable path's bits, want all", m, same, len(got))
					}
				}
			})
		})
	}
}

// Products on several goroutines at once, with collections and preemptions in between, keep their bits: a thread's tiles are
// nobody else's, and signals do not disturb them.
func TestBFThreads(t *testing.T) {
	for _, name := range bfNames {
		t.Run(name, func(t *testing.T) {
			withBF(t, name, func() {
				r := rand.New(rand.NewPCG(13, 14))
				const rows, cols, terms = 64, 64, 512
				g := newBFGrid(BF16x3, rows, cols, terms)
				x, y := gaussian(r, rows*terms), gaussian(r, terms*cols)
				a, b := make([]uint16, g.blocks*g.aBlock), make([]uint16, g.panels*g.bPanel)
				for i := range g.blocks {
					g.packA(a[i*g.aBlock:][:g.aBlock], x[i*bfRows*terms:], terms, bfRows, terms)
				}
				g.packRows(b, y, cols, terms, cols)
				want := make([]float32, rows*cols)
				g.multiply(want, cols, a, b, g.blocks, g.panels, g.chunks, false)
				stop := make(chan struct{})
				go func() {
					for {
						select {
						case <-stop:
							return
						default:
							runtime.GC()
						}
					}
				}()
				rounds := 40
				if activeBF.kind == bfPortable {
					rounds = 2
				}
				var wait sync.WaitGroup
				for range 4 {
					wait.Go(func() {
						got := make([]float32, rows*cols)
						for range rounds {
							g.multiply(got, cols, a, b, g.blocks, g.panels, g.chunks, false)
							if !slices.Equal(got, want) {
								t.Error("a product on one of several threads has other bits")
								return
							}
						}
					})
				}
				wait.Wait()
				close(stop)
			})
		})
	}
}

// relative is the largest error over the rms of the exact values.
func relative(got []float32, want []float64) float64 {
	var worst, sum float64
	for i, w := range want {
		worst = max(worst, math.Abs(float64(got[i])-w))
		sum += w * w
	}
	return worst / math.Sqrt(sum/float64(len(want)))
}

// bounds of the relative error on unit-scale data.
var bfBound = map[Math]float64{BF16x3: 1e-4, BF16: 0.02}

func TestBFLinear(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, name := range bfNames {
		t.Run(name, func(t *testing.T) {
			withBF(t, name, func() {
				for _, l := range []Linear{{T: 1, K: 5, O: 3}, {T: 70, K: 600, O: 45}, {T: 300, K: 64, O: 300}, {T: 33, K: 1100, O: 10}} {
					x, w, bias, res := gaussian(r, l.T*l.K), gaussian(r, l.O*l.K), gaussian(r, l.O), gaussian(r, l.T*l.O)
					for i := range w {
						w[i] /= float32(math.Sqrt(float64(l.K)))
					}
					want := make([]float64, l.T*l.O)
					for i := range l.T {
						for o := range l.O {
							s := float64(bias[o]) + float64(res[i*l.O+o])
							for k := range l.K {
								s += float64(x[i*l.K+k]) * float64(w[o*l.K+k])
							}
							want[i*l.O+o] = s
						}
					}
					for _, m := range []Math{BF16, BF16x3} {
						l.Math = m
						y := append([]float32(nil), res...)
						LinearRun(nil, l, LinearArgs{Y: y, X: x, W: w, Bias: bias, Residual: y, Scratch: make([]float32, l.Scratch(1))})
						e := relative(y, want)
						t.Logf("%v %dx%dx%d: relative error %.2g", m, l.T, l.K, l.O, e)
						if e > bfBound[m] {
							t.Errorf("%v %+v: relative error %.3g, want at most %g", m, l, e, bfBound[m])
						}
						// Packed, with threads, and a part of the batch: the same bits.
						pack, ok := l.Packing()
						if !ok || pack.Kind != PackBFLinear {
							t.Fatalf("%v: no packing", m)
						}
						packed := make([]float32, pack.Floats())
						pack.Pack(nil, packed, w)
						pool := NewPool(3)
						again := make([]float32, len(y))
						LinearRun(pool, l, LinearArgs{Y: again, X: x, W: w, Packed: packed, Bias: bias, Residual: res, Scratch: make([]float32, l.Scratch(3))})
						pool.Close()
						few := l
						few.T = (l.T + 1) / 2
						part := make([]float32, few.T*l.O)
						LinearRun(nil, few, LinearArgs{Y: part, X: x, W: w, Bias: bias, Residual: res, Scratch: make([]float32, few.Scratch(1))})
						for i, v := range y {
							if v != again[i] || i < len(part) && v != part[i] {
								t.Fatalf("%v %+v: element %d depends on threads, batch or packing", m, l, i)
							}
						}
					}
				}
			})
		})
	}
}

// bfConvCases are shapes that take every way through the packing: dilation, stride, ragged widths, odd channels, several blocks.
var bfConvCases = []Conv{
	{N: 2, Cin: 20, H: 16, W: 16, Cout: 40, KH: 3, KW: 3, StrideH: 1, StrideW: 1, DilH: 1, DilW: 1, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1},
	{N: 1, Cin: 33, H: 12, W: 17, Cout: 33, KH: 3, KW: 3, StrideH: 1, StrideW: 1, DilH: 3, DilW: 2, PadTop: 3, PadBottom: 3, PadLeft: 2, PadRight: 2},
	{N: 3, Cin: 5, H: 9, W: 11, Cout: 7, KH: 3, KW: 3, StrideH: 2, StrideW: 2, DilH: 1, DilW: 1, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1},
	{N: 1, Cin: 8, H: 10, W: 40, Cout: 6, KH: 5, KW: 5, StrideH: 1, StrideW: 1, DilH: 2, DilW: 2, PadTop: 4, PadBottom: 4, PadLeft: 4, PadRight: 4},
	{N: 2, Cin: 130, H: 8, W: 8, Cout: 64, KH: 1, KW: 1, StrideH: 1, StrideW: 1, DilH: 1, DilW: 1},
	{N: 1, Cin: 6, H: 13, W: 14, Cout: 4, KH: 3, KW: 2, StrideH: 2, StrideW: 3, DilH: 2, DilW: 3, PadTop: 0, PadBottom: 3, PadLeft: 4, PadRight: 0},
	{N: 1, Cin: 1, H: 4, W: 4, Cout: 1, KH: 7, KW: 7, StrideH: 1, StrideW: 1, DilH: 1, DilW: 1, PadTop: 3, PadBottom: 3, PadLeft: 3, PadRight: 3},
}

func exactConv(c Conv, x, w, bias []float32) []float64 {
	oh, ow := c.OutH(), c.OutW()
	y := make([]float64, c.N*c.Cout*oh*ow)
	for n := range c.N {
		for o := range c.Cout {
			for i := range oh {
				for j := range ow {
					s := float64(bias[o])
					for ch := range c.Cin {
						for u := range c.KH {
							for v := range c.KW {
								r, q := i*c.StrideH+u*c.DilH-c.PadTop, j*c.StrideW+v*c.DilW-c.PadLeft
								if r >= 0 && r < c.H && q >= 0 && q < c.W {
									s += float64(w[((o*c.Cin+ch)*c.KH+u)*c.KW+v]) * float64(x[((n*c.Cin+ch)*c.H+r)*c.W+q])
								}
							}
						}
					}
					y[((n*c.Cout+o)*oh+i)*ow+j] = s
				}
			}
		}
	}
	return y
}

func TestBFConv(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, name := range bfNames {
		t.Run(name, func(t *testing.T) {
			withBF(t, name, func() {
				for _, c := range bfConvCases {
					plane := c.OutH() * c.OutW()
					x, w, bias := gaussian(r, c.N*c.Cin*c.H*c.W), gaussian(r, c.Cout*c.Cin*c.KH*c.KW), gaussian(r, c.Cout)
					for i := range w {
						w[i] /= float32(math.Sqrt(float64(c.Cin * c.KH * c.KW)))
					}
					want := exactConv(c, x, w, bias)
					for _, m := range []Math{BF16, BF16x3} {
						c.Math = m
						y := make([]float32, len(want))
						ConvForward(nil, c, y, x, w, bias, make([]float32, c.ScratchForward(1)))
						e := relative(y, want)
						t.Logf("%v %dx%d to %dx%d taps %dx%d: relative error %.2g", m, c.H, c.W, c.OutH(), c.OutW(), c.KH, c.KW, e)
						if e > bfBound[m] {
							t.Errorf("%v %+v: relative error %.3g, want at most %g", m, c, e, bfBound[m])
						}
						// Packed, fused, with threads: y is silu(conv + bias + add) + residual, to the bit.
						pack := c.bfPacking(m)
						packed := make([]float32, pack.Floats())
						pack.Pack(nil, packed, w)
						add, res := gaussian(r, c.N*c.Cout), gaussian(r, len(y))
						fused := append([]float32(nil), res...)
						pool := NewPool(3)
						k := newBFConv(c, m, 3)
						k.run(pool, bfConvArgs{y: fused, x: x, packed: packed, bias: bias, add: add, residual: fused, silu: true, scratch: make([]float32, k.scratch(3))})
						pool.Close()
						for i := range y {
							v := []float32{y[i] + add[i/plane]}
							vecSiLU(v, v)
							// A vector's rounding of SiLU may differ from its tail's.
							if d := math.Abs(float64(v[0] + res[i] - fused[i])); d > 1e-6*(1+math.Abs(float64(fused[i]))) {
								t.Fatalf("%v %+v: fused element %d is %g, want %g", m, c, i, fused[i], v[0]+res[i])
							}
						}
						one := c
						one.N = 1
						last := c.N - 1
						alone := make([]float32, c.Cout*plane)
						pool = NewPool(2)
						ConvForward(pool, one, alone, x[last*c.Cin*c.H*c.W:], w, bias, make([]float32, one.ScratchForward(2)))
						pool.Close()
						for i, v := range alone {
							if v != y[last*c.Cout*plane+i] {
								t.Fatalf("%v %+v: element %d depends on threads or batch", m, c, i)
							}
						}
					}
				}
			})
		})
	}
}

func TestBFAttention(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, name := range bfNames {
		t.Run(name, func(t *testing.T) {
			withBF(t, name, func() {
				for _, a := range []Attention{
					{N: 2, Heads: 2, Tq: 70, Tk: 77, D: 8}, {N: 1, Heads: 1, Tq: 130, Tk: 300, D: 40}, {N: 1, Heads: 2, Tq: 65, Tk: 65, D: 33, Causal: true},
					{N: 1, Heads: 1, Tq: 1, Tk: 1, D: 160},
				} {
					width := a.Heads * a.D
					q, k, v := gaussian(r, a.N*a.Tq*width), gaussian(r, a.N*a.Tk*width), gaussian(r, a.N*a.Tk*width)
					want := exactAttention(a, q, k, v)
					for _, m := range []Math{BF16, BF16x3} {
						a.Math = m
						o := make([]float32, len(q))
						AttentionForward(nil, a, o, q, k, v, make([]float32, a.Scratch(1)))
						e := relative(o, want)
						t.Logf("%v %d queries %d keys width %d: relative error %.2g", m, a.Tq, a.Tk, a.D, e)
						if bound := map[Math]float64{BF16x3: 1e-4, BF16: 0.05}[m]; e > bound {
							t.Errorf("%v %+v: relative error %.3g, want at most %g", m, a, e, bound)
						}
						pool := NewPool(3)
						again := make([]float32, len(o))
						AttentionForward(pool, a, again, q, k, v, make([]float32, a.Scratch(3)))
						pool.Close()
						for i := range o {
							if o[i] != again[i] {
								t.Fatalf("%v %+v: element %d depends on threads", m, a, i)
							}
						}
					}
				}
			})
		})
	}
}

func exactAttention(a Attention, q, k, v []float32) []float64 {
	width := a.Heads * a.D
	out := make([]float64, a.N*a.Tq*width)
	for n := range a.N {
		for h := range a.Heads {
			for i := range a.Tq {
				p := make([]float64, a.Tk)
				var sum float64
				for j := range p {
					if a.Causal && j > i {
						continue
					}
					var s float64
					for d := range a.D {
						s += float64(q[(n*a.Tq+i)*width+h*a.D+d]) * float64(k[(n*a.Tk+j)*width+h*a.D+d])
					}
					p[j] = math.Exp(s * float64(a.scale()))
					sum += p[j]
				}
				for d := range a.D {
					var s float64
					for j := range p {
						s += p[j] * float64(v[(n*a.Tk+j)*width+h*a.D+d])
					}
					out[(n*a.Tq+i)*width+h*a.D+d] = s / sum
				}
			}
		}
	}
	return out
}

// An unknown path, a broken one and the choice without a name.
func TestChooseBF(t *testing.T) {
	good := &bfEngine{name: "a", force: "a"}
	dot := &bfEngine{name: "b-dot", force: "b", kind: bfAVX512Dot}
	broken := &bfEngine{name: "c", force: "c", check: func() error { return fmt.Errorf("gives 1 in place of 2") }}
	have := []*bfEngine{good, dot, broken}
	for _, c := range []struct {
		name, want string
		forced     bool
		message    string
	}{
		{"", "b-dot", false, "gives 1 in place of 2"}, {"a", "a", true, ""}, {"b", "b-dot", true, ""},
		{"c", "b-dot", false, "gives 1"}, {"d", "b-dot", false, "choose one of a, b, c"},
	} {
		e, forced, err := chooseBF(have, c.name)
		if e.name != c.want || forced != c.forced || (err == nil) != (c.message == "") || err != nil && !strings.Contains(err.Error(), c.message) {
			t.Errorf("%q: path %s, forced %v, %v; want %s, %v, a message with %q", c.name, e.name, forced, err, c.want, c.forced, c.message)
		}
	}
}

// A mode is itself where it is fast or forced, and float32 with a message elsewhere.
func TestMathEffective(t *testing.T) {
	startBF()
	old, forced := activeBF, activeBFForced
	defer func() { activeBF, activeBFForced = old, forced }()
	for _, c := range []struct {
		kind         bfKind
		forced       bool
		x3, plain    Math
		identityBF16 string
	}{
		{bfPortable, false, Float32, Float32, ""}, {bfPortable, true, BF16x3, BF16, "bf16 p"}, {bfAVX512Dot, false, Float32, BF16, "bf16 p"},
		{bfAMX, false, BF16x3, BF16, "bf16 p"}, {bfAVX512, false, Float32, Float32, ""},
	} {
		activeBF, activeBFForced = &bfEngine{name: "p", kind: c.kind}, c.forced
		if x, p := BF16x3.Effective(), BF16.Effective(); x != c.x3 || p != c.plain || Float32.Effective() != Float32 {
			t.Errorf("%+v: effective %v and %v", c, x, p)
		}
		if got := BF16.Identity(); got != c.identityBF16 {
			t.Errorf("%+v: identity %q", c, got)
		}
		if got := BF16x3.Fallback(); (got == "") != (c.x3 == BF16x3) {
			t.Errorf("%+v: message %q", c, got)
		}
	}
	for name, want := range map[string]Math{"": Float32, "float32": Float32, "bf16": BF16, "bf16x3": BF16x3} {
		if m, err := ParseMath(name); err != nil || m != want {
			t.Errorf("%q is %v, %v", name, m, err)
		}
	}
	if _, err := ParseMath("fp16"); err == nil || !strings.Contains(err.Error(), "float32, bf16x3, bf16") {
		t.Errorf("fp16: %v, want an error that lists the modes", err)
	}
}

// A NaN or an infinity in an input is not hidden: no output that depends on it is finite, and all the others are.
func TestBFKeepsNaN(t *testing.T) {
	withBF(t, "portable", func() {
		for _, m := range []Math{BF16, BF16x3} {
			for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
				c := Conv{N: 1, Cin: 3, H: 9, W: 9, Cout: 2, KH: 3, KW: 3, StrideH: 1, StrideW: 1, DilH: 1, DilW: 1, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1, Math: m}
				r := rand.New(rand.NewPCG(15, 16))
				x, w := gaussian(r, 3*81), gaussian(r, 2*27)
				x[81+4*9+4] = bad
				y := make([]float32, 2*81)
				ConvForward(nil, c, y, x, w, nil, make([]float32, c.ScratchForward(1)))
				for i, v := range y {
					row, col := i%81/9, i%9
					near := row >= 3 && row <= 5 && col >= 3 && col <= 5
					if finite := v-v == 0; finite == near {
						t.Errorf("%v, %g: output (%d,%d) is %g", m, bad, row, col, v)
					}
				}
				l := Linear{T: 3, K: 40, O: 5, Math: m}
				lx, lw, ly := gaussian(r, 120), gaussian(r, 200), make([]float32, 15)
				lx[45] = bad
				LinearForward(nil, l, ly, lx, lw, nil, make([]float32, l.Scratch(1)))
				for i, v := range ly {
					if finite := v-v == 0; finite == (i/5 == 1) {
						t.Errorf("%v, %g: row %d is %g", m, bad, i/5, v)
					}
				}
			}
		}
	})
}
