package kernels

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestRunsAllocateNothing holds that convolutions, linear layers, attention and the Fourier filter allocate nothing once their plans
// and loops are kept, in every mode, with and without packed weights; nor do the gradients of the first two, which have no modes.
func TestRunsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops what is kept to be used again")
	}
	for _, m := range []Math{Float32, BF16x3, BF16} {
		name := "portable"
		if bfSIMD() {
			name = "avx2"
		}
		withBF(t, name, func() {
			for _, threads := range []int{1, 2} {
				p := NewPool(threads)
				check := func(name string, run func()) {
					t.Helper()
					run()
					if n := testing.AllocsPerRun(10, run); n > 0 {
						t.Errorf("%v, %d threads: %s allocates %v times", m, threads, name, n)
					}
				}
				r := rand.New(rand.NewPCG(41, 1))
				// Direct: images of their own, in groups and shared by the threads, padded, strided and pointwise. Winograd: by tiles and
				// by strips.
				for _, c := range []Conv{square(2, 6, 14, 8, 3, 1, 1), square(8, 6, 14, 8, 3, 2, 1), square(3, 6, 14, 8, 3, 2, 1), square(3, 20, 18, 8, 1, 1, 1), square(2, 36, 164, 5, 3, 2, 1),
					square(3, 24, 20, 13, 3, 1, 1), square(2, 17, 25, 14, 5, 1, 2), square(2, 200, 176, 5, 3, 1, 1)} {
					if c.Math = m; m != Float32 && c.Cin*c.Cout > 1000 {
						continue // slow
					}
					x, w, bias, add := uniform(r, c.N*c.Cin*c.H*c.W), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout), uniform(r, c.N*c.Cout)
					y := make([]float32, c.N*c.Cout*c.OutH()*c.OutW())
					a := ConvArgs{Y: y, X: x, W: w, Bias: bias, Scratch: make([]float32, c.ScratchForward(threads))}
					check(fmt.Sprint(c), func() { ConvRun(p, c, a) })
					a.Add, a.Residual, a.SiLU = add, y, true
					if k, ok := c.Packing(); ok {
						a.Packed = make([]float32, k.Floats())
						k.Pack(p, a.Packed, w)
					}
					check(fmt.Sprint(c, " with all that may follow"), func() { ConvRun(p, c, a) })
					if m == Float32 {
						data, weight := make([]float32, c.ScratchData(threads)), make([]float32, c.ScratchWeight(threads))
						check(fmt.Sprint(c, " backward to the input"), func() { ConvBackwardData(p, c, x, y, w, data) })
						check(fmt.Sprint(c, " backward to the weights"), func() { ConvBackwardWeight(p, c, w, y, x, weight) })
					}
				}
				for _, l := range []Linear{{T: 1, K: 32, O: 64}, {T: 7, K: 33, O: 19}, {T: 200, K: 96, O: 64}, {T: 400, K: 256, O: 24}, {T: 1100, K: 24, O: 96}} {
					l.Math = m
					x, w, y := uniform(r, l.T*l.K), uniform(r, l.O*l.K), make([]float32, l.T*l.O)
					a := LinearArgs{Y: y, X: x, W: w, Bias: uniform(r, l.O), Scratch: make([]float32, l.Scratch(threads))}
					check(fmt.Sprint(l), func() { LinearRun(p, l, a) })
					k, _ := l.Packing()
					a.Packed, a.Residual = make([]float32, k.Floats()), y
					k.Pack(p, a.Packed, w)
					check(fmt.Sprint(l, " packed"), func() { LinearRun(p, l, a) })
					if m == Float32 {
						check(fmt.Sprint(l, " backward to the input"), func() { LinearBackwardData(p, l, x, y, w, a.Scratch) })
						check(fmt.Sprint(l, " backward to the weights"), func() { LinearBackwardWeight(p, l, w, y, x, a.Scratch) })
						check(fmt.Sprint(l, " packing"), func() { k.Pack(p, a.Packed, w) })
					}
				}
				at := Attention{N: 2, Heads: 2, Tq: 33, Tk: 20, D: 16, Math: m}
				q, kv, o := uniform(r, 2*33*32), uniform(r, 2*20*32), make([]float32, 2*33*32)
				scratch := make([]float32, at.Scratch(threads))
				check("attention", func() { AttentionForward(p, at, o, q, kv, kv, scratch) })
				f := FourierFilter{Planes: 5, H: 9, W: 12, Threshold: 2, Scale: 0.5}
				x, y := uniform(r, 5*9*12), make([]float32, 5*9*12)
				check("the Fourier filter", func() { FourierFilterForward(p, f, y, x) })
				p.Close()
			}
		})
	}
}

// TestPlans holds that plans are made once, shared by goroutines, and bounded in number.
func TestPlans(t *testing.T) {
	var kept plans[int, *int]
	made := make([]int, 2*maxPlans) // under the plans' lock
	get := func(i int) *int {
		return kept.get(i, func(k int) *int {
			made[k]++
			return &k
		})
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range maxPlans {
				if got := *get(i); got != i {
					t.Errorf("plan %d is %d", i, got)
				}
			}
		})
	}
	group.Wait()
	for i, n := range made[:maxPlans] {
		if n != 1 {
			t.Errorf("plan %d was made %d times", i, n)
		}
	}
	for i := range made {
		get(i)
		if len(kept.made) > maxPlans {
			t.Fatalf("%d plans are kept, want at most %d", len(kept.made), maxPlans)
		}
	}
}

// TestPlansAreShared runs one convolution of every kind, and a filter, in several goroutines at once: all read one plan.
func TestPlansAreShared(t *testing.T) {
	for i, c := range []Conv{square(3, 6, 14, 8, 3, 2, 1), square(3, 24, 20, 13, 3, 1, 1), square(1, 200, 176, 5, 3, 1, 1)} {
		r := rand.New(rand.NewPCG(uint64(i), 43))
		x, w := uniform(r, c.N*c.Cin*c.H*c.W), uniform(r, c.Cout*c.Cin*c.KH*c.KW)
		f := FourierFilter{Planes: c.N * c.Cin, H: c.H, W: c.W, Threshold: 1, Scale: 0.5}
		want, filtered := make([]float32, c.N*c.Cout*c.OutH()*c.OutW()), make([]float32, len(x))
		ConvForward(nil, c, want, x, w, nil, make([]float32, c.ScratchForward(1)))
		FourierFilterForward(nil, f, filtered, x)
		clear(winograds.made) // so that the first to come makes it again
		clear(correlations.made)
		clear(wavesMade.made)
		p := NewPool(2)
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				y, z, scratch := make([]float32, len(want)), make([]float32, len(x)), make([]float32, c.ScratchForward(2))
				for range 2 {
					ConvForward(p, c, y, x, w, nil, scratch)
					sameBits(t, "conv", y, want)
					FourierFilterForward(p, f, z, x)
					sameBits(t, "filter", z, filtered)
				}
			})
		}
		group.Wait()
		p.Close()
	}
}
