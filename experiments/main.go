package experiments

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"scalecrafter/ablation"
	"scalecrafter/configs"
	"scalecrafter/model/kernels"
	"scalecrafter/reports/results"
)

// Exit codes of Main.
const (
	ExitDone        = 0
	ExitFailed      = 1   // something failed; what is finished is kept
	ExitBadInput    = 2   // nothing ran
	ExitInterrupted = 130 // by the context; what is finished is kept
)

// defaultBatch is the number of images that a worker draws at a time. It
// changes no image, only speed and how much an interruption loses.
const defaultBatch = 8

// options are the command line's.
type options struct {
	config  string
	out     string
	workers int
	batch   int
	sets    stringList
	dryRun  bool
	quiet   bool
	trace   string
}

type stringList []string

func (l *stringList) String() string     { return strings.Join(*l, " ") }
func (l *stringList) Set(s string) error { *l = append(*l, s); return nil }

const usage = `usage: scalecrafter -config FILE [flags]

Runs the experiment that a TOML file describes, reusing everything that is
already finished, and writes its report.

`

// Main runs one experiment from the command line and returns the exit code.
// Tables go to stdout; progress and errors to stderr.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer, open Opener) int {
	var o options
	flags := flag.NewFlagSet("scalecrafter", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage); flags.PrintDefaults() }
	flags.StringVar(&o.config, "config", "", "the experiment's TOML `file`, for instance configs/ablate_dilation.toml")
	flags.StringVar(&o.out, "out", "runs", "`folder` for results: the experiment's own folder and the shared store of cells")
	flags.IntVar(&o.workers, "workers", 0, "images drawn side by side; 0: one per core")
	flags.IntVar(&o.batch, "batch", defaultBatch, "images per batch; changes speed only")
	flags.Var(&o.sets, "set", "`key=value` that overrides the file, for instance sample.count=8 or method.redilation.factor=3; may be repeated")
	flags.BoolVar(&o.dryRun, "dry-run", false, "list the cells with their state and cost, and stop")
	flags.BoolVar(&o.quiet, "quiet", false, "no progress, only results and errors")
	flags.StringVar(&o.trace, "trace", "", "write when which layer ran to `file`, for chrome://tracing or ui.perfetto.dev, and list the slowest")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return ExitDone
		}
		return ExitBadInput
	}
	bad := func(format string, args ...any) int {
		fmt.Fprintf(stderr, format+"\n", args...)
		return ExitBadInput
	}
	switch {
	case flags.NArg() > 0:
		return bad("unexpected argument %q\n  flags come before it; subcommands are train, report, import, disperse and bench", flags.Arg(0))
	case o.config == "":
		flags.Usage()
		return bad("\n-config is missing\n  give an experiment: -config configs/ablate_dilation.toml")
	case o.workers < 0 || o.workers > 4096:
		return bad("-workers is %d, want 0 to 4096\n  0 means one worker per core", o.workers)
	case o.batch < 1 || o.batch > 4096:
		return bad("-batch is %d, want 1 to 4096", o.batch)
	case o.out == "":
		return bad("-out is empty, want a folder")
	case o.trace != "" && o.dryRun:
		return bad("-trace with -dry-run: a dry run draws nothing that could be traced")
	}
	if err := kernels.PathError(); err != nil {
		fmt.Fprintln(stderr, "note:", err)
	}
	config, err := configs.Load(o.config, o.sets)
	if err != nil {
		return bad("%v", err)
	}
	if note := mathNote(config); note != "" {
		fmt.Fprintln(stderr, "note:", note)
	}
	config.LoadTransform = LoadTransform
	engine, err := open(ctx, config.Weights)
	if err != nil {
		if ctx.Err() != nil {
			return ExitInterrupted
		}
		return bad("model %q: %v", config.Weights, err)
	}
	e, err := newExperiment(config, engine, o.out)
	if err != nil {
		var invalid configs.Errors
		if errors.As(err, &invalid) {
			return bad("%v", err)
		}
		fmt.Fprintln(stderr, err)
		return ExitFailed
	}
	if o.workers == 0 {
		o.workers = runtime.GOMAXPROCS(0)
	}
	threads := max(1, runtime.GOMAXPROCS(0)/o.workers)
	if o.dryRun {
		if err := e.dryRun(ctx, stdout, o.batch, o.workers, threads); err != nil {
			fmt.Fprintln(stderr, err)
			return ExitFailed
		}
		return ExitDone
	}
	if o.trace == "" {
		return e.execute(ctx, o, threads, args, stdout, stderr)
	}
	traced, ok := engine.(tracing)
	if !ok {
		return bad("-trace: this model cannot be traced")
	}
	trace, err := newTraceFile(o.trace)
	if err != nil {
		return bad("%v", err)
	}
	traced.Trace(&trace.Tracer)
	code := e.execute(ctx, o, threads, args, stdout, stderr)
	if err := trace.write(); err != nil {
		fmt.Fprintln(stderr, err)
		return max(code, ExitFailed)
	}
	if err := trace.table(stdout); err != nil {
		fmt.Fprintln(stderr, err)
		return max(code, ExitFailed)
	}
	return code
}

// execute draws, scores and reports.
func (e *experiment) execute(ctx context.Context, o options, threads int, args []string, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintln(stderr, err)
		return ExitFailed
	}
	started := time.Now()
	lock, err := lockFolder(e.runDir)
	if err != nil {
		return fail(err)
	}
	defer lock.release()
	// Another process may have finished more while this one waited or planned.
	if err := e.look(); err != nil {
		return fail(err)
	}
	if err := results.WriteFile(filepath.Join(e.runDir, "config.toml"), []byte(e.config.TOML())); err != nil {
		return fail(err)
	}
	r := &run{experiment: e, batch: o.batch, workers: o.workers, threads: threads}
	r.progress = newProgress(stderr, o.quiet, e)
	for _, d := range e.damaged {
		r.progress.say("%s; it is made again", d)
	}
	drawn := e.remaining()
	if r.memory, err = e.memory(o.batch, o.workers, threads); err != nil {
		return fail(err)
	}
	if r.memory != nil {
		if !o.quiet {
			r.memory.print(stderr)
		}
		defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	}
	err = r.do(ctx)
	r.progress.close()
	if err != nil {
		if ctx.Err() != nil {
			have, want := e.progress()
			fmt.Fprintf(stderr, "interrupted: %d of %d images are finished and kept in %s; the same command goes on from there\n", have, want, o.out)
			return ExitInterrupted
		}
		return fail(err)
	}
	provenance := e.provenance(args, started)
	var summaries []*results.Summary
	for _, p := range e.panels {
		where := ""
		if len(e.panels) > 1 {
			where = p.size.String() + " px: "
		}
		summary, warnings, err := p.summarise()
		if err != nil {
			return fail(fmt.Errorf("score: %s%w", where, err))
		}
		for _, w := range warnings {
			fmt.Fprintln(stderr, "note:", where+w)
		}
		summary.Provenance = provenance
		if drawn == 0 {
			// Nothing was sampled: the numbers are as old as they were.
			if old, err := results.ReadSummary(p.runDir); err == nil && old.ResolvedTOML == summary.ResolvedTOML {
				summary.Provenance.Started, summary.Provenance.Finished = old.Provenance.Started, old.Provenance.Finished
			}
		}
		summaries = append(summaries, summary)
	}
	if err := e.report(stdout, summaries); err != nil {
		return fail(err)
	}
	code := ExitDone
	for _, w := range e.works {
		if w.err != nil {
			code = ExitFailed
			fmt.Fprintf(stderr, "cell %s (%s) failed: %s\n", w.cell.ID[:8], w.title, firstLines(w.err.Error(), 1))
		}
	}
	if code == ExitFailed {
		fmt.Fprintln(stderr, "the same command tries the failed cells again; finished ones are kept")
	}
	return code
}

// remaining counts what is still to be made: images and blocks of scenes.
func (e *experiment) remaining() int {
	n := 0
	for _, p := range e.panels {
		for _, b := range p.blocks {
			if b == nil {
				n++
			}
		}
	}
	for _, w := range e.works {
		n += len(w.missing())
	}
	return n
}

// progress counts finished and wanted images over all panels.
func (e *experiment) progress() (have, want int) {
	for _, w := range e.works {
		have += w.have()
		want += w.count
	}
	return have, want
}

// mathUsed is the arithmetic of the network for people.
func mathUsed(id ablation.Identity) string {
	if id.Math == "" {
		return kernels.Float32.String()
	}
	return id.Math
}

// mathNote says that the arithmetic asked for is not the one used, if so.
func mathNote(c *configs.Config) string {
	m, _ := kernels.ParseMath(c.Math) // checked by configs
	note := m.Fallback()
	if note == "" && m != kernels.Float32 && kernels.BF16Error() != nil {
		note = fmt.Sprintf("model.math = %q runs on the %s path: %v", m, kernels.BF16Path(), kernels.BF16Error())
	}
	return note
}

// program is the name in provenance.
const program = "scalecrafter"

func (e *experiment) provenance(args []string, started time.Time) results.Provenance {
	return results.Provenance{
		Program: program, Commit: commit(), GoVersion: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH,
		CPU: cpuName(), KernelPath: e.id.Kernels, Math: mathUsed(e.id), MathNote: mathNote(e.config), Cores: runtime.NumCPU(), Started: started.UTC(), Finished: time.Now().UTC(),
		ModelDigest: e.id.Weights, FeatureDigest: e.id.Features, WorldVersion: e.id.World, Protocol: e.id.Protocol,
		ConfigFile: e.config.File, Command: "go run . " + shellWords(args),
	}
}

// shellWords quotes arguments so that the command can be pasted.
func shellWords(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		if a != "" && strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,+@%") == "" {
			out[i] = a
		} else {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}

// cpuName is the processor's model where the system tells.
func cpuName() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}
