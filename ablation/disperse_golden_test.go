package ablation

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"scalecrafter/model/weights"
)

// goldenDir is the folder named by GOLDENS, or testdata/goldens beside go.mod.
func goldenDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("GOLDENS"); dir != "" {
		return dir
	}
	return filepath.Join("..", "testdata", "goldens")
}

// goldenSolved is one case of dispersion_transforms.json.
type goldenSolved struct {
	Tensor             string
	SmallSize          int
	LargeSize          int
	InputSize          int
	Scale              int
	Eta                float64
	EquationsStructure int `json:"equations_structure"`
	EquationsPixel     int `json:"equations_pixel"`
	Rank               int
	Cond               float64
}

func (g goldenSolved) spec() DispersionSpec {
	return DispersionSpec{Small: g.SmallSize, Large: g.LargeSize, Input: g.InputSize, Scale: g.Scale, Eta: g.Eta}
}

// The solver gives the transforms, ranks, condition numbers and losses of the
// reference solver, and the matrices that upstream published.
func TestGoldenDispersionTransforms(t *testing.T) {
	dir := goldenDir(t)
	text, err := os.ReadFile(filepath.Join(dir, "dispersion_transforms.json"))
	if err != nil {
		t.Fatalf("%v; set GOLDENS to the folder of reference vectors", err)
	}
	var cases map[string]json.RawMessage
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	f, err := weights.Open(filepath.Join(dir, "dispersion_transforms.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func(t *testing.T, name string) *mat.Dense {
		t.Helper()
		data, shape, err := f.Float64(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(shape) != 2 {
			t.Fatalf("tensor %q has shape %v, want a matrix", name, shape)
		}
		return mat.NewDense(shape[0], shape[1], data)
	}
	decode := func(key string, into any) {
		t.Helper()
		if err := json.Unmarshal(cases[key], into); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	// 1e-12 is the project's bar for R; the reference README allows 1e-9.
	same := func(t *testing.T, got *Transform, want *mat.Dense) {
		t.Helper()
		rows, columns := want.Dims()
		if rows != got.Large*got.Large || columns != got.Small*got.Small {
			t.Fatalf("%s is %dx%d by %dx%d, the reference has %d rows and %d columns", got.Name, got.Large, got.Large, got.Small, got.Small, rows, columns)
		}
		if d := got.Distance(&Transform{Small: got.Small, Large: got.Large, R: want.RawMatrix().Data}); !(d <= 1e-12) {
			t.Errorf("%s differs by %.3g from the reference, want 1e-12", got.Name, d)
		} else {
			t.Logf("%s: largest difference %.2g", got.Name, d)
		}
	}
	solve := func(t *testing.T, s DispersionSpec) *DispersionFit {
		t.Helper()
		fit, err := s.Solve()
		if err != nil {
			t.Fatal(err)
		}
		return fit
	}

	var solved []goldenSolved
	decode("solved", &solved)
	specs := map[string]goldenSolved{} // "s3_l5_i3_x2_eta0.05"
	for _, g := range solved {
		short := strings.TrimPrefix(g.Tensor, "solved.")
		specs[short] = g
		t.Run(g.Tensor, func(t *testing.T) {
			fit := solve(t, g.spec())
			same(t, fit.Transform, read(t, g.Tensor))
			if fit.Rank != g.Rank || fit.Structure.Equations != g.EquationsStructure || fit.Pixel.Equations != g.EquationsPixel {
				t.Errorf("rank %d of %d + %d equations, want %d of %d + %d", fit.Rank, fit.Structure.Equations, fit.Pixel.Equations,
					g.Rank, g.EquationsStructure, g.EquationsPixel)
			}
			if math.Abs(fit.Condition/g.Cond-1) > 1e-10 {
				t.Errorf("condition %.12g, want %.12g", fit.Condition, g.Cond)
			}
		})
	}
	// The equations themselves, row by row, and that R is stationary in them.
	for _, name := range f.Names() {
		short, ok := strings.CutSuffix(name, ".structA")
		if !ok || !strings.HasPrefix(short, "system.") {
			continue
		}
		t.Run(short, func(t *testing.T) {
			g := goldenSystemSpec(t, strings.TrimPrefix(short, "system."), solved)
			system := naiveSystem(g)
			parts := map[string]*mat.Dense{"structA": system.structA, "structB": system.structB, "pixelA": system.pixelA, "pixelB": system.pixelB}
			for part, got := range parts {
				want := read(t, short+"."+part)
				if !mat.EqualApprox(got, want, 1e-14) {
					r, c := got.Dims()
					wr, wc := want.Dims()
					t.Errorf("%s (%dx%d) is not the reference's (%dx%d)", part, r, c, wr, wc)
				}
			}
			stationary(t, system, solve(t, g), 1e-12)
		})
	}
	for key, raw := range cases {
		short, ok := strings.CutPrefix(key, "loss_at_solution_")
		if !ok {
			continue
		}
		t.Run(key, func(t *testing.T) {
			g, ok := specs[short]
			if !ok {
				t.Fatalf("no solved case %q", short)
			}
			var want float64
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			if got := solve(t, g.spec()).Loss; math.Abs(got/want-1) > 1e-12 {
				t.Errorf("loss %.15g, want %.15g", got, want)
			}
		})
	}

	var legacy map[string]struct {
		InputSize any // a number, or a text that starts with one
		Scale     int
		Eta       float64
	}
	decode("legacy", &legacy)
	var shipped map[string]struct {
		Small, Large int
		Sum          float64 `json:"sum_of_all_entries"`
		MaxAbs       float64 `json:"max_abs"`
	}
	decode("shipped", &shipped)
	for name, g := range legacy {
		t.Run("legacy."+name, func(t *testing.T) {
			spec := DispersionSpec{Small: shipped[name].Small, Large: shipped[name].Large, Scale: g.Scale, Eta: g.Eta, Legacy: true}
			if _, err := fmt.Sscan(fmt.Sprint(g.InputSize), &spec.Input); err != nil {
				t.Fatalf("inputSize %v: %v", g.InputSize, err)
			}
			same(t, solve(t, spec).Transform, read(t, "legacy."+name))
		})
	}
	for name, stats := range shipped {
		t.Run("shipped."+name, func(t *testing.T) {
			var known *DispersionSpec
			for _, k := range KnownDispersions {
				if k.Name == name {
					known = &k.DispersionSpec
				}
			}
			if known == nil {
				t.Fatalf("no setting is known for %s", name)
			}
			r := solve(t, *known).Transform
			var sum, worst float64
			for _, v := range r.R {
				sum, worst = sum+v, max(worst, math.Abs(v))
			}
			if math.Abs(sum-stats.Sum) > 1e-12 || math.Abs(worst-stats.MaxAbs) > 1e-12 {
				t.Errorf("sum %.15g, largest %.15g, want %.15g and %.15g", sum, worst, stats.Sum, stats.MaxAbs)
			}
			if !f.Has("shipped." + name) {
				t.Skipf("%s holds no shipped.%s: upstream's own file is not in this repository; point GOLDENS to a folder that has it", dir, name)
			}
			same(t, r, read(t, "shipped."+name))
		})
	}
}

// goldenSystemSpec finds the setting that a system's name ("s3_l5_i3_x2") and
// the solved cases give; a system does not depend on eta, a solution does.
func goldenSystemSpec(t *testing.T, name string, solved []goldenSolved) DispersionSpec {
	t.Helper()
	for _, g := range solved {
		if strings.HasPrefix(g.Tensor, "solved."+name+"_eta") {
			return g.spec()
		}
	}
	t.Fatalf("no solved case belongs to system %q", name)
	return DispersionSpec{}
}
