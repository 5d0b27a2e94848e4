//go:build amd64 && !noasm

package kernels

import "golang.org/x/sys/cpu"

var (
	avx2Engine   = engine{name: "avx2", kind: avx2, mr: 6, vec: 8, kc: 256}
	avx512Engine = engine{name: "avx512", kind: avx512, mr: 12, vec: 16, kc: 256, check: func() error { return checkTile(tileAVX512, 12, 16) }}
)

// engines returns the engines of this machine, the best one last.
func engines() []*engine {
	have := []*engine{&portableEngine}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		have = append(have, &avx2Engine)
		// The loops outside the micro-kernel are AVX2 on such a machine as well.
		if x := &cpu.X86; x.HasAVX512F && x.HasAVX512DQ && x.HasAVX512BW && x.HasAVX512VL {
			have = append(have, &avx512Engine)
		}
	}
	return have
}

// run computes the tile with the engine's micro-kernel.
func (t *tile) run(e *engine) {
	if e.kind == portable {
		tilePortable(t, e.vec)
		return
	}
	if t.one { // the same work twice, written to the same place: the micro-kernels read all of a panel's C before they write any
		t.b1, t.c1 = t.b0, t.c0
	}
	if e.kind == avx512 {
		tileAVX512(t)
	} else {
		tileAVX2(t)
	}
}

// transposeFast sets dst[j*ldd+i] = src[i*lds+j] for i < rows, j < cols.
func transposeFast(e *engine, dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if e.kind == portable || rows < 8 || cols < 8 {
		transposePortable(dst, ldd, src, lds, rows, cols)
		return
	}
	r8, c8 := rows&^7, cols&^7
	_, _ = dst[(c8-1)*ldd+r8-1], src[(r8-1)*lds+c8-1]
	transposeAVX2(&dst[0], ldd, &src[0], lds, r8, c8)
	if r8 < rows {
		transposePortable(dst[r8:], ldd, src[r8*lds:], lds, rows-r8, c8)
	}
	if c8 < cols {
		transposePortable(dst[c8*ldd:], ldd, src[c8:], lds, rows, cols-c8)
	}
}

// peakLoop returns the active engine's register-only loop of 384 floating-point operations a round, nil if it has none.
func peakLoop() func(rounds int) {
	switch active.kind {
	case avx512:
		return peakAVX512
	case avx2:
		return peakAVX2
	}
	return nil
}

// copyRows sets dst[i*ldd+j] = src[i*lds+j] for i < rows, j < n.
func copyRows(e *engine, dst []float32, ldd int, src []float32, lds, rows, n int) {
	if e.kind == portable || n < 4 || rows < 1 {
		copyRowsPortable(dst, ldd, src, lds, rows, n)
		return
	}
	_, _ = dst[(rows-1)*ldd+n-1], src[(rows-1)*lds+n-1]
	copyRowsAVX2(&dst[0], ldd, &src[0], lds, rows, n)
}

// gatherRows packs a panel of width 16 from four rows of four pixels a pitch apart, as pack does; false if the engine has no
// such loop.
func gatherRows(e *engine, panel, b []float32, off []int32, pitch int) bool {
	if e.kind == portable || 2*e.vec != 16 {
		return false
	}
	_, _ = panel[len(off)*16-1], b[int(off[len(off)-1])+3*pitch+3]
	gatherRowsAVX2(&panel[0], &b[0], off, pitch)
	return true
}

// split sets even[i*ldd+j] = src[i*lds+2*j], odd[i*ldd+j] = src[i*lds+2*j+1] for i < rows, j < n.
func split(e *engine, even, odd []float32, ldd int, src []float32, lds, rows, n int) {
	if e.kind == portable || n < 4 || rows < 1 {
		splitPortable(even, odd, ldd, src, lds, rows, n)
		return
	}
	last := (rows-1)*ldd + n - 1
	_, _, _ = even[last], odd[last], src[(rows-1)*lds+2*n-1]
	splitAVX2(&even[0], &odd[0], ldd, &src[0], lds, rows, n)
}

// merge sets dst[i*ldd+2*j] = even[i*lde+j], dst[i*ldd+2*j+1] = odd[i*ldo+j] for i < rows, j < n.
func merge(e *engine, dst []float32, ldd int, even, odd []float32, lde, ldo, rows, n int) {
	if e.kind == portable || n < 4 || rows < 1 {
		mergePortable(dst, ldd, even, odd, lde, ldo, rows, n)
		return
	}
	_, _, _ = dst[(rows-1)*ldd+2*n-1], even[(rows-1)*lde+n-1], odd[(rows-1)*ldo+n-1]
	mergeAVX2(&dst[0], ldd, &even[0], &odd[0], lde, ldo, rows, n)
}
