// Package ops holds our Gorgonia ops and the machine that runs them. Every op
// is a gorgonia.Op with a symbolic gradient (gorgonia.SDOp), so gorgonia.Grad
// trains what is built from them, and every op computes on plain float32
// slices through package kernels, so that Machine can plan its memory. Layouts
// are [N,C,H,W] for pictures and [N,T,C] for tokens, row-major.
//
// Graph-building functions panic with a *BuildError on shapes that do not fit;
// Build turns that panic into an error at the border.
package ops

import (
	"fmt"
	"hash"
	"hash/fnv"
	"reflect"
	"unsafe"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"scalecrafter/model/kernels"
)

// Env is what a kernel may use while it runs.
type Env struct {
	Pool    *kernels.Pool
	Scratch []float32 // at least as long as the kernel asked for
	Packed  []float32 // the weight as a packer's packing lays it out; nil: as it is
}

// kernel is what one op computes. Implementations are small value structs whose
// exported and unexported fields are all plain data: the op's hash prints every
// one of them, so two ops are merged by Gorgonia only if they compute the same.
type kernel interface {
	// inputs is the number of operands.
	inputs() int
	// shape is the shape of the result; empty means a scalar.
	shape() []int
	// run computes dst from src. dst holds rubbish on entry.
	run(e *Env, dst []float32, src [][]float32)
	// scratch is the number of floats that run wants in Env.Scratch.
	scratch(threads int) int
	// grad builds the gradients towards the inputs, nil where there is none.
	grad(in gorgonia.Nodes, out, dout *gorgonia.Node) gorgonia.Nodes
}

// inPlacer is a kernel that may write its result over one of its operands.
type inPlacer interface {
	inPlace() []int // operand indexes, preferred first
}

// aliaser is a kernel whose result is a window into its only operand.
type aliaser interface {
	window() (offset int) // in floats
}

// Op makes a kernel a gorgonia.Op.
type Op struct {
	k    kernel
	diff []bool
	salt int // tells ops apart whose nodes would otherwise have one hash
}

// BuildError says which op could not be built and why.
type BuildError struct {
	Op  string
	Msg string
}

func (e *BuildError) Error() string { return e.Op + ": " + e.Msg }

func fail(op, format string, args ...any) {
	panic(&BuildError{op, fmt.Sprintf(format, args...)})
}

// Build runs f, which builds a graph, and returns the error of the first op
// that did not fit, with the layer path that was being built.
func Build(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if b, ok := r.(*BuildError); ok {
				err = b
				return
			}
			panic(r)
		}
	}()
	f()
	return nil
}

// apply adds the op to its operands' graph. wrt lists the operands that have a
// gradient; none means the op is not differentiable.
func apply(k kernel, wrt []int, in ...*gorgonia.Node) *gorgonia.Node {
	o := Op{k: k, diff: make([]bool, k.inputs())}
	for _, i := range wrt {
		o.diff[i] = true
	}
	for {
		n, err := gorgonia.ApplyOp(o, in...)
		if err != nil {
			fail(o.String(), "%v", err)
		}
		if operands(n, in) {
			return n
		}
		// Gorgonia takes nodes of one op, shape and 32-bit hash for the same,
		// whatever their operands: here is another node's result.
		o.salt++
	}
}

// operands reports whether in are the node's operands.
func operands(n *gorgonia.Node, in []*gorgonia.Node) bool {
	it := n.Graph().From(n.ID())
	for _, want := range in {
		if it == nil || !it.Next() || it.Node() != want {
			return false
		}
	}
	return true
}

func (o Op) Arity() int { return o.k.inputs() }

// Type takes operands of any type: the constructors have checked shapes, which
// say more than Gorgonia's types. (Gorgonia calls the result 'b', so the
// operands' type variables must not.)
func (o Op) Type() hm.Type {
	ts := make([]hm.Type, 0, o.k.inputs()+1)
	for i := 0; i < o.k.inputs(); i++ {
		ts = append(ts, hm.TypeVariable(rune('p'+i)))
	}
	if s := o.k.shape(); len(s) == 0 {
		ts = append(ts, tensor.Float32)
	} else {
		ts = append(ts, gorgonia.TensorType{Dims: len(s), Of: tensor.Float32})
	}
	return hm.NewFnType(ts...)
}

func (o Op) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	return tensor.Shape(append([]int(nil), o.k.shape()...)), nil
}

// Do runs the op alone, as Gorgonia's own machines do: it allocates its result.
func (o Op) Do(vals ...gorgonia.Value) (gorgonia.Value, error) {
	src := make([][]float32, len(vals))
	for i, v := range vals {
		s, err := floats(v)
		if err != nil {
			return nil, fmt.Errorf("%s: operand %d: %w", o, i, err)
		}
		src[i] = s
	}
	dst := make([]float32, size(o.k.shape()))
	if a, ok := o.k.(aliaser); ok {
		copy(dst, src[0][a.window():])
	} else {
		o.k.run(&Env{Scratch: make([]float32, o.k.scratch(1))}, dst, src)
	}
	if len(o.k.shape()) == 0 {
		return gorgonia.NewF32(dst[0]), nil
	}
	return tensor.New(tensor.WithShape(o.k.shape()...), tensor.WithBacking(dst)), nil
}

// floats is the plain slice behind a Gorgonia value, shared with it.
func floats(v gorgonia.Value) ([]float32, error) {
	switch d := v.(type) {
	case nil:
		return nil, fmt.Errorf("no value bound")
	case *gorgonia.F32:
		return unsafe.Slice((*float32)(d), 1), nil
	case *tensor.Dense:
		if d.Dtype() != tensor.Float32 {
			return nil, fmt.Errorf("value of type %v, want float32", d.Dtype())
		}
		if d.RequiresIterator() || d.DataOrder().IsColMajor() {
			return nil, fmt.Errorf("value of shape %v is a view with strides %v, want row-major memory: clone it", d.Shape(), d.Strides())
		}
		return d.Float32s(), nil
	}
	return nil, fmt.Errorf("value of type %T, want a float32 tensor or scalar", v)
}

func (o Op) ReturnsPtr() bool     { return true }
func (o Op) CallsExtern() bool    { return false }
func (o Op) OverwritesInput() int { return -1 }

// WriteHash prints every field of the kernel (stock Gorgonia leaves fields out
// and then merges ops that differ).
func (o Op) WriteHash(h hash.Hash) { fmt.Fprintf(h, "%T%+v%v%d", o.k, o.k, o.diff, o.salt) }

func (o Op) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

// String is the op's name and its settings, such as conv2D{...}.
func (o Op) String() string {
	return fmt.Sprintf("%s%+v", reflect.TypeOf(o.k).Name(), o.k)
}

// Name is the op's kind alone, for traces.
func (o Op) Name() string { return reflect.TypeOf(o.k).Name() }

func (o Op) DiffWRT(n int) []bool { return append([]bool(nil), o.diff...) }

func (o Op) SymDiff(in gorgonia.Nodes, out, dout *gorgonia.Node) (gorgonia.Nodes, error) {
	var grads gorgonia.Nodes
	err := Build(func() { grads = o.k.grad(in, out, dout) })
	return grads, err
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// dims returns the node's shape, having checked its rank.
func dims(op string, n *gorgonia.Node, what string, rank int) []int {
	s := n.Shape()
	if len(s) != rank {
		fail(op, "%s has shape %v, want %d axes", what, s, rank)
	}
	return s
}

func same(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// noGrad is for kernels that are themselves gradients: second derivatives are
// not offered.
type noGrad struct{}

func (noGrad) grad(in gorgonia.Nodes, _, _ *gorgonia.Node) gorgonia.Nodes {
	return make(gorgonia.Nodes, len(in))
}

// noScratch is for kernels that need none.
type noScratch struct{}

func (noScratch) scratch(int) int { return 0 }
