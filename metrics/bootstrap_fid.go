package metrics

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// Bootstrap is the FID of f against the reference with its bootstrap draws.
// The reference is held fixed: intervals hold for this reference set.
//
// A resample holds about 63% distinct samples, so its FID is too high, as that
// of a smaller set would be, and the higher the more it repeats. The spread
// that comes from the second is taken out of the draws (dropDuplicateEffect);
// the shift is dropped by the Centred interval. Where the FID is mostly the
// bias of a small N, intervals come out too wide rather than too narrow.
func (r *FIDReference) Bootstrap(f *Features, plan *Resamples) (*Estimate, error) {
	if err := plan.checkN("FID bootstrap", f.n); err != nil {
		return nil, err
	}
	point, err := r.FID(f)
	if err != nil {
		return nil, err
	}
	_, rank := r.factor.Dims()
	e, err := r.draw(f, plan, point, f.n < rank)
	if err != nil {
		return nil, err
	}
	plan.dropDuplicateEffect(e)
	return e, nil
}

// draw evaluates the FID on every resample.
//
// With the reference's factor F and the centred rows X of f mapped to Y = X F,
// tr (C_ref C)^(1/2) is the sum of the square roots of the eigenvalues of the
// weighted covariance of Y [R,R], so a draw costs one such covariance and its
// eigenvalues. The Gram matrix of the weighted rows of Y [N,N] has the same
// eigenvalues and is the smaller one where N < R (gram).
func (r *FIDReference) draw(f *Features, plan *Resamples, point float64, gram bool) (*Estimate, error) {
	mean := columnMeans(f)
	rows := centred(f, mean, 1)
	var mapped mat.Dense
	mapped.Mul(rows, r.factor)
	product := weightedCovariance(&mapped)
	if gram {
		product = weightedGram(&mapped)
	}
	squares := make([]float64, f.n)
	for i := range squares {
		for _, v := range rows.RawRowView(i) {
			squares[i] += v * v
		}
	}
	fixed := mat.Trace(r.stats.Cov)
	return plan.evaluate(point, func(b int) (float64, error) {
		weights := make([]float64, f.n)
		n, distinct := 0.0, 0
		for i := range weights {
			weights[i] = float64(plan.row(b)[plan.cluster[i]])
			n += weights[i]
			if weights[i] > 0 {
				distinct++
			}
		}
		if distinct < 2 {
			return 0, fmt.Errorf("FID of %d distinct samples; give more samples or clusters", distinct)
		}
		// The rows are relative to the mean of f; shift is the resample's mean.
		shift := make([]float64, f.d)
		trace := 0.0
		for i, w := range weights {
			if w == 0 {
				continue
			}
			trace += w * squares[i]
			for j, v := range rows.RawRowView(i) {
				shift[j] += w / n * v
			}
		}
		var distance, shifted float64
		for j, v := range shift {
			shifted += v * v
			d := mean[j] + v - r.stats.Mean[j]
			distance += d * d
		}
		var eigen mat.EigenSym
		if !eigen.Factorize(product(weights, n), false) {
			return 0, fmt.Errorf("the eigenvalues of the weighted covariance did not converge")
		}
		cross := 0.0
		for _, v := range eigen.Values(nil) {
			cross += math.Sqrt(math.Max(v, 0))
		}
		return distance + fixed + (trace-n*shifted)/(n-1) - 2*cross, nil
	})
}

// weightedCovariance gives the covariance [R,R] of the rows of y, row i counted
// weights[i] times, n times in all.
func weightedCovariance(y *mat.Dense) func(weights []float64, n float64) *mat.SymDense {
	_, rank := y.Dims()
	return func(weights []float64, n float64) *mat.SymDense {
		mean := make([]float64, rank)
		picked := make([]float64, 0, len(weights)*rank)
		for i, w := range weights {
			if w == 0 {
				continue
			}
			root := math.Sqrt(w)
			for j, v := range y.RawRowView(i) {
				mean[j] += w / n * v
				picked = append(picked, root*v)
			}
		}
		cov := mat.NewSymDense(rank, nil)
		raw := cov.RawSymmetric()
		blas64.Syrk(blas.Trans, 1/(n-1), blas64.General{Rows: len(picked) / rank, Cols: rank, Stride: rank, Data: picked}, 0, raw)
		blas64.Syr(-n/(n-1), blas64.Vector{N: rank, Inc: 1, Data: mean}, raw)
		return cov
	}
}

// weightedGram gives, for the rows that occur, sqrt(w_i w_j)/(n-1) times the
// scalar product of row i and row j, both relative to the weighted mean.
func weightedGram(y *mat.Dense) func(weights []float64, n float64) *mat.SymDense {
	rows, _ := y.Dims()
	var products mat.Dense
	products.Mul(y, y.T())
	return func(weights []float64, n float64) *mat.SymDense {
		picked := make([]int, 0, rows)
		for i, w := range weights {
			if w > 0 {
				picked = append(picked, i)
			}
		}
		// toMean[a] is the product of row picked[a] with the weighted mean.
		toMean := make([]float64, len(picked))
		middle := 0.0
		for a, i := range picked {
			row := products.RawRowView(i)
			for _, j := range picked {
				toMean[a] += weights[j] / n * row[j]
			}
			middle += weights[i] / n * toMean[a]
		}
		gram := mat.NewSymDense(len(picked), nil)
		for a, i := range picked {
			row := products.RawRowView(i)
			for b := a; b < len(picked); b++ {
				j := picked[b]
				gram.SetSym(a, b, math.Sqrt(weights[i]*weights[j])/(n-1)*(row[j]-toMean[a]-toMean[b]+middle))
			}
		}
		return gram
	}
}

// dropDuplicateEffect removes from the draws what is explained, linearly, by
// how unevenly a resample repeats its samples (the sum of squared counts). A
// resample with many repeats has fewer distinct rows and so a higher FID; real
// samples have none, so this spread is the bootstrap's own. To first order the
// sum of squared counts is uncorrelated with which samples were drawn, so
// nothing else is lost. The mean of the draws stays.
func (r *Resamples) dropDuplicateEffect(e *Estimate) {
	uneven := make([]float64, r.draws)
	for b := range uneven {
		row := r.row(b)
		for _, c := range r.cluster {
			uneven[b] += float64(row[c]) * float64(row[c])
		}
	}
	middle, mean := meanOf(uneven), meanOf(e.Draws)
	var both, own float64
	for b, u := range uneven {
		both += (u - middle) * (e.Draws[b] - mean)
		own += (u - middle) * (u - middle)
	}
	if own == 0 {
		return
	}
	for b, u := range uneven {
		e.Draws[b] -= both / own * (u - middle)
	}
}
