// Package model builds the networks as Gorgonia graphs under diffusers' layer
// names: the U-Net (UNet2DConditionModel), the built-in model's text encoder
// and its lossless pixel autoencoder, and the pipeline that ties them to the
// sampler.
package model

import (
	"encoding/json"
	"fmt"
)

// UNetConfig is diffusers' unet/config.json, as far as this program reads it.
type UNetConfig struct {
	SampleSize       int      `json:"sample_size"` // latent side trained on
	InChannels       int      `json:"in_channels"`
	OutChannels      int      `json:"out_channels"`
	DownBlockTypes   []string `json:"down_block_types"`
	MidBlockType     string   `json:"mid_block_type"`
	UpBlockTypes     []string `json:"up_block_types"`
	BlockOutChannels []int    `json:"block_out_channels"`
	LayersPerBlock   int      `json:"layers_per_block"`
	// AttentionHeadDim is, for historical reasons, the NUMBER of heads.
	AttentionHeadDim          perLevel `json:"attention_head_dim"`
	TransformerLayersPerBlock perLevel `json:"transformer_layers_per_block"`
	CrossAttentionDim         int      `json:"cross_attention_dim"`
	NormNumGroups             int      `json:"norm_num_groups"`
	NormEps                   float32  `json:"norm_eps"`
	FlipSinToCos              bool     `json:"flip_sin_to_cos"`
	FreqShift                 float64  `json:"freq_shift"`
	UseLinearProjection       bool     `json:"use_linear_projection"`
	ActFn                     string   `json:"act_fn"`
	AdditionEmbedType         string   `json:"addition_embed_type"`
	AdditionTimeEmbedDim      int      `json:"addition_time_embed_dim"`
	ProjectionClassDim        int      `json:"projection_class_embeddings_input_dim"`
}

// perLevel is a number for all levels or a list with one a level.
type perLevel []int

func (p *perLevel) UnmarshalJSON(b []byte) error {
	if string(b) == "null" { // as if it were not there
		return nil
	}
	var n int
	if json.Unmarshal(b, &n) == nil {
		*p = perLevel{n}
		return nil
	}
	var list []int
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("want a whole number or a list of them, got %s", b)
	}
	*p = list
	return nil
}

func (p perLevel) at(level, def int) int {
	switch {
	case len(p) == 0:
		return def
	case len(p) == 1:
		return p[0]
	}
	return p[level]
}

// Block kinds of diffusers that this program builds.
const (
	downPlain = "DownBlock2D"
	downCross = "CrossAttnDownBlock2D"
	upPlain   = "UpBlock2D"
	upCross   = "CrossAttnUpBlock2D"
	midCross  = "UNetMidBlock2DCrossAttn"
	textTime  = "text_time"
)

// ParseUNetConfig reads and checks a config.json; source names it in errors.
func ParseUNetConfig(b []byte, source string) (*UNetConfig, error) {
	c := UNetConfig{LayersPerBlock: 2, NormNumGroups: 32, NormEps: 1e-5, FlipSinToCos: true, ActFn: "silu", MidBlockType: midCross}
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return &c, nil
}

func (c *UNetConfig) check() error {
	levels := len(c.BlockOutChannels)
	switch {
	case levels == 0:
		return fmt.Errorf("block_out_channels is empty")
	case len(c.DownBlockTypes) != levels || len(c.UpBlockTypes) != levels:
		return fmt.Errorf("%d block_out_channels, %d down_block_types, %d up_block_types: want as many of each",
			levels, len(c.DownBlockTypes), len(c.UpBlockTypes))
	case c.InChannels < 1 || c.OutChannels < 1 || c.LayersPerBlock < 1 || c.NormNumGroups < 1:
		return fmt.Errorf("in_channels, out_channels, layers_per_block and norm_num_groups must be 1 or more")
	case c.CrossAttentionDim < 1:
		return fmt.Errorf("cross_attention_dim is %d, want 1 or more", c.CrossAttentionDim)
	case c.MidBlockType != midCross:
		return fmt.Errorf("mid_block_type %q is not supported, want %s", c.MidBlockType, midCross)
	case c.ActFn != "silu":
		return fmt.Errorf("act_fn %q is not supported, want silu", c.ActFn)
	case c.AdditionEmbedType != "" && c.AdditionEmbedType != textTime:
		return fmt.Errorf("addition_embed_type %q is not supported, want none or %s", c.AdditionEmbedType, textTime)
	}
	for _, p := range []struct {
		key string
		val perLevel
	}{{"attention_head_dim", c.AttentionHeadDim}, {"transformer_layers_per_block", c.TransformerLayersPerBlock}} {
		if n := len(p.val); n > 1 && n != levels {
			return fmt.Errorf("%s has %d entries, want 1 or %d", p.key, n, levels)
		}
	}
	for i := range c.BlockOutChannels {
		if ch := c.BlockOutChannels[i]; ch < 1 || ch%c.NormNumGroups != 0 {
			return fmt.Errorf("block_out_channels[%d] is %d, want a multiple of norm_num_groups (%d)", i, ch, c.NormNumGroups)
		}
		if t := c.DownBlockTypes[i]; t != downPlain && t != downCross {
			return fmt.Errorf("down_block_types[%d] %q is not supported, want %s or %s", i, t, downPlain, downCross)
		}
		if t := c.UpBlockTypes[i]; t != upPlain && t != upCross {
			return fmt.Errorf("up_block_types[%d] %q is not supported, want %s or %s", i, t, upPlain, upCross)
		}
		if h := c.heads(i); h < 1 || c.BlockOutChannels[i]%h != 0 {
			return fmt.Errorf("level %d: %d channels do not split into %d heads (attention_head_dim is the number of heads)", i, c.BlockOutChannels[i], h)
		}
		if d := c.depth(i); d < 1 {
			return fmt.Errorf("level %d: transformer_layers_per_block is %d, want 1 or more", i, d)
		}
	}
	return nil
}

// heads is the number of attention heads at a level.
func (c *UNetConfig) heads(level int) int { return c.AttentionHeadDim.at(level, 8) }

// depth is the number of transformer blocks at a level.
func (c *UNetConfig) depth(level int) int { return c.TransformerLayersPerBlock.at(level, 1) }

// timeDim is the width of the time embedding.
func (c *UNetConfig) timeDim() int { return 4 * c.BlockOutChannels[0] }
