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

LANES16(exp2Min, $-127.0)
LANES16(exp2Magic, $12583039.0)
LANES16(exp2Large, $0x49800000)
LANES16(exp2C1, $0.693146824836731)
LANES16(exp2C2, $0.24022236466407776)
LANES16(exp2C3, $0.05550891533493996)
LANES16(exp2C4, $0.009671762585639954)
LANES16(exp2C5, $0.0013225707225501537)
