//go:build amd64 && !noasm

#include "funcdata.h"
#include "textflag.h"

// The transforms work on 8 channels in the lanes of a register. Each is done along one direction into a buffer on the stack,
// then along the other. R15 is the buffer, aligned to a vector; element (i,j) of the half-transformed tile lies at 32*(6*i+j).

#define BUFFER \
	LEAQ buffer-1184(SP), R15; \
	ADDQ $31, R15; \
	ANDQ $~31, R15

// INPUT1 turns d0..d5 in Y0..Y5 into results 0..5 in Y0, Y1, Y6, Y2, Y4, Y5.
// Y10..Y15 are winogradInput: a^2*b^2, a^2+b^2, a^2, b^2, a, b.
#define INPUT1 \
	VMOVAPS Y4, Y6; \
	VMOVAPS Y4, Y8; \
	VFNMADD231PS Y11, Y2, Y6; \
	VMOVAPS Y3, Y7; \
	VFNMADD231PS Y11, Y3, Y5; \
	VFNMADD231PS Y13, Y2, Y8; \
	VFNMADD231PS Y13, Y1, Y7; \
	VFMADD213PS Y6, Y10, Y0; \
	VFMADD231PS Y10, Y1, Y5; \
	VFNMADD231PS Y12, Y2, Y4; \
	VFNMADD231PS Y12, Y1, Y3; \
	VMOVAPS Y8, Y1; \
	VMOVAPS Y8, Y6; \
	VFMADD231PS Y14, Y7, Y1; \
	VFNMADD231PS Y14, Y7, Y6; \
	VMOVAPS Y4, Y2; \
	VFMADD231PS Y15, Y3, Y2; \
	VFNMADD231PS Y15, Y3, Y4

#define INPUTCOLUMN(j) \
	VMOVUPS (AX), Y0; \
	VMOVUPS (AX)(R8*1), Y1; \
	VMOVUPS (AX)(R8*2), Y2; \
	VMOVUPS (DX), Y3; \
	VMOVUPS (DX)(R8*1), Y4; \
	VMOVUPS (DX)(R8*2), Y5; \
	ADDQ R9, AX; \
	ADDQ R9, DX; \
	INPUT1; \
	VMOVAPS Y0, (32*j)(R15); \
	VMOVAPS Y1, (32*j+192)(R15); \
	VMOVAPS Y6, (32*j+384)(R15); \
	VMOVAPS Y2, (32*j+576)(R15); \
	VMOVAPS Y4, (32*j+768)(R15); \
	VMOVAPS Y5, (32*j+960)(R15)

#define INPUTROW(i) \
	VMOVAPS (192*i)(R15), Y0; \
	VMOVAPS (192*i+32)(R15), Y1; \
	VMOVAPS (192*i+64)(R15), Y2; \
	VMOVAPS (192*i+96)(R15), Y3; \
	VMOVAPS (192*i+128)(R15), Y4; \
	VMOVAPS (192*i+160)(R15), Y5; \
	INPUT1; \
	VMOVUPS Y0, (BX); \
	VMOVUPS Y1, (BX)(R10*1); \
	VMOVUPS Y6, (BX)(R10*2); \
	VMOVUPS Y2, (CX); \
	VMOVUPS Y4, (CX)(R10*1); \
	VMOVUPS Y5, (CX)(R10*2); \
	ADDQ R11, BX; \
	ADDQ R11, CX

// func winogradInputsAVX2(v *float32, vStep int, x *float32, row, col, groups int)
TEXT ·winogradInputsAVX2(SB), 0, $1184-48
	NO_LOCAL_POINTERS
	MOVQ v+0(FP), DI
	MOVQ vStep+8(FP), R10
	SHLQ $2, R10
	MOVQ x+16(FP), SI
	MOVQ row+24(FP), R8
	SHLQ $2, R8
	MOVQ col+32(FP), R9
	SHLQ $2, R9
	MOVQ groups+40(FP), R13
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

inputs:
	MOVQ SI, AX
	LEAQ (SI)(R12*1), DX
	MOVQ DI, BX
	LEAQ (DI)(R14*1), CX
	INPUTCOLUMN(0)
	INPUTCOLUMN(1)
	INPUTCOLUMN(2)
	INPUTCOLUMN(3)
	INPUTCOLUMN(4)
	INPUTCOLUMN(5)
	INPUTROW(0)
	INPUTROW(1)
	INPUTROW(2)
	INPUTROW(3)
	INPUTROW(4)
	INPUTROW(5)
	ADDQ $32, SI
	ADDQ $32, DI
	DECQ R13
	JNZ  inputs
	VZEROUPPER
	RET

// OUTPUT1 turns m0..m5 in Y0..Y5 into results 0..3 in Y0, Y2, Y4, Y5.
// Y10..Y15 are winogradOutput: a, b, a^2, b^2, a^3, b^3.
#define OUTPUT1 \
	VADDPS Y2, Y1, Y6; \
	VSUBPS Y2, Y1, Y1; \
	VADDPS Y4, Y3, Y7; \
	VSUBPS Y4, Y3, Y3; \
	VADDPS Y6, Y0, Y0; \
	VMULPS Y11, Y3, Y2; \
	VMULPS Y13, Y7, Y4; \
	VFMADD231PS Y15, Y3, Y5; \
	VADDPS Y7, Y0, Y0; \
	VFMADD231PS Y10, Y1, Y2; \
	VFMADD231PS Y12, Y6, Y4; \
	VFMADD231PS Y14, Y1, Y5

#define OUTPUTROW(i) \
	VMOVUPS (BX), Y0; \
	VMOVUPS (BX)(R10*1), Y1; \
	VMOVUPS (BX)(R10*2), Y2; \
	VMOVUPS (CX), Y3; \
	VMOVUPS (CX)(R10*1), Y4; \
	VMOVUPS (CX)(R10*2), Y5; \
	ADDQ R11, BX; \
	ADDQ R11, CX; \
	OUTPUT1; \
	VMOVAPS Y0, (192*i)(R15); \
	VMOVAPS Y2, (192*i+32)(R15); \
	VMOVAPS Y4, (192*i+64)(R15); \
	VMOVAPS Y5, (192*i+96)(R15)

#define OUTPUTCOLUMN(j) \
	VMOVAPS (32*j)(R15), Y0; \
	VMOVAPS (32*j+192)(R15), Y1; \
	VMOVAPS (32*j+384)(R15), Y2; \
	VMOVAPS (32*j+576)(R15), Y3; \
	VMOVAPS (32*j+768)(R15), Y4; \
	VMOVAPS (32*j+960)(R15), Y5; \
	OUTPUT1; \
	VADDPS Y9, Y0, Y0; \
	VADDPS Y9, Y2, Y2; \
	VADDPS Y9, Y4, Y4; \
	VADDPS Y9, Y5, Y5; \
	VMOVUPS Y0, (AX); \
	VMOVUPS Y2, (AX)(R8*1); \
	VMOVUPS Y4, (AX)(R8*2); \
	VMOVUPS Y5, (AX)(R12*1); \
	ADDQ R9, AX

// func winogradOutputsAVX2(y *float32, row, col int, m *float32, mStep int, bias *float32, groups int)
TEXT ·winogradOutputsAVX2(SB), 0, $1184-56
	NO_LOCAL_POINTERS
	MOVQ y+0(FP), DI
	MOVQ row+8(FP), R8
	SHLQ $2, R8
	MOVQ col+16(FP), R9
	SHLQ $2, R9
	MOVQ m+24(FP), SI
	MOVQ mStep+32(FP), R10
	SHLQ $2, R10
	MOVQ bias+40(FP), DX
	MOVQ groups+48(FP), R13
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

outputs:
	MOVQ SI, BX
	LEAQ (SI)(R14*1), CX
	MOVQ DI, AX
	VMOVUPS (DX), Y9
	OUTPUTROW(0)
	OUTPUTROW(1)
	OUTPUTROW(2)
	OUTPUTROW(3)
	OUTPUTROW(4)
	OUTPUTROW(5)
	OUTPUTCOLUMN(0)
	OUTPUTCOLUMN(1)
	OUTPUTCOLUMN(2)
	OUTPUTCOLUMN(3)
	ADDQ $32, SI
	ADDQ $32, DI
	ADDQ $32, DX
	DECQ R13
	JNZ  outputs
	VZEROUPPER
	RET

// WEIGHT1 turns g0..g2 in Y0..Y2 into results 0..5 in Y3, Y4, Y5, Y6, Y7, Y2.
// Y9..Y15 are winogradWeight.
#define WEIGHT1 \
	VMULPS Y9, Y0, Y3; \
	VMULPS Y10, Y0, Y4; \
	VMULPS Y13, Y0, Y6; \
	VMULPS Y11, Y1, Y0; \
	VMULPS Y14, Y1, Y1; \
	VFMADD231PS Y12, Y2, Y4; \
	VFMADD231PS Y15, Y2, Y6; \
	VSUBPS Y0, Y4, Y5; \
	VADDPS Y0, Y4, Y4; \
	VSUBPS Y1, Y6, Y7; \
	VADDPS Y1, Y6, Y6

#define WEIGHTCOLUMN(j) \
	VMOVUPS (AX), Y0; \
	VMOVUPS (AX)(R9*1), Y1; \
	VMOVUPS (AX)(R9*2), Y2; \
	ADDQ R8, AX; \
	WEIGHT1; \
	VMOVAPS Y3, (32*j)(R15); \
	VMOVAPS Y4, (32*j+192)(R15); \
	VMOVAPS Y5, (32*j+384)(R15); \
	VMOVAPS Y6, (32*j+576)(R15); \
	VMOVAPS Y7, (32*j+768)(R15); \
	VMOVAPS Y2, (32*j+960)(R15)

#define WEIGHTROW(i) \
	VMOVAPS (192*i)(R15), Y0; \
	VMOVAPS (192*i+32)(R15), Y1; \
	VMOVAPS (192*i+64)(R15), Y2; \
	WEIGHT1; \
	VMOVUPS Y3, (BX); \
	VMOVUPS Y4, (BX)(R10*1); \
	VMOVUPS Y5, (BX)(R10*2); \
	VMOVUPS Y6, (CX); \
	VMOVUPS Y7, (CX)(R10*1); \
	VMOVUPS Y2, (CX)(R10*2); \
	ADDQ R11, BX; \
	ADDQ R11, CX

// func winogradWeightsAVX2(u *float32, uStep, next int, w *float32, wStep, n int)
TEXT ·winogradWeightsAVX2(SB), 0, $1184-48
	NO_LOCAL_POINTERS
	MOVQ u+0(FP), DI
	MOVQ uStep+8(FP), R10
	SHLQ $2, R10
	MOVQ next+16(FP), R12
	SHLQ $2, R12
	MOVQ w+24(FP), SI
	MOVQ wStep+32(FP), R8
	SHLQ $2, R8
	MOVQ n+40(FP), R13
	LEAQ (R8)(R8*2), R9 // 3 taps of w
	LEAQ (R10)(R10*2), R14 // 3 taps of u
	LEAQ (R14)(R14*1), R11 // 6 taps of u
	LEAQ (R9)(R9*2), DX // a channel of w
	BUFFER
	VBROADCASTSS ·winogradWeight+0(SB), Y9
	VBROADCASTSS ·winogradWeight+4(SB), Y10
	VBROADCASTSS ·winogradWeight+8(SB), Y11
	VBROADCASTSS ·winogradWeight+12(SB), Y12
	VBROADCASTSS ·winogradWeight+16(SB), Y13
	VBROADCASTSS ·winogradWeight+20(SB), Y14
	VBROADCASTSS ·winogradWeight+24(SB), Y15

weights:
	MOVQ SI, AX
	MOVQ DI, BX
	LEAQ (DI)(R14*1), CX
	WEIGHTCOLUMN(0)
	WEIGHTCOLUMN(1)
	WEIGHTCOLUMN(2)
	WEIGHTROW(0)
	WEIGHTROW(1)
	WEIGHTROW(2)
	WEIGHTROW(3)
	WEIGHTROW(4)
	WEIGHTROW(5)
	ADDQ DX, SI
	ADDQ R12, DI
	DECQ R13
	JNZ  weights
	VZEROUPPER
	RET
