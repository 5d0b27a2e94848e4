package metrics

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"gonum.org/v1/gonum/stat/distuv"
)

// Resamples is a fixed plan of bootstrap draws: how often every cluster of
// samples occurs in every resample. All statistics of all cells that share
// samples (same prompts, same noise) are evaluated on the same plan, which
// makes every difference between them a paired one. Immutable; safe for
// concurrent use.
//
// Clusters are what is drawn: the prompts, where several samples share one,
// because samples of one prompt are not independent.
type Resamples struct {
	id       uint64 // identity: equal ids mean equal draws
	n        int
	cluster  []int // sample -> cluster 0..clusters-1
	clusters int
	count    []uint16 // [resample, cluster]
	draws    int
}

// MinResamples is the fewest resamples for which a 95% interval is given.
const MinResamples = 50

// NewResamples plans draws resamples of n independent samples.
func NewResamples(seed uint64, n, draws int) (*Resamples, error) {
	own := make([]int, max(n, 0))
	for i := range own {
		own[i] = i
	}
	return NewClusteredResamples(seed, own, draws)
}

// NewClusteredResamples plans draws resamples of len(clusters) samples, where
// clusters[i] names the cluster (the prompt) of sample i by any integer.
func NewClusteredResamples(seed uint64, clusters []int, draws int) (*Resamples, error) {
	if draws < MinResamples {
		return nil, fmt.Errorf("metrics: %d bootstrap resamples: want at least %d", draws, MinResamples)
	}
	r := &Resamples{n: len(clusters), cluster: make([]int, len(clusters)), draws: draws}
	number := map[int]int{} // looked up only, never iterated
	r.id = mix(mix(seed) + uint64(draws))
	for i, name := range clusters {
		c, seen := number[name]
		if !seen {
			c = len(number)
			number[name] = c
		}
		r.cluster[i] = c
		r.id = mix(r.id + uint64(c))
	}
	r.clusters = len(number)
	if r.clusters < 2 {
		return nil, fmt.Errorf("metrics: bootstrap of %d samples in %d clusters: want at least 2 clusters", r.n, r.clusters)
	}
	if r.clusters > math.MaxUint16 {
		return nil, fmt.Errorf("metrics: bootstrap of %d clusters: want at most %d", r.clusters, math.MaxUint16)
	}
	r.count = make([]uint16, draws*r.clusters)
	for b := range draws {
		s := newStream(seed, streamResamples, uint64(b))
		row := r.row(b)
		for range r.clusters {
			row[s.below(r.clusters)]++
		}
	}
	return r, nil
}

// N is the number of samples.
func (r *Resamples) N() int { return r.n }

// Clusters is the number of independent clusters.
func (r *Resamples) Clusters() int { return r.clusters }

// Draws is the number of resamples.
func (r *Resamples) Draws() int { return r.draws }

func (r *Resamples) row(b int) []uint16 { return r.count[b*r.clusters : (b+1)*r.clusters] }

func (r *Resamples) checkN(what string, n int) error {
	if n != r.n {
		return fmt.Errorf("metrics: %s: %d samples, but the resamples were planned for %d", what, n, r.n)
	}
	return nil
}

// clusterSums adds up values by cluster and counts the members.
func (r *Resamples) clusterSums(values []float64) (sums, sizes []float64) {
	sums, sizes = make([]float64, r.clusters), make([]float64, r.clusters)
	for i, v := range values {
		sums[r.cluster[i]] += v
		sizes[r.cluster[i]]++
	}
	return sums, sizes
}

// Estimate is a statistic with its bootstrap draws.
type Estimate struct {
	// Point is the statistic of the samples themselves.
	Point float64
	// Draws are its values on the resamples, in the plan's order.
	Draws []float64

	n, clusters int
	id          uint64
	// acceleration is BCa's a; NaN where the statistic is no mean.
	acceleration float64
	share        bool // made by Resamples.Share
}

// Method says how an interval is read off the bootstrap draws.
type Method int

const (
	// Centred shifts the draws so that their mean is the point estimate. It
	// keeps the spread and drops the bootstrap's own bias: a resample holds
	// only about 63% distinct samples, which raises an FID like a smaller N
	// would. The interval is for the expected statistic at this N.
	Centred Method = iota
	// Percentile takes the draws' quantiles as they are.
	Percentile
	// BCa corrects the percentiles for median bias and skewness (Efron 1987);
	// only for means and differences of means.
	BCa
)

// N is the number of samples behind the estimate.
func (e *Estimate) N() int { return e.n }

// Interval is a two-sided interval at the given level, for instance 0.95. With
// fewer than about 200 draws its ends are noisy.
func (e *Estimate) Interval(level float64, method Method) (lo, hi float64, err error) {
	if !(level > 0 && level < 1) {
		return 0, 0, fmt.Errorf("metrics: interval level %v: want a number between 0 and 1", level)
	}
	if len(e.Draws) < MinResamples {
		return 0, 0, fmt.Errorf("metrics: interval from %d bootstrap draws: want at least %d", len(e.Draws), MinResamples)
	}
	sorted := slices.Clone(e.Draws)
	slices.Sort(sorted)
	tail := expandedTail((1-level)/2, e.clusters)
	switch method {
	case Centred:
		shift := e.Point - meanOf(e.Draws)
		return quantile(sorted, tail) + shift, quantile(sorted, 1-tail) + shift, nil
	case Percentile:
		return quantile(sorted, tail), quantile(sorted, 1-tail), nil
	case BCa:
		if math.IsNaN(e.acceleration) {
			return 0, 0, fmt.Errorf("metrics: a BCa interval needs a mean or a difference of means; use the centred interval here")
		}
		lo, hi = bcaTails(sorted, e.Point, e.acceleration, tail)
		return quantile(sorted, lo), quantile(sorted, hi), nil
	}
	return 0, 0, fmt.Errorf("metrics: unknown interval method %d", int(method))
}

// Interval95 is the 95% interval to print: percentile for means, centred for
// FID, KID and their differences. A share of exactly 0 or 1 has draws without
// spread and gets Wilson's interval, every cluster counted once. It panics on
// an Estimate not made by this package.
func (e *Estimate) Interval95() (lo, hi float64) {
	method := Centred
	if !math.IsNaN(e.acceleration) {
		method = Percentile
	}
	lo, hi, err := e.Interval(0.95, method)
	if err == nil && e.share && (e.Point == 0 || e.Point == 1) {
		lo, hi, err = Wilson(int(e.Point)*e.clusters, e.clusters, 0.95)
	}
	if err != nil {
		panic(err)
	}
	return lo, hi
}

// expandedTail widens the tails as Student's t widens the normal, and for the
// degree of freedom that resampling loses; plain percentiles of few clusters
// are too narrow. Source: Hesterberg 2015 (arXiv 1411.5279).
func expandedTail(tail float64, clusters int) float64 {
	c := float64(clusters)
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: c - 1}
	return distuv.UnitNormal.CDF(math.Sqrt(c/(c-1)) * t.Quantile(tail))
}

// bcaTails are the levels that BCa reads instead of tail and 1-tail. Ties with
// the point count half, as counts and shares have many.
func bcaTails(sorted []float64, point, acceleration, tail float64) (lo, hi float64) {
	below, equal := 0, 0
	for _, v := range sorted {
		if v < point {
			below++
		} else if v == point {
			equal++
		}
	}
	total := float64(len(sorted))
	share := (float64(below) + float64(equal)/2) / total
	// Half a draw away from 0 and 1, where the normal quantile is infinite.
	share = math.Min(math.Max(share, 0.5/total), 1-0.5/total)
	bias := distuv.UnitNormal.Quantile(share)
	level := func(p float64) float64 {
		// With two clusters the widened tail underflows to 0, whose quantile is
		// infinite.
		p = math.Min(math.Max(p, 1e-12), 1-1e-12)
		z := bias + distuv.UnitNormal.Quantile(p)
		return distuv.UnitNormal.CDF(bias + z/(1-acceleration*z))
	}
	return level(tail), level(1 - tail)
}

// StdErr is the bootstrap standard error: the standard deviation of the draws,
// scaled for the degree of freedom that resampling loses.
func (e *Estimate) StdErr() float64 {
	mean := meanOf(e.Draws)
	sum := 0.0
	for _, v := range e.Draws {
		sum += (v - mean) * (v - mean)
	}
	c := float64(e.clusters)
	return math.Sqrt(sum / float64(len(e.Draws)-1) * c / (c - 1))
}

// P is the two-sided p-value of the hypothesis that the statistic's expected
// value is zero: Student's t (clusters-1 degrees of freedom) of Point over
// StdErr. Unlike a share of draws it can be smaller than 1/draws, which a
// correction for many comparisons needs. For means, Resamples.SignFlip is
// exact.
func (e *Estimate) P() float64 {
	if e.Point == 0 {
		return 1
	}
	se := e.StdErr()
	if se == 0 {
		// Every cluster gives the same value: as likely as equal signs in all.
		return math.Ldexp(1, 1-e.clusters)
	}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(e.clusters - 1)}
	return math.Min(2*t.CDF(-math.Abs(e.Point)/se), 1)
}

// Minus is the paired difference e - other, draw by draw. Both must come from
// the same plan of resamples.
func (e *Estimate) Minus(other *Estimate) (*Estimate, error) {
	if e.id != other.id || len(e.Draws) != len(other.Draws) {
		return nil, fmt.Errorf("metrics: paired difference: the two estimates were drawn from different resamples; evaluate both on the same plan")
	}
	d := &Estimate{Point: e.Point - other.Point, Draws: make([]float64, len(e.Draws)),
		n: e.n, clusters: e.clusters, id: e.id, acceleration: math.NaN()}
	for b := range d.Draws {
		d.Draws[b] = e.Draws[b] - other.Draws[b]
	}
	return d, nil
}

// evaluate fills an estimate by calling f for every resample, in parallel.
func (r *Resamples) evaluate(point float64, f func(b int) (float64, error)) (*Estimate, error) {
	e := &Estimate{Point: point, Draws: make([]float64, r.draws), n: r.n, clusters: r.clusters,
		id: r.id, acceleration: math.NaN()}
	errs := make([]error, r.draws)
	var stop atomic.Bool
	parallel(r.draws, func(b int) {
		if stop.Load() {
			return
		}
		if e.Draws[b], errs[b] = f(b); errs[b] != nil {
			stop.Store(true)
		} else if math.IsNaN(e.Draws[b]) || math.IsInf(e.Draws[b], 0) {
			errs[b] = fmt.Errorf("the statistic is %v", e.Draws[b])
			stop.Store(true)
		}
	})
	for b, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("metrics: bootstrap resample %d: %w", b, err)
		}
	}
	return e, nil
}

// Share is Mean of values that are all 0 or 1.
func (r *Resamples) Share(values []float64) (*Estimate, error) {
	for i, v := range values {
		if v != 0 && v != 1 {
			return nil, fmt.Errorf("metrics: share: value of sample %d is %v, want 0 or 1", i, v)
		}
	}
	e, err := r.Mean(values)
	if err != nil {
		return nil, err
	}
	e.share = true
	return e, nil
}

// Mean is the mean of one value per sample. NaN and infinity are refused.
// Where all clusters are equal the draws are too and the interval has no width.
func (r *Resamples) Mean(values []float64) (*Estimate, error) {
	if err := r.checkN("mean", len(values)); err != nil {
		return nil, err
	}
	for i, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("metrics: mean: value of sample %d is %v", i, v)
		}
	}
	sums, sizes := r.clusterSums(values)
	total := sumOf(sums)
	e, err := r.evaluate(total/float64(r.n), func(b int) (float64, error) {
		var sum, size float64
		for c, w := range r.row(b) {
			sum += float64(w) * sums[c]
			size += float64(w) * sizes[c]
		}
		return sum / size, nil
	})
	if err != nil {
		return nil, err
	}
	// BCa's acceleration from the leave-one-cluster-out means.
	left := make([]float64, r.clusters)
	for c := range left {
		left[c] = (total - sums[c]) / (float64(r.n) - sizes[c])
	}
	middle := meanOf(left)
	var squares, cubes float64
	for _, v := range left {
		d := middle - v
		squares += d * d
		cubes += d * d * d
	}
	e.acceleration = 0
	if squares > 0 {
		e.acceleration = cubes / (6 * math.Pow(squares, 1.5))
	}
	return e, nil
}

// MeanDifference is the paired difference mean(a) - mean(b) over the same
// samples.
func (r *Resamples) MeanDifference(a, b []float64) (*Estimate, error) {
	d, err := differences(a, b)
	if err != nil {
		return nil, err
	}
	return r.Mean(d)
}

func differences(a, b []float64) ([]float64, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("metrics: paired difference of %d and %d samples: want equally many, by sample index", len(a), len(b))
	}
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return d, nil
}

func sumOf(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum
}

func meanOf(values []float64) float64 { return sumOf(values) / float64(len(values)) }

// quantile interpolates linearly between order statistics so that value i of B
// stands at (i+1)/(B+1) (Hyndman and Fan's type 6): with few draws the ends lie
// further out than by other rules, as they should.
func quantile(sorted []float64, p float64) float64 {
	at := p*float64(len(sorted)+1) - 1
	if at <= 0 {
		return sorted[0]
	}
	lo := int(at)
	if lo >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	part := at - float64(lo)
	return sorted[lo]*(1-part) + sorted[lo+1]*part
}
