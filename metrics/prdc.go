package metrics

import (
	"fmt"
	"math"
	"slices"
)

// PRDC are the four nearest-neighbour scores of generated against real
// features. Precision, Recall and Coverage lie in 0..1, Density is around 1
// for equal distributions and may exceed it. All depend on both sample counts
// and on k, so only values at equal settings may be compared.
type PRDC struct {
	Precision, Recall, Density, Coverage float64
}

// MeasurePRDC counts which points lie strictly inside which balls; the ball of
// a point reaches to its k-th nearest neighbour in its own set.
//
//	precision: share of generated points inside any real ball
//	recall:    share of real points inside any generated ball
//	density:   mean over generated points of (number of real balls around it)/k
//	coverage:  share of real balls with a generated point inside
//
// Exact, O((N+M)^2 D). Sources: Kynkaanniemi et al. 2019 (arXiv 1904.06991)
// for precision and recall, Naeem et al. 2020 (arXiv 2002.09797) for density
// and coverage.
func MeasurePRDC(real, generated *Features, k int) (PRDC, error) {
	if err := sameWidth("PRDC", real.d, generated.d); err != nil {
		return PRDC{}, err
	}
	if k < 1 || k >= real.n || k >= generated.n {
		return PRDC{}, fmt.Errorf("metrics: PRDC with k = %d of %d real and %d generated rows: want 1 <= k < both", k, real.n, generated.n)
	}
	realRadius, generatedRadius := ballRadii(real, k), ballRadii(generated, k)
	inGenerated, covered := make([]bool, real.n), make([]bool, real.n)
	parallel(real.n, func(i int) {
		for j := range generated.n {
			d := squaredDistance(real.Row(i), generated.Row(j))
			inGenerated[i] = inGenerated[i] || d < generatedRadius[j]
			covered[i] = covered[i] || d < realRadius[i]
		}
	})
	around := make([]int, generated.n)
	parallel(generated.n, func(j int) {
		for i := range real.n {
			if squaredDistance(real.Row(i), generated.Row(j)) < realRadius[i] {
				around[j]++
			}
		}
	})
	var result PRDC
	for _, balls := range around {
		result.Precision += indicator(balls > 0) / float64(generated.n)
		result.Density += float64(balls) / (float64(k) * float64(generated.n))
	}
	for i := range real.n {
		result.Recall += indicator(inGenerated[i]) / float64(real.n)
		result.Coverage += indicator(covered[i]) / float64(real.n)
	}
	if math.IsNaN(result.Density) {
		return PRDC{}, fmt.Errorf("metrics: PRDC is NaN: the features are too large for float64")
	}
	return result, nil
}

// ballRadii are the squared distances to the k-th nearest other row.
func ballRadii(f *Features, k int) []float64 {
	radii := make([]float64, f.n)
	parallel(f.n, func(i int) {
		distances := make([]float64, 0, f.n-1)
		for j := range f.n {
			if j != i {
				distances = append(distances, squaredDistance(f.Row(i), f.Row(j)))
			}
		}
		slices.Sort(distances)
		radii[i] = distances[k-1]
	})
	return radii
}
