package experiments

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"scalecrafter/model"
	"scalecrafter/model/critters"
	"scalecrafter/model/kernels"
	"scalecrafter/model/weights"
)

// The quick cases run, their JSON is complete, and the table has a line each.
func TestBenchQuick(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.json")
	var out, errs bytes.Buffer
	if code := Bench(context.Background(), []string{"-quick", "-threads", "2", "-json", file}, &out, &errs); code != ExitDone {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r benchReport
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Threads != 2 || r.Path != kernels.Path() || r.Go != runtime.Version() || r.CPU == "" {
		t.Errorf("the report's head is %+v", r)
	}
	cases, err := benchCases(true)
	if err != nil {
		t.Fatal(err)
	}
	measured := map[string]int{}
	for _, c := range r.Results {
		measured[c.Math]++
		if c.Name == "" || c.Step != nil || len(c.Times) < 3 || !(c.Median > 0) || c.Low > c.Median || c.Median > c.High || !(c.GFLOPS > 0) {
			t.Errorf("%s: times %v, quartiles %g %g %g, %g GFLOP/s", c.Name, c.Times, c.Low, c.Median, c.High, c.GFLOPS)
		}
		if r.Peak > 0 && math.Abs(c.Share*r.Peak-c.GFLOPS) > 1e-9*c.GFLOPS {
			t.Errorf("%s: %g GFLOP/s are not %g of %g", c.Name, c.GFLOPS, c.Share, r.Peak)
		}
		most := map[string]float64{"float32": 3e-6, "bf16x3": 1e-4, "bf16": 2e-2}[c.Math]
		if e := c.Error; e == nil || !(e.Relative > 0) || e.Relative > most || !(e.Plain > 0) || e.Ratio != e.Relative/e.Plain {
			t.Errorf("%s %s: error %+v, want at most %g", c.Name, c.Math, e, most)
		}
		if !strings.Contains(out.String(), c.Name) {
			t.Errorf("the table does not have %s", c.Name)
		}
	}
	want := 0
	for _, c := range cases {
		if c.Step == nil {
			want++
		}
	}
	for _, name := range kernels.MathNames {
		if why := r.Skipped[name]; measured[name] != want && why == "" || measured[name] != 0 && why != "" {
			t.Errorf("%s: %d cases measured, want %d; left out because %q", name, measured[name], want, why)
		} else if why != "" && !strings.Contains(errs.String(), why) {
			t.Errorf("%s is left out without a message", name)
		}
	}
	if measured["float32"] != want {
		t.Errorf("float32 is measured on %d cases, want %d", measured["float32"], want)
	}
}

// Whole steps run, plain and re-dilated; the file of weights goes, or stays
// and is used again.
func TestBenchQuickSteps(t *testing.T) {
	dir := t.TempDir()
	for round, keep := range []bool{false, true, true} {
		args := []string{"-quick", "-steps", "-json", "-", "-weights", dir, "-math", "float32"}
		if keep {
			args = append(args, "-keep")
		}
		var out, errs bytes.Buffer
		if code := Bench(context.Background(), args, &out, &errs); code != ExitDone {
			t.Fatalf("exit code %d: %s", code, errs.String())
		}
		var r benchReport
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if len(r.Results) != 2 {
			t.Fatalf("%d steps, want 2", len(r.Results))
		}
		for _, s := range r.Results {
			if s.Step == nil || !(s.Median > 0) || s.Arena <= 0 || s.Weights <= 0 || runtime.GOOS == "linux" && s.PeakRSS <= 0 {
				t.Errorf("%+v", s)
			}
			if p := s.Plan; p == nil || p.Total != p.Program+p.Arena+p.Scratch+p.Packed+p.Weights+p.Constants+p.Inputs || p.Total <= p.Program || int64(p.Arena+p.Scratch) != s.Arena {
				t.Errorf("%s: plan %+v", s.Name, p)
			}
			plan, done := strings.Index(errs.String(), s.Name+" float32: memory: about"), strings.Index(errs.String(), " ms\n")
			if plan < 0 || s == r.Results[0] && plan > done {
				t.Errorf("%s: the plan is not printed before the run: %s", s.Name, errs.String())
			}
		}
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if (len(left) > 0) != keep {
			t.Errorf("round %d leaves %v", round, left)
		}
	}
}

// A kept file is used again if it has this seed's weights of this network, and no
// other is: not one of another seed or network, and not half of one.
func TestBenchKeep(t *testing.T) {
	ctx := context.Background()
	tiny, err := benchNet("tiny")
	if err != nil {
		t.Fatal(err)
	}
	wider := *tiny
	wider.CrossAttentionDim *= 2
	dir := t.TempDir()
	file := func(c *model.UNetConfig) (string, error) {
		return (&stepBench{dir: dir, keep: true, files: map[string]string{}}).file(ctx, "tiny", c)
	}
	path, err := file(tiny)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := file(&wider); err != nil || other == path {
		t.Errorf("a network of the same name with other parameters: %v, %v", other, err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := file(tiny); err != nil || again != path {
		t.Errorf("the second time: %s, %v, want %s", again, err, path)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("a kept file is made again")
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		spoil func() error
	}{
		{"cut in the data", func() error { return os.WriteFile(path, whole[:len(whole)-5], 0o644) }},
		{"cut in the header", func() error { return os.WriteFile(path, whole[:100], 0o644) }},
		{"empty", func() error { return os.WriteFile(path, nil, 0o644) }},
		{"another seed's", func() error { return tiny.RandomWeights(ctx, path, benchSeed+1) }},
		{"another network's", func() error { return wider.RandomWeights(ctx, path, benchSeed) }},
		{"without metadata", func() error {
			return weights.Write(path, []weights.Tensor{{Name: "a", Shape: []int{1}, Data: []float32{1}}}, nil, "F32")
		}},
	} {
		if err := tt.spoil(); err != nil {
			t.Fatal(err)
		}
		_, err := file(tiny)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("%s: %v, want an error that says to delete %s", tt.name, err, path)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := file(tiny); err != nil {
		t.Error(err)
	}
}

func TestBenchFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"-h", ExitDone, "-json"},
		{"-threads 0", ExitBadInput, "-threads is 0"},
		{"-only (", ExitBadInput, "-only: error parsing regexp"},
		{"-only nothing-like-it", ExitBadInput, "none of the"},
		{"-math float33", ExitBadInput, `"float33" is not known, want one of float32`},
		{"-time -1s", ExitBadInput, "-time is -1s"},
		{"quick", ExitBadInput, `argument "quick" is not understood`},
		{"-nonsense", ExitBadInput, "not defined"},
	} {
		var out, errs bytes.Buffer
		if code := Bench(context.Background(), strings.Fields(tt.args), &out, &errs); code != tt.code || !strings.Contains(errs.String(), tt.says) {
			t.Errorf("%s: exit code %d, want %d, and %q, want it to say %q", tt.args, code, tt.code, errs.String(), tt.says)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if code := Bench(ctx, []string{"-quick"}, new(bytes.Buffer), new(bytes.Buffer)); code != ExitInterrupted {
		t.Errorf("interrupted: exit code %d", code)
	}
}

// The list names every case once, with what the peers need of it, and holds
// the table.
func TestBenchList(t *testing.T) {
	var cases []*benchCase
	seen := map[string]bool{}
	for _, steps := range []string{"", "-steps"} {
		var out, errs bytes.Buffer
		if code := Bench(context.Background(), strings.Fields("-list "+steps), &out, &errs); code != ExitDone {
			t.Fatalf("exit code %d: %s", code, errs.String())
		}
		var part []*benchCase
		if err := json.Unmarshal(out.Bytes(), &part); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, part...)
	}
	for _, c := range cases {
		if seen[c.Name] {
			t.Errorf("%s is listed twice", c.Name)
		}
		seen[c.Name] = true
		if c.Step != nil && c.Step.Config == nil {
			t.Errorf("%s has no network", c.Name)
		}
		if c.Step == nil && !(c.flops() > 0) {
			t.Errorf("%s computes nothing", c.Name)
		}
	}
	for _, name := range []string{
		"bars/conv3x3 320-320 64x64 n2 d1", "bars/conv3x3 1280-1280 16x16 n2 d2.5", "bars/conv5x5 640-640 32x32 n2 d2", "bars/linear 320-2560 t8192",
		"bars/linear 1280-10240 t512", "bars/attention 4096x4096 8x40 n2", "bars/attention 16384x16384 8x40 n1",
		"sd15-64/conv3x3 2560-1280 8x8 n2 d1", "sd15-64/attention 64x64 8x160 n2", "sd15-128/conv1x1 960-320 128x128 n1", "sdxl-128/attention 1024x77 20x64 n1",
		"critters-128px/conv3x3 32-32 64x64 n8 d1", "steps/step sd1.5 n2 64x64 d2", "steps/step critters n8 64x64 d1",
	} {
		if !seen[name] {
			t.Errorf("%s is not listed", name)
		}
	}
}

// The walk over a config meets as many weights as the network has.
func TestBenchWalkCountsWeights(t *testing.T) {
	for _, name := range []string{"sd1.5", "sdxl", "critters", "tiny"} {
		c, err := benchNet(name)
		if err != nil {
			t.Fatal(err)
		}
		l := &caseList{set: name, at: map[string]*benchCase{}}
		l.walk(c, 3, 64, critters.Tokens)
		got := 0
		for _, b := range l.cases {
			if v := b.Conv; v != nil {
				got += b.Uses * v.Cin * v.Cout * v.Kernel * v.Kernel
			} else if v := b.Linear; v != nil {
				got += b.Uses * v.In * v.Out
			}
		}
		list, err := c.Parameters()
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for _, p := range list {
			if len(p.Shape) > 1 {
				n := 1
				for _, d := range p.Shape {
					n *= d
				}
				want += n
			}
		}
		if got != want {
			t.Errorf("%s: the layers have %d weights, the network %d", name, got, want)
		}
	}
}

// The error's yardstick: exact results have the error of rounding alone, plain
// sums have ratio 1, and a wrong result shows.
func TestBenchError(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 2000
	exact, plain, wrong := &sampleError{}, &sampleError{}, &sampleError{}
	for range 200 {
		a, b := uniformValues(r, n, 1), uniformValues(r, n, 1)
		want, sum := 0.5, float32(0.5)
		for i := range a {
			want += float64(a[i]) * float64(b[i])
			sum += float32(a[i] * b[i])
		}
		exact.product(float32(want), a, b, 0.5)
		plain.product(sum, a, b, 0.5)
		wrong.product(float32(want*1.01), a, b, 0.5)
	}
	if e := exact.sum(); e.Relative > 6e-8 || e.Ratio > 0.2 {
		t.Errorf("exact results: %+v", e)
	}
	if e := plain.sum(); e.Ratio != 1 || e.Relative < 1e-7 || e.Relative > 1e-4 {
		t.Errorf("plain sums: %+v", e)
	}
	if e := wrong.sum(); math.Abs(e.Relative-0.01) > 1e-5 {
		t.Errorf("results 1%% off: %+v", e)
	}
	if e := (&sampleError{}).sum(); e != (benchError{}) {
		t.Errorf("nothing sampled: %+v", e)
	}
	// Attention over equal keys is the mean of the values.
	q, k, v := []float32{1, 2}, make([]float32, 3*5), make([]float32, 3*5)
	for j := range 3 {
		v[5*j], v[5*j+1] = float32(j), float32(10*j)
	}
	mean := &sampleError{}
	mean.attended([]float32{1, 10}, q, k, v, 3, 5)
	if e := mean.sum(); e.Relative > 1e-15 {
		t.Errorf("the mean of three values: %+v", e)
	}
}

// Plain sums round every product: Go may fuse it with the sum otherwise, which it
// does on arm64 and not on amd64.
func TestBenchErrorRounds(t *testing.T) {
	const x, square = 1 + 1.0/(1<<12), 1 + 1.0/(1<<11) // x*x rounds to square and is 2^-24 more
	e := &sampleError{}
	e.product(0, []float32{x}, []float32{x}, -square)
	if want := math.Pow(2, -48); e.plain != want {
		t.Errorf("a product's squared error is %g, want %g", e.plain, want)
	}
	// Logits of 0 and 0 in place of 2^-2 and 0.
	const large = 1 << 22
	e = &sampleError{}
	e.attended([]float32{0, 0}, []float32{large, large * x}, []float32{-square, x, 0, 0}, []float32{1, 0, 0, 0}, 2, 2)
	if !(e.plain > 1e-3) {
		t.Errorf("the logits' squared error is %g, want 1e-3 or more", e.plain)
	}
	// Values that cancel once their product with p is rounded.
	p := float32(math.Exp(float64(float32(-1) * float32(1/math.Sqrt2))))
	e = &sampleError{}
	e.attended([]float32{0, 0}, []float32{1, 0}, []float32{0, 0, -1, 0}, []float32{-float32(p * x), 0, x, 0}, 2, 2)
	if e.plain == 0 || e.plain != e.scale {
		t.Errorf("the values' squared error is %g, want %g", e.plain, e.scale)
	}
}

// Random weights are the same for the same seed and fit the network.
func TestRandomWeights(t *testing.T) {
	c, err := benchNet("tiny")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var digests []string
	for i, seed := range []uint64{1, 1, 2} {
		path := filepath.Join(dir, string(rune('a'+i)))
		if err := c.RandomWeights(context.Background(), path, seed); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, string(b))
	}
	if digests[0] != digests[1] || digests[0] == digests[2] {
		t.Error("the seed does not decide the weights")
	}
}
