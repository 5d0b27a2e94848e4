// Package metrics turns features, pictures and counts into numbers with
// intervals: FID, KID, precision/recall/density/coverage, repetition, and the
// resampling statistics that say how far such a number can be trusted. It
// works in float64 and knows no files, no models and no clock; the same input
// gives the same bits on any number of threads.
//
// NaN and infinity are refused where data enters (NewFeatures, Stats,
// Resamples.Mean), so that later formulas need not look again and a broken
// picture can never become a number. Resizing passes NaN on.
package metrics

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// Features is a set of feature vectors [N,D], one row a picture. It is
// immutable once built and safe for concurrent use.
type Features struct {
	n, d int
	data []float64
}

// NewFeatures copies data, [N,D] row-major, and refuses NaN, infinity and a
// length that is not n*d.
func NewFeatures[T float32 | float64](n, d int, data []T) (*Features, error) {
	if n < 1 || d < 1 {
		return nil, fmt.Errorf("metrics: features [%d,%d]: want at least one row and one column", n, d)
	}
	if len(data) != n*d {
		return nil, fmt.Errorf("metrics: features [%d,%d] need %d values, got %d", n, d, n*d, len(data))
	}
	f := &Features{n: n, d: d, data: make([]float64, len(data))}
	for i, v := range data {
		x := float64(v)
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, fmt.Errorf("metrics: features [%d,%d]: %v at row %d, column %d; the picture or the feature network is broken", n, d, x, i/d, i%d)
		}
		f.data[i] = x
	}
	return f, nil
}

// N is the number of rows (pictures).
func (f *Features) N() int { return f.n }

// D is the number of columns (feature width).
func (f *Features) D() int { return f.d }

// Row is row i; the caller must not change it.
func (f *Features) Row(i int) []float64 { return f.data[i*f.d : (i+1)*f.d : (i+1)*f.d] }

// Select makes a new set from the rows at indices, which may repeat.
func (f *Features) Select(indices []int) (*Features, error) {
	if len(indices) == 0 {
		return nil, fmt.Errorf("metrics: select: no indices given")
	}
	s := &Features{n: len(indices), d: f.d, data: make([]float64, len(indices)*f.d)}
	for to, from := range indices {
		if from < 0 || from >= f.n {
			return nil, fmt.Errorf("metrics: select: index %d at position %d, want 0..%d", from, to, f.n-1)
		}
		copy(s.Row(to), f.Row(from))
	}
	return s, nil
}

// sameWidth reports two sets of different feature width.
func sameWidth(what string, a, b int) error {
	if a != b {
		return fmt.Errorf("metrics: %s: feature widths %d and %d differ; both sets must come from the same feature network", what, a, b)
	}
	return nil
}

// parallel calls f(i) once for every i below n, on all processors. Callers
// write to slot i only, so the result does not depend on the schedule.
func parallel(n int, f func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wg.Wait()
}
