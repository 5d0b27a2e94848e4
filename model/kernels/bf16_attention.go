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

func newBFAttention(a Attention, m Math) *bfAttention {
	b := &bfAttention{a: a, k: newBFGrid(m, a.Tk, bfQueries, a.D), v: newBFGrid(m, a.D, bfQueries, a.Tk)}
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
	a, width := &b.a, b.a.Heads*b.a.D
	s := carver{scratch}
	packed := s.take(b.heads * b.head)
	work := s.take(p.Threads() * b.worker)
	keys := func(slot int) []uint16 { return asUint16(packed[slot*b.head:][:b.k.aFloats()]) }
	values := func(slot int) []uint16 {
		return asUint16(packed[slot*b.head+roundUp(b.k.aFloats(), 16):][:b.v.aFloats()])
	}
	pieces := ceilDiv(a.Tk, bfKeys)
	blocks := ceilDiv(a.Tq, bfQueries)
	for h0 := 0; h0 < a.N*a.Heads; h0 += b.heads {
		heads := min(b.heads, a.N*a.Heads-h0)
		p.run(heads*pieces, func(worker, u int) {
			slot, first := u/pieces, u%pieces*bfKeys
			n, h := (h0+slot)/a.Heads, (h0+slot)%a.Heads
			at := n*a.Tk*width + h*a.D + first*width
			b.pack(keys(slot), values(slot), k[at:], v[at:], first, min(bfKeys, a.Tk-first), work[worker*b.worker:][:b.worker])
		})
		p.run(heads*blocks, func(worker, u int) {
			slot, first := u/blocks, u%blocks*bfQueries
			n, h := (h0+slot)/a.Heads, (h0+slot)%a.Heads
			at := n*a.Tq*width + h*a.D + first*width
			b.block(o[at:], q[at:], keys(slot), values(slot), first, min(bfQueries, a.Tq-first), work[worker*b.worker:][:b.worker])
		})
	}
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
