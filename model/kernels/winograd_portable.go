package kernels

// The transforms of Winograd's convolution in plain Go: the specification of the assembly, which fuses multiplications and
// additions. The conversions keep the compiler from doing so here, for the same bits on every architecture.

// winogradInput1 is B' d along one direction, for a tile of 4-size outputs, which sees the first 6-size elements of d.
func winogradInput1(size int, d *[6]float32) [6]float32 {
	k := &winogradInput
	switch l := &winogradSmall; size {
	case 1:
		e, f := float32(k[4]*(d[3]-float32(k[3]*d[1]))), float32(k[2]*(d[2]-float32(k[3]*d[0])))
		g, h := float32(k[5]*(d[3]-float32(k[2]*d[1]))), float32(k[3]*(d[2]-float32(k[2]*d[0])))
		return [6]float32{0, f + e, f - e, h + g, h - g, d[4] - float32(k[1]*d[2]) + float32(k[0]*d[0])}
	case 2:
		e, f := d[2]-float32(k[5]*d[1]), d[1]-float32(k[5]*d[0])
		return [6]float32{
			1: float32(l[0]*e) + float32(l[1]*f), 2: float32(l[2]*e) - float32(l[3]*f), 3: float32(l[4] * (d[2] - float32(k[2]*d[0]))),
			5: d[3] - float32(k[5]*d[2]) - float32(k[2]*f),
		}
	}
	e, f := d[4]-float32(k[3]*d[2]), d[3]-float32(k[3]*d[1])
	g, h := d[4]-float32(k[2]*d[2]), d[3]-float32(k[2]*d[1])
	return [6]float32{
		d[4] - float32(k[1]*d[2]) + float32(k[0]*d[0]),
		e + float32(k[4]*f), e - float32(k[4]*f),
		g + float32(k[5]*h), g - float32(k[5]*h),
		d[5] - float32(k[1]*d[3]) + float32(k[0]*d[1]),
	}
}

// winogradOutput1 is A' m along one direction, for a tile of 4-size outputs.
func winogradOutput1(size int, m *[6]float32) [4]float32 {
	k := &winogradOutput
	s, t := m[1]+m[2], m[1]-m[2]
	if size == 2 {
		return [4]float32{s + m[3], m[5] + float32(k[1]*m[3]) + float32(k[0]*t)}
	}
	u, v := m[3]+m[4], m[3]-m[4]
	if size == 1 {
		return [4]float32{s + u, float32(k[1]*v) + float32(k[0]*t), m[5] + float32(k[3]*u) + float32(k[2]*s)}
	}
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

// winogradInputsPortable transforms groups*8 channels of tiles of a class: v[t*vTile + (6*i+j)*vStep + c/8*vLane + c%8] = (B' d B)[i][j] of
// channel c of tile t, with d[i][j] = x[at[t] + i*row + j*col + c].
func winogradInputsPortable(class int, v []float32, vTile, vStep, vLane int, x []float32, at []int32, row, col, groups int) {
	down, across := class/winogradSizes, class%winogradSizes
	for t, first := range at {
		v, x := v[t*vTile:], x[first:]
		for c := range groups * winogradLane {
			var half [6][6]float32 // [column][row]
			for j := range 6 - across {
				var d [6]float32
				for i := range 6 - down {
					d[i] = x[i*row+j*col+c]
				}
				half[j] = winogradInput1(down, &d)
			}
			for i := range 6 {
				d := [6]float32{half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i]}
				for j, r := range winogradInput1(across, &d) {
					if winogradTakes(class, 6*i+j) {
						v[(6*i+j)*vStep+c/winogradLane*vLane+c%winogradLane] = r
					}
				}
			}
		}
	}
}

// winogradOutputsPortable transforms groups*8 outputs of tiles of a class back: y[at[t] + i*row + j*col + c] = (A' m A)[i][j] + bias[c],
// with m[i][j] = m[t*mTile + (6*i+j)*mStep + c/8*mLane + c%8].
func winogradOutputsPortable(class int, y []float32, at []int32, row, col int, m []float32, mTile, mStep, mLane int, bias []float32, groups int) {
	down, across := class/winogradSizes, class%winogradSizes
	for t, first := range at {
		y, m := y[first:], m[t*mTile:]
		for c := range groups * winogradLane {
			var half [6][4]float32
			for i := range 6 {
				var d [6]float32
				for j := range 6 {
					if winogradTakes(class, 6*i+j) {
						d[j] = m[(6*i+j)*mStep+c/winogradLane*mLane+c%winogradLane]
					}
				}
				half[i] = winogradOutput1(across, &d)
			}
			for j := range 4 - across {
				d := [6]float32{half[0][j], half[1][j], half[2][j], half[3][j], half[4][j], half[5][j]}
				for i, r := range winogradOutput1(down, &d) {
					if i < 4-down {
						y[i*row+j*col+c] = r + bias[c]
					}
				}
			}
		}
	}
}

// winogradFillPortable transposes up to 8 channels of some rows of an image, and zeros for the missing ones:
// dst[i*line + j*pixel + q] = src[q*plane + i*width + j].
func winogradFillPortable(dst []float32, line, pixel int, src []float32, plane, width, rows, cols, channels int) {
	for i := range rows {
		for j := range cols {
			to := dst[i*line+j*pixel:][:winogradLane]
			clear(to)
			for q := range channels {
				to[q] = src[q*plane+i*width+j]
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
