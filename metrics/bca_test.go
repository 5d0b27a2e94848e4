package metrics

import "testing"

// TestBCaOfTwoClusters: the fewest clusters there can be give an interval that
// holds the point, not a panic.
func TestBCaOfTwoClusters(t *testing.T) {
	r, err := NewClusteredResamples(1, []int{0, 0, 0, 1, 1, 1}, 200)
	if err != nil {
		t.Fatal(err)
	}
	e, err := r.Mean([]float64{1, 2, 3, 4, 5, 9})
	if err != nil {
		t.Fatal(err)
	}
	lo, hi, err := e.Interval(0.95, BCa)
	if err != nil {
		t.Fatal(err)
	}
	if !(lo <= e.Point && e.Point <= hi) {
		t.Errorf("interval [%v, %v] does not hold the mean %v", lo, hi, e.Point)
	}
}
