package kernels

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"
)

// walled returns n floats that end (or begin) at a page which may be neither read nor written: one float too far is a fault.
func walled(t *testing.T, values []float32, n int, atEnd bool) []float32 {
	page := syscall.Getpagesize()
	size := roundUp(max(4*n, 1), page)
	region, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip("no anonymous mapping here: ", err)
	}
	t.Cleanup(func() { syscall.Munmap(region) })
	for _, wall := range [][]byte{region[:page], region[page+size:]} {
		if err := syscall.Mprotect(wall, syscall.PROT_NONE); err != nil {
			t.Skip("no page protection here: ", err)
		}
	}
	inside := region[page : page+size]
	if atEnd {
		inside = inside[size-4*n:]
	}
	if n == 0 {
		return nil
	}
	s := unsafe.Slice((*float32)(unsafe.Pointer(&inside[0])), n)
	copy(s, values)
	return s
}

// No kernel reads or writes outside its slices.
func TestStaysInsideSlices(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		r := rand.New(rand.NewPCG(15, 9))
		shapes := []Conv{square(2, 24, 12, 8, 3, 1, 1), square(2, 9, 7, 4, 3, 1, 1), square(1, 16, 14, 16, 1, 1, 1), square(1, 5, 6, 11, 3, 2, 1), square(2, 8, 8, 8, 3, 2, 1), square(1, 13, 20, 3, 1, 1, 1)}
		valid := square(1, 6, 8, 18, 3, 1, 1) // no padding: the image itself is read
		valid.PadTop, valid.PadBottom, valid.PadLeft, valid.PadRight = 0, 0, 0, 0
		shapes = append(shapes, valid)
		for range 25 {
			shapes = append(shapes, randomConv(r))
		}
		for i, c := range shapes {
			end := i%3 != 0
			values := func(n int) []float32 { return walled(t, uniform(r, n), n, end) }
			x, w, bias, y := values(c.N*c.Cin*c.H*c.W), values(c.Cout*c.Cin*c.KH*c.KW), values(c.Cout), values(c.N*c.Cout*c.OutH()*c.OutW())
			ConvForward(p, c, y, x, w, bias, values(c.ScratchForward(2)))
			ConvBackwardData(p, c, x, y, w, values(c.ScratchData(2)))
			ConvBackwardWeight(p, c, w, y, x, values(c.ScratchWeight(2)))
		}
		for i := range 40 {
			l := Linear{T: 1 + r.IntN(50), K: 1 + r.IntN(50), O: 1 + r.IntN(50)}
			if i%4 == 0 {
				l.K += 256
			}
			values := func(n int) []float32 { return walled(t, uniform(r, n), n, i%3 != 0) }
			x, w, bias, y, s := values(l.T*l.K), values(l.O*l.K), values(l.O), values(l.T*l.O), values(l.Scratch(2))
			LinearForward(p, l, y, x, w, bias, s)
			k, _ := l.Packing()
			packed := values(k.Floats())
			k.Pack(p, packed, w)
			LinearRun(p, l, LinearArgs{Y: y, X: x, Packed: packed, Bias: bias, Residual: values(l.T * l.O), Scratch: s})
			Gemm(p, l.T, l.O, l.K, y, l.O, x, l.K, 1, values(l.K*l.O), l.O, true)
			gemmLarge(p, l.T, l.O, l.K, y, l.O, x, 1, l.T, values(l.K*l.O), l.O, true)
			LinearBackwardData(p, l, x, y, w, s)
			LinearBackwardWeight(p, l, w, y, x, s)
		}
	})
}

// Nor does a micro-kernel alone, whose slices end where the last value lies.
func TestTileStaysInsideSlices(t *testing.T) {
	for _, e := range tileEngines() {
		t.Run(e.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(24, 9))
			for i := range 60 {
				one := randomTile(r, e.vec, r.Float32, func(s []float32) []float32 { return walled(t, s, len(s), i%3 != 0) })
				one.run(e)
			}
		})
	}
}

// Nor the one for packed panels.
func TestStripStaysInsideSlices(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(37, 9))
		for i := range 60 {
			s := randomStrip(r, active, func(v []float32) []float32 { return walled(t, v, len(v), i%3 != 0) })
			s.run(active)
		}
	})
}

// Nor the one for wide panels, nor the one that packs them.
func TestPanelStaysInsideSlices(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(54, 9))
		for i := range 80 {
			p := randomPanel(r, r.Float32, func(v []float32) []float32 { return walled(t, v, len(v), i%3 != 0) })
			p.run(active)
		}
		for i, c := range wideCases() {
			values := func(n int) []float32 { return walled(t, uniform(r, n), n, i%3 != 0) }
			a := ConvArgs{Y: values(c.N * c.Cout * c.OutH() * c.OutW()), X: values(c.N * c.Cin * c.H * c.W), W: values(c.Cout * c.Cin * c.KH * c.KW), Bias: values(c.Cout), Scratch: values(c.scratchDirect(1))}
			c.direct(nil, &a)
		}
	})
}
