package metrics

import (
	"fmt"
	"math"
	"sort"

	"gonum.org/v1/gonum/stat/distuv"
)

// Flips is the number of sign patterns that SignFlip draws when there are too
// many to try all: the smallest p-value is then 1/(Flips+1).
const Flips = 20000

// SignFlip is the two-sided p-value of the paired permutation test of
// mean(a) = mean(b): if the two methods did not differ, every cluster's
// difference could as well have the other sign. It is exact for any
// distribution of the differences; all sign patterns are tried where there are
// at most Flips of them, otherwise Flips are drawn from seed.
func (r *Resamples) SignFlip(seed uint64, a, b []float64) (float64, error) {
	if err := r.checkN("sign-flip test", len(a)); err != nil {
		return 0, err
	}
	d, err := differences(a, b)
	if err != nil {
		return 0, err
	}
	for i, v := range d {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, fmt.Errorf("metrics: sign-flip test: difference of sample %d is %v", i, v)
		}
	}
	sums, _ := r.clusterSums(d)
	var moving []float64 // a zero does not notice its sign
	var observed, size float64
	for _, v := range sums {
		if v != 0 {
			moving = append(moving, v)
			observed += v
			size += math.Abs(v)
		}
	}
	if len(moving) == 0 {
		return 1, nil
	}
	limit := math.Abs(observed) - 1e-12*size // equal sums may differ by rounding
	if patterns := math.Ldexp(1, len(moving)); patterns <= Flips {
		extreme := 0
		for pattern := range uint64(patterns) {
			if math.Abs(flipped(moving, pattern)) >= limit {
				extreme++
			}
		}
		return float64(extreme) / patterns, nil
	}
	hits := make([]bool, Flips)
	parallel(Flips, func(i int) {
		s := newStream(seed, streamFlips, uint64(i))
		sum := 0.0
		for from := 0; from < len(moving); from += 64 {
			sum += flipped(moving[from:min(from+64, len(moving))], s.next())
		}
		hits[i] = math.Abs(sum) >= limit
	})
	extreme := 1 // the observed pattern itself
	for _, hit := range hits {
		if hit {
			extreme++
		}
	}
	return float64(extreme) / (Flips + 1), nil
}

// flipped sums values with the sign of value i turned where bit i is set.
func flipped(values []float64, pattern uint64) float64 {
	sum := 0.0
	for _, v := range values {
		if pattern&1 == 1 {
			v = -v
		}
		sum += v
		pattern >>= 1
	}
	return sum
}

// Holm adjusts the p-values of one table for the number of comparisons made:
// comparing each with 0.05 keeps the chance of any false finding below 0.05.
// The order is kept. Source: Holm 1979.
func Holm(p []float64) ([]float64, error) {
	order := make([]int, len(p))
	for i, v := range p {
		if !(v >= 0 && v <= 1) {
			return nil, fmt.Errorf("metrics: Holm: p-value %d is %v, want 0..1", i, v)
		}
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return p[order[i]] < p[order[j]] })
	adjusted := make([]float64, len(p))
	largest := 0.0
	for rank, i := range order {
		largest = math.Max(largest, math.Min(p[i]*float64(len(p)-rank), 1))
		adjusted[i] = largest
	}
	return adjusted, nil
}

// MinimumDetectable is the smallest true difference that a two-sided test at
// level alpha would find with the given power, for a difference estimated with
// standard error stderr: (z(1-alpha/2) + z(power)) stderr.
func MinimumDetectable(stderr, alpha, power float64) (float64, error) {
	if !(stderr >= 0) || math.IsInf(stderr, 0) {
		return 0, fmt.Errorf("metrics: minimum detectable effect: standard error %v, want a finite number of at least 0", stderr)
	}
	if !(alpha > 0 && alpha < 1) || !(power > 0 && power < 1) {
		return 0, fmt.Errorf("metrics: minimum detectable effect: alpha %v and power %v, want both between 0 and 1", alpha, power)
	}
	return (distuv.UnitNormal.Quantile(1-alpha/2) + distuv.UnitNormal.Quantile(power)) * stderr, nil
}

// Wilson is the score interval of a share: successes out of n independent
// samples. Unlike a bootstrap interval it has a width at 0 and n successes.
// Source: Wilson 1927.
func Wilson(successes, n int, level float64) (lo, hi float64, err error) {
	if n < 1 || successes < 0 || successes > n {
		return 0, 0, fmt.Errorf("metrics: Wilson interval of %d out of %d: want 0 <= successes <= n and n >= 1", successes, n)
	}
	if !(level > 0 && level < 1) {
		return 0, 0, fmt.Errorf("metrics: interval level %v: want a number between 0 and 1", level)
	}
	z := distuv.UnitNormal.Quantile((1 + level) / 2)
	count := float64(n)
	share := float64(successes) / count
	centre := (share + z*z/(2*count)) / (1 + z*z/count)
	half := z / (1 + z*z/count) * math.Sqrt(share*(1-share)/count+z*z/(4*count*count))
	return math.Max(centre-half, 0), math.Min(centre+half, 1), nil
}
