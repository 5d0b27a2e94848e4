package metrics

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

func TestFIDOfKnownGaussians(t *testing.T) {
	diagonal := func(n int, mean []float64, variance ...float64) *Stats {
		cov := mat.NewSymDense(len(variance), nil)
		for i, v := range variance {
			cov.SetSym(i, i, v)
		}
		return &Stats{N: n, Mean: mean, Cov: cov}
	}
	for _, tt := range []struct {
		name string
		a, b *Stats
		want float64 // of diagonal Gaussians: |m1-m2|^2 + sum (s1-s2)^2
	}{
		{"one dimension", diagonal(9, []float64{1}, 4), diagonal(9, []float64{4}, 9), 9 + 1},
		{"two dimensions", diagonal(9, []float64{0, 0}, 1, 16), diagonal(5, []float64{1, 2}, 9, 4), 5 + 4 + 4},
		{"one is a point", diagonal(9, []float64{0, 0}, 1, 4), diagonal(9, []float64{0, 3}, 0, 0), 9 + 5},
		{"both are points", diagonal(9, []float64{1, 0}, 0, 0), diagonal(9, []float64{0, 0}, 0, 0), 1},
		{"crossed planes", diagonal(9, []float64{0, 0}, 1, 0), diagonal(9, []float64{0, 0}, 0, 1), 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			approx(t, "FID", must[float64](t)(FID(tt.a, tt.b)), tt.want, 1e-9)
			approx(t, "swapped", must[float64](t)(FID(tt.b, tt.a)), tt.want, 1e-9)
		})
	}
}

func TestFIDProperties(t *testing.T) {
	for _, size := range []struct {
		name string
		n, d int
	}{{"full rank", 300, 24}, {"fewer rows than columns", 20, 32}, {"as many", 24, 24}} {
		t.Run(size.name, func(t *testing.T) {
			s := newStream(1, 0, uint64(size.n))
			w := world{d: size.d}
			a, b := w.features(t, s, size.n, nil), world{d: size.d, shift: 0.5}.features(t, s, size.n+7, nil)
			ab := must[float64](t)(FIDFeatures(a, b))
			approx(t, "FID(a,a)", must[float64](t)(FIDFeatures(a, a)), 0, 1e-9)
			approx(t, "FID(b,a)", must[float64](t)(FIDFeatures(b, a)), ab, 1e-9)
			if ab < 0.1 {
				t.Errorf("FID of different sets is %v, want well above 0", ab)
			}
			sa, sb := must[*Stats](t)(NewStats(a)), must[*Stats](t)(NewStats(b))
			approx(t, "from moments", must[float64](t)(FID(sa, sb)), ab, 1e-5)

			order := must[[][]int](t)(SubsetIndices(3, a.N(), a.N(), 1))[0]
			shuffled := must[*Features](t)(a.Select(order))
			approx(t, "other order", must[float64](t)(FIDFeatures(shuffled, b)), ab, 1e-9)

			moved := make([]float64, len(a.data))
			for i, v := range a.data {
				moved[i] = v + 0.25
			}
			approx(t, "moved by 0.25 in every column",
				must[float64](t)(FIDFeatures(a, must[*Features](t)(NewFeatures(a.n, a.d, moved)))), 0.0625*float64(a.d), 1e-8)
		})
	}
}

// The bias that the doc comment warns of.
func TestFIDIsBiasedInN(t *testing.T) {
	s := newStream(2, 0, 0)
	w := world{d: 16}
	ref := must[*FIDReference](t)(NewFIDReference(must[*Stats](t)(NewStats(w.features(t, s, 20000, nil)))))
	mean := func(n int) float64 {
		sum := 0.0
		for range 10 {
			sum += must[float64](t)(ref.FID(w.features(t, s, n, nil))) / 10
		}
		return sum
	}
	small, large := mean(100), mean(400)
	if ratio := small / large; ratio < 2.5 || ratio > 6 {
		t.Errorf("FID at N 100 and 400 of equal distributions: %v and %v, want a ratio near 4", small, large)
	}
}

func TestMomentsJoin(t *testing.T) {
	s := newStream(3, 0, 0)
	f := world{d: 7, shift: 1000}.features(t, s, 200, nil) // a large mean costs digits if done badly
	want := must[*Stats](t)(NewStats(f))
	part := func(from, to int) *Features {
		return must[*Features](t)(NewFeatures(to-from, f.d, f.data[from*f.d:to*f.d]))
	}
	left, right := must[*Moments](t)(NewMoments(7)), must[*Moments](t)(NewMoments(7))
	for _, cut := range [][2]int{{0, 1}, {1, 90}} {
		if err := left.Add(part(cut[0], cut[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := right.Add(part(90, 200)); err != nil {
		t.Fatal(err)
	}
	empty := must[*Moments](t)(NewMoments(7))
	for _, m := range []*Moments{right, empty} {
		if err := left.Merge(m); err != nil {
			t.Fatal(err)
		}
	}
	got := must[*Stats](t)(left.Stats())
	if got.N != 200 {
		t.Errorf("N: got %d, want 200", got.N)
	}
	for i := range 7 {
		approx(t, "mean", got.Mean[i], want.Mean[i], 1e-9)
		for j := range 7 {
			direct := 0.0
			for r := range f.n {
				direct += (f.Row(r)[i] - want.Mean[i]) * (f.Row(r)[j] - want.Mean[j]) / 199
			}
			approx(t, "joined covariance", got.Cov.At(i, j), direct, 1e-9)
			approx(t, "covariance", want.Cov.At(i, j), direct, 1e-9)
		}
	}
}

func TestFeatureErrors(t *testing.T) {
	ok := must[*Features](t)(NewFeatures(3, 2, []float32{1, 2, 3, 5, 4, 4}))
	wide := must[*Features](t)(NewFeatures(3, 3, make([]float64, 9)))
	one := must[*Features](t)(NewFeatures(1, 2, []float64{1, 2}))
	stats := must[*Stats](t)(NewStats(ok))
	bad := func(n int, mean []float64, cov ...float64) *Stats {
		return &Stats{N: n, Mean: mean, Cov: mat.NewSymDense(2, cov)}
	}
	nan := math.NaN()
	for _, tt := range []struct {
		name string
		call func() error
		want string
	}{
		{"nan", func() error { _, err := NewFeatures(2, 2, []float64{1, 2, 3, nan}); return err }, "NaN at row 1, column 1"},
		{"infinity", func() error { _, err := NewFeatures(1, 2, []float32{1, float32(math.Inf(1))}); return err }, "+Inf at row 0, column 1"},
		{"length", func() error { _, err := NewFeatures(2, 2, []float64{1}); return err }, "need 4 values, got 1"},
		{"no rows", func() error { _, err := NewFeatures(0, 2, []float64{}); return err }, "at least one row"},
		{"one row", func() error { _, err := NewStats(one); return err }, "want at least 2"},
		{"one row against many", func() error { _, err := FIDFeatures(ok, one); return err }, "want at least 2"},
		{"width", func() error { _, err := FIDFeatures(ok, wide); return err }, "feature widths 2 and 3 differ"},
		{"width of moments", func() error {
			_, err := FID(stats, &Stats{N: 3, Mean: []float64{0}, Cov: mat.NewSymDense(1, nil)})
			return err
		}, "feature widths 2 and 1 differ"},
		{"nil stats", func() error { _, err := FID(stats, nil); return err }, "empty mean or covariance"},
		{"N of stats", func() error { _, err := FID(bad(1, []float64{0, 0}, 1, 0, 0, 1), stats); return err }, "N = 1"},
		{"NaN mean", func() error { _, err := FID(stats, bad(5, []float64{0, nan}, 1, 0, 0, 1)); return err }, "mean[1] is NaN"},
		{"NaN covariance", func() error { _, err := FID(stats, bad(5, []float64{0, 0}, 1, nan, nan, 1)); return err }, "covariance [0,1] is NaN"},
		{"negative variance", func() error { _, err := FID(stats, bad(5, []float64{0, 0}, 1, 0, 0, -1)); return err }, "is negative"},
		{"indefinite", func() error { _, err := FID(stats, bad(5, []float64{0, 0}, 1, 2, 2, 1)); return err }, "not positive semidefinite"},
		{"overflow", func() error {
			_, err := FIDFeatures(ok, must[*Features](t)(NewFeatures(2, 2, []float64{1e200, -1e200, 3, 4})))
			return err
		}, ""},
		{"select", func() error { _, err := ok.Select([]int{0, 3}); return err }, "index 3 at position 1, want 0..2"},
		{"KID width", func() error { _, err := KIDFeatures(ok, wide); return err }, "feature widths"},
		{"KID of two rows", func() error { f, _ := ok.Select([]int{0, 1}); _, err := KIDFeatures(f, ok); return err }, "want at least 3"},
		{"KID overflow", func() error {
			_, err := KIDFeatures(ok, must[*Features](t)(NewFeatures(3, 2, []float64{1e200, 1, 1, 1, 1, -1e200})))
			return err
		}, "too large"},
		{"KID subsets", func() error { _, err := KIDOverSubsets(ok, ok, [][]int{{0, 1}}, [][]int{{0}}); return err }, "subset 0: 2 and 1 rows"},
		{"KID subset row", func() error { _, err := KIDOverSubsets(ok, ok, [][]int{{0, 1}}, [][]int{{0, 7}}); return err }, "row 7 at position 1"},
		{"subset size", func() error { _, err := SubsetIndices(1, 3, 4, 1); return err }, "4 rows out of 3"},
		{"PRDC k", func() error { _, err := MeasurePRDC(ok, ok, 3); return err }, "k = 3"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.call(), tt.want) })
	}
}
