package kernels

import "math"

// This file specifies the loops of attention_amd64.h and is what runs without
// them. A strip's arrays have cols columns, one a query.

// Power of two: 2^x = 2^n * 2^(i/8) * 2^r, n + i/8 = round(8*x)/8, |r| <= 1/16.
// The polynomial is 1 at 0 and has the smallest largest error, 2.7e-8; with all
// rounding 2^x is within 1.5 ulp.
const (
	exp2Magic = 1572991 // 1.5*2^20 + 127: the sum with x has 8*(n+127)+i in its low bits
	exp2Min   = -127    // results below 2^-126 are 0
	exp2Large = 1 << 20
	exp2C1    = 0.6931472420692444
	exp2C2    = 0.2402576357126236
	exp2C3    = 0.0554962232708931
)

// exp2Roots has 2^(i/8), less 1 and less i where the shift leaves it, as bits.
var exp2Roots = [8]uint32{0, 0xfffb95c2, 0xfff837f0, 0xfff5fed7, 0xfff504f3, 0xfff5672a, 0xfff744fd, 0xfffac0c7}

// power2 returns 2^(x-m) for x below m+128 within 1.5 ulp, 0 where that is no
// normal number; NaN stays NaN. m is a whole number below exp2Large: it is taken
// off with the magic number, exactly.
func power2(x, m float32) float32 {
	if x < m+exp2Min {
		x = m + exp2Min
	}
	magic := exp2Magic - m
	n := x + magic
	r := x - (n - magic)
	p := float32(exp2C3)
	p = p*r + exp2C2
	p = p*r + exp2C1
	f := math.Float32frombits(math.Float32bits(n)<<20 + exp2Roots[math.Float32bits(n)&7])
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

// powersGo takes the scores of scoresGo to s = 2^(s - ref) and adds these to
// their sums. The rows of stats [4 or more,cols] are an attentionStrip's. It
// tells whether a maximum is so far above ref that powers, or sums of them,
// might overflow.
func powersGo(s, k, q, stats []float32, cols, groups, depth, pitch int, more bool) (risen bool) {
	top, low, sum := stats[:cols], stats[cols:2*cols], stats[3*cols:4*cols]
	scoresGo(s, k, q, top, cols, groups, depth, pitch, more)
	for j := range 4 * groups {
		row := s[j*cols : (j+1)*cols]
		for c, x := range row {
			row[c] = power2(x, low[c]-exp2Min)
			sum[c] += row[c]
		}
	}
	for c, x := range top {
		risen = risen || x-low[c] > attentionRise-exp2Min
	}
	return risen
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
//	acc[4g+i,c] = (acc[4g+i,c]*factor[c] if more) + sum over j < keys of v[g*pitch+4j+i]*s[j,c]
func valuesGo(acc, v, s, factor []float32, cols, groups, keys, pitch int, more bool) {
	var sums [3 * maxNR / 2]float32
	for g := range groups {
		for i := range 4 {
			productGo(sums[:cols], v[g*pitch+i:], 4, s, keys)
			row := acc[(4*g+i)*cols:][:cols]
			if !more {
				copy(row, sums[:])
				continue
			}
			for c, v := range row {
				row[c] = float32(v*factor[c]) + sums[c]
			}
		}
	}
}

// divideColumnsGo: y [rows,cols] times 1/f [cols], row by row; f becomes 1/f.
func divideColumnsGo(y []float32, rows, cols int, f []float32) {
	for c, v := range f[:cols] {
		f[c] = 1 / v
	}
	for i := range rows {
		mulGo(y[i*cols:][:cols], y[i*cols:][:cols], f)
	}
}

// interleave4Go: y[4i..4i+3] = a[i], b[i], c[i], d[i], times scale.
func interleave4Go(y, a, b, c, d []float32, scale float32) {
	for i := range a {
		g := y[4*i : 4*i+4 : 4*i+4]
		g[0], g[1], g[2], g[3] = a[i]*scale, b[i]*scale, c[i]*scale, d[i]*scale
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
