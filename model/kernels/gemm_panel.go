package kernels

// panel is rows of A times one packed panel of B, nr = 24 columns wide or 16 if narrow:
//
//	for i < m, j < nr:
//		s := 0
//		for p < k: s += a[i*ars + p] * b[p*nr + j]      (in this order)
//		c[i*ldc + j] = s (+ bias[i]) (+ c[i*ldc + j] if add)
//
// On the way it may pack the panel that comes next, of as many rows, where loads and stores cost nothing beside the multiplications. In
// groups of 8 columns:
//
//	for p < k, j < 8: to[p*step/4 + 8*g + j] = from_g[off[p] + j]      (g = 0, 1, 2 in this order)
//
// so that a step of 64 makes a narrow panel, with a third group that is overwritten except for the last.
type panel struct {
	a, b, c, bias       []float32
	m, k, ars, ldc      int
	add, narrow         bool
	to                  []float32
	off                 []int32 // nil: nothing is packed; else m is 8 or more
	from0, from1, from2 []float32
	step                int // bytes
	// later is from of the panel after the next: what it begins with is fetched into the cache, a hint only.
	later0, later1, later2 []float32
}

// width returns the number of columns.
func (p *panel) width() int {
	if p.narrow {
		return 16
	}
	return panelWidth
}

// generic is panel in plain Go, the specification of the assembly. The conversion keeps the compiler from fusing multiply and add.
func (p *panel) generic() {
	nr := p.width()
	for i := range p.m {
		row := p.c[i*p.ldc:][:nr]
		var sums [panelWidth]float32
		for q, x := range p.a[i*p.ars:][:p.k] {
			for j, v := range p.b[q*nr:][:nr] {
				sums[j] += float32(x * v)
			}
		}
		for j := range row {
			s := sums[j]
			if p.bias != nil {
				s += p.bias[i]
			}
			if p.add {
				s += row[j]
			}
			row[j] = s
		}
	}
	for q, o := range p.off {
		for i, from := range [3][]float32{p.from0, p.from1, p.from2} {
			copy(p.to[q*p.step/4+8*i:][:8], from[o:])
		}
	}
}
