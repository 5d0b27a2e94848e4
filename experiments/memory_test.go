package experiments

import (
	"fmt"
	"maps"
	"testing"
)

// planningEngine notes what a plan of memory is asked for.
type planningEngine struct {
	fakeEngine
	workers int
	jobs    []Job
}

func (e *planningEngine) PlanMemory(workers, threads int, jobs []Job) (*memoryPlan, error) {
	e.workers, e.jobs = workers, jobs
	return &memoryPlan{workers: workers}, nil
}

// Memory is planned for the batches that the workers are given, which are less
// than -batch where there is little to do, and for no others.
func TestMemoryPlansUnits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		images, batch, workers int
		split                  bool // some units are smaller than a batch and a cell
	}{{4, 8, 1, false}, {4, 8, 2, false}, {4, 8, 16, true}, {4, 2, 2, false}, {400, 8, 2, false}, {2, 8, 64, true}} {
		e := planned(t, panelConfig, fmt.Sprintf("sample.count=%d", tt.images), fmt.Sprintf("reference.base_count=%d", tt.images))
		engine := &planningEngine{}
		e.engine = engine
		if m, err := e.memory(tt.batch, tt.workers, 1); err != nil || m == nil {
			t.Fatalf("plan %v: %v", m, err)
		}
		key := func(j Job, n int) string {
			return fmt.Sprint(j.Height, j.Width, j.GuidanceScale, j.SDEdit, len(j.Plan), n)
		}
		got, want := map[string]bool{}, map[string]bool{}
		for _, j := range engine.jobs {
			got[key(j, len(j.Prompts))] = true
		}
		units, split := 0, false
		for _, u := range e.units(tt.batch, tt.workers) {
			if u.work != nil && u.work.kind != kindTrue {
				want[key(u.work.job(), len(u.indices))] = true
				split = split || len(u.indices) < min(tt.batch, u.work.count)
				units++
			}
		}
		if !maps.Equal(got, want) || split != tt.split {
			t.Errorf("%+v: planned %v, drawn %v, split %v", tt, got, want, split)
		}
		if engine.workers != min(tt.workers, units) {
			t.Errorf("%+v: planned for %d workers that draw %d units", tt, engine.workers, units)
		}
	}
}
