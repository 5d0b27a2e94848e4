package metrics

import "fmt"

// Counts are the objects found in one picture.
type Counts struct {
	Bodies, Eyes, Mouths int
}

// What a right picture shows.
const (
	RightBodies = 1
	RightEyes   = 2
	RightMouths = 1
)

// ImageScore says what is repeated or missing in one picture that should show
// one body with two eyes and one mouth. All counts are of objects in the whole
// picture; float64 because they are averaged next.
//
// Global repetition (whole bodies drawn again) is ExcessBodies. Local
// repetition (too many parts on the bodies there are) is LocalEyes and
// LocalMouths: parts beyond the two eyes and one mouth that every body found,
// but at least one body, may have. ExcessEyes and ExcessMouths count against
// the one body wanted and so contain both kinds.
type ImageScore struct {
	Right bool // exactly one body, two eyes and one mouth

	ExcessBodies, ExcessEyes, ExcessMouths    float64 // max(count - right, 0)
	MissingBodies, MissingEyes, MissingMouths float64 // max(right - count, 0)
	LocalEyes                                 float64 // max(eyes - 2 max(bodies,1), 0)
	LocalMouths                               float64 // max(mouths - max(bodies,1), 0)
}

// Score judges one picture's counts; negative counts are refused.
func (c Counts) Score() (ImageScore, error) {
	if c.Bodies < 0 || c.Eyes < 0 || c.Mouths < 0 {
		return ImageScore{}, fmt.Errorf("metrics: counts %+v: want no negative number", c)
	}
	bodies := max(c.Bodies, 1)
	return ImageScore{
		Right:         c.Bodies == RightBodies && c.Eyes == RightEyes && c.Mouths == RightMouths,
		ExcessBodies:  beyond(c.Bodies, RightBodies),
		ExcessEyes:    beyond(c.Eyes, RightEyes),
		ExcessMouths:  beyond(c.Mouths, RightMouths),
		MissingBodies: beyond(RightBodies, c.Bodies),
		MissingEyes:   beyond(RightEyes, c.Eyes),
		MissingMouths: beyond(RightMouths, c.Mouths),
		LocalEyes:     beyond(c.Eyes, RightEyes*bodies),
		LocalMouths:   beyond(c.Mouths, RightMouths*bodies),
	}, nil
}

func beyond(count, limit int) float64 { return float64(max(count-limit, 0)) }

// RightShare is 1 for a right picture and 0 otherwise.
func (s ImageScore) RightShare() float64 { return indicator(s.Right) }

// Repeated is 1 where anything occurs too often: a body, an eye or a mouth.
func (s ImageScore) Repeated() float64 {
	return indicator(s.ExcessBodies+s.ExcessEyes+s.ExcessMouths > 0)
}

// Missing is 1 where anything is absent that belongs there.
func (s ImageScore) Missing() float64 {
	return indicator(s.MissingBodies+s.MissingEyes+s.MissingMouths > 0)
}

func indicator(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// ScoreAll judges many pictures, in order.
func ScoreAll(counts []Counts) ([]ImageScore, error) {
	scores := make([]ImageScore, len(counts))
	for i, c := range counts {
		s, err := c.Score()
		if err != nil {
			return nil, fmt.Errorf("picture %d: %w", i, err)
		}
		scores[i] = s
	}
	return scores, nil
}

// Column takes one number out of every score, for Resamples.Mean:
//
//	Column(scores, ImageScore.RightShare)
func Column(scores []ImageScore, value func(ImageScore) float64) []float64 {
	column := make([]float64, len(scores))
	for i, s := range scores {
		column[i] = value(s)
	}
	return column
}

// Accuracy is 1 where the class got is the class wanted and 0 elsewhere, by
// sample. A class below 0 stands for "unknown" and is never right.
func Accuracy(want, got []int) ([]float64, error) {
	if len(want) != len(got) {
		return nil, fmt.Errorf("metrics: accuracy of %d classes against %d wanted: want equally many, by sample index", len(got), len(want))
	}
	hits := make([]float64, len(want))
	for i := range want {
		hits[i] = indicator(want[i] == got[i] && want[i] >= 0)
	}
	return hits, nil
}
