package weights

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// mapped writes b to a file and maps it.
func mappedFile(t *testing.T, b []byte) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.safetensors")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Map(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, path
}

// inView reports whether x lies in the mapping.
func inView(f *File, x []float32) bool {
	if len(f.mapped) == 0 || len(x) == 0 {
		return false
	}
	at := uintptr(unsafe.Pointer(&x[0])) - uintptr(unsafe.Pointer(&f.mapped[0]))
	return at < uintptr(len(f.mapped))
}

func ramp(n int, scale float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = scale * float32(i-n/2)
	}
	return x
}

// A mapped file gives what an opened one gives: aligned F32 as views, the rest
// converted.
func TestMapGivesWhatOpenGives(t *testing.T) {
	var b bytes.Buffer
	tensors := []Tensor{
		{Name: "f32", DType: "F32", Shape: []int{3, 5}, Data: ramp(15, 0.25)},
		{Name: "scalar", DType: "F32", Shape: []int{}, Data: []float32{7}},
		{Name: "empty", DType: "F32", Shape: []int{0, 2}, Data: []float32{}},
		{Name: "half", DType: "F16", Shape: []int{4}, Data: ramp(4, 1)},
		{Name: "brain", DType: "BF16", Shape: []int{4}, Data: ramp(4, 1)},
		{Name: "double", DType: "F64", Shape: []int{2}, Float64: []float64{1, 1e-300}},
	}
	if err := Encode(&b, tensors, map[string]string{"k": "v"}, ""); err != nil {
		t.Fatal(err)
	}
	f, path := mappedFile(t, b.Bytes())
	plain, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if plain.Mapped() || f.Digest() != plain.Digest() || !reflect.DeepEqual(f.Metadata, plain.Metadata) {
		t.Errorf("the mapped file differs: %v %s", plain.Mapped(), f.Digest())
	}
	if runtime.GOOS == "linux" && !f.Mapped() {
		t.Error("the file is not mapped")
	}
	for _, name := range plain.Names() {
		want, err := plain.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(want.Data) == 0 {
			want.Data, got.Data = nil, nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		if view := f.Mapped() && want.DType == "F32" && len(want.Data) > 0; inView(f, got.Data) != view {
			t.Errorf("%s: a view: %v, want %v", name, !view, view)
		}
		into := make([]float32, len(want.Data))
		if err := f.ReadInto(name, into); err != nil || !reflect.DeepEqual(append([]float32(nil), into...), want.Data) {
			t.Errorf("%s: read into a slice: %v, %v", name, into, err)
		}
	}
	if _, err := f.Expect("f32", 3, 4); err == nil || !strings.Contains(err.Error(), "want [3 4]") {
		t.Errorf("another shape: %v", err)
	}
	if _, err := f.Expect("f33", 3, 5); err == nil || !strings.Contains(err.Error(), `"f32"`) {
		t.Errorf("a missing name: %v", err)
	}
}

// An F32 tensor that does not lie at a multiple of four bytes is copied.
func TestMapMisaligned(t *testing.T) {
	for shift := range 8 {
		pad := strings.Repeat(" ", shift)
		header := `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1],"data_offsets":[8,9]},"c":{"dtype":"F32","shape":[1],"data_offsets":[9,13]}}` + pad
		b := build(header, 0)
		b = little.AppendUint32(b, math.Float32bits(1.5))
		b = little.AppendUint32(b, math.Float32bits(-2))
		b = append(b, 9)
		b = little.AppendUint32(b, math.Float32bits(0.125))
		f, _ := mappedFile(t, b)
		a, err := f.Expect("a", 2)
		if err != nil || a.Data[0] != 1.5 || a.Data[1] != -2 {
			t.Errorf("shift %d: a is %v, %v", shift, a, err)
		}
		c, err := f.Expect("c", 1)
		if err != nil || c.Data[0] != 0.125 {
			t.Errorf("shift %d: c is %v, %v", shift, c, err)
		}
		if f.Mapped() && (inView(f, a.Data) != ((8+len(header))%4 == 0) || inView(f, c.Data) != ((17+len(header))%4 == 0)) {
			t.Errorf("shift %d: views %v %v", shift, inView(f, a.Data), inView(f, c.Data))
		}
		if _, err := f.Float32("b"); err == nil || !strings.Contains(err.Error(), "has type U8, want F32") {
			t.Errorf("a tensor of another type: %v", err)
		}
	}
}

// What Open refuses, Map refuses with the same words.
func TestMapRefuses(t *testing.T) {
	const good = `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	dir := t.TempDir()
	for i, b := range [][]byte{nil, build(good, 7), build(good, 9), build(good, 0)[:20], build(`{"a":1}`, 0)} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		_, want := Open(path)
		_, err := Map(path)
		var e *Error
		if want == nil || !errors.As(err, &e) || err.Error() != want.Error() {
			t.Errorf("file %d: got %v, want %v", i, err, want)
		}
	}
	if _, err := Map(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Map(dir); err == nil {
		t.Error("a folder is mapped")
	}
}

// A value that is not finite is found in a view as it is in a copy.
func TestMapScreensValues(t *testing.T) {
	x := ramp(600_000, 1) // more than one block
	x[555_555], x[555_557] = float32(math.NaN()), float32(math.Inf(1))
	var b bytes.Buffer
	if err := Encode(&b, []Tensor{{Name: "w", Shape: []int{600, 1000}, Data: x}}, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	f, _ := mappedFile(t, b.Bytes())
	_, err := f.Expect("w", 600, 1000)
	if err == nil || !strings.Contains(err.Error(), "holds NaN at index [555 555] (2 of its 600000 values") {
		t.Errorf("got %v", err)
	}
}

// A file that is cut while it is mapped is told by Intact, and so does reading
// it through.
func TestMapTruncatedLater(t *testing.T) {
	var b bytes.Buffer
	if err := Encode(&b, []Tensor{{Name: "w", Shape: []int{100_000}, Data: ramp(100_000, 1)}}, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	f, path := mappedFile(t, b.Bytes())
	if err := f.Intact(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	if err := f.Intact(); err == nil || !strings.Contains(err.Error(), "to 5000 bytes after it was opened") {
		t.Errorf("Intact: %v", err)
	}
	if _, err := f.Expect("w", 100_000); err == nil || !strings.Contains(err.Error(), "cannot read bytes") {
		t.Errorf("Expect: %v", err)
	}
}

// Released memory reads the same again; slices from elsewhere are left alone.
func TestReleaseAndReadAgain(t *testing.T) {
	const n = 300_000
	var tensors []Tensor
	for i := range 4 {
		tensors = append(tensors, Tensor{Name: fmt.Sprint("w", i), Shape: []int{n}, Data: ramp(n, float32(i+1))})
	}
	var b bytes.Buffer
	if err := Encode(&b, tensors, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	f, _ := mappedFile(t, b.Bytes())
	check := func(when string) {
		t.Helper()
		for i := range tensors {
			x, err := f.Expect(tensors[i].Name, n)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(x.Data, tensors[i].Data) {
				t.Errorf("%s: %s differs", when, x.Name)
			}
		}
	}
	check("at first")
	full := resident(t)
	for _, w := range tensors {
		x, err := f.Expect(w.Name, n)
		if err != nil {
			t.Fatal(err)
		}
		f.Release(x.Data)
		f.Release(x.Data[100:200]) // no whole page
		f.Release(x.Data[5:5])
	}
	if after := resident(t); full > 0 && full-after < 4*4*n*9/10 {
		t.Errorf("releasing %d bytes left %d of %d resident", 4*4*n, after, full)
	}
	check("after release")
	own := ramp(n, 3)
	f.Release(own)
	if !reflect.DeepEqual(own, ramp(n, 3)) {
		t.Error("a slice that is no view changed")
	}
	plain, err := Read(b.Bytes(), "plain")
	if err != nil {
		t.Fatal(err)
	}
	plain.Release(own)
	if err := plain.Intact(); err != nil {
		t.Error(err)
	}
}

// resident is the memory of files mapped by this process that is resident, in
// bytes; 0 where the system does not tell.
func resident(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "RssFile: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	return 0
}

// The views end with Close.
func TestMapClosed(t *testing.T) {
	var b bytes.Buffer
	if err := Encode(&b, []Tensor{{Name: "w", Shape: []int{3}, Data: ramp(3, 1)}}, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	f, path := mappedFile(t, b.Bytes())
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f.Mapped() {
		t.Error("still mapped")
	}
	if _, err := f.Expect("w", 3); err == nil {
		t.Error("a closed file is read")
	}
	for budget, mapped := range map[int64]bool{0: true, 1 << 20: false} {
		f, err := OpenWithin(path, budget)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS == "linux" && f.Mapped() != mapped {
			t.Errorf("budget %d: mapped %v", budget, f.Mapped())
		}
		f.Close()
	}
}

// Stream writes what Read reads, tensors at multiples of 64 bytes.
func TestStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.safetensors")
	specs := []Tensor{{Name: "b", Shape: []int{4}}, {Name: "w", Shape: []int{300, 400}}, {Name: "a", Shape: []int{16}}}
	var asked []string
	value := func(name string, i int) float32 { return float32(len(asked)*1000 + i%777) }
	err := Stream(path, specs, nil, func(name string, dst []float32) error {
		asked = append(asked, name)
		for i := range dst {
			dst[i] = value(name, i)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(asked) != "[w a b]" {
		t.Errorf("filled in order %v", asked)
	}
	f, err := Map(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	order := asked
	asked = nil
	for _, name := range order {
		asked = append(asked, name)
		var shape []int
		for _, s := range specs {
			if s.Name == name {
				shape = s.Shape
			}
		}
		x, err := f.Expect(name, shape...)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range x.Data {
			if v != value(name, i) {
				t.Fatalf("%s[%d] is %v", name, i, v)
			}
		}
		if f.Mapped() && (uintptr(unsafe.Pointer(&x.Data[0]))-uintptr(unsafe.Pointer(&f.mapped[0])))%64 != 0 {
			t.Errorf("%s does not lie at a multiple of 64 bytes", name)
		}
	}
	failed := errors.New("no more")
	other := filepath.Join(filepath.Dir(path), "other")
	if err := Stream(other, specs, nil, func(string, []float32) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	for _, bad := range [][]Tensor{{{Name: "", Shape: []int{1}}}, {{Name: "a", Shape: []int{-1}}}, {{Name: "a", Shape: []int{1}}, {Name: "a", Shape: []int{1}}}, {{Name: "a", Shape: []int{1 << 30, 1 << 30}}}} {
		if err := Stream(other, bad, nil, func(string, []float32) error { return nil }); err == nil {
			t.Errorf("%v is written", bad)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*other*")); len(left) > 0 {
		t.Errorf("a failed write leaves %v", left)
	}
}
