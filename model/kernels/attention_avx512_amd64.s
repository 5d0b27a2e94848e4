//go:build amd64 && !noasm

#include "textflag.h"

#define LANES 16
#define VB 64
#define V0 Z0
#define V1 Z1
#define V2 Z2
#define V3 Z3
#define V4 Z4
#define V5 Z5
#define V6 Z6
#define V7 Z7
#define V8 Z8
#define V9 Z9
#define V10 Z10
#define V11 Z11
#define V12 Z12
#define V13 Z13
#define V14 Z14
#define V15 Z15

#define CEIL(x) VRNDSCALEPS $2, x, x
#define ABOVE(limit, x) VPCMPGTD limit, x, K1; KMOVW K1, AX

#include "attention_const_amd64.h"
#include "attention_amd64.h"

// func scores3AVX512(s, k, q, top *float32, groups, depth, pitch, more int)
TEXT ·scores3AVX512(SB), NOSPLIT, $0-64
	SCORES(STEP3, 192, ZERO12, ADD12, PUT12, TOPS3)

// func scores2AVX512(s, k, q, top *float32, groups, depth, pitch, more int)
TEXT ·scores2AVX512(SB), NOSPLIT, $0-64
	SCORES(STEP2, 128, ZERO8, ADD8, PUT8, TOPS2)

// func powers3AVX512(s, k, q, stats *float32, groups, depth, pitch, more int) (risen int)
TEXT ·powers3AVX512(SB), NOSPLIT, $0-72
	PROBABILITIES(STEP3, 192, ZERO12, ADD12, PUT12, TOPS3, POWERS3, RISES3)

// func powers2AVX512(s, k, q, stats *float32, groups, depth, pitch, more int) (risen int)
TEXT ·powers2AVX512(SB), NOSPLIT, $0-72
	PROBABILITIES(STEP2, 128, ZERO8, ADD8, PUT8, TOPS2, POWERS2, RISES2)

// func values3AVX512(acc, v, s, factor *float32, groups, keys, pitch, more int)
TEXT ·values3AVX512(SB), NOSPLIT, $0-64
	VALUES(STEP3, 192, ZERO12, KEEPS3, PUT12)

// func values2AVX512(acc, v, s, factor *float32, groups, keys, pitch, more int)
TEXT ·values2AVX512(SB), NOSPLIT, $0-64
	VALUES(STEP2, 128, ZERO8, KEEPS2, PUT8)

// func outer3AVX512(y, w, x *float32, groups, steps, ldw int)
TEXT ·outer3AVX512(SB), NOSPLIT, $0-48
	OUTER(OUTER3, 192, ZERO12, ADD12, PUT12)

// func outer2AVX512(y, w, x *float32, groups, steps, ldw int)
TEXT ·outer2AVX512(SB), NOSPLIT, $0-48
	OUTER(OUTER2, 128, ZERO8, ADD8, PUT8)

// func exponentialsAVX512(s *float32, keys, cols int, top, sum, factor *float32)
TEXT ·exponentialsAVX512(SB), NOSPLIT, $0-48
	EXPONENTIALS

// func divideColumnsAVX512(y *float32, rows, cols int, f *float32)
TEXT ·divideColumnsAVX512(SB), NOSPLIT, $0-32
	DIVIDECOLUMNS
