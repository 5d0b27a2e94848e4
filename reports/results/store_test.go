package results

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sample(i uint64) Sample {
	return Sample{Index: i, Prompt: "a <red> critter", NFE: 40, Bodies: 1, Eyes: 2, Mouths: 1, Shape: true, Pattern: true,
		Features: Vector{0, -0.5, math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(1))}}
}

func TestPutAndGet(t *testing.T) {
	c := Store{t.TempDir()}.Cell("abc")
	if _, _, err := c.Get(3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	want := sample(3)
	if err := c.Put(want, []byte("picture"), 1.5); err != nil {
		t.Fatal(err)
	}
	got, seconds, err := c.Get(3)
	if err != nil || seconds != 1.5 {
		t.Fatalf("%v, %v seconds", err, seconds)
	}
	want.PNG = got.PNG
	if !reflect.DeepEqual(got, want) || len(got.PNG) != 64 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if c.Complete() != 0 {
		t.Error("complete without a marker")
	}
	for _, n := range []int{4, 2} { // a smaller count does not take the larger back
		if err := c.MarkComplete(n); err != nil {
			t.Fatal(err)
		}
		if c.Complete() != 4 {
			t.Errorf("complete %d, want 4", c.Complete())
		}
	}
}

// Any single changed, missing or added byte in the record or the picture is
// found.
func TestEveryDamageIsFound(t *testing.T) {
	c := Store{t.TempDir()}.Cell("abc")
	if err := c.Put(sample(0), []byte("picture"), 1); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{c.recordPath(0), c.ImagePath(0)} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		try := func(what string, data []byte) {
			t.Helper()
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			got, _, err := c.Get(0)
			if err == nil {
				// The frame's blanks and the seconds are not under the checksum;
				// the sample is, so it must be the one written.
				got.PNG = ""
				if !reflect.DeepEqual(got, sample(0)) {
					t.Errorf("%s, %s: read %+v", filepath.Base(path), what, got)
				}
			} else if !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s: %v, want ErrDamaged", filepath.Base(path), what, err)
			}
		}
		for i := 0; i < len(whole); i += 3 {
			bad := bytes.Clone(whole)
			bad[i] ^= 1
			try("a bit", bad)
			try("truncated", whole[:i])
		}
		try("longer", append(bytes.Clone(whole), whole...))
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(c.ImagePath(0)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Get(0); !errors.Is(err, ErrDamaged) {
		t.Errorf("picture gone: %v, want ErrDamaged", err)
	}
}

func TestRecordOfAnotherSample(t *testing.T) {
	c := Store{t.TempDir()}.Cell("abc")
	if err := c.Put(sample(1), []byte("picture"), 1); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{".png", ".json"} {
		if err := os.Rename(filepath.Join(c.Path, "00001"+ext), filepath.Join(c.Path, "00002"+ext)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.Get(2); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

// A failed write names the file, says how to mend it and leaves the old one.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "folder", "file")
	if err := WriteFile(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	blocked := filepath.Join(path, "below") // a file is no folder
	err := WriteFile(blocked, []byte("new"))
	var se *StorageError
	if !errors.As(err, &se) || se.Path != blocked {
		t.Fatalf("got %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "old" {
		t.Errorf("old file: %q, %v", data, err)
	}
	for err, want := range map[error]string{
		syscall.ENOSPC: "free some space and give the same command again: finished images are kept",
		syscall.EACCES: "make the folder writable or choose another with -out",
	} {
		text := (&StorageError{Path: "runs/x", Err: &fs.PathError{Op: "write", Path: "runs/.tmp-1", Err: err}}).Error()
		if !strings.HasPrefix(text, "write runs/x: ") || !strings.HasSuffix(text, want) || strings.Contains(text, ".tmp-") {
			t.Errorf("got %q", text)
		}
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	mine := tempPrefix + host() + "-" + "1-xyz" // process 1 is alive
	dead := tempPrefix + host() + "-" + "999999999-xyz"
	other := tempPrefix + "elsewhere-999999999-xyz"
	for _, name := range []string{mine, dead, other, "00001.png"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Errorf("left %v", entries)
	}
	if _, err := os.Stat(filepath.Join(dir, dead)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a dead process's file stays")
	}
	if err := Sweep(filepath.Join(dir, "nowhere")); err != nil {
		t.Errorf("no folder: %v", err)
	}
}

func TestLink(t *testing.T) {
	dir := t.TempDir()
	target, path := filepath.Join(dir, "a.png"), filepath.Join(dir, "run", "images", "b.png")
	for _, content := range []string{"first", "second"} {
		if err := WriteFile(target, []byte(content)); err != nil { // a new file each time
			t.Fatal(err)
		}
		for range 2 {
			if err := Link(target, path); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != content {
			t.Errorf("got %q, %v, want %q", data, err, content)
		}
	}
}

func TestSummaryRoundTrip(t *testing.T) {
	dir := t.TempDir()
	one := 2.0
	want := &Summary{Name: "x", Cells: []Cell{{ID: "1", Metrics: map[string]Value{"fid_r": {Mean: 1.0 / 3, HasInterval: true}}, Axes: []Axis{{Name: "factor", Text: "2", Number: &one}}}},
		PictureRows: []string{"1"}, PictureColumns: []int{0, 2}, Provenance: Provenance{Started: time.Unix(5, 6).UTC()}}
	if err := WriteSummary(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadSummary(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: got %+v, want %+v", err, got, want)
	}
	for name, text := range map[string]string{"truncated": `{"version":1,"na`, "older": `{"version":0}`} {
		if _, err := DecodeSummary("summary.json", []byte(text)); err == nil || !strings.Contains(err.Error(), "run the experiment again") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Readers never panic, and what they accept they write back the same.
func FuzzSealed(f *testing.F) {
	dir := f.TempDir()
	c := Store{dir}.Cell("x")
	if err := c.Put(sample(0), nil, 2); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(c.recordPath(0))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{data, data[:len(data)/2], nil, []byte("{}"), []byte(`{"version":1,"record":null,"sha256":""}`), []byte(`{"version":1,"record":{"features":"AAA="}}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Sample
		if _, err := decodeSealed("x", data, &s); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%v is no ErrDamaged", err)
		}
		if _, err := DecodeSummary("x", data); err == nil && !bytes.Contains(data, []byte("version")) {
			t.Error("a summary without a version is accepted")
		}
		var v Vector
		if v.UnmarshalText(data) == nil {
			text, err := v.MarshalText()
			var again Vector
			if err != nil || again.UnmarshalText(text) != nil || len(again) != len(v) {
				t.Errorf("vector of %d numbers changes", len(v))
			}
		}
	})
}

func TestJointRoundTrip(t *testing.T) {
	dir := t.TempDir()
	want := &Joint{Name: "x", Panels: []Panel{{Folder: "8x8", Summary: &Summary{Name: "x", Height: 8}}}}
	if err := WriteJoint(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadJoint(dir)
	if err != nil || len(got.Panels) != 1 || got.Panels[0].Summary.Height != 8 || got.Version != SchemaVersion {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ReadSummary(dir); err == nil || !strings.Contains(err.Error(), "several sizes") {
		t.Errorf("a joint summary passes for one of one size: %v", err)
	}
	if err := WriteSummary(dir, want.Panels[0].Summary); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadJoint(dir); err == nil || !strings.Contains(err.Error(), "one size") {
		t.Errorf("a summary of one size passes for a joint one: %v", err)
	}
	for _, text := range []string{`{"version":1,"panels":[{"folder":"a"}]}`, `{"version":9,"panels":[{}]}`, `{`} {
		if _, err := DecodeJoint("summary.json", []byte(text)); err == nil {
			t.Errorf("%s passed", text)
		}
	}
}

// Receipts of the first programs, which had factors only, still read.
func TestOldReceiptReads(t *testing.T) {
	s, err := DecodeSummary("summary.json", []byte(`{"version":1,"cells":[{"id":"a","plan":[{"layer":"l","network":"main","factors":[2,1]}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := &s.Cells[0].Plan[0]
	if side, transform := r.Kernel(0); r.Column(0) != 2 || side != 3 || transform != "" || s.Cells[0].GuidanceScale != nil {
		t.Errorf("%+v", s.Cells[0])
	}
}
