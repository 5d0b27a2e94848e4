//go:build amd64 && !noasm

#include "funcdata.h"
#include "textflag.h"
#include "winograd_amd64.h"

// The transforms of tiles of fewer than 4 outputs a side, see winograd_tiles.go: those of winograd_amd64.s with loops and a way for
// each size. Results for point 4, which tiles of 2 outputs do not have, go where the tile has nothing.

// INPUT3 turns d0..d4 in Y0..Y4 into results 1..5 in Y0..Y4. Y10..Y15 are winogradInput.
#define INPUT3 \
	VMOVAPS Y3, Y5; \
	VMOVAPS Y2, Y6; \
	VMOVAPS Y2, Y7; \
	VFNMADD231PS Y13, Y1, Y5; \
	VFNMADD231PS Y13, Y0, Y6; \
	VFNMADD231PS Y12, Y1, Y3; \
	VFNMADD231PS Y12, Y0, Y7; \
	VFNMADD231PS Y11, Y2, Y4; \
	VMULPS Y14, Y5, Y5; \
	VMULPS Y12, Y6, Y6; \
	VMULPS Y15, Y3, Y3; \
	VMULPS Y13, Y7, Y7; \
	VFMADD231PS Y10, Y0, Y4; \
	VADDPS Y5, Y6, Y0; \
	VSUBPS Y5, Y6, Y1; \
	VADDPS Y3, Y7, Y2; \
	VSUBPS Y3, Y7, Y3

// INPUT2 turns d0..d3 in Y0..Y3 into results 1, 2, 3 and 5 in Y0, Y1, Y2, Y4. Y10..Y15 are winogradInput.
#define INPUT2 \
	VMOVAPS Y2, Y5; \
	VMOVAPS Y1, Y6; \
	VMOVAPS Y3, Y4; \
	VFNMADD231PS Y15, Y1, Y5; \
	VFNMADD231PS Y15, Y0, Y6; \
	VFNMADD231PS Y15, Y2, Y4; \
	VFNMADD231PS Y12, Y0, Y2; \
	VFNMADD231PS Y12, Y6, Y4; \
	VBROADCASTSS ·winogradSmall+0(SB), Y0; \
	VBROADCASTSS ·winogradSmall+4(SB), Y7; \
	VBROADCASTSS ·winogradSmall+8(SB), Y1; \
	VBROADCASTSS ·winogradSmall+12(SB), Y8; \
	VBROADCASTSS ·winogradSmall+16(SB), Y9; \
	VMULPS Y5, Y0, Y0; \
	VMULPS Y5, Y1, Y1; \
	VMULPS Y9, Y2, Y2; \
	VFMADD231PS Y7, Y6, Y0; \
	VFNMADD231PS Y8, Y6, Y1

// TAKE3 and TAKE2 load 5 and 4 pixels of a column of x, GET3 and GET2 those of a row of the buffer. KEEP stores a column in the
// buffer, PUT a row in v.
#define TAKE2 \
	VMOVUPS (AX), Y0; \
	VMOVUPS (AX)(R8*1), Y1; \
	VMOVUPS (AX)(R8*2), Y2; \
	VMOVUPS (DX), Y3
#define TAKE3 \
	TAKE2; \
	VMOVUPS (DX)(R8*1), Y4
#define TAKE4 \
	TAKE3; \
	VMOVUPS (DX)(R8*2), Y5
#define KEEP \
	VMOVAPS Y0, 192(CX); \
	VMOVAPS Y1, 384(CX); \
	VMOVAPS Y2, 576(CX); \
	VMOVAPS Y3, 768(CX); \
	VMOVAPS Y4, 960(CX)
#define NEXTCOLUMN(loop) \
	ADDQ R9, AX; \
	ADDQ R9, DX; \
	ADDQ $32, CX; \
	DECQ BX; \
	JNZ loop
#define GET2 \
	VMOVAPS (CX), Y0; \
	VMOVAPS 32(CX), Y1; \
	VMOVAPS 64(CX), Y2; \
	VMOVAPS 96(CX), Y3
#define GET3 \
	GET2; \
	VMOVAPS 128(CX), Y4
#define GET4 \
	GET3; \
	VMOVAPS 160(CX), Y5
#define PUT \
	VMOVUPS Y0, (DX)(R10*1); \
	VMOVUPS Y1, (DX)(R10*2); \
	VMOVUPS Y2, (AX); \
	VMOVUPS Y3, (AX)(R10*1); \
	VMOVUPS Y4, (AX)(R10*2)
#define NEXTROW(loop) \
	ADDQ R11, AX; \
	ADDQ R11, DX; \
	ADDQ $192, CX; \
	DECQ BX; \
	JNZ loop

// func winogradSmallInputsAVX2(v *float32, vStep, vLane int, x *float32, row, col, groups, down, across int)
TEXT ·winogradSmallInputsAVX2(SB), 0, $1184-72
	NO_LOCAL_POINTERS
	MOVQ v+0(FP), DI
	MOVQ vStep+8(FP), R10
	SHLQ $2, R10
	SHLQ $2, vLane+16(FP)
	MOVQ x+24(FP), SI
	MOVQ row+32(FP), R8
	SHLQ $2, R8
	MOVQ col+40(FP), R9
	SHLQ $2, R9
	MOVQ down+56(FP), R13
	LEAQ (R8)(R8*2), R12 // 3 rows
	LEAQ (R10)(R10*2), R14 // 3 taps
	LEAQ (R14)(R14*1), R11 // 6 taps
	BUFFER
	VBROADCASTSS ·winogradInput+0(SB), Y10
	VBROADCASTSS ·winogradInput+4(SB), Y11
	VBROADCASTSS ·winogradInput+8(SB), Y12
	VBROADCASTSS ·winogradInput+12(SB), Y13
	VBROADCASTSS ·winogradInput+16(SB), Y14
	VBROADCASTSS ·winogradInput+20(SB), Y15

smallInput:
	MOVQ SI, AX
	LEAQ (SI)(R12*1), DX
	MOVQ R15, CX
	MOVQ $6, BX
	SUBQ across+64(FP), BX
	CMPQ R13, $1
	JEQ  down3
	JGT  down2

down4:
	TAKE4
	INPUT1
	VMOVAPS Y0, (CX)
	VMOVAPS Y1, 192(CX)
	VMOVAPS Y6, 384(CX)
	VMOVAPS Y2, 576(CX)
	VMOVAPS Y4, 768(CX)
	VMOVAPS Y5, 960(CX)
	NEXTCOLUMN(down4)
	MOVQ $6, BX
	MOVQ R15, CX
	MOVQ DI, DX
	JMP  acrossAll

down3:
	TAKE3
	INPUT3
	KEEP
	NEXTCOLUMN(down3)
	JMP  downDone

down2:
	TAKE2
	INPUT2
	KEEP
	NEXTCOLUMN(down2)

downDone:
	MOVQ $5, BX
	LEAQ 192(R15), CX
	LEAQ (DI)(R11*1), DX

acrossAll:
	LEAQ (DX)(R14*1), AX
	CMPQ across+64(FP), $1
	JEQ  across3
	JGT  across2

across4:
	GET4
	INPUT1
	VMOVUPS Y0, (DX)
	VMOVUPS Y1, (DX)(R10*1)
	VMOVUPS Y6, (DX)(R10*2)
	VMOVUPS Y2, (AX)
	VMOVUPS Y4, (AX)(R10*1)
	VMOVUPS Y5, (AX)(R10*2)
	NEXTROW(across4)
	JMP  acrossDone

across3:
	GET3
	INPUT3
	PUT
	NEXTROW(across3)
	JMP  acrossDone

across2:
	GET2
	INPUT2
	PUT
	NEXTROW(across2)

acrossDone:
	ADDQ $32, SI
	ADDQ vLane+16(FP), DI
	DECQ groups+48(FP)
	JNZ  smallInput
	VZEROUPPER
	RET

// OUTPUT3 turns m1..m5 in Y1..Y5 into results 0..2 in Y0, Y2, Y4, and OUTPUT2 m1, m2, m3, m5 in Y1, Y2, Y3, Y5 into results 0 and 1
// in Y0, Y2. Y10..Y15 are winogradOutput.
#define OUTPUT3 \
	VADDPS Y2, Y1, Y6; \
	VSUBPS Y2, Y1, Y1; \
	VADDPS Y4, Y3, Y7; \
	VSUBPS Y4, Y3, Y3; \
	VADDPS Y7, Y6, Y0; \
	VMULPS Y11, Y3, Y2; \
	VMOVAPS Y5, Y4; \
	VFMADD231PS Y13, Y7, Y4; \
	VFMADD231PS Y10, Y1, Y2; \
	VFMADD231PS Y12, Y6, Y4
#define OUTPUT2 \
	VADDPS Y2, Y1, Y0; \
	VSUBPS Y2, Y1, Y1; \
	VMOVAPS Y5, Y2; \
	VADDPS Y3, Y0, Y0; \
	VFMADD231PS Y11, Y3, Y2; \
	VFMADD231PS Y10, Y1, Y2

// A tile of 2 outputs has nothing at point 4, which nothing may be read from.
#define FETCH2 \
	VMOVUPS (DX)(R10*1), Y1; \
	VMOVUPS (DX)(R10*2), Y2; \
	VMOVUPS (AX), Y3; \
	VMOVUPS (AX)(R10*2), Y5
#define FETCH3 \
	FETCH2; \
	VMOVUPS (AX)(R10*1), Y4
#define FETCH4 \
	FETCH3; \
	VMOVUPS (DX), Y0
#define BACK2 \
	VMOVAPS 192(CX), Y1; \
	VMOVAPS 384(CX), Y2; \
	VMOVAPS 576(CX), Y3; \
	VMOVAPS 960(CX), Y5
#define BACK3 \
	BACK2; \
	VMOVAPS 768(CX), Y4
#define BACK4 \
	BACK3; \
	VMOVAPS (CX), Y0
#define WRITE2 \
	VADDPS Y9, Y0, Y0; \
	VADDPS Y9, Y2, Y2; \
	VMOVUPS Y0, (AX); \
	VMOVUPS Y2, (AX)(R8*1)
#define WRITE3 \
	WRITE2; \
	VADDPS Y9, Y4, Y4; \
	VMOVUPS Y4, (AX)(R8*2)
#define NEXTPIXEL(loop) \
	ADDQ R9, AX; \
	ADDQ $32, CX; \
	DECQ BX; \
	JNZ loop

// func winogradSmallOutputsAVX2(y *float32, row, col int, m *float32, mStep, mLane int, bias *float32, groups, down, across int)
TEXT ·winogradSmallOutputsAVX2(SB), 0, $1184-80
	NO_LOCAL_POINTERS
	MOVQ y+0(FP), DI
	MOVQ row+8(FP), R8
	SHLQ $2, R8
	MOVQ col+16(FP), R9
	SHLQ $2, R9
	MOVQ m+24(FP), SI
	MOVQ mStep+32(FP), R10
	SHLQ $2, R10
	SHLQ $2, mLane+40(FP)
	MOVQ down+64(FP), R13
	LEAQ (R8)(R8*2), R12 // 3 rows
	LEAQ (R10)(R10*2), R14 // 3 taps
	LEAQ (R14)(R14*1), R11 // 6 taps
	BUFFER
	VBROADCASTSS ·winogradOutput+0(SB), Y10
	VBROADCASTSS ·winogradOutput+4(SB), Y11
	VBROADCASTSS ·winogradOutput+8(SB), Y12
	VBROADCASTSS ·winogradOutput+12(SB), Y13
	VBROADCASTSS ·winogradOutput+16(SB), Y14
	VBROADCASTSS ·winogradOutput+20(SB), Y15

smallOutput:
	MOVQ bias+48(FP), AX
	VMOVUPS (AX), Y9
	ADDQ $32, AX
	MOVQ AX, bias+48(FP)
	MOVQ SI, DX
	MOVQ R15, CX
	MOVQ $6, BX
	TESTQ R13, R13
	JEQ  points
	ADDQ R11, DX // no point 0
	ADDQ $192, CX
	DECQ BX

points:
	LEAQ (DX)(R14*1), AX
	CMPQ across+72(FP), $1
	JEQ  back3
	JGT  back2

back4:
	FETCH4
	OUTPUT1
	VMOVAPS Y0, (CX)
	VMOVAPS Y2, 32(CX)
	VMOVAPS Y4, 64(CX)
	VMOVAPS Y5, 96(CX)
	NEXTROW(back4)
	JMP  backDone

back3:
	FETCH3
	OUTPUT3
	VMOVAPS Y0, (CX)
	VMOVAPS Y2, 32(CX)
	VMOVAPS Y4, 64(CX)
	NEXTROW(back3)
	JMP  backDone

back2:
	FETCH2
	OUTPUT2
	VMOVAPS Y0, (CX)
	VMOVAPS Y2, 32(CX)
	NEXTROW(back2)

backDone:
	MOVQ DI, AX
	MOVQ R15, CX
	MOVQ $4, BX
	SUBQ across+72(FP), BX
	CMPQ R13, $1
	JEQ  write3
	JGT  write2

write4:
	BACK4
	OUTPUT1
	WRITE3
	VADDPS Y9, Y5, Y5
	VMOVUPS Y5, (AX)(R12*1)
	NEXTPIXEL(write4)
	JMP  writeDone

write3:
	BACK3
	OUTPUT3
	WRITE3
	NEXTPIXEL(write3)
	JMP  writeDone

write2:
	BACK2
	OUTPUT2
	WRITE2
	NEXTPIXEL(write2)

writeDone:
	ADDQ mLane+40(FP), SI
	ADDQ $32, DI
	DECQ groups+56(FP)
	JNZ  smallOutput
	VZEROUPPER
	RET
