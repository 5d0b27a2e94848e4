package kernels

// tilePortable is the micro-kernel in plain Go, for groups of vec columns, a multiple of 4: the specification of the assembly
// ones. It works on 2 rows by 4 columns at a time, which is what fits the scalar registers. The conversions keep the compiler
// from fusing multiply and add, so that this path has the same bits on every architecture.
func tilePortable(t *tile, vec int) {
	for i := 0; i < t.m; i += 2 {
		for j := 0; j < vec; j += 4 {
			if i+1 < t.m {
				portable2x4(t, i, t.b0[j:], t.c0[j:])
				if !t.one {
					portable2x4(t, i, t.b1[j:], t.c1[j:])
				}
			} else {
				portable1x4(t, i, t.b0[j:], t.c0[j:])
				if !t.one {
					portable1x4(t, i, t.b1[j:], t.c1[j:])
				}
			}
		}
	}
}

func portable2x4(t *tile, i int, b, c []float32) {
	var s00, s01, s02, s03, s10, s11, s12, s13 float32
	a, ai, step := t.a, i*t.ars, t.acs
	aj := ai + t.ars
	for _, o := range t.off {
		row := b[o : int(o)+4 : int(o)+4]
		x, y := a[ai], a[aj]
		ai += step
		aj += step
		s00 += float32(x * row[0])
		s01 += float32(x * row[1])
		s02 += float32(x * row[2])
		s03 += float32(x * row[3])
		s10 += float32(y * row[0])
		s11 += float32(y * row[1])
		s12 += float32(y * row[2])
		s13 += float32(y * row[3])
	}
	t.store(i, c, s00, s01, s02, s03)
	t.store(i+1, c, s10, s11, s12, s13)
}

func portable1x4(t *tile, i int, b, c []float32) {
	var s0, s1, s2, s3 float32
	a, ai, step := t.a, i*t.ars, t.acs
	for _, o := range t.off {
		row := b[o : int(o)+4 : int(o)+4]
		x := a[ai]
		ai += step
		s0 += float32(x * row[0])
		s1 += float32(x * row[1])
		s2 += float32(x * row[2])
		s3 += float32(x * row[3])
	}
	t.store(i, c, s0, s1, s2, s3)
}

// store ends the sums of one row of four columns: with bias and with what C holds, if asked for.
func (t *tile) store(i int, c []float32, s0, s1, s2, s3 float32) {
	row := c[i*t.ldc : i*t.ldc+4 : i*t.ldc+4]
	if t.bias != nil {
		b := t.bias[i]
		s0, s1, s2, s3 = s0+b, s1+b, s2+b, s3+b
	}
	if t.add {
		s0, s1, s2, s3 = s0+row[0], s1+row[1], s2+row[2], s3+row[3]
	}
	row[0], row[1], row[2], row[3] = s0, s1, s2, s3
}
