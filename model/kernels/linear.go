package kernels

import "fmt"

// Linear describes y[T,O] = x[T,K] w[O,K]^T + bias[O], row-major float32: T tokens or rows of a batch.
type Linear struct {
	T, K, O int
	Math    Math
}

func (l Linear) must(name string, y, x []float32) {
	if l.T < 0 || l.K < 1 || l.O < 1 {
		panic(fmt.Sprintf("kernels: %s: sizes T %d, K %d, O %d, want T 0 or more, K and O 1 or more", name, l.T, l.K, l.O))
	}
	mustHave(name, "x", x, l.T*l.K)
	mustHave(name, "y", y, l.T*l.O)
}

// Scratch returns how many floats of scratch the three functions want with a pool of the given number of threads.
func (l Linear) Scratch(threads int) int {
	if m := l.Math.Effective(); m != Float32 {
		return l.bfScratch(m, threads)
	}
	g := l.matmul()
	return g.scratch(threads)
}

// LinearArgs are the slices of a LinearRun.
type LinearArgs struct {
	Y, X, W []float32
	// Packed is what Packing made of W, or nil: then W is packed as it is needed, with the same bits. With Packed, W may be nil.
	Packed []float32
	// Bias has O values, Residual T*O, or they are nil. Residual may be Y itself.
	Bias, Residual []float32
	// Scratch has Scratch floats of any content.
	Scratch []float32
}

// Packing returns how w is laid out for LinearRun; false if no layout pays.
func (l Linear) Packing() (Packing, bool) {
	if l.K < 1 || l.O < 1 {
		return Packing{}, false
	}
	if m := l.Math.Effective(); m != Float32 {
		return l.bfPacking(m), true
	}
	return Packing{Kind: PackLinear, O: l.O, K: l.K, Engine: active.name}, true
}

func (k Packing) linearFloats() int { return roundUp(k.O, 2*active.vec) * k.K }

func (k Packing) packLinear(p *Pool, dst, w []float32) {
	need("Packing.Pack: w", w, k.O*k.K)
	each(p, ceilDiv(k.O, 2*active.vec), packing{k, dst, w}, (*packing).linear)
}

// packing is the state of the loop that packs.
type packing struct {
	Packing
	dst, w []float32
}

// linear packs one panel.
func (s *packing) linear(_, i int) {
	e, nr := active, 2*active.vec
	j := i * nr
	n, panel := min(nr, s.O-j), s.dst[j*s.K:][:nr*s.K]
	if n < nr {
		clear(panel)
	}
	transposeFast(e, panel, nr, s.w[j*s.K:], s.K, n, s.K)
}

// LinearForward is LinearRun without packed weights or residual.
func LinearForward(p *Pool, l Linear, y, x, w, bias, scratch []float32) {
	LinearRun(p, l, LinearArgs{Y: y, X: x, W: w, Bias: bias, Scratch: scratch})
}

// LinearRun computes Y = X W^T + Bias + Residual, overwriting Y, which must not overlap the other inputs, except that Residual
// may be Y itself. Each sum runs over blocks of kc inputs, added up in order; the bias joins the first block, the residual the
// total. The bits of a row depend on neither T nor the pool's threads, nor on whether the weights come packed.
func LinearRun(p *Pool, l Linear, args LinearArgs) {
	const name = "LinearRun"
	l.must(name, args.Y, args.X)
	if args.Packed == nil {
		mustHave(name, "w", args.W, l.O*l.K)
	} else {
		packing, _ := l.Packing()
		mustHave(name, "packed", args.Packed, packing.Floats())
	}
	if args.Bias != nil {
		mustHave(name, "bias", args.Bias, l.O)
	}
	if args.Residual != nil {
		mustHave(name, "residual", args.Residual, l.T*l.O)
	}
	if l.T == 0 {
		return
	}
	if m := l.Math.Effective(); m != Float32 {
		l.bfRun(p, m, args.Y, args.X, args.W, args.Packed, args.Bias, args.Residual, args.Scratch)
		return
	}
	g := l.matmul()
	g.a, g.packed, g.b, g.c, g.bias, g.residual = args.X, args.Packed, args.W, args.Y, args.Bias, args.Residual
	g.run(p, args.Scratch)
}

// matmul is the product of the forward pass without its matrices.
func (l Linear) matmul() matmul {
	return matmul{e: active, m: l.T, n: l.O, k: l.K, ars: l.K, acs: 1, ldb: l.K, byColumns: true, ldc: l.O, ldr: l.O}
}

// LinearBackwardData computes dx[T,K] = dy[T,O] w[O,K], overwriting dx, which must not overlap dy or w. The bits of a row
// depend on neither T nor the pool's threads.
func LinearBackwardData(p *Pool, l Linear, dx, dy, w, scratch []float32) {
	l.must("LinearBackwardData", dy, dx)
	mustHave("LinearBackwardData", "w", w, l.O*l.K)
	Gemm(p, l.T, l.K, l.O, dx, l.K, dy, l.O, 1, w, l.K, false)
}

// LinearBackwardWeight computes dw[O,K] = dy[T,O]^T x[T,K], overwriting dw, which must not overlap dy or x. The bits do not
// depend on the pool's threads.
func LinearBackwardWeight(p *Pool, l Linear, dw, dy, x, scratch []float32) {
	l.must("LinearBackwardWeight", dy, x)
	mustHave("LinearBackwardWeight", "dw", dw, l.O*l.K)
	Gemm(p, l.O, l.K, l.T, dw, l.K, dy, 1, l.O, x, l.K, false)
}
