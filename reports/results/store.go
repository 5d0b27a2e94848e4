package results

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Store is the folder that all experiments share:
//
//	<root>/cells/<id>/00017.png      finished images, content-addressed by cell
//	<root>/cells/<id>/00017.json     their records (sealed)
//	<root>/cells/<id>/complete.json  written last: how many images are whole
//	<root>/reference/<id>/00003.json blocks of reference features (sealed)
//	<root>/<name>/                   one experiment: summary.json, config.toml, the report
//
// Every file is written under a temporary name, synced and renamed, so that a
// crash at any point leaves whole files only; sealed files carry a checksum,
// so that damage done later is found and the work is done again.
type Store struct {
	Root string
}

// ErrDamaged marks a file that is not what was written.
var ErrDamaged = errors.New("damaged")

// ErrOneSize marks a summary that is not a Joint.
var ErrOneSize = errors.New("the experiment has one size")

// StorageError is a failure of the file system while writing.
type StorageError struct {
	Path string
	Err  error
}

func (e *StorageError) Error() string {
	text := fmt.Sprintf("write %s: %v", e.Path, unwrapPath(e.Err))
	switch {
	case isDiskFull(e.Err):
		return text + "; free some space and give the same command again: finished images are kept"
	case errors.Is(e.Err, fs.ErrPermission):
		return text + "; make the folder writable or choose another with -out"
	}
	return text
}

func (e *StorageError) Unwrap() error { return e.Err }

// unwrapPath drops the temporary name that an os error quotes.
func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}

// WriteFile replaces a file atomically: temporary name, sync, rename. The
// folder is made where needed. A failure is a *StorageError and leaves the old
// file as it was.
func WriteFile(path string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = &StorageError{Path: path, Err: err}
		}
	}()
	dir := filepath.Dir(path)
	pattern := fmt.Sprintf("%s%s-%d-*", tempPrefix, host(), os.Getpid())
	f, err := os.CreateTemp(dir, pattern)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		f, err = os.CreateTemp(dir, pattern)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Link makes path the same file as target, without copying where the file
// system can (a hard link), and replaces what was there. Nothing is done where
// the two already agree.
func Link(target, path string) error {
	have, err := os.Stat(path)
	if err == nil {
		want, err := os.Stat(target)
		if err != nil {
			return &StorageError{Path: path, Err: err}
		}
		if os.SameFile(have, want) {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return &StorageError{Path: path, Err: err}
		}
	} else if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return &StorageError{Path: path, Err: err}
	}
	if os.Link(target, path) == nil {
		return nil
	}
	data, err := os.ReadFile(target)
	if err != nil {
		return &StorageError{Path: path, Err: err}
	}
	return WriteFile(path, data)
}

// tempPrefix begins the names of unfinished files; the writer's machine and
// process follow, so that Sweep can tell a dead writer from a live one.
const tempPrefix = ".tmp-"

func host() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name)
}

// abandoned reports whether a file is a temporary one of this machine whose
// writer is gone.
func abandoned(name string) bool {
	rest, ok := strings.CutPrefix(name, tempPrefix+host()+"-")
	if !ok {
		return false
	}
	number, _, _ := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(number)
	return err == nil && pid != os.Getpid() && !alive(pid)
}

// sealed is the frame of a record: the checksum is over the record's bytes,
// and the seconds stand outside it, because they are the one thing that differs
// between two runs that computed the same.
type sealed struct {
	Version int             `json:"version"`
	Record  json.RawMessage `json:"record"`
	SHA256  string          `json:"sha256"`
	Seconds float64         `json:"seconds"`
}

// WriteSealed writes a record as JSON with a checksum. Seconds is the wall
// time that the record's work took.
func WriteSealed(path string, record any, seconds float64) error {
	body, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	sum := sha256.Sum256(body)
	data, err := json.Marshal(sealed{Version: SchemaVersion, Record: body, SHA256: hex.EncodeToString(sum[:]), Seconds: seconds})
	if err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	return WriteFile(path, append(data, '\n'))
}

// ReadSealed reads what WriteSealed wrote. The error is fs.ErrNotExist where
// there is no file and ErrDamaged where it is not whole.
func ReadSealed(path string, record any) (seconds float64, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return decodeSealed(path, data, record)
}

func decodeSealed(path string, data []byte, record any) (float64, error) {
	var s sealed
	if err := json.Unmarshal(data, &s); err != nil {
		return 0, fmt.Errorf("%s: %w: %v", path, ErrDamaged, err)
	}
	if s.Version != SchemaVersion {
		return 0, fmt.Errorf("%s: %w: schema version %d, this program writes %d", path, ErrDamaged, s.Version, SchemaVersion)
	}
	sum := sha256.Sum256(s.Record)
	if hex.EncodeToString(sum[:]) != s.SHA256 {
		return 0, fmt.Errorf("%s: %w: the checksum does not match", path, ErrDamaged)
	}
	if err := json.Unmarshal(s.Record, record); err != nil {
		return 0, fmt.Errorf("%s: %w: %v", path, ErrDamaged, err)
	}
	if math.IsNaN(s.Seconds) || s.Seconds < 0 {
		return 0, fmt.Errorf("%s: %w: %v seconds", path, ErrDamaged, s.Seconds)
	}
	return s.Seconds, nil
}

// Vector is a float32 vector that JSON holds exactly: base64 of its
// little-endian bytes.
type Vector []float32

// MarshalText implements encoding.TextMarshaler.
func (v Vector) MarshalText() ([]byte, error) {
	raw := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(x))
	}
	return []byte(base64.StdEncoding.EncodeToString(raw)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Vector) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("vector: %w", err)
	}
	if len(raw)%4 != 0 {
		return fmt.Errorf("vector: %d bytes are no whole number of float32", len(raw))
	}
	*v = make(Vector, len(raw)/4)
	for i := range *v {
		(*v)[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return nil
}

// Sample is the record of one finished image.
type Sample struct {
	Index  uint64  `json:"index"`
	Prompt string  `json:"prompt"`
	PNG    string  `json:"png"` // sha256 of the image file
	NFE    float64 `json:"nfe"`
	// What the detector counted.
	Bodies int `json:"bodies"`
	Eyes   int `json:"eyes"`
	Mouths int `json:"mouths"`
	// What the classifier read as the prompt says.
	Shape      bool   `json:"shape"`
	Color      bool   `json:"color"`
	Background bool   `json:"background"`
	Pattern    bool   `json:"pattern"`
	Features   Vector `json:"features"`
}

// CellDir is one cell's folder in the store.
type CellDir struct {
	Path string
}

// Cell is the folder of the cell with this ID.
func (s Store) Cell(id string) CellDir { return CellDir{filepath.Join(s.Root, "cells", id)} }

// ReferenceBlock is the file of one block of reference features.
func (s Store) ReferenceBlock(id string, block int) string {
	return filepath.Join(s.Root, "reference", id, fmt.Sprintf("%05d.json", block))
}

// RunDir is the folder of the experiment with this name.
func (s Store) RunDir(name string) string { return filepath.Join(s.Root, name) }

// ImagePath is the PNG of a sample.
func (c CellDir) ImagePath(index int) string {
	return filepath.Join(c.Path, fmt.Sprintf("%05d.png", index))
}

func (c CellDir) recordPath(index int) string {
	return filepath.Join(c.Path, fmt.Sprintf("%05d.json", index))
}

// Put stores an image and then its record; with the record there, the sample
// is finished. It fills in s.PNG.
func (c CellDir) Put(s Sample, png []byte, seconds float64) error {
	sum := sha256.Sum256(png)
	s.PNG = hex.EncodeToString(sum[:])
	if err := WriteFile(c.ImagePath(int(s.Index)), png); err != nil {
		return err
	}
	return WriteSealed(c.recordPath(int(s.Index)), s, seconds)
}

// Get reads a finished sample and checks its image. The error is
// fs.ErrNotExist where it was never finished and ErrDamaged where it has to be
// drawn again.
func (c CellDir) Get(index int) (Sample, float64, error) {
	var s Sample
	seconds, err := ReadSealed(c.recordPath(index), &s)
	if err != nil {
		return Sample{}, 0, err
	}
	if s.Index != uint64(index) {
		return Sample{}, 0, fmt.Errorf("%s: %w: it is the record of sample %d", c.recordPath(index), ErrDamaged, s.Index)
	}
	png, err := os.ReadFile(c.ImagePath(index))
	if err != nil {
		return Sample{}, 0, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if sum := sha256.Sum256(png); hex.EncodeToString(sum[:]) != s.PNG {
		return Sample{}, 0, fmt.Errorf("%s: %w: the checksum does not match", c.ImagePath(index), ErrDamaged)
	}
	return s, seconds, nil
}

// Description is what a cell's folder says about itself, for people.
type Description struct {
	ID       string            `json:"id"`
	Settings map[string]string `json:"settings"`
}

// Describe writes cell.json where it is missing or differs.
func (c CellDir) Describe(d Description) error {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	path := filepath.Join(c.Path, "cell.json")
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return WriteFile(path, data)
}

// completion is the marker that a cell's first Count images are whole.
type completion struct {
	Count int `json:"count"`
}

// Complete is the number of images that the marker vouches for; 0 without one.
func (c CellDir) Complete() int {
	var m completion
	if _, err := ReadSealed(filepath.Join(c.Path, "complete.json"), &m); err != nil {
		return 0
	}
	return m.Count
}

// MarkComplete says that samples 0..count-1 are finished.
func (c CellDir) MarkComplete(count int) error {
	if c.Complete() >= count {
		return nil
	}
	return WriteSealed(filepath.Join(c.Path, "complete.json"), completion{Count: count}, 0)
}

// Sweep removes unfinished files that killed processes left in the folder;
// those of live processes stay.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && abandoned(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return &StorageError{Path: filepath.Join(dir, e.Name()), Err: err}
			}
		}
	}
	return nil
}

// summaryName is the summary's file in a run's folder.
const summaryName = "summary.json"

// WriteSummary replaces the summary of a run's folder atomically.
func WriteSummary(runDir string, s *Summary) error {
	s.Version = SchemaVersion
	return writeSummary(runDir, s)
}

// WriteJoint replaces the summary of an experiment at several sizes.
func WriteJoint(runDir string, j *Joint) error {
	j.Version = SchemaVersion
	return writeSummary(runDir, j)
}

func writeSummary(runDir string, v any) error {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	return WriteFile(filepath.Join(runDir, summaryName), append(data, '\n'))
}

// ReadSummary reads the summary of a run's folder.
func ReadSummary(runDir string) (*Summary, error) {
	path := filepath.Join(runDir, summaryName)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return DecodeSummary(path, data)
}

// ReadJoint reads the summary of an experiment at several sizes.
func ReadJoint(runDir string) (*Joint, error) {
	path := filepath.Join(runDir, summaryName)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return DecodeJoint(path, data)
}

// IsJoint reports whether a summary file is one of several sizes.
func IsJoint(data []byte) bool {
	var head struct {
		Panels []json.RawMessage `json:"panels"`
	}
	return json.Unmarshal(data, &head) == nil && len(head.Panels) > 0
}

// DecodeSummary parses a summary; name is the file in error messages.
func DecodeSummary(name string, data []byte) (*Summary, error) {
	s := &Summary{}
	if err := decodeSummary(name, data, s, &s.Version); err != nil {
		return nil, err
	}
	if IsJoint(data) {
		return nil, fmt.Errorf("%s: the experiment has several sizes; read the summary in the folder of one", name)
	}
	return s, nil
}

// DecodeJoint parses a summary of several sizes; name is the file in error
// messages.
func DecodeJoint(name string, data []byte) (*Joint, error) {
	j := &Joint{}
	if err := decodeSummary(name, data, j, &j.Version); err != nil {
		return nil, err
	}
	if len(j.Panels) == 0 {
		return nil, fmt.Errorf("%s: %w; its summary lists no panels", name, ErrOneSize)
	}
	for i, p := range j.Panels {
		if p.Summary == nil {
			return nil, fmt.Errorf("%s: %w: panel %d has no summary; run the experiment again to rebuild it", name, ErrDamaged, i)
		}
	}
	return j, nil
}

func decodeSummary(name string, data []byte, into any, version *int) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w: %v; run the experiment again to rebuild it", name, ErrDamaged, err)
	}
	if *version != SchemaVersion {
		return fmt.Errorf("%s: schema version %d, this program reads %d; run the experiment again to rebuild it", name, *version, SchemaVersion)
	}
	return nil
}
