package sampler

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"scalecrafter/model/weights"
)

// goldens is the folder of reference vectors: $GOLDENS, or testdata/goldens at
// the module's root.
func goldens(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("GOLDENS"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "goldens")
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test's folder; set GOLDENS to the folder of reference vectors")
		}
		dir = up
	}
}

// trajectory is one run of a scheduler in a golden's JSON.
type trajectory struct {
	Prefix      string
	Config      string
	Steps       int
	Eta         float64
	ActualSteps int     `json:"actual_steps"`
	InitSigma   float64 `json:"init_noise_sigma"`
	Timesteps   []int
}

// golden is an opened pair NAME.json, NAME.safetensors.
type golden struct {
	t            *testing.T
	file         *weights.File
	Configs      map[string]json.RawMessage
	Trajectories []trajectory
	Timesteps    map[string][]int
}

func openGolden(t *testing.T, name string) *golden {
	t.Helper()
	g := &golden{t: t}
	text, err := os.ReadFile(filepath.Join(goldens(t), name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(finiteJSON(text), g); err != nil {
		t.Fatal(err)
	}
	if g.file, err = weights.Open(filepath.Join(goldens(t), name+".safetensors")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.file.Close() })
	if len(g.Trajectories) == 0 || len(g.Configs) == 0 {
		t.Fatalf("%s.json lists no trajectories or no configs", name)
	}
	return g
}

func (g *golden) schedule(name string) *NoiseSchedule {
	g.t.Helper()
	c, err := ParseSchedulerConfig(g.Configs[name], name)
	if err != nil {
		g.t.Fatal(err)
	}
	s, err := NewNoiseSchedule(c)
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

func (g *golden) floats(name string) []float32 {
	g.t.Helper()
	x, err := g.file.Float32(name)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := weights.CheckFinite(x); err != nil {
		g.t.Fatal(err)
	}
	return x.Data
}

// near fails when got and want differ by more than tol anywhere.
func near(t *testing.T, what string, got, want []float32, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	worst, at := 0.0, 0
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if !(d <= worst) { // NaN counts as worst
			worst, at = d, i
		}
	}
	if !(worst <= tol) {
		t.Errorf("%s: differs by %g at %d (%g, want %g), tolerance %g", what, worst, at, got[at], want[at], tol)
	}
}

// ddimTolerance is the golden's: latents reach 60 and upstream works in
// float32.
const ddimTolerance = 3e-4

func TestGoldenSamplerDDIM(t *testing.T) {
	g := openGolden(t, "sampler_ddim")
	for _, tr := range g.Trajectories {
		t.Run(tr.Prefix+etaName(tr.Eta), func(t *testing.T) {
			s := g.schedule(tr.Config)
			d, err := NewDDIM(s, tr.Steps, tr.Eta)
			if err != nil {
				t.Fatal(err)
			}
			for i, ts := range d.Timesteps() {
				if ts != float64(tr.Timesteps[i]) {
					t.Fatalf("timestep %d is %g, want %d", i, ts, tr.Timesteps[i])
				}
			}
			x := g.floats(tr.Prefix + ".in.latents")
			outputs := g.floats(tr.Prefix + ".in.model_outputs")
			noise := g.floats(tr.Prefix + ".in.noise")
			want := g.floats(tr.Prefix + ".out" + etaName(tr.Eta))
			var wantX0 []float32
			if tr.Eta == 0 {
				wantX0 = g.floats(tr.Prefix + ".out.pred_x0_eta0")
			}
			m := len(x)
			x0 := make([]float32, m)
			for i := range tr.Steps {
				u := Update{Step: i, X: x, Output: outputs[i*m : (i+1)*m], Next: x, X0: x0}
				if d.UsesNoise(i) {
					u.Noise = noise[i*m : (i+1)*m]
				}
				d.Step(u)
				near(t, "latents", x, want[i*m:(i+1)*m], ddimTolerance)
				if wantX0 != nil {
					near(t, "predicted clean sample", x0, wantX0[i*m:(i+1)*m], ddimTolerance)
				}
				if t.Failed() {
					t.Fatalf("at step %d", i)
				}
			}
		})
	}
}

func etaName(eta float64) string {
	if eta == 0 {
		return ".eta0"
	}
	return ".eta1"
}

func TestGoldenSamplerTables(t *testing.T) {
	g := openGolden(t, "sampler_ddim")
	table := func(what, tensor string, got []float64, tol float64) {
		t.Helper()
		narrow := make([]float32, len(got))
		for i, v := range got {
			narrow[i] = float32(v)
		}
		near(t, what, narrow, g.floats(tensor), tol)
	}
	s := g.schedule("sd15")
	table("betas", "betas", s.Betas, 1e-8)
	table("alphaBar", "alphas_cumprod", s.AlphaBar, 1e-6)
	z := g.schedule("zsnr")
	table("alphaBar at zero terminal SNR", "zsnr.alphas_cumprod", z.AlphaBar, 1e-6)
	if last := z.AlphaBar[len(z.AlphaBar)-1]; last != 0 {
		t.Errorf("rescaled schedule ends at alphaBar %g, want exactly 0", last)
	}
	if len(g.Timesteps) == 0 {
		t.Fatal("the golden lists no timesteps")
	}
	for _, spacing := range []Spacing{Leading, Trailing, Linspace} {
		for _, steps := range []int{50, 30, 10, 7} {
			name := string(spacing) + "_" + itoa(steps)
			want, ok := g.Timesteps[name]
			if !ok {
				t.Fatalf("the golden lacks timesteps %s", name)
			}
			c := s.Config
			c.Spacing = spacing
			other, err := NewNoiseSchedule(c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := other.Timesteps(steps)
			if err != nil {
				t.Fatal(err)
			}
			if !equalInts(got, want) {
				t.Errorf("%s: timesteps %v, want %v", name, got, want)
			}
		}
	}
}

func TestGoldenSamplerAddNoise(t *testing.T) {
	g := openGolden(t, "sampler_ddim")
	s := g.schedule("sd15")
	ts, _, err := g.file.Int64("add_noise.in.t")
	if err != nil {
		t.Fatal(err)
	}
	x, noise := g.floats("add_noise.in.x"), g.floats("add_noise.in.noise")
	noisy, velocity := g.floats("add_noise.out"), g.floats("add_noise.out.velocity")
	m := len(x) / len(ts)
	got := make([]float32, m)
	for i, at := range ts {
		row := func(v []float32) []float32 { return v[i*m : (i+1)*m] }
		s.AddNoise(got, row(x), row(noise), int(at))
		near(t, "AddNoise", got, row(noisy), 2e-6)
		s.Velocity(got, row(x), row(noise), int(at))
		near(t, "Velocity", got, row(velocity), 2e-6)
	}
}
