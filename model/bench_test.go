package model

import (
	"context"
	"fmt"
	"os"
	"testing"

	"scalecrafter/ablation"
	"scalecrafter/model/critters"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/sampler"
)

// freshPipeline is the built-in architecture with random weights.
func freshPipeline(t testing.TB) *Pipeline {
	t.Helper()
	b, err := os.ReadFile("builtin/unet/config.json")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := ParseUNetConfig(b, "builtin/unet/config.json")
	if err != nil {
		t.Fatal(err)
	}
	w := params.NewFresh(func(name string, n int) []float32 {
		out := make([]float32, n)
		sampler.Noise(out, sampler.NoiseKey{Seed: uint64(len(name)), Sample: uint64(n)})
		return out
	})
	p, err := New(cfg, sampler.StableDiffusion(), w, w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// innerPlan dilates every level but the outermost.
func innerPlan(p *Pipeline, factor float64) *ablation.LayerPlan {
	plan := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}}
	for _, c := range p.Architecture().Convs {
		if c.Depth >= 1 {
			plan.Dilation[c.Path] = ablation.Factor{H: factor, W: factor}
		}
	}
	return plan
}

// BenchmarkPredict is one evaluation of the built-in U-Net by one thread, as
// each sampling worker runs it: 16 rows (8 guided pictures).
func BenchmarkPredict(b *testing.B) {
	p := freshPipeline(b)
	for _, bb := range []struct {
		name   string
		px     int
		factor float64
		kernel int // of dispersed layers
	}{{"64px", 64, 1, 0}, {"128px", 128, 1, 0}, {"128px_x2", 128, 2, 0}, {"128px_x1.5", 128, 1.5, 0}, {"128px_x3", 128, 3, 0},
		{"128px_x2_5x5", 128, 1, 5}, {"128px_x3_7x7", 128, 1, 7}} {
		b.Run(bb.name, func(b *testing.B) {
			const rows = 16
			side := bb.px / PixelScale
			w := p.NewWorker(1)
			cond, err := p.Encode(critters.PromptAttributes(1, 1).Prompt())
			if err != nil {
				b.Fatal(err)
			}
			r := sampler.Request{N: rows, C: 12, H: side, W: side, T: 501, X: make([]float32, rows*12*side*side)}
			for range rows {
				r.Cond = append(r.Cond, cond)
			}
			if bb.factor != 1 {
				r.Plan = innerPlan(p, bb.factor)
			}
			if bb.kernel > 0 {
				r.Plan = dispersed(p, ablation.Factor{H: bb.factor, W: bb.factor}, spread(bb.kernel, (bb.kernel-1)/2), func(c ablation.ConvLayer) bool { return c.Depth >= 1 })
			}
			sampler.Noise(r.X, sampler.NoiseKey{Seed: 1})
			out := make([]float32, len(r.X))
			if err := w.Predict(context.Background(), r, out); err != nil {
				b.Fatal(err)
			}
			if os.Getenv("TRACE") != "" {
				for _, s := range w.cache {
					s.machine.Trace()
				}
			}
			for b.Loop() {
				if err := w.Predict(context.Background(), r, out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/rows, "ms/row")
			for _, s := range w.cache {
				for i, o := range s.machine.Times() {
					if i < 20 {
						fmt.Printf("%9.3f ms %3dx %s\n", o.Time.Seconds()*1000/float64(b.N), o.Calls, o.Name)
					}
				}
			}
		})
	}
}

// BenchmarkCompile is what a worker pays for a plan that it meets for the first
// time: building the graph and planning its memory, and that memory.
func BenchmarkCompile(b *testing.B) {
	p := freshPipeline(b)
	for _, bb := range []struct {
		name      string
		px, rows  int
		factor    float64
		dispersed bool
	}{{"128px", 128, 16, 1, false}, {"128px_x2", 128, 16, 2, false}, {"128px_x1.5", 128, 16, 1.5, false}, {"128px_dispersed", 128, 16, 2, true},
		{"256px_x4", 256, 16, 4, false}, {"256px_x3.5", 256, 16, 3.5, false}} {
		b.Run(bb.name, func(b *testing.B) {
			plan := innerPlan(p, bb.factor)
			if bb.dispersed {
				plan = dispersed(p, ablation.Factor{H: bb.factor, W: bb.factor}, spread(5, 2), func(c ablation.ConvLayer) bool { return c.Depth >= 1 })
			}
			side := bb.px / PixelScale
			var s *session
			var err error
			m := newMemory()
			for b.Loop() {
				if s, err = p.session(Batch{bb.rows, side, side, plan}, m, ops.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			arena, scratch, _ := s.machine.Bytes()
			b.ReportMetric(float64(arena)/(1<<20), "MiB-arena")
			b.ReportMetric(float64(scratch)/(1<<20), "MiB-scratch")
		})
	}
}
