package kernels

import (
	"math"
	"unsafe"
)

// Attention is scaled dot-product attention per batch row n and head h:
//
//	o = softmax(Scale * q k^T) v
//
// with q and o [N,Tq,Heads*D], k and v [N,Tk,Heads*D]; head h owns the columns
// h*D..(h+1)*D. Scale 0 means 1/sqrt(D). Causal lets query i see keys 0..i.
//
// Source: Vaswani et al., Attention Is All You Need, 2017, equation 1.
type Attention struct {
	N, Heads, Tq, Tk, D int
	Scale               float32
	Causal              bool
	Math                Math
}

// Queries are worked on in strips of 3 or 2 vectors, keys by queries: the
// softmax then runs down the columns, without horizontal sums, and few keys or
// narrow heads still fill the vectors. All blocks are fixed, so that neither
// batch nor threads change a bit.
const (
	attentionVectors = 12   // vectors of queries in a task's block
	attentionScores  = 6144 // scores of a strip that are held at a time, half as many of wide heads: they stay in the first-level cache
	attentionWide    = 64   // columns that a wide head has more than
	attentionDepth   = 128  // columns of a head that one pass over the scores takes
	attentionSample  = 4    // keys whose scores are the first guess at the maxima
	attentionRise    = 24   // by how much, in powers of two, scores may exceed what is taken off them
	packTask         = 64   // keys that a task packs, all heads of them
	packRows         = 16   // keys that are packed together, head by head: they are read where they lie in the first-level cache
)

// queryBlock is the most queries that softmaxColumnsGo takes.
const queryBlock = 64

func (a Attention) check() {
	if a.N < 0 || a.Heads <= 0 || a.Tq <= 0 || a.Tk <= 0 || a.D <= 0 {
		panicf("Attention: N %d, heads %d, queries %d, keys %d, width %d: want positive sizes", a.N, a.Heads, a.Tq, a.Tk, a.D)
	}
}

func (a Attention) scale() float32 {
	if a.Scale != 0 {
		return a.Scale
	}
	return float32(1 / math.Sqrt(float64(a.D)))
}

// attentionPlan is the blocking of one path and shape.
type attentionPlan struct {
	Attention
	lanes  int // floats in a vector
	rows   int // queries in a task's block
	keys   int // keys in a block of scores
	groups int // groups of 4 packed keys
	outs   int // groups of 4 packed columns of V
}

func (a Attention) plan() attentionPlan {
	lanes := attentionLanes()
	scores := attentionScores
	if a.D > attentionWide {
		scores /= 2
	}
	return attentionPlan{a, lanes, attentionVectors * lanes, scores / (3 * lanes) / packRows * packRows, (a.Tk + 3) / 4, (a.D + 3) / 4}
}

// packed is the floats of one head's packed keys and packed values.
func (p *attentionPlan) packed() (keys, values int) { return 4 * p.groups * p.D, 4 * p.outs * p.Tk }

// columns is the number of queries a block of rows is filled up to: a lone
// vector of queries gets a second one.
func (p *attentionPlan) columns(rows int) int {
	return max(roundUp(rows, p.lanes), 2*p.lanes)
}

// worker is one worker's scratch: the strips of its block, and the scores of one.
func (p *attentionPlan) worker() int {
	block := min(p.rows, p.columns(p.Tq))
	return block*(p.D+4*p.outs+attentionStats) + 3*p.lanes*min(p.keys, 4*p.groups)
}

// Scratch returns the floats of scratch AttentionForward wants: packed keys and
// values and a little for each thread, never Tq*Tk.
func (a Attention) Scratch(threads int) int {
	if m := a.Math.Effective(); m != Float32 {
		return newBFAttention(a, m).scratch(max(threads, 1))
	}
	p := a.plan()
	keys, values := p.packed()
	return roundUp(a.N*a.Heads*(keys+values), 16) + max(threads, 1)*p.worker() + 15
}

// aligned drops the floats in front of a multiple of 64 bytes.
func aligned(s []float32) []float32 {
	return s[-int(uintptr(unsafe.Pointer(unsafe.SliceData(s)))/4)&15:]
}

// AttentionForward computes o. It walks the keys in blocks with a running
// reference, within a few powers of two of the maximum, and denominator, so it needs no Tq x Tk matrix. NaN and infinite
// inputs reach every output that depends on them.
//
// Source: Dao et al., FlashAttention, 2022, algorithm 1 (forward).
func AttentionForward(p *Pool, a Attention, o, q, k, v, scratch []float32) {
	a.check()
	width := a.Heads * a.D
	need("AttentionForward: o", o, a.N*a.Tq*width)
	need("AttentionForward: q", q, a.N*a.Tq*width)
	need("AttentionForward: k", k, a.N*a.Tk*width)
	need("AttentionForward: v", v, a.N*a.Tk*width)
	if m := a.Math.Effective(); m != Float32 {
		newBFAttention(a, m).run(p, o, q, k, v, scratch)
		return
	}
	need("AttentionForward: scratch", scratch, a.Scratch(1))
	plan := a.plan()
	keys, values := plan.packed()
	heads := a.N * a.Heads
	scratch = aligned(scratch)
	s := attending{plan, o, q, k, v, scratch[:heads*keys], scratch[heads*keys : heads*(keys+values)], scratch[roundUp(heads*(keys+values), 16):]}
	each(p, a.N*ceilDiv(a.Tk, packTask), s, (*attending).pack)
	eachOn(p, len(s.work)/plan.worker(), heads*ceilDiv(a.Tq, plan.rows), s, (*attending).block)
}

// attending is the state of AttentionForward's loops: packed keys and values
// head by head, and the workers' scratch.
type attending struct {
	attentionPlan
	o, q, k, v       []float32
	keys, vals, work []float32
}

// head returns the packed keys and values of head h, counted over the batch.
func (s *attending) head(h int) (k, v []float32) {
	keys, values := s.packed()
	return s.keys[h*keys : (h+1)*keys], s.vals[h*values : (h+1)*values]
}

// pack packs packTask keys of an image.
func (s *attending) pack(_, i int) {
	parts := ceilDiv(s.Tk, packTask)
	n, first := i/parts, i%parts*packTask
	for end := min(first+packTask, s.Tk); first < end; first += packRows {
		last := min(first+packRows, end)
		for h := range s.Heads {
			k, v := s.head(n*s.Heads + h)
			at := n*s.Tk*s.Heads*s.D + h*s.D
			s.packKeys(k, s.k[at:], first, last, s.logits())
			s.packValues(v, s.v[at:], first, last)
		}
	}
}

// block does a block of queries of a head.
func (s *attending) block(worker, i int) {
	blocks := ceilDiv(s.Tq, s.rows)
	h, first := i/blocks, i%blocks*s.rows
	at := (h/s.Heads*s.Tq+first)*s.Heads*s.D + h%s.Heads*s.D
	k, v := s.head(h)
	size := s.worker()
	s.forward(s.o[at:], s.q[at:], k, v, s.work[worker*size:(worker+1)*size], first, min(s.rows, s.Tq-first))
}

// logits is the scale of scores in units of ln(2): the exponential is then a
// power of two.
func (p *attentionPlan) logits() float32 { return float32(float64(p.scale()) * math.Log2E) }

// packKeys writes keys first..last, last a multiple of 4 or the end, of a head
// k as y [keys/4,D,4] times scale. The last group is filled with the last key, which cannot
// change a maximum.
func (p *attentionPlan) packKeys(y, k []float32, first, last int, scale float32) {
	width, d := p.Heads*p.D, p.D
	row := func(j int) []float32 { return k[min(j, last-1)*width:][:d] }
	for j := first; j < last; j += 4 {
		vecInterleave4(y[j*d:][:4*d], row(j), row(j+1), row(j+2), row(j+3), scale)
	}
}

// packValues writes rows first..last, of one block of keys, of a head v as
// y [block,D/4,keys of the block,4], columns beyond D as 0: what a block of keys
// needs lies together.
func (p *attentionPlan) packValues(y, v []float32, first, last int) {
	width, whole := p.Heads*p.D, p.D&^3
	n, rows := last-first, v[first*width:]
	block := first / p.keys * p.keys
	pitch := 4 * min(p.keys, p.Tk-block)
	y = y[block*4*p.outs+4*(first-block):]
	vecPackFours(y, rows, n, width, whole/4, pitch)
	if whole < p.D {
		out := y[whole/4*pitch:][:4*n]
		clear(out)
		for j := range n {
			copy(out[4*j:], rows[j*width+whole:j*width+p.D])
		}
	}
}

// attentionStrip is one strip of queries of a block: transposed queries, outputs
// in the making, scores, and its statistics, a row of cols floats each:
//
//	top    the maximum of the scores so far
//	low    ref-127, below which probabilities are 0
//	magic  exp2Magic-ref
//	fresh  the sum of the probabilities of a block of keys
//	sum    the sum of those before, so that rounding errors stay small
//	ref    the whole number that is taken off scores: probabilities and sums are in units of 2^ref
//	factor what takes the outputs to the present ref, mostly 1
type attentionStrip struct {
	cols      int
	q, acc, s []float32
	stats     []float32 // rows of cols floats
	ready     bool      // ref is one that the magic number works with
	stale     bool      // ref has not followed top yet
	moved     bool      // factor is not 1 everywhere
}

const attentionStats = 7

func (t *attentionStrip) stat(i int) []float32 { return t.stats[i*t.cols : (i+1)*t.cols] }
func (t *attentionStrip) top() []float32       { return t.stat(0) }
func (t *attentionStrip) low() []float32       { return t.stat(1) }
func (t *attentionStrip) magic() []float32     { return t.stat(2) }
func (t *attentionStrip) fresh() []float32     { return t.stat(3) }
func (t *attentionStrip) sum() []float32       { return t.stat(4) }
func (t *attentionStrip) ref() []float32       { return t.stat(5) }
func (t *attentionStrip) factor() []float32    { return t.stat(6) }

// refer makes ref the maxima, rounded up.
func (t *attentionStrip) refer() {
	low, magic, ref := t.low(), t.magic(), t.ref()
	t.ready, t.stale = true, false
	for i, v := range t.top() {
		m := float32(math.Ceil(float64(v)))
		low[i], magic[i], ref[i] = m+exp2Min, exp2Magic-m, m
		t.ready = t.ready && m <= exp2Large && m >= -exp2Large
	}
}

// stripWidth is the number of queries in a strip where left are left: 3 vectors,
// or 2 where a lone one would remain.
func (p *attentionPlan) stripWidth(left int) int {
	if left == 2*p.lanes || left == 4*p.lanes {
		return 2 * p.lanes
	}
	return 3 * p.lanes
}

// strips cuts a block of cols queries into strips, in scratch.
func (p *attentionPlan) strips(strips *[attentionVectors]attentionStrip, scratch []float32, cols int) []attentionStrip {
	take := func(n int) []float32 {
		piece := scratch[:n:n]
		scratch = scratch[n:]
		return piece
	}
	count := 0
	for from := 0; from < cols; count++ {
		n := p.stripWidth(cols - from)
		strips[count] = attentionStrip{cols: n, q: take(p.D * n), acc: take(4 * p.outs * n), stats: take(attentionStats * n)}
		from += n
	}
	for i := range strips[:count] {
		strips[i].s = scratch
	}
	return strips[:count]
}

// forward computes rows outputs of one head, the first of which is query number
// first. o and q start at the head's column.
func (p *attentionPlan) forward(o, q, k, v, scratch []float32, first, rows int) {
	width := p.Heads * p.D
	keys := p.Tk
	if p.Causal {
		keys = min(keys, first+rows)
	}
	var room [attentionVectors]attentionStrip
	strips := p.strips(&room, scratch, p.columns(rows))
	from := 0
	for i := range strips {
		t := &strips[i]
		p.packStrip(t.q, q[from*width:], min(t.cols, rows-from), t.cols)
		p.begin(t, k)
		from += t.cols
	}
	for j := 0; j < keys; j += p.keys {
		n, from := min(p.keys, keys-j), 0
		for i := range strips {
			t := &strips[i]
			p.probabilities(t, k[j*p.D:], n, j-first-from)
			vecValues(t.acc, v[j*4*p.outs:], t.s, t.factor(), t.cols, p.outs, n, 4*min(p.keys, p.Tk-j), j > 0)
			from += t.cols
		}
	}
	from = 0
	for i := range strips {
		t := &strips[i]
		if from < rows {
			vecDivideColumns(t.acc, 4*p.outs, t.cols, t.sum())
			transposeFast(active, o[from*width:], width, t.acc, t.cols, p.D, min(t.cols, rows-from))
		}
		from += t.cols
	}
}

// begin clears a strip with queries. Of many keys, a few tell about how large
// the scores are.
func (p *attentionPlan) begin(t *attentionStrip, k []float32) {
	clear(t.sum())
	fill(t.top(), float32(math.Inf(-1)))
	fill(t.ref(), float32(math.Inf(-1)))
	t.moved = true
	if !p.Causal && p.Tk >= 32*attentionSample {
		p.scores(t, k, t.top(), attentionSample)
		t.stale = true
	}
}

// fill sets all of x to v.
func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}

// probabilities computes those of n packed keys for a strip, their sums, and
// the factor for the outputs; ahead is the first key minus the first query. The
// maxima are seldom much above ref, and a whole power of two more or less
// changes no digit: one pass then does. Otherwise, and where a query may not see
// all keys, a pass of its own finds them, and ref becomes the maximum.
func (p *attentionPlan) probabilities(t *attentionStrip, k []float32, n, ahead int) {
	masked := p.Causal && ahead+roundUp(n, 4) > 1
	if t.stale {
		t.refer()
	}
	if t.ready && !masked {
		sum, fresh := t.sum(), t.fresh()
		clear(fresh)
		if !p.powers(t, k, n) {
			addGo(sum, sum, fresh)
			if t.moved {
				fill(t.factor(), 1)
				t.moved = false
			}
			return
		}
	}
	top, ref, factor := t.top(), t.ref(), t.factor()
	p.scores(t, k, top, n)
	// The maxima are those of whole groups of 4 keys, some of which a query may not see.
	if masked {
		copy(top, ref)
		maskKeys(t.s, n, t.cols, t.cols, ahead)
		maxColumns(top, t.s, n)
	}
	copy(factor, ref)
	vecExponentials(t.s, n, t.cols, top, t.sum(), factor)
	t.stale, t.moved = true, true
}

// packStrip writes x, rows of a head, as y [D,cols]; columns beyond rows are 0.
func (p *attentionPlan) packStrip(y, x []float32, rows, cols int) {
	if rows < cols {
		clear(y)
	}
	transposeFast(active, y, cols, x, p.Heads*p.D, rows, p.D)
}

// early computes the products of n packed keys with a strip over all columns of
// a wide head but the last ones, which it returns the first of: wide heads take
// several passes, so that the strip's part stays in the cache.
func (p *attentionPlan) early(t *attentionStrip, k []float32, n int) int {
	if p.D <= attentionDepth {
		return 0
	}
	var unused [3 * maxNR / 2]float32 // only the last pass knows the scores
	d := 0
	for ; d+attentionDepth < p.D; d += attentionDepth {
		vecScores(t.s, k[4*d:], t.q[d*t.cols:], unused[:t.cols], t.cols, (n+3)/4, attentionDepth, 4*p.D, d > 0)
	}
	return d
}

// scores computes the scores of n packed keys, and takes top to their maxima.
func (p *attentionPlan) scores(t *attentionStrip, k, top []float32, n int) {
	d := p.early(t, k, n)
	vecScores(t.s, k[4*d:], t.q[d*t.cols:], top, t.cols, (n+3)/4, p.D-d, 4*p.D, d > 0)
}

// powers computes the probabilities of n packed keys by the present ref, adds
// them to fresh, and takes top to their maxima. It tells whether ref is too small for them.
func (p *attentionPlan) powers(t *attentionStrip, k []float32, n int) (risen bool) {
	d, groups := p.early(t, k, n), n/4
	if groups > 0 {
		risen = vecPowers(t.s, k[4*d:], t.q[d*t.cols:], t.stats, t.cols, groups, p.D-d, 4*p.D, d > 0)
	}
	if n&3 != 0 {
		risen = p.lastPowers(t, k, n, d) || risen
	}
	return risen
}

// lastPowers is powers for the last group of keys, filled with the last one, that
// no sum may hold again.
func (p *attentionPlan) lastPowers(t *attentionStrip, k []float32, n, d int) (risen bool) {
	var stats [4 * 3 * maxNR / 2]float32
	whole := n &^ 3
	s := t.s[whole*t.cols:]
	copy(stats[:4*t.cols], t.stats)
	risen = vecPowers(s, k[whole*p.D+4*d:], t.q[d*t.cols:], stats[:], t.cols, 1, p.D-d, 4*p.D, d > 0)
	for sum := t.fresh(); whole < n; whole++ {
		addGo(sum, sum, s[:t.cols])
		s = s[t.cols:]
	}
	return risen
}

// maxColumns takes top to the maxima of itself and the columns of s [keys,len(top)].
func maxColumns(top, s []float32, keys int) {
	for j := range keys {
		for i, v := range s[j*len(top):][:len(top)] {
			if v > top[i] {
				top[i] = v
			}
		}
	}
}

// maskKeys sets scores [n,cols] that a causal query may not see to -Inf: query
// i sees key j when j+ahead <= i, ahead being the first key minus the first
// query. Columns from rows on are filler and stay.
func maskKeys(s []float32, n, cols, rows, ahead int) {
	for j := max(0, 1-ahead); j < n; j++ {
		row := s[j*cols : j*cols+min(rows, j+ahead)]
		for i := range row {
			row[i] = float32(math.Inf(-1))
		}
	}
}

// softmaxColumnsGo takes scores s [keys,cols] to exp(s-top), where top [cols]
// becomes the maximum of its old value and the column's; factor = exp(old top -
// new top), and sum = sum*factor + the column's new sum.
func softmaxColumnsGo(s []float32, keys, cols int, top, sum, factor []float32) {
	copy(factor, top)
	for j := range keys {
		for i, v := range s[j*cols : (j+1)*cols] {
			if v > top[i] {
				top[i] = v
			}
		}
	}
	var fresh [queryBlock]float32
	for j := range keys {
		row := s[j*cols : (j+1)*cols]
		for i, v := range row {
			row[i] = exp32(v - top[i])
			fresh[i] += row[i]
		}
	}
	for i := range sum {
		factor[i] = exp32(factor[i] - top[i])
		sum[i] = sum[i]*factor[i] + fresh[i]
	}
}

// softmaxGradColumnsGo scales prob [keys,cols] by inv [cols], the reciprocal
// sums, and takes grad, the gradient at the probabilities, to the gradient at
// the scores: prob*(grad - sum over keys of prob*grad)*scale.
func softmaxGradColumnsGo(prob, grad []float32, keys, cols int, inv []float32, scale float32) {
	var delta [queryBlock]float32
	for j := range keys {
		p, g := prob[j*cols:(j+1)*cols], grad[j*cols:(j+1)*cols]
		for i := range p {
			p[i] *= inv[i]
			delta[i] += p[i] * g[i]
		}
	}
	for j := range keys {
		p, g := prob[j*cols:(j+1)*cols], grad[j*cols:(j+1)*cols]
		for i := range g {
			g[i] = scale * p[i] * (g[i] - delta[i])
		}
	}
}

// workerBackward is one worker's scratch: a head's keys packed for either
// product and its values, sums of its gradients, transposed queries, upstream
// gradients and results of a strip, four statistics of each query,
// probabilities and their gradients, and rows filled up to whole vectors.
func (p *attentionPlan) workerBackward() int {
	keys, outs := 4*p.groups, 4*p.outs
	return roundUp(2*keys*(p.D+p.columns(p.D))+outs*p.Tk+3*p.lanes*(2*p.D+outs+4+2*keys+p.columns(p.D)), 16)
}

// ScratchBackward returns the floats of scratch AttentionBackward wants.
func (a Attention) ScratchBackward(threads int) int {
	p := a.plan()
	return max(threads, 1)*p.workerBackward() + 15
}

// AttentionBackward computes dq [N,Tq,Heads*D], dk and dv [N,Tk,Heads*D] from
// the upstream gradient do and the forward inputs, overwriting all three. The
// probabilities are recomputed for a strip of queries at a time; a head is one
// task and adds its strips in order.
func AttentionBackward(p *Pool, a Attention, dq, dk, dv, q, k, v, do, scratch []float32) {
	a.check()
	width := a.Heads * a.D
	need("AttentionBackward: dq", dq, a.N*a.Tq*width)
	need("AttentionBackward: q", q, a.N*a.Tq*width)
	need("AttentionBackward: do", do, a.N*a.Tq*width)
	need("AttentionBackward: dk", dk, a.N*a.Tk*width)
	need("AttentionBackward: dv", dv, a.N*a.Tk*width)
	need("AttentionBackward: k", k, a.N*a.Tk*width)
	need("AttentionBackward: v", v, a.N*a.Tk*width)
	need("AttentionBackward: scratch", scratch, a.ScratchBackward(1))
	plan := a.plan()
	scratch = aligned(scratch)
	perWorker := plan.workerBackward()
	runWorkers(p, len(scratch)/perWorker, a.N*a.Heads, func(w, task int) {
		n, h := task/a.Heads, task%a.Heads
		qa, ka := n*a.Tq*width+h*a.D, n*a.Tk*width+h*a.D
		plan.backwardHead(dq[qa:], dk[ka:], dv[ka:], q[qa:], k[ka:], v[ka:], do[qa:], scratch[w*perWorker:(w+1)*perWorker])
	})
}

// backwardHead is AttentionBackward for one head; all slices start at its column.
func (p *attentionPlan) backwardHead(dq, dk, dv, q, k, v, do, scratch []float32) {
	width := p.Heads * p.D
	take := func(n int) []float32 {
		piece := scratch[:n]
		scratch = scratch[n:]
		return piece
	}
	widest := 3 * p.lanes
	prob, grad := take(4*p.groups*widest), take(4*p.groups*widest)
	qt, dot, dqt := take(p.D*widest), take(p.D*widest), take(4*p.outs*widest)
	top, sum, factor, unused := take(widest), take(widest), take(widest), take(widest)
	ks, vs, kv := take(4*p.groups*p.D), take(4*p.groups*p.D), take(4*p.outs*p.Tk)
	wide := p.columns(p.D)
	dks, dvs, filled := take(4*p.groups*wide), take(4*p.groups*wide), take(widest*wide)
	clear(dks)
	clear(dvs)
	p.packKeys(ks, k, 0, p.Tk, p.logits())
	p.packKeys(vs, v, 0, p.Tk, 1)
	whole := p
	whole.keys = p.Tk // all keys are one block
	whole.packValues(kv, k, 0, p.Tk)
	clear(unused) // for the maxima of the gradients, which say nothing
	for row, cols := 0, 0; row < p.Tq; row += cols {
		cols = p.stripWidth(p.columns(p.Tq - row))
		rows, at := min(cols, p.Tq-row), row*width
		t := attentionStrip{cols: cols, q: qt[:p.D*cols], s: prob[:4*p.groups*cols]}
		g := attentionStrip{cols: cols, q: dot[:p.D*cols], s: grad[:4*p.groups*cols]}
		acc, top, sum, factor := dqt[:4*p.outs*cols], top[:cols], sum[:cols], factor[:cols]
		p.packStrip(t.q, q[at:], rows, cols)
		p.packStrip(g.q, do[at:], rows, cols)
		clear(sum)
		fill(top, float32(math.Inf(-1)))
		copy(factor, top)
		p.scores(&t, ks, top, p.Tk)
		p.scores(&g, vs, unused[:cols], p.Tk)
		if p.Causal {
			copy(top, factor)
			maskKeys(t.s, p.Tk, cols, cols, -row)
			maxColumns(top, t.s, p.Tk)
		}
		vecExponentials(t.s, p.Tk, cols, top, sum, factor)
		for i, v := range sum {
			sum[i] = 1 / v
		}
		vecSoftmaxGradColumns(t.s, g.s, p.Tk, cols, sum, p.scale())
		vecValues(acc, kv, g.s, factor, cols, p.outs, p.Tk, 4*p.Tk, false)
		transposeFast(active, dq[at:], width, acc, cols, p.D, rows)
		p.outer(dks, g.s, q[at:], filled, cols, rows)
		p.outer(dvs, t.s, do[at:], filled, cols, rows)
	}
	for from, n := 0, 0; from < wide; from += n {
		n = p.stripWidth(wide - from)
		copyRows(active, dk[from:], width, dks[from*4*p.groups:], n, p.Tk, min(n, p.D-from))
		copyRows(active, dv[from:], width, dvs[from*4*p.groups:], n, p.Tk, min(n, p.D-from))
	}
}

// outer adds w^T x to y, strip by strip of x's columns, for weights w [keys,cols]
// and rows x of a head.
func (p *attentionPlan) outer(y, w, x, filled []float32, cols, rows int) {
	wide := p.columns(p.D)
	for from, n := 0, 0; from < wide; from += n {
		n = p.stripWidth(wide - from)
		strip := filled[:rows*n]
		if p.D-from < n {
			clear(strip)
		}
		copyRows(active, strip, n, x[from:], p.Heads*p.D, rows, min(n, p.D-from))
		vecOuter(y[from*4*p.groups:], w, strip, n, p.groups, rows, cols)
	}
}
