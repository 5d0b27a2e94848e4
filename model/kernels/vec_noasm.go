//go:build !amd64 || noasm

package kernels

// Without assembly every vector loop is its portable twin.

func vecExp(y, x []float32)                                 { expGo(y, x) }
func vecSiLU(y, x []float32)                                { siluGo(y, x) }
func vecSiLUGrad(dx, dy, x []float32)                       { siluGradGo(dx, dy, x) }
func vecGELU(y, x []float32)                                { geluGo(y, x) }
func vecGEGLU(y, value, gate []float32)                     { gegluGo(y, value, gate) }
func vecGELUGrad(dx, dy, x []float32)                       { geluGradGo(dx, dy, x) }
func vecAffine(y, x []float32, a, b float32)                { affineGo(y, x, a, b) }
func vecAffineSiLU(y, x []float32, a, b float32)            { affineSiLUGo(y, x, a, b) }
func vecAffineSiLUGrad(dz, dy, x []float32, a, b float32)   { affineSiLUGradGo(dz, dy, x, a, b) }
func vecAffine2(y, u, v []float32, a, b, c float32)         { affine2Go(y, u, v, a, b, c) }
func vecAdd(y, a, b []float32)                              { addGo(y, a, b) }
func vecMul(y, a, b []float32)                              { mulGo(y, a, b) }
func vecAxpy(y, x []float32, a float32)                     { axpyGo(y, x, a) }
func vecSum(x []float32) float64                            { return sumGo(x) }
func vecSums(x []float32) (sum, squares float64)            { return sumsGo(x) }
func vecSumSquares(x []float32, m float64) float64          { return sumSquaresGo(x, m) }
func vecDot(x, y []float32) float64                         { return dotGo(x, y) }
func vecMax(x []float32) float32                            { return maxGo(x) }
func vecExpSum(y, x []float32, s, m float32) float32        { return expSumGo(y, x, s, m) }
func vecLerp(y, a, b []float32, u, v float32)               { lerpGo(y, a, b, u, v) }
func vecAccumulate(acc []float64, x []float32)              { accumulateGo(acc, x) }
func vecAdam(param, grad, m, v []float32, c *adamConstants) { adamGo(param, grad, m, v, c) }

func vecLayerNorm(y, x, gamma, beta []float32, eps float64) { layerNormGo(y, x, gamma, beta, eps) }

func vecGatherLerp(y, x []float32, a *lerpAxis) { gatherLerpGo(y, x, a) }

func vecSoftmaxColumns(s []float32, keys, cols int, top, sum, factor []float32) {
	softmaxColumnsGo(s, keys, cols, top, sum, factor)
}

func vecSoftmaxGradColumns(prob, grad []float32, keys, cols int, inv []float32, scale float32) {
	softmaxGradColumnsGo(prob, grad, keys, cols, inv, scale)
}
