package kernels

import "math"

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

// Blocks of the streaming softmax: fixed, so that neither batch nor threads
// change a bit. Scores are kept transposed, keys by queries: the softmax then
// runs down the columns, eight queries at a time and without horizontal sums,
// and few keys or narrow heads still fill the vectors.
const (
	queryBlock = 64
	keyBlock   = 128
)

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

// workerForward is one worker's scratch: transposed queries and outputs,
// scores, and three statistics of each query.
func (a Attention) workerForward() int {
	return queryBlock * (2*a.D + min(a.Tk, keyBlock) + 3)
}

// Scratch returns the floats of scratch AttentionForward wants: a little for
// each thread, never Tq*Tk.
func (a Attention) Scratch(threads int) int { return max(threads, 1) * a.workerForward() }

// AttentionForward computes o. It walks the keys in blocks with a running
// maximum and denominator, so it needs no Tq x Tk matrix. NaN and infinite
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
	need("AttentionForward: scratch", scratch, a.Scratch(1))
	perWorker := a.workerForward()
	blocks := (a.Tq + queryBlock - 1) / queryBlock
	runWorkers(p, len(scratch)/perWorker, a.N*a.Heads*blocks, func(w, task int) {
		n, h, row := task/blocks/a.Heads, task/blocks%a.Heads, task%blocks*queryBlock
		qa, ka := (n*a.Tq+row)*width+h*a.D, n*a.Tk*width+h*a.D
		a.forwardBlock(o[qa:], q[qa:], k[ka:], v[ka:], scratch[w*perWorker:(w+1)*perWorker], row, min(queryBlock, a.Tq-row))
	})
}

// packQueries writes x, rows of a head, as y [D,cols] times scale; columns
// beyond rows are 0.
func (a Attention) packQueries(y, x []float32, rows, cols int, scale float32) {
	if rows < cols {
		clear(y[:a.D*cols])
	}
	transposeFast(active, y, cols, x, a.Heads*a.D, rows, a.D)
	if scale != 1 {
		vecAffine(y[:a.D*cols], y[:a.D*cols], scale, 0)
	}
}

// columns is the number of queries rows is filled up to: whole vectors.
func columns(rows int) int { return (rows + 15) &^ 15 }

// forwardBlock computes rows outputs of one head, the first of which is query
// number first. All slices start at the head's column.
func (a Attention) forwardBlock(o, q, k, v, scratch []float32, first, rows int) {
	width, cols := a.Heads*a.D, columns(rows)
	wide := queryBlock * a.D
	qt, acc, rest := scratch[:wide], scratch[wide:wide+cols*a.D], scratch[2*wide:]
	top, sum, factor, s := rest[:cols], rest[queryBlock:queryBlock+cols], rest[2*queryBlock:2*queryBlock+cols], rest[3*queryBlock:]
	a.packQueries(qt, q, rows, cols, a.scale())
	for i := range top {
		top[i], sum[i] = float32(math.Inf(-1)), 0
	}
	keys := a.Tk
	if a.Causal {
		keys = min(keys, first+rows)
	}
	for j := 0; j < keys; j += keyBlock {
		n := min(keyBlock, keys-j)
		gemmBlock(n, cols, a.D, s, cols, k[j*width:], width, 1, qt, cols, false)
		if a.Causal {
			maskKeys(s, n, cols, rows, j-first)
		}
		vecSoftmaxColumns(s, n, cols, top, sum, factor)
		if j > 0 {
			for d := range a.D {
				vecMul(acc[d*cols:(d+1)*cols], acc[d*cols:(d+1)*cols], factor)
			}
		}
		gemmBlock(a.D, cols, n, acc, cols, v[j*width:], 1, width, s, cols, j > 0)
	}
	for i, v := range sum {
		factor[i] = 1 / v
	}
	for d := range a.D {
		vecMul(acc[d*cols:(d+1)*cols], acc[d*cols:(d+1)*cols], factor)
	}
	transposeFast(active, o, width, acc, cols, a.D, rows)
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

// workerBackward is one worker's scratch: transposed queries, upstream gradients
// and results for a block of queries, the probabilities and their gradients.
func (a Attention) workerBackward() int {
	return queryBlock * (3*a.D + 2*a.Tk + 3)
}

// ScratchBackward returns the floats of scratch AttentionBackward wants.
func (a Attention) ScratchBackward(threads int) int {
	return max(threads, 1) * a.workerBackward()
}

// AttentionBackward computes dq [N,Tq,Heads*D], dk and dv [N,Tk,Heads*D] from
// the upstream gradient do and the forward inputs, overwriting all three. The
// probabilities are recomputed for a block of queries at a time; a head is one
// task and adds its blocks in order.
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
	perWorker := a.workerBackward()
	runWorkers(p, len(scratch)/perWorker, a.N*a.Heads, func(w, task int) {
		n, h := task/a.Heads, task%a.Heads
		qa, ka := n*a.Tq*width+h*a.D, n*a.Tk*width+h*a.D
		a.backwardHead(dq[qa:], dk[ka:], dv[ka:], q[qa:], k[ka:], v[ka:], do[qa:], scratch[w*perWorker:(w+1)*perWorker])
	})
}

// backwardHead is AttentionBackward for one head; all slices start at its column.
func (a Attention) backwardHead(dq, dk, dv, q, k, v, do, scratch []float32) {
	width, wide := a.Heads*a.D, queryBlock*a.D
	qt, dot, dqt, rest := scratch[:wide], scratch[wide:2*wide], scratch[2*wide:3*wide], scratch[3*wide:]
	top, sum, factor, rest := rest[:queryBlock], rest[queryBlock:2*queryBlock], rest[2*queryBlock:3*queryBlock], rest[3*queryBlock:]
	prob, grad := rest[:queryBlock*a.Tk], rest[queryBlock*a.Tk:]
	for row := 0; row < a.Tq; row += queryBlock {
		rows, at := min(queryBlock, a.Tq-row), row*width
		cols := columns(rows)
		a.packQueries(qt, q[at:], rows, cols, a.scale())
		a.packQueries(dot, do[at:], rows, cols, 1)
		gemmBlock(a.Tk, cols, a.D, prob, cols, k, width, 1, qt, cols, false)
		gemmBlock(a.Tk, cols, a.D, grad, cols, v, width, 1, dot, cols, false)
		if a.Causal {
			maskKeys(prob, a.Tk, cols, rows, -row)
		}
		for i := range cols {
			top[i], sum[i] = float32(math.Inf(-1)), 0
		}
		vecSoftmaxColumns(prob, a.Tk, cols, top[:cols], sum[:cols], factor[:cols])
		for i := range cols {
			factor[i] = 1 / sum[i]
		}
		vecSoftmaxGradColumns(prob, grad, a.Tk, cols, factor[:cols], a.scale())
		gemmBlock(a.D, cols, a.Tk, dqt, cols, k, 1, width, grad, cols, false)
		transposeFast(active, dq[at:], width, dqt, cols, a.D, rows)
		gemmBlock(a.Tk, a.D, rows, dk, width, grad, cols, 1, q[at:], width, row > 0)
		gemmBlock(a.Tk, a.D, rows, dv, width, prob, cols, 1, do[at:], width, row > 0)
	}
}
