package kernels

import (
	"math"
	"sync"
)

// lerpAxis says where each output position of a resized axis reads: positions
// lo and lo+1 with weights w0 and w1. PyTorch's half-pixel rule (align_corners
// false, no antialias): u = max((j+0.5)*in/out-0.5, 0), lo = floor(u). Where
// lo+1 lies beyond the edge, w1 is 0.
//
// The tables are filled up to a multiple of gatherGroup, and padded is how many
// source elements a gather may read: rows are copied to a buffer of that length.
type lerpAxis struct {
	out, padded int
	lo          []int32
	w0, w1      []float32
	windowed    bool // every group of lo rises by less than gatherWindow
}

const (
	gatherGroup  = 8
	gatherWindow = 16
)

func newLerpAxis(in, out int) lerpAxis {
	n := (out + gatherGroup - 1) / gatherGroup * gatherGroup
	a := lerpAxis{
		out: out, padded: in + gatherWindow + 1, windowed: true,
		lo: make([]int32, n), w0: make([]float32, n), w1: make([]float32, n),
	}
	ratio := float64(in) / float64(out)
	for j := range n {
		if j >= out { // filler: reads the edge and is thrown away
			a.lo[j] = int32(in - 1)
		} else {
			u := max((float64(j)+0.5)*ratio-0.5, 0)
			lo := min(int(math.Floor(u)), in-1)
			a.lo[j] = int32(lo)
			if lo < in-1 {
				a.w1[j] = float32(u - float64(lo))
			}
			a.w0[j] = 1 - a.w1[j]
		}
		if a.lo[j]-a.lo[j/gatherGroup*gatherGroup] >= gatherWindow {
			a.windowed = false
		}
	}
	return a
}

// adjointAxis lists, for each input position, the output positions that read
// it and their weights: entries start[i]..start[i+1].
type adjointAxis struct {
	start, from []int32
	w           []float32
}

func (a lerpAxis) adjoint(in int) adjointAxis {
	t := adjointAxis{start: make([]int32, in+1)}
	each := func(f func(pos, j int32, w float32)) {
		for j := range a.out {
			f(a.lo[j], int32(j), a.w0[j])
			if a.w1[j] != 0 {
				f(a.lo[j]+1, int32(j), a.w1[j])
			}
		}
	}
	each(func(pos, _ int32, _ float32) { t.start[pos+1]++ })
	for i := range in {
		t.start[i+1] += t.start[i]
	}
	t.from, t.w = make([]int32, t.start[in]), make([]float32, t.start[in])
	next := append([]int32(nil), t.start...)
	each(func(pos, j int32, w float32) {
		t.from[next[pos]], t.w[next[pos]] = j, w
		next[pos]++
	})
	return t
}

func checkResize(where string, H, W, OH, OW int) {
	if H <= 0 || W <= 0 || OH <= 0 || OW <= 0 {
		panicf("%s: %dx%d to %dx%d: want positive sizes", where, H, W, OH, OW)
	}
}

// copyChunks copies x to y in parallel.
func copyChunks(p *Pool, y, x []float32) {
	copyBlocks(p, 1, y, 0, x, len(x))
}

// ResizeBilinear resizes x [NC,H,W] to y [NC,OH,OW] with half-pixel bilinear
// interpolation as PyTorch's F.interpolate(align_corners=False) does, without
// antialiasing. Equal sizes copy bit for bit.
func ResizeBilinear(p *Pool, NC, H, W, OH, OW int, y, x []float32) {
	checkResize("ResizeBilinear", H, W, OH, OW)
	need("ResizeBilinear: y", y, NC*OH*OW)
	need("ResizeBilinear: x", x, NC*H*W)
	if H == OH && W == OW {
		copyChunks(p, y, x[:NC*H*W])
		return
	}
	rows, cols := lerpAxes.get(H, OH), lerpAxes.get(W, OW)
	buf := resizeBuffers.Get().(*[]float32)
	if n := p.Threads() * (2*len(cols.lo) + cols.padded); len(*buf) < n {
		*buf = make([]float32, n)
	}
	each(p, NC, bilinear{H, W, OH, OW, rows, cols, y, x, *buf}, (*bilinear).plane)
	resizeBuffers.Put(buf)
}

var resizeBuffers = sync.Pool{New: func() any { return new([]float32) }}

// bilinear is the state of a loop over planes.
type bilinear struct {
	H, W, OH, OW int
	rows, cols   *lerpAxis
	y, x, buf    []float32
}

func (s *bilinear) plane(w, c int) {
	in, out := s.x[c*s.H*s.W:(c+1)*s.H*s.W], s.y[c*s.OH*s.OW:(c+1)*s.OH*s.OW]
	wide := len(s.cols.lo)
	each := 2*wide + s.cols.padded
	own := s.buf[w*each : (w+1)*each]
	// Two resized rows are kept: walking down, each source row is resized once.
	slot, source := [2][]float32{own[:wide], own[wide : 2*wide]}, own[2*wide:]
	held := [2]int32{-1, -1}
	clear(source[s.W:]) // read with weight 0
	row := func(r int32) []float32 {
		to := slot[r&1]
		if held[r&1] != r {
			copy(source, in[int(r)*s.W:(int(r)+1)*s.W])
			vecGatherLerp(to, source, s.cols)
			held[r&1] = r
		}
		return to[:s.OW]
	}
	for i := range s.OH {
		top, line := row(s.rows.lo[i]), out[i*s.OW:(i+1)*s.OW]
		if s.rows.w1[i] == 0 {
			copy(line, top)
			continue
		}
		vecLerp(line, top, row(s.rows.lo[i]+1), s.rows.w0[i], s.rows.w1[i])
	}
}

// axes keeps tables by the lengths of an axis, which are few: those of a
// network's levels at the sizes that are drawn.
type axes[T any] struct {
	make func(in, out int) *T
	mu   sync.Mutex
	made map[[2]int]*T
}

// maxAxes bounds the tables kept.
const maxAxes = 256

func (a *axes[T]) get(in, out int) *T {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := [2]int{in, out}
	t := a.made[key]
	if t == nil {
		if a.made == nil || len(a.made) >= maxAxes {
			a.made = map[[2]int]*T{}
		}
		t = a.make(in, out)
		a.made[key] = t
	}
	return t
}

var (
	lerpAxes = axes[lerpAxis]{make: func(in, out int) *lerpAxis {
		a := newLerpAxis(in, out)
		return &a
	}}
	nearestAxes = axes[[]int]{make: func(in, out int) *[]int {
		a := nearestSource(in, out)
		return &a
	}}
)

// gatherLerpGo: y[j] = w0[j]*x[lo[j]] + w1[j]*x[lo[j]+1]. x has padded elements,
// zero beyond the source, y as many as the tables.
func gatherLerpGo(y, x []float32, a *lerpAxis) {
	n := len(a.lo)
	y, w0, w1 := y[:n], a.w0[:n], a.w1[:n]
	for j, lo := range a.lo {
		y[j] = w0[j]*x[lo] + w1[j]*x[lo+1]
	}
}

// ResizeBilinearBackward computes dx [NC,H,W], the exact adjoint of
// ResizeBilinear applied to dy [NC,OH,OW], overwriting dx.
func ResizeBilinearBackward(p *Pool, NC, H, W, OH, OW int, dx, dy []float32) {
	checkResize("ResizeBilinearBackward", H, W, OH, OW)
	need("ResizeBilinearBackward: dx", dx, NC*H*W)
	need("ResizeBilinearBackward: dy", dy, NC*OH*OW)
	if H == OH && W == OW {
		copyChunks(p, dx, dy[:NC*H*W])
		return
	}
	rows, cols := newLerpAxis(H, OH).adjoint(H), newLerpAxis(W, OW).adjoint(W)
	workers := poolThreads(p)
	buf := make([]float32, workers*OW)
	runWorkers(p, workers, NC, func(w, c int) {
		in, out := dy[c*OH*OW:(c+1)*OH*OW], dx[c*H*W:(c+1)*H*W]
		acc := buf[w*OW : (w+1)*OW]
		for r := range H {
			clear(acc)
			for e := rows.start[r]; e < rows.start[r+1]; e++ {
				i := int(rows.from[e])
				vecAxpy(acc, in[i*OW:(i+1)*OW], rows.w[e])
			}
			line := out[r*W : (r+1)*W]
			for j := range line {
				var s float32
				for e := cols.start[j]; e < cols.start[j+1]; e++ {
					s += cols.w[e] * acc[cols.from[e]]
				}
				line[j] = s
			}
		}
	})
}

// nearestSource returns floor(j*in/out) for every output position.
func nearestSource(in, out int) []int {
	s := make([]int, out)
	for j := range s {
		s[j] = min(j*in/out, in-1)
	}
	return s
}

// UpsampleNearest resizes x [NC,H,W] to y [NC,OH,OW]: each output reads the
// input at floor(j*in/out), as PyTorch's mode "nearest". Any size will do.
func UpsampleNearest(p *Pool, NC, H, W, OH, OW int, y, x []float32) {
	checkResize("UpsampleNearest", H, W, OH, OW)
	need("UpsampleNearest: y", y, NC*OH*OW)
	need("UpsampleNearest: x", x, NC*H*W)
	s := nearest{H, W, OH, OW, *nearestAxes.get(H, OH), *nearestAxes.get(W, OW), y, x}
	eachChunk(p, NC, rowsPerTask(OH*OW), s, func(s *nearest, first, last int) {
		for c := first; c < last; c++ {
			s.plane(c)
		}
	})
}

// nearest is the state of a loop over planes.
type nearest struct {
	H, W, OH, OW int
	rows, cols   []int
	y, x         []float32
}

func (s *nearest) plane(c int) {
	out := s.y[c*s.OH*s.OW : (c+1)*s.OH*s.OW]
	if s.OH == 2*s.H && s.OW == 2*s.W {
		in := s.x[c*s.H*s.W : (c+1)*s.H*s.W]
		merge(active, out, 2*s.OW, in, in, s.W, s.W, s.H, s.W)
		merge(active, out[s.OW:], 2*s.OW, in, in, s.W, s.W, s.H, s.W)
		return
	}
	for i, r := range s.rows {
		line := out[i*s.OW : (i+1)*s.OW]
		if i > 0 && s.rows[i-1] == r {
			copy(line, out[(i-1)*s.OW:i*s.OW])
			continue
		}
		in := s.x[(c*s.H+r)*s.W : (c*s.H+r+1)*s.W]
		for j, from := range s.cols {
			line[j] = in[from]
		}
	}
}

// UpsampleNearestBackward computes dx [NC,H,W], the adjoint of UpsampleNearest
// applied to dy [NC,OH,OW], overwriting dx.
func UpsampleNearestBackward(p *Pool, NC, H, W, OH, OW int, dx, dy []float32) {
	checkResize("UpsampleNearestBackward", H, W, OH, OW)
	need("UpsampleNearestBackward: dx", dx, NC*H*W)
	need("UpsampleNearestBackward: dy", dy, NC*OH*OW)
	rows, cols := nearestSource(H, OH), nearestSource(W, OW)
	runChunks(p, NC, rowsPerTask(OH*OW), func(first, last int) {
		clear(dx[first*H*W : last*H*W])
		for c := first; c < last; c++ {
			for i, r := range rows {
				line := dx[(c*H+r)*W : (c*H+r+1)*W]
				in := dy[(c*OH+i)*OW : (c*OH+i+1)*OW]
				if OW == 2*W {
					for j := range line {
						line[j] += in[2*j] + in[2*j+1]
					}
					continue
				}
				for j, s := range cols {
					line[s] += in[j]
				}
			}
		}
	})
}
