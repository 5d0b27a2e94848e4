package model

import (
	"fmt"

	"scalecrafter/ablation"
)

// Work is what one evaluation of a network computes for one image.
type Work struct {
	// MultiplyAdds counts those of convolutions, linear layers and attention; not
	// those that a fast algorithm saves, and not the text's keys and values.
	MultiplyAdds float64
	// AttentionScales are the factors on the logits of the self-attentions, in the
	// order of Architecture.SelfAttention; 1 as trained.
	AttentionScales []float64
}

// Work is known from the config, the latent size and the plan (nil: as trained)
// without building a graph. The plan must fit the network.
func (c *UNetConfig) Work(h, w int, plan *ablation.LayerPlan) Work {
	if plan == nil {
		plan = &ablation.LayerPlan{}
	}
	var out Work
	add := func(factors ...int) {
		n := 1.0
		for _, f := range factors {
			n *= float64(f)
		}
		out.MultiplyAdds += n
	}
	// conv is a dilatable convolution; it returns the size of its output.
	conv := func(path string, in, ch, stride, h, w int) (int, int) {
		f, dilated := plan.Dilation[path]
		if !dilated {
			h, w = (h-1)/stride+1, (w-1)/stride+1
			add(in, ch, 9, h, w)
			return h, w
		}
		side := 3
		if t := plan.Dispersion[path]; t != nil {
			side = t.Large
		}
		_, sh := stretch(f.H, h)
		_, sw := stretch(f.W, w)
		add(in, ch, side*side, (sh-1)/stride+1, (sw-1)/stride+1)
		return h / stride, w / stride
	}
	resnet := func(path string, in, ch, h, w int) {
		conv(path+".conv1", in, ch, 1, h, w)
		conv(path+".conv2", ch, ch, 1, h, w)
		add(c.timeDim(), ch)
		if in != ch {
			add(in, ch, h, w)
		}
	}
	transformer := func(ch, level, h, w int) {
		tokens := h * w
		scale := 1.0
		if r := plan.AttentionRatio; r != 0 && r != 1 {
			scale = AttentionScale(tokens, r)
		}
		for range c.depth(level) {
			out.AttentionScales = append(out.AttentionScales, scale)
			add(2, ch, tokens, tokens)
			// q, k, v and out of the self-attention, q and out of the other, GEGLU.
			add(4+2+8+4, ch, ch, tokens)
		}
		add(2, ch, ch, tokens)
	}

	levels := len(c.BlockOutChannels)
	top, deepest := c.BlockOutChannels[0], levels-1
	add(top, c.timeDim())
	add(c.timeDim(), c.timeDim())
	if c.AdditionEmbedType == textTime {
		add(c.ProjectionClassDim, c.timeDim())
		add(c.timeDim(), c.timeDim())
	}
	add(c.InChannels, top, 9, h, w)
	type size struct{ h, w int }
	sizes := make([]size, levels)
	skips := []int{top} // channels
	ch := top
	for i, width := range c.BlockOutChannels {
		sizes[i] = size{h, w}
		block := fmt.Sprintf("down_blocks.%d", i)
		for j := range c.LayersPerBlock {
			resnet(fmt.Sprintf("%s.resnets.%d", block, j), ch, width, h, w)
			ch = width
			if c.DownBlockTypes[i] == downCross {
				transformer(ch, i, h, w)
			}
			skips = append(skips, ch)
		}
		if i < deepest {
			h, w = conv(block+".downsamplers.0.conv", ch, ch, 2, h, w)
			skips = append(skips, ch)
		}
	}
	resnet("mid_block.resnets.0", ch, ch, h, w)
	transformer(ch, deepest, h, w)
	resnet("mid_block.resnets.1", ch, ch, h, w)
	for i := range levels {
		level := deepest - i
		width := c.BlockOutChannels[level]
		block := fmt.Sprintf("up_blocks.%d", i)
		h, w = sizes[level].h, sizes[level].w
		for j := range c.LayersPerBlock + 1 {
			resnet(fmt.Sprintf("%s.resnets.%d", block, j), ch+skips[len(skips)-1], width, h, w)
			skips = skips[:len(skips)-1]
			ch = width
			if c.UpBlockTypes[i] == upCross {
				transformer(ch, level, h, w)
			}
		}
		if level > 0 {
			conv(block+".upsamplers.0.conv", ch, ch, 1, sizes[level-1].h, sizes[level-1].w)
		}
	}
	add(ch, c.OutChannels, 9, h, w)
	return out
}
