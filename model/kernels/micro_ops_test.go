package kernels

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scalecrafter/model/weights"
)

// goldenDir returns the folder named by GOLDENS, or testdata/goldens beside go.mod.
func goldenDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("GOLDENS"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "goldens")
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test: set GOLDENS to the folder of goldens")
		}
		dir = up
	}
}

// microCase is one entry of micro_ops.json.
type microCase struct {
	Name        string           `json:"name"`
	Inputs      map[string][]int `json:"inputs"`
	Output      []int            `json:"output"`
	Stride      int              `json:"stride"`
	Padding     int              `json:"padding"`
	Dilation    int              `json:"dilation"`
	Groups      int              `json:"groups"`
	Eps         float64          `json:"eps"`
	Size        []int            `json:"size"`
	Dim         int              `json:"dim"`
	Flip        bool             `json:"flip_sin_to_cos"`
	Shift       float64          `json:"downscale_freq_shift"`
	LR          float64          `json:"lr"`
	Betas       []float64        `json:"betas"`
	WeightDecay float64          `json:"weight_decay"`
	Steps       int              `json:"steps"`
}

// golden is one case with its tensors.
type golden struct {
	*testing.T
	c    microCase
	file *weights.File
}

func (g golden) get(name string) []float32 {
	g.Helper()
	x, err := g.file.Float32(g.c.Name + "." + name)
	if err != nil {
		g.Fatal(err)
	}
	return x.Data
}

// Tolerances of the goldens' README: float64 references rounded to float32.
const (
	outputTolerance   = 2e-5
	gradientTolerance = 1e-4
	timestepTolerance = 2e-4
)

func (g golden) within(name string, got []float32, tolerance float64) {
	g.Helper()
	want := g.get(name)
	if len(got) != len(want) {
		g.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-float64(w)) <= tolerance) {
			g.Errorf("%s[%d] = %v, want %v within %g", name, i, got[i], w, tolerance)
			return
		}
	}
}

func (g golden) out(got []float32) { g.Helper(); g.within("out", got, outputTolerance) }
func (g golden) grad(name string, got []float32) {
	g.Helper()
	g.within("grad."+name, got, gradientTolerance)
}

// microOps maps a case's name, up to the first of its variants, to its check.
var microOps = []struct {
	prefix string
	check  func(golden)
}{
	{"conv2d_", goldenConv},
	{"linear", goldenLinear},
	{"group_norm_", goldenGroupNorm},
	{"layer_norm", goldenLayerNorm},
	{"silu", goldenActivation(SiLU)},
	{"gelu_erf", goldenActivation(GELU)},
	{"gelu_tanh", goldenActivation(GELUTanh)},
	{"quick_gelu", goldenActivation(QuickGELU)},
	{"geglu", goldenGEGLU},
	{"softmax", goldenSoftmax},
	{"attention_", goldenAttention},
	{"upsample_nearest", goldenResize(UpsampleNearest, UpsampleNearestBackward)},
	{"bilinear_", goldenResize(ResizeBilinear, ResizeBilinearBackward)},
	{"avg_pool2", goldenAvgPool},
	{"mse", goldenMSE},
	{"timestep_embedding_", goldenTimestep},
	{"adamw", goldenAdamW},
	{"clip_grad_norm", goldenClip},
}

// blocksElsewhere are cases of whole blocks, checked where graphs are built.
var blocksElsewhere = map[string]bool{
	"resnet_block": true, "transformer_block": true, "downsample": true, "upsample": true, "time_embedding": true,
}

// TestGoldenMicroOps compares every kernel, forward and backward, with PyTorch
// results in float64, on every path of this machine.
func TestGoldenMicroOps(t *testing.T) {
	dir := goldenDir(t)
	text, err := os.ReadFile(filepath.Join(dir, "micro_ops.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct{ Cases []microCase }
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	file, err := weights.Open(filepath.Join(dir, "micro_ops.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if len(index.Cases) == 0 {
		t.Fatal("micro_ops.json has no cases")
	}
	eachPath(t, func(t *testing.T) {
		for _, c := range index.Cases {
			if blocksElsewhere[c.Name] {
				continue
			}
			t.Run(c.Name, func(t *testing.T) {
				for _, op := range microOps {
					if strings.HasPrefix(c.Name, op.prefix) {
						op.check(golden{t, c, file})
						return
					}
				}
				t.Errorf("case %q has no check: add it to microOps", c.Name)
			})
		}
	})
}

// zeros returns a slice shaped like the named input.
func (g golden) zeros(name string) []float32 { return make([]float32, len(g.get(name))) }

func goldenConv(g golden) {
	x, w := g.c.Inputs["x"], g.c.Inputs["weight"]
	c := Conv{N: x[0], Cin: x[1], H: x[2], W: x[3], Cout: w[0], KH: w[2], KW: w[3],
		StrideH: g.c.Stride, StrideW: g.c.Stride, DilH: g.c.Dilation, DilW: g.c.Dilation,
		PadTop: g.c.Padding, PadBottom: g.c.Padding, PadLeft: g.c.Padding, PadRight: g.c.Padding}
	if g.c.Name == "conv2d_k3_s2_nopad_asym" { // its JSON gives the rule in words only
		c.StrideH, c.StrideW, c.DilH, c.DilW, c.PadBottom, c.PadRight = 2, 2, 1, 1, 1, 1
	}
	p := NewPool(2)
	defer p.Close()
	scratch := make([]float32, max(c.ScratchForward(2), c.ScratchData(2), c.ScratchWeight(2)))
	y := g.zeros("out")
	ConvForward(p, c, y, g.get("in.x"), g.get("in.weight"), g.get("in.bias"), scratch)
	g.out(y)
	dx, dw, db := g.zeros("in.x"), g.zeros("in.weight"), g.zeros("in.bias")
	ConvBackwardData(p, c, dx, g.get("grad_out"), g.get("in.weight"), scratch)
	ConvBackwardWeight(p, c, dw, g.get("grad_out"), g.get("in.x"), scratch)
	SumBatchSpatial(p, c.N, c.Cout, c.OutH()*c.OutW(), db, g.get("grad_out"))
	g.grad("x", dx)
	g.grad("weight", dw)
	g.grad("bias", db)
}

func goldenLinear(g golden) {
	x, w := g.c.Inputs["x"], g.c.Inputs["weight"]
	l := Linear{T: x[0] * x[1], K: x[2], O: w[0]}
	scratch := make([]float32, l.Scratch(1))
	y := g.zeros("out")
	LinearForward(nil, l, y, g.get("in.x"), g.get("in.weight"), g.get("in.bias"), scratch)
	g.out(y)
	g.linearGradients(l, g.get("grad_out"), scratch)
}

// linearGradients checks the gradients of input, weight and bias, given dy.
func (g golden) linearGradients(l Linear, dy, scratch []float32) {
	dx, dw, db := g.zeros("in.x"), g.zeros("in.weight"), g.zeros("in.bias")
	LinearBackwardData(nil, l, dx, dy, g.get("in.weight"), scratch)
	LinearBackwardWeight(nil, l, dw, dy, g.get("in.x"), scratch)
	SumRows(nil, l.T, l.O, db, dy)
	g.grad("x", dx)
	g.grad("weight", dw)
	g.grad("bias", db)
}

func goldenGEGLU(g golden) {
	x, w := g.c.Inputs["x"], g.c.Inputs["weight"]
	l := Linear{T: x[0] * x[1], K: x[2], O: w[0]}
	scratch := make([]float32, l.Scratch(1))
	mid, dmid := make([]float32, l.T*l.O), make([]float32, l.T*l.O)
	LinearForward(nil, l, mid, g.get("in.x"), g.get("in.weight"), g.get("in.bias"), scratch)
	y := g.zeros("out")
	GEGLUForward(nil, l.T, l.O/2, y, mid)
	g.out(y)
	GEGLUBackward(nil, l.T, l.O/2, dmid, g.get("grad_out"), mid)
	g.linearGradients(l, dmid, scratch)
}

func goldenGroupNorm(g golden) {
	s := g.c.Inputs["x"]
	n := GroupNorm{N: s[0], C: s[1], HW: s[2] * s[3], Groups: g.c.Groups, Eps: float32(g.c.Eps)}
	y, dx, dg, db := g.zeros("in.x"), g.zeros("in.x"), g.zeros("in.weight"), g.zeros("in.bias")
	GroupNormForward(nil, n, y, g.get("in.x"), g.get("in.weight"), g.get("in.bias"))
	g.out(y)
	GroupNormBackward(nil, n, dx, dg, db, g.get("grad_out"), g.get("in.x"), g.get("in.weight"), g.get("in.bias"), make([]float32, n.ScratchBackward()))
	g.grad("x", dx)
	g.grad("weight", dg)
	g.grad("bias", db)
}

func goldenLayerNorm(g golden) {
	s := g.c.Inputs["x"]
	n := LayerNorm{T: s[0] * s[1], C: s[2], Eps: float32(g.c.Eps)}
	y, dx, dg, db := g.zeros("in.x"), g.zeros("in.x"), g.zeros("in.weight"), g.zeros("in.bias")
	LayerNormForward(nil, n, y, g.get("in.x"), g.get("in.weight"), g.get("in.bias"))
	g.out(y)
	LayerNormBackward(nil, n, dx, dg, db, g.get("grad_out"), g.get("in.x"), g.get("in.weight"), g.get("in.bias"), make([]float32, n.ScratchBackward()))
	g.grad("x", dx)
	g.grad("weight", dg)
	g.grad("bias", db)
}

func goldenActivation(act Activation) func(golden) {
	return func(g golden) {
		y, dx := g.zeros("in.x"), g.zeros("in.x")
		ActForward(nil, act, y, g.get("in.x"))
		g.out(y)
		ActBackward(nil, act, dx, g.get("grad_out"), g.get("in.x"))
		g.grad("x", dx)
	}
}

func goldenSoftmax(g golden) {
	s := g.c.Inputs["x"]
	y, dx := g.zeros("in.x"), g.zeros("in.x")
	Softmax(nil, s[0], s[1], y, g.get("in.x"))
	g.out(y)
	SoftmaxBackward(nil, s[0], s[1], dx, g.get("grad_out"), y)
	g.grad("x", dx)
}

func goldenAttention(g golden) {
	q, k := g.c.Inputs["q"], g.c.Inputs["k"]
	a := Attention{N: q[0], Heads: q[1], Tq: q[2], Tk: k[2], D: q[3]}
	// The golden's axes are batch, head, token, channel; ours batch, token, head, channel.
	swap := func(x []float32, n, rows, cols, d int) []float32 {
		y := make([]float32, len(x))
		for b := range n {
			for r := range rows {
				for c := range cols {
					copy(y[((b*cols+c)*rows+r)*d:][:d], x[((b*rows+r)*cols+c)*d:][:d])
				}
			}
		}
		return y
	}
	in := func(name string, t int) []float32 { return swap(g.get(name), a.N, a.Heads, t, a.D) }
	out := func(x []float32, t int) []float32 { return swap(x, a.N, t, a.Heads, a.D) }
	qs, ks, vs := in("in.q", a.Tq), in("in.k", a.Tk), in("in.v", a.Tk)
	o, dq, dk, dv := g.zeros("out"), g.zeros("in.q"), g.zeros("in.k"), g.zeros("in.v")
	AttentionForward(nil, a, o, qs, ks, vs, make([]float32, a.Scratch(1)))
	g.out(out(o, a.Tq))
	AttentionBackward(nil, a, dq, dk, dv, qs, ks, vs, in("grad_out", a.Tq), make([]float32, a.ScratchBackward(1)))
	g.grad("q", out(dq, a.Tq))
	g.grad("k", out(dk, a.Tk))
	g.grad("v", out(dv, a.Tk))
}

func goldenResize(forward, backward func(p *Pool, NC, H, W, OH, OW int, y, x []float32)) func(golden) {
	return func(g golden) {
		s, o := g.c.Inputs["x"], g.c.Output
		y, dx := g.zeros("out"), g.zeros("in.x")
		forward(nil, s[0]*s[1], s[2], s[3], o[2], o[3], y, g.get("in.x"))
		g.out(y)
		backward(nil, s[0]*s[1], s[2], s[3], o[2], o[3], dx, g.get("grad_out"))
		g.grad("x", dx)
	}
}

func goldenAvgPool(g golden) {
	s := g.c.Inputs["x"]
	y, dx := g.zeros("out"), g.zeros("in.x")
	AvgPool2(nil, s[0]*s[1], s[2], s[3], y, g.get("in.x"))
	g.out(y)
	AvgPool2Backward(nil, s[0]*s[1], s[2], s[3], dx, g.get("grad_out"))
	g.grad("x", dx)
}

func goldenMSE(g golden) {
	n := g.c.Inputs["x"][0]
	x, target, up := g.get("in.x"), g.get("in.t"), g.get("grad_out")[0]
	g.out([]float32{WeightedMSE(nil, n, len(x)/n, x, target, nil)})
	dx, dt := g.zeros("in.x"), g.zeros("in.t")
	WeightedMSEBackward(nil, n, len(x)/n, dx, x, target, nil, up)
	WeightedMSEBackward(nil, n, len(x)/n, dt, target, x, nil, up)
	g.grad("x", dx)
	g.grad("t", dt)
}

func goldenTimestep(g golden) {
	ts, _, err := g.file.Int64(g.c.Name + ".in.t")
	if err != nil {
		g.Fatal(err)
	}
	y := make([]float32, len(ts)*g.c.Dim)
	for i, t := range ts {
		TimestepEmbedding(y[i*g.c.Dim:(i+1)*g.c.Dim], float64(t), g.c.Dim, g.c.Flip, g.c.Shift)
	}
	g.within("out", y, timestepTolerance)
}

func goldenAdamW(g golden) {
	param, grads := g.get("in.p"), g.get("in.grads")
	n := len(param)
	m, v := make([]float32, n), make([]float32, n)
	var got []float32
	for s := range g.c.Steps {
		AdamW(nil, param, grads[s*n:(s+1)*n], m, v, AdamWStep{LR: g.c.LR, Beta1: g.c.Betas[0], Beta2: g.c.Betas[1],
			Eps: g.c.Eps, WeightDecay: g.c.WeightDecay, Step: s + 1, GradScale: 1})
		got = append(got, param...)
	}
	if g.c.Eps == 0 {
		g.Fatal("the case has no eps")
	}
	g.out(got)
}

func goldenClip(g golden) {
	a, b := g.get("in.a"), g.get("in.b")
	norm := math.Sqrt(SumSquares(a) + SumSquares(b))
	g.within("out.norm", []float32{float32(norm)}, outputTolerance)
	s := float32(min(1, 1/(norm+1e-6)))
	Scale(nil, a, a, s)
	Scale(nil, b, b, s)
	g.within("out.a", a, outputTolerance)
	g.within("out.b", b, outputTolerance)
}
