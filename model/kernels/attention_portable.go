package kernels

import "math"

// This file specifies the loops of attention_amd64.h and is what runs without
// them. A strip's arrays have cols columns, one a query.

// Power of two: 2^x = 2^n * 2^r, n = round(x), |r| <= 1/2. The polynomial is 1
// at 0 and has the smallest largest error in units of the last place; with all
// rounding 2^x is within 2.1 ulp.
const (
	exp2Magic = 12583039 // 1.5*2^23 + 127: the sum with x has n+127 in its low bits
	exp2Min   = -127     // results below 2^-126 are 0
	exp2Large = 1 << 20
	exp2C1    = 0.693146824836731
	exp2C2    = 0.24022236466407776
	exp2C3    = 0.05550891533493996
	exp2C4    = 0.009671762585639954
	exp2C5    = 0.0013225707225501537
)

// power2 returns 2^(x-m) for x <= m within 2.1 ulp, 0 where that is no normal
// number; NaN stays NaN. m is a whole number below exp2Large: it is taken off
// with the magic number, exactly.
func power2(x, m float32) float32 {
	if x < m+exp2Min {
		x = m + exp2Min
	}
	magic := exp2Magic - m
	n := x + magic
	r := x - (n - magic)
	p := float32(exp2C5)
	p = p*r + exp2C4
	p = p*r + exp2C3
	p = p*r + exp2C2
	p = p*r + exp2C1
	f := math.Float32frombits(math.Float32bits(n) << 23)
	return float32(p*(r*f)) + f
}

// scoresGo: for g < groups, i < 4, c < cols
//
//	s[4g+i,c] = sum over p < depth of k[g*pitch+4p+i]*q[p,c] (+ s[4g+i,c] if more)
//
// and top[c] becomes the maximum of itself and the column.
func scoresGo(s, k, q, top []float32, cols, groups, depth, pitch int, more bool) {
	var sums [3 * maxNR / 2]float32
	for g := range groups {
		for i := range 4 {
			row := s[(4*g+i)*cols:][:cols]
			productGo(sums[:cols], k[g*pitch+i:], 4, q, depth)
			for c, v := range sums[:cols] {
				if more {
					v += row[c]
				}
				row[c] = v
				if v > top[c] {
					top[c] = v
				}
			}
		}
	}
}

// productGo: y[c] = sum over p < n of a[p*step]*b[p,c], in this order.
// The conversions keep the compiler from fusing multiply and add.
func productGo(y, a []float32, step int, b []float32, n int) {
	cols := len(y)
	for c := 0; c < cols; c += 8 {
		out := y[c : c+8 : c+8]
		var s0, s1, s2, s3, s4, s5, s6, s7 float32
		for p := range n {
			x, row := a[p*step], b[p*cols+c:][:8]
			s0 += float32(x * row[0])
			s1 += float32(x * row[1])
			s2 += float32(x * row[2])
			s3 += float32(x * row[3])
			s4 += float32(x * row[4])
			s5 += float32(x * row[5])
			s6 += float32(x * row[6])
			s7 += float32(x * row[7])
		}
		out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7] = s0, s1, s2, s3, s4, s5, s6, s7
	}
}

// exponentialsGo: factor, the columns' old maxima, becomes 2^(m(factor) - m(top)),
// s [keys,cols] becomes 2^(s - m(top)), and sum = sum*factor + the columns' sums.
// m rounds up: whole numbers make the factors exact, and save a subtraction.
func exponentialsGo(s []float32, keys, cols int, top, sum, factor []float32) {
	up := func(x float32) float32 { return float32(math.Ceil(float64(x))) }
	for c := range cols {
		m, off := up(top[c]), float32(0)
		factor[c] = power2(up(factor[c])-m, 0)
		if !(math.Abs(float64(m)) <= exp2Large) {
			m, off = 0, m
		}
		var fresh float32
		for j := range keys {
			x := s[j*cols+c]
			if off != 0 {
				x -= off
			}
			e := power2(x, m)
			s[j*cols+c] = e
			fresh += e
		}
		sum[c] = float32(sum[c]*factor[c]) + fresh
	}
}

// valuesGo: for g < groups, i < 4, c < cols
//
//	acc[4g+i,c] = acc[4g+i,c]*factor[c] + sum over j < keys of v[g*pitch+4j+i]*s[j,c]
func valuesGo(acc, v, s, factor []float32, cols, groups, keys, pitch int) {
	var sums [3 * maxNR / 2]float32
	for g := range groups {
		for i := range 4 {
			productGo(sums[:cols], v[g*pitch+i:], 4, s, keys)
			row := acc[(4*g+i)*cols:][:cols]
			for c, v := range row {
				row[c] = float32(v*factor[c]) + sums[c]
			}
		}
	}
}

// scaleColumnsGo: y [rows,cols] times f [cols], row by row.
func scaleColumnsGo(y []float32, rows, cols int, f []float32) {
	for i := range rows {
		mulGo(y[i*cols:][:cols], y[i*cols:][:cols], f)
	}
}

// interleave4Go: y[4i..4i+3] = a[i], b[i], c[i], d[i].
func interleave4Go(y, a, b, c, d []float32) {
	for i := range a {
		g := y[4*i : 4*i+4 : 4*i+4]
		g[0], g[1], g[2], g[3] = a[i], b[i], c[i], d[i]
	}
}

// packFoursGo: y[g*pitch+4j+i] = x[j*ldx+4g+i] for g < groups, j < rows, i < 4.
func packFoursGo(y, x []float32, rows, ldx, groups, pitch int) {
	for g := range groups {
		for j := range rows {
			copy(y[g*pitch+4*j:][:4], x[j*ldx+4*g:][:4])
		}
	}
}

// outerGo: for r < 4*groups, c < cols: y[r,c] += sum over p < steps of w[r*ldw+p]*x[p,c].
func outerGo(y, w, x []float32, cols, groups, steps, ldw int) {
	var sums [3 * maxNR / 2]float32
	for r := range 4 * groups {
		productGo(sums[:cols], w[r*ldw:], 1, x, steps)
		addGo(y[r*cols:][:cols], y[r*cols:][:cols], sums[:cols])
	}
}
