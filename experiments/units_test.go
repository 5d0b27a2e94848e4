package experiments

import (
	"math"
	"testing"

	"scalecrafter/ablation"
	"scalecrafter/configs"
	"scalecrafter/reports/results"
)

// planned is a configuration's experiment on the fake engine.
func planned(t *testing.T, src string, sets ...string) *experiment {
	t.Helper()
	c, err := configs.Decode(src, "x.toml", sets)
	if err != nil {
		t.Fatal(err)
	}
	e, err := newExperiment(c, &fakeEngine{}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// span is the time that workers take for units in their order, and their cost
// over all.
func span(r *run, units []unit, workers int) (last, total float64) {
	free := make([]float64, workers)
	for _, u := range units {
		next := 0
		for i := range free {
			if free[i] < free[next] {
				next = i
			}
		}
		free[next] += r.cost(u)
		total += r.cost(u)
		last = math.Max(last, free[next])
	}
	return last, total
}

// Every missing image is in one unit, no unit is larger than a batch, a cell's
// units stand together, dear ones come first, and the workers end together
// however few images there are.
func TestUnits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sets           []string
		batch, workers int
		largest        int     // unit
		idle           float64 // most of the work that the last worker may do alone
	}{
		{[]string{"sample.count=400"}, 8, 2, 8, 0.01},
		{[]string{"sample.count=2", "reference.base_count=2"}, 8, 2, 2, 0.05},
		{[]string{"sample.count=2", "reference.base_count=2"}, 8, 3, 2, 0.1},
		{[]string{"sample.count=3", "reference.base_count=2"}, 1, 2, 1, 0.05},
		{[]string{"sample.count=40"}, 64, 4, 40, 0.06},
	} {
		e := planned(t, panelConfig, tt.sets...)
		r := &run{experiment: e}
		units := e.units(tt.batch, tt.workers)
		seen := map[*work]map[int]bool{}
		parts := map[*work]int{}
		blocks, largest := 0, 0
		var before *work
		for i, u := range units {
			if u.work == nil {
				blocks++
				before = nil
				continue
			}
			if seen[u.work] == nil {
				seen[u.work] = map[int]bool{}
				if i > 0 && r.cost(u) > r.cost(units[i-1])*float64(tt.batch) {
					t.Errorf("%v: unit %d costs %g after one of %g", tt.sets, i, r.cost(u), r.cost(units[i-1]))
				}
			} else if before != u.work {
				t.Errorf("%v: the units of %s do not stand together", tt.sets, u.work.title)
			}
			before = u.work
			parts[u.work]++
			largest = max(largest, len(u.indices))
			for _, k := range u.indices {
				if seen[u.work][k] {
					t.Errorf("%v: image %d of %s twice", tt.sets, k, u.work.title)
				}
				seen[u.work][k] = true
			}
		}
		for _, w := range e.works {
			if len(seen[w]) != w.count || parts[w] != w.pending {
				t.Errorf("%v: %s has %d images in %d units, want %d in %d", tt.sets, w.title, len(seen[w]), parts[w], w.count, w.pending)
			}
		}
		want := 0
		for _, p := range e.panels {
			want += len(p.blocks)
		}
		if blocks != want || largest != tt.largest {
			t.Errorf("%v: %d blocks and units of up to %d, want %d and %d", tt.sets, blocks, largest, want, tt.largest)
		}
		last, total := span(r, units, tt.workers)
		if alone := last/total - 1/float64(tt.workers); alone > tt.idle {
			t.Errorf("%v: %d workers end %.0f%% of the work apart, want %.0f%%", tt.sets, tt.workers, 100*alone, 100*tt.idle)
		}
	}
	// One cell alone is shared too.
	e := planned(t, fakeConfig, "sample.count=4")
	for _, w := range e.works {
		if w.cell.NFE == 0 || w != e.panels[0].cells[0] {
			for i := range w.finished {
				w.finished[i] = true
			}
		}
	}
	for _, p := range e.panels {
		for b := range p.blocks {
			p.blocks[b] = []results.Vector{}
		}
	}
	if units := e.units(8, 2); len(units) != 4 {
		t.Errorf("four images for two workers are %d units, want 4", len(units))
	}
}

// An image costs what its networks compute: dispersed kernels by their taps,
// every term of the guidance sum by its network, SDEdit's picture by its size.
func TestPrice(t *testing.T) {
	t.Parallel()
	e := planned(t, fakeConfig)
	size := ablation.Size{H: 32, W: 32}
	settings := ablation.Settings{Size: size, Steps: 4, GuidanceScale: 3}
	five := &ablation.Transform{Small: 3, Large: 5}
	dispersed := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}, Dispersion: map[string]*ablation.Transform{}}
	for _, c := range e.engine.Architecture().Convs {
		dispersed.Dilation[c.Path], dispersed.Dispersion[c.Path] = ablation.Factor{H: 2, W: 2}, five
	}
	plain := &ablation.LayerPlan{}
	steps := func(main, damped *ablation.LayerPlan) []ablation.StepPlan {
		out := make([]ablation.StepPlan, 4)
		for i := range out {
			out[i] = ablation.StepPlan{Main: main, Damped: damped}
		}
		return out
	}
	unguided, late := settings, settings
	unguided.GuidanceScale = 1
	late.SDEdit = ablation.SDEdit{Tau: 3, Scale: 2}
	const one, five5 = 4, 4 * 25.0 / 9 // of an evaluation at the 16x16 px trained on
	for i, tt := range []struct {
		cell     ablation.Cell
		settings ablation.Settings
		want     float64
	}{
		{ablation.Cell{Plan: steps(plain, nil)}, settings, 8 * one},
		{ablation.Cell{Plan: steps(plain, nil)}, unguided, 4 * one},
		{ablation.Cell{Plan: steps(dispersed, nil)}, settings, 8 * five5},
		{ablation.Cell{Plan: steps(dispersed, plain)}, settings, 8*five5 + 4*one},
		{ablation.Cell{Plan: steps(dispersed, plain)}, unguided, 4 * five5},
		{ablation.Cell{Plan: steps(plain, nil), BaseNFE: 8}, late, 2*one + 8},
		{ablation.Cell{}, settings, 0},
	} {
		if got := e.price(tt.cell, tt.settings); math.Abs(got-tt.want-judging*one) > 1e-9 {
			t.Errorf("case %d costs %g, want %g", i, got, tt.want+judging*one)
		}
	}
}
