package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"unicode/utf8"
)

// maxHeader is the format's own limit on the header's length, in bytes.
const maxHeader = 100_000_000

const metadataKey = "__metadata__"

// entry is one tensor of the header; begin and end are relative to the first
// byte after it.
type entry struct {
	name       string
	dtype      string
	width      int // bytes an element
	shape      []int
	count      int
	begin, end int64
}

// widths has the size in bytes of every element type of the format that fills
// whole bytes. Files may hold types that are not converted here: a network
// need not read every tensor of a file.
var widths = map[string]int{
	"F64": 8, "I64": 8, "U64": 8, "C64": 8,
	"F32": 4, "I32": 4, "U32": 4,
	"F16": 2, "BF16": 2, "I16": 2, "U16": 2,
	"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}

const againMend = "the file is damaged or was cut short: copy or make it again"

// readHeader returns the JSON part of the header.
func readHeader(src io.ReaderAt, size int64, name string) ([]byte, error) {
	if size < 8 {
		return nil, &Error{File: name, What: fmt.Sprintf("is %d bytes long, and a safetensors file starts with 8 bytes of header length", size), Mend: againMend}
	}
	var prefix [8]byte
	if n, err := src.ReadAt(prefix[:], 0); n < len(prefix) {
		return nil, &Error{File: name, What: "cannot read the header length", Err: err}
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > maxHeader {
		return nil, &Error{File: name, What: fmt.Sprintf("claims a header of %d bytes, above the format's limit of %d", length, maxHeader),
			Mend: "this is not a safetensors file, or it is damaged"}
	}
	if missing := int64(length) + 8 - size; missing > 0 {
		return nil, &Error{File: name, What: fmt.Sprintf("is truncated inside its header: %d bytes are missing (it has %d of at least %d)",
			missing, size, int64(length)+8), Mend: againMend}
	}
	header := make([]byte, length)
	if n, err := src.ReadAt(header, 8); n < len(header) {
		return nil, &Error{File: name, What: "cannot read the header", Err: err}
	}
	return header, nil
}

// parseHeader decodes the JSON and checks every tensor on its own: known type,
// possible shape, as many bytes as shape and type say.
func parseHeader(header []byte, name string) ([]entry, map[string]string, error) {
	fault := func(tensor, what string) error {
		return &Error{File: name, Tensor: tensor, What: what, Mend: "the header is damaged or was written by a faulty program: make the file again"}
	}
	if !utf8.Valid(header) {
		return nil, nil, fault("", "has a header that is not UTF-8 text")
	}
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, fault("", "has a header that does not start with '{'")
	}
	fields, err := object(header)
	if err != nil {
		return nil, nil, fault("", "has a malformed header: "+err.Error())
	}
	metadata := map[string]string{}
	var entries []entry
	for _, field := range fields {
		if field.key == metadataKey {
			pairs, err := object(field.value)
			if err != nil {
				return nil, nil, fault("", "has malformed "+metadataKey+": "+err.Error())
			}
			for _, pair := range pairs {
				var text string
				if !isString(pair.value) || json.Unmarshal(pair.value, &text) != nil {
					return nil, nil, fault("", fmt.Sprintf("has %s %q that is not a string", metadataKey, pair.key))
				}
				metadata[pair.key] = text
			}
			continue
		}
		e, what := parseEntry(field.key, field.value)
		if what != "" {
			return nil, nil, fault(field.key, what)
		}
		entries = append(entries, e)
	}
	return entries, metadata, nil
}

// parseEntry decodes one tensor's description; what is not empty when it is
// wrong.
func parseEntry(name string, raw []byte) (e entry, what string) {
	fields, err := object(raw)
	if err != nil {
		return e, "has a malformed description: " + err.Error()
	}
	e.name = name
	var offsets []int64
	var seen int
	for _, f := range fields {
		switch f.key {
		case "dtype":
			if !isString(f.value) || json.Unmarshal(f.value, &e.dtype) != nil {
				return e, fmt.Sprintf("has dtype %s, which is not a string", clip(f.value))
			}
			var known bool
			if e.width, known = widths[e.dtype]; !known {
				return e, fmt.Sprintf("has unknown dtype %q", e.dtype)
			}
			seen++
		case "shape":
			sides, ok := naturals(f.value)
			if !ok {
				return e, fmt.Sprintf("has shape %s, want a list of whole numbers of 0 or more", clip(f.value))
			}
			e.shape = make([]int, len(sides))
			for i, s := range sides {
				e.shape[i] = int(s)
			}
			seen++
		case "data_offsets":
			var ok bool
			if offsets, ok = naturals(f.value); !ok || len(offsets) != 2 || offsets[0] > offsets[1] {
				return e, fmt.Sprintf("has data_offsets %s, want [begin, end] with 0 <= begin <= end", clip(f.value))
			}
			seen++
		default:
			return e, fmt.Sprintf("has unknown field %q beside dtype, shape and data_offsets", f.key)
		}
	}
	if seen != 3 { // object has refused fields given twice
		return e, "lacks one of dtype, shape and data_offsets"
	}
	e.begin, e.end = offsets[0], offsets[1]
	count, ok := product(e.shape)
	if !ok || count > math.MaxInt64/int64(e.width) {
		return e, fmt.Sprintf("has shape %v, more elements than can be counted", e.shape)
	}
	if want := count * int64(e.width); e.end-e.begin != want {
		return e, fmt.Sprintf("has shape %v of %s, %d bytes, and data_offsets [%d, %d] of %d bytes",
			e.shape, e.dtype, want, e.begin, e.end, e.end-e.begin)
	}
	e.count = int(count)
	return e, ""
}

// checkLayout checks the tensors together: in order of their bytes they fill
// the size bytes after the header exactly, without overlap or hole. entries
// are put in that order.
func checkLayout(entries []entry, size int64, name string) error {
	sort.Slice(entries, func(i, j int) bool {
		a, b := &entries[i], &entries[j]
		if a.begin != b.begin {
			return a.begin < b.begin
		}
		if a.end != b.end {
			return a.end < b.end
		}
		return a.name < b.name
	})
	var at int64
	previous := ""
	for _, e := range entries {
		if e.begin < at {
			return &Error{File: name, Tensor: e.name, What: fmt.Sprintf("starts at byte %d, inside tensor %q which ends at %d", e.begin, previous, at),
				Mend: "tensors must not overlap: make the file again"}
		}
		if e.begin > at {
			return &Error{File: name, Tensor: e.name, What: fmt.Sprintf("starts at byte %d and leaves a hole of %d bytes before it", e.begin, e.begin-at),
				Mend: "tensors must follow each other without gaps: make the file again"}
		}
		at, previous = e.end, e.name
	}
	if at > size {
		// Name the first tensor that is not whole.
		i := sort.Search(len(entries), func(i int) bool { return entries[i].end > size })
		return &Error{File: name, Tensor: entries[i].name, What: fmt.Sprintf("is cut off: the file is truncated, %d bytes are missing (it has %d of %d bytes of tensors)",
			at-size, size, at), Mend: againMend}
	}
	if at < size {
		return &Error{File: name, What: fmt.Sprintf("has %d bytes after its last tensor", size-at), Mend: againMend}
	}
	return nil
}

type field struct {
	key   string
	value json.RawMessage
}

// object splits a JSON object into its fields in order and refuses keys given
// twice (which encoding/json would silently merge) and anything after it but
// spaces.
func object(raw []byte) ([]field, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil {
		return nil, jsonFault(err)
	} else if t != json.Delim('{') {
		return nil, fmt.Errorf("found %s, want an object", clip(raw))
	}
	var fields []field
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, jsonFault(err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("found %v, want a name", t)
		}
		if seen[key] {
			return nil, fmt.Errorf("name %q is given twice", key)
		}
		seen[key] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, jsonFault(err)
		}
		fields = append(fields, field{key, value})
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, jsonFault(err)
	}
	if rest := bytes.Trim(raw[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, fmt.Errorf("found %s after the end", clip(rest))
	}
	return fields, nil
}

func jsonFault(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("the JSON ends too early")
	}
	return err
}

// naturals decodes a JSON list of whole numbers of 0 or more that fit an int.
func naturals(raw []byte) ([]int64, bool) {
	var list []json.Number
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	// A quoted number would decode into json.Number as well; null into nil.
	if bytes.ContainsAny(raw, `"n`) || d.Decode(&list) != nil {
		return nil, false
	}
	out := make([]int64, len(list))
	for i, number := range list {
		v, err := strconv.ParseInt(number.String(), 10, strconv.IntSize)
		if err != nil || v < 0 {
			return nil, false
		}
		out[i] = v
	}
	return out, true
}

// product multiplies the sides; ok is false when it does not fit. A zero side
// makes the whole product zero whatever the others are.
func product(shape []int) (n int64, ok bool) {
	for _, s := range shape {
		if s == 0 {
			return 0, true
		}
	}
	n = 1
	for _, s := range shape {
		if n > math.MaxInt64/int64(s) {
			return 0, false
		}
		n *= int64(s)
	}
	return n, n <= math.MaxInt
}

func isString(raw []byte) bool { return len(raw) > 0 && raw[0] == '"' }

// clip shortens a piece of the header for an error.
func clip(raw []byte) string {
	const most = 60
	if len(raw) <= most {
		return string(raw)
	}
	return string(bytes.ToValidUTF8(raw[:most], nil)) + "..."
}
