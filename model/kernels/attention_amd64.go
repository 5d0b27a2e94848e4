//go:build amd64 && !noasm

package kernels

// The bodies in attention_amd64.h equal the loops in attention_portable.go,
// which specify them, up to fused multiply-add. A strip has 3 or 2 vectors.

//go:noescape
func scores3AVX2(s, k, q, top *float32, groups, depth, pitch, more int)

//go:noescape
func scores2AVX2(s, k, q, top *float32, groups, depth, pitch, more int)

//go:noescape
func values3AVX2(acc, v, s, factor *float32, groups, keys, pitch int)

//go:noescape
func values2AVX2(acc, v, s, factor *float32, groups, keys, pitch int)

//go:noescape
func outer3AVX2(y, w, x *float32, groups, steps, ldw int)

//go:noescape
func outer2AVX2(y, w, x *float32, groups, steps, ldw int)

//go:noescape
func exponentialsAVX2(s *float32, keys, cols int, top, sum, factor *float32)

//go:noescape
func scaleColumnsAVX2(y *float32, rows, cols int, f *float32)

//go:noescape
func scores3AVX512(s, k, q, top *float32, groups, depth, pitch, more int)

//go:noescape
func scores2AVX512(s, k, q, top *float32, groups, depth, pitch, more int)

//go:noescape
func values3AVX512(acc, v, s, factor *float32, groups, keys, pitch int)

//go:noescape
func values2AVX512(acc, v, s, factor *float32, groups, keys, pitch int)

//go:noescape
func outer3AVX512(y, w, x *float32, groups, steps, ldw int)

//go:noescape
func outer2AVX512(y, w, x *float32, groups, steps, ldw int)

//go:noescape
func exponentialsAVX512(s *float32, keys, cols int, top, sum, factor *float32)

//go:noescape
func scaleColumnsAVX512(y *float32, rows, cols int, f *float32)

// attentionLanes is the length of the vectors that attention works in.
func attentionLanes() int {
	if active.kind == avx512 {
		return 16
	}
	return 8
}

// vecScores wants at least one group and a depth of at least 1.
func vecScores(t attentionStrip, k, q, top []float32, groups, depth, pitch int, more bool) {
	if !simd() {
		scoresGo(t.s, k, q, top, t.cols, groups, depth, pitch, more)
		return
	}
	_, _ = t.s[:4*groups*t.cols], q[:depth*t.cols]
	_, _ = k[:(groups-1)*pitch+4*depth], top[:t.cols]
	goOn := 0
	if more {
		goOn = 1
	}
	switch {
	case active.kind == avx512 && t.cols == 48:
		scores3AVX512(ptr(t.s), ptr(k), ptr(q), ptr(top), groups, depth, pitch, goOn)
	case active.kind == avx512:
		scores2AVX512(ptr(t.s), ptr(k), ptr(q), ptr(top), groups, depth, pitch, goOn)
	case t.cols == 24:
		scores3AVX2(ptr(t.s), ptr(k), ptr(q), ptr(top), groups, depth, pitch, goOn)
	default:
		scores2AVX2(ptr(t.s), ptr(k), ptr(q), ptr(top), groups, depth, pitch, goOn)
	}
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
func vecValues(t attentionStrip, v []float32, groups, keys, pitch int) {
	if !simd() {
		valuesGo(t.acc, v, t.s, t.factor, t.cols, groups, keys, pitch)
		return
	}
	_, _ = t.acc[:4*groups*t.cols], t.factor[:t.cols]
	_, _ = t.s[:keys*t.cols], v[:(groups-1)*pitch+4*keys]
	switch {
	case active.kind == avx512 && t.cols == 48:
		values3AVX512(ptr(t.acc), ptr(v), ptr(t.s), ptr(t.factor), groups, keys, pitch)
	case active.kind == avx512:
		values2AVX512(ptr(t.acc), ptr(v), ptr(t.s), ptr(t.factor), groups, keys, pitch)
	case t.cols == 24:
		values3AVX2(ptr(t.acc), ptr(v), ptr(t.s), ptr(t.factor), groups, keys, pitch)
	default:
		values2AVX2(ptr(t.acc), ptr(v), ptr(t.s), ptr(t.factor), groups, keys, pitch)
	}
}

func vecScaleColumns(y []float32, rows, cols int, f []float32) {
	if !simd() {
		scaleColumnsGo(y, rows, cols, f)
		return
	}
	y, f = y[:rows*cols], f[:cols]
	if active.kind == avx512 {
		scaleColumnsAVX512(ptr(y), rows, cols, ptr(f))
	} else {
		scaleColumnsAVX2(ptr(y), rows, cols, ptr(f))
	}
}

//go:noescape
func interleave4AVX2(y, a, b, c, d *float32, n int)

// vecInterleave4 does what interleave4Go does.
func vecInterleave4(y, a, b, c, d []float32) {
	n := 0
	if simd() && len(a) >= 4 {
		n = len(a) &^ 3
		_, _, _, _ = y[4*n-1], b[n-1], c[n-1], d[n-1]
		interleave4AVX2(ptr(y), ptr(a), ptr(b), ptr(c), ptr(d), n)
	}
	interleave4Go(y[4*n:], a[n:], b[n:], c[n:], d[n:])
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
