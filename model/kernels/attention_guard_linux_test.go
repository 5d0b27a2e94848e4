package kernels

import (
	"math/rand/v2"
	"testing"
)

// No loop of attention reads or writes outside its slices.
func TestAttentionStaysInsideSlices(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		r := rand.New(rand.NewPCG(41, 9))
		for i := range 25 {
			end := i%3 != 0
			values := func(n int) []float32 { return walled(t, normals(n, uint64(i)), n, end) }
			a := randomAttention(r)
			width := a.Heads * a.D
			o, q, k, v := values(a.N*a.Tq*width), values(a.N*a.Tq*width), values(a.N*a.Tk*width), values(a.N*a.Tk*width)
			AttentionForward(p, a, o, q, k, v, values(a.Scratch(2)))
			dq, dk, dv := values(a.N*a.Tq*width), values(a.N*a.Tk*width), values(a.N*a.Tk*width)
			AttentionBackward(p, a, dq, dk, dv, q, k, v, o, values(a.ScratchBackward(2)))
		}
		for i := range 30 {
			cols := (2 + i%2) * attentionLanes()
			groups, depth, outs, keys := 1+r.IntN(5), 1+r.IntN(20), 1+r.IntN(5), 1+r.IntN(20)
			place := func(x []float32) []float32 { return walled(t, x, len(x), i%3 != 0) }
			s, k, v := stripCase(r, cols, groups, depth, outs, keys, place)
			stats := place(s.stats[:4*cols])
			vecScores(s.s, k, s.q, place(s.top()), cols, groups, depth, 4*depth, i%5 == 0)
			vecPowers(place(s.s[:4*groups*cols]), k, s.q, stats, cols, groups, depth, 4*depth, i%5 == 0)
			s.s = place(s.s[:keys*cols])
			vecExponentials(s.s, keys, cols, place(s.top()), place(s.sum()), place(s.factor()))
			vecValues(s.acc, v, s.s, s.factor(), cols, outs, keys, 4*keys, i%2 == 0)
			vecDivideColumns(s.acc, 4*outs, cols, place(s.sum()))
			vecOuter(place(normals(4*groups*cols, 3)), place(normals((4*groups-1)*cols+depth, 4)), s.q, cols, groups, depth, cols)
			n := 1 + r.IntN(20)
			rows := func() []float32 { return place(normals(n, 1)) }
			vecInterleave4(place(make([]float32, 4*n)), rows(), rows(), rows(), rows(), 2)
			vecPackFours(place(make([]float32, 4*outs*keys)), place(normals((keys-1)*50+4*outs, 2)), keys, 50, outs, 4*keys)
		}
	})
}
