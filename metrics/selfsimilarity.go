package metrics

import (
	"fmt"
	"image"
	"math"

	"gonum.org/v1/gonum/dsp/fourier"
)

// Settings of SelfSimilarity, in pixels of the working picture.
const (
	similarityShort   = 64   // shorter side of the working picture
	similarityLongest = 512  // longest side that is accepted
	similarityFine    = 1.0  // standard deviation of the blur that removes grain
	similarityCoarse  = 8.0  // and of the one that removes gradients
	similarityNear    = 4    // shifts closer than this are the object itself
	similarityMatch   = 0.35 // correlation from which a shift counts as a repeat
	similarityOverlap = 1.0 / 25
)

// SelfSimilarity is an annotation-free measure of repetition. It is this
// project's own definition and no published metric.
//
// The picture is brought to a shorter side of 64 px (so that the measure does
// not depend on its size) and band-passed, x = G(1) - G(8) with Gaussian blurs.
// For every shift l, over all channels and all p with p and p+l in the picture,
//
//	A(l)   = sum x(p) x(p+l)
//	rho(l) = A(l) / sqrt(sum x(p)^2 sum x(p+l)^2)
//
// The score is the sum of A(l)/A(0) over the peaks: local maxima of A at least
// 4 px from zero with rho >= 0.35 and at least 1/25 of the picture in common.
// n equal objects at unequal distances give n-1 (each of the n(n-1) ordered
// pairs adds 1/n), a k x k tiling gives k^2-1, a picture without repeats 0: it
// counts excess copies, whole or in part. A regular background (stripes,
// checks) repeats as well and is counted, so compare methods on the same
// prompts and with the same pictures at base resolution, not with zero.
//
// A blank picture scores 0. Alpha is ignored.
func SelfSimilarity(img *image.NRGBA) (float64, error) {
	h, w := img.Rect.Dy(), img.Rect.Dx()
	if h < 1 || w < 1 {
		return 0, fmt.Errorf("metrics: self-similarity of a %dx%d picture: want at least one pixel", h, w)
	}
	scale := similarityShort / float64(min(h, w))
	toH, toW := int(math.Round(float64(h)*scale)), int(math.Round(float64(w)*scale))
	if max(toH, toW) > similarityLongest {
		return 0, fmt.Errorf("metrics: self-similarity of a %dx%d picture: want at most %d times as long as wide", h, w, similarityLongest/similarityShort)
	}
	planes, err := ResizeClean(img, toH, toW)
	if err != nil {
		return 0, err
	}
	return peakSum(bandPass(planes, toH, toW), toH, toW), nil
}

// bandPass is G(fine) - G(coarse) of every plane, in float64.
func bandPass(planes []float32, h, w int) []float64 {
	x := make([]float64, len(planes))
	for i, v := range planes {
		x[i] = float64(v)
	}
	coarse := gaussian(x, h, w, similarityCoarse)
	for i, v := range gaussian(x, h, w, similarityFine) {
		x[i] = v - coarse[i]
	}
	return x
}

// gaussian blurs planes [C,h,w]; at the border the kernel is cut off and
// normalised.
func gaussian(x []float64, h, w int, sigma float64) []float64 {
	radius := int(math.Ceil(3 * sigma))
	kernel := make([]float64, 2*radius+1)
	for i := range kernel {
		t := float64(i-radius) / sigma
		kernel[i] = math.Exp(-t * t / 2)
	}
	// along blurs n samples that lie stride apart.
	along := func(dst, src []float64, n, stride int) {
		for i := range n {
			sum, weight := 0.0, 0.0
			for j := max(i-radius, 0); j <= min(i+radius, n-1); j++ {
				k := kernel[j-i+radius]
				sum += k * src[j*stride]
				weight += k
			}
			dst[i*stride] = sum / weight
		}
	}
	rows, out := make([]float64, len(x)), make([]float64, len(x))
	for y := range len(x) / w {
		along(rows[y*w:], x[y*w:], w, 1)
	}
	for c := range len(x) / (h * w) {
		for i := range w {
			along(out[c*h*w+i:], rows[c*h*w+i:], h, w)
		}
	}
	return out
}

// peakSum finds the repeats of x [C,h,w] and adds up their heights.
func peakSum(x []float64, h, w int) float64 {
	// Padded to twice the size, the circular correlation is the plain one.
	ph, pw := 2*h, 2*w
	a := autocorrelation(x, h, w, ph, pw)
	total := a[0]
	if !(total > 1e-9*float64(len(x))) {
		return 0 // blank
	}
	energy := energyTable(x, h, w)
	at := func(dy, dx int) float64 { return a[((dy+ph)%ph)*pw+(dx+pw)%pw] }
	score := 0.0
	// A(l) = A(-l): half of the shifts are looked at and counted twice.
	for dy := 0; dy < h; dy++ {
		for dx := -w + 1; dx < w; dx++ {
			if dy == 0 && dx <= 0 || max(dy, abs(dx)) < similarityNear {
				continue
			}
			if float64((h-dy)*(w-abs(dx))) < similarityOverlap*float64(h*w) {
				continue
			}
			v := at(dy, dx)
			if v <= 0 || !isPeak(at, dy, dx) {
				continue
			}
			// Energies of the part that is shifted and of the part it meets.
			x0, x1 := max(0, -dx), min(w, w-dx)
			own := rectangle(energy, w, 0, x0, h-dy, x1)
			met := rectangle(energy, w, dy, x0+dx, h, x1+dx)
			if v >= similarityMatch*math.Sqrt(own*met) {
				score += 2 * v / total
			}
		}
	}
	return score
}

// isPeak tells whether no neighbour is higher; of equal neighbours the first
// counts.
func isPeak(at func(dy, dx int) float64, dy, dx int) bool {
	v := at(dy, dx)
	for y := -1; y <= 1; y++ {
		for x := -1; x <= 1; x++ {
			earlier := y < 0 || y == 0 && x < 0
			other := at(dy+y, dx+x)
			if other > v || earlier && other == v {
				return false
			}
		}
	}
	return true
}

// autocorrelation sums over planes; entry [dy mod ph, dx mod pw] is A(dy,dx).
func autocorrelation(x []float64, h, w, ph, pw int) []float64 {
	spectrum := make([]complex128, ph*pw)
	power := make([]complex128, ph*pw)
	rows, columns := fourier.NewCmplxFFT(pw), fourier.NewCmplxFFT(ph)
	line := make([]complex128, ph)
	vertical := func(s []complex128, transform func(dst, src []complex128) []complex128) {
		for i := range pw {
			for y := range ph {
				line[y] = s[y*pw+i]
			}
			transform(line, line)
			for y := range ph {
				s[y*pw+i] = line[y]
			}
		}
	}
	planes := len(x) / (h * w)
	// Two planes go as one complex signal: the cross terms of its power are
	// odd and land in the imaginary part, which is dropped at the end.
	for c := 0; c < planes; c += 2 {
		clear(spectrum)
		for y := range h {
			for i, v := range x[(c*h+y)*w:][:w] {
				spectrum[y*pw+i] = complex(v, 0)
			}
			if c+1 < planes {
				for i, v := range x[((c+1)*h+y)*w:][:w] {
					spectrum[y*pw+i] += complex(0, v)
				}
			}
			rows.Coefficients(spectrum[y*pw:][:pw], spectrum[y*pw:][:pw])
		}
		vertical(spectrum, columns.Coefficients)
		for i, v := range spectrum {
			power[i] += complex(real(v)*real(v)+imag(v)*imag(v), 0)
		}
	}
	vertical(power, columns.Sequence)
	a := make([]float64, ph*pw)
	for y := range ph {
		rows.Sequence(power[y*pw:][:pw], power[y*pw:][:pw])
		for i, v := range power[y*pw:][:pw] {
			a[y*pw+i] = real(v) / float64(ph*pw)
		}
	}
	return a
}

// energyTable is the summed-area table [h+1,w+1] of the squared values over
// all planes.
func energyTable(x []float64, h, w int) []float64 {
	table := make([]float64, (h+1)*(w+1))
	for y := range h {
		run := 0.0
		for i := range w {
			for c := range len(x) / (h * w) {
				v := x[(c*h+y)*w+i]
				run += v * v
			}
			table[(y+1)*(w+1)+i+1] = table[y*(w+1)+i+1] + run
		}
	}
	return table
}

// rectangle is the table's sum over rows y0..y1-1 and columns x0..x1-1.
func rectangle(table []float64, w, y0, x0, y1, x1 int) float64 {
	n := w + 1
	return math.Max(table[y1*n+x1]-table[y0*n+x1]-table[y1*n+x0]+table[y0*n+x0], 0)
}

func abs(x int) int { return max(x, -x) }
