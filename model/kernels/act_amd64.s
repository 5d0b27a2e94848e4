//go:build amd64 && !noasm

#include "textflag.h"
#include "vec_amd64.h"

// SiLU with its gradient, GELU and GEGLU. Two vectors are woven together where there are two: their chains are long and wait for
// themselves. An element's bits do not depend on its place.

VEC(abs, $0x7fffffff)
VEC(one, $1.0)

// SiLU is z/(1 + exp(-z)), with exp(-z) = 2^(i/8) * 2^f: i = round(-8*log2(e)*z), |f| <= 1/16. 2^(i/8) is an entry of root8 with
// i/8's whole part added to its exponent, and 2^f a cubic that is 1 at 0; its error is below 4e-8 relative. The product with
// log2(e) is rounded once, after n has been taken from it; what the constant itself lacks adds 1.4e-8*|z|.
//
// |z| is cut at 87 for the exponential alone: beyond, 1 + exp(-z) is 1, or silu(z) is z * 1.6e-38.
VEC(sigmoidMax, $87.0)
VEC(sigmoidMin, $-87.0)
VEC(minusLog2e, $-1.44269504088896341)
// 1.5*2^20: the sum with x is x rounded to eighths; its lowest three bits count the eighths, those above the whole part.
VEC(magicEighths, $1572864.0)
VEC(h1, $0.6931471824645996)
VEC(h2, $0.24025468528270721)
VEC(h3, $0.05550801381468773)
// root8 is 2^(j/8), less the j<<20 that i<<20 brings into the mantissa.
DATA root8<>+0(SB)/4, $0x3f800000
DATA root8<>+4(SB)/4, $0x3f7b95c2
DATA root8<>+8(SB)/4, $0x3f7837f0
DATA root8<>+12(SB)/4, $0x3f75fed7
DATA root8<>+16(SB)/4, $0x3f7504f3
DATA root8<>+20(SB)/4, $0x3f75672a
DATA root8<>+24(SB)/4, $0x3f7744fd
DATA root8<>+28(SB)/4, $0x3f7ac0c7
GLOBL root8<>(SB), RODATA|NOPTR, $32

// Y8..Y13 hold the constants that are used most.
#define SILUCONSTS \
	VMOVUPS magicEighths<>(SB), Y9; \
	VMOVUPS minusLog2e<>(SB), Y10; \
	VMOVUPS one<>(SB), Y11; \
	VMOVUPS h1<>(SB), Y12; \
	VMOVUPS h2<>(SB), Y13; \
	VMOVUPS h3<>(SB), Y8

// EXPMINUS: n * t = exp(-z); x is lost.
#define EXPMINUS(z, n, x, t) \
	VMINPS sigmoidMax<>(SB), z, x; \
	VMAXPS sigmoidMin<>(SB), x, x; \
	VMOVAPS Y9, n; \
	VFMADD231PS Y10, x, n; \
	VSUBPS Y9, n, t; \
	VFMSUB132PS Y10, t, x; \
	VPERMPS root8<>(SB), n, t; \
	VPSLLD $20, n, n; \
	VPADDD n, t, t; \
	VMOVAPS Y8, n; \
	VFMADD213PS Y13, x, n; \
	VFMADD213PS Y12, x, n; \
	VFMADD213PS Y11, x, n

// SILU, and SILU2 of two at once: z = silu(z); n, x and t are lost.
#define SILU(z, n, x, t) \
	EXPMINUS(z, n, x, t); \
	VFMADD213PS Y11, t, n; \
	VDIVPS n, z, z

#define SILU2(z, n, x, t, zz, nn, xx, tt) \
	VMINPS sigmoidMax<>(SB), z, x; \
	VMINPS sigmoidMax<>(SB), zz, xx; \
	VMAXPS sigmoidMin<>(SB), x, x; \
	VMAXPS sigmoidMin<>(SB), xx, xx; \
	VMOVAPS Y9, n; \
	VMOVAPS Y9, nn; \
	VFMADD231PS Y10, x, n; \
	VFMADD231PS Y10, xx, nn; \
	VSUBPS Y9, n, t; \
	VSUBPS Y9, nn, tt; \
	VFMSUB132PS Y10, t, x; \
	VFMSUB132PS Y10, tt, xx; \
	VPERMPS root8<>(SB), n, t; \
	VPERMPS root8<>(SB), nn, tt; \
	VPSLLD $20, n, n; \
	VPSLLD $20, nn, nn; \
	VPADDD n, t, t; \
	VPADDD nn, tt, tt; \
	VMOVAPS Y8, n; \
	VMOVAPS Y8, nn; \
	VFMADD213PS Y13, x, n; \
	VFMADD213PS Y13, xx, nn; \
	VFMADD213PS Y12, x, n; \
	VFMADD213PS Y12, xx, nn; \
	VFMADD213PS Y11, x, n; \
	VFMADD213PS Y11, xx, nn; \
	VFMADD213PS Y11, t, n; \
	VFMADD213PS Y11, tt, nn; \
	VDIVPS n, z, z; \
	VDIVPS nn, zz, zz

// SILULOOP takes CX numbers from SI to DI; BEFORE maps the register that it names.
#define SILULOOP(BEFORE) \
	SUBQ $16, CX; \
	JLT  rest; \
pairs: \
	VMOVUPS (SI), Y0; \
	VMOVUPS 32(SI), Y4; \
	BEFORE(Y0); \
	BEFORE(Y4); \
	SILU2(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7); \
	VMOVUPS Y0, (DI); \
	VMOVUPS Y4, 32(DI); \
	ADDQ $64, SI; \
	ADDQ $64, DI; \
	SUBQ $16, CX; \
	JGE  pairs; \
rest: \
	ADDQ $8, CX; \
	JLT  tail; \
	VMOVUPS (SI), Y0; \
	BEFORE(Y0); \
	SILU(Y0, Y1, Y2, Y3); \
	VMOVUPS Y0, (DI); \
	ADDQ $32, SI; \
	ADDQ $32, DI; \
	SUBQ $8, CX; \
tail: \
	ADDQ $8, CX; \
	JZ   done; \
	TAILMASK(Y4); \
	VMASKMOVPS (SI), Y4, Y0; \
	BEFORE(Y0); \
	SILU(Y0, Y1, Y2, Y3); \
	VMASKMOVPS Y0, Y4, (DI); \
done: \
	VZEROUPPER; \
	RET

// func siluAVX2(y, x *float32, n int)
TEXT ·siluAVX2(SB), NOSPLIT, $0-24
	ARGS1
	SILUCONSTS
#define ASITIS(z)
	SILULOOP(ASITIS)

// func affineSiLUAVX2(y, x *float32, n int, a, b float32)
TEXT ·affineSiLUAVX2(SB), NOSPLIT, $0-32
	ARGS1
	VBROADCASTSS a+24(FP), Y14
	VBROADCASTSS b+28(FP), Y15
	SILUCONSTS
#define AFFINE(z) VFMADD213PS Y15, Y14, z
	SILULOOP(AFFINE)

// Y0 = dy, Y1 = z: e = exp(-z), s = 1/(1+e), Y0 = dy * s*(1 + z*e*s), with |z| cut at 87: numbers above 1e30 would
// not be outweighed by 1.6e-38. NaN stays NaN, for MIN and MAX return their first operand here.
#define BODYSILUGRAD \
	VMOVUPS sigmoidMax<>(SB), Y2; \
	VMOVUPS sigmoidMin<>(SB), Y3; \
	VMINPS Y1, Y2, Y1; \
	VMAXPS Y1, Y3, Y1; \
	EXPMINUS(Y1, Y2, Y3, Y4); \
	VMULPS Y4, Y2, Y2; \
	VADDPS Y11, Y2, Y3; \
	VDIVPS Y3, Y11, Y3; \
	VMULPS Y3, Y2, Y2; \
	VFMADD213PS Y11, Y2, Y1; \
	VMULPS Y3, Y1, Y1; \
	VMULPS Y1, Y0, Y0

// func siluGradAVX2(dx, dy, x *float32, n int)
TEXT ·siluGradAVX2(SB), NOSPLIT, $0-32
	ARGS2
	SILUCONSTS
	LOOP2(BODYSILUGRAD)

#define BODYAFFINESILUGRAD \
	VFMADD213PS Y15, Y14, Y1; \
	BODYSILUGRAD

// func affineSiLUGradAVX2(dz, dy, x *float32, n int, a, b float32)
TEXT ·affineSiLUGradAVX2(SB), NOSPLIT, $0-40
	ARGS2
	VBROADCASTSS a+32(FP), Y14
	VBROADCASTSS b+36(FP), Y15
	SILUCONSTS
	LOOP2(BODYAFFINESILUGRAD)

// GELU is max(x,0) - G(|x|), G(a) = a*P(Z > a). G is a polynomial of degree 7 around each of 0, 7/8, .. 6*7/8, and 0 beyond
// 6.5*7/8, where it is 3.7e-8. Around 0 it has no constant term. Its largest error before rounding is 1.3e-8; g<>k is the
// coefficient of degree k of each of the eight.
VEC(geluEnd, $6.125)
VEC(geluStep, $0.875)
VEC(geluPerStep, $1.142857142857142857)
VEC(magic, $12582912.0) // 1.5*2^23: the sum's lowest bits are the nearest integer
DATA g0<>+0(SB)/4, $0x00000000
DATA g0<>+4(SB)/4, $0x3e2af1f3
DATA g0<>+8(SB)/4, $0x3d8f9270
DATA g0<>+12(SB)/4, $0x3c3a5476
DATA g0<>+16(SB)/4, $0x3a557032
DATA g0<>+20(SB)/4, $0x37ded450
DATA g0<>+24(SB)/4, $0x34d657ff
DATA g0<>+28(SB)/4, $0x00000000
GLOBL g0<>(SB), RODATA|NOPTR, $32
DATA g1<>+0(SB)/4, $0x3f000000
DATA g1<>+4(SB)/4, $0xbd4194eb
DATA g1<>+8(SB)/4, $0xbde32d42
DATA g1<>+12(SB)/4, $0xbcee211c
DATA g1<>+16(SB)/4, $0xbb38ed4c
DATA g1<>+20(SB)/4, $0xb8f2a541
DATA g1<>+24(SB)/4, $0xb60c5958
DATA g1<>+28(SB)/4, $0x00000000
GLOBL g1<>(SB), RODATA|NOPTR, $32
DATA g2<>+0(SB)/4, $0xbecc4239
DATA g2<>+4(SB)/4, $0xbe2bf0ab
DATA g2<>+8(SB)/4, $0x3d3bbd80
DATA g2<>+12(SB)/4, $0x3cfee47a
DATA g2<>+16(SB)/4, $0x3b928d39
DATA g2<>+20(SB)/4, $0x397a2391
DATA g2<>+24(SB)/4, $0x36b122c4
DATA g2<>+28(SB)/4, $0x00000000
GLOBL g2<>(SB), RODATA|NOPTR, $32
DATA g3<>+0(SB)/4, $0x371b4d65
DATA g3<>+4(SB)/4, $0x3e0366e0
DATA g3<>+8(SB)/4, $0x3cc1444d
DATA g3<>+12(SB)/4, $0xbc83d33b
DATA g3<>+16(SB)/4, $0xbb899df1
DATA g3<>+20(SB)/4, $0xb9a11aa7
DATA g3<>+24(SB)/4, $0xb70ed635
DATA g3<>+28(SB)/4, $0x00000000
GLOBL g3<>(SB), RODATA|NOPTR, $32
DATA g4<>+0(SB)/4, $0x3d87fdfd
DATA g4<>+4(SB)/4, $0xbc0f0877
DATA g4<>+8(SB)/4, $0xbced5cee
DATA g4<>+12(SB)/4, $0x3ae0e323
DATA g4<>+16(SB)/4, $0x3b22f4c1
DATA g4<>+20(SB)/4, $0x398fa9b4
DATA g4<>+24(SB)/4, $0x3723b0a4
DATA g4<>+28(SB)/4, $0x00000000
GLOBL g4<>(SB), RODATA|NOPTR, $32
DATA g5<>+0(SB)/4, $0x39eb750d
DATA g5<>+4(SB)/4, $0xbca51611
DATA g5<>+8(SB)/4, $0x3c01dd31
DATA g5<>+12(SB)/4, $0x3b3c8480
DATA g5<>+16(SB)/4, $0xba5e7bdd
DATA g5<>+20(SB)/4, $0xb939132a
DATA g5<>+24(SB)/4, $0xb70f404a
DATA g5<>+28(SB)/4, $0x00000000
GLOBL g5<>(SB), RODATA|NOPTR, $32
DATA g6<>+0(SB)/4, $0xbc383893
DATA g6<>+4(SB)/4, $0x3b8c7154
DATA g6<>+8(SB)/4, $0x3b074d3f
DATA g6<>+12(SB)/4, $0xbadfadd4
DATA g6<>+16(SB)/4, $0x38061d48
DATA g6<>+20(SB)/4, $0x38ad401b
DATA g6<>+24(SB)/4, $0x36d4d5b8
DATA g6<>+28(SB)/4, $0x00000000
GLOBL g6<>(SB), RODATA|NOPTR, $32
DATA g7<>+0(SB)/4, $0x3af81ce6
DATA g7<>+4(SB)/4, $0x3b04eacf
DATA g7<>+8(SB)/4, $0xbacd0c4a
DATA g7<>+12(SB)/4, $0x398b9d1d
DATA g7<>+16(SB)/4, $0x38e80858
DATA g7<>+20(SB)/4, $0xb7cb9fb8
DATA g7<>+24(SB)/4, $0xb65f3356
DATA g7<>+28(SB)/4, $0x00000000
GLOBL g7<>(SB), RODATA|NOPTR, $32

// Y8 = 0, Y9 = magic, Y10..Y15 = g2..g7.
#define GELUCONSTS \
	VXORPS Y8, Y8, Y8; \
	VMOVUPS magic<>(SB), Y9; \
	VMOVUPS g2<>(SB), Y10; \
	VMOVUPS g3<>(SB), Y11; \
	VMOVUPS g4<>(SB), Y12; \
	VMOVUPS g5<>(SB), Y13; \
	VMOVUPS g6<>(SB), Y14; \
	VMOVUPS g7<>(SB), Y15

// G(x, a, n, f, p): p = G(|x|); a, n and f are lost, and a may be x.
#define G(x, a, n, f, p) \
	VANDPS abs<>(SB), x, a; \
	VMINPS geluEnd<>(SB), a, a; \
	VMOVAPS Y9, n; \
	VFMADD231PS geluPerStep<>(SB), a, n; \
	VSUBPS Y9, n, f; \
	VFNMADD132PS geluStep<>(SB), a, f; \
	VPERMPS Y15, n, p; \
	VPERMPS Y14, n, a; \
	VFMADD213PS a, f, p; \
	VPERMPS Y13, n, a; \
	VFMADD213PS a, f, p; \
	VPERMPS Y12, n, a; \
	VFMADD213PS a, f, p; \
	VPERMPS Y11, n, a; \
	VFMADD213PS a, f, p; \
	VPERMPS Y10, n, a; \
	VFMADD213PS a, f, p; \
	VPERMPS g1<>(SB), n, a; \
	VFMADD213PS a, f, p; \
	VPERMPS g0<>(SB), n, a; \
	VFMADD213PS a, f, p

#define G2(x, a, n, f, p, xx, aa, nn, ff, pp) \
	VANDPS abs<>(SB), x, a; \
	VANDPS abs<>(SB), xx, aa; \
	VMINPS geluEnd<>(SB), a, a; \
	VMINPS geluEnd<>(SB), aa, aa; \
	VMOVAPS Y9, n; \
	VMOVAPS Y9, nn; \
	VFMADD231PS geluPerStep<>(SB), a, n; \
	VFMADD231PS geluPerStep<>(SB), aa, nn; \
	VSUBPS Y9, n, f; \
	VSUBPS Y9, nn, ff; \
	VFNMADD132PS geluStep<>(SB), a, f; \
	VFNMADD132PS geluStep<>(SB), aa, ff; \
	VPERMPS Y15, n, p; \
	VPERMPS Y15, nn, pp; \
	VPERMPS Y14, n, a; \
	VPERMPS Y14, nn, aa; \
	VFMADD213PS a, f, p; \
	VFMADD213PS aa, ff, pp; \
	VPERMPS Y13, n, a; \
	VPERMPS Y13, nn, aa; \
	VFMADD213PS a, f, p; \
	VFMADD213PS aa, ff, pp; \
	VPERMPS Y12, n, a; \
	VPERMPS Y12, nn, aa; \
	VFMADD213PS a, f, p; \
	VFMADD213PS aa, ff, pp; \
	VPERMPS Y11, n, a; \
	VPERMPS Y11, nn, aa; \
	VFMADD213PS a, f, p; \
	VFMADD213PS aa, ff, pp; \
	VPERMPS Y10, n, a; \
	VPERMPS Y10, nn, aa; \
	VFMADD213PS a, f, p; \
	VFMADD213PS aa, ff, pp; \
	VPERMPS g1<>(SB), n, a; \
	VPERMPS g1<>(SB), nn, aa; \
	VFMADD213PS a, f, p; \
	VFMADD213PS aa, ff, pp; \
	VPERMPS g0<>(SB), n, a; \
	VPERMPS g0<>(SB), nn, aa; \
	VFMADD213PS a, f, p; \
	VFMADD213PS aa, ff, pp

// GELULOOP takes CX numbers from SI to DI, BX goes along. AHEAD is done before each pair of vectors, AFTER(at, y) to y before it
// is written; after the last whole vector LAST(y) is, with the mask of the elements in Y4.
#define GELULOOP(AHEAD, AFTER, LAST) \
	SUBQ $16, CX; \
	JLT  rest; \
pairs: \
	VMOVUPS (SI), Y0; \
	VMOVUPS 32(SI), Y4; \
	AHEAD; \
	G2(Y0, Y0, Y1, Y2, Y3, Y4, Y4, Y5, Y6, Y7); \
	VMAXPS (SI), Y8, Y0; \
	VMAXPS 32(SI), Y8, Y4; \
	VSUBPS Y3, Y0, Y0; \
	VSUBPS Y7, Y4, Y4; \
	AFTER(0, Y0); \
	AFTER(32, Y4); \
	VMOVUPS Y0, (DI); \
	VMOVUPS Y4, 32(DI); \
	ADDQ $64, SI; \
	ADDQ $64, BX; \
	ADDQ $64, DI; \
	SUBQ $16, CX; \
	JGE  pairs; \
rest: \
	ADDQ $8, CX; \
	JLT  tail; \
	VMOVUPS (SI), Y0; \
	G(Y0, Y0, Y1, Y2, Y3); \
	VMAXPS (SI), Y8, Y0; \
	VSUBPS Y3, Y0, Y0; \
	AFTER(0, Y0); \
	VMOVUPS Y0, (DI); \
	ADDQ $32, SI; \
	ADDQ $32, BX; \
	ADDQ $32, DI; \
	SUBQ $8, CX; \
tail: \
	ADDQ $8, CX; \
	JZ   done; \
	TAILMASK(Y4); \
	VMASKMOVPS (SI), Y4, Y5; \
	G(Y5, Y0, Y1, Y2, Y3); \
	VMAXPS Y5, Y8, Y0; \
	VSUBPS Y3, Y0, Y0; \
	LAST(Y0); \
	VMASKMOVPS Y0, Y4, (DI); \
done: \
	VZEROUPPER; \
	RET

// func geluAVX2(y, x *float32, n int)
TEXT ·geluAVX2(SB), NOSPLIT, $0-24
	ARGS1
	GELUCONSTS
#define NOWHERE
#define NOTHING(at, y)
#define NOTHINGLAST(y)
	GELULOOP(NOWHERE, NOTHING, NOTHINGLAST)

// func gegluAVX2(y, value, gate *float32, n int)
//
// It asks for the memory 2n floats on, the next row of GEGLU's input, which comes in pieces too short for the processor to foresee.
TEXT ·gegluAVX2(SB), NOSPLIT, $0-32
	MOVQ y+0(FP), DI
	MOVQ value+8(FP), BX
	MOVQ gate+16(FP), SI
	MOVQ n+24(FP), CX
	LEAQ (CX*8), R8
	GELUCONSTS
#define NEXTROW \
	PREFETCHT0 (SI)(R8*1); \
	PREFETCHT0 (BX)(R8*1)
#define TIMES(at, y) VMULPS at(BX), y, y
#define TIMESLAST(y) \
	VMASKMOVPS (BX), Y4, Y1; \
	VMULPS Y1, y, y
	GELULOOP(NEXTROW, TIMES, TIMESLAST)
