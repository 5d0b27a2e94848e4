package kernels

import "math"

// This file holds the portable vector loops: the reference and the fallback of
// the assembly in vec_amd64.s, act_amd64.s and norm_amd64.s. Slices that belong together have equal length;
// the destination may be one of the sources unless a comment says otherwise.
// Element-wise loops give each element the same bits wherever it stands, so
// callers may cut the work anywhere.

// Exponential: exp(x) = 2^n * exp(r), n = round(x*log2(e)), |r| <= ln(2)/2.
// ln(2) is split in two parts, the first with trailing zero bits, so that
// n*expLn2Hi is exact (Cody and Waite, 1980). The polynomial is the Taylor
// series to r^7, whose remainder is below 6e-9 relative.
const (
	expLog2E = 1.44269504088896341
	expLn2Hi = 0.693359375
	expLn2Lo = -2.12194440054690583e-4
	expMagic = 12582912 // 1.5 * 2^23: adding it rounds to the nearest integer
	expMax   = 89       // exp(89) overflows float32
	expMin   = -104     // exp(-104) rounds to 0
	expC7    = 1.0 / 5040
	expC6    = 1.0 / 720
	expC5    = 1.0 / 120
	expC4    = 1.0 / 24
	expC3    = 1.0 / 6
	expC2    = 0.5
)

// exp32 returns e^x within 2 ulp; NaN stays NaN, overflow gives +Inf, underflow
// passes through the subnormals to 0.
func exp32(x float32) float32 {
	// NaN fails both comparisons and flows through the polynomial.
	if x > expMax {
		x = expMax
	}
	if x < expMin {
		x = expMin
	}
	if x != x {
		return x
	}
	fn := float32(x*expLog2E+expMagic) - expMagic
	r := x - fn*expLn2Hi
	r -= fn * expLn2Lo
	p := float32(expC7)
	p = p*r + expC6
	p = p*r + expC5
	p = p*r + expC4
	p = p*r + expC3
	p = p*r + expC2
	p = p*r + 1
	p = p*r + 1
	// Two factors keep 2^n representable for n in -150..129.
	n := int32(fn)
	h := n >> 1
	return p * math.Float32frombits(uint32(h+127)<<23) * math.Float32frombits(uint32(n-h+127)<<23)
}

// sigmoid32 returns 1/(1+e^-x) and its complement e^-x/(1+e^-x), each with
// full relative accuracy while |x| <= 87.
func sigmoid32(x float32) (s, c float32) {
	m := -x
	if m > 87 {
		m = 87
	}
	e := exp32(m)
	s = 1 / (1 + e)
	return s, e * s
}

// Normal tail: P(Z > a) = 0.5*exp(-a*a/2)*erfcx(a/sqrt2) for a >= 0, with
// erfcx(a/sqrt2) = t*R(t), t = 1/(1+tailP*a). R interpolates at the Chebyshev
// nodes of (0,1]; the relative error of the product is below 3e-8.
const (
	tailP  = 0.25
	tailR0 = 0.199471122073
	tailR1 = 0.199474793537
	tailR2 = 0.186879029413
	tailR3 = 0.163779263586
	tailR4 = 0.114892516242
	tailR5 = 0.136547992075
	tailR6 = -0.0794937276531
	tailR7 = 0.207597715863
	tailR8 = -0.170778460271
	tailR9 = 0.0416297768871
)

const invSqrt2Pi = 0.398942280401432678

// normalTail returns P(Z > |x|) and the standard normal density at x.
func normalTail(x float32) (tail, density float32) {
	a := float32(math.Abs(float64(x)))
	e := exp32(a * a * -0.5)
	t := 1 / (1 + tailP*a)
	q := float32(tailR9)
	q = q*t + tailR8
	q = q*t + tailR7
	q = q*t + tailR6
	q = q*t + tailR5
	q = q*t + tailR4
	q = q*t + tailR3
	q = q*t + tailR2
	q = q*t + tailR1
	q = q*t + tailR0
	return 0.5 * e * (q * t), invSqrt2Pi * e
}

// gelu32 returns x*Phi(x), Phi the normal distribution function.
func gelu32(x float32) float32 {
	tail, _ := normalTail(x)
	if tail == 0 { // infinity times 0 is NaN
		return max(x, 0)
	}
	if x > 0 {
		return x - x*tail
	}
	return x * tail
}

// geluGrad32 returns Phi(x) + x*phi(x).
func geluGrad32(x float32) float32 {
	tail, density := normalTail(x)
	if x > 0 {
		tail = 1 - tail
	}
	return tail + x*density
}

func expGo(y, x []float32) {
	for i, v := range x {
		y[i] = exp32(v)
	}
}

func siluGo(y, x []float32) {
	for i, v := range x {
		y[i] = v / (1 + exp32(-v))
	}
}

// siluGrad32 returns the derivative of x*sigmoid(x): s*(1 + x*(1-s)). sigmoid32 is cut at 87, and so is x.
func siluGrad32(x float32) float32 {
	s, c := sigmoid32(x)
	return s * (1 + max(min(x, 87), -87)*c)
}

func siluGradGo(dx, dy, x []float32) {
	for i, v := range x {
		dx[i] = dy[i] * siluGrad32(v)
	}
}

func geluGo(y, x []float32) {
	for i, v := range x {
		y[i] = gelu32(v)
	}
}

// gegluGo: y = value * gelu(gate).
func gegluGo(y, value, gate []float32) {
	for i, v := range gate {
		y[i] = gelu32(v) * value[i]
	}
}

func geluGradGo(dx, dy, x []float32) {
	for i, v := range x {
		dx[i] = dy[i] * geluGrad32(v)
	}
}

// affineGo: y = a*x + b.
func affineGo(y, x []float32, a, b float32) {
	for i, v := range x {
		y[i] = a*v + b
	}
}

// affineSiLUGo: y = silu(a*x + b).
func affineSiLUGo(y, x []float32, a, b float32) {
	for i, v := range x {
		z := a*v + b
		y[i] = z / (1 + exp32(-z))
	}
}

// affineSiLUGradGo: dz = dy * silu'(a*x + b).
func affineSiLUGradGo(dz, dy, x []float32, a, b float32) {
	for i, v := range x {
		dz[i] = dy[i] * siluGrad32(a*v+b)
	}
}

// affine2Go: y = a*u + b*v + c.
func affine2Go(y, u, v []float32, a, b, c float32) {
	for i, s := range u {
		y[i] = a*s + (b*v[i] + c)
	}
}

func addGo(y, a, b []float32) {
	for i, v := range a {
		y[i] = v + b[i]
	}
}

func mulGo(y, a, b []float32) {
	for i, v := range a {
		y[i] = v * b[i]
	}
}

// axpyGo: y += a*x.
func axpyGo(y, x []float32, a float32) {
	for i, v := range x {
		y[i] += a * v
	}
}

// sumGo returns the sum in float64.
func sumGo(x []float32) float64 {
	var s [8]float64
	i := 0
	for ; i+8 <= len(x); i += 8 {
		for l := range s {
			s[l] += float64(x[i+l])
		}
	}
	for l := 0; i < len(x); i, l = i+1, l+1 {
		s[l] += float64(x[i])
	}
	return fold8(&s)
}

// sumsGo returns the sums of x and of its squares in float64, where a square is exact.
func sumsGo(x []float32) (sum, squares float64) {
	var s, q [8]float64
	i := 0
	for ; i+8 <= len(x); i += 8 {
		for l := range s {
			v := float64(x[i+l])
			s[l] += v
			q[l] += v * v
		}
	}
	for l := 0; i < len(x); i, l = i+1, l+1 {
		v := float64(x[i])
		s[l] += v
		q[l] += v * v
	}
	return fold8(&s), fold8(&q)
}

// sumSquaresGo returns sum((x-m)^2) in float64.
func sumSquaresGo(x []float32, m float64) float64 {
	var s [8]float64
	i := 0
	for ; i+8 <= len(x); i += 8 {
		for l := range s {
			d := float64(x[i+l]) - m
			s[l] += d * d
		}
	}
	for l := 0; i < len(x); i, l = i+1, l+1 {
		d := float64(x[i]) - m
		s[l] += d * d
	}
	return fold8(&s)
}

// dotGo returns sum(x*y) in float64.
func dotGo(x, y []float32) float64 {
	var s [8]float64
	i := 0
	for ; i+8 <= len(x); i += 8 {
		for l := range s {
			s[l] += float64(x[i+l]) * float64(y[i+l])
		}
	}
	for l := 0; i < len(x); i, l = i+1, l+1 {
		s[l] += float64(x[i]) * float64(y[i])
	}
	return fold8(&s)
}

// fold8 adds eight lane sums in the order the assembly adds them.
func fold8(s *[8]float64) float64 {
	return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

// maxGo returns the largest element, -Inf for an empty slice. NaN elements may
// be passed over: the caller's next step must let them through.
func maxGo(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

// expSumGo: y = exp(s*x - m); returns the sum of y.
func expSumGo(y, x []float32, s, m float32) float32 {
	var acc [8]float32
	i := 0
	for ; i+8 <= len(x); i += 8 {
		for l := range acc {
			e := exp32(s*x[i+l] - m)
			y[i+l] = e
			acc[l] += e
		}
	}
	for l := 0; i < len(x); i, l = i+1, l+1 {
		e := exp32(s*x[i] - m)
		y[i] = e
		acc[l] += e
	}
	return ((acc[0] + acc[4]) + (acc[2] + acc[6])) + ((acc[1] + acc[5]) + (acc[3] + acc[7]))
}

// lerpGo: y = u*a + v*b.
func lerpGo(y, a, b []float32, u, v float32) {
	for i, s := range a {
		y[i] = u*s + v*b[i]
	}
}

// accumulateGo: acc += x, with float64 accumulators.
func accumulateGo(acc []float64, x []float32) {
	for i, v := range x {
		acc[i] += float64(v)
	}
}

// adamGo makes one AdamW step; see AdamW for the formula. c holds the step's
// constants in the order of adamConstants.
func adamGo(param, grad, m, v []float32, c *adamConstants) {
	for i, g := range grad {
		g *= c.gradScale
		mi := c.beta1*m[i] + c.oneMinusBeta1*g
		vi := c.beta2*v[i] + c.oneMinusBeta2*(g*g)
		m[i], v[i] = mi, vi
		den := float32(math.Sqrt(float64(vi)))*c.invSqrtBias2 + c.eps
		param[i] = c.decay*param[i] - c.stepSize*mi/den
	}
}

// adamConstants are AdamW's per-step factors; vec_amd64.s reads the fields in this order.
type adamConstants struct {
	beta1, oneMinusBeta1 float32
	beta2, oneMinusBeta2 float32
	gradScale            float32
	invSqrtBias2         float32 // 1/sqrt(1-beta2^t)
	eps                  float32
	decay                float32 // 1 - lr*weightDecay
	stepSize             float32 // lr/(1-beta1^t)
}
