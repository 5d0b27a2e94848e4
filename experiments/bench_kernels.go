package experiments

import (
	"math"
	"math/rand/v2"

	"scalecrafter/model/kernels"
)

// benchLayer is a layer ready to run: its operands are made and its weights
// laid out for the kernels, as a network's are before the first step.
type benchLayer struct {
	run   func()
	error func() benchError // of the last run
}

// newBenchLayer makes a layer's operands, unit-scale values that depend on the
// case's name alone.
func newBenchLayer(p *kernels.Pool, c *benchCase, m kernels.Math) *benchLayer {
	seed := uint64(14695981039346656037)
	for _, b := range []byte(c.Name) {
		seed = (seed ^ uint64(b)) * 1099511628211
	}
	r := rand.New(rand.NewPCG(seed, 1))
	switch {
	case c.Conv != nil:
		return c.Conv.layer(p, r, m)
	case c.Linear != nil:
		return c.Linear.layer(p, r, m)
	}
	return c.Attention.layer(p, r, m)
}

// uniformValues fills n values of variance scale^2, uniform around 0.
func uniformValues(r *rand.Rand, n int, scale float64) []float32 {
	out := make([]float32, n)
	step := float32(scale * math.Sqrt(12) / (1 << 32))
	for i := range out {
		out[i] = step * (float32(r.Uint32()) - 1<<31)
	}
	return out
}

// grid is the whole dilation of the convolution and the side of the grid that
// it runs on (model.Redilate).
func (v *benchConv) grid() (dilation, side int) {
	d := math.Ceil(v.Dilation)
	return int(d), int(math.RoundToEven(float64(v.Side) * (d / v.Dilation)))
}

func (v *benchConv) layer(p *kernels.Pool, r *rand.Rand, m kernels.Math) *benchLayer {
	d, side := v.grid()
	pad := d * (v.Kernel - 1) / 2
	c := kernels.Conv{N: v.N, Cin: v.Cin, H: side, W: side, Cout: v.Cout, KH: v.Kernel, KW: v.Kernel, StrideH: v.Stride, StrideW: v.Stride,
		DilH: d, DilW: d, PadTop: pad, PadBottom: pad, PadLeft: pad, PadRight: pad, Math: m}
	taps := v.Cin * v.Kernel * v.Kernel
	x := uniformValues(r, v.N*v.Cin*v.Side*v.Side, 1)
	w, bias := uniformValues(r, v.Cout*taps, 1/math.Sqrt(float64(taps))), uniformValues(r, v.Cout, 1)
	y := make([]float32, v.N*v.Cout*c.OutH()*c.OutW())
	conv := newConvRun(p, c, y, w, bias)
	l := &benchLayer{run: func() { conv(x) }}
	grid := x
	if side != v.Side {
		grid = make([]float32, v.N*v.Cin*side*side)
		out := make([]float32, v.N*v.Cout*(v.Side/v.Stride)*(v.Side/v.Stride))
		l.run = func() {
			kernels.ResizeBilinear(p, v.N*v.Cin, v.Side, v.Side, side, side, grid, x)
			conv(grid)
			kernels.ResizeBilinear(p, v.N*v.Cout, c.OutH(), c.OutW(), v.Side/v.Stride, v.Side/v.Stride, out, y)
		}
	}
	l.error = func() benchError { // of the convolution, before the result is brought back to the side
		e := &sampleError{}
		a, b := make([]float32, taps), make([]float32, taps)
		for range errorSamples {
			n, o, i, j := r.IntN(v.N), r.IntN(v.Cout), r.IntN(c.OutH()), r.IntN(c.OutW())
			k := 0
			for ch := range v.Cin {
				for u := range v.Kernel {
					for t := range v.Kernel {
						row, col := i*v.Stride+u*d-pad, j*v.Stride+t*d-pad
						a[k] = 0
						if row >= 0 && row < side && col >= 0 && col < side {
							a[k] = grid[((n*v.Cin+ch)*side+row)*side+col]
						}
						b[k] = w[o*taps+k]
						k++
					}
				}
			}
			e.product(y[((n*v.Cout+o)*c.OutH()+i)*c.OutW()+j], a, b, bias[o])
		}
		return e.sum()
	}
	return l
}

func (v *benchLinear) layer(p *kernels.Pool, r *rand.Rand, m kernels.Math) *benchLayer {
	x, w, bias := uniformValues(r, v.Tokens*v.In, 1), uniformValues(r, v.Out*v.In, 1/math.Sqrt(float64(v.In))), uniformValues(r, v.Out, 1)
	y := make([]float32, v.Tokens*v.Out)
	run := newLinearRun(p, kernels.Linear{T: v.Tokens, K: v.In, O: v.Out, Math: m}, y, w, bias)
	return &benchLayer{run: func() { run(x) }, error: func() benchError {
		e := &sampleError{}
		for range errorSamples {
			t, o := r.IntN(v.Tokens), r.IntN(v.Out)
			e.product(y[t*v.Out+o], x[t*v.In:(t+1)*v.In], w[o*v.In:(o+1)*v.In], bias[o])
		}
		return e.sum()
	}}
}

func (v *benchAttended) layer(p *kernels.Pool, r *rand.Rand, m kernels.Math) *benchLayer {
	wide := v.Heads * v.Width
	q, k, vals := uniformValues(r, v.N*v.Queries*wide, 1), uniformValues(r, v.N*v.Keys*wide, 1), uniformValues(r, v.N*v.Keys*wide, 1)
	o := make([]float32, len(q))
	a := kernels.Attention{N: v.N, Heads: v.Heads, Tq: v.Queries, Tk: v.Keys, D: v.Width, Math: m}
	scratch := make([]float32, a.Scratch(p.Threads()))
	return &benchLayer{
		run: func() { kernels.AttentionForward(p, a, o, q, k, vals, scratch) },
		error: func() benchError {
			e := &sampleError{}
			for range 16 { // rows of the result, each with all columns of its head
				n, h, row := r.IntN(v.N), r.IntN(v.Heads), r.IntN(v.Queries)
				at := (n*v.Queries+row)*wide + h*v.Width
				e.attended(o[at:at+v.Width], q[at:at+v.Width], k[n*v.Keys*wide+h*v.Width:], vals[n*v.Keys*wide+h*v.Width:], v.Keys, wide)
			}
			return e.sum()
		},
	}
}

// newConvRun returns the convolution of x into y, with weights laid out once
// where that pays.
func newConvRun(p *kernels.Pool, c kernels.Conv, y, w, bias []float32) func(x []float32) {
	a := kernels.ConvArgs{Y: y, W: w, Bias: bias, Scratch: make([]float32, c.ScratchForward(p.Threads()))}
	if k, ok := c.Packing(); ok {
		a.Packed = make([]float32, k.Floats())
		k.Pack(p, a.Packed, w)
	}
	return func(x []float32) {
		a.X = x
		kernels.ConvRun(p, c, a)
	}
}

// newLinearRun is newConvRun for a linear layer.
func newLinearRun(p *kernels.Pool, l kernels.Linear, y, w, bias []float32) func(x []float32) {
	a := kernels.LinearArgs{Y: y, W: w, Bias: bias, Scratch: make([]float32, l.Scratch(p.Threads()))}
	if k, ok := l.Packing(); ok {
		a.Packed = make([]float32, k.Floats())
		k.Pack(p, a.Packed, w)
	}
	return func(x []float32) {
		a.X = x
		kernels.LinearRun(p, l, a)
	}
}

// errorSamples is how many outputs the error is measured on.
const errorSamples = 512

// benchError is how far results are from the float64 ones: root mean squares
// over sampled outputs, divided by the outputs' own root mean square.
type benchError struct {
	// Relative is this program's error, Plain that of float32 dot products
	// added up one term after the other.
	Relative float64 `json:"relative"`
	Plain    float64 `json:"plain"`
	// Ratio is Relative/Plain.
	Ratio float64 `json:"ratio"`
}

// sampleError adds up squares.
type sampleError struct{ ours, plain, scale float64 }

func (e *sampleError) add(got, plain float32, want float64) {
	e.ours += (float64(got) - want) * (float64(got) - want)
	e.plain += (float64(plain) - want) * (float64(plain) - want)
	e.scale += want * want
}

// product compares got with bias + a b^T.
func (e *sampleError) product(got float32, a, b []float32, bias float32) {
	want, plain := float64(bias), bias
	for i := range a {
		want += float64(a[i]) * float64(b[i])
		plain += float32(a[i] * b[i]) // rounded twice: without the conversion Go may fuse the two
	}
	e.add(got, plain, want)
}

// attended compares a row of attention with softmax(q k^T / sqrt(len(q))) v;
// key j is k[j*wide:], and so are its values.
func (e *sampleError) attended(got, q, k, v []float32, keys, wide int) {
	d := len(q)
	scale := 1 / math.Sqrt(float64(d))
	exact, plain := make([]float64, keys), make([]float32, keys)
	top := math.Inf(-1)
	for j := range keys {
		for i := range q {
			exact[j] += float64(q[i]) * float64(k[j*wide+i])
			plain[j] += float32(q[i] * k[j*wide+i])
		}
		exact[j] *= scale
		plain[j] *= float32(scale)
		top = max(top, exact[j])
	}
	var sum float64
	var sum32 float32
	for j := range keys {
		exact[j] = math.Exp(exact[j] - top)
		plain[j] = float32(math.Exp(float64(plain[j] - float32(top))))
		sum += exact[j]
		sum32 += plain[j]
	}
	for i := range d {
		var want float64
		var naive float32
		for j := range keys {
			want += exact[j] * float64(v[j*wide+i])
			naive += float32(plain[j] * v[j*wide+i])
		}
		e.add(got[i], naive/sum32, want/sum)
	}
}

func (e *sampleError) sum() benchError {
	if e.scale == 0 {
		return benchError{}
	}
	out := benchError{Relative: math.Sqrt(e.ours / e.scale), Plain: math.Sqrt(e.plain / e.scale)}
	if out.Plain > 0 {
		out.Ratio = out.Relative / out.Plain
	}
	return out
}
