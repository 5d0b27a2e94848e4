package kernels

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// peakGFLOPS measures how fast the active engine multiplies and adds in registers on the given number of threads; 0 where
// there is no such loop.
func peakGFLOPS(threads int) float64 {
	const rounds = 1 << 20
	if peakLoop() == nil {
		return 0
	}
	best := 0.0
	p := NewPool(threads)
	defer p.Close()
	for range 8 {
		start := time.Now()
		p.Run(threads, func(int) { peakLoop()(rounds) })
		best = max(best, float64(threads)*rounds*384/time.Since(start).Seconds()/1e9)
	}
	return best
}

// peaks remembers the measured peak of each number of threads, so that every figure of a run has the same yardstick.
var peaks = struct {
	sync.Mutex
	of map[int]float64
}{of: map[int]float64{}}

func peak(threads int) float64 {
	peaks.Lock()
	defer peaks.Unlock()
	if peaks.of[threads] == 0 {
		peaks.of[threads] = peakGFLOPS(threads)
	}
	return peaks.of[threads]
}

func BenchmarkPeakFMA(b *testing.B) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			best := 0.0
			for b.Loop() {
				best = max(best, peakGFLOPS(threads))
			}
			b.ReportMetric(best, "GFLOP/s")
		})
	}
}

// report adds GFLOP/s and the share of the measured peak.
func report(b *testing.B, flops float64, threads int) {
	rate := flops * float64(b.N) / b.Elapsed().Seconds() / 1e9
	b.ReportMetric(rate, "GFLOP/s")
	if top := peak(threads); top > 0 {
		b.ReportMetric(100*rate/top, "%peak")
	}
}

func benchConvs() []Conv {
	return []Conv{
		// the built-in U-Net, sampling at 128x128 pixels (64x64 latents)
		square(8, 24, 24, 64, 3, 1, 1), square(8, 48, 24, 64, 3, 1, 1), square(8, 72, 24, 64, 3, 1, 1), square(8, 24, 24, 64, 3, 1, 2), square(8, 12, 24, 64, 3, 1, 1), square(8, 72, 24, 64, 1, 1, 1),
		square(8, 48, 48, 32, 3, 1, 1), square(8, 144, 48, 32, 3, 1, 1), square(8, 48, 48, 32, 3, 1, 2), square(8, 24, 24, 64, 3, 2, 1), square(8, 144, 48, 32, 1, 1, 1),
		square(8, 96, 96, 16, 3, 1, 1), square(8, 192, 96, 16, 3, 1, 1), square(8, 96, 96, 16, 3, 1, 2), square(8, 96, 96, 8, 3, 1, 1), square(8, 192, 96, 8, 3, 1, 1),
		square(1, 24, 24, 64, 3, 1, 1), square(1, 48, 48, 32, 3, 1, 1), square(1, 96, 96, 16, 3, 1, 1), square(1, 96, 96, 8, 3, 1, 1),
		// training
		square(32, 24, 24, 32, 3, 1, 1), square(32, 48, 24, 32, 3, 1, 1), square(32, 24, 48, 16, 3, 1, 1), square(32, 48, 48, 16, 3, 1, 1), square(32, 144, 48, 16, 3, 1, 1),
		square(32, 24, 24, 32, 3, 2, 1), square(32, 48, 48, 16, 3, 2, 1), square(32, 96, 96, 8, 3, 2, 1),
		square(32, 96, 96, 8, 3, 1, 1), square(32, 192, 96, 8, 3, 1, 1), square(32, 96, 96, 4, 3, 1, 1), square(32, 192, 96, 4, 3, 1, 1), square(32, 192, 96, 4, 1, 1, 1),
		square(32, 12, 24, 32, 3, 1, 1), square(32, 24, 12, 32, 3, 1, 1), square(32, 48, 24, 32, 1, 1, 1),
		// Stable Diffusion
		square(1, 320, 320, 64, 3, 1, 1), square(2, 320, 320, 64, 3, 1, 1), square(1, 320, 320, 64, 3, 1, 2), square(2, 320, 320, 64, 3, 1, 2), square(2, 1280, 1280, 8, 3, 1, 1), square(1, 4, 320, 64, 3, 1, 1),
		square(2, 640, 640, 32, 3, 1, 1), square(2, 640, 640, 32, 3, 1, 3), square(2, 1280, 1280, 16, 3, 1, 1), square(2, 1280, 1280, 16, 3, 1, 4), square(2, 960, 640, 32, 3, 1, 1), square(2, 2560, 1280, 8, 3, 1, 1),
		square(2, 640, 320, 64, 1, 1, 1), square(2, 320, 320, 64, 3, 2, 1),
		// dispersed kernels
		square(8, 24, 24, 128, 5, 1, 1), square(8, 48, 48, 64, 5, 1, 2), square(8, 96, 96, 32, 5, 1, 1), square(2, 320, 320, 64, 5, 1, 1), square(2, 640, 640, 32, 5, 1, 2),
	}
}

func (c Conv) flops() float64 {
	return 2 * float64(c.N*c.Cout*c.OutH()*c.OutW()) * float64(c.Cin*c.KH*c.KW)
}

func BenchmarkConv(b *testing.B) {
	for _, c := range benchConvs() {
		name := fmt.Sprintf("n%d_%d-%d_%dx%d_k%d_s%d_d%d", c.N, c.Cin, c.Cout, c.H, c.W, c.KH, c.StrideH, c.DilH)
		r := rand.New(rand.NewPCG(1, 1))
		var x, w, y, bias []float32
		setup := func() {
			if x == nil {
				x, w, y, bias = uniform(r, c.N*c.Cin*c.H*c.W), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.N*c.Cout*c.OutH()*c.OutW()), uniform(r, c.Cout)
			}
		}
		for _, threads := range []int{1, 2} {
			run := func(kind string, scratch int, f func(p *Pool, scratch []float32)) {
				b.Run(fmt.Sprintf("%s/%s/t%d", name, kind, threads), func(b *testing.B) {
					setup()
					peak(threads)
					p := NewPool(threads)
					defer p.Close()
					s := make([]float32, scratch)
					f(p, s)
					b.ReportAllocs()
					for b.Loop() {
						f(p, s)
					}
					report(b, c.flops(), threads)
				})
			}
			run("fwd", c.ScratchForward(threads), func(p *Pool, s []float32) { ConvForward(p, c, y, x, w, bias, s) })
			if c.N < 32 && c.Cin != 320 {
				continue // sampling only
			}
			run("bwdData", c.ScratchData(threads), func(p *Pool, s []float32) { ConvBackwardData(p, c, x, y, w, s) })
			run("bwdWeight", c.ScratchWeight(threads), func(p *Pool, s []float32) { ConvBackwardWeight(p, c, w, y, x, s) })
		}
	}
}

func BenchmarkLinear(b *testing.B) {
	for _, l := range []Linear{{T: 8, K: 96, O: 384}, {T: 32, K: 96, O: 384}, {T: 8 * 1024, K: 48, O: 48}, {T: 8 * 256, K: 96, O: 768}, {T: 32 * 64, K: 96, O: 768}, {T: 32 * 64, K: 384, O: 96}, {T: 1, K: 320, O: 1280}, {T: 4096, K: 320, O: 2560}, {T: 2 * 256, K: 1280, O: 1280}} {
		r := rand.New(rand.NewPCG(1, 1))
		x, w, y, bias := uniform(r, l.T*l.K), uniform(r, l.O*l.K), uniform(r, l.T*l.O), uniform(r, l.O)
		for _, threads := range []int{1, 2} {
			run := func(kind string, f func(p *Pool, scratch []float32)) {
				b.Run(fmt.Sprintf("t%d_%d-%d/%s/t%d", l.T, l.K, l.O, kind, threads), func(b *testing.B) {
					peak(threads)
					p := NewPool(threads)
					defer p.Close()
					s := make([]float32, l.Scratch(threads))
					b.ReportAllocs()
					for b.Loop() {
						f(p, s)
					}
					report(b, 2*float64(l.T)*float64(l.K)*float64(l.O), threads)
				})
			}
			run("fwd", func(p *Pool, s []float32) { LinearForward(p, l, y, x, w, bias, s) })
			run("bwdData", func(p *Pool, s []float32) { LinearBackwardData(p, l, x, y, w, s) })
			run("bwdWeight", func(p *Pool, s []float32) { LinearBackwardWeight(p, l, w, y, x, s) })
		}
	}
}
