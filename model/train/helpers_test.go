package train

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"scalecrafter/model"
	"scalecrafter/model/kernels"
	"scalecrafter/model/sampler"
)

// tinyUNet has both block kinds and a shortcut, in a few thousand weights.
const tinyUNet = `{"sample_size": 8, "in_channels": 12, "out_channels": 12, "block_out_channels": [8, 16], "layers_per_block": 1,
	"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
	"attention_head_dim": 2, "cross_attention_dim": 8, "norm_num_groups": 4}`

// tiny are settings of a short run.
func tiny() Settings {
	return Settings{Steps: 6, Batch: 4, Shards: 2, LearningRate: 2e-3, FinalRate: 0.1, Warmup: 2, WeightDecay: 0.01,
		Beta1: 0.9, Beta2: 0.99, Clip: 1, EMA: 0.9, Seed: 5}
}

// taskMaker builds a network's training task.
type taskMaker func(t testing.TB, s Settings) Task

func diffusionTask(t testing.TB, s Settings) Task {
	t.Helper()
	cfg, err := model.ParseUNetConfig([]byte(tinyUNet), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	sched, err := sampler.NewNoiseSchedule(sampler.StableDiffusion())
	if err != nil {
		t.Fatal(err)
	}
	task, err := NewDiffusion(cfg, sched, s, Diffusion{Size: 16, Dropout: 0.25, SNRCap: 5})
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func classifierTask(t testing.TB, s Settings) Task {
	t.Helper()
	s.Batch, s.Shards = 2, 2 // 64x64 px, and the checks need no more
	task, err := NewClassifier(s, Classifier{Noise: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// tasks are the networks that this package trains.
var tasks = []struct {
	name string
	make taskMaker
}{{"diffusion", diffusionTask}, {"classifier", classifierTask}}

func newTrainer(t testing.TB, s Settings, task Task, pool *kernels.Pool) *Trainer {
	t.Helper()
	tr, err := New(s, task, pool)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func steps(t testing.TB, tr *Trainer, n int) (last Progress) {
	t.Helper()
	for range n {
		var err error
		if last, err = tr.Step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

// sameBits compares all that a checkpoint keeps.
func sameBits(t testing.TB, a, b *Trainer) {
	t.Helper()
	if a.StepsDone() != b.StepsDone() {
		t.Errorf("%d steps, want %d", a.StepsDone(), b.StepsDone())
	}
	for i, name := range a.names {
		pa, pb := a.parts(i), b.parts(i)
		for k := range pa {
			for j, v := range pa[k].data {
				if math.Float32bits(v) != math.Float32bits(pb[k].data[j]) {
					t.Errorf("%s%s[%d] is %v, want %v", pa[k].prefix, name, j, v, pb[k].data[j])
					break
				}
			}
		}
	}
}

// snapshot copies all that a checkpoint keeps.
func snapshot(tr *Trainer) [][]float32 {
	var all [][]float32
	for i := range tr.names {
		for _, p := range tr.parts(i) {
			all = append(all, append([]float32(nil), p.data...))
		}
	}
	return all
}

func checkpointIn(t testing.TB, tr *Trainer) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), CheckpointFile)
	if err := tr.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}
