package experiments

import (
	"fmt"

	"scalecrafter/model"
	"scalecrafter/model/critters"
)

// benchCase is one thing to measure: a layer of a network at one size, or a
// whole step. docs/benchmarks/ reads the same cases to run them on the peers.
type benchCase struct {
	// Name is set/layer and unique.
	Name string `json:"name"`
	// Uses is how often one step of the set's network has this layer.
	Uses      int            `json:"uses,omitempty"`
	Conv      *benchConv     `json:"conv,omitempty"`
	Linear    *benchLinear   `json:"linear,omitempty"`
	Attention *benchAttended `json:"attention,omitempty"`
	Step      *benchStep     `json:"step,omitempty"`
}

// benchConv is a convolution with bias that keeps the side (divided by the
// stride). A fractional dilation is the U-Net's: the feature is stretched,
// convolved with the next whole dilation and brought back.
type benchConv struct {
	N        int     `json:"n"`
	Cin      int     `json:"cin"`
	Cout     int     `json:"cout"`
	Side     int     `json:"side"`
	Kernel   int     `json:"kernel"`
	Stride   int     `json:"stride"`
	Dilation float64 `json:"dilation"`
}

// benchLinear is a linear layer with bias.
type benchLinear struct {
	Tokens int `json:"tokens"` // of all rows
	In     int `json:"in"`
	Out    int `json:"out"`
}

// benchAttended is the attention itself, without its projections.
type benchAttended struct {
	N       int `json:"n"`
	Heads   int `json:"heads"`
	Queries int `json:"queries"`
	Keys    int `json:"keys"`
	Width   int `json:"width"` // of a head
}

// benchStep is one evaluation of a U-Net.
type benchStep struct {
	Net      string  `json:"net"` // of benchNets
	N        int     `json:"n"`
	Side     int     `json:"side"` // of the latent
	Tokens   int     `json:"tokens"`
	Dilation float64 `json:"dilation"` // of every layer that can be dilated
	// Config is the network's, in a list of cases.
	Config *model.UNetConfig `json:"config,omitempty"`
}

func (c *benchCase) kind() string {
	switch {
	case c.Conv != nil:
		return "conv"
	case c.Linear != nil:
		return "linear"
	case c.Attention != nil:
		return "attention"
	}
	return "step"
}

// flops is what the case computes, multiplications and additions counted as
// one each; 0 for a step. A fast algorithm may need fewer.
func (c *benchCase) flops() float64 {
	switch {
	case c.Conv != nil:
		v := c.Conv
		out := float64(v.Side / v.Stride)
		return 2 * float64(v.N*v.Cout) * out * out * float64(v.Cin*v.Kernel*v.Kernel)
	case c.Linear != nil:
		return 2 * float64(c.Linear.Tokens) * float64(c.Linear.In) * float64(c.Linear.Out)
	case c.Attention != nil:
		a := c.Attention
		return 4 * float64(a.N*a.Heads) * float64(a.Queries) * float64(a.Keys) * float64(a.Width)
	}
	return 0
}

// String gives the layer in a few characters: 3x3 320-640 64x64 n2 s2 d2.
func (v *benchConv) String() string {
	s := fmt.Sprintf("conv%dx%d %d-%d %dx%d n%d", v.Kernel, v.Kernel, v.Cin, v.Cout, v.Side, v.Side, v.N)
	if v.Stride > 1 {
		s += fmt.Sprintf(" s%d", v.Stride)
	}
	if v.Kernel > 1 {
		s += fmt.Sprintf(" d%g", v.Dilation)
	}
	return s
}

func (l *benchLinear) String() string { return fmt.Sprintf("linear %d-%d t%d", l.In, l.Out, l.Tokens) }

func (a *benchAttended) String() string {
	return fmt.Sprintf("attention %dx%d %dx%d n%d", a.Queries, a.Keys, a.Heads, a.Width, a.N)
}

func (s *benchStep) String() string {
	return fmt.Sprintf("step %s n%d %dx%d d%g", s.Net, s.N, s.Side, s.Side, s.Dilation)
}

// caseList collects cases without repetition.
type caseList struct {
	set   string
	cases []*benchCase
	at    map[string]*benchCase
}

func (l *caseList) add(layer fmt.Stringer) {
	name := l.set + "/" + layer.String()
	if c := l.at[name]; c != nil {
		c.Uses++
		return
	}
	c := &benchCase{Name: name, Uses: 1}
	switch v := layer.(type) {
	case *benchConv:
		c.Conv = v
	case *benchLinear:
		c.Linear = v
	case *benchAttended:
		c.Attention = v
	case *benchStep:
		c.Step = v
	}
	l.at[name] = c
	l.cases = append(l.cases, c)
}

// benchNets are the networks by the names that steps give them.
func benchNet(name string) (*model.UNetConfig, error) {
	switch name {
	case "critters":
		p, err := model.LoadBuiltin()
		if err != nil {
			return nil, err
		}
		return p.Config, nil
	case "tiny":
		return model.ParseUNetConfig([]byte(tinyNet), "the bench's tiny network")
	}
	return model.PublishedUNet(name)
}

// tinyNet is a U-Net with every kind of layer, for -quick.
const tinyNet = `{"sample_size": 16, "in_channels": 4, "out_channels": 4, "block_out_channels": [16, 32], "layers_per_block": 1,
"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
"attention_head_dim": 2, "cross_attention_dim": 24, "norm_num_groups": 8}`

// benchCases lists all cases, or with quick a few tiny ones of every kind.
func benchCases(quick bool) ([]*benchCase, error) {
	l := &caseList{at: map[string]*benchCase{}}
	if quick {
		l.set = "quick"
		l.add(&benchConv{N: 2, Cin: 16, Cout: 16, Side: 16, Kernel: 3, Stride: 1, Dilation: 1})
		l.add(&benchConv{N: 1, Cin: 8, Cout: 16, Side: 16, Kernel: 3, Stride: 2, Dilation: 2})
		l.add(&benchConv{N: 1, Cin: 8, Cout: 8, Side: 16, Kernel: 3, Stride: 1, Dilation: 2.5})
		l.add(&benchConv{N: 1, Cin: 8, Cout: 8, Side: 16, Kernel: 5, Stride: 1, Dilation: 1})
		l.add(&benchLinear{Tokens: 64, In: 32, Out: 48})
		l.add(&benchAttended{N: 2, Heads: 2, Queries: 64, Keys: 64, Width: 16})
		l.add(&benchStep{Net: "tiny", N: 2, Side: 16, Tokens: 5, Dilation: 1})
		l.add(&benchStep{Net: "tiny", N: 1, Side: 16, Tokens: 5, Dilation: 2})
		return l.cases, nil
	}
	l.set = "bars"
	for _, d := range []float64{1, 2, 3, 4, 2.5} {
		for _, s := range []struct{ ch, side int }{{320, 64}, {640, 32}, {1280, 16}} {
			l.add(&benchConv{N: 2, Cin: s.ch, Cout: s.ch, Side: s.side, Kernel: 3, Stride: 1, Dilation: d})
		}
	}
	for _, d := range []float64{1, 2} {
		for _, s := range []struct{ ch, side int }{{320, 64}, {640, 32}, {1280, 16}} {
			l.add(&benchConv{N: 2, Cin: s.ch, Cout: s.ch, Side: s.side, Kernel: 5, Stride: 1, Dilation: d})
		}
	}
	l.add(&benchLinear{Tokens: 8192, In: 320, Out: 2560})
	l.add(&benchLinear{Tokens: 512, In: 1280, Out: 10240})
	l.add(&benchAttended{N: 2, Heads: 8, Queries: 4096, Keys: 4096, Width: 40})
	l.add(&benchAttended{N: 1, Heads: 8, Queries: 16384, Keys: 16384, Width: 40})
	for _, s := range []struct {
		set, net        string
		n, side, tokens int
	}{
		{"sd15-64", "sd1.5", 2, 64, 77}, {"sd15-128", "sd1.5", 1, 128, 77}, {"sdxl-128", "sdxl", 1, 128, 77}, {"critters-128px", "critters", 8, 64, critters.Tokens},
	} {
		c, err := benchNet(s.net)
		if err != nil {
			return nil, err
		}
		l.set = s.set
		l.walk(c, s.n, s.side, s.tokens)
	}
	l.set = "steps"
	for _, s := range []benchStep{{Net: "sd1.5", N: 2, Side: 64, Tokens: 77}, {Net: "sd1.5", N: 1, Side: 128, Tokens: 77}, {Net: "critters", N: 8, Side: 64, Tokens: critters.Tokens}} {
		for _, d := range []float64{1, 2} {
			s.Dilation = d
			step := s
			l.add(&step)
		}
	}
	return l.cases, nil
}

// walk adds every layer that one evaluation of the network computes with
// weights or attention, in the order of model.UNet.
//
// Source: huggingface/diffusers v0.20.2, models/unet_2d_condition.py.
func (l *caseList) walk(c *model.UNetConfig, n, side, tokens int) {
	at := func(list []int, level, missing int) int {
		switch len(list) {
		case 0:
			return missing
		case 1:
			return list[0]
		}
		return list[level]
	}
	conv := func(in, out, side, kernel, stride int) {
		l.add(&benchConv{N: n, Cin: in, Cout: out, Side: side, Kernel: kernel, Stride: stride, Dilation: 1})
	}
	linear := func(tokens, in, out int) { l.add(&benchLinear{Tokens: tokens, In: in, Out: out}) }
	top := c.BlockOutChannels[0]
	dim := 4 * top
	resnet := func(in, out, side int) {
		conv(in, out, side, 3, 1)
		linear(n, dim, out)
		conv(out, out, side, 3, 1)
		if in != out {
			conv(in, out, side, 1, 1)
		}
	}
	transformer := func(ch, side, level int) {
		t, heads := side*side, at(c.AttentionHeadDim, level, 8)
		linear(n*t, ch, ch) // proj_in
		for range at(c.TransformerLayersPerBlock, level, 1) {
			for range 4 { // q, k, v, out
				linear(n*t, ch, ch)
			}
			l.add(&benchAttended{N: n, Heads: heads, Queries: t, Keys: t, Width: ch / heads})
			linear(n*t, ch, ch)
			linear(n*tokens, c.CrossAttentionDim, ch)
			linear(n*tokens, c.CrossAttentionDim, ch)
			l.add(&benchAttended{N: n, Heads: heads, Queries: t, Keys: tokens, Width: ch / heads})
			linear(n*t, ch, ch)
			linear(n*t, ch, 8*ch)
			linear(n*t, 4*ch, ch)
		}
		linear(n*t, ch, ch) // proj_out
	}
	const cross = "CrossAttn" // the block types that attend start with it
	attends := func(block string) bool { return len(block) > len(cross) && block[:len(cross)] == cross }

	linear(n, top, dim)
	linear(n, dim, dim)
	if c.AdditionEmbedType != "" {
		linear(n, c.ProjectionClassDim, dim)
		linear(n, dim, dim)
	}
	conv(c.InChannels, top, side, 3, 1)
	skips, ch, s := []int{top}, top, side
	deepest := len(c.BlockOutChannels) - 1
	for i, out := range c.BlockOutChannels {
		for range c.LayersPerBlock {
			resnet(ch, out, s)
			ch = out
			if attends(c.DownBlockTypes[i]) {
				transformer(out, s, i)
			}
			skips = append(skips, ch)
		}
		if i < deepest {
			conv(out, out, s, 3, 2)
			s /= 2
			skips = append(skips, out)
		}
	}
	resnet(ch, ch, s)
	transformer(ch, s, deepest)
	resnet(ch, ch, s)
	for i := range c.BlockOutChannels {
		level := deepest - i
		out := c.BlockOutChannels[level]
		for range c.LayersPerBlock + 1 {
			resnet(ch+skips[len(skips)-1], out, s)
			skips = skips[:len(skips)-1]
			ch = out
			if attends(c.UpBlockTypes[i]) {
				transformer(out, s, level)
			}
		}
		if level > 0 {
			s *= 2
			conv(out, out, s, 3, 1)
		}
	}
	conv(ch, c.OutChannels, side, 3, 1)
}
