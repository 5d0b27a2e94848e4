package model

import (
	"io/fs"
	"math"
	"slices"
	"testing"

	"gorgonia.org/gorgonia"

	"scalecrafter/ablation"
	"scalecrafter/model/ops"
)

// zeros is a source of weights that are 0.
type zeros struct{}

func (zeros) Leaf(g *gorgonia.ExprGraph, name string, shape ...int) *gorgonia.Node {
	n := 1
	for _, s := range shape {
		n *= s
	}
	return leafOn(g, name, make([]float32, n), shape...)
}

// counted builds the graph of a plan and counts its multiply-adds from the
// shapes of its nodes.
func counted(t *testing.T, c *UNetConfig, h, w int, plan *ablation.LayerPlan) float64 {
	t.Helper()
	const text = 5 // tokens, as many as nothing else has
	g := gorgonia.NewGraph()
	in := UNetInputs{
		Sample: leaf(g, "sample", 1, c.InChannels, h, w),
		Time:   leaf(g, "time", 1, c.BlockOutChannels[0]),
		Text:   leaf(g, "text", 1, text, c.CrossAttentionDim),
	}
	if c.AdditionEmbedType != "" {
		in.Added = leaf(g, "added", 1, c.ProjectionClassDim)
	}
	if _, err := unet(c, zeros{}, new(kernelStore), in, plan); err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, n := range g.AllNodes() {
		op, ok := n.Op().(ops.Op)
		if !ok {
			continue
		}
		var children []*gorgonia.Node
		for it := g.From(n.ID()); it.Next(); {
			children = append(children, it.Node().(*gorgonia.Node))
		}
		size := func(n *gorgonia.Node) float64 { return float64(n.Shape().TotalSize()) }
		switch op.Name() {
		case "conv2D":
			total += size(n) * size(children[1]) / float64(n.Shape()[1])
		case "linear":
			if children[0] != in.Text {
				total += size(n) * float64(children[1].Shape()[1])
			}
		case "attention":
			if k := children[1].Shape(); k[1] != text {
				total += 2 * size(n) * float64(k[1])
			}
		}
	}
	return total
}

// Work counts what the graph computes, for all layouts, odd sizes and plans
// that stretch, enlarge and skip; and its attention scales are the graph's.
func TestWorkIsTheGraphs(t *testing.T) {
	b, err := fs.ReadFile(builtin, "builtin/"+unetConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseUNetConfig(b, "builtin")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*UNetConfig{
		"builtin": c, "unet_sd15_tiny": unetConfig(t, "unet_sd15_tiny"), "unet_sdxl_tiny": unetConfig(t, "unet_sdxl_tiny"),
	} {
		arch := c.Layers()
		transform := spread(5, 2)
		fraction, dispersed := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}}, &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}, Dispersion: map[string]*ablation.Transform{}, AttentionRatio: 1.5}
		for i, l := range arch.Convs {
			fraction.Dilation[l.Path] = ablation.Factor{H: 1.5, W: 2.5}
			dispersed.Dilation[l.Path] = ablation.Factor{H: 2, W: 1}
			if i%2 > 0 {
				dispersed.Dispersion[l.Path] = transform
			}
		}
		for _, size := range [][2]int{{16, 24}, {18, 22}} {
			h, w := size[0], size[1]
			for i, plan := range []*ablation.LayerPlan{nil, fraction, dispersed} {
				want := counted(t, c, h, w, plan)
				got := c.Work(h, w, plan)
				if math.Abs(got.MultiplyAdds/want-1) > 1e-12 {
					t.Errorf("%s, %dx%d, plan %d: %g multiply-adds, the graph has %g", name, h, w, i, got.MultiplyAdds, want)
				}
				if len(got.AttentionScales) != len(arch.SelfAttention) || (slices.Max(got.AttentionScales) > 1) != (plan == dispersed) {
					t.Errorf("%s, plan %d: scales %v for %d self-attentions", name, i, got.AttentionScales, len(arch.SelfAttention))
				}
			}
		}
	}
	// The innermost level of 16x24 latents has 2x3 tokens.
	scales := c.Work(16, 24, &ablation.LayerPlan{AttentionRatio: 4}).AttentionScales
	if want := AttentionScale(6, 4); slices.Max(scales) != want || slices.Min(scales) != AttentionScale(24, 4) {
		t.Errorf("scales %v, want %g in the innermost of 4 levels", scales, want)
	}
}
