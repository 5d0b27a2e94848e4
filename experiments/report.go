package experiments

import (
	"fmt"
	"io"
	"path/filepath"

	"scalecrafter/reports"
	"scalecrafter/reports/results"
)

// report writes the run's report and shows its table.
func report(w io.Writer, s *results.Summary, runDir string) error {
	if err := reports.Write(s, runDir); err != nil {
		return err
	}
	if err := reports.Terminal(w, s); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nreport: %s\n", filepath.Join(runDir, "report.html"))
	return err
}
