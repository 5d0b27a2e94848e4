//go:build amd64 && !noasm

#include "textflag.h"
#include "vec_amd64.h"

// AVX2 and FMA bodies of the loops in vec.go. Every element-wise loop treats its
// last n%8 elements with masked loads and stores and the same arithmetic, so an
// element's bits do not depend on its place.

VEC(one, $1.0)
VEC(half, $0.5)
VEC(minusHalf, $-0.5)
VEC(abs, $0x7fffffff)
VEC(minusInf, $0xff800000)
VEC(bias, $127)

// The exponential's constants: see vec.go.
VEC(log2e, $1.44269504088896341)
VEC(magic, $12582912.0)
VEC(ln2hi, $0.693359375)
VEC(ln2lo, $-2.12194440054690583e-4)
VEC(e2, $0.5)
VEC(e3, $0.16666666666666667)
VEC(e4, $0.041666666666666667)
VEC(e5, $0.0083333333333333333)
VEC(e6, $0.0013888888888888889)
VEC(e7, $0.00019841269841269841)
VEC(f3, $0.16666541993618011)
VEC(f4, $0.041667379438877106)
VEC(f5, $0.00836675614118576)
VEC(f6, $0.0013851390685886145)
// 1.5*2^23 + 127: the sum with n has n + 127, the exponent of 2^n, in its low bits.
VEC(magicBias, $12583039.0)
VEC(expMax, $89.0)
VEC(expMin, $-104.0)
// exp(-88) is below half the smallest normal number: it and all below become 0.
VEC(expFlush, $-88.0)

// The normal tail's constants: see vec.go.
VEC(tailP, $0.25)
VEC(invSqrt2Pi, $0.398942280401432678)
VEC(r0, $0.199471122073)
VEC(r1, $0.199474793537)
VEC(r2, $0.186879029413)
VEC(r3, $0.163779263586)
VEC(r4, $0.114892514242)
VEC(r5, $0.136547992075)
VEC(r6, $-0.0794937276531)
VEC(r7, $0.207597715863)
VEC(r8, $-0.17077846027)
VEC(r9, $0.0416297768871)

// REDUCE: x = x - n*ln(2) and n as a float; p = exp(x) by the polynomial.
#define REDUCE(x, n, p) \
	VMOVUPS magic<>(SB), n; \
	VFMADD231PS log2e<>(SB), x, n; \
	VSUBPS magic<>(SB), n, n; \
	VFNMADD231PS ln2hi<>(SB), n, x; \
	VFNMADD231PS ln2lo<>(SB), n, x; \
	VMOVUPS e7<>(SB), p; \
	VFMADD213PS e6<>(SB), x, p; \
	VFMADD213PS e5<>(SB), x, p; \
	VFMADD213PS e4<>(SB), x, p; \
	VFMADD213PS e3<>(SB), x, p; \
	VFMADD213PS e2<>(SB), x, p; \
	VFMADD213PS one<>(SB), x, p; \
	VFMADD213PS one<>(SB), x, p

// EXP: x = exp(x) over the whole range, through the subnormals; NaN stays NaN,
// for MIN and MAX return their first operand here. Y15 = expMax, Y14 = expMin.
#define EXP(x, n, p, t) \
	VMINPS x, Y15, x; \
	VMAXPS x, Y14, x; \
	REDUCE(x, n, p); \
	VCVTPS2DQ n, n; \
	VPSRAD $1, n, t; \
	VPSUBD t, n, n; \
	VPADDD bias<>(SB), t, t; \
	VPADDD bias<>(SB), n, n; \
	VPSLLD $23, t, t; \
	VPSLLD $23, n, n; \
	VMULPS t, p, p; \
	VMULPS n, p, x

// EXPFLUSH: x = exp(x) for x <= 88; results below the normal numbers are 0. With r the rest of x, 2^n * exp(r) is
// 2^n + 2^n * r * (1 + r/2 + ..), the polynomial with the smallest largest error, below 0.05 ulp. Y15 = expFlush.
#define EXPFLUSH(x, n, p) \
	VMAXPS x, Y15, x; \
	VMOVUPS magicBias<>(SB), n; \
	VFMADD231PS log2e<>(SB), x, n; \
	VSUBPS magicBias<>(SB), n, p; \
	VFNMADD231PS ln2hi<>(SB), p, x; \
	VFNMADD231PS ln2lo<>(SB), p, x; \
	VPSLLD $23, n, n; \
	VMOVUPS f6<>(SB), p; \
	VFMADD213PS f5<>(SB), x, p; \
	VFMADD213PS f4<>(SB), x, p; \
	VFMADD213PS f3<>(SB), x, p; \
	VFMADD213PS e2<>(SB), x, p; \
	VFMADD213PS one<>(SB), x, p; \
	VMULPS n, x, x; \
	VFMADD213PS n, p, x

// TAIL: from a = |x|: e = exp(-a*a/2), q = P(Z > a). Clobbers n, p.
#define TAIL(a, e, q, n, p) \
	VMULPS a, a, e; \
	VMULPS minusHalf<>(SB), e, e; \
	EXPFLUSH(e, n, p); \
	VMOVUPS one<>(SB), n; \
	VMOVUPS n, p; \
	VFMADD231PS tailP<>(SB), a, n; \
	VDIVPS n, p, n; \
	VMOVUPS r9<>(SB), q; \
	VFMADD213PS r8<>(SB), n, q; \
	VFMADD213PS r7<>(SB), n, q; \
	VFMADD213PS r6<>(SB), n, q; \
	VFMADD213PS r5<>(SB), n, q; \
	VFMADD213PS r4<>(SB), n, q; \
	VFMADD213PS r3<>(SB), n, q; \
	VFMADD213PS r2<>(SB), n, q; \
	VFMADD213PS r1<>(SB), n, q; \
	VFMADD213PS r0<>(SB), n, q; \
	VMULPS n, q, q; \
	VMULPS e, q, q; \
	VMULPS half<>(SB), q, q

// func expAVX2(y, x *float32, n int)
TEXT ·expAVX2(SB), NOSPLIT, $0-24
	ARGS1
	VMOVUPS expMax<>(SB), Y15
	VMOVUPS expMin<>(SB), Y14
#define BODYEXP EXP(Y0, Y1, Y2, Y3)
	LOOP1(BODYEXP)

#define BODYAFFINE VFMADD213PS Y12, Y11, Y0

// func affineAVX2(y, x *float32, n int, a, b float32)
TEXT ·affineAVX2(SB), NOSPLIT, $0-32
	ARGS1
	VBROADCASTSS a+24(FP), Y11
	VBROADCASTSS b+28(FP), Y12
	LOOP1(BODYAFFINE)

// Y0 = dy, Y1 = x: Y0 = dy * (Phi(x) + x*phi(x)).
#define BODYGELUGRAD \
	VANDPS abs<>(SB), Y1, Y2; \
	TAIL(Y2, Y3, Y4, Y5, Y6); \
	VMOVUPS one<>(SB), Y5; \
	VSUBPS Y4, Y5, Y5; \
	VBLENDVPS Y1, Y4, Y5, Y4; \
	VMULPS invSqrt2Pi<>(SB), Y3, Y3; \
	VFMADD231PS Y3, Y1, Y4; \
	VMULPS Y4, Y0, Y0

// func geluGradAVX2(dx, dy, x *float32, n int)
TEXT ·geluGradAVX2(SB), NOSPLIT, $0-32
	ARGS2
	VMOVUPS expFlush<>(SB), Y15
	LOOP2(BODYGELUGRAD)

#define BODYADD VADDPS Y1, Y0, Y0

// func addAVX2(y, a, b *float32, n int)
TEXT ·addAVX2(SB), NOSPLIT, $0-32
	ARGS2
	LOOP2(BODYADD)

#define BODYMUL VMULPS Y1, Y0, Y0

// func mulAVX2(y, a, b *float32, n int)
TEXT ·mulAVX2(SB), NOSPLIT, $0-32
	ARGS2
	LOOP2(BODYMUL)

// Y0 = u*Y0 + v*Y1, u in Y11, v in Y12.
#define BODYLERP \
	VMULPS Y12, Y1, Y1; \
	VFMADD213PS Y1, Y11, Y0

// func lerpAVX2(y, a, b *float32, n int, u, v float32)
TEXT ·lerpAVX2(SB), NOSPLIT, $0-40
	ARGS2
	VBROADCASTSS u+32(FP), Y11
	VBROADCASTSS v+36(FP), Y12
	LOOP2(BODYLERP)

// Y0 = a*Y0 + (b*Y1 + c), a, b, c in Y10, Y11, Y12.
#define BODYAFFINE2 \
	VFMADD213PS Y12, Y11, Y1; \
	VFMADD213PS Y1, Y10, Y0

// func affine2AVX2(y, u, v *float32, n int, a, b, c float32)
TEXT ·affine2AVX2(SB), NOSPLIT, $0-44
	MOVQ y+0(FP), DI
	MOVQ u+8(FP), SI
	MOVQ v+16(FP), BX
	MOVQ n+24(FP), CX
	VBROADCASTSS a+32(FP), Y10
	VBROADCASTSS b+36(FP), Y11
	VBROADCASTSS c+40(FP), Y12
	LOOP2(BODYAFFINE2)

// Y0 = y, Y1 = x.
#define BODYAXPY VFMADD231PS Y11, Y1, Y0

// func axpyAVX2(y, x *float32, n int, a float32)
TEXT ·axpyAVX2(SB), NOSPLIT, $0-28
	MOVQ y+0(FP), DI
	MOVQ DI, SI
	MOVQ x+8(FP), BX
	MOVQ n+16(FP), CX
	VBROADCASTSS a+24(FP), Y11
	LOOP2(BODYAXPY)

// FOLD4: X0 = the sum of the sixteen doubles in Y0..Y3.
#define FOLD4 \
	VADDPD Y2, Y0, Y0; \
	VADDPD Y3, Y1, Y1; \
	VADDPD Y1, Y0, Y0; \
	VEXTRACTF128 $1, Y0, X1; \
	VADDPD X1, X0, X0; \
	VPERMILPD $1, X0, X1; \
	VADDSD X1, X0, X0

// func sumAVX2(x *float32, n int) float64
TEXT ·sumAVX2(SB), NOSPLIT, $0-24
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	VXORPD Y0, Y0, Y0
	VXORPD Y1, Y1, Y1
	VXORPD Y2, Y2, Y2
	VXORPD Y3, Y3, Y3
loop:
	CMPQ CX, $16
	JLT  fold
	VCVTPS2PD (SI), Y4
	VCVTPS2PD 16(SI), Y5
	VCVTPS2PD 32(SI), Y6
	VCVTPS2PD 48(SI), Y7
	VADDPD Y4, Y0, Y0
	VADDPD Y5, Y1, Y1
	VADDPD Y6, Y2, Y2
	VADDPD Y7, Y3, Y3
	ADDQ $64, SI
	SUBQ $16, CX
	JMP  loop
fold:
	FOLD4
tail:
	TESTQ CX, CX
	JZ   done
	VXORPS X1, X1, X1
	VCVTSS2SD (SI), X1, X1
	VADDSD X1, X0, X0
	ADDQ $4, SI
	DECQ CX
	JMP  tail
done:
	VMOVSD X0, ret+16(FP)
	VZEROUPPER
	RET

// func sumSquaresAVX2(x *float32, n int, m float64) float64
TEXT ·sumSquaresAVX2(SB), NOSPLIT, $0-32
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	VBROADCASTSD m+16(FP), Y8
	VXORPD Y0, Y0, Y0
	VXORPD Y1, Y1, Y1
	VXORPD Y2, Y2, Y2
	VXORPD Y3, Y3, Y3
loop:
	CMPQ CX, $16
	JLT  fold
	VCVTPS2PD (SI), Y4
	VCVTPS2PD 16(SI), Y5
	VCVTPS2PD 32(SI), Y6
	VCVTPS2PD 48(SI), Y7
	VSUBPD Y8, Y4, Y4
	VSUBPD Y8, Y5, Y5
	VSUBPD Y8, Y6, Y6
	VSUBPD Y8, Y7, Y7
	VFMADD231PD Y4, Y4, Y0
	VFMADD231PD Y5, Y5, Y1
	VFMADD231PD Y6, Y6, Y2
	VFMADD231PD Y7, Y7, Y3
	ADDQ $64, SI
	SUBQ $16, CX
	JMP  loop
fold:
	FOLD4
tail:
	TESTQ CX, CX
	JZ   done
	VXORPS X1, X1, X1
	VCVTSS2SD (SI), X1, X1
	VSUBSD X8, X1, X1
	VFMADD231SD X1, X1, X0
	ADDQ $4, SI
	DECQ CX
	JMP  tail
done:
	VMOVSD X0, ret+24(FP)
	VZEROUPPER
	RET

// func dotAVX2(x, y *float32, n int) float64
TEXT ·dotAVX2(SB), NOSPLIT, $0-32
	MOVQ x+0(FP), SI
	MOVQ y+8(FP), BX
	MOVQ n+16(FP), CX
	VXORPD Y0, Y0, Y0
	VXORPD Y1, Y1, Y1
	VXORPD Y2, Y2, Y2
	VXORPD Y3, Y3, Y3
loop:
	CMPQ CX, $16
	JLT  fold
	VCVTPS2PD (SI), Y4
	VCVTPS2PD 16(SI), Y5
	VCVTPS2PD 32(SI), Y6
	VCVTPS2PD 48(SI), Y7
	VCVTPS2PD (BX), Y8
	VCVTPS2PD 16(BX), Y9
	VCVTPS2PD 32(BX), Y10
	VCVTPS2PD 48(BX), Y11
	VFMADD231PD Y4, Y8, Y0
	VFMADD231PD Y5, Y9, Y1
	VFMADD231PD Y6, Y10, Y2
	VFMADD231PD Y7, Y11, Y3
	ADDQ $64, SI
	ADDQ $64, BX
	SUBQ $16, CX
	JMP  loop
fold:
	FOLD4
tail:
	TESTQ CX, CX
	JZ   done
	VXORPS X1, X1, X1
	VXORPS X2, X2, X2
	VCVTSS2SD (SI), X1, X1
	VCVTSS2SD (BX), X2, X2
	VFMADD231SD X1, X2, X0
	ADDQ $4, SI
	ADDQ $4, BX
	DECQ CX
	JMP  tail
done:
	VMOVSD X0, ret+24(FP)
	VZEROUPPER
	RET

// func maxAVX2(x *float32, n int) float32
TEXT ·maxAVX2(SB), NOSPLIT, $0-20
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	VMOVUPS minusInf<>(SB), Y0
	VMOVUPS Y0, Y1
	VMOVUPS Y0, Y2
loop:
	CMPQ CX, $16
	JLT  eight
	VMAXPS (SI), Y0, Y0
	VMAXPS 32(SI), Y1, Y1
	ADDQ $64, SI
	SUBQ $16, CX
	JMP  loop
eight:
	CMPQ CX, $8
	JLT  tail
	VMAXPS (SI), Y0, Y0
	ADDQ $32, SI
	SUBQ $8, CX
tail:
	TESTQ CX, CX
	JZ   fold
	TAILMASK(Y13)
	VMASKMOVPS (SI), Y13, Y3
	VBLENDVPS Y13, Y3, Y2, Y3
	VMAXPS Y3, Y0, Y0
fold:
	VMAXPS Y1, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VMAXPS X1, X0, X0
	VPERMILPS $0x4e, X0, X1
	VMAXPS X1, X0, X0
	VPERMILPS $0xb1, X0, X1
	VMAXPS X1, X0, X0
	VMOVSS X0, ret+16(FP)
	VZEROUPPER
	RET

// func expSumAVX2(y, x *float32, n int, s, m float32) float32
TEXT ·expSumAVX2(SB), NOSPLIT, $0-36
	ARGS1
	VBROADCASTSS s+24(FP), Y11
	VBROADCASTSS m+28(FP), Y12
	VMOVUPS expFlush<>(SB), Y15
	VXORPS Y10, Y10, Y10
loop:
	CMPQ CX, $8
	JLT  tail
	VMOVUPS (SI), Y0
	VFMSUB213PS Y12, Y11, Y0
	EXPFLUSH(Y0, Y1, Y2)
	VMOVUPS Y0, (DI)
	VADDPS Y0, Y10, Y10
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JMP  loop
tail:
	TESTQ CX, CX
	JZ   fold
	TAILMASK(Y13)
	VMASKMOVPS (SI), Y13, Y0
	VFMSUB213PS Y12, Y11, Y0
	EXPFLUSH(Y0, Y1, Y2)
	VMASKMOVPS Y0, Y13, (DI)
	VANDPS Y13, Y0, Y0
	VADDPS Y0, Y10, Y10
fold:
	VEXTRACTF128 $1, Y10, X1
	VADDPS X1, X10, X0
	VPERMILPS $0x4e, X0, X1
	VADDPS X1, X0, X0
	VPERMILPS $0xb1, X0, X1
	VADDPS X1, X0, X0
	VMOVSS X0, ret+32(FP)
	VZEROUPPER
	RET

// func accumulateAVX2(acc *float64, x *float32, n int): n is a multiple of 4.
TEXT ·accumulateAVX2(SB), NOSPLIT, $0-24
	MOVQ acc+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
loop:
	CMPQ CX, $4
	JLT  done
	VCVTPS2PD (SI), Y0
	VADDPD (DI), Y0, Y0
	VMOVUPD Y0, (DI)
	ADDQ $16, SI
	ADDQ $32, DI
	SUBQ $4, CX
	JMP  loop
done:
	VZEROUPPER
	RET

// ADAM: Y0 = param, Y1 = grad, Y2 = m, Y3 = v to the new param, m, v. Y4 = beta1,
// Y5 = 1-beta1, Y6 = beta2, Y7 = 1-beta2, Y8 = gradScale, Y9 = 1/sqrt(bias2),
// Y10 = eps, Y11 = decay, Y12 = stepSize.
#define ADAM \
	VMULPS Y8, Y1, Y1; \
	VMULPS Y4, Y2, Y2; \
	VFMADD231PS Y5, Y1, Y2; \
	VMULPS Y1, Y1, Y1; \
	VMULPS Y6, Y3, Y3; \
	VFMADD231PS Y7, Y1, Y3; \
	VSQRTPS Y3, Y14; \
	VFMADD213PS Y10, Y9, Y14; \
	VMULPS Y12, Y2, Y15; \
	VDIVPS Y14, Y15, Y15; \
	VFMSUB213PS Y15, Y11, Y0

// func adamAVX2(param, grad, m, v *float32, n int, c *adamConstants)
TEXT ·adamAVX2(SB), NOSPLIT, $0-48
	MOVQ param+0(FP), DI
	MOVQ grad+8(FP), SI
	MOVQ m+16(FP), R8
	MOVQ v+24(FP), R9
	MOVQ n+32(FP), CX
	MOVQ c+40(FP), AX
	VBROADCASTSS 0(AX), Y4
	VBROADCASTSS 4(AX), Y5
	VBROADCASTSS 8(AX), Y6
	VBROADCASTSS 12(AX), Y7
	VBROADCASTSS 16(AX), Y8
	VBROADCASTSS 20(AX), Y9
	VBROADCASTSS 24(AX), Y10
	VBROADCASTSS 28(AX), Y11
	VBROADCASTSS 32(AX), Y12
loop:
	CMPQ CX, $8
	JLT  tail
	VMOVUPS (DI), Y0
	VMOVUPS (SI), Y1
	VMOVUPS (R8), Y2
	VMOVUPS (R9), Y3
	ADAM
	VMOVUPS Y0, (DI)
	VMOVUPS Y2, (R8)
	VMOVUPS Y3, (R9)
	ADDQ $32, DI
	ADDQ $32, SI
	ADDQ $32, R8
	ADDQ $32, R9
	SUBQ $8, CX
	JMP  loop
tail:
	TESTQ CX, CX
	JZ   done
	TAILMASK(Y13)
	VMASKMOVPS (DI), Y13, Y0
	VMASKMOVPS (SI), Y13, Y1
	VMASKMOVPS (R8), Y13, Y2
	VMASKMOVPS (R9), Y13, Y3
	ADAM
	VMASKMOVPS Y0, Y13, (DI)
	VMASKMOVPS Y2, Y13, (R8)
	VMASKMOVPS Y3, Y13, (R9)
done:
	VZEROUPPER
	RET

// func gatherLerpAVX2(y, x *float32, lo *int32, w0, w1 *float32, n int)
//
// y[j] = w0[j]*x[lo[j]] + w1[j]*x[lo[j]+1], n a multiple of 8; the eight lo of a
// group rise by at most 15, and 17 floats may be read from the first of them.
TEXT ·gatherLerpAVX2(SB), NOSPLIT, $0-48
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ lo+16(FP), R8
	MOVQ w0+24(FP), R9
	MOVQ w1+32(FP), R10
	MOVQ n+40(FP), CX
loop:
	CMPQ CX, $8
	JLT  done
	MOVLQSX (R8), AX
	VPBROADCASTD (R8), Y1
	VMOVDQU (R8), Y0
	VPSUBD Y1, Y0, Y0            // place within the window
	VPSLLD $28, Y0, Y1           // its bit 3, as the sign: second half of the window
	LEAQ (SI)(AX*4), BX
	VPERMPS (BX), Y0, Y2
	VPERMPS 32(BX), Y0, Y3
	VPERMPS 4(BX), Y0, Y4
	VPERMPS 36(BX), Y0, Y5
	VBLENDVPS Y1, Y3, Y2, Y2
	VBLENDVPS Y1, Y5, Y4, Y4
	VMULPS (R10), Y4, Y4
	VMOVUPS (R9), Y3
	VFMADD213PS Y4, Y3, Y2
	VMOVUPS Y2, (DI)
	ADDQ $32, DI
	ADDQ $32, R8
	ADDQ $32, R9
	ADDQ $32, R10
	SUBQ $8, CX
	JMP  loop
done:
	VZEROUPPER
	RET

// func softmaxColumnsAVX2(s *float32, keys, cols int, top, sum, factor *float32)
//
// A round takes eight columns: Y10 the maximum, Y11 its old value, Y9 the sum.
TEXT ·softmaxColumnsAVX2(SB), NOSPLIT, $0-48
	MOVQ s+0(FP), DI
	MOVQ keys+8(FP), R8
	MOVQ cols+16(FP), R9
	MOVQ top+24(FP), R10
	MOVQ sum+32(FP), R11
	MOVQ factor+40(FP), R12
	MOVQ R9, R13
	SHLQ $2, R13                 // bytes from key to key
	VMOVUPS expFlush<>(SB), Y15
columns:
	VMOVUPS (R10), Y11
	VMOVUPS Y11, Y10
	MOVQ DI, SI
	MOVQ R8, CX
maximum:
	VMAXPS (SI), Y10, Y10
	ADDQ R13, SI
	DECQ CX
	JNZ  maximum
	VMOVUPS Y10, (R10)
	VSUBPS Y10, Y11, Y0
	EXPFLUSH(Y0, Y1, Y2)
	VMOVUPS Y0, (R12)
	VMULPS (R11), Y0, Y11
	VXORPS Y9, Y9, Y9
	MOVQ DI, SI
	MOVQ R8, CX
exponentials:
	VMOVUPS (SI), Y0
	VSUBPS Y10, Y0, Y0
	EXPFLUSH(Y0, Y1, Y2)
	VMOVUPS Y0, (SI)
	VADDPS Y0, Y9, Y9
	ADDQ R13, SI
	DECQ CX
	JNZ  exponentials
	VADDPS Y9, Y11, Y11
	VMOVUPS Y11, (R11)
	ADDQ $32, DI
	ADDQ $32, R10
	ADDQ $32, R11
	ADDQ $32, R12
	SUBQ $8, R9
	JNZ  columns
	VZEROUPPER
	RET

// func softmaxGradColumnsAVX2(prob, grad *float32, keys, cols int, inv *float32, scale float32)
//
// A round takes eight columns: Y8 = inv, Y9 = sum of prob*grad, Y12 = scale.
TEXT ·softmaxGradColumnsAVX2(SB), NOSPLIT, $0-44
	MOVQ prob+0(FP), DI
	MOVQ grad+8(FP), BX
	MOVQ keys+16(FP), R8
	MOVQ cols+24(FP), R9
	MOVQ inv+32(FP), R10
	VBROADCASTSS scale+40(FP), Y12
	MOVQ R9, R13
	SHLQ $2, R13                 // bytes from key to key
columns:
	VMOVUPS (R10), Y8
	VXORPS Y9, Y9, Y9
	XORQ DX, DX
	MOVQ R8, CX
sums:
	VMULPS (DI)(DX*1), Y8, Y0
	VMOVUPS Y0, (DI)(DX*1)
	VFMADD231PS (BX)(DX*1), Y0, Y9
	ADDQ R13, DX
	DECQ CX
	JNZ  sums
	XORQ DX, DX
	MOVQ R8, CX
gradients:
	VMOVUPS (BX)(DX*1), Y0
	VSUBPS Y9, Y0, Y0
	VMULPS (DI)(DX*1), Y12, Y1
	VMULPS Y1, Y0, Y0
	VMOVUPS Y0, (BX)(DX*1)
	ADDQ R13, DX
	DECQ CX
	JNZ  gradients
	ADDQ $32, DI
	ADDQ $32, BX
	ADDQ $32, R10
	SUBQ $8, R9
	JNZ  columns
	VZEROUPPER
	RET
