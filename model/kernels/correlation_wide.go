package kernels

// Wide correlations take their outputs in flat order, in panels of 24 pixels for the micro-kernel of 4 rows. While one panel is
// multiplied the micro-kernel packs the next, as long as 8 neighbouring outputs read 8 neighbouring pixels; else panels are packed
// beforehand, which many rows of A make up for.

const (
	// panelWidth is the width of a panel of a wide correlation.
	panelWidth = 24
	// panelDepth is its longest run of a sum: a panel and the rows of A at work should fit the first-level cache.
	panelDepth = 256
	// panelFloats is the size of a packed panel, with room for what a narrow one writes past its end.
	panelFloats = panelDepth*panelWidth + 16
	// wideFloats is the size of a worker's buffers: two panels and a tile of C.
	wideFloats = 2*panelFloats + stripRows*panelWidth
)

// widen makes the correlation a wide one where there is a micro-kernel for it and it pays: with many rows of A, in pointwise layers,
// and where taking six rows at a time, as the other one does, would waste much on the two that are left.
func (k *correlation) widen() {
	pointwise, uneven := len(k.rows)*len(k.cols) == 1, k.m%12 == 8 && k.m < 48
	if k.e.kind != avx2 || k.m < 160 && !(k.grouped() && k.m >= 8 && (pointwise || uneven)) {
		return
	}
	k.nr, k.packed, k.raw = panelWidth, true, k.frame.whole()
	k.kc = roundUp(ceilDiv(k.k(), ceilDiv(k.k(), panelDepth)), 4)
}

// wide reports whether the correlation is one.
func (k *correlation) wide() bool { return k.nr == panelWidth }

// grouped reports whether whole groups of 8 outputs in flat order lie in one row.
func (k *correlation) grouped() bool { return k.oh == 1 || k.ow%8 == 0 }

// panels adds the block of the sums that begins at p0 to tiles [t0,t1) of every image.
func (k *correlation) panels(w *product, p0, i0, i1, t0, t1 int, work []float32) {
	plane := k.oh * k.ow
	off := w.off[p0:min(p0+k.kc, len(w.off))]
	t := panel{a: w.a[i0*w.ars+p0:], m: i1 - i0, k: len(off), ars: w.ars, ldc: plane, add: p0 > 0 || w.residual != nil}
	buffer, other, edge := work[:panelFloats], work[panelFloats:2*panelFloats], work[2*panelFloats:]
	packed := false
	this := k.spot(w, 0, t0)
	next := k.following(w, &this, t0, t1)
	for this.n < w.images {
		later := k.following(w, &next, t0, t1)
		t.narrow = this.width <= 16
		if !packed {
			k.pack(buffer, w.b[this.n*w.bStep:], off, this.to, this.width, t.width())
		}
		if packed = next.grouped && t.m >= 8; packed {
			t.off, t.to, t.step = off, other, 4*next.width
			t.from0, t.from1, t.from2 = next.from[0], next.from[1], next.from[2]
			ahead := &next
			if later.grouped {
				ahead = &later
			}
			t.later0, t.later1, t.later2 = ahead.from[0], ahead.from[1], ahead.from[2]
		} else {
			t.off = nil
		}
		t.b, t.c = buffer, w.dst[this.n*w.dstStep+i0*plane+this.to:]
		if w.bias != nil && p0 == 0 {
			t.bias = w.bias[this.n*w.biasStep:][i0:i1]
		}
		if this.width == t.width() {
			t.run(k.e)
		} else {
			t.ragged(k.e, this.width, edge)
		}
		buffer, other = other, buffer
		this, next = next, later
	}
}

// spot is one panel of a batch.
type spot struct {
	n, u, to, width int          // image, tile, first column and number of columns
	grouped         bool         // whether the columns form groups of 8, two or three
	from            [3][]float32 // where those begin in the image; of two the last comes twice
}

// following returns the panel after s.
func (k *correlation) following(w *product, s *spot, t0, t1 int) spot {
	if s.u+1 < t1 {
		return k.spot(w, s.n, s.u+1)
	}
	return k.spot(w, s.n+1, t0)
}

// spot returns the panel that is tile u of image n, which may be beyond the last.
func (k *correlation) spot(w *product, n, u int) spot {
	to := u * panelWidth
	s := spot{n: n, u: u, to: to, width: min(panelWidth, k.oh*k.ow-to)}
	if s.grouped = n < w.images && s.width%8 == 0 && s.width >= 16 && k.grouped(); !s.grouped {
		return s
	}
	b := w.b[n*w.bStep:]
	if k.oh == 1 {
		s.from = [3][]float32{b[to:], b[to+8:], b[to+s.width-8:]}
		return s
	}
	for g := range s.from {
		p := to + min(8*g, s.width-8)
		y := p / k.ow
		s.from[g] = b[y*k.frame.pw+p-y*k.ow:]
	}
	return s
}

// ragged is run for a panel whose columns from n on are not wanted.
func (p panel) ragged(e *engine, n int, edge []float32) {
	a, c, m, ldc, add := p.a, p.c, p.m, p.ldc, p.add
	p.c, p.ldc, p.add = edge, p.width(), false
	for i := 0; i < m; i += stripRows {
		p.m, p.a = min(stripRows, m-i), a[i*p.ars:]
		p.run(e)
		addRows(c[i*ldc:], ldc, edge, p.ldc, p.m, n, add)
		p.off = nil // the next panel is packed
		if p.bias != nil {
			p.bias = p.bias[p.m:]
		}
	}
}

// stagedPanels computes panels whole before they go to the output, see staged.
func (k *correlation) stagedPanels(w *product, i0, i1, t0, t1 int, work []float32) {
	plane := k.oh * k.ow
	b, edge := work[:panelFloats], work[2*panelFloats:]
	for q := range w.images * (t1 - t0) {
		n, to := q/(t1-t0), (t0+q%(t1-t0))*panelWidth
		width := min(panelWidth, plane-to)
		t := panel{b: b, c: edge, ars: w.ars, narrow: width <= 16}
		t.ldc = t.width()
		for i := i0; i < i1; i += stripRows {
			t.m = min(stripRows, i1-i)
			for p0 := 0; p0 < len(w.off); p0 += k.kc {
				off := w.off[p0:min(p0+k.kc, len(w.off))]
				t.a, t.k, t.add, t.bias = w.a[i*w.ars+p0:], len(off), p0 > 0, nil
				if w.bias != nil && p0 == 0 {
					t.bias = w.bias[n*w.biasStep+i:]
				}
				k.pack(b, w.b[n*w.bStep:], off, to, width, t.ldc)
				t.run(k.e)
			}
			for r := range t.m {
				at, values := n*w.dstStep+(i+r)*plane+to, edge[r*t.ldc:][:width]
				vecSiLU(values, values)
				vecAdd(w.dst[at:at+width], values, w.residual[at:at+width])
			}
		}
	}
}
