package experiments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"time"

	"scalecrafter/reports/results"
)

// unit is the smallest piece of work: a few images of one cell, or (work nil)
// one block of a panel's reference scenes.
type unit struct {
	work    *work
	indices []int
	panel   *plan
	block   int
}

// run draws what an experiment lacks.
type run struct {
	*experiment
	batch    int
	workers  int
	threads  int
	progress *progress
	memory   *memoryPlan // nil if it is not known

	mu sync.Mutex // guards pending and err of every work
}

// units lists the missing work in the order of drawing: what costs most first,
// so that the workers end together, and cell by cell, so that an interrupted run
// has whole cells. A unit is a batch, and less where there is little to do: no
// more than half of a worker's share of all of it, if that is an image or more.
func (e *experiment) units(batch, workers int) []unit {
	type piece struct {
		units []unit
		cost  float64 // of the largest unit
	}
	var pieces []piece
	total := e.toDo()
	for _, p := range e.panels {
		for b, have := range p.blocks {
			if have == nil {
				pieces = append(pieces, piece{[]unit{{panel: p, block: b}}, p.blockCost()})
			}
		}
		for _, w := range p.works {
			missing := w.missing()
			most := batch
			if share := total / float64(2*workers); w.cost*float64(most) > share {
				most = max(1, int(share/w.cost))
			}
			w.pending = (len(missing) + most - 1) / most
			var units []unit
			for n := w.pending; n > 0; n-- {
				size := (len(missing) + n - 1) / n // as even as can be
				units = append(units, unit{work: w, indices: missing[:size]})
				missing = missing[size:]
			}
			if len(units) > 0 {
				pieces = append(pieces, piece{units, w.cost * float64(len(units[0].indices))})
			}
		}
	}
	sort.SliceStable(pieces, func(i, j int) bool { return pieces[i].cost > pieces[j].cost })
	var out []unit
	for _, p := range pieces {
		out = append(out, p.units...)
	}
	return out
}

// do runs all units. A cell's failure is recorded in its work and stops that
// cell only; the error returned is what stops everything: the context's, or
// the store's, or a worker that cannot start.
func (r *run) do(ctx context.Context) error {
	units := r.units(r.batch, r.workers)
	if err := r.prepare(); err != nil {
		return err
	}
	if len(units) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan unit)
	var wg sync.WaitGroup
	for range min(r.workers, len(units)) {
		wg.Go(func() {
			worker, err := r.engine.NewWorker(r.threads)
			if err != nil {
				cancel(fmt.Errorf("start a worker: %w", err))
				return
			}
			if w, ok := worker.(reserver); ok && r.memory != nil {
				w.Reserve(r.memory)
			}
			for u := range queue {
				if err := r.one(ctx, worker, u); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for _, u := range units {
		select {
		case queue <- u:
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}

// prepare sweeps what killed processes left, describes the cells and gives
// those that are whole the marker that a kill may have kept from them.
func (r *run) prepare() error {
	folders := []string{r.runDir}
	for _, p := range r.panels {
		folders = append(folders, filepath.Dir(r.store.ReferenceBlock(p.sceneID, 0)))
		if p.runDir != r.runDir {
			folders = append(folders, p.runDir)
		}
	}
	for _, w := range r.works {
		folders = append(folders, w.dir.Path)
	}
	for _, folder := range folders {
		if err := results.Sweep(folder); err != nil {
			return err
		}
	}
	for _, w := range r.works {
		if err := w.dir.Describe(r.describe(w)); err != nil {
			return err
		}
		if w.pending == 0 {
			if err := w.dir.MarkComplete(w.count); err != nil {
				return err
			}
		}
	}
	return nil
}

// one runs a unit. Its error stops the run; a failure of the engine does not
// and is kept in the work.
func (r *run) one(ctx context.Context, worker Worker, u unit) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if u.work != nil && r.failed(u.work) {
		return nil
	}
	if u.work != nil {
		r.progress.images(u.work, 0) // shows the cell
	}
	done := 0.0 // progress made so far
	total := r.cost(u)
	err = func() (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v\n%s", v, firstLines(string(debug.Stack()), 24))
			}
		}()
		if u.work == nil {
			return r.scenes(ctx, worker, u.panel, u.block)
		}
		step := 0
		return r.draw(ctx, worker, u, func() {
			if step < len(u.work.cell.Plan) && u.work.cell.NFE > 0 {
				part := total / float64(len(u.work.cell.Plan))
				done += part
				r.progress.advance(part)
				step++
			}
		})
	}()
	var storage *results.StorageError
	switch {
	case err == nil:
		r.progress.advance(total - done)
	case errors.As(err, &storage):
		return storage
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case u.work == nil:
		return fmt.Errorf("reference scenes: %w", err)
	}
	if err != nil {
		r.fail(u.work, err)
		return nil
	}
	if u.work == nil {
		return nil
	}
	r.progress.images(u.work, len(u.indices))
	r.mu.Lock()
	u.work.pending--
	last := u.work.pending == 0 && u.work.err == nil
	r.mu.Unlock()
	if last {
		if err := u.work.dir.MarkComplete(u.work.count); err != nil {
			return err
		}
		r.progress.finished(u.work)
	}
	return nil
}

func (r *run) failed(w *work) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return w.err != nil
}

func (r *run) fail(w *work, err error) {
	r.mu.Lock()
	first := w.err == nil
	if first {
		w.err = err
	}
	r.mu.Unlock()
	if first {
		r.progress.say("cell %s (%s) failed: %v", w.cell.ID[:8], w.title, err)
	}
}

// cost of a unit; see experiment.price.
func (r *run) cost(u unit) float64 {
	if u.work == nil {
		return u.panel.blockCost()
	}
	return u.work.cost * float64(len(u.indices))
}

// job is what the engine is asked for, less prompts and samples. The receipt is
// written from it.
func (w *work) job() Job {
	s := w.settings
	return Job{
		Height: s.Size.H, Width: s.Size.W, Seed: s.Seed, Steps: s.Steps, GuidanceScale: s.GuidanceScale,
		GuidanceRescale: s.GuidanceRescale, Eta: s.Eta, Sampler: s.Sampler, SDEdit: s.SDEdit, Plan: w.cell.Plan,
	}
}

// draw makes, judges and stores the images of a unit.
func (r *run) draw(ctx context.Context, worker Worker, u unit, onStep func()) error {
	w := u.work
	s := w.settings
	started := time.Now()
	job := w.job()
	job.OnStep = onStep
	for _, i := range u.indices {
		job.Indices = append(job.Indices, uint64(i))
		job.Prompts = append(job.Prompts, worker.Prompt(s.Seed, uint64(i)))
	}
	var pictures []*image.NRGBA
	nfe := 0.0
	if w.kind == kindTrue {
		for k, i := range u.indices {
			pictures = append(pictures, worker.TrueScene(job.Prompts[k], s.Seed, uint64(i), s.Size.H, s.Size.W))
		}
	} else {
		var err error
		if pictures, nfe, err = worker.Sample(ctx, job); err != nil {
			return err
		}
	}
	if len(pictures) != len(u.indices) {
		return fmt.Errorf("the sampler returned %d images for %d samples", len(pictures), len(u.indices))
	}
	features, err := worker.Features(pictures)
	if err != nil {
		return fmt.Errorf("features: %w", err)
	}
	if len(features) != len(pictures) {
		return fmt.Errorf("the feature network returned %d vectors for %d images", len(features), len(pictures))
	}
	if err := finite(features, u.indices); err != nil {
		return err // rather than a finished sample that can never be scored
	}
	samples := make([]results.Sample, len(u.indices))
	files := make([][]byte, len(u.indices))
	for k, i := range u.indices {
		verdict, err := worker.Judge(job.Prompts[k], pictures[k])
		if err != nil {
			return fmt.Errorf("judge sample %d: %w", i, err)
		}
		var file bytes.Buffer
		if err := png.Encode(&file, pictures[k]); err != nil {
			return fmt.Errorf("sample %d: %w", i, err)
		}
		files[k] = file.Bytes()
		samples[k] = results.Sample{
			Index: uint64(i), Prompt: job.Prompts[k], NFE: nfe,
			Bodies: verdict.Bodies, Eyes: verdict.Eyes, Mouths: verdict.Mouths,
			Shape: verdict.Shape, Color: verdict.Color, Background: verdict.Background, Pattern: verdict.Pattern,
			Features: features[k],
		}
	}
	seconds := time.Since(started).Seconds() / float64(len(u.indices))
	// Writing means waiting for the disk, once a file: side by side the waits
	// are one.
	var wg sync.WaitGroup
	errs := make([]error, len(u.indices))
	for k := range u.indices {
		wg.Go(func() { errs[k] = w.dir.Put(samples[k], files[k], seconds) })
	}
	wg.Wait()
	for k, i := range u.indices {
		if errs[k] == nil {
			w.samples[i], w.seconds[i], w.finished[i] = samples[k], seconds, true
		}
	}
	return errors.Join(errs...)
}

// scenes computes one block of a panel's reference features: true scenes of the prompts
// block*blockSize onwards, drawn a few at a time.
func (r *run) scenes(ctx context.Context, worker Worker, p *plan, block int) error {
	const together = 20
	s := p.trueScenes.settings
	record := sceneBlock{Block: block}
	started := time.Now()
	for from := 0; from < blockSize; from += together {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var pictures []*image.NRGBA
		var indices []int
		for k := range together {
			indices = append(indices, block*blockSize+from+k)
			i := uint64(indices[k])
			pictures = append(pictures, worker.TrueScene(worker.Prompt(s.Seed, i), s.Seed, i, s.Size.H, s.Size.W))
		}
		features, err := worker.Features(pictures)
		if err != nil {
			return fmt.Errorf("features: %w", err)
		}
		if err := finite(features, indices); err != nil {
			return err
		}
		for _, f := range features {
			record.Features = append(record.Features, f)
		}
	}
	if err := results.WriteSealed(r.store.ReferenceBlock(p.sceneID, block), record, time.Since(started).Seconds()); err != nil {
		return err
	}
	p.blocks[block] = record.Features
	return nil
}

// finite refuses NaN and infinity in the features of these samples.
func finite(features [][]float32, indices []int) error {
	for k, vector := range features {
		for j, v := range vector {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return fmt.Errorf("sample %d: feature %d is %v; the picture or the feature network is broken", indices[k], j, f)
			}
		}
	}
	return nil
}

func firstLines(s string, n int) string {
	lines := strings.SplitN(s, "\n", n+1)
	if len(lines) > n {
		lines = lines[:n]
	}
	return strings.Join(lines, "\n")
}
