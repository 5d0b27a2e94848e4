//go:build !amd64 || noasm

package kernels

func winogradInputs(_ *engine, class int, v []float32, vTile, vStep, vLane int, x []float32, at []int32, row, col, groups int) {
	winogradInputsPortable(class, v, vTile, vStep, vLane, x, at, row, col, groups)
}

func winogradOutputs(_ *engine, class int, y []float32, at []int32, row, col int, m []float32, mTile, mStep, mLane int, bias []float32, groups int) {
	winogradOutputsPortable(class, y, at, row, col, m, mTile, mStep, mLane, bias, groups)
}

func winogradWeights(_ *engine, u []float32, uStep, next int, w []float32, wStep, n int, _ bool) {
	winogradWeightsPortable(u, uStep, next, w, wStep, n)
}

func winogradProduct(e *engine, m []float32, mTile, _ int, v []float32, vTile, _ int, u []float32, width, tiles, n int, add bool) {
	winogradProductTile(e, m, mTile, v, vTile, u, width, tiles, n, add)
}

func transposeAhead(e *engine, dst []float32, ldd int, src []float32, lds, rows, cols int) {
	transposeBlocks(e, dst, ldd, src, lds, rows, cols)
}

func winogradFill(_ *engine, dst []float32, line, pixel int, src []float32, plane, width, rows, cols, channels int) {
	winogradFillPortable(dst, line, pixel, src, plane, width, rows, cols, channels)
}

func winogradEmpty(*engine, []float32, int, int, []float32, []float32, int, int, int, int, int) int {
	return 0
}
