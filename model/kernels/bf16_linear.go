package kernels

// Linear layers in the bfloat16 modes: A is x, packed as it is needed, B is w^T, packed once where the caller keeps it.

// Kinds of packed weights in the bfloat16 modes; see bf16.go for the layouts.
const (
	PackBFLinear PackKind = 100 + iota // w [O,K] of a Linear, as B
	PackBFConv                         // w [O,K,KH,KW] of a Conv, as A, with terms in the order of taps, channels
)

const (
	bfLinearBlocks = 4 // blocks of rows in one unit of work
	bfLinearPanels = 8 // panels multiplied at a time: what of B stays in the second-level cache
)

func (l Linear) bfGrid(m Math) bfGrid { return newBFGrid(m, l.T, l.O, l.K) }

func (l Linear) bfPacking(m Math) Packing {
	return Packing{Kind: PackBFLinear, O: l.O, K: l.K, Engine: active.name, Math: m}
}

// bfFloats is Packing.Floats of the bfloat16 kinds.
func (k Packing) bfFloats() int {
	switch k.Kind {
	case PackBFLinear:
		g := newBFGrid(k.Math, 1, k.O, k.K)
		return g.bFloats()
	default:
		g := newBFGrid(k.Math, k.O, 1, bfConvTerms(k.K, k.KH*k.KW))
		return g.aFloats()
	}
}

// bfPack is Packing.Pack of the bfloat16 kinds.
func (k Packing) bfPack(p *Pool, dst, w []float32) {
	need("Packing.Pack: w", w, k.O*k.K*max(1, k.KH*k.KW))
	if k.Kind == PackBFConv {
		bfPackConv(p, k, asUint16(dst), w)
		return
	}
	g := newBFGrid(k.Math, 1, k.O, k.K)
	each(p, g.panels, bfPacking{k, g, asUint16(dst), w}, (*bfPacking).linearPanel)
}

// linearPanel packs a panel of outputs.
func (s *bfPacking) linearPanel(_, j int) {
	k, g := &s.Packing, &s.g
	g.packBT(s.dst[j*g.bPanel:][:g.bPanel], s.w[j*bfRows*k.K:], k.K, min(bfRows, k.O-j*bfRows), k.K)
}

// bfWork is a worker's scratch: packed rows of x, and a piece of y.
func (l Linear) bfWork(g *bfGrid) (a, c int) {
	blocks := min(bfLinearBlocks, g.blocks)
	return roundUp(blocks*g.aBlock/2, 16), blocks * bfRows * bfLinearPanels * bfRows
}

func (l Linear) bfScratch(m Math, threads int) int {
	g := l.bfGrid(m)
	a, c := l.bfWork(&g)
	return roundUp(g.bFloats(), 16) + roundUp(threads*(a+c), 16)
}

// bfRun is LinearRun in a bfloat16 mode. residual may be y.
func (l Linear) bfRun(p *Pool, m Math, y, x, w, packed, bias, residual, scratch []float32) {
	if l.T == 0 {
		return
	}
	g := l.bfGrid(m)
	s := carver{scratch}
	own := s.take(g.bFloats())
	if packed == nil {
		l.bfPacking(m).bfPack(p, own, w)
		packed = own
	}
	b := asUint16(packed)
	aSize, cSize := l.bfWork(&g)
	work := s.take(p.Threads() * (aSize + cSize))
	rows := ceilDiv(g.blocks, bfLinearBlocks)
	parts := 1 // of the columns, where there are few rows
	if rows < 4*p.Threads() && p.Threads() > 1 {
		parts = min(ceilDiv(g.panels, bfLinearPanels), ceilDiv(4*p.Threads(), rows))
	}
	columns := ceilDiv(ceilDiv(g.panels, parts), bfLinearPanels) * bfLinearPanels
	parts = ceilDiv(g.panels, columns)
	each(p, rows*parts, bfLinearLoop{l, g, parts, columns, y, x, bias, residual, work, b}, (*bfLinearLoop).unit)
}

// bfLinearLoop is the state of the loop of bfRun.
type bfLinearLoop struct {
	Linear
	g                    bfGrid
	parts, columns       int // parts of the columns, of that many panels
	y, x, bias, residual []float32
	work                 []float32 // of all workers
	b                    []uint16
}

// unit computes some blocks of rows of one part of the columns.
func (s *bfLinearLoop) unit(worker, u int) {
	l, g := &s.Linear, &s.g
	aSize, cSize := l.bfWork(g)
	own := s.work[worker*(aSize+cSize):][:aSize+cSize]
	a, c := asUint16(own[:aSize]), own[aSize:]
	i0 := u / s.parts * bfLinearBlocks
	i1 := min(i0+bfLinearBlocks, g.blocks)
	for i := i0; i < i1; i++ {
		g.packA(a[(i-i0)*g.aBlock:][:g.aBlock], s.x[i*bfRows*l.K:], l.K, min(bfRows, l.T-i*bfRows), l.K)
	}
	j0 := u % s.parts * s.columns
	j1 := min(j0+s.columns, g.panels)
	for j := j0; j < j1; j += bfLinearPanels {
		n := min(bfLinearPanels, j1-j)
		for q := 0; q < g.chunks; q += bfBlocks {
			g.multiply(c, bfLinearPanels*bfRows, a[q*g.chunkAt:], s.b[j*g.bPanel+q*g.chunkAt:], i1-i0, n, min(bfBlocks, g.chunks-q), q > 0)
		}
		first, cols := j*bfRows, min(n*bfRows, l.O-j*bfRows)
		for i := i0 * bfRows; i < min(i1*bfRows, l.T); i++ {
			from, to := c[(i-i0*bfRows)*bfLinearPanels*bfRows:][:cols], s.y[i*l.O+first:][:cols]
			if s.bias != nil {
				vecAdd(from, from, s.bias[first:first+cols])
			}
			if s.residual != nil {
				vecAdd(to, from, s.residual[i*l.O+first:][:cols])
			} else {
				copy(to, from)
			}
		}
	}
}
