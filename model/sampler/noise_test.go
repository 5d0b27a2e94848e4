package sampler

import (
	"math"
	"testing"
)

// Known answers: kat_vectors of the Random123 library, philox4x32 10.
func TestPhiloxKnownAnswers(t *testing.T) {
	tests := []struct {
		name    string
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{"zero", [4]uint32{}, [2]uint32{},
			[4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{"ones", [4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, [2]uint32{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{"pi", [4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := philox(tt.counter, tt.key); got != tt.want {
				t.Errorf("philox(%08x, %08x) = %08x, want %08x", tt.counter, tt.key, got, tt.want)
			}
		})
	}
}

// The first numbers of two streams, so that a change of the generator, which
// would change every published image, cannot pass unseen. Computed by a
// separate implementation in Python.
func TestStreamIsFixed(t *testing.T) {
	s := NewStream(NoiseKey{Seed: 7, Sample: 3, Stage: 1, Step: 2})
	for i, want := range []uint64{0xc6bd471563abb11, 0x69a48388cd880e28, 0x1f1ad91f276bea24, 0xd55aab5dcd3c63bc, 0x71a94838623719c5} {
		if got := s.Uint64(); got != want {
			t.Errorf("number %d is %#x, want %#x", i, got, want)
		}
	}
	x := make([]float32, 6)
	Noise(x, NoiseKey{Seed: 7})
	for i, want := range []uint32{0x3e9932e2, 0xbedb67ae, 0xbf1bfc97, 0x3f2cc30d, 0xbf326881, 0x3ff13c30} {
		if got := math.Float32bits(x[i]); got != want {
			t.Errorf("normal %d is %g (%#x), want %#x", i, x[i], got, want)
		}
	}
}

func TestNoiseIsAPrefix(t *testing.T) {
	key := NoiseKey{Seed: 1, Sample: 2, Stage: 3, Step: 4}
	long := make([]float32, 1001)
	Noise(long, key)
	s := NewStream(key)
	for i, v := range long {
		if got := float32(s.Norm()); got != v {
			t.Fatalf("Noise[%d] is %g, the stream gives %g", i, v, got)
		}
	}
	for _, n := range []int{0, 1, 2, 3, 7, 1000} {
		short := make([]float32, n)
		Noise(short, key)
		for i := range short {
			if short[i] != long[i] {
				t.Fatalf("of %d normals, number %d is %g, of 1001 it is %g", n, i, short[i], long[i])
			}
		}
	}
}

func TestKeysDiffer(t *testing.T) {
	base := NoiseKey{Seed: 5, Sample: 6, Stage: 7, Step: 8}
	keys := map[string]NoiseKey{
		"seed low":    {Seed: 4, Sample: 6, Stage: 7, Step: 8},
		"seed high":   {Seed: 5 | 1<<40, Sample: 6, Stage: 7, Step: 8},
		"sample low":  {Seed: 5, Sample: 7, Stage: 7, Step: 8},
		"sample high": {Seed: 5, Sample: 6 | 1<<40, Stage: 7, Step: 8},
		"stage":       {Seed: 5, Sample: 6, Stage: 6, Step: 8},
		"step":        {Seed: 5, Sample: 6, Stage: 7, Step: 9},
	}
	a := make([]float32, 4096)
	Noise(a, base)
	for name, key := range keys {
		b := make([]float32, len(a))
		Noise(b, key)
		// Independent normals: the mean product has deviation 1/64.
		sum := 0.0
		for i := range a {
			sum += float64(a[i]) * float64(b[i])
		}
		if r := sum / float64(len(a)); math.Abs(r) > 5.0/64 {
			t.Errorf("%s: noises of different keys correlate by %.3f", name, r)
		}
	}
}

// Moments and tail shares of many normals, within five standard errors.
func TestNoiseIsNormal(t *testing.T) {
	const n = 1 << 20
	x := make([]float32, n)
	Noise(x, NoiseKey{Seed: 11})
	var m1, m2, m3, m4, lag float64
	beyond := map[float64]int{1: 0, 2: 0, 3: 0, 4: 0}
	for i, f := range x {
		v := float64(f)
		m1, m2, m3, m4 = m1+v, m2+v*v, m3+v*v*v, m4+v*v*v*v
		if i > 0 {
			lag += v * float64(x[i-1])
		}
		for level := range beyond {
			if math.Abs(v) > level {
				beyond[level]++
			}
		}
	}
	root := math.Sqrt(n)
	for _, c := range []struct {
		name             string
		sum, want, sigma float64 // sigma of one term
	}{
		{"mean", m1, 0, 1}, {"square", m2, 1, math.Sqrt2}, {"cube", m3, 0, math.Sqrt(15)},
		{"fourth power", m4, 3, math.Sqrt(96)}, {"product of neighbours", lag, 0, 1},
	} {
		if got := c.sum / n; math.Abs(got-c.want) > 5*c.sigma/root {
			t.Errorf("mean %s is %.5f, want %.5f within %.5f", c.name, got, c.want, 5*c.sigma/root)
		}
	}
	for level, count := range beyond {
		p := math.Erfc(level / math.Sqrt2)
		if got := float64(count) / n; math.Abs(got-p) > 5*math.Sqrt(p*(1-p)/n) {
			t.Errorf("share beyond %g deviations is %.6f, want %.6f", level, got, p)
		}
	}
}

func TestUniforms(t *testing.T) {
	s := NewStream(NoiseKey{Seed: 12})
	const n = 1 << 18
	sum, counts := 0.0, make([]int, 7)
	for range n {
		v := s.Float64()
		if v < 0 || v >= 1 {
			t.Fatalf("Float64 gave %g", v)
		}
		sum += v
		counts[s.Intn(len(counts))]++
	}
	if mean := sum / n; math.Abs(mean-0.5) > 5/math.Sqrt(12*n) {
		t.Errorf("mean of Float64 is %g", mean)
	}
	chi := 0.0
	for _, c := range counts {
		d := float64(c) - n/7.0
		chi += d * d / (n / 7.0)
	}
	if chi > 30 { // six degrees of freedom: 4e-5
		t.Errorf("Intn(7) gave %v: chi squared %.1f", counts, chi)
	}
	if v := s.Intn(1); v != 0 {
		t.Errorf("Intn(1) = %d", v)
	}
	if v := s.Intn(math.MaxInt); v < 0 {
		t.Errorf("Intn(MaxInt) = %d", v)
	}
}

// Our logarithm, sine and cosine against the standard library's.
func TestElementaryFunctions(t *testing.T) {
	s := NewStream(NoiseKey{Seed: 13})
	check := func(u float64) {
		t.Helper()
		if got, want := logUnit(u), math.Log(u); math.Abs(got-want) > 1e-15*math.Abs(want) {
			t.Errorf("logUnit(%g) = %.17g, want %.17g", u, got, want)
		}
		if u < 1 {
			sin, cos := sinCosTurn(u)
			wantSin, wantCos := math.Sincos(2 * math.Pi * u)
			if math.Abs(sin-wantSin) > 1e-15 || math.Abs(cos-wantCos) > 1e-15 {
				t.Errorf("sinCosTurn(%g) = %.17g, %.17g, want %.17g, %.17g", u, sin, cos, wantSin, wantCos)
			}
		}
	}
	for _, u := range []float64{0x1p-53, 0x1p-20, 0.125, 0.25, 0.375, 0.5, 0.625, math.Sqrt2 / 2, 0.75, 0.875, 1 - 0x1p-53, 1} {
		check(u)
	}
	for range 20000 {
		check(float64(s.Uint64()>>11+1) * 0x1p-53)
	}
}

func BenchmarkNoise(b *testing.B) {
	x := make([]float32, 12*64*64)
	b.SetBytes(int64(4 * len(x)))
	b.ReportAllocs()
	for b.Loop() {
		Noise(x, NoiseKey{Seed: 1})
	}
}
