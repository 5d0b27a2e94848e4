// Package critters is the built-in world: pictures of one critter (a coloured
// body with two eyes and a mouth) on a patterned background, described as
// vectors, rendered exactly at any size, named by prompts over a small
// vocabulary, and counted by a detector that does not know the scene.
//
// Lengths are in canvas units: the shorter side of the canvas is 1. A larger
// canvas of the same shape therefore shows the same scene in more pixels, and a
// wider one shows more background around a critter of the same size.
package critters

import (
	"fmt"
	"math"
)

// Version names the world that a model was trained on. Raise it with every
// change that alters a rendered pixel, the random stream, the vocabulary or the
// token order: weights, reference statistics and goldens of the older version
// are then no longer comparable. Changes to the detector raise DetectorVersion.
const Version = "critters-1"

// Names of the attribute values; Attributes holds indexes into these.
var (
	Shapes      = []string{"circle", "square", "triangle", "diamond", "pill"}
	Colors      = []string{"red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"}
	Backgrounds = []string{"sky", "sand", "slate", "moss", "plum", "cream"}
	Patterns    = []string{"gradient", "stripes", "checks"}
)

// Indexes into Shapes.
const (
	circle = iota
	square
	triangle
	diamond
	pill
)

// Indexes into Patterns.
const (
	gradient = iota
	stripes
	checks
)

// rgb is a colour in sRGB values of 0 to 255.
type rgb [3]float64

// Bodies have a chroma (largest minus smallest channel) of 134 or more and
// backgrounds of 48 or less; the eye white and the darks have next to none. The
// detector stands on that gap.
var (
	bodyColors = [...]rgb{
		{226, 44, 44},   // red
		{244, 134, 28},  // orange
		{250, 214, 44},  // yellow
		{48, 182, 74},   // green
		{34, 192, 216},  // cyan
		{46, 90, 230},   // blue
		{146, 60, 208},  // purple
		{246, 108, 182}, // pink
	}
	backColors = [...]rgb{
		{150, 178, 198}, // sky
		{204, 184, 156}, // sand
		{70, 84, 102},   // slate
		{114, 130, 100}, // moss
		{96, 70, 98},    // plum
		{226, 219, 204}, // cream
	}
	eyeWhite   = rgb{250, 250, 250}
	pupilDark  = rgb{22, 20, 30}
	mouthDark  = rgb{54, 16, 28}
	tongueDark = rgb{118, 38, 50}
)

// Proportions of a critter, in units of its half width Size.
const (
	outlineWidth = 0.10
	outlineShade = 0.50 // outline colour over body colour
	bodyGlow     = 0.05 // the top of a body is this much lighter, the bottom darker
	eyeRadius    = 0.24
	eyeApart     = 0.37 // of an eye's centre from the middle
	eyeAbove     = 0.22 // of the eyes' centres above the face's middle
	pupilRadius  = 0.125
	gazeReach    = 0.055 // farthest shift of a pupil
	mouthBelow   = 0.18  // of the mouth's straight upper lip below the face's middle
	mouthSmall   = 0.24  // radius of the half-disc
	mouthLarge   = 0.32

	squareHalf  = 0.90
	squareRound = 0.14
	diamondHalf = 1.26 // both half diagonals
	diamondSoft = 0.08
	triHalf     = 1.22 // half of the upper edge
	triTop      = -0.95
	triTip      = 1.15
	triSoft     = 0.08
	triFace     = -0.26 // the face sits in the broad part
	pillHalf    = 1.22
	pillHigh    = 0.76
)

// Spans of the random variations of a single-critter scene.
const (
	SizeMin    = 0.20 // half width of a critter, canvas units
	SizeMax    = 0.28
	edgeRoom   = 0.02 // canvas units between a critter and the canvas edge
	maxAngle   = 6 * math.Pi / 180
	periodMin  = 0.22 // of stripes and checks, canvas units
	periodMax  = 0.42
	contrastLo = 9.0 // tones lie this far on either side of the background colour
	contrastHi = 15.0
)

// MaxCrowd is the largest number of critters in a scene.
const MaxCrowd = 6

// Attributes say what a prompt can say about a scene, as indexes into Shapes,
// Colors, Backgrounds and Patterns.
type Attributes struct{ Shape, Color, Background, Pattern int }

// Check says which index is out of range, if any.
func (a Attributes) Check() error {
	for _, f := range []struct {
		what  string
		value int
		names []string
	}{
		{"shape", a.Shape, Shapes}, {"colour", a.Color, Colors},
		{"background", a.Background, Backgrounds}, {"pattern", a.Pattern, Patterns},
	} {
		if f.value < 0 || f.value >= len(f.names) {
			return fmt.Errorf("critters: %s %d is out of range: use 0 to %d (%s to %s)",
				f.what, f.value, len(f.names)-1, f.names[0], f.names[len(f.names)-1])
		}
	}
	return nil
}

// Backdrop is a scene's background.
type Backdrop struct {
	Color    int     // index into Backgrounds
	Pattern  int     // index into Patterns
	Angle    float64 // radians: direction across the stripes
	Period   float64 // canvas units
	Phase    float64 // 0 to 1 periods
	Contrast float64 // 8-bit levels on either side of the colour
}

// Critter is one creature. X and Y place the middle of its bounding box on a
// square canvas (0 to 1); on an oblong canvas the scene spreads the places out.
type Critter struct {
	Shape, Color int
	X, Y         float64
	Size         float64 // half width, canvas units
	Angle        float64 // radians, clockwise on the screen
	GazeX, GazeY float64 // shift of both pupils, in units of Size
	Mouth        float64 // half width of the mouth, in units of Size
}

// Scene is a picture as vectors. The zero Scene is an empty sky gradient.
type Scene struct {
	Back     Backdrop
	Critters []Critter
	// marginX and marginY are the least distances from a critter's middle to
	// the edges of the square canvas; places are spread out between them.
	marginX, marginY float64
}

// NewScene describes scene number index of the world with that seed: exactly
// one critter, everything random. It depends on nothing but the two numbers.
func NewScene(seed, index uint64) Scene {
	return NewSceneFor(seed, index, RandomAttributes(seed, index))
}

// NewSceneFor is NewScene with the attributes given and the rest random. It
// panics on attributes that Check refuses.
func NewSceneFor(seed, index uint64, a Attributes) Scene {
	if err := a.Check(); err != nil {
		panic(err)
	}
	s := Scene{Back: newBackdrop(newStream(seed, index, domainBack), a.Background, a.Pattern)}
	st := newStream(seed, index, domainCritter)
	c := newCritter(&st, a.Shape, a.Color, SizeMin, SizeMax)
	ex, ey := c.extent()
	c.X = st.between(ex+edgeRoom, 1-ex-edgeRoom)
	c.Y = st.between(ey+edgeRoom, 1-ey-edgeRoom)
	s.Critters = []Critter{c}
	s.marginX, s.marginY = ex+edgeRoom, ey+edgeRoom
	return s
}

// NewCrowd describes a scene of 0 to MaxCrowd critters whose bounding boxes do
// not touch, smaller the more there are; it exists to test the detector. It
// panics on any other number.
func NewCrowd(seed, index uint64, critters int) Scene {
	if critters < 0 || critters > MaxCrowd {
		panic(fmt.Sprintf("critters: a crowd of %d: use 0 to %d", critters, MaxCrowd))
	}
	st := newStream(seed, index, domainCrowd)
	s := Scene{Back: newBackdrop(newStream(seed, index, domainCrowdBack), st.below(len(Backgrounds)), st.below(len(Patterns)))}
	// Half widths by number of critters; a pair may be of full size.
	lows := [...]float64{0, SizeMin, 0.17, 0.15, 0.14, 0.125, 0.12}
	highs := [...]float64{0, SizeMax, 0.22, 0.20, 0.17, 0.155, 0.14}
	const room, tries = 0.03, 60
	shrink := 1.0
	for len(s.Critters) < critters {
		placed := false
		for try := 0; try < tries && !placed; try++ {
			c := newCritter(&st, st.below(len(Shapes)), st.below(len(Colors)), lows[critters]*shrink, highs[critters]*shrink)
			ex, ey := c.extent()
			c.X = st.between(ex+edgeRoom, 1-ex-edgeRoom)
			c.Y = st.between(ey+edgeRoom, 1-ey-edgeRoom)
			placed = true
			for _, o := range s.Critters {
				ox, oy := o.extent()
				if math.Abs(o.X-c.X) < ex+ox+room && math.Abs(o.Y-c.Y) < ey+oy+room {
					placed = false
					break
				}
			}
			if placed {
				s.Critters = append(s.Critters, c)
			}
		}
		if !placed { // a jam: start over, a little smaller
			s.Critters = s.Critters[:0]
			shrink *= 0.98
		}
	}
	s.marginX, s.marginY = 0.5, 0.5
	for _, c := range s.Critters {
		ex, ey := c.extent()
		s.marginX = math.Min(s.marginX, ex+edgeRoom)
		s.marginY = math.Min(s.marginY, ey+edgeRoom)
	}
	return s
}

// Attributes returns those of the first critter and of the background.
func (s Scene) Attributes() Attributes {
	a := Attributes{Background: s.Back.Color, Pattern: s.Back.Pattern}
	if len(s.Critters) > 0 {
		a.Shape, a.Color = s.Critters[0].Shape, s.Critters[0].Color
	}
	return a
}

// place returns the middle of a critter on a canvas of the given width and
// height, in canvas units. Places spread out between the margins, so what is
// inside stays inside and what is apart stays apart.
func (s Scene) place(c Critter, width, height float64) (x, y float64) {
	spread := func(v, margin, length float64) float64 {
		if length <= 1 || margin >= 0.5 {
			return v * length
		}
		return margin + (v-margin)*(length-2*margin)/(1-2*margin)
	}
	return spread(c.X, s.marginX, width), spread(c.Y, s.marginY, height)
}

// extent returns half the width and height of a critter's bounding box, in
// canvas units. It ignores the rounding of corners: never too small.
func (c Critter) extent() (x, y float64) {
	sin, cos := math.Abs(math.Sin(c.Angle)), math.Abs(math.Cos(c.Angle))
	switch c.Shape {
	case square:
		x = squareHalf * (cos + sin)
		y = x
	case triangle: // a box around the vertices, centred on the origin
		x = math.Max(triHalf*cos-triTop*sin, triTip*sin)
		y = math.Max(triHalf*sin-triTop*cos, triTip*cos)
	case diamond:
		x = diamondHalf * math.Max(cos, sin)
		y = x
	case pill:
		x = (pillHalf-pillHigh)*cos + pillHigh
		y = (pillHalf-pillHigh)*sin + pillHigh
	default:
		x, y = 1, 1
	}
	return x * c.Size, y * c.Size
}

func newBackdrop(st stream, color, pattern int) Backdrop {
	return Backdrop{
		Color: color, Pattern: pattern,
		Angle:    st.between(0, math.Pi),
		Period:   st.between(periodMin, periodMax),
		Phase:    st.between(0, 1),
		Contrast: st.between(contrastLo, contrastHi),
	}
}

// newCritter draws everything but the place.
func newCritter(st *stream, shape, color int, low, high float64) Critter {
	c := Critter{Shape: shape, Color: color}
	c.Size = st.between(low, high)
	c.Angle = st.between(-maxAngle, maxAngle)
	reach, turn := gazeReach*math.Sqrt(st.between(0, 1)), st.between(0, 2*math.Pi)
	c.GazeX, c.GazeY = reach*math.Cos(turn), reach*math.Sin(turn)
	c.Mouth = st.between(mouthSmall, mouthLarge)
	return c
}

// Domains keep the streams of one (seed, index) apart.
const (
	domainAttributes = iota + 1
	domainBack
	domainCritter
	domainCrowd
	domainCrowdBack
	domainPrompt
)

// stream yields a reproducible sequence for a key: the mixing function of
// SplitMix64 (Steele, Lea and Flood 2014) applied to key plus counter.
type stream struct{ state uint64 }

const golden = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio

func mix(z uint64) uint64 {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

func newStream(seed, index uint64, domain uint64) stream {
	return stream{mix(mix(mix(seed+golden)^(index+golden)) + domain*golden)}
}

func (s *stream) next() uint64 {
	s.state += golden
	return mix(s.state)
}

// between returns a number in [low, high).
func (s *stream) between(low, high float64) float64 {
	return low + (high-low)*(float64(s.next()>>11)/(1<<53))
}

// below returns an integer in [0, n); the bias of n/2^53 is of no account here.
func (s *stream) below(n int) int { return int(s.between(0, float64(n))) }
