package weights

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf8"
)

// Write stores the tensors as a safetensors file at path. dtype is "F32",
// "F16" or "BF16" for all of them, "F64" for tensors that have their values in
// Float64, or "" for each tensor's own DType.
//
// The file appears whole or not at all: it is written beside its place,
// flushed to the disk and renamed. Equal input gives equal bytes, in whatever
// order the tensors come. NaN and infinity are stored as they are; a finite
// value too large for F16 or BF16 is an error.
func Write(path string, tensors []Tensor, metadata map[string]string, dtype string) error {
	// Check before anything touches the disk.
	header, order, err := layout(tensors, metadata, dtype)
	if err != nil {
		return named(err, path)
	}
	return atomically(path, func(w io.Writer) error { return encode(w, header, order) })
}

// atomically makes the file at path of what write writes, whole or not at all.
func atomically(path string, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if err = write(tmp); err != nil {
		return named(err, path)
	}
	if err = tmp.Chmod(0o644); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	// The new name itself must survive a power cut too. Some file systems
	// cannot sync a folder; the file is complete all the same.
	if d, openErr := os.Open(dir); openErr == nil {
		d.Sync()
		d.Close()
	}
	return nil
}

// Encode writes what Write would put in a file.
func Encode(w io.Writer, tensors []Tensor, metadata map[string]string, dtype string) error {
	header, order, err := layout(tensors, metadata, dtype)
	if err != nil {
		return err
	}
	return encode(w, header, order)
}

// stored is a tensor with the type it is stored as.
type stored struct {
	*Tensor
	dtype string
}

func (t stored) count() int {
	if t.dtype == "F64" {
		return len(t.Float64)
	}
	return len(t.Data)
}

// layout checks the tensors, puts them in file order and builds the header,
// its length prefix included.
func layout(tensors []Tensor, metadata map[string]string, dtype string) ([]byte, []stored, error) {
	order := make([]stored, len(tensors))
	for i := range tensors {
		t := &tensors[i]
		order[i] = stored{t, dtype}
		if dtype == "" {
			order[i].dtype = t.DType
		}
		if err := checkTensor(order[i]); err != nil {
			return nil, nil, err
		}
	}
	// Wide elements first keeps every tensor aligned to its element size.
	sort.Slice(order, func(i, j int) bool {
		if a, b := widths[order[i].dtype], widths[order[j].dtype]; a != b {
			return a > b
		}
		return order[i].Name < order[j].Name
	})
	header, err := header(order, metadata, 8)
	return header, order, err
}

// header is the file's head for tensors in that order, its length prefix
// included; the tensors then start at a multiple of align bytes, itself one of 8.
func header(order []stored, metadata map[string]string, align int) ([]byte, error) {
	names := make(map[string]bool, len(order))
	var b strings.Builder
	b.WriteByte('{')
	if len(metadata) > 0 {
		for k, v := range metadata {
			if !utf8.ValidString(k) || !utf8.ValidString(v) {
				return nil, &Error{What: fmt.Sprintf("metadata %q is not UTF-8 text", k), Mend: "encode it, for instance in hexadecimal"}
			}
		}
		text, err := json.Marshal(metadata) // sorts the keys
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", metadataKey, text)
	}
	var at int64
	for _, t := range order {
		if names[t.Name] {
			return nil, &Error{Tensor: t.Name, What: "is given twice", Mend: "names must be unique"}
		}
		names[t.Name] = true
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, err
		}
		n, _ := product(t.Shape) // which checkTensor knows to be the number of values
		end := at + n*int64(widths[t.dtype])
		shape := strings.ReplaceAll(fmt.Sprint(t.Shape), " ", ",") // [1 2] -> [1,2]
		fmt.Fprintf(&b, `%s:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, name, t.dtype, shape, at, end)
		at = end
	}
	b.WriteByte('}')
	for (8+b.Len())%align != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > maxHeader {
		return nil, &Error{What: fmt.Sprintf("header of %d bytes is above the format's limit of %d", b.Len(), maxHeader), Mend: "store less metadata or fewer tensors"}
	}
	header := little.AppendUint64(nil, uint64(b.Len()))
	return append(header, b.String()...), nil
}

const (
	badName     = "has a name that the format does not allow"
	badNameMend = "use UTF-8 text other than \"\" and " + metadataKey
)

func validName(name string) bool {
	return name != "" && name != metadataKey && utf8.ValidString(name)
}

func checkTensor(t stored) error {
	fault := func(what, mend string) error { return &Error{Tensor: t.Name, What: what, Mend: mend} }
	switch {
	case !validName(t.Name):
		return fault(badName, badNameMend)
	case t.dtype != "F64" && t.dtype != "F32" && t.dtype != "F16" && t.dtype != "BF16":
		return fault(fmt.Sprintf("is to be stored as %q", t.dtype), "choose F32, F16 or BF16, or F64 with float64 values")
	case t.dtype == "F64" && len(t.Data) > 0:
		return fault("is to be stored as F64 and has float32 values", "choose F32, F16 or BF16, or give the values as Float64")
	case t.dtype != "F64" && len(t.Float64) > 0:
		return fault("is to be stored as "+t.dtype+" and has float64 values", "choose F64")
	}
	for _, side := range t.Shape {
		if side < 0 {
			return fault(fmt.Sprintf("has shape %v", t.Shape), "sides are 0 or more")
		}
	}
	if n, ok := product(t.Shape); !ok || n != int64(t.count()) {
		return fault(fmt.Sprintf("has shape %v and %d values", t.Shape, t.count()), "the shape's product must be the number of values")
	}
	if t.dtype == "F64" || t.dtype == "F32" {
		return nil
	}
	for i, v := range t.Data {
		if !finite(v) {
			continue
		}
		if t.dtype == "F16" && toHalf(v)&0x7fff == 0x7c00 || t.dtype == "BF16" && toBrain(v)&0x7fff == 0x7f80 {
			return fault(fmt.Sprintf("holds %g at index %v, too large for %s", v, unflatten(i, t.Shape), t.dtype), "store it as F32")
		}
	}
	return nil
}

func encode(w io.Writer, header []byte, order []stored) error {
	out := bufio.NewWriterSize(w, 1<<16)
	if _, err := out.Write(header); err != nil {
		return err
	}
	var buf [8]byte
	for _, t := range order {
		b := buf[:widths[t.dtype]]
		for _, v := range t.Float64 {
			little.PutUint64(b, math.Float64bits(v))
			if _, err := out.Write(b); err != nil {
				return err
			}
		}
		for _, v := range t.Data {
			putFloat(b, t.dtype, v)
			if _, err := out.Write(b); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

// named adds the file's name to an error of this package.
func named(err error, path string) error {
	if e, ok := err.(*Error); ok {
		e.File = path
	}
	return err
}
