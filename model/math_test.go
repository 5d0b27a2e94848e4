package model

import (
	"context"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"

	"scalecrafter/model/kernels"
	"scalecrafter/model/sampler"
)

// The built-in U-Net in bf16x3, on a forced path, is close to float32 and yet not equal to it, and its bits depend on neither
// threads nor batch. The path is chosen once a process, so that the test runs itself with the variable set.
func TestMathModes(t *testing.T) {
	path := os.Getenv("SCALECRAFTER_BF16")
	if path == "" {
		for _, path := range []string{"portable", "avx2", "avx512", "avx512-bf16", "amx"} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestMathModes$", "-test.v")
			cmd.Env = append(os.Environ(), "SCALECRAFTER_BF16="+path)
			out, err := cmd.CombinedOutput()
			switch {
			case err != nil:
				t.Errorf("SCALECRAFTER_BF16=%s: %v\n%s", path, err, out)
			case strings.Contains(string(out), "--- SKIP"):
				t.Logf("%s: skipped", path)
			default:
				t.Logf("%s\n%s", path, out)
			}
		}
		return
	}
	if kernels.BF16Path() != path {
		t.Skip(kernels.BF16Error())
	}
	p, err := LoadBuiltin()
	if err != nil {
		t.Fatal(err)
	}
	cond, err := p.Encode("a red cat")
	if err != nil {
		if cond, err = p.Encode(""); err != nil {
			t.Fatal(err)
		}
	}
	side := 16
	if path == "portable" { // slow
		side = 4
	}
	size := p.Config.InChannels * side * side
	x := make([]float32, 2*size)
	for i := range x {
		x[i] = float32(math.Sin(float64(i) * float64(i%97)))
	}
	predict := func(m kernels.Math, threads, first, n int) []float32 {
		t.Helper()
		p.SetMath(m)
		w := p.NewWorker(threads)
		out := make([]float32, n*size)
		r := sampler.Request{X: x[first*size : (first+n)*size], N: n, C: p.Config.InChannels, H: side, W: side, T: 500}
		for range n {
			r.Cond = append(r.Cond, cond)
		}
		if err := w.Predict(context.Background(), r, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := predict(kernels.Float32, 1, 0, 2)
	for m, bound := range map[kernels.Math]float64{kernels.BF16x3: 2e-3, kernels.BF16: 0.2} {
		got := predict(m, 2, 0, 2)
		var worst, sum float64
		for i, v := range want {
			worst = max(worst, math.Abs(float64(got[i]-v)))
			sum += float64(v) * float64(v)
		}
		e := worst / math.Sqrt(sum/float64(len(want)))
		t.Logf("%v: relative difference from float32 %.2g", m, e)
		if e > bound || e == 0 {
			t.Errorf("%v: relative difference from float32 %.3g, want above 0 and at most %g", m, e, bound)
		}
		alone := predict(m, 1, 1, 1)
		for i, v := range alone {
			if v != got[size+i] {
				t.Fatalf("%v: number %d depends on the batch or the threads", m, i)
			}
		}
	}
}
