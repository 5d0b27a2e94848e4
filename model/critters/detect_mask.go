package critters

import (
	"image"
	"math"
	"slices"
	"sort"
)

// patch is a connected set of pixels, in ascending order.
type patch struct {
	pixels []int
	box    image.Rectangle
}

// components returns the 4-connected patches of a bitmap, largest first, ties
// by their first pixel.
func components(in []bool, w, h int) []patch {
	seen := make([]bool, len(in))
	var out []patch
	var stack []int
	for start, on := range in {
		if !on || seen[start] {
			continue
		}
		p := patch{box: image.Rectangle{Min: image.Pt(w, h)}}
		stack = append(stack[:0], start)
		seen[start] = true
		for len(stack) > 0 {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			p.pixels = append(p.pixels, i)
			x, y := i%w, i/w
			p.box.Min.X, p.box.Min.Y = min(p.box.Min.X, x), min(p.box.Min.Y, y)
			p.box.Max.X, p.box.Max.Y = max(p.box.Max.X, x+1), max(p.box.Max.Y, y+1)
			visit := func(j int, ok bool) {
				if ok && in[j] && !seen[j] {
					seen[j] = true
					stack = append(stack, j)
				}
			}
			visit(i-1, x > 0)
			visit(i+1, x < w-1)
			visit(i-w, y > 0)
			visit(i+w, y < h-1)
		}
		slices.Sort(p.pixels)
		out = append(out, p)
	}
	sort.SliceStable(out, func(a, b int) bool { return len(out[a].pixels) > len(out[b].pixels) })
	return out
}

// mask is a bitmap over a crop of the view.
type mask struct {
	w, h   int
	x0, y0 int // of the crop in the view
	in     []bool
}

// at is the index, in a view of the given width, of the crop's pixel i.
func (m mask) at(i, width int) int { return (m.y0+i/m.w)*width + m.x0 + i%m.w }

// box bounds the mask, in the view's pixels.
func (m mask) box() image.Rectangle {
	r := image.Rectangle{Min: image.Pt(m.w, m.h)}
	for i, in := range m.in {
		if in {
			x, y := i%m.w, i/m.w
			r.Min.X, r.Min.Y = min(r.Min.X, x), min(r.Min.Y, y)
			r.Max.X, r.Max.Y = max(r.Max.X, x+1), max(r.Max.Y, y+1)
		}
	}
	return r.Add(image.Pt(m.x0, m.y0))
}

// closed returns the patch grown by reach pixels, its holes filled, and shrunk
// back by as much: notches and holes go, the outer edge stays.
func closed(p patch, reach float64, w, h int) mask {
	margin := int(math.Ceil(reach)) + 2
	// The crop may reach beyond the view, so that shapes at its edge close
	// alike; such pixels are taken out again at the end.
	box := image.Rect(p.box.Min.X-margin, p.box.Min.Y-margin, p.box.Max.X+margin, p.box.Max.Y+margin)
	m := mask{w: box.Dx(), h: box.Dy(), x0: box.Min.X, y0: box.Min.Y, in: make([]bool, box.Dx()*box.Dy())}
	for _, i := range p.pixels {
		m.in[(i/w-m.y0)*m.w+i%w-m.x0] = true
	}
	for i, d := range distances(m.in, m.w, m.h, true) {
		m.in[i] = float64(d) <= reach
	}
	fill(m)
	for i, d := range distances(m.in, m.w, m.h, false) {
		m.in[i] = float64(d) > reach
	}
	for _, i := range p.pixels {
		m.in[(i/w-m.y0)*m.w+i%w-m.x0] = true
	}
	// Crop to the view.
	cut := box.Intersect(image.Rect(0, 0, w, h))
	c := mask{w: cut.Dx(), h: cut.Dy(), x0: cut.Min.X, y0: cut.Min.Y, in: make([]bool, cut.Dx()*cut.Dy())}
	for y := 0; y < c.h; y++ {
		from := (y+c.y0-m.y0)*m.w + c.x0 - m.x0
		copy(c.in[y*c.w:(y+1)*c.w], m.in[from:from+c.w])
	}
	return c
}

// fill sets every pixel that is not connected to the crop's border.
func fill(m mask) {
	outside := make([]bool, len(m.in))
	var stack []int
	push := func(i int) {
		if !m.in[i] && !outside[i] {
			outside[i] = true
			stack = append(stack, i)
		}
	}
	for x := 0; x < m.w; x++ {
		push(x)
		push((m.h-1)*m.w + x)
	}
	for y := 0; y < m.h; y++ {
		push(y * m.w)
		push(y*m.w + m.w - 1)
	}
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		x, y := i%m.w, i/m.w
		if x > 0 {
			push(i - 1)
		}
		if x < m.w-1 {
			push(i + 1)
		}
		if y > 0 {
			push(i - m.w)
		}
		if y < m.h-1 {
			push(i + m.w)
		}
	}
	for i := range m.in {
		m.in[i] = !outside[i]
	}
}

// distances returns for every pixel the Euclidean distance to the nearest pixel
// whose bit equals to; pixels beyond the bitmap count as unset. It is the
// two-pass lower-envelope method of Felzenszwalb and Huttenlocher (2012).
func distances(in []bool, w, h int, to bool) []float32 {
	const far = 1e12
	// One ring of pixels more on every side stands for what is beyond.
	pw, ph := w+2, h+2
	f := make([]float64, pw*ph)
	for i := range f {
		x, y := i%pw-1, i/pw-1
		bit := x >= 0 && y >= 0 && x < w && y < h && in[y*w+x]
		if bit != to {
			f[i] = far
		}
	}
	n := max(pw, ph)
	line, hull, cuts := make([]float64, n), make([]int, n), make([]float64, n+1)
	for x := 0; x < pw; x++ {
		lowerEnvelope(f[x:], pw, ph, line, hull, cuts)
	}
	for y := 0; y < ph; y++ {
		lowerEnvelope(f[y*pw:], 1, pw, line, hull, cuts)
	}
	out := make([]float32, w*h)
	for i := range out {
		out[i] = float32(math.Sqrt(f[(i/w+1)*pw+i%w+1]))
	}
	return out
}

// lowerEnvelope replaces n values at the given stride by
// min over q of (p-q)^2 + f(q). The other slices are scratch.
func lowerEnvelope(f []float64, stride, n int, line []float64, hull []int, cuts []float64) {
	for i := 0; i < n; i++ {
		line[i] = f[i*stride]
	}
	k := 0
	hull[0], cuts[0], cuts[1] = 0, math.Inf(-1), math.Inf(1)
	for q := 1; q < n; q++ {
		meet := func() float64 {
			p := hull[k]
			return (line[q] - line[p] + float64(q*q-p*p)) / float64(2*(q-p))
		}
		s := meet()
		for s <= cuts[k] {
			k--
			s = meet()
		}
		k++
		hull[k], cuts[k], cuts[k+1] = q, s, math.Inf(1)
	}
	k = 0
	for p := 0; p < n; p++ {
		for cuts[k+1] < float64(p) {
			k++
		}
		d := float64(p - hull[k])
		f[p*stride] = d*d + line[hull[k]]
	}
}

// lobes splits a mask where it is joined by a neck. Pixels are visited from the
// innermost outward; two growing regions that meet stay apart if the lesser has
// been ratio times as wide as the neck and share as wide as the widest. A convex
// mask is always one lobe. The largest lobe comes first.
func lobes(m mask, ratio, share float64) []mask {
	depth := distances(m.in, m.w, m.h, false)
	// Sorted by falling depth, ties by place: positive floats order as their
	// bits do, so one integer carries both.
	var keys []uint64
	widest := 0.0
	for i, in := range m.in {
		if in {
			keys = append(keys, uint64(^math.Float32bits(depth[i]))<<32|uint64(i))
			widest = max(widest, float64(depth[i]))
		}
	}
	slices.Sort(keys)
	order := make([]int, len(keys))
	for k, key := range keys {
		order[k] = int(key & math.MaxUint32)
	}
	parent := make([]int, len(m.in))
	for i := range parent {
		parent[i] = -1
	}
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	// A region's root is its innermost pixel, so depth[root] is its peak.
	for _, i := range order {
		x, y := i%m.w, i/m.w
		best := -1
		join := func(j int, ok bool) {
			if !ok || parent[j] < 0 {
				return
			}
			r := root(j)
			switch {
			case best < 0:
				best = r
			case r == best:
			default:
				high, low := best, r
				if depth[low] > depth[high] || depth[low] == depth[high] && low < high {
					high, low = low, high
				}
				peak := float64(depth[low])
				if peak < ratio*float64(depth[i]) || peak < share*widest {
					parent[low] = high
				}
				best = high
			}
		}
		join(i-1, x > 0)
		join(i+1, x < m.w-1)
		join(i-m.w, y > 0)
		join(i+m.w, y < m.h-1)
		if best < 0 {
			best = i
		}
		parent[i] = best
	}
	var roots []int
	size := map[int]int{}
	for _, i := range order {
		r := root(i)
		if size[r] == 0 {
			roots = append(roots, r) // in order of depth: deterministic
		}
		size[r]++
	}
	sort.SliceStable(roots, func(a, b int) bool { return size[roots[a]] > size[roots[b]] })
	var out []mask
	for k, r := range roots {
		// A part that touches no other and is thin is a crumb, not a body.
		if k > 0 && float64(depth[r]) < share*widest {
			continue
		}
		lobe := mask{w: m.w, h: m.h, x0: m.x0, y0: m.y0, in: make([]bool, len(m.in))}
		for _, i := range order {
			if root(i) == r {
				lobe.in[i] = true
			}
		}
		out = append(out, lobe)
	}
	return out
}
