//go:build amd64 && !noasm

package kernels

// winogradInputsAVX2 is winogradInputsPortable of class 0 with fused multiply-add; steps in floats, tiles and groups are 1 or more.
//
//go:noescape
func winogradInputsAVX2(v *float32, vTile, vStep, vLane int, x *float32, at *int32, tiles, row, col, groups int)

// winogradOutputsAVX2 is winogradOutputsPortable of class 0 with fused multiply-add; steps in floats, tiles and groups are 1 or more.
//
//go:noescape
func winogradOutputsAVX2(y *float32, at *int32, tiles, row, col int, m *float32, mTile, mStep, mLane int, bias *float32, groups int)

// winogradSmallInputsAVX2 is winogradInputsPortable for one tile of 4-down rows and 4-across columns of outputs. It may write to taps
// of v that such a tile does not have.
//
//go:noescape
func winogradSmallInputsAVX2(v *float32, vStep, vLane int, x *float32, row, col, groups, down, across int)

// winogradSmallOutputsAVX2 is winogradOutputsPortable for one tile of 4-down rows and 4-across columns of outputs.
//
//go:noescape
func winogradSmallOutputsAVX2(y *float32, row, col int, m *float32, mStep, mLane int, bias *float32, groups, down, across int)

// winogradWeightsAVX2 is winogradWeightsPortable with fused multiply-add; steps in floats, n is 1 or more. Without all it may leave out
// the taps at point 0 down.
//
//go:noescape
func winogradWeightsAVX2(u *float32, uStep, next int, w *float32, wStep, n int, all bool)

// winogradProductAVX2 is winogradProduct for a width of 24, or 16 where narrow, and tiles 8 floats apart, with fused multiply-add; n is
// a multiple of 8, and like tiles 1 or more. It prefetches m, and of v and u what follows, which the next call may read.
//
//go:noescape
func winogradProductAVX2(m *float32, mLane int, v *float32, vLane int, u *float32, tiles, n int, add, narrow bool)

// winogradProduct is one product of a strip of outputs, of tiles as winograd.layOut has them: for t < tiles, o < width
//
//	m[t*mTile + o/8*mLane + o%8] = sum over p < n of v[t*vTile + p/8*vLane + p%8] * u[p*width+o] (+ m[...] if add)
func winogradProduct(e *engine, m []float32, mTile, mLane int, v []float32, vTile, vLane int, u []float32, width, tiles, n int, add bool) {
	if mTile != winogradLane || mLane == winogradLane {
		winogradProductTile(e, m, mTile, v, vTile, u, width, tiles, n, add)
		return
	}
	_, _, _ = m[tiles*winogradLane+(width/winogradLane-1)*mLane-1], v[tiles*winogradLane+(n/winogradLane-1)*vLane-1], u[n*width-1]
	winogradProductAVX2(&m[0], mLane, &v[0], vLane, &u[0], tiles, n, add, width == 16)
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

func winogradInputs(e *engine, class int, v []float32, vTile, vStep, vLane int, x []float32, at []int32, row, col, groups int) {
	if e.kind == portable {
		winogradInputsPortable(class, v, vTile, vStep, vLane, x, at, row, col, groups)
		return
	}
	down, across := class/winogradSizes, class%winogradSizes
	last := groups*winogradLane - 1
	_ = v[(len(at)-1)*vTile+(winogradTaps-1)*vStep+(groups-1)*vLane+winogradLane-1]
	for _, from := range at {
		_ = x[int(from)+(5-down)*row+(5-across)*col+last]
	}
	if class == 0 {
		winogradInputsAVX2(&v[0], vTile, vStep, vLane, &x[0], &at[0], len(at), row, col, groups)
		return
	}
	for t, from := range at {
		winogradSmallInputsAVX2(&v[t*vTile], vStep, vLane, &x[from], row, col, groups, down, across)
	}
}

func winogradOutputs(e *engine, class int, y []float32, at []int32, row, col int, m []float32, mTile, mStep, mLane int, bias []float32, groups int) {
	if e.kind == portable {
		winogradOutputsPortable(class, y, at, row, col, m, mTile, mStep, mLane, bias, groups)
		return
	}
	down, across := class/winogradSizes, class%winogradSizes
	last := groups*winogradLane - 1
	_, _ = m[(len(at)-1)*mTile+(winogradTaps-1)*mStep+(groups-1)*mLane+winogradLane-1], bias[last]
	for _, to := range at {
		_ = y[int(to)+(3-down)*row+(3-across)*col+last]
	}
	if class == 0 {
		winogradOutputsAVX2(&y[0], &at[0], len(at), row, col, &m[0], mTile, mStep, mLane, &bias[0], groups)
		return
	}
	for t, to := range at {
		winogradSmallOutputsAVX2(&y[to], row, col, &m[t*mTile], mStep, mLane, &bias[0], groups, down, across)
	}
}

func winogradWeights(e *engine, u []float32, uStep, next int, w []float32, wStep, n int, all bool) {
	if e.kind == portable {
		winogradWeightsPortable(u, uStep, next, w, wStep, n)
		return
	}
	_, _ = u[(winogradTaps-1)*uStep+(n-1)*next+winogradLane-1], w[(9*n-1)*wStep+winogradLane-1]
	winogradWeightsAVX2(&u[0], uStep, next, &w[0], wStep, n, all)
}

// winogradFillAVX2 is winogradFillPortable for 8 channels, or 4 if half; rows is 1 or more and cols 8 or more.
//
//go:noescape
func winogradFillAVX2(dst *float32, line, pixel int, src *float32, plane, width, rows, cols int, half bool)

func winogradFill(e *engine, dst []float32, line, pixel int, src []float32, plane, width, rows, cols, channels int) {
	if e.kind == portable || cols < 8 || channels != 8 && channels != 4 {
		winogradFillPortable(dst, line, pixel, src, plane, width, rows, cols, channels)
		return
	}
	_, _ = dst[(rows-1)*line+(cols-1)*pixel+winogradLane-1], src[(channels-1)*plane+(rows-1)*width+cols-1]
	winogradFillAVX2(&dst[0], line, pixel, &src[0], plane, width, rows, cols, channels == 4)
}

// winogradEmptyAVX2 transposes 8 channels of an image, or 4 if half, back into planes:
// y[q*plane + i*width + j] = src[i*line + j*pixel + q] (+ residual[q*plane + i*width + j] if there is one), for i < rows and j < cols, a
// multiple of 8. Both are 1 or more. The residual may be y.
//
//go:noescape
func winogradEmptyAVX2(y *float32, plane, width int, residual *float32, src *float32, line, pixel, rows, cols int, half bool)

// winogradEmpty does what winogradEmptyAVX2 says and returns of how many columns: not of those that make no whole block.
func winogradEmpty(e *engine, y []float32, plane, width int, residual, src []float32, line, pixel, rows, cols, channels int) int {
	cols &^= 7
	if e.kind == portable || cols == 0 || channels != 8 && channels != 4 {
		return 0
	}
	last := (channels-1)*plane + (rows-1)*width + cols - 1
	_, _ = y[last], src[(rows-1)*line+(cols-1)*pixel+winogradLane-1]
	var add *float32
	if residual != nil {
		_ = residual[last]
		add = &residual[0]
	}
	winogradEmptyAVX2(&y[0], plane, width, add, &src[0], line, pixel, rows, cols, channels == 4)
	return cols
}
