package model

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"

	"scalecrafter/ablation"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/weights"
)

// goldens is the folder of upstream's numbers: $GOLDENS, or the repository's own.
func goldens(t testing.TB) string {
	if dir := os.Getenv("GOLDENS"); dir != "" {
		return dir
	}
	return filepath.Join("..", "testdata", "goldens")
}

func openGolden(t testing.TB, name string) *weights.File {
	t.Helper()
	f, err := weights.Open(filepath.Join(goldens(t), name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func readJSON(t testing.TB, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldens(t), name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s.json: %v", name, err)
	}
}

func unetConfig(t testing.TB, name string) *UNetConfig {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldens(t), name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseUNetConfig(b, name+".json")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// predict runs the U-Net of a golden file once.
func predict(t testing.TB, c *UNetConfig, p params.Source, in *weights.File, sample string, timestep float64, plan *ablation.LayerPlan) []float32 {
	t.Helper()
	x, err := in.Float32("in." + sample)
	if err != nil {
		t.Fatal(err)
	}
	text, err := in.Float32("in.encoder_hidden_states")
	if err != nil {
		t.Fatal(err)
	}
	g := gorgonia.NewGraph()
	var ins UNetInputs
	n := x.Shape[0]
	bind := func(name string, shape []int, data []float32) *gorgonia.Node {
		node, dst := params.Input(g, name, shape...)
		copy(dst, data)
		return node
	}
	ins.Sample = bind("sample", x.Shape, x.Data)
	ins.Text = bind("text", text.Shape, text.Data)
	times := make([]float64, n)
	for i := range times {
		times[i] = timestep
	}
	temb := make([]float32, n*c.BlockOutChannels[0])
	c.EmbedTime(temb, times...)
	ins.Time = bind("time", []int{n, c.BlockOutChannels[0]}, temb)
	if c.AdditionEmbedType != "" {
		pooled, err := in.Float32("in.text_embeds")
		if err != nil {
			t.Fatal(err)
		}
		ids, err := in.Float32("in.time_ids")
		if err != nil {
			t.Fatal(err)
		}
		added := make([]float32, n*c.ProjectionClassDim)
		if err := c.EmbedAdded(added, pooled.Data, ids.Data, n); err != nil {
			t.Fatal(err)
		}
		ins.Added = bind("added", []int{n, c.ProjectionClassDim}, added)
	}
	out, err := UNet(c, p, ins, plan)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ops.NewMachine(g, nil, out)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), m.Output(out)...)
}

func maxDiff(t testing.TB, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	return worst
}

var outName = regexp.MustCompile(`^out\.(sample_\d+x\d+)_t(\d+)$`)

// TestGoldenUNet holds the forward pass against diffusers for SD 1.5's, SD
// 2.1's and SDXL's layout, sizes that do not halve evenly included.
func TestGoldenUNet(t *testing.T) {
	for _, tt := range []struct {
		name string
		tol  float64 // goldens README
	}{{"unet_sd15_tiny", 2e-4}, {"unet_sd21_tiny", 2e-4}, {"unet_sdxl_tiny", 1e-3}} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(goldens(t), tt.name+".json")); err != nil {
				t.Skipf("golden not here: %v", err)
			}
			c, f := unetConfig(t, tt.name), openGolden(t, tt.name)
			p := params.NewFile(f)
			cases := 0
			for _, name := range f.Names() {
				m := outName.FindStringSubmatch(name)
				if m == nil {
					continue
				}
				cases++
				want, err := f.Float32(name)
				if err != nil {
					t.Fatal(err)
				}
				step, _ := strconv.Atoi(m[2])
				got := predict(t, c, p, f, m[1], float64(step), nil)
				if d := maxDiff(t, got, want.Data); d > tt.tol {
					t.Errorf("%s: differs by %.2g, want at most %g", name, d, tt.tol)
				}
			}
			if cases == 0 {
				t.Fatal("the golden holds no outputs")
			}
		})
	}
}

var scaledAttn = regexp.MustCompile(`test_res=(\d+), train_res=(\d+)`)

// TestGoldenUNetRedilate holds re-dilation (whole, fractional, progressive) and
// attention scaling in the whole network against ScaleCrafter's hooks.
func TestGoldenUNetRedilate(t *testing.T) {
	const name = "unet_sd15_tiny_redilate"
	var doc struct {
		Weights string
		Cases   []struct {
			Output    string
			What      string
			Timestep  float64
			Dilation  map[string]float64 `json:"dilation_per_layer"`
			Dispersed []string           `json:"dispersed_layers"`
			Transform string             `json:"dispersion_transform"`
		}
	}
	readJSON(t, name, &doc)
	f := openGolden(t, name)
	base := strings.TrimSuffix(doc.Weights, ".safetensors")
	c, p := unetConfig(t, base), params.NewFile(openGolden(t, base))
	ran := 0
	dispersed := 0
	for _, tt := range doc.Cases {
		t.Run(tt.Output, func(t *testing.T) {
			ran++
			plan := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}, Dispersion: map[string]*ablation.Transform{}}
			for _, path := range tt.Dispersed {
				plan.Dispersion[path] = knownTransform(t, tt.Transform)
				dispersed++
			}
			for path, factor := range tt.Dilation {
				plan.Dilation[path] = ablation.Factor{H: factor, W: factor}
			}
			if m := scaledAttn.FindStringSubmatch(tt.What); m != nil {
				test, _ := strconv.ParseFloat(m[1], 64)
				train, _ := strconv.ParseFloat(m[2], 64)
				plan.AttentionRatio = test / train
			} else if strings.Contains(tt.What, "ScaledAttn") {
				t.Fatalf("cannot read the attention ratio from %q", tt.What)
			}
			size := tt.Output[strings.LastIndex(tt.Output, "_")+1:]
			want, err := f.Float32(tt.Output)
			if err != nil {
				t.Fatal(err)
			}
			got := predict(t, c, p, f, "sample_"+size, tt.Timestep, plan)
			if d := maxDiff(t, got, want.Data); d > 2e-4 {
				t.Errorf("differs by %.2g, want at most 2e-4", d)
			}
		})
	}
	if ran == 0 || dispersed == 0 {
		t.Fatalf("%d cases and %d dispersed layers ran, want some of both", ran, dispersed)
	}
}

// solved are the transforms that knownTransform solved.
var solved = map[string]*ablation.Transform{}

// knownTransform solves the published transform of that name; a test of one
// that no known setting gives is skipped.
func knownTransform(t *testing.T, name string) *ablation.Transform {
	t.Helper()
	if solved[name] != nil {
		return solved[name]
	}
	for _, known := range ablation.KnownDispersions {
		if known.Name == name {
			fit, err := known.Solve()
			if err != nil {
				t.Fatal(err)
			}
			solved[name] = fit.Transform
			return fit.Transform
		}
	}
	t.Skipf("transform %q is upstream's own data, and no known setting of the solver gives it", name)
	return nil
}

// TestGoldenRedilateConv holds single re-dilated convolutions, stride 1 and 2,
// 3x3 and 5x5, even and odd sizes.
func TestGoldenRedilateConv(t *testing.T) {
	var doc struct {
		Cases []struct {
			Output    string
			Input     string
			Stride    int
			Factor    float64 `json:"pf_factor"`
			Kernel    int
			Transform *string `json:"dispersion_transform"`
			ConvInput []int   `json:"conv_input_size"`
			OutSize   []int   `json:"output_size"`
		}
	}
	readJSON(t, "redilate_conv", &doc)
	f := openGolden(t, "redilate_conv")
	read := func(name string) *weights.Tensor {
		x, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	dispersed := 0
	for _, tt := range doc.Cases {
		x, w, b, want := read(tt.Input), read("in.weight"), read("in.bias"), read(tt.Output)
		if tt.Transform != nil {
			w5 := read("out.weight5_" + *tt.Transform)
			small, pairs := w.Data, w.Shape[0]*w.Shape[1]
			w = &weights.Tensor{Shape: w5.Shape, Data: make([]float32, len(w5.Data))}
			knownTransform(t, *tt.Transform).Apply(w.Data, small, pairs)
			if d := maxDiff(t, w.Data, w5.Data); d > 1e-6 {
				t.Errorf("kernels enlarged by %s differ by %.2g, want at most 1e-6", *tt.Transform, d)
			}
			dispersed++
		}
		g := gorgonia.NewGraph()
		bind := func(name string, v *weights.Tensor) *gorgonia.Node {
			n, dst := params.Input(g, name, v.Shape...)
			copy(dst, v.Data)
			return n
		}
		y := Redilate(bind("x", x), bind("w", w), bind("b", b), ablation.Factor{H: tt.Factor, W: tt.Factor}, tt.Stride)
		m, err := ops.NewMachine(g, nil, y)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
		if s := y.Shape(); s[2] != tt.OutSize[0] || s[3] != tt.OutSize[1] {
			t.Errorf("%s: size %v, want %v", tt.Output, s, tt.OutSize)
			continue
		}
		if d := maxDiff(t, m.Output(y), want.Data); d > 5e-5 {
			t.Errorf("%s: differs by %.2g, want at most 5e-5", tt.Output, d)
		}
	}
	if plain := len(doc.Cases) - dispersed; plain == 0 || dispersed == 0 {
		t.Errorf("%d cases with 3x3 and %d with dispersed kernels, want some of both", plain, dispersed)
	}
}
