package weights

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"
)

// nativeLittle says that this machine's numbers lie as the format's do.
var nativeLittle = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// Map is Open with the file's bytes mapped into memory: a tensor of type F32
// that lies at a multiple of four bytes is then not copied, and its Data is a
// view of the file. Only pages that are read take memory, and Release drops
// them again. All other tensors, and all tensors where the system cannot map
// files, are read and converted as with Open.
//
// Views are read-only: writing to one ends the program. They are valid until
// Close, whoever holds them; a mapped File that is never closed keeps its
// mapping as long as the process lives. The file must not be changed in place
// meanwhile: a view of a file that was cut short faults where the missing pages
// are read, which ends the program (SIGBUS). Intact, before a run, tells that
// apart in time; a file replaced by Write is a new one and leaves the views as
// they are.
func Map(path string) (*File, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	if !nativeLittle || f.size == 0 || int64(int(f.size)) != f.size {
		return f, nil
	}
	if f.mapped, err = mapFile(f.closer.(*os.File), int(f.size)); err != nil {
		f.Close()
		return nil, &Error{File: path, What: "cannot be mapped into memory", Mend: "open it without mapping", Err: err}
	}
	return f, nil
}

// OpenWithin is Open for a file of at most budget bytes and Map for a larger
// one.
func OpenWithin(path string, budget int64) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > budget {
		return Map(path)
	}
	return Open(path)
}

// Mapped reports whether tensors may be views of the file.
func (f *File) Mapped() bool { return f.mapped != nil }

// view is the tensor's values in the mapped file, nil if they must be read.
func (f *File) view(e *entry) []float32 {
	at := f.data + e.begin
	if f.mapped == nil || e.dtype != "F32" || at%4 != 0 || e.count == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&f.mapped[at])), e.count)
}

// Release drops the memory of x, a view of this file or a part of one, once it
// has been used: all pages that x fills. Reading x again reads the file again,
// or the system's cache of it. Slices that are no views of this file are left
// alone. It is only a hint where the system has no such call.
func (f *File) Release(x []float32) {
	if len(f.mapped) == 0 || len(x) == 0 {
		return
	}
	base, p := uintptr(unsafe.Pointer(&f.mapped[0])), uintptr(unsafe.Pointer(&x[0]))
	if p < base || p+uintptr(4*len(x)) > base+uintptr(len(f.mapped)) {
		return
	}
	page := os.Getpagesize() // base is a multiple of it
	begin, end := int(p-base), int(p-base)+4*len(x)
	begin = (begin + page - 1) / page * page
	if end < len(f.mapped) { // else the last page is filled by the file's end
		end = end / page * page
	}
	if begin < end {
		dropPages(f.mapped[begin:end])
	}
}

// Intact returns an error if a file on the disk is no longer as long as it was
// when it was opened. Call it before a run that reads views.
func (f *File) Intact() error {
	file, ok := f.closer.(*os.File)
	if !ok {
		return nil
	}
	st, err := file.Stat()
	if err != nil {
		return err
	}
	if st.Size() < f.size {
		return &Error{File: f.name, What: fmt.Sprintf("was cut from %d to %d bytes after it was opened", f.size, st.Size()), Mend: "leave weights alone while they are in use: copy or make the file again"}
	}
	return nil
}
