package train

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"

	"scalecrafter/model"
	"scalecrafter/model/kernels"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
)

func TestRate(t *testing.T) {
	s := Settings{Steps: 110, Warmup: 10, LearningRate: 1e-3, FinalRate: 0.1}
	cold := Settings{Steps: 100, LearningRate: 1e-3}
	for _, tt := range []struct {
		name string
		s    Settings
		step int
		want float64
	}{
		{"first warm-up step", s, 0, 1e-4},
		{"fifth", s, 4, 5e-4},
		{"last of the warm-up", s, 9, 1e-3},
		{"peak", s, 10, 1e-3},
		{"half way down", s, 60, 1e-3 * 0.55},
		{"a quarter down", s, 35, 1e-3 * (0.1 + 0.9*0.5*(1+math.Sqrt2/2))},
		{"after the end", s, 110, 1e-4},
		{"long after the end", s, 1000, 1e-4},
		{"no warm-up", cold, 0, 1e-3},
		{"down to zero", cold, 100, 0},
		{"warm-up as long as the run", Settings{Steps: 5, Warmup: 5, LearningRate: 1, FinalRate: 0.5}, 5, 1},
		{"warm-up longer than the run", Settings{Steps: 5, Warmup: 10, LearningRate: 1}, 4, 0.5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.s.Rate(tt.step); math.Abs(got-tt.want) > 1e-12 {
				t.Errorf("rate of step %d is %v, want %v", tt.step, got, tt.want)
			}
		})
	}
	for step := 11; step < 110; step++ {
		if s.Rate(step) >= s.Rate(step-1) {
			t.Fatalf("the rate rises at step %d: %v after %v", step, s.Rate(step), s.Rate(step-1))
		}
	}
}

// TestResume holds that a run cut in two has the bits of one in one go.
func TestResume(t *testing.T) {
	for _, tt := range tasks {
		t.Run(tt.name, func(t *testing.T) {
			s := tiny()
			through := newTrainer(t, s, tt.make(t, s), nil)
			steps(t, through, 6)

			first := newTrainer(t, s, tt.make(t, s), nil)
			steps(t, first, 3)
			path := checkpointIn(t, first)
			second := newTrainer(t, s, tt.make(t, s), nil)
			steps(t, second, 1) // what Load must replace
			if err := second.Load(path); err != nil {
				t.Fatal(err)
			}
			sameBits(t, second, first)
			steps(t, second, 3)
			sameBits(t, second, through)
			if !second.Done() {
				t.Error("not done after all steps")
			}
		})
	}
}

// TestThreadsChangeNothing holds that two threads give the bits of one.
func TestThreadsChangeNothing(t *testing.T) {
	pool := kernels.NewPool(2)
	defer pool.Close()
	for _, tt := range tasks {
		t.Run(tt.name, func(t *testing.T) {
			s := tiny()
			one, two := newTrainer(t, s, tt.make(t, s), nil), newTrainer(t, s, tt.make(t, s), pool)
			a, b := steps(t, one, 3), steps(t, two, 3)
			if a != b {
				t.Errorf("progress %+v, want %+v", b, a)
			}
			sameBits(t, two, one)
		})
	}
}

// TestShardsOnlyRegroup holds that cutting the batch into shards changes the
// gradient by rounding alone, weight by weight.
func TestShardsOnlyRegroup(t *testing.T) {
	grads := func(shards int) (names []string, g [][]float32, p Progress) {
		s := tiny()
		s.Shards, s.Clip = shards, 0
		tr := newTrainer(t, s, diffusionTask(t, s), nil)
		for i := range tr.names { // conv_out starts at 0 and would stop all gradients
			normalsInto(tr.task.Weights.Tensor(tr.names[i]).Data, tr.names[i])
		}
		p = steps(t, tr, 1)
		// After one step from nothing, m is (1-beta1) of the gradient.
		return tr.names, tr.first, p
	}
	names, one, p1 := grads(1)
	_, two, p2 := grads(2)
	_, four, p4 := grads(4)
	for _, p := range []Progress{p2, p4} {
		if math.Abs(p.Loss/p1.Loss-1) > 1e-5 || math.Abs(p.GradNorm/p1.GradNorm-1) > 1e-4 {
			t.Errorf("loss %v, gradient norm %v, with one shard %v, %v", p.Loss, p.GradNorm, p1.Loss, p1.GradNorm)
		}
	}
	for i, name := range names {
		for _, g := range [][]float32{two[i], four[i]} {
			diff, norm := 0.0, 0.0
			for j, v := range one[i] {
				diff += math.Pow(float64(v)-float64(g[j]), 2)
				norm += math.Pow(float64(v), 2)
			}
			if math.Sqrt(diff) > 1e-3*math.Sqrt(norm)+1e-9 {
				t.Errorf("%s: gradients of shards differ by %.2g of the whole batch's", name, math.Sqrt(diff/norm))
				break
			}
		}
	}
}

// normalsInto gives a weight small random values, norms' scales kept near 1.
func normalsInto(dst []float32, name string) {
	for i, v := range freshNormals(3)(name, len(dst)) {
		dst[i] = 0.2 * v
		if strings.Contains(name, "norm") && strings.HasSuffix(name, ".weight") {
			dst[i]++
		}
	}
}

// lineTask fits y = w x + b to a line, on shards of 4 points.
func lineTask(t testing.TB, s Settings) Task {
	t.Helper()
	w := params.New()
	w.Add("w", []int{1, 2}, []float32{0, 0})
	w.Add("b", []int{1}, []float32{0})
	task := Task{Weights: w, Meta: map[string]string{"network": "line"}}
	for shard := range s.Shards {
		g := gorgonia.NewGraph()
		x, xs := params.Input(g, "x", 4, 2)
		y, ys := params.Input(g, "y", 4, 1)
		weight, wv := params.Input(g, "weight", 4)
		var loss *gorgonia.Node
		err := ops.Build(func() {
			loss = ops.WeightedMSE(ops.Linear(x, w.Leaf(g, "w", 1, 2), w.Leaf(g, "b", 1)), y, weight)
		})
		if err != nil {
			t.Fatal(err)
		}
		task.Shards = append(task.Shards, Shard{Graph: g, Loss: loss, Fill: func(step int) error {
			for i, v := range freshNormals(uint64(step*s.Shards+shard))("points", len(xs)) {
				xs[i] = v
			}
			for i := range ys {
				wv[i] = 1
				ys[i] = 0.5*xs[2*i] - 0.25*xs[2*i+1] + 0.75
			}
			return nil
		}})
	}
	return task
}

// TestLearns fits a line, whose weights are known.
func TestLearns(t *testing.T) {
	s := Settings{Steps: 400, Batch: 8, Shards: 2, LearningRate: 0.02, FinalRate: 0.01, Warmup: 5, Beta1: 0.9, Beta2: 0.99, Clip: 1, EMA: 0.9}
	tr := newTrainer(t, s, lineTask(t, s), nil)
	first := steps(t, tr, 1)
	last := steps(t, tr, s.Steps-1)
	if last.Loss > 1e-4*first.Loss {
		t.Errorf("loss %v at the start, %v at the end", first.Loss, last.Loss)
	}
	got := tr.Averaged()
	for _, tt := range []struct {
		name string
		want []float32
	}{{"w", []float32{0.5, -0.25}}, {"b", []float32{0.75}}} {
		for i, v := range got.Tensor(tt.name).Data {
			if math.Abs(float64(v-tt.want[i])) > 0.01 {
				t.Errorf("averaged %s is %v, want %v", tt.name, got.Tensor(tt.name).Data, tt.want)
			}
		}
	}
}

// TestDiffusionLearns overfits one batch: with the same pictures, timesteps and
// noise at each step the loss has to fall.
func TestDiffusionLearns(t *testing.T) {
	s := tiny()
	s.Steps, s.LearningRate = 40, 5e-3
	task := diffusionTask(t, s)
	for i := range task.Shards {
		fill := task.Shards[i].Fill
		task.Shards[i].Fill = func(int) error { return fill(0) }
	}
	tr := newTrainer(t, s, task, nil)
	first := steps(t, tr, 1)
	last := steps(t, tr, s.Steps-1)
	if !(last.Loss < 0.7*first.Loss) {
		t.Errorf("loss %v at the start, %v after %d steps", first.Loss, last.Loss, s.Steps)
	}
}

// TestNotFinite holds that a NaN is reported and changes nothing.
func TestNotFinite(t *testing.T) {
	for _, tt := range tasks {
		t.Run(tt.name, func(t *testing.T) {
			s := tiny()
			tr := newTrainer(t, s, tt.make(t, s), nil)
			steps(t, tr, 1)
			w := tr.task.Weights.Tensor(tr.names[0]).Data
			good := w[0]
			w[0] = float32(math.NaN())
			before := snapshot(tr)
			_, err := tr.Step(context.Background())
			if err == nil || !strings.Contains(err.Error(), "step 1") || !strings.Contains(err.Error(), "NaN") || !strings.Contains(err.Error(), "learning_rate") {
				t.Fatalf("error %v, want one that names the step, the NaN and a remedy", err)
			}
			after := snapshot(tr)
			before[0][0], after[0][0] = 0, 0
			if !reflect.DeepEqual(after, before) || tr.StepsDone() != 1 {
				t.Error("a step that failed changed the state")
			}
			w[0] = good
			steps(t, tr, 1)
		})
	}
}

// TestLoadRefuses holds what a trainer says of checkpoints that it cannot take,
// and that it is as before.
func TestLoadRefuses(t *testing.T) {
	s := Settings{Steps: 6, Batch: 4, Shards: 1, LearningRate: 0.1, Beta1: 0.9, Beta2: 0.99}
	other := newTrainer(t, s, lineTask(t, s), nil)
	steps(t, other, 2)
	path := checkpointIn(t, other)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(t *testing.T, b []byte) string {
		p := filepath.Join(t.TempDir(), "other.safetensors")
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tt := range []struct {
		name string
		path func(t *testing.T) string
		task func(*Task, *Settings)
		want []string
	}{
		{"other settings", nil, func(_ *Task, s *Settings) { s.LearningRate = 0.2 }, []string{CheckpointFile, "settings", "LearningRate:0.1", "LearningRate:0.2", "-out"}},
		{"other network", nil, func(k *Task, _ *Settings) { k.Meta["network"] = "curve" }, []string{CheckpointFile, "network", "line", "curve"}},
		{"other shape", nil, func(k *Task, _ *Settings) {
			*k = lineTask(t, s)
			k.Weights.Add("b", []int{1, 1}, []float32{0})
		}, []string{CheckpointFile, `"weight/b"`, "[1]", "[1 1]"}},
		{"truncated", func(t *testing.T) string { return write(t, whole[:len(whole)-6]) }, nil, []string{"other.safetensors", "/w"}},
		{"truncated header", func(t *testing.T) string { return write(t, whole[:40]) }, nil, []string{"other.safetensors"}},
		{"NaN", func(t *testing.T) string {
			b := append([]byte(nil), whole...)
			copy(b[len(b)-4:], []byte{0, 0, 0xc0, 0x7f})
			return write(t, b)
		}, nil, []string{"other.safetensors", "/w", "NaN"}},
		{"step", func(t *testing.T) string {
			return write(t, []byte(strings.Replace(string(whole), `"step":"2"`, `"step":"x"`, 1)))
		}, nil, []string{"other.safetensors", "step", `"x"`}},
		{"negative step", func(t *testing.T) string {
			return write(t, []byte(strings.Replace(string(whole), `"2"`, `"-`, 1)))
		}, nil, []string{"other.safetensors"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := s
			task := lineTask(t, s)
			if tt.task != nil {
				tt.task(&task, &s)
			}
			from := path
			if tt.path != nil {
				from = tt.path(t)
			}
			tr := &Trainer{s: s, task: task, names: task.Weights.Names()}
			for _, name := range tr.names {
				n := len(task.Weights.Tensor(name).Data)
				tr.first, tr.second, tr.mean = append(tr.first, make([]float32, n)), append(tr.second, make([]float32, n)), append(tr.mean, make([]float32, n))
			}
			before := snapshot(tr)
			err := tr.Load(from)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			if !reflect.DeepEqual(snapshot(tr), before) || tr.StepsDone() != 0 {
				t.Error("a refused checkpoint changed the trainer")
			}
		})
	}
	fresh := newTrainer(t, s, lineTask(t, s), nil)
	if err := fresh.Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

// TestBadTasks holds the errors of settings and networks that do not fit.
func TestBadTasks(t *testing.T) {
	change := func(f func(s *Settings)) Settings {
		s := tiny()
		f(&s)
		return s
	}
	for _, tt := range []struct {
		name string
		s    Settings
		want string
	}{
		{"no shards", change(func(s *Settings) { s.Shards = 0 }), "shards"},
		{"uneven shards", change(func(s *Settings) { s.Shards = 3 }), "batch"},
		{"no batch", change(func(s *Settings) { s.Batch = 0 }), "batch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewClassifier(tt.s, Classifier{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("classifier: error %v, want one with %q", err, tt.want)
			}
			if _, err := NewDiffusion(nil, nil, tt.s, Diffusion{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("diffusion: error %v, want one with %q", err, tt.want)
			}
		})
	}
	cfg, err := model.ParseUNetConfig([]byte(strings.ReplaceAll(tinyUNet, `_channels": 12`, `_channels": 4`)), "four")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewDiffusion(cfg, nil, tiny(), Diffusion{Size: 16}); err == nil || !strings.Contains(err.Error(), "in_channels 4") {
		t.Errorf("error %v, want one of in_channels", err)
	}
	cfg.InChannels, cfg.OutChannels = 12, 12
	if _, err := NewDiffusion(cfg, nil, tiny(), Diffusion{Size: 15}); err == nil || !strings.Contains(err.Error(), "15 px") {
		t.Errorf("error %v, want one of the size", err)
	}
	if _, err := New(tiny(), Task{Weights: params.New()}, nil); err == nil || !strings.Contains(err.Error(), "no shards") {
		t.Errorf("error %v, want one of the missing shards", err)
	}
	t.Run("unused weight", func(t *testing.T) {
		s := Settings{Steps: 1, Batch: 4, Shards: 1}
		task := lineTask(t, s)
		task.Weights.Add("spare", []int{1}, []float32{0})
		if _, err := New(s, task, nil); err == nil || !strings.Contains(err.Error(), `"spare"`) {
			t.Errorf("error %v, want one that names the weight", err)
		}
	})
}
