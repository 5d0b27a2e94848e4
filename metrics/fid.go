package metrics

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Stats are the moments of a feature set: mean [D] and covariance [D,D] with
// the unbiased divisor N-1.
type Stats struct {
	N    int
	Mean []float64
	Cov  *mat.SymDense
}

// D is the feature width.
func (s *Stats) D() int { return len(s.Mean) }

// NewStats computes the moments of f; it needs at least two rows.
func NewStats(f *Features) (*Stats, error) {
	m, err := NewMoments(f.d)
	if err != nil {
		return nil, err
	}
	if err := m.Add(f); err != nil {
		return nil, err
	}
	return m.Stats()
}

// Moments accumulates mean and scatter of a stream of features without keeping
// the rows. Batches are joined by Chan's update, so a long stream loses no
// digits to a large mean. Not safe for concurrent use; give each worker its
// own and Merge them in a fixed order.
type Moments struct {
	n       int
	mean    []float64
	scatter *mat.SymDense // sum of (x-mean)(x-mean)^T
}

// NewMoments makes an empty accumulator of feature width d.
func NewMoments(d int) (*Moments, error) {
	if d < 1 {
		return nil, fmt.Errorf("metrics: moments: feature width %d, want at least 1", d)
	}
	return &Moments{mean: make([]float64, d), scatter: mat.NewSymDense(d, nil)}, nil
}

// Add takes in all rows of f.
func (m *Moments) Add(f *Features) error {
	if err := sameWidth("moments", len(m.mean), f.d); err != nil {
		return err
	}
	mean := columnMeans(f)
	scatter := mat.NewSymDense(f.d, nil)
	scatter.SymOuterK(1, centred(f, mean, 1).T())
	m.join(f.n, mean, scatter)
	return nil
}

// Merge takes in everything that other has seen; other is unchanged.
func (m *Moments) Merge(other *Moments) error {
	if err := sameWidth("moments", len(m.mean), len(other.mean)); err != nil {
		return err
	}
	if other.n > 0 {
		m.join(other.n, other.mean, other.scatter)
	}
	return nil
}

// join is Chan, Golub and LeVeque's pairwise update (1979).
func (m *Moments) join(n int, mean []float64, scatter *mat.SymDense) {
	total := float64(m.n + n)
	delta := make([]float64, len(mean))
	for j := range mean {
		delta[j] = mean[j] - m.mean[j]
		m.mean[j] += delta[j] * float64(n) / total
	}
	m.scatter.AddSym(m.scatter, scatter)
	m.scatter.SymRankOne(m.scatter, float64(m.n)*float64(n)/total, mat.NewVecDense(len(delta), delta))
	m.n += n
}

// Stats returns the moments so far; it needs at least two rows.
func (m *Moments) Stats() (*Stats, error) {
	if m.n < 2 {
		return nil, fmt.Errorf("metrics: covariance of %d rows: want at least 2", m.n)
	}
	cov := mat.NewSymDense(len(m.mean), nil)
	cov.ScaleSym(1/float64(m.n-1), m.scatter)
	return &Stats{N: m.n, Mean: append([]float64(nil), m.mean...), Cov: cov}, nil
}

// check refuses moments that no NewStats would give, since Stats may also be
// read from a file.
func (s *Stats) check() error {
	if s == nil || s.Cov == nil || len(s.Mean) == 0 {
		return fmt.Errorf("metrics: stats: empty mean or covariance")
	}
	if s.N < 2 {
		return fmt.Errorf("metrics: stats: N = %d, want at least 2", s.N)
	}
	if d := s.Cov.SymmetricDim(); d != len(s.Mean) {
		return fmt.Errorf("metrics: stats: mean has %d entries, covariance is %d x %d", len(s.Mean), d, d)
	}
	for i, v := range s.Mean {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("metrics: stats: mean[%d] is %v", i, v)
		}
	}
	for i := range s.Mean {
		if v := s.Cov.At(i, i); v < 0 {
			return fmt.Errorf("metrics: stats: variance [%d,%d] is negative: %v", i, i, v)
		}
		for j := i; j < len(s.Mean); j++ {
			if v := s.Cov.At(i, j); math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("metrics: stats: covariance [%d,%d] is %v", i, j, v)
			}
		}
	}
	return nil
}

// FID is the squared Frechet distance between two Gaussians,
//
//	|m1-m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2),
//
// Source: Heusel et al. 2017 (arXiv 1706.08500). With C = F F^T the
// last trace equals the nuclear norm of F1^T F2: a sum of singular values,
// never complex, and accurate where a matrix square root of a singular
// product is not.
//
// FID is biased upwards by about c/N in each sample count (c grows with the
// feature width and depends on the distribution), so only values at equal N
// may be compared, and a difference of two FIDs at equal N keeps less of the
// bias than either. Rounding can give a tiny negative value for equal inputs;
// it is returned as it is.
func FID(a, b *Stats) (float64, error) {
	ra, err := NewFIDReference(a)
	if err != nil {
		return 0, err
	}
	return ra.FIDStats(b)
}

// FIDFeatures is FID of two feature sets. Where a set has no more rows than
// columns its covariance is singular and the rows themselves serve as the
// factor, which loses no digits.
func FIDFeatures(a, b *Features) (float64, error) {
	sa, err := NewStats(a)
	if err != nil {
		return 0, err
	}
	ra := &FIDReference{stats: sa}
	if a.n <= a.d {
		ra.factor = rowFactor(a, sa.Mean)
	} else if ra.factor, err = covFactor(sa.Cov); err != nil {
		return 0, err
	}
	return ra.FID(b)
}

// FIDReference is one side of many FIDs: the moments and the factor of their
// covariance, computed once. Safe for concurrent use.
type FIDReference struct {
	stats  *Stats
	factor *mat.Dense // F [D,R] with Cov = F F^T
}

// NewFIDReference factors the covariance of s.
func NewFIDReference(s *Stats) (*FIDReference, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	factor, err := covFactor(s.Cov)
	if err != nil {
		return nil, err
	}
	return &FIDReference{stats: s, factor: factor}, nil
}

// FIDStats is the FID between the reference and s.
func (r *FIDReference) FIDStats(s *Stats) (float64, error) {
	if err := s.check(); err != nil {
		return 0, err
	}
	if err := sameWidth("FID", r.stats.D(), s.D()); err != nil {
		return 0, err
	}
	factor, err := covFactor(s.Cov)
	if err != nil {
		return 0, err
	}
	return r.distance(s, factor)
}

// FID is the FID between the reference and the features f (at least two rows).
func (r *FIDReference) FID(f *Features) (float64, error) {
	if err := sameWidth("FID", r.stats.D(), f.d); err != nil {
		return 0, err
	}
	s, err := NewStats(f)
	if err != nil {
		return 0, err
	}
	if f.n <= f.d {
		return r.distance(s, rowFactor(f, s.Mean))
	}
	return r.FIDStats(s)
}

func (r *FIDReference) distance(s *Stats, factor *mat.Dense) (float64, error) {
	var product mat.Dense
	product.Mul(r.factor.T(), factor)
	nuclear, err := nuclearNorm(&product)
	if err != nil {
		return 0, err
	}
	fid := squaredDistance(r.stats.Mean, s.Mean) + mat.Trace(r.stats.Cov) + mat.Trace(s.Cov) - 2*nuclear
	if math.IsNaN(fid) || math.IsInf(fid, 0) {
		return 0, fmt.Errorf("metrics: FID is %v: the moments are too large for float64", fid)
	}
	return fid, nil
}

// columnMeans sums rows in order.
func columnMeans(f *Features) []float64 {
	mean := make([]float64, f.d)
	for i := range f.n {
		for j, v := range f.Row(i) {
			mean[j] += v
		}
	}
	for j := range mean {
		mean[j] /= float64(f.n)
	}
	return mean
}

// centred is scale * (rows - mean), [N,D].
func centred(f *Features, mean []float64, scale float64) *mat.Dense {
	c := make([]float64, len(f.data))
	for i := range f.n {
		row, out := f.Row(i), c[i*f.d:(i+1)*f.d]
		for j := range out {
			out[j] = scale * (row[j] - mean[j])
		}
	}
	return mat.NewDense(f.n, f.d, c)
}

// rowFactor is the D x N factor of the covariance made of the centred rows.
func rowFactor(f *Features, mean []float64) *mat.Dense {
	c := centred(f, mean, 1/math.Sqrt(float64(f.n-1)))
	return mat.DenseCopyOf(c.T())
}

// covFactor returns F [D,R] with cov = F F^T. A well-conditioned covariance is
// factored by Cholesky; otherwise the eigenvectors serve, without the
// directions whose eigenvalue is rounding noise.
func covFactor(cov *mat.SymDense) (*mat.Dense, error) {
	d := cov.SymmetricDim()
	var chol mat.Cholesky
	if chol.Factorize(cov) && chol.Cond() < 1e10 {
		var lower mat.TriDense
		chol.LTo(&lower)
		return mat.DenseCopyOf(&lower), nil
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(cov, true) {
		return nil, fmt.Errorf("metrics: the eigenvalues of a %d x %d covariance did not converge", d, d)
	}
	values := eigen.Values(nil) // ascending
	noise := float64(d) * 0x1p-52 * math.Max(values[d-1], 0)
	if values[0] < -1e-6*math.Max(values[d-1], math.SmallestNonzeroFloat64) {
		return nil, fmt.Errorf("metrics: covariance is not positive semidefinite: eigenvalues %g to %g", values[0], values[d-1])
	}
	first := 0
	for first < d-1 && values[first] <= noise {
		first++
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	factor := mat.NewDense(d, d-first, nil)
	for j := first; j < d; j++ {
		root := math.Sqrt(math.Max(values[j], 0))
		for i := range d {
			factor.Set(i, j-first, vectors.At(i, j)*root)
		}
	}
	return factor, nil
}

// nuclearNorm is the sum of m's singular values.
func nuclearNorm(m *mat.Dense) (float64, error) {
	var svd mat.SVD
	if !svd.Factorize(m, mat.SVDNone) {
		r, c := m.Dims()
		return 0, fmt.Errorf("metrics: the singular values of a %d x %d matrix did not converge", r, c)
	}
	sum := 0.0
	for _, v := range svd.Values(nil) {
		sum += v
	}
	return sum, nil
}

func squaredDistance(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		diff := a[i] - b[i]
		sum += diff * diff
	}
	return sum
}
