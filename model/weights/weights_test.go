package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// build makes a file of the given header and n data bytes 0, 1, 2 ...
func build(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range n {
		b = append(b, byte(i))
	}
	return b
}

func TestHeaderFaults(t *testing.T) {
	const good = `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}}`
	if _, err := Read(build(good, 12), "good"); err != nil {
		t.Fatalf("the file that the cases below spoil: %v", err)
	}
	huge := binary.LittleEndian.AppendUint64(nil, 100_000_001)
	tests := []struct {
		name string
		file []byte
		want []string // parts of the message
	}{
		{"empty", nil, []string{"x.safetensors: is 0 bytes long"}},
		{"no length", []byte{1, 2, 3}, []string{"is 3 bytes long", "copy or make it again"}},
		{"absurd length", append(huge, '{'), []string{"header of 100000001 bytes, above the format's limit of 100000000"}},
		{"negative length", bytes.Repeat([]byte{255}, 16), []string{"header of 18446744073709551615 bytes"}},
		{"cut inside the header", build(good, 0)[:50], []string{"truncated inside its header", fmt.Sprintf("%d bytes are missing", len(good)+8-50)}},
		{"cut inside a tensor", build(good, 5), []string{`tensor "a" is cut off`, "7 bytes are missing", "5 of 12 bytes"}},
		{"cut inside the last tensor", build(good, 11), []string{`tensor "b" is cut off`, "1 bytes are missing"}},
		{"extra bytes", build(good, 13), []string{"has 1 bytes after its last tensor"}},
		{"not UTF-8", build("{\"\xff\":1}", 0), []string{"not UTF-8"}},
		{"no header", build("", 0), []string{"does not start with '{'"}},
		{"a list", build("[1]", 0), []string{"does not start with '{'"}},
		{"leading space", build(" {}", 0), []string{"does not start with '{'"}},
		{"unfinished", build(`{"a":`, 0), []string{"malformed header", "ends too early"}},
		{"after the end", build(`{}x`, 0), []string{"found x after the end"}},
		{"name twice", build(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2),
			[]string{`name "a" is given twice`}},
		{"name twice, escaped", build(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2),
			[]string{`name "a" is given twice`}},
		{"field twice", build(`{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}`, 1), []string{`"dtype" is given twice`}},
		{"not an object", build(`{"a":3}`, 0), []string{`tensor "a" has a malformed description: found 3`}},
		{"unknown field", build(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"stride":[1]}}`, 1), []string{`unknown field "stride"`}},
		{"missing field", build(`{"a":{"dtype":"U8","shape":[1]}}`, 1), []string{`tensor "a" lacks one of`}},
		{"unknown type", build(`{"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}`, 4), []string{`unknown dtype "f32"`}},
		{"type not a string", build(`{"a":{"dtype":32,"shape":[1],"data_offsets":[0,4]}}`, 4), []string{`dtype 32, which is not a string`}},
		{"negative side", build(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, 1), []string{`shape [-1]`}},
		{"fractional side", build(`{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}`, 1), []string{`shape [1.5]`}},
		{"side as text", build(`{"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}`, 1), []string{`shape ["1"]`}},
		{"shape null", build(`{"a":{"dtype":"U8","shape":null,"data_offsets":[0,1]}}`, 1), []string{`shape null`}},
		{"overflowing shape", build(`{"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]}}`, 8), []string{"more elements than can be counted"}},
		{"overflowing bytes", build(`{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}`, 0), []string{"more elements than can be counted"}},
		{"side beyond int", build(`{"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}}`, 1), []string{"shape [9223372036854775808]"}},
		{"one offset", build(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}`, 1), []string{"data_offsets [0]"}},
		{"backward offsets", build(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), []string{"data_offsets [1,0]"}},
		{"shape and bytes differ", build(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}}`, 20),
			[]string{`shape [2 3] of F32, 24 bytes`, "[0, 20] of 20 bytes"}},
		{"overlap", build(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}`, 7),
			[]string{`tensor "b" starts at byte 3, inside tensor "a" which ends at 4`}},
		{"same bytes", build(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4),
			[]string{`tensor "b" starts at byte 0, inside tensor "a"`}},
		{"hole", build(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}}`, 10),
			[]string{`tensor "b" starts at byte 6 and leaves a hole of 2 bytes`}},
		{"hole at the start", build(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}`, 5), []string{"leaves a hole of 1 bytes"}},
		{"metadata not text", build(`{"__metadata__":{"step":3}}`, 0), []string{`__metadata__ "step" that is not a string`}},
		{"metadata null", build(`{"__metadata__":{"step":null}}`, 0), []string{`__metadata__ "step" that is not a string`}},
		{"metadata not an object", build(`{"__metadata__":"x"}`, 0), []string{`malformed __metadata__`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read(tt.file, "x.safetensors")
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			for _, want := range append(tt.want, "x.safetensors: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %q", err, want)
				}
			}
			if e.Mend == "" {
				t.Errorf("%q does not say how to mend it", err)
			}
		})
	}
}

func TestOddButValidHeaders(t *testing.T) {
	tests := []struct {
		name   string
		header string
		bytes  int
		names  string
	}{
		{"nothing", `{}`, 0, "[]"},
		{"padding", "{}      ", 0, "[]"},
		{"scalar", `{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}`, 8, "[a]"},
		{"empty tensors share an offset", `{"b":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[9223372036854775807,0,9],"data_offsets":[0,0]},"c":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, "[a b c]"},
		{"out of order", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2, "[a b]"},
		{"a type that is only carried", `{"a":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}`, 3, "[a]"},
		{"metadata", `{"__metadata__":{"format":"pt"}}`, 0, "[]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Read(build(tt.header, tt.bytes), "x")
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(f.Names()); got != tt.names {
				t.Errorf("names %s, want %s", got, tt.names)
			}
			for _, name := range f.Names() {
				if toFloat64(f.DType(name)) == nil {
					continue
				}
				if _, _, err := f.Float64(name); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Bytes of every type, as struct.pack of Python writes them.
func TestElementTypes(t *testing.T) {
	file := func(dtype string, n int, data ...byte) *File {
		t.Helper()
		b := build(fmt.Sprintf(`{"x":{"dtype":%q,"shape":[%d],"data_offsets":[0,%d]}}`, dtype, n, len(data)), 0)
		f, err := Read(append(b, data...), dtype)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	floats := []struct {
		f    *File
		want []float64
	}{
		{file("F32", 2, 0, 0, 0xc0, 0x3f, 0, 0, 0x20, 0xc0), []float64{1.5, -2.5}},
		{file("F64", 1, 0x9a, 0x99, 0x99, 0x99, 0x99, 0x99, 0xb9, 0x3f), []float64{0.1}},
		{file("F16", 4, 0, 0x3c, 0xff, 0x7b, 1, 0, 0, 0xc2), []float64{1, 65504, 0x1p-24, -3}},
		{file("BF16", 2, 0x80, 0x3f, 0x49, 0xc0), []float64{1, -3.140625}},
	}
	for _, tt := range floats {
		got, shape, err := tt.f.Float64("x")
		if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) || shape[0] != len(got) {
			t.Errorf("%s: Float64 gives %v, %v, %v, want %v", tt.f.DType("x"), got, shape, err, tt.want)
		}
		x, err := tt.f.Float32("x")
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range x.Data {
			if v != float32(tt.want[i]) || x.DType != tt.f.DType("x") {
				t.Errorf("%s: Float32 gives %v of type %s, want %v", tt.f.DType("x"), x.Data, x.DType, tt.want)
				break
			}
		}
		if _, _, err := tt.f.Int64("x"); err == nil || !strings.Contains(err.Error(), "want I64, I32, I16, I8, U8 or BOOL") {
			t.Errorf("%s: Int64 gives error %v", tt.f.DType("x"), err)
		}
	}
	ints := []struct {
		f    *File
		want string
	}{
		{file("I64", 2, 1, 0, 0, 0, 0, 0, 0, 0x80, 255, 255, 255, 255, 255, 255, 255, 255), "[-9223372036854775807 -1]"},
		{file("I32", 2, 1, 2, 0, 0, 255, 255, 255, 255), "[513 -1]"},
		{file("I16", 2, 0, 0x80, 2, 1), "[-32768 258]"},
		{file("I8", 2, 0x80, 0x7f), "[-128 127]"},
		{file("U8", 2, 0x80, 0xff), "[128 255]"},
		{file("BOOL", 3, 0, 1, 7), "[0 1 1]"},
	}
	for _, tt := range ints {
		got, _, err := tt.f.Int64("x")
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%s: Int64 gives %v, %v, want %s", tt.f.DType("x"), got, err, tt.want)
		}
		if _, err := tt.f.Float32("x"); err == nil || !strings.Contains(err.Error(), `tensor "x" has type `+tt.f.DType("x")+", want F32") {
			t.Errorf("%s: Float32 gives error %v", tt.f.DType("x"), err)
		}
		if _, _, err := tt.f.Float64("x"); err == nil {
			t.Errorf("%s: Float64 gives no error", tt.f.DType("x"))
		}
	}
}

// Every binary16 and bfloat16 number survives widening and rounding back, and
// rounding goes to the nearest, ties to even.
func TestHalfRounding(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		if v := fromHalf(h); v != v {
			if back := toHalf(v); back&0x7c00 != 0x7c00 || back&0x3ff == 0 || back>>15 != h>>15 {
				t.Fatalf("NaN %#x comes back as %#x", h, back)
			}
		} else if back := toHalf(v); back != h {
			t.Fatalf("half %#x is %g and comes back as %#x", h, v, back)
		}
		v := math.Float32frombits(uint32(i) << 16)
		if back := toBrain(v); back != h && v == v || v != v && back&0x7f == 0 {
			t.Fatalf("bfloat16 %#x is %g and comes back as %#x", h, v, back)
		}
	}
	// Between any two neighbours: the middle goes to the even one, anything
	// off the middle to the nearer.
	check := func(name string, to func(float32) uint16, h uint16, from func(uint16) float32) {
		lo, hi := from(h), from(h+1)
		mid := float32((float64(lo) + float64(hi)) / 2)
		even := h + h&1
		for _, c := range []struct {
			v    float32
			want uint16
		}{{mid, even}, {math.Nextafter32(mid, lo), h}, {math.Nextafter32(mid, hi), h + 1}, {-mid, even | 0x8000}} {
			if got := to(c.v); got != c.want {
				t.Fatalf("%s: %g (between %g and %g) rounds to %#x, want %#x", name, c.v, lo, hi, got, c.want)
			}
		}
	}
	for h := uint16(0); h < 0x7bff; h++ {
		check("F16", toHalf, h, fromHalf)
	}
	for h := uint16(0x80); h < 0x7f7f; h++ { // below, neighbours' middles are not float32 normals
		check("BF16", toBrain, h, func(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) })
	}
	if toHalf(65519.996) != 0x7bff || toHalf(65520) != 0x7c00 || toHalf(float32(math.Inf(-1))) != 0xfc00 {
		t.Error("the edge of F16's range rounds wrongly")
	}
}

func sampleTensors() []Tensor {
	return []Tensor{
		{Name: "mid.weight", Shape: []int{2, 3}, Data: []float32{1, -2, 3.5, 0, 1e-7, 12}},
		{Name: "a.bias", Shape: []int{3}, Data: []float32{float32(math.NaN()), float32(math.Inf(1)), -0.25}},
		{Name: "scalar", Shape: []int{}, Data: []float32{7}},
		{Name: "none", Shape: []int{0, 4}, Data: nil},
		{Name: "näme \"quoted\" <&>\n", Shape: []int{1}, Data: []float32{1}},
	}
}

func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	metadata := map[string]string{"z": "last", "a": "first <&>", "seed": "18446744073709551615"}
	for _, dtype := range []string{"F32", "F16", "BF16"} {
		t.Run(dtype, func(t *testing.T) {
			path := filepath.Join(dir, dtype+".safetensors")
			tensors := sampleTensors()
			if err := Write(path, tensors, metadata, dtype); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if fmt.Sprint(f.Metadata) != fmt.Sprint(metadata) {
				t.Errorf("metadata %v, want %v", f.Metadata, metadata)
			}
			if f.data%8 != 0 {
				t.Errorf("tensors start at byte %d, not a multiple of 8", f.data)
			}
			if len(f.Names()) != len(tensors) {
				t.Errorf("names %q", f.Names())
			}
			for _, want := range tensors {
				got, err := f.Float32(want.Name)
				if err != nil {
					t.Fatal(err)
				}
				if got.DType != dtype || fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) {
					t.Errorf("%q has type %s, shape %v, want %s, %v", want.Name, got.DType, got.Shape, dtype, want.Shape)
				}
				for i, v := range want.Data {
					bits := math.Float32bits(v)
					switch dtype {
					case "F16":
						bits = math.Float32bits(fromHalf(toHalf(v)))
					case "BF16":
						bits = uint32(toBrain(v)) << 16
					}
					if math.Float32bits(got.Data[i]) != bits {
						t.Errorf("%q[%d] is %g, want %g", want.Name, i, got.Data[i], math.Float32frombits(bits))
					}
				}
			}
			// The same tensors in another order are the same bytes.
			for i, j := 0, len(tensors)-1; i < j; i, j = i+1, j-1 {
				tensors[i], tensors[j] = tensors[j], tensors[i]
			}
			var b bytes.Buffer
			if err := Encode(&b, tensors, metadata, dtype); err != nil {
				t.Fatal(err)
			}
			again, err := Read(b.Bytes(), "again")
			if err != nil {
				t.Fatal(err)
			}
			if f.Digest() == "" || again.Digest() != f.Digest() {
				t.Errorf("digests %q and %q, want equal", again.Digest(), f.Digest())
			}
		})
	}
}

// float64 values come back bit for bit, alone or beside narrower tensors.
func TestWriteFloat64(t *testing.T) {
	want := []float64{0.1, math.Copysign(0, -1), math.MaxFloat64, 5e-324, math.Inf(-1), 1 + 0x1p-52}
	r := Tensor{Name: "r", DType: "F64", Shape: []int{2, 3}, Float64: want}
	for _, dtype := range []string{"F64", ""} {
		tensors := []Tensor{r}
		if dtype == "" {
			tensors = []Tensor{{Name: "a", DType: "F16", Shape: []int{1}, Data: []float32{3}}, r}
		}
		var b bytes.Buffer
		if err := Encode(&b, tensors, nil, dtype); err != nil {
			t.Fatal(err)
		}
		f, err := Read(b.Bytes(), "wide")
		if err != nil {
			t.Fatal(err)
		}
		got, shape, err := f.Float64("r")
		if err != nil || fmt.Sprint(shape) != "[2 3]" || f.DType("r") != "F64" || f.byName["r"].begin != 0 {
			t.Fatalf("shape %v, type %s at %d, %v", shape, f.DType("r"), f.byName["r"].begin, err)
		}
		for i, v := range want {
			if math.Float64bits(got[i]) != math.Float64bits(v) {
				t.Errorf("[%d] is %g, want %g", i, got[i], v)
			}
		}
	}
}

// With no type given, every tensor keeps its own, and wide ones come first so
// that each starts at a multiple of its element size.
func TestWriteKeepsTypes(t *testing.T) {
	var b bytes.Buffer
	err := Encode(&b, []Tensor{
		{Name: "a", DType: "BF16", Shape: []int{1}, Data: []float32{1}},
		{Name: "b", DType: "F32", Shape: []int{1}, Data: []float32{2}},
		{Name: "c", DType: "F16", Shape: []int{1}, Data: []float32{3}},
	}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Read(b.Bytes(), "mixed")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "b", "c"} {
		x, err := f.Expect(name, 1)
		if err != nil || x.Data[0] != float32(i+1) || x.DType != []string{"BF16", "F32", "F16"}[i] {
			t.Errorf("%s is %+v, %v", name, x, err)
		}
	}
	if f.byName["b"].begin != 0 {
		t.Errorf("the F32 tensor starts at %d, want 0", f.byName["b"].begin)
	}
}

func TestDigestIsSHA256(t *testing.T) {
	f, err := Read(build("{}", 0), "x")
	if err != nil {
		t.Fatal(err)
	}
	// printf '\x02\0\0\0\0\0\0\0{}' | sha256sum
	if got, want := f.Digest(), "411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd"; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestWriteFaults(t *testing.T) {
	tests := []struct {
		name  string
		x     []Tensor
		meta  map[string]string
		dtype string
		want  string
	}{
		{"twice", []Tensor{{Name: "a", Shape: []int{0}}, {Name: "a", Shape: []int{0}}}, nil, "F32", `tensor "a" is given twice`},
		{"shape", []Tensor{{Name: "a", Shape: []int{2, 2}, Data: make([]float32, 3)}}, nil, "F32", "shape [2 2] and 3 values"},
		{"negative side", []Tensor{{Name: "a", Shape: []int{-1, -1}, Data: make([]float32, 1)}}, nil, "F32", "shape [-1 -1]"},
		{"no name", []Tensor{{Shape: []int{0}}}, nil, "F32", "name that the format does not allow"},
		{"metadata's name", []Tensor{{Name: "__metadata__", Shape: []int{0}}}, nil, "F32", "does not allow"},
		{"type", []Tensor{{Name: "a", Shape: []int{0}}}, nil, "I64", `stored as "I64"; choose F32, F16 or BF16`},
		{"float32 as F64", []Tensor{{Name: "a", Shape: []int{1}, Data: []float32{1}}}, nil, "F64", "as F64 and has float32 values; choose F32"},
		{"float64 as F32", []Tensor{{Name: "a", Shape: []int{1}, Float64: []float64{1}}}, nil, "F32", "as F32 and has float64 values; choose F64"},
		{"shape of float64", []Tensor{{Name: "a", Shape: []int{3}, Float64: []float64{1}}}, nil, "F64", "shape [3] and 1 values"},
		{"no type", []Tensor{{Name: "a", Shape: []int{0}}}, nil, "", `stored as ""`},
		{"too large", []Tensor{{Name: "a", Shape: []int{2, 2}, Data: []float32{0, 0, 0, 65520}}}, nil, "F16", "65520 at index [1 1], too large for F16"},
		{"too large for bfloat16", []Tensor{{Name: "a", Shape: []int{1}, Data: []float32{math.MaxFloat32}}}, nil, "BF16", "too large for BF16"},
		{"metadata bytes", nil, map[string]string{"k": "\xff"}, "F32", `metadata "k" is not UTF-8`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "w.safetensors")
			if err := os.WriteFile(path, []byte("the old file"), 0o644); err != nil {
				t.Fatal(err)
			}
			err := Write(path, tt.x, tt.meta, tt.dtype)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error with %q and the path", err, tt.want)
			}
			onlyFile(t, dir, "w.safetensors", "the old file")
		})
	}
}

// onlyFile checks that the folder holds one file with that text (any, if "").
func onlyFile(t *testing.T, dir, name, text string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("the folder holds %v, want only %s", entries, name)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, name)); text != "" && string(b) != text {
		t.Errorf("%s holds %q, want %q", name, b, text)
	}
}

// Replacing a file leaves no temporary behind, and a reader that has the old
// file open keeps reading the old tensors.
func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w.safetensors")
	one := []Tensor{{Name: "a", Shape: []int{1}, Data: []float32{1}}}
	if err := Write(path, one, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	old, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	one[0].Data[0] = 2
	if err := Write(path, one, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, dir, "w.safetensors", "")
	now, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	for want, f := range map[float32]*File{1: old, 2: now} {
		if x, err := f.Expect("a", 1); err != nil || x.Data[0] != want {
			t.Errorf("got %v, %v, want %g", x, err, want)
		}
	}
	if err := Write(filepath.Join(dir, "missing", "w.safetensors"), one, nil, "F32"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("writing into a missing folder gives %v", err)
	}
}

func TestOpenFaults(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("a folder gives %v", err)
	}
	// Cut after it was opened.
	path := filepath.Join(dir, "w.safetensors")
	if err := Write(path, []Tensor{{Name: "a", Shape: []int{1000}, Data: make([]float32, 1000)}}, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 500); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Float32("a"); err == nil || !strings.Contains(err.Error(), `tensor "a" cannot read bytes`) {
		t.Errorf("a file cut while open gives %v", err)
	}
	if d := f.Digest(); d != "" {
		t.Errorf("a file cut while open has digest %q", d)
	}
}

// Tensors larger than one block of conversion.
func TestManyBlocks(t *testing.T) {
	const n = 1<<18 + 1<<17 + 3
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i % 251)
	}
	for _, dtype := range []string{"F32", "F16", "BF16"} {
		var b bytes.Buffer
		if err := Encode(&b, []Tensor{{Name: "x", Shape: []int{n}, Data: x}}, nil, dtype); err != nil {
			t.Fatal(err)
		}
		f, err := Read(b.Bytes(), dtype)
		if err != nil {
			t.Fatal(err)
		}
		wide, _, err := f.Float64("x")
		if err != nil {
			t.Fatal(err)
		}
		into := make([]float32, n)
		if err := f.ReadInto("x", into); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if into[i] != x[i] || wide[i] != float64(x[i]) {
				t.Fatalf("%s: element %d is %g and %g, want %g", dtype, i, into[i], wide[i], x[i])
			}
		}
		if err := f.ReadInto("x", into[1:]); err == nil || !strings.Contains(err.Error(), "are wanted") {
			t.Errorf("reading into a slice of the wrong length gives %v", err)
		}
	}
}

func TestExpect(t *testing.T) {
	var b bytes.Buffer
	err := Encode(&b, []Tensor{
		{Name: "mid_block.resnets.0.conv1.weight", Shape: []int{2, 3}, Data: make([]float32, 6)},
		{Name: "mid_block.resnets.0.conv2.weight", Shape: []int{2, 3}, Data: []float32{0, 0, 0, 0, float32(math.NaN()), float32(math.Inf(1))}},
		{Name: "unet.conv_in.bias", Shape: []int{1}, Data: []float32{1}},
		{Name: "conv_out.bias", Shape: []int{1}, Data: []float32{1}},
	}, nil, "F32")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Read(b.Bytes(), "unet.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if x, err := f.Expect("mid_block.resnets.0.conv1.weight", 2, 3); err != nil || len(x.Data) != 6 {
		t.Errorf("a good tensor gives %v, %v", x, err)
	}
	tests := []struct {
		name  string
		shape []int
		want  string
	}{
		{"mid_block.resnets.0.conv1.weight", []int{3, 2}, `unet.safetensors: tensor "mid_block.resnets.0.conv1.weight" has shape [2 3], want [3 2]`},
		{"mid_block.resnets.0.conv1.weight", []int{6}, "has shape [2 3], want [6]"},
		{"mid_block.resnets.0.conv1.weight", nil, "has shape [2 3], want []"},
		{"mid_block.resnets.0.conv2.weight", []int{2, 3}, "holds NaN at index [1 1] (2 of its 6 values are not finite)"},
		{"mid_block.resnets.0.conv3.weight", []int{2, 3}, `is not in the file; nearest of the 4 tensors it has: "mid_block.resnets.0.conv1.weight", "mid_block.resnets.0.conv2.weight"`},
		{"conv_in.bias", []int{1}, `nearest of the 4 tensors it has: "unet.conv_in.bias", "conv_out.bias"`},
	}
	for _, tt := range tests {
		if _, err := f.Expect(tt.name, tt.shape...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Expect(%q, %v) gives %v, want an error with %q", tt.name, tt.shape, err, tt.want)
		}
	}
	empty, err := Read(build("{}", 0), "empty")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := empty.Float32("a"); err == nil || !strings.Contains(err.Error(), "the file has no tensors") {
		t.Errorf("an empty file gives %v", err)
	}
}

func TestCheckFinite(t *testing.T) {
	good := &Tensor{Name: "w", Shape: []int{2, 2}, Data: []float32{1, math.MaxFloat32, -math.SmallestNonzeroFloat32, 0}}
	if err := CheckFinite(good); err != nil {
		t.Error(err)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		x := &Tensor{Name: "w", Shape: []int{2, 2}, Data: []float32{1, 2, 3, float32(bad)}}
		err := CheckFinite(x)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf(`tensor "w" holds %v at index [1 1]`, bad)) {
			t.Errorf("%v gives %v", bad, err)
		}
	}
}

// Whatever the bytes, Read gives an error of this package or a file whose
// every tensor can be read and written again.
func FuzzRead(f *testing.F) {
	f.Add(build(`{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"__metadata__":{"k":"v"}}`, 4))
	f.Add(build(`{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"b":{"dtype":"I64","shape":[],"data_offsets":[4,12]}}`, 12))
	f.Add(build(`{"a":{"dtype":"U8","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`, 0))
	f.Add(build(`{"a":{"dtype":"U8","shape":[1e2],"data_offsets":[0,100]}}`, 100))
	f.Add(build("{} ", 0))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Read(b, "fuzz")
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.File != "fuzz" || err.Error() == "" {
				t.Fatalf("error %v does not name the file", err)
			}
			return
		}
		var floats []Tensor
		total := int64(0)
		for _, name := range file.Names() {
			shape, ok := file.Shape(name)
			n, fits := product(shape)
			if !ok || !fits {
				t.Fatalf("%q has shape %v", name, shape)
			}
			total += n * int64(widths[file.DType(name)])
			x, err := file.Float32(name)
			if (err == nil) != (toFloat32(file.DType(name)) != nil) {
				t.Fatalf("%q of type %s: %v", name, file.DType(name), err)
			}
			if _, _, err := file.Int64(name); (err == nil) != (toInt64(file.DType(name)) != nil) {
				t.Fatalf("%q of type %s: %v", name, file.DType(name), err)
			}
			if x != nil && name != "" {
				floats = append(floats, *x)
			}
		}
		if total != int64(len(b))-file.data {
			t.Fatalf("tensors of %d bytes in a file of %d with %d of header", total, len(b), file.data)
		}
		var out bytes.Buffer
		if err := Encode(&out, floats, file.Metadata, "F32"); err != nil {
			t.Fatal(err)
		}
		back, err := Read(out.Bytes(), "back")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range floats {
			got, err := back.Float32(want.Name)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want.Data {
				if math.Float32bits(got.Data[i]) != math.Float32bits(want.Data[i]) {
					t.Fatalf("%q[%d] changed", want.Name, i)
				}
			}
		}
	})
}

func BenchmarkFloat32(b *testing.B) {
	for _, dtype := range []string{"F32", "F16", "BF16"} {
		b.Run(dtype, func(b *testing.B) {
			const n = 320 * 320 * 9
			var buf bytes.Buffer
			if err := Encode(&buf, []Tensor{{Name: "w", Shape: []int{n}, Data: make([]float32, n)}}, nil, dtype); err != nil {
				b.Fatal(err)
			}
			f, err := Read(buf.Bytes(), dtype)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]float32, n)
			b.SetBytes(4 * n)
			b.ReportAllocs()
			for b.Loop() {
				if err := f.ReadInto("w", dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
