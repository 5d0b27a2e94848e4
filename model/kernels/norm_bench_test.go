package kernels

import (
	"fmt"
	"testing"
)

// BenchmarkNorms is norms at SD 1.5's sizes beside a copy of as much memory.
func BenchmarkNorms(b *testing.B) {
	p := NewPool(2)
	defer p.Close()
	for _, g := range []GroupNorm{
		{N: 2, C: 320, HW: 4096, Groups: 32, Eps: 1e-5, SiLU: true},
		{N: 1, C: 320, HW: 16384, Groups: 32, Eps: 1e-5, SiLU: true},
		{N: 1, C: 960, HW: 16384, Groups: 32, Eps: 1e-5, SiLU: true},
		{N: 1, C: 960, HW: 16384, Groups: 32, Eps: 1e-5},
		{N: 1, C: 960, HW: 16384, Groups: 1, Eps: 1e-5},
	} {
		n := g.N * g.C * g.HW
		x, y, gamma := normals(n, 1), make([]float32, n), normals(g.C, 2)
		b.Run(fmt.Sprintf("group/%dx%dx%d/%d/silu=%t", g.N, g.C, g.HW, g.Groups, g.SiLU), func(b *testing.B) {
			b.SetBytes(int64(8 * n))
			for b.Loop() {
				GroupNormForward(p, g, y, x, gamma, gamma)
			}
		})
	}
	for _, l := range []LayerNorm{{T: 8192, C: 320, Eps: 1e-5}, {T: 16384, C: 320, Eps: 1e-5}, {T: 512, C: 1280, Eps: 1e-5}} {
		n := l.T * l.C
		x, y, gamma := normals(n, 1), make([]float32, n), normals(l.C, 2)
		b.Run(fmt.Sprintf("layer/%dx%d", l.T, l.C), func(b *testing.B) {
			b.SetBytes(int64(8 * n))
			for b.Loop() {
				LayerNormForward(p, l, y, x, gamma, gamma)
			}
		})
	}
	for _, n := range []int{320 * 8192, 960 * 16384} {
		x, y := normals(n, 1), make([]float32, n)
		b.Run(fmt.Sprintf("copy/%d", n), func(b *testing.B) {
			b.SetBytes(int64(8 * n))
			for b.Loop() {
				copyBlocks(p, 1, y, 0, x, n)
			}
		})
	}
}
