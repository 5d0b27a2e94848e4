package kernels

import (
	"fmt"
	"math"
	"testing"
)

// linearMap is a linear kernel with its adjoint, at one shape.
type linearMap struct {
	name             string
	nx, ny           int
	forward, adjoint func(p *Pool, y, x []float32)
}

// resizeSizes are H, W, OH, OW: up, down, one axis, fractional, tiny, odd.
var resizeSizes = [][4]int{
	{4, 5, 8, 10}, {4, 5, 7, 9}, {9, 11, 5, 7}, {8, 8, 8, 12}, {8, 8, 12, 8}, {1, 1, 3, 3}, {3, 3, 1, 1},
	{1, 7, 4, 1}, {16, 40, 9, 17}, {33, 65, 49, 97}, {6, 100, 6, 13}, {5, 30, 20, 300}, {6, 6, 6, 6},
}

func linearMaps() []linearMap {
	maps := []linearMap{
		{"ChannelsToTokens", 2 * 24 * 35, 2 * 24 * 35,
			func(p *Pool, y, x []float32) { ChannelsToTokens(p, 2, 24, 35, y, x) },
			func(p *Pool, y, x []float32) { TokensToChannels(p, 2, 24, 35, y, x) }},
		{"ChannelsToTokens of a long map", 3 * 20_000, 3 * 20_000,
			func(p *Pool, y, x []float32) { ChannelsToTokens(p, 1, 3, 20_000, y, x) },
			func(p *Pool, y, x []float32) { TokensToChannels(p, 1, 3, 20_000, y, x) }},
		{"AvgPool2", 3 * 6 * 8, 3 * 3 * 4,
			func(p *Pool, y, x []float32) { AvgPool2(p, 3, 6, 8, y, x) },
			func(p *Pool, y, x []float32) { AvgPool2Backward(p, 3, 6, 8, y, x) }},
		{"AvgPool2 of odd sizes", 3 * 7 * 5, 3 * 3 * 2,
			func(p *Pool, y, x []float32) { AvgPool2(p, 3, 7, 5, y, x) },
			func(p *Pool, y, x []float32) { AvgPool2Backward(p, 3, 7, 5, y, x) }},
		{"MeanSpatial", 2 * 3 * 10, 2 * 3,
			func(p *Pool, y, x []float32) { MeanSpatial(p, 2, 3, 10, y, x) },
			func(p *Pool, y, x []float32) { MeanSpatialBackward(p, 2, 3, 10, y, x) }},
		{"ConcatChannels", 2 * 5 * 7, 2 * 5 * 7,
			func(p *Pool, y, x []float32) { ConcatChannels(p, 2, 7, y, x[:2*3*7], 3, x[2*3*7:], 2) },
			func(p *Pool, y, x []float32) { SplitChannels(p, 2, 7, y[:2*3*7], 3, y[2*3*7:], 2, x) }},
		{"SumSpatial", 2 * 3 * 10, 2 * 3,
			func(p *Pool, y, x []float32) { SumSpatial(p, 2, 3, 10, y, x) },
			func(p *Pool, y, x []float32) { AddChannel(p, 2, 3, 10, y, make([]float32, 60), x) }},
		{"SumBatchSpatial", 2 * 3 * 10, 3,
			func(p *Pool, y, x []float32) { SumBatchSpatial(p, 2, 3, 10, y, x) },
			func(p *Pool, y, x []float32) {
				AddChannel(p, 2, 3, 10, y, make([]float32, 60), append(append([]float32(nil), x...), x...))
			}},
		{"SumRows", 9 * 70, 70,
			func(p *Pool, y, x []float32) { SumRows(p, 9, 70, y, x) },
			func(p *Pool, y, x []float32) {
				for t := range 9 {
					copy(y[t*70:(t+1)*70], x)
				}
			}},
		{"FourierFilter", 3 * 6 * 7, 3 * 6 * 7,
			func(p *Pool, y, x []float32) {
				FourierFilterForward(p, FourierFilter{Planes: 3, H: 6, W: 7, Threshold: 2, Scale: 0.2}, y, x)
			},
			func(p *Pool, y, x []float32) {
				FourierFilterForward(p, FourierFilter{Planes: 3, H: 6, W: 7, Threshold: 2, Scale: 0.2}, y, x)
			}},
		{"Embedding", 6 * 4, 5 * 4,
			func(p *Pool, y, x []float32) { Embedding(5, 4, y, x, []float32{5, 0, 2, 2, 5}) },
			func(p *Pool, y, x []float32) { EmbeddingBackward(5, 6, 4, y, x, []float32{5, 0, 2, 2, 5}) }},
	}
	for _, s := range resizeSizes {
		h, w, oh, ow := s[0], s[1], s[2], s[3]
		maps = append(maps,
			linearMap{fmt.Sprintf("UpsampleNearest %v", s), 3 * h * w, 3 * oh * ow,
				func(p *Pool, y, x []float32) { UpsampleNearest(p, 3, h, w, oh, ow, y, x) },
				func(p *Pool, y, x []float32) { UpsampleNearestBackward(p, 3, h, w, oh, ow, y, x) }},
			linearMap{fmt.Sprintf("ResizeBilinear %v", s), 3 * h * w, 3 * oh * ow,
				func(p *Pool, y, x []float32) { ResizeBilinear(p, 3, h, w, oh, ow, y, x) },
				func(p *Pool, y, x []float32) { ResizeBilinearBackward(p, 3, h, w, oh, ow, y, x) }})
	}
	return maps
}

// TestAdjoints: <A x, y> = <x, A' y>, and results overwrite what was there
// (the outputs start as NaN), stay inside their slices and ignore the threads.
func TestAdjoints(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(3)
		defer p.Close()
		for _, m := range linearMaps() {
			t.Run(m.name, func(t *testing.T) {
				x, u := normals(m.nx, 1), normals(m.ny, 2)
				y, checkY := fenced(t, "y", m.ny)
				back, checkX := fenced(t, "dx", m.nx)
				m.forward(nil, y, x)
				m.adjoint(nil, back, u)
				checkY()
				checkX()
				got, want := sum64(widen(y), widen(u)), sum64(widen(x), widen(back))
				scale := math.Sqrt(sum64(widen(y), widen(y))*sum64(widen(u), widen(u))) + 1
				if !(math.Abs(got-want) <= 1e-6*scale) {
					t.Errorf("<Ax,u> = %v, <x,A'u> = %v", got, want)
				}
				y2, back2 := make([]float32, m.ny), make([]float32, m.nx)
				m.forward(p, y2, x)
				m.adjoint(p, back2, u)
				sameBits(t, "forward with 3 threads", y2, y)
				sameBits(t, "adjoint with 3 threads", back2, back)
			})
		}
	})
}

// bilinear64 samples PyTorch's half-pixel bilinear resize at one output.
func bilinear64(x []float32, h, w, oh, ow, i, j int) float64 {
	at := func(n, out, k int) (lo, hi int, f float64) {
		u := max((float64(k)+0.5)*float64(n)/float64(out)-0.5, 0)
		lo = int(u)
		return lo, min(lo+1, n-1), u - float64(lo)
	}
	r0, r1, fr := at(h, oh, i)
	c0, c1, fc := at(w, ow, j)
	row := func(r int) float64 { return (1-fc)*float64(x[r*w+c0]) + fc*float64(x[r*w+c1]) }
	return (1-fr)*row(r0) + fr*row(r1)
}

func TestResizeAgainstDefinition(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		for _, s := range resizeSizes {
			h, w, oh, ow := s[0], s[1], s[2], s[3]
			x, y, z := normals(2*h*w, 1), make([]float32, 2*oh*ow), make([]float32, 2*oh*ow)
			ResizeBilinear(nil, 2, h, w, oh, ow, y, x)
			UpsampleNearest(nil, 2, h, w, oh, ow, z, x)
			for c := range 2 {
				in := x[c*h*w : (c+1)*h*w]
				for i := range oh {
					for j := range ow {
						at := (c*oh+i)*ow + j
						if want := bilinear64(in, h, w, oh, ow, i, j); !(math.Abs(float64(y[at])-want) <= 2e-6) {
							t.Fatalf("bilinear %v: plane %d (%d,%d) is %v, want %v", s, c, i, j, y[at], want)
						}
						if want := in[i*h/oh*w+j*w/ow]; z[at] != want {
							t.Fatalf("nearest %v: plane %d (%d,%d) is %v, want %v", s, c, i, j, z[at], want)
						}
					}
				}
			}
			if h == oh && w == ow {
				sameBits(t, "equal sizes", y, x)
			}
		}
	})
}

// TestResizeKeepsBadValues: an infinity at an edge or inside stays visible
// and NaN does not leak beyond the outputs that read it.
func TestResizeKeepsBadValues(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		const w, ow = 20, 31
		for at := range w {
			for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
				x, y := normals(w, 1), make([]float32, ow)
				x[at] = bad
				ResizeBilinear(nil, 1, 1, w, 1, ow, y, x)
				seen := false
				for j, v := range y {
					u := max((float64(j)+0.5)*w/ow-0.5, 0)
					reads := math.Abs(u-float64(at)) < 1
					isBad := math.IsNaN(float64(v)) || math.IsInf(float64(v), 0)
					seen = seen || isBad
					if isBad && !reads && int(u)+1 != at {
						t.Errorf("%v at %d: output %d is %v", bad, at, j, v)
					}
				}
				if !seen {
					t.Errorf("%v at %d is in no output", bad, at)
				}
			}
		}
	})
}

func TestAddAndScale(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		p := NewPool(2)
		defer p.Close()
		n := 2*chunk + 5
		a, b := normals(n, 1), normals(n, 2)
		y, check := fenced(t, "y", n)
		Add(p, y, a, b)
		check()
		for i, v := range y {
			if v != a[i]+b[i] {
				t.Fatalf("sum %d is %v, want %v", i, v, a[i]+b[i])
			}
		}
		Scale(p, y, a, -0.5)
		check()
		for i, v := range y {
			if v != -0.5*a[i] {
				t.Fatalf("product %d is %v, want %v", i, v, -0.5*a[i])
			}
		}
		x, shift := normals(2*3*5, 3), normals(2*3, 4)
		z := make([]float32, len(x))
		AddChannel(p, 2, 3, 5, z, x, shift)
		for i, v := range z {
			if v != x[i]+shift[i/5] {
				t.Fatalf("shifted %d is %v, want %v", i, v, x[i]+shift[i/5])
			}
		}
	})
}

func TestLayoutsPlaceElements(t *testing.T) {
	eachPath(t, func(t *testing.T) {
		x, y := normals(2*3*70, 1), make([]float32, 2*3*70)
		ChannelsToTokens(nil, 2, 3, 70, y, x)
		for i, v := range y {
			n, s, c := i/210, i/3%70, i%3
			if v != x[(n*3+c)*70+s] {
				t.Fatalf("token element %d is wrong", i)
			}
		}
		a, b, z := normals(2*2*4, 2), normals(2*1*4, 3), make([]float32, 2*3*4)
		ConcatChannels(nil, 2, 4, z, a, 2, b, 1)
		for i, v := range z {
			n, c, s := i/12, i/4%3, i%4
			want := b[n*4+s]
			if c < 2 {
				want = a[(n*2+c)*4+s]
			}
			if v != want {
				t.Fatalf("concatenated element %d is %v, want %v", i, v, want)
			}
		}
		db := make([]float32, len(b))
		SplitChannels(nil, 2, 4, nil, 2, db, 1, z)
		sameBits(t, "second half", db, b)
	})
}

func TestEmbeddingRejectsBadIDs(t *testing.T) {
	for _, id := range []float32{-1, 3, 0.5, float32(math.NaN())} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("id %v was accepted", id)
				}
			}()
			Embedding(1, 2, make([]float32, 2), make([]float32, 6), []float32{id})
		}()
	}
}

func BenchmarkResizeBilinear(b *testing.B) {
	for _, s := range [][4]int{{64, 64, 96, 96}, {64, 64, 128, 128}, {96, 96, 64, 64}, {16, 16, 24, 24}} {
		x, y := normals(24*s[0]*s[1], 1), make([]float32, 24*s[2]*s[3])
		b.Run(fmt.Sprintf("forward/%v", s), func(b *testing.B) {
			for b.Loop() {
				ResizeBilinear(nil, 24, s[0], s[1], s[2], s[3], y, x)
			}
			perElement(b, len(y))
		})
		b.Run(fmt.Sprintf("backward/%v", s), func(b *testing.B) {
			for b.Loop() {
				ResizeBilinearBackward(nil, 24, s[0], s[1], s[2], s[3], x, y)
			}
			perElement(b, len(y))
		})
	}
}
