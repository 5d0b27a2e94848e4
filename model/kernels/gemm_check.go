package kernels

import (
	"fmt"
	"math"
)

// checkTile tries a micro-kernel with mr rows and groups of vec columns against the portable one, in about 100 microseconds:
// every number of rows up to one beyond two panels, sums of every remainder, A by rows and by columns, gaps between the rows
// of C, scattered groups, bias and addition. All values are small integers, so that every sum is exact and the results are equal
// bit by bit, fused or not. It compares all of C with its surroundings, so that a stray write counts too.
func checkTile(run func(*tile), mr, vec int) error {
	const maxK, gap = 11, 5
	maxM := 2*mr + 1
	bits := uint32(1)
	value := func() float32 { // -8 to 8, in an order that repeats after 2^32 values
		bits = bits*1664525 + 1013904223
		return float32(int(bits>>16)%17 - 8)
	}
	fill := func(n int) []float32 {
		s := make([]float32, n)
		for i := range s {
			s[i] = value()
		}
		return s
	}
	a, bias := fill(2*maxK*(maxM+gap)), fill(maxM)
	b := fill(maxK*(vec+gap) + 3*vec)
	before := fill((maxM+1)*(2*vec+gap) + 2*gap)
	got, want := make([]float32, len(before)), make([]float32, len(before))
	off := make([]int32, maxK)
	for m := 1; m <= maxM; m++ {
		k := 1 + m%maxK
		for p := range off { // rows of B in no order
			off[p] = int32(p * 3 % maxK * (vec + gap))
		}
		t := tile{a: a, off: off[:k], m: m, ars: 2 * maxK, acs: 2, ldc: 2*vec + gap, add: m%2 == 0}
		if m%3 == 0 { // A by columns
			t.ars, t.acs = 1, maxM+gap
		}
		if m%4 < 2 {
			t.bias = bias[:m]
		}
		first, second := gap, gap+vec+m%3
		if m%5 == 0 { // the groups in the other order
			first, second = second, first
		}
		t.b0, t.b1 = b[m%2*vec:], b[(m+1)%3*vec:]
		copy(got, before)
		t.c0, t.c1 = got[first:], got[second:]
		run(&t)
		copy(want, before)
		t.c0, t.c1 = want[first:], want[second:]
		tilePortable(&t, vec)
		for i, v := range got {
			if math.Float32bits(v) != math.Float32bits(want[i]) {
				return fmt.Errorf("a tile of %d rows with sums of %d terms: %g in place of %g at %d", m, k, v, want[i], i)
			}
		}
	}
	return nil
}
