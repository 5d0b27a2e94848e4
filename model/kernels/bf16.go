package kernels

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// The bfloat16 modes. A matrix product C = A B runs on packed operands: A in blocks of 32 rows, B in panels of 32 columns, both
// in chunks of 32 terms of the sum, rounded to bfloat16. Mode BF16x3 keeps a second plane of every chunk with what rounding
// left, x - bf16(x), rounded in turn, and takes three products of the planes a chunk: hi*lo, hi*hi, lo*hi; lo*lo, about 2^-16
// of the whole, is dropped. Sums are float32 and run over the terms in order, chunk after chunk, so that no element depends on
// its place in a block, on the batch or on the threads.
//
// The layout is that of AMX tiles (Intel SDM volume 1, chapter 18):
//
//	A  [block][chunk][plane][32 rows][32 terms]
//	B  [panel][chunk][plane][2 halves of 16 columns][16 pairs of terms][16 columns][2 terms]
//
// The paths differ in the last bits. The one without dot products (AVX2, AVX-512 without BF16, portable) adds the exact product
// of two bfloat16 numbers at a time, of a pair the odd term first: these three have the same bits. VDPBF16PS does the same, and
// TDPBF16PS sums a chunk's even and odd terms apart before it adds them to C. A number that bfloat16 rounds to infinity (from
// 3.39e38) makes its products NaN in bf16x3, whose low half is then infinite too.
//
// Subnormal numbers, below 2^-126, are kept as IEEE 754 has them by the first three. The two instructions take them for 0, as
// operands, in C and as results, whatever MXCSR says (Intel SDM volume 2, VDPBF16PS and TDPBF16PS: DAZ and FTZ). That puts a sum
// off by less than 2^-126 times the larger of 1 and the other factor, a term, which no network notices; making the other paths
// do the same would cost them a comparison a number.
const (
	bfRows   = 32               // rows of a block, and columns of a panel
	bfTerms  = 32               // terms of a chunk
	bfPlane  = bfRows * bfTerms // numbers of one plane of a chunk
	bfBlocks = 16               // chunks that are multiplied at a time: what keeps some panels of B in the second-level cache
)

// bfTile is a product of packed blocks, C = A B or C += A B: m blocks of A, aStep bytes apart, by n panels of B, bStep apart,
// with chunks of the sum; rows of C are cRow bytes apart. The assembly knows the fields by their offsets.
type bfTile struct {
	a, b         *uint16
	c            *float32
	aStep, bStep int
	cRow         int
	m, n, chunks int
	split        int // 1: two planes
	add          int // 1: to what C holds
}

// planes is the number of planes of an operand.
func (m Math) planes() int {
	if m == BF16x3 {
		return 2
	}
	return 1
}

// ---- rounding

// bfRound rounds to nearest, ties to even. A NaN stays one.
func bfRound(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// bfFloat is the number that h stands for.
func bfFloat(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// bfSplit rounds x, and what that leaves.
func bfSplit(x float32) (hi, lo uint16) {
	hi = bfRound(x)
	return hi, bfRound(x - bfFloat(hi))
}

// bfPairs sets hi[i] to the rounded a[i] (lower half) and b[i] (upper half), and lo[i], unless lo is nil, to what that leaves.
func bfPairs(hi, lo []uint32, a, b []float32) {
	n := len(hi)
	a, b = a[:n], b[:n]
	whole := 0
	if bfSIMD() && n >= 8 {
		whole = n &^ 7
		var l *uint32
		if lo != nil {
			l = &lo[:n][0]
		}
		bfPairsFast(&hi[0], l, &a[0], &b[0], whole)
	}
	bfPairsGo(hi, lo, a, b, whole)
}

// bfPairsGo is bfPairs from element from on.
func bfPairsGo(hi, lo []uint32, a, b []float32, from int) {
	for i := from; i < len(hi); i++ {
		x, xl := bfSplit(a[i])
		y, yl := bfSplit(b[i])
		hi[i] = uint32(x) | uint32(y)<<16
		if lo != nil {
			lo[i] = uint32(xl) | uint32(yl)<<16
		}
	}
}

// bfRow packs one row of A: x, with zeros up to whole chunks, to dst, which begins at the row's place in its block's first chunk.
func bfRow(dst []uint16, m Math, x []float32) {
	step, whole := m.planes()*bfPlane, 0
	if bfSIMD() && len(x) >= bfTerms {
		whole = len(x) / bfTerms
		_ = dst[whole*step-bfPlane+bfTerms-1]
		bfRowFast(&dst[0], &x[0], whole, 2*step, m.planes()-1)
	}
	bfRowGo(dst, m, x, whole)
}

// bfRowGo is bfRow from chunk from on.
func bfRowGo(dst []uint16, m Math, x []float32, from int) {
	step := m.planes() * bfPlane
	for i := from; i*bfTerms < len(x); i++ {
		hi := dst[i*step:][:bfTerms]
		var lo []uint16
		if m == BF16x3 {
			lo = dst[i*step+bfPlane:][:bfTerms]
		}
		part := x[i*bfTerms : min((i+1)*bfTerms, len(x))]
		for j, v := range part {
			h, l := bfSplit(v)
			hi[j] = h
			if lo != nil {
				lo[j] = l
			}
		}
		clear(hi[len(part):])
		if lo != nil {
			clear(lo[len(part):])
		}
	}
}

// ---- paths

type bfKind int

const (
	bfPortable bfKind = iota
	bfAVX2
	bfAVX512    // multiply-add on converted numbers
	bfAVX512Dot // VDPBF16PS
	bfAMX
)

// bfEngine is a path of the bfloat16 modes.
type bfEngine struct {
	name string
	// force is the value of SCALECRAFTER_BF16 that stands for it.
	force string
	kind  bfKind
	// check, if not nil, makes the path usable or says why it is not.
	check func() error
}

// fast reports whether the path beats float32 in the mode. AMX multiplies 16 times as fast as a core's float32 units; dot
// products on vectors twice as fast, of which three products leave nothing.
func (e *bfEngine) fast(m Math) bool {
	return e.kind == bfAMX || e.kind == bfAVX512Dot && m == BF16
}

var bfPortableEngine = bfEngine{name: "portable", force: "portable", kind: bfPortable}

// activeBF is the path of the bfloat16 modes; activeBFForced says that it is used even where it is slow. They are set when a
// mode is first asked for, which is when a path has to pass its check; after that only tests change them.
var (
	activeBF       *bfEngine
	activeBFForced bool
	bfError        error
	bfOnce         sync.Once
)

func startBF() {
	bfOnce.Do(func() { activeBF, activeBFForced, bfError = chooseBF(bfEngines(), os.Getenv("SCALECRAFTER_BF16")) })
}

// chooseBF picks the last engine that works, or the last one of that name. The first has no check.
func chooseBF(have []*bfEngine, name string) (*bfEngine, bool, error) {
	var bad error
	for _, e := range slices.Backward(have) {
		if name != "" && e.force != name {
			continue
		}
		if e.check != nil {
			if err := e.check(); err != nil {
				bad = errors.Join(bad, fmt.Errorf("the bfloat16 path %s cannot be used: %w", e.name, err))
				continue
			}
		}
		return e, name != "", bad
	}
	names := []string{}
	for _, e := range have {
		if !slices.Contains(names, e.force) {
			names = append(names, e.force)
		}
	}
	e, _, _ := chooseBF(have, "")
	return e, false, errors.Join(bad, fmt.Errorf("SCALECRAFTER_BF16 is %q, which this machine or build does not have: choose one of %s, or leave it unset",
		name, strings.Join(names, ", ")))
}

// BF16Path is the name of the path that the bfloat16 modes use or would be forced on: "amx", "avx512-bf16", "avx512", "avx2" or
// "portable".
func BF16Path() string { startBF(); return activeBF.name }

// BF16Error returns why the path is not the one that SCALECRAFTER_BF16 asks for or that the processor claims to have, or nil.
func BF16Error() error { startBF(); return bfError }

// BF16Peak returns a register-only loop of the path's products and its floating-point operations a round; nil if it has none.
func BF16Peak() (loop func(rounds int), flops float64) {
	startBF()
	if activeBF.kind == bfAMX {
		return bfPeakAMX, 65536
	}
	return nil, 0
}

// bfCheck tries a path against the portable one: small integers, whose sums are exact in any order, so that the bits must be
// equal, with two blocks, two panels and several chunks, with and without a second plane and addition. It compares the gaps
// around C too. No number is subnormal, nor is any product or sum: there the paths differ by right.
func bfCheck(run func(*bfTile)) error {
	const blocks, panels, chunks, ldc = 2, 3, 3, 3*bfRows + 5
	bits := uint32(1)
	value := func() uint16 { // -8 to 8
		bits = bits*1664525 + 1013904223
		return bfRound(float32(int(bits>>16)%17 - 8))
	}
	a, b := make([]uint16, blocks*chunks*2*bfPlane), make([]uint16, panels*chunks*2*bfPlane)
	for i := range a {
		a[i] = value()
	}
	for i := range b {
		b[i] = value()
	}
	before := make([]float32, blocks*bfRows*ldc+8)
	for i := range before {
		before[i] = float32(i%64 - 32)
	}
	got, want := make([]float32, len(before)), make([]float32, len(before))
	for n := range 8 {
		t := bfTile{a: &a[0], b: &b[0], c: &got[3], m: 1 + n%2, n: panels - n%3, chunks: chunks - n%2, split: n / 2 % 2, add: n / 4, cRow: 4 * ldc}
		t.aStep = 2 * bfPlane * (1 + t.split) * chunks
		t.bStep = t.aStep
		copy(got, before)
		run(&t)
		copy(want, before)
		t.c = &want[3]
		bfTilePortable(&t)
		for i, v := range got {
			if math.Float32bits(v) != math.Float32bits(want[i]) {
				return fmt.Errorf("its self-check finds %g in place of %g at %d of product %d: please report this", v, want[i], i, n)
			}
		}
	}
	return nil
}

// bfTilePortable is the product in plain Go: the specification of the assembly.
func bfTilePortable(t *bfTile) {
	planes := 1 + t.split
	size := t.chunks * planes * bfPlane
	passes := [][2]int{{0, 0}}
	if t.split != 0 {
		passes = [][2]int{{0, 1}, {0, 0}, {1, 0}}
	}
	for i := range t.m {
		a := unsafe.Slice((*uint16)(unsafe.Add(unsafe.Pointer(t.a), i*t.aStep)), size)
		for j := range t.n {
			b := unsafe.Slice((*uint16)(unsafe.Add(unsafe.Pointer(t.b), j*t.bStep)), size)
			for r := range bfRows {
				c := unsafe.Slice((*float32)(unsafe.Add(unsafe.Pointer(t.c), (i*bfRows+r)*t.cRow+4*bfRows*j)), bfRows)
				if t.add == 0 {
					clear(c)
				}
				for q := range t.chunks {
					for _, pass := range passes {
						row := a[(q*planes+pass[0])*bfPlane+r*bfTerms:][:bfTerms]
						bfPortableRow(c, row, b[(q*planes+pass[1])*bfPlane:][:bfPlane])
					}
				}
			}
		}
	}
}

// bfPortableRow adds a row of a chunk of A by a plane of B to a row of C.
func bfPortableRow(c []float32, a, b []uint16) {
	for h := range 2 {
		var s [16]float32
		copy(s[:], c[16*h:])
		for p := range bfTerms / 2 {
			x, y := bfFloat(a[2*p]), bfFloat(a[2*p+1])
			row := b[h*bfPlane/2+p*32:][:32]
			for j := range s {
				v := s[j] + float32(y*bfFloat(row[2*j+1]))
				s[j] = v + float32(x*bfFloat(row[2*j]))
			}
		}
		copy(c[16*h:16*h+16], s[:])
	}
}

// ---- blocks

// bfGrid is the size of a product's packed operands: blocks of rows, panels of columns, chunks of the sum.
type bfGrid struct {
	math    Math
	blocks  int
	panels  int
	chunks  int
	aBlock  int // numbers from one block of A to the next
	bPanel  int // the same for panels of B
	chunkAt int // numbers from one chunk to the next
}

func newBFGrid(m Math, rows, cols, terms int) bfGrid {
	g := bfGrid{math: m, blocks: ceilDiv(rows, bfRows), panels: ceilDiv(cols, bfRows), chunks: ceilDiv(terms, bfTerms), chunkAt: m.planes() * bfPlane}
	g.aBlock = g.chunks * g.chunkAt
	g.bPanel = g.aBlock
	return g
}

// aFloats and bFloats are the sizes of the packed operands in floats.
func (g *bfGrid) aFloats() int { return g.blocks * g.aBlock / 2 }
func (g *bfGrid) bFloats() int { return g.panels * g.bPanel / 2 }

// multiply computes blocks of C, ldc floats a row, from m blocks of a and n panels of b, with chunks of each: a and b begin at
// the first ones' first chunk.
func (g *bfGrid) multiply(c []float32, ldc int, a, b []uint16, m, n, chunks int, add bool) {
	if m == 0 || n == 0 {
		return
	}
	_, _, _ = c[(m*bfRows-1)*ldc+n*bfRows-1], a[(m-1)*g.aBlock+chunks*g.chunkAt-1], b[(n-1)*g.bPanel+chunks*g.chunkAt-1]
	t := bfTile{a: &a[0], b: &b[0], c: &c[0], aStep: 2 * g.aBlock, bStep: 2 * g.bPanel, cRow: 4 * ldc, m: m, n: n, chunks: chunks}
	if g.math == BF16x3 {
		t.split = 1
	}
	if add {
		t.add = 1
	}
	t.run(activeBF.kind)
}

// asUint16 and asUint32 view floats of scratch as other numbers.
func asUint16(f []float32) []uint16 {
	if len(f) == 0 {
		return nil
	}
	return unsafe.Slice((*uint16)(unsafe.Pointer(&f[0])), 2*len(f))
}

func asUint32(f []float32) []uint32 {
	if len(f) == 0 {
		return nil
	}
	return unsafe.Slice((*uint32)(unsafe.Pointer(&f[0])), len(f))
}

func words(h []uint16) []uint32 {
	if len(h) == 0 {
		return nil
	}
	return unsafe.Slice((*uint32)(unsafe.Pointer(&h[0])), len(h)/2)
}

func wordFloats(w []uint32) []float32 {
	if len(w) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&w[0])), len(w))
}

// packA packs rows of A into a block: row r is x[r*ldx : r*ldx+terms]. Rows that are missing are zeros.
func (g *bfGrid) packA(block []uint16, x []float32, ldx, rows, terms int) {
	for r := range bfRows {
		to := block[r*bfTerms:]
		if r < rows {
			bfRow(to, g.math, x[r*ldx:r*ldx+terms])
			continue
		}
		for q := range g.chunks {
			for p := range g.math.planes() {
				clear(to[q*g.chunkAt+p*bfPlane:][:bfTerms])
			}
		}
	}
}

// packBT packs columns of B into a panel: column j is x[j*ldx : j*ldx+terms]. Columns that are missing are zeros.
func (g *bfGrid) packBT(panel []uint16, x []float32, ldx, cols, terms int) {
	var rows [2 * bfPlane]uint16 // a chunk of x's rows, as A would have it
	from := wordFloats(words(rows[:]))
	one := bfGrid{math: g.math, chunks: 1, chunkAt: g.chunkAt}
	for q := range g.chunks {
		n := min(bfTerms, terms-q*bfTerms)
		one.packA(rows[:g.chunkAt], x[q*bfTerms:], ldx, cols, n)
		to := wordFloats(words(panel[q*g.chunkAt:][:g.chunkAt]))
		for h := range 2 * g.math.planes() {
			transposeFast(active, to[h*256:], 16, from[h*256:], 16, 16, 16)
		}
	}
}

// packRows packs the rows of B [terms][cols], ldx floats apart, into panels.
func (g *bfGrid) packRows(b []uint16, x []float32, ldx, terms, cols int) {
	var zero [bfRows]float32
	var hi, lo [bfRows]uint32
	for j := range g.panels {
		n := min(bfRows, cols-j*bfRows)
		for q := range g.chunks {
			at := words(b[j*g.bPanel+q*g.chunkAt:][:g.chunkAt])
			if bfSIMD() && n == bfRows && (q+1)*bfTerms <= terms {
				from := x[q*bfTerms*ldx+j*bfRows:]
				_ = from[(bfTerms-1)*ldx+bfRows-1]
				bfChunkFast(&b[j*g.bPanel+q*g.chunkAt], &from[0], 4*ldx, g.math.planes()-1)
				continue
			}
			for p := range bfTerms / 2 {
				k := q*bfTerms + 2*p
				u, v := zero[:n], zero[:n]
				if k < terms {
					u = x[k*ldx+j*bfRows:][:n]
				}
				if k+1 < terms {
					v = x[(k+1)*ldx+j*bfRows:][:n]
				}
				var l []uint32
				if g.math == BF16x3 {
					l = lo[:n]
				}
				bfPairs(hi[:n], l, u, v)
				for h := range 2 {
					copy(at[h*256+p*16:][:16], hi[16*h:])
					if g.math == BF16x3 {
						copy(at[512+h*256+p*16:][:16], lo[16*h:])
					}
				}
			}
		}
	}
}
