package sampler

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"scalecrafter/ablation"
)

// fake is a network whose answer is a known function of its input: each
// value is squashed, shifted by the row's condition and by the plan. It
// records its calls.
type fake struct {
	calls  []call
	before func(req Request) error
	after  func(req Request, out []float32)
}

type call struct {
	rows int
	plan string
	t    float64
}

func (f *fake) Predict(ctx context.Context, req Request, out []float32) error {
	f.calls = append(f.calls, call{req.N, req.Plan.Key(), req.T})
	if f.before != nil {
		if err := f.before(req); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m := req.C * req.H * req.W
	if len(req.X) != req.N*m || len(out) != req.N*m || len(req.Cond) != req.N {
		return errors.New("request has the wrong size")
	}
	for row := range req.N {
		for i := range m {
			out[row*m+i] = answer(req.X[row*m+i], req.T, req.Cond[row], req.Plan)
		}
	}
	if f.after != nil {
		f.after(req, out)
	}
	return nil
}

// answer is the fake network for one value.
func answer(x float32, t float64, c Condition, p *ablation.LayerPlan) float32 {
	shift := 0.0
	for _, v := range c.Embedding {
		shift += float64(v)
	}
	return float32(math.Tanh(float64(x)*0.7+shift) + 0.01*float64(len(p.Key())) + t/5000)
}

func cond(v float32) Condition { return Condition{Embedding: []float32{v, v / 2}, Len: 1, Dim: 2} }

func dilated(factor float64) *ablation.LayerPlan {
	return &ablation.LayerPlan{Dilation: map[string]ablation.Factor{"mid_block.resnets.0.conv1": {H: factor, W: factor}}}
}

// settings is a small valid run of n samples.
func settings(t testing.TB, n, steps int) Settings {
	t.Helper()
	s := Settings{Steps: steps, GuidanceScale: 7.5, Eta: 1, Seed: 42, C: 3, H: 4, W: 5,
		Schedule: mustSchedule(t, StableDiffusion()), Uncond: []Condition{cond(0)}}
	for i := range n {
		s.SampleIndex = append(s.SampleIndex, uint64(100+i))
		s.Cond = append(s.Cond, cond(float32(i)/4))
	}
	return s
}

// subset is the run of some of the samples alone.
func subset(s Settings, from, to int) Settings {
	s.SampleIndex, s.Cond = s.SampleIndex[from:to], s.Cond[from:to]
	if len(s.Uncond) > 1 {
		s.Uncond = s.Uncond[from:to]
	}
	return s
}

func mustSample(t testing.TB, d Denoiser, s Settings) []float32 {
	t.Helper()
	x, err := Sample(context.Background(), d, s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func sameBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d is %g, want exactly %g", what, i, got[i], want[i])
		}
	}
}

func TestEvaluations(t *testing.T) {
	plan := func(steps int, f func(i int) ablation.StepPlan) []ablation.StepPlan {
		p := make([]ablation.StepPlan, steps)
		for i := range p {
			p[i] = f(i)
		}
		return p
	}
	damp := func(until int) []ablation.StepPlan {
		return plan(6, func(i int) ablation.StepPlan {
			if i < until {
				return ablation.StepPlan{Main: dilated(2), Damped: dilated(3)}
			}
			return ablation.StepPlan{Main: dilated(2)}
		})
	}
	const first = 831 // timestep of step 0: (6-1) * floor(1000/6) + 1
	tests := []struct {
		name  string
		scale float64
		plan  []ablation.StepPlan
		want  int    // a sample
		calls []call // of the first step
	}{
		{"no guidance", 1, nil, 6, []call{{3, "plain", first}}},
		{"guidance", 7.5, nil, 12, []call{{6, "plain", first}}},
		{"damped", 7.5, damp(4), 16, []call{{6, dilated(2).Key(), first}, {3, dilated(3).Key(), first}}},
		{"damped without guidance is wasted", 1, damp(4), 6, []call{{3, dilated(2).Key(), first}}},
		{"damped by the main network", 7.5, plan(6, func(int) ablation.StepPlan {
			return ablation.StepPlan{Main: dilated(2), Damped: dilated(2)}
		}), 12, []call{{6, dilated(2).Key(), first}}},
		{"damped by the plain network", 7.5, plan(6, func(int) ablation.StepPlan {
			return ablation.StepPlan{Main: dilated(2), Damped: &ablation.LayerPlan{}}
		}), 18, []call{{6, dilated(2).Key(), first}, {3, "plain", first}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := settings(t, 3, 6)
			s.GuidanceScale, s.Plan = tt.scale, tt.plan
			counted := 0
			s.OnStep = func(i StepInfo) { counted = i.NFE }
			f := &fake{}
			mustSample(t, f, s)
			rows := 0
			for _, c := range f.calls {
				rows += c.rows
			}
			if rows != 3*tt.want || s.NFE() != tt.want || counted != tt.want {
				t.Errorf("%d rows for 3 samples, NFE %d foretold and %d counted, want %d a sample", rows, s.NFE(), counted, tt.want)
			}
			for i, want := range tt.calls {
				if f.calls[i] != want {
					t.Errorf("call %d is %+v, want %+v", i, f.calls[i], want)
				}
			}
			if len(tt.calls) == 1 && len(f.calls) > 1 && f.calls[1].t == first {
				t.Error("the first step makes a second call")
			}
		})
	}
}

// Two runs of one step with eta 0 give the output that guidance must have
// produced; it is compared with the formula written out.
func TestDampedGuidanceFormula(t *testing.T) {
	for _, rescale := range []float64{0, 0.7} {
		s := settings(t, 2, 4)
		s.Eta, s.GuidanceRescale = 0, rescale
		s.Plan = make([]ablation.StepPlan, 4)
		s.Plan[0] = ablation.StepPlan{Main: dilated(2), Damped: dilated(2.5)}
		m := s.C * s.H * s.W
		start := make([]float32, 2*m)
		Noise(start, NoiseKey{Seed: 9})
		s.Initial = append([]float32(nil), start...)
		var got []float32
		s.OnStep = func(i StepInfo) {
			if i.Step == 0 {
				got = append([]float32(nil), i.X...)
			}
		}
		mustSample(t, &fake{}, s)
		sameBits(t, "Initial is the caller's", s.Initial, start)

		d, err := NewDDIM(s.Schedule, 4, 0)
		if err != nil {
			t.Fatal(err)
		}
		ts := d.Timesteps()[0]
		eps := make([]float32, 2*m)
		for row := range 2 {
			var text []float64
			guided := make([]float64, m)
			for i := range m {
				x := start[row*m+i]
				v0 := float64(answer(x, ts, s.Uncond[0], dilated(2.5)))
				d0 := float64(answer(x, ts, s.Uncond[0], dilated(2)))
				dc := float64(answer(x, ts, s.Cond[row], dilated(2)))
				guided[i] = v0 + 7.5*(dc-d0)
				text = append(text, dc)
			}
			factor := rescale*sampleStd(text)/sampleStd(guided) + 1 - rescale
			for i, g := range guided {
				eps[row*m+i] = float32(g * factor)
			}
		}
		want, x0 := make([]float32, 2*m), make([]float32, 2*m)
		d.Step(Update{Step: 0, X: start, Output: eps, Next: want, X0: x0})
		near(t, "latents after a damped step", got, want, 5e-6)
	}
}

// sampleStd has the N-1 denominator of upstream's torch.std.
func sampleStd(x []float64) float64 {
	mean, sum := 0.0, 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		sum += (v - mean) * (v - mean)
	}
	return math.Sqrt(sum / float64(len(x)-1))
}

func TestGuidanceOff(t *testing.T) {
	s := settings(t, 2, 3)
	s.Uncond, s.GuidanceScale = nil, 1
	want := mustSample(t, &fake{}, s)
	for _, scale := range []float64{0, -3, 0.5} {
		s.GuidanceScale = scale
		sameBits(t, "scale of 1 or less", mustSample(t, &fake{}, s), want)
	}
}

func TestConstantAnswerSurvivesRescale(t *testing.T) {
	eps := []float32{2, 2, 1, 3}
	rescaleGuidance(eps, []float32{0, 1, 1, 5}, 2, 2, 1)
	near(t, "rescaled", eps, []float32{2, 2, 2, 6}, 0)
}

// Rows depend on their own index and condition only: any split and any order
// of the samples gives every sample the same bits.
func TestBatchSplitChangesNothing(t *testing.T) {
	s := settings(t, 8, 5)
	s.GuidanceRescale = 0.3
	s.Uncond = nil
	for i := range 8 {
		s.Uncond = append(s.Uncond, cond(-float32(i)/8))
	}
	s.Plan = make([]ablation.StepPlan, 5)
	for i := range 3 {
		s.Plan[i] = ablation.StepPlan{Main: dilated(2), Damped: dilated(1.5)}
	}
	whole := mustSample(t, &fake{}, s)
	for _, size := range []int{1, 2, 3, 7} {
		var parts []float32
		for from := 0; from < 8; from += size {
			parts = append(parts, mustSample(t, &fake{}, subset(s, from, min(from+size, 8)))...)
		}
		sameBits(t, "in batches of "+itoa(size), parts, whole)
	}
	back := s
	back.SampleIndex, back.Cond, back.Uncond = nil, nil, nil
	for i := 7; i >= 0; i-- {
		back.SampleIndex = append(back.SampleIndex, s.SampleIndex[i])
		back.Cond = append(back.Cond, s.Cond[i])
		back.Uncond = append(back.Uncond, s.Uncond[i])
	}
	reversed, m := mustSample(t, &fake{}, back), s.C*s.H*s.W
	for i := range 8 {
		sameBits(t, "reversed", reversed[(7-i)*m:(8-i)*m], whole[i*m:(i+1)*m])
	}
	sameBits(t, "again", mustSample(t, &fake{}, s), whole)
}

// Methods compared at one seed share their noise, step by step; other seeds,
// samples and stages do not.
func TestNoiseIsPaired(t *testing.T) {
	run := func(change func(s *Settings)) []float32 {
		s := settings(t, 1, 2)
		change(&s)
		return mustSample(t, &fake{}, s)
	}
	base := run(func(*Settings) {})
	for name, change := range map[string]func(s *Settings){
		"seed":   func(s *Settings) { s.Seed++ },
		"sample": func(s *Settings) { s.SampleIndex = []uint64{7} },
		"stage":  func(s *Settings) { s.Stage = 1 },
	} {
		other := run(change)
		same := 0
		for i := range base {
			if base[i] == other[i] {
				same++
			}
		}
		if same > 0 {
			t.Errorf("another %s gives %d of %d equal values", name, same, len(base))
		}
	}
}

// The noise override is asked for exactly the steps that use noise, the last
// included, and reaches the latent with the step's sigma.
func TestEtaNoiseReachesTheLastStep(t *testing.T) {
	s := settings(t, 1, 50)
	var asked []int
	s.StepNoise = func(step int, dst []float32) {
		asked = append(asked, step)
		clear(dst)
	}
	quiet := mustSample(t, &fake{}, s)
	if len(asked) != 50 || asked[0] != 0 || asked[49] != 49 {
		t.Fatalf("noise asked for at steps %v, want all 50", asked)
	}
	s.StepNoise = func(step int, dst []float32) {
		clear(dst)
		if step == 49 {
			for i := range dst {
				dst[i] = 1
			}
		}
	}
	loud := mustSample(t, &fake{}, s)
	for i := range loud {
		if d := float64(loud[i] - quiet[i]); math.Abs(d-.0206) > 1e-4 {
			t.Fatalf("unit noise on the last step moves value %d by %.5f, want .0206", i, d)
		}
	}
	s.Eta = 0
	s.StepNoise = func(step int, _ []float32) { t.Errorf("eta 0 asks for noise at step %d", step) }
	mustSample(t, &fake{}, s)
}

func TestOnStep(t *testing.T) {
	s := settings(t, 2, 4)
	var infos []StepInfo
	var last []float32
	s.OnStep = func(i StepInfo) {
		infos = append(infos, i)
		last = append([]float32(nil), i.X...)
	}
	x := mustSample(t, &fake{}, s)
	sameBits(t, "the last step's latents", last, x)
	for i, info := range infos {
		if info.Step != i || info.Steps != 4 || info.T != float64((3-i)*250+1) || len(info.X0) != len(x) || info.NFE != 2*(i+1) {
			t.Errorf("after step %d: step %d of %d, timestep %g, %d clean values, NFE %d", i, info.Step, info.Steps, info.T, len(info.X0), info.NFE)
		}
	}
	if len(infos) != 4 {
		t.Errorf("told %d times, want 4", len(infos))
	}
}

func TestCancellation(t *testing.T) {
	t.Run("between steps", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		s := settings(t, 1, 10)
		s.OnStep = func(i StepInfo) {
			if i.Step == 3 {
				cancel()
			}
		}
		f := &fake{}
		_, err := Sample(ctx, f, s)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "before step 4 of 10") {
			t.Errorf("got %v", err)
		}
		if len(f.calls) != 4 {
			t.Errorf("%d evaluations, want 4", len(f.calls))
		}
	})
	t.Run("before the first", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f := &fake{}
		if _, err := Sample(ctx, f, settings(t, 1, 10)); !errors.Is(err, context.Canceled) || len(f.calls) != 0 {
			t.Errorf("got %v after %d evaluations", err, len(f.calls))
		}
	})
	t.Run("inside the network", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		f := &fake{before: func(Request) error { cancel(); return nil }}
		_, err := Sample(ctx, f, settings(t, 1, 10))
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "step 0 (timestep 901)") {
			t.Errorf("got %v", err)
		}
	})
}

func TestBadAnswersAreNamed(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	m := 3 * 4 * 5
	tests := []struct {
		name string
		bad  func(req Request, out []float32)
		want string
	}{
		{"uncond row", func(req Request, out []float32) { out[m] = nan },
			"step 2 (timestep 401), sample index 101: network's answer holds NaN at channel 0, row 0, column 0"},
		{"cond row", func(req Request, out []float32) {
			if req.N == 4 {
				out[2*m+20+5+3] = inf
			}
		}, "sample index 100: network's answer holds -Inf at channel 1, row 1, column 3"},
		{"damped row", func(req Request, out []float32) {
			if req.N == 2 {
				out[2*m-1] = nan
			}
		}, "sample index 101: network's answer holds NaN at channel 2, row 3, column 4"},
		{"overflow of the combination", func(req Request, out []float32) {
			if req.N == 4 {
				out[0], out[2*m] = -math.MaxFloat32, math.MaxFloat32
			}
		}, "sample index 100: latent after the step holds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := settings(t, 2, 5)
			s.Plan = make([]ablation.StepPlan, 5)
			for i := range s.Plan {
				s.Plan[i] = ablation.StepPlan{Main: dilated(2), Damped: dilated(4)}
			}
			f := &fake{after: func(req Request, out []float32) {
				if req.T == 401 {
					tt.bad(req, out)
				}
			}}
			_, err := Sample(context.Background(), f, s)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	t.Run("network's own error", func(t *testing.T) {
		broken := errors.New("conv: out of memory")
		f := &fake{before: func(Request) error { return broken }}
		_, err := Sample(context.Background(), f, settings(t, 1, 3))
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "step 0 (timestep 667)") {
			t.Errorf("got %v", err)
		}
	})
}

func TestSettingsErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(s *Settings)
		want   string
	}{
		{"no samples", func(s *Settings) { s.SampleIndex = nil }, "SampleIndex is empty"},
		{"no size", func(s *Settings) { s.H = 0 }, "latent size [3,0,5]"},
		{"no steps", func(s *Settings) { s.Steps = 0 }, "Steps is 0"},
		{"no schedule", func(s *Settings) { s.Schedule = nil }, "neither Schedule nor Sampler"},
		{"guidance NaN", func(s *Settings) { s.GuidanceScale = math.NaN() }, "GuidanceScale is NaN"},
		{"rescale", func(s *Settings) { s.GuidanceRescale = 2 }, "GuidanceRescale is 2"},
		{"eta", func(s *Settings) { s.Eta = -1 }, "eta is -1"},
		{"conditions", func(s *Settings) { s.Cond = s.Cond[:1] }, "1 conditions for 2 samples"},
		{"empty prompts", func(s *Settings) { s.Uncond = nil }, "0 empty-prompt conditions for 2"},
		{"condition's shape", func(s *Settings) { s.Cond[1].Len = 9 }, "condition of sample 1 has 2 values for shape [9,2]"},
		{"empty prompt's shape", func(s *Settings) { s.Uncond[0].Dim = 9 }, "empty-prompt condition 0 has 2 values"},
		{"plan", func(s *Settings) { s.Plan = make([]ablation.StepPlan, 2) }, "a plan for 2 steps in a run of 3"},
		{"initial", func(s *Settings) { s.Initial = make([]float32, 7) }, "Initial has 7 values, want 120"},
		{"start before the first step", func(s *Settings) { s.Start = &Start{Step: -1, Clean: make([]float32, 120)} }, "Start at step -1 of 3, want 0 to 2"},
		{"start after the last step", func(s *Settings) { s.Start = &Start{Step: 3, Clean: make([]float32, 120)} }, "Start at step 3 of 3"},
		{"start's latents", func(s *Settings) { s.Start = &Start{Step: 1, Clean: make([]float32, 60)} }, "Start.Clean has 60 values, want 120"},
		{"start and initial", func(s *Settings) {
			s.Initial, s.Start = make([]float32, 120), &Start{Step: 1, Clean: make([]float32, 120)}
		}, "both Initial and Start"},
		{"sampler's steps", func(s *Settings) {
			d, _ := NewDDIM(s.Schedule, 5, 0)
			s.Sampler = d
		}, "Sampler has 5 timesteps in a run of 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := settings(t, 2, 3)
			tt.change(&s)
			_, err := Sample(context.Background(), &fake{}, s)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
