package model

import (
	"testing"

	"gorgonia.org/gorgonia"

	"scalecrafter/ablation"
	"scalecrafter/model/critters"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/sampler"
	"scalecrafter/model/weights"
)

// tinyUNet has every kind of layer in a few thousand weights.
const tinyUNet = `{"sample_size": 8, "in_channels": 12, "out_channels": 12, "block_out_channels": [8, 16], "layers_per_block": 1,
	"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
	"attention_head_dim": 2, "cross_attention_dim": 8, "norm_num_groups": 4}`

// noise fills n numbers that depend on the name alone.
func noise(name string, n int) []float32 {
	out := make([]float32, n)
	seed := uint64(1469598103934665603)
	for _, b := range []byte(name) {
		seed = (seed ^ uint64(b)) * 1099511628211
	}
	sampler.Noise(out, sampler.NoiseKey{Seed: seed})
	return out
}

// tinyWeights are random weights of the tiny network and its text encoder, with
// no layer left at zero.
func tinyWeights(t testing.TB) (*UNetConfig, *params.Set) {
	t.Helper()
	cfg, err := ParseUNetConfig([]byte(tinyUNet), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	w := params.NewFresh(noise)
	if _, err := New(cfg, sampler.StableDiffusion(), w, w); err != nil {
		t.Fatal(err)
	}
	for i, v := range noise("conv_out", len(w.Tensor("conv_out.weight").Data)) {
		w.Tensor("conv_out.weight").Data[i] = 0.2 * v
	}
	return cfg, &w.Set
}

func tinyPipeline(t testing.TB) *Pipeline {
	t.Helper()
	cfg, w := tinyWeights(t)
	p, err := New(cfg, sampler.StableDiffusion(), w, w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// copyWeights is a set with the same tensors, to be spoilt.
func copyWeights(w *params.Set) *params.Set {
	out := params.New()
	for _, name := range w.Names() {
		x := w.Tensor(name)
		out.Add(name, x.Shape, x.Data)
	}
	return out
}

// tensors lists a set for weights.Write.
func tensors(w *params.Set, keep func(name string) bool) []weights.Tensor {
	var out []weights.Tensor
	for _, name := range w.Names() {
		if keep(name) {
			out = append(out, *w.Tensor(name))
		}
	}
	return out
}

// buildTiny builds the tiny U-Net's graph at a latent size.
func buildTiny(cfg *UNetConfig, w params.Source, h, wd int, plan *ablation.LayerPlan) error {
	g := gorgonia.NewGraph()
	var in UNetInputs
	in.Sample, _ = params.Input(g, "sample", 1, cfg.InChannels, h, wd)
	in.Time, _ = params.Input(g, "time", 1, cfg.BlockOutChannels[0])
	in.Text, _ = params.Input(g, "text", 1, critters.Tokens, cfg.CrossAttentionDim)
	_, err := UNet(cfg, w, in, plan)
	return err
}

// evaluate builds a graph with f, runs it, and copies its outputs.
func evaluate(t testing.TB, f func(g *gorgonia.ExprGraph) []*gorgonia.Node) [][]float32 {
	t.Helper()
	g := gorgonia.NewGraph()
	var outs []*gorgonia.Node
	if err := ops.Build(func() { outs = f(g) }); err != nil {
		t.Fatal(err)
	}
	m, err := ops.NewMachine(g, nil, outs...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	var vals [][]float32
	for _, o := range outs {
		vals = append(vals, append([]float32(nil), m.Output(o)...))
	}
	return vals
}

// bind is an input with data.
func bind(g *gorgonia.ExprGraph, name string, data []float32, shape ...int) *gorgonia.Node {
	n, dst := params.Input(g, name, shape...)
	copy(dst, data)
	return n
}
