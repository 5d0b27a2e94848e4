package ops

import (
	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
)

// FourierFilter multiplies the frequencies from -threshold to threshold-1 of
// both axes of every plane of x [N,C,H,W] by scale and keeps the real part
// (kernels.FourierFilter).
func FourierFilter(x *gorgonia.Node, threshold int, scale float32) *gorgonia.Node {
	s := dims("fourier filter", x, "x", 4)
	if threshold < 1 || threshold > max(s[2]/2, 1) || threshold > max(s[3]/2, 1) {
		fail("fourier filter", "threshold %d on %dx%d: want 1 to half of each side", threshold, s[2], s[3])
	}
	return apply(fourierFilter{N: s[0], C: s[1], H: s[2], W: s[3], Threshold: threshold, Scale: scale}, []int{0}, x)
}

type fourierFilter struct {
	N, C, H, W, Threshold int
	Scale                 float32
	noScratch
}

func (k fourierFilter) inputs() int    { return 1 }
func (k fourierFilter) shape() []int   { return []int{k.N, k.C, k.H, k.W} }
func (k fourierFilter) inPlace() []int { return []int{0} }
func (k fourierFilter) run(e *Env, dst []float32, src [][]float32) {
	f := kernels.FourierFilter{Planes: k.N * k.C, H: k.H, W: k.W, Threshold: k.Threshold, Scale: k.Scale}
	kernels.FourierFilterForward(e.Pool, f, dst, src[0])
}

// The filter is its own adjoint: a real part of waves in differences of
// positions, which exchanging the positions conjugates.
func (k fourierFilter) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{FourierFilter(dy, k.Threshold, k.Scale)}
}

// ScaleChannels multiplies the first channels of x [N,C,H,W] by scale.
func ScaleChannels(x *gorgonia.Node, first int, scale float32) *gorgonia.Node {
	s := dims("scale channels", x, "x", 4)
	if first < 0 || first > s[1] {
		fail("scale channels", "x has %d channels, want to scale the first %d", s[1], first)
	}
	return apply(scaleChannels{N: s[0], C: s[1], H: s[2], W: s[3], First: first, Scale: scale}, []int{0}, x)
}

type scaleChannels struct {
	N, C, H, W, First int
	Scale             float32
	noScratch
}

func (k scaleChannels) inputs() int    { return 1 }
func (k scaleChannels) shape() []int   { return []int{k.N, k.C, k.H, k.W} }
func (k scaleChannels) inPlace() []int { return []int{0} }
func (k scaleChannels) run(e *Env, dst []float32, src [][]float32) {
	kernels.ScaleChannels(e.Pool, k.N, k.C, k.H*k.W, k.First, k.Scale, dst, src[0])
}
func (k scaleChannels) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{ScaleChannels(dy, k.First, k.Scale)}
}
