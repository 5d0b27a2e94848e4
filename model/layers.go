package model

import (
	"fmt"
	"strings"

	"scalecrafter/ablation"
)

// Layers lists what a plan may change in the network that the config
// describes, in execution order, without weights or a graph: what building it
// lists (Pipeline.Architecture).
//
// Source: huggingface/diffusers v0.20.2, models/unet_2d_condition.py.
func (c *UNetConfig) Layers() ablation.Architecture {
	a := ablation.Architecture{Levels: len(c.BlockOutChannels)}
	conv := func(path string, stride, depth int) {
		a.Convs = append(a.Convs, ablation.ConvLayer{Path: path, Stride: stride, Depth: depth})
	}
	sublayer := func(block string, j, depth int, cross bool) {
		conv(fmt.Sprintf("%s.resnets.%d.conv1", block, j), 1, depth)
		conv(fmt.Sprintf("%s.resnets.%d.conv2", block, j), 1, depth)
		for k := 0; cross && k < c.depth(depth); k++ {
			a.SelfAttention = append(a.SelfAttention, fmt.Sprintf("%s.attentions.%d.transformer_blocks.%d.attn1", block, j, k))
		}
	}
	deepest := a.Levels - 1
	for i := range a.Levels {
		block := fmt.Sprintf("down_blocks.%d", i)
		for j := range c.LayersPerBlock {
			sublayer(block, j, i, c.DownBlockTypes[i] == downCross)
		}
		if i < deepest {
			conv(block+".downsamplers.0.conv", 2, i)
		}
	}
	sublayer("mid_block", 0, deepest, true)
	sublayer("mid_block", 1, deepest, false)
	for i := range a.Levels {
		level := deepest - i
		block := fmt.Sprintf("up_blocks.%d", i)
		for j := range c.LayersPerBlock + 1 {
			sublayer(block, j, level, c.UpBlockTypes[i] == upCross)
		}
		if level > 0 {
			conv(block+".upsamplers.0.conv", 1, level)
		}
	}
	return a
}

// Published lists the names that PublishedUNet knows.
var Published = []string{"sd1.5", "sd2.1", "sdxl"}

// PublishedUNet is the U-Net config of a published model: Stable Diffusion 1.5
// and 2.1-base, and SDXL base.
//
// Source: unet/config.json of runwayml/stable-diffusion-v1-5,
// stabilityai/stable-diffusion-2-1-base and
// stabilityai/stable-diffusion-xl-base-1.0.
func PublishedUNet(name string) (*UNetConfig, error) {
	c := &UNetConfig{
		SampleSize: 64, InChannels: 4, OutChannels: 4,
		DownBlockTypes: []string{downCross, downCross, downCross, downPlain}, MidBlockType: midCross,
		UpBlockTypes:     []string{upPlain, upCross, upCross, upCross},
		BlockOutChannels: []int{320, 640, 1280, 1280}, LayersPerBlock: 2,
		AttentionHeadDim: perLevel{8}, CrossAttentionDim: 768,
		NormNumGroups: 32, NormEps: 1e-5, FlipSinToCos: true, ActFn: "silu",
	}
	switch name {
	case "sd1.5":
	case "sd2.1":
		c.AttentionHeadDim, c.CrossAttentionDim, c.UseLinearProjection = perLevel{5, 10, 20, 20}, 1024, true
	case "sdxl":
		c.SampleSize = 128
		c.DownBlockTypes = []string{downPlain, downCross, downCross}
		c.UpBlockTypes = []string{upCross, upCross, upPlain}
		c.BlockOutChannels = []int{320, 640, 1280}
		c.AttentionHeadDim, c.TransformerLayersPerBlock = perLevel{5, 10, 20}, perLevel{1, 2, 10}
		c.CrossAttentionDim, c.UseLinearProjection = 2048, true
		c.AdditionEmbedType, c.AdditionTimeEmbedDim, c.ProjectionClassDim = textTime, 256, 2816
	default:
		return nil, fmt.Errorf("model %q is not known, want one of %s", name, strings.Join(Published, ", "))
	}
	return c, c.check()
}
