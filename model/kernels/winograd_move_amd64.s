//go:build amd64 && !noasm

#include "textflag.h"

// How images come into frames and outputs go back to planes. Both turn blocks of 8 pixels of 8 channels.

// TRANSPOSE8 turns the rows in Y0..Y7 into columns in Y8..Y15.
#define TRANSPOSE8 \
	VUNPCKLPS Y1, Y0, Y8; \
	VUNPCKHPS Y1, Y0, Y9; \
	VUNPCKLPS Y3, Y2, Y10; \
	VUNPCKHPS Y3, Y2, Y11; \
	VUNPCKLPS Y5, Y4, Y12; \
	VUNPCKHPS Y5, Y4, Y13; \
	VUNPCKLPS Y7, Y6, Y14; \
	VUNPCKHPS Y7, Y6, Y15; \
	VUNPCKLPD Y10, Y8, Y0; \
	VUNPCKHPD Y10, Y8, Y1; \
	VUNPCKLPD Y11, Y9, Y2; \
	VUNPCKHPD Y11, Y9, Y3; \
	VUNPCKLPD Y14, Y12, Y4; \
	VUNPCKHPD Y14, Y12, Y5; \
	VUNPCKLPD Y15, Y13, Y6; \
	VUNPCKHPD Y15, Y13, Y7; \
	VPERM2F128 $0x20, Y4, Y0, Y8; \
	VPERM2F128 $0x20, Y5, Y1, Y9; \
	VPERM2F128 $0x20, Y6, Y2, Y10; \
	VPERM2F128 $0x20, Y7, Y3, Y11; \
	VPERM2F128 $0x31, Y4, Y0, Y12; \
	VPERM2F128 $0x31, Y5, Y1, Y13; \
	VPERM2F128 $0x31, Y6, Y2, Y14; \
	VPERM2F128 $0x31, Y7, Y3, Y15

// func winogradFillAVX2(dst *float32, line, pixel int, src *float32, plane, width, rows, cols int, half bool)
// The last block of a row may turn some columns a second time. Of only 4 channels the others are zeros. The image comes from far away,
// in rows too far apart and too short for the processor to foresee.
TEXT ·winogradFillAVX2(SB), NOSPLIT, $0-65
	MOVQ dst+0(FP), DI
	SHLQ $2, line+8(FP)
	MOVQ pixel+16(FP), R8
	SHLQ $2, R8
	MOVQ src+24(FP), SI
	MOVQ plane+32(FP), R9
	SHLQ $2, R9
	SHLQ $2, width+40(FP)
	MOVQ rows+48(FP), R13
	LEAQ (R8)(R8*2), R10 // 3 pixels
	LEAQ (R9)(R9*2), R11 // 3 planes

fillRow:
	MOVQ SI, AX
	MOVQ DI, BX
	MOVQ cols+56(FP), R12

fillBlock:
	PREFETCHT0 256(AX)
	PREFETCHT0 256(AX)(R9*1)
	PREFETCHT0 256(AX)(R9*2)
	PREFETCHT0 256(AX)(R11*1)
	VMOVUPS (AX), Y0
	VMOVUPS (AX)(R9*1), Y1
	VMOVUPS (AX)(R9*2), Y2
	VMOVUPS (AX)(R11*1), Y3
	CMPB half+64(FP), $0
	JNE  fillHalf
	LEAQ (AX)(R9*4), DX
	PREFETCHT0 256(DX)
	PREFETCHT0 256(DX)(R9*1)
	PREFETCHT0 256(DX)(R9*2)
	PREFETCHT0 256(DX)(R11*1)
	VMOVUPS (DX), Y4
	VMOVUPS (DX)(R9*1), Y5
	VMOVUPS (DX)(R9*2), Y6
	VMOVUPS (DX)(R11*1), Y7

fillTurn:
	TRANSPOSE8
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
	SUBQ $8, R12
	JEQ  fillNext
	CMPQ R12, $8
	JGE  fillBlock
	SUBQ $8, R12 // a last block that ends with the row
	LEAQ (AX)(R12*4), AX
	IMULQ R8, R12
	ADDQ R12, BX
	MOVQ $8, R12
	JMP  fillBlock

fillHalf:
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
	JMP  fillTurn

fillNext:
	ADDQ width+40(FP), SI
	ADDQ line+8(FP), DI
	DECQ R13
	JNZ  fillRow
	VZEROUPPER
	RET

// func winogradEmptyAVX2(y *float32, plane, width int, residual *float32, src *float32, line, pixel, rows, cols int, half bool)
TEXT ·winogradEmptyAVX2(SB), NOSPLIT, $0-73
	MOVQ y+0(FP), DI
	MOVQ plane+8(FP), R9
	SHLQ $2, R9
	SHLQ $2, width+16(FP)
	MOVQ residual+24(FP), R13
	MOVQ src+32(FP), SI
	SHLQ $2, line+40(FP)
	MOVQ pixel+48(FP), R8
	SHLQ $2, R8
	LEAQ (R8)(R8*2), R10 // 3 pixels
	LEAQ (R9)(R9*2), R11 // 3 planes
	SUBQ DI, R13 // from y to the residual

emptyRow:
	MOVQ SI, AX
	MOVQ DI, BX
	MOVQ cols+64(FP), R12

emptyBlock:
	LEAQ (AX)(R8*4), DX
	VMOVUPS (AX), Y0
	VMOVUPS (AX)(R8*1), Y1
	VMOVUPS (AX)(R8*2), Y2
	VMOVUPS (AX)(R10*1), Y3
	VMOVUPS (DX), Y4
	VMOVUPS (DX)(R8*1), Y5
	VMOVUPS (DX)(R8*2), Y6
	VMOVUPS (DX)(R10*1), Y7
	TRANSPOSE8
	LEAQ (BX)(R9*4), CX
	CMPQ residual+24(FP), $0
	JEQ  emptyPut
	LEAQ (BX)(R13*1), R14
	VADDPS (R14), Y8, Y8
	VADDPS (R14)(R9*1), Y9, Y9
	VADDPS (R14)(R9*2), Y10, Y10
	VADDPS (R14)(R11*1), Y11, Y11
	CMPB half+72(FP), $0
	JNE  emptyPut
	LEAQ (CX)(R13*1), R14
	VADDPS (R14), Y12, Y12
	VADDPS (R14)(R9*1), Y13, Y13
	VADDPS (R14)(R9*2), Y14, Y14
	VADDPS (R14)(R11*1), Y15, Y15

emptyPut:
	VMOVUPS Y8, (BX)
	VMOVUPS Y9, (BX)(R9*1)
	VMOVUPS Y10, (BX)(R9*2)
	VMOVUPS Y11, (BX)(R11*1)
	CMPB half+72(FP), $0
	JNE  emptyNext
	VMOVUPS Y12, (CX)
	VMOVUPS Y13, (CX)(R9*1)
	VMOVUPS Y14, (CX)(R9*2)
	VMOVUPS Y15, (CX)(R11*1)

emptyNext:
	ADDQ $32, BX
	LEAQ (AX)(R8*8), AX
	SUBQ $8, R12
	JNZ  emptyBlock
	ADDQ width+16(FP), DI
	ADDQ line+40(FP), SI
	DECQ rows+56(FP)
	JNZ  emptyRow
	VZEROUPPER
	RET
