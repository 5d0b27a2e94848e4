//go:build amd64 && !noasm

#include "go_asm.h"
#include "textflag.h"

// The micro-kernel for wide panels holds 4 rows by 24 or 16 columns of C:
//
//	Y0..Y11   accumulators, row i in Y(3i), Y(3i+1) and, of 24 columns, Y(3i+2)
//	Y12..Y14  one row of B, later the bias          Y15  an element of A in every lane
//	DI  the panel           SI  A, first of four rows         AX walks A
//	R8  ars in bytes        R9  3*ars                         R10 walks B
//	R13 C                   BX  ldc in bytes                  CX  what is left of k
//	R11 the offsets of what is still to be copied             R15 where it goes
//	R12, DX, BX   from where, in groups of columns            R14 scratch

#define LOAD16(i) VMOVUPS (64*i)(R10), Y12; VMOVUPS (64*i+32)(R10), Y13
#define LOAD24(i) VMOVUPS (96*i)(R10), Y12; VMOVUPS (96*i+32)(R10), Y13; VMOVUPS (96*i+64)(R10), Y14
#define FMA16(x, y) VFMADD231PS Y12, Y15, x; VFMADD231PS Y13, Y15, y
#define FMA24(x, y, z) FMA16(x, y); VFMADD231PS Y14, Y15, z
#define ONE16(i) VBROADCASTSS (4*i)(AX), Y15; FMA16(Y0, Y1)
#define TWO16(i) ONE16(i); VBROADCASTSS (4*i)(AX)(R8*1), Y15; FMA16(Y3, Y4)
#define THREE16(i) TWO16(i); VBROADCASTSS (4*i)(AX)(R8*2), Y15; FMA16(Y6, Y7)
#define FOUR16(i) THREE16(i); VBROADCASTSS (4*i)(AX)(R9*1), Y15; FMA16(Y9, Y10)
#define ONE24(i) VBROADCASTSS (4*i)(AX), Y15; FMA24(Y0, Y1, Y2)
#define TWO24(i) ONE24(i); VBROADCASTSS (4*i)(AX)(R8*1), Y15; FMA24(Y3, Y4, Y5)
#define THREE24(i) TWO24(i); VBROADCASTSS (4*i)(AX)(R8*2), Y15; FMA24(Y6, Y7, Y8)
#define FOUR24(i) THREE24(i); VBROADCASTSS (4*i)(AX)(R9*1), Y15; FMA24(Y9, Y10, Y11)

// FETCH brings the next four rows of A into the first-level cache.
#define NOFETCH
#define FETCH \
	LEAQ (AX)(R8*4), R14; \
	PREFETCHT0 (R14); \
	PREFETCHT0 (R14)(R8*1); \
	PREFETCHT0 (R14)(R8*2); \
	PREFETCHT0 (R14)(R9*1)

// COPY packs a row of the next panel. A narrow one has its third group in place of what the next row brings.
#define COPY \
	MOVLQSX (R11), R14; \
	VMOVUPS (R12)(R14*4), Y12; \
	VMOVUPS (DX)(R14*4), Y13; \
	VMOVUPS (BX)(R14*4), Y14; \
	VMOVUPS Y12, (R15); \
	VMOVUPS Y13, 32(R15); \
	VMOVUPS Y14, 64(R15); \
	ADDQ $4, R11; \
	ADDQ panel_step(DI), R15
#define FETCHCOPY FETCH; COPY; COPY

// LATER fetches a row of the panel after the next into the cache.
#define LATER \
	MOVLQSX (R11), R14; \
	PREFETCHT1 (R12)(R14*4); \
	PREFETCHT1 (BX)(R14*4); \
	ADDQ $4, R11
#define FETCHLATER FETCH; LATER

// SUM runs over k, four at a time, in order; size is a row of B in bytes.
#define SUM(load, rows, size, fetch, four, rest, one, done) \
	MOVQ panel_b(DI), R10; \
	MOVQ panel_k(DI), CX; \
	MOVQ SI, AX; \
	SUBQ $4, CX; \
	JLT rest; \
four: \
	fetch; \
	load(0); rows(0); \
	load(1); rows(1); \
	load(2); rows(2); \
	load(3); rows(3); \
	ADDQ $16, AX; \
	ADDQ $(4*size), R10; \
	SUBQ $4, CX; \
	JGE four; \
rest: \
	ADDQ $4, CX; \
	JZ done; \
one: \
	load(0); rows(0); \
	ADDQ $4, AX; \
	ADDQ $size, R10; \
	DECQ CX; \
	JNZ one; \
done:

#define BIAS16(at, x, y) VBROADCASTSS at(AX), Y12; VADDPS Y12, x, x; VADDPS Y12, y, y
#define BIAS24(at, x, y, z) BIAS16(at, x, y); VADDPS Y12, z, z
#define BIASES16_1 BIAS16(0, Y0, Y1)
#define BIASES16_2 BIASES16_1; BIAS16(4, Y3, Y4)
#define BIASES16_3 BIASES16_2; BIAS16(8, Y6, Y7)
#define BIASES16_4 BIASES16_3; BIAS16(12, Y9, Y10)
#define BIASES24_1 BIAS24(0, Y0, Y1, Y2)
#define BIASES24_2 BIASES24_1; BIAS24(4, Y3, Y4, Y5)
#define BIASES24_3 BIASES24_2; BIAS24(8, Y6, Y7, Y8)
#define BIASES24_4 BIASES24_3; BIAS24(12, Y9, Y10, Y11)

// The rows of C are R13, R13+BX, R13+2*BX, R13+R14.
#define ADD16_1 VADDPS (R13), Y0, Y0; VADDPS 32(R13), Y1, Y1
#define ADD16_2 ADD16_1; VADDPS (R13)(BX*1), Y3, Y3; VADDPS 32(R13)(BX*1), Y4, Y4
#define ADD16_3 ADD16_2; VADDPS (R13)(BX*2), Y6, Y6; VADDPS 32(R13)(BX*2), Y7, Y7
#define ADD16_4 ADD16_3; VADDPS (R13)(R14*1), Y9, Y9; VADDPS 32(R13)(R14*1), Y10, Y10
#define ADD24_1 ADD16_1; VADDPS 64(R13), Y2, Y2
#define ADD24_2 ADD16_2; VADDPS 64(R13), Y2, Y2; VADDPS 64(R13)(BX*1), Y5, Y5
#define ADD24_3 ADD16_3; VADDPS 64(R13), Y2, Y2; VADDPS 64(R13)(BX*1), Y5, Y5; VADDPS 64(R13)(BX*2), Y8, Y8
#define ADD24_4 ADD16_4; VADDPS 64(R13), Y2, Y2; VADDPS 64(R13)(BX*1), Y5, Y5; VADDPS 64(R13)(BX*2), Y8, Y8; VADDPS 64(R13)(R14*1), Y11, Y11
#define PUT16_1 VMOVUPS Y0, (R13); VMOVUPS Y1, 32(R13)
#define PUT16_2 PUT16_1; VMOVUPS Y3, (R13)(BX*1); VMOVUPS Y4, 32(R13)(BX*1)
#define PUT16_3 PUT16_2; VMOVUPS Y6, (R13)(BX*2); VMOVUPS Y7, 32(R13)(BX*2)
#define PUT16_4 PUT16_3; VMOVUPS Y9, (R13)(R14*1); VMOVUPS Y10, 32(R13)(R14*1)
#define PUT24_1 VMOVUPS Y0, (R13); VMOVUPS Y1, 32(R13); VMOVUPS Y2, 64(R13)
#define PUT24_2 PUT24_1; VMOVUPS Y3, (R13)(BX*1); VMOVUPS Y4, 32(R13)(BX*1); VMOVUPS Y5, 64(R13)(BX*1)
#define PUT24_3 PUT24_2; VMOVUPS Y6, (R13)(BX*2); VMOVUPS Y7, 32(R13)(BX*2); VMOVUPS Y8, 64(R13)(BX*2)
#define PUT24_4 PUT24_3; VMOVUPS Y9, (R13)(R14*1); VMOVUPS Y10, 32(R13)(R14*1); VMOVUPS Y11, 64(R13)(R14*1)

// FINISH ends the sums: bias and what C holds, where asked for, then C.
#define FINISH(biases, adds, puts, nobias, noadd) \
	MOVQ biasAt-16(SP), AX; \
	TESTQ AX, AX; \
	JZ nobias; \
	biases; \
nobias: \
	LEAQ (BX)(BX*2), R14; \
	CMPB panel_add(DI), $0; \
	JEQ noadd; \
	adds; \
noadd: \
	puts

#define ZERO3(x, y, z) VXORPS x, x, x; VXORPS y, y, y; VXORPS z, z, z
#define ZERO ZERO3(Y0, Y1, Y2); ZERO3(Y3, Y4, Y5); ZERO3(Y6, Y7, Y8); ZERO3(Y9, Y10, Y11)

// FETCHC fetches four rows of C, size bytes each: those of these columns for now, those of the next panel for then.
#define FETCHC(size) \
	LEAQ (BX)(BX*2), R14; \
	PREFETCHT0 (R13); \
	PREFETCHT0 (R13)(BX*1); \
	PREFETCHT0 (R13)(BX*2); \
	PREFETCHT0 (R13)(R14*1); \
	PREFETCHT0 (size-4)(R13); \
	PREFETCHT0 (size-4)(R13)(BX*1); \
	PREFETCHT0 (size-4)(R13)(BX*2); \
	PREFETCHT0 (size-4)(R13)(R14*1); \
	PREFETCHT1 (2*size-4)(R13); \
	PREFETCHT1 (2*size-4)(R13)(BX*1); \
	PREFETCHT1 (2*size-4)(R13)(BX*2); \
	PREFETCHT1 (2*size-4)(R13)(R14*1)

// ADVANCE moves on by four rows.
#define ADVANCE \
	LEAQ (SI)(R8*4), SI; \
	LEAQ (R13)(BX*4), R13; \
	MOVQ biasAt-16(SP), AX; \
	LEAQ 16(AX), DX; \
	TESTQ AX, AX; \
	CMOVQNE DX, AX; \
	MOVQ AX, biasAt-16(SP); \
	SUBQ $4, left-8(SP)

// func panelAVX2(p *panel)
TEXT ·panelAVX2(SB), NOSPLIT, $24-8
	MOVQ p+0(FP), DI
	MOVQ panel_a(DI), SI
	MOVQ panel_c(DI), R13
	MOVQ panel_ars(DI), R8
	SHLQ $2, R8
	LEAQ (R8)(R8*2), R9
	MOVQ panel_ldc(DI), BX
	SHLQ $2, BX
	MOVQ panel_bias(DI), AX
	MOVQ AX, biasAt-16(SP)
	MOVQ panel_m(DI), AX
	MOVQ AX, left-8(SP)
	MOVQ panel_off(DI), R11
	MOVQ panel_to(DI), R15
	MOVQ $6, step-24(SP)
	CMPB panel_narrow(DI), $0
	JNE  enter16
	TESTQ R11, R11
	JZ   rows24

pack24: // the first two times pack the next panel, four more fetch what comes later
	ZERO
	FETCHC(96)
	CMPQ step-24(SP), $4
	JLE  later24
	MOVQ panel_from0(DI), R12
	MOVQ panel_from1(DI), DX
	MOVQ panel_from2(DI), BX
	SUM(LOAD24, FOUR24, 96, FETCHCOPY, four24p, rest24p, one24p, done24p)
	CMPQ step-24(SP), $5
	JNE  finish24
	MOVQ panel_k(DI), CX
	ANDQ $3, CX
	JZ   packed24

tail24: // rows beyond a multiple of four
	COPY
	DECQ CX
	JNZ  tail24

packed24:
	MOVQ panel_off(DI), R11
	JMP  finish24

later24:
	MOVQ panel_later0(DI), R12
	MOVQ panel_later1(DI), DX
	MOVQ panel_later2(DI), BX
	SUM(LOAD24, FOUR24, 96, FETCHLATER, four24l, rest24l, one24l, done24l)

finish24:
	MOVQ panel_ldc(DI), BX
	SHLQ $2, BX
	FINISH(BIASES24_4, ADD24_4, PUT24_4, nobias24p, noadd24p)
	ADVANCE
	CMPQ left-8(SP), $4
	JLT  few24
	DECQ step-24(SP)
	JNZ  pack24

rows24:
	CMPQ left-8(SP), $4
	JLT  few24
	ZERO
	FETCHC(96)
	SUM(LOAD24, FOUR24, 96, FETCH, four24x4, rest24x4, one24x4, done24x4)
	FINISH(BIASES24_4, ADD24_4, PUT24_4, nobias24x4, noadd24x4)
	ADVANCE
	JMP  rows24

few24:
	ZERO
	CMPQ left-8(SP), $2
	JGT  three24
	JEQ  two24
	CMPQ left-8(SP), $1
	JLT  end
	SUM(LOAD24, ONE24, 96, NOFETCH, four24x1, rest24x1, one24x1, done24x1)
	FINISH(BIASES24_1, ADD24_1, PUT24_1, nobias24x1, noadd24x1)
	JMP  end

three24:
	SUM(LOAD24, THREE24, 96, NOFETCH, four24x3, rest24x3, one24x3, done24x3)
	FINISH(BIASES24_3, ADD24_3, PUT24_3, nobias24x3, noadd24x3)
	JMP  end

two24:
	SUM(LOAD24, TWO24, 96, NOFETCH, four24x2, rest24x2, one24x2, done24x2)
	FINISH(BIASES24_2, ADD24_2, PUT24_2, nobias24x2, noadd24x2)
	JMP  end

enter16:
	TESTQ R11, R11
	JZ   rows16

pack16: // the first two times pack the next panel, four more fetch what comes later
	ZERO
	FETCHC(64)
	CMPQ step-24(SP), $4
	JLE  later16
	MOVQ panel_from0(DI), R12
	MOVQ panel_from1(DI), DX
	MOVQ panel_from2(DI), BX
	SUM(LOAD16, FOUR16, 64, FETCHCOPY, four16p, rest16p, one16p, done16p)
	CMPQ step-24(SP), $5
	JNE  finish16
	MOVQ panel_k(DI), CX
	ANDQ $3, CX
	JZ   packed16

tail16: // rows beyond a multiple of four
	COPY
	DECQ CX
	JNZ  tail16

packed16:
	MOVQ panel_off(DI), R11
	JMP  finish16

later16:
	MOVQ panel_later0(DI), R12
	MOVQ panel_later1(DI), DX
	MOVQ panel_later2(DI), BX
	SUM(LOAD16, FOUR16, 64, FETCHLATER, four16l, rest16l, one16l, done16l)

finish16:
	MOVQ panel_ldc(DI), BX
	SHLQ $2, BX
	FINISH(BIASES16_4, ADD16_4, PUT16_4, nobias16p, noadd16p)
	ADVANCE
	CMPQ left-8(SP), $4
	JLT  few16
	DECQ step-24(SP)
	JNZ  pack16

rows16:
	CMPQ left-8(SP), $4
	JLT  few16
	ZERO
	FETCHC(64)
	SUM(LOAD16, FOUR16, 64, FETCH, four16x4, rest16x4, one16x4, done16x4)
	FINISH(BIASES16_4, ADD16_4, PUT16_4, nobias16x4, noadd16x4)
	ADVANCE
	JMP  rows16

few16:
	ZERO
	CMPQ left-8(SP), $2
	JGT  three16
	JEQ  two16
	CMPQ left-8(SP), $1
	JLT  end
	SUM(LOAD16, ONE16, 64, NOFETCH, four16x1, rest16x1, one16x1, done16x1)
	FINISH(BIASES16_1, ADD16_1, PUT16_1, nobias16x1, noadd16x1)
	JMP  end

three16:
	SUM(LOAD16, THREE16, 64, NOFETCH, four16x3, rest16x3, one16x3, done16x3)
	FINISH(BIASES16_3, ADD16_3, PUT16_3, nobias16x3, noadd16x3)
	JMP  end

two16:
	SUM(LOAD16, TWO16, 64, NOFETCH, four16x2, rest16x2, one16x2, done16x2)
	FINISH(BIASES16_2, ADD16_2, PUT16_2, nobias16x2, noadd16x2)
	JMP  end

end:
	VZEROUPPER
	RET
