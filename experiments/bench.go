package experiments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"scalecrafter/model/kernels"
	"scalecrafter/model/ops"
	"scalecrafter/reports"
	"scalecrafter/reports/results"
)

const benchUsage = `usage: scalecrafter bench [flags]

Measures the layers of Stable Diffusion 1.5, SDXL and the built-in network one
by one, or whole steps: time, speed against the machine's own peak, and error
against float64. docs/benchmarks/ compares the same cases with other programs.

`

// benchOptions are the bench command's flags.
type benchOptions struct {
	json        string
	threads     int
	only        *regexp.Regexp
	quick       bool
	steps, list bool
	maths       []kernels.Math
	time        time.Duration
	weights     string
	keep        bool
	packed      int // MiB
	trace       string
}

// benchReport is what -json writes.
type benchReport struct {
	CPU     string  `json:"cpu"`
	Cores   int     `json:"cores"`
	Go      string  `json:"go"`
	Path    string  `json:"path"` // kernels.Path
	Threads int     `json:"threads"`
	Peak    float64 `json:"peak_gflops"` // of float32 multiply-adds on these threads; 0: not known
	// BF16Path is the path of the bfloat16 modes and BF16Peak what its products
	// reach on these threads, 0 where it has none but float32's.
	BF16Path string  `json:"bf16_path"`
	BF16Peak float64 `json:"bf16_peak_gflops,omitempty"`
	// Skipped says why a mode that was asked for was not measured.
	Skipped map[string]string `json:"skipped,omitempty"`
	Results []*benchResult    `json:"results"`
}

// benchResult is one measured case. Times are in milliseconds.
type benchResult struct {
	benchCase
	Math   string    `json:"math"`
	Median float64   `json:"ms"`
	Low    float64   `json:"ms_q1"` // quartiles
	High   float64   `json:"ms_q3"`
	Times  []float64 `json:"times_ms"`
	// GFLOPS counts the operations of the plain algorithm, so that a fast one
	// may exceed the peak; Share is GFLOPS over the peak of the mode: the
	// float32 multiply-adds', or the bfloat16 products' (BF16x3 needs three).
	GFLOPS float64     `json:"gflops,omitempty"`
	Share  float64     `json:"share,omitempty"`
	Error  *benchError `json:"error,omitempty"`
	// Of a step, in bytes: what its peak was planned to be before anything was
	// taken, most resident memory of the process while it was compiled and ran
	// (VmHWM), the arena and scratch, what is kept from run to run besides the
	// weights, and all weights.
	Plan    *stepPlan `json:"plan,omitempty"`
	PeakRSS int64     `json:"peak_rss,omitempty"`
	Arena   int64     `json:"arena,omitempty"`
	Kept    int64     `json:"kept,omitempty"`
	Weights int64     `json:"weights,omitempty"`
}

func parseMaths(list string) ([]kernels.Math, error) {
	var out []kernels.Math
	for name := range strings.SplitSeq(list, ",") {
		m, err := kernels.ParseMath(name)
		if err != nil {
			return nil, fmt.Errorf("-math: %w", err)
		}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out, nil
}

// Bench is the bench command. The result is the process's exit code.
func Bench(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseBench(args, stderr)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return ExitDone
		}
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return ExitBadInput
	}
	cases, err := benchCases(o.quick)
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return ExitFailed
	}
	all := len(cases)
	cases = slices.DeleteFunc(cases, func(c *benchCase) bool {
		return (c.Step != nil) != o.steps || o.only != nil && !o.only.MatchString(c.Name)
	})
	if len(cases) == 0 {
		fmt.Fprintf(stderr, "bench: none of the %d cases is left by -only and -steps: -list shows their names\n", all)
		return ExitBadInput
	}
	if o.list {
		for _, c := range cases {
			if c.Step != nil && err == nil {
				c.Step.Config, err = benchNet(c.Step.Net)
			}
		}
		if err == nil {
			err = writeJSON("-", cases, stdout)
		}
		if err != nil {
			fmt.Fprintf(stderr, "bench: %v\n", err)
			return ExitFailed
		}
		return ExitDone
	}
	report, err := o.measure(ctx, cases, stderr)
	if err != nil {
		if ctx.Err() != nil {
			return ExitInterrupted
		}
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return ExitFailed
	}
	if o.json != "-" {
		err = report.table(stdout)
	}
	if err == nil && o.json != "" {
		err = writeJSON(o.json, report, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return ExitFailed
	}
	return ExitDone
}

func parseBench(args []string, stderr io.Writer) (*benchOptions, error) {
	o := &benchOptions{}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, benchUsage); fs.PrintDefaults() }
	fs.StringVar(&o.json, "json", "", "write the results to this `file`; - writes them to the standard output in the table's place")
	fs.IntVar(&o.threads, "threads", runtime.GOMAXPROCS(0), "`number` of threads")
	only := fs.String("only", "", "measure the cases whose name matches this `regexp`")
	fs.BoolVar(&o.quick, "quick", false, "a few tiny cases of every kind, once each")
	fs.BoolVar(&o.steps, "steps", false, "whole U-Net steps with random weights instead of layers")
	fs.BoolVar(&o.list, "list", false, "write the cases as JSON and stop")
	maths := fs.String("math", strings.Join(kernels.MathNames, ","), "arithmetic `modes`; those without a fast path on this machine are left out")
	fs.DurationVar(&o.time, "time", time.Second, "measure each case for this `long`, and at least 3 times (a step once)")
	fs.StringVar(&o.weights, "weights", os.TempDir(), "`folder` for the file of random weights, 3.4 GB for SD 1.5")
	fs.IntVar(&o.packed, "packed", 1024, "`MiB` of weights laid out for the kernels that a step keeps from run to run; the rest is laid out in each")
	fs.StringVar(&o.trace, "trace", "", "record every layer of one run more of each step in this `file`, in Chrome's format, and list the slowest")
	fs.BoolVar(&o.keep, "keep", false, "keep that file and use it again")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	var err error
	switch {
	case fs.NArg() > 0:
		return nil, fmt.Errorf("argument %q is not understood: settings are given as flags", fs.Arg(0))
	case o.threads < 1 || o.threads > 4096:
		return nil, fmt.Errorf("-threads is %d, want 1 to 4096", o.threads)
	case o.trace != "" && !o.steps:
		return nil, errors.New("-trace records steps: give -steps too")
	case o.packed < 0 || o.packed > 1<<20:
		return nil, fmt.Errorf("-packed is %d, want 0 to a million", o.packed)
	case o.time < 0 || o.time > time.Hour:
		return nil, fmt.Errorf("-time is %v, want 0 to an hour", o.time)
	}
	if o.quick {
		o.time = 0
	}
	if *only != "" {
		if o.only, err = regexp.Compile(*only); err != nil {
			return nil, fmt.Errorf("-only: %w", err)
		}
	}
	o.maths, err = parseMaths(*maths)
	return o, err
}

// measure runs the cases, each in every mode.
func (o *benchOptions) measure(ctx context.Context, cases []*benchCase, stderr io.Writer) (*benchReport, error) {
	p := kernels.NewPool(o.threads)
	defer p.Close()
	r := &benchReport{CPU: cpuName(), Cores: runtime.NumCPU(), Go: runtime.Version(), Path: kernels.Path(), Threads: o.threads, Peak: kernels.PeakGFLOPS(p), BF16Path: kernels.BF16Path(), BF16Peak: kernels.BF16PeakGFLOPS(p), Skipped: map[string]string{}}
	if err := kernels.PathError(); err != nil {
		fmt.Fprintln(stderr, "note:", err)
	}
	var steps *stepBench
	if o.steps {
		steps = &stepBench{dir: o.weights, keep: o.keep, packed: o.packed << 20, files: map[string]string{}}
		defer steps.close()
		if o.trace != "" {
			steps.trace = &ops.Tracer{}
		}
	}
	for _, m := range o.maths {
		if why := m.Fallback(); why != "" {
			fmt.Fprintf(stderr, "note: %s is left out: %s\n", m, why)
			r.Skipped[m.String()] = why
			continue
		}
		for _, c := range cases {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			result := &benchResult{benchCase: *c, Math: m.String()}
			if c.Step != nil {
				if err := steps.measure(ctx, p, result, m, o.time, stderr); err != nil {
					return nil, fmt.Errorf("%s: %w", c.Name, err)
				}
			} else {
				l := newBenchLayer(p, c, m)
				l.run()
				e := l.error()
				result.Error = &e
				result.Times = timeRuns(ctx, l.run, o.time, 3)
			}
			result.summarise(r.peak(m))
			r.Results = append(r.Results, result)
			fmt.Fprintf(stderr, "%-60s %-8s %10.3f ms\n", c.Name, result.Math, result.Median)
		}
	}
	if steps != nil && steps.trace != nil {
		var b bytes.Buffer
		if _, err := steps.trace.WriteTo(&b); err != nil {
			return nil, err
		}
		if err := results.WriteFile(o.trace, b.Bytes()); err != nil {
			return nil, err
		}
		for _, t := range steps.trace.Times()[:min(20, len(steps.trace.Times()))] {
			fmt.Fprintf(stderr, "%9.1f ms %3dx %6.1f GFLOP/s %s\n", t.Time.Seconds()*1000, t.Calls, t.Flops/t.Time.Seconds()/1e9, t.Name)
		}
	}
	return r, nil
}

// peak is the yardstick of a mode.
func (r *benchReport) peak(m kernels.Math) float64 {
	if m != kernels.Float32 && r.BF16Peak > 0 {
		return r.BF16Peak
	}
	return r.Peak
}

// timeRuns runs f until the time is up, at least the given number of times,
// and returns each run's milliseconds.
func timeRuns(ctx context.Context, f func(), atLeast time.Duration, runs int) []float64 {
	var out []float64
	begin := time.Now()
	for len(out) < runs || time.Since(begin) < atLeast {
		if ctx.Err() != nil && len(out) > 0 {
			break
		}
		start := time.Now()
		f()
		out = append(out, time.Since(start).Seconds()*1000)
	}
	return out
}

// summarise fills what follows from the times.
func (r *benchResult) summarise(peak float64) {
	sorted := slices.Sorted(slices.Values(r.Times))
	r.Low, r.Median, r.High = quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75)
	r.GFLOPS = r.flops() / r.Median / 1e6
	if peak > 0 {
		r.Share = r.GFLOPS / peak
	}
}

// quantile of sorted values, interpolated linearly.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	lo := int(math.Floor(at))
	hi := min(lo+1, len(sorted)-1)
	return sorted[lo] + (at-float64(lo))*(sorted[hi]-sorted[lo])
}

// table prints the results, a table each for layers and steps.
func (r *benchReport) table(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d cores; %d threads, %s kernels", r.CPU, r.Cores, r.Threads, r.Path)
	if r.Peak > 0 {
		fmt.Fprintf(w, ", peak %.0f GFLOP/s", r.Peak)
	}
	if r.BF16Peak > 0 {
		fmt.Fprintf(w, ", bfloat16 by %s, peak %.0f GFLOP/s", r.BF16Path, r.BF16Peak)
	}
	fmt.Fprintln(w)
	layers := [][]string{}
	steps := [][]string{}
	for _, b := range r.Results {
		head := []string{b.Name, b.Math, fmt.Sprintf("%.3f", b.Median), fmt.Sprintf("%.3f-%.3f", b.Low, b.High)}
		if b.Step != nil {
			steps = append(steps, append(head, mebibytes(int64(b.Plan.Total)), mebibytes(b.PeakRSS), mebibytes(b.Arena), mebibytes(b.Kept), mebibytes(b.Weights)))
			continue
		}
		share := "-"
		if b.Share > 0 {
			share = fmt.Sprintf("%.0f%%", 100*b.Share)
		}
		layers = append(layers, append(head, fmt.Sprint(b.Uses), fmt.Sprintf("%.1f", b.GFLOPS), share, fmt.Sprintf("%.1e", b.Error.Relative), fmt.Sprintf("%.2f", b.Error.Ratio)))
	}
	if len(layers) > 0 {
		if err := reports.Grid(w, []string{"layer", "math", "ms", "quartiles", "uses", "GFLOP/s", "of peak", "error", "of plain fp32's"}, layers); err != nil {
			return err
		}
	}
	if len(steps) > 0 {
		return reports.Grid(w, []string{"step", "math", "ms", "quartiles", "plan MiB", "peak MiB", "arena MiB", "kept MiB", "weights MiB"}, steps)
	}
	return nil
}

func mebibytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", float64(n)/(1<<20))
}

func writeJSON(path string, v any, stdout io.Writer) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if path == "-" {
		_, err = stdout.Write(b)
		return err
	}
	return results.WriteFile(path, b)
}
