package model

import (
	"context"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"scalecrafter/ablation"
	"scalecrafter/model/critters"
	"scalecrafter/model/sampler"
)

// threadTime is the processor time of the calling thread, which neighbours on a
// busy machine leave alone.
func threadTime(t testing.TB) time.Duration {
	const thisThread = 1 // RUSAGE_THREAD
	var r syscall.Rusage
	if err := syscall.Getrusage(thisThread, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkDampedStep is one sampling step of 8 guided pictures of 128 px by
// the built-in U-Net on one thread: as trained, re-dilated (two evaluations a
// picture) and noise-damped (three), in turn. The bar: damped costs at most
// 1.55 times a plain guided step.
func BenchmarkDampedStep(b *testing.B) {
	p := freshPipeline(b)
	const n, side = 8, 128 / PixelScale
	s := sampler.Settings{
		Steps: 1, GuidanceScale: 5, Schedule: p.Scheduler, C: p.Config.InChannels, H: side, W: side,
		Initial: make([]float32, n*p.Config.InChannels*side*side),
	}
	sampler.Noise(s.Initial, sampler.NoiseKey{Seed: 1})
	empty, err := p.Encode("")
	if err != nil {
		b.Fatal(err)
	}
	s.Uncond = []sampler.Condition{empty}
	for i := range uint64(n) {
		c, err := p.Encode(critters.PromptAttributes(1, i).Prompt())
		if err != nil {
			b.Fatal(err)
		}
		s.SampleIndex, s.Cond = append(s.SampleIndex, i), append(s.Cond, c)
	}
	// The published shape of a damped setting: D from depth 1, V from depth 2.
	inner := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}}
	for _, c := range p.Architecture().Convs {
		if c.Depth >= 2 {
			inner.Dilation[c.Path] = ablation.Factor{H: 2, W: 2}
		}
	}
	plans := []ablation.StepPlan{{}, {Main: innerPlan(p, 2)}, {Main: innerPlan(p, 2), Damped: inner}}
	w := p.NewWorker(1)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	step := func(plan ablation.StepPlan) time.Duration {
		s.Plan = []ablation.StepPlan{plan}
		before := threadTime(b)
		if _, err := sampler.Sample(context.Background(), w, s); err != nil {
			b.Fatal(err)
		}
		return threadTime(b) - before
	}
	for _, plan := range plans {
		step(plan) // compiles
	}
	took := make([][]time.Duration, len(plans))
	for b.Loop() {
		for i, plan := range plans {
			took[i] = append(took[i], step(plan))
		}
	}
	median := func(i int) float64 {
		slices.Sort(took[i])
		return took[i][len(took[i])/2].Seconds()
	}
	plain, redilated, damped := median(0), median(1), median(2)
	b.ReportMetric(1000*plain, "ms/plain")
	b.ReportMetric(1000*redilated, "ms/redilated")
	b.ReportMetric(1000*damped, "ms/damped")
	b.ReportMetric(damped/plain, "damped/plain")
	b.ReportMetric(damped/redilated, "damped/redilated")
}
