package ops

import (
	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
)

// ConvSpec is a convolution's geometry; zero strides and dilations mean 1.
type ConvSpec struct {
	StrideH, StrideW                     int
	DilH, DilW                           int
	PadTop, PadBottom, PadLeft, PadRight int
}

// Same is the geometry of torch's Conv2d with the given stride, dilation and
// symmetric padding.
func Same(stride, dilation, padding int) ConvSpec {
	return ConvSpec{stride, stride, dilation, dilation, padding, padding, padding, padding}
}

// Conv2D is the cross-correlation of x [N,Cin,H,W] with w [Cout,Cin,KH,KW] and
// bias [Cout] (nil for none): [N,Cout,OutH,OutW].
func Conv2D(x, w, bias *gorgonia.Node, s ConvSpec) *gorgonia.Node {
	xs, ws := dims("conv2d", x, "x", 4), dims("conv2d", w, "weight", 4)
	one := func(v int) int {
		if v == 0 {
			return 1
		}
		return v
	}
	c := kernels.Conv{
		N: xs[0], Cin: xs[1], H: xs[2], W: xs[3], Cout: ws[0], KH: ws[2], KW: ws[3],
		StrideH: one(s.StrideH), StrideW: one(s.StrideW), DilH: one(s.DilH), DilW: one(s.DilW),
		PadTop: s.PadTop, PadBottom: s.PadBottom, PadLeft: s.PadLeft, PadRight: s.PadRight,
	}
	if ws[1] != c.Cin {
		fail("conv2d", "x has %d channels, weight %v wants %d", c.Cin, ws, ws[1])
	}
	if err := c.Check(); err != nil {
		fail("conv2d", "%v", err)
	}
	if bias == nil {
		return apply(conv2D{C: c}, []int{0, 1}, x, w)
	}
	if b := bias.Shape(); size(b) != c.Cout {
		fail("conv2d", "bias has shape %v, want [%d]", b, c.Cout)
	}
	return apply(conv2D{C: c, Bias: true}, []int{0, 1, 2}, x, w, bias)
}

// conv2D's operands are x, the weight and, where they are said to be there, the
// bias [Cout], what is added to each channel [N,Cout] and a residual of the
// result's shape; SiLU comes before the residual. All but the bias come from
// fusion alone, without gradients.
type conv2D struct {
	C                         kernels.Conv
	Bias, Add, SiLU, Residual bool
}

func (k conv2D) inputs() int { return 2 + count(k.Bias, k.Add, k.Residual) }

func count(flags ...bool) int {
	n := 0
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}

func (k conv2D) packing() (kernels.Packing, bool) { return k.C.Packing() }
func (k conv2D) weight() int                      { return 1 }
func (k conv2D) inPlace() []int                   { return lastIf(k.Residual, k.inputs()) }
func (k conv2D) flops() float64                   { return convFlops(k.C) }

func convFlops(c kernels.Conv) float64 {
	return 2 * float64(c.N*c.Cout*c.OutH()*c.OutW()) * float64(c.Cin*c.KH*c.KW)
}

// lastIf lists the last of n operands if ok.
func lastIf(ok bool, n int) []int {
	if ok {
		return []int{n - 1}
	}
	return nil
}

func (k conv2D) shape() []int            { return []int{k.C.N, k.C.Cout, k.C.OutH(), k.C.OutW()} }
func (k conv2D) scratch(threads int) int { return k.C.ScratchForward(threads) }
func (k conv2D) run(e *Env, dst []float32, src [][]float32) {
	a := kernels.ConvArgs{Y: dst, X: src[0], W: src[1], Packed: e.Packed, Scratch: e.Scratch, SiLU: k.SiLU}
	rest := src[2:]
	for _, o := range [...]struct {
		there bool
		to    *[]float32
	}{{k.Bias, &a.Bias}, {k.Add, &a.Add}, {k.Residual, &a.Residual}} {
		if o.there {
			*o.to, rest = rest[0], rest[1:]
		}
	}
	kernels.ConvRun(e.Pool, k.C, a)
}
func (k conv2D) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	g := gorgonia.Nodes{
		apply(conv2DData{C: k.C}, nil, dy, in[1]),
		apply(conv2DWeight{C: k.C}, nil, dy, in[0]),
	}
	if k.Bias {
		g = append(g, apply(sumBatchSpatial{k.C.N, k.C.Cout, k.C.OutH() * k.C.OutW(), noGrad{}, noScratch{}}, nil, dy))
	}
	return g
}

type conv2DData struct {
	C kernels.Conv
	noGrad
}

func (k conv2DData) inputs() int             { return 2 }
func (k conv2DData) flops() float64          { return convFlops(k.C) }
func (k conv2DData) shape() []int            { return []int{k.C.N, k.C.Cin, k.C.H, k.C.W} }
func (k conv2DData) scratch(threads int) int { return k.C.ScratchData(threads) }
func (k conv2DData) run(e *Env, dst []float32, src [][]float32) {
	kernels.ConvBackwardData(e.Pool, k.C, dst, src[0], src[1], e.Scratch)
}

type conv2DWeight struct {
	C kernels.Conv
	noGrad
}

func (k conv2DWeight) inputs() int             { return 2 }
func (k conv2DWeight) flops() float64          { return convFlops(k.C) }
func (k conv2DWeight) shape() []int            { return []int{k.C.Cout, k.C.Cin, k.C.KH, k.C.KW} }
func (k conv2DWeight) scratch(threads int) int { return k.C.ScratchWeight(threads) }
func (k conv2DWeight) run(e *Env, dst []float32, src [][]float32) {
	kernels.ConvBackwardWeight(e.Pool, k.C, dst, src[0], src[1], e.Scratch)
}

type sumBatchSpatial struct {
	N, C, HW int
	noGrad
	noScratch
}

func (k sumBatchSpatial) inputs() int  { return 1 }
func (k sumBatchSpatial) shape() []int { return []int{k.C} }
func (k sumBatchSpatial) run(e *Env, dst []float32, src [][]float32) {
	kernels.SumBatchSpatial(e.Pool, k.N, k.C, k.HW, dst, src[0])
}

// Linear is y = x w^T + bias for x [...,K], w [O,K] and bias [O] (nil for
// none): [...,O]. A weight of a 1x1 convolution, [O,K,1,1], serves as well.
func Linear(x, w, bias *gorgonia.Node) *gorgonia.Node {
	xs, ws := x.Shape(), w.Shape()
	if len(xs) < 1 || len(ws) < 2 || size(ws[2:]) != 1 || xs[len(xs)-1] != ws[1] {
		fail("linear", "x has shape %v, weight %v: want [...,K] and [O,K]", xs, ws)
	}
	l := kernels.Linear{T: size(xs[:len(xs)-1]), K: ws[1], O: ws[0]}
	out := append(append([]int(nil), xs[:len(xs)-1]...), l.O)
	k := linear{L: l, In: xs, Weight: ws, Out: out}
	if bias == nil {
		return apply(k, []int{0, 1}, x, w)
	}
	if b := bias.Shape(); size(b) != l.O {
		fail("linear", "bias has shape %v, want [%d]", b, l.O)
	}
	k.Bias = true
	return apply(k, []int{0, 1, 2}, x, w, bias)
}

// linear's operands are x, the weight and, where they are said to be there, the
// bias [O] and a residual of the result's shape; the latter comes from fusion
// alone, without gradients.
type linear struct {
	L               kernels.Linear
	In, Weight, Out []int
	Bias, Residual  bool
}

func (k linear) inputs() int                      { return 2 + count(k.Bias, k.Residual) }
func (k linear) packing() (kernels.Packing, bool) { return k.L.Packing() }
func (k linear) weight() int                      { return 1 }
func (k linear) inPlace() []int                   { return lastIf(k.Residual, k.inputs()) }
func (k linear) flops() float64                   { return linearFlops(k.L) }

func linearFlops(l kernels.Linear) float64 { return 2 * float64(l.T) * float64(l.K) * float64(l.O) }

func (k linear) shape() []int            { return k.Out }
func (k linear) scratch(threads int) int { return k.L.Scratch(threads) }
func (k linear) run(e *Env, dst []float32, src [][]float32) {
	a := kernels.LinearArgs{Y: dst, X: src[0], W: src[1], Packed: e.Packed, Scratch: e.Scratch}
	if k.Bias {
		a.Bias = src[2]
	}
	if k.Residual {
		a.Residual = src[len(src)-1]
	}
	kernels.LinearRun(e.Pool, k.L, a)
}
func (k linear) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	g := gorgonia.Nodes{
		apply(linearData{L: k.L, Out: k.In}, nil, dy, in[1]),
		apply(linearWeight{L: k.L, Out: k.Weight}, nil, dy, in[0]),
	}
	if k.Bias {
		g = append(g, apply(sumRows{T: k.L.T, O: k.L.O}, nil, dy))
	}
	return g
}

type linearData struct {
	L   kernels.Linear
	Out []int
	noGrad
}

func (k linearData) inputs() int             { return 2 }
func (k linearData) flops() float64          { return linearFlops(k.L) }
func (k linearData) shape() []int            { return k.Out }
func (k linearData) scratch(threads int) int { return k.L.Scratch(threads) }
func (k linearData) run(e *Env, dst []float32, src [][]float32) {
	kernels.LinearBackwardData(e.Pool, k.L, dst, src[0], src[1], e.Scratch)
}

type linearWeight struct {
	L   kernels.Linear
	Out []int
	noGrad
}

func (k linearWeight) inputs() int             { return 2 }
func (k linearWeight) flops() float64          { return linearFlops(k.L) }
func (k linearWeight) shape() []int            { return k.Out }
func (k linearWeight) scratch(threads int) int { return k.L.Scratch(threads) }
func (k linearWeight) run(e *Env, dst []float32, src [][]float32) {
	kernels.LinearBackwardWeight(e.Pool, k.L, dst, src[0], src[1], e.Scratch)
}

type sumRows struct {
	T, O int
	noGrad
	noScratch
}

func (k sumRows) inputs() int  { return 1 }
func (k sumRows) shape() []int { return []int{k.O} }
func (k sumRows) run(e *Env, dst []float32, src [][]float32) {
	kernels.SumRows(e.Pool, k.T, k.O, dst, src[0])
}
