package sampler

import "math"

// guide sets dst to classifier-free guidance's combination of the network's
// answers for n samples of m values each:
//
//	dst = base + scale (cond - uncond)
//
// base is uncond, or with noise damping the damped network's answer to the
// empty prompt. dst may be any of the others.
// Source: arXiv 2207.12598, equation 6; arXiv 2310.07702, section 3.4.
func guide(dst, base, uncond, cond []float32, scale float64) {
	for i := range dst {
		difference := float64(cond[i]) - float64(uncond[i])
		dst[i] = float32(float64(base[i]) + float64(scale*difference))
	}
}

// rescaleGuidance brings each sample's standard deviation towards that of the
// conditional answer, which strong guidance overshoots:
//
//	eps <- r eps std(cond)/std(eps) + (1-r) eps
//
// eps and cond hold n samples of m values. The sums run in order in float64,
// so a sample's result does not depend on its neighbours. A constant eps has
// no deviation to rescale and stays.
// Source: arXiv 2305.08891, equations 15 and 16; the two standard deviations
// share a denominator, so that it cancels.
func rescaleGuidance(eps, cond []float32, n, m int, r float64) {
	for i := range n {
		row := eps[i*m : (i+1)*m]
		spread := deviation(row)
		if spread == 0 {
			continue
		}
		factor := r*(deviation(cond[i*m:(i+1)*m])/spread) + (1 - r)
		for j, v := range row {
			row[j] = float32(float64(v) * factor)
		}
	}
}

// deviation is the population standard deviation, in two passes.
func deviation(x []float32) float64 {
	mean := 0.0
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(len(x))
	sum := 0.0
	for _, v := range x {
		d := float64(v) - mean
		sum += float64(d * d)
	}
	return math.Sqrt(sum / float64(len(x)))
}
