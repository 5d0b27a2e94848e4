package params

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"

	"scalecrafter/model/weights"
)

func normals(name string, n int) []float32 {
	seed := uint64(0)
	for _, b := range []byte(name) {
		seed = seed*1099511628211 + uint64(b)
	}
	r := rand.New(rand.NewPCG(seed, 7))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64())
	}
	return out
}

// leaf asks a source for a weight, as a graph builder does.
func leaf(s Source, name string, shape ...int) (n *gorgonia.Node, err error) {
	err = Catch(func() error {
		n = s.Leaf(gorgonia.NewGraph(), name, shape...)
		return nil
	})
	return n, err
}

// TestFreshDistribution holds what every kind of weight starts as.
func TestFreshDistribution(t *testing.T) {
	f := NewFresh(normals)
	for _, tt := range []struct {
		name      string
		shape     []int
		mean, dev float64 // of the values
		bound     float64 // largest magnitude; 0: none
	}{
		// Uniform in +-1/sqrt(fan in): deviation bound/sqrt(3).
		{"down.conv1.weight", []int{40, 16, 3, 3}, 0, 1 / math.Sqrt(3*144), 1.0 / 12},
		{"down.conv1.bias", []int{4000}, 0, 1 / math.Sqrt(3*144), 1.0 / 12},
		{"mid.to_q.weight", []int{50, 100}, 0, 1 / math.Sqrt(300), 0.1},
		{"text_model.embeddings.token_embedding.weight", []int{100, 50}, 0, 0.5, 0},
		{"mid.norm1.weight", []int{50}, 1, 0, 1},
		{"mid.norm1.bias", []int{50}, 0, 0, 0},
		{"conv_norm_out.weight", []int{50}, 1, 0, 1},
		{"text_model.final_layer_norm.bias", []int{50}, 0, 0, 0},
		{"conv_out.weight", []int{12, 8, 3, 3}, 0, 0, 0},
		{"conv_out.bias", []int{12}, 0, 0, 0},
	} {
		if _, err := leaf(f, tt.name, tt.shape...); err != nil {
			t.Fatal(err)
		}
		data := f.Tensor(tt.name).Data
		mean, dev, largest := 0.0, 0.0, 0.0
		for _, v := range data {
			mean += float64(v) / float64(len(data))
			largest = max(largest, math.Abs(float64(v)))
		}
		for _, v := range data {
			dev += math.Pow(float64(v)-mean, 2) / float64(len(data))
		}
		dev = math.Sqrt(dev)
		if math.Abs(mean-tt.mean) > 0.1*max(tt.dev, 1e-9) || math.Abs(dev-tt.dev) > 0.05*tt.dev+1e-9 {
			t.Errorf("%s: mean %.4f, deviation %.4f, want %.4f and %.4f", tt.name, mean, dev, tt.mean, tt.dev)
		}
		if tt.bound > 0 && largest > tt.bound*(1+1e-6) {
			t.Errorf("%s: magnitude %v, want at most %v", tt.name, largest, tt.bound)
		}
	}
	if got, want := f.Count(), 40*144+4000+5000+5000+50*4+12*72+12; got != want {
		t.Errorf("%d weights, want %d", got, want)
	}
}

// TestFreshDependsOnNames holds that a weight's start depends on its name and
// not on the order in which the builder asks.
func TestFreshDependsOnNames(t *testing.T) {
	a, b := NewFresh(normals), NewFresh(normals)
	for _, name := range []string{"one.weight", "two.weight"} {
		if _, err := leaf(a, name, 3, 4); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"two.weight", "one.weight"} {
		if _, err := leaf(b, name, 3, 4); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(a.Tensor("one.weight"), b.Tensor("one.weight")) {
		t.Error("a weight depends on the order")
	}
	if reflect.DeepEqual(a.Tensor("one.weight").Data, a.Tensor("two.weight").Data) {
		t.Error("two weights start alike")
	}
	if !reflect.DeepEqual(b.Names(), []string{"one.weight", "two.weight"}) {
		t.Errorf("names %v, want them sorted", b.Names())
	}
}

// TestShared holds that leaves of several graphs are the set's own memory.
func TestShared(t *testing.T) {
	s := New()
	data := []float32{1, 2, 3}
	s.Add("w", []int{3}, data)
	for range 2 {
		n, err := leaf(s, "w", 3)
		if err != nil {
			t.Fatal(err)
		}
		data[1] = 5
		if got := n.Value().Data().([]float32); &got[0] != &data[0] {
			t.Error("the leaf has a copy")
		}
		if n.Name() != "w" {
			t.Errorf("the leaf is called %q", n.Name())
		}
	}
}

// TestLeafErrors holds the errors of all three sources.
func TestLeafErrors(t *testing.T) {
	list := []weights.Tensor{
		{Name: "a.weight", Shape: []int{2, 2}, Data: []float32{1, 2, 3, 4}},
		{Name: "a.bias", Shape: []int{2}, Data: []float32{1, float32(math.Inf(1))}},
	}
	path := filepath.Join(t.TempDir(), "w.safetensors")
	if err := weights.Write(path, list, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	open, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	set := New()
	set.Add("a.weight", []int{2, 2}, list[0].Data)
	file := NewFile(open)
	if n, err := leaf(file, "a.weight", 2, 2); err != nil || !reflect.DeepEqual(n.Value().Data(), list[0].Data) {
		t.Fatalf("a.weight of the file: %v, %v", n, err)
	}
	for _, tt := range []struct {
		name   string
		source Source
		weight string
		shape  []int
		want   []string
	}{
		{"set, missing", set, "b.weight", []int{2, 2}, []string{`"b.weight"`, "[2 2]", "not exist"}},
		{"set, shape", set, "a.weight", []int{4}, []string{`"a.weight"`, "[2 2]", "[4]"}},
		{"set, order", set, "a.weight", []int{1, 4}, []string{`"a.weight"`, "[1 4]"}},
		{"file, missing", file, "a.wait", []int{2, 2}, []string{"w.safetensors", `"a.wait"`, "a.weight"}},
		{"file, shape", file, "a.bias", []int{3}, []string{"w.safetensors", `"a.bias"`, "[2]", "[3]"}},
		{"file, shape of one read before", file, "a.weight", []int{2, 3}, []string{`"a.weight"`, "[2 2]", "[2 3]"}},
		{"file, infinite", file, "a.bias", []int{2}, []string{"w.safetensors", `"a.bias"`, "Inf"}},
		{"fresh, bias first", NewFresh(normals), "a.bias", []int{2}, []string{`"a.bias"`, "before its weight"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := leaf(tt.source, tt.weight, tt.shape...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

// TestUntil holds that a file's weights are read until the context is done and
// not after, and that those read before stay.
func TestUntil(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	if err := weights.Write(path, []weights.Tensor{{Name: "a", Shape: []int{1}, Data: []float32{1}}, {Name: "b", Shape: []int{1}, Data: []float32{2}}}, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	open, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	ctx, cancel := context.WithCancel(context.Background())
	file := NewFile(open).Until(ctx)
	if _, err := leaf(file, "a", 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := leaf(file, "b", 1); err != context.Canceled {
		t.Errorf("a weight after the end: %v, want context.Canceled", err)
	}
	if _, err := leaf(file, "a", 1); err != nil {
		t.Errorf("a weight read before the end: %v", err)
	}
}

// TestCatch holds that Catch passes errors and other panics on.
func TestCatch(t *testing.T) {
	bad := errors.New("bad")
	if err := Catch(func() error { return bad }); err != bad {
		t.Errorf("error %v, want the function's", err)
	}
	defer func() {
		if r := recover(); r != "bug" {
			t.Errorf("recovered %v, want the panic itself", r)
		}
	}()
	_ = Catch(func() error { panic("bug") })
}

// TestInput holds that an input's slice is what the graph reads.
func TestInput(t *testing.T) {
	n, data := Input(gorgonia.NewGraph(), "x", 2, 3)
	data[4] = 7
	if got := n.Value().Data().([]float32); len(got) != 6 || got[4] != 7 {
		t.Errorf("the node reads %v", got)
	}
}
