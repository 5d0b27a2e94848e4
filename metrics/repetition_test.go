package metrics

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"slices"
	"testing"
)

func TestScore(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Counts
		want ImageScore
	}{
		{"right", Counts{1, 2, 1}, ImageScore{Right: true}},
		{"empty", Counts{}, ImageScore{MissingBodies: 1, MissingEyes: 2, MissingMouths: 1}},
		{"two whole critters", Counts{2, 4, 2}, ImageScore{ExcessBodies: 1, ExcessEyes: 2, ExcessMouths: 1}},
		{"one body, many faces", Counts{1, 6, 3}, ImageScore{ExcessEyes: 4, ExcessMouths: 2, LocalEyes: 4, LocalMouths: 2}},
		{"two bodies, five eyes", Counts{2, 5, 1}, ImageScore{ExcessBodies: 1, ExcessEyes: 3, LocalEyes: 1}},
		{"eyes without a body", Counts{0, 3, 2}, ImageScore{ExcessEyes: 1, ExcessMouths: 1, LocalEyes: 1, LocalMouths: 1, MissingBodies: 1}},
		{"two bodies share one face", Counts{2, 2, 1}, ImageScore{ExcessBodies: 1}},
		{"one eye", Counts{1, 1, 1}, ImageScore{MissingEyes: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := must[ImageScore](t)(tt.c.Score())
			if got != tt.want {
				t.Errorf("%+v: got %+v, want %+v", tt.c, got, tt.want)
			}
		})
	}
	_, err := ScoreAll([]Counts{{1, 2, 1}, {1, -2, 1}})
	wantError(t, err, "picture 1")
	scores := must[[]ImageScore](t)(ScoreAll([]Counts{{1, 2, 1}, {3, 7, 1}, {0, 0, 0}}))
	for name, columns := range map[string][2][]float64{
		"right":         {Column(scores, ImageScore.RightShare), {1, 0, 0}},
		"repeated":      {Column(scores, ImageScore.Repeated), {0, 1, 0}},
		"missing":       {Column(scores, ImageScore.Missing), {0, 0, 1}},
		"excess bodies": {Column(scores, func(s ImageScore) float64 { return s.ExcessBodies }), {0, 2, 0}},
		"local eyes":    {Column(scores, func(s ImageScore) float64 { return s.LocalEyes }), {0, 1, 0}},
	} {
		if !slices.Equal(columns[0], columns[1]) {
			t.Errorf("%s: got %v, want %v", name, columns[0], columns[1])
		}
	}
}

func TestAccuracy(t *testing.T) {
	got := must[[]float64](t)(Accuracy([]int{0, 1, 2, -1}, []int{0, 2, 2, -1}))
	if want := []float64{1, 0, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	_, err := Accuracy([]int{1}, nil)
	wantError(t, err, "0 classes against 1")
}

func tiled(img *image.NRGBA, k int) *image.NRGBA {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	out := image.NewNRGBA(image.Rect(0, 0, w*k, h*k))
	for y := range h * k {
		for x := range w * k {
			out.SetNRGBA(x, y, img.NRGBAAt(x%w, y%h))
		}
	}
	return out
}

// discs draws equal spotted discs at the given places (in 1/100 of the side)
// on a plain ground.
func discs(side int, at ...[2]int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			c := color.NRGBA{60, 90, 160, 255}
			for _, p := range at {
				dx := float64(x)/float64(side) - float64(p[0])/100
				dy := float64(y)/float64(side) - float64(p[1])/100
				if r := math.Hypot(dx, dy); r < 0.1 {
					c = color.NRGBA{220, 60, 40, 255}
					if math.Hypot(dx-0.03, dy+0.02) < 0.035 {
						c = color.NRGBA{255, 255, 255, 255}
					}
				}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

func TestSelfSimilarityOfTilings(t *testing.T) {
	for name, img := range map[string]*image.NRGBA{
		"grain":         noisePicture(1, 64, 64),
		"patches":       resized(t, noisePicture(2, 12, 12), 60, 60),
		"large patches": resized(t, noisePicture(3, 6, 6), 64, 64),
		"one disc":      discs(96, [2]int{40, 55}),
		"landscape":     resized(t, noisePicture(4, 8, 12), 64, 96),
	} {
		t.Run(name, func(t *testing.T) {
			last := -1.0
			for k := 1; k <= 4; k++ {
				got := must[float64](t)(SelfSimilarity(tiled(img, k)))
				if got <= last {
					t.Errorf("%d x %d tiling: %v, not above the %v of the next smaller", k, k, got, last)
				}
				if want := float64(k*k - 1); math.Abs(got-want) > 0.8 {
					t.Errorf("%d x %d tiling: %v, want about %v excess copies", k, k, got, want)
				}
				last = got
			}
		})
	}
}

func TestSelfSimilarityDoesNotSeeSize(t *testing.T) {
	for name, img := range map[string]*image.NRGBA{
		"tiling":  tiled(resized(t, noisePicture(5, 9, 9), 128, 128), 2),
		"patches": resized(t, noisePicture(6, 7, 10), 128, 192),
		"discs":   discs(256, [2]int{25, 30}, [2]int{70, 60}),
	} {
		t.Run(name, func(t *testing.T) {
			want := must[float64](t)(SelfSimilarity(img))
			h, w := img.Rect.Dy(), img.Rect.Dx()
			for _, scale := range []float64{0.5, 0.75, 1.5, 2} {
				got := must[float64](t)(SelfSimilarity(resized(t, img, int(float64(h)*scale), int(float64(w)*scale))))
				approx(t, fmt.Sprintf("at %v of the size", scale), got, want, 0.05+0.03*want)
			}
		})
	}
}

func TestSelfSimilarityCountsCopies(t *testing.T) {
	places := [][2]int{{15, 20}, {70, 30}, {35, 80}, {85, 75}}
	for n := 1; n <= len(places); n++ {
		got := must[float64](t)(SelfSimilarity(discs(128, places[:n]...)))
		approx(t, fmt.Sprintf("%d equal discs", n), got, float64(n-1), 0.35)
	}
	blank := image.NewNRGBA(image.Rect(0, 0, 40, 30))
	approx(t, "blank", must[float64](t)(SelfSimilarity(blank)), 0, 0)
	_, err := SelfSimilarity(image.NewNRGBA(image.Rectangle{}))
	wantError(t, err, "0x0")
	_, err = SelfSimilarity(image.NewNRGBA(image.Rect(0, 0, 1000, 10)))
	wantError(t, err, "at most 8 times")
}

// The correlation by FFT is the one of the definition.
func TestAutocorrelation(t *testing.T) {
	const h, w = 5, 7
	for _, planes := range []int{1, 2, 3} {
		x := normals(newStream(9, 0, uint64(planes)), planes*h*w)
		a := autocorrelation(x, h, w, 2*h, 2*w)
		for dy := -h + 1; dy < h; dy++ {
			for dx := -w + 1; dx < w; dx++ {
				want := 0.0
				for c := range planes {
					for y := max(0, -dy); y < min(h, h-dy); y++ {
						for i := max(0, -dx); i < min(w, w-dx); i++ {
							want += x[(c*h+y)*w+i] * x[(c*h+y+dy)*w+i+dx]
						}
					}
				}
				approx(t, fmt.Sprintf("%d planes, shift %d,%d", planes, dy, dx), a[((dy+2*h)%(2*h))*2*w+(dx+2*w)%(2*w)], want, 1e-10)
			}
		}
	}
}
