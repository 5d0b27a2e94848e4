package experiments

import (
	"fmt"
	"io"
	"path/filepath"

	"scalecrafter/reports"
	"scalecrafter/reports/results"
)

// report writes the report of every panel and, where there are several, the
// joint one over them; it shows the outermost on w.
func (e *experiment) report(w io.Writer, summaries []*results.Summary) error {
	for i, p := range e.panels {
		if err := p.linkImages(); err != nil {
			return err
		}
		if p.runDir != e.runDir {
			if err := results.WriteFile(filepath.Join(p.runDir, "config.toml"), []byte(p.config.TOML())); err != nil {
				return err
			}
		}
		if err := results.WriteSummary(p.runDir, summaries[i]); err != nil {
			return err
		}
		if err := reports.Write(summaries[i], p.runDir); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	show := func() error { return reports.Terminal(w, summaries[0]) }
	if len(e.panels) > 1 {
		joint := e.join(summaries)
		if err := results.WriteJoint(e.runDir, joint); err != nil {
			return err
		}
		if err := reports.WriteJoint(joint, e.runDir); err != nil {
			return fmt.Errorf("report: %w", err)
		}
		show = func() error { return reports.TerminalJoint(w, joint) }
	}
	if err := show(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := fmt.Fprintf(w, "\nreport: %s\n", filepath.Join(e.runDir, "report.html"))
	return err
}
