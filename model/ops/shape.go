package ops

import (
	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
)

// window is shape's worth of x's floats from offset on, without a copy.
func window(x *gorgonia.Node, offset int, shape []int) *gorgonia.Node {
	return apply(part{In: size(x.Shape()), Offset: offset, Out: append([]int(nil), shape...)}, nil, x)
}

type part struct {
	In, Offset int
	Out        []int
	noGrad
	noScratch
}

func (k part) inputs() int                      { return 1 }
func (k part) shape() []int                     { return k.Out }
func (k part) window() int                      { return k.Offset }
func (k part) run(*Env, []float32, [][]float32) {}

// Reshape gives x another shape of the same size, without a copy.
func Reshape(x *gorgonia.Node, shape ...int) *gorgonia.Node {
	for _, d := range shape {
		if d < 1 {
			fail("reshape", "%v cannot be %v: every axis must be 1 or longer", x.Shape(), shape)
		}
	}
	if size(shape) != size(x.Shape()) {
		fail("reshape", "%v has %d elements, %v has %d", x.Shape(), size(x.Shape()), shape, size(shape))
	}
	return apply(reshape{In: x.Shape(), Out: append([]int(nil), shape...)}, []int{0}, x)
}

type reshape struct {
	In, Out []int
	noScratch
}

func (k reshape) inputs() int                      { return 1 }
func (k reshape) shape() []int                     { return k.Out }
func (k reshape) window() int                      { return 0 }
func (k reshape) run(*Env, []float32, [][]float32) {}
func (k reshape) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{Reshape(dy, k.In...)}
}

// Add is a + b for equal shapes.
func Add(a, b *gorgonia.Node) *gorgonia.Node {
	if !same(a.Shape(), b.Shape()) {
		fail("add", "shapes %v and %v differ", a.Shape(), b.Shape())
	}
	return apply(add{Out: a.Shape()}, []int{0, 1}, a, b)
}

type add struct {
	Out []int
	noScratch
}

func (k add) inputs() int    { return 2 }
func (k add) shape() []int   { return k.Out }
func (k add) inPlace() []int { return []int{0, 1} }
func (k add) run(e *Env, dst []float32, src [][]float32) {
	kernels.Add(e.Pool, dst, src[0], src[1])
}
func (k add) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{dy, dy}
}

// AddChannel adds t [N,C] to every position of x [N,C,H,W].
func AddChannel(x, t *gorgonia.Node) *gorgonia.Node {
	xs, ts := dims("add channel", x, "x", 4), dims("add channel", t, "t", 2)
	if xs[0] != ts[0] || xs[1] != ts[1] {
		fail("add channel", "x %v and t %v do not fit", xs, ts)
	}
	return apply(addChannel{N: xs[0], C: xs[1], HW: xs[2] * xs[3], Out: xs}, []int{0, 1}, x, t)
}

type addChannel struct {
	N, C, HW int
	Out      []int
	noScratch
}

func (k addChannel) inputs() int    { return 2 }
func (k addChannel) shape() []int   { return k.Out }
func (k addChannel) inPlace() []int { return []int{0} }
func (k addChannel) run(e *Env, dst []float32, src [][]float32) {
	kernels.AddChannel(e.Pool, k.N, k.C, k.HW, dst, src[0], src[1])
}
func (k addChannel) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{dy, apply(sumSpatial{N: k.N, C: k.C, HW: k.HW}, nil, dy)}
}

type sumSpatial struct {
	N, C, HW int
	noGrad
	noScratch
}

func (k sumSpatial) inputs() int  { return 1 }
func (k sumSpatial) shape() []int { return []int{k.N, k.C} }
func (k sumSpatial) run(e *Env, dst []float32, src [][]float32) {
	kernels.SumSpatial(e.Pool, k.N, k.C, k.HW, dst, src[0])
}

// Concat joins a [N,Ca,H,W] and b [N,Cb,H,W] on channels.
func Concat(a, b *gorgonia.Node) *gorgonia.Node {
	as, bs := dims("concat", a, "a", 4), dims("concat", b, "b", 4)
	if as[0] != bs[0] || as[2] != bs[2] || as[3] != bs[3] {
		fail("concat", "%v and %v do not fit", as, bs)
	}
	return apply(concat{N: as[0], A: as[1], B: bs[1], H: as[2], W: as[3]}, []int{0, 1}, a, b)
}

type concat struct {
	N, A, B, H, W int
	noScratch
}

func (k concat) inputs() int  { return 2 }
func (k concat) shape() []int { return []int{k.N, k.A + k.B, k.H, k.W} }
func (k concat) run(e *Env, dst []float32, src [][]float32) {
	kernels.ConcatChannels(e.Pool, k.N, k.H*k.W, dst, src[0], k.A, src[1], k.B)
}
func (k concat) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	all := apply(split{N: k.N, A: k.A, B: k.B, HW: k.H * k.W}, nil, dy)
	return gorgonia.Nodes{window(all, 0, in[0].Shape()), window(all, k.N*k.A*k.H*k.W, in[1].Shape())}
}

type split struct {
	N, A, B, HW int
	noGrad
	noScratch
}

func (k split) inputs() int  { return 1 }
func (k split) shape() []int { return []int{k.N * (k.A + k.B) * k.HW} }
func (k split) run(e *Env, dst []float32, src [][]float32) {
	a := k.N * k.A * k.HW
	kernels.SplitChannels(e.Pool, k.N, k.HW, dst[:a], k.A, dst[a:], k.B, src[0])
}

// ToTokens turns x [N,C,H,W] into [N,H*W,C], rows of pixels first.
func ToTokens(x *gorgonia.Node) *gorgonia.Node {
	s := dims("to tokens", x, "x", 4)
	return apply(toTokens{N: s[0], C: s[1], H: s[2], W: s[3]}, []int{0}, x)
}

// ToChannels turns tokens x [N,H*W,C] back into [N,C,H,W].
func ToChannels(x *gorgonia.Node, h, w int) *gorgonia.Node {
	s := dims("to channels", x, "x", 3)
	if s[1] != h*w {
		fail("to channels", "%d tokens, want %dx%d", s[1], h, w)
	}
	return apply(toChannels{N: s[0], C: s[2], H: h, W: w}, []int{0}, x)
}

type toTokens struct {
	N, C, H, W int
	noScratch
}

func (k toTokens) inputs() int  { return 1 }
func (k toTokens) shape() []int { return []int{k.N, k.H * k.W, k.C} }
func (k toTokens) run(e *Env, dst []float32, src [][]float32) {
	kernels.ChannelsToTokens(e.Pool, k.N, k.C, k.H*k.W, dst, src[0])
}
func (k toTokens) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{ToChannels(dy, k.H, k.W)}
}

type toChannels struct {
	N, C, H, W int
	noScratch
}

func (k toChannels) inputs() int  { return 1 }
func (k toChannels) shape() []int { return []int{k.N, k.C, k.H, k.W} }
func (k toChannels) run(e *Env, dst []float32, src [][]float32) {
	kernels.TokensToChannels(e.Pool, k.N, k.C, k.H*k.W, dst, src[0])
}
func (k toChannels) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{ToTokens(dy)}
}

// resizing is what the resize ops share: planes of H x W to OH x OW.
type resizing struct{ N, C, H, W, OH, OW int }

func resizingOf(op string, x *gorgonia.Node, oh, ow int) resizing {
	s := dims(op, x, "x", 4)
	if oh < 1 || ow < 1 {
		fail(op, "cannot resize %v to %dx%d", s, oh, ow)
	}
	return resizing{s[0], s[1], s[2], s[3], oh, ow}
}

func (r resizing) inputs() int  { return 1 }
func (r resizing) big() []int   { return []int{r.N, r.C, r.OH, r.OW} }
func (r resizing) small() []int { return []int{r.N, r.C, r.H, r.W} }
func (r resizing) planes() int  { return r.N * r.C }

// UpsampleNearest resizes x [N,C,H,W] to oh x ow by the nearest pixel, as torch.
func UpsampleNearest(x *gorgonia.Node, oh, ow int) *gorgonia.Node {
	return apply(upsampleNearest{resizing: resizingOf("upsample nearest", x, oh, ow)}, []int{0}, x)
}

type upsampleNearest struct {
	resizing
	noScratch
}

func (k upsampleNearest) shape() []int { return k.big() }
func (k upsampleNearest) run(e *Env, dst []float32, src [][]float32) {
	kernels.UpsampleNearest(e.Pool, k.planes(), k.H, k.W, k.OH, k.OW, dst, src[0])
}
func (k upsampleNearest) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{apply(upsampleNearestBack{resizing: k.resizing}, nil, dy)}
}

type upsampleNearestBack struct {
	resizing
	noGrad
	noScratch
}

func (k upsampleNearestBack) shape() []int { return k.small() }
func (k upsampleNearestBack) run(e *Env, dst []float32, src [][]float32) {
	kernels.UpsampleNearestBackward(e.Pool, k.planes(), k.H, k.W, k.OH, k.OW, dst, src[0])
}

// ResizeBilinear resizes x [N,C,H,W] to oh x ow with half-pixel centres and no
// antialiasing (torch F.interpolate, align_corners=False). Equal sizes return x.
func ResizeBilinear(x *gorgonia.Node, oh, ow int) *gorgonia.Node {
	r := resizingOf("resize bilinear", x, oh, ow)
	if r.H == oh && r.W == ow {
		return x
	}
	return apply(resizeBilinear{resizing: r}, []int{0}, x)
}

type resizeBilinear struct {
	resizing
	noScratch
}

func (k resizeBilinear) shape() []int { return k.big() }
func (k resizeBilinear) run(e *Env, dst []float32, src [][]float32) {
	kernels.ResizeBilinear(e.Pool, k.planes(), k.H, k.W, k.OH, k.OW, dst, src[0])
}
func (k resizeBilinear) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{apply(resizeBilinearBack{resizing: k.resizing}, nil, dy)}
}

type resizeBilinearBack struct {
	resizing
	noGrad
	noScratch
}

func (k resizeBilinearBack) shape() []int { return k.small() }
func (k resizeBilinearBack) run(e *Env, dst []float32, src [][]float32) {
	kernels.ResizeBilinearBackward(e.Pool, k.planes(), k.H, k.W, k.OH, k.OW, dst, src[0])
}

// AvgPool2 averages 2x2 blocks of x [N,C,H,W], H and W even.
func AvgPool2(x *gorgonia.Node) *gorgonia.Node {
	s := dims("average pool", x, "x", 4)
	if s[2]%2 != 0 || s[3]%2 != 0 {
		fail("average pool", "x has shape %v, want even height and width", s)
	}
	return apply(avgPool2{resizing: resizing{s[0], s[1], s[2], s[3], s[2] / 2, s[3] / 2}}, []int{0}, x)
}

type avgPool2 struct {
	resizing
	noScratch
}

func (k avgPool2) shape() []int { return k.big() }
func (k avgPool2) run(e *Env, dst []float32, src [][]float32) {
	kernels.AvgPool2(e.Pool, k.planes(), k.H, k.W, dst, src[0])
}
func (k avgPool2) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{apply(avgPool2Back{resizing: k.resizing}, nil, dy)}
}

type avgPool2Back struct {
	resizing
	noGrad
	noScratch
}

func (k avgPool2Back) shape() []int { return k.small() }
func (k avgPool2Back) run(e *Env, dst []float32, src [][]float32) {
	kernels.AvgPool2Backward(e.Pool, k.planes(), k.H, k.W, dst, src[0])
}

// MeanSpatial is the mean over every picture plane of x [N,C,H,W]: [N,C].
func MeanSpatial(x *gorgonia.Node) *gorgonia.Node {
	s := dims("spatial mean", x, "x", 4)
	return apply(meanSpatial{N: s[0], C: s[1], H: s[2], W: s[3]}, []int{0}, x)
}

type meanSpatial struct {
	N, C, H, W int
	noScratch
}

func (k meanSpatial) inputs() int  { return 1 }
func (k meanSpatial) shape() []int { return []int{k.N, k.C} }
func (k meanSpatial) run(e *Env, dst []float32, src [][]float32) {
	kernels.MeanSpatial(e.Pool, k.N, k.C, k.H*k.W, dst, src[0])
}
func (k meanSpatial) grad(_ gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{apply(meanSpatialBack{N: k.N, C: k.C, H: k.H, W: k.W}, nil, dy)}
}

type meanSpatialBack struct {
	N, C, H, W int
	noGrad
	noScratch
}

func (k meanSpatialBack) inputs() int  { return 1 }
func (k meanSpatialBack) shape() []int { return []int{k.N, k.C, k.H, k.W} }
func (k meanSpatialBack) run(e *Env, dst []float32, src [][]float32) {
	kernels.MeanSpatialBackward(e.Pool, k.N, k.C, k.H*k.W, dst, src[0])
}
