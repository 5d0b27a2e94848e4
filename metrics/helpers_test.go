package metrics

import (
	"image"
	"image/color"
	"math"
	"strings"
	"testing"
)

// normal draws a standard normal value (Box and Muller).
func (s *stream) normal() float64 {
	u := (float64(s.next()>>11) + 0.5) / (1 << 53)
	v := float64(s.next()>>11) / (1 << 53)
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// world makes feature rows like those of a network: rectified, with spectra
// that fall off. Two calls with the same common rows give paired sets.
type world struct {
	d     int
	shift float64
}

func (w world) rows(s *stream, n int, common []float64) []float64 {
	x := make([]float64, n*w.d)
	for i := range x {
		z := s.normal()
		if common != nil {
			z = 0.8*common[i] + 0.6*z
		}
		x[i] = math.Max((z+0.5+w.shift)/math.Sqrt(float64(i%w.d+1)), 0)
	}
	return x
}

func (w world) features(t testing.TB, s *stream, n int, common []float64) *Features {
	return must[*Features](t)(NewFeatures(n, w.d, w.rows(s, n, common)))
}

func normals(s *stream, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = s.normal()
	}
	return x
}

func approx(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: got %.12g, want %.12g, off by %.3g (tolerance %g)", what, got, want, math.Abs(got-want), tolerance)
	}
}

// wantError checks that err exists and says what.
func wantError(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", what)
	}
	if !strings.Contains(err.Error(), what) {
		t.Errorf("error %q does not say %q", err, what)
	}
}

// deviation is the sample standard deviation.
func deviation(values []float64) float64 {
	mean, sum := meanOf(values), 0.0
	for _, v := range values {
		sum += (v - mean) * (v - mean)
	}
	return math.Sqrt(sum / float64(len(values)-1))
}

func noisePicture(seed uint64, h, w int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	s := newStream(seed, 0, 0)
	for i := range img.Pix {
		img.Pix[i] = uint8(s.below(256))
	}
	return img
}

// resized brings a picture to another size and back to 8 bits.
func resized(t testing.TB, img *image.NRGBA, h, w int) *image.NRGBA {
	planes := must[[]float32](t)(ResizeClean(img, h, w))
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		out.SetNRGBA(i%w, i/w, color.NRGBA{uint8(planes[i] + 0.5), uint8(planes[h*w+i] + 0.5), uint8(planes[2*h*w+i] + 0.5), 255})
	}
	return out
}
