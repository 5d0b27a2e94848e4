//go:build amd64 && !noasm

package kernels

import "unsafe"

// The bodies in vec_amd64.s, act_amd64.s and norm_amd64.s equal the loops of the same name in vec.go, which specify them; only
// the rounding differs (fused multiply-add, lanes of a sum), and the polynomials of some exponentials and normal tails.
// Slices are cut to one length before their pointers are handed over.

// simd says whether the assembly is in use; a wider engine has AVX2 too.
func simd() bool { return active.kind != portable }

func ptr(x []float32) *float32 { return unsafe.SliceData(x) }

//go:noescape
func expAVX2(y *float32, x *float32, n int)

func vecExp(y, x []float32) {
	if !simd() {
		expGo(y, x)
		return
	}
	y = y[:len(x)]
	expAVX2(ptr(y), ptr(x), len(x))
}

//go:noescape
func siluAVX2(y, x *float32, n int)

func vecSiLU(y, x []float32) {
	if !simd() {
		siluGo(y, x)
		return
	}
	y = y[:len(x)]
	siluAVX2(ptr(y), ptr(x), len(x))
}

//go:noescape
func siluGradAVX2(y, a, b *float32, n int)

func vecSiLUGrad(dx, dy, x []float32) {
	if !simd() {
		siluGradGo(dx, dy, x)
		return
	}
	dx = dx[:len(x)]
	dy = dy[:len(x)]
	siluGradAVX2(ptr(dx), ptr(dy), ptr(x), len(x))
}

//go:noescape
func geluAVX2(y, x *float32, n int)

func vecGELU(y, x []float32) {
	if !simd() {
		geluGo(y, x)
		return
	}
	y = y[:len(x)]
	geluAVX2(ptr(y), ptr(x), len(x))
}

//go:noescape
func gegluAVX2(y, value, gate *float32, n int)

func vecGEGLU(y, value, gate []float32) {
	if !simd() {
		gegluGo(y, value, gate)
		return
	}
	y = y[:len(gate)]
	value = value[:len(gate)]
	gegluAVX2(ptr(y), ptr(value), ptr(gate), len(gate))
}

//go:noescape
func geluGradAVX2(y, a, b *float32, n int)

func vecGELUGrad(dx, dy, x []float32) {
	if !simd() {
		geluGradGo(dx, dy, x)
		return
	}
	dx = dx[:len(x)]
	dy = dy[:len(x)]
	geluGradAVX2(ptr(dx), ptr(dy), ptr(x), len(x))
}

//go:noescape
func affineAVX2(y, x *float32, n int, a, b float32)

func vecAffine(y, x []float32, a, b float32) {
	if !simd() {
		affineGo(y, x, a, b)
		return
	}
	y = y[:len(x)]
	affineAVX2(ptr(y), ptr(x), len(x), a, b)
}

//go:noescape
func affineSiLUAVX2(y, x *float32, n int, a, b float32)

func vecAffineSiLU(y, x []float32, a, b float32) {
	if !simd() {
		affineSiLUGo(y, x, a, b)
		return
	}
	y = y[:len(x)]
	affineSiLUAVX2(ptr(y), ptr(x), len(x), a, b)
}

//go:noescape
func affineSiLUGradAVX2(y, u, v *float32, n int, a, b float32)

func vecAffineSiLUGrad(dz, dy, x []float32, a, b float32) {
	if !simd() {
		affineSiLUGradGo(dz, dy, x, a, b)
		return
	}
	dz = dz[:len(x)]
	dy = dy[:len(x)]
	affineSiLUGradAVX2(ptr(dz), ptr(dy), ptr(x), len(x), a, b)
}

//go:noescape
func affine2AVX2(y, u, v *float32, n int, a, b, c float32)

func vecAffine2(y, u, v []float32, a, b, c float32) {
	if !simd() {
		affine2Go(y, u, v, a, b, c)
		return
	}
	y = y[:len(u)]
	v = v[:len(u)]
	affine2AVX2(ptr(y), ptr(u), ptr(v), len(u), a, b, c)
}

//go:noescape
func addAVX2(y, a, b *float32, n int)

func vecAdd(y, a, b []float32) {
	if !simd() {
		addGo(y, a, b)
		return
	}
	y = y[:len(a)]
	b = b[:len(a)]
	addAVX2(ptr(y), ptr(a), ptr(b), len(a))
}

//go:noescape
func mulAVX2(y, a, b *float32, n int)

func vecMul(y, a, b []float32) {
	if !simd() {
		mulGo(y, a, b)
		return
	}
	y = y[:len(a)]
	b = b[:len(a)]
	mulAVX2(ptr(y), ptr(a), ptr(b), len(a))
}

//go:noescape
func axpyAVX2(y, x *float32, n int, a float32)

func vecAxpy(y, x []float32, a float32) {
	if !simd() {
		axpyGo(y, x, a)
		return
	}
	y = y[:len(x)]
	axpyAVX2(ptr(y), ptr(x), len(x), a)
}

//go:noescape
func lerpAVX2(y, a, b *float32, n int, u, v float32)

func vecLerp(y, a, b []float32, u, v float32) {
	if !simd() {
		lerpGo(y, a, b, u, v)
		return
	}
	y = y[:len(a)]
	b = b[:len(a)]
	lerpAVX2(ptr(y), ptr(a), ptr(b), len(a), u, v)
}

//go:noescape
func sumAVX2(x *float32, n int) float64

func vecSum(x []float32) float64 {
	if !simd() {
		return sumGo(x)
	}
	return sumAVX2(ptr(x), len(x))
}

//go:noescape
func sumsAVX2(x *float32, n int) (sum, squares float64)

func vecSums(x []float32) (sum, squares float64) {
	if !simd() {
		return sumsGo(x)
	}
	return sumsAVX2(ptr(x), len(x))
}

//go:noescape
func layerNormAVX2(y, x, gamma, beta *float32, rows, c int, eps float64)

func vecLayerNorm(y, x, gamma, beta []float32, eps float64) {
	rows, c := len(x)/len(gamma), len(gamma)
	if !simd() || c%16 != 0 {
		layerNormGo(y, x, gamma, beta, eps)
		return
	}
	y = y[:rows*c]
	beta = beta[:c]
	layerNormAVX2(ptr(y), ptr(x), ptr(gamma), ptr(beta), rows, c, eps)
}

//go:noescape
func sumSquaresAVX2(x *float32, n int, m float64) float64

func vecSumSquares(x []float32, m float64) float64 {
	if !simd() {
		return sumSquaresGo(x, m)
	}
	return sumSquaresAVX2(ptr(x), len(x), m)
}

//go:noescape
func dotAVX2(x, y *float32, n int) float64

func vecDot(x, y []float32) float64 {
	if !simd() {
		return dotGo(x, y)
	}
	y = y[:len(x)]
	return dotAVX2(ptr(x), ptr(y), len(x))
}

//go:noescape
func maxAVX2(x *float32, n int) float32

func vecMax(x []float32) float32 {
	if !simd() {
		return maxGo(x)
	}
	return maxAVX2(ptr(x), len(x))
}

//go:noescape
func expSumAVX2(y, x *float32, n int, s, m float32) float32

func vecExpSum(y, x []float32, s, m float32) float32 {
	if !simd() {
		return expSumGo(y, x, s, m)
	}
	y = y[:len(x)]
	return expSumAVX2(ptr(y), ptr(x), len(x), s, m)
}

//go:noescape
func accumulateAVX2(acc *float64, x *float32, n int)

func vecAccumulate(acc []float64, x []float32) {
	if !simd() {
		accumulateGo(acc, x)
		return
	}
	n := len(x) &^ 3
	acc = acc[:len(x)]
	accumulateAVX2(unsafe.SliceData(acc), ptr(x), n)
	accumulateGo(acc[n:], x[n:])
}

//go:noescape
func adamAVX2(param, grad, m, v *float32, n int, c *adamConstants)

func vecAdam(param, grad, m, v []float32, c *adamConstants) {
	if !simd() {
		adamGo(param, grad, m, v, c)
		return
	}
	n := len(grad)
	param, m, v = param[:n], m[:n], v[:n]
	adamAVX2(ptr(param), ptr(grad), ptr(m), ptr(v), n, c)
}

//go:noescape
func gatherLerpAVX2(y, x *float32, lo *int32, w0, w1 *float32, n int)

// vecGatherLerp resizes a row; x and y are padded as gatherLerpGo says.
func vecGatherLerp(y, x []float32, a *lerpAxis) {
	if !simd() || !a.windowed {
		gatherLerpGo(y, x, a)
		return
	}
	n := len(a.lo)
	gatherLerpAVX2(ptr(y[:n]), ptr(x[:a.padded]), unsafe.SliceData(a.lo), ptr(a.w0[:n]), ptr(a.w1[:n]), n)
}

//go:noescape
func softmaxColumnsAVX2(s *float32, keys, cols int, top, sum, factor *float32)

// vecSoftmaxColumns wants at least one key and cols a multiple of 8.
func vecSoftmaxColumns(s []float32, keys, cols int, top, sum, factor []float32) {
	if !simd() {
		softmaxColumnsGo(s, keys, cols, top, sum, factor)
		return
	}
	s, top, sum, factor = s[:keys*cols], top[:cols], sum[:cols], factor[:cols]
	softmaxColumnsAVX2(ptr(s), keys, cols, ptr(top), ptr(sum), ptr(factor))
}

//go:noescape
func softmaxGradColumnsAVX2(prob, grad *float32, keys, cols int, inv *float32, scale float32)

// vecSoftmaxGradColumns wants at least one key and cols a multiple of 8.
func vecSoftmaxGradColumns(prob, grad []float32, keys, cols int, inv []float32, scale float32) {
	if !simd() {
		softmaxGradColumnsGo(prob, grad, keys, cols, inv, scale)
		return
	}
	prob, grad, inv = prob[:keys*cols], grad[:keys*cols], inv[:cols]
	softmaxGradColumnsAVX2(ptr(prob), ptr(grad), keys, cols, ptr(inv), scale)
}
