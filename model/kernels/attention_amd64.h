// The bodies of attention's loops, written for vector registers V0..V15 of LANES floats (VB bytes): the file that includes
// this one says which. attention_portable.go specifies them.
//
// A strip is 3 or 2 vectors of queries. The product of a strip with 4 rows of packed K or V keeps in registers
//
//	V0..V11   accumulators, row i in V(3i), V(3i+1), V(3i+2), or V(2i), V(2i+1)
//	V12..V14  one row of the strip
//	V15       an element of the packed operand in every lane
//	AX  walks the packed operand, 4 floats a step     DX  walks the strip     CX  what is left of the sum

#define FMA3(at, x, y, z) VBROADCASTSS at(AX), V15; VFMADD231PS V12, V15, x; VFMADD231PS V13, V15, y; VFMADD231PS V14, V15, z
#define STEP3(a, b) \
	VMOVUPS (b)(DX), V12; \
	VMOVUPS (b+VB)(DX), V13; \
	VMOVUPS (b+2*VB)(DX), V14; \
	FMA3(a, V0, V1, V2); \
	FMA3(a+4, V3, V4, V5); \
	FMA3(a+8, V6, V7, V8); \
	FMA3(a+12, V9, V10, V11)

#define FMA2(at, x, y) VBROADCASTSS at(AX), V15; VFMADD231PS V12, V15, x; VFMADD231PS V13, V15, y
#define STEP2(a, b) \
	VMOVUPS (b)(DX), V12; \
	VMOVUPS (b+VB)(DX), V13; \
	FMA2(a, V0, V1); \
	FMA2(a+4, V2, V3); \
	FMA2(a+8, V4, V5); \
	FMA2(a+12, V6, V7)

// SUM runs over the CX steps, 1 or more, in order; as and row are the bytes of a step in the packed operand and the strip. Eight at a time: heads then take few
// enough turns for the processor to foresee the last one.
#define SUM(STEP, as, row, eight, rest, four, last, one, done) \
	SUBQ $8, CX; \
	JLT  rest; \
eight: \
	STEP(0, 0); \
	STEP(as, row); \
	STEP(2*as, 2*row); \
	STEP(3*as, 3*row); \
	STEP(4*as, 4*row); \
	STEP(5*as, 5*row); \
	STEP(6*as, 6*row); \
	STEP(7*as, 7*row); \
	ADDQ $(8*as), AX; \
	ADDQ $(8*row), DX; \
	SUBQ $8, CX; \
	JGE  eight; \
rest: \
	ADDQ $8, CX; \
	JZ   done; \
	SUBQ $4, CX; \
	JLT  last; \
four: \
	STEP(0, 0); \
	STEP(as, row); \
	STEP(2*as, 2*row); \
	STEP(3*as, 3*row); \
	ADDQ $(4*as), AX; \
	ADDQ $(4*row), DX; \
	SUBQ $4, CX; \
last: \
	ADDQ $4, CX; \
	JZ   done; \
one: \
	STEP(0, 0); \
	ADDQ $as, AX; \
	ADDQ $row, DX; \
	DECQ CX; \
	JNZ  one; \
done:

#define ZERO(x) VXORPS x, x, x
#define ZERO8 ZERO(V0); ZERO(V1); ZERO(V2); ZERO(V3); ZERO(V4); ZERO(V5); ZERO(V6); ZERO(V7)
#define ZERO12 ZERO8; ZERO(V8); ZERO(V9); ZERO(V10); ZERO(V11)

#define ADD(i, x) VADDPS (i*VB)(DI), x, x
#define ADD8 ADD(0, V0); ADD(1, V1); ADD(2, V2); ADD(3, V3); ADD(4, V4); ADD(5, V5); ADD(6, V6); ADD(7, V7)
#define ADD12 ADD8; ADD(8, V8); ADD(9, V9); ADD(10, V10); ADD(11, V11)

#define PUT(i, x) VMOVUPS x, (i*VB)(DI)
#define PUT8 PUT(0, V0); PUT(1, V1); PUT(2, V2); PUT(3, V3); PUT(4, V4); PUT(5, V5); PUT(6, V6); PUT(7, V7)
#define PUT12 PUT8; PUT(8, V8); PUT(9, V9); PUT(10, V10); PUT(11, V11)

// TOP: the i-th vector of R10 becomes its maximum with four rows.
#define TOP(i, a, b, c, d) \
	VMAXPS a, b, a; \
	VMAXPS c, d, c; \
	VMAXPS a, c, a; \
	VMAXPS (i*VB)(R10), a, a; \
	VMOVUPS a, (i*VB)(R10)
#define TOPS3 TOP(0, V0, V3, V6, V9); TOP(1, V1, V4, V7, V10); TOP(2, V2, V5, V8, V11)
#define TOPS2 TOP(0, V0, V2, V4, V6); TOP(1, V1, V3, V5, V7)

// SCORES: DI the scores, SI packed K, BX queries, R8 groups of 4 keys, R9 the depth, R10 the maxima, R11 bytes from group to
// group, R12 not 0 if the sums are added to what the scores hold.
#define SCORES(STEP, row, ZEROS, ADDS, PUTS, TOPS) \
	MOVQ s+0(FP), DI; \
	MOVQ k+8(FP), SI; \
	MOVQ q+16(FP), BX; \
	MOVQ top+24(FP), R10; \
	MOVQ groups+32(FP), R8; \
	MOVQ depth+40(FP), R9; \
	MOVQ pitch+48(FP), R11; \
	MOVQ more+56(FP), R12; \
	SHLQ $2, R11; \
group: \
	MOVQ SI, AX; \
	MOVQ BX, DX; \
	MOVQ R9, CX; \
	ZEROS; \
	SUM(STEP, 16, row, eight, rest, four, last, one, done) \
	TESTQ R12, R12; \
	JZ   first; \
	ADDS; \
first: \
	PUTS; \
	TOPS; \
	ADDQ R11, SI; \
	ADDQ $(4*row), DI; \
	DECQ R8; \
	JNZ  group; \
	VZEROUPPER; \
	RET

// KEEP: the i-th vector of the outputs becomes itself times a factor plus x.
#define KEEP(i, f, x) VMOVUPS (i*VB)(DI), V12; VFMADD231PS (f*VB)(R10), V12, x
#define KEEPS3 \
	KEEP(0, 0, V0); KEEP(1, 1, V1); KEEP(2, 2, V2); KEEP(3, 0, V3); KEEP(4, 1, V4); KEEP(5, 2, V5); \
	KEEP(6, 0, V6); KEEP(7, 1, V7); KEEP(8, 2, V8); KEEP(9, 0, V9); KEEP(10, 1, V10); KEEP(11, 2, V11)
#define KEEPS2 \
	KEEP(0, 0, V0); KEEP(1, 1, V1); KEEP(2, 0, V2); KEEP(3, 1, V3); \
	KEEP(4, 0, V4); KEEP(5, 1, V5); KEEP(6, 0, V6); KEEP(7, 1, V7)

// VALUES: DI the outputs, SI packed V, BX probabilities, R10 the factors, R8 groups of 4 outputs, R9 keys, R11 bytes from group
// to group, R12 not 0 if the outputs hold something.
#define VALUES(STEP, row, ZEROS, KEEPS, PUTS) \
	MOVQ acc+0(FP), DI; \
	MOVQ v+8(FP), SI; \
	MOVQ s+16(FP), BX; \
	MOVQ factor+24(FP), R10; \
	MOVQ groups+32(FP), R8; \
	MOVQ keys+40(FP), R9; \
	MOVQ pitch+48(FP), R11; \
	MOVQ more+56(FP), R12; \
	SHLQ $2, R11; \
group: \
	MOVQ SI, AX; \
	MOVQ BX, DX; \
	MOVQ R9, CX; \
	ZEROS; \
	SUM(STEP, 16, row, eight, rest, four, last, one, done) \
	TESTQ R12, R12; \
	JZ   first; \
	KEEPS; \
first: \
	PUTS; \
	ADDQ R11, SI; \
	ADDQ $(4*row), DI; \
	DECQ R8; \
	JNZ  group; \
	VZEROUPPER; \
	RET

// OUTER3 and OUTER2 are STEP3 and STEP2 for an operand that lies as four rows, R13 bytes apart, R14 being 3 times that.
#define OUTER3(a, b) \
	VMOVUPS (b)(DX), V12; \
	VMOVUPS (b+VB)(DX), V13; \
	VMOVUPS (b+2*VB)(DX), V14; \
	VBROADCASTSS (a)(AX), V15; VFMADD231PS V12, V15, V0; VFMADD231PS V13, V15, V1; VFMADD231PS V14, V15, V2; \
	VBROADCASTSS (a)(AX)(R13*1), V15; VFMADD231PS V12, V15, V3; VFMADD231PS V13, V15, V4; VFMADD231PS V14, V15, V5; \
	VBROADCASTSS (a)(AX)(R13*2), V15; VFMADD231PS V12, V15, V6; VFMADD231PS V13, V15, V7; VFMADD231PS V14, V15, V8; \
	VBROADCASTSS (a)(AX)(R14*1), V15; VFMADD231PS V12, V15, V9; VFMADD231PS V13, V15, V10; VFMADD231PS V14, V15, V11
#define OUTER2(a, b) \
	VMOVUPS (b)(DX), V12; \
	VMOVUPS (b+VB)(DX), V13; \
	VBROADCASTSS (a)(AX), V15; VFMADD231PS V12, V15, V0; VFMADD231PS V13, V15, V1; \
	VBROADCASTSS (a)(AX)(R13*1), V15; VFMADD231PS V12, V15, V2; VFMADD231PS V13, V15, V3; \
	VBROADCASTSS (a)(AX)(R13*2), V15; VFMADD231PS V12, V15, V4; VFMADD231PS V13, V15, V5; \
	VBROADCASTSS (a)(AX)(R14*1), V15; VFMADD231PS V12, V15, V6; VFMADD231PS V13, V15, V7

// OUTER: DI the sums, SI rows of weights, BX the strip, R8 groups of 4 rows, R9 steps, R13 bytes from row to row.
#define OUTER(STEP, row, ZEROS, ADDS, PUTS) \
	MOVQ y+0(FP), DI; \
	MOVQ w+8(FP), SI; \
	MOVQ x+16(FP), BX; \
	MOVQ groups+24(FP), R8; \
	MOVQ steps+32(FP), R9; \
	MOVQ ldw+40(FP), R13; \
	SHLQ $2, R13; \
	LEAQ (R13)(R13*2), R14; \
group: \
	MOVQ SI, AX; \
	MOVQ BX, DX; \
	MOVQ R9, CX; \
	ZEROS; \
	SUM(STEP, 4, row, eight, rest, four, last, one, done) \
	ADDS; \
	PUTS; \
	LEAQ (SI)(R13*4), SI; \
	ADDQ $(4*row), DI; \
	DECQ R8; \
	JNZ  group; \
	VZEROUPPER; \
	RET

// POWER: y = 2^(x - m) for x below m + 128, under 2^-126 exactly 0. lo is m - 127; mg, a register or memory, is 1.5*2^20 + 127 - m:
// its sum with x has in its low bits 8 times x - m + 127, rounded, the last three of which choose from the eight roots. With r the
// rest, f * 2^r = f + f * r * (C1 + C2*r + C3*r*r). NaN stays NaN, for MAX returns its first operand here. Clobbers t and u.
#define POWER(x, lo, mg, t, u, y) \
	VMAXPS x, lo, y; \
	VADDPS mg, y, t; \
	VSUBPS mg, t, u; \
	VSUBPS u, y, y; \
	VPERMPS exp2Roots<>(SB), t, u; \
	VPSLLD $20, t, t; \
	VPADDD t, u, t; \
	VMOVUPS exp2C3<>(SB), u; \
	VFMADD213PS exp2C2<>(SB), y, u; \
	VFMADD213PS exp2C1<>(SB), y, u; \
	VMULPS t, y, y; \
	VFMADD213PS t, u, y

// POWERS makes probabilities of the scores at R13 in the i-th of n vectors, and adds them to their sums. R10 has rows of n vectors:
// the maxima, POWER's lo and mg, the sums.
#define POWERS(n, i) \
	VMOVUPS ((n+i)*VB)(R10), V14; \
	POWER((i*VB)(R13), V14, ((2*n+i)*VB)(R10), V13, V15, V12); \
	VMOVUPS V12, (i*VB)(R13); \
	VADDPS ((3*n+i)*VB)(R10), V12, V12; \
	VMOVUPS V12, ((3*n+i)*VB)(R10)
#define POWERS3 POWERS(3, 0); POWERS(3, 1); POWERS(3, 2)
#define POWERS2 POWERS(2, 0); POWERS(2, 1)

// RISEN takes V12 to the maximum of itself and that of the i-th of n vectors over POWER's lo.
#define RISEN(n, i) VMOVUPS (i*VB)(R10), V13; VSUBPS ((n+i)*VB)(R10), V13, V13; VMAXPS V12, V13, V12
#define RISES2 ZERO(V12); RISEN(2, 0); RISEN(2, 1)
#define RISES3 ZERO(V12); RISEN(3, 0); RISEN(3, 1); RISEN(3, 2)

// PROBABILITIES is SCORES and then POWERS of all. Those of a group are woven into the products of the next: they take few
// multiplications, so that they fit in beside them. R13 walks the scores, R14 is what is left of a group's rows. ABOVE sets AX to
// not 0 if a number in its vector, 0 or more, is above its first operand.
#define PROBABILITIES(STEP, row, ZEROS, ADDS, PUTS, TOPS, ROW, RISES) \
	MOVQ s+0(FP), DI; \
	MOVQ k+8(FP), SI; \
	MOVQ q+16(FP), BX; \
	MOVQ stats+24(FP), R10; \
	MOVQ groups+32(FP), R8; \
	MOVQ depth+40(FP), R9; \
	MOVQ pitch+48(FP), R11; \
	MOVQ more+56(FP), R12; \
	SHLQ $2, R11; \
	MOVQ DI, R13; \
	XORQ R14, R14; \
group: \
	MOVQ SI, AX; \
	MOVQ BX, DX; \
	MOVQ R9, CX; \
	ZEROS; \
	SUBQ $8, CX; \
	JLT  rest; \
eight: \
	STEP(0, 0); \
	STEP(16, row); \
	STEP(2*16, 2*row); \
	STEP(3*16, 3*row); \
	STEP(4*16, 4*row); \
	STEP(5*16, 5*row); \
	STEP(6*16, 6*row); \
	STEP(7*16, 7*row); \
	ADDQ $(8*16), AX; \
	ADDQ $(8*row), DX; \
	TESTQ R14, R14; \
	JZ   none; \
	ROW; \
	ADDQ $row, R13; \
	DECQ R14; \
none: \
	SUBQ $8, CX; \
	JGE  eight; \
rest: \
	ADDQ $8, CX; \
	JZ   left; \
one: \
	STEP(0, 0); \
	ADDQ $16, AX; \
	ADDQ $row, DX; \
	DECQ CX; \
	JNZ  one; \
left: \
	TESTQ R14, R14; \
	JZ   done; \
	ROW; \
	ADDQ $row, R13; \
	DECQ R14; \
	JMP  left; \
done: \
	TESTQ R8, R8; \
	JZ   end; \
	TESTQ R12, R12; \
	JZ   first; \
	ADDS; \
first: \
	PUTS; \
	TOPS; \
	ADDQ R11, SI; \
	ADDQ $(4*row), DI; \
	MOVQ $4, R14; \
	DECQ R8; \
	JNZ  group; \
	JMP  left; \
end: \
	RISES; \
	ABOVE(exp2Rise<>(SB), V12); \
	MOVQ AX, risen+64(FP); \
	VZEROUPPER; \
	RET

// EXPONENTIALS, a vector of columns at a time: V15 and V14 are POWER's lo and mg, V13 the sum. CEIL rounds up. If a number of
// V12 is above 2^20, or NaN, mg would not be exact, and the maximum is taken off first.
#define EXPONENTIALS \
	MOVQ s+0(FP), DI; \
	MOVQ keys+8(FP), R8; \
	MOVQ cols+16(FP), R9; \
	MOVQ top+24(FP), R10; \
	MOVQ sum+32(FP), R11; \
	MOVQ factor+40(FP), R12; \
	MOVQ R9, R13; \
	SHLQ $2, R13; \
columns: \
	VMOVUPS (R10), V12; \
	CEIL(V12); \
	VMOVUPS (R12), V0; \
	CEIL(V0); \
	VSUBPS V12, V0, V0; \
	VMOVUPS exp2Min<>(SB), V15; \
	VMOVUPS exp2Magic<>(SB), V14; \
	POWER(V0, V15, V14, V1, V2, V0); \
	VMOVUPS V0, (R12); \
	VXORPS V13, V13, V13; \
	MOVQ DI, SI; \
	MOVQ R8, CX; \
	VPSLLD $1, V12, V0; \
	VPSRLD $1, V0, V0; \
	ABOVE(exp2Large<>(SB), V0); \
	TESTQ AX, AX; \
	JNZ  shift; \
	VADDPS V12, V15, V15; \
	VSUBPS V12, V14, V14; \
	JMP  one; \
shift: \
	VMOVUPS (SI), V0; \
	VSUBPS V12, V0, V0; \
	VMOVUPS V0, (SI); \
	ADDQ R13, SI; \
	DECQ CX; \
	JNZ  shift; \
	MOVQ DI, SI; \
	MOVQ R8, CX; \
one: \
	POWER((SI), V15, V14, V1, V2, V0); \
	VMOVUPS V0, (SI); \
	VADDPS V0, V13, V13; \
	ADDQ R13, SI; \
	DECQ CX; \
	JNZ  one; \
	VMOVUPS (R12), V0; \
	VFMADD231PS (R11), V0, V13; \
	VMOVUPS V13, (R11); \
	ADDQ $VB, DI; \
	ADDQ $VB, R10; \
	ADDQ $VB, R11; \
	ADDQ $VB, R12; \
	SUBQ $LANES, R9; \
	JNZ  columns; \
	VZEROUPPER; \
	RET

// DIVIDECOLUMNS: rows of cols floats at DI, 1 or more, times 1 by a vector at R10, which becomes that.
#define DIVIDECOLUMNS \
	MOVQ y+0(FP), DI; \
	MOVQ rows+8(FP), R8; \
	MOVQ cols+16(FP), R9; \
	MOVQ f+24(FP), R10; \
	MOVQ R9, R13; \
	SHLQ $2, R13; \
columns: \
	VMOVUPS exp2One<>(SB), V1; \
	VDIVPS (R10), V1, V1; \
	VMOVUPS V1, (R10); \
	MOVQ DI, SI; \
	MOVQ R8, CX; \
row: \
	VMULPS (SI), V1, V0; \
	VMOVUPS V0, (SI); \
	ADDQ R13, SI; \
	DECQ CX; \
	JNZ  row; \
	ADDQ $VB, DI; \
	ADDQ $VB, R10; \
	SUBQ $LANES, R9; \
	JNZ  columns; \
	VZEROUPPER; \
	RET
