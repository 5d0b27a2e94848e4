package kernels

import (
	"fmt"
	"sync"
)

// Conv describes a two-dimensional convolution (cross-correlation, as neural networks use the word), row-major float32:
// x [N,Cin,H,W], w [Cout,Cin,KH,KW], y [N,Cout,OutH,OutW],
//
//	y[n,o,i,j] = bias[o] + sum over c,u,v of w[o,c,u,v] * x[n, c, i*StrideH + u*DilH - PadTop, j*StrideW + v*DilW - PadLeft]
//
// with zeros outside x. A zero stride or dilation is an error, not a default.
type Conv struct {
	N, Cin, H, W                         int
	Cout, KH, KW                         int
	StrideH, StrideW, DilH, DilW         int
	PadTop, PadBottom, PadLeft, PadRight int
	Math                                 Math
}

// OutH returns the height of y: floor((H + PadTop + PadBottom - DilH*(KH-1) - 1) / StrideH) + 1; 0 if the kernel does not fit.
func (c Conv) OutH() int { return outSize(c.H+c.PadTop+c.PadBottom, c.KH, c.DilH, c.StrideH) }

// OutW returns the width of y, like OutH.
func (c Conv) OutW() int { return outSize(c.W+c.PadLeft+c.PadRight, c.KW, c.DilW, c.StrideW) }

func outSize(padded, k, dilation, stride int) int {
	room := padded - dilation*(k-1) - 1
	if room < 0 || stride < 1 {
		return 0
	}
	return room/stride + 1
}

// Check returns an error if a size, stride or dilation is below 1, a padding is negative, or the dilated kernel does not fit
// into the padded input.
func (c Conv) Check() error {
	for _, f := range []struct {
		name       string
		value, low int
	}{
		{"N", c.N, 1}, {"Cin", c.Cin, 1}, {"H", c.H, 1}, {"W", c.W, 1}, {"Cout", c.Cout, 1}, {"KH", c.KH, 1}, {"KW", c.KW, 1},
		{"StrideH", c.StrideH, 1}, {"StrideW", c.StrideW, 1}, {"DilH", c.DilH, 1}, {"DilW", c.DilW, 1},
		{"PadTop", c.PadTop, 0}, {"PadBottom", c.PadBottom, 0}, {"PadLeft", c.PadLeft, 0}, {"PadRight", c.PadRight, 0},
	} {
		if f.value < f.low {
			return fmt.Errorf("convolution: %s is %d, want %d or more", f.name, f.value, f.low)
		}
	}
	if c.OutH() < 1 || c.OutW() < 1 {
		return fmt.Errorf("convolution: kernel %dx%d with dilation %dx%d covers %dx%d, more than the padded input %dx%d: give more padding or a smaller dilation",
			c.KH, c.KW, c.DilH, c.DilW, c.DilH*(c.KH-1)+1, c.DilW*(c.KW-1)+1, c.H+c.PadTop+c.PadBottom, c.W+c.PadLeft+c.PadRight)
	}
	return nil
}

// must panics on a description or a slice that does not fit: a programmer's error.
func (c Conv) must(name string, y, x, w []float32) {
	if err := c.Check(); err != nil {
		panic("kernels: " + name + ": " + err.Error())
	}
	mustHave(name, "x", x, c.N*c.Cin*c.H*c.W)
	mustHave(name, "y", y, c.N*c.Cout*c.OutH()*c.OutW())
	if w != nil {
		mustHave(name, "w", w, c.Cout*c.Cin*c.KH*c.KW)
	}
}

func mustHave(function, name string, s []float32, want int) {
	if len(s) < want {
		panic(fmt.Sprintf("kernels: %s: %s has %d values, want %d", function, name, len(s), want))
	}
}

// correlationKey is what a correlation depends on.
type correlationKey struct {
	c Conv
	e *engine
}

var correlations plans[correlationKey, *correlation]

// correlation is forward that keeps its result, which nobody may change.
func (c Conv) correlation() *correlation {
	c.N, c.Math = 1, Float32 // it depends on neither
	return correlations.get(correlationKey{c, active}, func(k correlationKey) *correlation { return k.c.forward() })
}

// forward returns the convolution as a correlation.
func (c Conv) forward() *correlation {
	c = c.flat()
	rows, cols := make([]int, c.KH), make([]int, c.KW)
	for u := range rows {
		rows[u] = u*c.DilH - c.PadTop
	}
	for v := range cols {
		cols[v] = v*c.DilW - c.PadLeft
	}
	k := newCorrelation(c.Cin, c.H, c.W, c.Cout, c.OutH(), c.OutW(), c.StrideH, c.StrideW, rows, cols)
	k.widen()
	return k
}

// ScratchForward returns how many floats of scratch ConvForward and ConvRun want with a pool of the given number of threads.
func (c Conv) ScratchForward(threads int) int {
	if m := c.Math.Effective(); m != Float32 {
		return newBFConv(c, m, threads).scratch(threads)
	}
	if c.winogradWins() {
		return newWinograd(c, threads).scratch(threads)
	}
	return c.scratchDirect(threads)
}

func (c Conv) scratchDirect(threads int) int {
	k := c.forward()
	n := roundUp(c.N*c.Cout, 16) + roundUp(k.k(), 16) + threads*k.workFloats()
	if !k.raw {
		n += spreadBatch(c.N, threads, k.oh*k.ow).frames() * roundUp(k.frame.floats(), 16)
	}
	return n
}

// ConvForward computes y, overwriting it; bias has Cout values or is nil. scratch has ScratchForward floats of any content.
// y must not overlap the inputs. The bits of an image depend on neither N nor the pool's threads.
func ConvForward(p *Pool, c Conv, y, x, w, bias, scratch []float32) {
	ConvRun(p, c, ConvArgs{Y: y, X: x, W: w, Bias: bias, Scratch: scratch})
}

// ConvArgs are the operands of ConvRun. Y, X and W are laid out as Conv says.
type ConvArgs struct {
	Y, X, W []float32
	// Packed is W as the convolution's Packing lays it out, or nil; with it W is not read and may be nil.
	Packed   []float32
	Bias     []float32 // [Cout], or nil
	Add      []float32 // [N,Cout], added to all pixels of a channel, or nil
	SiLU     bool      // x*sigmoid(x) of the sum so far
	Residual []float32 // as Y, added last, or nil; may be Y itself
	Scratch  []float32 // ScratchForward floats of any content
}

// Packing returns how ConvRun likes the weights, and false if it takes them as they are. It is the same for all sizes of image
// and dilations for which it is true.
func (c Conv) Packing() (Packing, bool) {
	if m := c.Math.Effective(); m != Float32 {
		return c.bfPacking(m), true
	}
	if !c.winogradWins() || c.winogradIsLarge() {
		return Packing{}, false
	}
	return Packing{Kind: PackWinograd, O: c.Cout, K: c.Cin, KH: c.KH, KW: c.KW, Engine: active.name}, true
}

// ConvRun computes y = silu(conv(x) + bias[o] + add[n,o]) + residual, with only those parts that are asked for, in one pass over
// y. y must overlap none of the inputs, except that it may be the residual. The bits of an image depend on neither N, nor the
// pool's threads, nor on whether the weights are packed.
func ConvRun(p *Pool, c Conv, a ConvArgs) {
	w := a.W
	if a.Packed != nil {
		k, ok := c.Packing()
		if !ok {
			panic("kernels: ConvRun: packed weights for a convolution that has no Packing")
		}
		mustHave("ConvRun", "packed", a.Packed, k.Floats())
		w = nil
	} else {
		mustHave("ConvRun", "w", w, c.Cout*c.Cin*c.KH*c.KW)
	}
	c.must("ConvRun", a.Y, a.X, nil)
	if a.Bias != nil {
		mustHave("ConvRun", "bias", a.Bias, c.Cout)
	}
	if a.Add != nil {
		mustHave("ConvRun", "add", a.Add, c.N*c.Cout)
	}
	if a.Residual != nil {
		mustHave("ConvRun", "residual", a.Residual, c.N*c.Cout*c.OutH()*c.OutW())
	}
	if m := c.Math.Effective(); m != Float32 {
		c.planBF(m, p.Threads()).run(p, bfConvArgs{y: a.Y, x: a.X, w: a.W, packed: a.Packed, bias: a.Bias, add: a.Add, residual: a.Residual, silu: a.SiLU, scratch: a.Scratch})
		return
	}
	if c.winogradWins() {
		c.planWinograd(p.Threads(), c.winogradIsLarge()).forward(p, &a)
		return
	}
	c.direct(p, &a)
}

// finish writes what comes after the convolution: values hold its outputs from y[at], and are overwritten.
func (a *ConvArgs) finish(at int, values []float32) {
	if a.SiLU {
		vecSiLU(values, values)
	}
	y := a.Y[at : at+len(values)]
	if a.Residual == nil {
		copy(y, values)
		return
	}
	vecAdd(y, values, a.Residual[at:at+len(values)])
}

// biases writes what is added to all pixels of a channel to b, which has N*cout floats where there is an Add and cout without,
// and returns how far apart those of two images are. cout is Cout rounded up.
func (a *ConvArgs) biases(c *Conv, b []float32, cout int) (perN int) {
	for n := 0; n*cout < len(b); n++ {
		own := b[n*cout:][:cout]
		clear(own)
		copy(own[:c.Cout], a.Bias)
		if a.Add != nil {
			vecAdd(own[:c.Cout], own[:c.Cout], a.Add[n*c.Cout:][:c.Cout])
		}
	}
	if a.Add != nil {
		return cout
	}
	return 0
}

// direct is ConvRun as an implicit matrix product.
func (c Conv) direct(p *Pool, a *ConvArgs) {
	k, threads := c.correlation(), p.Threads()
	s := carver{a.Scratch}
	j := directJobs.Get().(*directJob)
	*j = directJob{k: k, pool: p, c: c, a: *a, bias: a.Bias}
	if a.Add != nil {
		j.bias = s.take(c.N * c.Cout)
		j.perN = a.biases(&c, j.bias, c.Cout)
	}
	j.off = asInt32(s.take(k.k()))
	k.offsets(j.off)
	j.work = s.take(threads * k.workFloats())
	images := spreadBatch(c.N, threads, k.oh*k.ow)
	var frames []float32
	if !k.raw {
		frames = k.frame.empty(p, &s, images.frames())
	}
	images.run(p, k.e, &k.frame, frames, a.X, k.raw, j)
	*j = directJob{} // so that it keeps nobody's memory
	directJobs.Put(j)
}

// directJob is a correlation at work.
type directJob struct {
	k          *correlation
	pool       *Pool
	c          Conv
	a          ConvArgs
	off        []int32
	bias, work []float32
	perN       int
}

// directJobs keeps jobs between calls.
var directJobs = sync.Pool{New: func() any { return new(directJob) }}

// images computes some images, on one worker or, without one, on all threads.
func (j *directJob) images(n, count int, b []float32, step, worker int) {
	k, c := j.k, &j.c
	plane := k.oh * k.ow
	w := product{pool: j.pool, a: j.a.W, ars: k.k(), off: j.off, bias: j.bias, biasStep: j.perN, dst: j.a.Y[n*c.Cout*plane:], dstStep: c.Cout * plane, b: b, bStep: step, images: count, silu: j.a.SiLU}
	if j.a.Residual != nil {
		w.residual = j.a.Residual[n*c.Cout*plane:]
	}
	if j.bias != nil {
		w.bias = j.bias[n*j.perN:]
	}
	if worker >= 0 {
		k.compute(&w, 0, c.Cout, 0, k.columns(), j.buffers(worker))
		return
	}
	mr := k.e.mr
	if k.wide() {
		mr = 4
	}
	g := splitTiles(j.pool.Threads(), c.Cout, k.columns()*k.nr, mr, k.nr)
	each(j.pool, g.units(), directPiece{j, w, g}, func(s *directPiece, worker, u int) {
		i0, i1, j0, j1 := s.g.unit(u)
		k := s.j.k
		k.compute(&s.w, i0, i1, j0/k.nr, j1/k.nr, s.j.buffers(worker))
	})
}

// directPiece is the state of the loop over the pieces of an image that all threads share.
type directPiece struct {
	j *directJob
	w product
	g grid
}

func (j *directJob) buffers(worker int) []float32 {
	return j.work[worker*j.k.workFloats():][:j.k.workFloats()]
}
