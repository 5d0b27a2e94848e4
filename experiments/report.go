package experiments

import (
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"scalecrafter/reports"
	"scalecrafter/reports/results"
)

// report writes the report of every panel and, where there are several, the
// joint one over them; it shows the outermost on w.
func (e *experiment) report(w io.Writer, summaries []*results.Summary) error {
	// Panels have folders of their own: they are drawn side by side.
	errs := make([]error, len(e.panels))
	var wg sync.WaitGroup
	for i, p := range e.panels {
		wg.Go(func() { errs[i] = p.report(summaries[i]) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
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
	return shown(w, e.runDir, show)
}

// report writes the panel's own report.
func (p *plan) report(summary *results.Summary) error {
	if err := p.linkImages(); err != nil {
		return err
	}
	if p.runDir != p.experiment.runDir {
		if err := results.WriteFile(filepath.Join(p.runDir, "config.toml"), []byte(p.config.TOML())); err != nil {
			return err
		}
	}
	if err := results.WriteSummary(p.runDir, summary); err != nil {
		return err
	}
	if err := reports.Write(summary, p.runDir); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
