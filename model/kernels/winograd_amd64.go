//go:build amd64 && !noasm

package kernels

// winogradInputsAVX2 is winogradInputsPortable with fused multiply-add; steps in floats, groups is 1 or more.
//
//go:noescape
func winogradInputsAVX2(v *float32, vStep int, x *float32, row, col, groups int)

// winogradOutputsAVX2 is winogradOutputsPortable with fused multiply-add; steps in floats, groups is 1 or more.
//
//go:noescape
func winogradOutputsAVX2(y *float32, row, col int, m *float32, mStep int, bias *float32, groups int)

// winogradWeightsAVX2 is winogradWeightsPortable with fused multiply-add; steps in floats, n is 1 or more.
//
//go:noescape
func winogradWeightsAVX2(u *float32, uStep, next int, w *float32, wStep, n int)

// winogradProductAVX2 is winogradProductTile's sum for a width of 24, or 16 where narrow, with fused multiply-add; n is a multiple
// of 4, and like tiles 1 or more. It prefetches v, of which the next call may read what follows.
//
//go:noescape
func winogradProductAVX2(m *float32, ldm int, v *float32, ldv int, u *float32, tiles, n int, add, narrow bool)

func winogradProduct(e *engine, m []float32, ldm int, v []float32, ldv int, u []float32, width, tiles, n int, add bool) {
	if e.kind != avx2 || width < 16 {
		winogradProductTile(e, m, ldm, v, ldv, u, width, tiles, n, add)
		return
	}
	_, _, _ = m[(tiles-1)*ldm+width-1], v[(tiles-1)*ldv+n-1], u[n*width-1]
	winogradProductAVX2(&m[0], ldm, &v[0], ldv, &u[0], tiles, n, add, width == 16)
}

// transposeAheadAVX2 is transposeAVX2 for a src that is not in the cache.
//
//go:noescape
func transposeAheadAVX2(dst *float32, ldd int, src *float32, lds, rows, cols int)

// transposeAhead is transposeBlocks for a src that is not in the cache.
func transposeAhead(e *engine, dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if e.kind == portable || (rows|cols)%8 != 0 || rows == 0 || cols == 0 {
		transposeBlocks(e, dst, ldd, src, lds, rows, cols)
		return
	}
	_, _ = dst[(cols-1)*ldd+rows-1], src[(rows-1)*lds+cols-1]
	transposeAheadAVX2(&dst[0], ldd, &src[0], lds, rows, cols)
}

func winogradInputs(e *engine, v []float32, vStep int, x []float32, row, col, groups int) {
	if e.kind == portable {
		winogradInputsPortable(v, vStep, x, row, col, groups)
		return
	}
	last := groups*winogradLane - 1
	_, _ = v[(winogradTaps-1)*vStep+last], x[5*row+5*col+last]
	winogradInputsAVX2(&v[0], vStep, &x[0], row, col, groups)
}

func winogradOutputs(e *engine, y []float32, row, col int, m []float32, mStep int, bias []float32, groups int) {
	if e.kind == portable {
		winogradOutputsPortable(y, row, col, m, mStep, bias, groups)
		return
	}
	last := groups*winogradLane - 1
	_, _, _ = y[3*row+3*col+last], m[(winogradTaps-1)*mStep+last], bias[last]
	winogradOutputsAVX2(&y[0], row, col, &m[0], mStep, &bias[0], groups)
}

func winogradWeights(e *engine, u []float32, uStep, next int, w []float32, wStep, n int) {
	if e.kind == portable {
		winogradWeightsPortable(u, uStep, next, w, wStep, n)
		return
	}
	_, _ = u[(winogradTaps-1)*uStep+(n-1)*next+winogradLane-1], w[(9*n-1)*wStep+winogradLane-1]
	winogradWeightsAVX2(&u[0], uStep, next, &w[0], wStep, n)
}
