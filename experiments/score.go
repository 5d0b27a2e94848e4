package experiments

import (
	"fmt"
	"math"

	"scalecrafter/metrics"
	"scalecrafter/reports/results"
)

// Draws of the bootstrap: means are cheap, an FID costs an eigenproblem each.
const (
	meanDraws    = 2000
	featureDraws = 600
)

// minClusters is the fewest prompts for which a distance is resampled: with
// fewer, some resample holds one picture only, which has no covariance.
const minClusters = 10

// minKID is the fewest samples that have an unbiased kernel distance.
const minKID = 3

// columns describes every metric, in the order of configs.Metrics.
var columns = []results.Metric{
	{Key: "right_share", Title: "right", Unit: "%", Percent: true, Digits: 1, HigherIsBetter: true,
		Help: "share of pictures in which the detector finds exactly one critter with two eyes and one mouth"},
	{Key: "excess_bodies", Title: "excess bodies", Digits: 2, Help: "bodies beyond the one asked for, per picture: global repetition"},
	{Key: "excess_eyes", Title: "excess eyes", Digits: 2, Help: "eyes beyond two, per picture: local repetition, and the eyes of repeated bodies"},
	{Key: "excess_mouths", Title: "excess mouths", Digits: 2, Help: "mouths beyond one, per picture"},
	{Key: "fid_r", Title: "FID_r", Digits: 2, Help: "Fréchet distance of the classifier's features to true scenes at the target size; it falls with the number of samples, so compare within a table only"},
	{Key: "kid_r", Title: "KID_r", Digits: 4, Help: "unbiased kernel distance of the same features to true scenes at the target size"},
	{Key: "fid_b", Title: "FID_b", Digits: 2, Help: "Fréchet distance to the model's own samples at its training size"},
	{Key: "kid_b", Title: "KID_b", Digits: 4, Help: "unbiased kernel distance to the model's own samples at its training size"},
	{Key: "shape_accuracy", Title: "shape", Unit: "%", Percent: true, Digits: 1, HigherIsBetter: true, Help: "share of pictures in which the classifier reads the body shape that the prompt asks for"},
	{Key: "color_accuracy", Title: "colour", Unit: "%", Percent: true, Digits: 1, HigherIsBetter: true, Help: "share of pictures with the body colour that the prompt asks for"},
	{Key: "background_accuracy", Title: "background", Unit: "%", Percent: true, Digits: 1, HigherIsBetter: true, Help: "share of pictures with the background colour that the prompt asks for"},
	{Key: "pattern_accuracy", Title: "pattern", Unit: "%", Percent: true, Digits: 1, HigherIsBetter: true, Help: "share of pictures with the background pattern that the prompt asks for"},
}

func column(key string) results.Metric {
	for _, c := range columns {
		if c.Key == key {
			return c
		}
	}
	return results.Metric{Key: key, Title: key, Digits: 3}
}

// counted are the metrics that are means of one number an image.
func counted(key string) (func(results.Sample) float64, bool) {
	score := func(s results.Sample) metrics.ImageScore {
		v, err := metrics.Counts{Bodies: s.Bodies, Eyes: s.Eyes, Mouths: s.Mouths}.Score()
		if err != nil {
			// Counts are lengths; a negative one could only come from a record
			// written by another program, and is no picture.
			return metrics.ImageScore{}
		}
		return v
	}
	yes := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	switch key {
	case "right_share":
		return func(s results.Sample) float64 { return score(s).RightShare() }, true
	case "excess_bodies":
		return func(s results.Sample) float64 { return score(s).ExcessBodies }, true
	case "excess_eyes":
		return func(s results.Sample) float64 { return score(s).ExcessEyes }, true
	case "excess_mouths":
		return func(s results.Sample) float64 { return score(s).ExcessMouths }, true
	case "shape_accuracy":
		return func(s results.Sample) float64 { return yes(s.Shape) }, true
	case "color_accuracy":
		return func(s results.Sample) float64 { return yes(s.Color) }, true
	case "background_accuracy":
		return func(s results.Sample) float64 { return yes(s.Background) }, true
	case "pattern_accuracy":
		return func(s results.Sample) float64 { return yes(s.Pattern) }, true
	}
	return nil, false
}

// scorer turns finished samples into numbers with intervals. All cells are
// resampled on one plan, so that differences are paired by prompt and noise.
type scorer struct {
	seed     uint64
	means    *metrics.Resamples
	features *metrics.Resamples
	trueFID  *metrics.FIDReference
	trueKID  *metrics.KIDReference
	baseFID  *metrics.FIDReference
	baseKID  *metrics.KIDReference
	warnings []string
}

// scored is one cell's measurement.
type scored struct {
	values    map[string]results.Value
	estimates map[string]*metrics.Estimate // where an interval could be drawn
	samples   map[string][]float64         // of the counted metrics
}

// newScorer prepares the references. References that could not be had leave
// their metrics out, with a warning.
func newScorer(seed uint64, prompts []string, scenes, base []results.Vector) *scorer {
	s := &scorer{seed: seed}
	warn := func(format string, args ...any) { s.warnings = append(s.warnings, fmt.Sprintf(format, args...)) }
	var err error
	if s.means, err = metrics.NewClusteredResamples(seed, clusters(prompts), meanDraws); err != nil {
		warn("no intervals: %v", err)
	}
	if s.features, err = metrics.NewClusteredResamples(seed, clusters(prompts), featureDraws); err != nil || s.features.Clusters() < minClusters {
		s.features = nil // distances get no interval
	}
	reference := func(name string, vectors []results.Vector) (*metrics.FIDReference, *metrics.KIDReference) {
		f, err := stack(vectors)
		if err != nil {
			warn("no distances to %s: %v", name, err)
			return nil, nil
		}
		stats, err := metrics.NewStats(f)
		if err != nil {
			warn("no distances to %s: %v", name, err)
			return nil, nil
		}
		fid, err := metrics.NewFIDReference(stats)
		if err != nil {
			warn("no FID against %s: %v", name, err)
			fid = nil
		}
		kid, err := metrics.NewKIDReference(f)
		if err != nil {
			warn("no KID against %s: %v", name, err)
			kid = nil
		}
		return fid, kid
	}
	s.trueFID, s.trueKID = reference("true scenes", scenes)
	s.baseFID, s.baseKID = reference("base-resolution samples", base)
	return s
}

// clusters numbers the samples' prompts: samples of one prompt are not
// independent.
func clusters(prompts []string) []int {
	out := make([]int, len(prompts))
	first := map[string]int{}
	for i, p := range prompts {
		if _, ok := first[p]; !ok {
			first[p] = i
		}
		out[i] = first[p]
	}
	return out
}

// plan is the resampling plan for these samples: the shared one where they are
// as many as the experiment's, else one of their own; nil where none can be.
func (s *scorer) plan(samples []results.Sample) *metrics.Resamples {
	if s.means != nil && len(samples) == s.means.N() {
		return s.means
	}
	prompts := make([]string, len(samples))
	for i := range samples {
		prompts[i] = samples[i].Prompt
	}
	own, err := metrics.NewClusteredResamples(s.seed, clusters(prompts), meanDraws)
	if err != nil {
		return nil // too few: a number without an interval
	}
	return own
}

// stack makes one feature set [N,D] of vectors.
func stack(vectors []results.Vector) (*metrics.Features, error) {
	if len(vectors) == 0 {
		return nil, fmt.Errorf("there are no features")
	}
	d := len(vectors[0])
	flat := make([]float32, 0, len(vectors)*d)
	for i, v := range vectors {
		if len(v) != d {
			return nil, fmt.Errorf("feature vector %d has %d numbers, the first has %d", i, len(v), d)
		}
		flat = append(flat, v...)
	}
	return metrics.NewFeatures(len(vectors), d, flat)
}

// measure scores one cell. Orientation rows (another size, or the truth
// itself) get the counted metrics only.
func (s *scorer) measure(samples []results.Sample, keys []string, distances bool) (*scored, error) {
	out := &scored{values: map[string]results.Value{}, estimates: map[string]*metrics.Estimate{}, samples: map[string][]float64{}}
	n := len(samples)
	var features *metrics.Features
	if distances {
		vectors := make([]results.Vector, n)
		for i := range samples {
			vectors[i] = samples[i].Features
		}
		var err error
		if features, err = stack(vectors); err != nil {
			return nil, err
		}
	}
	for _, key := range keys {
		if of, ok := counted(key); ok {
			values := make([]float64, n)
			mean := 0.0
			for i := range samples {
				values[i] = of(samples[i])
				mean += values[i]
			}
			mean /= float64(n)
			out.samples[key] = values
			v := results.Value{Mean: mean, Lo: mean, Hi: mean, N: n}
			if plan := s.plan(samples); plan != nil {
				e, err := plan.Mean(values)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", key, err)
				}
				out.estimates[key] = e
				v = withInterval(e)
			}
			if column(key).Percent && v.Lo == v.Hi {
				// All alike: a bootstrap would claim certainty.
				lo, hi, err := metrics.Wilson(int(math.Round(mean*float64(n))), n, 0.95)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", key, err)
				}
				v.Lo, v.Hi, v.HasInterval = lo, hi, true
			}
			out.values[key] = v
			continue
		}
		if !distances {
			continue
		}
		if err := s.distance(key, features, out); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return out, nil
}

func (s *scorer) distance(key string, f *metrics.Features, out *scored) error {
	fid, kid := s.trueFID, s.trueKID
	if key == "fid_b" || key == "kid_b" {
		fid, kid = s.baseFID, s.baseKID
	}
	isFID := key == "fid_r" || key == "fid_b"
	if isFID && fid == nil || !isFID && (kid == nil || f.N() < minKID) {
		return nil
	}
	if s.features == nil || s.features.N() != f.N() {
		var point float64
		if isFID {
			v, err := fid.FID(f)
			if err != nil {
				return err
			}
			point = v
		} else {
			v, err := kid.KID(f)
			if err != nil {
				return err
			}
			point = v.Value
		}
		out.values[key] = results.Value{Mean: point, Lo: point, Hi: point, N: f.N()}
		return nil
	}
	var e *metrics.Estimate
	var err error
	if isFID {
		e, err = fid.Bootstrap(f, s.features)
	} else {
		e, err = kid.Bootstrap(f, s.features)
	}
	if err != nil {
		return err
	}
	out.estimates[key] = e
	out.values[key] = withInterval(e)
	return nil
}

// withInterval reads the 95% interval.
func withInterval(e *metrics.Estimate) results.Value {
	v := results.Value{Mean: e.Point, Lo: e.Point, Hi: e.Point, N: e.N()}
	if lo, hi := e.Interval95(); !math.IsNaN(lo) && !math.IsNaN(hi) {
		v.Lo, v.Hi, v.HasInterval = math.Min(lo, hi), math.Max(lo, hi), true
	}
	return v
}

// compare fills in every cell's effects against the baseline and corrects
// them, over the whole table, for the number of comparisons.
func (s *scorer) compare(cells []results.Cell, measured []*scored, keys []string) error {
	base := -1
	for i := range cells {
		if cells[i].Baseline && measured[i] != nil {
			base = i
		}
	}
	if base < 0 {
		return nil
	}
	var pairs []pair
	for i := range cells {
		if i != base && measured[i] != nil {
			pairs = append(pairs, pair{base, i})
		}
	}
	effects, err := s.differences(cells, measured, pairs, keys)
	if err != nil {
		return err
	}
	for i := range effects {
		cells[pairs[i].to].Effects = effects[i]
	}
	return nil
}

// pair is two cells, of which the second is compared with the first.
type pair struct{ from, to int }

// differences are the pairs' paired differences in the metrics, corrected over
// all of them by Holm's method; nil where nothing can be resampled. Metrics
// without an interval in either cell are left out.
func (s *scorer) differences(cells []results.Cell, measured []*scored, pairs []pair, keys []string) ([]map[string]results.Effect, error) {
	if s.means == nil {
		return nil, nil
	}
	type entry struct {
		pair int
		key  string
	}
	var entries []entry
	var ps []float64
	out := make([]map[string]results.Effect, len(pairs))
	for i, pr := range pairs {
		out[i] = map[string]results.Effect{}
		to, from := measured[pr.to], measured[pr.from]
		for _, key := range keys {
			var e *metrics.Estimate
			var p float64
			var err error
			if a, ok := to.samples[key]; ok {
				b := from.samples[key]
				if e, err = s.means.MeanDifference(a, b); err == nil {
					p, err = s.means.SignFlip(s.seed, a, b)
				}
			} else {
				a, b := to.estimates[key], from.estimates[key]
				if a == nil || b == nil {
					continue
				}
				if e, err = a.Minus(b); err == nil {
					p = e.P()
				}
			}
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", key, cells[pr.to].Label, err)
			}
			out[i][key] = results.Effect{Value: withInterval(e), P: p}
			entries = append(entries, entry{i, key})
			ps = append(ps, p)
		}
	}
	adjusted, err := metrics.Holm(ps)
	if err != nil {
		return nil, err
	}
	for k, e := range entries {
		effect := out[e.pair][e.key]
		effect.P = adjusted[k]
		effect.Significant = adjusted[k] < 0.05 && effect.HasInterval && (effect.Lo > 0 || effect.Hi < 0)
		out[e.pair][e.key] = effect
	}
	return out, nil
}
