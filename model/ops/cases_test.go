package ops

import (
	"math/rand/v2"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"scalecrafter/model/kernels"
)

// input is one operand of a case. Whole numbers below ids (class indexes) are
// drawn where ids is above 0, else normals; fixed ones are no weight.
type input struct {
	name  string
	shape []int
	ids   int
	fixed bool
}

func in(name string, shape ...int) input { return input{name: name, shape: shape} }

// opCase is one use of a constructor on small shapes.
type opCase struct {
	name   string
	covers string // the exported constructor
	inputs []input
	build  func(x []*gorgonia.Node) *gorgonia.Node
}

// opCases has every differentiable constructor; TestCasesAreComplete holds it
// to that.
func opCases() []opCase {
	conv := func(name string, s ConvSpec, x, w []int, bias bool) opCase {
		c := opCase{name: "conv2d/" + name, covers: "Conv2D", inputs: []input{in("x", x...), in("w", w...)}}
		if bias {
			c.inputs = append(c.inputs, in("b", w[0]))
		}
		c.build = func(x []*gorgonia.Node) *gorgonia.Node {
			if bias {
				return Conv2D(x[0], x[1], x[2], s)
			}
			return Conv2D(x[0], x[1], nil, s)
		}
		return c
	}
	norm := func(name string, groups int, silu bool) opCase {
		return opCase{"group norm/" + name, "GroupNorm", []input{in("x", 2, 4, 3, 2), in("g", 4), in("b", 4)},
			func(x []*gorgonia.Node) *gorgonia.Node { return GroupNorm(x[0], x[1], x[2], groups, 1e-5, silu) }}
	}
	act := func(a kernels.Activation) opCase {
		return opCase{"activate/" + a.String(), "Activate", []input{in("x", 3, 5)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Activate(x[0], a) }}
	}
	attend := func(name string, tq, tk, heads int, causal bool) opCase {
		return opCase{"attention/" + name, "Attention", []input{in("q", 2, tq, 4), in("k", 2, tk, 4), in("v", 2, tk, 4)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Attention(x[0], x[1], x[2], heads, 0.7, causal) }}
	}
	unary := func(name, covers string, f func(x *gorgonia.Node) *gorgonia.Node, shape ...int) opCase {
		return opCase{name, covers, []input{in("x", shape...)}, func(x []*gorgonia.Node) *gorgonia.Node { return f(x[0]) }}
	}
	up := func(h, w int) func(*gorgonia.Node) *gorgonia.Node {
		return func(x *gorgonia.Node) *gorgonia.Node { return UpsampleNearest(x, h, w) }
	}
	bilinear := func(h, w int) func(*gorgonia.Node) *gorgonia.Node {
		return func(x *gorgonia.Node) *gorgonia.Node { return ResizeBilinear(x, h, w) }
	}
	mse := func(x []*gorgonia.Node) *gorgonia.Node { return WeightedMSE(x[0], x[1], x[2]) }
	return []opCase{
		conv("same", Same(1, 1, 1), []int{2, 3, 5, 4}, []int{2, 3, 3, 3}, true),
		conv("no bias", Same(1, 1, 1), []int{2, 2, 4, 4}, []int{3, 2, 3, 3}, false),
		conv("stride 2", Same(2, 1, 1), []int{1, 2, 5, 6}, []int{2, 2, 3, 3}, true),
		conv("dilation 2", Same(1, 2, 2), []int{1, 2, 5, 6}, []int{2, 2, 3, 3}, true),
		conv("stride 2 dilation 2", Same(2, 2, 2), []int{1, 2, 6, 5}, []int{2, 2, 3, 3}, false),
		conv("no padding", ConvSpec{}, []int{2, 2, 4, 5}, []int{2, 2, 3, 3}, true),
		conv("1x1", ConvSpec{}, []int{2, 3, 3, 2}, []int{4, 3, 1, 1}, true),
		conv("uneven", ConvSpec{StrideH: 1, StrideW: 2, DilH: 2, DilW: 1, PadTop: 1, PadBottom: 2, PadLeft: 0, PadRight: 1},
			[]int{1, 2, 5, 6}, []int{2, 2, 3, 3}, true),
		{"linear/tokens", "Linear", []input{in("x", 2, 3, 4), in("w", 5, 4), in("b", 5)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Linear(x[0], x[1], x[2]) }},
		{"linear/no bias", "Linear", []input{in("x", 3, 4), in("w", 2, 4)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Linear(x[0], x[1], nil) }},
		{"linear/1x1 weight", "Linear", []input{in("x", 1, 3, 4), in("w", 2, 4, 1, 1), in("b", 2)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Linear(x[0], x[1], x[2]) }},
		norm("two groups", 2, false), norm("one group", 1, false), norm("silu", 2, true),
		{"layer norm", "LayerNorm", []input{in("x", 2, 3, 5), in("g", 5), in("b", 5)},
			func(x []*gorgonia.Node) *gorgonia.Node { return LayerNorm(x[0], x[1], x[2], 1e-5) }},
		act(kernels.SiLU), act(kernels.GELU), act(kernels.GELUTanh), act(kernels.QuickGELU),
		unary("silu", "SiLU", SiLU, 2, 7),
		unary("geglu", "GEGLU", GEGLU, 2, 3, 6),
		attend("self", 4, 4, 2, false), attend("cross", 5, 3, 2, false), attend("causal", 4, 4, 1, true), attend("one head", 3, 3, 1, false),
		unary("reshape", "Reshape", func(x *gorgonia.Node) *gorgonia.Node { return Reshape(x, 3, 8) }, 2, 3, 4),
		{"add", "Add", []input{in("a", 2, 3), in("b", 2, 3)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Add(x[0], x[1]) }},
		{"add/to itself", "Add", []input{in("a", 2, 3)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Add(x[0], x[0]) }},
		{"add channel", "AddChannel", []input{in("x", 2, 3, 2, 2), in("t", 2, 3)},
			func(x []*gorgonia.Node) *gorgonia.Node { return AddChannel(x[0], x[1]) }},
		{"concat", "Concat", []input{in("a", 2, 1, 2, 3), in("b", 2, 2, 2, 3)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Concat(x[0], x[1]) }},
		unary("to tokens", "ToTokens", ToTokens, 2, 3, 2, 4),
		unary("to channels", "ToChannels", func(x *gorgonia.Node) *gorgonia.Node { return ToChannels(x, 2, 3) }, 2, 6, 3),
		unary("upsample nearest/double", "UpsampleNearest", up(4, 6), 1, 2, 2, 3),
		unary("upsample nearest/uneven", "UpsampleNearest", up(5, 7), 2, 1, 3, 4),
		unary("resize bilinear/up", "ResizeBilinear", bilinear(5, 6), 2, 1, 3, 4),
		unary("resize bilinear/down", "ResizeBilinear", bilinear(3, 2), 1, 2, 5, 5),
		unary("resize bilinear/same", "ResizeBilinear", func(x *gorgonia.Node) *gorgonia.Node { return SiLU(ResizeBilinear(x, 3, 3)) }, 1, 2, 3, 3),
		unary("fourier filter/even", "FourierFilter", func(x *gorgonia.Node) *gorgonia.Node { return FourierFilter(x, 2, 0.2) }, 2, 2, 4, 6),
		unary("fourier filter/odd", "FourierFilter", func(x *gorgonia.Node) *gorgonia.Node { return FourierFilter(x, 1, 0.3) }, 1, 2, 3, 5),
		unary("scale channels", "ScaleChannels", func(x *gorgonia.Node) *gorgonia.Node { return ScaleChannels(x, 2, 1.4) }, 2, 3, 2, 2),
		unary("average pool", "AvgPool2", AvgPool2, 2, 2, 4, 6),
		unary("spatial mean", "MeanSpatial", MeanSpatial, 2, 3, 3, 2),
		{"embedding", "Embedding", []input{in("table", 5, 3), {name: "ids", shape: []int{2, 4}, ids: 5}},
			func(x []*gorgonia.Node) *gorgonia.Node { return Embedding(x[0], x[1]) }},
		{"mse", "WeightedMSE", []input{in("p", 3, 2, 2), {name: "t", shape: []int{3, 2, 2}, fixed: true}, {name: "w", shape: []int{3}, fixed: true}}, mse},
		{"cross entropy", "CrossEntropy", []input{in("logits", 3, 4), {name: "labels", shape: []int{3}, ids: 4}},
			func(x []*gorgonia.Node) *gorgonia.Node { return CrossEntropy(x[0], x[1]) }},
		{"add scalars", "AddScalars", []input{in("p", 3, 2), {name: "t", shape: []int{3, 2}, fixed: true}, {name: "w", shape: []int{3}, fixed: true},
			{name: "labels", shape: []int{3}, ids: 2}},
			func(x []*gorgonia.Node) *gorgonia.Node { return AddScalars(mse(x), CrossEntropy(x[0], x[3])) }},
	}
}

// built is a case's graph: its output, a scalar loss on it, and the loss's
// gradients towards the inputs that have one.
type built struct {
	g      *gorgonia.ExprGraph
	leaves []*gorgonia.Node
	data   [][]float32
	out    *gorgonia.Node
	target []float32 // of the squared error that makes a scalar of out; nil where out is one
	loss   *gorgonia.Node
	wrt    []int // inputs that have a gradient
	grads  gorgonia.Nodes
}

// leafNode is an input node of the graph and the data that it is bound to.
func leafNode(g *gorgonia.ExprGraph, name string, shape ...int) (*gorgonia.Node, []float32) {
	data := make([]float32, size(shape))
	v := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
	return gorgonia.NewTensor(g, gorgonia.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name), gorgonia.WithValue(v)), data
}

func normals(seed string, dst []float32) {
	h := uint64(len(seed))
	for _, b := range []byte(seed) {
		h = h*1000003 ^ uint64(b)
	}
	r := rand.New(rand.NewPCG(h, 1))
	for i := range dst {
		dst[i] = float32(r.NormFloat64())
	}
}

// buildCase makes the graph of a case and the gradients of its loss.
func buildCase(t testing.TB, c opCase) *built {
	t.Helper()
	b := &built{g: gorgonia.NewGraph()}
	for _, spec := range c.inputs {
		n, data := leafNode(b.g, spec.name, spec.shape...)
		normals(c.name+spec.name, data)
		if spec.ids > 0 {
			for i := range data {
				data[i] = float32((i*7 + 3) % spec.ids)
			}
		} else if !spec.fixed {
			b.wrt = append(b.wrt, len(b.leaves))
		}
		b.leaves, b.data = append(b.leaves, n), append(b.data, data)
	}
	err := Build(func() {
		b.out = c.build(b.leaves)
		b.loss = b.out
		if shape := b.out.Shape(); len(shape) > 0 {
			target, tv := leafNode(b.g, "target", shape...)
			weight, wv := leafNode(b.g, "weight", shape[0])
			normals(c.name+"target", tv)
			for i := range wv {
				wv[i] = 1
			}
			b.target = tv
			b.loss = WeightedMSE(b.out, target, weight)
		}
	})
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	var wrt gorgonia.Nodes
	for _, i := range b.wrt {
		wrt = append(wrt, b.leaves[i])
	}
	if b.grads, err = gorgonia.Grad(b.loss, wrt...); err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	return b
}

// outputs are the nodes whose values a case checks.
func (b *built) outputs() []*gorgonia.Node {
	return append([]*gorgonia.Node{b.out, b.loss}, b.grads...)
}

// machine compiles the case for its outputs.
func (b *built) machine(t testing.TB, pool *kernels.Pool) *Machine {
	t.Helper()
	m, err := NewMachine(b.g, pool, b.outputs()...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// run compiles the case, runs it once and returns its outputs' values.
func (b *built) run(t testing.TB, pool *kernels.Pool) [][]float32 {
	t.Helper()
	m := b.machine(t, pool)
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	var vals [][]float32
	for _, o := range b.outputs() {
		vals = append(vals, append([]float32(nil), m.Output(o)...))
	}
	return vals
}
