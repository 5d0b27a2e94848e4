//go:build !amd64 || noasm

package kernels

func winogradInputs(_ *engine, v []float32, vStep int, x []float32, row, col, groups int) {
	winogradInputsPortable(v, vStep, x, row, col, groups)
}

func winogradOutputs(_ *engine, y []float32, row, col int, m []float32, mStep int, bias []float32, groups int) {
	winogradOutputsPortable(y, row, col, m, mStep, bias, groups)
}

func winogradWeights(_ *engine, u []float32, uStep, next int, w []float32, wStep, n int) {
	winogradWeightsPortable(u, uStep, next, w, wStep, n)
}

func winogradProduct(e *engine, m []float32, ldm int, v []float32, ldv int, u []float32, width, tiles, n int, add bool) {
	winogradProductTile(e, m, ldm, v, ldv, u, width, tiles, n, add)
}

func transposeAhead(e *engine, dst []float32, ldd int, src []float32, lds, rows, cols int) {
	transposeBlocks(e, dst, ldd, src, lds, rows, cols)
}
