// What winograd_amd64.s and winograd_small_amd64.s share.

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
