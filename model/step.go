package model

import (
	"context"
	"fmt"
	"slices"

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

	pool   *kernels.Pool
	parts  []*stepPart
	whole  []float32 // the prediction, where there are several parts
	file   *weights.File
	packed ops.WeightCache
	texts  uint64 // version of Text
}

// stepPart is some of the batch, or all of it.
type stepPart struct {
	machine   *ops.Machine
	text, out *gorgonia.Node
	constants ops.Constants
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

// partWeights is up to how many bytes of weights a network's batch is cut into a
// part for every thread: each then computes all layers of its own samples and
// waits for nobody, and finds in its own caches what it has written there. Of
// larger networks the threads share every layer, as reading the weights costs
// more than all that. The bits are the same.
const partWeights = 32 << 20

// partsOf is how many parts the batch is cut into.
func (c *UNetConfig) partsOf(n, threads int) (int, error) {
	if threads < 2 || n%threads != 0 {
		return 1, nil
	}
	list, err := c.Parameters()
	if err != nil {
		return 0, err
	}
	bytes := 0
	for _, t := range list {
		bytes += 4 * params.Elements(t.Shape)
	}
	if bytes > partWeights {
		return 1, nil
	}
	return threads, nil
}

// NewStep compiles a step with the weights of a file. Where the file is mapped
// (weights.Map) a step releases each weight after its last use, so that the
// weights in memory at a time are those of one layer.
//
// Once the context is done it reads no further weight and returns the context's
// error.
func NewStep(ctx context.Context, c *UNetConfig, file *weights.File, pool *kernels.Pool, s StepShape) (*Step, error) {
	out := &Step{file: file}
	if err := out.compile(c, params.NewFile(file).Until(ctx), ops.Options{Pool: pool}, s); err != nil {
		return nil, err
	}
	if file.Mapped() {
		for _, p := range out.parts {
			p.machine.AfterLeaf(file.Release)
		}
	}
	out.NewText()
	return out, nil
}

// compile builds the network with weights from src, once for every part of the
// batch, and makes the parts' machines.
func (out *Step) compile(c *UNetConfig, src params.Source, o ops.Options, s StepShape) error {
	if s.N < 1 || s.H < 1 || s.W < 1 || s.Tokens < 1 {
		return fmt.Errorf("a step of batch %d, latent %dx%d and %d tokens: want 1 or more of each", s.N, s.H, s.W, s.Tokens)
	}
	parts, err := c.partsOf(s.N, o.Pool.Threads())
	if err != nil {
		return err
	}
	out.Sample, out.Time = make([]float32, s.N*c.InChannels*s.H*s.W), make([]float32, s.N*c.BlockOutChannels[0])
	out.Text = make([]float32, s.N*s.Tokens*c.CrossAttentionDim)
	if c.AdditionEmbedType != "" {
		out.Added = make([]float32, s.N*c.ProjectionClassDim)
	}
	out.pool, out.packed.Budget = o.Pool, s.Packed
	if parts > 1 {
		o.Pool = nil
		if !o.PlanOnly {
			out.whole = make([]float32, s.N*c.OutChannels*s.H*s.W)
		}
	}
	o.Weights, o.Math = &out.packed, s.Math
	s.N /= parts
	for i := range parts {
		p := &stepPart{constants: ops.Constants{Budget: constantBytes / parts}}
		if err := p.compile(c, src, out, i, o, s); err != nil {
			return err
		}
		out.parts = append(out.parts, p)
	}
	return nil
}

// compile makes part i of a step: s.N of its samples.
func (p *stepPart) compile(c *UNetConfig, src params.Source, whole *Step, i int, o ops.Options, s StepShape) error {
	g := gorgonia.NewGraph()
	input := func(name string, all []float32, shape ...int) *gorgonia.Node {
		n := params.Elements(shape)
		return leafOn(g, name, all[i*n:(i+1)*n], shape...)
	}
	in := UNetInputs{
		Sample: input("sample", whole.Sample, s.N, c.InChannels, s.H, s.W),
		Time:   input("time", whole.Time, s.N, c.BlockOutChannels[0]),
		Text:   input("text", whole.Text, s.N, s.Tokens, c.CrossAttentionDim),
	}
	o.Constants, o.Inputs, o.Kept = &p.constants, []*gorgonia.Node{in.Sample, in.Time}, []*gorgonia.Node{in.Text}
	if whole.Added != nil {
		in.Added = input("added", whole.Added, s.N, c.ProjectionClassDim)
		o.Inputs = append(o.Inputs, in.Added)
	}
	p.text = in.Text
	var err error
	if p.out, err = UNet(c, src, in, s.Plan); err != nil {
		return err
	}
	p.machine, err = ops.NewMachineWith(g, o, p.out)
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
	for _, p := range plan.parts {
		arena, scratch, _ := p.machine.Bytes()
		out.Arena, out.Scratch, out.Constants = out.Arena+arena, out.Scratch+scratch, out.Constants+p.machine.ConstantBytes()
	}
	out.Inputs = 4 * (len(plan.Sample) + len(plan.Time) + len(plan.Text) + len(plan.Added))
	view := func(name string) bool { return file.Mapped() && file.DType(name) == "F32" }
	out.Packed, out.Weights = plan.parts[0].machine.PlanWeights(func(leaf *gorgonia.Node) bool { return view(leaf.Name()) })
	for _, t := range r.list {
		n := 4 * params.Elements(t.Shape)
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
	old := s.texts
	s.texts++
	for _, p := range s.parts {
		p.constants.Forget(old)
		p.machine.SetVersion(p.text, s.texts)
	}
}

// Run evaluates the network and returns its prediction [N,OutChannels,H,W],
// which the next run overwrites.
func (s *Step) Run(ctx context.Context) ([]float32, error) {
	if err := s.file.Intact(); err != nil {
		return nil, err
	}
	if len(s.parts) == 1 {
		p := s.parts[0]
		if err := p.machine.Run(ctx); err != nil {
			return nil, err
		}
		return p.machine.Output(p.out), nil
	}
	errs := make([]error, len(s.parts))
	s.pool.Run(len(s.parts), func(i int) {
		p := s.parts[i]
		if errs[i] = p.machine.Run(ctx); errs[i] == nil {
			y := p.machine.Output(p.out)
			copy(s.whole[i*len(y):], y)
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return s.whole, nil
}

// Bytes is the memory of the intermediate values, of the kernels' scratch and of
// what is kept from run to run.
func (s *Step) Bytes() (arena, scratch, kept int) {
	kept = s.packed.Bytes()
	for _, p := range s.parts {
		a, b, _ := p.machine.Bytes()
		arena, scratch, kept = arena+a, scratch+b, kept+p.constants.Bytes()
	}
	return arena, scratch, kept
}

// Trace has every op of the runs from now on recorded; nil: no longer.
func (s *Step) Trace(t *ops.Tracer) {
	for i, p := range s.parts {
		p.machine.SetTracer(t, i)
	}
}

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
