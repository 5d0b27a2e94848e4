package kernels

import "math"

// Attention in the bfloat16 modes: the two products run on packed bfloat16 operands, the softmax in between in float32, its
// probabilities rounded (and in BF16x3 split) like any operand. The blocks are those of the float32 kernel: scores [keys]
// [queries], so that K is A of the first product and V^T A of the second. K and V of a head are packed once for all its queries.
const (
	bfQueries = 64
	bfKeys    = 128
	bfHeads   = 4 << 20 // floats of packed keys and values at a time, at least those of one head
)

// bfAttention is the plan.
type bfAttention struct {
	a      Attention
	k, v   bfGrid // of K Q^T and V^T P
	heads  int    // packed at a time
	head   int    // floats of a packed head
	worker int    // floats of a worker's scratch
}

// newBFAttention is short, so that the plan stays on the caller's stack.
func newBFAttention(a Attention, m Math) *bfAttention {
	b := planBFAttention(a, m)
	return &b
}

func planBFAttention(a Attention, m Math) bfAttention {
	b := bfAttention{a: a, k: newBFGrid(m, a.Tk, bfQueries, a.D), v: newBFGrid(m, a.D, bfQueries, a.Tk)}
	b.head = roundUp(b.k.aFloats(), 16) + roundUp(b.v.aFloats(), 16)
	b.heads = max(1, min(a.N*a.Heads, bfHeads/b.head))
	wide := b.v.blocks * bfRows
	// Rows of a head, scaled or transposed; packed queries; scores; packed probabilities; outputs; three statistics.
	b.worker = bfQueries*wide + b.k.bFloats() + bfKeys*bfQueries + bfKeys/bfTerms*b.v.chunkAt/2*2 + wide*bfQueries + 3*bfQueries
	return b
}

func (b *bfAttention) scratch(threads int) int {
	return b.heads*b.head + threads*b.worker
}

// run computes o as AttentionForward does.
func (b *bfAttention) run(p *Pool, o, q, k, v, scratch []float32) {
	a := &b.a
	c := carver{scratch}
	s := bfAttending{bfAttention: *b, o: o, q: q, keys: k, values: v, packed: c.take(b.heads * b.head), work: c.take(p.Threads() * b.worker)}
	for s.h0 = 0; s.h0 < a.N*a.Heads; s.h0 += b.heads {
		heads := min(b.heads, a.N*a.Heads-s.h0)
		each(p, heads*ceilDiv(a.Tk, bfKeys), s, (*bfAttending).packPiece)
		each(p, heads*ceilDiv(a.Tq, bfQueries), s, (*bfAttending).blockPiece)
	}
}

// bfAttending is a plan at work on the heads from h0 on, counted over the batch.
type bfAttending struct {
	bfAttention
	o, q, keys, values []float32
	packed, work       []float32 // heads, and all workers' scratch
	h0                 int
}

// packedHead returns the packed keys and values of the head in a slot.
func (s *bfAttending) packedHead(slot int) (keys, values []uint16) {
	b, own := &s.bfAttention, s.packed[slot*s.head:]
	return asUint16(own[:b.k.aFloats()]), asUint16(own[roundUp(b.k.aFloats(), 16):][:b.v.aFloats()])
}

// packPiece packs bfKeys keys of a head.
func (s *bfAttending) packPiece(worker, u int) {
	a, width := &s.a, s.a.Heads*s.a.D
	pieces := ceilDiv(a.Tk, bfKeys)
	slot, first := u/pieces, u%pieces*bfKeys
	n, h := (s.h0+slot)/a.Heads, (s.h0+slot)%a.Heads
	at := n*a.Tk*width + h*a.D + first*width
	keys, values := s.packedHead(slot)
	s.pack(keys, values, s.keys[at:], s.values[at:], first, min(bfKeys, a.Tk-first), s.work[worker*s.worker:][:s.worker])
}

// blockPiece computes bfQueries queries of a head.
func (s *bfAttending) blockPiece(worker, u int) {
	a, width := &s.a, s.a.Heads*s.a.D
	blocks := ceilDiv(a.Tq, bfQueries)
	slot, first := u/blocks, u%blocks*bfQueries
	n, h := (s.h0+slot)/a.Heads, (s.h0+slot)%a.Heads
	at := n*a.Tq*width + h*a.D + first*width
	keys, values := s.packedHead(slot)
	s.block(s.o[at:], s.q[at:], keys, values, first, min(bfQueries, a.Tq-first), s.work[worker*s.worker:][:s.worker])
}

// pack packs keys first.. of a head: rows of A of the first product, terms of A of the second.
func (b *bfAttention) pack(keys, values []uint16, k, v []float32, first, n int, work []float32) {
	a, width := &b.a, b.a.Heads*b.a.D
	for i := 0; i < n; i += bfRows {
		b.k.packA(keys[(first+i)/bfRows*b.k.aBlock:][:b.k.aBlock], k[i*width:], width, min(bfRows, n-i), a.D)
		terms := min(bfTerms, n-i)
		vt := work[:b.v.blocks*bfRows*bfTerms]
		if terms < bfTerms || a.D%bfRows != 0 {
			clear(vt)
		}
		transposeFast(active, vt, bfTerms, v[i*width:], width, terms, a.D)
		for d := range b.v.blocks * bfRows {
			bfRow(values[d/bfRows*b.v.aBlock+(first+i)/bfTerms*b.v.chunkAt+d%bfRows*bfTerms:], b.v.math, vt[d*bfTerms:][:bfTerms])
		}
	}
}

// block computes rows outputs of one head, the first of which is query number first. o and q start at the head's column.
func (b *bfAttention) block(o, q []float32, keys, values []uint16, first, rows int, work []float32) {
	a, width, wide := &b.a, b.a.Heads*b.a.D, b.v.blocks*bfRows
	s := carver{work}
	qs := s.take(bfQueries * wide)
	qp := asUint16(s.take(b.k.bFloats()))
	scores := s.take(bfKeys * bfQueries)
	prob := asUint16(s.take(bfKeys / bfTerms * b.v.chunkAt / 2 * 2))
	acc := s.take(wide * bfQueries)
	top, sum, factor := s.take(bfQueries), s.take(bfQueries), s.take(bfQueries)

	for i := range rows {
		vecAffine(qs[i*a.D:][:a.D], q[i*width:][:a.D], a.scale(), 0)
	}
	for j := range b.k.panels {
		b.k.packBT(qp[j*b.k.bPanel:][:b.k.bPanel], qs[min(j*bfRows, rows)*a.D:], a.D, max(0, min(bfRows, rows-j*bfRows)), a.D)
	}
	for i := range top {
		top[i], sum[i] = float32(math.Inf(-1)), 0
	}
	pv := b.v // the probabilities of one block of keys
	pv.chunks = bfKeys / bfTerms
	pv.bPanel = pv.chunks * pv.chunkAt
	end := a.Tk
	if a.Causal {
		end = min(end, first+rows)
	}
	for j := 0; j < end; j += bfKeys {
		n := min(bfKeys, end-j)
		b.k.multiply(scores, bfQueries, keys[j/bfRows*b.k.aBlock:], qp, ceilDiv(n, bfRows), b.k.panels, b.k.chunks, false)
		if a.Causal {
			maskKeys(scores, n, bfQueries, rows, j-first)
		}
		vecSoftmaxColumns(scores, n, bfQueries, top, sum, factor)
		if j > 0 {
			for d := range a.D {
				vecMul(acc[d*bfQueries:][:bfQueries], acc[d*bfQueries:][:bfQueries], factor)
			}
		}
		pv.chunks = ceilDiv(n, bfTerms)
		pv.packRows(prob, scores, bfQueries, n, bfQueries)
		pv.multiply(acc, bfQueries, values[j/bfTerms*b.v.chunkAt:], prob, b.v.blocks, pv.panels, pv.chunks, j > 0)
	}
	for i, v := range sum {
		factor[i] = 1 / v
	}
	for d := range a.D {
		vecMul(acc[d*bfQueries:][:bfQueries], acc[d*bfQueries:][:bfQueries], factor)
	}
	transposeFast(active, o, width, acc, bfQueries, a.D, rows)
}
