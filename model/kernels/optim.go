package kernels

import "math"

// AdamWStep holds one step's settings. Step counts from 1. GradScale multiplies
// the gradient first (norm clipping, loss scaling); 1 leaves it alone.
type AdamWStep struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	Step                               int
	GradScale                          float32
}

// AdamW updates param and the moments m and v (zeros before step 1) in place:
//
//	p *= 1 - LR*WeightDecay
//	m = b1*m + (1-b1)*g,  v = b2*v + (1-b2)*g*g
//	p -= LR/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + Eps)
//
// Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019,
// in the order of torch.optim.AdamW.
func AdamW(p *Pool, param, grad, m, v []float32, o AdamWStep) {
	need("AdamW: grad", grad, len(param))
	need("AdamW: m", m, len(param))
	need("AdamW: v", v, len(param))
	if o.Step < 1 {
		panicf("AdamW: Step is %d: steps count from 1", o.Step)
	}
	if o.GradScale == 0 {
		panicf("AdamW: GradScale is 0, which would discard the gradient: use 1 for none")
	}
	c := adamConstants{
		beta1: float32(o.Beta1), oneMinusBeta1: float32(1 - o.Beta1),
		beta2: float32(o.Beta2), oneMinusBeta2: float32(1 - o.Beta2),
		gradScale:    o.GradScale,
		invSqrtBias2: float32(1 / math.Sqrt(1-math.Pow(o.Beta2, float64(o.Step)))),
		eps:          float32(o.Eps),
		decay:        float32(1 - o.LR*o.WeightDecay),
		stepSize:     float32(o.LR / (1 - math.Pow(o.Beta1, float64(o.Step)))),
	}
	runChunks(p, len(param), chunk, func(lo, hi int) {
		vecAdam(param[lo:hi], grad[lo:hi], m[lo:hi], v[lo:hi], &c)
	})
}

// EMA updates a running average in place: avg = decay*avg + (1-decay)*param.
func EMA(p *Pool, avg, param []float32, decay float32) {
	need("EMA: avg", avg, len(param))
	rest := float32(1 - float64(decay))
	runChunks(p, len(param), chunk, func(lo, hi int) {
		vecLerp(avg[lo:hi], avg[lo:hi], param[lo:hi], decay, rest)
	})
}

// SumSquares returns sum(x*x), added in float64 in a fixed order.
func SumSquares(x []float32) float64 { return vecSumSquares(x, 0) }
