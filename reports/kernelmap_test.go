package reports

import (
	"bytes"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/plot/vg"

	"scalecrafter/ablation"
)

func solved(t *testing.T, s ablation.DispersionSpec) *ablation.Transform {
	t.Helper()
	fit, err := s.Solve()
	if err != nil {
		t.Fatal(err)
	}
	return fit.Transform
}

// The picture has the colours of what it shows: the largest tap's at the palette's
// end, and room for every kernel.
func TestKernelMap(t *testing.T) {
	tr := solved(t, ablation.DispersionSpec{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05})
	dir := t.TempDir()
	path := filepath.Join(dir, "r.png")
	if err := KernelMap(path, tr, "Title", "Subtitle"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	// Four kernels stand in one row; the fourth is the centre's image, whose own
	// centre is 1, the largest value: red to the end. The point is a bit off the
	// middle, where the number is.
	at := func(panel int, row, column float64) (r, g, b uint32) {
		cell := kernelPanel / 5
		x := plotMargin + vg.Length(panel)*(kernelPanel+kernelGap) + vg.Length(column+0.1)*cell
		y := plotMargin + 32 + kernelTitle - 4 + vg.Length(row+0.1)*cell // the header is 32 high
		r, g, b, _ = m.At(int(x*pngDPI/72), int(y*pngDPI/72)).RGBA()
		return r >> 8, g >> 8, b >> 8
	}
	if r, g, b := at(3, 2, 2); r != 0xB2 || g != 0x18 || b != 0x2B {
		t.Errorf("the centre of the centre's image is #%02X%02X%02X, want the palette's end", r, g, b)
	}
	if r, _, b := at(1, 0, 0); r < b+60 {
		t.Errorf("a positive tap is not red: red %d, blue %d", r, b)
	}
	if r, _, b := at(1, 0, 2); b <= r {
		t.Errorf("a negative tap is not blue: red %d, blue %d", r, b)
	}
	svg := filepath.Join(dir, "r.svg")
	if err := KernelMap(svg, tr, "Title", "Subtitle"); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(svg)
	for _, want := range []string{"<svg", ">Title<", ">Subtitle<", ">all 9 taps 1<", ">tap top left<", ">tap centre<", ">sum 1.1267<", ">.649<", ">+1.00<", ">-1.00<"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the SVG lacks %q", want)
		}
	}
	// A transform of zeros and one of large kernels without numbers.
	zero := &ablation.Transform{Name: "zero", Small: 3, Large: 5, R: make([]float64, 225)}
	for name, tr := range map[string]*ablation.Transform{"zero": zero, "large": solved(t, ablation.DispersionSpec{Small: 3, Large: 11, Input: 3, Scale: 5, Eta: 0.05})} {
		if err := KernelMap(path, tr, name, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := KernelMap(filepath.Join(dir, "r.gif"), tr, "", ""); err == nil || !strings.Contains(err.Error(), ".png or .svg") {
		t.Errorf("a GIF: %v", err)
	}
	if err := KernelMap(filepath.Join(dir, "none", "r.png"), tr, "", ""); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestDiverging(t *testing.T) {
	for v, want := range map[float64]uint32{-2: 0x2166AC, -1: 0x2166AC, 0: 0xF7F7F7, 1: 0xB2182B, math.Inf(1): 0xB2182B, 0.25: 0xFDDBC7} {
		if got := divergingAt(v); got != rgb(want) {
			t.Errorf("%g is %v, want %v", v, got, rgb(want))
		}
	}
	if inkOn(rgb(0xB2182B)) != paper || inkOn(rgb(0x2166AC)) != paper || inkOn(rgb(0xF7F7F7)) != ink || inkOn(rgb(0xF4A582)) != ink {
		t.Error("numbers do not stand out from their taps")
	}
}

func TestKernelText(t *testing.T) {
	tr := solved(t, ablation.DispersionSpec{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05})
	var plain, coloured strings.Builder
	if err := KernelText(&plain, tr, false); err != nil {
		t.Fatal(err)
	}
	if err := KernelText(&coloured, tr, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"all 9 taps 1, sum 9.7523\n  0.591317  0.331472  0.554160  0.331472  0.591317   ▓▓▒▒▓▓▒▒▓▓\n",
		"tap top left, sum 1.1267\n  0.648790  0.275788 -0.107225  0.061662 -0.026280   ▓▓▒▒--░░--\n",
		"  0.000000  0.000000  1.000000  0.000000  0.000000    · ·██ · ·\n",
		"quarters of 1.000",
	} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, plain.String())
		}
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(coloured.String(), "\x1b[31m██\x1b[0m") || !strings.Contains(coloured.String(), "\x1b[34m--\x1b[0m") {
		t.Error("colours are for terminals, red above and blue below zero")
	}
}
