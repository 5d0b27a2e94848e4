// Package params holds networks' weights under diffusers' names and gives graph
// builders their leaves: graphs of one network share its weights.
package params

import (
	"context"
	"fmt"
	"sort"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"scalecrafter/model/weights"
)

// Set is a network's weights by diffusers' names. Graphs share them: each
// graph has leaves that point at the same memory.
type Set struct {
	byName map[string]*weights.Tensor
}

// New makes an empty set, for training from scratch.
func New() *Set {
	return &Set{byName: map[string]*weights.Tensor{}}
}

// Add puts a tensor in; its data is shared, not copied.
func (p *Set) Add(name string, shape []int, data []float32) {
	p.byName[name] = &weights.Tensor{Name: name, DType: "F32", Shape: append([]int(nil), shape...), Data: data}
}

// Names lists the tensors in alphabetical order.
func (p *Set) Names() []string {
	names := make([]string, 0, len(p.byName))
	for n := range p.byName {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Tensor is the tensor of that name, nil if there is none.
func (p *Set) Tensor(name string) *weights.Tensor { return p.byName[name] }

// Count is the number of weights.
func (p *Set) Count() int {
	n := 0
	for _, t := range p.byName {
		n += len(t.Data)
	}
	return n
}

// Source gives a graph builder its weights: from a file, or fresh.
type Source interface {
	// Leaf is the graph's node for the named weight. Where there is none of that
	// shape it panics; Catch turns that into an error.
	Leaf(g *gorgonia.ExprGraph, name string, shape ...int) *gorgonia.Node
}

// weightError says which weight is missing or misshapen, or why none is read.
type weightError struct{ err error }

// Catch runs f, which builds a graph, and returns the error of the first weight
// that is missing or misshapen, or no longer to be read.
func Catch(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if w, ok := r.(weightError); ok {
				err = w.err
				return
			}
			panic(r)
		}
	}()
	return f()
}

// File reads weights from a safetensors file as the builder asks for
// them, checking shape and finiteness of each.
type File struct {
	Set
	file *weights.File
	ctx  context.Context // nil: reading never ends
}

// NewFile wraps an open file.
func NewFile(f *weights.File) *File {
	return &File{Set: *New(), file: f}
}

// Until makes Leaf panic, and Catch return the context's error, once the context
// is done: what is to be read is then read up to the end of a tensor.
func (p *File) Until(ctx context.Context) *File {
	p.ctx = ctx
	return p
}

func (p *File) Leaf(g *gorgonia.ExprGraph, name string, shape ...int) *gorgonia.Node {
	t := p.byName[name]
	if t == nil {
		if p.ctx != nil && p.ctx.Err() != nil {
			panic(weightError{p.ctx.Err()})
		}
		var err error
		if t, err = p.file.Expect(name, shape...); err != nil {
			panic(weightError{err})
		}
		p.byName[name] = t
	}
	return leafOf(g, t, shape)
}

func (p *Set) Leaf(g *gorgonia.ExprGraph, name string, shape ...int) *gorgonia.Node {
	t := p.byName[name]
	if t == nil {
		panic(weightError{fmt.Errorf("weight %q %v does not exist", name, shape)})
	}
	return leafOf(g, t, shape)
}

func leafOf(g *gorgonia.ExprGraph, t *weights.Tensor, shape []int) *gorgonia.Node {
	if n := Elements(shape); n != len(t.Data) || !equalShape(shape, t.Shape) {
		panic(weightError{fmt.Errorf("weight %q has shape %v, want %v", t.Name, t.Shape, shape)})
	}
	v := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(t.Data))
	return gorgonia.NewTensor(g, gorgonia.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(t.Name), gorgonia.WithValue(v))
}

// Elements is how many numbers a tensor of that shape has.
func Elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func equalShape(a, b []int) bool {
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

// Input makes a leaf for data that changes from run to run.
func Input(g *gorgonia.ExprGraph, name string, shape ...int) (*gorgonia.Node, []float32) {
	data := make([]float32, Elements(shape))
	v := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
	return gorgonia.NewTensor(g, gorgonia.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name), gorgonia.WithValue(v)), data
}
