//go:build amd64 && !noasm

package kernels

// The bodies in attention_amd64.h equal the loops in attention_portable.go,
// which specify them, up to fused multiply-add. A strip has 3 or 2 vectors.

//go:noescape
func scores3AVX2(s, k, q, top *float32, groups, depth, pitch, more int)

//go:noescape
func scores2AVX2(s, k, q, top *float32, groups, depth, pitch, more int)

//go:noescape
func values3AVX2(acc, v, s, factor *float32, groups, keys, pitch, more int)

//go:noescape
func values2AVX2(acc, v, s, factor *float32, groups, keys, pitch, more int)

//go:noescape
func outer3AVX2(y, w, x *float32, groups, steps, ldw int)

//go:noescape
func outer2AVX2(y, w, x *float32, groups, steps, ldw int)

//go:noescape
func exponentialsAVX2(s *float32, keys, cols int, top, sum, factor *float32)

//go:noescape
func divideColumnsAVX2(y *float32, rows, cols int, f *float32)

//go:noescape
func scores3AVX512(s, k, q, top *float32, groups, depth, pitch, more int)

//go:noescape
func scores2AVX512(s, k, q, top *float32, groups, depth, pitch, more int)

//go:noescape
func values3AVX512(acc, v, s, factor *float32, groups, keys, pitch, more int)

//go:noescape
func values2AVX512(acc, v, s, factor *float32, groups, keys, pitch, more int)

//go:noescape
func outer3AVX512(y, w, x *float32, groups, steps, ldw int)

//go:noescape
func outer2AVX512(y, w, x *float32, groups, steps, ldw int)

//go:noescape
func exponentialsAVX512(s *float32, keys, cols int, top, sum, factor *float32)

//go:noescape
func divideColumnsAVX512(y *float32, rows, cols int, f *float32)

//go:noescape
func powers3AVX2(s, k, q, stats *float32, groups, depth, pitch, more int) (risen int)

//go:noescape
func powers2AVX2(s, k, q, stats *float32, groups, depth, pitch, more int) (risen int)

//go:noescape
func powers3AVX512(s, k, q, stats *float32, groups, depth, pitch, more int) (risen int)

//go:noescape
func powers2AVX512(s, k, q, stats *float32, groups, depth, pitch, more int) (risen int)

// attentionLanes is the length of the vectors that attention works in.
func attentionLanes() int {
	if active.kind == avx512 {
		return 16
	}
	return 8
}

// vecScores wants at least one group and a depth of at least 1.
func vecScores(s, k, q, top []float32, cols, groups, depth, pitch int, more bool) {
	if !simd() {
		scoresGo(s, k, q, top, cols, groups, depth, pitch, more)
		return
	}
	goOn := checkProducts(s, k, q, cols, groups, depth, pitch, more)
	_ = top[:cols]
	switch {
	case active.kind == avx512 && cols == 48:
		scores3AVX512(ptr(s), ptr(k), ptr(q), ptr(top), groups, depth, pitch, goOn)
	case active.kind == avx512:
		scores2AVX512(ptr(s), ptr(k), ptr(q), ptr(top), groups, depth, pitch, goOn)
	case cols == 24:
		scores3AVX2(ptr(s), ptr(k), ptr(q), ptr(top), groups, depth, pitch, goOn)
	default:
		scores2AVX2(ptr(s), ptr(k), ptr(q), ptr(top), groups, depth, pitch, goOn)
	}
}

// vecPowers wants at least one group and a depth of at least 1.
func vecPowers(s, k, q, stats []float32, cols, groups, depth, pitch int, more bool) (risen bool) {
	if !simd() {
		return powersGo(s, k, q, stats, cols, groups, depth, pitch, more)
	}
	goOn := checkProducts(s, k, q, cols, groups, depth, pitch, more)
	_ = stats[:4*cols]
	switch {
	case active.kind == avx512 && cols == 48:
		return powers3AVX512(ptr(s), ptr(k), ptr(q), ptr(stats), groups, depth, pitch, goOn) != 0
	case active.kind == avx512:
		return powers2AVX512(ptr(s), ptr(k), ptr(q), ptr(stats), groups, depth, pitch, goOn) != 0
	case cols == 24:
		return powers3AVX2(ptr(s), ptr(k), ptr(q), ptr(stats), groups, depth, pitch, goOn) != 0
	}
	return powers2AVX2(ptr(s), ptr(k), ptr(q), ptr(stats), groups, depth, pitch, goOn) != 0
}

// checkProducts panics unless the slices are long enough, and returns more as
// the loops want it.
func checkProducts(s, k, q []float32, cols, groups, depth, pitch int, more bool) int {
	_, _, _ = s[:4*groups*cols], q[:depth*cols], k[:(groups-1)*pitch+4*depth]
	if more {
		return 1
	}
	return 0
}

// vecExponentials wants at least one key.
func vecExponentials(s []float32, keys, cols int, top, sum, factor []float32) {
	if !simd() {
		exponentialsGo(s, keys, cols, top, sum, factor)
		return
	}
	s, top, sum, factor = s[:keys*cols], top[:cols], sum[:cols], factor[:cols]
	if active.kind == avx512 {
		exponentialsAVX512(ptr(s), keys, cols, ptr(top), ptr(sum), ptr(factor))
	} else {
		exponentialsAVX2(ptr(s), keys, cols, ptr(top), ptr(sum), ptr(factor))
	}
}

// vecValues wants at least one key.
func vecValues(acc, v, s, factor []float32, cols, groups, keys, pitch int, more bool) {
	if !simd() {
		valuesGo(acc, v, s, factor, cols, groups, keys, pitch, more)
		return
	}
	_, _, _, _ = acc[:4*groups*cols], factor[:cols], s[:keys*cols], v[:(groups-1)*pitch+4*keys]
	goOn := 0
	if more {
		goOn = 1
	}
	switch {
	case active.kind == avx512 && cols == 48:
		values3AVX512(ptr(acc), ptr(v), ptr(s), ptr(factor), groups, keys, pitch, goOn)
	case active.kind == avx512:
		values2AVX512(ptr(acc), ptr(v), ptr(s), ptr(factor), groups, keys, pitch, goOn)
	case cols == 24:
		values3AVX2(ptr(acc), ptr(v), ptr(s), ptr(factor), groups, keys, pitch, goOn)
	default:
		values2AVX2(ptr(acc), ptr(v), ptr(s), ptr(factor), groups, keys, pitch, goOn)
	}
}

func vecDivideColumns(y []float32, rows, cols int, f []float32) {
	if !simd() {
		divideColumnsGo(y, rows, cols, f)
		return
	}
	y, f = y[:rows*cols], f[:cols]
	if active.kind == avx512 {
		divideColumnsAVX512(ptr(y), rows, cols, ptr(f))
	} else {
		divideColumnsAVX2(ptr(y), rows, cols, ptr(f))
	}
}

//go:noescape
func interleave4AVX2(y, a, b, c, d *float32, n int, scale float32)

// vecInterleave4 does what interleave4Go does.
func vecInterleave4(y, a, b, c, d []float32, scale float32) {
	n := 0
	if simd() && len(a) >= 4 {
		n = len(a) &^ 3
		_, _, _, _ = y[4*n-1], b[n-1], c[n-1], d[n-1]
		interleave4AVX2(ptr(y), ptr(a), ptr(b), ptr(c), ptr(d), n, scale)
	}
	interleave4Go(y[4*n:], a[n:], b[n:], c[n:], d[n:], scale)
}

//go:noescape
func packFoursAVX2(y, x *float32, rows, ldx, groups, pitch int)

// vecPackFours does what packFoursGo does, for 1 or more rows.
func vecPackFours(y, x []float32, rows, ldx, groups, pitch int) {
	if !simd() || groups == 0 {
		packFoursGo(y, x, rows, ldx, groups, pitch)
		return
	}
	_, _ = y[(groups-1)*pitch+4*rows-1], x[(rows-1)*ldx+4*groups-1]
	packFoursAVX2(ptr(y), ptr(x), rows, ldx, groups, pitch)
}

// vecOuter wants at least one group and one step; cols is a strip's.
func vecOuter(y, w, x []float32, cols, groups, steps, ldw int) {
	if !simd() {
		outerGo(y, w, x, cols, groups, steps, ldw)
		return
	}
	_, _, _ = y[:4*groups*cols], w[:(4*groups-1)*ldw+steps], x[:steps*cols]
	switch {
	case active.kind == avx512 && cols == 48:
		outer3AVX512(ptr(y), ptr(w), ptr(x), groups, steps, ldw)
	case active.kind == avx512:
		outer2AVX512(ptr(y), ptr(w), ptr(x), groups, steps, ldw)
	case cols == 24:
		outer3AVX2(ptr(y), ptr(w), ptr(x), groups, steps, ldw)
	default:
		outer2AVX2(ptr(y), ptr(w), ptr(x), groups, steps, ldw)
	}
}
