package sampler

import (
	"context"
	"math"
	"strings"
	"testing"
)

// walk feeds a golden's fixed model outputs through a sampler and compares
// every latent.
func (g *golden) walk(tr trajectory, d Sampler, tol float64) {
	g.t.Helper()
	want32 := func(t []float64) []float32 {
		out := make([]float32, len(t))
		for i, v := range t {
			out[i] = float32(v)
		}
		return out
	}
	ts := d.Timesteps()
	if len(ts) != tr.ActualSteps {
		g.t.Fatalf("%d steps, want %d", len(ts), tr.ActualSteps)
	}
	if got := d.InitialScale(); math.Abs(got-tr.InitSigma) > 2e-5 {
		g.t.Errorf("initial scale %.6f, want %.6f", got, tr.InitSigma)
	}
	if g.file.DType(tr.Prefix+".out.timesteps") == "I64" {
		want, _, err := g.file.Int64(tr.Prefix + ".out.timesteps")
		if err != nil {
			g.t.Fatal(err)
		}
		for i, w := range want {
			if ts[i] != float64(w) {
				g.t.Fatalf("timesteps %v, want %v", ts, want)
			}
		}
	} else {
		// Upstream's are float32 of up to 999, Karras' found from float32 logarithms.
		near(g.t, "timesteps", want32(ts), g.floats(tr.Prefix+".out.timesteps"), 2e-3)
	}
	unit := g.floats(tr.Prefix + ".in.unit_noise")
	x := make([]float32, len(unit))
	for i, v := range unit {
		x[i] = float32(float64(v) * d.InitialScale())
	}
	near(g.t, "initial latent", x, g.floats(tr.Prefix+".out.initial"), tol)
	outputs, latents := g.floats(tr.Prefix+".in.model_outputs"), g.floats(tr.Prefix+".out.latents")
	var inputs []float32
	if g.file.Has(tr.Prefix + ".out.model_inputs") {
		inputs = g.floats(tr.Prefix + ".out.model_inputs")
	}
	m := len(x)
	var history [][]float32
	for i := range ts {
		if inputs != nil {
			in := make([]float32, m)
			d.ScaleInput(i, in, x)
			near(g.t, "network input", in, inputs[i*m:(i+1)*m], tol)
		}
		x0 := make([]float32, m)
		d.Step(Update{Step: i, X: x, Output: outputs[i*m : (i+1)*m], History: history, Next: x, X0: x0})
		if d.Memory() == 1 {
			history = [][]float32{x0}
		}
		near(g.t, "latents", x, latents[i*m:(i+1)*m], tol)
		if g.t.Failed() {
			g.t.Fatalf("at step %d", i)
		}
	}
}

func TestGoldenSamplerEuler(t *testing.T) {
	all := openGolden(t, "sampler_euler")
	for _, tr := range all.Trajectories {
		t.Run(tr.Prefix, func(t *testing.T) {
			g := *all
			g.t = t
			d, err := NewEuler(g.schedule(tr.Config), tr.Steps, 0)
			if err != nil {
				t.Fatal(err)
			}
			sigmas := make([]float32, 0, tr.Steps+1)
			for _, s := range d.Sigmas() {
				sigmas = append(sigmas, float32(s))
			}
			near(t, "sigmas", sigmas, g.floats(tr.Prefix+".out.sigmas"), 2e-5)
			g.walk(tr, d, 3e-4)
		})
	}
}

func TestGoldenSamplerDPMpp2M(t *testing.T) {
	all := openGolden(t, "sampler_dpmpp2m")
	for _, tr := range all.Trajectories {
		t.Run(tr.Prefix, func(t *testing.T) {
			g := *all
			g.t = t
			d, err := NewDPMSolver(g.schedule(tr.Config), tr.Steps)
			if err != nil {
				t.Fatal(err)
			}
			g.walk(tr, d, 5e-4)
		})
	}
}

// SDXL's first noise level in 50 leading steps.
func TestEulerSigma(t *testing.T) {
	d, err := NewEuler(mustSchedule(t, StableDiffusion()), 50, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Sigmas()[0]; math.Abs(got-13.1204) > 5.1e-5 {
		t.Errorf("sigma at t=981 is %.5f, want 13.1204", got)
	}
}

// oracle is the perfect network for data that is normal with deviation
// spread: E[x0 | x_t] = x_t sqrt(a) s^2 / (a s^2 + 1 - a). It answers in the
// schedule's own prediction type, between timesteps by interpolation in sigma.
type oracle struct {
	s      *NoiseSchedule
	sigmas []float64
	spread float64
}

func newOracle(t *testing.T, s *NoiseSchedule, spread float64) oracle {
	t.Helper()
	sigmas, err := s.sigmaTable()
	if err != nil {
		t.Fatal(err)
	}
	return oracle{s, sigmas, spread}
}

func (o oracle) Predict(_ context.Context, req Request, out []float32) error {
	sigma := sigmaAt(o.sigmas, req.T)
	a := 1 / (sigma*sigma + 1)
	for i, v := range req.X {
		x := float64(v)
		x0 := x * math.Sqrt(a) * o.spread * o.spread / (a*o.spread*o.spread + 1 - a)
		e := (x - math.Sqrt(a)*x0) / math.Sqrt(1-a)
		switch o.s.Prediction {
		case Epsilon:
			out[i] = float32(e)
		case VPrediction:
			out[i] = float32(math.Sqrt(a)*e - math.Sqrt(1-a)*x0)
		case SamplePrediction:
			out[i] = float32(x0)
		}
	}
	return nil
}

// With a perfect network every sampler and spacing turns noise into samples of
// the data's deviation, closer with more steps; and it makes no difference
// what the network was trained to predict.
func TestSamplersReachTheData(t *testing.T) {
	const spread = 0.4
	run := func(name string, eta float64, spacing Spacing, p Prediction, steps int) []float32 {
		c := StableDiffusion()
		c.Prediction, c.Spacing = p, spacing
		sched := mustSchedule(t, c)
		method, err := New(name, sched, steps, eta)
		if err != nil {
			t.Fatal(err)
		}
		return mustSample(t, newOracle(t, sched, spread), Settings{Steps: steps, Sampler: method, Seed: 3, C: 1, H: 24, W: 24,
			SampleIndex: []uint64{0, 1}, Cond: make([]Condition, 2)})
	}
	for _, tt := range []struct {
		name string
		eta  float64
		many int
	}{{"ddim", 0, 250}, {"ddim", 1, 250}, {"euler", 0, 250}, {"euler_ancestral", 0, 250}, {"dpmpp_2m", 0, 249}} {
		for _, spacing := range []Spacing{Leading, Trailing, Linspace} {
			x := run(tt.name, tt.eta, spacing, Epsilon, 20)
			for _, p := range []Prediction{VPrediction, SamplePrediction} {
				near(t, tt.name+" "+string(spacing)+" "+string(p), run(tt.name, tt.eta, spacing, p, 20), x, 1e-5)
			}
			// 1152 numbers know their deviation to 2%. The larger step counts
			// divide T (dpmpp_2m's with one more): otherwise upstream's
			// floor(T/steps) leaves a part of the way untravelled.
			few := math.Abs(deviation(x)/spread - 1)
			many := math.Abs(deviation(run(tt.name, tt.eta, spacing, Epsilon, tt.many))/spread - 1)
			if !(few < 0.35 && many < 0.05) {
				t.Errorf("%s eta %g, %s: the deviation is off by %.1f%% after 20 steps and %.1f%% after %d, want below 35%% and 5%%",
					tt.name, tt.eta, spacing, 100*few, 100*many, tt.many)
			}
		}
	}
}

// Looking back pays: with the steps' second-order terms taken out, the same
// run ends several times further from the limit of many steps.
func TestSecondOrderIsCloser(t *testing.T) {
	c := StableDiffusion()
	c.Karras = true
	sched := mustSchedule(t, c)
	run := func(steps int, change func(*DPMSolver)) float64 {
		d, err := NewDPMSolver(sched, steps)
		if err != nil {
			t.Fatal(err)
		}
		change(d)
		x := mustSample(t, newOracle(t, sched, 0.5), Settings{Steps: len(d.Timesteps()), Sampler: d, C: 1, H: 1, W: 1,
			SampleIndex: []uint64{0}, Cond: make([]Condition, 1), Initial: []float32{1}})
		return float64(x[0])
	}
	whole := func(*DPMSolver) {}
	limit := run(150, whole)
	second := math.Abs(run(20, whole) - limit)
	first := math.Abs(run(20, func(d *DPMSolver) {
		for i := range d.steps {
			d.steps[i].back = 0
		}
	}) - limit)
	if !(second < first/3) {
		t.Errorf("20 steps end %g from the limit, in first order %g; want less than a third", second, first)
	}
}

func TestAncestralNoise(t *testing.T) {
	d, err := NewEuler(mustSchedule(t, StableDiffusion()), 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	sigmas := d.Sigmas()
	for i, s := range d.steps {
		down := sigmas[i] * (1 + s.slope)
		if got, want := down*down+s.random*s.random, sigmas[i+1]*sigmas[i+1]; math.Abs(got-want) > 1e-12*(1+want) {
			t.Errorf("step %d: down^2 + up^2 = %g, want the next level's square %g", i, got, want)
		}
	}
	if d.UsesNoise(19) {
		t.Error("the last step, to level 0, must add no noise")
	}
	if !d.UsesNoise(0) {
		t.Error("an ancestral step must add noise")
	}
}

func TestNewErrors(t *testing.T) {
	zero := StableDiffusion()
	zero.Prediction, zero.RescaleZeroSNR = VPrediction, true
	tests := []struct {
		name  string
		c     Config
		steps int
		eta   float64
		want  string
	}{
		{"plms", StableDiffusion(), 10, 0, `sampler "plms" is not known; choose ddim, euler, euler_ancestral, dpmpp_2m`},
		{"euler", StableDiffusion(), 10, 1, `sampler "euler" takes no eta`},
		{"euler", StableDiffusion(), 0, 0, "euler: sampling steps: 0"},
		{"euler", zero, 10, 0, "euler: timestep 999 holds no signal"},
		{"dpmpp_2m", zero, 10, 0, "dpm-solver++: timestep 999 holds no signal"},
		{"dpmpp_2m", StableDiffusion(), 1000, 0, "dpm-solver++: sampling steps: 1000"},
		{"ddim", StableDiffusion(), 10, 2, "eta is 2"},
	}
	for _, tt := range tests {
		s, err := New(tt.name, mustSchedule(t, tt.c), tt.steps, tt.eta)
		if err == nil || s != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, %v, want an error with %q", tt.name, s, err, tt.want)
		}
	}
}
