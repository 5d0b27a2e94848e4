package ops

import (
	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
)

// Embedding looks up rows of table [V,D] by ids [N,T], whole numbers held as
// float32: [N,T,D].
func Embedding(table, ids *gorgonia.Node) *gorgonia.Node {
	t, i := dims("embedding", table, "table", 2), dims("embedding", ids, "ids", 2)
	return apply(embedding{V: t[0], D: t[1], N: i[0], T: i[1]}, []int{0}, table, ids)
}

type embedding struct {
	V, D, N, T int
	noScratch
}

func (k embedding) inputs() int  { return 2 }
func (k embedding) shape() []int { return []int{k.N, k.T, k.D} }
func (k embedding) run(_ *Env, dst []float32, src [][]float32) {
	kernels.Embedding(k.N*k.T, k.D, dst, src[0], src[1])
}
func (k embedding) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{apply(embeddingBack{V: k.V, D: k.D, T: k.N * k.T}, nil, dy, in[1]), nil}
}

type embeddingBack struct {
	V, D, T int
	noGrad
	noScratch
}

func (k embeddingBack) inputs() int  { return 2 }
func (k embeddingBack) shape() []int { return []int{k.V, k.D} }
func (k embeddingBack) run(_ *Env, dst []float32, src [][]float32) {
	kernels.EmbeddingBackward(k.T, k.V, k.D, dst, src[0], src[1])
}

// WeightedMSE is the mean over all elements of weight[n] (pred - target)^2 for
// pred and target [N,...] and weight [N]: a scalar.
func WeightedMSE(pred, target, weight *gorgonia.Node) *gorgonia.Node {
	s := pred.Shape()
	if len(s) < 1 || !same(s, target.Shape()) || size(weight.Shape()) != s[0] {
		fail("mse", "prediction %v, target %v, weight %v do not fit", s, target.Shape(), weight.Shape())
	}
	return apply(weightedMSE{N: s[0], M: size(s) / s[0], Out: s}, []int{0}, pred, target, weight)
}

type weightedMSE struct {
	N, M int
	Out  []int
	noScratch
}

func (k weightedMSE) inputs() int  { return 3 }
func (k weightedMSE) shape() []int { return nil }
func (k weightedMSE) run(e *Env, dst []float32, src [][]float32) {
	dst[0] = kernels.WeightedMSE(e.Pool, k.N, k.M, src[0], src[1], src[2])
}
func (k weightedMSE) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{apply(weightedMSEBack{N: k.N, M: k.M, Out: k.Out}, nil, dy, in[0], in[1], in[2]), nil, nil}
}

type weightedMSEBack struct {
	N, M int
	Out  []int
	noGrad
	noScratch
}

func (k weightedMSEBack) inputs() int  { return 4 }
func (k weightedMSEBack) shape() []int { return k.Out }
func (k weightedMSEBack) run(e *Env, dst []float32, src [][]float32) {
	kernels.WeightedMSEBackward(e.Pool, k.N, k.M, dst, src[1], src[2], src[3], src[0][0])
}

// CrossEntropy is the mean over rows of -log softmax(logits)[label] for logits
// [N,K] and labels [N], whole numbers held as float32: a scalar.
func CrossEntropy(logits, labels *gorgonia.Node) *gorgonia.Node {
	s := dims("cross entropy", logits, "logits", 2)
	if size(labels.Shape()) != s[0] {
		fail("cross entropy", "logits %v, labels %v do not fit", s, labels.Shape())
	}
	return apply(crossEntropy{N: s[0], K: s[1]}, []int{0}, logits, labels)
}

type crossEntropy struct {
	N, K int
	noScratch
}

func (k crossEntropy) inputs() int  { return 2 }
func (k crossEntropy) shape() []int { return nil }
func (k crossEntropy) run(_ *Env, dst []float32, src [][]float32) {
	dst[0] = kernels.CrossEntropy(k.N, k.K, src[0], src[1])
}
func (k crossEntropy) grad(in gorgonia.Nodes, _, dy *gorgonia.Node) gorgonia.Nodes {
	return gorgonia.Nodes{apply(crossEntropyBack{N: k.N, K: k.K}, nil, dy, in[0], in[1]), nil}
}

type crossEntropyBack struct {
	N, K int
	noGrad
	noScratch
}

func (k crossEntropyBack) inputs() int  { return 3 }
func (k crossEntropyBack) shape() []int { return []int{k.N, k.K} }
func (k crossEntropyBack) run(_ *Env, dst []float32, src [][]float32) {
	kernels.CrossEntropyBackward(k.N, k.K, dst, src[1], src[2], src[0][0])
}

// AddScalars is a + b for two scalar nodes, such as two losses.
func AddScalars(a, b *gorgonia.Node) *gorgonia.Node {
	if len(a.Shape()) != 0 || len(b.Shape()) != 0 {
		fail("add", "shapes %v and %v, want scalars", a.Shape(), b.Shape())
	}
	return apply(add{}, []int{0, 1}, a, b)
}
