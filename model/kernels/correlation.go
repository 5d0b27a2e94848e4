package kernels

// frame is the zero-padded copy of one image that a correlation reads: for every channel, for every phase of the stride that
// some tap lands on, one plane in which neighbouring outputs read neighbouring pixels.
//
//	plane (fr,fc) pixel (i,j) = source[(i*sh + phaseRows[fr]) + top, (j*sw + phaseCols[fc]) + left]      (0 outside)
type frame struct {
	c, h, w              int // source: channels and size of a plane
	sh, sw               int
	top, left            int // the smallest shift of any tap: where padded row and column 0 lie in the source
	phaseRows, phaseCols []int
	ph, pw               int // size of a padded plane
	stride               int // from one channel to the next
}

// newFrame lays out the frame for an oh x ow output whose taps are shifted by rows and cols, in source pixels.
func newFrame(c, h, w, oh, ow, sh, sw int, rows, cols []int) frame {
	f := frame{c: c, h: h, w: w, sh: sh, sw: sw}
	f.top, f.phaseRows, f.ph = phases(rows, sh)
	f.left, f.phaseCols, f.pw = phases(cols, sw)
	f.ph += oh
	f.pw += ow
	f.stride = spreadSets(len(f.phaseRows) * len(f.phaseCols) * f.ph * f.pw)
	return f
}

// phases returns the smallest shift, the distinct residues of the shifts above it, and the largest whole number of strides.
func phases(shifts []int, stride int) (low int, residues []int, reach int) {
	low = shifts[0]
	for _, s := range shifts {
		low = min(low, s)
	}
	seen := make([]bool, stride)
	for _, s := range shifts {
		seen[(s-low)%stride] = true
		reach = max(reach, (s-low)/stride)
	}
	for r, s := range seen {
		if s {
			residues = append(residues, r)
		}
	}
	return low, residues, reach
}

// floats returns the size of the frame, with room for a vector load that begins at its last pixel.
func (f *frame) floats() int { return f.c*f.stride + maxNR }

// empty returns n frames of zeros, one after the other.
func (f *frame) empty(p *Pool, s *carver, n int) []float32 {
	size := roundUp(f.floats(), 16)
	frames := s.take(n * size)
	each(p, n, emptying{frames, size}, func(s *emptying, _, i int) { clear(s.frames[i*s.size : (i+1)*s.size]) })
	return frames
}

// emptying is the state of the loop of empty.
type emptying struct {
	frames []float32
	size   int
}

// whole reports whether the source itself can serve as the frame.
func (f *frame) whole() bool {
	return f.sh == 1 && f.sw == 1 && f.top == 0 && f.left == 0 && f.ph == f.h && f.pw == f.w
}

// place returns where a tap's pixel for output (0,0) lies within a channel.
func (f *frame) place(row, col int) int {
	row, col = row-f.top, col-f.left
	plane := index(f.phaseRows, row%f.sh)*len(f.phaseCols) + index(f.phaseCols, col%f.sw)
	return (plane*f.ph+row/f.sh)*f.pw + col/f.sw
}

func index(list []int, v int) int {
	for i, w := range list {
		if w == v {
			return i
		}
	}
	panic("kernels: a tap lies outside its frame")
}

// fill writes the source's pixels into channels [c0,c1) of the frame; what lies outside the source must be zero already.
func (f *frame) fill(e *engine, dst, src []float32, c0, c1 int) {
	for c := c0; c < c1; c++ {
		plane := src[c*f.h*f.w : (c+1)*f.h*f.w]
		for i, fr := range f.phaseRows {
			// Row r of the plane is row r*sh+first of the source.
			first := fr + f.top
			r0 := min(max(0, ceilDiv(-first, f.sh)), f.ph)
			r1 := min(f.ph, ceilDiv(f.h-first, f.sh))
			if r0 >= r1 {
				continue
			}
			to := dst[c*f.stride+i*len(f.phaseCols)*f.ph*f.pw+r0*f.pw:]
			f.fillRows(e, to, plane[(r0*f.sh+first)*f.w:], r1-r0)
		}
	}
}

// fillRows writes rows of all column phases: rows of a plane are pw apart, those of the source sh*w.
func (f *frame) fillRows(e *engine, dst, src []float32, rows int) {
	if f.sw == 2 && len(f.phaseCols) == 2 {
		q := max(0, f.left) // the first source column that anyone reads; every second one goes to the same phase
		at := q - f.left
		even, odd := at%2*f.ph*f.pw+at/2, (at+1)%2*f.ph*f.pw+(at+1)/2
		n0 := max(0, min((f.w-q+1)/2, f.pw-at/2))
		n1 := max(0, min((f.w-q)/2, f.pw-(at+1)/2))
		n := min(n0, n1)
		if q >= f.w {
			return
		}
		split(e, dst[even:], dst[odd:], f.pw, src[q:], f.sh*f.w, rows, n)
		for r := range rows { // one phase may have one more column
			line := src[r*f.sh*f.w:][:f.w]
			for j := n; j < n0; j++ {
				dst[r*f.pw+even+j] = line[q+2*j]
			}
			for j := n; j < n1; j++ {
				dst[r*f.pw+odd+j] = line[q+2*j+1]
			}
		}
		return
	}
	for i, fc := range f.phaseCols {
		first := fc + f.left
		j0 := min(max(0, ceilDiv(-first, f.sw)), f.pw)
		j1 := min(f.pw, ceilDiv(f.w-first, f.sw))
		if j0 >= j1 {
			continue
		}
		to, from := dst[i*f.ph*f.pw+j0:], src[j0*f.sw+first:]
		if f.sw == 1 {
			copyRows(e, to, f.pw, from, f.sh*f.w, rows, j1-j0)
			continue
		}
		for r := range rows {
			row, at := to[r*f.pw:][:j1-j0], r*f.sh*f.w
			for j := range row {
				row[j] = from[at]
				at += f.sw
			}
		}
	}
}

// spreadSets rounds a distance up to an odd multiple of a cache line, so that things so far apart fall into different sets of
// the cache.
func spreadSets(floats int) int {
	lines := (floats + 15) / 16
	return (lines | 1) * 16
}

// ceilDiv returns a/b rounded up, for any a and positive b.
func ceilDiv(a, b int) int {
	if a >= 0 {
		return (a + b - 1) / b
	}
	return -(-a / b)
}

// correlation is a matrix A [m, k] times the windows of an image, k running over (channel, tap row, tap column):
//
//	y[i, p] = bias[i] + sum over (c,u,v) of A[i, (c,u,v)] * image[c, p.row*sh + rows[u], p.col*sw + cols[v]]
//
// It is an implicit matrix product: the micro-kernel finds the columns of B through a table of offsets into the frame.
type correlation struct {
	frame      frame
	m          int
	oh, ow     int
	rows, cols []int
	// packed says that outputs are taken in flat order and B goes through panels; else groups of neighbouring outputs of one
	// row read the frame directly.
	packed bool
	// raw says that B is the source image itself: nothing is padded and no group is ragged.
	raw bool
	e   *engine
	// nr is the width of a tile: the micro-kernel's, or panelWidth, see widen.
	nr int
	// kc is the longest run of a sum in registers.
	kc int
}

func newCorrelation(c, h, w, m, oh, ow, sh, sw int, rows, cols []int) *correlation {
	return newCorrelationIn(newFrame(c, h, w, oh, ow, sh, sw, rows, cols), m, oh, ow, rows, cols)
}

func newCorrelationIn(f frame, m, oh, ow int, rows, cols []int) *correlation {
	k := &correlation{frame: f, m: m, oh: oh, ow: ow, rows: rows, cols: cols, e: active, nr: 2 * active.vec, kc: active.kc}
	vec, nr := k.e.vec, k.nr
	// Packing a column of B costs about as much as multiplying it by 8 rows of A.
	direct := roundUp(oh*((ow+vec-1)/vec), 2) * vec * m
	panels := roundUp(oh*ow, nr) * (m + 8)
	// A pointwise layer would read rows that lie a whole plane apart, often a power of two, where they share few sets of the
	// cache; a panel is worth its copy as soon as it is read a few times.
	pointwise := len(rows)*len(cols) == 1 && f.whole()
	k.packed = panels < direct || pointwise && m > 12
	k.raw = f.whole() && (k.packed || ow%vec == 0)
	return k
}

// k returns the length of the sums.
func (k *correlation) k() int { return k.frame.c * len(k.rows) * len(k.cols) }

// offsets fills the table of B's offsets, k.k() entries.
func (k *correlation) offsets(off []int32) {
	f := &k.frame
	taps := off[:len(k.rows)*len(k.cols)]
	for u, row := range k.rows {
		for v, col := range k.cols {
			taps[u*len(k.cols)+v] = int32(f.place(row, col))
		}
	}
	stride := f.stride
	if k.raw {
		stride = f.h * f.w
	}
	for c := 1; c < f.c; c++ {
		for t, o := range taps {
			off[c*len(taps)+t] = o + int32(c*stride)
		}
	}
}

// columns returns how many tiles cover the output.
func (k *correlation) columns() int {
	if k.packed {
		return ceilDiv(k.oh*k.ow, k.nr)
	}
	return ceilDiv(k.oh*ceilDiv(k.ow, k.e.vec), 2)
}

// stripRows is how many rows of A a ragged tile takes at a time.
const stripRows = 96

// workFloats returns the size of a worker's buffers: panels of B and a scratch tile of C.
func (k *correlation) workFloats() int {
	if k.wide() {
		return wideFloats
	}
	return (maxKC + stripRows) * k.nr
}

// group returns where group g of the direct order reads the frame and writes the output, and how many columns it has.
func (k *correlation) group(g int) (from, to, width int) {
	vec := k.e.vec
	perRow := (k.ow + vec - 1) / vec
	y := g / perRow
	x := (g - y*perRow) * vec
	return y*k.frame.pw + x, y*k.ow + x, min(vec, k.ow-x)
}

// product is what a correlation multiplies: A and consecutive images.
type product struct {
	pool           *Pool // asked now and then whether to stop; nil: never
	a              []float32
	ars            int
	off            []int32
	bias           []float32 // nil for none
	biasStep       int       // from one image's to the next, 0 if they share it
	silu           bool      // of the sums and bias
	residual       []float32 // added last, like dst; nil for none
	dst, b         []float32 // the first image's output [m, oh*ow] and frame
	dstStep, bStep int       // to the next image's
	images         int
}

// compute does rows [i0,i1) and tiles [t0,t1) of every image. The blocks of the sums come first, so that a block of A serves
// all images before the next one pushes it out of the cache.
func (k *correlation) compute(w *product, i0, i1, t0, t1 int, work []float32) {
	for ; t0 < t1; t0 += k.tiles() {
		w.pool.check() // a piece may be a whole image
		if w.silu && w.residual != nil {
			if k.wide() {
				k.stagedPanels(w, i0, i1, t0, min(t0+k.tiles(), t1), work)
			} else {
				k.staged(w, i0, i1, t0, min(t0+k.tiles(), t1), work)
			}
			continue
		}
		for n := range w.images {
			if w.residual != nil { // the sums are added to it
				k.each(w, n, i0, i1, t0, min(t0+k.tiles(), t1), func(_ int, y, residual []float32) {
					if &y[0] != &residual[0] {
						copy(y, residual)
					}
				})
			}
		}
		for p0 := 0; p0 < len(w.off); p0 += k.kc {
			if k.wide() {
				k.panels(w, p0, i0, i1, t0, min(t0+k.tiles(), t1), work)
				continue
			}
			for n := range w.images {
				k.block(w, n, p0, i0, i1, t0, min(t0+k.tiles(), t1), work)
			}
		}
		if w.silu {
			for n := range w.images {
				k.each(w, n, i0, i1, t0, min(t0+k.tiles(), t1), func(_ int, y, _ []float32) { vecSiLU(y, y) })
			}
		}
	}
}

// each calls f for what rows i of [i0,i1) of image n's output and residual have in tiles [t0,t1), which is consecutive.
func (k *correlation) each(w *product, n, i0, i1, t0, t1 int, f func(i int, y, residual []float32)) {
	plane := k.oh * k.ow
	from, to := t0*k.nr, min(t1*k.nr, plane)
	if !k.packed {
		groups := k.oh * ceilDiv(k.ow, k.e.vec)
		_, from, _ = k.group(2 * t0)
		to = plane
		if 2*t1 < groups {
			_, to, _ = k.group(2 * t1)
		}
	}
	for i := i0; i < i1; i++ {
		at := n*w.dstStep + i*plane
		var residual []float32
		if w.residual != nil {
			residual = w.residual[at+from : at+to]
		}
		f(i, w.dst[at+from:at+to], residual)
	}
}

// tiles returns how many tiles are computed between two blocks of the sums, so that the piece of C waits in the second-level
// cache.
func (k *correlation) tiles() int { return max(1, (64<<10)/(k.m*k.nr)) }

// where returns what tile u covers: where its groups read the frame (packed ones do not) and write the output, and how many columns
// each has.
func (k *correlation) where(u int) (from0, from1, to0, to1, n0, n1 int) {
	vec, plane := k.e.vec, k.oh*k.ow
	if k.packed {
		to0, to1 = u*2*vec, u*2*vec+vec
		return 0, 0, to0, to1, min(vec, plane-to0), max(0, min(vec, plane-to1))
	}
	from0, to0, n0 = k.group(2 * u)
	from1, to1 = from0, to0
	if 2*u+1 < k.oh*((k.ow+vec-1)/vec) {
		from1, to1, n1 = k.group(2*u + 1)
	}
	return
}

// block adds one block of the sums, from p0, to tiles of image n.
func (k *correlation) block(w *product, n, p0, i0, i1, t0, t1 int, work []float32) {
	e, vec, nr, plane := k.e, k.e.vec, k.nr, k.oh*k.ow
	panel, edge := work[:maxKC*nr], work[maxKC*nr:]
	off := w.off[p0:min(p0+k.kc, len(w.off))]
	dst, b := w.dst[n*w.dstStep:], w.b[n*w.bStep:]
	t := tile{a: w.a[i0*w.ars+p0:], ars: w.ars, acs: 1, off: off, m: i1 - i0, ldc: plane, add: p0 > 0 || w.residual != nil}
	if w.bias != nil && p0 == 0 {
		t.bias = w.bias[n*w.biasStep:][i0:i1]
	}
	if k.packed {
		t.off, t.b0, t.b1 = packedOffsets[nr][:len(off)], panel, panel[vec:]
	}
	dst = dst[i0*plane:]
	for u := t0; u < t1; u++ {
		from0, from1, to0, to1, n0, n1 := k.where(u)
		if k.packed {
			k.pack(panel, b, off, to0, n0+n1, nr)
		} else {
			t.b0, t.b1 = b[from0:], b[from1:]
		}
		if n0 == vec && n1 == vec {
			t.c0, t.c1, t.one = dst[to0:], dst[to1:], false
			t.run(e)
			continue
		}
		if n0 == vec && n1 == 0 {
			t.c0, t.one = dst[to0:], true
			t.run(e)
			continue
		}
		k.ragged(t, dst[to0:], n0, dst[min(to1, len(dst)):], n1, edge)
	}
}

// staged computes tiles whole before they go to the output, with the same sums: y may be the residual, which is wanted after the
// activation.
func (k *correlation) staged(w *product, i0, i1, t0, t1 int, work []float32) {
	e, vec, nr, plane := k.e, k.e.vec, k.nr, k.oh*k.ow
	panel, edge := work[:maxKC*nr], work[maxKC*nr:]
	for n := range w.images {
		b := w.b[n*w.bStep:]
		for u := t0; u < t1; u++ {
			from0, from1, to0, to1, n0, n1 := k.where(u)
			for i := i0; i < i1; i += stripRows {
				t := tile{ars: w.ars, acs: 1, m: min(stripRows, i1-i), ldc: nr, c0: edge, c1: edge[vec:]}
				for p0 := 0; p0 < len(w.off); p0 += k.kc {
					t.off = w.off[p0:min(p0+k.kc, len(w.off))]
					t.a, t.add = w.a[i*w.ars+p0:], p0 > 0
					if k.packed {
						k.pack(panel, b, t.off, to0, n0+n1, nr)
						t.off, t.b0, t.b1 = packedOffsets[nr][:len(t.off)], panel, panel[vec:]
					} else {
						t.b0, t.b1 = b[from0:], b[from1:]
					}
					t.run(e)
				}
				for r := range t.m {
					bias := float32(0)
					if w.bias != nil {
						bias = w.bias[n*w.biasStep+i+r]
					}
					at := n*w.dstStep + (i+r)*plane
					for g, to := range [2]int{to0, to1} {
						count := [2]int{n0, n1}[g]
						if count == 0 {
							continue
						}
						values := edge[r*nr+g*vec:][:count]
						vecAffineSiLU(values, values, 1, bias)
						vecAdd(w.dst[at+to:at+to+count], values, w.residual[at+to:at+to+count])
					}
				}
			}
		}
	}
}

// ragged computes a tile whose groups have n0 and n1 columns, through a scratch tile.
func (k *correlation) ragged(t tile, c0 []float32, n0 int, c1 []float32, n1 int, edge []float32) {
	vec, nr, plane := k.e.vec, 2*k.e.vec, k.oh*k.ow
	a, bias, m, add := t.a, t.bias, t.m, t.add
	t.add, t.ldc, t.one = false, nr, false
	t.c0, t.c1 = edge, edge[vec:]
	for i := 0; i < m; i += stripRows {
		t.m, t.a = min(stripRows, m-i), a[i*t.ars:]
		if bias != nil {
			t.bias = bias[i:]
		}
		t.run(k.e)
		addRows(c0[i*plane:], plane, edge, nr, t.m, n0, add)
		if n1 > 0 {
			addRows(c1[i*plane:], plane, edge[vec:], nr, t.m, n1, add)
		}
	}
}

// pack copies the n <= nr columns of B that belong to outputs p, p+1, ... into a panel of width nr.
func (k *correlation) pack(panel, b []float32, off []int32, p, n, nr int) {
	if nr == 16 && k.ow == 4 && n == 16 && p%4 == 0 && gatherRows(k.e, panel, b[p/4*k.frame.pw:], off, k.frame.pw) {
		return
	}
	if k.raw && k.ow == k.frame.pw && len(k.rows)*len(k.cols) == 1 { // outputs in flat order read pixels in flat order
		copyRows(k.e, panel, nr, b[p+int(off[0]):], k.frame.h*k.frame.w, len(off), n)
		return
	}
	// The outputs form runs within rows; a run reads neighbouring pixels.
	for at := 0; at < n; {
		y := (p + at) / k.ow
		x := p + at - y*k.ow
		run := min(k.ow-x, n-at)
		from := b[y*k.frame.pw+x:]
		to := panel[at:]
		switch run {
		case 4:
			for r, o := range off {
				*(*[4]float32)(to[r*nr:]) = *(*[4]float32)(from[o:])
			}
		case 8:
			for r, o := range off {
				*(*[8]float32)(to[r*nr:]) = *(*[8]float32)(from[o:])
			}
		case 16:
			for r, o := range off {
				*(*[16]float32)(to[r*nr:]) = *(*[16]float32)(from[o:])
			}
		case 24:
			for r, o := range off {
				*(*[24]float32)(to[r*nr:]) = *(*[24]float32)(from[o:])
			}
		default:
			for r, o := range off {
				copy(to[r*nr:r*nr+run], from[o:])
			}
		}
		at += run
	}
}

// batch says how a batch of images is spread over the threads.
type batch struct {
	n, threads int
	group      int // images computed together by one thread; 0 if the threads share every image
}

// spreadBatch gives whole images to the threads where there are enough of them, so that each stays in its core's cache, and
// several small ones at a time, so that they share the reading of the weights.
func spreadBatch(n, threads, pixels int) batch {
	b := batch{n: n, threads: threads}
	if n%threads == 0 || n >= 4*threads {
		b.group = max(1, min(256/pixels, n/(2*threads)))
	}
	return b
}

// frames returns how many frames are alive at a time.
func (b batch) frames() int {
	if b.group == 0 {
		return 1
	}
	return min(b.threads, b.n) * b.group
}

// imageJob computes pieces of images [n, n+count) whose frames begin at b, step apart: on one worker, or on all threads if worker
// is -1.
type imageJob interface {
	images(n, count int, b []float32, step, worker int)
}

// run has the job do pieces of images in parallel, or one image at a time where the threads share it. Before that it fills their
// frames, unless raw; then the images themselves are passed.
func (b batch) run(p *Pool, e *engine, f *frame, frames, src []float32, raw bool, job imageJob) {
	s := batchLoop{b, e, f, frames, src, raw, job}
	if b.group > 0 {
		each(p, ceilDiv(b.n, b.group), s, (*batchLoop).group)
		return
	}
	in, size := f.c*f.h*f.w, roundUp(f.floats(), 16)
	for n := range b.n {
		image := src[n*in : (n+1)*in]
		if raw {
			job.images(n, 1, image, in, -1)
			continue
		}
		s.src = image
		each(p, ceilDiv(f.c, s.part()), s, (*batchLoop).fill)
		job.images(n, 1, frames, size, -1)
	}
}

// batchLoop is the state of the loops of batch.run.
type batchLoop struct {
	batch
	e           *engine
	f           *frame
	frames, src []float32
	raw         bool
	job         imageJob
}

// part is how many channels are filled at a time where the threads share an image.
func (s *batchLoop) part() int { return ceilDiv(s.f.c, 4*s.threads) }

// fill fills part of the frame of src.
func (s *batchLoop) fill(_, u int) {
	s.f.fill(s.e, s.frames, s.src, u*s.part(), min((u+1)*s.part(), s.f.c))
}

// group does images that are computed together.
func (s *batchLoop) group(worker, u int) {
	f, group := s.f, s.batch.group
	in, size := f.c*f.h*f.w, roundUp(f.floats(), 16)
	n := u * group
	images := min(group, s.n-n)
	if s.raw {
		s.job.images(n, images, s.src[n*in:], in, worker)
		return
	}
	own := s.frames[worker*group*size:][:group*size]
	for i := range images {
		f.fill(s.e, own[i*size:], s.src[(n+i)*in:(n+i+1)*in], 0, f.c)
	}
	s.job.images(n, images, own, size, worker)
}
