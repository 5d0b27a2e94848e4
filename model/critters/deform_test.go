package critters

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"testing"
)

func describe(c Counts) string {
	return fmt.Sprintf("%d bodies, %d eyes, %d mouths", c.Bodies, c.Eyes, c.Mouths)
}

// one is a scene with the given critters on a plain background.
func one(back int, cs ...Critter) Scene {
	return Scene{Back: Backdrop{Color: back, Contrast: 10}, Critters: cs}
}

// plain is a critter in the middle of the canvas.
func plain(shape, col int) Critter {
	return Critter{Shape: shape, Color: col, X: 0.5, Y: 0.5, Size: 0.26, Mouth: 0.28}
}

// disc paints an antialiased disc on a square picture; x, y and r in canvas units.
func disc(m *image.NRGBA, x, y, r float64, c rgb) {
	side := m.Rect.Dx()
	for j := 0; j < side; j++ {
		for i := 0; i < side; i++ {
			d := math.Hypot(float64(i)+0.5-x*float64(side), float64(j)+0.5-y*float64(side)) - r*float64(side)
			t := sharp(d)
			at := m.PixOffset(i, j)
			for k := range c {
				m.Pix[at+k] = uint8(float64(m.Pix[at+k])*(1-t) + c[k]*t + 0.5)
			}
		}
	}
}

// stroke paints a row of discs between two points.
func stroke(m *image.NRGBA, x0, y0, x1, y1, r float64, c rgb) {
	const n = 60
	for k := 0; k <= n; k++ {
		t := float64(k) / n
		disc(m, x0+(x1-x0)*t, y0+(y1-y0)*t, r, c)
	}
}

func eye(m *image.NRGBA, x, y, size float64) {
	disc(m, x, y, eyeRadius*size, eyeWhite)
	disc(m, x, y, pupilRadius*size, pupilDark)
}

// TestDetectDeformed: deformed pictures are counted as a person would.
func TestDetectDeformed(t *testing.T) {
	const hw = 0.26
	eyeX, eyeY := eyeApart*hw, -eyeAbove*hw
	shade := func(k int) rgb {
		c := bodyColors[k]
		return rgb{c[0] * outlineShade, c[1] * outlineShade, c[2] * outlineShade}
	}
	two := func(apart, size float64) func(int) *image.NRGBA {
		return func(side int) *image.NRGBA {
			a, b := plain(circle, 4), plain(circle, 4)
			a.Size, b.Size = size, size
			a.X, b.X = 0.5-apart/2, 0.5+apart/2
			return one(1, a, b).Render(side, side)
		}
	}
	from := func(s Scene, paint func(*image.NRGBA)) func(int) *image.NRGBA {
		return func(side int) *image.NRGBA {
			m := s.Render(side, side)
			paint(m)
			return m
		}
	}
	base := one(2, plain(circle, 1))
	for _, c := range []struct {
		name                 string
		picture              func(side int) *image.NRGBA
		bodies, eyes, mouths int
	}{
		{"as it should be", from(base, func(m *image.NRGBA) {}), 1, 2, 1},
		{"a third eye above", from(base, func(m *image.NRGBA) { eye(m, 0.5, 0.5-0.66*hw, 0.8*hw) }), 1, 3, 1},
		{"a third eye touching the left one", from(base, func(m *image.NRGBA) { eye(m, 0.5-eyeX, 0.5+eyeY+1.85*eyeRadius*hw, hw) }), 1, 3, 1},
		{"an eye too few", from(base, func(m *image.NRGBA) { disc(m, 0.5+eyeX, 0.5+eyeY, 1.2*eyeRadius*hw, bodyColors[1]) }), 1, 1, 1},
		{"eyes without pupils", from(base, func(m *image.NRGBA) {
			disc(m, 0.5+eyeX, 0.5+eyeY, eyeRadius*hw, eyeWhite)
			disc(m, 0.5-eyeX, 0.5+eyeY, eyeRadius*hw, eyeWhite)
		}), 1, 0, 1},
		{"a white smear", from(base, func(m *image.NRGBA) { stroke(m, 0.4, 0.5-0.6*hw, 0.6, 0.5-0.62*hw, 0.02, eyeWhite) }), 1, 2, 1},
		{"a pupil in two halves", from(base, func(m *image.NRGBA) {
			stroke(m, 0.5-eyeX, 0.5+eyeY-0.05, 0.5-eyeX, 0.5+eyeY+0.05, 0.006, eyeWhite)
		}), 1, 2, 1},
		{"dots without white", from(base, func(m *image.NRGBA) {
			disc(m, 0.5-0.55*hw, 0.5+0.4*hw, 0.9*pupilRadius*hw, pupilDark)
			disc(m, 0.5+0.55*hw, 0.5+0.4*hw, 0.9*pupilRadius*hw, pupilDark)
		}), 1, 2, 1},
		{"a second mouth", from(base, func(m *image.NRGBA) { disc(m, 0.5, 0.5-0.6*hw, 0.22*hw, mouthDark) }), 1, 2, 2},
		{"no mouth", from(base, func(m *image.NRGBA) { disc(m, 0.5, 0.5+0.32*hw, 0.36*hw, bodyColors[1]) }), 1, 2, 0},
		{"a line of outline colour", from(base, func(m *image.NRGBA) {
			stroke(m, 0.5-0.6*hw, 0.5+0.3*hw, 0.5-0.25*hw, 0.5+0.75*hw, outlineWidth*hw/2, shade(1))
		}), 1, 2, 1},
		{"an eye over the rim", from(base, func(m *image.NRGBA) { eye(m, 0.5+0.8*hw, 0.5+0.25*hw, hw) }), 1, 3, 1},
		{"an eye in the background", from(base, func(m *image.NRGBA) { eye(m, 0.1, 0.1, hw) }), 1, 2, 1},
		{"a coloured speck", from(base, func(m *image.NRGBA) { disc(m, 0.12, 0.85, 0.03, bodyColors[3]) }), 1, 2, 1},
		{"a faceless second body", from(base, func(m *image.NRGBA) { disc(m, 0.14, 0.84, 0.11, bodyColors[3]) }), 2, 2, 1},
		{"two lobes with faces", two(0.42, 0.23), 2, 4, 2},
		{"one broad body with two faces", from(one(1, Critter{Shape: pill, Color: 5, X: 0.5, Y: 0.5, Size: 0.26}), func(m *image.NRGBA) {
			disc(m, 0.5, 0.5, 0.17, bodyColors[5])
			for _, x := range []float64{0.36, 0.64} {
				eye(m, x-0.055, 0.47, 0.15)
				eye(m, x+0.055, 0.47, 0.15)
				disc(m, x, 0.55, 0.035, mouthDark)
			}
		}), 1, 4, 2},
	} {
		for _, side := range []int{128, 256} {
			img := c.picture(side)
			got := Detect(img)
			if got.Bodies != c.bodies || got.Eyes != c.eyes || got.Mouths != c.mouths {
				t.Errorf("%s at %d px: %s; want %d, %d, %d", c.name, side, describe(got), c.bodies, c.eyes, c.mouths)
			}
			if got.Right() != (c.bodies == 1 && c.eyes == 2 && c.mouths == 1) {
				t.Errorf("%s at %d px: Right() = %v", c.name, side, got.Right())
			}
			if side == 128 {
				if n := Detect(noisy(img, 0.03, 5)); n.Bodies != c.bodies || n.Eyes != c.eyes || n.Mouths != c.mouths {
					t.Errorf("%s at %d px with noise: %s; want %d, %d, %d", c.name, side, describe(n), c.bodies, c.eyes, c.mouths)
				}
			}
		}
	}
}

// A model that repeats itself at its training scale fills a large canvas with
// small critters; they are counted, too.
func TestDetectSmallCopies(t *testing.T) {
	for _, c := range []struct {
		side int
		size float64
		grid int
	}{{128, 0.11, 3}, {256, 0.055, 5}} {
		s := one(3)
		for k := 0; k < c.grid*c.grid; k++ {
			a := plain(k%len(Shapes), k%len(Colors))
			a.Size = c.size
			a.X = (float64(k%c.grid) + 0.5) / float64(c.grid)
			a.Y = (float64(k/c.grid) + 0.5) / float64(c.grid)
			s.Critters = append(s.Critters, a)
		}
		if got := Detect(noisy(s.Render(c.side, c.side), 0.03, 1)); !exact(got, s) {
			t.Errorf("%d critters of half width %.3f at %d px: %s", len(s.Critters), c.size, c.side, describe(got))
		}
	}
}

// Bodies are told by place, colour and shape, in a corner of a larger image too.
func TestDetectDetails(t *testing.T) {
	colors, shapes := 0, 0
	const n = 60
	for i := uint64(0); i < n; i++ {
		s := NewScene(51, i)
		side := []int{64, 77, 128, 200}[i%4]
		// The picture is a part of a larger one, as a sheet's tile is.
		big := image.NewRGBA(image.Rect(-20, -10, side+30, side+30))
		draw.Draw(big, image.Rect(0, 0, side, side), noisy(s.Render(side, side), 0.03, i), image.Point{}, draw.Src)
		c := Detect(big.SubImage(image.Rect(0, 0, side, side)))
		if !c.Right() || len(c.Boxes) != 1 {
			t.Errorf("scene %d at %d px: %s", i, side, describe(c))
			continue
		}
		k := s.Critters[0]
		ex, ey := k.extent()
		want := [4]float64{k.X - ex, k.Y - ey, k.X + ex, k.Y + ey}
		got := [4]int{c.Boxes[0].Min.X, c.Boxes[0].Min.Y, c.Boxes[0].Max.X, c.Boxes[0].Max.Y}
		for j := range want { // the box leaves out the outline and rounded tips
			if d := math.Abs(want[j] - float64(got[j])/float64(side)); d > 0.11 {
				t.Errorf("scene %d (%s): box %v, critter spans %.2f of the canvas", i, Shapes[k.Shape], c.Boxes[0], want)
			}
		}
		if c.Colors[0] == k.Color {
			colors++
		}
		if c.Shapes[0] == k.Shape {
			shapes++
		}
	}
	t.Logf("of %d: %d colours and %d shapes right", n, colors, shapes)
	if colors < n || shapes < n*97/100 {
		t.Errorf("of %d: %d colours and %d shapes right", n, colors, shapes)
	}
}

func TestDetectNothing(t *testing.T) {
	for _, c := range []color.Color{color.White, color.Black, color.Gray{128}, color.RGBA{70, 84, 102, 255}} {
		m := image.NewRGBA(image.Rect(0, 0, 64, 96))
		draw.Draw(m, m.Rect, image.NewUniform(c), image.Point{}, draw.Src)
		if got := Detect(m); got.Bodies+got.Eyes+got.Mouths != 0 {
			t.Errorf("uniform %v: %s", c, describe(got))
		}
	}
	for _, r := range []image.Rectangle{{}, image.Rect(0, 0, 1, 1), image.Rect(3, 3, 4, 60)} {
		if got := Detect(image.NewNRGBA(r)); got.Bodies != 0 {
			t.Errorf("empty %v: %s", r, describe(got))
		}
	}
	if got := Detect(noisy(one(0).Render(96, 96), 0.10, 3)); got.Bodies+got.Eyes+got.Mouths != 0 {
		t.Errorf("a noisy background: %s", describe(got))
	}
}

// A convex shape is one lobe; a dumb-bell is two.
func TestLobes(t *testing.T) {
	build := func(w, h int, f func(x, y float64) bool) mask {
		m := mask{w: w, h: h, in: make([]bool, w*h)}
		for i := range m.in {
			m.in[i] = f(float64(i%w), float64(i/w))
		}
		return m
	}
	round := func(x, y, cx, cy, r float64) bool { return math.Hypot(x-cx, y-cy) < r }
	for _, c := range []struct {
		name string
		m    mask
		want int
	}{
		{"disc", build(60, 60, func(x, y float64) bool { return round(x, y, 30, 30, 25) }), 1},
		{"bar", build(90, 40, func(x, y float64) bool { return x > 5 && x < 85 && y > 10 && y < 30 }), 1},
		{"dumb-bell", build(90, 40, func(x, y float64) bool {
			return round(x, y, 22, 20, 17) || round(x, y, 66, 20, 17) || math.Abs(y-20) < 5 && x > 22 && x < 66
		}), 2},
		{"overlapping discs with a wide waist", build(80, 50, func(x, y float64) bool {
			return round(x, y, 30, 25, 20) || round(x, y, 48, 25, 20)
		}), 1},
		{"a disc with a tail", build(90, 40, func(x, y float64) bool {
			return round(x, y, 22, 20, 17) || math.Abs(y-20) < 4 && x > 22 && x < 80
		}), 1},
	} {
		got := lobes(c.m, lobeRatio, lobeSize)
		if len(got) != c.want {
			t.Errorf("%s: %d lobes, want %d", c.name, len(got), c.want)
		}
		total := 0
		for i := range c.m.in {
			n := 0
			for _, l := range got {
				if l.in[i] {
					n++
				}
			}
			if n > 1 {
				t.Fatalf("%s: pixel %d is in %d lobes", c.name, i, n)
			}
			total += n
			if n == 1 && !c.m.in[i] {
				t.Fatalf("%s: pixel %d of a lobe is outside the mask", c.name, i)
			}
		}
		if total == 0 {
			t.Errorf("%s: empty lobes", c.name)
		}
	}
}

// The fast distance transform against the definition.
func TestDistances(t *testing.T) {
	st := newStream(1, 2, 500)
	for round := 0; round < 20; round++ {
		w, h := 1+st.below(14), 1+st.below(14)
		in := make([]bool, w*h)
		for i := range in {
			in[i] = st.below(4) > 0
		}
		for _, to := range []bool{true, false} {
			got := distances(in, w, h, to)
			for i := range in {
				want := math.Inf(1)
				for y := -1; y <= h; y++ {
					for x := -1; x <= w; x++ {
						bit := x >= 0 && y >= 0 && x < w && y < h && in[y*w+x]
						if bit == to {
							want = math.Min(want, math.Hypot(float64(x-i%w), float64(y-i/w)))
						}
					}
				}
				if !math.IsInf(want, 1) && math.Abs(float64(got[i])-want) > 1e-5 {
					t.Fatalf("%dx%d to %v, pixel %d: %v, want %v", w, h, to, i, got[i], want)
				}
			}
		}
	}
}

// Filters keep a flat picture flat, whatever the sizes.
func TestTapsSumToOne(t *testing.T) {
	for _, c := range [][2]int{{1, 128}, {64, 128}, {96, 128}, {128, 128}, {255, 256}, {512, 256}, {3000, 256}, {7, 3}} {
		for o, tp := range taps(c[0], c[1]) {
			sum := float32(0)
			for _, w := range tp.weights {
				sum += w
			}
			if math.Abs(float64(sum)-1) > 1e-5 || tp.from < 0 || tp.from+len(tp.weights) > c[0] {
				t.Fatalf("%d to %d, sample %d: weights of sum %v from %d", c[0], c[1], o, sum, tp.from)
			}
		}
	}
}

func FuzzDetect(f *testing.F) {
	f.Add(uint8(3), []byte{255, 0, 0, 255, 255, 255, 0, 0, 0})
	f.Add(uint8(8), []byte(nil))
	f.Fuzz(func(t *testing.T, width uint8, data []byte) {
		if len(data) > 3000 {
			data = data[:3000]
		}
		w := int(width)%40 + 1
		m := image.NewNRGBA(image.Rect(5, -7, 5+w, -7+len(data)/3/w+1))
		for i, v := range data {
			if at := i/3*4 + i%3; at < len(m.Pix) {
				m.Pix[at] = v
			}
		}
		c := Detect(m)
		if len(c.Boxes) != c.Bodies || len(c.Colors) != c.Bodies || len(c.Shapes) != c.Bodies {
			t.Fatalf("%d bodies with %d boxes, %d colours, %d shapes", c.Bodies, len(c.Boxes), len(c.Colors), len(c.Shapes))
		}
		for _, b := range c.Boxes {
			if !b.In(m.Rect) {
				t.Fatalf("box %v outside %v", b, m.Rect)
			}
		}
	})
}
