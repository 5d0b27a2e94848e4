//go:build amd64 && !noasm

// The AVX-512 micro-kernel was written on a machine without AVX-512 and verified as follows; it has not run on such a
// processor yet, and its speed has not been measured. (1) Its assembled bytes ran in the emulator Bochs 2.7 (model Skylake-X,
// 64-bit mode, no operating system) on 1200 random tiles of 0 to 39 rows and sums of 0 to 256 terms, with strides, scattered
// offsets, bias, addition, adjacent and equal groups: C and all around it equalled a scalar loop of fused multiply-adds in
// every bit, and a kernel with one instruction changed was found out. (2) A mechanical translation of its disassembly, each
// 512-bit instruction done as two 256-bit ones, passed this package's tests as the "avx512" path, among them the equality of
// its products with AVX2's in every bit, and tiles whose slices end at pages that may not be touched. (3) Where the path is
// chosen, checkTile tries it first, and a mismatch leaves the AVX2 path in use.
package kernels

// tileAVX512 is tilePortable with vec 16: the same sums in the same order, with fused multiply-add.
//
//go:noescape
func tileAVX512(t *tile)

// peakAVX512 does 384 floating-point operations a round in registers: the machine's limit, for benchmarks. rounds is 1 or more.
//
//go:noescape
func peakAVX512(rounds int)
