package kernels

// strip is one packed panel of B times some rows of A, with everything that is added to the sums on their way out. With
// A[i,p] = a[i/mr*step + i%mr*ars + p*acs] for the engine's mr and nr = 2*vec columns:
//
//	for i < m, j < nr:
//		s := 0
//		for p < k: s += A[i,p] * b[p*nr + j]      (in this order)
//		c[i*ldc+j] = ((s + bias[j]) + from[i*ldf+j]) + residual[i*ldr+j]      (as far as these are not nil)
//
// from and residual may be c itself, at the same distance of rows.
type strip struct {
	a, b, c        []float32
	bias           []float32
	from, residual []float32
	next           []float32 // what is wanted after this, or nil: it is fetched into the cache meanwhile, a hint only
	m, k           int
	ars, acs, step int
	ldc, ldf, ldr  int
	ahead          int // how many bytes of next go with four terms of mr rows
}

// generic is strip for any engine, by its micro-kernel for tiles.
func (s *strip) generic(e *engine) {
	if s.residual == nil {
		s.sums(e, s.c, s.ldc, 0, s.m)
		return
	}
	buffers := gemmPool.Get().(*gemmBuffers)
	defer gemmPool.Put(buffers)
	out, nr := buffers.tile[:], 2*e.vec
	rows := gemmRows / e.mr * e.mr
	for i := 0; i < s.m; i += rows {
		n := min(rows, s.m-i)
		s.sums(e, out, nr, i, n)
		for r := range n {
			at := (i + r) * s.ldr
			vecAdd(s.c[(i+r)*s.ldc:][:nr], out[r*nr:][:nr], s.residual[at:at+nr])
		}
	}
}

// sums does rows [i,i+n) without the residual, into dst.
func (s *strip) sums(e *engine, dst []float32, ldd, i, n int) {
	nr := 2 * e.vec
	add := s.from != nil || s.bias != nil
	if add && !(s.bias == nil && s.ldf == ldd && &dst[0] == &s.from[i*s.ldf]) {
		for r := range n {
			row := dst[r*ldd:][:nr]
			switch {
			case s.from == nil:
				copy(row, s.bias)
			case s.bias == nil:
				copy(row, s.from[(i+r)*s.ldf:])
			default:
				panic("kernels: a strip has a bias or something to add to, not both")
			}
		}
	}
	t := tile{b0: s.b, b1: s.b[e.vec:], off: packedOffsets[nr][:s.k], ars: s.ars, acs: s.acs, ldc: ldd, add: add}
	for r := 0; r < n; r += e.mr {
		t.a, t.m = s.a[(i+r)/e.mr*s.step:], min(e.mr, n-r)
		t.c0, t.c1 = dst[r*ldd:], dst[r*ldd+e.vec:]
		t.run(e)
	}
}
