// What the files of vector loops share: constants of eight lanes, and the last elements of a slice.

// VEC(name, v) makes a constant of eight equal floats, for use as an operand.
#define VEC(name, v) \
	DATA name<>+0(SB)/4, v; \
	DATA name<>+4(SB)/4, v; \
	DATA name<>+8(SB)/4, v; \
	DATA name<>+12(SB)/4, v; \
	DATA name<>+16(SB)/4, v; \
	DATA name<>+20(SB)/4, v; \
	DATA name<>+24(SB)/4, v; \
	DATA name<>+28(SB)/4, v; \
	GLOBL name<>(SB), RODATA|NOPTR, $32

// tails<> holds eight words of ones and eight of zeros; the eight that begin
// n words before the zeros are the mask of n elements.
DATA tails<>+0(SB)/8, $0xffffffffffffffff
DATA tails<>+8(SB)/8, $0xffffffffffffffff
DATA tails<>+16(SB)/8, $0xffffffffffffffff
DATA tails<>+24(SB)/8, $0xffffffffffffffff
DATA tails<>+32(SB)/8, $0
DATA tails<>+40(SB)/8, $0
DATA tails<>+48(SB)/8, $0
DATA tails<>+56(SB)/8, $0
GLOBL tails<>(SB), RODATA|NOPTR, $64

// TAILMASK: mask = that of the first CX elements, 0 < CX < 8. Clobbers AX, DX.
#define TAILMASK(mask) \
	LEAQ tails<>+32(SB), AX; \
	MOVQ CX, DX; \
	SHLQ $2, DX; \
	SUBQ DX, AX; \
	VMOVUPS (AX), mask

#define ARGS1 \
	MOVQ y+0(FP), DI; \
	MOVQ x+8(FP), SI; \
	MOVQ n+16(FP), CX

#define ARGS2 \
	MOVQ y+0(FP), DI; \
	MOVQ a+8(FP), SI; \
	MOVQ b+16(FP), BX; \
	MOVQ n+24(FP), CX

// Loops. BODY maps Y0 (from SI), and in LOOP2 also Y1 (from BX), to Y0 (to DI), CX elements in all; the mask of the last is in Y7.
#define LOOP1(BODY) \
	SUBQ $16, CX; \
	JLT  rest; \
pairs: \
	VMOVUPS (SI), Y0; \
	BODY; \
	VMOVUPS Y0, (DI); \
	VMOVUPS 32(SI), Y0; \
	BODY; \
	VMOVUPS Y0, 32(DI); \
	ADDQ $64, SI; \
	ADDQ $64, DI; \
	SUBQ $16, CX; \
	JGE  pairs; \
rest: \
	ADDQ $8, CX; \
	JLT  tail; \
	VMOVUPS (SI), Y0; \
	BODY; \
	VMOVUPS Y0, (DI); \
	ADDQ $32, SI; \
	ADDQ $32, DI; \
	SUBQ $8, CX; \
tail: \
	ADDQ $8, CX; \
	JZ   done; \
	TAILMASK(Y7); \
	VMASKMOVPS (SI), Y7, Y0; \
	BODY; \
	VMASKMOVPS Y0, Y7, (DI); \
done: \
	VZEROUPPER; \
	RET

#define LOOP2(BODY) \
	SUBQ $16, CX; \
	JLT  rest; \
pairs: \
	VMOVUPS (SI), Y0; \
	VMOVUPS (BX), Y1; \
	BODY; \
	VMOVUPS Y0, (DI); \
	VMOVUPS 32(SI), Y0; \
	VMOVUPS 32(BX), Y1; \
	BODY; \
	VMOVUPS Y0, 32(DI); \
	ADDQ $64, SI; \
	ADDQ $64, BX; \
	ADDQ $64, DI; \
	SUBQ $16, CX; \
	JGE  pairs; \
rest: \
	ADDQ $8, CX; \
	JLT  tail; \
	VMOVUPS (SI), Y0; \
	VMOVUPS (BX), Y1; \
	BODY; \
	VMOVUPS Y0, (DI); \
	ADDQ $32, SI; \
	ADDQ $32, BX; \
	ADDQ $32, DI; \
	SUBQ $8, CX; \
tail: \
	ADDQ $8, CX; \
	JZ   done; \
	TAILMASK(Y7); \
	VMASKMOVPS (SI), Y7, Y0; \
	VMASKMOVPS (BX), Y7, Y1; \
	BODY; \
	VMASKMOVPS Y0, Y7, (DI); \
done: \
	VZEROUPPER; \
	RET
