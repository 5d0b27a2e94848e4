package experiments

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"scalecrafter/reports"
	"scalecrafter/reports/results"
)

// Report is the report command: it draws the reports of finished runs again from
// the numbers and pictures that lie in their folders, without a model, a
// configuration or the store of cells. The result is the process's exit code.
func Report(_ context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	flags.SetOutput(stderr)
	quiet := flags.Bool("quiet", false, "write the files only, show no tables")
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: scalecrafter report [-quiet] FOLDER...\n\nDraws the reports of finished runs again, for instance those in runs/ablate_dilation.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return ExitDone
		}
		return ExitBadInput
	}
	if flags.NArg() == 0 {
		fmt.Fprintln(stderr, "report: name the folder of a run, for instance runs/ablate_dilation")
		return ExitBadInput
	}
	if *quiet {
		stdout = io.Discard
	}
	code := ExitDone
	for _, folder := range flags.Args() {
		if err := rerender(stdout, folder); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w; name the folder of a run that ended", err)
			}
			fmt.Fprintln(stderr, "report:", err)
			code = ExitBadInput
		}
	}
	return code
}

// rerender draws one run's reports, those of its sizes first, and shows the
// outermost on w.
func rerender(w io.Writer, folder string) error {
	joint, err := results.ReadJoint(folder)
	if errors.Is(err, results.ErrOneSize) {
		s, err := results.ReadSummary(folder)
		if err != nil {
			return err
		}
		if err := reports.Write(s, folder); err != nil {
			return err
		}
		return shown(w, folder, func() error { return reports.Terminal(w, s) })
	}
	if err != nil {
		return err
	}
	for _, p := range joint.Panels {
		if !filepath.IsLocal(filepath.FromSlash(p.Folder)) {
			return fmt.Errorf("%s: panel %q is not a folder inside it", folder, p.Folder)
		}
		inner := filepath.Join(folder, filepath.FromSlash(p.Folder))
		s, err := results.ReadSummary(inner)
		if err != nil {
			return err
		}
		if err := reports.Write(s, inner); err != nil {
			return err
		}
	}
	if err := reports.WriteJoint(joint, folder); err != nil {
		return err
	}
	return shown(w, folder, func() error { return reports.TerminalJoint(w, joint) })
}

// shown writes a report's tables and where its page is.
func shown(w io.Writer, folder string, tables func() error) error {
	if err := tables(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := fmt.Fprintf(w, "\nreport: %s\n", filepath.Join(folder, "report.html"))
	return err
}
