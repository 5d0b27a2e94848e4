package kernels

import "math"

// Activation names an element-wise non-linearity.
type Activation int

const (
	// SiLU is x*sigmoid(x).
	SiLU Activation = iota
	// GELU is x*Phi(x), Phi the normal distribution function (the erf form).
	GELU
	// GELUTanh is GELU's tanh approximation, 0.5x(1+tanh(sqrt(2/pi)(x+0.044715x^3))).
	GELUTanh
	// QuickGELU is x*sigmoid(1.702x).
	QuickGELU
)

// String returns the activation's name.
func (a Activation) String() string {
	switch a {
	case SiLU:
		return "SiLU"
	case GELU:
		return "GELU"
	case GELUTanh:
		return "GELUTanh"
	case QuickGELU:
		return "QuickGELU"
	}
	return "unknown activation"
}

// 0.5*(1+tanh(u)) = sigmoid(2u): both constants carry the factor 2.
var (
	geluTanhA = float32(2 * math.Sqrt(2/math.Pi))
	geluTanhB = float32(2 * math.Sqrt(2/math.Pi) * 0.044715)
)

const quickGELUA = 1.702

// ActForward computes y = act(x) for every element of x; y may be x.
func ActForward(p *Pool, act Activation, y, x []float32) {
	need("ActForward: y", y, len(x))
	var f func(y, x []float32)
	switch act {
	case SiLU:
		f = vecSiLU
	case GELU:
		f = vecGELU
	case GELUTanh:
		f = func(y, x []float32) {
			for i, v := range x {
				s, _ := sigmoid32(v * (geluTanhA + geluTanhB*v*v))
				y[i] = v * s
			}
		}
	case QuickGELU:
		f = func(y, x []float32) {
			for i, v := range x {
				s, _ := sigmoid32(quickGELUA * v)
				y[i] = v * s
			}
		}
	default:
		panicf("ActForward: activation %d is unknown", int(act))
	}
	eachChunk(p, len(x), chunk, activating{f, y, x}, func(s *activating, lo, hi int) { s.f(s.y[lo:hi], s.x[lo:hi]) })
}

type activating struct {
	f    func(y, x []float32)
	y, x []float32
}

// ActBackward computes dx = dy*act'(x); dx may be dy or x.
func ActBackward(p *Pool, act Activation, dx, dy, x []float32) {
	need("ActBackward: dx", dx, len(x))
	need("ActBackward: dy", dy, len(x))
	var f func(dx, dy, x []float32)
	switch act {
	case SiLU:
		f = vecSiLUGrad
	case GELU:
		f = vecGELUGrad
	case GELUTanh:
		f = func(dx, dy, x []float32) {
			for i, v := range x {
				s, c := sigmoid32(v * (geluTanhA + geluTanhB*v*v))
				dx[i] = dy[i] * s * (1 + v*c*(geluTanhA+3*geluTanhB*v*v))
			}
		}
	case QuickGELU:
		f = func(dx, dy, x []float32) {
			for i, v := range x {
				s, c := sigmoid32(quickGELUA * v)
				dx[i] = dy[i] * s * (1 + quickGELUA*v*c)
			}
		}
	default:
		panicf("ActBackward: activation %d is unknown", int(act))
	}
	runChunks(p, len(x), chunk, func(lo, hi int) { f(dx[lo:hi], dy[lo:hi], x[lo:hi]) })
}

// GEGLUForward computes y [T,O] = value*gelu(gate) from x [T,2*O], whose rows
// are (value, gate). y may not share memory with x.
//
// Source: Shazeer, GLU Variants Improve Transformer, 2020.
func GEGLUForward(p *Pool, T, O int, y, x []float32) {
	need("GEGLUForward: y", y, T*O)
	need("GEGLUForward: x", x, 2*T*O)
	eachChunk(p, T, rowsPerTask(O), operands{y: y, a: x, n: O}, func(s *operands, lo, hi int) {
		x, n := s.a, s.n
		for t := lo; t < hi; t++ {
			vecGEGLU(s.y[t*n:(t+1)*n], x[2*t*n:(2*t+1)*n], x[(2*t+1)*n:(2*t+2)*n])
		}
	})
}

// GEGLUBackward computes dx [T,2*O] from dy [T,O] and the forward input x.
// dx may not share memory with dy or x.
func GEGLUBackward(p *Pool, T, O int, dx, dy, x []float32) {
	need("GEGLUBackward: dx", dx, 2*T*O)
	need("GEGLUBackward: dy", dy, T*O)
	need("GEGLUBackward: x", x, 2*T*O)
	runChunks(p, T, rowsPerTask(O), func(lo, hi int) {
		for t := lo; t < hi; t++ {
			d := dy[t*O : (t+1)*O]
			value, gate := x[2*t*O:(2*t+1)*O], x[(2*t+1)*O:(2*t+2)*O]
			dvalue, dgate := dx[2*t*O:(2*t+1)*O], dx[(2*t+1)*O:(2*t+2)*O]
			vecGELU(dvalue, gate)
			vecMul(dvalue, dvalue, d)
			vecGELUGrad(dgate, d, gate)
			vecMul(dgate, dgate, value)
		}
	})
}

// Softmax computes y = softmax(x) over each row of x [T,K]; y may be x.
func Softmax(p *Pool, T, K int, y, x []float32) {
	need("Softmax: y", y, T*K)
	need("Softmax: x", x, T*K)
	runChunks(p, T, rowsPerTask(K), func(lo, hi int) {
		for t := lo; t < hi; t++ {
			row, out := x[t*K:(t+1)*K], y[t*K:(t+1)*K]
			sum := vecExpSum(out, row, 1, vecMax(row))
			vecAffine(out, out, 1/sum, 0)
		}
	})
}

// SoftmaxBackward computes dx = y*(dy - sum(dy*y)) for each row [T,K]; y is the
// forward result. dx may be dy.
func SoftmaxBackward(p *Pool, T, K int, dx, dy, y []float32) {
	need("SoftmaxBackward: dx", dx, T*K)
	need("SoftmaxBackward: dy", dy, T*K)
	need("SoftmaxBackward: y", y, T*K)
	runChunks(p, T, rowsPerTask(K), func(lo, hi int) {
		for t := lo; t < hi; t++ {
			d, out, row := dy[t*K:(t+1)*K], dx[t*K:(t+1)*K], y[t*K:(t+1)*K]
			s := float32(vecDot(d, row))
			for j, v := range row {
				out[j] = v * (d[j] - s)
			}
		}
	})
}
