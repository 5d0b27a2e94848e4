package weights

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// matWriter builds MATLAB files of level 5 for the tests.
type matWriter struct {
	order interface {
		binary.ByteOrder
		binary.AppendByteOrder
	}
	small bool // short elements take the small form, as MATLAB writes them
}

// file is the header and the elements.
func (w matWriter) file(elements ...[]byte) []byte {
	b := append([]byte("MATLAB 5.0 MAT-file, written by a test"), bytes.Repeat([]byte{' '}, 128)...)[:116]
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // offset of subsystem data
	b = w.order.AppendUint16(b, 0x0100)
	b = w.order.AppendUint16(b, 'M'<<8|'I')
	for _, e := range elements {
		b = append(b, e...)
	}
	return b
}

// element is one tag with its data, padded to a multiple of 8.
func (w matWriter) element(kind uint32, data []byte) []byte {
	if w.small && len(data) > 0 && len(data) <= 4 {
		b := w.order.AppendUint32(nil, uint32(len(data))<<16|kind)
		return append(append(b, data...), 0, 0, 0, 0)[:8]
	}
	b := w.order.AppendUint32(nil, kind)
	b = w.order.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	for len(b)%8 != 0 && kind != miCOMPRESSED {
		b = append(b, 0)
	}
	return b
}

// numbers encodes values as the element type.
func (w matWriter) numbers(kind uint32, values ...float64) []byte {
	var b []byte
	for _, v := range values {
		switch kind {
		case 1:
			b = append(b, byte(int8(v)))
		case 2:
			b = append(b, byte(v))
		case 3:
			b = w.order.AppendUint16(b, uint16(int16(v)))
		case 4:
			b = w.order.AppendUint16(b, uint16(v))
		case 5:
			b = w.order.AppendUint32(b, uint32(int32(v)))
		case 6:
			b = w.order.AppendUint32(b, uint32(v))
		case 7:
			b = w.order.AppendUint32(b, math.Float32bits(float32(v)))
		case 9:
			b = w.order.AppendUint64(b, math.Float64bits(v))
		case 12:
			b = w.order.AppendUint64(b, uint64(int64(v)))
		case 13:
			b = w.order.AppendUint64(b, uint64(v))
		}
	}
	return b
}

// body is the inside of a variable: flags, sides, name and more elements.
func (w matWriter) body(flags uint32, name string, shape []int32, more ...[]byte) []byte {
	b := w.element(miUINT32, w.order.AppendUint32(w.order.AppendUint32(nil, flags), 0))
	if shape != nil {
		var sides []byte
		for _, s := range shape {
			sides = w.order.AppendUint32(sides, uint32(s))
		}
		b = append(b, w.element(miINT32, sides)...)
	}
	b = append(b, w.element(miINT8, []byte(name))...)
	for _, m := range more {
		b = append(b, m...)
	}
	return b
}

// array is a whole numeric variable of that class, its values, in the file's
// column-major order, stored as the element type kind.
func (w matWriter) array(class uint32, name string, shape []int32, kind uint32, values ...float64) []byte {
	return w.element(miMATRIX, w.body(class, name, shape, w.element(kind, w.numbers(kind, values...))))
}

// compressed wraps a whole element.
func (w matWriter) compressed(element []byte) []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	z.Write(element)
	z.Close()
	return w.element(miCOMPRESSED, b.Bytes())
}

// Every byte order, form and element type gives the same matrices.
func TestReadMat(t *testing.T) {
	plain := matWriter{order: binary.LittleEndian}
	for _, tt := range []struct {
		name     string
		w        matWriter
		compress bool
	}{
		{"little", plain, false},
		{"big", matWriter{order: binary.BigEndian}, false},
		{"small elements", matWriter{order: binary.LittleEndian, small: true}, false},
		{"big, small elements", matWriter{order: binary.BigEndian, small: true}, false},
		{"compressed", matWriter{order: binary.LittleEndian, small: true}, true},
		{"big, compressed", matWriter{order: binary.BigEndian}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.w
			elements := [][]byte{
				w.array(6, "R", []int32{2, 3}, 9, 1, 4, 0.1, -5, math.Inf(1), 6), // columns (1 4) (.1 -5) (inf 6)
				w.array(6, "ones", []int32{1, 3}, 2, 1, 255, 3),                  // doubles stored as bytes
				w.array(7, "single", []int32{1, 1}, 7, 0.5),
				w.array(8, "i8", []int32{1, 2}, 1, -128, 127),
				w.array(9, "u8", []int32{2, 1}, 2, 0, 255),
				w.array(10, "i16", []int32{1, 2}, 3, -32768, 32767),
				w.array(11, "u16", []int32{1, 1}, 4, 65535),
				w.array(12, "i32", []int32{1, 2}, 5, -1<<31, 1<<31-1),
				w.array(13, "u32", []int32{1, 1}, 6, 1<<32-1),
				w.array(14, "i64", []int32{1, 2}, 12, -1<<52, 1<<52),
				w.array(15, "u64", []int32{1, 1}, 13, 1<<53-1),
				w.array(6, "cube", []int32{2, 2, 2}, 9, 1, 2, 3, 4, 5, 6, 7, 8),
				w.array(6, "empty", []int32{0, 7}, 9),
				w.array(0x200|9, "yes", []int32{1, 2}, 2, 1, 0), // logical
				w.element(miMATRIX, w.body(4, "text", []int32{1, 2}, w.element(miUTF8, []byte("hi")))),
				w.element(miMATRIX, w.body(2, "s", []int32{1, 1}, w.element(5, []byte{8, 0, 0, 0}))),
				w.element(miMATRIX, w.body(matComplex|6, "z", []int32{1, 1}, w.element(9, w.numbers(9, 1)), w.element(9, w.numbers(9, 2)))),
				w.element(miMATRIX, w.body(mxOPAQUE, "o", nil, w.element(miINT8, []byte("MCOS")))),
				w.array(9, "", []int32{1, 3}, 2, 1, 2, 3), // MATLAB's own data
			}
			if tt.compress {
				for i, e := range elements {
					elements[i] = w.compressed(e)
				}
			}
			got, err := ReadMat(w.file(elements...), "x.mat")
			if err != nil {
				t.Fatal(err)
			}
			want := []Matrix{
				{"R", "double", []int{2, 3}, []float64{1, 0.1, math.Inf(1), 4, -5, 6}},
				{"ones", "double", []int{1, 3}, []float64{1, 255, 3}},
				{"single", "single", []int{1, 1}, []float64{0.5}},
				{"i8", "int8", []int{1, 2}, []float64{-128, 127}},
				{"u8", "uint8", []int{2, 1}, []float64{0, 255}},
				{"i16", "int16", []int{1, 2}, []float64{-32768, 32767}},
				{"u16", "uint16", []int{1, 1}, []float64{65535}},
				{"i32", "int32", []int{1, 2}, []float64{-1 << 31, 1<<31 - 1}},
				{"u32", "uint32", []int{1, 1}, []float64{1<<32 - 1}},
				{"i64", "int64", []int{1, 2}, []float64{-1 << 52, 1 << 52}},
				{"u64", "uint64", []int{1, 1}, []float64{1<<53 - 1}},
				{"cube", "double", []int{2, 2, 2}, []float64{1, 5, 3, 7, 2, 6, 4, 8}},
				{"empty", "double", []int{0, 7}, []float64{}},
				{"yes", "uint8", []int{1, 2}, []float64{1, 0}},
			}
			for i := range max(len(want), len(got.Matrices)) {
				if i >= len(want) || i >= len(got.Matrices) || !reflect.DeepEqual(got.Matrices[i], want[i]) {
					t.Fatalf("matrices %v\nwant %v", got.Matrices, want)
				}
			}
			if other := strings.Join(got.Other, ", "); other != "text (char), s (struct), z (complex double), o (opaque),  (uint8)" {
				t.Errorf("other variables: %s", other)
			}
		})
	}
}

func TestReadMatFaults(t *testing.T) {
	w := matWriter{order: binary.LittleEndian, small: true}
	flags := w.element(miUINT32, []byte{6, 0, 0, 0, 0, 0, 0, 0})
	good := w.array(6, "R", []int32{2, 2}, 9, 1, 2, 3, 4)
	if _, err := ReadMat(w.file(good), "good"); err != nil {
		t.Fatalf("the file that the cases below spoil: %v", err)
	}
	edit := func(at int, with ...byte) []byte {
		b := w.file(good)
		copy(b[at:], with)
		return b
	}
	zipped := w.compressed(good)
	damaged := append([]byte(nil), zipped...)
	damaged[len(damaged)-1] ^= 1 // the checksum
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "is 0 bytes long"},
		{"short", w.file()[:127], "is 127 bytes long, and a MATLAB file starts with a header of 128"},
		{"version 7.3", append([]byte("MATLAB 7.3 MAT-file"), make([]byte, 200)...), "version 7.3 (HDF5), which is not read; save it from MATLAB with -v7"},
		{"level 4", make([]byte, 128), "level 4"},
		{"byte order", edit(126, 'X', 'Y'), `byte order mark "XY" at byte 126`},
		{"version", edit(124, 0, 2), "version 0x0200 at byte 124"},
		{"cut in a tag", w.file(good)[:132], "byte 128: 4 bytes are left, too few"},
		{"cut in a variable", w.file(good)[:200], "byte 128: an element claims 80 bytes of data, and 64 are left"},
		{"huge length", edit(132, 255, 255, 255, 255), "claims 4294967295 bytes"},
		{"not a variable", w.file(w.element(9, make([]byte, 8))), "byte 136: an element of type 9 stands where a variable (type 14) should"},
		{"small too long", edit(128, 14, 0, 5, 0), "a small element claims 5 bytes"},
		{"no flags", w.file(w.element(miMATRIX, nil)), "byte 136: 0 bytes are left"},
		{"wrong flags", w.file(w.element(miMATRIX, w.element(miINT32, make([]byte, 8)))), "byte 136: a variable starts with an element of type 5 and 8 bytes"},
		{"class 0", w.file(w.element(miMATRIX, w.body(0, "R", []int32{1, 1}))), "has class 0, which does not exist"},
		{"class 99", w.file(w.element(miMATRIX, w.body(99, "R", []int32{1, 1}))), "has class 99"},
		{"no sides", w.file(w.element(miMATRIX, flags)), "byte 152: 0 bytes are left"},
		{"one side", w.file(w.array(6, "R", []int32{4}, 9, 1, 2, 3, 4)), "byte 152: a variable's sides have type 5 and 4 bytes"},
		{"many sides", w.file(w.array(6, "R", make([]int32, 33), 9)), "and 132 bytes"},
		{"sides as bytes", w.file(w.element(miMATRIX, append(append([]byte(nil), flags...), w.element(2, make([]byte, 8))...))), "have type 2"},
		{"negative side", w.file(w.array(6, "R", []int32{2, -2}, 9)), "side 1 is -2"},
		{"overflowing shape", w.file(w.array(6, "R", []int32{1 << 30, 1 << 30, 1 << 30}, 9)), "more numbers than can be counted"},
		{"too many numbers", w.file(w.array(6, "R", []int32{1 << 15, 1 << 15}, 9)), `variable "R" has shape [32768 32768]: with it the file has more than 8388608`},
		{"name as numbers", w.file(w.element(miMATRIX, append(append(append([]byte(nil), flags...), w.element(miINT32, make([]byte, 8))...), w.element(9, make([]byte, 8))...))), "name has type 9"},
		{"no values", w.file(w.element(miMATRIX, w.body(6, "R", []int32{2, 2}))), "0 bytes are left, too few for an element's tag"},
		{"too few values", w.file(w.array(6, "R", []int32{2, 2}, 9, 1, 2, 3)), `variable "R" has shape [2 2], 4 numbers of 8 bytes, and 24 bytes of values`},
		{"values of no type", w.file(w.element(miMATRIX, w.body(6, "R", []int32{1, 1}, w.element(8, make([]byte, 8))))), "have type 8, which is no type of numbers"},
		{"after the values", w.file(w.element(miMATRIX, w.body(6, "R", []int32{1, 1}, w.element(9, make([]byte, 8)), w.element(9, make([]byte, 8))))), `16 bytes follow the values of variable "R"`},
		{"twice", w.file(good, good), `variable "R" is given twice`},
		{"int64 too large", w.file(w.array(14, "n", []int32{1, 2}, 12, 0, 1<<53)), `variable "n" holds the whole number 9007199254740992 at index [0 1]`},
		{"not zlib", w.file(w.element(miCOMPRESSED, []byte("not zlib"))), "byte 136: the compressed data cannot be read: zlib"},
		{"checksum", w.file(damaged), "the compressed data cannot be read: zlib: invalid checksum"},
		{"cut inside zlib", w.file(w.element(miCOMPRESSED, zipped[8:len(zipped)-6])), "unexpected EOF"},
		{"compressed twice", w.file(w.compressed(zipped)), "an element of type 15 stands where"},
		{"two in one", w.file(w.compressed(append(append([]byte(nil), good...), good...))), "byte 88 of the data compressed at byte 136: 88 bytes follow"},
		{"fault inside zlib", w.file(w.compressed(w.array(6, "R", []int32{4}, 9))), "byte 24 of the data compressed at byte 136: a variable's sides"},
		{"bomb", w.file(w.compressed(make([]byte, maxMatBytes+1))), "inflates to more than 64 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadMat(tt.file, "x.mat")
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if !strings.HasPrefix(err.Error(), "x.mat: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want the file's name and %q", err, tt.want)
			}
			if e.Mend == "" {
				t.Errorf("%q does not say how to mend it", err)
			}
		})
	}
}

func TestOpenMat(t *testing.T) {
	w := matWriter{order: binary.LittleEndian, small: true}
	path := filepath.Join(t.TempDir(), "r.mat")
	if err := os.WriteFile(path, w.file(w.array(6, "R", []int32{1, 1}, 2, 7)), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := OpenMat(path)
	if err != nil || len(m.Matrices) != 1 || fmt.Sprint(m.Matrices[0].Data) != "[7]" {
		t.Errorf("got %v, %v", m, err)
	}
	if _, err := OpenMat(path + ".none"); err == nil || !strings.Contains(err.Error(), "r.mat.none") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Whatever the bytes, ReadMat gives an error of this package or matrices that
// are whole, within the limits.
func FuzzReadMat(f *testing.F) {
	for _, w := range []matWriter{{binary.LittleEndian, true}, {binary.LittleEndian, false}, {binary.BigEndian, true}} {
		r := w.array(6, "R", []int32{2, 2}, 9, 1, 2, 3, 4)
		f.Add(w.file(r, w.array(8, "n", []int32{1, 2, 2}, 1, 1, 2, 3, 4)))
		f.Add(w.file(w.compressed(r)))
		f.Add(w.file(w.element(miMATRIX, w.body(4, "text", []int32{1, 2}, w.element(miUTF8, []byte("hi"))))))
		f.Add(w.file(w.element(miMATRIX, w.body(mxOPAQUE, "o", nil))))
	}
	f.Add([]byte("MATLAB 7.3 MAT-file"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadMat(b, "fuzz")
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.File != "fuzz" || e.Mend == "" {
				t.Fatalf("error %v does not name the file or how to mend it", err)
			}
			return
		}
		total := 0
		for _, x := range m.Matrices {
			n, ok := product(x.Shape)
			if !ok || int(n) != len(x.Data) || len(x.Shape) < 2 || x.Name == "" {
				t.Fatalf("%q has shape %v and %d values", x.Name, x.Shape, len(x.Data))
			}
			total += len(x.Data)
		}
		if total > maxMatValues {
			t.Fatalf("%d values are read", total)
		}
	})
}
