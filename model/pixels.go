package model

import (
	"fmt"
	"image"
	"math"
)

// PixelScale is the built-in autoencoder's reduction: 2x2 pixels become the
// channels of one latent position, [3,H,W] <-> [12,H/2,W/2], losing nothing.
// The channel order is torch.nn.PixelUnshuffle's: c*4 + dy*2 + dx.
const PixelScale = 2

// PixelUnshuffle writes picture planes [3,H,W] into a latent [12,H/2,W/2].
func PixelUnshuffle(dst, src []float32, h, w int) {
	lh, lw := h/PixelScale, w/PixelScale
	for c := 0; c < 3; c++ {
		for y := 0; y < h; y++ {
			row := src[(c*h+y)*w:][:w]
			for dx := 0; dx < PixelScale; dx++ {
				ch := c*PixelScale*PixelScale + y%PixelScale*PixelScale + dx
				out := dst[(ch*lh+y/PixelScale)*lw:][:lw]
				for x := range out {
					out[x] = row[PixelScale*x+dx]
				}
			}
		}
	}
}

// PixelShuffle is the inverse of PixelUnshuffle; h and w are the picture's.
func PixelShuffle(dst, src []float32, h, w int) {
	lh, lw := h/PixelScale, w/PixelScale
	for c := 0; c < 3; c++ {
		for y := 0; y < h; y++ {
			row := dst[(c*h+y)*w:][:w]
			for dx := 0; dx < PixelScale; dx++ {
				ch := c*PixelScale*PixelScale + y%PixelScale*PixelScale + dx
				in := src[(ch*lh+y/PixelScale)*lw:][:lw]
				for x, v := range in {
					row[PixelScale*x+dx] = v
				}
			}
		}
	}
}

// Image turns picture planes [3,H,W] in [-1,1] into 8-bit pixels, clamped and
// rounded. A NaN is an error: no picture is made up for it.
func Image(planes []float32, h, w int) (*image.NRGBA, error) {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := 0; i < h*w; i++ {
		for c := 0; c < 3; c++ {
			v := float64(planes[c*h*w+i])
			if math.IsNaN(v) {
				return nil, fmt.Errorf("picture has a NaN in channel %d at row %d, column %d", c, i/w, i%w)
			}
			img.Pix[4*i+c] = uint8(math.Round(255 * min(max(v/2+0.5, 0), 1)))
		}
		img.Pix[4*i+3] = 255
	}
	return img, nil
}

// Planes turns 8-bit pixels into planes [3,H,W] in [-1,1].
func Planes(dst []float32, img *image.NRGBA) {
	b := img.Bounds()
	h, w := b.Dy(), b.Dx()
	for y := 0; y < h; y++ {
		row := img.Pix[y*img.Stride:]
		for x := 0; x < w; x++ {
			for c := 0; c < 3; c++ {
				dst[(c*h+y)*w+x] = float32(row[4*x+c])/127.5 - 1
			}
		}
	}
}
