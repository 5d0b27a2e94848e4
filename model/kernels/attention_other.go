//go:build !amd64 || noasm

package kernels

// attentionLanes is the length of the vectors that attention works in.
func attentionLanes() int { return 8 }

func vecScores(t attentionStrip, k, q, top []float32, groups, depth, pitch int, more bool) {
	scoresGo(t.s, k, q, top, t.cols, groups, depth, pitch, more)
}

func vecExponentials(s []float32, keys, cols int, top, sum, factor []float32) {
	exponentialsGo(s, keys, cols, top, sum, factor)
}

func vecValues(t attentionStrip, v []float32, groups, keys, pitch int) {
	valuesGo(t.acc, v, t.s, t.factor, t.cols, groups, keys, pitch)
}

func vecScaleColumns(y []float32, rows, cols int, f []float32) { scaleColumnsGo(y, rows, cols, f) }

func vecInterleave4(y, a, b, c, d []float32) { interleave4Go(y, a, b, c, d) }

func vecPackFours(y, x []float32, rows, ldx, groups, pitch int) {
	packFoursGo(y, x, rows, ldx, groups, pitch)
}

func vecOuter(y, w, x []float32, cols, groups, steps, ldw int) {
	outerGo(y, w, x, cols, groups, steps, ldw)
}
