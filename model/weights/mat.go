package weights

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
)

// Matrix is one numeric array of a MATLAB file.
type Matrix struct {
	Name  string
	Class string // "double", "single", "int8" and so on
	Shape []int  // two sides or more
	// Data is row-major; the file's order is column-major.
	Data []float64
}

// MatFile is what a MATLAB file holds.
type MatFile struct {
	Matrices []Matrix
	// Other names the variables that are no real full numeric arrays and are
	// not read, with their class: "s (struct)".
	Other []string
}

// Limits of a MATLAB file, against a damaged or hostile one that would fill the
// memory. A transform has some hundred numbers.
const (
	maxMatBytes  = 64 << 20 // of the file, and of all its contents inflated
	maxMatValues = 8 << 20  // of all variables together
	maxMatSides  = 32
)

// Data types of elements and classes of arrays.
// Source: MathWorks, MAT-File Format, tables 1-1 and 1-3.
const (
	miINT8       = 1
	miINT32      = 5
	miUINT32     = 6
	miMATRIX     = 14
	miCOMPRESSED = 15
	miUTF8       = 16

	mxDOUBLE = 6
	mxUINT64 = 15
	mxOPAQUE = 17

	matComplex = 0x0800
)

var matClasses = map[uint32]string{
	1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single", 8: "int8", 9: "uint8",
	10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64", 16: "function", 17: "opaque",
}

// matNumber is how one element type is stored.
type matNumber struct {
	width int
	read  func(o binary.ByteOrder, b []byte) float64
}

var matNumbers = map[uint32]matNumber{
	1:  {1, func(_ binary.ByteOrder, b []byte) float64 { return float64(int8(b[0])) }},
	2:  {1, func(_ binary.ByteOrder, b []byte) float64 { return float64(b[0]) }},
	3:  {2, func(o binary.ByteOrder, b []byte) float64 { return float64(int16(o.Uint16(b))) }},
	4:  {2, func(o binary.ByteOrder, b []byte) float64 { return float64(o.Uint16(b)) }},
	5:  {4, func(o binary.ByteOrder, b []byte) float64 { return float64(int32(o.Uint32(b))) }},
	6:  {4, func(o binary.ByteOrder, b []byte) float64 { return float64(o.Uint32(b)) }},
	7:  {4, func(o binary.ByteOrder, b []byte) float64 { return float64(math.Float32frombits(o.Uint32(b))) }},
	9:  {8, func(o binary.ByteOrder, b []byte) float64 { return math.Float64frombits(o.Uint64(b)) }},
	12: {8, func(o binary.ByteOrder, b []byte) float64 { return float64(int64(o.Uint64(b))) }},
	13: {8, func(o binary.ByteOrder, b []byte) float64 { return float64(o.Uint64(b)) }},
}

// OpenMat reads the MATLAB file at path; see ReadMat.
func OpenMat(path string) (*MatFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the path and the reason
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMatBytes+1))
	if err != nil {
		return nil, err
	}
	return ReadMat(b, path)
}

// ReadMat reads a MATLAB file of level 5 (what save -v6 and -v7 write): every
// real numeric array as float64, compressed or not, of either byte order. A
// 64-bit whole number from 2^53 on, where float64 has gaps, is an error. name
// is used in errors, which give the byte where they arose.
//
// Source: MathWorks, MAT-File Format, chapter 1 (level 5).
func ReadMat(b []byte, name string) (*MatFile, error) {
	if len(b) > maxMatBytes {
		return nil, &Error{File: name, What: fmt.Sprintf("is larger than %d MiB, more than this program reads of a MATLAB file", maxMatBytes>>20),
			Mend: "save only the matrix that is needed"}
	}
	order, err := matHeader(b, name)
	if err != nil {
		return nil, err
	}
	r := &matReader{file: name, order: order, bytes: maxMatBytes, values: maxMatValues, names: map[string]bool{}, out: &MatFile{}}
	c := &matCursor{r: r, b: b, at: 128}
	for c.at < len(b) {
		kind, at, data, err := c.element()
		if err != nil {
			return nil, err
		}
		if kind == miCOMPRESSED {
			err = r.inflate(at, data)
		} else {
			err = r.variable(kind, &matCursor{r: r, b: data, base: at})
		}
		if err != nil {
			return nil, err
		}
	}
	return r.out, nil
}

// matHeader checks the first 128 bytes: free text, then version and byte order.
func matHeader(b []byte, name string) (binary.ByteOrder, error) {
	const save = "save it from MATLAB with -v7 (or -v6)"
	fault := func(what, mend string) error { return &Error{File: name, What: what, Mend: mend} }
	switch {
	case bytes.HasPrefix(b, []byte("MATLAB 7.3")):
		return nil, fault("is a MATLAB file of version 7.3 (HDF5), which is not read", save)
	case len(b) >= 4 && bytes.IndexByte(b[:4], 0) >= 0:
		return nil, fault("has a zero among its first 4 bytes: it is of level 4, or no MATLAB file", save)
	case len(b) < 128:
		return nil, fault(fmt.Sprintf("is %d bytes long, and a MATLAB file starts with a header of 128", len(b)), againMend)
	}
	var order binary.ByteOrder
	switch mark := string(b[126:128]); mark {
	case "IM":
		order = binary.LittleEndian
	case "MI":
		order = binary.BigEndian
	default:
		return nil, fault(fmt.Sprintf("has byte order mark %q at byte 126, want \"IM\" or \"MI\"", mark), "this is not a MATLAB file of level 5; "+save)
	}
	if version := order.Uint16(b[124:]); version != 0x0100 {
		return nil, fault(fmt.Sprintf("has version %#04x at byte 124, want 0x0100 (level 5)", version), save)
	}
	return order, nil
}

// matReader is the state of reading one file.
type matReader struct {
	file          string
	order         binary.ByteOrder
	bytes, values int // what may still be inflated and read
	names         map[string]bool
	out           *MatFile
}

// matCursor walks over the elements in b.
type matCursor struct {
	r    *matReader
	b    []byte
	at   int
	base int    // of b[0], in the file or the inflated data
	in   string // "" or " of the data compressed at byte N"
}

// fault is an error at offset at of the cursor's bytes.
func (c *matCursor) fault(at int, format string, args ...any) error {
	return &Error{File: c.r.file, What: fmt.Sprintf("byte %d%s: ", c.base+at, c.in) + fmt.Sprintf(format, args...), Mend: againMend}
}

// element reads the tag at the cursor and steps over the element: its type,
// where its data starts (counted as the errors count) and the data.
func (c *matCursor) element() (kind uint32, at int, data []byte, err error) {
	start := c.at
	if left := len(c.b) - start; left < 8 {
		return 0, 0, nil, c.fault(start, "%d bytes are left, too few for an element's tag of 8", left)
	}
	kind = c.r.order.Uint32(c.b[start:])
	if n := int(kind >> 16); n != 0 { // small: type, length and data in 8 bytes
		if n > 4 {
			return 0, 0, nil, c.fault(start, "a small element claims %d bytes of data, and has room for 4", n)
		}
		c.at += 8
		return kind & 0xffff, c.base + start + 4, c.b[start+4:][:n], nil
	}
	n := int64(c.r.order.Uint32(c.b[start+4:]))
	from := start + 8
	if left := int64(len(c.b) - from); n > left {
		return 0, 0, nil, c.fault(start, "an element claims %d bytes of data, and %d are left", n, left)
	}
	c.at = from + int(n)
	if kind != miCOMPRESSED { // all others end at a multiple of 8
		c.at = min(len(c.b), c.at+(8-int(n)%8)%8)
	}
	return kind, c.base + from, c.b[from:][:n], nil
}

// inflate reads the one variable in data, compressed, which starts at byte at.
func (r *matReader) inflate(at int, data []byte) error {
	outer := &matCursor{r: r, base: at}
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return outer.fault(0, "the compressed data cannot be read: %v", err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, int64(r.bytes)+1))
	if err != nil {
		return outer.fault(0, "the compressed data cannot be read: %v", err)
	}
	if len(plain) > r.bytes {
		return outer.fault(0, "the file inflates to more than %d MiB", maxMatBytes>>20)
	}
	r.bytes -= len(plain)
	c := &matCursor{r: r, b: plain, in: fmt.Sprintf(" of the data compressed at byte %d", at)}
	kind, from, body, err := c.element()
	if err != nil {
		return err
	}
	if c.at < len(plain) {
		return c.fault(c.at, "%d bytes follow the compressed variable", len(plain)-c.at)
	}
	return r.variable(kind, &matCursor{r: r, b: body, base: from, in: c.in})
}

// variable reads one miMATRIX element, whose data are the cursor's bytes.
func (r *matReader) variable(kind uint32, c *matCursor) error {
	if kind != miMATRIX {
		return c.fault(0, "an element of type %d stands where a variable (type %d) should", kind, miMATRIX)
	}
	kind, _, flags, err := c.element()
	if err != nil {
		return err
	}
	if kind != miUINT32 || len(flags) != 8 {
		return c.fault(0, "a variable starts with an element of type %d and %d bytes, not with its flags (type %d, 8 bytes)", kind, len(flags), miUINT32)
	}
	word := r.order.Uint32(flags)
	class, known := matClasses[word&0xff]
	if !known {
		return c.fault(0, "a variable has class %d, which does not exist", word&0xff)
	}
	var shape []int
	count := 0
	if word&0xff != mxOPAQUE {
		if shape, count, err = c.sides(); err != nil {
			return err
		}
	}
	start := c.at
	kind, _, text, err := c.element()
	if err != nil {
		return err
	}
	if kind != miINT8 && kind != miUTF8 {
		return c.fault(start, "a variable's name has type %d, want %d", kind, miINT8)
	}
	name := string(text)
	if r.names[name] {
		return c.fault(start, "variable %q is given twice", name)
	}
	r.names[name] = true
	numeric := word&0xff >= mxDOUBLE && word&0xff <= mxUINT64
	if numeric && word&matComplex != 0 {
		numeric, class = false, "complex "+class
	}
	if !numeric || name == "" { // MATLAB keeps its own data under no name
		r.out.Other = append(r.out.Other, fmt.Sprintf("%s (%s)", name, class))
		return nil
	}
	if count > r.values {
		return c.fault(start, "variable %q has shape %v: with it the file has more than %d numbers", name, shape, maxMatValues)
	}
	r.values -= count
	data, err := c.numbers(name, shape, count)
	if err != nil {
		return err
	}
	r.out.Matrices = append(r.out.Matrices, Matrix{Name: name, Class: class, Shape: shape, Data: data})
	return nil
}

// sides reads a variable's dimensions and their product.
func (c *matCursor) sides() (shape []int, count int, err error) {
	start := c.at
	kind, _, data, err := c.element()
	if err != nil {
		return nil, 0, err
	}
	if n := len(data) / 4; kind != miINT32 || len(data)%4 != 0 || n < 2 || n > maxMatSides {
		return nil, 0, c.fault(start, "a variable's sides have type %d and %d bytes, want type %d and 2 to %d numbers of 4 bytes", kind, len(data), miINT32, maxMatSides)
	}
	for i := 0; i < len(data); i += 4 {
		side := int32(c.r.order.Uint32(data[i:]))
		if side < 0 {
			return nil, 0, c.fault(start, "a variable's side %d is %d", i/4, side)
		}
		shape = append(shape, int(side))
	}
	n, ok := product(shape)
	if !ok {
		return nil, 0, c.fault(start, "a variable has shape %v, more numbers than can be counted", shape)
	}
	return shape, int(n), nil
}

// numbers reads a variable's values, which may be stored in a narrower type
// than their class, and puts them in row-major order.
func (c *matCursor) numbers(name string, shape []int, count int) ([]float64, error) {
	start := c.at
	kind, _, data, err := c.element()
	if err != nil {
		return nil, err
	}
	number, ok := matNumbers[kind]
	if !ok {
		return nil, c.fault(start, "the values of variable %q have type %d, which is no type of numbers", name, kind)
	}
	if len(data) != count*number.width {
		return nil, c.fault(start, "variable %q has shape %v, %d numbers of %d bytes, and %d bytes of values", name, shape, count, number.width, len(data))
	}
	if c.at < len(c.b) {
		return nil, c.fault(c.at, "%d bytes follow the values of variable %q", len(c.b)-c.at, name)
	}
	// stride is how far apart in the file neighbours along an axis are.
	stride := make([]int, len(shape))
	step := 1
	for a, side := range shape {
		stride[a] = step
		step *= side
	}
	out := make([]float64, count)
	index := make([]int, len(shape))
	from := 0
	for i := range out {
		b := data[from*number.width:]
		v := number.read(c.r.order, b)
		if number.width == 8 && kind != 9 && math.Abs(v) >= 1<<53 {
			return nil, c.fault(start, "variable %q holds the whole number %.0f at index %v: from 2^53 on float64 does not tell neighbours apart", name, v, index)
		}
		out[i] = v
		for a := len(shape) - 1; a >= 0; a-- { // the next index, last axis fastest
			index[a]++
			from += stride[a]
			if index[a] < shape[a] {
				break
			}
			from -= index[a] * stride[a]
			index[a] = 0
		}
	}
	return out, nil
}
