package model

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"gorgonia.org/gorgonia"

	"scalecrafter/ablation"
	"scalecrafter/model/kernels"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/weights"
)

// UNetInputs are the leaves that a U-Net graph reads.
type UNetInputs struct {
	Sample *gorgonia.Node // [N,InChannels,H,W]
	// Time is the sinusoidal embedding of each row's timestep,
	// [N,BlockOutChannels[0]] (kernels.TimestepEmbedding).
	Time *gorgonia.Node
	Text *gorgonia.Node // encoder_hidden_states [N,T,CrossAttentionDim]
	// Added is SDXL's [N,ProjectionClassDim]: pooled text, then the embedded
	// time ids. Nil where the config has no addition_embed_type.
	Added *gorgonia.Node
}

// UNet adds UNet2DConditionModel's forward pass to the inputs' graph, each
// layer run as plan says (nil: as trained), and returns the prediction
// [N,OutChannels,H,W]. Missing or misshapen weights and plans that do not fit
// the network are errors that name the layer.
//
// Source: huggingface/diffusers v0.20.2, models/unet_2d_condition.py and
// unet_2d_blocks.py; re-dilation and dispersion: YingqingHe/ScaleCrafter,
// model.py.
func UNet(c *UNetConfig, w params.Source, in UNetInputs, plan *ablation.LayerPlan) (*gorgonia.Node, error) {
	b, err := unet(c, w, new(kernelStore), in, plan)
	if err != nil {
		return nil, err
	}
	return b.out, nil
}

// unet is UNet; the builder that it returns lists the layers that were built
// and holds the dispersed kernels, which store shares between graphs.
func unet(c *UNetConfig, w params.Source, store *kernelStore, in UNetInputs, plan *ablation.LayerPlan) (*unetBuilder, error) {
	b := &unetBuilder{c: c, w: w, store: store, g: in.Sample.Graph(), plan: plan, transforms: map[*ablation.Transform]string{}}
	err := params.Catch(func() error {
		return ops.Build(func() { b.out = b.build(in) })
	})
	if err != nil {
		if b.path != "" {
			err = fmt.Errorf("layer %s: %w", b.path, err)
		}
		return nil, err
	}
	if plan == nil {
		return b, nil
	}
	for _, path := range slices.Sorted(maps.Keys(plan.Dilation)) {
		if !b.convs[path] {
			return nil, fmt.Errorf("the plan dilates %q, which is not a convolution of this U-Net that can be dilated", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(plan.Dispersion)) {
		if !b.convs[path] {
			return nil, fmt.Errorf("the plan disperses %q, which is not a convolution of this U-Net that can be dilated", path)
		}
	}
	return b, nil
}

type unetBuilder struct {
	c     *UNetConfig
	w     params.Source
	store *kernelStore
	g     *gorgonia.ExprGraph
	plan  *ablation.LayerPlan
	path  string // layer being built, for errors
	emb   *gorgonia.Node
	text  *gorgonia.Node
	convs map[string]bool // those built that a plan may change
	// Keys of the plan's transforms; hashing one takes as long as using it.
	transforms map[*ablation.Transform]string

	out     *gorgonia.Node
	arch    ablation.Architecture
	kernels []*weights.Tensor // dispersed ones that the graph reads
}

func (b *unetBuilder) leaf(name string, shape ...int) *gorgonia.Node {
	return b.w.Leaf(b.g, name, shape...)
}

func (b *unetBuilder) build(in UNetInputs) *gorgonia.Node {
	c := b.c
	b.convs = map[string]bool{}
	b.text = in.Text
	b.arch.Levels = len(c.BlockOutChannels)
	top := c.BlockOutChannels[0]

	b.emb = b.timeMLP("time_embedding", in.Time, top)
	if c.AdditionEmbedType == textTime {
		b.emb = ops.Add(b.emb, b.timeMLP("add_embedding", in.Added, c.ProjectionClassDim))
	}
	b.emb = ops.SiLU(b.emb)

	x := b.conv("conv_in", in.Sample, c.InChannels, top, ops.Same(1, 1, 1))
	skips := []*gorgonia.Node{x}
	ch := top
	for i, out := range c.BlockOutChannels {
		block := fmt.Sprintf("down_blocks.%d", i)
		for j := 0; j < c.LayersPerBlock; j++ {
			x = b.resnet(fmt.Sprintf("%s.resnets.%d", block, j), x, ch, out, i)
			ch = out
			if c.DownBlockTypes[i] == downCross {
				x = b.transformer(fmt.Sprintf("%s.attentions.%d", block, j), x, out, i)
			}
			skips = append(skips, x)
		}
		if i+1 < len(c.BlockOutChannels) {
			x = b.dilatable(block+".downsamplers.0.conv", x, out, out, 2, i)
			skips = append(skips, x)
		}
	}

	deepest := len(c.BlockOutChannels) - 1
	x = b.resnet("mid_block.resnets.0", x, ch, ch, deepest)
	x = b.transformer("mid_block.attentions.0", x, ch, deepest)
	x = b.resnet("mid_block.resnets.1", x, ch, ch, deepest)

	for i := range c.BlockOutChannels {
		level := deepest - i
		out := c.BlockOutChannels[level]
		block := fmt.Sprintf("up_blocks.%d", i)
		for j := 0; j <= c.LayersPerBlock; j++ {
			skip := skips[len(skips)-1]
			skips = skips[:len(skips)-1]
			path := fmt.Sprintf("%s.resnets.%d", block, j)
			if b.plan != nil && b.plan.FreeU != nil {
				b.path = path
				x, skip = freeU(x, skip, b.c.BlockOutChannels, b.plan.FreeU)
			}
			x = b.resnet(path, ops.Concat(x, skip), ch+skip.Shape()[1], out, level)
			ch = out
			if c.UpBlockTypes[i] == upCross {
				x = b.transformer(fmt.Sprintf("%s.attentions.%d", block, j), x, out, level)
			}
		}
		if level > 0 {
			// The next skip's size, which is twice this one's except where a
			// down-sampler met an odd size.
			s := skips[len(skips)-1].Shape()
			x = ops.UpsampleNearest(x, s[2], s[3])
			x = b.dilatable(block+".upsamplers.0.conv", x, out, out, 1, level)
		}
	}

	x = b.norm("conv_norm_out", x, ch, c.NormEps, true)
	return b.conv("conv_out", x, ch, c.OutChannels, ops.Same(1, 1, 1))
}

// timeMLP is linear_1, SiLU, linear_2.
func (b *unetBuilder) timeMLP(path string, x *gorgonia.Node, in int) *gorgonia.Node {
	b.path = path
	dim := b.c.timeDim()
	if x == nil {
		panic(&ops.BuildError{Op: path, Msg: "its input is missing"})
	}
	x = ops.SiLU(b.linear(path+".linear_1", x, in, dim, true))
	return b.linear(path+".linear_2", x, dim, dim, true)
}

func (b *unetBuilder) linear(path string, x *gorgonia.Node, in, out int, bias bool) *gorgonia.Node {
	b.path = path
	w := b.leaf(path+".weight", out, in)
	var bn *gorgonia.Node
	if bias {
		bn = b.leaf(path+".bias", out)
	}
	return ops.Linear(x, w, bn)
}

func (b *unetBuilder) norm(path string, x *gorgonia.Node, ch int, eps float32, silu bool) *gorgonia.Node {
	b.path = path
	return ops.GroupNorm(x, b.leaf(path+".weight", ch), b.leaf(path+".bias", ch), b.c.NormNumGroups, eps, silu)
}

// conv is a 3x3 convolution that no plan touches.
func (b *unetBuilder) conv(path string, x *gorgonia.Node, in, out int, s ops.ConvSpec) *gorgonia.Node {
	b.path = path
	return ops.Conv2D(x, b.leaf(path+".weight", out, in, 3, 3), b.leaf(path+".bias", out), s)
}

// dilatable is a 3x3 convolution that the plan may re-dilate and disperse.
func (b *unetBuilder) dilatable(path string, x *gorgonia.Node, in, out, stride, depth int) *gorgonia.Node {
	b.path = path
	b.arch.Convs = append(b.arch.Convs, ablation.ConvLayer{Path: path, Stride: stride, Depth: depth})
	b.convs[path] = true
	var factor ablation.Factor
	var transform *ablation.Transform
	var dilated, dispersed bool
	if b.plan != nil {
		factor, dilated = b.plan.Dilation[path]
		transform, dispersed = b.plan.Dispersion[path]
	}
	if dispersed && !dilated {
		panic(&ops.BuildError{Op: "dispersion", Msg: "the layer is dispersed and not dilated, so the enlarged kernel would be inactive: dilate it too (a factor of 1 will do), or do not disperse it"})
	}
	var w *gorgonia.Node
	if dispersed {
		w = b.dispersedLeaf(path+".weight", transform, out, in)
	} else {
		w = b.leaf(path+".weight", out, in, 3, 3)
	}
	bias := b.leaf(path+".bias", out)
	if dilated {
		return Redilate(x, w, bias, factor, stride)
	}
	return ops.Conv2D(x, w, bias, ops.Same(stride, 1, 1))
}

// Redilate runs a convolution of odd kernel size with dilation factor f: the
// feature x [N,C,H,W] is stretched by ceil(f)/f, convolved with dilation
// ceil(f), and brought to floor(H/stride) x floor(W/stride).
//
// Source: YingqingHe/ScaleCrafter, model.py, ReDilateConvProcessor; paper
// section 3.2. Here the factor may differ between the axes.
func Redilate(x, w, bias *gorgonia.Node, f ablation.Factor, stride int) *gorgonia.Node {
	xs, k := x.Shape(), w.Shape()[2]
	dh, h1 := stretch(f.H, xs[2])
	dw, w1 := stretch(f.W, xs[3])
	y := ops.ResizeBilinear(x, h1, w1)
	ph, pw := dh*(k-1)/2, dw*(k-1)/2
	y = ops.Conv2D(y, w, bias, ops.ConvSpec{StrideH: stride, StrideW: stride, DilH: dh, DilW: dw,
		PadTop: ph, PadBottom: ph, PadLeft: pw, PadRight: pw})
	return ops.ResizeBilinear(y, xs[2]/stride, xs[3]/stride)
}

// stretch is the whole dilation of a factor and the side n stretched for it,
// halves rounded to even as upstream's Python does.
func stretch(factor float64, n int) (dilation, side int) {
	if !(factor > 0) || math.IsInf(factor, 0) {
		panic(&ops.BuildError{Op: "re-dilation", Msg: fmt.Sprintf("factor %v, want a number above 0", factor)})
	}
	d := math.Ceil(factor)
	return int(d), int(math.RoundToEven(float64(n) * (d / factor)))
}

// resnet is diffusers' ResnetBlock2D.
func (b *unetBuilder) resnet(path string, x *gorgonia.Node, in, out, depth int) *gorgonia.Node {
	h := b.norm(path+".norm1", x, in, b.c.NormEps, true)
	h = b.dilatable(path+".conv1", h, in, out, 1, depth)
	h = ops.AddChannel(h, b.linear(path+".time_emb_proj", b.emb, b.c.timeDim(), out, true))
	h = b.norm(path+".norm2", h, out, b.c.NormEps, true)
	h = b.dilatable(path+".conv2", h, out, out, 1, depth)
	if in != out {
		b.path = path + ".conv_shortcut"
		x = ops.Conv2D(x, b.leaf(b.path+".weight", out, in, 1, 1), b.leaf(b.path+".bias", out), ops.Same(1, 1, 0))
	}
	return ops.Add(h, x)
}

// transformer is diffusers' Transformer2DModel.
func (b *unetBuilder) transformer(path string, x *gorgonia.Node, ch, level int) *gorgonia.Node {
	s := x.Shape()
	h := ops.ToTokens(b.norm(path+".norm", x, ch, 1e-6, false))
	h = b.project(path+".proj_in", h, ch)
	for k := 0; k < b.c.depth(level); k++ {
		h = b.transformerBlock(fmt.Sprintf("%s.transformer_blocks.%d", path, k), h, ch, b.c.heads(level))
	}
	h = b.project(path+".proj_out", h, ch)
	return ops.Add(ops.ToChannels(h, s[2], s[3]), x)
}

// project is proj_in or proj_out: a linear layer, or in SD 1.x a 1x1
// convolution, which on tokens is the same thing.
func (b *unetBuilder) project(path string, x *gorgonia.Node, ch int) *gorgonia.Node {
	shape := []int{ch, ch, 1, 1}
	if b.c.UseLinearProjection {
		shape = shape[:2]
	}
	b.path = path
	return ops.Linear(x, b.leaf(path+".weight", shape...), b.leaf(path+".bias", ch))
}

// transformerBlock is diffusers' BasicTransformerBlock.
func (b *unetBuilder) transformerBlock(path string, x *gorgonia.Node, ch, heads int) *gorgonia.Node {
	norm := func(name string) *gorgonia.Node {
		b.path = path + name
		return ops.LayerNorm(x, b.leaf(path+name+".weight", ch), b.leaf(path+name+".bias", ch), 1e-5)
	}
	n := norm(".norm1")
	x = ops.Add(b.attention(path+".attn1", n, n, ch, ch, heads, b.selfScale(path+".attn1", x.Shape()[1])), x)
	x = ops.Add(b.attention(path+".attn2", norm(".norm2"), b.text, ch, b.c.CrossAttentionDim, heads, 1), x)
	h := ops.GEGLU(b.linear(path+".ff.net.0.proj", norm(".norm3"), ch, 8*ch, true))
	return ops.Add(b.linear(path+".ff.net.2", h, 4*ch, ch, true), x)
}

// selfScale is what the plan multiplies a self-attention's logits by.
func (b *unetBuilder) selfScale(path string, tokens int) float64 {
	b.arch.SelfAttention = append(b.arch.SelfAttention, path)
	if b.plan == nil || b.plan.AttentionRatio == 0 || b.plan.AttentionRatio == 1 {
		return 1
	}
	trained := float64(tokens) / b.plan.AttentionRatio
	if !(trained > 1) { // or not a number
		b.path = path
		panic(&ops.BuildError{Op: "self-attention", Msg: fmt.Sprintf("attention scaling is undefined: %d tokens now, %g at the trained size", tokens, trained)})
	}
	return AttentionScale(tokens, b.plan.AttentionRatio)
}

// AttentionScale is the factor sqrt(ln L / ln(L/ratio)) on the logits of a
// self-attention over L tokens, ratio times as many as in training.
//
// Source: Jin et al., arXiv 2306.08645; YingqingHe/ScaleCrafter, model.py,
// ScaledAttnProcessor.
func AttentionScale(tokens int, ratio float64) float64 {
	l := float64(tokens)
	return math.Sqrt(math.Log(l) / math.Log(l/ratio))
}

func (b *unetBuilder) attention(path string, x, ctx *gorgonia.Node, ch, ctxDim, heads int, scale float64) *gorgonia.Node {
	q := b.linear(path+".to_q", x, ch, ch, false)
	k := b.linear(path+".to_k", ctx, ctxDim, ch, false)
	v := b.linear(path+".to_v", ctx, ctxDim, ch, false)
	s := float32(scale / math.Sqrt(float64(ch/heads)))
	return b.linear(path+".to_out.0", ops.Attention(q, k, v, heads, s, false), ch, ch, true)
}

// EmbedTime writes the sinusoidal embedding of each timestep into dst [N,dim].
func (c *UNetConfig) EmbedTime(dst []float32, timesteps ...float64) {
	dim := c.BlockOutChannels[0]
	for i, t := range timesteps {
		kernels.TimestepEmbedding(dst[i*dim:(i+1)*dim], t, dim, c.FlipSinToCos, c.FreqShift)
	}
}

// EmbedAdded writes SDXL's added condition into dst [N,ProjectionClassDim]:
// pooled text [N,P], then the embedding of each of the N rows' time ids.
func (c *UNetConfig) EmbedAdded(dst, pooled, timeIDs []float32, n int) error {
	p, ids := len(pooled)/n, len(timeIDs)/n
	if p+ids*c.AdditionTimeEmbedDim != c.ProjectionClassDim {
		return fmt.Errorf("pooled text of width %d and %d time ids of width %d do not make projection_class_embeddings_input_dim %d",
			p, ids, c.AdditionTimeEmbedDim, c.ProjectionClassDim)
	}
	for i := 0; i < n; i++ {
		row := dst[i*c.ProjectionClassDim:]
		copy(row, pooled[i*p:(i+1)*p])
		for j := 0; j < ids; j++ {
			at := p + j*c.AdditionTimeEmbedDim
			kernels.TimestepEmbedding(row[at:at+c.AdditionTimeEmbedDim], float64(timeIDs[i*ids+j]), c.AdditionTimeEmbedDim, c.FlipSinToCos, c.FreqShift)
		}
	}
	return nil
}
