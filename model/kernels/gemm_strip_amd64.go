//go:build amd64 && !noasm

package kernels

// stripAVX2 is strip.generic for 6 rows and 16 columns, with fused multiply-add: the same sums in the same order as tileAVX2.
//
//go:noescape
func stripAVX2(s *strip)

// packStripsAVX2 sets dst[(i*k+p)*6+r] = src[p*acs+i*6+r] for i < strips, p < k, r < 6; strips and k are 1 or more.
//
//go:noescape
func packStripsAVX2(dst, src *float32, strips, k, acs int)

// run computes the strip with the engine's micro-kernel.
func (s *strip) run(e *engine) {
	if e.kind != avx2 {
		s.generic(e)
		return
	}
	stripAVX2(s)
}

// packStrips lays whole panels of mr neighbouring rows out term by term, and returns how many panels it has done.
func packStrips(e *engine, dst, src []float32, strips, k, acs int) int {
	if e.kind != avx2 || strips == 0 || k == 0 {
		return 0
	}
	_, _ = dst[strips*k*6-1], src[(k-1)*acs+strips*6-1]
	packStripsAVX2(&dst[0], &src[0], strips, k, acs)
	return strips
}
