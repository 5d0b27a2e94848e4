package model

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"weak"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"scalecrafter/ablation"
	"scalecrafter/model/ops"
	"scalecrafter/model/weights"
)

// kernelStore shares dispersed kernels between the graphs of one network: each
// is made once for a layer and a transform, and kept while a graph holds it.
// The network's weights must not change while any of its graphs is used. The
// zero value is empty; it may be used from several goroutines.
type kernelStore struct {
	mu   sync.Mutex
	made map[string]weak.Pointer[weights.Tensor]
}

// get returns the kernel of that name, which make computes where no graph
// holds it any more.
func (s *kernelStore) get(name string, make func() *weights.Tensor) *weights.Tensor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.made[name].Value(); k != nil {
		return k
	}
	if s.made == nil {
		s.made = map[string]weak.Pointer[weights.Tensor]{}
	}
	for other, p := range s.made { // what its last graph left behind
		if p.Value() == nil {
			delete(s.made, other)
		}
	}
	k := make()
	s.made[name] = weak.Make(k)
	return k
}

// dispersedLeaf is the graph's node for a 3x3 weight [out,in,3,3] enlarged by
// the transform: [out,in,Large,Large].
//
// Source: YingqingHe/ScaleCrafter, model.py, inflate_kernels; paper section
// 3.3. The bias stays.
func (b *unetBuilder) dispersedLeaf(name string, t *ablation.Transform, out, in int) *gorgonia.Node {
	if b.transforms[t] == "" {
		checkTransform(t)
		b.transforms[t] = t.Key()
	}
	key := name + "@" + b.transforms[t]
	k := b.store.get(key, func() *weights.Tensor {
		// A graph of its own, so that this one does not carry the small kernel.
		small := b.w.Leaf(gorgonia.NewGraph(), name, out, in, t.Small, t.Small).Value().Data().([]float32)
		large := make([]float32, out*in*t.Large*t.Large)
		t.Apply(large, small, out*in)
		return &weights.Tensor{Name: key, DType: "F32", Shape: []int{out, in, t.Large, t.Large}, Data: large}
	})
	b.kernels = append(b.kernels, k)
	return leafOn(b.g, key, k.Data, k.Shape...)
}

// leafOn is a leaf of the graph on the given memory.
func leafOn(g *gorgonia.ExprGraph, name string, data []float32, shape ...int) *gorgonia.Node {
	v := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
	return gorgonia.NewTensor(g, gorgonia.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name), gorgonia.WithValue(v))
}

// checkTransform panics with a BuildError where a 3x3 layer cannot use it.
func checkTransform(t *ablation.Transform) {
	fail := func(format string, a ...any) {
		panic(&ops.BuildError{Op: "dispersion", Msg: fmt.Sprintf(format, a...)})
	}
	switch {
	case t == nil:
		fail("the plan disperses the layer by no transform")
	case t.Small != 3:
		fail("transform %q enlarges kernels of %dx%d, the layer's is 3x3", t.Name, t.Small, t.Small)
	}
	if err := t.Check(); err != nil {
		fail("%v", err)
	}
}

// freeU is what FreeU makes of a decoder resnet's two inputs, x [N,C,H,W] and
// skip [N,C',H,W]: where x is as wide as the network's widest level, half of
// its channels are scaled by B1 and the skip's lowest frequencies by S1; where
// it is as wide as the next narrower level, by B2 and S2. Other widths pass.
//
// Source: FreeU (arXiv 2309.11497) as in YingqingHe/ScaleCrafter,
// free_lunch_utils.py, register_free_upblock2d, which names SD's widths, 1280
// and 640. (diffusers' own apply_freeu goes by the decoder's stage instead.)
func freeU(x, skip *gorgonia.Node, levels []int, u *ablation.FreeU) (*gorgonia.Node, *gorgonia.Node) {
	for _, v := range []struct {
		name  string
		value float64
	}{{"b1", u.B1}, {"b2", u.B2}, {"s1", u.S1}, {"s2", u.S2}} {
		if math.IsNaN(v.value) || math.IsInf(v.value, 0) {
			panic(&ops.BuildError{Op: "freeu", Msg: fmt.Sprintf("%s is %v, want a finite number", v.name, v.value)})
		}
	}
	widths := slices.Sorted(slices.Values(levels))
	widths = slices.Compact(widths)
	b, s := u.B1, u.S1
	switch ch := x.Shape()[1]; {
	case ch == widths[len(widths)-1]:
	case len(widths) > 1 && ch == widths[len(widths)-2]:
		b, s = u.B2, u.S2
	default:
		return x, skip
	}
	return ops.ScaleChannels(x, x.Shape()[1]/2, float32(b)), ops.FourierFilter(skip, 1, float32(s))
}
