//go:build amd64 && !noasm

#include "textflag.h"

// Sums in float64 of float32 numbers and of their squares, which are exact products there.

DATA normOne<>+0(SB)/8, $1.0
GLOBL normOne<>(SB), RODATA|NOPTR, $8

// SUMS16 adds sixteen numbers at SI to the sums in Y0..Y3 and of squares in Y4..Y7.
#define SUMS16 \
	VCVTPS2PD (SI), Y8; \
	VCVTPS2PD 16(SI), Y9; \
	VCVTPS2PD 32(SI), Y10; \
	VCVTPS2PD 48(SI), Y11; \
	VADDPD Y8, Y0, Y0; \
	VADDPD Y9, Y1, Y1; \
	VADDPD Y10, Y2, Y2; \
	VADDPD Y11, Y3, Y3; \
	VFMADD231PD Y8, Y8, Y4; \
	VFMADD231PD Y9, Y9, Y5; \
	VFMADD231PD Y10, Y10, Y6; \
	VFMADD231PD Y11, Y11, Y7

#define NOSUMS \
	VXORPD Y0, Y0, Y0; \
	VXORPD Y1, Y1, Y1; \
	VXORPD Y2, Y2, Y2; \
	VXORPD Y3, Y3, Y3; \
	VXORPD Y4, Y4, Y4; \
	VXORPD Y5, Y5, Y5; \
	VXORPD Y6, Y6, Y6; \
	VXORPD Y7, Y7, Y7

// FOLDSUMS: the low half of X0 = the sum, that of X4 = the sum of squares.
#define FOLDSUMS \
	VADDPD Y2, Y0, Y0; \
	VADDPD Y6, Y4, Y4; \
	VADDPD Y3, Y1, Y1; \
	VADDPD Y7, Y5, Y5; \
	VADDPD Y1, Y0, Y0; \
	VADDPD Y5, Y4, Y4; \
	VEXTRACTF128 $1, Y0, X1; \
	VEXTRACTF128 $1, Y4, X5; \
	VADDPD X1, X0, X0; \
	VADDPD X5, X4, X4; \
	VPERMILPD $1, X0, X1; \
	VPERMILPD $1, X4, X5; \
	VADDSD X1, X0, X0; \
	VADDSD X5, X4, X4

// func sumsAVX2(x *float32, n int) (sum, squares float64)
TEXT ·sumsAVX2(SB), NOSPLIT, $0-32
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	NOSUMS
	SUBQ $16, CX
	JLT  fold
loop:
	SUMS16
	ADDQ $64, SI
	SUBQ $16, CX
	JGE  loop
fold:
	FOLDSUMS
	ADDQ $16, CX
	JZ   done
rest:
	VXORPS X1, X1, X1
	VCVTSS2SD (SI), X1, X1
	VADDSD X1, X0, X0
	VFMADD231SD X1, X1, X4
	ADDQ $4, SI
	DECQ CX
	JNZ  rest
done:
	VMOVSD X0, sum+16(FP)
	VMOVSD X4, squares+24(FP)
	VZEROUPPER
	RET

// func layerNormAVX2(y, x, gamma, beta *float32, rows, c int, eps float64)
//
// rows is 1 or more, c a multiple of 16.
TEXT ·layerNormAVX2(SB), NOSPLIT, $0-56
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ gamma+16(FP), R8
	MOVQ beta+24(FP), R9
	MOVQ rows+32(FP), R10
	MOVQ c+40(FP), R11
	VMOVSD eps+48(FP), X13
	VMOVSD normOne<>(SB), X14
	VCVTSI2SDQ R11, X14, X15
	VDIVSD X15, X14, X15          // 1/c
	SHLQ $2, R11                  // bytes of a row
row:
	NOSUMS
	MOVQ R11, CX
sums:
	SUMS16
	ADDQ $64, SI
	SUBQ $64, CX
	JNZ  sums
	SUBQ R11, SI
	FOLDSUMS
	VMULSD X15, X0, X0            // mean
	VMULSD X15, X4, X4
	VFNMADD231SD X0, X0, X4       // variance
	VXORPD X1, X1, X1
	VMAXSD X4, X1, X4             // NaN stays NaN
	VADDSD X13, X4, X4
	VSQRTSD X4, X4, X4
	VDIVSD X4, X14, X4            // rstd
	VMULSD X0, X4, X0
	VCVTSD2SS X4, X4, X4
	VCVTSD2SS X0, X0, X0
	VBROADCASTSS X4, Y4
	VBROADCASTSS X0, Y0
	XORQ CX, CX
normalise:
	VMOVUPS (SI)(CX*1), Y1
	VMOVUPS 32(SI)(CX*1), Y2
	VFMSUB213PS Y0, Y4, Y1
	VFMSUB213PS Y0, Y4, Y2
	VMOVUPS (R8)(CX*1), Y5
	VMOVUPS 32(R8)(CX*1), Y6
	VFMADD213PS (R9)(CX*1), Y5, Y1
	VFMADD213PS 32(R9)(CX*1), Y6, Y2
	VMOVUPS Y1, (DI)(CX*1)
	VMOVUPS Y2, 32(DI)(CX*1)
	ADDQ $64, CX
	CMPQ CX, R11
	JLT  normalise
	ADDQ R11, SI
	ADDQ R11, DI
	DECQ R10
	JNZ  row
	VZEROUPPER
	RET
