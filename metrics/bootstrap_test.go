package metrics

import (
	"math"
	"runtime"
	"slices"
	"testing"
)

// prompts makes n samples in groups of size, with names out of order.
func prompts(n, size int) []int {
	clusters := make([]int, n)
	for i := range clusters {
		clusters[i] = 1000 - i%(n/size)
	}
	return clusters
}

// copies lists the sample indices of resample b, each as often as it occurs.
func copies(r *Resamples, b int) []int {
	var rows []int
	for i, c := range r.cluster {
		for range r.row(b)[c] {
			rows = append(rows, i)
		}
	}
	return rows
}

func TestResamplesCounts(t *testing.T) {
	r := must[*Resamples](t)(NewClusteredResamples(7, prompts(120, 4), 400))
	if r.N() != 120 || r.Clusters() != 30 || r.Draws() != 400 {
		t.Fatalf("got %d samples, %d clusters, %d draws; want 120, 30, 400", r.N(), r.Clusters(), r.Draws())
	}
	absent := 0
	for b := range r.Draws() {
		total := 0
		for _, w := range r.row(b) {
			total += int(w)
			if w == 0 {
				absent++
			}
		}
		if total != 30 {
			t.Fatalf("resample %d holds %d clusters, want 30", b, total)
		}
	}
	approx(t, "share of absent clusters", float64(absent)/12000, math.Pow(1-1.0/30, 30), 0.01)
	other := must[*Resamples](t)(NewClusteredResamples(8, prompts(120, 4), 400))
	if slices.Equal(r.count, other.count) {
		t.Error("seeds 7 and 8 give the same draws")
	}
}

// Every draw is the statistic of the copied samples, by the slow way.
func TestDrawsAgainstCopies(t *testing.T) {
	s := newStream(1, 0, 0)
	for _, tt := range []struct {
		name    string
		n, size int
		d       int
	}{{"single samples", 40, 1, 8}, {"prompts of three", 60, 3, 8}, {"wide features", 30, 1, 50}} {
		t.Run(tt.name, func(t *testing.T) {
			plan := must[*Resamples](t)(NewClusteredResamples(3, prompts(tt.n, tt.size), 60))
			reference := world{d: tt.d}.features(t, s, 300, nil)
			f := world{d: tt.d, shift: 0.4}.features(t, s, tt.n, nil)
			fid := must[*FIDReference](t)(NewFIDReference(must[*Stats](t)(NewStats(reference))))
			kid := must[*KIDReference](t)(NewKIDReference(reference))
			values := normals(s, tt.n)

			byCovariance := must[*Estimate](t)(fid.draw(f, plan, 0, false))
			byGram := must[*Estimate](t)(fid.draw(f, plan, 0, true))
			kids := must[*Estimate](t)(kid.Bootstrap(f, plan))
			means := must[*Estimate](t)(plan.Mean(values))
			for b := range plan.Draws() {
				rows := copies(plan, b)
				want := must[float64](t)(fid.FID(must[*Features](t)(f.Select(rows))))
				approx(t, "FID by covariance", byCovariance.Draws[b], want, 1e-5)
				approx(t, "FID by Gram matrix", byGram.Draws[b], want, 1e-5)

				mean := 0.0
				for _, i := range rows {
					mean += values[i] / float64(len(rows))
				}
				approx(t, "mean", means.Draws[b], mean, 1e-12)

				// KID without pairs of two copies of one cluster.
				var within, pairs, cross float64
				for _, i := range rows {
					for j := range reference.n {
						cross += kernel(f.Row(i), reference.Row(j)) / float64(len(rows)*reference.n)
					}
				}
				for i, ci := range plan.cluster {
					for j, cj := range plan.cluster {
						w := float64(plan.row(b)[ci]) * float64(plan.row(b)[cj])
						if ci == cj {
							w = float64(plan.row(b)[ci])
						}
						if i != j {
							within += w * kernel(f.Row(i), f.Row(j))
							pairs += w
						}
					}
				}
				approx(t, "KID", kids.Draws[b], within/pairs+kid.within-2*cross, 1e-10)
			}
			approx(t, "KID point", kids.Point, must[KID](t)(KIDFeatures(f, reference)).Value, 1e-12)
			approx(t, "mean point", means.Point, meanOf(values), 1e-12)
			e := must[*Estimate](t)(fid.Bootstrap(f, plan))
			approx(t, "FID point", e.Point, must[float64](t)(FIDFeatures(f, reference)), 1e-6)
			approx(t, "mean of FID draws", meanOf(e.Draws), meanOf(byCovariance.Draws), 1e-6)
		})
	}
}

func TestDrawsDoNotDependOnThreads(t *testing.T) {
	s := newStream(2, 0, 0)
	w := world{d: 20}
	reference, f := w.features(t, s, 200, nil), w.features(t, s, 64, nil)
	all := func() (draws []float64) {
		plan := must[*Resamples](t)(NewResamples(5, 64, 80))
		fid := must[*FIDReference](t)(NewFIDReference(must[*Stats](t)(NewStats(reference))))
		draws = append(draws, must[*Estimate](t)(fid.Bootstrap(f, plan)).Draws...)
		kid := must[*KIDReference](t)(NewKIDReference(reference))
		draws = append(draws, must[*Estimate](t)(kid.Bootstrap(f, plan)).Draws...)
		p := must[float64](t)(plan.SignFlip(1, f.data[:64], f.data[64:128]))
		return append(draws, p)
	}
	old := runtime.GOMAXPROCS(1)
	one := all()
	runtime.GOMAXPROCS(4)
	four := all()
	runtime.GOMAXPROCS(old)
	if !slices.Equal(one, four) {
		t.Error("1 and 4 threads give different bits")
	}
}

func TestIntervals(t *testing.T) {
	s := newStream(3, 0, 0)
	plan := must[*Resamples](t)(NewResamples(1, 200, 2000))
	values := normals(s, 200)
	e := must[*Estimate](t)(plan.Mean(values))
	se := deviation(values) / math.Sqrt(200)
	approx(t, "standard error", e.StdErr(), se, 0.06*se)
	for _, m := range []Method{Centred, Percentile, BCa} {
		lo, hi, err := e.Interval(0.95, m)
		if err != nil {
			t.Fatal(err)
		}
		approx(t, "lower end", lo, e.Point-1.96*se, 0.25*se)
		approx(t, "upper end", hi, e.Point+1.96*se, 0.25*se)
		narrowLo, narrowHi, err := e.Interval(0.5, m)
		if err != nil {
			t.Fatal(err)
		}
		if narrowLo <= lo || narrowHi >= hi {
			t.Errorf("method %d: 50%% interval [%v,%v] is not inside the 95%% one [%v,%v]", m, narrowLo, narrowHi, lo, hi)
		}
	}
	// BCa leans to the long tail.
	long := make([]float64, 200)
	for i, v := range values {
		long[i] = math.Exp(v)
	}
	skewed := must[*Estimate](t)(plan.Mean(long))
	_, percentile, _ := skewed.Interval(0.95, Percentile)
	if _, bca, _ := skewed.Interval(0.95, BCa); bca <= percentile {
		t.Errorf("right-skewed values: BCa ends at %v, percentile at %v; want BCa further out", bca, percentile)
	}
}

func TestPairedDifference(t *testing.T) {
	s := newStream(4, 0, 0)
	plan := must[*Resamples](t)(NewClusteredResamples(2, prompts(90, 3), 300))
	a, b := normals(s, 90), normals(s, 90)
	for i := range b {
		b[i] = a[i] + 0.1*b[i] // paired: the difference varies far less than each
	}
	ea, eb := must[*Estimate](t)(plan.Mean(a)), must[*Estimate](t)(plan.Mean(b))
	byDraw := must[*Estimate](t)(ea.Minus(eb))
	byValue := must[*Estimate](t)(plan.MeanDifference(a, b))
	approx(t, "point", byDraw.Point, byValue.Point, 1e-12)
	for i := range byDraw.Draws {
		approx(t, "draw", byDraw.Draws[i], byValue.Draws[i], 1e-12)
	}
	if byDraw.StdErr() > 0.3*ea.StdErr() {
		t.Errorf("standard error of the paired difference is %v, of one mean %v", byDraw.StdErr(), ea.StdErr())
	}
	other := must[*Resamples](t)(NewClusteredResamples(3, prompts(90, 3), 300))
	_, err := ea.Minus(must[*Estimate](t)(other.Mean(b)))
	wantError(t, err, "different resamples")
	_, _, err = byDraw.Interval(0.95, BCa)
	wantError(t, err, "BCa")
}

// Samples of one prompt that agree carry the information of one sample.
func TestClustersWidenIntervals(t *testing.T) {
	s := newStream(5, 0, 0)
	per := normals(s, 40)
	var values []float64
	var clusters []int
	for i, v := range per {
		values = append(values, v, v, v, v)
		clusters = append(clusters, i, i, i, i)
	}
	clustered := must[*Estimate](t)(must[*Resamples](t)(NewClusteredResamples(1, clusters, 500)).Mean(values))
	single := must[*Estimate](t)(must[*Resamples](t)(NewResamples(1, 40, 500)).Mean(per))
	naive := must[*Estimate](t)(must[*Resamples](t)(NewResamples(1, 160, 500)).Mean(values))
	approx(t, "four copies against one", clustered.StdErr(), single.StdErr(), 1e-12)
	approx(t, "clusters ignored", naive.StdErr(), single.StdErr()/2, 0.1*single.StdErr())
}

func TestShareAtTheEnds(t *testing.T) {
	plan := must[*Resamples](t)(NewResamples(1, 96, 200))
	ones := make([]float64, 96)
	zeros := make([]float64, 96)
	for i := range ones {
		ones[i] = 1
	}
	// Wilson 1927: n/(n+z^2) = 96/(96+3.8415) = 0.96152.
	lo, hi := must[*Estimate](t)(plan.Share(ones)).Interval95()
	approx(t, "all right: lower end", lo, 0.961524, 1e-6)
	approx(t, "all right: upper end", hi, 1, 1e-12)
	lo, hi = must[*Estimate](t)(plan.Share(zeros)).Interval95()
	approx(t, "none right: lower end", lo, 0, 1e-12)
	approx(t, "none right: upper end", hi, 1-0.961524, 1e-6)
	ones[5] = 0
	lo, hi = must[*Estimate](t)(plan.Share(ones)).Interval95()
	if lo >= 95.0/96 || hi > 1 {
		t.Errorf("95 of 96: got [%v,%v]", lo, hi)
	}
	same := must[*Estimate](t)(plan.MeanDifference(zeros, zeros))
	if lo, hi = same.Interval95(); lo != 0 || hi != 0 || same.P() != 1 {
		t.Errorf("no difference at all: got [%v,%v], p %v; want [0,0], p 1", lo, hi, same.P())
	}
}

func TestBootstrapErrors(t *testing.T) {
	s := newStream(6, 0, 0)
	plan := must[*Resamples](t)(NewResamples(1, 10, 50))
	f := world{d: 3}.features(t, s, 12, nil)
	fid := must[*FIDReference](t)(NewFIDReference(must[*Stats](t)(NewStats(f))))
	kid := must[*KIDReference](t)(NewKIDReference(f))
	flat := must[*Estimate](t)(plan.Mean(make([]float64, 10)))
	bad := make([]float64, 10)
	bad[4] = math.NaN()
	for _, tt := range []struct {
		name string
		call func() error
		want string
	}{
		{"few draws", func() error { _, err := NewResamples(1, 10, 10); return err }, "10 bootstrap resamples: want at least 50"},
		{"one sample", func() error { _, err := NewResamples(1, 1, 50); return err }, "want at least 2 clusters"},
		{"no sample", func() error { _, err := NewResamples(1, -1, 50); return err }, "want at least 2 clusters"},
		{"one cluster", func() error { _, err := NewClusteredResamples(1, []int{5, 5, 5}, 50); return err }, "3 samples in 1 clusters"},
		{"NaN", func() error { _, err := plan.Mean(bad); return err }, "sample 4 is NaN"},
		{"NaN share", func() error { _, err := plan.Share(bad); return err }, "sample 4 is NaN, want 0 or 1"},
		{"NaN difference", func() error { _, err := plan.MeanDifference(make([]float64, 10), bad); return err }, "sample 4 is NaN"},
		{"NaN flips", func() error { _, err := plan.SignFlip(1, bad, make([]float64, 10)); return err }, "sample 4 is NaN"},
		{"length", func() error { _, err := plan.Mean(make([]float64, 9)); return err }, "9 samples, but the resamples were planned for 10"},
		{"lengths", func() error { _, err := plan.MeanDifference(bad, bad[:9]); return err }, "10 and 9 samples"},
		{"FID N", func() error { _, err := fid.Bootstrap(f, plan); return err }, "12 samples, but"},
		{"KID N", func() error { _, err := kid.Bootstrap(f, plan); return err }, "12 samples, but"},
		{"level", func() error { _, _, err := flat.Interval(1, Centred); return err }, "level 1"},
		{"method", func() error { _, _, err := flat.Interval(0.9, Method(9)); return err }, "unknown interval method 9"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.call(), tt.want) })
	}
}
