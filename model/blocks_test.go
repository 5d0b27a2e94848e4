package model

import (
	"slices"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"

	"scalecrafter/model/ops"
	"scalecrafter/model/params"
)

// blockCase is one entry of micro_ops.json.
type blockCase struct {
	Name   string
	Inputs map[string][]int
	Output []int
	Heads  int
}

// blocks builds each block case with the U-Net's own methods, under the path
// "block", from the case's inputs.
var blocks = map[string]struct {
	config func(c blockCase) UNetConfig
	build  func(b *unetBuilder, c blockCase, in map[string]*gorgonia.Node) *gorgonia.Node
}{
	"resnet_block": {
		func(c blockCase) UNetConfig {
			// The embedding is four times the first level wide; the golden's is
			// padded to that with zeros.
			return UNetConfig{BlockOutChannels: []int{(c.Inputs["temb"][1] + 3) / 4}, NormNumGroups: 4, NormEps: 1e-5}
		},
		func(b *unetBuilder, c blockCase, in map[string]*gorgonia.Node) *gorgonia.Node {
			b.emb = ops.SiLU(in["temb"])
			return b.resnet("block", in["x"], c.Inputs["x"][1], c.Output[1], 0)
		},
	},
	"transformer_block": {
		func(c blockCase) UNetConfig { return UNetConfig{CrossAttentionDim: c.Inputs["ctx"][2]} },
		func(b *unetBuilder, c blockCase, in map[string]*gorgonia.Node) *gorgonia.Node {
			b.text = in["ctx"]
			return b.transformerBlock("block", in["x"], c.Inputs["x"][2], c.Heads)
		},
	},
	"downsample": {
		func(blockCase) UNetConfig { return UNetConfig{} },
		func(b *unetBuilder, c blockCase, in map[string]*gorgonia.Node) *gorgonia.Node {
			return b.dilatable("block.conv", in["x"], c.Inputs["x"][1], c.Output[1], 2, 0)
		},
	},
	"upsample": {
		func(blockCase) UNetConfig { return UNetConfig{} },
		func(b *unetBuilder, c blockCase, in map[string]*gorgonia.Node) *gorgonia.Node {
			x := ops.UpsampleNearest(in["x"], c.Output[2], c.Output[3])
			return b.dilatable("block.conv", x, c.Inputs["x"][1], c.Output[1], 1, 0)
		},
	},
	"time_embedding": {
		func(c blockCase) UNetConfig { return UNetConfig{BlockOutChannels: []int{c.Output[1] / 4}} },
		func(b *unetBuilder, c blockCase, in map[string]*gorgonia.Node) *gorgonia.Node {
			return b.timeMLP("block", in["x"], c.Inputs["x"][1])
		},
	},
}

// TestGoldenMicroOpsBlocks holds whole blocks, forward and gradients, against
// diffusers in float64.
func TestGoldenMicroOpsBlocks(t *testing.T) {
	var doc struct{ Cases []blockCase }
	readJSON(t, "micro_ops", &doc)
	f := openGolden(t, "micro_ops")
	seen := map[string]bool{}
	for _, c := range doc.Cases {
		block, ok := blocks[c.Name]
		if !ok {
			if slices.ContainsFunc(f.Names(), func(n string) bool { return strings.HasPrefix(n, c.Name+".in.weight.") }) {
				t.Errorf("%s has named weights, so it is a block, and nothing here builds it", c.Name)
			}
			continue
		}
		seen[c.Name] = true
		t.Run(c.Name, func(t *testing.T) {
			read := func(name string) []float32 {
				x, err := f.Float32(c.Name + "." + name)
				if err != nil {
					t.Fatal(err)
				}
				return x.Data
			}
			cfg := block.config(c)
			names := []string{}
			for name := range c.Inputs {
				names = append(names, name)
			}
			slices.Sort(names)

			vals := evaluate(t, func(g *gorgonia.ExprGraph) []*gorgonia.Node {
				w := params.New()
				in := map[string]*gorgonia.Node{}
				for _, name := range names {
					shape, data := c.Inputs[name], read("in."+name)
					if strings.Contains(name, "temb") || strings.Contains(name, "time_emb_proj.weight") {
						shape, data = padColumns(shape, data, cfg.timeDim())
					}
					if param, ok := strings.CutPrefix(name, "weight."); ok {
						w.Add("block."+param, shape, data)
					} else {
						in[name] = bind(g, name, data, shape...)
					}
				}
				y := block.build(&unetBuilder{c: &cfg, w: w, g: g, convs: map[string]bool{}}, c, in)
				if !slices.Equal([]int(y.Shape()), c.Output) {
					t.Fatalf("output has shape %v, want %v", y.Shape(), c.Output)
				}
				// The goldens' loss is sum(out * grad_out), a dot product.
				dy := read("grad_out")
				dot := ops.Linear(ops.Reshape(y, 1, len(dy)), bind(g, "grad_out", dy, 1, len(dy)), nil)
				var wrt gorgonia.Nodes
				for _, name := range names {
					if param, ok := strings.CutPrefix(name, "weight."); ok {
						wrt = append(wrt, g.ByName("block." + param)[0])
					} else {
						wrt = append(wrt, in[name])
					}
				}
				grads, err := gorgonia.Grad(ops.Reshape(dot), wrt...)
				if err != nil {
					t.Fatal(err)
				}
				return append([]*gorgonia.Node{y}, grads...)
			})
			if d := maxDiff(t, vals[0], read("out")); d > 2e-5 {
				t.Errorf("output differs by %.2g, want at most 2e-5", d)
			}
			for i, name := range names {
				want := read("grad." + name)
				got := vals[1+i]
				if shape := c.Inputs[name]; len(got) != len(want) {
					got = firstColumns(got, shape[0], shape[1])
				}
				if d := maxDiff(t, got, want); d > 1e-4 {
					t.Errorf("gradient of %s differs by %.2g, want at most 1e-4", name, d)
				}
			}
		})
	}
	for name := range blocks {
		if !seen[name] {
			t.Errorf("the golden has no case %s", name)
		}
	}
}

// padColumns widens a matrix with zeros.
func padColumns(shape []int, data []float32, cols int) ([]int, []float32) {
	out := make([]float32, shape[0]*cols)
	for i := range shape[0] {
		copy(out[i*cols:], data[i*shape[1]:(i+1)*shape[1]])
	}
	return []int{shape[0], cols}, out
}

// firstColumns undoes padColumns.
func firstColumns(data []float32, rows, cols int) []float32 {
	wide := len(data) / rows
	var out []float32
	for i := range rows {
		out = append(out, data[i*wide:i*wide+cols]...)
	}
	return out
}
