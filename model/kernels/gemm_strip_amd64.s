//go:build amd64 && !noasm

#include "go_asm.h"
#include "textflag.h"

// The micro-kernel for packed panels holds 6 rows by 16 columns of C:
//
//	Y0..Y11   accumulators, row i in Y(2i) and Y(2i+1)
//	Y12, Y13  one row of B, later the bias
//	Y14, Y15  an element of A in every lane
//	DI  the strip           SI  A, first row of the panel     R10 walks B
//	R8  ars in bytes        R9  acs in bytes                  R12 what is fetched ahead
//	R13 C                   R15 from                          R11 residual
//	AX, DX  walk A at rows 0 and 3, later a matrix likewise   BX, R14, CX  scratch
//
// Rows 0..5 of a matrix are AX, AX+S, AX+2*S, DX, DX+S, DX+2*S, with S its distance of rows.

#define ROW0 VBROADCASTSS (AX), Y14; VFMADD231PS Y12, Y14, Y0; VFMADD231PS Y13, Y14, Y1
#define ROW1 VBROADCASTSS (AX)(R8*1), Y15; VFMADD231PS Y12, Y15, Y2; VFMADD231PS Y13, Y15, Y3
#define ROW2 VBROADCASTSS (AX)(R8*2), Y14; VFMADD231PS Y12, Y14, Y4; VFMADD231PS Y13, Y14, Y5
#define ROW3 VBROADCASTSS (DX), Y15; VFMADD231PS Y12, Y15, Y6; VFMADD231PS Y13, Y15, Y7
#define ROW4 VBROADCASTSS (DX)(R8*1), Y14; VFMADD231PS Y12, Y14, Y8; VFMADD231PS Y13, Y14, Y9
#define ROW5 VBROADCASTSS (DX)(R8*2), Y15; VFMADD231PS Y12, Y15, Y10; VFMADD231PS Y13, Y15, Y11

#define ROWS1 ROW0
#define ROWS2 ROW0; ROW1
#define ROWS3 ROW0; ROW1; ROW2
#define ROWS4 ROW0; ROW1; ROW2; ROW3
#define ROWS5 ROW0; ROW1; ROW2; ROW3; ROW4
#define ROWS6 ROW0; ROW1; ROW2; ROW3; ROW4; ROW5

#define STEP(at, rows) \
	VMOVUPS at(R10), Y12; \
	VMOVUPS (at+32)(R10), Y13; \
	rows; \
	ADDQ R9, AX; \
	ADDQ R9, DX

// SUM runs over k, four at a time, in order.
#define SUM(rows, fetch, four, rest, one, done) \
	MOVQ strip_b(DI), R10; \
	MOVQ strip_k(DI), CX; \
	MOVQ SI, AX; \
	LEAQ (R8)(R8*2), DX; \
	ADDQ SI, DX; \
four: \
	SUBQ $4, CX; \
	JLT rest; \
	fetch; \
	STEP(0, rows); \
	STEP(64, rows); \
	STEP(128, rows); \
	STEP(192, rows); \
	ADDQ $256, R10; \
	JMP four; \
rest: \
	ADDQ $4, CX; \
	JZ done; \
one: \
	STEP(0, rows); \
	ADDQ $64, R10; \
	DECQ CX; \
	JNZ one; \
done:

// FETCH brings the next six rows of A into the first-level cache, and what is wanted after this strip into the second.
#define NOFETCH
#define FETCH \
	PREFETCHT0 (AX)(R14*1); \
	PREFETCHT0 (AX)(R15*1); \
	PREFETCHT0 (AX)(R11*1); \
	PREFETCHT0 (DX)(R14*1); \
	PREFETCHT0 (DX)(R15*1); \
	PREFETCHT0 (DX)(R11*1); \
	PREFETCHT1 (R12); \
	ADDQ BX, R12

// AT points AX, DX and BX at six rows of a matrix; distance is in floats.
#define AT(matrix, distance) \
	MOVQ distance(DI), BX; \
	SHLQ $2, BX; \
	MOVQ matrix, AX; \
	LEAQ (BX)(BX*2), DX; \
	ADDQ matrix, DX

#define BIAS(x, y) VADDPS Y12, x, x; VADDPS Y13, y, y
#define BIAS1 BIAS(Y0, Y1)
#define BIAS2 BIAS1; BIAS(Y2, Y3)
#define BIAS3 BIAS2; BIAS(Y4, Y5)
#define BIAS4 BIAS3; BIAS(Y6, Y7)
#define BIAS5 BIAS4; BIAS(Y8, Y9)
#define BIAS6 BIAS5; BIAS(Y10, Y11)
#define ADDS1 VADDPS (AX), Y0, Y0; VADDPS 32(AX), Y1, Y1
#define ADDS2 ADDS1; VADDPS (AX)(BX*1), Y2, Y2; VADDPS 32(AX)(BX*1), Y3, Y3
#define ADDS3 ADDS2; VADDPS (AX)(BX*2), Y4, Y4; VADDPS 32(AX)(BX*2), Y5, Y5
#define ADDS4 ADDS3; VADDPS (DX), Y6, Y6; VADDPS 32(DX), Y7, Y7
#define ADDS5 ADDS4; VADDPS (DX)(BX*1), Y8, Y8; VADDPS 32(DX)(BX*1), Y9, Y9
#define ADDS6 ADDS5; VADDPS (DX)(BX*2), Y10, Y10; VADDPS 32(DX)(BX*2), Y11, Y11
#define PUTS1 VMOVUPS Y0, (AX); VMOVUPS Y1, 32(AX)
#define PUTS2 PUTS1; VMOVUPS Y2, (AX)(BX*1); VMOVUPS Y3, 32(AX)(BX*1)
#define PUTS3 PUTS2; VMOVUPS Y4, (AX)(BX*2); VMOVUPS Y5, 32(AX)(BX*2)
#define PUTS4 PUTS3; VMOVUPS Y6, (DX); VMOVUPS Y7, 32(DX)
#define PUTS5 PUTS4; VMOVUPS Y8, (DX)(BX*1); VMOVUPS Y9, 32(DX)(BX*1)
#define PUTS6 PUTS5; VMOVUPS Y10, (DX)(BX*2); VMOVUPS Y11, 32(DX)(BX*2)

// FINISH ends the sums: bias, from and residual where there are any, then C.
#define FINISH(bias, adds, puts, nobias, nofrom, noresidual) \
	MOVQ strip_bias(DI), AX; \
	TESTQ AX, AX; \
	JZ nobias; \
	VMOVUPS (AX), Y12; \
	VMOVUPS 32(AX), Y13; \
	bias; \
nobias: \
	MOVQ from-16(SP), R15; \
	MOVQ residual-24(SP), R11; \
	TESTQ R15, R15; \
	JZ nofrom; \
	AT(R15, strip_ldf); \
	adds; \
nofrom: \
	TESTQ R11, R11; \
	JZ noresidual; \
	AT(R11, strip_ldr); \
	adds; \
noresidual: \
	AT(R13, strip_ldc); \
	puts

// func stripAVX2(s *strip)
TEXT ·stripAVX2(SB), NOSPLIT, $24-8
	MOVQ s+0(FP), DI
	MOVQ strip_a(DI), SI
	MOVQ strip_c(DI), R13
	MOVQ strip_from(DI), AX
	MOVQ AX, from-16(SP)
	MOVQ strip_residual(DI), AX
	MOVQ AX, residual-24(SP)
	MOVQ strip_next(DI), R12
	MOVQ strip_ars(DI), R8
	SHLQ $2, R8
	MOVQ strip_acs(DI), R9
	SHLQ $2, R9
	MOVQ strip_m(DI), AX
	MOVQ AX, left-8(SP)

panel:
	MOVQ left-8(SP), AX
	CMPQ AX, $0
	JLE  end
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
	VXORPS Y8, Y8, Y8
	VXORPS Y9, Y9, Y9
	VXORPS Y10, Y10, Y10
	VXORPS Y11, Y11, Y11
	CMPQ AX, $3
	JLT  below3
	JEQ  is3
	CMPQ AX, $5
	JLT  is4
	JEQ  is5

	AT(R13, strip_ldc)
	PREFETCHT0 (AX)
	PREFETCHT0 (AX)(BX*1)
	PREFETCHT0 (AX)(BX*2)
	PREFETCHT0 (DX)
	PREFETCHT0 (DX)(BX*1)
	PREFETCHT0 (DX)(BX*2)
	MOVQ strip_step(DI), R14
	SHLQ $2, R14
	LEAQ (R14)(R8*1), R15
	LEAQ (R14)(R8*2), R11
	MOVQ strip_ahead(DI), BX
	SUM(ROWS6, FETCH, four6, rest6, one6, done6)
	FINISH(BIAS6, ADDS6, PUTS6, nobias6, nofrom6, noresidual6)

	// the next six rows
	SUBQ $6, left-8(SP)
	MOVQ strip_step(DI), CX
	LEAQ (SI)(CX*4), SI
	LEAQ (BX)(BX*2), CX // BX is left at ldc
	LEAQ (R13)(CX*2), R13
	TESTQ R15, R15
	JZ   stillNoFrom
	MOVQ strip_ldf(DI), CX
	LEAQ (CX)(CX*2), CX
	LEAQ (R15)(CX*8), R15
	MOVQ R15, from-16(SP)

stillNoFrom:
	TESTQ R11, R11
	JZ   panel
	MOVQ strip_ldr(DI), CX
	LEAQ (CX)(CX*2), CX
	LEAQ (R11)(CX*8), R11
	MOVQ R11, residual-24(SP)
	JMP  panel

is5:
	SUM(ROWS5, NOFETCH, four5, rest5, one5, done5)
	FINISH(BIAS5, ADDS5, PUTS5, nobias5, nofrom5, noresidual5)
	JMP end

is4:
	SUM(ROWS4, NOFETCH, four4, rest4, one4, done4)
	FINISH(BIAS4, ADDS4, PUTS4, nobias4, nofrom4, noresidual4)
	JMP end

is3:
	SUM(ROWS3, NOFETCH, four3, rest3, one3, done3)
	FINISH(BIAS3, ADDS3, PUTS3, nobias3, nofrom3, noresidual3)
	JMP end

below3:
	CMPQ AX, $1
	JEQ  is1
	SUM(ROWS2, NOFETCH, four2, rest2, one2, done2)
	FINISH(BIAS2, ADDS2, PUTS2, nobias2, nofrom2, noresidual2)
	JMP end

is1:
	SUM(ROWS1, NOFETCH, four1, rest1, one1, done1)
	FINISH(BIAS1, ADDS1, PUTS1, nobias1, nofrom1, noresidual1)

end:
	VZEROUPPER
	RET

// func packStripsAVX2(dst, src *float32, strips, k, acs int)
// dst[(i*k+p)*6+r] = src[p*acs+i*6+r] for i < strips, p < k, r < 6; strips and k are 1 or more.
TEXT ·packStripsAVX2(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ k+24(FP), R8
	MOVQ R8, DX
	LEAQ (R8)(R8*2), R8
	SHLQ $3, R8 // 24*k: from a strip to the next
	MOVQ acs+32(FP), R9
	SHLQ $2, R9

term:
	MOVQ DI, BX
	MOVQ SI, AX
	MOVQ strips+16(FP), CX

six:
	VMOVUPS (AX), X0
	VMOVSD 16(AX), X1
	VMOVUPS X0, (BX)
	VMOVSD X1, 16(BX)
	ADDQ $24, AX
	ADDQ R8, BX
	DECQ CX
	JNZ  six
	ADDQ R9, SI
	ADDQ $24, DI
	DECQ DX
	JNZ  term
	RET
