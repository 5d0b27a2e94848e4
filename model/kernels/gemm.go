package kernels

import (
	"sync"
	"unsafe"
)

// tile is one strip of a matrix product for the micro-kernel: m rows and two groups of vec columns. With k = len(off):
//
//	for i < m, g < 2, j < vec:
//		s := 0
//		for p < k: s += a[i*ars + p*acs] * b_g[off[p] + j]      (in this order)
//		c_g[i*ldc + j] = s (+ bias[i]) (+ c_g[i*ldc + j] if add)
//
// The offsets let B be anything that has neighbouring columns next to each other in memory: rows of a matrix, a packed
// panel, or an image under the taps of a convolution. All distances are in floats.
type tile struct {
	a      []float32
	b0, b1 []float32
	c0, c1 []float32
	bias   []float32 // m values, or nil
	off    []int32
	m      int
	ars    int
	acs    int
	ldc    int
	add    bool
	one    bool // only group 0 is wanted; b1 and c1 are ignored
}

// maxKC and maxNR bound every engine's kc and tile width, for buffers on the stack.
const (
	maxKC = 256
	maxNR = 32
)

// packedOffsets[nr][p] = p*nr: where row p of a packed panel of width nr begins.
var packedOffsets = func() (table [maxNR + 1][]int32) {
	for _, nr := range []int{8, 16, 32} {
		table[nr] = make([]int32, maxKC)
		for p := range table[nr] {
			table[nr][p] = int32(p * nr)
		}
	}
	return table
}()

// Gemm computes C[m,n] = A*B, or C += A*B if accumulate, with A[i,p] = a[i*ars+p*acs], B[p,j] = b[p*ldb+j],
// C[i,j] = c[i*ldc+j]. C must not overlap A or B. Every element's sum runs over p in order, in blocks of the path's fixed
// length, so that its bits depend on neither m, n nor the number of threads.
func Gemm(p *Pool, m, n, k int, c []float32, ldc int, a []float32, ars, acs int, b []float32, ldb int, accumulate bool) {
	if m <= 0 || n <= 0 {
		return
	}
	// Packing all of B pays with many rows of A, packing rows of A that do not lie along k as well with many columns. Long sums
	// would be cut, and threads would wait for each other at every cut.
	if acs == 1 && m >= 1024 && n >= active.vec && k > 64 && k <= 1536 || acs != 1 && m >= 96 && n >= 640 && k >= 256 && k <= 1024 {
		gemmLarge(p, m, n, k, c, ldc, a, ars, acs, b, ldb, accumulate)
		return
	}
	g := splitGrid(p.Threads(), m, n)
	each(p, g.units(), gemmLoop{g, k, c, ldc, a, ars, acs, b, ldb, accumulate}, (*gemmLoop).unit)
}

// gemmLoop is the state of Gemm's loop.
type gemmLoop struct {
	g          grid
	k          int
	c          []float32
	ldc        int
	a          []float32
	ars, acs   int
	b          []float32
	ldb        int
	accumulate bool
}

func (s *gemmLoop) unit(_, u int) {
	i0, i1, j0, j1 := s.g.unit(u)
	var a, b []float32
	if s.k > 0 {
		a, b = s.a[i0*s.ars:], s.b[j0:]
	}
	gemmBlock(i1-i0, j1-j0, s.k, s.c[i0*s.ldc+j0:], s.ldc, a, s.ars, s.acs, b, s.ldb, s.accumulate)
}

// gemmLarge is Gemm with B, and A if need be, laid out as panels first.
func gemmLarge(p *Pool, m, n, k int, c []float32, ldc int, a []float32, ars, acs int, b []float32, ldb int, accumulate bool) {
	g := matmul{e: active, m: m, n: n, k: k, a: a, ars: ars, acs: acs, b: b, ldb: ldb, c: c, ldc: ldc, accumulate: accumulate}
	buffer := matmulPool.Get().(*[]float32)
	defer matmulPool.Put(buffer)
	if want := g.scratch(p.Threads()); len(*buffer) < want {
		*buffer = make([]float32, want)
	}
	g.run(p, *buffer)
}

// matmulPool keeps buffers between calls.
var matmulPool = sync.Pool{New: func() any { return new([]float32) }}

// grid cuts an m x n matrix into blocks of rows by columns.
type grid struct{ m, n, mb, nb int }

func (g grid) units() int { return ((g.m + g.mb - 1) / g.mb) * ((g.n + g.nb - 1) / g.nb) }

func (g grid) unit(u int) (i0, i1, j0, j1 int) {
	cols := (g.n + g.nb - 1) / g.nb
	i0, j0 = u/cols*g.mb, u%cols*g.nb
	return i0, min(i0+g.mb, g.m), j0, min(j0+g.nb, g.n)
}

// splitGrid cuts C into enough blocks to keep the threads busy: rows at most as many as keep a block of A in the
// second-level cache, columns in multiples of the tile's width.
func splitGrid(threads, m, n int) grid { return splitTiles(threads, m, n, active.mr, 2*active.vec) }

// splitTiles is splitGrid for tiles of any shape.
func splitTiles(threads, m, n, mr, nr int) grid {
	g := grid{m: m, n: n, mb: min(m, 384/mr*mr), nb: n}
	if threads == 1 {
		return g
	}
	want := 4 * threads
	rows := (m + g.mb - 1) / g.mb
	if rows < want {
		panels := (n + nr - 1) / nr
		parts := min(panels, (want+rows-1)/rows)
		g.nb = (panels + parts - 1) / parts * nr
		if cols := (n + g.nb - 1) / g.nb; rows*cols < 2*threads { // few columns: cut the rows as well
			panels := (m + mr - 1) / mr
			parts := min(panels, (want+cols-1)/cols)
			g.mb = min(g.mb, (panels+parts-1)/parts*mr)
		}
	}
	return g
}

// gemmBlock is Gemm on the caller's goroutine, without scratch: c[i*ldc+j] (+)= sum over p of a[i*ars+p*acs] * b[p*ldb+j].
func gemmBlock(m, n, k int, c []float32, ldc int, a []float32, ars, acs int, b []float32, ldb int, accumulate bool) {
	if m <= 0 || n <= 0 {
		return
	}
	if k <= 0 {
		if !accumulate {
			for i := range m {
				clear(c[i*ldc : i*ldc+n])
			}
		}
		return
	}
	e := active
	nr := 2 * e.vec
	whole := n / nr * nr
	for p0 := 0; p0 < k; p0 += e.kc {
		kc := min(e.kc, k-p0)
		add := accumulate || p0 > 0
		if whole > 0 {
			if m <= 4*e.mr || fitsCache(kc, ldb) {
				gemmStrips(e, m, whole, kc, c, ldc, a[p0*acs:], ars, acs, b[p0*ldb:], ldb, add)
			} else {
				gemmPacked(e, m, whole, kc, c, ldc, a[p0*acs:], ars, acs, b[p0*ldb:], ldb, add)
			}
		}
		if n-whole == e.vec {
			gemmHalf(e, m, kc, c[whole:], ldc, a[p0*acs:], ars, acs, b[p0*ldb+whole:], ldb, add)
		} else if whole < n {
			gemmEdge(e, m, n-whole, kc, c[whole:], ldc, a[p0*acs:], ars, acs, b[p0*ldb+whole:], ldb, add)
		}
	}
}

// fitsCache reports whether a strip of k rows of B, ldb apart, stays in the first-level cache where it lies: rows whose
// distance has a large power of two as a factor share few of the cache's 64 sets.
func fitsCache(k, ldb int) bool {
	sets := 64
	for s := ldb; sets > 1 && s%32 == 0; s /= 2 {
		sets /= 2
	}
	return k <= min(64, 4*sets)
}

// gemmBuffers are the panel and the scratch tile of one call of gemmBlock.
type gemmBuffers struct {
	panel [maxKC * maxNR]float32
	tile  [gemmRows * maxNR]float32
}

const gemmRows = 48 // rows of the scratch tile

// gemmPool keeps buffers between calls: clearing them on every call would take longer than a small product.
var gemmPool = sync.Pool{New: func() any { return new(gemmBuffers) }}

// gemmStrips reads B where it lies: with few rows of A, or a small B, copying it would cost more than it saves.
func gemmStrips(e *engine, m, n, k int, c []float32, ldc int, a []float32, ars, acs int, b []float32, ldb int, add bool) {
	var offsets [maxKC]int32
	for p := range k {
		offsets[p] = int32(p * ldb)
	}
	t := tile{a: a, off: offsets[:k], m: m, ars: ars, acs: acs, ldc: ldc, add: add}
	for j := 0; j < n; j += 2 * e.vec {
		t.b0, t.b1 = b[j:], b[j+e.vec:]
		t.c0, t.c1 = c[j:], c[j+e.vec:]
		t.run(e)
	}
}

// gemmHalf does one group of columns where it lies.
func gemmHalf(e *engine, m, k int, c []float32, ldc int, a []float32, ars, acs int, b []float32, ldb int, add bool) {
	var offsets [maxKC]int32
	for p := range k {
		offsets[p] = int32(p * ldb)
	}
	t := tile{a: a, b0: b, c0: c, off: offsets[:k], m: m, ars: ars, acs: acs, ldc: ldc, add: add, one: true}
	t.run(e)
}

// gemmPacked copies each strip of B into a contiguous panel first, so that it stays in the first-level cache whatever ldb is.
func gemmPacked(e *engine, m, n, k int, c []float32, ldc int, a []float32, ars, acs int, b []float32, ldb int, add bool) {
	buffers := gemmPool.Get().(*gemmBuffers)
	defer gemmPool.Put(buffers)
	panel, nr := buffers.panel[:], 2*e.vec
	t := tile{a: a, off: packedOffsets[nr][:k], m: m, ars: ars, acs: acs, ldc: ldc, add: add}
	t.b0, t.b1 = panel, panel[e.vec:]
	for j := 0; j < n; j += nr {
		copyRows(e, panel, nr, b[j:], ldb, k, nr)
		t.c0, t.c1 = c[j:], c[j+e.vec:]
		t.run(e)
	}
}

// gemmEdge does the last n < 2*vec columns: B goes through a panel and C through a scratch tile, so that nothing beyond either
// matrix is touched.
func gemmEdge(e *engine, m, n, k int, c []float32, ldc int, a []float32, ars, acs int, b []float32, ldb int, add bool) {
	buffers := gemmPool.Get().(*gemmBuffers)
	defer gemmPool.Put(buffers)
	panel, out, nr := buffers.panel[:], buffers.tile[:], 2*e.vec
	copyRows(e, panel, nr, b, ldb, k, n)
	t := tile{off: packedOffsets[nr][:k], ars: ars, acs: acs, ldc: nr}
	t.b0, t.b1, t.c0, t.c1 = panel, panel[e.vec:], out, out[e.vec:]
	for i := 0; i < m; i += gemmRows {
		t.a, t.m = a[i*ars:], min(gemmRows, m-i)
		t.run(e)
		addRows(c[i*ldc:], ldc, out, nr, t.m, n, add)
	}
}

// addRows moves a scratch tile into C: dst[i*ldd+j] (+)= src[i*lds+j], the same rounding as the micro-kernel's own end.
func addRows(dst []float32, ldd int, src []float32, lds, rows, n int, add bool) {
	for i := range rows {
		d, s := dst[i*ldd:i*ldd+n], src[i*lds:i*lds+n]
		if !add {
			copy(d, s)
			continue
		}
		for j, v := range s {
			d[j] += v
		}
	}
}

// asInt32 views floats of scratch as int32, for offset tables; the kernels' callers bring one kind of scratch only.
func asInt32(f []float32) []int32 {
	if len(f) == 0 {
		return nil
	}
	return unsafe.Slice((*int32)(unsafe.Pointer(&f[0])), len(f))
}

// carver cuts scratch into pieces, each starting at a multiple of 16 floats.
type carver struct{ rest []float32 }

func roundUp(n, to int) int { return (n + to - 1) / to * to }

func (s *carver) take(n int) []float32 {
	size := roundUp(n, 16)
	if len(s.rest) < size {
		panic("kernels: scratch too small: give as many floats as the Scratch method says")
	}
	piece := s.rest[:n:size]
	s.rest = s.rest[size:]
	return piece
}
