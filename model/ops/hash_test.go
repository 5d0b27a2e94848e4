package ops

import (
	"fmt"
	"go/ast"
	"hash/fnv"
	"reflect"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"
)

// kernelInstances is one op of every kind, taken from the cases' graphs and
// their gradients.
func kernelInstances(t *testing.T) map[string]Op {
	t.Helper()
	found := map[string]Op{}
	for _, c := range opCases() {
		for _, n := range buildCase(t, c).g.AllNodes() {
			if op, ok := n.Op().(Op); ok {
				found[op.Name()] = op
			}
		}
	}
	for _, file := range packageFiles(t) { // a kernel is what has a method run
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "run" {
				continue
			}
			name := f.Recv.List[0].Type.(*ast.Ident).Name
			if _, ok := found[name]; !ok {
				t.Errorf("no case makes a %s: its hash is not checked", name)
			}
		}
	}
	return found
}

// eachField calls f for every plain value in v, nested and unexported ones
// included, after changing it; the change is undone after the call.
func eachField(v reflect.Value, path string, f func(path string)) {
	with := func(change reflect.Value) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		v.Set(change)
		f(path)
		v.Set(old)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Field(i)
			// Unexported fields are written through their address.
			field = reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem()
			eachField(field, path+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Slice:
		with(reflect.Append(v.Slice3(0, v.Len(), v.Len()), reflect.New(v.Type().Elem()).Elem()))
		for i := range v.Len() {
			eachField(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.Int:
		with(reflect.ValueOf(v.Int() + 1).Convert(v.Type()))
	case reflect.Bool:
		with(reflect.ValueOf(!v.Bool()).Convert(v.Type()))
	case reflect.Float32:
		with(reflect.ValueOf(v.Float() * (1 + 1e-6)).Convert(v.Type()))
	default:
		panic(fmt.Sprintf("field %s is a %v: kernels must be plain data", path, v.Kind()))
	}
}

// TestHashCoversEveryField changes every field of every kernel in turn: a field
// that the hash leaves out would make Gorgonia merge two ops that differ.
func TestHashCoversEveryField(t *testing.T) {
	for name, op := range kernelInstances(t) {
		t.Run(name, func(t *testing.T) {
			k := reflect.New(reflect.TypeOf(op.k)).Elem()
			k.Set(deepCopy(reflect.ValueOf(op.k)))
			with := func() uint32 { return Op{k: k.Interface().(kernel), diff: op.diff}.Hashcode() }
			plain := op.Hashcode()
			if with() != plain {
				t.Fatal("a copy has another hash")
			}
			eachField(k, name, func(path string) {
				if with() == plain {
					t.Errorf("changing %s does not change the hash", path)
				}
			})
			if with() != plain {
				t.Fatal("the test did not restore the kernel")
			}
			for i := range op.diff {
				diff := append([]bool(nil), op.diff...)
				diff[i] = !diff[i]
				if (Op{k: op.k, diff: diff}).Hashcode() == plain {
					t.Errorf("making operand %d differentiable or not does not change the hash", i)
				}
			}
		})
	}
}

// deepCopy copies the slices in v as well.
func deepCopy(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := out.Field(i)
			f = reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem()
			f.Set(deepCopy(f))
		}
	case reflect.Slice:
		out.Set(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v))
	}
	return out
}

// TestKindsHashApart holds that two kernels with the same fields but of
// different kinds are different ops.
func TestKindsHashApart(t *testing.T) {
	seen := map[uint32]string{}
	for name, op := range kernelInstances(t) {
		h := op.Hashcode()
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[h] = name
	}
	r := resizing{1, 1, 2, 2, 2, 2}
	a := Op{k: upsampleNearest{resizing: r}, diff: []bool{true}}
	b := Op{k: resizeBilinear{resizing: r}, diff: []bool{true}}
	if a.Hashcode() == b.Hashcode() {
		t.Error("nearest and bilinear resizing of one geometry have the same hash")
	}
}

// TestNodesMerge holds what Gorgonia merges: the same op on the same operands,
// and nothing that differs in a setting.
func TestNodesMerge(t *testing.T) {
	g := gorgonia.NewGraph()
	x, xs := leafNode(g, "x", 1, 1, 5, 5)
	w, ws := leafNode(g, "w", 1, 1, 3, 3)
	normals("x", xs)
	normals("w", ws)
	one := Conv2D(x, w, nil, Same(1, 1, 2))
	two := Conv2D(x, w, nil, Same(1, 2, 2))
	again := Conv2D(x, w, nil, Same(1, 2, 2))
	if one == two {
		t.Error("convolutions of different dilation became one node")
	}
	if two != again {
		t.Error("the same convolution twice is two nodes")
	}
	// The same size, so that only the op tells the nodes apart.
	padded := Conv2D(x, w, nil, ConvSpec{PadTop: 2, PadLeft: 1, PadRight: 1})
	shifted := Conv2D(x, w, nil, ConvSpec{PadBottom: 2, PadLeft: 1, PadRight: 1})
	if padded == shifted {
		t.Error("convolutions padded on different sides became one node")
	}
	m, err := NewMachine(g, nil, one, two, padded, shifted)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(m.Output(padded), m.Output(shifted)) {
		t.Error("differently padded convolutions gave the same numbers")
	}
	if s := two.Op().(Op).String(); !strings.HasPrefix(s, "conv2D{") || !strings.Contains(s, "DilH:2") {
		t.Errorf("op prints as %q, want its kind and settings", s)
	}
}

// TestCollidingOperands finds two inputs of one hash, which Gorgonia keeps apart
// by their names, and holds that ops on them are kept apart as well.
func TestCollidingOperands(t *testing.T) {
	g := gorgonia.NewGraph()
	probe, _ := leafNode(g, "probe", 2)
	seen := map[uint32]string{}
	var names []string
	for i := 0; names == nil; i++ { // about 2^16 tries find a pair
		name := fmt.Sprint("x", i)
		h := fnv.New32a()
		fmt.Fprintf(h, "%v%v%s\x00", probe.Type(), probe.Shape(), name) // gorgonia.Node.WriteHash
		if other, ok := seen[h.Sum32()]; ok {
			names = []string{other, name}
		}
		seen[h.Sum32()] = name
	}
	var ys []*gorgonia.Node
	for k, name := range names {
		x, data := leafNode(g, name, 2)
		data[0], data[1] = float32(k), float32(k+1)
		y := Add(x, x)
		if again := Add(x, x); again != y {
			t.Error("the same op on the same operand is two nodes")
		}
		ys = append(ys, y, SiLU(y))
	}
	if a, b := g.ByName(names[0])[0], g.ByName(names[1])[0]; a.Hashcode() != b.Hashcode() {
		t.Fatalf("%v do not collide: Gorgonia hashes nodes differently now", names)
	}
	m, err := NewMachine(g, nil, ys...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	if a, b := m.Output(ys[0]), m.Output(ys[2]); !reflect.DeepEqual(a, []float32{0, 2}) || !reflect.DeepEqual(b, []float32{2, 4}) {
		t.Errorf("sums %v and %v, want [0 2] and [2 4]", a, b)
	}
	if reflect.DeepEqual(m.Output(ys[1]), m.Output(ys[3])) {
		t.Error("ops on the sums were merged")
	}
}
