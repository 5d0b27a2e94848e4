package ops

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"testing"
	"time"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"scalecrafter/model/kernels"
)

// crossed is a small cross-attention: what depends on text alone is constant.
type crossed struct {
	g              *gorgonia.ExprGraph
	x, text        *gorgonia.Node
	xData, txData  []float32
	keys, out, raw *gorgonia.Node
}

// crossWeights are shared by graphs.
type crossWeights struct{ q, k, v []float32 }

func newCrossWeights(seed string) *crossWeights {
	w := &crossWeights{make([]float32, 64), make([]float32, 8*6), make([]float32, 8*6)}
	normals(seed+"q", w.q)
	normals(seed+"k", w.k)
	normals(seed+"v", w.v)
	return w
}

// crossedOn builds the graph: with scale the logits' factor, which stands for a
// plan.
func crossedOn(t testing.TB, w *crossWeights, n int, scale float32) *crossed {
	t.Helper()
	c := &crossed{g: gorgonia.NewGraph()}
	on := func(name string, data []float32, shape ...int) *gorgonia.Node {
		v := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
		return gorgonia.NewTensor(c.g, gorgonia.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name), gorgonia.WithValue(v))
	}
	c.x, c.xData = leafNode(c.g, "x", n, 5, 8)
	c.text, c.txData = leafNode(c.g, "text", n, 3, 6)
	err := Build(func() {
		c.keys = Linear(c.text, on("to_k.weight", w.k, 8, 6), nil)
		values := Reshape(SiLU(Linear(c.text, on("to_v.weight", w.v, 8, 6), nil)), n, 3, 8)
		q := Linear(c.x, on("to_q.weight", w.q, 8, 8), nil)
		c.out = Add(Attention(q, c.keys, values, 2, scale, false), q)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *crossed) machine(t testing.TB, k *Constants, outs ...*gorgonia.Node) *Machine {
	t.Helper()
	m, err := NewMachineWith(c.g, Options{Constants: k, Inputs: []*gorgonia.Node{c.x}, Kept: []*gorgonia.Node{c.text}}, append(outs, c.out)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// runs computes the output for a text with and without constants, and compares.
func (c *crossed) check(t *testing.T, m *Machine, what string, version uint64) {
	t.Helper()
	m.SetVersion(c.text, version)
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	got := append([]float32(nil), m.Output(c.out)...)
	plain, err := NewMachine(c.g, nil, c.out)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.RunAll(); err != nil {
		t.Fatal(err)
	}
	if want := plain.Output(c.out); !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, without constants %v", what, got, want)
	}
}

// TestConstants holds that constants change no bit, are computed once for each
// text, weight and batch, and are shared by machines where and only where they
// are the same.
func TestConstants(t *testing.T) {
	k := &Constants{Budget: 1 << 20}
	w, others := newCrossWeights("a"), newCrossWeights("b")
	one, two, large, foreign := crossedOn(t, w, 1, 0.3), crossedOn(t, w, 1, 0.7), crossedOn(t, w, 2, 0.3), crossedOn(t, others, 1, 0.3)
	machines := map[*crossed]*Machine{}
	for _, c := range []*crossed{one, two, large, foreign} {
		machines[c] = c.machine(t, k)
		if n := len(machines[c].folded); n != 4 { // keys; values, their SiLU and their window
			t.Fatalf("%d ops are constant, want 4", n)
		}
		if got, want := machines[c].ConstantBytes(), 4*len(c.txData)/18*72; got != want {
			t.Errorf("constants of %d bytes are planned, want %d", got, want)
		}
		normals("text1", c.txData)
		normals("x", c.xData)
	}
	if err := machines[one].RunAll(); err == nil {
		t.Error("a kept leaf without a version is no error")
	}
	each := machines[one].ConstantBytes()
	held := func(want int, what string) {
		t.Helper()
		if k.Bytes() != want*each {
			t.Errorf("%s: %d bytes are held, want %d", what, k.Bytes(), want*each)
		}
	}
	one.check(t, machines[one], "first", 1)
	held(1, "first")
	normals("another x", one.xData)
	one.check(t, machines[one], "another step", 1)
	two.check(t, machines[two], "another plan", 1)
	held(1, "another step and plan")
	// A result that is taken over is not computed: spoil it, and it shows.
	for _, h := range k.made {
		h.data[0]++
	}
	machines[two].SetVersion(two.text, 1)
	if err := machines[two].RunAll(); err != nil {
		t.Fatal(err)
	}
	plain, _ := NewMachine(two.g, nil, two.out)
	if err := plain.RunAll(); err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(machines[two].Output(two.out), plain.Output(two.out)) {
		t.Error("constants are computed anew in a second machine")
	}
	for _, h := range k.made {
		h.data[0]--
	}
	foreign.check(t, machines[foreign], "other weights", 1)
	held(2, "other weights")
	normals("text2", large.txData)
	large.check(t, machines[large], "larger batch", 2)
	held(4, "larger batch")
	// The same batch in another order is another text.
	half := len(large.txData) / 2
	swapped := append(append([]float32(nil), large.txData[half:]...), large.txData[:half]...)
	copy(large.txData, swapped)
	large.check(t, machines[large], "other order", 3)
	normals("text4", one.txData)
	one.check(t, machines[one], "other prompt", 4)
	held(7, "other order and prompt")
	normals("text1", one.txData)
	one.check(t, machines[one], "first prompt again", 1)
	held(7, "first prompt again")
	// New binding, same version: another weight is another constant.
	if err := gorgonia.Let(one.g.ByName("to_k.weight")[0], tensor.New(tensor.WithShape(8, 6), tensor.WithBacking(others.k))); err != nil {
		t.Fatal(err)
	}
	one.check(t, machines[one], "rebound weight", 1)
	k.Forget(1)
	one.check(t, machines[one], "after forgetting", 1)
	two.check(t, machines[two], "after forgetting", 1)
}

// TestConstantsBudget holds that no more is held than allowed, whatever is
// dropped is computed again, and what finds no room at all is computed in every
// run.
func TestConstantsBudget(t *testing.T) {
	w := newCrossWeights("a")
	c := crossedOn(t, w, 1, 0.3)
	need := c.machine(t, &Constants{Budget: 1 << 20}).ConstantBytes()
	for _, budget := range []int{0, need / 3, need - 1, need, 2 * need} {
		k := &Constants{Budget: budget}
		m := c.machine(t, k)
		if m.ConstantBytes() > budget {
			t.Errorf("budget %d: constants of %d bytes are planned", budget, m.ConstantBytes())
		}
		for round := range 12 {
			text := uint64(round%4 + 1)
			normals(string(rune('a'+text)), c.txData)
			c.check(t, m, "round", text)
			if k.Bytes() > budget {
				t.Fatalf("%d bytes are held, %d allowed", k.Bytes(), budget)
			}
		}
	}
}

// TestConstantOutputs holds that an output can be a value that is constant.
func TestConstantOutputs(t *testing.T) {
	c := crossedOn(t, newCrossWeights("a"), 1, 0.3)
	m := c.machine(t, &Constants{Budget: 1 << 20}, c.keys)
	normals("text", c.txData)
	c.check(t, m, "with keys as an output", 1)
	plain, err := NewMachine(c.g, nil, c.keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.RunAll(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m.Output(c.keys), plain.Output(c.keys)) {
		t.Error("a constant output has other numbers")
	}
}

// TestConstantsCancelled holds that a cancelled run leaves no half of a constant
// behind.
func TestConstantsCancelled(t *testing.T) {
	c := crossedOn(t, newCrossWeights("a"), 1, 0.3)
	m := c.machine(t, &Constants{Budget: 1 << 20})
	normals("text", c.txData)
	m.SetVersion(c.text, 1)
	for after := 0; ; after++ {
		err := m.Run(&countdown{context.Background(), after})
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	c.check(t, m, "after cancelled runs", 1)
}

// TestWeightCache holds that packed weights change no bit, are made once for all
// machines, stay within the budget and go with the last machine.
func TestWeightCache(t *testing.T) {
	g, _, outs := fusable(t, 2)
	plain, err := NewMachine(g, nil, outs...)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.RunAll(); err != nil {
		t.Fatal(err)
	}
	inputs := []*gorgonia.Node{g.ByName("x")[0], g.ByName("emb")[0]}
	pool := kernels.NewPool(2)
	defer pool.Close()
	all := 1 << 30
	for _, share := range []float64{1, 0.7, 0} {
		budget := int(share * float64(all))
		c := &WeightCache{Budget: budget}
		var machines []*Machine
		for range 2 {
			m, err := NewMachineWith(g, Options{Pool: pool, Weights: c, Inputs: inputs}, outs...)
			if err != nil {
				t.Fatal(err)
			}
			machines = append(machines, m)
			for range 2 {
				if err := m.RunAll(); err != nil {
					t.Fatal(err)
				}
				for _, o := range outs {
					if !reflect.DeepEqual(m.Output(o), plain.Output(o)) {
						t.Errorf("budget %d: packed weights change the bits of %v", budget, o)
					}
				}
			}
		}
		planned := machines[0].PackedBytes(nil)
		switch {
		case c.Bytes() > budget:
			t.Errorf("%d bytes of packed weights, %d allowed", c.Bytes(), budget)
		case planned == 0:
			t.Error("no weight is packed: the test says nothing")
		case share == 1 && c.Bytes() != planned:
			t.Errorf("%d bytes of packed weights, planned %d", c.Bytes(), planned)
		case share == 0.7 && c.Bytes() == 0:
			t.Errorf("no packed weights of %d within a budget of %d", all, budget)
		}
		if share == 1 {
			all = planned
		}
		runtime.KeepAlive(machines)
		machines = nil
		runtime.GC()
		if c.Bytes() != 0 {
			t.Errorf("%d bytes of packed weights outlive their machines", c.Bytes())
		}
	}
}

// TestAfterLeaf holds that each weight is named once a run, and that nobody reads it
// afterwards.
func TestAfterLeaf(t *testing.T) {
	g, data, outs := fusable(t, 1)
	plain, err := NewMachine(g, nil, outs...)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.RunAll(); err != nil {
		t.Fatal(err)
	}
	inputs := []*gorgonia.Node{g.ByName("x")[0], g.ByName("emb")[0]}
	m, err := NewMachineWith(g, Options{Weights: &WeightCache{}, Inputs: inputs}, outs...)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		named := map[*float32]int{}
		saved := map[*float32][]float32{}
		m.AfterLeaf(func(leaf []float32) {
			named[&leaf[0]]++
			saved[&leaf[0]] = append([]float32(nil), leaf...)
			for i := range leaf { // would show
				leaf[i] = 1e30
			}
		})
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
		for name, d := range data {
			want := 1
			if name == "x" || name == "emb" {
				want = 0
			}
			if named[&d[0]] != want {
				t.Errorf("%s was named %d times, want %d", name, named[&d[0]], want)
			}
			if want == 1 {
				copy(d, saved[&d[0]])
			}
		}
		for _, o := range outs {
			if !reflect.DeepEqual(m.Output(o), plain.Output(o)) {
				t.Errorf("%v: a weight was read after it was named", o)
			}
		}
	}
	// Weights that only constants need are named when those are computed.
	c := crossedOn(t, newCrossWeights("a"), 1, 0.3)
	folding := c.machine(t, &Constants{Budget: 1 << 20})
	folding.SetVersion(c.text, 1)
	for run, want := range []int{4, 1} { // text, to_k, to_v, to_q; to_q
		calls := 0
		folding.AfterLeaf(func([]float32) { calls++ })
		if err := folding.RunAll(); err != nil {
			t.Fatal(err)
		}
		if calls != want {
			t.Errorf("run %d: %d leaves were named, want %d", run, calls, want)
		}
	}
}

// TestPlanWeights holds that the plan follows weights from their first use to
// their last, in a first run that packs them and a second one, and that a
// machine made for its plan, without weights, plans the same.
func TestPlanWeights(t *testing.T) {
	machine := func(budget int, planOnly bool) *Machine {
		g := gorgonia.NewGraph()
		leaf := func(name string, shape ...int) *gorgonia.Node {
			if planOnly {
				return gorgonia.NewTensor(g, gorgonia.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name))
			}
			n, _ := leafNode(g, name, shape...)
			return n
		}
		x := leaf("x", 4, 8)
		w1, w2, w3 := leaf("w1", 16, 8), leaf("w2", 64, 16), leaf("w3", 8, 64)
		y := Linear(Linear(Linear(Linear(x, w1, nil), w2, nil), w3, nil), w1, nil)
		m, err := NewMachineWith(g, Options{Weights: &WeightCache{Budget: budget}, Inputs: []*gorgonia.Node{x}, PlanOnly: planOnly}, y)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	const w1, w2, w3 = 4 * 16 * 8, 4 * 64 * 16, 4 * 8 * 64
	p := func(o, k int) int {
		packing, _ := kernels.Linear{T: 4, O: o, K: k}.Packing()
		return 4 * packing.Floats()
	}
	p1, p2, p3 := p(16, 8), p(64, 16), p(8, 64)
	all := func(*gorgonia.Node) bool { return true }
	for _, tt := range []struct {
		budget, packed, read int
		mapped               func(*gorgonia.Node) bool
	}{
		{0, 0, w1 + w2, all}, // w1 is read again at the end
		{p1, p1, w1 + w2, all},
		{1 << 20, p1 + p2 + p3, w1 + w3, all},
		{1 << 20, p1 + p2 + p3, w1, func(n *gorgonia.Node) bool { return n.Name() == "w1" }},
		{1 << 20, p1 + p2 + p3, 0, func(*gorgonia.Node) bool { return false }},
	} {
		for _, planOnly := range []bool{true, false} {
			m := machine(tt.budget, planOnly)
			packed, read := m.PlanWeights(tt.mapped)
			if packed != tt.packed || read != tt.read {
				t.Errorf("budget %d: %d bytes packed and %d read, want %d and %d", tt.budget, packed, read, tt.packed, tt.read)
			}
			if planOnly {
				continue
			}
			if err := m.RunAll(); err != nil {
				t.Fatal(err)
			}
			if got := m.weights.Bytes(); got != packed {
				t.Errorf("budget %d: %d bytes are packed, %d planned", tt.budget, got, packed)
			}
		}
	}
}

// TestRefusedWeight holds that a weight that the cache has no room for is asked
// for again when, and only when, another has gone or the budget has grown.
func TestRefusedWeight(t *testing.T) {
	machine := func(c *WeightCache) *Machine {
		g := gorgonia.NewGraph()
		x, _ := leafNode(g, "x", 4, 8)
		w, _ := leafNode(g, "w", 64, 8)
		m, err := NewMachineWith(g, Options{Weights: c, Inputs: []*gorgonia.Node{x}}, Linear(x, w, nil))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	run := func(m *Machine) {
		t.Helper()
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
	}
	packed := func(m *Machine) bool { return m.prog[0].packed != nil }
	c := &WeightCache{Budget: 1 << 20}
	c.Budget = machine(c).PackedBytes(nil)
	one, two := machine(c), machine(c)
	run(one)
	run(two)
	if !packed(one) || packed(two) {
		t.Fatalf("with room for one weight packed: %v and %v, want the first machine's alone", packed(one), packed(two))
	}
	// A refusal costs no lock: the run ends while another goroutine has it.
	c.mu.Lock()
	ended := make(chan error, 1)
	go func() { ended <- two.RunAll() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a run with a refused weight waits for the cache")
	}
	c.mu.Unlock()
	runtime.KeepAlive(one)
	one = nil
	for begin := time.Now(); !packed(two) && time.Since(begin) < 10*time.Second; { // cleanups run in a goroutine
		runtime.GC()
		run(two)
	}
	if !packed(two) {
		t.Error("the weight is refused although the other one has gone")
	}
	three := machine(c)
	run(three)
	c.Budget *= 2
	run(three)
	if !packed(two) || !packed(three) {
		t.Error("the weight is refused although the budget has grown")
	}
	runtime.KeepAlive(two)
}

// TestConstantKeys holds that keys do not grow with the number of ops that
// depend on text alone, and tell apart what differs in its operands only.
func TestConstantKeys(t *testing.T) {
	g := gorgonia.NewGraph()
	a, aData := leafNode(g, "a", 2, 3)
	b, bData := leafNode(g, "b", 2, 3)
	x, xData := leafNode(g, "x", 2, 3)
	normals("a", aData)
	normals("b", bData)
	normals("x", xData)
	deep := Add(a, b)
	for range 40 { // the sum is read twice, so that there are 2^40 ways to the leaves
		deep = Add(deep, SiLU(deep))
	}
	outs := []*gorgonia.Node{Add(x, deep)}
	for _, n := range []*gorgonia.Node{Add(a, b), Add(b, a), Add(a, a), Add(b, b), Add(Add(a, b), a), Add(Add(a, b), b), Add(a, Add(a, b)), Add(SiLU(a), b), SiLU(Add(a, b))} {
		outs = append(outs, Add(x, n))
	}
	k := &Constants{Budget: 1 << 20}
	m, err := NewMachineWith(g, Options{Constants: k, Inputs: []*gorgonia.Node{x}}, outs...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	keys := map[digest]bool{}
	for i := range m.folded {
		f := &m.folded[i]
		if len(f.deps) > 2 {
			t.Fatalf("op %d of two leaves has %d dependencies", i, len(f.deps))
		}
		keys[m.keyNow(f)] = true
	}
	if n := len(m.folded); n != 1+80+8 || len(keys) != n { // Add(a, b) is there once
		t.Errorf("%d keys of %d ops", len(keys), n)
	}
	plain, err := NewMachine(g, nil, outs...)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.RunAll(); err != nil {
		t.Fatal(err)
	}
	for i, o := range outs {
		if !reflect.DeepEqual(m.Output(o), plain.Output(o)) {
			t.Errorf("output %d: %v, without constants %v", i, m.Output(o), plain.Output(o))
		}
	}
}
