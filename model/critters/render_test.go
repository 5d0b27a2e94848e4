package critters

import (
	"math"
	"testing"
)

// A picture rendered at twice the pixels and averaged two by two is the picture
// rendered at once, but for the slight error of antialiasing by distance.
func TestRenderIsTheSameSceneAtEverySize(t *testing.T) {
	small, large := make([]float32, 3*64*64), make([]float32, 3*128*128)
	for i := uint64(0); i < 60; i++ {
		s := NewScene(21, i)
		s.RenderFloat(small, 64, 64)
		s.RenderFloat(large, 128, 128)
		sum, worst := 0.0, 0.0
		for p := range small {
			c, y, x := p/4096, p/64%64, p%64
			at := c*128*128 + 2*y*128 + 2*x
			mean := (large[at] + large[at+1] + large[at+128] + large[at+129]) / 4
			d := math.Abs(float64(mean - small[p]))
			sum += d
			worst = math.Max(worst, d)
		}
		if mean := sum / float64(len(small)); mean > 0.004 || worst > 0.5 {
			t.Errorf("scene %d: 64 px and averaged 128 px differ by %.4f in the mean, %.3f at most", i, mean, worst)
		}
	}
}

// On a wider canvas the critter keeps its size: it covers as many pixels.
func TestWiderCanvasShowsMoreBackground(t *testing.T) {
	area := func(s Scene, h, w int) (n int) {
		dst := make([]float32, 3*h*w)
		s.RenderFloat(dst, h, w)
		for i := 0; i < h*w; i++ {
			r, g, b := dst[i], dst[h*w+i], dst[2*h*w+i]
			if max(r, g, b)-min(r, g, b) > 0.8 {
				n++
			}
		}
		return n
	}
	for i := uint64(0); i < 40; i++ {
		s := NewScene(4, i)
		a, b := area(s, 96, 96), area(s, 96, 240)
		if math.Abs(float64(a-b)) > 0.03*float64(a) {
			t.Errorf("scene %d: body of %d px on a square canvas, %d on a wide one", i, a, b)
		}
	}
}

func TestRenderMatchesRenderFloat(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {3, 7}, {17, 64}, {64, 64}, {65, 33}} {
		h, w := size[0], size[1]
		dst := make([]float32, 3*h*w)
		s := NewScene(8, 8)
		s.RenderFloat(dst, h, w)
		img := s.Render(h, w)
		for i := 0; i < h*w; i++ {
			for c := 0; c < 3; c++ {
				v := dst[c*h*w+i]
				if v < -1 || v > 1 || v != v {
					t.Fatalf("%dx%d: value %v outside [-1,1]", h, w, v)
				}
				if got, want := float64(img.Pix[4*i+c]), (float64(v)+1)*127.5; math.Abs(got-want) > 0.5001 {
					t.Fatalf("%dx%d pixel %d channel %d: image %v, plane %v", h, w, i, c, got, want)
				}
			}
		}
	}
}

func TestRenderFloatAllocatesNothing(t *testing.T) {
	dst := make([]float32, 3*64*64)
	s := NewScene(1, 2)
	if n := testing.AllocsPerRun(20, func() { s.RenderFloat(dst, 64, 64) }); n != 0 {
		t.Errorf("RenderFloat allocates %v times", n)
	}
}

func TestRenderRefusesBadSizes(t *testing.T) {
	for name, f := range map[string]func(){
		"no rows":   func() { NewScene(1, 1).Render(0, 64) },
		"short dst": func() { NewScene(1, 1).RenderFloat(make([]float32, 10), 64, 64) },
		"bad shape": func() { NewSceneFor(1, 1, Attributes{Shape: len(Shapes)}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// The detector stands on these gaps between the world's colours.
func TestPaletteGaps(t *testing.T) {
	chroma := func(c rgb) float64 { return max(c[0], c[1], c[2]) - min(c[0], c[1], c[2]) }
	for i, c := range bodyColors {
		if chroma(c) < 134 {
			t.Errorf("%s has chroma %.0f", Colors[i], chroma(c))
		}
		for j, o := range bodyColors[:i] {
			if d := math.Hypot(math.Hypot(c[0]-o[0], c[1]-o[1]), c[2]-o[2]); d < 80 {
				t.Errorf("%s and %s are only %.0f apart", Colors[i], Colors[j], d)
			}
		}
	}
	for i, c := range backColors {
		if chroma(c) > 48 {
			t.Errorf("%s has chroma %.0f", Backgrounds[i], chroma(c))
		}
		if lo, hi := min(c[0], c[1], c[2])-contrastHi, max(c[0], c[1], c[2])+contrastHi; lo < 50 || hi > 245 {
			t.Errorf("%s reaches from %.0f to %.0f: too near to black or white", Backgrounds[i], lo, hi)
		}
		for j, o := range backColors[:i] {
			if d := math.Hypot(math.Hypot(c[0]-o[0], c[1]-o[1]), c[2]-o[2]); d < 28 {
				t.Errorf("%s and %s are only %.0f apart", Backgrounds[i], Backgrounds[j], d)
			}
		}
	}
}
