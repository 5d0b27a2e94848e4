package ops

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"weak"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"scalecrafter/model/kernels"
)

// countdown is a context that ends after its Err was asked so often.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCancel ends a run between any two ops, and runs again.
func TestCancel(t *testing.T) {
	b := buildCase(t, opCases()[0])
	m := b.machine(t, nil)
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	want := append([]float32(nil), m.Output(b.grads[0])...)
	stopped := 0
	for after := 0; ; after++ {
		err := m.Run(&countdown{context.Background(), after})
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled after %d ops: %v, want context.Canceled", after, err)
		}
		stopped++
	}
	if stopped != len(m.prog) {
		t.Errorf("a run of %d ops could be stopped at %d places", len(m.prog), stopped)
	}
	if !reflect.DeepEqual(m.Output(b.grads[0]), want) {
		t.Error("the run after the cancelled ones gives other numbers")
	}
}

// TestBoundValues holds what a machine says of inputs that it cannot read.
func TestBoundValues(t *testing.T) {
	dense := func(data any, shape ...int) *tensor.Dense {
		return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
	}
	transposed := dense([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
	if err := transposed.T(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		value gorgonia.Value
		want  []string // parts of the error; none: no error
	}{
		{"none", nil, []string{`"picture"`, "has no value", "gorgonia.Let"}},
		{"float64", dense([]float64{1, 2, 3, 4, 5, 6}, 2, 3), []string{`"picture"`, "float64"}},
		{"transposed", transposed, []string{`"picture"`, "row-major"}},
		{"too small", dense([]float32{1, 2, 3}, 1, 3), []string{`"picture"`, "(1, 3)", "(2, 3)"}},
		{"right", dense([]float32{1, 2, 3, 4, 5, 6}, 2, 3), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := gorgonia.NewGraph()
			x := gorgonia.NewTensor(g, gorgonia.Float32, 2, gorgonia.WithShape(2, 3), gorgonia.WithName("picture"))
			y := SiLU(x)
			m, err := NewMachine(g, nil, y)
			if err != nil {
				t.Fatal(err)
			}
			if tt.value != nil {
				// Let checks less or more than we do, depending on Gorgonia's version.
				if err := gorgonia.Let(x, tt.value); err != nil {
					t.Skipf("Gorgonia itself refuses: %v", err)
				}
			}
			err = m.RunAll()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

// TestInputsAreShared holds that a machine reads a leaf's memory afresh in each
// run, and follows a new binding.
func TestInputsAreShared(t *testing.T) {
	g := gorgonia.NewGraph()
	x, data := leafNode(g, "x", 2)
	y := Add(x, x)
	m, err := NewMachine(g, nil, y)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want ...float32) {
		t.Helper()
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
		if got := m.Output(y); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	copy(data, []float32{1, 2})
	check(2, 4)
	data[1] = 5
	check(2, 10)
	if err := gorgonia.Let(x, tensor.New(tensor.WithShape(2), tensor.WithBacking([]float32{7, 8}))); err != nil {
		t.Fatal(err)
	}
	check(14, 16)
}

// TestBadOutputs holds NewMachine's errors.
func TestBadOutputs(t *testing.T) {
	g := gorgonia.NewGraph()
	x, _ := leafNode(g, "x", 2)
	other, _ := leafNode(gorgonia.NewGraph(), "x", 2)
	stock := gorgonia.Must(gorgonia.Tanh(x))
	for _, tt := range []struct {
		name string
		out  *gorgonia.Node
		want string
	}{
		{"nil", nil, "not a node"}, {"of another graph", other, "not a node"}, {"stock op", stock, "tanh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewMachine(g, nil, tt.out); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestBuildErrors holds that shapes that do not fit are errors that name the op
// and the shapes.
func TestBuildErrors(t *testing.T) {
	g := gorgonia.NewGraph()
	n := func(shape ...int) *gorgonia.Node {
		x, _ := leafNode(g, fmt.Sprint(shape), shape...)
		return x
	}
	scalar := gorgonia.NewScalar(g, gorgonia.Float32, gorgonia.WithName("scalar"))
	for _, tt := range []struct {
		name  string
		build func() *gorgonia.Node
		want  []string
	}{
		{"conv rank", func() *gorgonia.Node { return Conv2D(n(2, 3), n(1, 3, 3, 3), nil, Same(1, 1, 1)) }, []string{"conv2d", "x", "(2, 3)", "4 axes"}},
		{"conv channels", func() *gorgonia.Node { return Conv2D(n(1, 3, 4, 4), n(1, 2, 3, 3), nil, Same(1, 1, 1)) }, []string{"conv2d", "3 channels", "[1 2 3 3]"}},
		{"conv bias", func() *gorgonia.Node { return Conv2D(n(1, 2, 4, 4), n(1, 2, 3, 3), n(5), Same(1, 1, 1)) }, []string{"conv2d", "bias", "(5)", "[1]"}},
		{"conv too small", func() *gorgonia.Node { return Conv2D(n(1, 2, 2, 2), n(1, 2, 3, 3), nil, ConvSpec{}) }, []string{"conv2d", "2"}},
		{"conv stride", func() *gorgonia.Node { return Conv2D(n(1, 2, 4, 4), n(1, 2, 3, 3), nil, Same(-1, 1, 1)) }, []string{"conv2d", "-1"}},
		{"linear", func() *gorgonia.Node { return Linear(n(2, 3), n(4, 5), nil) }, []string{"linear", "(2, 3)", "(4, 5)"}},
		{"linear weight", func() *gorgonia.Node { return Linear(n(2, 3), n(4, 3, 3, 3), nil) }, []string{"linear", "(4, 3, 3, 3)"}},
		{"linear scalar", func() *gorgonia.Node { return Linear(scalar, n(4, 5), nil) }, []string{"linear", "()"}},
		{"linear bias", func() *gorgonia.Node { return Linear(n(2, 3), n(4, 3), n(3)) }, []string{"linear", "bias", "(3)", "[4]"}},
		{"group norm groups", func() *gorgonia.Node { return GroupNorm(n(1, 4, 2, 2), n(4), n(4), 3, 1e-5, false) }, []string{"group norm", "(1, 4, 2, 2)", "3 groups"}},
		{"group norm weight", func() *gorgonia.Node { return GroupNorm(n(1, 4, 2, 2), n(4), n(3), 2, 1e-5, false) }, []string{"group norm", "(3)", "[4]"}},
		{"layer norm", func() *gorgonia.Node { return LayerNorm(n(2, 4), n(3), n(4), 1e-5) }, []string{"layer norm", "(2, 4)", "(3)"}},
		{"layer norm scalar", func() *gorgonia.Node { return LayerNorm(scalar, n(3), n(3), 1e-5) }, []string{"layer norm", "()"}},
		{"geglu odd", func() *gorgonia.Node { return GEGLU(n(2, 3)) }, []string{"geglu", "(2, 3)"}},
		{"geglu scalar", func() *gorgonia.Node { return GEGLU(scalar) }, []string{"geglu", "()"}},
		{"attention width", func() *gorgonia.Node { return Attention(n(1, 2, 4), n(1, 3, 6), n(1, 3, 6), 1, 1, false) }, []string{"attention", "[1 2 4]", "[1 3 6]"}},
		{"attention heads", func() *gorgonia.Node { return Attention(n(1, 2, 4), n(1, 2, 4), n(1, 2, 4), 3, 1, false) }, []string{"attention", "[1 2 4]", "3 heads"}},
		{"attention keys", func() *gorgonia.Node { return Attention(n(1, 2, 4), n(1, 2, 4), n(1, 3, 4), 1, 1, false) }, []string{"attention", "[1 3 4]"}},
		{"attention rank", func() *gorgonia.Node { return Attention(n(2, 4), n(1, 2, 4), n(1, 2, 4), 1, 1, false) }, []string{"attention", "q", "(2, 4)", "3 axes"}},
		{"reshape", func() *gorgonia.Node { return Reshape(n(2, 3), 4, 2) }, []string{"reshape", "(2, 3)", "[4 2]"}},
		{"reshape sign", func() *gorgonia.Node { return Reshape(n(2, 3), -2, -3) }, []string{"reshape", "(2, 3)", "[-2 -3]"}},
		{"add", func() *gorgonia.Node { return Add(n(2, 3), n(3, 2)) }, []string{"add", "(2, 3)", "(3, 2)"}},
		{"add channel", func() *gorgonia.Node { return AddChannel(n(1, 2, 4, 4), n(1, 3)) }, []string{"add channel", "[1 2 4 4]", "[1 3]"}},
		{"concat", func() *gorgonia.Node { return Concat(n(1, 2, 4, 4), n(1, 2, 2, 2)) }, []string{"concat", "[1 2 4 4]", "[1 2 2 2]"}},
		{"to tokens", func() *gorgonia.Node { return ToTokens(n(2, 3)) }, []string{"to tokens", "(2, 3)"}},
		{"to channels", func() *gorgonia.Node { return ToChannels(n(1, 6, 4), 2, 2) }, []string{"to channels", "6 tokens", "2x2"}},
		{"upsample", func() *gorgonia.Node { return UpsampleNearest(n(1, 2, 4, 4), 0, 4) }, []string{"upsample nearest", "0x4", "[1 2 4 4]"}},
		{"bilinear", func() *gorgonia.Node { return ResizeBilinear(n(1, 2, 4, 4), 4, -1) }, []string{"resize bilinear", "4x-1"}},
		{"pool", func() *gorgonia.Node { return AvgPool2(n(1, 2, 3, 4)) }, []string{"average pool", "[1 2 3 4]"}},
		{"mean", func() *gorgonia.Node { return MeanSpatial(n(2, 3)) }, []string{"spatial mean", "(2, 3)"}},
		{"embedding", func() *gorgonia.Node { return Embedding(n(2, 3), n(4)) }, []string{"embedding", "ids", "(4)"}},
		{"mse", func() *gorgonia.Node { return WeightedMSE(n(2, 3), n(2, 2), n(2)) }, []string{"mse", "(2, 3)", "(2, 2)"}},
		{"mse weight", func() *gorgonia.Node { return WeightedMSE(n(2, 3), n(2, 3), n(3)) }, []string{"mse", "(3)"}},
		{"mse scalar", func() *gorgonia.Node { return WeightedMSE(scalar, scalar, n(1)) }, []string{"mse", "()"}},
		{"cross entropy", func() *gorgonia.Node { return CrossEntropy(n(2, 3), n(3)) }, []string{"cross entropy", "[2 3]", "(3)"}},
		{"add scalars", func() *gorgonia.Node { return AddScalars(n(2), scalar) }, []string{"add", "(2)", "scalars"}},
		{"two graphs", func() *gorgonia.Node {
			x, _ := leafNode(gorgonia.NewGraph(), "elsewhere", 2, 3)
			return Add(x, n(2, 3))
		}, []string{"add"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Build(func() { tt.build() })
			if err == nil {
				t.Fatal("no error")
			}
			var b *BuildError
			if !errors.As(err, &b) {
				t.Fatalf("%T, want a *BuildError", err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

// TestBuildPassesOtherPanics: a bug must not be taken for a bad shape.
func TestBuildPassesOtherPanics(t *testing.T) {
	defer func() {
		if r := recover(); r != "bug" {
			t.Errorf("recovered %v, want the panic itself", r)
		}
	}()
	_ = Build(func() { panic("bug") })
}

// bigCase has shapes that the kernels split among threads.
func bigCase(n int) opCase {
	return opCase{name: "big", inputs: []input{in("x", n, 32, 20, 24), in("w", 32, 32, 3, 3), in("b", 32), in("g", 32), in("s", 32), in("q", 64, 32), in("ctx", n, 9, 32), in("o", 32, 32)},
		build: func(x []*gorgonia.Node) *gorgonia.Node {
			h := GroupNorm(Conv2D(x[0], x[1], x[2], Same(1, 2, 2)), x[3], x[4], 8, 1e-5, true)
			h = UpsampleNearest(AvgPool2(ResizeBilinear(h, 24, 30)), 20, 24)
			tok := LayerNorm(ToTokens(h), x[3], x[4], 1e-5)
			tok = GEGLU(Linear(tok, x[5], nil))
			tok = Attention(tok, x[6], x[6], 4, 0.35, false)
			self := Attention(tok, tok, tok, 2, 0.25, false)
			return Add(ToChannels(Linear(Add(self, tok), x[7], x[2]), 20, 24), x[0])
		}}
}

// TestThreads holds that the number of threads changes no bit, forward and
// backward.
func TestThreads(t *testing.T) {
	pool := kernels.NewPool(2)
	defer pool.Close()
	for _, c := range append(opCases(), bigCase(2)) {
		t.Run(c.name, func(t *testing.T) {
			b := buildCase(t, c)
			one, two := b.run(t, nil), b.run(t, pool)
			for i, o := range b.outputs() {
				if !reflect.DeepEqual(one[i], two[i]) {
					t.Errorf("%v: two threads give other bits than one", o)
				}
			}
		})
	}
}

// TestRowsAreIndependent holds that a row of a batch of 5 has the bits of the
// row alone, for every op that keeps rows apart.
func TestRowsAreIndependent(t *testing.T) {
	const rows = 5
	x := func(shape ...int) input { return in("x", append([]int{0}, shape...)...) }
	for _, tt := range []struct {
		name   string
		inputs []input // a first axis of 0 is the batch
		build  func(x []*gorgonia.Node) *gorgonia.Node
	}{
		{"conv", []input{x(8, 11, 13), in("w", 12, 8, 3, 3), in("b", 12)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Conv2D(x[0], x[1], x[2], Same(1, 1, 1)) }},
		{"conv dilated", []input{x(8, 16, 16), in("w", 8, 8, 3, 3)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Conv2D(x[0], x[1], nil, Same(1, 3, 3)) }},
		{"conv stride", []input{x(8, 16, 15), in("w", 8, 8, 3, 3), in("b", 8)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Conv2D(x[0], x[1], x[2], Same(2, 1, 1)) }},
		{"conv 1x1", []input{x(8, 5, 5), in("w", 8, 8, 1, 1), in("b", 8)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Conv2D(x[0], x[1], x[2], ConvSpec{}) }},
		{"group norm", []input{x(8, 7, 9), in("g", 8), in("b", 8)},
			func(x []*gorgonia.Node) *gorgonia.Node { return GroupNorm(x[0], x[1], x[2], 4, 1e-5, true) }},
		{"layer norm", []input{x(7, 24), in("g", 24), in("b", 24)},
			func(x []*gorgonia.Node) *gorgonia.Node { return LayerNorm(x[0], x[1], x[2], 1e-5) }},
		{"linear vector", []input{x(20), in("w", 33, 20), in("b", 33)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Linear(x[0], x[1], x[2]) }},
		{"linear tokens", []input{x(7, 20), in("w", 33, 20), in("b", 33)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Linear(x[0], x[1], x[2]) }},
		{"attention", []input{x(13, 16)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Attention(x[0], x[0], x[0], 2, 0.3, false) }},
		{"attention long", []input{x(300, 8)},
			func(x []*gorgonia.Node) *gorgonia.Node { return Attention(x[0], x[0], x[0], 1, 0.3, false) }},
		{"activations", []input{x(3, 37)},
			func(x []*gorgonia.Node) *gorgonia.Node {
				for _, a := range []kernels.Activation{kernels.SiLU, kernels.GELU, kernels.GELUTanh, kernels.QuickGELU} {
					x[0] = Activate(x[0], a)
				}
				return x[0]
			}},
		{"geglu", []input{x(3, 22)}, func(x []*gorgonia.Node) *gorgonia.Node { return GEGLU(x[0]) }},
		{"bilinear", []input{x(3, 7, 9)}, func(x []*gorgonia.Node) *gorgonia.Node { return ResizeBilinear(x[0], 11, 10) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pool := kernels.NewPool(2)
			defer pool.Close()
			var all []float32
			eval := func(n, row int, pool *kernels.Pool) []float32 {
				g := gorgonia.NewGraph()
				var nodes []*gorgonia.Node
				for _, spec := range tt.inputs {
					shape := append([]int(nil), spec.shape...)
					batched := shape[0] == 0
					if batched {
						shape[0] = n
					}
					node, data := leafNode(g, spec.name, shape...)
					if batched && n == 1 {
						per := len(data)
						copy(data, all[row*per:(row+1)*per])
					} else {
						normals(tt.name+spec.name, data)
						if batched {
							all = data
						}
					}
					nodes = append(nodes, node)
				}
				y := tt.build(nodes)
				m, err := NewMachine(g, pool, y)
				if err != nil {
					t.Fatal(err)
				}
				if err := m.RunAll(); err != nil {
					t.Fatal(err)
				}
				return m.Output(y)
			}
			batch := eval(rows, 0, pool)
			per := len(batch) / rows
			for i := range rows {
				if alone := eval(1, i, nil); !reflect.DeepEqual(alone, batch[i*per:(i+1)*per]) {
					t.Errorf("row %d alone has other bits than in a batch of %d", i, rows)
				}
			}
		})
	}
}

// TestTrace holds the trace's arithmetic: every op that is no window is counted.
func TestTrace(t *testing.T) {
	b := buildCase(t, bigCase(1))
	m := b.machine(t, nil)
	if len(m.Times()) != 0 {
		t.Error("times before Trace")
	}
	m.Trace()
	for range 2 {
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
	}
	times := m.Times()
	calls := 0
	for i, o := range times {
		calls += o.Calls
		if o.Time <= 0 || i > 0 && o.Time > times[i-1].Time {
			t.Errorf("times are not positive and slowest first: %v", times)
		}
	}
	want := 0
	for _, in := range m.prog {
		if _, ok := in.k.(aliaser); !ok {
			want++
		}
	}
	if calls > want || calls < want-2 { // an op may be too quick for the clock
		t.Errorf("%d ops in the trace, want %d", calls, want)
	}
}

// TestSharedArena holds that machines in one arena give the numbers that they
// give in their own, whichever ran or was made before, and share its memory.
func TestSharedArena(t *testing.T) {
	shared := new(Arena)
	var ours []*Machine
	var cases []*built
	var want [][][]float32
	largest, sum := 0, 0
	for _, c := range opCases() {
		b := buildCase(t, c)
		m, err := NewMachineIn(shared, b.g, nil, b.outputs()...)
		if err != nil {
			t.Fatal(err)
		}
		ours, cases = append(ours, m), append(cases, b)
		want = append(want, buildCase(t, c).run(t, nil))
		arena, _, _ := m.Bytes()
		largest, sum = max(largest, arena), sum+arena
	}
	if got := 4 * len(shared.values); got != largest || sum <= largest {
		t.Errorf("the arena has %d bytes, want the greediest machine's %d of %d in all", got, largest, sum)
	}
	for round := range 2 {
		for k := range ours {
			i := (k*7 + round) % len(ours) // 7 does not divide the number of cases
			for j := range shared.values {
				shared.values[j] = 1e30
			}
			if err := ours[i].RunAll(); err != nil {
				t.Fatal(err)
			}
			for j, o := range cases[i].outputs() {
				if got := ours[i].Output(o); !reflect.DeepEqual(append([]float32(nil), got...), want[i][j]) {
					t.Errorf("%v in a shared arena: %v, want %v", o, got, want[i][j])
				}
			}
		}
	}
}

// TestArenaGrows holds that machines let go of an arena's memory when another
// one makes it larger, and find their way into the new one.
func TestArenaGrows(t *testing.T) {
	shared := new(Arena)
	build := func(n int) (*Machine, *gorgonia.Node) {
		g := gorgonia.NewGraph()
		x, data := leafNode(g, "x", 1, n)
		normals("x", data)
		y := SiLU(SiLU(x))
		m, err := NewMachineIn(shared, g, nil, y)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
		return m, y
	}
	small, y := build(16)
	want := append([]float32(nil), small.Output(y)...)
	old := weak.Make(&shared.values[0])
	large, _ := build(4096)
	runtime.GC()
	if old.Value() != nil {
		t.Error("the arena's earlier memory is still held")
	}
	if err := small.RunAll(); err != nil {
		t.Fatal(err)
	}
	if got := small.Output(y); !reflect.DeepEqual(append([]float32(nil), got...), want) || &got[0] != &shared.values[0] {
		t.Errorf("after the arena grew: %v at %p, want %v at %p", got, &got[0], want, &shared.values[0])
	}
	runtime.KeepAlive(large)
}
