package kernels

import "sync"

// The gradient with respect to the input is, for every phase of the stride, a stride-1 correlation over dy: dx row i receives
// dy row (i + PadTop - u*DilH)/StrideH from every kernel row u for which that is whole. Nothing is multiplied by the zeros
// that a stride would stuff in between.

// dataPhase is one phase: the rows i = row, row+StrideH, ... and columns likewise of dx.
type dataPhase struct {
	row, col   int // first row and column of dx
	h, w       int // how many of each
	us, vs     []int
	rows, cols []int // where kernel rows us and columns vs find dy, relative to the phase's own index
	taps       []int // the kernel's positions us x vs
}

// phaseTaps returns the kernel positions that reach outputs first, first+stride, ..., and the shifts of their sources.
func phaseTaps(first, k, pad, dilation, stride int) (us, shifts []int) {
	for u := range k {
		if d := first + pad - u*dilation; d%stride == 0 {
			us = append(us, u)
			shifts = append(shifts, d/stride)
		}
	}
	return us, shifts
}

// dataPhases returns the phases and the frame over dy that serves them all.
func (c Conv) dataPhases() ([]dataPhase, frame) {
	var list []dataPhase
	lowR, highR, lowC, highC, maxH, maxW := 0, 0, 0, 0, 0, 0
	for r := range min(c.StrideH, c.H) {
		us, rows := phaseTaps(r, c.KH, c.PadTop, c.DilH, c.StrideH)
		for q := range min(c.StrideW, c.W) {
			vs, cols := phaseTaps(q, c.KW, c.PadLeft, c.DilW, c.StrideW)
			ph := dataPhase{row: r, col: q, h: ceilDiv(c.H-r, c.StrideH), w: ceilDiv(c.W-q, c.StrideW), us: us, vs: vs, rows: rows, cols: cols}
			for _, u := range us {
				for _, v := range vs {
					ph.taps = append(ph.taps, u*c.KW+v)
				}
			}
			list = append(list, ph)
			if len(us) == 0 || len(vs) == 0 {
				continue
			}
			if maxH == 0 {
				lowR, highR, lowC, highC = rows[0], rows[0], cols[0], cols[0]
			}
			for _, s := range rows {
				lowR, highR = min(lowR, s), max(highR, s)
			}
			for _, s := range cols {
				lowC, highC = min(lowC, s), max(highC, s)
			}
			maxH, maxW = max(maxH, ph.h), max(maxW, ph.w)
		}
	}
	return list, newFrame(c.Cout, c.OutH(), c.OutW(), max(maxH, 1), max(maxW, 1), 1, 1, []int{lowR, highR}, []int{lowC, highC})
}

// dataPlan is everything about ConvBackwardData that follows from the shape. It is shared, and nobody may change it.
type dataPlan struct {
	phases []dataPhase
	corr   []*correlation // nil where no tap reaches the phase
	frame  frame
	raw    bool // dy itself is the frame
	work   int  // floats of a worker's buffers
	plane  int  // floats of all phases of one channel; 0 when dx is written directly
}

var dataPlans plans[correlationKey, *dataPlan]

// dataPlan returns the plan, which is kept.
func (c Conv) dataPlan() *dataPlan {
	c.N, c.Math = 1, Float32 // it depends on neither
	return dataPlans.get(correlationKey{c, active}, func(k correlationKey) *dataPlan { return k.c.newDataPlan() })
}

func (c Conv) newDataPlan() *dataPlan {
	p := &dataPlan{}
	p.phases, p.frame = c.dataPhases()
	p.raw = p.frame.whole()
	for _, ph := range p.phases {
		if len(ph.us) == 0 || len(ph.vs) == 0 {
			p.corr = append(p.corr, nil)
			continue
		}
		k := newCorrelationIn(p.frame, c.Cin, ph.h, ph.w, ph.rows, ph.cols)
		p.corr = append(p.corr, k)
		p.raw = p.raw && k.raw
		p.work = k.workFloats()
	}
	for _, k := range p.corr {
		if k != nil {
			k.raw = p.raw // one frame serves all
		}
	}
	if len(p.phases) > 1 {
		p.plane = c.H * c.W
	}
	return p
}

// dataBatch returns how the images are spread over the threads.
func (c Conv) dataBatch(threads int) batch { return spreadBatch(c.N, threads, c.OutH()*c.OutW()) }

// adjoint is the convolution from dy to dx of a 3x3 convolution of stride 1, with the kernel turned by half a turn and its
// channels exchanged; false for others, and for padding so wide that some of dy would have to be cut off.
func (c Conv) adjoint() (Conv, bool) {
	if !c.winogradFits() {
		return c, false
	}
	h, w := c.DilH*(c.KH-1), c.DilW*(c.KW-1)
	a := c
	a.Cin, a.Cout, a.H, a.W = c.Cout, c.Cin, c.OutH(), c.OutW()
	a.PadTop, a.PadBottom, a.PadLeft, a.PadRight = h-c.PadTop, h-c.PadBottom, w-c.PadLeft, w-c.PadRight
	return a, min(a.PadTop, a.PadBottom, a.PadLeft, a.PadRight) >= 0
}

// turn writes the adjoint's weights: t[i, o, u, v] = w[o, i, KH-1-u, KW-1-v].
func (c Conv) turn(p *Pool, t, w []float32) {
	each(p, c.Cin, turning{c, t, w}, func(s *turning, _, i int) {
		c := &s.c
		size := c.KH * c.KW
		to := s.t[i*c.Cout*size:][:c.Cout*size]
		for o := range c.Cout {
			from := s.w[(o*c.Cin+i)*size:][:size]
			for k, v := range from {
				to[o*size+size-1-k] = v
			}
		}
	})
}

// turning is the state of turn's loop.
type turning struct {
	c    Conv
	t, w []float32
}

// ScratchData returns how many floats of scratch ConvBackwardData wants with a pool of the given number of threads.
func (c Conv) ScratchData(threads int) int {
	if a, ok := c.adjoint(); ok && a.winogradWins() {
		return roundUp(c.Cin*c.Cout*c.KH*c.KW, 16) + newWinograd(a, threads).scratch(threads)
	}
	return c.scratchDataDirect(threads)
}

func (c Conv) scratchDataDirect(threads int) int {
	c = c.flat()
	d := c.dataPlan()
	n := 0
	for _, k := range d.corr {
		if k != nil {
			n += roundUp(k.k(), 16) + roundUp(c.Cin*k.k(), 16)
		}
	}
	if !d.raw {
		n += c.dataBatch(threads).frames() * roundUp(d.frame.floats(), 16)
	}
	return n + threads*roundUp(d.work+c.Cin*d.plane, 16)
}

// ConvBackwardData computes dx = d(loss)/dx from dy = d(loss)/dy, overwriting dx. scratch has ScratchData floats of any
// content; dx must not overlap dy or w. The bits of an image depend on neither N nor the pool's threads.
func ConvBackwardData(p *Pool, c Conv, dx, dy, w, scratch []float32) {
	c.must("ConvBackwardData", dy, dx, w)
	if a, ok := c.adjoint(); ok && a.winogradWins() {
		s := carver{scratch}
		turned := s.take(c.Cin * c.Cout * c.KH * c.KW)
		c.turn(p, turned, w)
		a.planWinograd(p.Threads(), a.winogradIsLarge()).forward(p, &ConvArgs{Y: dx, X: dy, W: turned, Scratch: s.rest})
		return
	}
	c.dataDirect(p, dx, dy, w, scratch)
}

// dataDirect is ConvBackwardData as implicit matrix products.
func (c Conv) dataDirect(p *Pool, dx, dy, w, scratch []float32) {
	c = c.flat()
	threads, plan := p.Threads(), c.dataPlan()
	s := carver{scratch}
	j := dataJobs.Get().(*dataJob)
	*j = dataJob{dataPlan: plan, pool: p, c: c, w: w, dx: dx, weights: j.weights[:0], offsets: j.offsets[:0]}
	for _, k := range plan.corr {
		if k == nil {
			j.offsets, j.weights = append(j.offsets, nil), append(j.weights, nil)
			continue
		}
		off := asInt32(s.take(k.k()))
		k.offsets(off)
		j.offsets, j.weights = append(j.offsets, off), append(j.weights, s.take(c.Cin*k.k()))
	}
	each(p, ceilDiv(c.Cin, turnedAtOnce), j, turnSome)
	images := c.dataBatch(threads)
	var frames []float32
	if !plan.raw {
		frames = plan.frame.empty(p, &s, images.frames())
	}
	j.size = roundUp(plan.work+c.Cin*plan.plane, 16)
	j.work = s.take(threads * j.size)
	images.run(p, active, &plan.frame, frames, dy, plan.raw, j)
	clear(j.weights) // so that it keeps nobody's memory
	clear(j.offsets)
	*j = dataJob{weights: j.weights, offsets: j.offsets}
	dataJobs.Put(j)
}

// turnedAtOnce is how many input channels' weights are turned at a time.
const turnedAtOnce = 16

func turnSome(s **dataJob, _, u int) {
	j := *s
	for i, ph := range j.phases {
		if j.corr[i] != nil {
			j.c.turnWeights(j.weights[i], j.w, ph.taps, u*turnedAtOnce, min((u+1)*turnedAtOnce, j.c.Cin))
		}
	}
}

// dataJob is a dataPlan at work.
type dataJob struct {
	*dataPlan
	pool    *Pool
	c       Conv
	w, dx   []float32
	weights [][]float32 // of every phase, turned
	offsets [][]int32
	work    []float32 // of all workers, size each
	size    int
}

// dataJobs keeps jobs between calls.
var dataJobs = sync.Pool{New: func() any { return new(dataJob) }}

// images computes some images, on one worker or, without one, on all threads.
func (j *dataJob) images(n, count int, b []float32, step, worker int) {
	s := dataPiece{j, n, count, step, j.c.Cin, b}
	if worker >= 0 {
		s.rows(worker, 0)
		return
	}
	s.step = min(j.c.Cin, roundUp(ceilDiv(j.c.Cin, 2*j.pool.Threads()), active.mr))
	each(j.pool, ceilDiv(j.c.Cin, s.step), s, (*dataPiece).rows)
}

// dataPiece is consecutive images, of which a piece of the work takes some input channels.
type dataPiece struct {
	*dataJob
	n, count, bStep int
	step            int // input channels at a time
	b               []float32
}

// rows computes the u-th part of the input channels.
func (d *dataPiece) rows(worker, u int) {
	c, in := &d.c, d.c.Cin*d.c.H*d.c.W
	i0, i1 := u*d.step, min((u+1)*d.step, c.Cin)
	work, dx := d.work[worker*d.size:][:d.size], d.dx[d.n*in:]
	buffers, planes := work[:d.dataPlan.work], work[d.dataPlan.work:]
	w := product{dst: dx, dstStep: in, b: d.b, bStep: d.bStep, images: d.count}
	if d.plane == 0 {
		k := d.corr[0]
		if k == nil { // the kernel never reaches the image
			for n := range d.count {
				clear(dx[n*in+i0*c.H*c.W : n*in+i1*c.H*c.W])
			}
			return
		}
		w.a, w.ars, w.off = d.weights[0], k.k(), d.offsets[0]
		k.compute(&w, i0, i1, 0, k.columns(), buffers)
		return
	}
	// Phases are computed one after the other and then interleaved, image by image.
	var few [16][]float32
	parts := few[:0] // nil means zeros
	if len(d.phases) > len(few) {
		parts = make([][]float32, 0, len(d.phases))
	}
	w.images = 1
	for n := range d.count {
		rest := planes
		parts = parts[:0]
		for i, k := range d.corr {
			if k == nil {
				parts = append(parts, nil)
				continue
			}
			own := rest[:(i1-i0)*k.oh*k.ow]
			rest = rest[len(own):]
			parts = append(parts, own)
			w.a, w.ars, w.off = d.weights[i][i0*k.k():], k.k(), d.offsets[i]
			w.dst, w.b = own, d.b[n*d.bStep:]
			k.compute(&w, 0, i1-i0, 0, k.columns(), buffers)
		}
		c.interleave(dx[n*in+i0*c.H*c.W:n*in+i1*c.H*c.W], d.phases, parts, i1-i0)
	}
}

// interleave writes the phases of m channels to their rows and columns of dx.
func (c *Conv) interleave(dx []float32, phases []dataPhase, parts [][]float32, m int) {
	for i := 0; i < len(phases); i++ {
		ph := phases[i]
		pair := c.StrideW == 2 && ph.col == 0 && i+1 < len(phases) && phases[i+1].col == 1 && parts[i] != nil && parts[i+1] != nil
		for ch := range m {
			to := dx[ch*c.H*c.W+ph.row*c.W:]
			step := c.StrideH * c.W
			if parts[i] == nil {
				for y := range ph.h {
					row := to[y*step:][:c.W]
					for x := ph.col; x < c.W; x += c.StrideW {
						row[x] = 0
					}
				}
				continue
			}
			from := parts[i][ch*ph.h*ph.w:][:ph.h*ph.w]
			first := 0
			if pair {
				first = phases[i+1].w // columns of either phase; the first may have one more
				merge(active, to, step, from, parts[i+1][ch*ph.h*first:], ph.w, first, ph.h, first)
			}
			for y := range ph.h {
				row, at := to[y*step:][:c.W], ph.col+first*c.StrideW
				for _, v := range from[y*ph.w+first : (y+1)*ph.w] {
					row[at] = v
					at += c.StrideW
				}
			}
		}
		if pair {
			i++
		}
	}
}

// turnWeights writes rows [i0,i1) of A[i, (o,t)] = w[o, i, taps[t]].
func (c *Conv) turnWeights(a, w []float32, taps []int, i0, i1 int) {
	size := c.KH * c.KW
	if size == 1 {
		transposeFast(active, a[i0*c.Cout:], c.Cout, w[i0:], c.Cin, c.Cout, i1-i0)
		return
	}
	const block = 32 // output channels whose weights stay in the first-level cache
	for o0 := 0; o0 < c.Cout; o0 += block {
		o1 := min(o0+block, c.Cout)
		for i := i0; i < i1; i++ {
			to := a[(i*c.Cout+o0)*len(taps) : (i*c.Cout+o1)*len(taps)]
			from := w[(o0*c.Cin+i)*size:]
			step := c.Cin * size
			if len(taps) == size {
				copyRows(active, to, size, from, step, o1-o0, size)
				continue
			}
			for at := 0; at < len(to); at += len(taps) {
				out := to[at : at+len(taps)]
				for t, tap := range taps {
					out[t] = from[tap]
				}
				from = from[min(step, len(from)):]
			}
		}
	}
}
