package kernels

// The gradient with respect to the weights is a matrix product whose sums run over the pixels of all images. The input is laid
// out in groups of vec channels, a group's channels next to each other for every pixel: vec channels under one tap are then
// neighbouring columns of B, at any stride, dilation and width. dy is A.

// weightPlan is everything about ConvBackwardWeight that follows from the shape.
type weightPlan struct {
	c       Conv
	e       *engine
	oh, ow  int
	ph, pw  int // padded input, in pixels
	group   int // floats of one group of channels of one image
	groups  int // of vec input channels
	columns int // of vec weights: taps of group 0, taps of group 1, ...
	chunk   int // images taken at a time
	sum     int // pixels of a chunk
	ars     int // from one row of A to the next
}

func (c Conv) weightPlan() weightPlan {
	e := active
	w := weightPlan{c: c, e: e, oh: c.OutH(), ow: c.OutW()}
	w.ph = (w.oh-1)*c.StrideH + (c.KH-1)*c.DilH + 1
	w.pw = (w.ow-1)*c.StrideW + (c.KW-1)*c.DilW + 1
	w.groups = ceilDiv(c.Cin, e.vec)
	w.group = roundUp(w.ph*w.pw*e.vec, 16)
	w.columns = c.KH * c.KW * w.groups
	const budget = 256 << 10 // floats: what the caches of two cores hold
	w.chunk = min(c.N, max(1, budget/(w.groups*w.group+c.Cout*w.oh*w.ow)))
	w.sum = w.chunk * w.oh * w.ow
	w.ars = spreadSets(w.sum)
	return w
}

// image returns the floats of one regrouped image.
func (w *weightPlan) image() int { return w.groups * w.group }

// tiles returns how many tiles of two columns there are; the last one may hold one column twice.
func (w *weightPlan) tiles() int { return ceilDiv(w.columns, 2) }

// ScratchWeight returns how many floats of scratch ConvBackwardWeight wants; it does not depend on the number of threads.
func (c Conv) ScratchWeight(threads int) int {
	w := c.flat().weightPlan()
	return roundUp(w.sum, 16) + roundUp(w.chunk*w.image(), 16) + roundUp(c.Cout*w.ars, 16) + roundUp(2*w.tiles()*c.Cout*w.e.vec, 16)
}

// ConvBackwardWeight computes dw = d(loss)/dw from dy = d(loss)/dy, summed over the batch, overwriting dw. scratch has
// ScratchWeight floats of any content; dw must not overlap dy or x. The bits do not depend on the pool's threads.
func ConvBackwardWeight(p *Pool, c Conv, dw, dy, x, scratch []float32) {
	c.must("ConvBackwardWeight", dy, x, dw)
	c = c.flat()
	w := c.weightPlan()
	s := carver{scratch}
	off := asInt32(s.take(w.sum))
	w.offsets(off)
	b := s.take(w.chunk * w.image())
	a := s.take(c.Cout * w.ars)
	acc := s.take(2 * w.tiles() * c.Cout * w.e.vec)
	l := weightLoop{weightPlan: w, x: x, dy: dy, dw: dw, a: a, b: b, acc: acc, off: off, g: splitGrid(p.Threads(), c.Cout, w.tiles()*2*w.e.vec)}
	for l.n0 = 0; l.n0 < c.N; l.n0 += w.chunk {
		l.n = min(w.chunk, c.N-l.n0)
		each(p, l.n*(w.groups+1), l, (*weightLoop).layOut)
		each(p, l.g.units(), l, (*weightLoop).sums)
	}
	each(p, c.Cout, l, (*weightLoop).collect)
}

// weightLoop is the state of the loops of ConvBackwardWeight.
type weightLoop struct {
	weightPlan
	x, dy, dw, a, b, acc []float32
	off                  []int32
	g                    grid
	n0, n                int // the images of a chunk
}

// layOut writes a piece of one image as the sums read it.
func (l *weightLoop) layOut(_, u int) {
	c, pixels := &l.c, l.oh*l.ow
	i, group := u/(l.groups+1), u%(l.groups+1)
	if group == l.groups { // rows of A: the images' pixels one after the other
		copyRows(l.e, l.a[i*pixels:], l.ars, l.dy[(l.n0+i)*c.Cout*pixels:], pixels, c.Cout, pixels)
		return
	}
	in := c.Cin * c.H * c.W
	l.regroup(l.b[i*l.image()+group*l.group:][:l.group], l.x[(l.n0+i)*in:][:in], group*l.e.vec)
}

// sums adds a chunk to a block of the columns.
func (l *weightLoop) sums(_, u int) {
	i0, i1, j0, j1 := l.g.unit(u)
	l.compute(l.acc, l.a, l.b, l.off[:l.n*l.oh*l.ow], i0, i1, j0/(2*l.e.vec), j1/(2*l.e.vec), l.n0 > 0)
}

// flat returns the same convolution with each image as one row, where pixels do not see each other.
func (c Conv) flat() Conv {
	if c.KH == 1 && c.KW == 1 && c.StrideH == 1 && c.StrideW == 1 && c.PadTop|c.PadBottom|c.PadLeft|c.PadRight == 0 {
		c.H, c.W = 1, c.H*c.W
	}
	return c
}

// offsets fills the table of where each output pixel of a chunk finds its input.
func (w *weightPlan) offsets(off []int32) {
	at := 0
	for i := range w.chunk {
		for y := range w.oh {
			from := i*w.image() + y*w.c.StrideH*w.pw*w.e.vec
			for range w.ow {
				off[at] = int32(from)
				from += w.c.StrideW * w.e.vec
				at++
			}
		}
	}
}

// regroup writes one group of the padded image: dst[(r*pw+q)*vec + l] = x[first+l, r-PadTop, q-PadLeft], 0 outside.
func (w *weightPlan) regroup(dst, x []float32, first int) {
	c, vec := &w.c, w.e.vec
	channels := min(vec, c.Cin-first)
	q0 := min(c.PadLeft, w.pw)
	q1 := max(q0, min(w.pw, c.W+c.PadLeft))
	if channels < vec {
		clear(dst)
	}
	for r := range w.ph {
		row := dst[r*w.pw*vec : (r+1)*w.pw*vec]
		y := r - c.PadTop
		if y < 0 || y >= c.H || q0 == q1 {
			clear(row)
			continue
		}
		clear(row[:q0*vec])
		clear(row[q1*vec:])
		transposeFast(w.e, row[q0*vec:], vec, x[(first*c.H+y)*c.W:], c.H*c.W, channels, q1-q0)
	}
}

// compute adds the sums of one chunk of pixels to rows [i0,i1) of tiles [t0,t1): acc[column][o][lane].
func (w *weightPlan) compute(acc, a, b []float32, off []int32, i0, i1, t0, t1 int, add bool) {
	e, vec := w.e, w.e.vec
	t := tile{m: i1 - i0, ars: w.ars, acs: 1, ldc: vec}
	for p0 := 0; p0 < len(off); p0 += e.kc {
		t.off = off[p0:min(p0+e.kc, len(off))]
		t.a = a[i0*w.ars+p0:]
		t.add = add || p0 > 0
		for u := 2 * t0; u < 2*t1; u += 2 {
			t.b0, t.b1 = b[w.column(u):], b[w.column(u+1):]
			t.c0, t.c1 = acc[(u*w.c.Cout+i0)*vec:], acc[((u+1)*w.c.Cout+i0)*vec:]
			t.run(e)
		}
	}
}

// column returns where a column lies relative to an output pixel's first input; past the end it repeats the last one.
func (w *weightPlan) column(g int) int {
	g = min(g, w.columns-1)
	group, tap := g/(w.c.KH*w.c.KW), g%(w.c.KH*w.c.KW)
	return group*w.group + (tap/w.c.KW*w.c.DilH*w.pw+tap%w.c.KW*w.c.DilW)*w.e.vec
}

// collect moves output channel o from the columns to dw.
func (l *weightLoop) collect(_, o int) {
	vec, cin, taps := l.e.vec, l.c.Cin, l.c.KH*l.c.KW
	for group := range l.groups {
		from := l.acc[(group*taps*l.c.Cout+o)*vec:]
		first := group * vec
		to := l.dw[(o*cin+first)*taps:]
		if taps == 1 {
			copy(to[:min(vec, cin-first)], from)
			continue
		}
		transposeFast(l.e, to, taps, from, l.c.Cout*vec, taps, min(vec, cin-first))
	}
}
