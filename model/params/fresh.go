package params

import (
	"fmt"
	"math"
	"strings"

	"gorgonia.org/gorgonia"
)

// Fresh makes weights as the builder asks for them, for training from scratch:
// PyTorch's defaults for linear and convolution layers, ones and zeros for
// norms, N(0, 0.5^2) for embeddings, and zeros for conv_out, so that training
// starts from the prediction zero. normal gives the i-th standard normal of the
// tensor's own stream, so a tensor's start depends on its name alone.
type Fresh struct {
	Set
	normal func(name string, n int) []float32
	fanIn  map[string]int
}

// NewFresh makes an empty set; normal fills n standard normals for a name.
func NewFresh(normal func(name string, n int) []float32) *Fresh {
	return &Fresh{Set: *New(), normal: normal, fanIn: map[string]int{}}
}

func (p *Fresh) Leaf(g *gorgonia.ExprGraph, name string, shape ...int) *gorgonia.Node {
	if p.byName[name] == nil {
		data := make([]float32, Elements(shape))
		p.fill(name, shape, data)
		p.Add(name, shape, data)
	}
	return leafOf(g, p.byName[name], shape)
}

func (p *Fresh) fill(name string, shape []int, data []float32) {
	base, kind := name, ""
	if i := strings.LastIndex(name, "."); i >= 0 {
		base, kind = name[:i], name[i+1:]
	}
	switch {
	case base == "conv_out":
	case strings.Contains(base, "embeddings"):
		for i, v := range p.normal(name, len(data)) {
			data[i] = 0.5 * v
		}
	case strings.Contains(base[strings.LastIndex(base, ".")+1:], "norm"):
		if kind == "weight" {
			for i := range data {
				data[i] = 1
			}
		}
	default:
		if kind == "weight" {
			p.fanIn[base] = Elements(shape[1:])
		}
		fan := p.fanIn[base]
		if fan == 0 {
			panic(weightError{fmt.Errorf("bias %q asked for before its weight", name)})
		}
		// Uniform in +-1/sqrt(fan in), by the normal's own distribution function.
		bound := 1 / math.Sqrt(float64(fan))
		for i, v := range p.normal(name, len(data)) {
			data[i] = float32(bound * math.Erf(float64(v)/math.Sqrt2))
		}
	}
}
