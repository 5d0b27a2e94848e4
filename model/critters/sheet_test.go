package critters

import (
	"flag"
	"image"
	"image/draw"
	"image/png"
	"os"
	"testing"
)

var sheetPath = flag.String("sheet", "", "write a sheet of scenes to this PNG file (with -run TestSheet)")

// TestSheet draws scenes for the eye: rows of 64 px scenes enlarged four times,
// the same scenes at 256 px, an oblong canvas and crowds.
func TestSheet(t *testing.T) {
	if *sheetPath == "" {
		t.Skip("no -sheet file named")
	}
	const cell, cols = 256, 6
	sheet := image.NewNRGBA(image.Rect(0, 0, cols*cell, 6*cell))
	put := func(img image.Image, col, row int) {
		at := image.Pt(col*cell, row*cell)
		draw.Draw(sheet, img.Bounds().Add(at), img, image.Point{}, draw.Src)
	}
	for i := 0; i < 2*cols; i++ {
		s := NewScene(1, uint64(i))
		put(enlarge(s.Render(64, 64), 4), i%cols, i/cols)
		put(s.Render(cell, cell), i%cols, 2+i/cols)
	}
	for i := 0; i < 3; i++ {
		put(NewScene(1, uint64(i)).Render(cell, 2*cell), 2*i, 4)
	}
	for i := 0; i < cols; i++ {
		put(NewCrowd(1, uint64(i), i+1).Render(cell, cell), i, 5)
	}
	f, err := os.Create(*sheetPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, sheet); err != nil {
		t.Fatal(err)
	}
}

// enlarge repeats every pixel n by n times.
func enlarge(src *image.NRGBA, n int) *image.NRGBA {
	b := src.Bounds()
	dst := image.NewNRGBA(image.Rect(0, 0, b.Dx()*n, b.Dy()*n))
	for y := 0; y < b.Dy()*n; y++ {
		for x := 0; x < b.Dx()*n; x++ {
			dst.SetNRGBA(x, y, src.NRGBAAt(x/n, y/n))
		}
	}
	return dst
}
