//go:build amd64 && !noasm

package kernels

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The AVX-512 micro-kernel does each sum as the AVX2 one does, so products have the same bits.
func TestAVX512EqualsAVX2(t *testing.T) {
	if !slices.Contains(engines(), &avx512Engine) {
		t.Skip("this machine has no AVX-512")
	}
	r := rand.New(rand.NewPCG(23, 9))
	for i := range 60 {
		m, n, k := 1+r.IntN(70), 1+r.IntN(100), r.IntN(40)
		if i%6 == 0 {
			k += 250
		}
		a, b, before := uniform(r, m*k), uniform(r, k*n), uniform(r, m*n)
		var c [2][]float32
		for j, e := range []*engine{&avx2Engine, &avx512Engine} {
			usePath(t, e)
			c[j] = append([]float32{}, before...)
			gemmBlock(m, n, k, c[j], n, a, k, 1, b, n, i%2 == 0)
		}
		sameBits(t, "product", c[1], c[0])
	}
}
