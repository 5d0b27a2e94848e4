package metrics

import (
	"math"
	"testing"
)

func TestSignFlip(t *testing.T) {
	for _, tt := range []struct {
		name string
		d    []float64
		want float64 // counted by hand
	}{
		{"five of one sign", []float64{1, 1, 1, 1, 1}, 2.0 / 32},
		{"zeros do not count", []float64{1, 0, 1, 0, 1, 1, 0, 1}, 2.0 / 32},
		{"no difference", []float64{0, 0, 0}, 1},
		{"balanced", []float64{1, -1, 1, -1}, 1},
		{"McNemar 6 against 1", []float64{1, 1, 1, 1, 1, 1, -1}, 2 * (1 + 7) / 128.0},
		{"unequal sizes", []float64{3, 1, 1}, 2.0 / 8}, // |sum| of 5 only for +++ and ---
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan := must[*Resamples](t)(NewResamples(1, len(tt.d), 50))
			zero := make([]float64, len(tt.d))
			approx(t, "p", must[float64](t)(plan.SignFlip(1, tt.d, zero)), tt.want, 1e-12)
			approx(t, "p of the swapped pair", must[float64](t)(plan.SignFlip(1, zero, tt.d)), tt.want, 1e-12)
		})
	}
	// Many samples: drawn patterns agree with the normal approximation.
	s := newStream(1, 0, 0)
	d := normals(s, 300)
	var squares float64
	for i := range d {
		d[i] += 0.12
		squares += d[i] * d[i]
	}
	plan := must[*Resamples](t)(NewResamples(1, 300, 50))
	want := math.Erfc(math.Abs(sumOf(d)) / math.Sqrt(2*squares))
	approx(t, "drawn patterns", must[float64](t)(plan.SignFlip(1, d, make([]float64, 300))), want, 0.006)
	// One cluster that decides alone cannot be significant.
	plan = must[*Resamples](t)(NewClusteredResamples(1, []int{1, 1, 1, 1, 1, 1, 1, 1, 2}, 50))
	approx(t, "two clusters", must[float64](t)(plan.SignFlip(1, []float64{1, 1, 1, 1, 1, 1, 1, 1, 1}, make([]float64, 9))), 0.5, 1e-12)
}

func TestHolm(t *testing.T) {
	got := must[[]float64](t)(Holm([]float64{0.01, 0.04, 0.03, 0.005}))
	// Sorted .005 .01 .03 .04 times 4 3 2 1, made monotone: .02 .03 .06 .06.
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		approx(t, "adjusted", got[i], want, 1e-12)
	}
	for i, v := range must[[]float64](t)(Holm([]float64{0.9, 0.8, 1})) {
		if v != 1 {
			t.Errorf("adjusted %d: got %v, want 1", i, v)
		}
	}
	if got := must[[]float64](t)(Holm(nil)); len(got) != 0 {
		t.Errorf("no p-values: got %v", got)
	}
	for _, bad := range []float64{math.NaN(), -0.1, 1.1} {
		_, err := Holm([]float64{0.5, bad})
		wantError(t, err, "p-value 1 is")
	}
}

func TestMinimumDetectable(t *testing.T) {
	// 1.959964 + 0.841621
	approx(t, "80% power", must[float64](t)(MinimumDetectable(2, 0.05, 0.8)), 2*2.801585, 1e-5)
	for _, bad := range [][3]float64{{math.NaN(), 0.05, 0.8}, {-1, 0.05, 0.8}, {1, 0, 0.8}, {1, 0.05, 1}} {
		_, err := MinimumDetectable(bad[0], bad[1], bad[2])
		wantError(t, err, "minimum detectable effect")
	}
}

func TestWilson(t *testing.T) {
	// Newcombe 1998, table I: 81/263 -> 0.2553, 0.3662; 15/148 -> 0.0624, 0.1605; 0/20 -> 0, 0.1611.
	for _, tt := range []struct {
		successes, n int
		lo, hi       float64
	}{{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}} {
		lo, hi, err := Wilson(tt.successes, tt.n, 0.95)
		if err != nil {
			t.Fatal(err)
		}
		approx(t, "lower end", lo, tt.lo, 6e-5)
		approx(t, "upper end", hi, tt.hi, 6e-5)
	}
	_, _, err := Wilson(3, 2, 0.95)
	wantError(t, err, "3 out of 2")
	_, _, err = Wilson(1, 2, math.NaN())
	wantError(t, err, "level NaN")
}

// atMostFivePercent fails where a rate seen in n trials differs from 5% by more than
// chance (four binomial standard deviations) allows on the upper side.
func atMostFivePercent(t *testing.T, what string, hits, n int) {
	t.Helper()
	limit := 0.05 + 4*math.Sqrt(0.05*0.95/float64(n))
	if rate := float64(hits) / float64(n); rate > limit {
		t.Errorf("%s: %d of %d, want at most about 5%%", what, hits, n)
	}
}

// Intervals of skewed, mostly zero values, as counts of excess objects are,
// hold the true mean as often as they say.
func TestCoverageOfMeans(t *testing.T) {
	const trials, n = 400, 96
	missed := map[string]int{}
	for trial := range trials {
		s := newStream(100, 0, uint64(trial))
		var counts, right []float64
		for range n {
			v := 0.0
			for range 3 {
				v += indicator(s.below(10) < 3) // mean 0.9
			}
			counts = append(counts, v)
			right = append(right, indicator(s.below(10) < 8)) // mean 0.8
		}
		plan := must[*Resamples](t)(NewResamples(uint64(trial), n, 300))
		count := func(name string, lo, hi, truth float64) {
			if truth < lo || truth > hi {
				missed[name]++
			}
		}
		e := must[*Estimate](t)(plan.Mean(counts))
		lo, hi := e.Interval95()
		count("counts, default", lo, hi, 0.9)
		lo, hi, _ = e.Interval(0.95, BCa)
		count("counts, BCa", lo, hi, 0.9)
		lo, hi = must[*Estimate](t)(plan.Share(right)).Interval95()
		count("share", lo, hi, 0.8)
	}
	for _, name := range []string{"counts, default", "counts, BCa", "share"} {
		t.Logf("%s: %d of %d missed", name, missed[name], trials)
		atMostFivePercent(t, name, missed[name], trials)
		if missed[name] == 0 {
			t.Errorf("%s: no interval missed in %d trials; they are too wide", name, trials)
		}
	}
}

// A/A: two methods that do not differ are told apart in at most 5% of trials;
// A/B: a real difference is found. For means, FID and KID, paired by sample
// and clustered by prompt.
func TestFalseAndTrueFindings(t *testing.T) {
	const n, d, draws = 48, 4, 100
	s := newStream(200, 0, 0)
	reference := world{d: d}.features(t, s, 600, nil)
	fid := must[*FIDReference](t)(NewFIDReference(must[*Stats](t)(NewStats(reference))))
	kid := must[*KIDReference](t)(NewKIDReference(reference))
	names := []string{"FID", "KID", "mean"}
	type tally struct{ interval, p, coverage int }
	run := func(shift float64, trials int, found map[string]*tally) {
		var points []float64
		var singles []*Estimate
		for trial := range trials {
			s := newStream(201, 0, uint64(trial))
			common := normals(s, n*d)
			a := world{d: d, shift: 0.4}.features(t, s, n, common)
			b := world{d: d, shift: 0.4 + shift}.features(t, s, n, common)
			plan := must[*Resamples](t)(NewClusteredResamples(uint64(trial), prompts(n, 2), draws))
			var va, vb []float64
			for i := range n {
				va, vb = append(va, a.Row(i)[0]), append(vb, b.Row(i)[0])
			}
			ea := must[*Estimate](t)(fid.Bootstrap(a, plan))
			points, singles = append(points, ea.Point), append(singles, ea)
			all := map[string]*Estimate{
				"FID": must[*Estimate](t)(must[*Estimate](t)(fid.Bootstrap(b, plan)).Minus(ea)),
				"KID": must[*Estimate](t)(must[*Estimate](t)(kid.Bootstrap(b, plan)).Minus(must[*Estimate](t)(kid.Bootstrap(a, plan)))),
				// Two samples a prompt: the tests of means use the plan's clusters.
				"mean": must[*Estimate](t)(plan.MeanDifference(vb, va)),
			}
			for _, name := range names {
				e := all[name]
				lo, hi := e.Interval95()
				p := e.P()
				if name == "mean" {
					p = must[float64](t)(plan.SignFlip(uint64(trial), vb, va))
				}
				if lo > 0 || hi < 0 {
					found[name].interval++
				}
				if p < 0.05 {
					found[name].p++
				}
			}
		}
		expected := meanOf(points)
		for _, e := range singles {
			if lo, hi := e.Interval95(); expected < lo || expected > hi {
				found["FID"].coverage++
			}
		}
	}
	fresh := func() map[string]*tally {
		m := map[string]*tally{}
		for _, name := range names {
			m[name] = &tally{}
		}
		return m
	}
	const same, different = 150, 25
	aa, ab := fresh(), fresh()
	run(0, same, aa)
	run(0.5, different, ab)
	for _, name := range names {
		t.Logf("%s: A/A %+v of %d, A/B %+v of %d", name, *aa[name], same, *ab[name], different)
		atMostFivePercent(t, name+": A/A intervals without zero", aa[name].interval, same)
		atMostFivePercent(t, name+": A/A p below 0.05", aa[name].p, same)
		if ab[name].interval < different*8/10 || ab[name].p < different*8/10 {
			t.Errorf("%s: a real difference was found in %d (interval) and %d (p) of %d trials, want most", name, ab[name].interval, ab[name].p, different)
		}
	}
	atMostFivePercent(t, "FID intervals without the expected FID", aa["FID"].coverage, same)
}
