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
// running allocates nothing. What follows a
// convolution or a linear layer and only adds to its result is done by the
// layer itself (fuse). Leaves (inputs, weights) are read where their values
// lie and never copied. It is a gorgonia.VM. A Machine is used by one goroutine
// at a time; several may share the leaves.
type Machine struct {
	arena         *Arena
	planOnly      bool
	math          kernels.Math
	bound         bool // vals point into the arena
	size, scratch int  // of the arena that it needs, in floats
	env           Env  // of every op
	prog          []instr
	folded        []folded
	constants     *Constants
	weights       *WeightCache
	leaves        []leaf
	where         map[*gorgonia.Node]int // node -> index into vals
	vals          [][]float32
	afterLeaf     func([]float32)
	trace         []time.Duration
	tracer        *Tracer
	thread        int // the tracer's name of this machine's goroutine
	nolive        int
}

type instr struct {
	node *gorgonia.Node
	k    kernel
	src  []int
	dst  int
	size int         // of the result, in floats
	from int         // where a window begins in its operand; -1 for other ops
	at   int         // where the result lies in the arena; -1 for windows
	in   [][]float32 // reused operand list
	last []int       // leaves (values) that nobody reads after this

	packing kernels.Packing // of the weight, if it may be packed
	packed  *packed
	refused refusal

	traced *tracedOp
}

type leaf struct {
	node    *gorgonia.Node
	val     int
	size    int // in floats
	kind    leafKind
	version uint64 // of a kept leaf's content
}

type leafKind int

const (
	weightLeaf leafKind = iota // never changes
	inputLeaf                  // changes from run to run
	keptLeaf                   // changes with its version
)

var _ gorgonia.VM = (*Machine)(nil)

// Options say how a machine runs its graph. The zero value is a machine with
// an arena of its own and one thread that takes every leaf for an input.
type Options struct {
	Pool  *kernels.Pool // nil: one thread
	Arena *Arena        // nil: one of its own; see NewMachineIn

	// Constants, if not nil, holds what depends on weights and kept leaves
	// alone, so that it is computed once and not in every run. Weights, if not
	// nil, holds packed weights. With either of them, all leaves but Inputs and
	// Kept are weights, whose numbers must never change: a machine that trains
	// its leaves has neither.
	Constants *Constants
	Weights   *WeightCache
	Inputs    []*gorgonia.Node // change from run to run
	Kept      []*gorgonia.Node // change only with their version (SetVersion)

	// Math is the arithmetic of convolutions, linear layers and attention.
	Math kernels.Math

	// PlanOnly makes a machine that takes no memory and cannot run, for its
	// Bytes.
	PlanOnly bool
}

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
	a.grow(m.size, m.scratch)
}

func (a *Arena) grow(size, scratch int) {
	if size > len(a.values) {
		a.values = nil // before the new one, so that it can be collected
		a.values = make([]float32, size)
	}
	if scratch > len(a.scratch) {
		a.scratch = nil
		a.scratch = make([]float32, scratch)
	}
}

// Reserve makes room for machines of that many bytes (Machine.Bytes), if the
// arena has no machine yet.
func (a *Arena) Reserve(arena, scratch int) {
	if len(a.machines) == 0 {
		a.grow(arena/4, scratch/4)
	}
}

// NewMachine compiles what the outputs need. pool may be nil: one thread.
func NewMachine(g *gorgonia.ExprGraph, pool *kernels.Pool, outputs ...*gorgonia.Node) (*Machine, error) {
	return NewMachineWith(g, Options{Pool: pool}, outputs...)
}

// NewMachineIn is NewMachine in an arena that other machines use too: making or
// running any of them takes the others' outputs away.
func NewMachineIn(a *Arena, g *gorgonia.ExprGraph, pool *kernels.Pool, outputs ...*gorgonia.Node) (*Machine, error) {
	return NewMachineWith(g, Options{Arena: a, Pool: pool}, outputs...)
}

// NewMachineWith compiles what the outputs need.
func NewMachineWith(g *gorgonia.ExprGraph, o Options, outputs ...*gorgonia.Node) (*Machine, error) {
	order, kids, err := operandsFirst(g, outputs)
	if err != nil {
		return nil, err
	}
	m := &Machine{arena: o.Arena, planOnly: o.PlanOnly, math: o.Math, constants: o.Constants, weights: o.Weights, where: map[*gorgonia.Node]int{}}
	if m.arena == nil {
		m.arena = new(Arena)
	}
	m.env.Pool = o.Pool.View()
	kinds := map[*gorgonia.Node]leafKind{}
	for _, n := range o.Inputs {
		kinds[n] = inputLeaf
	}
	for _, n := range o.Kept {
		kinds[n] = keptLeaf
	}
	steps, err := m.steps(order, kids, outputs, kinds)
	if err != nil {
		return nil, err
	}
	p := newPlanner()
	threads := m.env.Pool.Threads()
	for i := range steps {
		s := &steps[i]
		v := len(m.vals)
		m.vals = append(m.vals, nil)
		m.where[s.node] = v
		if s.k == nil {
			l := leaf{node: s.node, val: v, size: size(s.node.Shape()), kind: inputLeaf}
			if m.constants != nil || m.weights != nil {
				l.kind = kinds[s.node]
			}
			m.leaves = append(m.leaves, l)
			p.leaf(v)
			continue
		}
		in := instr{node: s.node, k: s.k, dst: v, size: size(s.k.shape()), from: -1, at: -1, in: make([][]float32, len(s.in))}
		for _, c := range s.in {
			at, ok := m.where[c]
			if !ok {
				return nil, fmt.Errorf("node %v comes before its operand %v", s.node, c)
			}
			in.src = append(in.src, at)
		}
		m.scratch = max(m.scratch, s.k.scratch(threads))
		a, isAlias := s.k.(aliaser)
		if isAlias {
			in.from = a.window()
		}
		if s.folded {
			p.leaf(v)
			m.folded = append(m.folded, folded{instr: in})
			continue
		}
		if isAlias {
			p.alias(v, in.src[0], in.from)
		} else {
			p.fresh(v, in.size)
		}
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
	for i := range m.prog {
		in := &m.prog[i]
		if in.from >= 0 {
			continue
		}
		if off, ok := p.place(in.dst); ok {
			in.at = off
		}
	}
	m.describeFolded()
	m.lastReads()
	m.findPackings()
	if !m.planOnly {
		m.arena.join(m)
		m.bind()
	}
	return m, nil
}

// operandsFirst lists the nodes that the outputs need, operands before their
// consumers, and the operands of each.
func operandsFirst(g *gorgonia.ExprGraph, outputs []*gorgonia.Node) ([]*gorgonia.Node, map[*gorgonia.Node][]*gorgonia.Node, error) {
	sorted, err := gorgonia.Sort(g)
	if err != nil {
		return nil, nil, fmt.Errorf("sorting the graph: %w", err)
	}
	needed := map[*gorgonia.Node]bool{}
	for _, o := range outputs {
		if o == nil || o.Graph() != g {
			return nil, nil, fmt.Errorf("an output is not a node of the graph")
		}
		needed[o] = true
	}
	kids := map[*gorgonia.Node][]*gorgonia.Node{}
	order := make([]*gorgonia.Node, 0, len(sorted))
	for _, n := range sorted { // consumers first
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
	return order, kids, nil
}

// lastReads notes with every op the leaves that nobody reads after it.
func (m *Machine) lastReads() {
	isLeaf := map[int]bool{}
	for _, l := range m.leaves {
		isLeaf[l.val] = l.kind != inputLeaf || m.constants == nil && m.weights == nil
	}
	last := map[int]*instr{}
	base := map[int]int{} // window into a leaf -> leaf
	note := func(in *instr) {
		for _, s := range in.src {
			if b, ok := base[s]; ok {
				s = b
			}
			if !isLeaf[s] {
				continue
			}
			if in.from >= 0 {
				base[in.dst] = s
			}
			last[s] = in
		}
	}
	for i := range m.folded {
		note(&m.folded[i].instr)
	}
	for i := range m.prog {
		note(&m.prog[i])
	}
	for _, l := range m.leaves {
		if in := last[l.val]; in != nil {
			in.last = append(in.last, l.val)
		}
	}
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
			m.vals[in.dst] = m.arena.values[in.at : in.at+in.size : in.at+in.size]
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
	for i := range m.prog {
		clear(m.prog[i].in)
	}
}

// RunAll computes the outputs (gorgonia.VM).
func (m *Machine) RunAll() error { return m.Run(context.Background()) }

// Run computes the outputs. Once the context is done it stops, between ops or
// between the pieces that an op's kernel hands out to the threads, and returns
// the context's error; the outputs are void then.
func (m *Machine) Run(ctx context.Context) (err error) {
	if m.planOnly {
		return fmt.Errorf("the machine was made for its plan only")
	}
	m.bind()
	m.env.Pool.StopOn(ctx.Done())
	defer m.finish(ctx, &err)
	for i := range m.leaves {
		l := &m.leaves[i]
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
	if err := m.fold(ctx); err != nil {
		return err
	}
	for i := range m.prog {
		if err := ctx.Err(); err != nil {
			return err
		}
		in := &m.prog[i]
		if m.trace == nil && m.tracer == nil {
			m.step(in, m.vals[in.dst])
			continue
		}
		start := time.Now()
		m.step(in, m.vals[in.dst])
		if in.from < 0 {
			m.took(i, in, start)
		}
	}
	return nil
}

// step runs one op; dst is nil for a window.
func (m *Machine) step(in *instr, dst []float32) {
	if in.from >= 0 {
		m.vals[in.dst] = m.vals[in.src[0]][in.from : in.from+in.size]
	} else {
		for j, s := range in.src {
			in.in[j] = m.vals[s]
		}
		m.env.Packed = nil
		if in.packing != (kernels.Packing{}) {
			m.env.Packed = m.packedWeight(in)
		}
		in.k.run(&m.env, dst, in.in)
	}
	if m.afterLeaf != nil {
		for _, l := range in.last {
			m.afterLeaf(m.vals[l])
		}
	}
}

// finish ends a run. A kernel that was stopped in the middle arrives here as a
// panic.
func (m *Machine) finish(ctx context.Context, err *error) {
	m.env.Pool.StopOn(nil)
	for i := range m.folded {
		m.vals[m.folded[i].dst] = nil // its owner may drop it between runs
	}
	r := recover()
	if r == nil {
		return
	}
	if _, ok := r.(kernels.Stopped); ok && ctx.Err() != nil {
		*err = ctx.Err()
		return
	}
	panic(r)
}

// AfterLeaf has f called in each run after the last op that reads a weight,
// with the weight's floats: memory that is mapped from a file can be given back
// there. Where the machine was told its inputs, they are left out; weights that
// only constants need are named in the runs that compute them. nil: no calls.
func (m *Machine) AfterLeaf(f func(leaf []float32)) { m.afterLeaf = f }

// SetVersion says which content a kept leaf has from the next run on. Equal
// versions mean equal numbers, in all machines that share Constants; 0 is none.
func (m *Machine) SetVersion(n *gorgonia.Node, version uint64) {
	for i := range m.leaves {
		if m.leaves[i].node == n {
			m.leaves[i].version = version
			return
		}
	}
}

// Reset is part of gorgonia.VM; a Machine needs none.
func (m *Machine) Reset() {}

// Close drops the machine's memory (gorgonia.VM).
func (m *Machine) Close() error {
	m.arena, m.prog, m.folded, m.vals, m.env = nil, nil, nil, nil, Env{}
	m.constants, m.weights = nil, nil
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
