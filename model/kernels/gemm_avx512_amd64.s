//go:build amd64 && !noasm

#include "go_asm.h"
#include "textflag.h"

// The micro-kernel holds 12, 8, 4, 2 or 1 rows by 2 groups of 16 columns of C:
//
//	Z0..Z23   accumulators, row i in Z(2i) (group 0) and Z(2i+1) (group 1)
//	Z24, Z25  one row of B: 16 columns of either group
//	Z26..Z31  an element of A in every lane
//	SI  A, first row of the panel      R8  ars in bytes       R9  acs in bytes
//	AX, DX, DI  walk A at rows 0, 4, 8 BX  3*ars in bytes     R12 walks the offsets
//	R10, R11  B's groups               R13, R15  C's groups   CX  what is left of k
//	R14 an offset
//
// A row of A is one of the three walkers plus 0, R8, 2*R8 or BX, so that any strides of A cost three additions.

#define LOADB(at) \
	MOVLQSX at(R12), R14; \
	VMOVUPS (R10)(R14*4), Z24; \
	VMOVUPS (R11)(R14*4), Z25

#define ROW(from, a, x, y) VBROADCASTSS from, a; VFMADD231PS Z24, a, x; VFMADD231PS Z25, a, y

#define ROWS1 ROW((AX), Z26, Z0, Z1)
#define ROWS2 ROWS1; ROW((AX)(R8*1), Z27, Z2, Z3)
#define ROWS4 ROWS2; ROW((AX)(R8*2), Z28, Z4, Z5); ROW((AX)(BX*1), Z29, Z6, Z7)
#define ROWS8 ROWS4; \
	ROW((DX), Z30, Z8, Z9); \
	ROW((DX)(R8*1), Z31, Z10, Z11); \
	ROW((DX)(R8*2), Z26, Z12, Z13); \
	ROW((DX)(BX*1), Z27, Z14, Z15)
#define ROWS12 ROWS8; \
	ROW((DI), Z28, Z16, Z17); \
	ROW((DI)(R8*1), Z29, Z18, Z19); \
	ROW((DI)(R8*2), Z30, Z20, Z21); \
	ROW((DI)(BX*1), Z31, Z22, Z23)

#define NEXT4 ADDQ R9, AX
#define NEXT8 NEXT4; ADDQ R9, DX
#define NEXT12 NEXT8; ADDQ R9, DI

// SUM runs over k, four at a time, in order.
#define SUM(rows, next, four, rest, one, done) \
four: \
	SUBQ $4, CX; \
	JLT rest; \
	LOADB(0); \
	rows; \
	next; \
	LOADB(4); \
	rows; \
	next; \
	LOADB(8); \
	rows; \
	next; \
	LOADB(12); \
	rows; \
	next; \
	ADDQ $16, R12; \
	JMP four; \
rest: \
	ADDQ $4, CX; \
	JZ done; \
one: \
	LOADB(0); \
	rows; \
	next; \
	ADDQ $4, R12; \
	DECQ CX; \
	JNZ one; \
done:

#define ZERO(x, y) VPXORD x, x, x; VPXORD y, y, y
#define ZEROS1 ZERO(Z0, Z1)
#define ZEROS2 ZEROS1; ZERO(Z2, Z3)
#define ZEROS4 ZEROS2; ZERO(Z4, Z5); ZERO(Z6, Z7)
#define ZEROS8 ZEROS4; ZERO(Z8, Z9); ZERO(Z10, Z11); ZERO(Z12, Z13); ZERO(Z14, Z15)
#define ZEROS12 ZEROS8; ZERO(Z16, Z17); ZERO(Z18, Z19); ZERO(Z20, Z21); ZERO(Z22, Z23)

#define BIAS(at, x, y) VBROADCASTSS at(AX), Z24; VADDPS Z24, x, x; VADDPS Z24, y, y
#define BIAS1 BIAS(0, Z0, Z1)
#define BIAS2 BIAS1; BIAS(4, Z2, Z3)
#define BIAS4 BIAS2; BIAS(8, Z4, Z5); BIAS(12, Z6, Z7)
#define BIAS8 BIAS4; BIAS(16, Z8, Z9); BIAS(20, Z10, Z11); BIAS(24, Z12, Z13); BIAS(28, Z14, Z15)
#define BIAS12 BIAS8; BIAS(32, Z16, Z17); BIAS(36, Z18, Z19); BIAS(40, Z20, Z21); BIAS(44, Z22, Z23)

// Four rows of C are AX, AX+BX, AX+2*BX, AX+CX for group 0 and DX likewise for group 1; FOURTH goes to the next four.
#define FIRST MOVQ R13, AX; MOVQ R15, DX
#define FOURTH LEAQ (AX)(BX*4), AX; LEAQ (DX)(BX*4), DX

#define ADDS1 VADDPS (AX), Z0, Z0; VADDPS (DX), Z1, Z1
#define ADDS2 ADDS1; VADDPS (AX)(BX*1), Z2, Z2; VADDPS (DX)(BX*1), Z3, Z3
#define ADDS4 ADDS2; \
	VADDPS (AX)(BX*2), Z4, Z4; VADDPS (DX)(BX*2), Z5, Z5; \
	VADDPS (AX)(CX*1), Z6, Z6; VADDPS (DX)(CX*1), Z7, Z7
#define ADDS8 ADDS4; FOURTH; \
	VADDPS (AX), Z8, Z8; VADDPS (DX), Z9, Z9; \
	VADDPS (AX)(BX*1), Z10, Z10; VADDPS (DX)(BX*1), Z11, Z11; \
	VADDPS (AX)(BX*2), Z12, Z12; VADDPS (DX)(BX*2), Z13, Z13; \
	VADDPS (AX)(CX*1), Z14, Z14; VADDPS (DX)(CX*1), Z15, Z15
#define ADDS12 ADDS8; FOURTH; \
	VADDPS (AX), Z16, Z16; VADDPS (DX), Z17, Z17; \
	VADDPS (AX)(BX*1), Z18, Z18; VADDPS (DX)(BX*1), Z19, Z19; \
	VADDPS (AX)(BX*2), Z20, Z20; VADDPS (DX)(BX*2), Z21, Z21; \
	VADDPS (AX)(CX*1), Z22, Z22; VADDPS (DX)(CX*1), Z23, Z23

#define PUTS1 VMOVUPS Z0, (AX); VMOVUPS Z1, (DX)
#define PUTS2 PUTS1; VMOVUPS Z2, (AX)(BX*1); VMOVUPS Z3, (DX)(BX*1)
#define PUTS4 PUTS2; \
	VMOVUPS Z4, (AX)(BX*2); VMOVUPS Z5, (DX)(BX*2); \
	VMOVUPS Z6, (AX)(CX*1); VMOVUPS Z7, (DX)(CX*1)
#define PUTS8 PUTS4; FOURTH; \
	VMOVUPS Z8, (AX); VMOVUPS Z9, (DX); \
	VMOVUPS Z10, (AX)(BX*1); VMOVUPS Z11, (DX)(BX*1); \
	VMOVUPS Z12, (AX)(BX*2); VMOVUPS Z13, (DX)(BX*2); \
	VMOVUPS Z14, (AX)(CX*1); VMOVUPS Z15, (DX)(CX*1)
#define PUTS12 PUTS8; FOURTH; \
	VMOVUPS Z16, (AX); VMOVUPS Z17, (DX); \
	VMOVUPS Z18, (AX)(BX*1); VMOVUPS Z19, (DX)(BX*1); \
	VMOVUPS Z20, (AX)(BX*2); VMOVUPS Z21, (DX)(BX*2); \
	VMOVUPS Z22, (AX)(CX*1); VMOVUPS Z23, (DX)(CX*1)

// PANEL begins the sums of a panel of rows.
#define PANEL \
	MOVQ t+0(FP), DI; \
	MOVQ tile_off(DI), R12; \
	MOVQ (tile_off+8)(DI), CX; \
	MOVQ SI, AX; \
	LEAQ (SI)(R8*4), DX; \
	LEAQ (SI)(R8*8), DI; \
	LEAQ (R8)(R8*2), BX

// FINISH ends them: bias and what C holds, where asked for, then C.
#define FINISH(bias, adds, puts, nobias, noadd) \
	MOVQ biasAt-16(SP), AX; \
	TESTQ AX, AX; \
	JZ nobias; \
	ADDQ row-24(SP), AX; \
	bias; \
nobias: \
	MOVQ t+0(FP), DI; \
	MOVQ tile_ldc(DI), BX; \
	SHLQ $2, BX; \
	LEAQ (BX)(BX*2), CX; \
	CMPB tile_add(DI), $0; \
	JEQ noadd; \
	FIRST; \
	adds; \
noadd: \
	FIRST; \
	puts

// NEXTROWS goes on to the rows below, for 2, 4 or 8 rows.
#define NEXTROWS(rows) \
	LEAQ (SI)(R8*rows), SI; \
	LEAQ (R13)(BX*rows), R13; \
	LEAQ (R15)(BX*rows), R15; \
	ADDQ $(4*rows), row-24(SP); \
	SUBQ $rows, left-8(SP)

// func tileAVX512(t *tile)
TEXT ·tileAVX512(SB), NOSPLIT, $24-8
	MOVQ t+0(FP), DI
	MOVQ tile_a(DI), SI
	MOVQ tile_b0(DI), R10
	MOVQ tile_b1(DI), R11
	MOVQ tile_c0(DI), R13
	MOVQ tile_c1(DI), R15
	MOVQ tile_ars(DI), R8
	SHLQ $2, R8
	MOVQ tile_acs(DI), R9
	SHLQ $2, R9
	MOVQ tile_bias(DI), AX
	MOVQ AX, biasAt-16(SP)
	MOVQ $0, row-24(SP)
	MOVQ tile_m(DI), AX
	MOVQ AX, left-8(SP)

panel:
	CMPQ left-8(SP), $12
	JLT  below12
	ZEROS12
	PANEL
	SUM(ROWS12, NEXT12, four12, rest12, one12, done12)
	FINISH(BIAS12, ADDS12, PUTS12, nobias12, noadd12)
	NEXTROWS(8)
	NEXTROWS(4)
	JMP  panel

below12:
	CMPQ left-8(SP), $8
	JLT  below8
	ZEROS8
	PANEL
	SUM(ROWS8, NEXT8, four8, rest8, one8, done8)
	FINISH(BIAS8, ADDS8, PUTS8, nobias8, noadd8)
	NEXTROWS(8)

below8:
	CMPQ left-8(SP), $4
	JLT  below4
	ZEROS4
	PANEL
	SUM(ROWS4, NEXT4, four4, rest4, one4, done4)
	FINISH(BIAS4, ADDS4, PUTS4, nobias4, noadd4)
	NEXTROWS(4)

below4:
	CMPQ left-8(SP), $2
	JLT  below2
	ZEROS2
	PANEL
	SUM(ROWS2, NEXT4, four2, rest2, one2, done2)
	FINISH(BIAS2, ADDS2, PUTS2, nobias2, noadd2)
	NEXTROWS(2)

below2:
	CMPQ left-8(SP), $1
	JLT  end
	ZEROS1
	PANEL
	SUM(ROWS1, NEXT4, four1, rest1, one1, done1)
	FINISH(BIAS1, ADDS1, PUTS1, nobias1, noadd1)

end:
	VZEROUPPER
	RET

// func peakAVX512(rounds int)
// 12 multiply-adds of 16 lanes a round, none waiting for another of its round: 384 floating-point operations.
TEXT ·peakAVX512(SB), NOSPLIT, $0-8
	MOVQ rounds+0(FP), CX
	ZEROS8 // Z0 to Z15

#define PEAK(x) VFMADD231PS Z12, Z13, x

round:
	PEAK(Z0)
	PEAK(Z1)
	PEAK(Z2)
	PEAK(Z3)
	PEAK(Z4)
	PEAK(Z5)
	PEAK(Z6)
	PEAK(Z7)
	PEAK(Z8)
	PEAK(Z9)
	PEAK(Z10)
	PEAK(Z11)
	DECQ CX
	JNZ  round
	VZEROUPPER
	RET
