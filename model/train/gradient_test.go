package train

import (
	"context"
	"math"
	"testing"

	"scalecrafter/model/kernels"
	"scalecrafter/model/sampler"
)

// TestWholeGradient holds the gradient of the whole network's loss (skips,
// time and text paths and all) against finite differences along random
// directions, one direction a weight tensor.
func TestWholeGradient(t *testing.T) {
	s := tiny()
	tr := newTrainer(t, s, diffusionTask(t, s), nil)
	sh := tr.shards[0]
	if err := sh.Fill(0); err != nil {
		t.Fatal(err)
	}
	loss := func() float64 {
		if err := sh.machine.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		return float64(sh.machine.Output(sh.Loss)[0])
	}
	// Away from the start, where conv_out is zero and hides everything below it.
	for i, name := range tr.names {
		w := tr.task.Weights.Tensor(name).Data
		d := make([]float32, len(w))
		sampler.Noise(d, sampler.NoiseKey{Seed: 3, Sample: uint64(i)})
		for j := range w {
			w[j] += 0.05 * d[j]
		}
	}
	loss()
	grads := make([][]float32, len(tr.names))
	for i := range tr.names {
		grads[i] = append([]float32(nil), sh.machine.Output(sh.grads[i])...)
	}
	for i, name := range tr.names {
		w := tr.task.Weights.Tensor(name).Data
		start := append([]float32(nil), w...)
		dir := make([]float32, len(w))
		sampler.Noise(dir, sampler.NoiseKey{Seed: 4, Sample: uint64(i)})
		want, size := 0.0, 0.0
		for j, g := range grads[i] {
			// Mostly along the gradient, so that the change is not lost in rounding.
			norm := math.Sqrt(kernels.SumSquares(grads[i]))
			dir[j] = 0.3*dir[j]/float32(math.Sqrt(float64(len(w)))) + g/float32(norm+1e-12)
			want += float64(g) * float64(dir[j])
			size += float64(dir[j]) * float64(dir[j])
		}
		const h = 1e-2
		step := float32(h / math.Sqrt(size))
		at := func(sign float32) float64 {
			for j := range w {
				w[j] = start[j] + sign*step*dir[j]
			}
			return loss()
		}
		got := (at(1) - at(-1)) / (2 * float64(step))
		copy(w, start)
		if math.Abs(got-want) > 0.03*math.Abs(want)+2e-5 {
			t.Errorf("%s: slope %.6f, gradient says %.6f", name, got, want)
		}
	}
}
