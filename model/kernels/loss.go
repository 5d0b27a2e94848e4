package kernels

import "math"

// WeightedMSE returns mean over N*M of w[n]*(pred-target)^2 for pred and
// target [N,M] and row weights w [N] (nil: all 1), added in float64 in row order.
func WeightedMSE(p *Pool, N, M int, pred, target, w []float32) float32 {
	need("WeightedMSE: pred", pred, N*M)
	need("WeightedMSE: target", target, N*M)
	if w != nil {
		need("WeightedMSE: w", w, N)
	}
	rows := make([]float64, N)
	p.Run(N, func(n int) {
		t := target[n*M : (n+1)*M]
		var s float64
		for i, v := range pred[n*M : (n+1)*M] {
			d := float64(v) - float64(t[i])
			s += d * d
		}
		if w != nil {
			s *= float64(w[n])
		}
		rows[n] = s
	})
	var s float64
	for _, v := range rows {
		s += v
	}
	return float32(s / float64(N*M))
}

// WeightedMSEBackward computes dpred = g * 2*w[n]*(pred-target)/(N*M), g the
// gradient at the loss. The gradient at target is its negative.
func WeightedMSEBackward(p *Pool, N, M int, dpred, pred, target, w []float32, g float32) {
	need("WeightedMSEBackward: dpred", dpred, N*M)
	need("WeightedMSEBackward: pred", pred, N*M)
	need("WeightedMSEBackward: target", target, N*M)
	if w != nil {
		need("WeightedMSEBackward: w", w, N)
	}
	p.Run(N, func(n int) {
		c := 2 * float64(g) / float64(N*M)
		if w != nil {
			c *= float64(w[n])
		}
		lo, hi := n*M, (n+1)*M
		vecLerp(dpred[lo:hi], pred[lo:hi], target[lo:hi], float32(c), float32(-c))
	})
}

// label returns the class index of row n and panics when it is none of 0..K-1.
func label(labels []float32, n, K int) int {
	i := int(labels[n])
	if float32(i) != labels[n] || i < 0 || i >= K {
		panicf("CrossEntropy: label %v of row %d: want a whole number in 0..%d", labels[n], n, K-1)
	}
	return i
}

// logSumExp returns the row's maximum and log(sum(exp(x-max))).
func logSumExp(row []float32) (top, lse float64) {
	top = float64(vecMax(row))
	var s float64
	for _, v := range row {
		s += math.Exp(float64(v) - top)
	}
	return top, math.Log(s)
}

// CrossEntropy returns the mean over rows of -log softmax(logits)[label] for
// logits [N,K] and labels [N], class indexes carried as floats.
func CrossEntropy(N, K int, logits, labels []float32) float32 {
	need("CrossEntropy: logits", logits, N*K)
	need("CrossEntropy: labels", labels, N)
	var s float64
	for n := range N {
		row := logits[n*K : (n+1)*K]
		top, lse := logSumExp(row)
		s += top + lse - float64(row[label(labels, n, K)])
	}
	return float32(s / float64(N))
}

// CrossEntropyBackward computes dlogits = g*(softmax(logits) - onehot)/N.
func CrossEntropyBackward(N, K int, dlogits, logits, labels []float32, g float32) {
	need("CrossEntropyBackward: dlogits", dlogits, N*K)
	need("CrossEntropyBackward: logits", logits, N*K)
	need("CrossEntropyBackward: labels", labels, N)
	c := float64(g) / float64(N)
	for n := range N {
		row := logits[n*K : (n+1)*K]
		top, lse := logSumExp(row)
		at := label(labels, n, K)
		for j, v := range row {
			d := math.Exp(float64(v) - top - lse)
			if j == at {
				d--
			}
			dlogits[n*K+j] = float32(c * d)
		}
	}
}

// TimestepEmbedding writes the sinusoidal embedding of timestep t to dst [dim]:
// sines of t*f_i then cosines (cosines first with flipSinToCos), where
// f_i = 10000^(-i/(dim/2-shift)). An odd dim ends with a zero.
//
// Source: Ho et al., DDPM, 2020; argument names as in diffusers.
func TimestepEmbedding(dst []float32, t float64, dim int, flipSinToCos bool, shift float64) {
	need("TimestepEmbedding: dst", dst, dim)
	half := dim / 2
	sin, cos := dst[:half], dst[half:2*half]
	if flipSinToCos {
		sin, cos = cos, sin
	}
	for i := range half {
		s, c := math.Sincos(t * math.Exp(-math.Log(10000)*float64(i)/(float64(half)-shift)))
		sin[i], cos[i] = float32(s), float32(c)
	}
	if dim%2 == 1 {
		dst[dim-1] = 0
	}
}
