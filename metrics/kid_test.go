package metrics

import (
	"math"
	"slices"
	"testing"
)

// directKID is the definition, pair by pair.
func directKID(a, b *Features) float64 {
	var aa, bb, ab float64
	for i := range a.n {
		for j := range a.n {
			if i != j {
				aa += kernel(a.Row(i), a.Row(j))
			}
		}
		for j := range b.n {
			ab += kernel(a.Row(i), b.Row(j))
		}
	}
	for i := range b.n {
		for j := range b.n {
			if i != j {
				bb += kernel(b.Row(i), b.Row(j))
			}
		}
	}
	n, m := float64(a.n), float64(b.n)
	return aa/(n*(n-1)) + bb/(m*(m-1)) - 2*ab/(n*m)
}

func TestKIDAgainstDefinition(t *testing.T) {
	s := newStream(4, 0, 0)
	a, b := world{d: 5}.features(t, s, 150, nil), world{d: 5, shift: 0.3}.features(t, s, 31, nil)
	got := must[KID](t)(KIDFeatures(a, b))
	approx(t, "value", got.Value, directKID(a, b), 1e-12)
	approx(t, "swapped", must[KID](t)(KIDFeatures(b, a)).Value, got.Value, 1e-12)

	without := func(f *Features, row int) *Features {
		var rest []int
		for i := range f.n {
			if i != row {
				rest = append(rest, i)
			}
		}
		return must[*Features](t)(f.Select(rest))
	}
	variance := 0.0
	for _, side := range []int{0, 1} {
		var left []float64
		for i := range []*Features{a, b}[side].n {
			if side == 0 {
				left = append(left, directKID(without(a, i), b))
			} else {
				left = append(left, directKID(a, without(b, i)))
			}
		}
		d := deviation(left)
		n := float64(len(left))
		variance += d * d * (n - 1) * (n - 1) / n
	}
	approx(t, "jackknife standard error", got.StdErr, math.Sqrt(variance), 1e-9)
}

// Halves of one set differ by chance only: KID is near zero, on either side of
// it, and the jackknife knows by how much.
func TestKIDOfHalves(t *testing.T) {
	s := newStream(5, 0, 0)
	var values, errs []float64
	negative := 0
	for range 60 {
		w := world{d: 16}
		k := must[KID](t)(KIDFeatures(w.features(t, s, 80, nil), w.features(t, s, 80, nil)))
		values, errs = append(values, k.Value), append(errs, k.StdErr)
		if k.Value < 0 {
			negative++
		}
	}
	spread := deviation(values)
	approx(t, "mean over 60 pairs", meanOf(values), 0, 4*spread/math.Sqrt(60))
	if negative == 0 || negative == 60 {
		t.Errorf("%d of 60 values are negative, want some on either side", negative)
	}
	if ratio := meanOf(errs) / spread; ratio < 0.7 || ratio > 2.5 {
		t.Errorf("standard error %v, spread of the values %v", meanOf(errs), spread)
	}
}

func TestKIDStdErrOfDifferentSets(t *testing.T) {
	s := newStream(6, 0, 0)
	var values, errs []float64
	for range 80 {
		k := must[KID](t)(KIDFeatures(world{d: 8, shift: 1}.features(t, s, 60, nil), world{d: 8}.features(t, s, 90, nil)))
		values, errs = append(values, k.Value), append(errs, k.StdErr)
	}
	if ratio := meanOf(errs) / deviation(values); ratio < 0.75 || ratio > 1.35 {
		t.Errorf("standard error over spread of 80 values: %v, want about 1", ratio)
	}
}

func TestKIDOverSubsets(t *testing.T) {
	s := newStream(7, 0, 0)
	a, b := world{d: 6}.features(t, s, 50, nil), world{d: 6, shift: 0.5}.features(t, s, 70, nil)
	ia, ib := must[[][]int](t)(SubsetIndices(1, 50, 20, 9)), must[[][]int](t)(SubsetIndices(2, 70, 20, 9))
	got := must[KIDSubsets](t)(KIDOverSubsets(a, b, ia, ib))
	for i, v := range got.PerSubset {
		want := directKID(must[*Features](t)(a.Select(ia[i])), must[*Features](t)(b.Select(ib[i])))
		approx(t, "subset", v, want, 1e-12)
		approx(t, "subset without kept pairs", loneSubsetKID(a, b, ia[i], ib[i]), want, 1e-12)
	}
	approx(t, "mean", got.Mean, meanOf(got.PerSubset), 1e-15)
	approx(t, "std", got.Std, deviation(got.PerSubset)*math.Sqrt(8.0/9), 1e-12)
}

func TestSubsetIndices(t *testing.T) {
	subsets := must[[][]int](t)(SubsetIndices(9, 12, 8, 400))
	seen := make([]int, 12)
	for _, rows := range subsets {
		sorted := slices.Clone(rows)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != 8 {
			t.Fatalf("rows %v are not 8 distinct ones", rows)
		}
		for _, i := range rows {
			seen[i]++
		}
	}
	for i, n := range seen { // 400*8/12 = 267 expected, standard deviation 9.4
		if n < 220 || n > 314 {
			t.Errorf("row %d drawn %d times, want about 267", i, n)
		}
	}
	if slices.Equal(subsets[0], subsets[1]) {
		t.Error("two subsets are equal")
	}
	if again := must[[][]int](t)(SubsetIndices(9, 12, 8, 1)); !slices.Equal(again[0], subsets[0]) {
		t.Errorf("same seed, other rows: %v and %v", again[0], subsets[0])
	}
}

// First outputs for state 0, as published with Vigna's splitmix64.c.
func TestStreamIsSplitMix64(t *testing.T) {
	s := &stream{}
	for i, want := range []uint64{0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F} {
		if got := s.next(); got != want {
			t.Errorf("output %d: got %#x, want %#x", i, got, want)
		}
	}
}

func TestPRDC(t *testing.T) {
	s := newStream(8, 0, 0)
	w := world{d: 4}
	a := w.features(t, s, 120, nil)
	far := world{d: 4, shift: 100}.features(t, s, 90, nil)
	same := must[PRDC](t)(MeasurePRDC(a, a, 5))
	// Every ball holds its centre and k-1 nearer points: k*N memberships.
	for name, v := range map[string]float64{"precision": same.Precision, "recall": same.Recall, "density": same.Density, "coverage": same.Coverage} {
		approx(t, "same set: "+name, v, 1, 1e-12)
	}
	if got := must[PRDC](t)(MeasurePRDC(a, far, 5)); got != (PRDC{}) {
		t.Errorf("sets far apart: got %+v, want zeros", got)
	}
	equal := must[PRDC](t)(MeasurePRDC(a, w.features(t, s, 120, nil), 5))
	approx(t, "equal distributions: density", equal.Density, 1, 0.2)
	approx(t, "equal distributions: coverage", equal.Coverage, 0.97, 0.06) // 1 - 2^-k expected
	// Half of the modes missing: precise, but the other half is not recalled.
	point := func(x float64) []float64 { return []float64{x, s.normal() * 0.01} }
	var two, one []float64
	for i := range 60 {
		two = append(two, point(float64(i%2)*10)...)
		one = append(one, point(0)...)
	}
	half := must[PRDC](t)(MeasurePRDC(must[*Features](t)(NewFeatures(60, 2, two)), must[*Features](t)(NewFeatures(60, 2, one)), 3))
	if half.Coverage > 0.5 || half.Recall > 0.5 || half.Precision < 0.8 {
		t.Errorf("one of two modes: got %+v, want coverage and recall up to 0.5 and a high precision", half)
	}
}
