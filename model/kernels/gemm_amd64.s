//go:build amd64 && !noasm

#include "go_asm.h"
#include "textflag.h"

// The micro-kernel holds 6 rows by 2 groups of 8 columns of C:
//
//	Y0..Y11   accumulators, row i in Y(2i) (group 0) and Y(2i+1) (group 1)
//	Y12, Y13  one row of B: 8 columns of either group
//	Y14, Y15  an element of A in every lane
//	DI  the tile            SI  A, first row of the panel     BX  ldc in bytes
//	R8  ars in bytes        R9  acs in bytes                  R12 walks the offsets
//	R10, R11 B's groups     R13, R15  C's groups              CX  what is left of k
//	AX, DX   walk A at rows 0 and 3                           R14 an offset
//
// Rows 0..5 of A are then AX, AX+R8, AX+2*R8, DX, DX+R8, DX+2*R8, so that any strides of A cost two additions.

#define LOADB(at) \
	MOVLQSX at(R12), R14; \
	VMOVUPS (R10)(R14*4), Y12; \
	VMOVUPS (R11)(R14*4), Y13

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

#define NEXTA ADDQ R9, AX; ADDQ R9, DX

// SUM runs over k, four at a time, in order.
#define SUM(rows, four, rest, one, done) \
four: \
	SUBQ $4, CX; \
	JLT rest; \
	LOADB(0); \
	rows; \
	NEXTA; \
	LOADB(4); \
	rows; \
	NEXTA; \
	LOADB(8); \
	rows; \
	NEXTA; \
	LOADB(12); \
	rows; \
	NEXTA; \
	ADDQ $16, R12; \
	JMP four; \
rest: \
	ADDQ $4, CX; \
	JZ done; \
one: \
	LOADB(0); \
	rows; \
	NEXTA; \
	ADDQ $4, R12; \
	DECQ CX; \
	JNZ one; \
done:

#define BIAS(at, x, y) VBROADCASTSS at(AX), Y12; VADDPS Y12, x, x; VADDPS Y12, y, y

// The rows of C are R13, R13+BX, R13+2*BX, CX, CX+BX, CX+2*BX for group 0, and R15 and DX likewise for group 1.
#define ADD0 VADDPS (R13), Y0, Y0; VADDPS (R15), Y1, Y1
#define ADD1 VADDPS (R13)(BX*1), Y2, Y2; VADDPS (R15)(BX*1), Y3, Y3
#define ADD2 VADDPS (R13)(BX*2), Y4, Y4; VADDPS (R15)(BX*2), Y5, Y5
#define ADD3 VADDPS (CX), Y6, Y6; VADDPS (DX), Y7, Y7
#define ADD4 VADDPS (CX)(BX*1), Y8, Y8; VADDPS (DX)(BX*1), Y9, Y9
#define ADD5 VADDPS (CX)(BX*2), Y10, Y10; VADDPS (DX)(BX*2), Y11, Y11
#define PUT0 VMOVUPS Y0, (R13); VMOVUPS Y1, (R15)
#define PUT1 VMOVUPS Y2, (R13)(BX*1); VMOVUPS Y3, (R15)(BX*1)
#define PUT2 VMOVUPS Y4, (R13)(BX*2); VMOVUPS Y5, (R15)(BX*2)
#define PUT3 VMOVUPS Y6, (CX); VMOVUPS Y7, (DX)
#define PUT4 VMOVUPS Y8, (CX)(BX*1); VMOVUPS Y9, (DX)(BX*1)
#define PUT5 VMOVUPS Y10, (CX)(BX*2); VMOVUPS Y11, (DX)(BX*2)

#define BIAS1 BIAS(0, Y0, Y1)
#define BIAS2 BIAS1; BIAS(4, Y2, Y3)
#define BIAS3 BIAS2; BIAS(8, Y4, Y5)
#define BIAS4 BIAS3; BIAS(12, Y6, Y7)
#define BIAS5 BIAS4; BIAS(16, Y8, Y9)
#define BIAS6 BIAS5; BIAS(20, Y10, Y11)
#define ADDS1 ADD0
#define ADDS2 ADD0; ADD1
#define ADDS3 ADD0; ADD1; ADD2
#define ADDS4 ADD0; ADD1; ADD2; ADD3
#define ADDS5 ADD0; ADD1; ADD2; ADD3; ADD4
#define ADDS6 ADD0; ADD1; ADD2; ADD3; ADD4; ADD5
#define PUTS1 PUT0
#define PUTS2 PUT0; PUT1
#define PUTS3 PUT0; PUT1; PUT2
#define PUTS4 PUT0; PUT1; PUT2; PUT3
#define PUTS5 PUT0; PUT1; PUT2; PUT3; PUT4
#define PUTS6 PUT0; PUT1; PUT2; PUT3; PUT4; PUT5

// PANEL begins the sums of a panel of rows.
#define PANEL \
	MOVQ tile_off(DI), R12; \
	MOVQ (tile_off+8)(DI), CX; \
	MOVQ SI, AX; \
	LEAQ (R8)(R8*2), DX; \
	ADDQ SI, DX

// FINISH ends them: bias and what C holds, where asked for, then C.
#define FINISH(bias, adds, puts, nobias, noadd) \
	MOVQ biasAt-16(SP), AX; \
	TESTQ AX, AX; \
	JZ nobias; \
	bias; \
nobias: \
	LEAQ (BX)(BX*2), CX; \
	LEAQ (R15)(CX*1), DX; \
	ADDQ R13, CX; \
	CMPB tile_add(DI), $0; \
	JEQ noadd; \
	adds; \
noadd: \
	puts

// func tileAVX2(t *tile)
TEXT ·tileAVX2(SB), NOSPLIT, $16-8
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
	MOVQ tile_ldc(DI), BX
	SHLQ $2, BX
	MOVQ tile_bias(DI), AX
	MOVQ AX, biasAt-16(SP)
	MOVQ tile_m(DI), AX
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

	PANEL
	SUM(ROWS6, four6, rest6, one6, done6)
	FINISH(BIAS6, ADDS6, PUTS6, nobias6, noadd6)

	// the next six rows
	SUBQ $6, left-8(SP)
	LEAQ (R8)(R8*2), AX
	LEAQ (SI)(AX*2), SI
	LEAQ (BX)(BX*2), CX
	LEAQ (R13)(CX*2), R13
	LEAQ (R15)(CX*2), R15
	CMPQ biasAt-16(SP), $0
	JEQ  panel
	ADDQ $24, biasAt-16(SP)
	JMP  panel

is5:
	PANEL
	SUM(ROWS5, four5, rest5, one5, done5)
	FINISH(BIAS5, ADDS5, PUTS5, nobias5, noadd5)
	JMP end

is4:
	PANEL
	SUM(ROWS4, four4, rest4, one4, done4)
	FINISH(BIAS4, ADDS4, PUTS4, nobias4, noadd4)
	JMP end

is3:
	PANEL
	SUM(ROWS3, four3, rest3, one3, done3)
	FINISH(BIAS3, ADDS3, PUTS3, nobias3, noadd3)
	JMP end

below3:
	CMPQ AX, $1
	JEQ  is1
	PANEL
	SUM(ROWS2, four2, rest2, one2, done2)
	FINISH(BIAS2, ADDS2, PUTS2, nobias2, noadd2)
	JMP end

is1:
	PANEL
	SUM(ROWS1, four1, rest1, one1, done1)
	FINISH(BIAS1, ADDS1, PUTS1, nobias1, noadd1)

end:
	VZEROUPPER
	RET

// func transposeAVX2(dst *float32, ldd int, src *float32, lds, rows, cols int)
// rows and cols are multiples of 8. Blocks of 8 x 8: pairs of rows are interleaved, then pairs of pairs, then halves.
// Blocks follow each other along the rows of src, so that its cache lines are used up at once.
TEXT ·transposeAVX2(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ ldd+8(FP), R8
	SHLQ $2, R8
	MOVQ src+16(FP), SI
	MOVQ lds+24(FP), R9
	SHLQ $2, R9
	MOVQ rows+32(FP), R13
	LEAQ (R8)(R8*2), R10 // 3*ldd
	LEAQ (R9)(R9*2), R11 // 3*lds

rowBlock:
	SUBQ $8, R13
	JLT  transposed
	MOVQ SI, AX
	MOVQ DI, BX
	MOVQ cols+40(FP), R12

colBlock:
	SUBQ $8, R12
	JLT  nextRows
	LEAQ (AX)(R9*4), DX
	VMOVUPS (AX), Y0
	VMOVUPS (AX)(R9*1), Y1
	VMOVUPS (AX)(R9*2), Y2
	VMOVUPS (AX)(R11*1), Y3
	VMOVUPS (DX), Y4
	VMOVUPS (DX)(R9*1), Y5
	VMOVUPS (DX)(R9*2), Y6
	VMOVUPS (DX)(R11*1), Y7
	VUNPCKLPS Y1, Y0, Y8
	VUNPCKHPS Y1, Y0, Y9
	VUNPCKLPS Y3, Y2, Y10
	VUNPCKHPS Y3, Y2, Y11
	VUNPCKLPS Y5, Y4, Y12
	VUNPCKHPS Y5, Y4, Y13
	VUNPCKLPS Y7, Y6, Y14
	VUNPCKHPS Y7, Y6, Y15
	VUNPCKLPD Y10, Y8, Y0
	VUNPCKHPD Y10, Y8, Y1
	VUNPCKLPD Y11, Y9, Y2
	VUNPCKHPD Y11, Y9, Y3
	VUNPCKLPD Y14, Y12, Y4
	VUNPCKHPD Y14, Y12, Y5
	VUNPCKLPD Y15, Y13, Y6
	VUNPCKHPD Y15, Y13, Y7
	VPERM2F128 $0x20, Y4, Y0, Y8
	VPERM2F128 $0x20, Y5, Y1, Y9
	VPERM2F128 $0x20, Y6, Y2, Y10
	VPERM2F128 $0x20, Y7, Y3, Y11
	VPERM2F128 $0x31, Y4, Y0, Y12
	VPERM2F128 $0x31, Y5, Y1, Y13
	VPERM2F128 $0x31, Y6, Y2, Y14
	VPERM2F128 $0x31, Y7, Y3, Y15
	LEAQ (BX)(R8*4), CX
	VMOVUPS Y8, (BX)
	VMOVUPS Y9, (BX)(R8*1)
	VMOVUPS Y10, (BX)(R8*2)
	VMOVUPS Y11, (BX)(R10*1)
	VMOVUPS Y12, (CX)
	VMOVUPS Y13, (CX)(R8*1)
	VMOVUPS Y14, (CX)(R8*2)
	VMOVUPS Y15, (CX)(R10*1)
	ADDQ $32, AX
	LEAQ (BX)(R8*8), BX
	JMP  colBlock

nextRows:
	LEAQ (SI)(R9*8), SI
	ADDQ $32, DI
	JMP  rowBlock

transposed:
	VZEROUPPER
	RET

// func copyRowsAVX2(dst *float32, ldd int, src *float32, lds, rows, n int)
// dst[i*ldd+j] = src[i*lds+j] for i < rows, j < n; rows is 1 or more, n is 4 or more. The last vector of a row overlaps the one before it.
TEXT ·copyRowsAVX2(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ ldd+8(FP), R8
	SHLQ $2, R8
	MOVQ src+16(FP), SI
	MOVQ lds+24(FP), R9
	SHLQ $2, R9
	MOVQ rows+32(FP), R12
	MOVQ n+40(FP), CX
	SHLQ $2, CX
	CMPQ CX, $32
	JEQ  rows8
	JLT  rows4
	CMPQ CX, $64
	JEQ  rows16
	LEAQ -32(CX), R10 // where the last vector begins

rowsN:
	XORQ AX, AX

vectors:
	VMOVUPS (SI)(AX*1), Y0
	VMOVUPS Y0, (DI)(AX*1)
	ADDQ $32, AX
	CMPQ AX, R10
	JLT  vectors
	VMOVUPS (SI)(R10*1), Y0
	VMOVUPS Y0, (DI)(R10*1)
	ADDQ R9, SI
	ADDQ R8, DI
	DECQ R12
	JNZ  rowsN
	VZEROUPPER
	RET

rows16:
	VMOVUPS (SI), Y0
	VMOVUPS 32(SI), Y1
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ R9, SI
	ADDQ R8, DI
	DECQ R12
	JNZ  rows16
	VZEROUPPER
	RET

rows8:
	VMOVUPS (SI), Y0
	VMOVUPS Y0, (DI)
	ADDQ R9, SI
	ADDQ R8, DI
	DECQ R12
	JNZ  rows8
	VZEROUPPER
	RET

rows4:
	VMOVUPS (SI), X0
	VMOVUPS -16(SI)(CX*1), X1
	VMOVUPS X0, (DI)
	VMOVUPS X1, -16(DI)(CX*1)
	ADDQ R9, SI
	ADDQ R8, DI
	DECQ R12
	JNZ  rows4
	RET

// func gatherRowsAVX2(dst, src *float32, off []int32, pitch int)
// dst[p*16+4*i+j] = src[off[p]+i*pitch+j] for p < len(off), i < 4, j < 4: a panel of a map that is 4 wide.
TEXT ·gatherRowsAVX2(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ off_base+16(FP), R12
	MOVQ off_len+24(FP), CX
	MOVQ pitch+40(FP), R8
	SHLQ $2, R8
	LEAQ (R8)(R8*2), R9

gather:
	MOVLQSX (R12), AX
	LEAQ (SI)(AX*4), AX
	VMOVUPS (AX), X0
	VMOVUPS (AX)(R8*1), X1
	VMOVUPS (AX)(R8*2), X2
	VMOVUPS (AX)(R9*1), X3
	VMOVUPS X0, (DI)
	VMOVUPS X1, 16(DI)
	VMOVUPS X2, 32(DI)
	VMOVUPS X3, 48(DI)
	ADDQ $4, R12
	ADDQ $64, DI
	DECQ CX
	JNZ  gather
	RET

// func splitAVX2(even, odd *float32, ldd int, src *float32, lds, rows, n int)
// even[i*ldd+j] = src[i*lds+2*j], odd[i*ldd+j] = src[i*lds+2*j+1] for i < rows, j < n; rows is 1 or more, n is 4 or more.
// The last vectors of a row overlap the ones before them.
TEXT ·splitAVX2(SB), NOSPLIT, $0-56
	MOVQ even+0(FP), DI
	MOVQ odd+8(FP), DX
	MOVQ ldd+16(FP), R8
	SHLQ $2, R8
	MOVQ src+24(FP), SI
	MOVQ lds+32(FP), R9
	SHLQ $2, R9
	MOVQ rows+40(FP), R12
	MOVQ n+48(FP), CX
	SHLQ $2, CX
	CMPQ CX, $32
	JLT  split4
	SUBQ $32, CX // where the last vector begins

#define SPLIT8(at) \
	VMOVUPS (SI)(at*2), Y0; \
	VMOVUPS 32(SI)(at*2), Y1; \
	VSHUFPS $0x88, Y1, Y0, Y2; \
	VSHUFPS $0xDD, Y1, Y0, Y3; \
	VPERMPD $0xD8, Y2, Y2; \
	VPERMPD $0xD8, Y3, Y3; \
	VMOVUPS Y2, (DI)(at*1); \
	VMOVUPS Y3, (DX)(at*1)

splitRow:
	XORQ AX, AX
	LEAQ (SI)(R9*8), R11
	PREFETCHT0 (R11)(CX*2)
	JMP  splitMore

splitNext:
	PREFETCHT0 (R11)(AX*2)
	SPLIT8(AX)
	ADDQ $32, AX

splitMore:
	CMPQ AX, CX
	JLT  splitNext
	SPLIT8(CX)
	ADDQ R9, SI
	ADDQ R8, DI
	ADDQ R8, DX
	DECQ R12
	JNZ  splitRow
	VZEROUPPER
	RET

#define SPLIT4(at) \
	VMOVUPS (SI)(at*2), X0; \
	VMOVUPS 16(SI)(at*2), X1; \
	VSHUFPS $0x88, X1, X0, X2; \
	VSHUFPS $0xDD, X1, X0, X3; \
	VMOVUPS X2, (DI)(at*1); \
	VMOVUPS X3, (DX)(at*1)

split4:
	SUBQ $16, CX
	XORQ AX, AX

split4Row:
	SPLIT4(AX)
	SPLIT4(CX)
	ADDQ R9, SI
	ADDQ R8, DI
	ADDQ R8, DX
	DECQ R12
	JNZ  split4Row
	RET

// func mergeAVX2(dst *float32, ldd int, even, odd *float32, lde, ldo, rows, n int)
// dst[i*ldd+2*j] = even[i*lde+j], dst[i*ldd+2*j+1] = odd[i*ldo+j] for i < rows, j < n; rows is 1 or more, n is 4 or more.
// The last vectors of a row overlap the ones before them.
TEXT ·mergeAVX2(SB), NOSPLIT, $0-64
	MOVQ dst+0(FP), DI
	MOVQ ldd+8(FP), R8
	SHLQ $2, R8
	MOVQ even+16(FP), SI
	MOVQ odd+24(FP), DX
	MOVQ lde+32(FP), R9
	SHLQ $2, R9
	MOVQ ldo+40(FP), R10
	SHLQ $2, R10
	MOVQ rows+48(FP), R12
	MOVQ n+56(FP), CX
	SHLQ $2, CX
	CMPQ CX, $32
	JLT  merge4
	SUBQ $32, CX

#define MERGE8(at) \
	VMOVUPS (SI)(at*1), Y0; \
	VMOVUPS (DX)(at*1), Y1; \
	VUNPCKLPS Y1, Y0, Y2; \
	VUNPCKHPS Y1, Y0, Y3; \
	VPERM2F128 $0x20, Y3, Y2, Y0; \
	VPERM2F128 $0x31, Y3, Y2, Y1; \
	VMOVUPS Y0, (DI)(at*2); \
	VMOVUPS Y1, 32(DI)(at*2)

mergeRow:
	XORQ AX, AX
	JMP  mergeMore

mergeNext:
	MERGE8(AX)
	ADDQ $32, AX

mergeMore:
	CMPQ AX, CX
	JLT  mergeNext
	MERGE8(CX)
	ADDQ R9, SI
	ADDQ R10, DX
	ADDQ R8, DI
	DECQ R12
	JNZ  mergeRow
	VZEROUPPER
	RET

#define MERGE4(at) \
	VMOVUPS (SI)(at*1), X0; \
	VMOVUPS (DX)(at*1), X1; \
	VUNPCKLPS X1, X0, X2; \
	VUNPCKHPS X1, X0, X3; \
	VMOVUPS X2, (DI)(at*2); \
	VMOVUPS X3, 16(DI)(at*2)

merge4:
	SUBQ $16, CX
	XORQ AX, AX

merge4Row:
	MERGE4(AX)
	MERGE4(CX)
	ADDQ R9, SI
	ADDQ R10, DX
	ADDQ R8, DI
	DECQ R12
	JNZ  merge4Row
	RET

// func peakAVX2(rounds int)
// 24 multiply-adds of 8 lanes a round, none waiting for another of its round: 384 floating-point operations.
TEXT ·peakAVX2(SB), NOSPLIT, $0-8
	MOVQ rounds+0(FP), CX
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
	VXORPS Y12, Y12, Y12
	VXORPS Y13, Y13, Y13

#define PEAK(x) VFMADD231PS Y12, Y13, x
#define PEAK12 PEAK(Y0); PEAK(Y1); PEAK(Y2); PEAK(Y3); PEAK(Y4); PEAK(Y5); PEAK(Y6); PEAK(Y7); PEAK(Y8); PEAK(Y9); PEAK(Y10); PEAK(Y11)

round:
	PEAK12
	PEAK12
	DECQ CX
	JNZ  round
	VZEROUPPER
	RET
