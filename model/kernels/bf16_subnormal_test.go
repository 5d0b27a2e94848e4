package kernels

import (
	"math"
	"testing"
	"unsafe"
)

// bfFlush makes subnormal numbers 0.
func bfFlush(x []float32) {
	for i, v := range x {
		if math.Abs(float64(v)) < 0x1p-126 {
			x[i] = 0
		}
	}
}

// bfTileFlushed is the portable product with operands, C and results flushed, as VDPBF16PS and TDPBF16PS do; sums on the way
// are not.
func bfTileFlushed(t *bfTile) {
	words := t.chunks * (1 + t.split) * bfPlane
	flushed := func(at *uint16, step, n int) []uint16 {
		out := make([]uint16, n*words)
		for i := range n {
			for j, h := range unsafe.Slice((*uint16)(unsafe.Add(unsafe.Pointer(at), i*step)), words) {
				if h&0x7f80 != 0 {
					out[i*words+j] = h
				}
			}
		}
		return out
	}
	a, b := flushed(t.a, t.aStep, t.m), flushed(t.b, t.bStep, t.n)
	rows := func() {
		for r := range t.m * bfRows {
			bfFlush(unsafe.Slice((*float32)(unsafe.Add(unsafe.Pointer(t.c), r*t.cRow)), t.n*bfRows))
		}
	}
	rows()
	f := *t
	f.a, f.b, f.aStep, f.bStep = &a[0], &b[0], 2*words, 2*words
	bfTilePortable(&f)
	rows()
}

// Subnormal operands, sums and results: the paths without dot products keep them, the two instructions take them for 0. The
// self-check, which all of them have to pass, has none.
func TestBFSubnormals(t *testing.T) {
	if err := bfCheck(bfTileFlushed); err != nil {
		t.Errorf("the self-check holds a path to subnormal numbers: %v", err)
	}
	// One term a row of A and a column of B, so that the order of the sum does not matter.
	left := []float32{0x1p-130, -0x1p-133, 0x1p-70, 0x1.8p-126, 0x1p-126, 0x1p-127, 1, 0}
	right := []float32{0x1p100, 1, -0x1p-70, 0x1p-1, 0x1p-130, 0x1p-127}
	for _, add := range []int{0, 1} {
		a, b := make([]uint16, bfPlane), make([]uint16, bfPlane)
		before := make([]float32, bfRows*bfRows)
		for i := range bfRows {
			a[i*bfTerms] = bfRound(left[i%len(left)])
			b[i/16*bfPlane/2+i%16*2] = bfRound(right[i%len(right)])
			before[i*bfRows+i] = 0x1p-140 * float32(1+i%3)
		}
		product := func(run func(*bfTile)) []float32 {
			c := append([]float32(nil), before...)
			run(&bfTile{a: &a[0], b: &b[0], c: &c[0], aStep: 2 * bfPlane, bStep: 2 * bfPlane, cRow: 4 * bfRows, m: 1, n: 1, chunks: 1, add: add})
			return c
		}
		kept, flushed := product(bfTilePortable), product(bfTileFlushed)
		differ := 0
		for i, v := range kept {
			r, c := i/bfRows, i%bfRows
			want := float32(float64(left[r%len(left)]) * float64(right[c%len(right)]))
			if add != 0 {
				want += before[i]
			}
			if v != want {
				t.Fatalf("add %d: the portable path has %g at %d, %d, want %g", add, v, r, c, want)
			}
			if v != flushed[i] {
				differ++
			}
		}
		if differ < 100 {
			t.Errorf("add %d: flushing changes %d of %d numbers: the test says little", add, differ, len(kept))
		}
		for _, name := range bfNames {
			t.Run(name, func(t *testing.T) {
				withBF(t, name, func() {
					want := kept
					if activeBF.kind == bfAVX512Dot || activeBF.kind == bfAMX {
						want = flushed
					}
					for i, v := range product(func(x *bfTile) { x.run(activeBF.kind) }) {
						if v != want[i] {
							t.Fatalf("add %d: %g at %d, %d, want %g", add, v, i/bfRows, i%bfRows, want[i])
						}
					}
				})
			})
		}
	}
}
