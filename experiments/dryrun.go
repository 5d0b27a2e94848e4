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
// cost. The time per network evaluation is taken from finished images of this
// plan, or measured with one step.
func (p *plan) dryRun(ctx context.Context, w io.Writer, workers, threads int) error {
	second, measured, err := p.secondsPerEvaluation(ctx, threads)
	if err != nil {
		return fmt.Errorf("measure one step: %w", err)
	}
	fmt.Fprintf(w, "%s: %d cells of %d images at %dx%d px, %d steps; store %s\n\n",
		p.config.Name, len(p.rows), p.config.Sample.Count, p.config.Sample.Height, p.config.Sample.Width, p.config.Sample.Steps, p.store.Root)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "cell\timages\tstate\tNFE\tto do\tsettings")
	total := 0.0
	line := func(id, label string, have, want, nfe int, cost float64) {
		state := "to run"
		if have == want {
			state = "done"
		} else if have > 0 {
			state = "partly"
		}
		total += cost
		fmt.Fprintf(t, "%s\t%d/%d\t%s\t%d\t%s\t%s\n", id, have, want, state, nfe, duration(cost*second/float64(workers)), label)
	}
	blocks := 0
	for _, b := range p.blocks {
		if b != nil {
			blocks++
		}
	}
	scenes := p.config.Reference.Count
	line(p.sceneID[:8], "features of true scenes", min(blocks*blockSize, scenes), scenes, 0, float64(len(p.blocks)-blocks)*blockSize*p.evaluations(p.trueScenes))
	for _, k := range []*work{p.trueScenes, p.base} {
		line(k.cell.ID[:8], k.cell.Label, k.have(), k.count, k.cell.NFE, float64(len(k.missing()))*p.evaluations(k))
	}
	for i, row := range p.rows {
		k := p.cells[i]
		label := row.Label
		if row.Method.Baseline {
			label += " (baseline)"
		}
		line(row.ID[:8], label, k.have(), p.config.Sample.Count, row.NFE, float64(len(k.missing()))*p.evaluations(k))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	how := "from finished images"
	if measured {
		how = "measured with one step"
	}
	_, err = fmt.Fprintf(w, "\nabout %s on %d workers of %d threads (%.3g s a network evaluation, %s)\n", duration(total*second/float64(workers)), workers, threads, second, how)
	return err
}

// secondsPerEvaluation is the time of one network evaluation for one image of
// the target size on one worker.
func (p *plan) secondsPerEvaluation(ctx context.Context, threads int) (second float64, measured bool, err error) {
	var seconds, evaluations float64
	for _, w := range p.cells {
		for i, ok := range w.finished {
			if ok {
				seconds += w.seconds[i]
				evaluations += p.evaluations(w)
			}
		}
	}
	if evaluations > 0 && seconds > 0 {
		return seconds / evaluations, false, nil
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
