package metrics

import "math/bits"

// Streams of this package are keyed by (seed, purpose, index), so a draw
// depends on nothing else: not on order, threads or earlier calls.
const (
	streamResamples uint64 = 1 + iota
	streamSubsets
	streamFlips
)

// stream is a SplitMix64 sequence. Source: Steele, Lea and Flood 2014 ("Fast
// splittable pseudorandom number generators").
type stream struct{ state uint64 }

func newStream(seed, purpose, index uint64) *stream {
	return &stream{state: mix(mix(mix(seed)+purpose) + index)}
}

// mix is SplitMix64's finaliser of the next state.
func mix(z uint64) uint64 {
	z += 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func (s *stream) next() uint64 {
	v := mix(s.state)
	s.state += 0x9E3779B97F4A7C15
	return v
}

// below is uniform on 0..n-1; the bias of the plain multiply is n/2^64.
func (s *stream) below(n int) int {
	hi, _ := bits.Mul64(s.next(), uint64(n))
	return int(hi)
}
