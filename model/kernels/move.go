package kernels

// Data movement around the micro-kernels: the portable loops, which are also what the assembly must equal.

func copyRowsPortable(dst []float32, ldd int, src []float32, lds, rows, n int) {
	for i := range rows {
		copy(dst[i*ldd:i*ldd+n], src[i*lds:i*lds+n])
	}
}

func splitPortable(even, odd []float32, ldd int, src []float32, lds, rows, n int) {
	for i := range rows {
		e, o, from := even[i*ldd:i*ldd+n], odd[i*ldd:i*ldd+n], src[i*lds:i*lds+2*n]
		for j := range n {
			e[j], o[j] = from[2*j], from[2*j+1]
		}
	}
}

func mergePortable(dst []float32, ldd int, even, odd []float32, lde, ldo, rows, n int) {
	for i := range rows {
		to, e, o := dst[i*ldd:i*ldd+2*n], even[i*lde:i*lde+n], odd[i*ldo:i*ldo+n]
		for j := range n {
			to[2*j], to[2*j+1] = e[j], o[j]
		}
	}
}

// transposePortable sets dst[j*ldd+i] = src[i*lds+j] for i < rows, j < cols, in blocks that stay in the first-level cache.
func transposePortable(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	const block = 16
	for j0 := 0; j0 < cols; j0 += block {
		j1 := min(j0+block, cols)
		for i := range rows {
			at := j0*ldd + i
			for _, v := range src[i*lds+j0 : i*lds+j1] {
				dst[at] = v
				at += ldd
			}
		}
	}
}
