//go:build !amd64 || noasm

package kernels

// engines returns the engines of this machine, the best one last.
func engines() []*engine { return []*engine{&portableEngine} }

// run computes the tile with the engine's micro-kernel.
func (t *tile) run(e *engine) {
	tilePortable(t, e.vec)
}

// transposeFast sets dst[j*ldd+i] = src[i*lds+j] for i < rows, j < cols.
func transposeFast(e *engine, dst []float32, ldd int, src []float32, lds, rows, cols int) {
	transposePortable(dst, ldd, src, lds, rows, cols)
}

// peakLoop returns the active engine's register-only loop of 384 floating-point operations a round, nil if it has none.
func peakLoop() func(rounds int) { return nil }

// copyRows sets dst[i*ldd+j] = src[i*lds+j] for i < rows, j < n.
func copyRows(_ *engine, dst []float32, ldd int, src []float32, lds, rows, n int) {
	copyRowsPortable(dst, ldd, src, lds, rows, n)
}

// gatherRows packs a panel of width 16 from four rows of four pixels a pitch apart; here there is no such loop.
func gatherRows(*engine, []float32, []float32, []int32, int) bool { return false }

// split sets even[i*ldd+j] = src[i*lds+2*j], odd[i*ldd+j] = src[i*lds+2*j+1] for i < rows, j < n.
func split(_ *engine, even, odd []float32, ldd int, src []float32, lds, rows, n int) {
	splitPortable(even, odd, ldd, src, lds, rows, n)
}

// merge sets dst[i*ldd+2*j] = even[i*lde+j], dst[i*ldd+2*j+1] = odd[i*ldo+j] for i < rows, j < n.
func merge(_ *engine, dst []float32, ldd int, even, odd []float32, lde, ldo, rows, n int) {
	mergePortable(dst, ldd, even, odd, lde, ldo, rows, n)
}
