package sampler

import (
	"math"
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func equalInts(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func mustSchedule(t testing.TB, c Config) *NoiseSchedule {
	t.Helper()
	s, err := NewNoiseSchedule(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Stable Diffusion's alphaBar in float64, computed independently (long
// products in another language).
func TestAlphaBarOfStableDiffusion(t *testing.T) {
	s := mustSchedule(t, StableDiffusion())
	for at, want := range map[int]float64{
		0: .999150, 1: .998296, 21: .980381, 281: .622385, 501: .274999, 681: .094637, 981: .005776, 999: .004660,
	} {
		if got := s.AlphaBar[at]; math.Abs(got-want) > 5.1e-7 {
			t.Errorf("alphaBar[%d] = %.7f, want %.6f", at, got, want)
		}
	}
}

func TestDDIMSigmas(t *testing.T) {
	d, err := NewDDIM(mustSchedule(t, StableDiffusion()), 50, 1)
	if err != nil {
		t.Fatal(err)
	}
	// t = 981, 501 and 1: the last step still adds noise, since the schedule
	// ends at alphaBar[0] < 1.
	for step, want := range map[int]float64{0: .4545, 24: .2948, 49: .0206} {
		if got := d.Sigma(step); math.Abs(got-want) > 5.1e-5 {
			t.Errorf("sigma of step %d (timestep %g) = %.5f, want %.4f", step, d.Timesteps()[step], got, want)
		}
		if !d.UsesNoise(step) {
			t.Errorf("step %d is said to use no noise", step)
		}
	}
	c := StableDiffusion()
	c.SetAlphaToOne = true
	d, err = NewDDIM(mustSchedule(t, c), 50, 1)
	if err != nil {
		t.Fatal(err)
	}
	if d.UsesNoise(49) {
		t.Error("with SetAlphaToOne the last step must add no noise")
	}
}

// Whatever the schedule, spacing and step count, a fake network that knows the
// clean sample and noise leads every eta-0 run along the exact path
// sqrt(a) x0 + sqrt(1-a) e.
func TestDDIMFollowsTheExactPath(t *testing.T) {
	x0, e := make([]float32, 24), make([]float32, 24)
	Noise(x0, NoiseKey{Seed: 1})
	Noise(e, NoiseKey{Seed: 2})
	for _, beta := range []BetaSchedule{Linear, ScaledLinear, SquaredCos} {
		for _, spacing := range []Spacing{Leading, Trailing, Linspace} {
			for _, p := range []Prediction{Epsilon, VPrediction, SamplePrediction} {
				for _, steps := range []int{3, 20} {
					c := StableDiffusion()
					c.BetaSchedule, c.Spacing, c.Prediction = beta, spacing, p
					s := mustSchedule(t, c)
					d, err := NewDDIM(s, steps, 0)
					if err != nil {
						t.Fatal(err)
					}
					x, out, pred := make([]float32, 24), make([]float32, 24), make([]float32, 24)
					for i, ts := range d.Timesteps() {
						at := int(ts)
						s.AddNoise(x, x0, e, at)
						s.Target(out, x0, e, at)
						d.Step(Update{Step: i, X: x, Output: out, Next: x, X0: pred})
						a := s.previousAlphaBar(at, s.TrainSteps/steps)
						want := make([]float32, 24)
						combine(want, math.Sqrt(a), x0, math.Sqrt(1-a), e)
						name := string(beta) + " " + string(spacing) + " " + string(p) + " t " + itoa(at)
						// An output's rounding error of 1e-7 grows by 1/sqrt(a) on its way to x0.
						tol := 1e-5 + 1e-6/math.Sqrt(s.AlphaBar[at])
						near(t, name+" latent", x, want, tol)
						near(t, name+" clean sample", pred, x0, tol)
					}
				}
			}
		}
	}
}

func TestTimestepsDescendWithinRange(t *testing.T) {
	for _, spacing := range []Spacing{Leading, Trailing, Linspace} {
		c := StableDiffusion()
		c.Spacing = spacing
		s := mustSchedule(t, c)
		for steps := 2; steps <= 999; steps++ {
			ts, err := s.Timesteps(steps)
			if err != nil {
				t.Fatalf("%s %d: %v", spacing, steps, err)
			}
			for i, v := range ts {
				if v < 0 || v > 999 || i > 0 && v >= ts[i-1] {
					t.Fatalf("%s %d: timestep %d is %d after %v", spacing, steps, i, v, ts[max(i-1, 0)])
				}
			}
		}
	}
}

// Halves round as numpy's arange makes them: worked by hand from its rule
// (start + i*(next-start), then round half to even).
func TestTrailingHalves(t *testing.T) {
	c := StableDiffusion()
	c.Spacing = Trailing
	s := mustSchedule(t, c)
	got, err := s.Timesteps(16) // stride exactly 62.5
	if err != nil {
		t.Fatal(err)
	}
	want := []int{999, 937, 874, 811, 749, 687, 624, 561, 499, 437, 374, 311, 249, 187, 124, 61}
	if !equalInts(got, want) {
		t.Errorf("timesteps %v, want %v", got, want)
	}
}

func TestScheduleErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(c *Config)
		want   string
	}{
		{"no steps", func(c *Config) { c.TrainSteps = 0 }, "num_train_timesteps is 0"},
		{"beta 0", func(c *Config) { c.BetaStart = 0 }, "beta_start is 0"},
		{"beta NaN", func(c *Config) { c.BetaEnd = math.NaN() }, "beta_end is NaN"},
		{"betas fall", func(c *Config) { c.BetaEnd = 0.0001 }, "beta_end is 0.0001, want a number from beta_start"},
		{"schedule", func(c *Config) { c.BetaSchedule = "cosine" }, `beta_schedule is "cosine", want "linear"`},
		{"prediction", func(c *Config) { c.Prediction = "noise" }, `prediction_type is "noise"`},
		{"spacing", func(c *Config) { c.Spacing = "" }, `timestep_spacing is ""`},
		{"offset", func(c *Config) { c.StepsOffset = -1 }, "steps_offset is -1"},
		{"clip", func(c *Config) { c.ClipRange = math.NaN() }, "clip_sample_range is NaN"},
		{"few trained betas", func(c *Config) { c.TrainedBetas = []float64{.1} }, "trained_betas is a list of 1"},
		{"trained beta", func(c *Config) { c.TrainSteps, c.TrainedBetas = 2, []float64{.1, 1} }, "trained_betas[1] is 1"},
		{"rescale one step", func(c *Config) { c.TrainSteps, c.StepsOffset, c.RescaleZeroSNR = 1, 0, true }, "rescale_betas_zero_snr needs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := StableDiffusion()
			tt.change(&c)
			_, err := NewNoiseSchedule(c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestRunErrors(t *testing.T) {
	zero := StableDiffusion()
	zero.RescaleZeroSNR, zero.Spacing = true, Trailing
	one := StableDiffusion()
	one.Spacing = Linspace
	tests := []struct {
		name  string
		c     Config
		steps int
		eta   float64
		want  string
	}{
		{"no steps", StableDiffusion(), 0, 0, "sampling steps: 0, want 1 to"},
		{"too many steps", StableDiffusion(), 1001, 0, "sampling steps: 1001"},
		{"offset beyond the end", StableDiffusion(), 1000, 0, "start at timestep 1000, beyond the last (999)"},
		{"one linspace step", one, 1, 0, "1 with linspace"},
		{"eta", StableDiffusion(), 50, 1.5, "eta is 1.5"},
		{"eta NaN", StableDiffusion(), 50, math.NaN(), "eta is NaN"},
		{"epsilon without signal", zero, 50, 0, "timestep 999 holds no signal"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewDDIM(mustSchedule(t, tt.c), tt.steps, tt.eta)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestDDIMClipsCleanSamples(t *testing.T) {
	c := StableDiffusion()
	c.ClipRange = 0.5
	d, err := NewDDIM(mustSchedule(t, c), 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	x0 := make([]float32, 3)
	d.Step(Update{Step: 5, X: []float32{-9, 0, 9}, Output: []float32{0, 0, 0}, Next: make([]float32, 3), X0: x0})
	near(t, "clipped", x0, []float32{-.5, 0, .5}, 0)
}

func TestParseSchedulerConfig(t *testing.T) {
	tests := []struct {
		name, text string
		want       Config
		err        string
	}{
		{name: "sd15", // runwayml/stable-diffusion-v1-5, which ships PNDM's file
			text: `{"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
				"beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true,
				"steps_offset": 1, "trained_betas": null, "clip_sample": false}`,
			want: StableDiffusion()},
		{name: "empty takes DDIM's defaults", text: `{}`,
			want: Config{TrainSteps: 1000, BetaStart: .0001, BetaEnd: .02, BetaSchedule: Linear, Prediction: Epsilon, Spacing: Leading, SetAlphaToOne: true, ClipRange: 1}},
		{name: "euler does not clip and spaces evenly", text: `{"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true}`,
			want: Config{TrainSteps: 1000, BetaStart: .0001, BetaEnd: .02, BetaSchedule: Linear, Prediction: Epsilon, Spacing: Linspace, SetAlphaToOne: true, Karras: true}},
		{name: "python infinity", text: `{"_class_name": "PNDMScheduler", "lambda_min_clipped": -Infinity, "note": "NaN \" Infinity", "variance_type": NaN}`,
			want: Config{TrainSteps: 1000, BetaStart: .0001, BetaEnd: .02, BetaSchedule: Linear, Prediction: Epsilon, Spacing: Leading}},
		{name: "not JSON", text: `beta_start = 1`, err: "x.json: not a scheduler configuration"},
		{name: "wrong type", text: `{"beta_start": "small"}`, err: "beta_start"},
		{name: "thresholding", text: `{"thresholding": true}`, err: "thresholding is true, which is not supported"},
		{name: "algorithm", text: `{"algorithm_type": "sde-dpmsolver++"}`, err: "algorithm_type is sde-dpmsolver++"},
		{name: "impossible", text: `{"num_train_timesteps": 0}`, err: "x.json: noise schedule: num_train_timesteps is 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseSchedulerConfig([]byte(tt.text), "x.json")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.TrainedBetas) != 0 {
				t.Errorf("trained betas %v", got.TrainedBetas)
			}
			got.TrainedBetas = nil
			if g, w := got, tt.want; g.TrainSteps != w.TrainSteps || g.BetaStart != w.BetaStart || g.BetaEnd != w.BetaEnd ||
				g.BetaSchedule != w.BetaSchedule || g.Prediction != w.Prediction || g.Spacing != w.Spacing || g.StepsOffset != w.StepsOffset ||
				g.SetAlphaToOne != w.SetAlphaToOne || g.RescaleZeroSNR != w.RescaleZeroSNR || g.ClipRange != w.ClipRange || g.Karras != w.Karras {
				t.Errorf("got %+v\nwant %+v", g, w)
			}
		})
	}
}

func FuzzParseSchedulerConfig(f *testing.F) {
	f.Add([]byte(`{"beta_start": 0.1, "lambda_min_clipped": -Infinity}`))
	f.Add([]byte(`{"trained_betas": [0.5], "num_train_timesteps": 1}`))
	f.Add([]byte(`"\`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseSchedulerConfig(text, "fuzz")
		if err != nil || c.TrainSteps > 5000 {
			return
		}
		s, err := NewNoiseSchedule(c)
		if err != nil {
			return
		}
		for i, a := range s.AlphaBar {
			if !(a >= 0 && a <= 1) {
				t.Fatalf("alphaBar[%d] = %v for %s", i, a, text)
			}
		}
	})
}
