package metrics

import (
	"fmt"
	"image"
	"math"
	"slices"
	"testing"
)

func ramp(n int) []float32 {
	s := newStream(uint64(n), 0, 1)
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(s.below(256))
	}
	return x
}

func TestResizeProperties(t *testing.T) {
	for _, filter := range []Filter{Bilinear, Bicubic, Lanczos} {
		for _, size := range [][4]int{{7, 9, 7, 9}, {7, 9, 3, 20}, {30, 22, 11, 22}, {5, 64, 5, 13}, {1, 1, 6, 4}, {50, 40, 1, 1}, {128, 128, 64, 64}} {
			h, w, oh, ow := size[0], size[1], size[2], size[3]
			t.Run(fmt.Sprintf("%v %dx%d to %dx%d", filter, h, w, oh, ow), func(t *testing.T) {
				r := must[*Resizer](t)(NewResizer(filter, h, w, oh, ow))
				grey := make([]float32, 2*h*w)
				grey8 := make([]uint8, 2*h*w)
				for i := range grey {
					grey[i], grey8[i] = 77, 77
				}
				for _, v := range must[[]float32](t)(r.Clean(grey)) {
					approx(t, "constant", float64(v), 77, 1e-4)
				}
				for _, v := range must[[]uint8](t)(r.Bytes(grey8)) {
					if v != 77 {
						t.Fatalf("constant 77 in 8 bits became %d", v)
					}
				}
				x := ramp(2 * h * w)
				got := must[[]float32](t)(r.Clean(x))
				if len(got) != 2*oh*ow {
					t.Fatalf("got %d values, want %d", len(got), 2*oh*ow)
				}
				if h == oh && w == ow && !slices.Equal(got, x) {
					t.Error("the same size changed the picture")
				}
				// Planes do not mix, and mirrored input gives mirrored output.
				second := must[[]float32](t)(r.Clean(x[h*w:]))
				if !slices.Equal(second, got[oh*ow:]) {
					t.Error("the second plane depends on the first")
				}
				mirror := func(x []float32) []float32 {
					m := slices.Clone(x)
					slices.Reverse(m)
					return m
				}
				for i, v := range must[[]float32](t)(r.Clean(mirror(x[h*w:]))) {
					approx(t, "turned by 180 degrees", float64(v), float64(second[oh*ow-1-i]), 2e-3)
				}
			})
		}
	}
}

// Lines go through in blocks of four; each must come out as if alone.
func TestResizeLinesAlone(t *testing.T) {
	const h, w, ow = 11, 37, 16
	x := ramp(h * w)
	all := must[[]float32](t)(must[*Resizer](t)(NewResizer(Bicubic, h, w, h, ow)).Clean(x))
	one := must[*Resizer](t)(NewResizer(Bicubic, 1, w, 1, ow))
	for y := range h {
		if got := must[[]float32](t)(one.Clean(x[y*w:][:w])); !slices.Equal(got, all[y*ow:][:ow]) {
			t.Errorf("line %d alone: got %v, want %v", y, got, all[y*ow:][:ow])
		}
	}
}

func TestResizeKeepsNaN(t *testing.T) {
	x := ramp(36)
	x[14] = float32(math.NaN())
	for name, got := range map[string][]float32{
		"clean":      must[[]float32](t)(must[*Resizer](t)(NewResizer(Bicubic, 6, 6, 3, 3)).Clean(x)),
		"half pixel": must[[]float32](t)(ResizeHalfPixel(x, 6, 6, 5, 5)),
		"TF1":        must[[]float32](t)(ResizeTF1(x, 6, 6, 6, 6)),
	} {
		if !slices.ContainsFunc(got, func(v float32) bool { return v != v }) {
			t.Errorf("%s: the NaN is gone", name)
		}
	}
}

func TestPlanesOfSubImage(t *testing.T) {
	whole := noisePicture(3, 20, 30)
	part := whole.SubImage(image.Rect(4, 5, 17, 19)).(*image.NRGBA)
	planes, h, w := Planes(part)
	if h != 14 || w != 13 {
		t.Fatalf("got %dx%d, want 14x13", h, w)
	}
	for y := range h {
		for x := range w {
			p := whole.NRGBAAt(x+4, y+5)
			for c, want := range []uint8{p.R, p.G, p.B} {
				if got := planes[(c*h+y)*w+x]; got != float32(want) {
					t.Fatalf("channel %d at %d,%d: got %v, want %d", c, y, x, got, want)
				}
			}
		}
	}
	got := must[[]float32](t)(ResizeClean(part, 7, 9))
	want := must[[]float32](t)(must[*Resizer](t)(NewResizer(Bicubic, 14, 13, 7, 9)).Clean(planes))
	if !slices.Equal(got, want) {
		t.Error("ResizeClean differs from Planes and Clean")
	}
}

func TestResizeErrors(t *testing.T) {
	r := must[*Resizer](t)(NewResizer(Bicubic, 4, 5, 2, 2))
	for _, tt := range []struct {
		name string
		call func() error
		want string
	}{
		{"filter", func() error { _, err := NewResizer(Filter(7), 4, 4, 2, 2); return err }, "unknown filter Filter(7)"},
		{"zero", func() error { _, err := NewResizer(Bicubic, 4, 4, 0, 2); return err }, "4x4 to 0x2"},
		{"huge", func() error { _, err := NewResizer(Bicubic, 4, 4, 1<<20, 2); return err }, "want sizes of 1 to 65536"},
		{"length", func() error { _, err := r.Clean(make([]float32, 21)); return err }, "21 values are no whole number of 4x5 planes"},
		{"empty", func() error { _, err := r.Bytes(nil); return err }, "0 values"},
		{"TF1 length", func() error { _, err := ResizeTF1(make([]float32, 3), 2, 2, 1, 1); return err }, "3 values"},
		{"half-pixel size", func() error { _, err := ResizeHalfPixel(make([]float32, 4), 2, 2, -1, 1); return err }, "-1x1"},
		{"empty picture", func() error { _, err := ResizeClean(image.NewNRGBA(image.Rectangle{}), 2, 2); return err }, "0x0 to 2x2"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.call(), tt.want) })
	}
}

// Any sizes: no panic, and every value stays within 0..255.
func FuzzResize(f *testing.F) {
	f.Add(uint8(128), uint8(128), uint8(64), uint8(64), uint8(1))
	f.Add(uint8(1), uint8(255), uint8(200), uint8(1), uint8(2))
	f.Add(uint8(3), uint8(2), uint8(7), uint8(9), uint8(0))
	f.Fuzz(func(t *testing.T, h, w, oh, ow, filter uint8) {
		r, err := NewResizer(Filter(filter), int(h), int(w), int(oh), int(ow))
		if bad := min(h, w, oh, ow) == 0 || filter > 2; bad != (err != nil) {
			t.Fatalf("sizes %d %d %d %d, filter %d: error %v", h, w, oh, ow, filter, err)
		}
		if err != nil {
			return
		}
		x := ramp(int(h) * int(w))
		for i, v := range must[[]float32](t)(r.Clean(x)) {
			if !(v >= 0 && v <= 255) {
				t.Fatalf("value %d is %v", i, v)
			}
		}
		// With little contrast nothing is clipped between the passes, and bytes
		// differ from floats by the rounding of two passes only.
		bytes := make([]uint8, len(x))
		for i, v := range x {
			bytes[i] = 96 + uint8(v)/4
			x[i] = float32(bytes[i])
		}
		exact := must[[]float32](t)(r.Clean(x))
		rounded := must[[]uint8](t)(r.Bytes(bytes))
		for i, v := range exact {
			if math.Abs(float64(v)-float64(rounded[i])) > 1.5 {
				t.Fatalf("value %d: %v in floats, %d in bytes", i, v, rounded[i])
			}
		}
		must[[]float32](t)(ResizeTF1(x, int(h), int(w), int(oh), int(ow)))
		must[[]float32](t)(ResizeHalfPixel(x, int(h), int(w), int(oh), int(ow)))
	})
}
