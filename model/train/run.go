package train

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Names of the files in a training run's folder.
const (
	CheckpointFile = "checkpoint.safetensors"
	LossFile       = "loss.csv"
)

// Run is one training run in a folder.
type Run struct {
	Dir        string
	SaveEvery  int          // steps between checkpoints, 1 or more
	LogEvery   int          // steps between lines of the log, 1 or more
	Log        io.Writer    // plain lines
	Checkpoint func() error // after every checkpoint: pictures, plots
}

// Do trains until all steps are done or ctx ends, resuming from the folder's
// checkpoint if there is one. A cancelled run saves where it is, and its error
// is the context's.
func (r Run) Do(ctx context.Context, t *Trainer) error {
	if r.SaveEvery < 1 || r.LogEvery < 1 {
		return fmt.Errorf("save every %d and log every %d steps, want 1 or more", r.SaveEvery, r.LogEvery)
	}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(r.Dir, CheckpointFile)
	switch err := t.Load(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		fmt.Fprintf(r.Log, "resuming at step %d of %d\n", t.StepsDone(), t.s.Steps)
	}
	loss, err := openLoss(filepath.Join(r.Dir, LossFile), t.StepsDone())
	if err != nil {
		return err
	}
	defer loss.Close()
	save := func() error {
		if err := loss.Flush(); err != nil {
			return err
		}
		if err := t.Save(path); err != nil {
			return err
		}
		if r.Checkpoint != nil {
			return r.Checkpoint()
		}
		return nil
	}
	start, first, sum, n := time.Now(), t.StepsDone(), 0.0, 0
	for !t.Done() {
		p, err := t.Step(ctx)
		if err != nil {
			if ctx.Err() != nil {
				fmt.Fprintf(r.Log, "stopping: saving step %d\n", t.StepsDone())
				return errors.Join(ctx.Err(), save())
			}
			return err
		}
		if err := loss.Add(p); err != nil {
			return err
		}
		sum, n = sum+p.Loss, n+1
		if p.Step%r.LogEvery == 0 || t.Done() {
			each := time.Since(start) / time.Duration(p.Step-first)
			fmt.Fprintf(r.Log, "step %d/%d  loss %.5f  gradient %.3f  rate %.2e  %.0f ms/step  %s left\n",
				p.Step, t.s.Steps, sum/float64(n), p.GradNorm, p.Rate, float64(each.Microseconds())/1000,
				(each * time.Duration(t.s.Steps-p.Step)).Round(time.Second))
			sum, n = 0, 0
		}
		if p.Step%r.SaveEvery == 0 || t.Done() {
			if err := save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// lossLog is a CSV of every step.
type lossLog struct {
	f *os.File
	w *bufio.Writer
}

// openLoss keeps the lines up to the resumed step: what came after it was lost
// with the process and will be trained again. The last line of a process that
// was killed may be cut off; it came after the checkpoint, as Do flushes first.
func openLoss(path string, steps int) (*lossLog, error) {
	var keep bytes.Buffer
	keep.WriteString("step,loss,gradient_norm,learning_rate\n")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(old)) {
		fields := strings.Split(line, ",")
		if s, err := strconv.Atoi(fields[0]); err == nil && s <= steps && len(fields) == 4 && strings.HasSuffix(line, "\n") {
			keep.WriteString(line)
		}
	}
	temp := path + ".tmp" // a rename leaves the old lines or the new ones, never none
	if err := os.WriteFile(temp, keep.Bytes(), 0o644); err != nil {
		return nil, err
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &lossLog{f, bufio.NewWriter(f)}, nil
}

func (l *lossLog) Add(p Progress) error {
	_, err := fmt.Fprintf(l.w, "%d,%.6g,%.6g,%.6g\n", p.Step, p.Loss, p.GradNorm, p.Rate)
	return err
}

func (l *lossLog) Flush() error { return l.w.Flush() }

func (l *lossLog) Close() error { return errors.Join(l.w.Flush(), l.f.Close()) }
