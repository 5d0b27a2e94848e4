package ablation

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// fullSystem is the equations written out, one row an (impulse, output) pair.
type fullSystem struct {
	structA, structB, pixelA, pixelB *mat.Dense
}

// naiveSystem builds the equations from their definition, in two dimensions and
// without the shortcuts of the solver: an impulse goes through a convolution
// with one tap, a bilinear stretch, and back. Rows are ordered impulse outer,
// output inner, and rows that are zero on both sides are dropped, as in
// kernel_disperse.m.
func naiveSystem(s DispersionSpec) fullSystem {
	// conv is the cross-correlation of a size x size feature with the kernel that
	// has a 1 at tap only; zero padding keeps the size.
	conv := func(x []float64, size, side, tap int) []float64 {
		out := make([]float64, size*size)
		for oy := range size {
			for ox := range size {
				y, x0 := oy+tap/side-side/2, ox+tap%side-side/2
				if y >= 0 && y < size && x0 >= 0 && x0 < size {
					out[oy*size+ox] = x[y*size+x0]
				}
			}
		}
		return out
	}
	m := s.Scale*(s.Input-1) + 1
	stretch := func(x []float64) []float64 {
		out := make([]float64, m*m)
		for i := range m {
			for j := range m {
				py, px := float64(i)/float64(s.Scale), float64(j)/float64(s.Scale)
				y0, x0 := int(py), int(px)
				y1, x1 := min(y0+1, s.Input-1), min(x0+1, s.Input-1)
				fy, fx := py-float64(y0), px-float64(x0)
				out[i*m+j] = (1-fy)*((1-fx)*x[y0*s.Input+x0]+fx*x[y0*s.Input+x1]) +
					fy*((1-fx)*x[y1*s.Input+x0]+fx*x[y1*s.Input+x1])
			}
		}
		return out
	}
	same := func(x []float64) []float64 { return x }
	build := func(size int, on func([]float64) []float64, sign float64) (*mat.Dense, *mat.Dense) {
		var left, right []float64
		rows := 0
		for q := range s.Input * s.Input {
			impulse := make([]float64, s.Input*s.Input)
			impulse[q] = 1
			large, small := make([][]float64, s.Large*s.Large), make([][]float64, s.Small*s.Small)
			for t := range large {
				large[t] = conv(on(impulse), size, s.Large, t)
			}
			for u := range small {
				small[u] = on(conv(impulse, s.Input, s.Small, u))
			}
			for o := range size * size {
				if s.Legacy && o != (size*size)/2 {
					continue
				}
				l, r, zero := make([]float64, len(large)), make([]float64, len(small)), true
				for t := range large {
					l[t] = large[t][o]
					zero = zero && l[t] == 0
				}
				for u := range small {
					r[u] = sign * small[u][o]
					zero = zero && r[u] == 0
				}
				if !zero {
					left, right, rows = append(left, l...), append(right, r...), rows+1
				}
			}
		}
		return mat.NewDense(rows, s.Large*s.Large, left), mat.NewDense(rows, s.Small*s.Small, right)
	}
	var f fullSystem
	f.structA, f.structB = build(m, stretch, 1)
	sign := 1.0
	if s.Legacy {
		sign = -1
	}
	f.pixelA, f.pixelB = build(s.Input, same, sign)
	return f
}

// weighted stacks the structure equations and eta times the pixel ones.
func (f fullSystem) weighted(eta float64) (a, b *mat.Dense) {
	var pixelA, pixelB mat.Dense
	pixelA.Scale(eta, f.pixelA)
	pixelB.Scale(eta, f.pixelB)
	a, b = new(mat.Dense), new(mat.Dense)
	a.Stack(f.structA, &pixelA)
	b.Stack(f.structB, &pixelB)
	return a, b
}

// stationary fails unless the squared error cannot fall from fit's R on: its
// gradient A'(AR - B) is zero, or, where the columns' sums are held, the same
// for all taps of a column.
func stationary(t *testing.T, f fullSystem, fit *DispersionFit, tolerance float64) {
	t.Helper()
	a, b := f.weighted(fit.Eta)
	tr := fit.Transform
	var d, g mat.Dense
	d.Mul(a, mat.NewDense(tr.Large*tr.Large, tr.Small*tr.Small, append([]float64(nil), tr.R...)))
	d.Sub(&d, b)
	g.Mul(a.T(), &d)
	rows, columns := g.Dims()
	for j := range columns {
		mean := 0.0
		if fit.DC {
			mean = mat.Sum(g.ColView(j)) / float64(rows)
		}
		for i := range rows {
			if v := g.At(i, j) - mean; !(math.Abs(v) <= tolerance) {
				t.Fatalf("%s: gradient %g at tap %d of column %d: not the least-squares solution", fit.Name(), v, i, j)
			}
		}
	}
}

// Rank, condition, residuals and loss are those of the equations written out,
// and R solves them.
func TestDispersionAgainstNaiveSystem(t *testing.T) {
	for _, s := range []DispersionSpec{
		{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05},
		{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05, DC: true},
		{Small: 3, Large: 5, Input: 4, Scale: 2, Eta: 0.3, DC: true},
		{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0},
		{Small: 3, Large: 5, Input: 4, Scale: 1, Eta: 0.5},
		{Small: 3, Large: 5, Input: 3, Scale: 5, Eta: 1},
		{Small: 3, Large: 7, Input: 3, Scale: 3, Eta: 0.05},
		{Small: 3, Large: 7, Input: 3, Scale: 3, Eta: 0.05, DC: true},
		{Small: 3, Large: 9, Input: 3, Scale: 4, Eta: 0.05},
		{Small: 5, Large: 7, Input: 4, Scale: 2, Eta: 0.1},
		{Small: 5, Large: 9, Input: 5, Scale: 2, Eta: 0.1, DC: true},
		{Small: 3, Large: 5, Input: 5, Scale: 2, Eta: 0.05, Legacy: true},
		{Small: 3, Large: 5, Input: 7, Scale: 2, Eta: 0.5, Legacy: true},
		{Small: 3, Large: 5, Input: 5, Scale: 2, Eta: 0.05, Legacy: true, DC: true},
	} {
		t.Run(s.Name(), func(t *testing.T) {
			fit, err := s.Solve()
			if err != nil {
				t.Fatal(err)
			}
			f := naiveSystem(s)
			stationary(t, f, fit, 1e-12)
			a, _ := f.weighted(s.Eta)
			var svd mat.SVD
			if !svd.Factorize(a, mat.SVDNone) {
				t.Fatal("no singular values")
			}
			values := svd.Values(nil)
			if want := values[0] / values[len(values)-1]; math.Abs(fit.Condition/want-1) > 1e-10 || fit.Rank != len(values) {
				t.Errorf("condition %g, rank %d, want %g and %d", fit.Condition, fit.Rank, want, len(values))
			}
			r := mat.NewDense(s.Large*s.Large, s.Small*s.Small, fit.Transform.R)
			var loss float64
			for _, part := range []struct {
				name   string
				a, b   *mat.Dense
				got    Residual
				weight float64
			}{{"structure", f.structA, f.structB, fit.Structure, 1}, {"pixel", f.pixelA, f.pixelB, fit.Pixel, s.Eta * s.Eta}} {
				var d mat.Dense
				d.Mul(part.a, r)
				d.Sub(&d, part.b)
				norm := mat.Norm(&d, 2)
				rows, columns := d.Dims()
				if want := norm / math.Sqrt(float64(rows*columns)); math.Abs(part.got.RMS-want) > 1e-13 || part.got.Equations != rows {
					t.Errorf("%s: residual %.15g over %d equations, want %.15g over %d", part.name, part.got.RMS, part.got.Equations, want, rows)
				}
				loss += part.weight * norm * norm
			}
			if math.Abs(fit.Loss-loss) > 1e-12*loss+1e-24 {
				t.Errorf("loss %.15g, want %.15g", fit.Loss, loss)
			}
			structure, pixel, err := s.Residuals(fit.Transform)
			if err != nil || structure != fit.Structure || pixel != fit.Pixel {
				t.Errorf("Residuals gives %v %v (%v), Solve %v %v", structure, pixel, err, fit.Structure, fit.Pixel)
			}
			gain := fit.Transform.Gain()
			if s.DC {
				for j, g := range gain {
					if math.Abs(g-1) > 1e-14 {
						t.Errorf("tap %d has gain %.17g, want 1", j, g)
					}
				}
			}
			if n := (s.Small + 1) / 2; len(fit.Transform.DistinctTaps()) != n*(n+1)/2 {
				t.Errorf("distinct taps %v, want the %d of the square's symmetries", fit.Transform.DistinctTaps(), n*(n+1)/2)
			}
		})
	}
}

// The numbers of the published setting that the literature quotes: gains of
// corner, edge and centre, and the dispersed kernel of all ones.
func TestDispersionOfPublishedSetting(t *testing.T) {
	fit, err := KnownDispersions[0].Solve()
	if err != nil {
		t.Fatal(err)
	}
	r := fit.Transform
	gain := r.Gain()
	for j, want := range map[int]float64{0: 1.126727, 1: 1.061347, 2: 1.126727, 4: 1, 8: 1.126727} {
		if math.Abs(gain[j]-want) > 5e-7 {
			t.Errorf("gain of %s is %.6f, want %.6f", r.TapName(j), gain[j], want)
		}
	}
	flat := r.Flat()
	sum := 0.0
	for _, v := range flat {
		sum += v
	}
	if math.Abs(flat[0]-0.591317) > 5e-7 || math.Abs(flat[12]-0.518635) > 5e-7 || math.Abs(sum-9.752296) > 5e-7 {
		t.Errorf("all ones give corner %.6f, centre %.6f, sum %.6f, want 0.591317, 0.518635, 9.752296", flat[0], flat[12], sum)
	}
	for i, v := range r.Tap(4) {
		want := 0.0
		if i == 12 {
			want = 1
		}
		if math.Abs(v-want) > 1e-14 {
			t.Errorf("the centre's image is %g at %d, want %g", v, i, want)
		}
	}
	var names []string
	for _, j := range r.DistinctTaps() {
		names = append(names, r.TapName(j))
	}
	if got := strings.Join(names, ", "); got != "top left, top, centre" {
		t.Errorf("distinct taps: %s", got)
	}
	r.R[7] += 1e-6 // no longer symmetric
	if got := len(r.DistinctTaps()); got != 9 {
		t.Errorf("%d taps are distinct of a lopsided transform, want all 9", got)
	}
}

func TestDispersionRefuses(t *testing.T) {
	good := DispersionSpec{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05}
	for _, tt := range []struct {
		name   string
		change func(*DispersionSpec)
		want   string
	}{
		{"even small", func(s *DispersionSpec) { s.Small = 2 }, "small kernel's side is 2: want an odd number"},
		{"small 1", func(s *DispersionSpec) { s.Small = 1 }, "small kernel's side is 1"},
		{"negative small", func(s *DispersionSpec) { s.Small = -3 }, "small kernel's side is -3"},
		{"even large", func(s *DispersionSpec) { s.Large = 6 }, "large kernel's side is 6: want an odd number"},
		{"equal", func(s *DispersionSpec) { s.Large = 3 }, "large kernel's side is 3, not above the small one's 3"},
		{"smaller", func(s *DispersionSpec) { s.Small, s.Large = 7, 5 }, "5, not above the small one's 7"},
		{"huge kernel", func(s *DispersionSpec) { s.Large = 101 }, "side is 101: want 31 or less"},
		{"input 0", func(s *DispersionSpec) { s.Input = 0 }, "input's side is 0: want 1 to 64"},
		{"huge input", func(s *DispersionSpec) { s.Input = 1 << 40 }, "want 1 to 64"},
		{"scale 0", func(s *DispersionSpec) { s.Scale = 0 }, "scale is 0: want 1 to 32"},
		{"huge scale", func(s *DispersionSpec) { s.Scale = 1 << 40 }, "want 1 to 32"},
		{"negative eta", func(s *DispersionSpec) { s.Eta = -1 }, "eta is -1: want a number from 0"},
		{"NaN eta", func(s *DispersionSpec) { s.Eta = math.NaN() }, "eta is NaN"},
		{"infinite eta", func(s *DispersionSpec) { s.Eta = math.Inf(1) }, "eta is +Inf"},
		{"huge eta", func(s *DispersionSpec) { s.Eta = 1e300 }, "eta is 1e+300"},
		{"even legacy input", func(s *DispersionSpec) { s.Legacy, s.Input = true, 4 }, "must be odd"},
		{"one position", func(s *DispersionSpec) { s.Input = 1 }, "determine only 1 of the enlarged kernel's 25 taps; take a larger input than 1"},
		{"no reach", func(s *DispersionSpec) { s.Large, s.Input, s.Scale, s.Eta = 9, 3, 1, 0 }, "(eta is 0: the pixel ones do not count)"},
		{"legacy, too few", func(s *DispersionSpec) { s.Legacy = true }, "of the enlarged kernel's 25 taps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := good
			tt.change(&s)
			fit, err := s.Solve()
			if err == nil {
				t.Fatalf("%s is solved: condition %g", s.Name(), fit.Condition)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to say %q", err, tt.want)
			}
		})
	}
}

// Every setting within the limits is solved or refused: no panic, no NaN.
func FuzzDispersion(f *testing.F) {
	f.Add(3, 5, 3, 2, 0.05, false, false)
	f.Add(3, 7, 2, 3, 1e6, true, false)
	f.Add(5, 7, 1, 1, 0.0, true, true)
	f.Add(3, 11, 7, 5, 1e-300, false, true)
	f.Fuzz(func(t *testing.T, small, large, input, scale int, eta float64, dc, legacy bool) {
		if large > 11 || input > 9 { // keep it quick
			return
		}
		s := DispersionSpec{small, large, input, scale, eta, dc, legacy}
		fit, err := s.Solve()
		if err != nil {
			return
		}
		if err := fit.Transform.Check(); err != nil {
			t.Error(err)
		}
		if !(fit.Loss >= 0) || !(fit.Condition >= 1) || fit.Rank != large*large {
			t.Errorf("%s: loss %g, condition %g, rank %d", s.Name(), fit.Loss, fit.Condition, fit.Rank)
		}
	})
}

func TestTransformCheck(t *testing.T) {
	for _, tt := range []struct {
		tr   Transform
		want string
	}{
		{Transform{"x", 3, 5, make([]float64, 225)}, ""},
		{Transform{"x", 3, 5, make([]float64, 224)}, `"x" has 224 numbers, want 25 x 9 = 225`},
		{Transform{"x", 5, 3, make([]float64, 225)}, "from side 5 to 3: want odd sides"},
		{Transform{"x", 2, 4, make([]float64, 64)}, "from side 2 to 4: want odd sides"},
		{Transform{"x", 0, 0, nil}, "want odd sides"},
		{Transform{"x", 3, 5, append(make([]float64, 224), math.Inf(-1))}, "-Inf at row 24, column 8"},
	} {
		err := tt.tr.Check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%dx%d: got %v, want %q", tt.tr.Small, tt.tr.Large, err, tt.want)
		}
	}
	a, b := &Transform{"a", 3, 5, make([]float64, 225)}, &Transform{"b", 3, 7, make([]float64, 441)}
	if d := a.Distance(b); !math.IsInf(d, 1) {
		t.Errorf("transforms of different sides are %g apart", d)
	}
	if _, _, err := (DispersionSpec{Small: 3, Large: 5, Input: 3, Scale: 2}).Residuals(b); err == nil || !strings.Contains(err.Error(), "3 to 7") {
		t.Errorf("residuals of another size: %v", err)
	}
}

// Apply is R times the kernel, pair by pair, whatever stands beside it.
func TestApply(t *testing.T) {
	fit, err := DispersionSpec{Small: 3, Large: 7, Input: 3, Scale: 3, Eta: 0.05}.Solve()
	if err != nil {
		t.Fatal(err)
	}
	r := fit.Transform
	const pairs = 6
	src := make([]float32, pairs*9)
	for i := range src {
		src[i] = float32(math.Sin(float64(i*i))) * 1e3
	}
	copy(src[5*9:], src[:9])
	dst := make([]float32, pairs*49)
	for i := range dst {
		dst[i] = float32(math.NaN()) // must all be written
	}
	r.Apply(dst, src, pairs)
	for p := range pairs {
		for i := range 49 {
			var want float64
			for j := range 9 {
				want += r.R[i*9+j] * float64(src[p*9+j])
			}
			if got := float64(dst[p*49+i]); !(math.Abs(got-want) <= 1e-7*math.Abs(want)+1e-9) {
				t.Fatalf("pair %d, tap %d: %g, want %g", p, i, got, want)
			}
		}
	}
	for i := range 49 {
		if dst[i] != dst[5*49+i] {
			t.Fatalf("equal kernels differ at tap %d: %v and %v", i, dst[i], dst[5*49+i])
		}
	}
	r.Apply(nil, nil, 0)
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "on 6 pairs") || !strings.Contains(text, "want 54 and 294") {
			t.Errorf("a slice of another length: %s", text)
		}
	}()
	r.Apply(dst[:48], src, pairs)
}

func BenchmarkSolveDispersion(b *testing.B) {
	for _, s := range []DispersionSpec{
		{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05},
		{Small: 3, Large: 7, Input: 3, Scale: 3, Eta: 0.05},
		{Small: 3, Large: 9, Input: 3, Scale: 4, Eta: 0.05},
		{Small: 3, Large: 5, Input: 64, Scale: 2, Eta: 0.05},
		{Small: 3, Large: 31, Input: 3, Scale: 15, Eta: 0.05},
	} {
		b.Run(s.Name(), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Solve(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One layer of SD 1.5: 1280 x 1280 kernels.
func BenchmarkApply(b *testing.B) {
	fit, err := KnownDispersions[0].Solve()
	if err != nil {
		b.Fatal(err)
	}
	const pairs = 1280 * 1280
	src, dst := make([]float32, pairs*9), make([]float32, pairs*25)
	for b.Loop() {
		fit.Transform.Apply(dst, src, pairs)
	}
}

func ExampleDispersionSpec_Solve() {
	fit, err := DispersionSpec{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05, DC: true}.Solve()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %d taps from %d equations, condition %.1f\n", fit.Transform.Name, fit.Rank,
		fit.Structure.Equations+fit.Pixel.Equations, fit.Condition)
	for _, j := range fit.Transform.DistinctTaps() {
		fmt.Printf("%s: gain %.3f\n", fit.Transform.TapName(j), fit.Transform.Gain()[j])
	}
	// Output:
	// 3to5-n3-x2-eta0.05-dc: 25 taps from 250 equations, condition 18.8
	// top left: gain 1.000
	// top: gain 1.000
	// centre: gain 1.000
}
