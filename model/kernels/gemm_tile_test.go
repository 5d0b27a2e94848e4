package kernels

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// wideEngine has the shape of the widest tile in plain Go, so that every machine tries the code around it.
var wideEngine = engine{name: "wide", kind: portable, mr: 12, vec: 16, kc: 256}

// randomTile draws a tile with values of value, every slice exactly as long as the tile says; alloc provides the slices.
func randomTile(r *rand.Rand, vec int, value func() float32, alloc func(values []float32) []float32) tile {
	take := func(n int) []float32 {
		s := make([]float32, n)
		for i := range s {
			s[i] = value()
		}
		return alloc(s)
	}
	t := tile{m: r.IntN(40), add: r.IntN(2) == 0, one: r.IntN(4) == 0}
	k := r.IntN(24)
	if r.IntN(8) == 0 {
		k = maxKC - r.IntN(3)
	}
	t.ars, t.acs, t.ldc = k+r.IntN(3), 1, vec+r.IntN(5)
	if r.IntN(2) == 0 {
		t.ars, t.acs = 1+r.IntN(2), 2*t.m+1+r.IntN(2)
	}
	var far int32
	t.off = make([]int32, k)
	for p := range t.off {
		t.off[p] = int32(r.IntN(300))
		far = max(far, t.off[p])
	}
	t.off = asInt32(alloc(asFloats(t.off)))
	if t.m > 0 {
		if k > 0 {
			t.a = take((t.m-1)*t.ars + (k-1)*t.acs + 1)
		}
		t.c0, t.c1 = take((t.m-1)*t.ldc+vec), take((t.m-1)*t.ldc+vec)
		if r.IntN(2) == 0 {
			t.bias = take(t.m)
		}
	}
	t.b0, t.b1 = take(int(far)+vec), take(int(far)+vec)
	if t.one {
		t.b1, t.c1 = nil, nil
	}
	return t
}

// asFloats copies integers into floats of the same bits.
func asFloats(ints []int32) []float32 {
	s := make([]float32, len(ints))
	copy(asInt32(s), ints)
	return s
}

func tileEngines() []*engine { return append(engines(), &wideEngine) }

// The micro-kernels equal the portable one where sums are exact, and round no worse than the sums' length allows elsewhere.
func TestTile(t *testing.T) {
	for _, e := range tileEngines() {
		t.Run(e.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(21, 9))
			for i := range 400 {
				value := func() float32 { return float32(r.IntN(17) - 8) }
				if i%2 == 1 {
					value = func() float32 { return r.Float32()*2 - 1 }
				}
				got := randomTile(r, e.vec, value, func(s []float32) []float32 { return s })
				want := got
				want.c0, want.c1 = append([]float32{}, got.c0...), append([]float32{}, got.c1...)
				tilePortable(&want, e.vec)
				got.run(e)
				for g, pair := range [][2][]float32{{got.c0, want.c0}, {got.c1, want.c1}} {
					if g == 1 && want.one {
						break
					}
					if i%2 == 0 {
						sameBits(t, "tile of integers", pair[0], pair[1])
						continue
					}
					limit := 6e-8 * float64(len(got.off)+3) * float64(len(got.off)+3)
					for j, v := range pair[0] {
						if !(math.Abs(float64(v-pair[1][j])) <= limit) {
							t.Fatalf("tile %d, group %d: value %d is %g, portable %g", i, g, j, v, pair[1][j])
						}
					}
				}
			}
		})
	}
}

// The code around the micro-kernel serves tiles of every shape.
func TestWideTile(t *testing.T) {
	usePath(t, &wideEngine)
	p := NewPool(2)
	defer p.Close()
	r := rand.New(rand.NewPCG(22, 9))
	for i := range uint64(18) {
		if i%3 == 0 {
			checkConv(t, p, randomConv(r), i)
		}
		checkLinear(t, p, Linear{T: r.IntN(40), K: 1 + r.IntN(40), O: 1 + r.IntN(70)}, i)
		m, n, k := 1+r.IntN(40), 1+r.IntN(70), r.IntN(40)
		if i%9 == 0 {
			k += 300
		}
		checkGemm(t, p, m, n, k, i%2 == 0, i%3 == 0, n+int(i%5), n+int(i%4), i)
	}
	// What depends on the batch and on the number of threads: how the work is cut, never a sum.
	c := square(4, 20, 12, 17, 3, 1, 1)
	x, w, bias := uniform(r, c.N*c.Cin*c.H*c.W), uniform(r, c.Cout*c.Cin*c.KH*c.KW), uniform(r, c.Cout)
	out := c.Cout * c.OutH() * c.OutW()
	whole := make([]float32, c.N*out)
	ConvForward(p, c, whole, x, w, bias, make([]float32, c.ScratchForward(2)))
	single := c
	single.N = 1
	for n := range c.N {
		y := make([]float32, out)
		ConvForward(nil, single, y, x[n*c.Cin*c.H*c.W:][:c.Cin*c.H*c.W], w, bias, make([]float32, single.ScratchForward(1)))
		sameBits(t, "one image of a batch", y, whole[n*out:(n+1)*out])
	}
}

// The self-check passes every engine of this machine, and notices each way in which a micro-kernel can go wrong.
func TestCheckTile(t *testing.T) {
	for _, e := range tileEngines() {
		if err := checkTile(func(t *tile) { t.run(e) }, e.mr, e.vec); err != nil {
			t.Errorf("%s: %v", e.name, err)
		}
	}
	faults := map[string]func(t *tile, right func()){
		"does nothing":    func(t *tile, right func()) {},
		"no bias":         func(t *tile, right func()) { t.bias = nil; right() },
		"no addition":     func(t *tile, right func()) { t.add = false; right() },
		"always adds":     func(t *tile, right func()) { t.add = true; right() },
		"last row":        func(t *tile, right func()) { t.m--; right() },
		"last term":       func(t *tile, right func()) { t.off = t.off[:len(t.off)-1]; right() },
		"terms past four": func(t *tile, right func()) { t.off = t.off[:min(4, len(t.off))]; right() },
		"groups of B":     func(t *tile, right func()) { t.b0, t.b1 = t.b1, t.b0; right() },
		"groups of C":     func(t *tile, right func()) { t.c0, t.c1 = t.c1, t.c0; right() },
		"row stride":      func(t *tile, right func()) { t.ars++; right() },
		"sum stride":      func(t *tile, right func()) { t.acs = 1; right() },
		"C's stride":      func(t *tile, right func()) { t.ldc--; right() },
		"one lane": func(t *tile, right func()) {
			right()
			if t.m > 12 {
				t.c1[12*t.ldc+15]++
			}
		},
		"a value too many": func(t *tile, right func()) { right(); t.c0[(t.m-1)*t.ldc+16+1]++ },
		"NaN":              func(t *tile, right func()) { right(); t.c0[0] = float32(math.NaN()) },
	}
	for name, fault := range faults {
		err := checkTile(func(t *tile) {
			broken := *t
			fault(&broken, func() { tilePortable(&broken, 16) })
		}, 12, 16)
		if err == nil {
			t.Errorf("a micro-kernel with the fault %q passes", name)
		}
	}
}

// An engine that fails its check gives way to the next one, and PathError can say so.
func TestChooseFallsBack(t *testing.T) {
	plain := &engine{name: "plain"}
	good := &engine{name: "good", check: func() error { return nil }}
	bad := &engine{name: "bad", check: func() error { return errors.New("seven in place of eight") }}
	for _, c := range []struct {
		have  []*engine
		asked string
		want  *engine
		words []string // of the error; none for no error
	}{
		{[]*engine{plain, good}, "", good, nil},
		{[]*engine{plain, good}, "plain", plain, nil},
		{[]*engine{plain, good, bad}, "", good, []string{"good is used", "bad", "seven in place of eight", "SCALECRAFTER_KERNELS=good"}},
		{[]*engine{plain, good, bad}, "bad", good, []string{"good is used", "seven in place of eight"}},
		{[]*engine{plain, good, bad}, "good", good, nil},
		{[]*engine{plain, bad}, "", plain, []string{"plain is used", "bad"}},
		{[]*engine{plain, bad, bad}, "", plain, []string{"plain is used", "bad"}},
		{[]*engine{plain, bad}, "other", plain, []string{"plain is used", "other", "seven in place of eight"}},
		{[]*engine{plain, good}, "other", good, []string{"good is used", `"other"`, "plain, good"}},
	} {
		got, err := chooseFrom(c.have, c.asked)
		if got != c.want {
			t.Errorf("asked for %q: got %s, want %s", c.asked, got.name, c.want.name)
		}
		if (err != nil) != (len(c.words) > 0) {
			t.Errorf("asked for %q: error %v", c.asked, err)
		}
		for _, word := range c.words {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("asked for %q: the error %q does not say %q", c.asked, err, word)
			}
		}
	}
}

func BenchmarkCheckTile(b *testing.B) {
	best := engines()[len(engines())-1]
	for range b.N {
		if err := checkTile(func(t *tile) { t.run(best) }, 12, best.vec); err != nil {
			b.Fatal(err)
		}
	}
}
