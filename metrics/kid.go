package metrics

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// KID is a kernel inception distance, the squared maximum mean discrepancy of
// two feature sets under k(x,y) = (x.y/D + 1)^3, stored raw (papers often
// print 1000 times it). It is unbiased in both sample counts and may be
// negative. Source: Binkowski et al. 2018 (arXiv 1801.01401).
type KID struct {
	Value float64
	// StdErr is the two-sample jackknife standard error of Value.
	StdErr float64
}

// KIDFeatures is the full U-statistic over all pairs of rows: diagonals left
// out of both within-set sums, all pairs of the cross sum. It needs at least
// three rows a set and O((N+M)^2 D) time.
func KIDFeatures(a, b *Features) (KID, error) {
	ref, err := NewKIDReference(b)
	if err != nil {
		return KID{}, err
	}
	return ref.KID(a)
}

// KIDReference is one side of many KIDs: the features with the kernel sums
// among themselves. Safe for concurrent use.
type KIDReference struct {
	features *Features
	rowSums  []float64 // sum over j != i of k(y_i, y_j)
	within   float64   // mean of k(y_i, y_j) over i != j
}

// NewKIDReference computes the kernel sums of f (at least three rows).
func NewKIDReference(f *Features) (*KIDReference, error) {
	if f.n < 3 {
		return nil, fmt.Errorf("metrics: KID of %d rows: want at least 3", f.n)
	}
	rows := crossRowSums(f, f)
	total := 0.0
	for i := range rows {
		rows[i] -= kernel(f.Row(i), f.Row(i))
		total += rows[i]
	}
	within := total / (float64(f.n) * float64(f.n-1))
	if math.IsInf(within, 0) || math.IsNaN(within) {
		return nil, fmt.Errorf("metrics: KID: kernel sums are %v: the features are too large for float64", within)
	}
	return &KIDReference{features: f, rowSums: rows, within: within}, nil
}

// KID is the full U-statistic between f and the reference, with its jackknife
// standard error.
func (r *KIDReference) KID(f *Features) (KID, error) {
	if err := sameWidth("KID", r.features.d, f.d); err != nil {
		return KID{}, err
	}
	own, err := NewKIDReference(f)
	if err != nil {
		return KID{}, err
	}
	fromF := crossRowSums(f, r.features)
	fromRef := crossRowSums(r.features, f)
	n, m := float64(f.n), float64(r.features.n)
	cross := 0.0
	for _, v := range fromF {
		cross += v
	}
	value := own.within + r.within - 2*cross/(n*m)
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return KID{}, fmt.Errorf("metrics: KID is %v: the features are too large for float64", value)
	}
	variance := jackknifeVariance(own, fromF, cross, m) + jackknifeVariance(r, fromRef, cross, n)
	return KID{Value: value, StdErr: math.Sqrt(variance)}, nil
}

// jackknifeVariance is the part of the KID's variance that comes from the rows
// of one side: (n-1)/n times the squared deviations of the n values with one
// row left out. Terms that do not depend on the row cancel.
func jackknifeVariance(side *KIDReference, crossRows []float64, cross, others float64) float64 {
	n := float64(len(crossRows))
	total := side.within * n * (n - 1)
	left := make([]float64, len(crossRows))
	mean := 0.0
	for i := range left {
		left[i] = (total-2*side.rowSums[i])/((n-1)*(n-2)) - 2*(cross-crossRows[i])/((n-1)*others)
		mean += left[i]
	}
	mean /= n
	sum := 0.0
	for _, v := range left {
		sum += (v - mean) * (v - mean)
	}
	return sum * (n - 1) / n
}

// KIDSubsets is the estimate printed by most papers: the mean of the KID over
// random subsets. Std is the population standard deviation over the subsets
// (divisor: number of subsets); it shrinks with the subset size, not with the
// number of subsets, and is no standard error of Mean.
type KIDSubsets struct {
	Mean, Std float64
	PerSubset []float64
}

// KIDOverSubsets evaluates the KID on given rows: subset s uses rows
// aIndices[s] of a and bIndices[s] of b, equally many (at least two). With the
// indices that torch-fidelity draws it gives torch-fidelity's numbers.
func KIDOverSubsets(a, b *Features, aIndices, bIndices [][]int) (KIDSubsets, error) {
	if err := sameWidth("KID", a.d, b.d); err != nil {
		return KIDSubsets{}, err
	}
	if len(aIndices) == 0 || len(aIndices) != len(bIndices) {
		return KIDSubsets{}, fmt.Errorf("metrics: KID over subsets: %d and %d index lists, want equally many and at least one", len(aIndices), len(bIndices))
	}
	for s := range aIndices {
		if len(aIndices[s]) != len(bIndices[s]) || len(aIndices[s]) < 2 {
			return KIDSubsets{}, fmt.Errorf("metrics: KID subset %d: %d and %d rows, want equally many and at least 2", s, len(aIndices[s]), len(bIndices[s]))
		}
		if err := checkIndices(s, aIndices[s], a.n); err != nil {
			return KIDSubsets{}, err
		}
		if err := checkIndices(s, bIndices[s], b.n); err != nil {
			return KIDSubsets{}, err
		}
	}
	values := make([]float64, len(aIndices))
	if pairs := a.n*a.n + b.n*b.n + a.n*b.n; pairs <= 1<<24 {
		aa, bb, ab := kernelMatrix(a, a), kernelMatrix(b, b), kernelMatrix(a, b)
		parallel(len(values), func(s int) {
			values[s] = subsetKID(aa, bb, ab, aIndices[s], bIndices[s])
		})
	} else {
		// Too large to keep every pair: each subset makes its own.
		for s := range values {
			values[s] = loneSubsetKID(a, b, aIndices[s], bIndices[s])
		}
	}
	result := KIDSubsets{PerSubset: values}
	for _, v := range values {
		result.Mean += v / float64(len(values))
	}
	for _, v := range values {
		result.Std += (v - result.Mean) * (v - result.Mean) / float64(len(values))
	}
	result.Std = math.Sqrt(result.Std)
	if math.IsNaN(result.Mean) || math.IsInf(result.Mean, 0) {
		return KIDSubsets{}, fmt.Errorf("metrics: KID over subsets is %v: the features are too large for float64", result.Mean)
	}
	return result, nil
}

// SubsetIndices draws count subsets of size distinct rows out of n, from this
// package's own counter-based stream.
func SubsetIndices(seed uint64, n, size, count int) ([][]int, error) {
	if size < 1 || size > n || count < 1 {
		return nil, fmt.Errorf("metrics: %d subsets of %d rows out of %d: want at least one subset and 1 <= size <= rows", count, size, n)
	}
	subsets := make([][]int, count)
	for s := range subsets {
		stream := newStream(seed, streamSubsets, uint64(s))
		rows := make([]int, n)
		for i := range rows {
			rows[i] = i
		}
		for i := range size {
			j := i + stream.below(n-i)
			rows[i], rows[j] = rows[j], rows[i]
		}
		subsets[s] = rows[:size:size]
	}
	return subsets, nil
}

func checkIndices(subset int, indices []int, n int) error {
	for i, row := range indices {
		if row < 0 || row >= n {
			return fmt.Errorf("metrics: KID subset %d: row %d at position %d, want 0..%d", subset, row, i, n-1)
		}
	}
	return nil
}

// subsetKID is the U-statistic over given rows of three kernel matrices.
func subsetKID(aa, bb, ab *mat.Dense, aRows, bRows []int) float64 {
	var within, cross float64
	for i := range aRows {
		rowAA, rowBB, rowAB := aa.RawRowView(aRows[i]), bb.RawRowView(bRows[i]), ab.RawRowView(aRows[i])
		for j := range i {
			within += rowAA[aRows[j]] + rowBB[bRows[j]]
		}
		for _, j := range bRows {
			cross += rowAB[j]
		}
	}
	n := float64(len(aRows))
	return 2*within/(n*(n-1)) - 2*cross/(n*n)
}

// loneSubsetKID is subsetKID without kernel matrices of the whole sets. The
// indices must be in range.
func loneSubsetKID(a, b *Features, aRows, bRows []int) float64 {
	pick := func(f *Features, rows []int) *Features {
		s := &Features{n: len(rows), d: f.d, data: make([]float64, 0, len(rows)*f.d)}
		for _, i := range rows {
			s.data = append(s.data, f.Row(i)...)
		}
		return s
	}
	sa, sb := pick(a, aRows), pick(b, bRows)
	all := make([]int, sa.n)
	for i := range all {
		all[i] = i
	}
	return subsetKID(kernelMatrix(sa, sa), kernelMatrix(sb, sb), kernelMatrix(sa, sb), all, all)
}

// kernel is (x.y/D + 1)^3.
func kernel(x, y []float64) float64 {
	dot := 0.0
	for i := range x {
		dot += x[i] * y[i]
	}
	return cube(dot, len(x))
}

func cube(dot float64, d int) float64 {
	v := dot/float64(d) + 1
	return v * v * v
}

// kernelMatrix is k(a_i, b_j), [N,M].
func kernelMatrix(a, b *Features) *mat.Dense {
	k := mat.NewDense(a.n, b.n, nil)
	k.Mul(mat.NewDense(a.n, a.d, a.data), mat.NewDense(b.n, b.d, b.data).T())
	for i := range a.n {
		row := k.RawRowView(i)
		for j := range row {
			row[j] = cube(row[j], a.d)
		}
	}
	return k
}

// crossRowSums is sum over j of k(a_i, b_j) for every i, in blocks of rows so
// that memory stays small.
func crossRowSums(a, b *Features) []float64 {
	const block = 128
	sums := make([]float64, a.n)
	other := mat.NewDense(b.n, b.d, b.data).T()
	parallel((a.n+block-1)/block, func(part int) {
		from := part * block
		to := min(from+block, a.n)
		var dots mat.Dense
		dots.Mul(mat.NewDense(to-from, a.d, a.data[from*a.d:to*a.d]), other)
		for i := from; i < to; i++ {
			for _, dot := range dots.RawRowView(i - from) {
				sums[i] += cube(dot, a.d)
			}
		}
	})
	return sums
}
