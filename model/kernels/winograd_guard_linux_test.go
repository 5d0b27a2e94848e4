package kernels

import (
	"math/rand/v2"
	"testing"
)

// ConvRun reads and writes nothing outside its slices, on every way that a convolution can take.
func TestConvRunStaysInsideSlices(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		r := rand.New(rand.NewPCG(43, 9))
		for i, c := range fusedCases() {
			for _, end := range []bool{false, true} {
				values := func(n int) []float32 { return walled(t, uniform(r, n), n, end) }
				out := c.N * c.Cout * c.OutH() * c.OutW()
				a := ConvArgs{Y: values(out), X: values(c.N * c.Cin * c.H * c.W), W: values(c.Cout * c.Cin * c.KH * c.KW), Bias: values(c.Cout), Add: values(c.N * c.Cout), SiLU: i%2 == 0, Scratch: values(c.ScratchForward(2))}
				ConvRun(p, c, a)
				a.Residual = values(out)
				if key, ok := c.Packing(); ok {
					a.Packed = values(key.Floats())
					key.Pack(p, a.Packed, a.W)
				}
				ConvRun(p, c, a)
				ConvBackwardData(p, c, a.X, a.Y, a.W, values(c.ScratchData(2)))
			}
		}
	})
}
