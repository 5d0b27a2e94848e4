package critters

import (
	"image"
	"math"
)

// DetectorVersion names the counting rules. Raise it with every change that can
// alter a count: repetition scores of different versions must not be compared.
const DetectorVersion = "critters-detect-1"

// Counts is what Detect found. Boxes, Colors and Shapes have one entry a body,
// the largest body first.
type Counts struct {
	Bodies, Eyes, Mouths int
	Boxes                []image.Rectangle // in the image's coordinates, without outline
	Colors               []int             // index into the package's Colors, -1 if near none
	Shapes               []int             // index into the package's Shapes, -1 if like none
}

// Right says whether there is exactly one critter: one body with two eyes and
// one mouth.
func (c Counts) Right() bool { return c.Bodies == 1 && c.Eyes == 2 && c.Mouths == 1 }

// Rules for pixels: 8-bit sRGB levels of the smoothed picture.
const (
	bodyChroma    = 80   // least gap of a body pixel's channels; backgrounds reach 48
	bodyBright    = 145  // and its least largest channel; outlines reach 125, bodies start at 173
	darkLevel     = 145  // a pupil's or mouth's largest channel lies below; tongues reach 118
	mouthCore     = 84   // a mouth has pixels below this, which an outline (91 and up) has not
	mouthCoreThin = 116  // the same for a mouth a few pixels high, which is all edge
	paleShare     = 0.36 // of the way from the body's colour to white, a pixel looks white
	whiteLevel    = 245.0
)

// Rules for bodies.
const (
	leastBody     = 0.004 // area over the canvas's (shorter side squared): smaller ones are specks
	leastBareBody = 0.015 // the same without eye or mouth: smaller ones are debris
	closeNarrow   = 0.08  // radii of the two closings over the root of the body's area
	closeWide     = 0.18
	lobeRatio     = 1.5  // a lobe is a body if it is this much wider than its neck
	lobeSize      = 0.45 // and at least this wide, against the widest
)

// Rules for eyes and mouths.
const (
	leastPupil    = 0.004 // area over the body's; true ones have 0.02
	leastMouth    = 0.026 // area over the body's if that has no eyes; true ones have 0.035 to 0.08
	mouthPupil    = 1.25  // area over a pupil's if it has; true ones have 1.8 to 3.3
	tinySpot      = 20    // px of the view: dark spots below are judged more leniently
	pupilRays     = 24    // rays sent out from a dark spot
	pupilSeen     = 0.50  // share of them that must meet white if it is a pupil
	pupilSeenTiny = 0.40  // the same for tiny spots; mouths under two eyes reach 0.29
	rimSeen       = 0.85  // the same for spots on the rim of a body
	rimPale       = 0.65  // and how white that must be: a background is pale, too
	rimReach      = 0.15  // how far they may, over the root of the body's area
	rimDepth      = 0.12  // spots less deep inside a body are under the same rule; true ones lie at 0.25
)

// Detect counts bodies, eyes and mouths in a picture of any size from about 64
// px, without knowing the scene. It means to count as a person would:
//
//   - A body is a connected patch of saturated colour, with what it encloses.
//     Where a patch is made of lobes joined by a clearly narrower neck, each
//     lobe is a body; lobes melted into one outline are one. Specks are nothing,
//     and small patches count only if they have an eye or a mouth.
//   - An eye is a dark spot in a body, or on its rim, with white around most of
//     it. White without a dark spot is no eye; one white with two pupils well
//     apart is two eyes, with two pupils side by side it is one.
//   - A mouth is a dark, compact spot in a body without white around it and
//     clearly larger than a pupil; bare dots and lines of outline colour are
//     nothing.
//   - What lies outside every body is not counted.
//
// The picture is first brought to a shorter side of 128 to 256 px and smoothed,
// so grain, noise of a twentieth of the range, and JPEG do not change a count.
// The result depends on the pixels alone.
func Detect(img image.Image) Counts {
	v := normalise(img)
	if v == nil {
		return Counts{}
	}
	d := detector{view: v, canvas: float64(min(v.w, v.h)), taken: make([]bool, v.w*v.h)}
	bodyLike := make([]bool, v.w*v.h)
	for i := range bodyLike {
		high, low := v.span(i)
		bodyLike[i] = high-low >= bodyChroma && high >= bodyBright
	}
	var counts Counts
	for _, p := range components(bodyLike, v.w, v.h) {
		if float64(len(p.pixels)) < leastBody*d.canvas*d.canvas {
			break // largest first
		}
		d.body(p, bodyLike, &counts)
	}
	return counts
}

// detector holds one picture's state.
type detector struct {
	view   *view
	canvas float64 // shorter side, px
	taken  []bool  // pixels of the bodies already counted
}

// body examines one patch of body colour and adds what it holds to counts.
func (d *detector) body(p patch, bodyLike []bool, counts *Counts) {
	v := d.view
	// The patch with its holes, the eyes and the mouth, filled. Two closings: a
	// narrow one keeps the outline's necks for the lobes, a wide one also fills
	// the bite that an eye at the rim takes out.
	root := math.Sqrt(float64(len(p.pixels)))
	m := closed(p, closeNarrow*root, v.w, v.h)
	area := d.claim(m)
	wide := closed(p, closeWide*root, v.w, v.h)
	d.claim(wide)
	eyes, mouths := d.features(wide, float64(area), d.paleness(p))
	if eyes+mouths == 0 && float64(area) < leastBareBody*d.canvas*d.canvas {
		return
	}
	for i, in := range m.in {
		if in {
			d.taken[m.at(i, v.w)] = true
		}
	}
	counts.Eyes += eyes
	counts.Mouths += mouths
	for _, lobe := range lobes(m, lobeRatio, lobeSize) {
		counts.Bodies++
		counts.Boxes = append(counts.Boxes, v.original(lobe.box()))
		counts.Colors = append(counts.Colors, d.colour(lobe, bodyLike))
		counts.Shapes = append(counts.Shapes, shapeOf(lobe))
	}
}

// claim takes pixels that belong to a larger body out of a mask and returns the
// number of those left.
func (d *detector) claim(m mask) (area int) {
	for i, in := range m.in {
		if in && d.taken[m.at(i, d.view.w)] {
			m.in[i] = false
		} else if in {
			area++
		}
	}
	return area
}

// paleness returns a function that tells how far a pixel is on the way from the
// body's colour (0) to white (1), judged by its smallest channel.
func (d *detector) paleness(p patch) func(at int) float64 {
	sum := 0.0
	for _, at := range p.pixels {
		_, low := d.view.span(at)
		sum += float64(low)
	}
	base := min(sum/float64(len(p.pixels)), 160)
	return func(at int) float64 {
		_, low := d.view.span(at)
		return (float64(low) - base) / (whiteLevel - base)
	}
}

// spot is a dark patch inside a body, in the crop's pixels.
type spot struct {
	x, y, area, radius float64
	patch              patch
}

// features counts the eyes and mouths in a body's mask of the given area.
func (d *detector) features(m mask, area float64, pale func(int) float64) (eyes, mouths int) {
	v := d.view
	dark := make([]bool, len(m.in))
	for i, in := range m.in {
		if in {
			high, _ := v.span(m.at(i, v.w))
			dark[i] = high < darkLevel
		}
	}
	depth := distances(m.in, m.w, m.h, false)
	var pupils, others []spot
	for _, p := range components(dark, m.w, m.h) {
		s := newSpot(p, m.w)
		open := d.openShare(m, p)
		if s.area < max(3, leastPupil*area) || open > 0.35 {
			continue
		}
		seen, white := pupilSeen, paleShare
		if s.area < tinySpot {
			seen = pupilSeenTiny
		}
		if float64(depth[int(s.y)*m.w+int(s.x)]) < rimDepth*math.Sqrt(area) {
			seen, white = rimSeen, rimPale // or a bit of outline would do
		}
		if d.whiteAround(m, s, pale, white) >= seen {
			pupils = append(pupils, s)
		} else if open < 0.12 { // not the background in a notch
			others = append(others, s)
		}
	}
	pupils = append(pupils, d.rimPupils(m, dark, area, pale)...)
	// Two dark spots side by side are one pupil in two pieces.
	pupilArea := 0.0
	for i, s := range pupils {
		single := true
		for _, o := range pupils[:i] {
			if math.Hypot(s.x-o.x, s.y-o.y) < 1.6*(s.radius+o.radius) {
				single = false
			}
		}
		if single {
			eyes++
			pupilArea += s.area
		}
	}
	least := max(6, leastMouth*area)
	if eyes > 0 {
		mean := pupilArea / float64(eyes)
		least = max(6, mouthPupil*mean)
		if mean < tinySpot { // too few pixels for their ratio to be trusted
			least = max(6, 0.9*mean)
		}
	}
	for _, s := range others {
		if s.area >= least && d.mouthLike(m, s) {
			mouths++
		}
	}
	return eyes, mouths
}

// rimPupils finds the pupils of eyes that bulge over the body's edge: dark spots
// that lie partly outside the mask, well within reach of it, and are surrounded
// by white more strictly than those inside, for a pale background with a corner
// of outline in it looks much the same.
func (d *detector) rimPupils(m mask, inside []bool, area float64, pale func(int) float64) []spot {
	v := d.view
	near := mask{w: m.w, h: m.h, x0: m.x0, y0: m.y0, in: make([]bool, len(m.in))}
	dark := make([]bool, len(m.in))
	for i, r := range distances(m.in, m.w, m.h, true) {
		at := m.at(i, v.w)
		if float64(r) > rimReach*math.Sqrt(area) || d.taken[at] {
			continue
		}
		near.in[i] = true
		high, _ := v.span(at)
		dark[i] = high < darkLevel
	}
	var found []spot
	for _, p := range components(dark, m.w, m.h) {
		s := newSpot(p, m.w)
		if s.area < max(6, 2*leastPupil*area) || s.area > 0.05*area {
			continue
		}
		out := 0
		for _, i := range p.pixels {
			if !inside[i] {
				out++
			}
		}
		if out > 0 && d.openShare(near, p) < 0.1 && d.whiteAround(near, s, pale, rimPale) >= rimSeen {
			found = append(found, s)
		}
	}
	return found
}

// openShare is the share of a dark patch's edge that lies on the edge of the
// body: near 1 for background in a notch, 0 for a mouth.
func (d *detector) openShare(m mask, p patch) float64 {
	open, edge := 0, 0
	for _, i := range p.pixels {
		x, y := i%m.w, i/m.w
		for _, n := range [4][2]int{{x - 1, y}, {x + 1, y}, {x, y - 1}, {x, y + 1}} {
			if n[0] < 0 || n[1] < 0 || n[0] >= m.w || n[1] >= m.h || !m.in[n[1]*m.w+n[0]] {
				open++
				edge++
			} else if high, _ := d.view.span(m.at(n[1]*m.w+n[0], d.view.w)); high >= darkLevel {
				edge++
			}
		}
	}
	if edge == 0 {
		return 0
	}
	return float64(open) / float64(edge)
}

// whiteAround is the share of rays from the spot's middle that meet, just
// outside it, a pixel of at least the given paleness.
func (d *detector) whiteAround(m mask, s spot, pale func(int) float64, least float64) float64 {
	met := 0
	far := 1.5*s.radius + 2
	for k := 0; k < pupilRays; k++ {
		sin, cos := math.Sincos(2 * math.Pi * float64(k) / pupilRays)
		for t := 0.5; t <= far; t += 0.5 {
			x, y := int(math.Round(s.x+t*cos)), int(math.Round(s.y+t*sin))
			if x < 0 || y < 0 || x >= m.w || y >= m.h {
				break
			}
			if pale(m.at(y*m.w+x, d.view.w)) >= least {
				met++
				break
			}
		}
	}
	return float64(met) / pupilRays
}

// mouthLike tells a mouth from a stretch of outline: it is thick for its length
// and has a really dark core, if less dark where it is thin and blurred.
func (d *detector) mouthLike(m mask, s spot) bool {
	box := s.patch.box
	in := make([]bool, box.Dx()*box.Dy())
	for _, i := range s.patch.pixels {
		in[(i/m.w-box.Min.Y)*box.Dx()+i%m.w-box.Min.X] = true
	}
	thick := 0.0
	for _, r := range distances(in, box.Dx(), box.Dy(), false) {
		thick = max(thick, float64(r))
	}
	level := float32(min(mouthCore+10*max(0, 6-thick), mouthCoreThin))
	core := 0
	for _, i := range s.patch.pixels {
		if high, _ := d.view.span(m.at(i, d.view.w)); high < level {
			core++
		}
	}
	// Thickness over root of area: a half-disc has 0.40, a bar four times as
	// long as wide 0.25. Distances end at the middle of an outside pixel, hence
	// the half.
	return float64(core) >= max(1, 0.1*s.area) && (s.area < tinySpot || (thick-0.5)/math.Sqrt(s.area) > 0.24)
}

func newSpot(p patch, w int) spot {
	s := spot{area: float64(len(p.pixels)), patch: p}
	for _, i := range p.pixels {
		s.x += float64(i % w)
		s.y += float64(i / w)
	}
	s.x /= s.area
	s.y /= s.area
	s.radius = math.Sqrt(s.area / math.Pi)
	return s
}

// colour returns the index of the body colour nearest to the mean of the mask's
// body pixels, or -1 if none is near.
func (d *detector) colour(m mask, bodyLike []bool) int {
	var sum rgb
	n := 0.0
	for i, in := range m.in {
		if at := m.at(i, d.view.w); in && bodyLike[at] {
			for c := range sum {
				sum[c] += float64(d.view.pix[c][at])
			}
			n++
		}
	}
	best, nearest := -1, 75.0
	for k, c := range bodyColors {
		gap := math.Hypot(math.Hypot(sum[0]/n-c[0], sum[1]/n-c[1]), sum[2]/n-c[2])
		if gap < nearest {
			best, nearest = k, gap
		}
	}
	return best
}

// shapeOf returns the shape that overlaps the mask best when laid on it with
// the same middle and area at a few angles, or -1 if none overlaps well.
func shapeOf(m mask) int {
	area, mx, my := 0.0, 0.0, 0.0
	for y := 0; y < m.h; y++ {
		for x, in := range m.in[y*m.w : (y+1)*m.w] {
			if in {
				area++
				mx += float64(x)
				my += float64(y)
			}
		}
	}
	mx, my = mx/area, my/area
	stride := max(1, int(math.Sqrt(area)/40)) // some 1,600 samples are plenty
	best, most := -1, 0.80
	for shape, t := range templates {
		unit := 1 / math.Sqrt(area/t.area) // critter units per px
		c := Critter{Shape: shape}
		for _, angle := range [...]float64{-maxAngle, 0, maxAngle} {
			sin, cos := math.Sincos(angle)
			both, either := 0, 0
			for j := stride / 2; j < m.h; j += stride {
				dy := (float64(j) - my) * unit
				for i := stride / 2; i < m.w; i += stride {
					dx := (float64(i) - mx) * unit
					in := m.in[j*m.w+i]
					within := c.distance(dx*cos+dy*sin, dy*cos-dx*sin+t.middle) < -outlineWidth
					if in && within {
						both++
					}
					if in || within {
						either++
					}
				}
			}
			if overlap := float64(both) / float64(max(either, 1)); overlap > most {
				best, most = shape, overlap
			}
		}
	}
	return best
}

// templates hold each shape's area and centroid (down from its origin) without
// the outline, in critter units.
var templates = measureShapes()

func measureShapes() []struct{ area, middle float64 } {
	out := make([]struct{ area, middle float64 }, len(Shapes))
	const n, reach = 200, 1.4
	const cell = 2 * reach / n
	for shape := range Shapes {
		c := Critter{Shape: shape}
		t := &out[shape]
		for i := 0; i < n*n; i++ {
			x, y := (float64(i%n)+0.5)*cell-reach, (float64(i/n)+0.5)*cell-reach
			if c.distance(x, y) < -outlineWidth {
				t.area += cell * cell
				t.middle += y * cell * cell
			}
		}
		t.middle /= t.area
	}
	return out
}
