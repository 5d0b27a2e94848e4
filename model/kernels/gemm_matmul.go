package kernels

// matmul is a product of large matrices, C[m,n] = A[m,k] B[k,n] (+ C if accumulate) (+ bias of the columns) (+ residual), with
// A[i,p] = a[i*ars+p*acs]. B comes as packed panels (see PackLinear), or as it lies and is packed on the way, with the same bits:
// b[p*ldb+j], or b[j*ldb+p] if byColumns.
//
// The order of sums: blocks of the engine's kc terms, each summed in order in registers, are added up in order. What C holds, or
// the bias, joins the first block, the residual the total: (((s0 + bias) + s1) + s2) + residual.
type matmul struct {
	e         *engine
	m, n, k   int
	a         []float32
	ars, acs  int
	packed    []float32
	b         []float32
	ldb       int
	byColumns bool
	c         []float32
	ldc       int
	// accumulate and bias exclude each other.
	accumulate     bool
	bias, residual []float32
	ldr            int
}

const (
	// matmulA bounds the floats of a unit's rows of A, which are read once for every panel: half a second-level cache.
	matmulA = 128 << 10
	// matmulB bounds the floats of B that the units at work have in common: they should stay in the third-level cache.
	matmulB = 2 << 20
	// matmulLocal bounds the floats of B that a worker packs for itself.
	matmulLocal = 96 << 10
	// matmulRows bounds the rows of a block.
	matmulRows = 384
	// matmulSerial is the number of multiply-adds for which waking another thread does not pay.
	matmulSerial = 200 << 10
)

// scratch returns how many floats run wants.
func (g *matmul) scratch(threads int) int {
	total := threads * roundUp(g.work(), 16)
	if g.together() {
		total += roundUp(g.chunk()*g.k, 16)
	}
	return total
}

// together reports whether B is packed by all threads before they use it. Else each worker packs what it needs: a large B, so
// that threads wait for each other no more than they must, or one that is used only once.
func (g *matmul) together() bool {
	return g.packed == nil && g.m > g.rows() && (g.acs != 1 || g.copies() || g.n*g.k <= matmulB/2)
}

// chunk returns how many columns of B are packed at a time by all threads.
func (g *matmul) chunk() int {
	nr := 2 * g.e.vec
	return min(roundUp(g.n, nr), max(nr, matmulB/g.k/nr*nr))
}

// local returns how many columns of B a worker packs for itself at a time.
func (g *matmul) local() int {
	nr := 2 * g.e.vec
	if g.m <= 4*g.e.mr { // a panel is used a few times: let it stay in the first-level cache
		return nr
	}
	return max(nr, min(matmulLocal/g.k, g.n)/nr*nr)
}

// work returns the floats that one worker wants: sums that wait, a padded bias, panels of B and rows of A.
func (g *matmul) work() int {
	floats := roundUp(g.rows()*2*g.e.vec, 16) + maxNR + roundUp(g.local()*g.k, 16)
	if g.acs != 1 || g.copies() {
		floats += g.rows() * spreadSets(g.k)
	}
	return floats
}

// copies reports whether rows of A are copied before use: rows whose distance has a large power of two as a factor share few
// sets of the cache, and twelve of them, those in use and the next, push each other out.
func (g *matmul) copies() bool { return g.acs == 1 && g.ars%512 == 0 && g.k >= 256 }

// rows returns how many rows a block takes: as many as keep A in the cache, but enough to make up for fetching B.
func (g *matmul) rows() int {
	mr, least := g.e.mr, 96
	if g.acs != 1 {
		least = 24
	}
	most := min(matmulRows, max(least, matmulA/g.k)) / mr * mr
	blocks := max(1, ceilDiv(g.m, most))
	return roundUp(ceilDiv(g.m, blocks), mr)
}

// cut returns units of columns [0,n) of C, enough to keep the threads busy.
func (g *matmul) cut(threads, n int) grid {
	nr, mr := 2*g.e.vec, g.e.mr
	u := grid{m: g.m, n: n, mb: g.rows(), nb: n}
	if threads > 1 && g.m*n*g.k > matmulSerial {
		want := 4 * threads
		if g.acs != 1 { // rows are packed by each unit: cut the columns as little as possible
			u.mb = min(u.mb, roundUp(ceilDiv(g.m, want), mr))
			want = 2 * threads
		}
		rows := ceilDiv(u.m, u.mb)
		if rows < want {
			panels := ceilDiv(n, nr)
			u.nb = ceilDiv(panels, min(panels, ceilDiv(want, rows))) * nr
			if cols := ceilDiv(n, u.nb); rows*cols < 2*threads { // few columns: cut the rows as well
				panels := ceilDiv(u.m, mr)
				u.mb = min(u.mb, ceilDiv(panels, min(panels, ceilDiv(want, cols)))*mr)
			}
		}
	}
	if u.m > u.mb {
		u.nb = min(u.nb, max(nr, matmulB/g.k/nr*nr))
	}
	return u
}

// run computes C with scratch of any content.
func (g *matmul) run(p *Pool, scratch []float32) {
	threads, nr := p.Threads(), 2*g.e.vec
	s := carver{scratch}
	l := matmulLoop{matmul: *g, size: roundUp(g.work(), 16)}
	l.work = s.take(threads * l.size)
	switch {
	case g.packed != nil:
		l.panels, l.cols = g.packed, g.n
		l.runPanels(p)
		return
	case !g.together():
		l.runLocal(p)
		return
	}
	step := g.chunk()
	l.panels = s.take(step * g.k)
	for l.first = 0; l.first < g.n; l.first += step {
		l.cols = min(step, g.n-l.first)
		each(p, ceilDiv(l.cols, nr), l, (*matmulLoop).packPanel)
		l.runPanels(p)
	}
}

// matmulLoop is the state of a product's loops.
type matmulLoop struct {
	matmul
	u           grid
	first, cols int       // the columns whose panels are there
	panels      []float32 // of those columns
	work        []float32 // of all workers, size each
	size        int
}

// packPanel packs a panel of the columns.
func (l *matmulLoop) packPanel(_, i int) {
	j := i * 2 * l.e.vec
	l.pack(l.panels[j*l.k:], l.first+j)
}

// runPanels computes the columns of C whose panels are there.
func (l *matmulLoop) runPanels(p *Pool) {
	l.u = l.cut(p.Threads(), l.cols)
	each(p, l.u.units(), *l, (*matmulLoop).panelUnit)
}

func (l *matmulLoop) panelUnit(worker, at int) {
	// Rows change first: units that run at the same time, or one after the other, share panels of B.
	u := &l.u
	blocks := ceilDiv(u.m, u.mb)
	i0, j0 := at%blocks*u.mb, at/blocks*u.nb
	l.unit(i0, min(i0+u.mb, u.m), l.first+j0, l.first+min(j0+u.nb, l.cols), l.panels[j0*l.k:], l.work[worker*l.size:][:l.size])
}

// runLocal computes C in units for which each worker packs a piece of B and uses it for many blocks of rows.
func (l *matmulLoop) runLocal(p *Pool) {
	g := &l.matmul
	threads, nr, mb := p.Threads(), 2*g.e.vec, g.rows()
	u := grid{m: g.m, n: g.n, mb: g.m, nb: g.local()}
	if threads == 1 || g.m*g.n*g.k <= matmulSerial {
		threads = 1
	} else if want := 4 * threads; u.units() < want {
		panels := ceilDiv(g.n, nr)
		u.nb = ceilDiv(panels, min(panels, want)) * nr
	}
	if cols := ceilDiv(g.n, u.nb); threads > 1 && cols < 2*threads { // few columns: cut the rows as well
		u.mb = max(mb, roundUp(ceilDiv(g.m, ceilDiv(4*threads, cols)), mb))
		if cols < threads {
			u.mb = min(u.mb, roundUp(ceilDiv(g.m, ceilDiv(2*threads, cols)), g.e.mr))
		}
	}
	l.u = u
	each(p, u.units(), *l, (*matmulLoop).localUnit)
}

func (l *matmulLoop) localUnit(worker, at int) {
	nr, mb, most := 2*l.e.vec, l.rows(), l.local()
	own := carver{l.work[worker*l.size:][:l.size]}
	local := own.take(most * l.k)
	i0, i1, j0, j1 := l.u.unit(at)
	for j := j0; j < j1; j += most {
		n := min(most, j1-j)
		for q := 0; q < n; q += nr {
			l.pack(local[q*l.k:], j+q)
		}
		for i := i0; i < i1; i += mb {
			l.unit(i, min(i+mb, i1), j, j+n, local, own.rest)
		}
	}
}

// pack packs the panel of columns that begins at j; missing columns become zeros.
func (g *matmul) pack(panel []float32, j int) {
	nr := 2 * g.e.vec
	n := min(nr, g.n-j)
	if n < nr {
		clear(panel[:g.k*nr])
	}
	if g.byColumns {
		transposeFast(g.e, panel, nr, g.b[j*g.ldb:], g.ldb, n, g.k)
	} else {
		copyRows(g.e, panel, nr, g.b[j:], g.ldb, g.k, n)
	}
}

// packRows lays rows [i0,i1) of A out as panels of mr rows, term by term.
func (g *matmul) packRows(dst []float32, i0, i1 int) {
	mr, i := g.e.mr, i0
	if g.ars == 1 {
		i += mr * packStrips(g.e, dst, g.a[i0:], (i1-i0)/mr, g.k, g.acs)
	}
	for ; i < i1; i += mr {
		n, strip := min(mr, i1-i), dst[(i-i0)*g.k:]
		for p := range g.k {
			to := strip[p*mr:][:n]
			for r := range to {
				to[r] = g.a[(i+r)*g.ars+p*g.acs]
			}
		}
	}
}

// unit computes rows [i0,i1), at most rows() of them, and columns [j0,j1) of C; panels begins with the one of j0.
func (g *matmul) unit(i0, i1, j0, j1 int, panels, work []float32) {
	e, nr := g.e, 2*g.e.vec
	s := carver{work}
	column, bias := s.take(g.rows()*nr), s.take(nr)
	t := strip{m: i1 - i0, ars: g.ars, acs: g.acs, step: e.mr * g.ars}
	a := g.a[i0*g.ars:]
	switch {
	case g.acs != 1:
		a = s.rest
		g.packRows(a, i0, i1)
		t.ars, t.acs, t.step = 1, e.mr, e.mr*g.k
	case g.copies() && t.m > e.mr && j1-j0 >= 8*nr:
		t.ars = spreadSets(g.k)
		t.step = e.mr * t.ars
		copyRows(e, s.rest, t.ars, a, g.ars, t.m, g.k)
		a = s.rest
	}
	ahead := ceilDiv(16*nr, ceilDiv(t.m, e.mr)) // a block of a panel is 4*nr bytes to a term
	for j := j0; j < j1; j += nr {
		for p0 := 0; p0 < g.k; p0 += e.kc {
			t.k = min(e.kc, g.k-p0)
			t.a, t.b = a[p0*t.acs:], panels[(j-j0)*g.k+p0*nr:]
			t.next, t.ahead = t.b[t.k*nr:], ahead
			if len(t.next) == 0 {
				t.ahead = 0
			}
			g.block(&t, i0, j, p0, column, bias)
		}
	}
}

// block adds the terms from p0 on to a column of sums, with what joins the first block and the last.
func (g *matmul) block(t *strip, i0, j, p0 int, column, bias []float32) {
	e, nr := g.e, 2*g.e.vec
	n := min(nr, g.n-j)
	t.bias, t.residual, t.from, t.ldf = nil, nil, column, nr
	if p0 == 0 {
		t.from = nil
		switch {
		case g.bias != nil && n == nr:
			t.bias = g.bias[j:]
		case g.bias != nil:
			copy(bias, g.bias[j:j+n])
			t.bias = bias
		case g.accumulate && n == nr:
			t.from, t.ldf = g.c[i0*g.ldc+j:], g.ldc
		case g.accumulate:
			clear(column[:t.m*nr])
			copyRows(e, column, nr, g.c[i0*g.ldc+j:], g.ldc, t.m, n)
			t.from = column
		}
	}
	last := p0+t.k >= g.k
	t.c, t.ldc = column, nr
	if last && n == nr {
		t.c, t.ldc = g.c[i0*g.ldc+j:], g.ldc
		if g.residual != nil {
			t.residual, t.ldr = g.residual[i0*g.ldr+j:], g.ldr
		}
	}
	t.run(e)
	if !last || n == nr {
		return
	}
	for i := range t.m {
		row, sums := g.c[(i0+i)*g.ldc+j:][:n], column[i*nr:][:n]
		if g.residual == nil {
			copy(row, sums)
			continue
		}
		for q, r := range g.residual[(i0+i)*g.ldr+j:][:n] {
			row[q] = sums[q] + r
		}
	}
}
