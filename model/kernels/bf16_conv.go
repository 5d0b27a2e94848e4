package kernels

import "sync"

// Convolutions in the bfloat16 modes are implicit matrix products: A is the weights, [Cout][taps][Cin], B the image under the
// taps. Terms run over the taps, and within a tap over the channels, so that a pair of terms is two neighbouring channels of one
// pixel. The image is rounded once into a zero-padded frame of such pairs,
//
//	[pair of channels][phase of the rows' stride][phase of the columns'][rows][columns][2 channels]
//
// in which neighbouring outputs read neighbouring words under every tap. A row of a packed panel is then a run of words copied
// from a tap's place: a dilation changes only the places.

const (
	bfConvPanels = 4  // panels of pixels in one unit of work
	bfConvBlocks = 20 // blocks of outputs in one unit of work, at most
	bfConvFrames = 8 << 20
)

// bfConvTerms is the length of the sums with whole pairs of channels.
func bfConvTerms(cin, taps int) int { return taps * 2 * ceilDiv(cin, 2) }

// bfConv is the plan of one convolution.
type bfConv struct {
	c              Conv
	g              bfGrid
	oh, ow, plane  int
	pairs          int   // of channels
	rowsAt, colsAt []int // phases that some tap lands on
	ph, pw         int   // size of a padded plane
	stride         int   // words from one pair of channels to the next
	frame          int   // words of one image and plane of halves
	images         int   // in frames at a time
	blocks         int   // of outputs in one unit of work
}

// bfConvKey is what a plan depends on.
type bfConvKey struct {
	c       Conv
	m       Math
	threads int
}

var bfConvs plans[bfConvKey, *bfConv]

// planBF is newBFConv that keeps the plan.
func (c Conv) planBF(m Math, threads int) *bfConv {
	return bfConvs.get(bfConvKey{c, m, threads}, func(k bfConvKey) *bfConv { return newBFConv(k.c, k.m, k.threads) })
}

func newBFConv(c Conv, m Math, threads int) *bfConv {
	if c.KH == 1 && c.KW == 1 && c.StrideH == 1 && c.StrideW == 1 && c.PadTop|c.PadBottom|c.PadLeft|c.PadRight == 0 {
		c.H, c.W = 1, c.H*c.W // pixels do not see each other
	}
	k := &bfConv{c: c, oh: c.OutH(), ow: c.OutW(), pairs: ceilDiv(c.Cin, 2)}
	k.plane = k.oh * k.ow
	k.g = newBFGrid(m, c.Cout, k.plane, bfConvTerms(c.Cin, c.KH*c.KW))
	k.rowsAt, k.ph = bfPhases(c.KH, c.DilH, c.StrideH)
	k.colsAt, k.pw = bfPhases(c.KW, c.DilW, c.StrideW)
	k.ph += k.oh
	k.pw += k.ow
	k.stride = roundUp(len(k.rowsAt)*len(k.colsAt)*k.ph*k.pw, 16) | 16 // no power of two: neighbours would share a cache set
	k.frame = k.pairs * k.stride
	k.images = max(1, min(c.N, bfConvFrames/(k.frame*m.planes())))
	k.blocks = min(k.g.blocks, bfConvBlocks)
	for k.blocks > 4 && k.units(min(c.N, k.images)) < 3*threads && threads > 1 {
		k.blocks = ceilDiv(k.blocks, 2)
	}
	return k
}

// bfPhases lists the residues of the taps' places, and how many strides the last one is away.
func bfPhases(taps, dilation, stride int) (residues []int, reach int) {
	seen := make([]bool, stride)
	for u := range taps {
		seen[u*dilation%stride] = true
	}
	for r, s := range seen {
		if s {
			residues = append(residues, r)
		}
	}
	return residues, (taps - 1) * dilation / stride
}

// place is where in a pair's planes the tap finds the input of output (0,0).
func (k *bfConv) place(u, v int) int {
	r, s := u*k.c.DilH, v*k.c.DilW
	phase := index(k.rowsAt, r%k.c.StrideH)*len(k.colsAt) + index(k.colsAt, s%k.c.StrideW)
	return (phase*k.ph+r/k.c.StrideH)*k.pw + s/k.c.StrideW
}

// units returns the pieces of work of some images.
func (k *bfConv) units(images int) int {
	return images * ceilDiv(k.g.panels, bfConvPanels) * ceilDiv(k.g.blocks, k.blocks)
}

// work is the floats of a worker's scratch: a piece of packed B, a piece of C, and two rows of the image.
func (k *bfConv) work() (b, c, rows int) {
	return bfConvPanels * bfBlocks * k.g.chunkAt / 2, k.blocks * bfRows * bfConvPanels * bfRows, roundUp(2*k.pw, 16)
}

func (k *bfConv) scratch(threads int) int {
	b, c, rows := k.work()
	return roundUp(k.g.aFloats(), 16) + roundUp(k.terms(), 16) + k.images*k.g.math.planes()*roundUp(k.frame, 16) + threads*(b+c+rows)
}

// terms is the length of the table of places: one for each pair of terms.
func (k *bfConv) terms() int { return k.c.KH * k.c.KW * k.pairs }

func (c Conv) bfPacking(m Math) Packing {
	return Packing{Kind: PackBFConv, O: c.Cout, K: c.Cin, KH: c.KH, KW: c.KW, Engine: active.name, Math: m}
}

// bfRowPool keeps rows of weights between calls.
var bfRowPool = sync.Pool{New: func() any { return new([]float32) }}

// bfPackConv packs w as A: every output's weights [Cin][taps] transposed to [taps][Cin] and rounded.
func bfPackConv(p *Pool, k Packing, dst []uint16, w []float32) {
	g := newBFGrid(k.Math, k.O, 1, bfConvTerms(k.K, k.KH*k.KW))
	each(p, g.blocks, bfPacking{k, g, dst, w}, (*bfPacking).convBlock)
}

// bfPacking is the state of a loop that packs weights.
type bfPacking struct {
	Packing
	g   bfGrid
	dst []uint16
	w   []float32
}

// convBlock packs a block of outputs.
func (s *bfPacking) convBlock(_, i int) {
	k, g := &s.Packing, &s.g
	taps, wide := k.KH*k.KW, 2*ceilDiv(k.K, 2)
	terms := bfConvTerms(k.K, taps)
	block := s.dst[i*g.aBlock:][:g.aBlock]
	row := bfRowPool.Get().(*[]float32)
	defer bfRowPool.Put(row)
	if cap(*row) < terms {
		*row = make([]float32, terms)
	}
	x := (*row)[:terms]
	clear(x)
	for r := range bfRows {
		if o := i*bfRows + r; o < k.O {
			transposeFast(active, x, wide, s.w[o*k.K*taps:], taps, k.K, taps)
		} else {
			clear(x)
		}
		bfRow(block[r*bfTerms:], k.Math, x)
	}
}

// bfConvArgs are the slices of a convolution: y = silu?(conv + bias[o] + add[n,o]) + residual. packed, bias, add and residual
// may be nil; residual may be y.
type bfConvArgs struct {
	y, x, w, packed, bias, add, residual, scratch []float32
	silu                                          bool
}

// run computes the convolution.
func (k *bfConv) run(p *Pool, a bfConvArgs) {
	c, g := &k.c, &k.g
	s := carver{a.scratch}
	own := s.take(g.aFloats())
	packed := a.packed
	if packed == nil {
		c.bfPacking(g.math).bfPack(p, own, a.w)
		packed = own
	}
	off := asInt32(s.take(k.terms()))
	for u := range c.KH {
		for v := range c.KW {
			for i := range k.pairs {
				off[(u*c.KW+v)*k.pairs+i] = int32(i*k.stride + k.place(u, v))
			}
		}
	}
	planes := g.math.planes()
	size := roundUp(k.frame, 16)
	frames := asUint32(s.take(k.images * planes * size))
	b, cSize, rows := k.work()
	j := bfConvJob{k: k, a: a, off: off, frames: frames, packed: asUint16(packed), work: s.take(p.Threads() * (b + cSize + rows))}
	for j.n0 = 0; j.n0 < c.N; j.n0 += k.images {
		images := min(k.images, c.N-j.n0)
		each(p, images*k.pairs, j, (*bfConvJob).fill)
		each(p, k.units(images), j, (*bfConvJob).unit)
	}
}

// bfConvJob is a plan at work on the images from n0 on.
type bfConvJob struct {
	k      *bfConv
	a      bfConvArgs
	off    []int32
	frames []uint32
	packed []uint16
	work   []float32 // of all workers
	n0     int
}

// buffers is a worker's scratch.
func (j *bfConvJob) buffers(worker int) (b, c, rows []float32) {
	nb, nc, nr := j.k.work()
	own := j.work[worker*(nb+nc+nr):][:nb+nc+nr]
	return own[:nb], own[nb : nb+nc], own[nb+nc:]
}

// fill rounds a pair of channels of an image.
func (j *bfConvJob) fill(worker, u int) {
	k, c := j.k, &j.k.c
	planes, size := k.g.math.planes(), roundUp(k.frame, 16)
	n, pair := u/k.pairs, u%k.pairs
	at := j.frames[n*planes*size:]
	var lo []uint32
	if planes == 2 {
		lo = at[size:][:size]
	}
	_, _, rows := j.buffers(worker)
	k.fill(at[:size], lo, j.a.x[(j.n0+n)*c.Cin*c.H*c.W:], pair, rows)
}

// unit computes some outputs at some pixels of an image.
func (j *bfConvJob) unit(worker, u int) {
	k, g := j.k, &j.k.g
	planes, size := g.math.planes(), roundUp(k.frame, 16)
	columns, parts := ceilDiv(g.panels, bfConvPanels), ceilDiv(g.blocks, k.blocks)
	n, part, column := u/(columns*parts), u/columns%parts, u%columns
	i0, j0 := part*k.blocks, column*bfConvPanels
	b, c, _ := j.buffers(worker)
	k.unit(&j.a, j.n0+n, i0, min(i0+k.blocks, g.blocks), j0, min(j0+bfConvPanels, g.panels),
		j.frames[n*planes*size:][:planes*size], j.off, j.packed, asUint16(b), c)
}

// fill rounds two channels of an image into their planes.
func (k *bfConv) fill(hi, lo []uint32, x []float32, pair int, rows []float32) {
	c := &k.c
	u, v := rows[:k.pw], rows[k.pw:2*k.pw]
	clear(v)
	hi = hi[pair*k.stride:]
	if lo != nil {
		lo = lo[pair*k.stride:]
	}
	first := x[2*pair*c.H*c.W:]
	var second []float32
	if 2*pair+1 < c.Cin {
		second = x[(2*pair+1)*c.H*c.W:]
	}
	for _, fr := range k.rowsAt {
		for _, fc := range k.colsAt {
			q0 := min(k.pw, max(0, ceilDiv(c.PadLeft-fc, c.StrideW)))
			q1 := max(q0, min(k.pw, ceilDiv(c.W+c.PadLeft-fc, c.StrideW)))
			for i := range k.ph {
				to := hi[i*k.pw:][:k.pw]
				var rest []uint32
				if lo != nil {
					rest = lo[i*k.pw:][:k.pw]
				}
				r := i*c.StrideH + fr - c.PadTop
				if r < 0 || r >= c.H || q0 == q1 {
					clear(to)
					clear(rest)
					continue
				}
				clear(to[:q0])
				clear(to[q1:])
				if rest != nil {
					clear(rest[:q0])
					clear(rest[q1:])
					rest = rest[q0:q1]
				}
				from := r*c.W + q0*c.StrideW + fc - c.PadLeft
				a, b := u[:q1-q0], v[:q1-q0]
				if c.StrideW == 1 {
					a = first[from:][:q1-q0]
					if second != nil {
						b = second[from:][:q1-q0]
					}
				} else {
					for j := range a {
						a[j] = first[from+j*c.StrideW]
						if second != nil {
							b[j] = second[from+j*c.StrideW]
						}
					}
				}
				bfPairs(to[q0:q1], rest, a, b)
			}
			hi = hi[k.ph*k.pw:]
			if lo != nil {
				lo = lo[k.ph*k.pw:]
			}
		}
	}
}

// unit computes blocks [i0,i1) of outputs at panels [j0,j1) of pixels of image n.
func (k *bfConv) unit(a *bfConvArgs, n, i0, i1, j0, j1 int, frame []uint32, off []int32, packed, b []uint16, c []float32) {
	g := k.g
	g.bPanel = bfBlocks * g.chunkAt
	const ldc = bfConvPanels * bfRows
	for q := 0; q < g.chunks; q += bfBlocks {
		chunks := min(bfBlocks, g.chunks-q)
		k.pack(words(b), g.bPanel/2, frame, off[q*bfTerms/2:min((q+chunks)*bfTerms/2, len(off))], j0, j1, chunks)
		g.multiply(c, ldc, packed[i0*g.aBlock+q*g.chunkAt:], b, i1-i0, j1-j0, chunks, q > 0)
	}
	first := j0 * bfRows
	pixels := min(j1*bfRows, k.plane) - first
	for o := i0 * bfRows; o < min(i1*bfRows, k.c.Cout); o++ {
		from := c[(o-i0*bfRows)*ldc:][:pixels]
		at := (n*k.c.Cout+o)*k.plane + first
		to := a.y[at:][:pixels]
		if a.bias != nil {
			vecAffine(from, from, 1, a.bias[o])
		}
		if a.add != nil {
			vecAffine(from, from, 1, a.add[n*k.c.Cout+o])
		}
		if a.silu {
			vecSiLU(from, from)
		}
		if a.residual != nil {
			vecAdd(to, from, a.residual[at:][:pixels])
		} else {
			copy(to, from)
		}
	}
}

// pack copies the words under the taps of off for the pixels of panels [j0,j1) into chunks of B; panels are panel words apart.
// A tap's words for all panels lie close together, so that it takes them in one go.
func (k *bfConv) pack(b []uint32, panel int, frame []uint32, off []int32, j0, j1, chunks int) {
	planes := k.g.math.planes()
	step, size := k.g.chunkAt/2, len(frame)/planes
	var from, to [2 * bfConvPanels]int32
	groups := 0
	short := len(off) < chunks*bfTerms/2
	for j := j0; j < j1; j++ {
		at := (j - j0) * panel
		if short { // the last chunk has fewer terms
			clear(b[at+(chunks-1)*step:][:step])
		}
		if (j+1)*bfRows > k.plane {
			clear(b[at:][:chunks*step])
		}
		for h := range 2 {
			p := j*bfRows + 16*h
			y := p / k.ow
			x := p - y*k.ow
			if x+16 <= k.ow && p+16 <= k.plane {
				from[groups], to[groups] = int32(y*k.pw+x), int32(at+h*256)
				groups++
				continue
			}
			// Runs of outputs of one row read neighbouring words.
			for i := 0; i < 16 && p+i < k.plane; {
				y := (p + i) / k.ow
				x := p + i - y*k.ow
				run := min(16-i, k.ow-x)
				for q := range chunks {
					for pl := range planes {
						src, dst := frame[pl*size+y*k.pw+x:(pl+1)*size], b[at+q*step+pl*512+h*256+i:]
						list := off[q*bfTerms/2 : min((q+1)*bfTerms/2, len(off))]
						if run == 8 {
							for r, o := range list {
								*(*[8]uint32)(dst[16*r:]) = *(*[8]uint32)(src[o:])
							}
							continue
						}
						for r, o := range list {
							copy(dst[16*r:16*r+run], src[o:])
						}
					}
				}
				i += run
			}
		}
	}
	for q := range chunks {
		list := off[q*bfTerms/2 : min((q+1)*bfTerms/2, len(off))]
		for pl := range planes {
			bfGather(b[q*step+pl*512:], frame[pl*size:(pl+1)*size], list, from[:groups], to[:groups])
		}
	}
}

// bfGatherGo sets, for every g, the 16 words of dst from 16*i + to[g] on to those of src from off[i] + from[g] on.
func bfGatherGo(dst, src []uint32, off, from, to []int32) {
	for i, o := range off {
		for g, f := range from {
			*(*[16]uint32)(dst[16*i+int(to[g]):]) = *(*[16]uint32)(src[o+f:])
		}
	}
}
