package model

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"

	"scalecrafter/ablation"
	"scalecrafter/model/kernels"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/sampler"
	"scalecrafter/model/weights"
)

// goldenNet evaluates a U-Net with any latent for the sampler: a Worker
// without the built-in pixel autoencoder and prompts.
type goldenNet struct {
	c      *UNetConfig
	w      params.Source
	store  kernelStore
	graphs map[string]*goldenGraph
}

type goldenGraph struct {
	m                  *ops.Machine
	sample, time, text []float32
	out                *unetBuilder
}

func (d *goldenNet) Predict(ctx context.Context, r sampler.Request, out []float32) error {
	key := r.Plan.Key()
	key += fmt.Sprint(" ", r.N, r.H, r.W)
	s := d.graphs[key]
	if s == nil {
		g := gorgonia.NewGraph()
		s = &goldenGraph{}
		var in UNetInputs
		in.Sample, s.sample = params.Input(g, "sample", r.N, r.C, r.H, r.W)
		in.Time, s.time = params.Input(g, "time", r.N, d.c.BlockOutChannels[0])
		in.Text, s.text = params.Input(g, "text", r.N, r.Cond[0].Len, r.Cond[0].Dim)
		var err error
		if s.out, err = unet(d.c, d.w, &d.store, in, r.Plan); err != nil {
			return err
		}
		if s.m, err = ops.NewMachine(g, kernels.NewPool(runtime.GOMAXPROCS(0)), s.out.out); err != nil {
			return err
		}
		d.graphs[key] = s
	}
	copy(s.sample, r.X)
	for i, c := range r.Cond {
		copy(s.text[i*len(c.Embedding):], c.Embedding)
		d.c.EmbedTime(s.time[i*d.c.BlockOutChannels[0]:], r.T)
	}
	if err := s.m.Run(ctx); err != nil {
		return err
	}
	copy(out, s.m.Output(s.out.out))
	return nil
}

// loopRun is one run of the golden's JSON; keys that it leaves out are those of
// the run that its note names.
type loopRun struct {
	Output            string
	DilateTau         int `json:"dilate_tau"`
	NDCFGTau          int `json:"ndcfg_tau"`
	InflateTau        int `json:"inflate_tau"`
	Dilate, Note      string
	Progressive       bool
	NDCFG, Disperse   bool
	DisperseTransform string `json:"disperse_transform"`
	Eta               float64
}

// TestGoldenSamplingLoop runs ScaleCrafter's whole loop: re-dilation constant,
// progressive and fractional, noise-damped guidance, dispersion, eta 0 and 1.
// The plans are Method.Schedule's, from the settings alone.
func TestGoldenSamplingLoop(t *testing.T) {
	const name = "sampling_loop_sd15_tiny"
	var doc struct {
		Weights   string
		Scheduler json.RawMessage
		Steps     int     `json:"num_inference_steps"`
		Guidance  float64 `json:"guidance_scale"`
		Runs      []json.RawMessage
		Dilate    map[string]float64 `json:"dilate_settings"`
		NDCFG     map[string]float64 `json:"ndcfg_dilate_settings"`
		Disperse  []string           `json:"disperse_settings"`
		Timesteps []float64
	}
	readJSON(t, name, &doc)
	f := openGolden(t, name)
	tensor := func(name string) *weights.Tensor {
		x, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	read := func(name string) []float32 { return tensor(name).Data }
	base := strings.TrimSuffix(doc.Weights, ".safetensors")
	c := unetConfig(t, base)
	net := &goldenNet{c: c, w: params.NewFile(openGolden(t, base)), graphs: map[string]*goldenGraph{}}
	sc, err := sampler.ParseSchedulerConfig(doc.Scheduler, name+".json")
	if err != nil {
		t.Fatal(err)
	}
	sched, err := sampler.NewNoiseSchedule(sc)
	if err != nil {
		t.Fatal(err)
	}
	layers := func(settings map[string]float64, every float64) ablation.LayerSet {
		var s ablation.LayerSet
		for path, p := range settings {
			if every > 0 {
				p = every
			}
			s.Overrides = append(s.Overrides, ablation.LayerFactor{Glob: path, Factor: ablation.Factor{H: p, W: p}})
		}
		return s
	}
	ran := 0
	for _, raw := range doc.Runs {
		var r loopRun
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatalf("%s.json: %v", name, err)
		}
		if strings.HasPrefix(r.Note, "as redilated_noisedamped") {
			r.Dilate, r.NDCFG = "dilate_settings", true
		}
		t.Run(strings.TrimPrefix(r.Output, "out."), func(t *testing.T) {
			ran++
			m := ablation.Method{Kind: ablation.Direct}
			if r.DilateTau > 0 {
				every := 0.0
				if _, p, ok := strings.Cut(r.Dilate, ": "); ok { // every layer of a file: p
					if every, err = strconv.ParseFloat(p, 64); err != nil {
						t.Fatalf("cannot read the factor from %q", r.Dilate)
					}
				} else if r.Dilate != "dilate_settings" {
					t.Fatalf("cannot read the layers from %q", r.Dilate)
				}
				m.Kind = ablation.Redilate
				m.Redilation = &ablation.Redilation{LayerSet: layers(doc.Dilate, every), Tau: r.DilateTau}
				if r.Progressive {
					m.Redilation.Decay = ablation.DecayProgressive
				}
				if r.NDCFG {
					m.Redilation.Damped = &ablation.Damping{LayerSet: layers(doc.NDCFG, 0), Tau: r.NDCFGTau}
				}
				if r.Disperse && r.InflateTau > 0 {
					m.Redilation.Dispersion = &ablation.Dispersion{Layers: doc.Disperse, Tau: r.InflateTau, Transform: knownTransform(t, r.DisperseTransform)}
				}
			}
			latents := tensor("in.latents")
			n, h, w := latents.Shape[0], latents.Shape[2], latents.Shape[3]
			plan, err := m.Schedule(c.Layers(), doc.Steps, ablation.Size{H: h / 2, W: w / 2}, ablation.Size{H: h, W: w})
			if err != nil {
				t.Fatal(err)
			}
			want := read(r.Output)
			size := len(want) / doc.Steps
			cond := func(name string) []sampler.Condition {
				x := tensor("in." + name)
				row := x.Shape[1] * x.Shape[2]
				var out []sampler.Condition
				for i := range x.Shape[0] {
					out = append(out, sampler.Condition{Embedding: x.Data[i*row : (i+1)*row], Len: x.Shape[1], Dim: x.Shape[2]})
				}
				return out
			}
			s := sampler.Settings{
				Steps: doc.Steps, GuidanceScale: doc.Guidance, Eta: r.Eta, Schedule: sched, Plan: plan, SampleIndex: make([]uint64, n),
				Cond: cond("prompt_embeds"), Uncond: cond("negative_prompt_embeds"), C: c.InChannels, H: h, W: w, Initial: latents.Data,
			}
			noisy, worst := 0, 0.0
			s.StepNoise = func(step int, dst []float32) {
				copy(dst, read("in.eta1_noise")[step*size:(step+1)*size])
				noisy++
			}
			s.OnStep = func(i sampler.StepInfo) {
				rows := want[i.Step*size : (i.Step+1)*size]
				if i.T != doc.Timesteps[i.Step] {
					t.Errorf("step %d is at timestep %g, want %g", i.Step, i.T, doc.Timesteps[i.Step])
				}
				// The goldens' README: 1e-2, or 5e-4 of the step's RMS.
				sum := 0.0
				for _, v := range rows {
					sum += float64(v) * float64(v)
				}
				tol := 5e-4 * math.Sqrt(sum/float64(size))
				d := maxDiff(t, i.X, rows)
				worst = max(worst, d/tol)
				if d > tol {
					t.Errorf("after step %d the latents differ by %.2g, want at most %.2g", i.Step, d, tol)
				}
			}
			if _, err := sampler.Sample(context.Background(), net, s); err != nil {
				t.Fatal(err)
			}
			t.Logf("at most %.0f%% of the tolerance", 100*worst)
			wantNoise, evaluations := 0, 2*doc.Steps
			if r.Eta > 0 {
				wantNoise = doc.Steps // the last step's too
			}
			if r.NDCFG {
				evaluations += r.NDCFGTau
			}
			if noisy != wantNoise || s.NFE() != evaluations {
				t.Errorf("%d noisy steps and %d evaluations, want %d and %d", noisy, s.NFE(), wantNoise, evaluations)
			}
		})
	}
	if ran == 0 {
		t.Fatal("the golden has no runs")
	}
}

// TestGoldenFreeU holds the filter and the step before a decoder resnet against
// ScaleCrafter's free_lunch_utils.
func TestGoldenFreeU(t *testing.T) {
	var doc struct {
		Filter []struct {
			Input, Output string
			Threshold     int
			Scale         float64
		}
		Concat []struct {
			Case           string
			B1, B2, S1, S2 float64
			Hidden         int `json:"hidden_channels"`
		}
	}
	readJSON(t, "freeu", &doc)
	f := openGolden(t, "freeu")
	const tol = 1e-5
	check := func(name string, build func(leaf func(name string) *gorgonia.Node) *gorgonia.Node) {
		t.Helper()
		got := evaluate(t, func(g *gorgonia.ExprGraph) []*gorgonia.Node {
			return []*gorgonia.Node{build(func(name string) *gorgonia.Node {
				x, err := f.Float32(name)
				if err != nil {
					t.Fatal(err)
				}
				return bind(g, name, x.Data, x.Shape...)
			})}
		})
		want, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		if d := maxDiff(t, got[0], want.Data); d > tol {
			t.Errorf("%s: differs by %.2g, want at most %g", name, d, tol)
		}
	}
	if len(doc.Filter) == 0 || len(doc.Concat) == 0 {
		t.Fatal("the golden has no cases")
	}
	for _, c := range doc.Filter {
		check(c.Output, func(leaf func(string) *gorgonia.Node) *gorgonia.Node {
			return ops.FourierFilter(leaf(c.Input), c.Threshold, float32(c.Scale))
		})
	}
	sd := []int{320, 640, 1280, 1280}
	for _, c := range doc.Concat {
		check("out."+c.Case, func(leaf func(string) *gorgonia.Node) *gorgonia.Node {
			x, skip := freeU(leaf("in."+c.Case+".hidden"), leaf("in."+c.Case+".residual"), sd, &ablation.FreeU{B1: c.B1, B2: c.B2, S1: c.S1, S2: c.S2})
			return ops.Concat(x, skip)
		})
	}
}
