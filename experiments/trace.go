package experiments

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"scalecrafter/model/ops"
)

// tracing is an Engine whose networks can be traced.
type tracing interface{ Trace(*ops.Tracer) }

func (e *engine) Trace(t *ops.Tracer) { e.pipeline.Trace(t) }

// slowest is how many ops the table of a trace has.
const slowest = 12

// traceFile is the file of a trace: made before the run, so that a bad path ends
// it at once, and put in place when all else is done.
type traceFile struct {
	ops.Tracer
	path string
	file *os.File // beside it, until it is whole
}

func newTraceFile(path string) (*traceFile, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, fmt.Errorf("-trace %s is a folder, want a file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return nil, fmt.Errorf("-trace %s cannot be written: %w", path, cause(err))
	}
	return &traceFile{path: path, file: f}, nil
}

// cause is the system's error without the name of the file beside.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// write puts the file in its place.
func (t *traceFile) write() error {
	err := t.writeTo(t.file)
	if err == nil {
		if err = os.Rename(t.file.Name(), t.path); err != nil {
			err = t.failed(err)
		}
	}
	if err != nil {
		os.Remove(t.file.Name())
	}
	return err
}

func (t *traceFile) writeTo(f *os.File) error {
	_, err := t.WriteTo(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return t.failed(err)
	}
	return nil
}

// failed says that only the trace is lost.
func (t *traceFile) failed(err error) error {
	return fmt.Errorf("the trace could not be written to %s (%w); all results are kept", t.path, cause(err))
}

// table lists the slowest ops.
func (t *traceFile) table(w io.Writer) error {
	times := t.Times()
	if len(times) == 0 {
		_, err := fmt.Fprintf(w, "\nno network ran: the trace in %s is empty\n", t.path)
		return err
	}
	total := 0.0
	for _, o := range times {
		total += o.Time.Seconds()
	}
	fmt.Fprintf(w, "\nslowest of %d layers, %.1f s in all; trace for chrome://tracing and ui.perfetto.dev: %s\n\n", len(times), total, t.path)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "share\tseconds\tcalls\tms a call\tGFLOP/s\t  layer")
	for _, o := range times[:min(slowest, len(times))] {
		rate := "-"
		if o.Flops > 0 {
			rate = fmt.Sprintf("%.1f", o.Flops/o.Time.Seconds()/1e9)
		}
		fmt.Fprintf(tw, "%.1f%%\t%.2f\t%d\t%.2f\t%s\t  %s\n", 100*o.Time.Seconds()/total, o.Time.Seconds(), o.Calls, 1e3*o.Time.Seconds()/float64(o.Calls), rate, o.Name)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if n := t.Dropped(); n > 0 {
		fmt.Fprintf(w, "the file has the first events only; %d more are in these sums\n", n)
	}
	return nil
}
