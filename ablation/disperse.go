package ablation

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/mat"
)

// DispersionSpec is a setting of the dispersion solver: which enlarged kernel
// does on a stretched feature what the small kernel does on the feature itself
// (the structure equations), and on the feature itself as well (the pixel
// equations).
//
// Every unit impulse of an Input x Input feature and every output position give
// one linear equation of either sort; convolutions pad with zeros and keep the
// size, and stretching is bilinear with aligned corners, to Scale*(Input-1)+1 a
// side. R is their least-squares solution.
//
// Source: ScaleCrafter, section 3.3, equations 4 to 6; kernel_disperse.m,
// whose arguments smallSize, largeSize, inputSize, scale and eta these are.
type DispersionSpec struct {
	Small, Large int // odd sides of the kernels, Small < Large
	Input        int // side of the feature that the equations are set up on
	Scale        int // how far the feature is stretched
	// Eta multiplies the pixel equations, so their squared error counts
	// Eta*Eta, as upstream has it; the paper prints Eta.
	Eta float64
	// DC keeps the gain: it demands that every column of R sums to 1, so that
	// the response to a constant feature stays what it was.
	DC bool
	// Legacy takes only the equations of the central output position, the pixel
	// ones with the small kernel's sign turned. It gives the older files R20to1
	// and R2to1 and is of no other use: it asks for the negative of the small
	// kernel.
	Legacy bool
}

// Limits of a DispersionSpec: far beyond any use, and solved in seconds.
const (
	maxDispersionKernel = 31
	maxDispersionInput  = 64
	maxDispersionScale  = 32
	maxDispersionEta    = 1e6
)

// KnownDispersions are the settings that give upstream's published transforms,
// under upstream's names.
var KnownDispersions = []struct {
	Name string
	DispersionSpec
}{
	{"R20to1_new", DispersionSpec{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05}},
	{"R20to1", DispersionSpec{Small: 3, Large: 5, Input: 5, Scale: 2, Eta: 0.05, Legacy: true}},
	{"R2to1", DispersionSpec{Small: 3, Large: 5, Input: 5, Scale: 2, Eta: 0.5, Legacy: true}},
}

// DispersionFit is a solved transform and how well it does.
type DispersionFit struct {
	DispersionSpec
	Transform *Transform
	// Condition is the ratio of the largest to the smallest singular value of
	// the equations' matrix A; Rank is A's rank, always Large*Large.
	Condition float64
	Rank      int
	// Structure and Pixel are what the two sorts of equations leave.
	Structure, Pixel Residual
	// Loss is the minimised sum: of the structure equations' squared errors and
	// Eta*Eta times the pixel equations', over all taps of the small kernel.
	Loss float64
}

// Residual is the error that a transform leaves in one sort of equations.
type Residual struct {
	// Equations counts those that are not zero on both sides.
	Equations int
	// RMS is over these equations and all taps of the small kernel; without the
	// factor Eta.
	RMS float64
}

// Name is a short unambiguous name: "3to5-n3-x2-eta0.05-dc".
func (s DispersionSpec) Name() string {
	name := fmt.Sprintf("%dto%d-n%d-x%d-eta%s", s.Small, s.Large, s.Input, s.Scale, strconv.FormatFloat(s.Eta, 'g', -1, 64))
	if s.DC {
		name += "-dc"
	}
	if s.Legacy {
		name += "-legacy"
	}
	return name
}

// Check returns an error for a setting that says nothing meaningful. Whether
// the equations determine every tap shows only when solving.
func (s DispersionSpec) Check() error {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("dispersion: "+format, args...)
	}
	switch {
	case s.Small < 3 || s.Small%2 == 0:
		return fault("the small kernel's side is %d: want an odd number of 3 or more, so that it has a centre and a reach", s.Small)
	case s.Large < 1 || s.Large%2 == 0:
		return fault("the large kernel's side is %d: want an odd number, so that it has a centre", s.Large)
	case s.Large <= s.Small:
		return fault("the large kernel's side is %d, not above the small one's %d: there is nothing to enlarge", s.Large, s.Small)
	case s.Large > maxDispersionKernel:
		return fault("the large kernel's side is %d: want %d or less", s.Large, maxDispersionKernel)
	case s.Input < 1 || s.Input > maxDispersionInput:
		return fault("the input's side is %d: want 1 to %d (upstream: 3)", s.Input, maxDispersionInput)
	case s.Scale < 1 || s.Scale > maxDispersionScale:
		return fault("the scale is %d: want 1 to %d ((large-1)/(small-1) keeps the kernel's reach)", s.Scale, maxDispersionScale)
	case !(s.Eta >= 0 && s.Eta <= maxDispersionEta): // NaN too
		return fault("eta is %g: want a number from 0 to %g (upstream: 0.05)", s.Eta, float64(maxDispersionEta))
	case s.Legacy && s.Input%2 == 0:
		return fault("the input's side is %d: the legacy equations are those of the central position, so it must be odd", s.Input)
	}
	return nil
}

// Solve finds R. The error says which setting is impossible, or that the
// equations leave taps undetermined.
//
// Both sorts of equations are products of an equation over rows and one over
// columns (stretching and zero padding are separable), so A is [a (x) a;
// Eta p (x) p] in Kronecker products of small matrices. With the QR
// factorisations of a and p the least-squares problem shrinks to 2 Large*Large
// rows and keeps its solution, its singular values and its accuracy: A'A, whose
// condition is the square of A's, is never formed.
func (s DispersionSpec) Solve() (*DispersionFit, error) {
	sys, err := s.system()
	if err != nil {
		return nil, err
	}
	taps, columns := s.Large*s.Large, s.Small*s.Small
	left, right := mat.NewDense(2*taps, taps, nil), mat.NewDense(2*taps, columns, nil)
	fill := func(from int, g *equations, weight float64) {
		l, r := g.products()
		l.Scale(weight, l)
		r.Scale(weight, r)
		left.Slice(from, from+taps, 0, taps).(*mat.Dense).Copy(l)
		right.Slice(from, from+taps, 0, columns).(*mat.Dense).Copy(r)
	}
	fill(0, &sys.structure, 1)
	fill(taps, &sys.pixel, s.Eta)

	fit := &DispersionFit{DispersionSpec: s}
	if err := fit.judge(left, sys); err != nil {
		return nil, err
	}
	var qr mat.QR
	qr.Factorize(left)
	var solution mat.Dense
	if err := qr.SolveTo(&solution, false, right); err != nil {
		return nil, fmt.Errorf("dispersion: %s: the equations cannot be solved: %w", s.Name(), err)
	}
	if s.DC {
		if err := keepGain(&solution, &qr); err != nil {
			return nil, fmt.Errorf("dispersion: %s: the gain cannot be kept: %w", s.Name(), err)
		}
	}
	t := &Transform{Name: s.Name(), Small: s.Small, Large: s.Large, R: make([]float64, taps*columns)}
	for i := range taps {
		for j := range columns {
			t.R[i*columns+j] = solution.At(i, j)
		}
	}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("dispersion: %s: %w; choose a smaller eta", s.Name(), err)
	}
	fit.Transform = t
	var structure, pixel float64
	fit.Structure, structure = sys.structure.residual(&solution)
	fit.Pixel, pixel = sys.pixel.residual(&solution)
	fit.Loss = structure + s.Eta*s.Eta*pixel
	return fit, nil
}

// judge finds the condition and the rank of the shrunken A, which are A's, and
// refuses a rank that leaves taps undetermined.
func (fit *DispersionFit) judge(left *mat.Dense, sys *dispersionSystem) error {
	var svd mat.SVD
	if !svd.Factorize(left, mat.SVDNone) {
		return fmt.Errorf("dispersion: %s: the singular values do not converge; choose other settings", fit.Name())
	}
	values := svd.Values(nil)
	least := values[0] * float64(max(sys.structure.count+sys.pixel.count, len(values))) * 0x1p-52
	for _, v := range values {
		if v > least {
			fit.Rank++
		}
	}
	if fit.Rank < len(values) {
		used := "structure and pixel equations"
		if fit.Eta == 0 {
			used = "structure equations (eta is 0: the pixel ones do not count)"
		}
		return fmt.Errorf("dispersion: %s: the %s determine only %d of the enlarged kernel's %d taps; take a larger input than %d, a smaller kernel than %d or another scale than %d",
			fit.Name(), used, fit.Rank, len(values), fit.Input, fit.Large, fit.Scale)
	}
	fit.Condition = values[0] / values[len(values)-1]
	return nil
}

// keepGain changes the least-squares solution x of A = QR to the best one whose
// columns sum to 1. With c all ones, the stationary point of the Lagrangian is
// x + R^-1 y (1 - c'x) / y'y where R' y = c, so one triangular solve on either
// side does it, and again A'A is not formed.
func keepGain(x *mat.Dense, qr *mat.QR) error {
	taps, columns := x.Dims()
	var full mat.Dense
	qr.RTo(&full)
	r := mat.NewTriDense(taps, mat.Upper, nil)
	for i := range taps {
		for j := i; j < taps; j++ {
			r.SetTri(i, j, full.At(i, j))
		}
	}
	ones := mat.NewVecDense(taps, nil)
	for i := range taps {
		ones.SetVec(i, 1)
	}
	var y, w mat.VecDense
	if err := y.SolveVec(r.T(), ones); err != nil {
		return err
	}
	if err := w.SolveVec(r, &y); err != nil {
		return err
	}
	norm := mat.Dot(&y, &y)
	// The second pass takes off what rounding left of the first.
	for range 2 {
		for j := range columns {
			column := x.ColView(j).(*mat.VecDense)
			column.AddScaledVec(column, (1-mat.Sum(column))/norm, &w)
		}
	}
	return nil
}

// dispersionSystem is both sorts of equations.
type dispersionSystem struct {
	structure, pixel equations
}

// equations is one sort: A = left (x) left, B = sign right (x) right, over the
// rows that do not vanish.
type equations struct {
	left, right *mat.Dense // [rows, Large], [rows, Small]: one axis
	sign        float64
	count       int // rows of A and B that do not vanish

	// From the QR factorisation of [left right]: the triangle of left, right in
	// the same basis, and what of each column of right lies outside it.
	triangle *mat.Dense // [Large, Large]
	rotated  *mat.Dense // [Large, Small]
	outside  []float64  // [Small] squared norms
}

// system sets up the equations along one axis: row (q, o) is what output o
// receives from an impulse at q, by tap of the large kernel and by tap of the
// small one.
func (s DispersionSpec) system() (*dispersionSystem, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	stretched := s.Scale*(s.Input-1) + 1
	// up is what position i of the stretched axis takes from position q.
	up := func(i, q int) float64 {
		d := i - q*s.Scale
		if d < 0 {
			d = -d
		}
		if i < 0 || i >= stretched || d >= s.Scale {
			return 0
		}
		return float64(s.Scale-d) / float64(s.Scale)
	}
	same := func(i, q int) float64 {
		if i == q {
			return 1
		}
		return 0
	}
	sys := &dispersionSystem{}
	sys.structure = s.axis(stretched, up, up)
	sys.pixel = s.axis(s.Input, same, same)
	if s.Legacy {
		sys.pixel.sign = -1
	}
	return sys, nil
}

// axis is the equations of outputs 0 to size-1 along one axis. The large kernel
// at output o reads feature(o+t, q); the small one's result, over positions p of
// the input, reaches output o with weight spread(o, p).
func (s DispersionSpec) axis(size int, feature, spread func(i, q int) float64) equations {
	reachL, reachS := (s.Large-1)/2, (s.Small-1)/2
	var left, right []float64
	seesLeft, seesRight, seesBoth, rows := 0, 0, 0, 0
	for q := range s.Input {
		for o := range size {
			if s.Legacy && o != size/2 {
				continue
			}
			l, r := make([]float64, s.Large), make([]float64, s.Small)
			var hasLeft, hasRight bool
			for t := range l {
				l[t] = feature(o+t-reachL, q)
				hasLeft = hasLeft || l[t] != 0
			}
			for u := range r {
				// Tap u at position p reads the impulse where p + u - reachS = q.
				if p := q - u + reachS; p >= 0 && p < s.Input {
					r[u] = spread(o, p)
				}
				hasRight = hasRight || r[u] != 0
			}
			if !hasLeft && !hasRight {
				continue
			}
			if hasLeft {
				seesLeft++
			}
			if hasRight {
				seesRight++
			}
			if hasLeft && hasRight {
				seesBoth++
			}
			left, right, rows = append(left, l...), append(right, r...), rows+1
		}
	}
	g := equations{left: mat.NewDense(rows, s.Large, left), right: mat.NewDense(rows, s.Small, right), sign: 1}
	// A pair of rows vanishes unless both see the large or both see the small kernel.
	g.count = seesLeft*seesLeft + seesRight*seesRight - seesBoth*seesBoth
	g.factorise()
	return g
}

// factorise fills triangle, rotated and outside. Zero rows below change nothing
// and give the factorisation the height that it wants.
func (g *equations) factorise() {
	rows, large := g.left.Dims()
	_, small := g.right.Dims()
	both := mat.NewDense(max(rows, large+small), large+small, nil)
	both.Slice(0, rows, 0, large).(*mat.Dense).Copy(g.left)
	both.Slice(0, rows, large, large+small).(*mat.Dense).Copy(g.right)
	var qr mat.QR
	qr.Factorize(both)
	var r mat.Dense
	qr.RTo(&r)
	g.triangle = mat.DenseCopyOf(r.Slice(0, large, 0, large))
	g.rotated = mat.DenseCopyOf(r.Slice(0, large, large, large+small))
	g.outside = make([]float64, small)
	for u := range g.outside {
		for i := range small {
			v := r.At(large+i, large+u)
			g.outside[u] += v * v
		}
	}
}

// products are the shrunken A [Large^2, Large^2] and B [Large^2, Small^2].
func (g *equations) products() (left, right *mat.Dense) {
	left, right = new(mat.Dense), new(mat.Dense)
	left.Kronecker(g.triangle, g.triangle)
	right.Kronecker(g.rotated, g.rotated)
	right.Scale(g.sign, right)
	return left, right
}

// residual is what the transform x [Large^2, Small^2] leaves in these
// equations, and the sum of its squares.
func (g *equations) residual(x mat.Matrix) (Residual, float64) {
	left, right := g.products()
	var d mat.Dense
	d.Mul(left, x)
	d.Sub(&d, right)
	norm := mat.Norm(&d, 2)
	sum := norm * norm
	// The part of B that no transform reaches. A column's two factors are
	// orthogonal sums of inside and outside, so its squared norm less the inside
	// product's is this sum of positive terms.
	large, small := g.rotated.Dims()
	inside := make([]float64, small)
	for u := range inside {
		for i := range large {
			v := g.rotated.At(i, u)
			inside[u] += v * v
		}
	}
	for u := range small {
		for v := range small {
			sum += inside[u]*g.outside[v] + g.outside[u]*inside[v] + g.outside[u]*g.outside[v]
		}
	}
	if g.count == 0 {
		return Residual{}, 0
	}
	return Residual{Equations: g.count, RMS: math.Sqrt(sum / float64(g.count*small*small))}, sum
}

// Residuals is what a transform, wherever it comes from, leaves in the
// setting's structure and pixel equations.
func (s DispersionSpec) Residuals(t *Transform) (structure, pixel Residual, err error) {
	if err := t.Check(); err != nil {
		return structure, pixel, err
	}
	if t.Small != s.Small || t.Large != s.Large {
		return structure, pixel, fmt.Errorf("dispersion: %s is for kernels from %d to %d, and the transform %q takes %d to %d",
			s.Name(), s.Small, s.Large, t.Name, t.Small, t.Large)
	}
	sys, err := s.system()
	if err != nil {
		return structure, pixel, err
	}
	x := mat.NewDense(t.Large*t.Large, t.Small*t.Small, append([]float64(nil), t.R...))
	structure, _ = sys.structure.residual(x)
	pixel, _ = sys.pixel.residual(x)
	return structure, pixel, nil
}

// Check returns an error for a transform that cannot be applied: sides that
// are not odd and rising, another count of numbers, or one that is not finite.
func (t *Transform) Check() error {
	if t.Small < 3 || t.Small%2 == 0 || t.Large%2 == 0 || t.Large <= t.Small || t.Large > maxDispersionKernel {
		return fmt.Errorf("transform %q takes kernels from side %d to %d: want odd sides from 3, the second larger and at most %d", t.Name, t.Small, t.Large, maxDispersionKernel)
	}
	columns := t.Small * t.Small
	if want := t.Large * t.Large * columns; len(t.R) != want {
		return fmt.Errorf("transform %q has %d numbers, want %d x %d = %d", t.Name, len(t.R), t.Large*t.Large, columns, want)
	}
	for i, v := range t.R {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("transform %q holds %v at row %d, column %d", t.Name, v, i/columns, i%columns)
		}
	}
	return nil
}

// Tap is the image of one tap of the small kernel, row-major [Large, Large]: a
// column of R.
func (t *Transform) Tap(j int) []float64 {
	columns := t.Small * t.Small
	out := make([]float64, t.Large*t.Large)
	for i := range out {
		out[i] = t.R[i*columns+j]
	}
	return out
}

// Gain is, per tap of the small kernel, the sum of its image: how much of a
// constant feature's response it keeps. All 1 keeps the response.
func (t *Transform) Gain() []float64 {
	out := make([]float64, t.Small*t.Small)
	for j := range out {
		for _, v := range t.Tap(j) {
			out[j] += v
		}
	}
	return out
}

// Flat is the image of the small kernel of all ones, row-major [Large, Large]:
// the sum of all taps' images.
func (t *Transform) Flat() []float64 {
	out := make([]float64, t.Large*t.Large)
	for j := range t.Small * t.Small {
		for i, v := range t.Tap(j) {
			out[i] += v
		}
	}
	return out
}

// Distance is the largest difference between two transforms' numbers, infinite
// when they are for different sides.
func (t *Transform) Distance(other *Transform) float64 {
	if t.Small != other.Small || t.Large != other.Large || len(t.R) != len(other.R) {
		return math.Inf(1)
	}
	var worst float64
	for i, v := range t.R {
		worst = max(worst, math.Abs(v-other.R[i]))
	}
	return worst
}

// DistinctTaps lists the taps of the small kernel that are not another's mirror
// image or transpose, in row-major order: corner, edge and centre of a 3x3
// kernel. A transform that does not keep these symmetries (to 1e-9) has all its
// taps listed.
func (t *Transform) DistinctTaps() []int {
	all := make([]int, t.Small*t.Small)
	for j := range all {
		all[j] = j
	}
	turned := func(side, i, k int) int {
		y, x := i/side, i%side
		if k&1 != 0 {
			y = side - 1 - y
		}
		if k&2 != 0 {
			x = side - 1 - x
		}
		if k&4 != 0 {
			y, x = x, y
		}
		return y*side + x
	}
	columns := t.Small * t.Small
	var distinct []int
	for j := range all {
		first := j
		for k := 1; k < 8; k++ {
			image := turned(t.Small, j, k)
			first = min(first, image)
			for i := range t.Large * t.Large {
				if math.Abs(t.R[i*columns+j]-t.R[turned(t.Large, i, k)*columns+image]) > 1e-9 {
					return all
				}
			}
		}
		if first == j {
			distinct = append(distinct, j)
		}
	}
	return distinct
}

// TapName says where tap j of the small kernel is, as people say it: "centre",
// "top left"; in kernels above 3x3 by row and column from the centre, "(-2, 0)".
func (t *Transform) TapName(j int) string {
	half := (t.Small - 1) / 2
	y, x := j/t.Small-half, j%t.Small-half
	if y == 0 && x == 0 {
		return "centre"
	}
	if t.Small == 3 {
		return strings.TrimSpace([]string{"top", "", "bottom"}[y+1] + " " + []string{"left", "", "right"}[x+1])
	}
	return strings.ReplaceAll(fmt.Sprintf("(%+d, %+d)", y, x), "+0", "0")
}

// Apply enlarges kernels: src holds pairs of Small x Small taps, dst gets pairs
// of Large x Large taps, both row-major and one pair of channels after another
// ([Cout, Cin, k, k] has Cout*Cin pairs). Sums are taken in float64 in the order
// of R's columns, so equal kernels give equal bits whatever stands beside them.
//
// Source: ScaleCrafter, section 3.3; model.py, inflate_kernels.
func (t *Transform) Apply(dst, src []float32, pairs int) {
	small, large := t.Small*t.Small, t.Large*t.Large
	if len(t.R) != large*small || len(src) != pairs*small || len(dst) != pairs*large {
		panic(fmt.Sprintf("ablation: Transform.Apply: %q (%dx%d to %dx%d, %d numbers) on %d pairs of kernels: have %d values and room for %d, want %d and %d",
			t.Name, t.Small, t.Small, t.Large, t.Large, len(t.R), pairs, len(src), len(dst), pairs*small, pairs*large))
	}
	// Transposed, R's columns lie in rows, and the inner loop runs over
	// independent sums. The order within each sum stays that of R's columns.
	columns := make([]float64, 0, len(t.R))
	for j := range small {
		columns = append(columns, t.Tap(j)...)
	}
	sums := make([]float64, large)
	for p := range pairs {
		clear(sums)
		for j, v := range src[p*small:][:small] {
			v, column := float64(v), columns[j*large:][:len(sums)]
			for i := range sums {
				// The conversion keeps the compiler from fusing the product into the
				// sum on processors that could: equal bits everywhere.
				sums[i] += float64(column[i] * v)
			}
		}
		for i, v := range sums {
			dst[p*large+i] = float32(v)
		}
	}
}
