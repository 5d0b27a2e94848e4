package experiments

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"scalecrafter/ablation"
	"scalecrafter/model"
)

// memoryPlan is what a run will take at its peak, in bytes.
type memoryPlan struct {
	model.Memory
	workers  int
	features int // critter-net's share of each worker
	program  int // the program and Go's runtime, before anything is drawn
}

// gcPercent is how much garbage a run lets pile up, in percent of the memory in
// use, which is nearly all one arena a worker: collecting it costs next to
// nothing, and the default of 100 would double the peak.
const gcPercent = 10

// worker and total are the sums for one worker and the whole.
func (m *memoryPlan) worker() int { return m.Worker() + m.features }
func (m *memoryPlan) total() int {
	live := m.program + m.Dispersed + m.Packed + m.workers*m.worker()
	return live + m.garbage()
}

// garbage is what Go's runtime lets pile up before it collects.
func (m *memoryPlan) garbage() int {
	return (m.Shared() + m.workers*m.worker()) * gcPercent / 100
}

// planner is an Engine that knows what it will take.
type planner interface {
	// PlanMemory plans for workers of that many threads that draw these jobs;
	// only the number of prompts counts, not what they say.
	PlanMemory(workers, threads int, jobs []Job) (*memoryPlan, error)
}

// reserver is a Worker that can take its memory at once.
type reserver interface{ Reserve(*memoryPlan) }

func (w *worker) Reserve(m *memoryPlan) { w.denoiser.Reserve(m.Memory) }

func (e *engine) PlanMemory(workers, threads int, jobs []Job) (*memoryPlan, error) {
	m := &memoryPlan{workers: workers}
	var batches []model.Batch
	for _, job := range jobs {
		n, rows := len(job.Prompts), len(job.Prompts)
		if job.GuidanceScale > 1 {
			rows *= 2
		}
		size := func(h, w, rows int, plan *ablation.LayerPlan) {
			batches = append(batches, model.Batch{N: rows, H: h / model.PixelScale, W: w / model.PixelScale, Plan: plan})
		}
		if job.SDEdit.Tau > 0 {
			trainH, trainW := e.TrainSize()
			base := job.SDEdit.Base(ablation.Size{H: trainH, W: trainW}, ablation.Size{H: job.Height, W: job.Width})
			size(base.H, base.W, rows, nil)
		}
		for i, s := range job.Plan {
			if i < job.SDEdit.Tau {
				continue
			}
			size(job.Height, job.Width, rows, s.Main)
			if s.Damped != nil && job.GuidanceScale > 1 {
				size(job.Height, job.Width, n, s.Damped)
			}
		}
	}
	var err error
	if m.Memory, err = e.pipeline.PlanMemory(threads, model.Batches(batches)); err != nil {
		return nil, err
	}
	if _, m.features, err = e.net.Bytes(); err != nil {
		return nil, err
	}
	return m, nil
}

// memory plans what drawing the works that are not finished takes, in the units
// that the workers will be given; nil if the engine cannot tell.
func (e *experiment) memory(batch, workers, threads int) (*memoryPlan, error) {
	engine, ok := e.engine.(planner)
	if !ok {
		return nil, nil
	}
	type part struct {
		work *work
		n    int // images
	}
	seen := map[part]bool{}
	var jobs []Job
	units := 0
	for _, u := range e.units(batch, workers) {
		if u.work == nil || u.work.kind == kindTrue {
			continue
		}
		units++
		if p := (part{u.work, len(u.indices)}); !seen[p] {
			seen[p] = true
			job := u.work.job()
			job.Prompts = make([]string, p.n)
			jobs = append(jobs, job)
		}
	}
	if len(jobs) == 0 {
		return nil, nil
	}
	// What the program has now, less what planning leaves behind.
	m, err := engine.PlanMemory(max(1, min(workers, units)), threads, jobs)
	if err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	if m.program = resident(); m.program == 0 {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		m.program = int(stats.Sys - stats.HeapReleased)
	}
	return m, nil
}

// print writes the plan in one line for each share.
func (m *memoryPlan) print(w io.Writer) {
	fmt.Fprintf(w, "memory: about %s at the peak\n", sizeText(m.total()))
	fmt.Fprintf(w, "  shared      %s: program and weights %s (weights %s), dispersed kernels %s, packed weights %s\n",
		sizeText(m.program+m.Dispersed+m.Packed), sizeText(m.program), sizeText(m.Weights), sizeText(m.Dispersed), sizeText(m.Packed))
	fmt.Fprintf(w, "  each worker %s: arena %s, scratch %s, kept from step to step %s, inputs and latents %s, critter-net %s (%d workers)\n",
		sizeText(m.worker()), sizeText(m.Arena), sizeText(m.Scratch), sizeText(m.Constants), sizeText(m.Inputs+m.Latents), sizeText(m.features), m.workers)
	fmt.Fprintf(w, "  garbage     %s\n", sizeText(m.garbage()))
}

func sizeText(n int) string {
	switch v := float64(n) / (1 << 20); {
	case v >= 9.95 || n == 0:
		return fmt.Sprintf("%.0f MiB", v)
	default:
		return fmt.Sprintf("%.1f MiB", v)
	}
}

// resident is this process's memory that is resident now; 0 where the system
// does not tell.
func resident() int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}
