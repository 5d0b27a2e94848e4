package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// silu64 is x*sigmoid(x).
func silu64(x float64) float64 { return x / (1 + math.Exp(-x)) }

// fusedCases are convolutions of every kind that ConvRun knows: direct (frames, panels and images read in place, strided,
// pointwise), Winograd by blocks of tiles (one and several of a frame) and by strips of outputs, with one and several sub-kernels.
func fusedCases() []Conv {
	wide := square(2, 18, 17, 12, 3, 1, 2)
	wide.W = 29
	return []Conv{
		square(3, 9, 7, 11, 3, 1, 1), square(2, 6, 14, 16, 3, 2, 1), square(5, 20, 18, 8, 1, 1, 1), square(2, 300, 10, 7, 1, 1, 1), square(2, 36, 164, 5, 3, 2, 1), square(3, 300, 168, 4, 1, 1, 1),
		square(3, 24, 20, 13, 3, 1, 1), wide, square(2, 17, 25, 14, 5, 1, 2), square(1, 16, 16, 15, 7, 1, 1), square(2, 200, 176, 5, 3, 1, 1), square(2, 100, 88, 6, 5, 1, 1), square(2, 20, 24, 14, 3, 1, 3), square(1, 200, 176, 11, 3, 1, 2), square(2, 12, 20, 14, 3, 1, 1), square(1, 16, 20, 40, 3, 1, 6),
	}
}

// TestConvRun compares what may follow a convolution with float64, and packed weights with plain ones.
func TestConvRun(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		strips, blocks, direct := 0, 0, 0
		for i, c := range fusedCases() {
			r := rand.New(rand.NewPCG(uint64(i), 31))
			x, w, bias, add := uniform(r, c.N*c.Cin*c.H*c.W), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout), uniform(r, c.N*c.Cout)
			plane := c.OutH() * c.OutW()
			conv, convScale := naiveConv(c, x, w, nil)
			residual := uniform(r, len(conv))
			key, packs := c.Packing()
			var packed []float32
			switch {
			case packs:
				blocks++
				var guard func()
				packed, guard = fenced(t, "packed", key.Floats())
				key.Pack(p, packed, w)
				guard()
			case c.winogradWins():
				strips++
			default:
				direct++
			}
			for _, mask := range []int{0, 3, 5, 8, 10, 13, 15} {
				a := ConvArgs{X: x, W: w, SiLU: mask&4 != 0}
				if mask&1 != 0 {
					a.Bias = bias
				}
				if mask&2 != 0 {
					a.Add = add
				}
				want, scale := make([]float64, len(conv)), make([]float64, len(conv))
				for j := range want {
					want[j], scale[j] = conv[j], convScale[j]+1
					if a.Bias != nil {
						want[j] += float64(bias[j/plane%c.Cout])
					}
					if a.Add != nil {
						want[j] += float64(add[j/plane])
					}
					if a.SiLU {
						want[j] = silu64(want[j])
					}
					if mask&8 != 0 {
						want[j] += float64(residual[j])
					}
				}
				run := func(a ConvArgs, inPlace bool) []float32 {
					y, guardY := fenced(t, "y", len(conv))
					if mask&8 != 0 {
						a.Residual = residual
						if inPlace {
							copy(y, residual)
							a.Residual = y
						}
					}
					scratch, guardS := fenced(t, "scratch", c.ScratchForward(2))
					a.Y, a.Scratch = y, scratch
					ConvRun(p, c, a)
					guardY()
					guardS()
					return y
				}
				y := run(a, false)
				near(t, fmt.Sprintf("%v mask %d", c, mask), y, want, scale)
				if mask&8 != 0 {
					sameBits(t, "residual in place", run(a, true), y)
				}
				if packs {
					a.W, a.Packed = nil, packed
					sameBits(t, "packed", run(a, mask&8 != 0), y)
				}
			}
		}
		if strips == 0 || blocks == 0 || direct == 0 {
			t.Errorf("%d cases by strips, %d by blocks, %d direct: want some of each", strips, blocks, direct)
		}
	})
}

// A picture has the same bits alone or in any batch, with any number of threads, packed or not, whatever follows.
func TestConvRunSameBits(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for i, c := range fusedCases() {
			c.N = 4
			r := rand.New(rand.NewPCG(uint64(i), 37))
			in, out := c.Cin*c.H*c.W, c.Cout*c.OutH()*c.OutW()
			x, w, bias, add, residual := uniform(r, c.N*in), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout), uniform(r, c.N*c.Cout), uniform(r, c.N*out)
			var packed []float32
			if key, ok := c.Packing(); ok {
				packed = make([]float32, key.Floats())
				key.Pack(nil, packed, w)
			}
			var want []float32
			for _, threads := range []int{1, 2, 5} {
				p := NewPool(threads)
				for _, batch := range []int{4, 2, 1} {
					b := c
					b.N = batch
					got := make([]float32, len(residual))
					for n := 0; n < c.N; n += batch {
						a := ConvArgs{Y: got[n*out:][:batch*out], X: x[n*in:][:batch*in], W: w, Bias: bias, Add: add[n*c.Cout:][:batch*c.Cout], SiLU: i%2 == 0, Residual: residual[n*out:][:batch*out]}
						if n%(2*batch) == 0 {
							a.Packed = packed
						}
						a.Scratch = make([]float32, b.ScratchForward(threads))
						ConvRun(p, b, a)
					}
					if want == nil {
						want = got
					}
					sameBits(t, c.String(), got, want)
				}
				p.Close()
			}
		}
	})
}

// The layout of packed weights is the same for all images and dilations, and differs between kernels of another size.
func TestConvPacking(t *testing.T) {
	a, ok := square(8, 24, 48, 32, 3, 1, 1).Packing()
	b, also := square(1, 24, 48, 17, 3, 1, 3).Packing()
	if !ok || !also || a != b {
		t.Errorf("packings %v (%t) and %v (%t), want one", a, ok, b, also)
	}
	if k, ok := square(8, 24, 48, 32, 5, 1, 1).Packing(); !ok || k == a {
		t.Errorf("the packing of 5x5 is %v (%t), of 3x3 %v", k, ok, a)
	}
	for _, c := range []Conv{square(1, 320, 320, 64, 3, 1, 1), square(1, 24, 24, 32, 1, 1, 1), square(1, 24, 24, 32, 3, 2, 1)} {
		if k, ok := c.Packing(); ok {
			t.Errorf("%v packs as %v, want not at all", c, k)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("packed weights too short were accepted")
		}
	}()
	c := square(1, 24, 48, 8, 3, 1, 1)
	ConvRun(nil, c, ConvArgs{Y: make([]float32, 48*64), X: make([]float32, 24*64), Packed: make([]float32, a.Floats()-1), Scratch: make([]float32, c.ScratchForward(1))})
}

// The product kernels equal the plain sum for every number of tiles and width, with and without what is there already.
func TestWinogradProduct(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		e := active
		widths := []int{2 * e.vec}
		switch e.kind {
		case avx2:
			widths = []int{8, 16, 24}
		case avx512:
			widths = []int{16, 32}
		}
		r := rand.New(rand.NewPCG(41, 1))
		for _, width := range widths {
			for tiles := 1; tiles <= 13; tiles++ {
				n, add := 8*(1+r.IntN(9)), tiles%2 == 0
				mTile, mLane, vTile, vLane := width+8*r.IntN(3), winogradLane, n+8*r.IntN(2), winogradLane
				if width >= 16 && e.kind == avx2 {
					mTile, mLane, vTile, vLane = winogradLane, winogradLane*(tiles+1+r.IntN(3)), winogradLane, winogradLane*(tiles+r.IntN(3))
				}
				mAt := func(t, o int) int { return t*mTile + o/winogradLane*mLane + o%winogradLane }
				vAt := func(t, p int) int { return t*vTile + p/winogradLane*vLane + p%winogradLane }
				v, u := uniform(r, vAt(tiles-1, n-1)+1), uniform(r, n*width)
				m, guard := fenced(t, "m", mAt(tiles-1, width-1)+1)
				old := uniform(r, len(m))
				copy(m, old)
				winogradProduct(e, m, mTile, mLane, v, vTile, vLane, u, width, tiles, n, add)
				guard()
				written := 0
				for i := range tiles {
					for o := range width {
						want, scale := 0.0, 1.0
						if add {
							want = float64(old[mAt(i, o)])
						}
						for p := range n {
							term := float64(v[vAt(i, p)]) * float64(u[p*width+o])
							want, scale = want+term, scale+math.Abs(term)
						}
						if got := float64(m[mAt(i, o)]); !(math.Abs(got-want) <= 1e-6*scale) {
							t.Fatalf("width %d, tile %d of %d, output %d: %g, want %g", width, i, tiles, o, got, want)
						}
						if m[mAt(i, o)] != old[mAt(i, o)] {
							written++
						}
					}
				}
				changed := 0
				for i := range m {
					if m[i] != old[i] {
						changed++
					}
				}
				if changed != written {
					t.Fatalf("width %d, %d tiles: %d floats changed, %d of them products", width, tiles, changed, written)
				}
			}
		}
	})
}

// Every count of outputs is cut into strips that the product kernels have, without a gap.
func TestWinogradStrips(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for cout := 1; cout <= 200; cout++ {
			k := newWinogradAs(square(1, 16, cout, 8, 3, 1, 1), 1, cout%2 == 0)
			at := 0
			for i := range k.count {
				width := k.stripAt(i+1) - k.stripAt(i)
				if ok := width == k.e.vec || width == 2*k.e.vec || width == 24 && k.e.kind == avx2; k.stripAt(i) != at || !ok {
					t.Fatalf("%d outputs: strip %d begins at %d and has %d, after %d", cout, i, k.stripAt(i), width, at)
				}
				at += width
			}
			if at != k.cout {
				t.Fatalf("%d outputs: strips cover %d", cout, at)
			}
		}
	})
}
