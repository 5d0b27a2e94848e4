package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cancelAt makes a task that cancels the run while it fills a step.
func cancelAt(task Task, step int, cancel context.CancelFunc) Task {
	fill := task.Shards[0].Fill
	task.Shards[0].Fill = func(s int) error {
		if s == step {
			cancel()
		}
		return fill(s)
	}
	return task
}

func readLines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// TestRunResumes cuts a run off in its fourth step, goes on in a new trainer,
// and compares weights and loss.csv with a run in one go.
func TestRunResumes(t *testing.T) {
	s := tiny()
	whole, cut := t.TempDir(), t.TempDir()
	var log strings.Builder
	through := newTrainer(t, s, diffusionTask(t, s), nil)
	checkpoints := 0
	run := Run{Dir: whole, SaveEvery: 2, LogEvery: 3, Log: &log, Checkpoint: func() error { checkpoints++; return nil }}
	if err := run.Do(context.Background(), through); err != nil {
		t.Fatal(err)
	}
	if checkpoints != 3 {
		t.Errorf("%d checkpoints of 6 steps, want 3", checkpoints)
	}
	if n := strings.Count(log.String(), "loss"); n != 2 {
		t.Errorf("%d lines of 6 steps in the log, want 2:\n%s", n, log.String())
	}

	log.Reset()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first := newTrainer(t, s, cancelAt(diffusionTask(t, s), 3, cancel), nil)
	run = Run{Dir: cut, SaveEvery: 100, LogEvery: 1, Log: &log}
	if err := run.Do(ctx, first); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	if first.StepsDone() != 3 || !strings.Contains(log.String(), "saving step 3") {
		t.Errorf("stopped after %d steps, log:\n%s", first.StepsDone(), log.String())
	}
	if n := len(readLines(t, filepath.Join(cut, LossFile))); n != 4 {
		t.Errorf("loss.csv has %d lines after 3 steps, want 4", n)
	}

	log.Reset()
	second := newTrainer(t, s, diffusionTask(t, s), nil)
	if err := run.Do(context.Background(), second); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "resuming at step 3 of 6") {
		t.Errorf("log does not say where it resumes:\n%s", log.String())
	}
	sameBits(t, second, through)
	a, b := readLines(t, filepath.Join(whole, LossFile)), readLines(t, filepath.Join(cut, LossFile))
	if strings.Join(a, "\n") != strings.Join(b, "\n") {
		t.Errorf("loss.csv of the cut run:\n%s\nof the whole one:\n%s", strings.Join(b, "\n"), strings.Join(a, "\n"))
	}

	// A run that is done does nothing more.
	log.Reset()
	third := newTrainer(t, s, diffusionTask(t, s), nil)
	if err := run.Do(context.Background(), third); err != nil {
		t.Fatal(err)
	}
	sameBits(t, third, through)
	if c := readLines(t, filepath.Join(cut, LossFile)); strings.Join(c, "\n") != strings.Join(a, "\n") {
		t.Error("a finished run changed loss.csv")
	}
}

// TestLossFile holds what is kept of the loss when a run goes on.
func TestLossFile(t *testing.T) {
	const header = "step,loss,gradient_norm,learning_rate\n"
	for _, tt := range []struct {
		name  string
		old   string // "-": no file
		steps int
		want  string
	}{
		{"no file", "-", 0, header},
		{"no file, but a checkpoint", "-", 2, header},
		{"from scratch", header + "1,0.5,1,0.1\n", 0, header},
		{"all kept", header + "1,0.5,1,0.1\n2,0.4,1,0.1\n", 2, header + "1,0.5,1,0.1\n2,0.4,1,0.1\n"},
		{"later lines dropped", header + "1,0.5,1,0.1\n2,0.4,1,0.1\n3,0.3,1,0.1\n", 2, header + "1,0.5,1,0.1\n2,0.4,1,0.1\n"},
		{"last line cut off", header + "1,0.5,1,0.1\n2,0.4,1,0.1\n3,0.", 2, header + "1,0.5,1,0.1\n2,0.4,1,0.1\n"},
		{"last line cut in its number", header + "1,0.5,1,0.1\n2", 1, header + "1,0.5,1,0.1\n"},
		{"quote", header + "1,0.5,1,0.1\n2,\"0.4,1\n", 1, header + "1,0.5,1,0.1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), LossFile)
			if tt.old != "-" {
				if err := os.WriteFile(path, []byte(tt.old), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			l, err := openLoss(path, tt.steps)
			if err != nil {
				t.Fatal(err)
			}
			// The old lines must be in the file at once: a run that dies now has
			// lost nothing.
			if b, _ := os.ReadFile(path); string(b) != tt.want {
				t.Errorf("kept %q, want %q", b, tt.want)
			}
			if err := l.Add(Progress{Step: 9, Loss: 0.125, GradNorm: 2, Rate: 1e-3}); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if b, _ := os.ReadFile(path); string(b) != tt.want+"9,0.125,2,0.001\n" {
				t.Errorf("after a step %q", b)
			}
		})
	}
}

// TestRunErrors holds that a run stops on a failed save, checkpoint or step,
// and on a checkpoint that is not its own.
func TestRunErrors(t *testing.T) {
	s := Settings{Steps: 4, Batch: 4, Shards: 1, LearningRate: 0.1, Beta1: 0.9, Beta2: 0.99}
	bad := errors.New("disk full")
	var log strings.Builder
	dir := t.TempDir()
	run := Run{Dir: dir, SaveEvery: 1, LogEvery: 1, Log: &log, Checkpoint: func() error { return bad }}
	tr := newTrainer(t, s, lineTask(t, s), nil)
	if err := run.Do(context.Background(), tr); !errors.Is(err, bad) || tr.StepsDone() != 1 {
		t.Errorf("error %v after %d steps, want the checkpoint's after 1", err, tr.StepsDone())
	}
	s.LearningRate = 0.2
	if err := run.Do(context.Background(), newTrainer(t, s, lineTask(t, s), nil)); err == nil || !strings.Contains(err.Error(), "settings") {
		t.Errorf("error %v, want one of the settings", err)
	}
	task := lineTask(t, s)
	task.Shards[0].Fill = func(int) error { return bad }
	run.Dir = t.TempDir()
	if err := run.Do(context.Background(), newTrainer(t, s, task, nil)); !errors.Is(err, bad) {
		t.Errorf("error %v, want the fill's", err)
	}
	for _, r := range []Run{{Dir: run.Dir, SaveEvery: 0, LogEvery: 1, Log: &log}, {Dir: run.Dir, SaveEvery: 1, LogEvery: 0, Log: &log}} {
		if err := r.Do(context.Background(), newTrainer(t, s, lineTask(t, s), nil)); err == nil || !strings.Contains(err.Error(), "1 or more") {
			t.Errorf("error %v of %+v, want one of the intervals", err, r)
		}
	}
}
