package experiments

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"scalecrafter/ablation"
)

// dryRun lists what a run would do: every cell with its identity, state and
// cost. The time per network evaluation is taken from finished images of the
// panel, or measured with one step at its size.
func (e *experiment) dryRun(ctx context.Context, w io.Writer, batch, workers, threads int) error {
	memory, err := e.memory(batch, workers, threads)
	if err != nil {
		return fmt.Errorf("plan the memory: %w", err)
	}
	total := 0.0
	for i, p := range e.panels {
		if i > 0 {
			fmt.Fprintln(w)
		}
		seconds, err := p.dryRun(ctx, w, workers, threads)
		if err != nil {
			return err
		}
		total += seconds
	}
	if len(e.panels) > 1 {
		if _, err := fmt.Fprintf(w, "\nall %d sizes: about %s\n", len(e.panels), duration(total)); err != nil {
			return err
		}
	}
	if memory != nil {
		fmt.Fprintln(w)
		memory.print(w)
	}
	return nil
}

// dryRun lists one panel and returns the seconds that it would take.
func (p *plan) dryRun(ctx context.Context, w io.Writer, workers, threads int) (float64, error) {
	second, measured, err := p.secondsPerEvaluation(ctx, threads)
	if err != nil {
		return 0, fmt.Errorf("measure one step: %w", err)
	}
	perCost := second / p.evaluation(p.size, nil) // seconds by experiment.price
	fmt.Fprintf(w, "%s: %d cells of %d images at %s px, %d steps; store %s\n\n",
		p.config.Name, len(p.rows), p.config.Sample.Count, p.size, p.config.Sample.Steps, p.store.Root)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "cell\timages\tstate\tNFE\tto do\tsettings")
	own := map[*work]bool{}
	for _, k := range p.works {
		own[k] = true
	}
	total := 0.0
	line := func(id, label string, have, want, nfe int, cost float64) {
		state := "to run"
		if have >= want {
			state = "done"
		} else if have > 0 {
			state = "partly"
		}
		seconds := cost * perCost / float64(workers)
		total += seconds
		fmt.Fprintf(t, "%s\t%d/%d\t%s\t%d\t%s\t%s\n", id, have, want, state, nfe, duration(seconds), label)
	}
	images := func(k *work, label string, want int) {
		cost := float64(len(k.missing())) * k.cost
		if !own[k] {
			cost = 0
			label += " (shared with a size above)"
		}
		line(k.cell.ID[:8], label, min(k.have(), want), want, k.cell.NFE+k.cell.BaseNFE, cost)
	}
	blocks := 0
	for _, b := range p.blocks {
		if b != nil {
			blocks++
		}
	}
	scenes := p.config.Reference.Count
	line(p.sceneID[:8], "features of true scenes", min(blocks*blockSize, scenes), scenes, 0, float64(len(p.blocks)-blocks)*p.blockCost())
	images(p.trueScenes, p.trueScenes.cell.Label, p.config.Sample.Count)
	images(p.base, p.base.cell.Label, p.config.Reference.BaseCount)
	for i, row := range p.rows {
		label := row.Label
		if row.Method.Baseline {
			label += " (baseline)"
		}
		images(p.cells[i], label, p.config.Sample.Count)
	}
	if err := t.Flush(); err != nil {
		return 0, err
	}
	how := "from finished images"
	if measured {
		how = "measured with one step"
	}
	_, err = fmt.Fprintf(w, "\nabout %s on %d workers of %d threads (%.3g s a network evaluation, %s)\n", duration(total), workers, threads, second, how)
	return total, err
}

// secondsPerEvaluation is the time of one network evaluation as trained for one
// image of the panel's size on one worker.
func (p *plan) secondsPerEvaluation(ctx context.Context, threads int) (second float64, measured bool, err error) {
	var seconds, cost float64
	for _, w := range p.cells {
		for i, ok := range w.finished {
			if ok {
				seconds += w.seconds[i]
				cost += w.cost
			}
		}
	}
	if cost > 0 && seconds > 0 {
		return seconds / cost * p.evaluation(p.size, nil), false, nil
	}
	worker, err := p.engine.NewWorker(threads)
	if err != nil {
		return 0, false, err
	}
	s := p.config.Settings()
	plan, err := ablation.Method{Kind: ablation.Direct}.Schedule(p.engine.Architecture(), 1, p.train, s.Size)
	if err != nil {
		return 0, false, err
	}
	job := Job{
		Height: s.Size.H, Width: s.Size.W, Seed: s.Seed, Steps: 1, GuidanceScale: s.GuidanceScale, GuidanceRescale: s.GuidanceRescale,
		Eta: s.Eta, Sampler: s.Sampler, Plan: plan, Prompts: []string{worker.Prompt(s.Seed, 0)}, Indices: []uint64{0},
	}
	// The first step also compiles the graph; a second one is timed unless the
	// first was dear.
	for range 2 {
		started := time.Now()
		if _, _, err := worker.Sample(ctx, job); err != nil {
			return 0, false, err
		}
		took := time.Since(started)
		second = took.Seconds() / float64(ablation.NFE(plan, s.GuidanceScale))
		if took > 5*time.Second {
			break
		}
	}
	return second, true, nil
}

// duration rounds seconds to what a reader wants to know.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return "<1s"
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
