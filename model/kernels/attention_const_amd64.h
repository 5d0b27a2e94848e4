// The constants of POWER, in every lane: see attention_portable.go.

#define EIGHT(name, at, v) \
	DATA name<>+(at+0)(SB)/4, v; \
	DATA name<>+(at+4)(SB)/4, v; \
	DATA name<>+(at+8)(SB)/4, v; \
	DATA name<>+(at+12)(SB)/4, v; \
	DATA name<>+(at+16)(SB)/4, v; \
	DATA name<>+(at+20)(SB)/4, v; \
	DATA name<>+(at+24)(SB)/4, v; \
	DATA name<>+(at+28)(SB)/4, v

#define LANES16(name, v) \
	EIGHT(name, 0, v); \
	EIGHT(name, 32, v); \
	GLOBL name<>(SB), RODATA|NOPTR, $64

LANES16(exp2One, $1.0)
LANES16(exp2Min, $-127.0)
LANES16(exp2Magic, $1572991.0)
LANES16(exp2Large, $0x49800000)
LANES16(exp2Rise, $151.0) // attentionRise over ref, in units over lo
LANES16(exp2C1, $0.6931472420692444)
LANES16(exp2C2, $0.2402576357126236)
LANES16(exp2C3, $0.0554962232708931)

// Twice the eight roots.
#define ROOTS(at) \
	DATA exp2Roots<>+(at+0)(SB)/4, $0x00000000; \
	DATA exp2Roots<>+(at+4)(SB)/4, $0xfffb95c2; \
	DATA exp2Roots<>+(at+8)(SB)/4, $0xfff837f0; \
	DATA exp2Roots<>+(at+12)(SB)/4, $0xfff5fed7; \
	DATA exp2Roots<>+(at+16)(SB)/4, $0xfff504f3; \
	DATA exp2Roots<>+(at+20)(SB)/4, $0xfff5672a; \
	DATA exp2Roots<>+(at+24)(SB)/4, $0xfff744fd; \
	DATA exp2Roots<>+(at+28)(SB)/4, $0xfffac0c7
ROOTS(0)
ROOTS(32)
GLOBL exp2Roots<>(SB), RODATA|NOPTR, $64
