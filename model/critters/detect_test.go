package critters

import (
	"bytes"
	"flag"
	"image"
	"image/jpeg"
	"math"
	"testing"
)

var detectFull = flag.Bool("detect-full", false, "run the detector on all 2,000 scenes of the bar instead of a part (with -run TestDetect)")

// canvases are the sizes (height, width) of the bar.
var canvases = [][2]int{{64, 64}, {96, 96}, {128, 128}, {256, 256}, {512, 512}, {64, 128}, {160, 96}}

// barScene returns scene i of the detector's bar and its size: 0 to 6 critters,
// every size in turn.
func barScene(i int) (Scene, int, int) {
	size := canvases[i/(MaxCrowd+1)%len(canvases)]
	return NewCrowd(31, uint64(i), i%(MaxCrowd+1)), size[0], size[1]
}

// exact compares counts with what a scene holds.
func exact(c Counts, s Scene) bool {
	n := len(s.Critters)
	return c.Bodies == n && c.Eyes == 2*n && c.Mouths == n
}

// TestDetectTrueScenes is the bar: 99% of true scenes counted exactly.
func TestDetectTrueScenes(t *testing.T) {
	n, step := 2000, 9 // coprime to both cycles: every size meets every number
	if *detectFull {
		step = 1
	}
	right, all := 0, 0
	for i := 0; i < n; i += step {
		s, h, w := barScene(i)
		c := Detect(s.Render(h, w))
		all++
		if exact(c, s) {
			right++
		} else {
			t.Logf("scene %d at %dx%d: %d critters, found %d bodies, %d eyes, %d mouths", i, h, w, len(s.Critters), c.Bodies, c.Eyes, c.Mouths)
		}
	}
	t.Logf("%d of %d scenes exact (%.2f%%)", right, all, 100*float64(right)/float64(all))
	if float64(right) < 0.99*float64(all) {
		t.Errorf("%d of %d scenes exact, want 99%%", right, all)
	}
}

// TestDetectSpoiledPictures: noise, blur and JPEG do not break a right picture.
func TestDetectSpoiledPictures(t *testing.T) {
	n := 25
	if *detectFull {
		n = 1000
	}
	spoilers := []struct {
		name string
		f    func(*image.NRGBA, uint64) image.Image
		want float64
	}{
		{"noise 0.04 and blur 0.6 px", func(m *image.NRGBA, i uint64) image.Image { return noisy(blurred(m, 0.6), 0.04, i) }, 0.95},
		{"noise 0.06", func(m *image.NRGBA, i uint64) image.Image { return noisy(m, 0.06, i) }, 0.95},
		{"blur 1 px", func(m *image.NRGBA, i uint64) image.Image { return blurred(m, 1) }, 0.95},
		{"jpeg 60", func(m *image.NRGBA, i uint64) image.Image { return jpegged(m, 60) }, 0.95},
	}
	sides := []int{64, 128}
	if *detectFull {
		sides = append(sides, 256)
	}
	for _, sp := range spoilers {
		for _, side := range sides {
			right := 0
			for i := 0; i < n; i++ {
				s := NewScene(41, uint64(i))
				if Detect(sp.f(s.Render(side, side), uint64(i))).Right() {
					right++
				}
			}
			t.Logf("%s at %d px: %d of %d right", sp.name, side, right, n)
			if float64(right) < sp.want*float64(n) {
				t.Errorf("%s at %d px: %d of %d right, want %.0f%%", sp.name, side, right, n, 100*sp.want)
			}
		}
	}
}

// noisy adds white noise of standard deviation sigma, of the full range.
func noisy(src *image.NRGBA, sigma float64, seed uint64) *image.NRGBA {
	dst := image.NewNRGBA(src.Rect)
	st := newStream(seed, 0, 1000)
	for i, v := range src.Pix {
		g := math.Sqrt(-2*math.Log(1-st.between(0, 1))) * math.Cos(2*math.Pi*st.between(0, 1))
		dst.Pix[i] = uint8(min(max(float64(v)+255*sigma*g+0.5, 0), 255))
		if i%4 == 3 {
			dst.Pix[i] = 255
		}
	}
	return dst
}

// blurred convolves with a Gaussian of standard deviation sigma pixels.
func blurred(src *image.NRGBA, sigma float64) *image.NRGBA {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	const half = 4
	var bell [2*half + 1]float64
	total := 0.0
	for k := range bell {
		d := float64(k-half) / sigma
		bell[k] = math.Exp(-d * d / 2)
		total += bell[k]
	}
	across := make([]float64, len(src.Pix))
	dst := image.NewNRGBA(src.Rect)
	for y := 0; y < h; y++ {
		for x := 0; x < w; x++ {
			for k, g := range bell {
				from := 4 * (y*w + min(max(x+k-half, 0), w-1))
				for c := 0; c < 4; c++ {
					across[4*(y*w+x)+c] += g / total * float64(src.Pix[from+c])
				}
			}
		}
	}
	for y := 0; y < h; y++ {
		for x := 0; x < w; x++ {
			for c := 0; c < 4; c++ {
				sum := 0.5
				for k, g := range bell {
					sum += g / total * across[4*(min(max(y+k-half, 0), h-1)*w+x)+c]
				}
				dst.Pix[4*(y*w+x)+c] = uint8(min(sum, 255))
			}
		}
	}
	return dst
}

func jpegged(src image.Image, quality int) image.Image {
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, src, &jpeg.Options{Quality: quality}); err != nil {
		panic(err)
	}
	img, err := jpeg.Decode(&buf)
	if err != nil {
		panic(err)
	}
	return img
}
