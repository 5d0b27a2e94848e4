//go:build amd64 && !noasm

#include "textflag.h"

#define LANES 8
#define VB 32
#define V0 Y0
#define V1 Y1
#define V2 Y2
#define V3 Y3
#define V4 Y4
#define V5 Y5
#define V6 Y6
#define V7 Y7
#define V8 Y8
#define V9 Y9
#define V10 Y10
#define V11 Y11
#define V12 Y12
#define V13 Y13
#define V14 Y14
#define V15 Y15

#define CEIL(x) VROUNDPS $2, x, x
#define ABOVE(limit, x) VPCMPGTD limit, x, x; VMOVMSKPS x, AX

#include "attention_const_amd64.h"
#include "attention_amd64.h"

// func scores3AVX2(s, k, q, top *float32, groups, depth, pitch, more int)
TEXT ·scores3AVX2(SB), NOSPLIT, $0-64
	SCORES(STEP3, 96, ZERO12, ADD12, PUT12, TOPS3)

// func scores2AVX2(s, k, q, top *float32, groups, depth, pitch, more int)
TEXT ·scores2AVX2(SB), NOSPLIT, $0-64
	SCORES(STEP2, 64, ZERO8, ADD8, PUT8, TOPS2)

// func powers3AVX2(s, k, q, stats *float32, groups, depth, pitch, more int) (risen int)
TEXT ·powers3AVX2(SB), NOSPLIT, $0-72
	PROBABILITIES(STEP3, 96, ZERO12, ADD12, PUT12, TOPS3, POWERS3, RISES3)

// func powers2AVX2(s, k, q, stats *float32, groups, depth, pitch, more int) (risen int)
TEXT ·powers2AVX2(SB), NOSPLIT, $0-72
	PROBABILITIES(STEP2, 64, ZERO8, ADD8, PUT8, TOPS2, POWERS2, RISES2)

// func values3AVX2(acc, v, s, factor *float32, groups, keys, pitch, more int)
TEXT ·values3AVX2(SB), NOSPLIT, $0-64
	VALUES(STEP3, 96, ZERO12, KEEPS3, PUT12)

// func values2AVX2(acc, v, s, factor *float32, groups, keys, pitch, more int)
TEXT ·values2AVX2(SB), NOSPLIT, $0-64
	VALUES(STEP2, 64, ZERO8, KEEPS2, PUT8)

// func outer3AVX2(y, w, x *float32, groups, steps, ldw int)
TEXT ·outer3AVX2(SB), NOSPLIT, $0-48
	OUTER(OUTER3, 96, ZERO12, ADD12, PUT12)

// func outer2AVX2(y, w, x *float32, groups, steps, ldw int)
TEXT ·outer2AVX2(SB), NOSPLIT, $0-48
	OUTER(OUTER2, 64, ZERO8, ADD8, PUT8)

// func exponentialsAVX2(s *float32, keys, cols int, top, sum, factor *float32)
TEXT ·exponentialsAVX2(SB), NOSPLIT, $0-48
	EXPONENTIALS

// func divideColumnsAVX2(y *float32, rows, cols int, f *float32)
TEXT ·divideColumnsAVX2(SB), NOSPLIT, $0-32
	DIVIDECOLUMNS

// func interleave4AVX2(y, a, b, c, d *float32, n int, scale float32): y[4i], y[4i+1], y[4i+2], y[4i+3] = a[i], b[i], c[i], d[i], times
// scale, n a multiple of 4, not 0
TEXT ·interleave4AVX2(SB), NOSPLIT, $0-52
	VBROADCASTSS scale+48(FP), X8
	MOVQ y+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), BX
	MOVQ c+24(FP), R8
	MOVQ d+32(FP), R9
	MOVQ n+40(FP), CX
	XORQ AX, AX
next:
	VMULPS (SI)(AX*4), X8, X0
	VMULPS (BX)(AX*4), X8, X1
	VMULPS (R8)(AX*4), X8, X2
	VMULPS (R9)(AX*4), X8, X3
	VUNPCKLPS X1, X0, X4       // a0 b0 a1 b1
	VUNPCKHPS X1, X0, X5
	VUNPCKLPS X3, X2, X6       // c0 d0 c1 d1
	VUNPCKHPS X3, X2, X7
	VUNPCKLPD X6, X4, X0
	VUNPCKHPD X6, X4, X1
	VUNPCKLPD X7, X5, X2
	VUNPCKHPD X7, X5, X3
	VMOVUPS X0, (DI)
	VMOVUPS X1, 16(DI)
	VMOVUPS X2, 32(DI)
	VMOVUPS X3, 48(DI)
	ADDQ $64, DI
	ADDQ $4, AX
	CMPQ AX, CX
	JLT  next
	VZEROUPPER
	RET

// func packFoursAVX2(y, x *float32, rows, ldx, groups, pitch int): y[g*pitch+4*j+i] = x[j*ldx+4*g+i] for g < groups, j < rows, i < 4, rows and groups 1 or more
TEXT ·packFoursAVX2(SB), NOSPLIT, $0-48
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ rows+16(FP), R8
	MOVQ ldx+24(FP), R9
	SHLQ $2, R9
	MOVQ groups+32(FP), R10
	MOVQ pitch+40(FP), R11
	SHLQ $2, R11
group:
	MOVQ SI, AX
	MOVQ DI, DX
	MOVQ R8, CX
row:
	VMOVUPS (AX), X0
	VMOVUPS X0, (DX)
	ADDQ R9, AX
	ADDQ $16, DX
	DECQ CX
	JNZ  row
	ADDQ $16, SI
	ADDQ R11, DI
	DECQ R10
	JNZ  group
	RET
