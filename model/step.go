package model

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"

	"scalecrafter/ablation"
	"scalecrafter/model/kernels"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/weights"
)

// Step is one evaluation of a U-Net, compiled for one batch, latent size and
// layer plan, without the text encoder, sampler and autoencoder around it. It
// is used by one goroutine at a time.
type Step struct {
	// Inputs, to be filled before Run (after a change of Text: NewText): latents [N,InChannels,H,W], embedded
	// timesteps [N,BlockOutChannels[0]] (UNetConfig.EmbedTime), text states
	// [N,T,CrossAttentionDim] and, where the config has an
	// addition_embed_type, the added condition [N,ProjectionClassDim].
	Sample, Time, Text, Added []float32

	machine   *ops.Machine
	text, out *gorgonia.Node
	file      *weights.File
	constants ops.Constants
	packed    ops.WeightCache
	texts     uint64 // version of Text
}

// StepShape is what a Step is compiled for.
type StepShape struct {
	N, H, W int // batch and latent size
	Tokens  int // of the text
	Plan    *ablation.LayerPlan
	Math    kernels.Math
	// Packed is how many bytes of weights laid out for the kernels are kept
	// from run to run; the rest is laid out anew in each.
	Packed int
}

// constantBytes is the room for what does not change while the text is the same:
// the keys and values of cross-attention. SDXL's take 90 MB at batch 2.
const constantBytes = 256 << 20

// NewStep compiles a step with the weights of a file. Where the file is mapped
// (weights.Map) a step releases each weight after its last use, so that the
// weights in memory at a time are those of one layer.
func NewStep(c *UNetConfig, file *weights.File, pool *kernels.Pool, s StepShape) (*Step, error) {
	out := &Step{file: file}
	if err := out.compile(c, params.NewFile(file), ops.Options{Pool: pool}, s); err != nil {
		return nil, err
	}
	if file.Mapped() {
		out.machine.AfterLeaf(file.Release)
	}
	out.NewText()
	return out, nil
}

// compile builds the network with weights from src and makes the step's machine.
func (out *Step) compile(c *UNetConfig, src params.Source, o ops.Options, s StepShape) error {
	if s.N < 1 || s.H < 1 || s.W < 1 || s.Tokens < 1 {
		return fmt.Errorf("a step of batch %d, latent %dx%d and %d tokens: want 1 or more of each", s.N, s.H, s.W, s.Tokens)
	}
	g := gorgonia.NewGraph()
	var in UNetInputs
	in.Sample, out.Sample = params.Input(g, "sample", s.N, c.InChannels, s.H, s.W)
	in.Time, out.Time = params.Input(g, "time", s.N, c.BlockOutChannels[0])
	in.Text, out.Text = params.Input(g, "text", s.N, s.Tokens, c.CrossAttentionDim)
	if c.AdditionEmbedType != "" {
		in.Added, out.Added = params.Input(g, "added", s.N, c.ProjectionClassDim)
	}
	var err error
	if out.out, err = UNet(c, src, in, s.Plan); err != nil {
		return err
	}
	out.constants.Budget, out.packed.Budget = constantBytes, s.Packed
	o.Constants, o.Weights, o.Math = &out.constants, &out.packed, s.Math
	o.Inputs, o.Kept = []*gorgonia.Node{in.Sample, in.Time}, []*gorgonia.Node{in.Text}
	if in.Added != nil {
		o.Inputs = append(o.Inputs, in.Added)
	}
	out.text = in.Text
	out.machine, err = ops.NewMachineWith(g, o, out.out)
	return err
}

// PlanStep plans what NewStep and its runs will take. It reads no weights and
// takes no memory to speak of; only whether and how the file is mapped matters.
func PlanStep(c *UNetConfig, file *weights.File, pool *kernels.Pool, s StepShape) (Memory, error) {
	var out Memory
	var plan Step
	r := &shapeRecorder{}
	if err := plan.compile(c, r, ops.Options{Pool: pool, PlanOnly: true}, s); err != nil {
		return out, err
	}
	m := plan.machine
	out.Arena, out.Scratch, _ = m.Bytes()
	out.Constants = m.ConstantBytes()
	out.Inputs = 4 * (len(plan.Sample) + len(plan.Time) + len(plan.Text) + len(plan.Added))
	view := func(name string) bool { return file.Mapped() && file.DType(name) == "F32" }
	out.Packed, out.Weights = m.PlanWeights(func(leaf *gorgonia.Node) bool { return view(leaf.Name()) })
	for _, t := range r.list {
		n := 4
		for _, d := range t.Shape {
			n *= d
		}
		if view(t.Name) {
			n = min(n, viewLeft)
		}
		out.Weights += n
	}
	return out, nil
}

// viewLeft is about how many bytes of a mapped weight stay in memory after it
// was released: its first and its last page, which its neighbours share.
const viewLeft = 8 << 10

// NewText says that Text has been changed. What depends on it alone is then
// computed in the next run and kept for those after it.
func (s *Step) NewText() {
	s.constants.Forget(s.texts)
	s.texts++
	s.machine.SetVersion(s.text, s.texts)
}

// Run evaluates the network and returns its prediction [N,OutChannels,H,W],
// which the next run overwrites.
func (s *Step) Run(ctx context.Context) ([]float32, error) {
	if err := s.file.Intact(); err != nil {
		return nil, err
	}
	if err := s.machine.Run(ctx); err != nil {
		return nil, err
	}
	return s.machine.Output(s.out), nil
}

// Bytes is the memory of the intermediate values, of the kernels' scratch and of
// what is kept from run to run.
func (s *Step) Bytes() (arena, scratch, kept int) {
	arena, scratch, _ = s.machine.Bytes()
	return arena, scratch, s.constants.Bytes() + s.packed.Bytes()
}

// Trace has every op of the runs from now on recorded; nil: no longer.
func (s *Step) Trace(t *ops.Tracer) { s.machine.SetTracer(t, 0) }

// Parameters lists the names and shapes of all weights of the network that the
// config describes, in the order in which it uses them, without their values.
func (c *UNetConfig) Parameters() ([]weights.Tensor, error) {
	r := &shapeRecorder{}
	g := gorgonia.NewGraph()
	side := 1 << (len(c.BlockOutChannels) - 1)
	input := func(name string, shape ...int) *gorgonia.Node {
		return gorgonia.NewTensor(g, gorgonia.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name))
	}
	in := UNetInputs{Sample: input("sample", 1, c.InChannels, side, side), Time: input("time", 1, c.BlockOutChannels[0]), Text: input("text", 1, 1, c.CrossAttentionDim)}
	if c.AdditionEmbedType != "" {
		in.Added = input("added", 1, c.ProjectionClassDim)
	}
	if _, err := UNet(c, r, in, nil); err != nil {
		return nil, err
	}
	return r.list, nil
}

// shapeRecorder gives a builder leaves without values and notes what it asks for.
type shapeRecorder struct{ list []weights.Tensor }

func (r *shapeRecorder) Leaf(g *gorgonia.ExprGraph, name string, shape ...int) *gorgonia.Node {
	if !slices.ContainsFunc(r.list, func(t weights.Tensor) bool { return t.Name == name }) {
		r.list = append(r.list, weights.Tensor{Name: name, DType: "F32", Shape: slices.Clone(shape)})
	}
	return gorgonia.NewTensor(g, gorgonia.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name))
}

// RandomWeights writes weights for the config to a safetensors file: uniform in
// +-1/sqrt(fan in), as PyTorch starts linear and convolution layers, and ones
// and zeros for norms. Equal seeds give equal files. For measurements; such a
// network draws nothing.
func (c *UNetConfig) RandomWeights(path string, seed uint64) error {
	list, err := c.Parameters()
	if err != nil {
		return err
	}
	fanIn := map[string]int{} // by layer
	for _, t := range list {
		if layer, kind := cutLast(t.Name); kind == "weight" && len(t.Shape) > 1 {
			n := 1
			for _, d := range t.Shape[1:] {
				n *= d
			}
			fanIn[layer] = n
		}
	}
	return weights.Stream(path, list, func(name string, dst []float32) error {
		layer, kind := cutLast(name)
		fan := fanIn[layer]
		if fan == 0 { // a norm
			v := float32(0)
			if kind == "weight" {
				v = 1
			}
			for i := range dst {
				dst[i] = v
			}
			return nil
		}
		state := seed
		for _, b := range []byte(name) {
			state = (state ^ uint64(b)) * 1099511628211
		}
		step := float32(1 / (math.Sqrt(float64(fan)) * (1 << 23)))
		for i := range dst {
			// SplitMix64. Source: Steele, Lea, Flood, Fast splittable
			// pseudorandom number generators, 2014.
			state += 0x9e3779b97f4a7c15
			z := state
			z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
			z = (z ^ z>>27) * 0x94d049bb133111eb
			z ^= z >> 31
			dst[i] = step * float32(int32(z>>40)-1<<23)
		}
		return nil
	})
}

// cutLast splits a parameter's name at its last dot.
func cutLast(name string) (layer, kind string) {
	i := strings.LastIndex(name, ".")
	return name[:max(i, 0)], name[i+1:]
}
