package kernels

import (
	"fmt"
	"strings"
)

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

// MathNames are the names of the modes, by their number.
var MathNames = []string{"float32", "bf16x3", "bf16"}

func (m Math) String() string {
	if m < 0 || int(m) >= len(MathNames) {
		return fmt.Sprintf("Math(%d)", int(m))
	}
	return MathNames[m]
}

// ParseMath returns the mode of that name; the empty name is float32.
func ParseMath(name string) (Math, error) {
	if name == "" {
		return Float32, nil
	}
	for i, n := range MathNames {
		if n == name {
			return Math(i), nil
		}
	}
	return Float32, fmt.Errorf("arithmetic %q is not known, want one of %s", name, strings.Join(MathNames, ", "))
}

// Effective is the arithmetic that is used when m is asked for: m itself where this machine has a fast path for it, or where
// SCALECRAFTER_BF16 forces one, else Float32.
func (m Math) Effective() Math {
	if m == Float32 {
		return Float32
	}
	startBF()
	if !activeBFForced && !activeBF.fast(m) {
		return Float32
	}
	return m
}

// Identity names the arithmetic that is used when m is asked for, with its path, as it enters a cell's identity: "" for
// float32, whose path is Path, else for instance "bf16x3 amx". Results differ between identities and never within one.
func (m Math) Identity() string {
	if m = m.Effective(); m == Float32 {
		return ""
	}
	return m.String() + " " + activeBF.name
}

// Fallback says in one sentence why Float32 is used when m is asked for, "" if it is not.
func (m Math) Fallback() string {
	if m == m.Effective() {
		return ""
	}
	why := "this machine or build has no fast bfloat16 path"
	if activeBF.kind == bfAVX512Dot {
		why = fmt.Sprintf("this machine's fastest bfloat16 path, %s, does it no faster than float32", activeBF.name)
	}
	if bfError != nil {
		why = bfError.Error()
	}
	return fmt.Sprintf("model.math = %q falls back to float32: %s (SCALECRAFTER_BF16=portable would force the mode, slowly)", m, why)
}
