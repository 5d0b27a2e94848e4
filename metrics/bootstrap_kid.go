package metrics

import "fmt"

// Bootstrap is the KID of f against the reference with its bootstrap draws.
// The reference is held fixed: intervals hold for this reference set.
//
// A sample drawn twice would meet itself in the within-set sum and raise the
// draw, so pairs of copies are left out and the sum is divided by the weight
// of the pairs that remain; the draws then have no bias to speak of. Kernel
// sums between clusters are computed once, so a draw costs O(clusters^2).
func (r *KIDReference) Bootstrap(f *Features, plan *Resamples) (*Estimate, error) {
	if err := plan.checkN("KID bootstrap", f.n); err != nil {
		return nil, err
	}
	point, err := r.KID(f)
	if err != nil {
		return nil, err
	}
	k := kernelMatrix(f, f)
	c := plan.clusters
	between := make([]float64, c*c) // sums of k(x_i,x_j), i != j, i in row, j in column
	for i := range f.n {
		row := between[plan.cluster[i]*c:][:c]
		for j, v := range k.RawRowView(i) {
			if i != j {
				row[plan.cluster[j]] += v
			}
		}
	}
	cross, sizes := plan.clusterSums(crossRowSums(f, r.features))
	others := float64(r.features.n)
	return plan.evaluate(point.Value, func(b int) (float64, error) {
		weights := make([]float64, c)
		var n, toReference float64
		for i, w := range plan.row(b) {
			weights[i] = float64(w)
			n += weights[i] * sizes[i]
			toReference += weights[i] * cross[i]
		}
		var sum, pairs float64
		for i, w := range weights {
			if w == 0 {
				continue
			}
			inner := 0.0
			row := between[i*c:][:i]
			for j, v := range row {
				inner += weights[j] * v
			}
			// Copies of one cluster meet only themselves.
			sum += 2*w*inner + w*between[i*c+i]
			pairs += w*sizes[i]*(n-w*sizes[i]) + w*sizes[i]*(sizes[i]-1)
		}
		if pairs == 0 {
			return 0, fmt.Errorf("all samples drawn are copies of one; give more samples or clusters")
		}
		return sum/pairs + r.within - 2*toReference/(n*others), nil
	})
}
