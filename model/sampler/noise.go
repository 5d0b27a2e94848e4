package sampler

import "math"

// NoiseKey names one stream of random numbers. Two keys with any field
// different never share a number's position in the generator, so the noise of
// an image depends on its own key alone: not on the batch it is drawn in, on
// the worker that draws it, or on what was drawn before.
type NoiseKey struct {
	// Seed is the run's seed; methods compared with each other share it.
	Seed uint64
	// Sample is the image's index within the run.
	Sample uint64
	// Stage tells uses of one sample apart; the sampling loop uses its
	// Settings.Stage.
	Stage uint32
	// Step is the draw within the stage: the sampling loop draws the initial
	// latent at 0 and the noise of step i at i+1.
	Step uint32
}

// Noise fills dst with independent standard normal numbers.
//
// Each is made from its own counter in float64, with only additions,
// multiplications, divisions and square roots, each rounded separately, then
// rounded to float32: the same bits on every machine. Cost: about 60 ns a
// number.
func Noise(dst []float32, key NoiseKey) {
	s := NewStream(key)
	for i := range dst {
		dst[i] = float32(s.Norm())
	}
}

// Stream is a sequence of random numbers for one key. A Stream is not safe
// for concurrent use; streams are independent, so give every worker its own.
type Stream struct {
	key   [2]uint32
	high  [2]uint32 // upper half of the counter, fixed for the stream
	block uint64    // lower half
	left  int       // numbers of words not used yet
	words [2]uint64
	spare float64 // second normal of the last pair
	has   bool
}

// NewStream starts the key's stream from its beginning.
func NewStream(key NoiseKey) *Stream {
	// Sample, stage and step fill a whole counter, which leaves no room for
	// the position in the stream. One application of the generator under the
	// seed maps them to a second key and half of a counter. It permutes
	// counters, so that different fields give different streams.
	w := philox([4]uint32{uint32(key.Sample), uint32(key.Sample >> 32), key.Stage, key.Step},
		[2]uint32{uint32(key.Seed), uint32(key.Seed >> 32)})
	return &Stream{key: [2]uint32{w[0], w[1]}, high: [2]uint32{w[2], w[3]}}
}

// Uint64 returns 64 uniform random bits.
func (s *Stream) Uint64() uint64 {
	if s.left == 0 {
		w := philox([4]uint32{uint32(s.block), uint32(s.block >> 32), s.high[0], s.high[1]}, s.key)
		s.words = [2]uint64{uint64(w[0]) | uint64(w[1])<<32, uint64(w[2]) | uint64(w[3])<<32}
		s.block++
		s.left = 2
	}
	s.left--
	return s.words[1-s.left]
}

// Float64 returns a uniform number in [0, 1), a multiple of 2^-53.
func (s *Stream) Float64() float64 { return float64(s.Uint64()>>11) * 0x1p-53 }

// Intn returns a uniform number in 0..n-1 without bias. It panics when n is
// not positive, as that has no answer.
func (s *Stream) Intn(n int) int {
	if n <= 0 {
		panic("sampler: Intn of a number that is not positive")
	}
	// Numbers from the last, incomplete run of n are drawn again.
	limit := math.MaxUint64 - (math.MaxUint64%uint64(n)+1)%uint64(n)
	for {
		if v := s.Uint64(); v <= limit {
			return int(v % uint64(n))
		}
	}
}

// Norm returns a standard normal number. Its largest possible magnitude is
// sqrt(2 * 53 * ln 2) = 8.57.
//
// Source: Box and Muller 1958, A Note on the Generation of Random Normal
// Deviates: sqrt(-2 ln u1) cos(2 pi u2) and the same with sin.
func (s *Stream) Norm() float64 {
	if s.has {
		s.has = false
		return s.spare
	}
	u1 := float64(s.Uint64()>>11+1) * 0x1p-53 // in (0, 1]: its logarithm is finite
	u2 := float64(s.Uint64()>>11) * 0x1p-53
	r := math.Sqrt(-2 * logUnit(u1))
	sin, cos := sinCosTurn(u2)
	s.spare, s.has = r*sin, true
	return r * cos
}

// philox is Philox4x32 with ten rounds: a permutation of the 128-bit counter
// for every 64-bit key, whose outputs for successive counters pass as random.
//
// Source: Salmon, Moraes, Dror, Shaw 2011, Parallel Random Numbers: As Easy
// as 1, 2, 3, section 3.4; multipliers and Weyl constants from its table 2 and
// the authors' Random123 library.
func philox(c [4]uint32, k [2]uint32) [4]uint32 {
	const (
		m0, m1 = 0xD2511F53, 0xCD9E8D57
		w0, w1 = 0x9E3779B9, 0xBB67AE85 // golden ratio, sqrt(3)-1
	)
	for range 10 {
		p0, p1 := uint64(c[0])*m0, uint64(c[2])*m1
		c = [4]uint32{uint32(p1>>32) ^ c[1] ^ k[0], uint32(p1), uint32(p0>>32) ^ c[3] ^ k[1], uint32(p0)}
		k[0] += w0
		k[1] += w1
	}
	return c
}

// The standard library's logarithm, sine and cosine are compiled to different
// roundings on different processors (assembly, fused multiply-add). The two
// functions below have one rounding everywhere: a product that is then added
// is converted to float64, which the language specification defines as a
// barrier to fusing.

// logUnit is the natural logarithm of u in (0, 1], to about 1e-16 relative.
func logUnit(u float64) float64 {
	f, e := math.Frexp(u) // exact: u = f * 2^e, f in [1/2, 1)
	if f < math.Sqrt2/2 {
		f, e = 2*f, e-1
	}
	// ln f = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...) with s = (f-1)/(f+1),
	// |s| <= 0.172: twelve terms leave 1e-19.
	s := (f - 1) / (f + 1)
	z := s * s
	sum := logSeries[len(logSeries)-1]
	for i := len(logSeries) - 2; i >= 0; i-- {
		sum = logSeries[i] + float64(sum*z)
	}
	return float64(2*float64(s*sum)) + float64(float64(e)*math.Ln2)
}

// The series' coefficients, lowest power first, in powers of the square of the
// argument.
var (
	logSeries = [12]float64{1, 1. / 3, 1. / 5, 1. / 7, 1. / 9, 1. / 11, 1. / 13, 1. / 15, 1. / 17, 1. / 19, 1. / 21, 1. / 23}
	// 1/1!, -1/3!, 1/5! ... and 1/0!, -1/2!, 1/4! ...
	sinSeries = [8]float64{1, -1. / 6, 1. / 120, -1. / 5040, 1. / 362880, -1. / 39916800, 1. / 6227020800, -1. / 1307674368000}
	cosSeries = [9]float64{1, -1. / 2, 1. / 24, -1. / 720, 1. / 40320, -1. / 3628800, 1. / 479001600, -1. / 87178291200, 1. / 20922789888000}
)

// sinCosTurn is the sine and cosine of 2 pi u for u in [0, 1).
func sinCosTurn(u float64) (sin, cos float64) {
	quarter := math.Floor(4*u + 0.5)
	x := (u - quarter/4) * (2 * math.Pi) // |x| <= pi/4; the difference is exact
	z := x * x
	// Taylor series; the first terms left out are below 1e-16.
	sin, cos = sinSeries[7], cosSeries[8]
	for i := 7; i >= 0; i-- {
		if i < 7 {
			sin = sinSeries[i] + float64(sin*z)
		}
		cos = cosSeries[i] + float64(cos*z)
	}
	sin = float64(sin * x)
	switch int(quarter) & 3 {
	case 1:
		return cos, -sin
	case 2:
		return -sin, -cos
	case 3:
		return -cos, sin
	}
	return sin, cos
}
