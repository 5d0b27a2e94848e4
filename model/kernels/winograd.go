package kernels

// Winograd's minimal filtering F(4x4,3x3) for convolutions of stride 1: a tile of 4x4 outputs takes 36 products per pair of
// channels instead of 144 (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308), smaller ones at the edges fewer
// (winograd_tiles.go). With g the 3x3 kernel and d the 6x6 inputs under a tile,
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
// error is at most 2.5 times that of a sum taken term by term, and 2 to 4 times that of the direct kernel, which sums in blocks
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
// Transforms work on 8 channels at a time, with channels innermost, so that none needs a gather: 8 channels of some rows of the image
// are transposed into a frame [row][column][8] and transformed from there, and 8 outputs are transformed into a staging
// [row][column][8] and transposed back to planes. Both are small enough for the first-level cache.

const (
	winogradTaps = 36 // elements of a transformed tile
	winogradRun  = 96 // channels that are summed in one piece
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
	// winogradSmall is what tiles of 2 outputs want besides.
	winogradSmall = [5]float32{
		winogradA * (winogradA + winogradB), winogradA * winogradA * (winogradA + winogradB),
		winogradA * (winogradA - winogradB), winogradA * winogradA * (winogradA - winogradB),
		2 * winogradB * winogradB,
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
// threads, so that the bits of an image depend on neither. It loses with few channels, and where the tiles take hardly fewer
// products, of maps hardly larger than their dilation.
func (c Conv) winogradWins() bool {
	if !c.winogradFits() || c.Cin < 12 || c.Cout < 12 {
		return false
	}
	down, across := cutWinograd(c.OutH(), c.DilH), cutWinograd(c.OutW(), c.DilW)
	tiles := c.DilH * c.DilW * down.lines * across.lines
	return 27*down.length*across.length >= 4*down.products()*across.products() && (c.Cin*c.Cout <= 32<<10 || tiles >= 4)
}

// winogradLarge is the number of pairs of channels (times sub-kernels) above which the transformed weights are too large to keep:
// with more, 36 floats each, a block of tiles would read them from beyond the second-level cache for too few products.
const winogradLarge = 32 << 10

// winograd is the plan of one convolution for a number of threads. Only how the work is dealt out depends on the batch, on the
// threads and on where the weights come from; the arithmetic of a tile depends on none of them.
type winograd struct {
	c            Conv
	e            *engine
	oh, ow       int
	down, across winogradAxis        // rows and columns of tiles
	cin, cout    int                 // channels rounded up to whole lanes
	sr, sc       int                 // rows and columns of sub-kernels
	strips       bool                // work is dealt out by strips of outputs, else by blocks of tiles
	count        int                 // strips of outputs
	full         int                 // how many of them are as wide as can be
	most         int                 // outputs of such a strip
	rest         int                 // outputs of the others
	merge        int                 // sub-kernels whose channels are summed in one piece
	run          int                 // most channels of one piece of a sum
	perSub       int                 // pieces of the sum over one sub-kernel
	pieces       int                 // pieces of the whole sum
	length       int                 // of the whole sum: sub-kernels times channels
	band         int                 // rows of tiles (of every grid) in one unit of work
	group        int                 // images in one unit of work
	block        int                 // tiles that are multiplied at a time
	wide         int                 // outputs that are multiplied at a time
	terms        [4][][]winogradTerm // of taps of a kind, piece by piece
	uStep        int                 // floats from one tap of the transformed weights to the next
	vStep        int                 // the same for the transformed inputs
	vPiece       int                 // floats from one piece of the transformed inputs to the next
	mStep        int                 // floats from one tap of the products to the next
	vTile, vLane int                 // floats from one tile of the transformed inputs to the next, and from 8 channels to the next 8
	mTile, mLane int                 // the same of the products and outputs
	lane         int                 // channels of a frame
	out          int                 // outputs of a staging
	rows         int                 // rows of tiles of a frame
	fw, fh       int                 // columns and rows of a frame
	sw, sh       int                 // columns and rows of a unit's outputs, of one image
	frame        int                 // floats of a worker's frame
	staging      int                 // floats of a worker's outputs
	tilesAtAll   int                 // most tiles of a unit
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
	k.down, k.across = newWinogradAxis(k.oh, c.DilH), newWinogradAxis(k.ow, c.DilW)
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
	k.lane, k.out = winogradLane, winogradLane
	if strips {
		k.dealStrips()
		k.rows = min(k.band, max(1, winogradFrame/(16*c.DilH*c.DilW*k.across.lines*k.lane)))
		k.uStep = spreadSets(k.wide * k.run)
		k.sh = c.DilH * k.down.begin(1)
	} else {
		k.deal(threads)
		k.wide, k.rows = k.cout, k.band
		if k.block < k.tilesAtAll { // several blocks share a frame and a staging
			k.lane, k.out = k.cin, k.cout
		}
		k.uStep = spreadSets(k.cout * k.length)
		k.sh = c.DilH * k.down.begin(k.band)
	}
	k.layOut()
	k.sw = c.DilW * k.across.begin(k.across.lines)
	k.staging = k.sh * k.sw * k.out
	k.fw, k.fh = k.sw+c.DilW*(winogradShift(k.sc-1)+2), c.DilH*(k.down.begin(k.rows)+winogradShift(k.sr-1)+2)
	k.frame = k.fh * k.fw * k.lane
	k.listTerms()
	return k
}

// layOut decides how transformed inputs and products lie: 8 channels of all tiles after the other 8 where the products are the
// assembly's, so that what the transforms of 8 channels write lies together, else tile by tile, as micro-kernels read them.
func (k *winograd) layOut() {
	if k.e.kind == avx2 && k.most > 2*k.e.vec {
		k.vTile, k.vLane, k.mTile, k.mLane = winogradLane, spreadSets(winogradLane*k.block), winogradLane, spreadSets(winogradLane*k.block)
		k.vStep, k.mStep = spreadSets(k.run/winogradLane*k.vLane), spreadSets(k.wide/winogradLane*k.mLane)
	} else {
		k.vTile, k.vLane, k.mTile, k.mLane = k.run, winogradLane, k.wide, winogradLane
		k.vStep, k.mStep = spreadSets(k.block*k.run), spreadSets(k.block*k.wide)
	}
	k.vPiece = winogradTaps * k.vStep
}

// Bounds of the work at a time. By blocks of tiles: enough tiles that reading the weights costs little beside the products, few
// enough that inputs and products stay in the second-level cache. By strips of outputs: the transformed inputs of all tiles
// stay in the third-level cache, a piece of the weights and the products in the second-level one.
const (
	winogradMinTiles = 24
	winogradMaxTiles = 64
	winogradFloats   = 256 << 10
	winogradMerge    = 96      // channels of several sub-kernels summed in one piece
	winogradInputsAt = 3 << 20 // floats of transformed inputs, by strips
	winogradFrame    = 7 << 10 // floats of a frame, by strips
	winogradStrip    = 256     // tiles, by strips
)

// deal cuts the batch into units of about as many tiles as are multiplied at a time: rows of tiles of one image, or several
// small images. With more threads than units it cuts finer.
func (k *winograd) deal(threads int) {
	c := k.c
	k.block = min(winogradMaxTiles, max(winogradMinTiles, winogradFloats/(winogradTaps*(k.length+k.cout))))
	row := c.DilH * c.DilW * k.across.lines // tiles of one row of every grid
	k.group, k.band = 1, k.down.lines
	if row*k.down.lines <= k.block {
		k.group = min(c.N, k.block/(row*k.down.lines))
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
	k.band = ceilDiv(k.down.lines, ceilDiv(k.down.lines, k.band))
	k.tilesAtAll = k.group * k.band * row
	k.block = min(k.block, k.tilesAtAll)
	k.block = min(k.tilesAtAll, roundUp(ceilDiv(k.tilesAtAll, ceilDiv(k.tilesAtAll, k.block)), 4))
}

// dealStrips cuts the batch into as few units as the bounds allow; the threads share each.
func (k *winograd) dealStrips() {
	c := k.c
	most := max(1, min(winogradStrip, winogradInputsAt/(winogradTaps*k.length)))
	row := c.DilH * c.DilW * k.across.lines
	k.group, k.band = 1, k.down.lines
	if row*k.down.lines <= most {
		k.group = min(c.N, most/(row*k.down.lines))
		k.group = ceilDiv(c.N, ceilDiv(c.N, k.group))
	} else {
		k.band = max(1, most/row)
		k.band = ceilDiv(k.down.lines, ceilDiv(k.down.lines, k.band))
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
func (k *winograd) units() int { return ceilDiv(k.c.N, k.group) * ceilDiv(k.down.lines, k.band) }

// unit returns the images and the rows of tiles of a piece of work.
func (k *winograd) unit(u int) (n0, n1, a0, a1 int) {
	bands := ceilDiv(k.down.lines, k.band)
	n0, a0 = u/bands*k.group, u%bands*k.band
	return n0, min(n0+k.group, k.c.N), a0, min(a0+k.band, k.down.lines)
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

	// The unit that the threads share, by strips: its images, rows of tiles, tiles of an image and of all.
	n0, n1, a0, a1 int
	perImage       [winogradClasses]int
	bounds         winogradBounds
	runs           [winogradTaps][winogradSizes][2]int
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
	perImage := k.tilesOf(a0, a1)
	one, all := winogradBoundsOf(perImage, 1), winogradBoundsOf(perImage, n1-n0)
	k.list(own.from, &one, k.fw*k.lane, k.lane, a0, a1)
	k.list(own.to, &one, k.sw*k.out, k.out, a0, a1)
	clear(own.frame)
	for t, tiles := 0, all[winogradClasses]; t < tiles; t += k.block {
		end := min(t+k.block, tiles)
		for c0 := 0; c0 < k.cin; c0 += k.lane {
			for n := range n1 - n0 {
				if t == 0 {
					k.fill(own.frame, j.a.X[(n0+n)*c.Cin*c.H*c.W:], c0, a0, a1)
				}
				for class, per := range perImage {
					first := all[class] + n*per
					if from, to := max(first, t), min(first+per, end); from < to {
						k.input(own.v, from-t, class, c0, own.frame, own.from[one[class]+from-first:one[class]+to-first])
					}
				}
			}
		}
		b := all.clip(t, end-t)
		k.multiply(own.m, own.v, j.u, &b)
		for o := 0; o < c.Cout; o += k.out {
			for n := range n1 - n0 {
				for class, per := range perImage {
					first := all[class] + n*per
					if from, to := max(first, t), min(first+per, end); from < to {
						k.output(own.staging, own.to[one[class]+from-first:one[class]+to-first], class, own.m[(from-t)*k.mTile+o/winogradLane*k.mLane:], j.bias[(n0+n)*j.perN+o:])
					}
				}
				if end == tiles {
					j.empty(n0+n, own.staging, o, a0, a1, own.lines)
				}
			}
		}
	}
}

// strip computes one unit: first the transformed inputs of all its tiles, then strip after strip of outputs.
func (j *winogradJob) strip(p *Pool, unit int) {
	k := j.winograd
	j.n0, j.n1, j.a0, j.a1 = k.unit(unit)
	j.perImage = k.tilesOf(j.a0, j.a1)
	j.bounds = winogradBoundsOf(j.perImage, j.n1-j.n0)
	for tap := range j.runs {
		j.runs[tap] = j.bounds.runs(tap)
	}
	each(p, (j.n1-j.n0)*ceilDiv(j.a1-j.a0, k.rows)*(k.cin/k.lane), *j, (*winogradJob).inputs)
	each(p, ceilDiv(k.count, k.wide/k.most), *j, (*winogradJob).outputs)
}

// inputs transforms a lane of channels of a band of a unit by strips.
func (j *winogradJob) inputs(worker, i int) {
	k, c, own := j.winograd, &j.c, j.worker(worker)
	bands, lanes := ceilDiv(j.a1-j.a0, k.rows), k.cin/k.lane
	lane, band, n := i%lanes, i/lanes%bands, i/lanes/bands
	b0 := j.a0 + band*k.rows
	b1 := min(b0+k.rows, j.a1)
	clear(own.frame)
	k.fill(own.frame, j.a.X[(j.n0+n)*c.Cin*c.H*c.W:], lane*k.lane, b0, b1)
	before, per := k.tilesOf(j.a0, b0), k.tilesOf(b0, b1)
	one := winogradBoundsOf(per, 1)
	k.list(own.from, &one, k.fw*k.lane, k.lane, b0, b1)
	for class := range winogradClasses {
		k.input(j.v, j.bounds[class]+n*j.perImage[class]+before[class], class, lane*k.lane, own.frame, own.from[one[class]:one[class+1]])
	}
}

// outputs computes a strip of outputs of a unit, or as many as are worked on at once.
func (j *winogradJob) outputs(worker, i int) {
	k, c, own := j.winograd, &j.c, j.worker(worker)
	atOnce := k.wide / k.most
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
				k.sum(own.m[tap*k.mStep+(o-o0)/winogradLane*k.mLane:], j.v[tap*k.vStep:], own.u[tap*k.uStep+(o-o0)*k.run:], k.terms[atInfinity(tap)][piece], &j.runs[tap], width)
			}
		}
	}
	for a := j.a0; a < j.a1; a++ {
		before, per := k.tilesOf(j.a0, a), k.tilesOf(a, a+1)
		one := winogradBoundsOf(per, 1)
		k.list(own.to, &one, k.sw*k.out, k.out, a, a+1)
		for n := j.n0; n < j.n1; n++ {
			for o := o0; o < min(o1, c.Cout); o += k.out {
				for class := range winogradClasses {
					t := j.bounds[class] + (n-j.n0)*j.perImage[class] + before[class]
					k.output(own.staging, own.to[one[class]:one[class+1]], class, own.m[t*k.mTile+(o-o0)/winogradLane*k.mLane:], j.bias[n*j.perN+o:])
				}
				j.empty(n, own.staging, o, a, a+1, own.lines)
			}
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

// pieceLength returns the channels of a piece, of all its sub-kernels.
func (k *winograd) pieceLength(i int) int {
	s0, s1, _, n := k.piece(i)
	return (s1 - s0) * n
}

// winogradTerm is what one product adds to a piece of the sum of a tap: neighbouring channels, of one sub-kernel or of several.
type winogradTerm struct {
	v   int // where the transformed inputs lie among those of the tap
	at  int // the first channel, of the piece's
	n   int // channels
	add bool
}

// atInfinity numbers taps by whether they are at infinity down and across: 0 to 3.
func atInfinity(tap int) int { return tap/6/5*2 + tap%6/5 }

// listTerms lists the terms of every piece, for taps of each of those four kinds.
func (k *winograd) listTerms() {
	for kind := range k.terms {
		k.terms[kind] = make([][]winogradTerm, k.pieces)
		for piece := range k.pieces {
			s0, s1, _, n := k.piece(piece)
			add := piece > 0
			for s := s0; s < s1; {
				first := s
				for s < s1 && k.reaches(s, kind) {
					s++
				}
				if s == first {
					s++
					continue
				}
				at := (first - s0) * k.cin
				k.terms[kind][piece] = append(k.terms[kind][piece], winogradTerm{piece*k.vPiece + at/winogradLane*k.vLane, at, (s - first) * n, add})
				add = true
			}
		}
	}
}

// reaches reports whether a sub-kernel has a say in taps of a kind. Those with two taps in a direction have none in the point at
// infinity: it is their missing third tap.
func (k *winograd) reaches(sub, kind int) bool {
	return (kind/2 == 0 || sub/k.sc == 0) && (kind%2 == 0 || sub%k.sc == 0)
}

// sum adds one piece of the sum of one tap to the products of a strip of outputs, for some runs of tiles.
func (k *winograd) sum(m, v, u []float32, terms []winogradTerm, runs *[winogradSizes][2]int, width int) {
	for i := range terms {
		q := &terms[i]
		for _, r := range runs {
			if r[0] < r[1] {
				winogradProduct(k.e, m[r[0]*k.mTile:], k.mTile, k.mLane, v[q.v+r[0]*k.vTile:], k.vTile, k.vLane, u[q.at*width:], width, r[1]-r[0], q.n, q.add)
			}
		}
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

// multiply does the 36 matrix products of some tiles: M[tile][cout] = V[tile][length] * U[length][cout].
func (k *winograd) multiply(m, v, u []float32, b *winogradBounds) {
	for tap := range winogradTaps {
		runs, terms := b.runs(tap), k.terms[atInfinity(tap)]
		for i, o := 0, 0; i < k.count; i++ {
			width, at := k.stripAt(i+1)-o, tap*k.uStep+o*k.length
			for piece := range terms {
				k.sum(m[tap*k.mStep+o/winogradLane*k.mLane:], v[tap*k.vStep:], u[at:], terms[piece], &runs, width)
				at += k.pieceLength(piece) * width
			}
			o += width
		}
	}
}

// winogradAtOnce is how many channels' weights are transposed at a time.
const winogradAtOnce = 16

// weightFloats returns the floats that weigh works in.
func (k *winograd) weightFloats() int {
	return winogradAtOnce * k.most * (k.c.KH*k.c.KW + 9)
}

// weigh transforms a sub-kernel's weights of channels [c0,c0+n) and a strip of outputs from o0 into u: for every tap (by strips, of
// those that the tiles have) [n][width].
// Channels and outputs that are only padding become zeros.
func (k *winograd) weigh(u []float32, uStep, o0, width, sub, c0, n int, w, work []float32) {
	c := &k.c
	all := !k.strips || len(k.down.tiles[0]) != 0 // kept weights may meet tiles of any size
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
				winogradWeights(k.e, u[(p+q)*width+o:], uStep, width, g[q*9*width+o:], width, min(4, count-q), all)
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

// fill transposes the lane of channels from c0 of the rows of one image that lie under tiles [a0,a1) into a frame
// [row][column][lane], around which there are zeros. Column j is the image's column j-PadLeft.
func (k *winograd) fill(frame, x []float32, c0, a0, a1 int) {
	c, line := &k.c, k.fw*k.lane
	top := c.DilH*k.down.begin(a0) - c.PadTop
	rows := c.DilH * (k.down.begin(a1) - k.down.begin(a0) + winogradShift(k.sr-1) + 2)
	r0, r1 := max(0, top), min(c.H, top+rows)
	if cols := min(c.W, k.fw-c.PadLeft); r0 < r1 && cols > 0 {
		for i := 0; i < k.lane; i += winogradLane {
			winogradFill(k.e, frame[(r0-top)*line+c.PadLeft*k.lane+i:], line, k.lane, x[((c0+i)*c.H+r0)*c.W:], c.H*c.W, c.W, r1-r0, cols, min(winogradLane, c.Cin-c0-i))
		}
	}
}

// input transforms what all sub-kernels see of some tiles of a class, of a lane of channels from c0, into v from tile t on. The tiles
// begin at those places of frame.
func (k *winograd) input(v []float32, t, class, c0 int, frame []float32, at []int32) {
	if len(at) == 0 {
		return
	}
	row, col := k.c.DilH*k.fw*k.lane, k.c.DilW*k.lane
	for sub := range k.sr * k.sc {
		x := frame[winogradShift(sub/k.sc)*row+winogradShift(sub%k.sc)*col:]
		for i, next := 0, 0; i < k.lane; i = next {
			piece, within := sub/k.merge, sub%k.merge*k.cin+c0+i
			next = k.lane
			if k.merge == 1 {
				piece, within = sub*k.perSub+(c0+i)/k.run, (c0+i)%k.run
				next = min(next, i+k.run-within)
			}
			winogradInputs(k.e, class, v[piece*k.vPiece+t*k.vTile+within/winogradLane*k.vLane:], k.vTile, k.vStep, k.vLane, x[i:], at, row, col, (next-i)/winogradLane)
		}
	}
}

// output transforms some tiles of a class of the products into the outputs of a staging, at those places of y.
func (k *winograd) output(y []float32, at []int32, class int, m, bias []float32) {
	if len(at) != 0 {
		winogradOutputs(k.e, class, y, at, k.c.DilH*k.sw*k.out, k.c.DilW*k.out, m, k.mTile, k.mStep, k.mLane, bias, k.out/winogradLane)
	}
}

// winogradLine is how many pixels of a plane are finished at a time.
const winogradLine = 256

// empty transposes the outputs of a staging, o and those after it of tiles [a0,a1) of image n, back into planes, a lane of channels
// at a time: the cache lines of a pixel's planes may all belong to one set, and each should be full before it is pushed out. What
// comes after the convolution is done on the way.
func (j *winogradJob) empty(n int, staging []float32, o, a0, a1 int, lines []float32) {
	k := j.winograd
	first, plane := k.c.DilH*k.down.begin(a0), k.oh*k.ow
	rows, width := min(k.c.DilH*k.down.begin(a1), k.oh)-first, k.ow
	if k.sw == k.ow {
		rows, width = 1, rows*k.ow
	}
	for i := 0; i < k.out && o+i < k.c.Cout; i += winogradLane {
		count := min(winogradLane, k.c.Cout-o-i)
		at := (n*k.c.Cout+o+i)*plane + first*k.ow
		done := 0
		if !j.a.SiLU {
			var residual []float32
			if j.a.Residual != nil {
				residual = j.a.Residual[at:]
			}
			done = winogradEmpty(k.e, j.a.Y[at:], plane, k.ow, residual, staging[i:], k.sw*k.out, k.out, rows, width, count)
		}
		for r := range rows {
			for p := done; p < width; p += winogradLine {
				length := min(winogradLine, width-p)
				transposeBlocks(k.e, lines, winogradLine, staging[(r*k.sw+p)*k.out+i:], k.out, length, count)
				for q := range count {
					j.a.finish(at+q*plane+r*k.ow+p, lines[q*winogradLine:][:length])
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
