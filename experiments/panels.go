package experiments

import (
	"fmt"
	"strings"

	"scalecrafter/reports/results"
)

// join makes the joint summary of the panels'.
func (e *experiment) join(summaries []*results.Summary) *results.Joint {
	c := e.config
	j := &results.Joint{
		Version: results.SchemaVersion, Name: c.Name, Title: c.Title, Question: c.Question,
		Provenance: summaries[0].Provenance, ResolvedTOML: c.TOML(), Findings: jointFindings(summaries),
	}
	for _, s := range summaries {
		if s.Provenance.Started.Before(j.Provenance.Started) {
			j.Provenance.Started = s.Provenance.Started
		}
		if s.Provenance.Finished.After(j.Provenance.Finished) {
			j.Provenance.Finished = s.Provenance.Finished
		}
	}
	for _, key := range mainMetrics {
		j.Columns = append(j.Columns, column(key))
	}
	for _, plot := range plots(c.Report.Plots) {
		if plot.X == sizeAxis {
			j.Plots = append(j.Plots, plot)
		}
	}
	for i, p := range e.panels {
		// The panel's own file has what is left out here.
		slim := *summaries[i]
		slim.ResolvedTOML, slim.Plots, slim.Provenance = "", nil, results.Provenance{}
		slim.Cells = append([]results.Cell(nil), slim.Cells...)
		for k := range slim.Cells {
			slim.Cells[k].Plan, slim.Cells[k].Steps, slim.Cells[k].Attention = nil, nil, nil
		}
		j.Panels = append(j.Panels, results.Panel{Folder: p.size.String(), Summary: &slim})
	}
	return j
}

// jointFindings answer the question over all sizes.
func jointFindings(summaries []*results.Summary) []results.Finding {
	var out []results.Finding
	say := func(format string, args ...any) {
		out = append(out, results.Finding{Text: fmt.Sprintf(format, args...)})
	}
	size := func(s *results.Summary) string { return fmt.Sprintf("%dx%d", s.Height, s.Width) }
	baseline := func(s *results.Summary) *results.Cell {
		for i := range s.Cells {
			if s.Cells[i].Baseline && s.Cells[i].Status == "done" {
				return &s.Cells[i]
			}
		}
		return nil
	}

	// First the answer over the sizes, then each in numbers.
	var all, some []string
	keys := mainColumns(summaries[0])
	for _, s := range summaries {
		best := findBest(s)
		switch {
		case baseline(s) == nil || best == nil:
			some = append(some, fmt.Sprintf("at %s px nothing could be compared", size(s)))
		case best.verdict.whole():
			all = append(all, size(s))
		case !best.verdict.measured():
			some = append(some, fmt.Sprintf("at %s px there are too few samples for an interval", size(s)))
		case len(best.verdict.better) == 0:
			some = append(some, fmt.Sprintf("at %s px on none of them", size(s)))
		default:
			some = append(some, fmt.Sprintf("at %s px on %s only", size(s), list(proseAll(best.verdict.betterKeys))))
		}
	}
	measures := list(proseAll(keys))
	switch {
	case len(some) == 0:
		say("At every size, %s px, the best setting found beats the baseline on every one of %s.", list(all), measures)
	case len(all) > 0:
		say("The best setting found beats the baseline on every one of %s at %s px; %s.", measures, list(all), strings.Join(some, "; "))
	default:
		say("At no size does a setting beat the baseline on every one of %s: %s.", measures, strings.Join(some, "; "))
	}
	for _, s := range summaries {
		factor := ""
		if s.TrainHeight > 0 && s.TrainWidth > 0 {
			factor = fmt.Sprintf(" (%s times the training pixels)", trimmed(float64(s.Height*s.Width)/float64(s.TrainHeight*s.TrainWidth)))
		}
		failed := 0
		for _, c := range s.Cells {
			if c.Status != "done" {
				failed++
			}
		}
		if failed > 0 {
			say("At %s px %d of %d cells failed and are missing from every comparison.", size(s), failed, len(s.Cells))
		}
		base, best := baseline(s), findBest(s)
		if base == nil {
			say("At %s px the baseline could not be measured, so nothing can be compared with it.", size(s))
			continue
		}
		if best != nil {
			say("At %s px%s: %s", size(s), factor, strings.TrimSpace(best.headline(base, mainColumns(s))+" "+best.detail(base)))
		}
	}
	// Components one by one, each over the sizes.
	var names []string
	for _, s := range summaries {
		for _, c := range s.Comparisons {
			if !contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	for _, name := range names {
		for _, s := range summaries {
			one := *s
			one.Comparisons = nil
			for _, c := range s.Comparisons {
				if c.Name == name {
					one.Comparisons = append(one.Comparisons, c)
				}
			}
			for _, text := range componentFindings(&one, " at "+size(s)+" px") {
				say("%s", text)
			}
		}
	}
	return out
}

// trimmed writes a ratio without needless zeros.
func trimmed(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}
