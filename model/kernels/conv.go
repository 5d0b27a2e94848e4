package kernels

import "fmt"

// Conv describes a two-dimensional convolution (cross-correlation, as neural networks use the word), row-major float32:
// x [N,Cin,H,W], w [Cout,Cin,KH,KW], y [N,Cout,OutH,OutW],
//
//	y[n,o,i,j] = bias[o] + sum over c,u,v of w[o,c,u,v] * x[n, c, i*StrideH + u*DilH - PadTop, j*StrideW + v*DilW - PadLeft]
//
// with zeros outside x. A zero stride or dilation is an error, not a default.
type Conv struct {
	N, Cin, H, W                         int
	Cout, KH, KW                         int
	StrideH, StrideW, DilH, DilW         int
	PadTop, PadBottom, PadLeft, PadRight int
	Math                                 Math
}

// OutH returns the height of y: floor((H + PadTop + PadBottom - DilH*(KH-1) - 1) / StrideH) + 1; 0 if the kernel does not fit.
func (c Conv) OutH() int { return outSize(c.H+c.PadTop+c.PadBottom, c.KH, c.DilH, c.StrideH) }

// OutW returns the width of y, like OutH.
func (c Conv) OutW() int { return outSize(c.W+c.PadLeft+c.PadRight, c.KW, c.DilW, c.StrideW) }

func outSize(padded, k, dilation, stride int) int {
	room := padded - dilation*(k-1) - 1
	if room < 0 || stride < 1 {
		return 0
	}
	return room/stride + 1
}

// Check returns an error if a size, stride or dilation is below 1, a padding is negative, or the dilated kernel does not fit
// into the padded input.
func (c Conv) Check() error {
	for _, f := range []struct {
		name       string
		value, low int
	}{
		{"N", c.N, 1}, {"Cin", c.Cin, 1}, {"H", c.H, 1}, {"W", c.W, 1}, {"Cout", c.Cout, 1}, {"KH", c.KH, 1}, {"KW", c.KW, 1},
		{"StrideH", c.StrideH, 1}, {"StrideW", c.StrideW, 1}, {"DilH", c.DilH, 1}, {"DilW", c.DilW, 1},
		{"PadTop", c.PadTop, 0}, {"PadBottom", c.PadBottom, 0}, {"PadLeft", c.PadLeft, 0}, {"PadRight", c.PadRight, 0},
	} {
		if f.value < f.low {
			return fmt.Errorf("convolution: %s is %d, want %d or more", f.name, f.value, f.low)
		}
	}
	if c.OutH() < 1 || c.OutW() < 1 {
		return fmt.Errorf("convolution: kernel %dx%d with dilation %dx%d covers %dx%d, more than the padded input %dx%d: give more padding or a smaller dilation",
			c.KH, c.KW, c.DilH, c.DilW, c.DilH*(c.KH-1)+1, c.DilW*(c.KW-1)+1, c.H+c.PadTop+c.PadBottom, c.W+c.PadLeft+c.PadRight)
	}
	return nil
}

// must panics on a description or a slice that does not fit: a programmer's error.
func (c Conv) must(name string, y, x, w []float32) {
	if err := c.Check(); err != nil {
		panic("kernels: " + name + ": " + err.Error())
	}
	mustHave(name, "x", x, c.N*c.Cin*c.H*c.W)
	mustHave(name, "y", y, c.N*c.Cout*c.OutH()*c.OutW())
	mustHave(name, "w", w, c.Cout*c.Cin*c.KH*c.KW)
}

func mustHave(function, name string, s []float32, want int) {
	if len(s) < want {
		panic(fmt.Sprintf("kernels: %s: %s has %d values, want %d", function, name, len(s), want))
	}
}

// forward returns the convolution as a correlation.
func (c Conv) forward() *correlation {
	c = c.flat()
	rows, cols := make([]int, c.KH), make([]int, c.KW)
	for u := range rows {
		rows[u] = u*c.DilH - c.PadTop
	}
	for v := range cols {
		cols[v] = v*c.DilW - c.PadLeft
	}
	return newCorrelation(c.Cin, c.H, c.W, c.Cout, c.OutH(), c.OutW(), c.StrideH, c.StrideW, rows, cols)
}

// ScratchForward returns how many floats of scratch ConvForward wants with a pool of the given number of threads.
func (c Conv) ScratchForward(threads int) int {
	if c.winogradWins() {
		return newWinograd(c, threads).scratch(threads)
	}
	return c.scratchDirect(threads)
}

func (c Conv) scratchDirect(threads int) int {
	k := c.forward()
	n := roundUp(k.k(), 16) + threads*k.workFloats()
	if !k.raw {
		n += spreadBatch(c.N, threads, k.oh*k.ow).frames() * roundUp(k.frame.floats(), 16)
	}
	return n
}

// ConvForward computes y, overwriting it; bias has Cout values or is nil. scratch has ScratchForward floats of any content.
// y must not overlap the inputs. The bits of an image depend on neither N nor the pool's threads.
func ConvForward(p *Pool, c Conv, y, x, w, bias, scratch []float32) {
	c.must("ConvForward", y, x, w)
	if bias != nil {
		mustHave("ConvForward", "bias", bias, c.Cout)
	}
	if c.winogradWins() {
		newWinograd(c, p.Threads()).forward(p, y, x, w, bias, scratch)
		return
	}
	c.direct(p, y, x, w, bias, scratch)
}

// direct is ConvForward as an implicit matrix product.
func (c Conv) direct(p *Pool, y, x, w, bias, scratch []float32) {
	k, threads := c.forward(), p.Threads()
	s := carver{scratch}
	off := asInt32(s.take(k.k()))
	k.offsets(off)
	work := s.take(threads * k.workFloats())
	buffers := func(worker int) []float32 { return work[worker*k.workFloats():][:k.workFloats()] }
	images := spreadBatch(c.N, threads, k.oh*k.ow)
	var frames []float32
	if !k.raw {
		frames = k.frame.empty(p, &s, images.frames())
	}
	plane, nr := k.oh*k.ow, 2*k.e.vec
	g := splitGrid(threads, c.Cout, k.columns()*nr)
	images.run(p, k.e, &k.frame, frames, x, k.raw, func(n, count int, b []float32, step, worker int) {
		job := &product{a: w, ars: k.k(), off: off, bias: bias, dst: y[n*c.Cout*plane:], dstStep: c.Cout * plane, b: b, bStep: step, images: count}
		if worker >= 0 {
			k.compute(job, 0, c.Cout, 0, k.columns(), buffers(worker))
			return
		}
		p.run(g.units(), func(worker, u int) {
			i0, i1, j0, j1 := g.unit(u)
			k.compute(job, i0, i1, j0/nr, j1/nr, buffers(worker))
		})
	})
}
