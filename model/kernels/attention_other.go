//go:build !amd64 || noasm

package kernels

// attentionLanes is the length of the vectors that attention works in.
func attentionLanes() int { return 8 }

func vecScores(s, k, q, top []float32, cols, groups, depth, pitch int, more bool) {
	scoresGo(s, k, q, top, cols, groups, depth, pitch, more)
}

func vecPowers(s, k, q, stats []float32, cols, groups, depth, pitch int, more bool) (risen bool) {
	return powersGo(s, k, q, stats, cols, groups, depth, pitch, more)
}

func vecExponentials(s []float32, keys, cols int, top, sum, factor []float32) {
	exponentialsGo(s, keys, cols, top, sum, factor)
}

func vecValues(acc, v, s, factor []float32, cols, groups, keys, pitch int, more bool) {
	valuesGo(acc, v, s, factor, cols, groups, keys, pitch, more)
}

func vecDivideColumns(y []float32, rows, cols int, f []float32) { divideColumnsGo(y, rows, cols, f) }

func vecInterleave4(y, a, b, c, d []float32, scale float32) { interleave4Go(y, a, b, c, d, scale) }

func vecPackFours(y, x []float32, rows, ldx, groups, pitch int) {
	packFoursGo(y, x, rows, ldx, groups, pitch)
}

func vecOuter(y, w, x []float32, cols, groups, steps, ldw int) {
	outerGo(y, w, x, cols, groups, steps, ldw)
}
