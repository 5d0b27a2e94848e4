package experiments

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTrace draws the smoke test's cells smaller with the built-in model and
// holds the trace, the table, the memory plan and what is said of bad paths.
func TestTrace(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		args = append([]string{"-config", "../configs/smoke.toml", "-set", "sample.count=2", "-set", "reference.count=2", "-set", "reference.base_count=2",
			"-set", "sample.steps=2", "-out", filepath.Join(dir, "runs"), "-workers", "1"}, args...)
		code := Main(context.Background(), args, &stdout, &stderr, OpenModel)
		return code, stdout.String(), stderr.String()
	}
	entries := func() int {
		e, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "no such folder", "t.json"): "no such file or directory", dir: "is a folder",
	} {
		if code, _, stderr := run("-trace", path); code != ExitBadInput || !strings.Contains(stderr, want) || !strings.Contains(stderr, path) {
			t.Errorf("-trace %s ends with %d and %q, want %d and %q", path, code, stderr, ExitBadInput, want)
		}
	}
	if code, _, stderr := run("-trace", filepath.Join(dir, "t.json"), "-dry-run"); code != ExitBadInput || !strings.Contains(stderr, "-dry-run") {
		t.Errorf("-trace with -dry-run ends with %d and %q", code, stderr)
	}
	if n := entries(); n != 0 {
		t.Errorf("%d files are left of runs that could not begin", n)
	}
	if code, stdout, stderr := run("-dry-run"); code != ExitDone || !strings.Contains(stdout, "memory: about") || !strings.Contains(stdout, "each worker") {
		t.Errorf("-dry-run ends with %d and plans no memory in %q (%s)", code, stdout, stderr)
	}
	path := filepath.Join(dir, "t.json")
	code, stdout, stderr := run("-trace", path)
	if code != ExitDone || !strings.Contains(stderr, "memory: about") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"slowest of", "GFLOP/s", "conv2D", path} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in the table:\n%s", want, stdout)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var trace struct {
		TraceEvents []struct{ Name string } `json:"traceEvents"`
	}
	if err := json.Unmarshal(data, &trace); err != nil || len(trace.TraceEvents) < 100 {
		t.Errorf("%d events, %v", len(trace.TraceEvents), err)
	}
	// Nothing is left to draw: an empty trace, which says so.
	if code, stdout, stderr := run("-trace", path); code != ExitDone || !strings.Contains(stdout, "no network ran") || strings.Contains(stderr, "memory:") {
		t.Errorf("a finished run ends with %d, %q and %q", code, stdout, stderr)
	}
	if n := entries(); n != 2 {
		t.Errorf("%d files, want the trace and the results", n)
	}
}

// TestTraceFullDisk holds what is said when the trace cannot be written at the
// end.
func TestTraceFullDisk(t *testing.T) {
	f, err := newTraceFile(filepath.Join(t.TempDir(), "t.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.file.Name())
	f.file.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	if err := f.writeTo(full); err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), "all results are kept") {
		t.Errorf("error %v", err)
	}
}
