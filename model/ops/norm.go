package ops

import (
	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
)

// GroupNorm normalises x [N,C,H,W] over groups of channels, applies gamma and
// beta [C] and, if silu is set, SiLU in the same pass.
func GroupNorm(x, gamma, beta *gorgonia.Node, groups int, eps float32, silu bool) *gorgonia.Node {
	s := x.Shape()
	if len(s) < 3 || groups < 1 || s[1]%groups != 0 {
		fail("group norm", "x has shape %v, want [N,C,...] with C divisible by %d groups", s, groups)
	}
	if size(gamma.Shape()) != s[1] || size(beta.Shape()) != s[1] {
		fail("group norm", "weight %v and bias %v, want [%d]", gamma.Shape(), beta.Shape(), s[1])
	}
	g := kernels.GroupNorm{N: s[0], C: s[1], HW: size(s[2:]), Groups: groups, Eps: eps, SiLU: silu}
	return apply(groupNorm{G: g, Out: s}, []int{0, 1, 2}, x, gamma, beta)
}

type groupNorm struct {
	G   kernels.GroupNorm
	Out []int
	noScratch
}

func (k groupNorm) inputs() int    { return 3 }
func (k groupNorm) shape() []int   { return k.Out }
func (k groupNorm) inPlace() []int { return []int{0} }
func (k groupNorm) run(e *Env, dst []float32, src [][]float32) {
	kernels.GroupNormForward(e.Pool, k.G, dst, src[0], src[1], src[2])
}

// The three gradients come from one pass over the feature, as one buffer that
// the parts are windows into.
func (k groupNorm) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	all := apply(groupNormBack{G: k.G}, nil, dy, in[0], in[1], in[2])
	n := size(k.Out)
	return gorgonia.Nodes{
		window(all, 0, k.Out), window(all, n, in[1].Shape()), window(all, n+k.G.C, in[2].Shape()),
	}
}

type groupNormBack struct {
	G kernels.GroupNorm
	noGrad
}

func (k groupNormBack) inputs() int     { return 4 }
func (k groupNormBack) shape() []int    { return []int{k.G.N*k.G.C*k.G.HW + 2*k.G.C} }
func (k groupNormBack) scratch(int) int { return k.G.ScratchBackward() }
func (k groupNormBack) run(e *Env, dst []float32, src [][]float32) {
	n, c := k.G.N*k.G.C*k.G.HW, k.G.C
	kernels.GroupNormBackward(e.Pool, k.G, dst[:n], dst[n:n+c], dst[n+c:], src[0], src[1], src[2], src[3], e.Scratch)
}

// LayerNorm normalises x [...,C] over its last axis and applies gamma and beta [C].
func LayerNorm(x, gamma, beta *gorgonia.Node, eps float32) *gorgonia.Node {
	s := x.Shape()
	if len(s) < 1 {
		fail("layer norm", "x has shape %v, want [...,C]", s)
	}
	c := s[len(s)-1]
	if size(gamma.Shape()) != c || size(beta.Shape()) != c {
		fail("layer norm", "x has shape %v, weight %v, bias %v: want [%d]", s, gamma.Shape(), beta.Shape(), c)
	}
	return apply(layerNorm{L: kernels.LayerNorm{T: size(s) / c, C: c, Eps: eps}, Out: s}, []int{0, 1, 2}, x, gamma, beta)
}

type layerNorm struct {
	L   kernels.LayerNorm
	Out []int
	noScratch
}

func (k layerNorm) inputs() int    { return 3 }
func (k layerNorm) shape() []int   { return k.Out }
func (k layerNorm) inPlace() []int { return []int{0} }
func (k layerNorm) run(e *Env, dst []float32, src [][]float32) {
	kernels.LayerNormForward(e.Pool, k.L, dst, src[0], src[1], src[2])
}
func (k layerNorm) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	all := apply(layerNormBack{L: k.L}, nil, dy, in[0], in[1], in[2])
	n := size(k.Out)
	return gorgonia.Nodes{
		window(all, 0, k.Out), window(all, n, in[1].Shape()), window(all, n+k.L.C, in[2].Shape()),
	}
}

type layerNormBack struct {
	L kernels.LayerNorm
	noGrad
}

func (k layerNormBack) inputs() int     { return 4 }
func (k layerNormBack) shape() []int    { return []int{k.L.T*k.L.C + 2*k.L.C} }
func (k layerNormBack) scratch(int) int { return k.L.ScratchBackward() }
func (k layerNormBack) run(e *Env, dst []float32, src [][]float32) {
	n, c := k.L.T*k.L.C, k.L.C
	kernels.LayerNormBackward(e.Pool, k.L, dst[:n], dst[n:n+c], dst[n+c:], src[0], src[1], src[2], src[3], e.Scratch)
}

// Activate applies the activation to every element.
func Activate(x *gorgonia.Node, act kernels.Activation) *gorgonia.Node {
	return apply(activate{Act: act, Out: x.Shape()}, []int{0}, x)
}

// SiLU is x sigmoid(x).
func SiLU(x *gorgonia.Node) *gorgonia.Node { return Activate(x, kernels.SiLU) }

type activate struct {
	Act kernels.Activation
	Out []int
	noScratch
}

func (k activate) inputs() int    { return 1 }
func (k activate) shape() []int   { return k.Out }
func (k activate) inPlace() []int { return []int{0} }
func (k activate) run(e *Env, dst []float32, src [][]float32) {
	kernels.ActForward(e.Pool, k.Act, dst, src[0])
}
func (k activate) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{apply(activateBack{Act: k.Act, Out: k.Out}, nil, dy, in[0])}
}

type activateBack struct {
	Act kernels.Activation
	Out []int
	noGrad
	noScratch
}

func (k activateBack) inputs() int  { return 2 }
func (k activateBack) shape() []int { return k.Out }
func (k activateBack) run(e *Env, dst []float32, src [][]float32) {
	kernels.ActBackward(e.Pool, k.Act, dst, src[0], src[1])
}

// GEGLU halves x [...,2C] into value and gate: value * gelu_erf(gate), [...,C]
// (diffusers GEGLU).
func GEGLU(x *gorgonia.Node) *gorgonia.Node {
	s := x.Shape()
	last := len(s) - 1
	if last < 0 || s[last]%2 != 0 {
		fail("geglu", "x has shape %v, want an even last axis", s)
	}
	out := append([]int(nil), s...)
	out[last] /= 2
	return apply(geglu{Out: out, In: s}, []int{0}, x)
}

type geglu struct {
	Out, In []int
	noScratch
}

func (k geglu) inputs() int  { return 1 }
func (k geglu) shape() []int { return k.Out }
func (k geglu) run(e *Env, dst []float32, src [][]float32) {
	o := k.Out[len(k.Out)-1]
	kernels.GEGLUForward(e.Pool, size(k.Out)/o, o, dst, src[0])
}
func (k geglu) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{apply(gegluBack{Out: k.In}, nil, dy, in[0])}
}

type gegluBack struct {
	Out []int
	noGrad
	noScratch
}

func (k gegluBack) inputs() int  { return 2 }
func (k gegluBack) shape() []int { return k.Out }
func (k gegluBack) run(e *Env, dst []float32, src [][]float32) {
	o := k.Out[len(k.Out)-1] / 2
	kernels.GEGLUBackward(e.Pool, size(k.Out)/o/2, o, dst, src[0], src[1])
}

// Attention is softmax(scale q k^T) v, head by head, for q [N,Tq,C] and k, v
// [N,Tk,C] whose channels are heads x (C/heads): [N,Tq,C].
func Attention(q, k, v *gorgonia.Node, heads int, scale float32, causal bool) *gorgonia.Node {
	qs, ks, vs := dims("attention", q, "q", 3), dims("attention", k, "k", 3), dims("attention", v, "v", 3)
	if !same(ks, vs) || qs[0] != ks[0] || qs[2] != ks[2] || heads < 1 || qs[2]%heads != 0 {
		fail("attention", "q %v, k %v, v %v with %d heads do not fit", qs, ks, vs, heads)
	}
	a := kernels.Attention{N: qs[0], Heads: heads, Tq: qs[1], Tk: ks[1], D: qs[2] / heads, Scale: scale, Causal: causal}
	return apply(attention{A: a}, []int{0, 1, 2}, q, k, v)
}

type attention struct{ A kernels.Attention }

func (k attention) inputs() int { return 3 }
func (k attention) flops() float64 {
	a := k.A
	return 4 * float64(a.N*a.Heads*a.D) * float64(a.Tq) * float64(a.Tk)
}
func (k attention) shape() []int            { return []int{k.A.N, k.A.Tq, k.A.Heads * k.A.D} }
func (k attention) scratch(threads int) int { return k.A.Scratch(threads) }
func (k attention) run(e *Env, dst []float32, src [][]float32) {
	kernels.AttentionForward(e.Pool, k.A, dst, src[0], src[1], src[2], e.Scratch)
}
func (k attention) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	all := apply(attentionBack{A: k.A}, nil, dy, in[0], in[1], in[2])
	q, kv := size(in[0].Shape()), size(in[1].Shape())
	return gorgonia.Nodes{window(all, 0, in[0].Shape()), window(all, q, in[1].Shape()), window(all, q+kv, in[2].Shape())}
}

type attentionBack struct {
	A kernels.Attention
	noGrad
}

func (k attentionBack) inputs() int { return 4 }
func (k attentionBack) shape() []int {
	c := k.A.Heads * k.A.D
	return []int{k.A.N * c * (k.A.Tq + 2*k.A.Tk)}
}
func (k attentionBack) scratch(threads int) int { return k.A.ScratchBackward(threads) }
func (k attentionBack) run(e *Env, dst []float32, src [][]float32) {
	c := k.A.Heads * k.A.D
	q, kv := k.A.N*k.A.Tq*c, k.A.N*k.A.Tk*c
	kernels.AttentionBackward(e.Pool, k.A, dst[:q], dst[q:q+kv], dst[q+kv:], src[1], src[2], src[3], src[0], e.Scratch)
}
