package model

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scalecrafter/ablation"
	"scalecrafter/model/params"
	"scalecrafter/model/sampler"
	"scalecrafter/model/weights"
)

// layerOf is the layer that a parameter belongs to.
func layerOf(name string) string { return name[:strings.LastIndex(name, ".")] }

// wantParts fails unless err says all parts.
func wantParts(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// TestWeightErrors takes every weight away and misshapes it in turn: the error
// names the tensor, and the layer that wanted it.
func TestWeightErrors(t *testing.T) {
	cfg, w := tinyWeights(t)
	for _, name := range w.Names() {
		if IsTextWeight(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			x := w.Tensor(name)
			missing := params.New()
			for _, other := range w.Names() {
				if other != name {
					missing.Add(other, w.Tensor(other).Shape, w.Tensor(other).Data)
				}
			}
			wantParts(t, buildTiny(cfg, missing, 8, 8, nil), `"`+name+`"`, "layer "+layerOf(name)+":")

			bent := copyWeights(w)
			bent.Add(name, append([]int{1}, x.Shape...), x.Data)
			wantParts(t, buildTiny(cfg, bent, 8, 8, nil), `"`+name+`"`, "layer "+layerOf(name)+":", "[1 ")
		})
	}
}

// TestTextWeightErrors does the same for the text encoder.
func TestTextWeightErrors(t *testing.T) {
	cfg, w := tinyWeights(t)
	for _, name := range []string{tokenEmbedding, positionEmbedding, finalNorm + ".weight", finalNorm + ".bias"} {
		x := w.Tensor(name)
		if x == nil {
			t.Fatalf("no weight %s", name)
		}
		bent := copyWeights(w)
		bent.Add(name, append([]int{1}, x.Shape...), x.Data)
		_, err := New(cfg, sampler.StableDiffusion(), w, bent)
		wantParts(t, err, `"`+name+`"`, "text encoder")
	}
}

// writeModel writes a model folder.
func writeModel(t testing.TB, unet, text []weights.Tensor) string {
	t.Helper()
	dir := t.TempDir()
	for path, b := range map[string]string{
		unetConfigFile: tinyUNet,
		schedulerFile:  `{"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon", "steps_offset": 1, "clip_sample": false, "set_alpha_to_one": false}`,
	} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, list := range map[string][]weights.Tensor{unetWeightsFile: unet, textWeightsFile: text} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := weights.Write(full, list, nil, "F32"); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func isUNet(name string) bool { return !IsTextWeight(name) }

// TestLoad writes a model folder and reads it back: the same numbers, and a
// digest that follows every file.
func TestLoad(t *testing.T) {
	_, w := tinyWeights(t)
	dir := writeModel(t, tensors(w, isUNet), tensors(w, IsTextWeight))
	p, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, b := predictTiny(t, p.NewWorker(1), 1, 8, 8, nil), predictTiny(t, tinyPipeline(t).NewWorker(1), 1, 8, 8, nil)
	if d := maxDiff(t, a, b); d != 0 {
		t.Errorf("the loaded model differs by %g from the one written", d)
	}
	if h, wd := p.TrainSize(); h != 16 || wd != 16 {
		t.Errorf("train size %dx%d, want 16x16", h, wd)
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if p.Digest() == "" || again.Digest() != p.Digest() {
		t.Errorf("digests %q and %q of one folder", p.Digest(), again.Digest())
	}
	for _, name := range []string{"conv_in.bias", finalNorm + ".bias"} {
		old := w.Tensor(name).Data[0]
		w.Tensor(name).Data[0] += 1
		other, err := Load(writeModel(t, tensors(w, isUNet), tensors(w, IsTextWeight)))
		w.Tensor(name).Data[0] = old
		if err != nil {
			t.Fatal(err)
		}
		if other.Digest() == p.Digest() {
			t.Errorf("another %s has the same digest", name)
		}
	}
}

// TestLoadErrors holds what Load says of a folder that it cannot take.
func TestLoadErrors(t *testing.T) {
	_, w := tinyWeights(t)
	write := func() string { return writeModel(t, tensors(w, isUNet), tensors(w, IsTextWeight)) }
	put := func(dir, path, text string) string {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	nan := func(name string) string {
		x := w.Tensor(name)
		bad := append([]float32(nil), x.Data...)
		bad[2] = float32(math.NaN())
		spoilt := copyWeights(w)
		spoilt.Add(name, x.Shape, bad)
		return writeModel(t, tensors(spoilt, isUNet), tensors(spoilt, IsTextWeight))
	}
	config, err := os.ReadFile(filepath.Join(write(), unetConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		if !strings.Contains(string(config), old) {
			t.Fatalf("the config has no %q", old)
		}
		return put(write(), unetConfigFile, strings.Replace(string(config), old, new, 1))
	}
	for _, tt := range []struct {
		name string
		dir  string
		want []string
	}{
		{"no folder", filepath.Join(t.TempDir(), "nothing"), []string{"nothing", unetConfigFile, unetWeightsFile}},
		{"config", put(write(), unetConfigFile, "{"), []string{unetConfigFile}},
		{"scheduler", put(write(), schedulerFile, "{"), []string{schedulerFile}},
		{"weights", put(write(), unetWeightsFile, "short"), []string{unetWeightsFile}},
		{"text weights", put(write(), textWeightsFile, ""), []string{textWeightsFile}},
		{"NaN", nan("mid_block.resnets.0.conv1.weight"), []string{unetWeightsFile, `"mid_block.resnets.0.conv1.weight"`, "layer mid_block.resnets.0.conv1:", "NaN"}},
		{"NaN in a norm", nan("conv_norm_out.bias"), []string{`"conv_norm_out.bias"`, "layer conv_norm_out:", "NaN"}},
		{"NaN in the text encoder", nan(tokenEmbedding), []string{textWeightsFile, tokenEmbedding, "NaN", "text encoder"}},
		{"other channels", edit(`"in_channels": 12`, `"in_channels": 4`), []string{"in_channels 4", "12"}},
		{"no size", edit(`"sample_size": 8, `, ""), []string{"sample_size"}},
		{"other width", edit(`[8, 16]`, `[8, 24]`), []string{"layer down_blocks.1", "[16", "[24"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(tt.dir)
			wantParts(t, err, tt.want...)
		})
	}
}

// TestConfigErrors holds what is said of a config.json that is not supported.
func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		name     string
		old, new string
		want     []string
	}{
		{"no levels", `[8, 16]`, `[]`, []string{"block_out_channels", "empty"}},
		{"more blocks", `["DownBlock2D", `, `["DownBlock2D", "DownBlock2D", `, []string{"3 down_block_types", "2 block_out_channels"}},
		{"fewer up blocks", `"CrossAttnUpBlock2D", "UpBlock2D"`, `"UpBlock2D"`, []string{"1 up_block_types"}},
		{"no channels", `"in_channels": 12`, `"in_channels": 0`, []string{"in_channels", "1 or more"}},
		{"no layers", `"layers_per_block": 1`, `"layers_per_block": 0`, []string{"layers_per_block"}},
		{"no text", `"cross_attention_dim": 8`, `"cross_attention_dim": 0`, []string{"cross_attention_dim is 0"}},
		{"mid block", `"norm_num_groups"`, `"mid_block_type": "UNetMidBlock2D", "norm_num_groups"`, []string{"mid_block_type", `"UNetMidBlock2D"`, midCross}},
		{"activation", `"norm_num_groups"`, `"act_fn": "gelu", "norm_num_groups"`, []string{"act_fn", `"gelu"`, "silu"}},
		{"addition", `"norm_num_groups"`, `"addition_embed_type": "image", "norm_num_groups"`, []string{"addition_embed_type", `"image"`, textTime}},
		{"groups", `"norm_num_groups": 4`, `"norm_num_groups": 3`, []string{"block_out_channels[0] is 8", "norm_num_groups (3)"}},
		{"down block", `"DownBlock2D", `, `"AttnDownBlock2D", `, []string{"down_block_types[0]", "AttnDownBlock2D", downCross}},
		{"up block", `, "UpBlock2D"`, `, "ResUpBlock"`, []string{"up_block_types[1]", "ResUpBlock", upCross}},
		{"heads", `"attention_head_dim": 2`, `"attention_head_dim": 3`, []string{"level 0", "8 channels", "3 heads"}},
		{"heads by level", `"attention_head_dim": 2`, `"attention_head_dim": [2, 5]`, []string{"level 1", "16 channels", "5 heads"}},
		{"too many heads", `"attention_head_dim": 2`, `"attention_head_dim": [1, 2, 2]`, []string{"attention_head_dim has 3 entries"}},
		{"heads of a kind", `"attention_head_dim": 2`, `"attention_head_dim": "two"`, []string{`"two"`, "whole number"}},
		{"fractional heads", `"attention_head_dim": 2`, `"attention_head_dim": 2.5`, []string{"2.5"}},
		{"depth", `"norm_num_groups"`, `"transformer_layers_per_block": 0, "norm_num_groups"`, []string{"transformer_layers_per_block is 0"}},
		{"depths", `"norm_num_groups"`, `"transformer_layers_per_block": [1], "attention_head_dim": [2], "block_out_channels": [8], "norm_num_groups"`, []string{"1 block_out_channels"}},
		{"type", `"layers_per_block": 1`, `"layers_per_block": "1"`, []string{"layers_per_block"}},
		{"syntax", `{`, ``, []string{"somewhere/config.json"}},
		{"fine", `"norm_num_groups"`, `"transformer_layers_per_block": null, "attention_head_dim": [2, 4], "unknown": 1, "norm_num_groups"`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(tinyUNet, tt.old) {
				t.Fatalf("the config has no %q", tt.old)
			}
			c, err := ParseUNetConfig([]byte(strings.Replace(tinyUNet, tt.old, tt.new, 1)), "somewhere/config.json")
			if tt.want == nil {
				if err != nil || c.heads(1) != 4 || c.depth(1) != 1 {
					t.Errorf("config %+v, error %v", c, err)
				}
				return
			}
			wantParts(t, err, append(tt.want, "somewhere/config.json")...)
		})
	}
}

// TestPlanErrors holds what is said of plans that do not fit the network.
func TestPlanErrors(t *testing.T) {
	cfg, w := tinyWeights(t)
	const conv = "mid_block.resnets.1.conv2"
	dilate := func(f ablation.Factor, paths ...string) *ablation.LayerPlan {
		p := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}}
		for _, path := range paths {
			p.Dilation[path] = f
		}
		return p
	}
	two := ablation.Factor{H: 2, W: 2}
	for _, tt := range []struct {
		name string
		plan *ablation.LayerPlan
		want []string
	}{
		{"unknown layer", dilate(two, "mid_block.resnets.9.conv1"), []string{`"mid_block.resnets.9.conv1"`, "dilates"}},
		{"a linear layer", dilate(two, "time_embedding.linear_1"), []string{`"time_embedding.linear_1"`}},
		{"conv_in", dilate(two, "conv_in"), []string{`"conv_in"`}},
		{"first of several", dilate(two, "z", "b", "a", "y"), []string{`"a"`}},
		{"zero", dilate(ablation.Factor{H: 0, W: 2}, conv), []string{"layer " + conv + ":", "factor 0"}},
		{"negative", dilate(ablation.Factor{H: 2, W: -1}, conv), []string{"layer " + conv + ":", "factor -1"}},
		{"NaN", dilate(ablation.Factor{H: math.NaN(), W: 2}, conv), []string{"layer " + conv + ":", "factor NaN"}},
		{"infinite", dilate(ablation.Factor{H: math.Inf(1), W: 2}, conv), []string{"layer " + conv + ":", "factor +Inf"}},
		{"attention of one token", &ablation.LayerPlan{AttentionRatio: 16}, []string{"layer ", ".attn1:", "undefined", "16 tokens", "1 at"}},
		{"attention NaN", &ablation.LayerPlan{AttentionRatio: math.NaN()}, []string{".attn1:", "undefined"}},
		{"attention negative", &ablation.LayerPlan{AttentionRatio: -2}, []string{".attn1:", "undefined"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 3 { // not by the order of a map
				wantParts(t, buildTiny(cfg, w, 8, 8, tt.plan), tt.want...)
			}
		})
	}
	if err := buildTiny(cfg, w, 8, 8, &ablation.LayerPlan{AttentionRatio: 15, Dilation: map[string]ablation.Factor{conv: two}}); err != nil {
		t.Errorf("a plan that fits: %v", err)
	}
}

// TestMissingInput: SDXL's layout needs its added condition.
func TestMissingInput(t *testing.T) {
	cfg, w := tinyWeights(t)
	c := *cfg
	c.AdditionEmbedType = textTime
	wantParts(t, buildTiny(&c, w, 8, 8, nil), "layer add_embedding:", "input is missing")
	c.AdditionTimeEmbedDim, c.ProjectionClassDim = 4, 20
	wantParts(t, c.EmbedAdded(make([]float32, 20), make([]float32, 8), make([]float32, 2), 1), "width 8", "2 time ids", "20")
	if err := c.EmbedAdded(make([]float32, 20), make([]float32, 8), make([]float32, 3), 1); err != nil {
		t.Error(err)
	}
}
