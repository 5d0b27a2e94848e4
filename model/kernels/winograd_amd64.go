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
