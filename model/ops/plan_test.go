package ops

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"unsafe"

	"gorgonia.org/gorgonia"
	"pgregory.net/rapid"

	"scalecrafter/model/kernels"
)

// program is a random graph on a few small shapes.
type program struct {
	g       *gorgonia.ExprGraph
	leaves  [][]float32
	nodes   []*gorgonia.Node
	outputs []*gorgonia.Node
}

// drawProgram draws a program of ops that fit in place, windows into larger
// buffers, reshapes, ops that need scratch and ops that change the size.
func drawProgram(t *rapid.T) *program {
	p := &program{g: gorgonia.NewGraph()}
	for i := range rapid.IntRange(1, 3).Draw(t, "leaves") {
		n, data := leafNode(p.g, fmt.Sprintf("leaf%d", i), 2, rapid.SampledFrom([]int{1, 2, 4}).Draw(t, "channels"), 2, 2)
		normals(n.Name(), data)
		p.nodes, p.leaves = append(p.nodes, n), append(p.leaves, data)
	}
	pick := func(fits func(n *gorgonia.Node) bool) *gorgonia.Node {
		var fit []*gorgonia.Node
		for _, n := range p.nodes {
			if fits(n) {
				fit = append(fit, n)
			}
		}
		if len(fit) == 0 {
			return nil
		}
		// Recent values more often: that makes long-lived and short-lived ones.
		if len(fit) > 3 && rapid.Bool().Draw(t, "recent") {
			fit = fit[len(fit)-3:]
		}
		return fit[rapid.IntRange(0, len(fit)-1).Draw(t, "operand")]
	}
	any4 := func(n *gorgonia.Node) bool { return len(n.Shape()) == 4 }
	for i := range rapid.IntRange(1, 25).Draw(t, "ops") {
		x := pick(any4)
		s := x.Shape()
		var n *gorgonia.Node
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			n = SiLU(x)
		case 1, 2:
			n = Add(x, pick(func(n *gorgonia.Node) bool { return same(n.Shape(), s) }))
		case 3:
			n = Reshape(x, s[0], s[1], s[3], s[2])
		case 4: // a part of x, from anywhere in it
			if c := s[1]; c > 1 {
				n = window(x, rapid.IntRange(0, 3).Draw(t, "offset")*size(s)/8, []int{s[0], c / 2, s[2], s[3]})
			}
		case 5:
			if y := pick(func(n *gorgonia.Node) bool { return any4(n) && n.Shape()[2] == s[2] && n.Shape()[3] == s[3] }); s[1]+y.Shape()[1] <= 8 {
				n = Concat(x, y)
			}
		case 6:
			if s[2] < 8 {
				n = UpsampleNearest(x, 2*s[2], 2*s[3])
			} else {
				n = AvgPool2(x)
			}
		case 7:
			n = ToChannels(ToTokens(x), s[2], s[3])
		case 8:
			w, data := leafNode(p.g, fmt.Sprintf("w%d", i), s[1], s[1], 3, 3)
			normals(w.Name(), data)
			n = Conv2D(x, w, nil, Same(1, 1, 1))
		case 9:
			q := ToTokens(x)
			n = ToChannels(Attention(q, q, q, 1, 1, false), s[2], s[3])
		}
		if n != nil {
			p.nodes = append(p.nodes, n)
		}
	}
	last := p.nodes[len(p.nodes)-1]
	p.outputs = append(p.outputs, last)
	for range rapid.IntRange(0, 3).Draw(t, "outputs") {
		p.outputs = append(p.outputs, p.nodes[rapid.IntRange(0, len(p.nodes)-1).Draw(t, "output")])
	}
	// Half the programs are losses with gradients, which reach far back.
	if rapid.Bool().Draw(t, "gradients") {
		target, _ := leafNode(p.g, "target", last.Shape()...)
		weight, data := leafNode(p.g, "weight", last.Shape()[0])
		for i := range data {
			data[i] = 1
		}
		loss := WeightedMSE(last, target, weight)
		p.outputs = append(p.outputs, loss)
		for _, n := range p.nodes[:len(p.leaves)] {
			if grads, err := gorgonia.Grad(loss, n); err == nil { // else the loss does not depend on n
				p.outputs = append(p.outputs, grads...)
			}
		}
	}
	return p
}

// unplanned computes a node with Op.Do, each value in its own memory.
func unplanned(t *rapid.T, n *gorgonia.Node, done map[*gorgonia.Node][]float32) []float32 {
	if v, ok := done[n]; ok {
		return v
	}
	var src [][]float32
	it := n.Graph().From(n.ID())
	for it != nil && it.Next() {
		src = append(src, unplanned(t, it.Node().(*gorgonia.Node), done))
	}
	if len(src) == 0 {
		v, err := floats(n.Value())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	k, err := kernelOf(n)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, size(k.shape()))
	if a, ok := k.(aliaser); ok {
		copy(dst, src[0][a.window():])
	} else {
		k.run(&Env{Scratch: make([]float32, k.scratch(1))}, dst, src)
	}
	done[n] = dst
	return dst
}

// TestPlanEqualsUnplanned holds, for random programs, that sharing memory
// changes no bit, that a second run gives the first's bits, and that sharing
// never takes more than separate memory.
func TestPlanEqualsUnplanned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawProgram(t)
		m, err := NewMachine(p.g, nil, p.outputs...)
		if err != nil {
			t.Fatal(err)
		}
		arena, _, separate := m.Bytes()
		if arena > separate {
			t.Errorf("arena of %d bytes, separate values would take %d", arena, separate)
		}
		done := map[*gorgonia.Node][]float32{}
		for run := range 2 {
			for i := range m.arena.values {
				m.arena.values[i] = 1e30 // rubbish that would show
			}
			if err := m.RunAll(); err != nil {
				t.Fatal(err)
			}
			for i, o := range p.outputs {
				if want := unplanned(t, o, done); !reflect.DeepEqual(m.Output(o), want) {
					t.Fatalf("run %d, output %d (%v): %v, unplanned %v", run, i, o, m.Output(o), want)
				}
			}
		}
	})
}

// region is where a slice lies in the arena, in floats; ok is false outside it.
func region(m *Machine, v []float32) (lo, hi int, ok bool) {
	if len(v) == 0 || len(m.arena.values) == 0 {
		return 0, 0, false
	}
	at := (int(uintptr(unsafe.Pointer(&v[0]))) - int(uintptr(unsafe.Pointer(&m.arena.values[0])))) / 4
	return at, at + len(v), at >= 0 && at < len(m.arena.values)
}

// TestPlanKeepsLiveValues checks the plan itself: an op's result overlaps no
// value that is read later, and of its own operands at most the one that it may
// be written over, float for float.
func TestPlanKeepsLiveValues(t *testing.T) {
	inPlace := 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawProgram(t)
		m, err := NewMachine(p.g, nil, p.outputs...)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.RunAll(); err != nil { // places the windows
			t.Fatal(err)
		}
		lastUse := map[int]int{} // value -> last op that reads it
		for i, in := range m.prog {
			for _, s := range in.src {
				lastUse[s] = i
			}
		}
		for _, o := range p.outputs {
			lastUse[m.where[o]] = len(m.prog)
		}
		born := map[int]bool{}
		for i, in := range m.prog {
			if _, ok := in.k.(aliaser); !ok {
				lo, hi, ok := region(m, m.vals[in.dst])
				if !ok || hi > len(m.arena.values) {
					t.Fatalf("op %d (%v) writes outside the arena", i, in.node)
				}
				for v := range born {
					vlo, vhi, ok := region(m, m.vals[v])
					if !ok || vhi <= lo || hi <= vlo || lastUse[v] < i {
						continue
					}
					if lastUse[v] > i {
						t.Fatalf("op %d (%v) writes [%d,%d) over value %d at [%d,%d), which op %d reads", i, in.node, lo, hi, v, vlo, vhi, lastUse[v])
					}
					may := false
					if ip, ok := in.k.(inPlacer); ok {
						for _, j := range ip.inPlace() {
							may = may || in.src[j] == v
						}
					}
					if !may || vlo != lo || vhi != hi {
						t.Fatalf("op %d (%v) writes [%d,%d) over its operand %d at [%d,%d)", i, in.node, lo, hi, v, vlo, vhi)
					}
					inPlace++
				}
			}
			born[in.dst] = true
		}
	})
	if inPlace == 0 {
		t.Error("no program ran an op in place")
	}
}

// TestRunAllocates holds that a run allocates nothing in steady state, with one
// thread and several.
func TestRunAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops what is kept to be used again")
	}
	for _, threads := range []int{0, 1, 3} {
		var pool *kernels.Pool
		if threads > 0 {
			pool = kernels.NewPool(threads)
		}
		c := bigCase(2)
		b := buildCase(t, c)
		m, err := NewMachine(b.g, pool, b.out)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		run := func() {
			if err := m.Run(ctx); err != nil {
				t.Fatal(err)
			}
		}
		run()
		for i := range m.prog {
			in := &m.prog[i]
			if in.from >= 0 {
				continue
			}
			// The average is rounded down: a collection may empty the store of loops.
			if n := testing.AllocsPerRun(50, func() { in.k.run(&m.env, m.vals[in.dst], in.in) }); n > 0 {
				t.Errorf("%d threads: %s allocates %v times, want none", threads, title(in.k), n)
			}
		}
		if n := testing.AllocsPerRun(50, run); n > 0 {
			t.Errorf("%d threads: a run allocates %v times, want none", threads, n)
		}
		cancel()
		pool.Close()
	}
}

// TestFreeList holds the arena's allocator against a plain list of taken spans.
func TestFreeList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f freeList
		var taken []span
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(taken) > 0 && rapid.Bool().Draw(t, "give") {
				i := rapid.IntRange(0, len(taken)-1).Draw(t, "which")
				f.give(taken[i].at, taken[i].n)
				taken = append(taken[:i], taken[i+1:]...)
				continue
			}
			n := blockFloats * rapid.IntRange(1, 5).Draw(t, "blocks")
			s := span{f.take(n), n}
			if s.at < 0 || s.at+n > f.end {
				t.Fatalf("span %v lies outside [0,%d)", s, f.end)
			}
			for _, o := range taken {
				if s.at < o.at+o.n && o.at < s.at+s.n {
					t.Fatalf("span %v overlaps %v", s, o)
				}
			}
			taken = append(taken, s)
		}
		// Nothing is lost: what is free and what is taken make the whole.
		sum := 0
		for _, s := range taken {
			sum += s.n
		}
		for i, s := range f.spans {
			sum += s.n
			if i > 0 && f.spans[i-1].at+f.spans[i-1].n >= s.at {
				t.Fatalf("free spans %v and %v touch or are out of order", f.spans[i-1], s)
			}
		}
		if sum != f.end {
			t.Fatalf("free and taken spans make %d floats, the arena has %d", sum, f.end)
		}
	})
}
