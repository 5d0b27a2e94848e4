package ops

import (
	"context"
	"fmt"
	"sort"
	"time"
	"weak"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"scalecrafter/model/kernels"
)

// Machine runs the part of a Gorgonia graph that its outputs need. Where
// Gorgonia's TapeMachine allocates every value anew, a Machine plans all
// intermediate values into one arena by their lifetimes when it is made, and
// running allocates nothing but what the kernels' parallel loops take. Leaves (inputs, weights) are read
// where their values lie and never copied. It is a gorgonia.VM. A Machine is
// used by one goroutine at a time; several may share the leaves.
type Machine struct {
	arena         *Arena
	bound         bool // vals point into the arena
	size, scratch int  // of the arena that it needs, in floats
	env           Env  // of every op
	prog          []instr
	leaves        []leaf
	where         map[*gorgonia.Node]int // node -> index into vals
	vals          [][]float32
	trace         []time.Duration
	nolive        int
}

type instr struct {
	node *gorgonia.Node
	k    kernel
	src  []int
	dst  int
	at   int         // where the result lies in the arena; -1 for windows
	in   [][]float32 // reused operand list
}

type leaf struct {
	node *gorgonia.Node
	val  int
	size int // in floats
}

var _ gorgonia.VM = (*Machine)(nil)

// Arena is the memory of machines that never run at the same time: as much as
// the greediest of them needs. The zero value is empty.
type Arena struct {
	values, scratch []float32
	machines        []weak.Pointer[Machine]
}

// join makes room for a machine. Where the arena grows, what was in it is lost,
// and the other machines let go of it, so that it can be collected.
func (a *Arena) join(m *Machine) {
	grows := m.size > len(a.values) || m.scratch > len(a.scratch)
	live := a.machines[:0]
	for _, p := range a.machines {
		other := p.Value()
		if other == nil {
			continue
		}
		live = append(live, p)
		if grows {
			other.unbind()
		}
	}
	a.machines = append(live, weak.Make(m))
	if m.size > len(a.values) {
		a.values = nil // before the new one, so that it can be collected
		a.values = make([]float32, m.size)
	}
	if m.scratch > len(a.scratch) {
		a.scratch = make([]float32, m.scratch)
	}
}

// NewMachine compiles what the outputs need. pool may be nil: one thread.
func NewMachine(g *gorgonia.ExprGraph, pool *kernels.Pool, outputs ...*gorgonia.Node) (*Machine, error) {
	return NewMachineIn(new(Arena), g, pool, outputs...)
}

// NewMachineIn is NewMachine in an arena that other machines use too: making or
// running any of them takes the others' outputs away.
func NewMachineIn(a *Arena, g *gorgonia.ExprGraph, pool *kernels.Pool, outputs ...*gorgonia.Node) (*Machine, error) {
	sorted, err := gorgonia.Sort(g)
	if err != nil {
		return nil, fmt.Errorf("sorting the graph: %w", err)
	}
	needed := map[*gorgonia.Node]bool{}
	for _, o := range outputs {
		if o == nil || o.Graph() != g {
			return nil, fmt.Errorf("an output is not a node of the graph")
		}
		needed[o] = true
	}
	kids := map[*gorgonia.Node][]*gorgonia.Node{}
	order := make([]*gorgonia.Node, 0, len(sorted)) // operands first
	for _, n := range sorted {                      // consumers first
		if !needed[n] {
			continue
		}
		it := g.From(n.ID())
		for it != nil && it.Next() {
			c := it.Node().(*gorgonia.Node)
			kids[n] = append(kids[n], c)
			needed[c] = true
		}
		order = append(order, n)
	}
	// Nodes are numbered as they are made, operands before consumers. That order
	// is a topological one too, and it keeps a gradient next to where its
	// operands are last used, which Sort's order does not.
	sort.Slice(order, func(i, j int) bool { return order[i].ID() < order[j].ID() })

	m := &Machine{arena: a, where: map[*gorgonia.Node]int{}}
	p := newPlanner()
	threads := 1
	if pool != nil {
		threads = pool.Threads()
	}
	for _, n := range order {
		v := len(m.vals)
		m.vals = append(m.vals, nil)
		m.where[n] = v
		if n.Op() == nil || len(kids[n]) == 0 {
			m.leaves = append(m.leaves, leaf{n, v, size(n.Shape())})
			p.leaf(v)
			continue
		}
		k, err := kernelOf(n)
		if err != nil {
			return nil, err
		}
		in := instr{node: n, k: k, dst: v, in: make([][]float32, len(kids[n]))}
		for _, c := range kids[n] {
			at, ok := m.where[c]
			if !ok {
				return nil, fmt.Errorf("node %v comes before its operand %v", n, c)
			}
			in.src = append(in.src, at)
		}
		if a, ok := k.(aliaser); ok {
			p.alias(v, in.src[0], a.window())
		} else {
			p.fresh(v, size(k.shape()))
		}
		m.scratch = max(m.scratch, k.scratch(threads))
		m.prog = append(m.prog, in)
	}
	for i, in := range m.prog {
		for _, s := range in.src {
			p.use(s, i)
		}
		p.use(in.dst, i)
	}
	for _, o := range outputs {
		p.use(m.where[o], len(m.prog))
	}
	m.size = p.layOut(m.prog)
	m.nolive = p.sum
	m.env.Pool = pool
	for i := range m.prog {
		in := &m.prog[i]
		in.at = -1
		if _, isAlias := in.k.(aliaser); isAlias {
			continue
		}
		if off, ok := p.place(in.dst); ok {
			in.at = off
		}
	}
	a.join(m)
	m.bind()
	return m, nil
}

// bind points the values into the arena.
func (m *Machine) bind() {
	if m.bound {
		return
	}
	m.bound = true
	m.env.Scratch = m.arena.scratch
	for _, in := range m.prog {
		if in.at >= 0 {
			n := size(in.k.shape())
			m.vals[in.dst] = m.arena.values[in.at : in.at+n : in.at+n]
		}
	}
}

// kernelOf is the kernel of one of our ops, or of the stock ops that
// gorgonia.Grad inserts (sums of gradients).
func kernelOf(n *gorgonia.Node) (kernel, error) {
	switch op := n.Op().(type) {
	case Op:
		return op.k, nil
	case gorgonia.BinaryOp:
		if op.String() == "+ false" {
			return add{Out: n.Shape()}, nil
		}
	}
	return nil, fmt.Errorf("op %v of node %v is not one that this machine runs", n.Op(), n)
}

// unbind lets go of the arena's memory until the next run.
func (m *Machine) unbind() {
	m.bound = false
	m.env.Scratch = nil
	clear(m.vals)
	for _, in := range m.prog {
		clear(in.in)
	}
}

// RunAll computes the outputs (gorgonia.VM).
func (m *Machine) RunAll() error { return m.Run(context.Background()) }

// Run computes the outputs, and stops between ops with the context's error.
func (m *Machine) Run(ctx context.Context) error {
	m.bind()
	for _, l := range m.leaves {
		v := l.node.Value()
		if v == nil {
			return fmt.Errorf("input %q has no value: bind one with gorgonia.Let", l.node.Name())
		}
		f, err := floats(v)
		if err != nil {
			return fmt.Errorf("input %q: %w", l.node.Name(), err)
		}
		if len(f) != l.size {
			return fmt.Errorf("input %q: value of shape %v has %d elements, the graph's node %v has %d", l.node.Name(), v.Shape(), len(f), l.node.Shape(), l.size)
		}
		m.vals[l.val] = f
	}
	for i := range m.prog {
		in := &m.prog[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		if a, ok := in.k.(aliaser); ok {
			off := a.window()
			m.vals[in.dst] = m.vals[in.src[0]][off : off+size(in.k.shape())]
			continue
		}
		for j, s := range in.src {
			in.in[j] = m.vals[s]
		}
		if m.trace != nil {
			start := time.Now()
			in.k.run(&m.env, m.vals[in.dst], in.in)
			m.trace[i] += time.Since(start)
			continue
		}
		in.k.run(&m.env, m.vals[in.dst], in.in)
	}
	return nil
}

// Reset is part of gorgonia.VM; a Machine needs none.
func (m *Machine) Reset() {}

// Close drops the machine's memory (gorgonia.VM).
func (m *Machine) Close() error {
	m.arena, m.prog, m.vals, m.env = nil, nil, nil, Env{}
	return nil
}

// Output is the value of one of the outputs that the machine was made for. It
// lies in the machine's arena and is overwritten by the next run in it.
func (m *Machine) Output(n *gorgonia.Node) []float32 { return m.vals[m.where[n]] }

// Value is Output as a Gorgonia value, copied.
func (m *Machine) Value(n *gorgonia.Node) gorgonia.Value {
	v := append([]float32(nil), m.Output(n)...)
	if len(n.Shape()) == 0 {
		return gorgonia.NewF32(v[0])
	}
	return tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(v))
}

// Bytes is what the machine needs: the arena for all intermediate values and
// the scratch of its greediest op. Unplanned is what the intermediate values
// would take without sharing.
func (m *Machine) Bytes() (arena, scratch, unplanned int) {
	return 4 * m.size, 4 * m.scratch, 4 * m.nolive
}

// Trace starts to add up the time spent in every op.
func (m *Machine) Trace() { m.trace = make([]time.Duration, len(m.prog)) }

// OpTime is the time spent in one kind of op since Trace.
type OpTime struct {
	Name  string
	Calls int
	Time  time.Duration
}

// Times sums the trace by op and shape, slowest first.
func (m *Machine) Times() []OpTime {
	at := map[string]int{}
	var out []OpTime
	for i, in := range m.prog {
		if m.trace == nil || m.trace[i] == 0 {
			continue
		}
		name := fmt.Sprintf("%s %v", Op{k: in.k}.Name(), in.k.shape())
		j, ok := at[name]
		if !ok {
			j = len(out)
			at[name] = j
			out = append(out, OpTime{Name: name})
		}
		out[j].Calls++
		out[j].Time += m.trace[i]
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Time > out[j].Time })
	return out
}
