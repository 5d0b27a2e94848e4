package weights

import (
	"bufio"
	"fmt"
	"io"
	"sort"
)

// Stream writes a safetensors file of F32 tensors that need not all fit into
// memory: those of the given names and shapes, largest first, each filled by a
// call of fill in that order, whose first error ends the writing. dst is
// overwritten by the next tensor. metadata may be nil. The file
// appears whole or not at all, as with Write; it starts every tensor at a
// multiple of 64 bytes as long as those before it fill such multiples, which
// suits Map.
func Stream(path string, tensors []Tensor, metadata map[string]string, fill func(name string, dst []float32) error) error {
	order := append([]Tensor(nil), tensors...)
	largest := 0
	for i := range order {
		t := &order[i]
		if !validName(t.Name) {
			return &Error{File: path, Tensor: t.Name, What: badName, Mend: badNameMend}
		}
		n, ok := product(t.Shape)
		if !ok || n > 1<<40 {
			return &Error{File: path, Tensor: t.Name, What: fmt.Sprintf("has shape %v, more elements than can be stored", t.Shape)}
		}
		t.Data, t.DType = nil, "F32"
		largest = max(largest, int(n))
	}
	size := func(t *Tensor) int64 { n, _ := product(t.Shape); return n }
	sort.SliceStable(order, func(i, j int) bool { return size(&order[i]) > size(&order[j]) })
	stores := make([]stored, len(order))
	for i := range order {
		stores[i] = stored{&order[i], "F32"}
	}
	header, err := header(stores, metadata, 64)
	if err != nil {
		return named(err, path)
	}
	return atomically(path, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<20)
		if _, err := out.Write(header); err != nil {
			return err
		}
		data, raw := make([]float32, largest), make([]byte, 4<<16)
		for i := range order {
			dst := data[:size(&order[i])]
			if err := fill(order[i].Name, dst); err != nil {
				return err
			}
			for len(dst) > 0 {
				n := min(len(dst), len(raw)/4)
				for j, v := range dst[:n] {
					putFloat(raw[4*j:], "F32", v)
				}
				if _, err := out.Write(raw[:4*n]); err != nil {
					return err
				}
				dst = dst[n:]
			}
		}
		return out.Flush()
	})
}
