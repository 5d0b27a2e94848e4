package ops

import (
	"math"
	"reflect"
	"testing"

	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
)

// fusable is a graph in which everything that can be fused is, and what must
// not be stays: n rows.
func fusable(t testing.TB, n int) (g *gorgonia.ExprGraph, data map[string][]float32, outs []*gorgonia.Node) {
	g = gorgonia.NewGraph()
	data = map[string][]float32{}
	leaf := func(name string, shape ...int) *gorgonia.Node {
		x, d := leafNode(g, name, shape...)
		normals(name, d)
		data[name] = d
		return x
	}
	x, emb := leaf("x", n, 24, 10, 12), leaf("emb", n, 24)
	w := func(name string, shape ...int) *gorgonia.Node { return leaf("net."+name+".weight", shape...) }
	err := Build(func() {
		// A resnet: convolution and time embedding; convolution and shortcut.
		h := AddChannel(Conv2D(x, w("conv1", 24, 24, 3, 3), leaf("net.conv1.bias", 24), Same(1, 1, 1)), emb)
		h = GroupNorm(h, w("norm", 24), leaf("net.norm.bias", 24), 4, 1e-5, true)
		h = Conv2D(h, w("conv2", 24, 24, 3, 3), leaf("net.conv2.bias", 24), Same(1, 2, 2))
		short := Conv2D(x, w("shortcut", 24, 24, 1, 1), nil, Same(1, 1, 0))
		res := Add(h, short)
		// All three at once, and a residual on the other side.
		both := Add(res, AddChannel(Conv2D(res, w("conv3", 24, 24, 3, 3), nil, Same(1, 1, 1)), emb))
		// SiLU of a convolution, with a time embedding before and a residual after it.
		both = Add(both, SiLU(AddChannel(Conv2D(both, w("conv7", 24, 24, 3, 3), nil, Same(1, 1, 1)), emb)))
		both = SiLU(Conv2D(both, w("conv8", 24, 24, 1, 1), nil, Same(1, 1, 0)))
		// A linear layer onto its own input, twice.
		tok := ToTokens(both)
		lin := Add(Linear(tok, w("lin", 24, 24), leaf("net.lin.bias", 24)), tok)
		lin = Add(lin, Linear(lin, w("lin2", 24, 24), nil))
		// Not to be fused: a value with two readers, and one that is an output.
		twice := Conv2D(both, w("conv4", 24, 24, 3, 3), nil, Same(1, 1, 1))
		out := Conv2D(both, w("conv5", 24, 24, 3, 3), nil, Same(1, 1, 1))
		sum := Add(Add(twice, both), SiLU(twice))
		double := Conv2D(both, w("conv6", 24, 24, 3, 3), nil, Same(1, 1, 1))
		outs = []*gorgonia.Node{ToChannels(lin, 10, 12), sum, out, Add(out, both), Add(double, double)}
	})
	if err != nil {
		t.Fatal(err)
	}
	return g, data, outs
}

// TestFusion holds which ops are fused, that fused ops give what the stock
// machine's separate ones give within rounding, and that their bits depend on
// neither threads nor batch.
func TestFusion(t *testing.T) {
	const rows = 3
	g, all, outs := fusable(t, rows)
	m, err := NewMachine(g, nil, outs...)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, in := range m.prog {
		switch k := in.k.(type) {
		case conv2D:
			if k.Add {
				count["time"]++
			}
			if k.SiLU {
				count["silu"]++
			}
			if k.Residual {
				count["residual"]++
			}
		case linear:
			if k.Residual {
				count["linear"]++
			}
		case add:
			count["add"]++
		case addChannel:
			count["addChannel"]++
		}
	}
	if want := map[string]int{"time": 3, "silu": 2, "residual": 3, "linear": 2, "add": 4}; !reflect.DeepEqual(count, want) {
		t.Errorf("fused and left: %v, want %v", count, want)
	}
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	vm := gorgonia.NewTapeMachine(g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	var batch [][]float32
	for _, o := range outs {
		got := append([]float32(nil), m.Output(o)...)
		batch = append(batch, got)
		want, err := floats(o.Value())
		if err != nil {
			t.Fatal(err)
		}
		top := 0.0
		for _, v := range want {
			top = max(top, math.Abs(float64(v)))
		}
		for i, v := range want {
			if d := math.Abs(float64(got[i]) - float64(v)); !(d <= 2e-6*top) {
				t.Fatalf("%v: element %d is %v, TapeMachine's %v (largest %v)", o, i, got[i], v, top)
			}
		}
	}
	pool := kernels.NewPool(3)
	defer pool.Close()
	for row := range rows {
		g, data, outs := fusable(t, 1)
		for _, name := range []string{"x", "emb"} {
			copy(data[name], all[name][row*len(data[name]):])
		}
		m, err := NewMachine(g, pool, outs...)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
		for i, o := range outs {
			got := m.Output(o)
			if !reflect.DeepEqual(got, batch[i][row*len(got):(row+1)*len(got)]) {
				t.Errorf("%v: row %d alone on three threads has other bits than in the batch on one", o, row)
			}
		}
	}
}

// TestLabels holds what traces call ops.
func TestLabels(t *testing.T) {
	g, _, outs := fusable(t, 1)
	m, err := NewMachine(g, nil, outs...)
	if err != nil {
		t.Fatal(err)
	}
	var tr Tracer
	m.SetTracer(&tr, 1)
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, o := range tr.Times() {
		seen[o.Name] = true
	}
	for _, want := range []string{
		"net.conv1: conv2D+time 3x3 of 24 [1 24 10 12]", "net.conv2: conv2D+residual 3x3 dilation 2x2 of 24 [1 24 10 12]",
		"net.lin: linear+residual of 24 [1 120 24]", "net.norm: groupNorm [1 24 10 12]",
	} {
		if !seen[want] {
			t.Errorf("no op is called %q, of %v", want, seen)
		}
	}
	for _, tt := range [][3]string{{"a.b.c", "a.b.d", "a.b"}, {"a.bc", "a.b", "a"}, {"a.b", "a.b.c", "a.b"}, {"a", "b", ""}, {"a.b", "a.b", "a.b"}} {
		if got := commonPath(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s and %s have %q in common, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}
