package ops

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math"
	"reflect"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"
)

// packageFiles parses the package without its tests.
func packageFiles(t *testing.T) []*ast.File {
	t.Helper()
	notTest := func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }
	pkgs, err := parser.ParseDir(token.NewFileSet(), ".", notTest, 0)
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, f := range pkgs["ops"].Files {
		files = append(files, f)
	}
	if len(files) == 0 {
		t.Fatal("no files of package ops here")
	}
	return files
}

// TestCasesAreComplete fails when a constructor is added without a case, which
// would leave its gradient unchecked.
func TestCasesAreComplete(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range opCases() {
		covered[c.covers] = true
	}
	constructors := 0
	for _, file := range packageFiles(t) {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil || len(f.Type.Results.List) != 1 {
				continue
			}
			star, ok := f.Type.Results.List[0].Type.(*ast.StarExpr)
			if !ok {
				continue
			}
			if sel, ok := star.X.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Node" {
				continue
			}
			constructors++
			if !covered[f.Name.Name] {
				t.Errorf("constructor %s has no case in opCases", f.Name.Name)
			}
			delete(covered, f.Name.Name)
		}
	}
	for name := range covered {
		t.Errorf("opCases covers %s, which is no constructor", name)
	}
	if constructors == 0 {
		t.Error("found no constructor")
	}
}

// TestGradients holds gorgonia.Grad on our machine against central differences
// of the machine's own forward pass. The loss of the differences is summed in
// float64 from the forward pass's output, so that float32's rounding of the
// loss does not drown them.
func TestGradients(t *testing.T) {
	const step, tolerance = 1.0 / 128, 2e-3
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			b := buildCase(t, c)
			m := b.machine(t, nil)
			if err := m.RunAll(); err != nil {
				t.Fatal(err)
			}
			var grads [][]float32
			for _, g := range b.grads {
				grads = append(grads, append([]float32(nil), m.Output(g)...))
			}
			loss := func() float64 {
				if err := m.RunAll(); err != nil {
					t.Fatal(err)
				}
				out := m.Output(b.out)
				if b.target == nil {
					return float64(out[0])
				}
				sum := 0.0
				for i, v := range out {
					d := float64(v) - float64(b.target[i])
					sum += d * d
				}
				return sum / float64(len(out))
			}
			if got, want := float64(m.Output(b.loss)[0]), loss(); math.Abs(got-want) > 1e-5*math.Abs(want) {
				t.Errorf("loss %v, want %v", got, want)
			}
			for k, i := range b.wrt {
				x := b.data[i]
				if len(grads[k]) != len(x) {
					t.Fatalf("gradient of %s has %d values, want %d", c.inputs[i].name, len(grads[k]), len(x))
				}
				largest := 0.0
				for _, g := range grads[k] {
					largest = max(largest, math.Abs(float64(g)))
				}
				if largest == 0 {
					t.Errorf("gradient of %s is zero everywhere: the check says nothing", c.inputs[i].name)
				}
				for j := range x {
					old := x[j]
					x[j] = old + step
					hi, xhi := loss(), float64(x[j])
					x[j] = old - step
					lo, xlo := loss(), float64(x[j])
					x[j] = old
					want := (hi - lo) / (xhi - xlo)
					if d := math.Abs(float64(grads[k][j]) - want); !(d <= tolerance*max(largest, 0.01)) {
						t.Errorf("gradient of %s[%d] = %v, finite difference %v, differ by %.2g (largest %.2g)", c.inputs[i].name, j, grads[k][j], want, d, largest)
						break
					}
				}
			}
		})
	}
}

// TestStockMachine runs the same graphs on Gorgonia's own TapeMachine, the slow
// twin that plans no memory.
func TestStockMachine(t *testing.T) {
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			b := buildCase(t, c)
			ours := b.run(t, nil)

			b = buildCase(t, c)
			stored := make([]gorgonia.Value, len(b.outputs()))
			for i, o := range b.outputs() {
				gorgonia.Read(o, &stored[i])
			}
			vm := gorgonia.NewTapeMachine(b.g)
			defer vm.Close()
			if err := vm.RunAll(); err != nil {
				t.Fatal(err)
			}
			for i, o := range b.outputs() {
				stock, err := floats(stored[i])
				if err != nil {
					t.Fatalf("%v: %v", o, err)
				}
				if !reflect.DeepEqual(ours[i], stock) {
					t.Errorf("%v: machine %v, TapeMachine %v", o, ours[i], stock)
				}
			}
		})
	}
}

// TestValue holds the machine's Gorgonia values against its slices.
func TestValue(t *testing.T) {
	b := buildCase(t, opCases()[0])
	m := b.machine(t, nil)
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	v := m.Value(b.out)
	if got := v.Shape(); !same(got, b.out.Shape()) {
		t.Errorf("shape %v, want %v", got, b.out.Shape())
	}
	if got, err := floats(v); err != nil || !reflect.DeepEqual(got, m.Output(b.out)) {
		t.Errorf("Value has %v (%v), Output %v", got, err, m.Output(b.out))
	}
	kept := append([]float32(nil), m.Output(b.out)...)
	b.data[0][0] += 1
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	if got, _ := floats(v); !reflect.DeepEqual(got, kept) {
		t.Error("a value changed with the machine's next run: want a copy")
	}
	if s, ok := m.Value(b.loss).(*gorgonia.F32); !ok || float32(*s) != m.Output(b.loss)[0] {
		t.Errorf("loss is %v, want the scalar %v", m.Value(b.loss), m.Output(b.loss)[0])
	}
}
