package experiments

import (
	"fmt"
	"math"
	"path/filepath"

	"scalecrafter/ablation"
	"scalecrafter/configs"
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
	if len(p.panels) > 1 {
		s.Title = fmt.Sprintf("%s, %s px", c.Title, p.size)
	}
	for _, plot := range plots(c.Report.Plots) {
		if len(p.panels) == 1 || plot.X != sizeAxis {
			s.Plots = append(s.Plots, plot)
		}
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

	// Plots, findings and comparisons may need metrics that the table lacks.
	keys := append([]string(nil), c.Report.Columns...)
	need := func(key string) {
		if !contains(keys, key) {
			keys = append(keys, key)
			s.Columns = append(s.Columns, column(key))
		}
	}
	for _, plot := range c.Report.Plots {
		need(plot.Metric)
	}
	need("right_share")
	if len(c.Report.Compares) > 0 || len(p.panels) > 1 {
		for _, key := range mainMetrics {
			need(key)
		}
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
	if err := p.components(s, scorer, measured); err != nil {
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
		cell.Kind, cell.N, cell.Baseline, cell.Axes, cell.Plan, cell.Steps, cell.Attention = kind, count, false, nil, nil, nil, nil
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

// sizeAxis is the axis of plots over the panels.
const sizeAxis = "size"

// mainMetrics are those by which components and sizes are compared.
var mainMetrics = []string{"right_share", "excess_bodies", "excess_eyes", "fid_r", "kid_r"}

// plots are the figures that a configuration asks for.
func plots(list []configs.Plot) []results.Plot {
	var out []results.Plot
	for _, plot := range list {
		title := plot.Title
		if title == "" {
			title = column(plot.Metric).Title
		}
		out = append(out, results.Plot{Name: plot.Name, Title: title, Metric: plot.Metric, X: plot.X, GroupBy: plot.GroupBy, Methods: plot.Methods})
	}
	return out
}

// components measures what the configuration's [[report.compare]] ask for:
// paired differences between two cells in the main metrics, corrected over the
// table of comparisons. One whose methods do not run at this size, or failed,
// is left out.
func (p *plan) components(s *results.Summary, scorer *scorer, measured []*scored) error {
	var pairs []pair
	at := func(method string) int {
		for i, row := range p.rows {
			if row.Method.Name == method && measured[i] != nil {
				return i
			}
		}
		return -1
	}
	for _, c := range p.config.Report.Compares {
		from, to := at(c.From), at(c.To)
		if from < 0 || to < 0 {
			continue
		}
		pairs = append(pairs, pair{from, to})
		s.Comparisons = append(s.Comparisons, results.Comparison{Name: c.Name, From: s.Cells[from].ID, To: s.Cells[to].ID})
	}
	effects, err := scorer.differences(s.Cells, measured, pairs, mainMetrics)
	if err != nil {
		return err
	}
	for i := range effects {
		s.Comparisons[i].Effects = effects[i]
	}
	return nil
}

// prompt is the prompt of a sample, from any record that has it.
func (p *plan) prompt(i int) string {
	for _, w := range p.all() {
		if i < len(w.samples) && w.finished[i] && w.settings.Seed == p.config.Sample.Seed {
			return w.samples[i].Prompt
		}
	}
	return ""
}

// all lists the panel's works, those that it shares with others too, each once.
func (p *plan) all() []*work {
	out := []*work{p.trueScenes, p.base}
	for _, w := range p.cells {
		if w != p.base { // a panel of the training size
			out = append(out, w)
		}
	}
	return out
}

// row is a cell's line in the summary, without its numbers.
func (p *plan) row(cell ablation.Cell, w *work) results.Cell {
	r := results.Cell{
		ID: cell.ID, Label: cell.Label, Method: cell.Method.Name, Kind: string(cell.Method.Kind), Baseline: cell.Method.Baseline,
		Status: "done", N: p.config.Sample.Count, NFE: float64(cell.NFE + cell.BaseNFE),
		Metrics: map[string]results.Value{}, Effects: map[string]results.Effect{}, Axes: []results.Axis{}, Images: []string{}, Plan: []results.PlanRow{},
	}
	if w.err != nil {
		r.Status, r.Error, r.N = "failed", w.err.Error(), 0
		return r
	}
	for _, a := range cell.Method.Axes(p.config.Settings()) {
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
	receipt(&r, p.engine, w.job())
	return r
}

// runImage is a picture's path inside a run's folder.
func runImage(id string, i int) string { return fmt.Sprintf("images/%s/%05d.png", id, i) }

// linkImages puts the finished pictures into the run's folder, so that it can
// be moved or sent as it is.
func (p *plan) linkImages() error {
	for _, w := range p.all() {
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

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
