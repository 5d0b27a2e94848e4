package kernels

// Winograd's minimal filtering F(4x4,3x3) for convolutions of stride 1: a tile of 4x4 outputs takes 36 products per pair of
// channels instead of 144 (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308). With g the 3x3 kernel and d the 6x6 inputs
// under a tile,
//
//	y = A' [ sum over Cin of (G g G') * (B' d B) ] A        (* element by element)
//
// so that each of the 36 elements is an ordinary matrix product over channels, tiles by outputs. A dilated convolution is an
// undilated one on each of the DilH x DilW grids of pixels that lie a dilation apart; its tiles only have longer strides.
//
// A kernel of 5 or 7 taps a side is the sum of sub-kernels: in either direction one of 3 taps and then some of 2, each over its own
// window of the image. Their products meet before the transform back, as if they were further channels. A sub-kernel of 2
// taps is one of 3 whose last is zero; the point at infinity sees nothing but that tap, so that its products are left out.
// 5x5 then takes 121 products for a tile instead of 400, 7x7 256 instead of 784. (F(2x2,5x5) takes 144 for the same outputs, and
// four times as many transforms back; F(4x4,5x5), with 64, is too inexact in float32: 5 times the error of a plain sum.)
//
// The transforms interpolate at 0, +-5/8, +-3/2 and infinity: of the pairs of sixteenths tried, the one that loses least. The rms
// error is at most 2.5 times that of a sum taken term by term, and 2 to 3.5 times that of the direct kernel, which sums in blocks
// (TestWinogradError), where the usual 0, +-1, +-2 give 4 to 9 times. Sums over channels run in pieces of at most winogradRun,
// for the same reason; those of sub-kernels may share one of at most winogradMerge.
//
// There are two orders of work with the same arithmetic. Small weights are transformed once, or come packed, and blocks of tiles
// run through all outputs. Large ones are transformed a piece at a time, for a strip of outputs, while the transformed inputs of
// all tiles wait in the cache: the transformed weights, four times the plain ones, never go to memory.
//
// A NaN or an infinity in the input is not hidden: no output that depends on it is finite, and the other outputs of the tiles
// that see it need not be either. (The direct kernel keeps infinities and spoils no neighbours.)
//
// Tiles are worked on 8 channels at a time, with channels innermost, so that no transform needs a gather: a block of the
// image is transposed into a frame [row][column][Cin], and the outputs from [row][column][Cout] back to planes.

const (
	winogradTaps = 36 // elements of a transformed tile
	winogradRun  = 64 // channels that are summed in one piece
	winogradLane = 8  // channels that a transform works on at a time
)

// winogradA and winogradB are the interpolation points: 0, +-winogradA, +-winogradB and infinity.
const (
	winogradA = 5.0 / 8
	winogradB = 3.0 / 2
)

// The constants of the three transforms, in the order in which the assembly loads them.
var (
	winogradInput = [6]float32{
		winogradA * winogradA * winogradB * winogradB, winogradA*winogradA + winogradB*winogradB,
		winogradA * winogradA, winogradB * winogradB, winogradA, winogradB,
	}
	winogradOutput = [6]float32{
		winogradA, winogradB, winogradA * winogradA, winogradB * winogradB,
		winogradA * winogradA * winogradA, winogradB * winogradB * winogradB,
	}
	winogradWeight = [7]float32{
		1 / (winogradA * winogradA * winogradB * winogradB),
		1 / winogradNA, winogradA / winogradNA, winogradA * winogradA / winogradNA,
		1 / winogradNB, winogradB / winogradNB, winogradB * winogradB / winogradNB,
	}
)

// The products of the differences between a point and all the others.
const (
	winogradNA = 2 * winogradA * winogradA * (winogradA*winogradA - winogradB*winogradB)
	winogradNB = 2 * winogradB * winogradB * (winogradB*winogradB - winogradA*winogradA)
)

// winogradSubs returns how many sub-kernels of at most 3 taps cover k taps in one direction: 3, and 2 for every one after it.
func winogradSubs(k int) int { return (k - 1) / 2 }

// winogradShift returns the first tap of a sub-kernel.
func winogradShift(sub int) int {
	if sub == 0 {
		return 0
	}
	return 2*sub + 1
}

// winogradFits reports whether Winograd's algorithm can compute the convolution at all: stride 1, 3, 5 or 7 taps a side.
func (c Conv) winogradFits() bool {
	odd := func(k int) bool { return k == 3 || k == 5 || k == 7 }
	return odd(c.KH) && odd(c.KW) && c.StrideH == 1 && c.StrideW == 1
}

// winogradWins reports whether Winograd's algorithm is worth it. It asks for the shape alone, never for the batch or the
// threads, so that the bits of an image depend on neither. It loses with few channels, and on tiles that are mostly waste, of
// maps hardly larger than their dilation.
func (c Conv) winogradWins() bool {
	if !c.winogradFits() || c.Cin < 16 || c.Cout < 16 {
		return false
	}
	oh, ow := c.OutH(), c.OutW()
	tiles := c.DilH * c.DilW * ceilDiv(ceilDiv(oh, c.DilH), 4) * ceilDiv(ceilDiv(ow, c.DilW), 4)
	return 3*oh*ow >= 16*tiles && (c.Cin*c.Cout <= 32<<10 || tiles >= 4)
}

// winogradLarge is the number of pairs of channels (times sub-kernels) above which the transformed weights are too large to keep:
// with more, 36 floats each, a block of tiles would read them from beyond the second-level cache for too few products.
const winogradLarge = 32 << 10

// winograd is the plan of one convolution for a number of threads. Only how the work is dealt out depends on the batch, on the
// threads and on where the weights come from; the arithmetic of a tile depends on none of them.
type winograd struct {
	c          Conv
	e          *engine
	oh, ow     int
	th, tw     int  // rows and columns of tiles on the largest of the dilation's grids
	cin, cout  int  // channels rounded up to whole lanes
	sr, sc     int  // rows and columns of sub-kernels
	strips     bool // work is dealt out by strips of outputs, else by blocks of tiles
	count      int  // strips of outputs
	full       int  // how many of them are as wide as can be
	most       int  // outputs of such a strip
	rest       int  // outputs of the others
	merge      int  // sub-kernels whose channels are summed in one piece
	run        int  // most channels of one piece of a sum
	perSub     int  // pieces of the sum over one sub-kernel
	pieces     int  // pieces of the whole sum
	length     int  // of the whole sum: sub-kernels times channels
	band       int  // rows of tiles (of every grid) in one unit of work
	group      int  // images in one unit of work
	block      int  // tiles that are multiplied at a time
	wide       int  // outputs that are multiplied at a time
	uStep      int  // floats from one tap of the transformed weights to the next
	vStep      int  // the same for the transformed inputs
	vPiece     int  // floats from one piece of the transformed inputs to the next
	mStep      int  // floats from one tap of the products to the next
	lane       int  // channels of a frame
	rows       int  // rows of tiles of a frame
	fw, fh     int  // columns and rows of a frame, per image
	sw, sh     int  // columns and rows of a unit's outputs, per image
	frame      int  // floats of a worker's frame
	staging    int  // floats of a worker's outputs
	tilesAtAll int  // most tiles of a unit
}

// winogradKey is what a plan depends on.
type winogradKey struct {
	c       Conv
	e       *engine
	threads int
	strips  bool
}

var winograds plans[winogradKey, *winograd]

// planWinograd is newWinogradAs that keeps the plan.
func (c Conv) planWinograd(threads int, strips bool) *winograd {
	return winograds.get(winogradKey{c, active, threads, strips}, func(k winogradKey) *winograd { return newWinogradAs(k.c, k.threads, k.strips) })
}

// newWinograd returns the plan.
func newWinograd(c Conv, threads int) *winograd {
	return newWinogradAs(c, threads, c.winogradIsLarge())
}

// winogradIsLarge reports whether the transformed weights are made for a strip of outputs at a time and never kept.
func (c Conv) winogradIsLarge() bool {
	return c.Cin*c.Cout*winogradSubs(c.KH)*winogradSubs(c.KW) > winogradLarge
}

// newWinogradAs is newWinograd that works by strips of outputs if so told, and else by blocks of tiles.
func newWinogradAs(c Conv, threads int, strips bool) *winograd {
	e := active
	k := &winograd{c: c, e: e, oh: c.OutH(), ow: c.OutW(), sr: winogradSubs(c.KH), sc: winogradSubs(c.KW), strips: strips}
	k.th, k.tw = ceilDiv(ceilDiv(k.oh, c.DilH), 4), ceilDiv(ceilDiv(k.ow, c.DilW), 4)
	k.cin, k.cout = roundUp(c.Cin, winogradLane), roundUp(c.Cout, max(winogradLane, e.vec))
	subs := k.sr * k.sc
	k.merge = max(1, min(subs, winogradMerge/k.cin))
	k.merge = ceilDiv(subs, ceilDiv(subs, k.merge))
	k.run = roundUp(ceilDiv(k.cin, ceilDiv(k.cin, winogradRun)), winogradLane)
	k.perSub = ceilDiv(k.cin, k.run)
	if k.merge > 1 {
		k.run, k.perSub = k.merge*k.cin, 1
	}
	k.pieces, k.length = ceilDiv(subs, k.merge)*k.perSub, subs*k.cin
	k.cutStrips()
	if strips {
		k.dealStrips()
		k.lane = min(k.cin, k.run)
		k.rows = min(k.band, max(1, winogradFrame/(4*c.DilH*c.DilW*4*k.tw*k.lane)))
		k.uStep = spreadSets(k.wide * k.run)
		k.sh = 4 * c.DilH
		k.staging = k.sh * c.DilW * 4 * k.tw * k.wide
	} else {
		k.deal(threads)
		k.lane, k.wide, k.rows = k.cin, k.cout, k.band
		k.uStep = spreadSets(k.cout * k.length)
		k.sh = 4 * c.DilH * k.band
		k.staging = k.group * k.sh * c.DilW * 4 * k.tw * k.wide
	}
	k.vStep, k.mStep = spreadSets(k.block*k.run), spreadSets(k.block*k.wide)
	k.vPiece = winogradTaps * k.vStep
	k.fw, k.fh = c.DilW*(4*k.tw+winogradShift(k.sc-1)+2), c.DilH*(4*k.rows+winogradShift(k.sr-1)+2)
	k.sw = c.DilW * 4 * k.tw
	k.frame = k.fh * k.fw * k.lane
	if !strips {
		k.frame *= k.group
	}
	return k
}

// Bounds of the work at a time. By blocks of tiles: enough tiles that reading the weights costs little beside the products, few
// enough that inputs and products stay in the second-level cache. By strips of outputs: the transformed inputs of all tiles
// stay in the third-level cache, a piece of the weights and the products in the second-level one.
const (
	winogradMinTiles = 24
	winogradMaxTiles = 48
	winogradFloats   = 160 << 10
	winogradBand     = 96 << 10 // floats of a unit's frame and outputs, by blocks
	winogradMerge    = 96       // channels of several sub-kernels summed in one piece
	winogradInputsAt = 3 << 20  // floats of transformed inputs, by strips
	winogradFrame    = 32 << 10 // floats of a frame, by strips
	winogradStrip    = 256      // tiles, by strips
)

// deal cuts the batch into units of about as many tiles as are multiplied at a time: rows of tiles of one image, or several
// small images. With more threads than units it cuts finer.
func (k *winograd) deal(threads int) {
	c := k.c
	k.block = min(winogradMaxTiles, max(winogradMinTiles, winogradFloats/(winogradTaps*(k.length+k.cout))))
	row := c.DilH * c.DilW * k.tw // tiles of one row of every grid
	k.group, k.band = 1, k.th
	if row*k.th <= k.block {
		k.group = min(c.N, k.block/(row*k.th))
		for k.group > 1 && ceilDiv(c.N, k.group) < threads {
			k.group = (k.group + 1) / 2
		}
		k.group = ceilDiv(c.N, roundUp(ceilDiv(c.N, k.group), min(threads, c.N)))
	} else {
		k.band = max(1, k.block/row)
	}
	for k.band > 1 && k.units() < 2*threads && c.N%threads != 0 {
		k.band = (k.band + 1) / 2
	}
	// Bands share rows of the image, which are read for each: high ones cost less, as long as they stay in the cache.
	line := c.DilH * c.DilW * 4 * (k.tw + 1)
	for 2*k.band <= k.th && line*((8*k.band+2*k.sr)*k.cin+8*k.band*k.cout) <= winogradBand && c.N*ceilDiv(k.th, 2*k.band) >= 4*threads {
		k.band *= 2
	}
	k.band = ceilDiv(k.th, ceilDiv(k.th, k.band))
	k.tilesAtAll = k.group * k.band * row
	k.block = min(k.block, k.tilesAtAll)
	k.block = min(k.tilesAtAll, roundUp(ceilDiv(k.tilesAtAll, ceilDiv(k.tilesAtAll, k.block)), 4))
}

// dealStrips cuts the batch into as few units as the bounds allow; the threads share each.
func (k *winograd) dealStrips() {
	c := k.c
	most := max(1, min(winogradStrip, winogradInputsAt/(winogradTaps*k.length)))
	row := c.DilH * c.DilW * k.tw
	k.group, k.band = 1, k.th
	if row*k.th <= most {
		k.group = min(c.N, most/(row*k.th))
		k.group = ceilDiv(c.N, ceilDiv(c.N, k.group))
	} else {
		k.band = max(1, most/row)
		k.band = ceilDiv(k.th, ceilDiv(k.th, k.band))
	}
	k.tilesAtAll = k.group * k.band * row
	k.block = k.tilesAtAll
	k.wide = k.most
	if k.block <= 64 && k.count > 1 {
		k.wide *= 2
	}
}

// cutStrips cuts the outputs into strips for the products: as wide as the kernel holds in registers, and narrower ones for what is
// left.
func (k *winograd) cutStrips() {
	if lanes := k.cout / winogradLane; k.e.kind == avx2 && lanes > 1 {
		k.most, k.rest = 24, 16
		k.count = (-lanes%3 + 3) % 3 // 16 is 24 less a lane
		k.full = (lanes - 2*k.count) / 3
		k.count += k.full
		return
	}
	k.most = 2 * k.e.vec
	k.full, k.rest = k.cout/k.most, k.cout%k.most
	k.count = ceilDiv(k.cout, k.most)
}

// stripAt returns the first output of a strip, and for the one after the last the number of outputs.
func (k *winograd) stripAt(i int) int {
	return min(i, k.full)*k.most + max(0, i-k.full)*k.rest
}

// units returns how many pieces of work there are.
func (k *winograd) units() int { return ceilDiv(k.c.N, k.group) * ceilDiv(k.th, k.band) }

// unit returns the images and the rows of tiles of a piece of work.
func (k *winograd) unit(u int) (n0, n1, a0, a1 int) {
	bands := ceilDiv(k.th, k.band)
	n0, a0 = u/bands*k.group, u%bands*k.band
	return n0, min(n0+k.group, k.c.N), a0, min(a0+k.band, k.th)
}

// winogradWorker is what one worker computes in.
type winogradWorker struct {
	frame, staging, u, v, m, weights, lines []float32
	from, to                                []int32
}

// worker carves a worker's memory.
func (k *winograd) worker(s *carver) (w winogradWorker) {
	w.frame, w.staging, w.m = s.take(k.frame), s.take(k.staging), s.take(winogradTaps*k.mStep)
	w.weights, w.lines = s.take(k.weightFloats()), s.take(winogradLane*winogradLine)
	if k.strips {
		w.u = s.take(winogradTaps * k.uStep)
	} else {
		w.v = s.take(k.pieces * k.vPiece)
	}
	w.from, w.to = asInt32(s.take(k.tilesAtAll)), asInt32(s.take(k.tilesAtAll))
	return w
}

// weightsAt is where weights lie in a worker's memory.
func (k *winograd) weightsAt() int {
	return roundUp(k.frame, 16) + roundUp(k.staging, 16) + winogradTaps*k.mStep
}

func (k *winograd) workerFloats() int {
	n := k.weightsAt() + roundUp(k.weightFloats(), 16) + winogradLane*winogradLine + 2*roundUp(k.tilesAtAll, 16)
	if k.strips {
		return n + winogradTaps*k.uStep
	}
	return n + k.pieces*k.vPiece
}

// scratch returns the floats of scratch that forward wants.
func (k *winograd) scratch(threads int) int {
	n := threads*k.workerFloats() + roundUp(k.c.N*k.cout, 16)
	if k.strips {
		return n + k.pieces*k.vPiece
	}
	return n + winogradTaps*k.uStep
}

// winogradJob is a plan at work.
type winogradJob struct {
	*winograd
	a       ConvArgs
	bias    []float32 // what is added to every output: [N, cout], or [cout] for all images
	perN    int       // floats from one image's to the next
	u, v    []float32 // transformed weights, or by strips transformed inputs
	workers []float32
	size    int

	// The unit that the threads share, by strips: its images, rows of tiles, tiles of an image.
	n0, n1, a0, a1, perImage int
}

func (j *winogradJob) worker(i int) winogradWorker {
	return j.winograd.worker(&carver{j.workers[i*j.size:][:j.size]})
}

// forward computes y, as ConvRun does.
func (k *winograd) forward(p *Pool, a *ConvArgs) {
	j := winogradJob{winograd: k, a: *a, size: k.workerFloats()}
	s := carver{a.Scratch}
	if a.Add != nil {
		j.bias = s.take(k.c.N * k.cout)
	} else {
		j.bias = s.take(k.cout)
	}
	j.perN = a.biases(&k.c, j.bias, k.cout)
	j.workers = s.take(p.Threads() * j.size)
	if k.strips {
		j.v = s.take(k.pieces * k.vPiece)
		for u := range k.units() {
			j.strip(p, u)
		}
		return
	}
	j.u = a.Packed
	if j.u == nil {
		j.u = s.take(winogradTaps * k.uStep)
		k.weights(p, j.u, a.W, j.workers[k.weightsAt():], j.size)
	}
	each(p, k.units(), j, (*winogradJob).tiles)
}

// tiles computes one unit: all outputs of some tiles.
func (j *winogradJob) tiles(worker, unit int) {
	k, c, own := j.winograd, &j.c, j.worker(worker)
	n0, n1, a0, a1 := k.unit(unit)
	for n := n0; n < n1; n++ {
		k.fill(own.frame[(n-n0)*k.fh*k.fw*k.lane:], j.a.X[n*c.Cin*c.H*c.W:], 0, c.Cin, a0, a1)
	}
	tiles := 0
	for n := range n1 - n0 {
		tiles += k.list(own.from[tiles:], n*k.fh*k.fw*k.lane, k.fw*k.lane, k.lane, a0, a1)
	}
	tiles = 0
	for n := range n1 - n0 {
		tiles += k.list(own.to[tiles:], n*k.sh*k.sw*k.wide, k.sw*k.wide, k.wide, a0, a1)
	}
	for t := 0; t < tiles; t += k.block {
		count := min(k.block, tiles-t)
		for i, at := range own.from[t : t+count] {
			for sub := range k.sr * k.sc {
				for part := range k.perSub {
					k.input(own.v, i, sub, part, own.frame[int(at)+part*k.run:])
				}
			}
		}
		k.multiply(own.m, own.v, j.u, count)
		// Tiles of one image are neighbours in the list; its additions may differ from the next one's.
		perImage := tiles / (n1 - n0)
		for i, at := range own.to[t : t+count] {
			k.output(own.staging[at:], own.m[i*k.wide:], j.bias[(n0+(t+i)/perImage)*j.perN:], k.wide)
		}
	}
	for n := n0; n < n1; n++ {
		j.empty(n, own.staging[(n-n0)*k.sh*k.sw*k.wide:], 0, c.Cout, a0, a1, own.lines)
	}
}

// strip computes one unit: first the transformed inputs of all its tiles, then strip after strip of outputs.
func (j *winogradJob) strip(p *Pool, unit int) {
	k := j.winograd
	j.n0, j.n1, j.a0, j.a1 = k.unit(unit)
	j.perImage = k.tilesOf(j.a0, j.a1)
	each(p, (j.n1-j.n0)*ceilDiv(j.a1-j.a0, k.rows)*k.perSub, *j, (*winogradJob).inputs)
	each(p, ceilDiv(k.count, k.wide/k.most), *j, (*winogradJob).outputs)
}

// inputs transforms one part of the channels of a band of a unit by strips.
func (j *winogradJob) inputs(worker, i int) {
	k, c, own := j.winograd, &j.c, j.worker(worker)
	bands := ceilDiv(j.a1-j.a0, k.rows)
	part, band, n := i%k.perSub, i/k.perSub%bands, i/k.perSub/bands
	b0 := j.a0 + band*k.rows
	b1 := min(b0+k.rows, j.a1)
	c0 := part * k.lane
	k.fill(own.frame, j.a.X[(j.n0+n)*c.Cin*c.H*c.W:], c0, min(c0+k.lane, c.Cin), b0, b1)
	first := n*j.perImage + k.tilesOf(j.a0, b0)
	for t, at := range own.from[:k.list(own.from, 0, k.fw*k.lane, k.lane, b0, b1)] {
		for sub := range k.sr * k.sc {
			k.input(j.v, first+t, sub, part, own.frame[at:])
		}
	}
}

// outputs computes a strip of outputs of a unit, or as many as are worked on at once.
func (j *winogradJob) outputs(worker, i int) {
	k, c, own := j.winograd, &j.c, j.worker(worker)
	tiles, atOnce := (j.n1-j.n0)*j.perImage, k.wide/k.most
	i0, i1 := i*atOnce, min((i+1)*atOnce, k.count)
	o0, o1 := k.stripAt(i0), k.stripAt(i1)
	for piece := range k.pieces {
		s0, s1, c0, n := k.piece(piece)
		for i := i0; i < i1; i++ {
			o, width := k.stripAt(i), k.stripAt(i+1)-k.stripAt(i)
			for sub := s0; sub < s1; sub++ {
				k.weigh(own.u[(o-o0)*k.run+(sub-s0)*k.cin*width:], k.uStep, o, width, sub, c0, n, j.a.W, own.weights)
			}
		}
		for tap := range winogradTaps {
			for i := i0; i < i1; i++ {
				o, width := k.stripAt(i), k.stripAt(i+1)-k.stripAt(i)
				k.sum(own.m[tap*k.mStep+o-o0:], j.v[piece*k.vPiece+tap*k.vStep:], own.u[tap*k.uStep+(o-o0)*k.run:], tap, piece, tiles, width)
			}
		}
	}
	t := 0
	for n := j.n0; n < j.n1; n++ {
		for a := j.a0; a < j.a1; a++ {
			for _, at := range own.to[:k.list(own.to, 0, k.sw*k.wide, k.wide, a, a+1)] {
				k.output(own.staging[at:], own.m[t*k.wide:], j.bias[n*j.perN+o0:], o1-o0)
				t++
			}
			j.empty(n, own.staging, o0, min(o1, c.Cout), a, a+1, own.lines)
		}
	}
}

// piece returns the sub-kernels of a piece of the sum, and the channels of each.
func (k *winograd) piece(i int) (s0, s1, c0, n int) {
	s0 = i / k.perSub * k.merge
	if k.merge > 1 {
		return s0, min(s0+k.merge, k.sr*k.sc), 0, k.cin
	}
	c0 = i % k.perSub * k.run
	return s0, s0 + 1, c0, min(k.run, k.cin-c0)
}

// sum adds one piece of the sum of one tap to the products of a strip of outputs: m[tile][wide].
func (k *winograd) sum(m, v, u []float32, tap, piece, tiles, width int) {
	s0, s1, _, n := k.piece(piece)
	add := piece > 0
	for s := s0; s < s1; {
		if !k.reaches(s, tap) {
			s++
			continue
		}
		first := s
		for s < s1 && k.reaches(s, tap) {
			s++
		}
		at := (first - s0) * k.cin
		winogradProduct(k.e, m, k.wide, v[at:], k.run, u[at*width:], width, tiles, (s-first)*n, add)
		add = true
	}
}

// winogradProductTile is one product of a strip of outputs with the engine's micro-kernel: for t < tiles, o < width, which is one
// or two of the engine's vectors,
//
//	m[t*ldm+o] = sum over p < n of v[t*ldv+p] * u[p*width+o] (+ m[t*ldm+o] if add)
func winogradProductTile(e *engine, m []float32, ldm int, v []float32, ldv int, u []float32, width, tiles, n int, add bool) {
	t := tile{a: v, ars: ldv, acs: 1, m: tiles, ldc: ldm, c0: m, b0: u, one: width == e.vec, add: add, off: packedOffsets[width][:n]}
	if !t.one {
		t.b1, t.c1 = u[e.vec:], m[e.vec:]
	}
	t.run(e)
}

// reaches reports whether a sub-kernel has a say in a tap. Those with two taps in a direction have none in the point at
// infinity: it is their missing third tap.
func (k *winograd) reaches(sub, tap int) bool {
	return (tap/6 < 5 || sub/k.sc == 0) && (tap%6 < 5 || sub%k.sc == 0)
}

// multiply does the 36 matrix products of some tiles: M[tile][cout] = V[tile][length] * U[length][cout].
func (k *winograd) multiply(m, v, u []float32, tiles int) {
	for tap := range winogradTaps {
		for i := range k.count {
			o, width, at := k.stripAt(i), k.stripAt(i+1)-k.stripAt(i), 0
			for piece := range k.pieces {
				k.sum(m[tap*k.mStep+o:], v[piece*k.vPiece+tap*k.vStep:], u[tap*k.uStep+o*k.length+at*width:], tap, piece, tiles, width)
				s0, s1, _, n := k.piece(piece)
				at += (s1 - s0) * n
			}
		}
	}
}

// winogradAtOnce is how many channels' weights are transposed at a time.
const winogradAtOnce = 16

// weightFloats returns the floats that weigh works in.
func (k *winograd) weightFloats() int {
	return winogradAtOnce * k.most * (k.c.KH*k.c.KW + 9)
}

// weigh transforms a sub-kernel's weights of channels [c0,c0+n) and a strip of outputs from o0 into u: for every tap [n][width].
// Channels and outputs that are only padding become zeros.
func (k *winograd) weigh(u []float32, uStep, o0, width, sub, c0, n int, w, work []float32) {
	c := &k.c
	taps := c.KH * c.KW
	real, rows := min(n, c.Cin-c0), min(width, c.Cout-o0)
	for p := 0; p < real; p += winogradAtOnce {
		count := min(winogradAtOnce, real-p)
		g := work[:count*taps*width]
		if rows < width {
			clear(g)
		}
		transposeAhead(k.e, g, width, w[(o0*c.Cin+c0+p)*taps:], c.Cin*taps, rows, count*taps)
		if taps != 9 {
			g = k.cut(work[len(g):][:count*9*width], g, width, sub)
		}
		for q := 0; q < count; q += 4 { // few channels at a time: the lanes of a strip write the same cache lines
			for o := 0; o < width; o += winogradLane {
				winogradWeights(k.e, u[(p+q)*width+o:], uStep, width, g[q*9*width+o:], width, min(4, count-q))
			}
		}
	}
	if real < n {
		for tap := range winogradTaps {
			clear(u[tap*uStep+real*width : tap*uStep+n*width])
		}
	}
}

// cut copies a sub-kernel out of whole kernels g [channel][tap][output] with zeros where it has no third tap.
func (k *winograd) cut(dst, g []float32, width, sub int) []float32 {
	c := &k.c
	r0, q0 := winogradShift(sub/k.sc), winogradShift(sub%k.sc)
	for i := range len(dst) / width {
		ch, r, q := i/9, i%9/3, i%3
		to := dst[i*width:][:width]
		if r == 2 && r0 > 0 || q == 2 && q0 > 0 {
			clear(to)
			continue
		}
		copy(to, g[((ch*c.KH+r0+r)*c.KW+q0+q)*width:])
	}
	return dst
}

// weights transforms all of w into u: for every tap, its strips of outputs, each
// [length][width]. Every worker has weightFloats of work, that far apart.
func (k *winograd) weights(p *Pool, u, w, work []float32, apart int) {
	each(p, k.count*k.sr*k.sc*ceilDiv(k.cin, weighingChannels), weighing{k, u, w, work, apart}, (*weighing).piece)
}

// weighing is the state of the loop of weights.
type weighing struct {
	k          *winograd
	u, w, work []float32
	apart      int
}

const weighingChannels = 32 // of one piece of work

func (s *weighing) piece(worker, i int) {
	k := s.k
	subs, parts := k.sr*k.sc, ceilDiv(k.cin, weighingChannels)
	c0, sub, strip := i%parts*weighingChannels, i/parts%subs, i/parts/subs
	o := k.stripAt(strip)
	width := k.stripAt(strip+1) - o
	k.weigh(s.u[o*k.length+(sub*k.cin+c0)*width:], k.uStep, o, width, sub, c0, min(weighingChannels, k.cin-c0), s.w, s.work[worker*s.apart:][:k.weightFloats()])
}

// fill transposes channels [c0,c1) of the rows of one image that lie under tiles [a0,a1) into a frame [row][column][lane], with
// zeros around it. Column j is the image's column j-PadLeft.
func (k *winograd) fill(frame, x []float32, c0, c1, a0, a1 int) {
	c, line := &k.c, k.fw*k.lane
	n := max(0, min(c.W, k.fw-c.PadLeft))
	for i := range c.DilH * (4*(a1-a0) + winogradShift(k.sr-1) + 2) {
		row := frame[i*line : (i+1)*line]
		r := 4*c.DilH*a0 + i - c.PadTop
		if r < 0 || r >= c.H || n == 0 {
			clear(row)
			continue
		}
		if (c1-c0)%winogradLane != 0 { // the channels that fill the last lane are summed as well
			clear(row)
		} else {
			clear(row[:c.PadLeft*k.lane])
			clear(row[(c.PadLeft+n)*k.lane:])
		}
		transposeAhead(k.e, row[c.PadLeft*k.lane:], k.lane, x[(c0*c.H+r)*c.W:], c.H*c.W, c1-c0, n)
	}
}

// tilesOf returns how many tiles of one image lie in rows [a0,a1) of tiles.
func (k *winograd) tilesOf(a0, a1 int) int {
	c, n, columns := &k.c, 0, 0
	for b := range k.tw {
		columns += min(c.DilW, k.ow-4*c.DilW*b)
	}
	for a := a0; a < a1; a++ {
		n += min(c.DilH, k.oh-4*c.DilH*a) * columns
	}
	return n
}

// list lists where the tiles in rows [a0,a1) of tiles begin, in a map whose first pixel belongs to row a0 and lies at first. It
// returns their number.
func (k *winograd) list(at []int32, first, line, step, a0, a1 int) int {
	c, t := &k.c, 0
	for a := range a1 - a0 {
		for i := range c.DilH {
			row := 4*c.DilH*a + i
			if 4*c.DilH*a0+row >= k.oh {
				break
			}
			for b := range k.tw {
				for j := range c.DilW {
					col := 4*c.DilW*b + j
					if col >= k.ow {
						break
					}
					at[t] = int32(first + row*line + col*step)
					t++
				}
			}
		}
	}
	return t
}

// input transforms what one sub-kernel sees of a tile, of one part of the channels, into v. frame begins at the tile's first
// pixel and channel.
func (k *winograd) input(v []float32, t, sub, part int, frame []float32) {
	row, col := k.c.DilH*k.fw*k.lane, k.c.DilW*k.lane
	lanes := k.cin
	if k.merge == 1 {
		lanes = min(k.run, k.cin-part*k.run)
	}
	v = v[(sub/k.merge*k.perSub+part)*k.vPiece+t*k.run+sub%k.merge*k.cin:]
	winogradInputs(k.e, v, k.vStep, frame[winogradShift(sub/k.sc)*row+winogradShift(sub%k.sc)*col:], row, col, lanes/winogradLane)
}

// output transforms one tile of the products into outputs.
func (k *winograd) output(y, m, bias []float32, outputs int) {
	winogradOutputs(k.e, y, k.c.DilH*k.sw*k.wide, k.c.DilW*k.wide, m, k.mStep, bias, outputs/winogradLane)
}

// winogradLine is how many pixels of a plane are finished at a time.
const winogradLine = 256

// empty transposes outputs [o0,o1) of tiles [a0,a1) of image n back into planes, a lane of channels at a time: the cache lines of
// a pixel's planes may all belong to one set, and each should be full before it is pushed out. What comes after the
// convolution is done on the way.
func (j *winogradJob) empty(n int, staging []float32, o0, o1, a0, a1 int, lines []float32) {
	k := j.winograd
	first, plane := 4*k.c.DilH*a0, k.oh*k.ow
	rows, width := min(4*k.c.DilH*a1, k.oh)-first, k.ow
	if k.sw == k.ow {
		rows, width = 1, rows*k.ow
	}
	simple := j.a.Residual == nil && !j.a.SiLU
	for o := o0; o < o1; o += winogradLane {
		count := min(winogradLane, o1-o)
		for i := range rows {
			at := (n*k.c.Cout+o)*plane + first*k.ow + i*width
			from := staging[i*k.sw*k.wide+o-o0:]
			if simple {
				transposeBlocks(k.e, j.a.Y[at:], plane, from, k.wide, width, count)
				continue
			}
			for p := 0; p < width; p += winogradLine {
				length := min(winogradLine, width-p)
				transposeBlocks(k.e, lines, winogradLine, from[p*k.wide:], k.wide, length, count)
				for q := range count {
					j.a.finish(at+q*plane+p, lines[q*winogradLine:][:length])
				}
			}
		}
	}
}

// winograd returns the plan whose weights have the layout of a Packing; the image and the dilation do not matter to it.
func (k Packing) winograd() *winograd {
	return Conv{N: 1, Cin: k.K, H: k.KH, W: k.KW, Cout: k.O, KH: k.KH, KW: k.KW, StrideH: 1, StrideW: 1, DilH: 1, DilW: 1}.planWinograd(1, false)
}

func (k Packing) winogradFloats() int { return winogradTaps * k.winograd().uStep }

func (k Packing) packWinograd(p *Pool, dst, w []float32) {
	plan := k.winograd()
	mustHave("Packing.Pack", "w", w, k.O*k.K*k.KH*k.KW)
	work := make([]float32, p.Threads()*plan.weightFloats())
	plan.weights(p, dst, w, work, plan.weightFloats())
}

// transposeBlocks is transposeFast for matrices that are no multiple of 8: what is left over is done again with some of its
// neighbours, as a whole block.
func transposeBlocks(e *engine, dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if e.kind == portable || rows < 8 || cols < 8 {
		transposePortable(dst, ldd, src, lds, rows, cols)
		return
	}
	r, c := rows&^7, cols&^7
	transposeFast(e, dst, ldd, src, lds, r, c)
	if r < rows {
		transposeFast(e, dst[rows-8:], ldd, src[(rows-8)*lds:], lds, 8, c)
	}
	if c < cols {
		transposeFast(e, dst[(cols-8)*ldd:], ldd, src[cols-8:], lds, r, 8)
		if r < rows {
			transposeFast(e, dst[(cols-8)*ldd+rows-8:], ldd, src[(rows-8)*lds+cols-8:], lds, 8, 8)
		}
	}
}
