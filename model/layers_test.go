package model

import (
	"io/fs"
	"reflect"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"scalecrafter/ablation"
)

// outline is a source of weights that has shapes only, and counts them.
type outline struct{ shapes map[string][]int }

func (o *outline) Leaf(g *gorgonia.ExprGraph, name string, shape ...int) *gorgonia.Node {
	o.shapes[name] = shape
	return leaf(g, name, shape...)
}

func leaf(g *gorgonia.ExprGraph, name string, shape ...int) *gorgonia.Node {
	return gorgonia.NewTensor(g, tensor.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name))
}

// built is what building the network lists, at side x side latents.
func built(t *testing.T, c *UNetConfig, side int) (ablation.Architecture, *outline) {
	t.Helper()
	g := gorgonia.NewGraph()
	in := UNetInputs{
		Sample: leaf(g, "sample", 1, c.InChannels, side, side),
		Time:   leaf(g, "time", 1, c.BlockOutChannels[0]),
		Text:   leaf(g, "text", 1, 4, c.CrossAttentionDim),
	}
	if c.AdditionEmbedType != "" {
		in.Added = leaf(g, "added", 1, c.ProjectionClassDim)
	}
	o := &outline{shapes: map[string][]int{}}
	b, err := unet(c, o, new(kernelStore), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.arch, o
}

// The published configs have the weights that the checkpoints have, and their
// listed layers are those that building them finds.
func TestPublishedUNets(t *testing.T) {
	for _, tt := range []struct {
		name                       string
		convs, attentions          int
		parameters, tensors, depth int
	}{
		{"sd1.5", 50, 16, 859_520_964, 686, 3},
		{"sd2.1", 50, 16, 865_910_724, 686, 3},
		{"sdxl", 38, 70, 2_567_463_684, 1680, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := PublishedUNet(tt.name)
			if err != nil {
				t.Fatal(err)
			}
			arch, o := built(t, c, 16)
			if got := c.Layers(); !reflect.DeepEqual(got, arch) {
				t.Errorf("listed\n%v\nbuilt\n%v", got, arch)
			}
			if len(arch.Convs) != tt.convs || len(arch.SelfAttention) != tt.attentions {
				t.Errorf("%d convolutions and %d self-attentions, want %d and %d", len(arch.Convs), len(arch.SelfAttention), tt.convs, tt.attentions)
			}
			deepest, parameters := 0, 0
			for _, l := range arch.Convs {
				deepest = max(deepest, l.Depth)
			}
			for _, shape := range o.shapes {
				n := 1
				for _, s := range shape {
					n *= s
				}
				parameters += n
			}
			if deepest != tt.depth || parameters != tt.parameters || len(o.shapes) != tt.tensors {
				t.Errorf("deepest level %d, %d parameters in %d tensors; want %d, %d in %d", deepest, parameters, len(o.shapes), tt.depth, tt.parameters, tt.tensors)
			}
		})
	}
	if _, err := PublishedUNet("sd3"); err == nil {
		t.Error("sd3 is known, want an error")
	}
}

// Layers lists what building lists, for the built-in model and odd layouts.
func TestLayersAreThoseBuilt(t *testing.T) {
	b, err := fs.ReadFile(builtin, "builtin/"+unetConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseUNetConfig(b, "builtin")
	if err != nil {
		t.Fatal(err)
	}
	tiny, err := ParseUNetConfig([]byte(tinyUNet), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*UNetConfig{
		"builtin": c, "tiny": tiny, "unet_sd15_tiny": unetConfig(t, "unet_sd15_tiny"),
		"unet_sd21_tiny": unetConfig(t, "unet_sd21_tiny"), "unet_sdxl_tiny": unetConfig(t, "unet_sdxl_tiny"),
	} {
		arch, _ := built(t, c, 16)
		if got := c.Layers(); !reflect.DeepEqual(got, arch) {
			t.Errorf("%s: listed\n%v\nbuilt\n%v", name, got, arch)
		}
	}
}
