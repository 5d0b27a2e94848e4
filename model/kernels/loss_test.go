package kernels

import (
	"math"
	"testing"
)

func TestWeightedMSE(t *testing.T) {
	const N, M = 3, 50
	x, target, w := normals(N*M, 1), normals(N*M, 2), []float32{0.5, 2, 0}
	eachPath(t, func(t *testing.T) {
		p := NewPool(3)
		defer p.Close()
		for name, weights := range map[string][]float32{"weighted": w, "plain": nil} {
			f := func(x []float64) (s float64) {
				for i, v := range x {
					d := v - float64(target[i])
					if weights != nil {
						d *= math.Sqrt(float64(weights[i/M]))
					}
					s += d * d / (N * M)
				}
				return s
			}
			got := WeightedMSE(p, N, M, x, target, weights)
			if want := f(widen(x)); math.Abs(float64(got)-want) > 1e-7*want {
				t.Errorf("%s: loss is %v, want %v", name, got, want)
			}
			if alone := WeightedMSE(nil, N, M, x, target, weights); alone != got {
				t.Errorf("%s: %v with one thread, %v with three", name, alone, got)
			}
			d, check := fenced(t, "dpred", N*M)
			WeightedMSEBackward(p, N, M, d, x, target, weights, 1.5)
			check()
			x64 := widen(x)
			closeTo(t, name, d, gradient64(func() []float64 { return []float64{f(x64)} }, x64, []float64{1.5}), 1e-7)
		}
	})
}

func TestCrossEntropy(t *testing.T) {
	const N, K = 4, 7
	logits, labels := normals(N*K, 1), []float32{6, 0, 3, 3}
	logits[2] = 200 // far beyond the others: exp would overflow unshifted
	f := func(x []float64) (s float64) {
		for n := range N {
			row, sum, top := x[n*K:(n+1)*K], 0.0, math.Inf(-1)
			for _, v := range row {
				top = max(top, v)
			}
			for _, v := range row {
				sum += math.Exp(v - top)
			}
			s += (top + math.Log(sum) - row[int(labels[n])]) / N
		}
		return s
	}
	got := CrossEntropy(N, K, logits, labels)
	if want := f(widen(logits)); math.Abs(float64(got)-want) > 1e-7*want {
		t.Errorf("loss is %v, want %v", got, want)
	}
	d, check := fenced(t, "dlogits", N*K)
	CrossEntropyBackward(N, K, d, logits, labels, 0.5)
	check()
	x64 := widen(logits)
	closeTo(t, "dlogits", d, gradient64(func() []float64 { return []float64{f(x64)} }, x64, []float64{0.5}), 1e-7)
	logits[9] = float32(math.NaN())
	if loss := CrossEntropy(N, K, logits, labels); loss == loss {
		t.Errorf("loss over NaN is %v", loss)
	}
}

// TestSoftmaxGradients and the activations: central differences in float64.
func TestSoftmaxGradients(t *testing.T) {
	const T, K = 3, 11
	x, dy := normals(T*K, 1), normals(T*K, 2)
	softmax := func(x []float64) []float64 {
		y := make([]float64, len(x))
		for t := range T {
			sum := 0.0
			for j := range K {
				sum += math.Exp(x[t*K+j])
			}
			for j := range K {
				y[t*K+j] = math.Exp(x[t*K+j]) / sum
			}
		}
		return y
	}
	eachPath(t, func(t *testing.T) {
		y, checkY := fenced(t, "y", T*K)
		dx, checkX := fenced(t, "dx", T*K)
		Softmax(nil, T, K, y, x)
		SoftmaxBackward(nil, T, K, dx, dy, y)
		checkY()
		checkX()
		x64 := widen(x)
		closeTo(t, "y", y, softmax(x64), 2e-7)
		closeTo(t, "dx", dx, gradient64(func() []float64 { return softmax(x64) }, x64, widen(dy)), 1e-6)
	})
}

func TestActivationGradients(t *testing.T) {
	reference := map[Activation]func(x float64) float64{
		SiLU:      func(x float64) float64 { return x * sigmoid64(x) },
		GELU:      func(x float64) float64 { return x * phi64(x) },
		GELUTanh:  func(x float64) float64 { return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) },
		QuickGELU: func(x float64) float64 { return x * sigmoid64(1.702*x) },
	}
	const n = 203
	x, dy := evenly(n, -7, 7), normals(n, 2)
	eachPath(t, func(t *testing.T) {
		for act := SiLU; act <= QuickGELU; act++ {
			f := reference[act]
			y, checkY := fenced(t, "y", n)
			dx, checkX := fenced(t, "dx", n)
			ActForward(nil, act, y, x)
			ActBackward(nil, act, dx, dy, x)
			checkY()
			checkX()
			for i, v := range x {
				const h = 1e-5
				u := float64(v)
				if want := f(u); !(math.Abs(float64(y[i])-want) <= 1e-6) {
					t.Errorf("%v(%v) = %v, want %v", act, v, y[i], want)
				}
				want := float64(dy[i]) * (f(u+h) - f(u-h)) / (2 * h)
				if !(math.Abs(float64(dx[i])-want) <= 2e-6) {
					t.Errorf("gradient of %v at %v is %v, want %v", act, v, dx[i], want)
				}
			}
		}
	})
}

func TestGEGLUGradients(t *testing.T) {
	const T, O = 3, 9
	x, dy := normals(T*2*O, 1), normals(T*O, 2)
	f := func(x []float64) []float64 {
		y := make([]float64, T*O)
		for i := range y {
			gate := x[i/O*2*O+O+i%O]
			y[i] = x[i/O*2*O+i%O] * gate * phi64(gate)
		}
		return y
	}
	eachPath(t, func(t *testing.T) {
		y, checkY := fenced(t, "y", T*O)
		dx, checkX := fenced(t, "dx", T*2*O)
		GEGLUForward(nil, T, O, y, x)
		GEGLUBackward(nil, T, O, dx, dy, x)
		checkY()
		checkX()
		x64 := widen(x)
		closeTo(t, "y", y, f(x64), 5e-7)
		closeTo(t, "dx", dx, gradient64(func() []float64 { return f(x64) }, x64, widen(dy)), 1e-6)
	})
}

func TestTimestepEmbedding(t *testing.T) {
	for _, tt := range []struct {
		dim   int
		flip  bool
		shift float64
	}{{8, true, 0}, {8, false, 1}, {7, true, 0}} {
		dst, check := fenced(t, "dst", tt.dim)
		TimestepEmbedding(dst, 37, tt.dim, tt.flip, tt.shift)
		check()
		half := tt.dim / 2
		for i := range half {
			angle := 37 * math.Pow(10000, -float64(i)/(float64(half)-tt.shift))
			s, c := dst[i], dst[half+i]
			if tt.flip {
				s, c = c, s
			}
			if math.Abs(float64(s)-math.Sin(angle)) > 1e-6 || math.Abs(float64(c)-math.Cos(angle)) > 1e-6 {
				t.Errorf("%+v: frequency %d gives (%v, %v), want (%v, %v)", tt, i, s, c, math.Sin(angle), math.Cos(angle))
			}
		}
		if tt.dim%2 == 1 && dst[tt.dim-1] != 0 {
			t.Errorf("%+v: odd dimension ends with %v, want 0", tt, dst[tt.dim-1])
		}
	}
}

func TestAdamWAgainstFloat64(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(3)
		defer p.Close()
		n := 2*chunk + 11
		o := AdamWStep{LR: 0.01, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, GradScale: 0.25}
		param, checkP := fenced(t, "param", n)
		copy(param, normals(n, 1))
		serial := append([]float32(nil), param...)
		m, v, ms, vs := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		want, m64, v64 := widen(param), make([]float64, n), make([]float64, n)
		for step := 1; step <= 3; step++ {
			grad := normals(n, uint64(step+10))
			o.Step = step
			AdamW(p, param, grad, m, v, o)
			AdamW(nil, serial, grad, ms, vs, o)
			bias1, bias2 := 1-math.Pow(0.9, float64(step)), 1-math.Pow(0.95, float64(step))
			for i := range want {
				g := 0.25 * float64(grad[i])
				m64[i] = 0.9*m64[i] + 0.1*g
				v64[i] = 0.95*v64[i] + 0.05*g*g
				want[i] = want[i]*(1-0.01*0.1) - 0.01/bias1*m64[i]/(math.Sqrt(v64[i])/math.Sqrt(bias2)+1e-8)
			}
		}
		checkP()
		closeTo(t, "param", param, want, 1e-6)
		sameBits(t, "one thread against three", serial, param)
		avg := append([]float32(nil), param...)
		other := normals(n, 99)
		EMA(p, avg, other, 0.9)
		for i, got := range avg {
			if w := 0.9*float64(param[i]) + 0.1*float64(other[i]); math.Abs(float64(got)-w) > 1e-6*(1+math.Abs(w)) {
				t.Fatalf("average %d is %v, want %v", i, got, w)
			}
		}
	})
}

func TestAdamWRejectsMissingSettings(t *testing.T) {
	for name, o := range map[string]AdamWStep{"step 0": {GradScale: 1}, "no gradient scale": {Step: 1}} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			x := make([]float32, 1)
			AdamW(nil, x, x, x, x, o)
		})
	}
}

func BenchmarkAdamW(b *testing.B) {
	const n = 1 << 16
	param, grad, m, v := normals(n, 1), normals(n, 2), make([]float32, n), make([]float32, n)
	for b.Loop() {
		AdamW(nil, param, grad, m, v, AdamWStep{LR: 1e-4, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Step: 5, GradScale: 1})
	}
	perElement(b, n)
}
