package kernels

// Winograd's minimal filtering F(4x4,3x3) for 3x3 convolutions of stride 1: a tile of 4x4 outputs takes 36 products per pair
// of channels instead of 144 (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308). With g the 3x3 kernel and d the 6x6
// inputs under a tile,
//
//	y = A' [ sum over Cin of (G g G') * (B' d B) ] A        (* element by element)
//
// so that each of the 36 elements is an ordinary matrix product over channels, tiles by outputs. A dilated convolution is an
// undilated one on each of the DilH x DilW grids of pixels that lie a dilation apart; its tiles only have longer strides.
//
// The transforms interpolate at 0, +-5/8, +-3/2 and infinity: of the pairs of sixteenths tried, the one that loses least. The rms
// error is 2 to 3 times the direct kernel's (TestWinogradError), where the usual 0, +-1, +-2 give 4 to 9 times. Sums over
// channels run in pieces of at most winogradRun, for the same reason.
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

// winogradFits reports whether F(4x4,3x3) can compute the convolution at all.
func (c Conv) winogradFits() bool {
	return c.KH == 3 && c.KW == 3 && c.StrideH == 1 && c.StrideW == 1
}

// winogradWins reports whether F(4x4,3x3) is worth it. It asks for the shape alone, never for the batch or the threads, so that
// the bits of an image depend on neither. Measured on batches of 16, it is 1.4 to 3 times as fast as the direct kernel where
// the rule holds. It loses on tiles that are mostly waste, of maps hardly larger than their dilation, and with large weights
// (transformed on every call) that serve few tiles.
func (c Conv) winogradWins() bool {
	if !c.winogradFits() || c.Cin < 16 || c.Cout < 16 {
		return false
	}
	oh, ow := c.OutH(), c.OutW()
	tiles := c.DilH * c.DilW * ceilDiv(ceilDiv(oh, c.DilH), 4) * ceilDiv(ceilDiv(ow, c.DilW), 4)
	return 3*oh*ow >= 16*tiles && (c.Cin*c.Cout <= 32<<10 || tiles >= 16)
}

// winograd is the plan of one convolution for a number of threads. Only how the tiles are dealt out depends on the batch and on
// the threads; the arithmetic of a tile depends on neither.
type winograd struct {
	c          Conv
	e          *engine
	oh, ow     int
	th, tw     int // rows and columns of tiles on the largest of the dilation's grids
	cin, cout  int // channels rounded up to whole lanes
	band       int // rows of tiles (of every grid) in one unit of work
	group      int // images in one unit of work
	block      int // tiles that are multiplied at a time
	uStep      int // floats from one tap of the transformed weights to the next
	vStep      int // the same for the transformed inputs
	mStep      int // the same for the products
	fw, fh     int // columns and rows of a unit's frame, per image
	sw, sh     int // columns and rows of a unit's outputs, per image
	frame      int // floats of a unit's frame
	staging    int // floats of a unit's outputs
	tilesAtAll int // most tiles of a unit
}

func newWinograd(c Conv, threads int) *winograd {
	e := active
	k := &winograd{c: c, e: e, oh: c.OutH(), ow: c.OutW()}
	k.th, k.tw = ceilDiv(ceilDiv(k.oh, c.DilH), 4), ceilDiv(ceilDiv(k.ow, c.DilW), 4)
	k.cin, k.cout = roundUp(c.Cin, winogradLane), roundUp(c.Cout, max(winogradLane, e.vec))
	k.deal(threads)
	k.uStep = spreadSets(roundUp(k.cout, 2*e.vec) * c.Cin)
	k.vStep, k.mStep = spreadSets(k.block*k.cin), spreadSets(k.block*k.cout)
	k.fw, k.fh = c.DilW*(4*k.tw+2), c.DilH*(4*k.band+2)
	k.sw, k.sh = c.DilW*4*k.tw, c.DilH*4*k.band
	k.frame, k.staging = k.group*k.fh*k.fw*k.cin, k.group*k.sh*k.sw*k.cout
	return k
}

// winogradTiles bounds the tiles that are multiplied at a time: enough that reading the weights costs little beside the
// products, few enough that inputs and products stay in the second-level cache.
const (
	winogradMinTiles = 24
	winogradMaxTiles = 48
	winogradFloats   = 160 << 10
)

// deal cuts the batch into units of about as many tiles as are multiplied at a time: rows of tiles of one image, or several
// small images. With more threads than units it cuts finer.
func (k *winograd) deal(threads int) {
	c := k.c
	k.block = min(winogradMaxTiles, max(winogradMinTiles, winogradFloats/(winogradTaps*(k.cin+k.cout))))
	row := c.DilH * c.DilW * k.tw // tiles of one row of every grid
	k.group, k.band = 1, k.th
	if row*k.th <= k.block {
		k.group = min(c.N, k.block/(row*k.th))
		for k.group > 1 && ceilDiv(c.N, k.group) < threads {
			k.group = (k.group + 1) / 2
		}
	} else {
		k.band = max(1, k.block/row)
	}
	for k.band > 1 && k.units() < 2*threads && c.N%threads != 0 {
		k.band = (k.band + 1) / 2
	}
	k.band = ceilDiv(k.th, ceilDiv(k.th, k.band))
	k.tilesAtAll = k.group * k.band * row
	k.block = min(k.block, k.tilesAtAll)
	k.block = ceilDiv(k.tilesAtAll, ceilDiv(k.tilesAtAll, k.block))
}

// units returns how many pieces of work there are.
func (k *winograd) units() int { return ceilDiv(k.c.N, k.group) * ceilDiv(k.th, k.band) }

// pieces returns how many floats a worker's frame, outputs, transformed inputs, products and tile lists take.
func (k *winograd) pieces() [5]int {
	return [5]int{roundUp(k.frame, 16), roundUp(k.staging, 16), winogradTaps * k.vStep, winogradTaps * k.mStep, roundUp(2*k.tilesAtAll, 16)}
}

// scratch returns the floats of scratch that forward wants.
func (k *winograd) scratch(threads int) int {
	n := 0
	for _, p := range k.pieces() {
		n += p
	}
	return threads*n + winogradTaps*k.uStep + roundUp(9*k.c.Cin*k.cout, 16) + roundUp(k.cout, 16)
}

// forward computes y, as ConvForward does.
func (k *winograd) forward(p *Pool, y, x, w, bias, scratch []float32) {
	s := carver{scratch}
	u := s.take(winogradTaps * k.uStep)
	wt := s.take(9 * k.c.Cin * k.cout)
	b := s.take(k.cout)
	clear(b)
	copy(b[:k.c.Cout], bias)
	k.weights(p, u, wt, w)
	sizes := k.pieces()
	total := 0
	for _, n := range sizes {
		total += n
	}
	work := s.take(p.Threads() * total)
	bands := ceilDiv(k.th, k.band)
	p.run(k.units(), func(worker, unit int) {
		own := carver{work[worker*total:][:total]}
		frame, staging, v, m := own.take(sizes[0]), own.take(sizes[1]), own.take(sizes[2]), own.take(sizes[3])
		list := asInt32(own.take(sizes[4]))
		n0, a0 := unit/bands*k.group, unit%bands*k.band
		n1, a1 := min(n0+k.group, k.c.N), min(a0+k.band, k.th)
		for n := n0; n < n1; n++ {
			k.fill(frame[(n-n0)*k.fh*k.fw*k.cin:], x[n*k.c.Cin*k.c.H*k.c.W:], a0, a1)
		}
		from, to := list[:k.tilesAtAll], list[k.tilesAtAll:]
		tiles := k.list(from, to, n1-n0, a0, a1)
		for t := 0; t < tiles; t += k.block {
			count := min(k.block, tiles-t)
			for i, at := range from[t : t+count] {
				k.input(v[i*k.cin:], frame[at:])
			}
			k.multiply(m, v, u, count)
			for i, at := range to[t : t+count] {
				k.output(staging[at:], m[i*k.cout:], b)
			}
		}
		for n := n0; n < n1; n++ {
			k.empty(y[n*k.c.Cout*k.oh*k.ow:], staging[(n-n0)*k.sh*k.sw*k.cout:], a0, a1)
		}
	})
}

// weights transforms w into u: for every tap, strips of as many outputs as a tile of the matrix product has columns, each
// [Cin][columns]. wt takes the transposed weights, [Cin][9][cout].
func (k *winograd) weights(p *Pool, u, wt, w []float32) {
	const channels = 8 // channels of one piece of work
	c, nr := k.c, 2*k.e.vec
	p.Run(ceilDiv(c.Cin, channels), func(piece int) {
		c0 := piece * channels
		n := min(channels, c.Cin-c0)
		mine := wt[c0*9*k.cout:][:n*9*k.cout]
		if c.Cout < k.cout { // the columns that pad the outputs are computed and dropped, but not from garbage
			clear(mine)
		}
		transposeBlocks(k.e, mine, k.cout, w[c0*9:], c.Cin*9, c.Cout, n*9)
		for o := 0; o < k.cout; o += winogradLane {
			// A lane wider than a tile of the product does not occur: nr is 8 or more.
			winogradWeights(k.e, u[o/nr*nr*c.Cin+c0*nr+o%nr:], k.uStep, nr, mine[o:], k.cout, n)
		}
	})
}

// fill transposes the rows of one image that lie under tiles [a0,a1) into a frame [row][column][cin], with zeros around it.
// Column j is the image's column j-PadLeft.
func (k *winograd) fill(frame, x []float32, a0, a1 int) {
	c, line := k.c, k.fw*k.cin
	n := max(0, min(c.W, k.fw-c.PadLeft))
	for i := range c.DilH * (4*(a1-a0) + 2) {
		row := frame[i*line : (i+1)*line]
		r := 4*c.DilH*a0 + i - c.PadTop
		if r < 0 || r >= c.H || n == 0 {
			clear(row)
			continue
		}
		clear(row[:c.PadLeft*k.cin])
		clear(row[(c.PadLeft+n)*k.cin:])
		transposeBlocks(k.e, row[c.PadLeft*k.cin:], k.cin, x[r*c.W:], c.H*c.W, c.Cin, n)
	}
}

// list lists the tiles of a unit: where each reads the frames and where it writes the outputs. It returns their number.
func (k *winograd) list(from, to []int32, images, a0, a1 int) int {
	c, t := k.c, 0
	for n := range images {
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
						from[t] = int32(((n*k.fh+row)*k.fw + col) * k.cin)
						to[t] = int32(((n*k.sh+row)*k.sw + col) * k.cout)
						t++
					}
				}
			}
		}
	}
	return t
}

// input transforms one tile of the frame into v.
func (k *winograd) input(v, frame []float32) {
	winogradInputs(k.e, v, k.vStep, frame, k.c.DilH*k.fw*k.cin, k.c.DilW*k.cin, k.cin/winogradLane)
}

// output transforms one tile of the products into outputs.
func (k *winograd) output(y, m, bias []float32) {
	winogradOutputs(k.e, y, k.c.DilH*k.sw*k.cout, k.c.DilW*k.cout, m, k.mStep, bias, k.cout/winogradLane)
}

// multiply does the 36 matrix products of some tiles: M[tile][cout] = V[tile][cin] * U[cin][cout].
func (k *winograd) multiply(m, v, u []float32, tiles int) {
	e, cin, nr := k.e, k.c.Cin, 2*k.e.vec
	run := ceilDiv(cin, ceilDiv(cin, winogradRun))
	t := tile{ars: k.cin, acs: 1, m: tiles, ldc: k.cout}
	for tap := range winogradTaps {
		v, m, u := v[tap*k.vStep:], m[tap*k.mStep:], u[tap*k.uStep:]
		for o := 0; o < k.cout; o += nr {
			t.one = k.cout-o < nr
			t.c0 = m[o:]
			if !t.one {
				t.c1 = m[o+e.vec:]
			}
			for p := 0; p < cin; p += run {
				strip := u[o*cin+p*nr:]
				t.a, t.b0, t.b1 = v[p:], strip, strip[e.vec:]
				t.off, t.add = packedOffsets[nr][:min(run, cin-p)], p > 0
				t.run(e)
			}
		}
	}
}

// empty transposes the outputs of tiles [a0,a1) of one image back into planes, a lane of channels at a time: the cache lines of
// a pixel's planes may all belong to one set, and each should be full before it is pushed out.
func (k *winograd) empty(y, staging []float32, a0, a1 int) {
	first, plane := 4*k.c.DilH*a0, k.oh*k.ow
	rows, width := min(4*k.c.DilH*a1, k.oh)-first, k.ow
	if k.sw == k.ow {
		rows, width = 1, rows*k.ow
	}
	for o := 0; o < k.c.Cout; o += winogradLane {
		for i := range rows {
			transposeBlocks(k.e, y[o*plane+first*k.ow+i*width:], plane, staging[i*k.sw*k.cout+o:], k.cout, width, min(winogradLane, k.c.Cout-o))
		}
	}
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
