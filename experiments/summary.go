package experiments

import (
	"fmt"
	"math"
	"path/filepath"

	"scalecrafter/ablation"
	"scalecrafter/reports/results"
)

// summarise scores the finished cells and builds everything that a report is
// made of. Failed cells are rows with a status and no numbers. The warnings are
// for the terminal.
func (p *plan) summarise() (*results.Summary, []string, error) {
	c := p.config
	s := &results.Summary{
		Version: results.SchemaVersion, Name: c.Name, Title: c.Title, Question: c.Question,
		Height: c.Sample.Height, Width: c.Sample.Width, TrainHeight: p.train.H, TrainWidth: p.train.W,
		Steps: c.Sample.Steps, GuidanceScale: c.Sample.GuidanceScale, ResolvedTOML: c.TOML(),
	}
	for _, key := range c.Report.Columns {
		s.Columns = append(s.Columns, column(key))
	}
	for _, plot := range c.Report.Plots {
		title := plot.Title
		if title == "" {
			title = column(plot.Metric).Title
		}
		s.Plots = append(s.Plots, results.Plot{Name: plot.Name, Title: title, Metric: plot.Metric, X: plot.X, GroupBy: plot.GroupBy})
	}
	for i := range c.Report.PictureColumns {
		s.PictureColumns = append(s.PictureColumns, i)
	}
	for i := range c.Sample.Count {
		s.Prompts = append(s.Prompts, p.prompt(i))
	}

	var scenes, base []results.Vector
	for _, block := range p.blocks {
		scenes = append(scenes, block...)
	}
	scenes = scenes[:min(len(scenes), c.Reference.Count)]
	if p.base.err == nil {
		for _, sample := range p.base.samples[:c.Reference.BaseCount] {
			base = append(base, sample.Features)
		}
	}
	scorer := newScorer(c.Sample.Seed, s.Prompts, scenes, base)

	// Plots may show metrics that the table does not.
	keys := append([]string(nil), c.Report.Columns...)
	for _, plot := range c.Report.Plots {
		if !contains(keys, plot.Metric) {
			keys = append(keys, plot.Metric)
			s.Columns = append(s.Columns, column(plot.Metric))
		}
	}
	if !contains(keys, "right_share") { // the findings are about it
		keys = append(keys, "right_share")
		s.Columns = append(s.Columns, column("right_share"))
	}

	measured := make([]*scored, len(p.rows))
	stderr := 0.0
	for i, row := range p.rows {
		cell := p.row(row, p.cells[i])
		if cell.Status == "done" {
			m, err := scorer.measure(p.cells[i].samples[:c.Sample.Count], keys, true)
			if err != nil {
				cell.Status, cell.Error = "failed", err.Error()
				p.cells[i].err = err
			} else {
				measured[i], cell.Metrics = m, m.values
			}
		}
		s.Cells = append(s.Cells, cell)
		if wanted := c.Report.PictureRows; len(wanted) == 0 || contains(wanted, row.Method.Name) {
			s.PictureRows = append(s.PictureRows, row.ID)
		}
	}
	if err := scorer.compare(s.Cells, measured, keys); err != nil {
		return nil, nil, err
	}
	for i := range s.Cells {
		if measured[i] == nil || s.Cells[i].Baseline {
			continue
		}
		if e := s.Cells[i].Effects["right_share"]; e.HasInterval {
			stderr = math.Max(stderr, (e.Hi-e.Lo)/(2*1.96))
		}
	}
	for _, w := range []*work{p.trueScenes, p.base} {
		count := c.Sample.Count
		if w == p.base {
			count = c.Reference.BaseCount
		}
		label := w.cell
		kind := kindTrue
		if w == p.base {
			kind = kindBase
			label.Label = fmt.Sprintf("base resolution, %s px", p.train)
		}
		cell := p.row(label, w)
		cell.Kind, cell.N, cell.Baseline, cell.Axes, cell.Plan = kind, count, false, nil, nil
		if len(cell.Images) > count {
			cell.Images = cell.Images[:count]
		}
		if cell.Status == "done" {
			m, err := scorer.measure(w.samples[:count], keys, false)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", label.Label, err)
			}
			cell.Metrics = m.values
		}
		s.Reference = append(s.Reference, cell)
	}
	s.Findings = findings(s, stderr)
	return s, scorer.warnings, nil
}

// prompt is the prompt of a sample, from any record that has it.
func (p *plan) prompt(i int) string {
	for _, w := range p.works {
		if i < len(w.samples) && w.finished[i] && w.settings.Seed == p.config.Sample.Seed {
			return w.samples[i].Prompt
		}
	}
	return ""
}

// row is a cell's line in the summary, without its numbers.
func (p *plan) row(cell ablation.Cell, w *work) results.Cell {
	r := results.Cell{
		ID: cell.ID, Label: cell.Label, Method: cell.Method.Name, Kind: string(cell.Method.Kind), Baseline: cell.Method.Baseline,
		Status: "done", N: p.config.Sample.Count, NFE: float64(cell.NFE),
		Metrics: map[string]results.Value{}, Effects: map[string]results.Effect{}, Axes: []results.Axis{}, Images: []string{}, Plan: []results.PlanRow{},
	}
	if w.err != nil {
		r.Status, r.Error, r.N = "failed", w.err.Error(), 0
		return r
	}
	for _, a := range cell.Method.Axes(p.config.Sample.Steps) {
		axis := results.Axis{Name: a.Name, Text: a.Text}
		if a.IsNum {
			n := a.Number
			axis.Number = &n
		}
		r.Axes = append(r.Axes, axis)
	}
	for i := range w.count {
		r.Seconds += w.seconds[i]
		r.Images = append(r.Images, runImage(cell.ID, i))
	}
	if w.count > 0 && len(w.samples) > 0 {
		r.NFE = w.samples[0].NFE
	}
	r.Plan = planRows(p.engine.Architecture(), cell.Plan)
	return r
}

// runImage is a picture's path inside a run's folder.
func runImage(id string, i int) string { return fmt.Sprintf("images/%s/%05d.png", id, i) }

// linkImages puts the finished pictures into the run's folder, so that it can
// be moved or sent as it is.
func (p *plan) linkImages() error {
	for _, w := range p.works {
		for i, ok := range w.finished {
			if !ok {
				continue
			}
			if err := results.Link(w.dir.ImagePath(i), filepath.Join(p.runDir, filepath.FromSlash(runImage(w.cell.ID, i)))); err != nil {
				return err
			}
		}
	}
	return nil
}

// planRows is what was executed, layer by step. An anisotropic factor shows as
// its larger side. Cells that dilate nothing have no rows.
func planRows(arch ablation.Architecture, plan []ablation.StepPlan) []results.PlanRow {
	rows := []results.PlanRow{}
	add := func(network string, of func(ablation.StepPlan) *ablation.LayerPlan) {
		used := false
		for _, step := range plan {
			if l := of(step); l != nil && len(l.Dilation) > 0 {
				used = true
			}
		}
		if !used {
			return
		}
		for _, conv := range arch.Convs {
			row := results.PlanRow{Layer: conv.Path, Network: network, Factors: make([]float64, len(plan))}
			for i, step := range plan {
				row.Factors[i] = 1
				if l := of(step); l != nil {
					if f, ok := l.Dilation[conv.Path]; ok {
						row.Factors[i] = math.Max(f.H, f.W)
					}
				}
			}
			rows = append(rows, row)
		}
	}
	add("main", func(s ablation.StepPlan) *ablation.LayerPlan { return s.Main })
	add("damped", func(s ablation.StepPlan) *ablation.LayerPlan { return s.Damped })
	return rows
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
