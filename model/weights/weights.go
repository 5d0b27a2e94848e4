// Package weights reads and writes safetensors files, the form in which
// networks keep their parameters and goldens keep their vectors. It knows
// bytes, names, shapes and element types; it does not know what a layer is.
//
// The form: eight bytes of little-endian header length, a JSON header that
// gives every tensor's type, shape and byte range, then the tensors' bytes,
// row-major and little-endian.
// Source: huggingface/safetensors, README.md, section Format.
package weights

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
)

// Tensor is one named array as float32, row-major. Its slices belong to the
// caller; of a file opened by Map, Data may be a read-only view.
type Tensor struct {
	Name string
	// DType is the element type in the file: F32, F16, BF16 or F64.
	DType string
	Shape []int
	Data  []float32
	// Float64 stands in Data's place, which is nil then, in a tensor to be
	// written as F64. Reading never sets it: see File.Float64.
	Float64 []float64
}

// File is an opened safetensors file. Only the header is held in memory; a
// tensor's bytes are read when asked for, converted block by block, so a
// tensor costs its converted size and no more. All methods may be called
// concurrently.
type File struct {
	// Metadata is the header's free text, empty when there is none.
	Metadata map[string]string

	name   string // for errors
	src    io.ReaderAt
	closer io.Closer
	size   int64
	mapped []byte // the whole file, if Map opened it
	data   int64  // offset of the first tensor byte
	names  []string
	byName map[string]*entry
}

// Open reads and checks the header of the file at path. Every inconsistency
// is refused here: a header that is absurdly long or not what the format
// says, byte ranges that overlap, leave holes or leave the file, shapes that
// do not match their byte count, names given twice, a file cut short.
//
// The file stays open until Close (or until the File is collected), so a file
// replaced by Write meanwhile keeps giving its old tensors.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the path and the reason
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if st.IsDir() {
		f.Close()
		return nil, &Error{File: path, What: "is a folder", Mend: "name a .safetensors file inside it"}
	}
	file, err := open(f, st.Size(), path)
	if err != nil {
		f.Close()
		return nil, err
	}
	file.closer = f
	return file, nil
}

// Read is Open for a file in memory, for instance embedded weights; name is
// used in errors. The bytes are not copied and must not change.
func Read(b []byte, name string) (*File, error) {
	return open(bytes.NewReader(b), int64(len(b)), name)
}

func open(src io.ReaderAt, size int64, name string) (*File, error) {
	header, err := readHeader(src, size, name)
	if err != nil {
		return nil, err
	}
	f := &File{name: name, src: src, size: size, data: 8 + int64(len(header))}
	entries, metadata, err := parseHeader(header, name)
	if err != nil {
		return nil, err
	}
	if err := checkLayout(entries, size-f.data, name); err != nil {
		return nil, err
	}
	f.Metadata = metadata
	f.byName = make(map[string]*entry, len(entries))
	f.names = make([]string, 0, len(entries))
	for i := range entries {
		f.byName[entries[i].name] = &entries[i]
		f.names = append(f.names, entries[i].name)
	}
	sort.Strings(f.names)
	return f, nil
}

// Close lets go of the underlying file; reading a tensor afterwards fails. A
// File made by Read has nothing to let go of.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	err := f.closer.Close()
	if f.mapped != nil {
		err = errors.Join(err, unmap(f.mapped))
		f.mapped = nil
	}
	return err
}

// Names lists the tensors, sorted.
func (f *File) Names() []string { return append([]string(nil), f.names...) }

// Has reports whether the file holds a tensor of that name.
func (f *File) Has(name string) bool { return f.byName[name] != nil }

// Shape returns a tensor's shape; a scalar's is empty.
func (f *File) Shape(name string) ([]int, bool) {
	e := f.byName[name]
	if e == nil {
		return nil, false
	}
	return append([]int{}, e.shape...), true
}

// DType returns a tensor's element type as the file names it, for instance
// "BF16", and "" for a name that is not there.
func (f *File) DType(name string) string {
	e := f.byName[name]
	if e == nil {
		return ""
	}
	return e.dtype
}

// Float32 reads a tensor of type F32, F16, BF16 or F64 as float32; F64 is
// rounded to nearest. Values are not screened: see CheckFinite and Expect.
func (f *File) Float32(name string) (*Tensor, error) {
	e, err := f.find(name)
	if err != nil {
		return nil, err
	}
	out := f.view(e)
	if out == nil {
		out = make([]float32, e.count)
		if err := f.read32(e, out); err != nil {
			return nil, err
		}
	}
	return &Tensor{Name: name, DType: e.dtype, Shape: append([]int{}, e.shape...), Data: out}, nil
}

// ReadInto is Float32 into a slice the caller owns, whose length must be the
// tensor's element count.
func (f *File) ReadInto(name string, dst []float32) error {
	e, err := f.find(name)
	if err != nil {
		return err
	}
	if len(dst) != e.count {
		return f.fault(name, fmt.Sprintf("has shape %v, %d elements, and %d are wanted", e.shape, e.count, len(dst)),
			"load weights that belong to this network's configuration")
	}
	return f.read32(e, dst)
}

func (f *File) read32(e *entry, out []float32) error {
	convert := toFloat32(e.dtype)
	if convert == nil {
		return f.wrongType(e, "F32, F16, BF16 or F64")
	}
	return f.blocks(e, func(at int, b []byte) { convert(out[at:], b) })
}

// Float64 reads a tensor of type F64, F32, F16 or BF16 without rounding, and
// its shape.
func (f *File) Float64(name string) ([]float64, []int, error) {
	e, err := f.find(name)
	if err != nil {
		return nil, nil, err
	}
	convert := toFloat64(e.dtype)
	if convert == nil {
		return nil, nil, f.wrongType(e, "F64, F32, F16 or BF16")
	}
	out := make([]float64, e.count)
	if err := f.blocks(e, func(at int, b []byte) { convert(out[at:], b) }); err != nil {
		return nil, nil, err
	}
	return out, append([]int{}, e.shape...), nil
}

// Int64 reads a tensor of type I64, I32, I16, I8, U8 or BOOL (true is 1), and
// its shape.
func (f *File) Int64(name string) ([]int64, []int, error) {
	e, err := f.find(name)
	if err != nil {
		return nil, nil, err
	}
	convert := toInt64(e.dtype)
	if convert == nil {
		return nil, nil, f.wrongType(e, "I64, I32, I16, I8, U8 or BOOL")
	}
	out := make([]int64, e.count)
	if err := f.blocks(e, func(at int, b []byte) { convert(out[at:], b) }); err != nil {
		return nil, nil, err
	}
	return out, append([]int{}, e.shape...), nil
}

// Expect is how a network takes a parameter: Float32 with the shape checked
// and every value finite. A missing name's error lists the nearest names that
// the file does have.
func (f *File) Expect(name string, shape ...int) (*Tensor, error) {
	e, err := f.find(name)
	if err != nil {
		return nil, err
	}
	if !equal(e.shape, shape) {
		return nil, f.fault(name, fmt.Sprintf("has shape %v, want %v", e.shape, shape),
			"load weights that belong to this network's configuration")
	}
	t, err := f.Float32(name)
	if err != nil {
		return nil, err
	}
	bad := -1
	if f.view(e) != nil {
		// Through the file, so that no page of the view becomes resident.
		err = f.blocks32(e, func(at int, x []float32) {
			if i := firstBad(x); bad < 0 && i >= 0 {
				bad = at + i
			}
		})
		if err != nil {
			return nil, err
		}
	} else {
		bad = firstBad(t.Data)
	}
	if bad >= 0 {
		return nil, f.fault(name, badValue(t, bad), badMend)
	}
	return t, nil
}

// Digest is the SHA-256 of the whole file in hexadecimal. It reads the file
// through; a file that can no longer be read gives "".
func (f *File) Digest() string {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(f.src, 0, f.size))
	if err != nil || n != f.size {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// CheckFinite returns an error naming the tensor, the index and the value of
// the first NaN or infinity, or nil.
func CheckFinite(t *Tensor) error {
	i := firstBad(t.Data)
	if i < 0 {
		return nil
	}
	return &Error{Tensor: t.Name, What: badValue(t, i), Mend: badMend}
}

const badMend = "the weights are damaged or their training diverged: use another copy or an earlier checkpoint"

func badValue(t *Tensor, i int) string {
	bad := 0
	for _, v := range t.Data {
		if !finite(v) {
			bad++
		}
	}
	return fmt.Sprintf("holds %v at index %v (%d of its %d values are not finite)",
		t.Data[i], unflatten(i, t.Shape), bad, len(t.Data))
}

func firstBad(x []float32) int {
	for i, v := range x {
		if !finite(v) {
			return i
		}
	}
	return -1
}

func finite(v float32) bool { return math.Float32bits(v)&0x7f800000 != 0x7f800000 }

// unflatten turns a row-major position into one index per axis.
func unflatten(i int, shape []int) []int {
	at := make([]int, len(shape))
	for a := len(shape) - 1; a >= 0; a-- {
		if shape[a] > 0 {
			at[a], i = i%shape[a], i/shape[a]
		}
	}
	return at
}

// blocks hands the tensor's bytes to use in pieces of whole elements; at is
// the piece's first element.
func (f *File) blocks(e *entry, use func(at int, b []byte)) error {
	const block = 1 << 20 // a multiple of every element size
	left := e.end - e.begin
	buf := make([]byte, min(left, block))
	for off := e.begin; off < e.end; {
		b := buf[:min(int64(len(buf)), e.end-off)]
		if n, err := f.src.ReadAt(b, f.data+off); n < len(b) {
			return &Error{File: f.name, Tensor: e.name, What: fmt.Sprintf("cannot read bytes %d to %d", f.data+off, f.data+off+int64(len(b))),
				Mend: "the file changed or its disk failed after it was opened: start again", Err: err}
		}
		use(int((off-e.begin)/int64(e.width)), b)
		off += int64(len(b))
	}
	return nil
}

// blocks32 is blocks for a tensor that is read as float32. x is overwritten by
// the next piece.
func (f *File) blocks32(e *entry, use func(at int, x []float32)) error {
	convert := toFloat32(e.dtype)
	if convert == nil {
		return f.wrongType(e, "F32, F16, BF16 or F64")
	}
	var x []float32
	return f.blocks(e, func(at int, b []byte) {
		n := len(b) / e.width
		if len(x) < n {
			x = make([]float32, n)
		}
		convert(x[:n], b)
		use(at, x[:n])
	})
}

func (f *File) find(name string) (*entry, error) {
	if e := f.byName[name]; e != nil {
		return e, nil
	}
	mend := "the file has no tensors"
	if near := nearest(name, f.names, 3); len(near) > 0 {
		mend = fmt.Sprintf("nearest of the %d tensors it has: %s", len(f.names), quoteList(near))
	}
	return nil, f.fault(name, "is not in the file", mend)
}

func (f *File) wrongType(e *entry, want string) error {
	return f.fault(e.name, fmt.Sprintf("has type %s, want %s", e.dtype, want), "convert the file, or ask for the tensor as its own type")
}

func (f *File) fault(tensor, what, mend string) error {
	return &Error{File: f.name, Tensor: tensor, What: what, Mend: mend}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
