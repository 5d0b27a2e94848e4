package kernels

// Math is the arithmetic of matrix products and convolutions.
type Math int

const (
	// Float32 multiplies and adds float32 numbers.
	Float32 Math = iota
	// BF16x3 splits every operand into two bfloat16 halves and adds up three of the four products in float32: near-float32 error.
	BF16x3
	// BF16 rounds every operand to bfloat16 and accumulates in float32.
	BF16
)
