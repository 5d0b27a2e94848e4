//go:build amd64 && !noasm

package kernels

// tileAVX2 is tilePortable with vec 8: the same sums in the same order, with fused multiply-add.
//
//go:noescape
func tileAVX2(t *tile)

// transposeAVX2 sets dst[j*ldd+i] = src[i*lds+j] for i < rows, j < cols, both multiples of 8.
//
//go:noescape
func transposeAVX2(dst *float32, ldd int, src *float32, lds, rows, cols int)

// peakAVX2 does 384 floating-point operations a round in registers: the machine's limit, for benchmarks. rounds is 1 or more.
//
//go:noescape
func peakAVX2(rounds int)

// copyRowsAVX2 sets dst[i*ldd+j] = src[i*lds+j] for i < rows, j < n; rows is 1 or more, n is 4 or more.
//
//go:noescape
func copyRowsAVX2(dst *float32, ldd int, src *float32, lds, rows, n int)

// gatherRowsAVX2 sets dst[p*16+4*i+j] = src[off[p]+i*pitch+j] for p < len(off), i < 4, j < 4; off is not empty.
//
//go:noescape
func gatherRowsAVX2(dst, src *float32, off []int32, pitch int)

// splitAVX2 sets even[i*ldd+j] = src[i*lds+2*j], odd[i*ldd+j] = src[i*lds+2*j+1] for i < rows, j < n; rows is 1 or more,
// n is 4 or more.
//
//go:noescape
func splitAVX2(even, odd *float32, ldd int, src *float32, lds, rows, n int)

// mergeAVX2 sets dst[i*ldd+2*j] = even[i*lde+j], dst[i*ldd+2*j+1] = odd[i*ldo+j] for i < rows, j < n; rows is 1 or more,
// n is 4 or more.
//
//go:noescape
func mergeAVX2(dst *float32, ldd int, even, odd *float32, lde, ldo, rows, n int)
