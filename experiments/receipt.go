package experiments

import (
	"scalecrafter/ablation"
	"scalecrafter/reports/results"
)

// receipt writes into a cell what its job makes the sampler execute: how every
// layer of every network ran at every step, and which network gave which term
// of the guidance sum. A network has rows where any of its layers ever differs
// from the network as trained.
func receipt(cell *results.Cell, engine Engine, job Job) {
	arch := engine.Architecture()
	scale, rescale := job.GuidanceScale, job.GuidanceRescale
	cell.GuidanceScale, cell.GuidanceRescale = &scale, &rescale
	if job.SDEdit.Tau > 0 {
		cell.SDEdit = &results.SDEdit{Skipped: job.SDEdit.Tau, Scale: max(job.SDEdit.Scale, 0)}
	}
	main := make([]*ablation.LayerPlan, len(job.Plan)) // nil: not evaluated
	damped := make([]*ablation.LayerPlan, len(job.Plan))
	cell.Steps = make([]results.StepRow, len(job.Plan))
	for i := range job.Plan {
		if i < job.SDEdit.Tau {
			continue
		}
		main[i], damped[i] = job.networks(i)
		step := results.StepRow{Cond: results.NetworkMain, Main: networkRow(main[i])}
		if job.GuidanceScale > 1 {
			step.Base, step.Uncond = results.NetworkMain, results.NetworkMain
		}
		if damped[i] != nil {
			step.Base, step.Damped = results.NetworkDamped, networkRow(damped[i])
		}
		cell.Steps[i] = step
	}
	cell.Plan = append(planRows(arch, results.NetworkMain, main), planRows(arch, results.NetworkDamped, damped)...)
	scales := func(p *ablation.LayerPlan) []float64 { return engine.Work(job.Height, job.Width, p).AttentionScales }
	cell.Attention = append(attentionRows(arch, results.NetworkMain, main, scales), attentionRows(arch, results.NetworkDamped, damped, scales)...)
}

// attentionRows is how a network's self-attentions ran, in execution order; no
// rows where every one ran as trained at every step. plans holds nil where the
// network was not evaluated.
func attentionRows(arch ablation.Architecture, network string, plans []*ablation.LayerPlan, scales func(*ablation.LayerPlan) []float64) []results.AttentionRow {
	of := map[*ablation.LayerPlan][]float64{} // steps share plans
	changed := false
	for _, p := range plans {
		if _, ok := of[p]; p != nil && !ok {
			of[p] = scales(p)
			for _, s := range of[p] {
				changed = changed || s != 1
			}
		}
	}
	if !changed {
		return nil
	}
	var rows []results.AttentionRow
	for l, layer := range arch.SelfAttention {
		r := results.AttentionRow{Layer: layer, Network: network, Scales: make([]float64, len(plans))}
		for i, p := range plans {
			if p != nil {
				r.Scales[i] = of[p][l]
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// networks are the plans that are evaluated at a step: V only where guidance is
// on and V is another network than D, as the sampler has it.
func (j Job) networks(step int) (main, damped *ablation.LayerPlan) {
	p := j.Plan[step]
	main = p.Main
	if main == nil {
		main = &ablation.LayerPlan{}
	}
	if j.GuidanceScale > 1 && p.Damped != nil && p.Damped.Key() != main.Key() {
		damped = p.Damped
	}
	return main, damped
}

func networkRow(p *ablation.LayerPlan) *results.NetworkRow {
	n := &results.NetworkRow{}
	if p.AttentionRatio != 1 {
		n.AttentionRatio = p.AttentionRatio
	}
	if u := p.FreeU; u != nil {
		n.FreeU = []float64{u.B1, u.B2, u.S1, u.S2}
	}
	return n
}

// planRows is how a network's layers ran, in execution order; no rows where
// every layer ran as trained at every step. plans holds nil where the network
// was not evaluated.
func planRows(arch ablation.Architecture, network string, plans []*ablation.LayerPlan) []results.PlanRow {
	rows := []results.PlanRow{}
	changed := false
	for _, conv := range arch.Convs {
		r := results.PlanRow{Layer: conv.Path, Network: network, Factors: make([]float64, len(plans))}
		columns, kernels, transforms := make([]float64, len(plans)), make([]int, len(plans)), make([]string, len(plans))
		apart, dispersed := false, false
		for i, p := range plans {
			if p == nil {
				continue
			}
			f, ok := p.Dilation[conv.Path]
			if !ok {
				f = ablation.Factor{H: 1, W: 1}
			}
			changed = changed || ok
			r.Factors[i], columns[i], kernels[i] = f.H, f.W, 3
			apart = apart || f.H != f.W
			if t := p.Dispersion[conv.Path]; t != nil {
				kernels[i], transforms[i] = t.Large, transformName(t)
				dispersed, changed = true, true
			}
		}
		if apart {
			r.Columns = columns
		}
		if dispersed {
			r.Kernels, r.Transforms = kernels, transforms
		}
		rows = append(rows, r)
	}
	if !changed {
		return []results.PlanRow{}
	}
	return rows
}

// transformName is the transform's name, never empty: its numbers' where it has
// none.
func transformName(t *ablation.Transform) string {
	if t.Name != "" {
		return t.Name
	}
	return t.Key()
}
