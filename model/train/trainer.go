// Package train fits networks with Gorgonia's symbolic gradients: AdamW with
// warm-up and cosine decay, gradient clipping, an exponential moving average of
// the weights, and checkpoints from which a run goes on bit for bit.
package train

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"

	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/weights"
)

// Settings are the optimiser's. Every random choice of a step is keyed by Seed
// and the step's number, so that a resumed run sees what it would have seen.
type Settings struct {
	Steps int `toml:"steps"`
	Batch int `toml:"batch"`
	// Shards is how many parts the batch is cut into; each runs on one thread
	// and their gradients are added in order, so the bits depend on the number
	// of shards and not on the number of threads.
	Shards       int     `toml:"shards"`
	LearningRate float64 `toml:"learning_rate"`
	FinalRate    float64 `toml:"final_rate"` // share of LearningRate that the cosine ends at
	Warmup       int     `toml:"warmup"`     // steps of linear warm-up
	WeightDecay  float64 `toml:"weight_decay"`
	Beta1        float64 `toml:"beta1"`
	Beta2        float64 `toml:"beta2"`
	Clip         float64 `toml:"clip"` // largest norm of the whole gradient; 0: no clipping
	EMA          float64 `toml:"ema"`  // decay of the averaged weights
	Seed         uint64  `toml:"seed"`
}

// Rate is the learning rate of a step, counted from 0: linear warm-up, then a
// half cosine down to FinalRate of the peak at Steps.
func (s Settings) Rate(step int) float64 {
	if step < s.Warmup {
		return s.LearningRate * float64(step+1) / float64(s.Warmup)
	}
	x := float64(step-s.Warmup) / float64(max(s.Steps-s.Warmup, 1))
	return s.LearningRate * (s.FinalRate + (1-s.FinalRate)*0.5*(1+math.Cos(math.Pi*min(x, 1))))
}

// decay is the average's decay at a step: small at first, so that the average
// forgets the random start.
func (s Settings) decay(step int) float32 {
	return float32(min(s.EMA, float64(step+1)/float64(step+10)))
}

// Task is a network and its loss, once for every shard of the batch.
type Task struct {
	Weights *params.Set // trained in place; all shards' graphs share them
	Shards  []Shard
	Meta    map[string]string // kept in checkpoints; a checkpoint with others is refused
}

// Shard is the loss on one part of the batch.
type Shard struct {
	Graph *gorgonia.ExprGraph
	Loss  *gorgonia.Node // a scalar
	// Fill sets the graph's inputs for a step, from the step's number alone.
	Fill func(step int) error
}

// Trainer runs a Task's steps.
type Trainer struct {
	s      Settings
	task   Task
	pool   *kernels.Pool
	shards []shard
	names  []string
	first  [][]float32 // Adam's m
	second [][]float32 // Adam's v
	mean   [][]float32 // averaged weights
	sums   [][]float32 // gradients added up over the shards
	step   int
}

type shard struct {
	Shard
	machine *ops.Machine
	grads   []*gorgonia.Node // in the order of Trainer.names
}

// check holds what the tasks rely on.
func (s Settings) check() error {
	switch {
	case s.Shards < 1:
		return fmt.Errorf("shards is %d, want 1 or more", s.Shards)
	case s.Batch < 1 || s.Batch%s.Shards != 0:
		return fmt.Errorf("batch is %d, want a multiple of shards (%d), 1 or more", s.Batch, s.Shards)
	}
	return nil
}

// New derives the gradients and plans the memory. pool may be nil.
func New(s Settings, task Task, pool *kernels.Pool) (*Trainer, error) {
	if len(task.Shards) == 0 {
		return nil, fmt.Errorf("the task has no shards")
	}
	t := &Trainer{s: s, task: task, pool: pool, names: task.Weights.Names()}
	for _, sh := range task.Shards {
		leaves := make(gorgonia.Nodes, len(t.names))
		for i, name := range t.names {
			nodes := sh.Graph.ByName(name)
			if len(nodes) != 1 {
				return nil, fmt.Errorf("weight %q is used by %d leaves of the graph, want 1", name, len(nodes))
			}
			leaves[i] = nodes[0]
		}
		grads, err := gorgonia.Grad(sh.Loss, leaves...)
		if err != nil {
			return nil, fmt.Errorf("differentiating the loss: %w", err)
		}
		m, err := ops.NewMachine(sh.Graph, nil, append([]*gorgonia.Node{sh.Loss}, grads...)...)
		if err != nil {
			return nil, err
		}
		t.shards = append(t.shards, shard{sh, m, grads})
	}
	for _, name := range t.names {
		w := task.Weights.Tensor(name).Data
		t.first = append(t.first, make([]float32, len(w)))
		t.second = append(t.second, make([]float32, len(w)))
		t.mean = append(t.mean, append([]float32(nil), w...))
		if len(t.shards) > 1 {
			t.sums = append(t.sums, make([]float32, len(w)))
		}
	}
	return t, nil
}

// Progress is what one step did.
type Progress struct {
	Step     int // steps done
	Loss     float64
	GradNorm float64 // before clipping
	Rate     float64
}

// Done reports whether all steps have been taken.
func (t *Trainer) Done() bool { return t.step >= t.s.Steps }

// StepsDone is the number of steps taken.
func (t *Trainer) StepsDone() int { return t.step }

// Machine is the machine that runs a shard, for traces and its memory plan.
func (t *Trainer) Machine(shard int) *ops.Machine { return t.shards[shard].machine }

// Step takes one step. A loss or gradient that is not finite is an error and
// leaves the weights as they were.
func (t *Trainer) Step(ctx context.Context) (Progress, error) {
	errs := make([]error, len(t.shards))
	var wait sync.WaitGroup
	for i, sh := range t.shards {
		wait.Go(func() {
			if errs[i] = sh.Fill(t.step); errs[i] == nil {
				errs[i] = sh.machine.Run(ctx)
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return Progress{}, err
	}
	p := Progress{Rate: t.s.Rate(t.step)}
	n := float64(len(t.shards))
	for _, sh := range t.shards {
		p.Loss += float64(sh.machine.Output(sh.Loss)[0]) / n
	}
	grads := make([][]float32, len(t.names)) // sums over the shards
	sum := 0.0
	for i := range t.names {
		grads[i] = t.shards[0].machine.Output(t.shards[0].grads[i])
		for k, sh := range t.shards[1:] {
			if k == 0 {
				// Not summed in the first shard's memory: the biases of two layers
				// that are added have one gradient node, which would be added twice.
				kernels.Add(nil, t.sums[i], grads[i], sh.machine.Output(sh.grads[i]))
				grads[i] = t.sums[i]
				continue
			}
			kernels.Add(nil, grads[i], grads[i], sh.machine.Output(sh.grads[i]))
		}
		sum += kernels.SumSquares(grads[i])
	}
	p.GradNorm = math.Sqrt(sum) / n
	if math.IsNaN(p.Loss+p.GradNorm) || math.IsInf(p.Loss+p.GradNorm, 0) {
		return p, fmt.Errorf("step %d: loss %v, gradient norm %v: lower learning_rate or clip, and resume from the last checkpoint", t.step, p.Loss, p.GradNorm)
	}
	scale := float32(1 / n)
	if t.s.Clip > 0 && p.GradNorm > t.s.Clip {
		scale = float32(t.s.Clip / (p.GradNorm + 1e-6) / n)
	}
	o := kernels.AdamWStep{LR: p.Rate, Beta1: t.s.Beta1, Beta2: t.s.Beta2, Eps: 1e-8, WeightDecay: t.s.WeightDecay, Step: t.step + 1, GradScale: scale}
	decay := t.s.decay(t.step)
	for i, name := range t.names {
		w := t.task.Weights.Tensor(name)
		oi := o
		if len(w.Shape) < 2 { // norms and biases are not decayed
			oi.WeightDecay = 0
		}
		kernels.AdamW(t.pool, w.Data, grads[i], t.first[i], t.second[i], oi)
		kernels.EMA(t.pool, t.mean[i], w.Data, decay)
	}
	t.step++
	p.Step = t.step
	return p, nil
}

// Averaged is the averaged weights, the ones to keep. The data are the
// trainer's own and change with the next step.
func (t *Trainer) Averaged() *params.Set {
	s := params.New()
	for i, name := range t.names {
		s.Add(name, t.task.Weights.Tensor(name).Shape, t.mean[i])
	}
	return s
}

// Save writes a checkpoint, replacing path only once it is whole.
func (t *Trainer) Save(path string) error {
	var all []weights.Tensor
	for i, name := range t.names {
		w := t.task.Weights.Tensor(name)
		for _, part := range t.parts(i) {
			all = append(all, weights.Tensor{Name: part.prefix + name, Shape: w.Shape, Data: part.data})
		}
	}
	meta := map[string]string{"step": strconv.Itoa(t.step), "settings": fmt.Sprintf("%+v", t.s), "kernels": kernels.Path()}
	for k, v := range t.task.Meta {
		meta[k] = v
	}
	return weights.Write(path, all, meta, "F32")
}

type part struct {
	prefix string
	data   []float32
}

func (t *Trainer) parts(i int) []part {
	return []part{
		{"weight/", t.task.Weights.Tensor(t.names[i]).Data},
		{"m/", t.first[i]}, {"v/", t.second[i]}, {"ema/", t.mean[i]},
	}
}

// Load goes on from a checkpoint of the same settings and task. After an error
// the trainer is as it was.
func (t *Trainer) Load(path string) error {
	f, err := weights.Open(path)
	if err != nil {
		return err
	}
	want := map[string]string{"settings": fmt.Sprintf("%+v", t.s)}
	for k, v := range t.task.Meta {
		want[k] = v
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got, v := f.Metadata[k], want[k]; got != v {
			return fmt.Errorf("%s: was written with %s %s, this run has %s: use the same configuration or another -out folder", path, k, got, v)
		}
	}
	step, err := strconv.Atoi(f.Metadata["step"])
	if err != nil || step < 0 {
		return fmt.Errorf("%s: metadata step is %q, want a whole number", path, f.Metadata["step"])
	}
	var read []*weights.Tensor
	for i, name := range t.names {
		for _, part := range t.parts(i) {
			w, err := f.Expect(part.prefix+name, t.task.Weights.Tensor(name).Shape...)
			if err != nil {
				return err
			}
			read = append(read, w)
		}
	}
	for i := range t.names {
		for _, part := range t.parts(i) {
			copy(part.data, read[0].Data)
			read = read[1:]
		}
	}
	t.step = step
	return nil
}
