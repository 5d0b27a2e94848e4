package kernels

// The transforms of Winograd's convolution in plain Go: the specification of the assembly, which fuses multiplications and
// additions. The conversions keep the compiler from doing so here, for the same bits on every architecture.

// winogradInput1 is B' d along one direction.
func winogradInput1(d *[6]float32) [6]float32 {
	k := &winogradInput
	e, f := d[4]-float32(k[3]*d[2]), d[3]-float32(k[3]*d[1])
	g, h := d[4]-float32(k[2]*d[2]), d[3]-float32(k[2]*d[1])
	return [6]float32{
		d[4] - float32(k[1]*d[2]) + float32(k[0]*d[0]),
		e + float32(k[4]*f), e - float32(k[4]*f),
		g + float32(k[5]*h), g - float32(k[5]*h),
		d[5] - float32(k[1]*d[3]) + float32(k[0]*d[1]),
	}
}

// winogradOutput1 is A' m along one direction.
func winogradOutput1(m *[6]float32) [4]float32 {
	k := &winogradOutput
	s, t, u, v := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [4]float32{
		m[0] + s + u,
		float32(k[1]*v) + float32(k[0]*t),
		float32(k[3]*u) + float32(k[2]*s),
		m[5] + float32(k[5]*v) + float32(k[4]*t),
	}
}

// winogradWeight1 is G g along one direction.
func winogradWeight1(g *[3]float32) [6]float32 {
	k := &winogradWeight
	e, f := float32(k[1]*g[0])+float32(k[3]*g[2]), float32(k[2]*g[1])
	h, i := float32(k[4]*g[0])+float32(k[6]*g[2]), float32(k[5]*g[1])
	return [6]float32{float32(k[0] * g[0]), e + f, e - f, h + i, h - i, g[2]}
}

// winogradInputsPortable transforms one tile of groups*8 channels: v[(6*i+j)*vStep + c] = (B' d B)[i][j] of channel c, with
// d[i][j] = x[i*row + j*col + c].
func winogradInputsPortable(v []float32, vStep int, x []float32, row, col, groups int) {
	for c := range groups * winogradLane {
		var half [6][6]float32 // [column][row]
		for j := range 6 {
			var d [6]float32
			for i := range 6 {
				d[i] = x[i*row+j*col+c]
			}
			half[j] = winogradInput1(&d)
		}
		for i := range 6 {
			d := [6]float32{half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i]}
			for j, r := range winogradInput1(&d) {
				v[(6*i+j)*vStep+c] = r
			}
		}
	}
}

// winogradOutputsPortable transforms one tile of groups*8 channels back: y[i*row + j*col + c] = (A' m A)[i][j] + bias[c], with
// m[i][j] = m[(6*i+j)*mStep + c].
func winogradOutputsPortable(y []float32, row, col int, m []float32, mStep int, bias []float32, groups int) {
	for c := range groups * winogradLane {
		var half [6][4]float32
		for i := range 6 {
			var d [6]float32
			for j := range 6 {
				d[j] = m[(6*i+j)*mStep+c]
			}
			half[i] = winogradOutput1(&d)
		}
		for j := range 4 {
			d := [6]float32{half[0][j], half[1][j], half[2][j], half[3][j], half[4][j], half[5][j]}
			for i, r := range winogradOutput1(&d) {
				y[i*row+j*col+c] = r + bias[c]
			}
		}
	}
}

// winogradWeightsPortable transforms 8 outputs of n input channels: u[(6*i+j)*uStep + c*next + o] = (G g G')[i][j] of input c
// and output o, with g[i][j] = w[(9*c+3*i+j)*wStep + o].
func winogradWeightsPortable(u []float32, uStep, next int, w []float32, wStep, n int) {
	for c := range n {
		for o := range winogradLane {
			var half [3][6]float32
			for j := range 3 {
				at := (9*c+j)*wStep + o
				half[j] = winogradWeight1(&[3]float32{w[at], w[at+3*wStep], w[at+6*wStep]})
			}
			for i := range 6 {
				for j, r := range winogradWeight1(&[3]float32{half[0][i], half[1][i], half[2][i]}) {
					u[(6*i+j)*uStep+c*next+o] = r
				}
			}
		}
	}
}
