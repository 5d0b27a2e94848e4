package experiments

import (
	"fmt"
	"strings"
	"unicode"

	"scalecrafter/reports/results"
)

// verdict sorts the metrics of one comparison by what the numbers say. Every
// text names the metric and its difference: "right pictures +3.1 points [+1.0,
// +5.2]".
type verdict struct {
	better, worse []string // texts: significant after Holm's correction
	unclear       []string // whose interval includes zero
	corrected     []string // whose own interval excludes zero, but which the correction leaves open
	betterKeys    []string
	unmeasured    []string // metrics without an interval
	n             int      // pairs
}

// judge reads effects in the order of keys.
func judge(effects map[string]results.Effect, keys []string) verdict {
	var v verdict
	for _, key := range keys {
		e, ok := effects[key]
		if !ok || !e.HasInterval {
			v.unmeasured = append(v.unmeasured, prose(key))
			continue
		}
		v.n = max(v.n, e.N)
		text := prose(key) + " " + difference(key, e)
		switch {
		case e.Mean == 0 || e.Lo <= 0 && e.Hi >= 0:
			v.unclear = append(v.unclear, text)
		case !e.Significant:
			v.corrected = append(v.corrected, text)
		case (e.Mean > 0) == column(key).HigherIsBetter:
			v.better = append(v.better, text)
			v.betterKeys = append(v.betterKeys, key)
		default:
			v.worse = append(v.worse, text)
		}
	}
	return v
}

// whole reports a comparison that is better in every metric.
func (v verdict) whole() bool {
	return len(v.better) > 0 && len(v.worse)+len(v.unclear)+len(v.corrected)+len(v.unmeasured) == 0
}

// measured reports whether any metric has an interval.
func (v verdict) measured() bool {
	return len(v.better)+len(v.worse)+len(v.unclear)+len(v.corrected) > 0
}

// sentence tells a comparison of subject with what it is compared with:
// "Dispersion (re-dilation to dispersed) helps: ...".
func (v verdict) sentence(subject string) string {
	if !v.measured() {
		return fmt.Sprintf("%s: nothing can be said, because no interval could be drawn; more samples are needed.", subject)
	}
	var parts []string
	if len(v.better) > 0 {
		parts = append(parts, "helps in "+list(v.better))
	}
	if len(v.worse) > 0 {
		parts = append(parts, "harms in "+list(v.worse))
	}
	text := subject + " " + strings.Join(parts, " and ")
	switch open := v.open(); {
	case len(parts) == 0:
		text = subject + ": " + strings.Join(open, "; ")
	case len(open) > 0:
		text += "; " + strings.Join(open, "; ")
	}
	text += fmt.Sprintf(" (n = %d pairs, Holm-corrected over the table)", v.n)
	if len(v.unmeasured) > 0 {
		text += "; without an interval: " + list(v.unmeasured)
	}
	return text + "."
}

// prose is a metric's name within a sentence.
func prose(key string) string {
	switch key {
	case "right_share":
		return "right pictures"
	case "excess_bodies", "excess_eyes", "excess_mouths":
		return strings.ReplaceAll(key, "_", " ")
	}
	return column(key).Title
}

// difference writes an effect in its unit with its interval.
func difference(key string, e results.Effect) string {
	m := column(key)
	if m.Percent {
		return points(e)
	}
	return fmt.Sprintf("%+.*f [%+.*f, %+.*f]", m.Digits, e.Mean, m.Digits, e.Lo, m.Digits, e.Hi)
}

// list joins with commas and a last "and".
func list(items []string) string {
	switch len(items) {
	case 0:
		return "nothing"
	case 1:
		return items[0]
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}

// bestSetting is the cell that beats the baseline in most of the main metrics;
// of equals the one with the most right pictures, then the first. nil where no
// cell was compared.
type bestSetting struct {
	cell    *results.Cell
	verdict verdict
	tried   int
}

func findBest(s *results.Summary) *bestSetting {
	keys := mainColumns(s)
	var best *bestSetting
	tried := 0
	for i := range s.Cells {
		c := &s.Cells[i]
		if c.Baseline || c.Status != "done" || len(c.Effects) == 0 {
			continue
		}
		tried++
		v := judge(c.Effects, keys)
		if best == nil || len(v.better) > len(best.verdict.better) ||
			len(v.better) == len(best.verdict.better) && c.Metrics["right_share"].Mean > best.cell.Metrics["right_share"].Mean {
			best = &bestSetting{cell: c, verdict: v}
		}
	}
	if best != nil {
		best.tried = tried
	}
	return best
}

// mainColumns are the main metrics that a summary has.
func mainColumns(s *results.Summary) []string {
	var keys []string
	for _, key := range mainMetrics {
		for _, c := range s.Columns {
			if c.Key == key {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

func proseAll(keys []string) []string {
	var out []string
	for _, key := range keys {
		out = append(out, prose(key))
	}
	return out
}

// sentence says whether the best setting beats the baseline on every main
// metric, or on which it does not.
func (b *bestSetting) sentence(baseline *results.Cell, keys []string) string {
	v := b.verdict
	if !v.measured() {
		return fmt.Sprintf("With %d samples a cell no interval could be drawn, so nothing can be said about the %d settings tried.", baseline.N, b.tried)
	}
	who := fmt.Sprintf("The best of the %d settings tried, %s,", b.tried, b.cell.Label)
	if b.tried == 1 {
		who = fmt.Sprintf("The one setting tried, %s,", b.cell.Label)
	}
	end := fmt.Sprintf(" (n = %d pairs, Holm-corrected over the table).", v.n)
	missing := ""
	if len(v.unmeasured) > 0 {
		missing = "; without an interval: " + list(v.unmeasured)
	}
	switch {
	case v.whole():
		return fmt.Sprintf("%s beats %s on every one of %s: %s%s", who, baseline.Label, list(proseAll(keys)), list(v.better), end)
	case len(v.better) == 0:
		text := fmt.Sprintf("None of the %d settings tried beats %s on any of %s; the one with the most right pictures among the best, %s:", b.tried, baseline.Label, list(proseAll(keys)), b.cell.Label)
		if b.tried == 1 {
			text = fmt.Sprintf("The one setting tried, %s, does not beat %s on any of %s:", b.cell.Label, baseline.Label, list(proseAll(keys)))
		}
		return text + " " + v.rest() + missing + end
	}
	return fmt.Sprintf("%s beats %s on %d of %d measures: %s; not on the others: %s%s%s", who, baseline.Label, len(v.better), len(keys), list(v.better), v.rest(), missing, end)
}

// open tells the metrics in which nothing was shown.
func (v verdict) open() []string {
	var parts []string
	if len(v.unclear) > 0 {
		parts = append(parts, "no difference could be shown in "+list(v.unclear))
	}
	if len(v.corrected) > 0 {
		parts = append(parts, "not significant after Holm's correction: "+list(v.corrected))
	}
	return parts
}

// rest tells the metrics that are not better.
func (v verdict) rest() string {
	parts := v.open()
	if len(v.worse) > 0 {
		parts = append(parts, "significantly worse in "+list(v.worse))
	}
	if len(parts) == 0 {
		return "no interval"
	}
	return strings.Join(parts, "; ")
}

// componentFindings are the sentences of an experiment that asks what each
// component adds: every cell against the baseline, then every component
// against the cell without it. where ends the subject: " at 256x256 px".
func componentFindings(s *results.Summary, where string) []string {
	keys := mainColumns(s)
	var out []string
	for _, c := range s.Comparisons {
		from, to := cellByID(s, c.From), cellByID(s, c.To)
		if from == nil || to == nil {
			continue
		}
		out = append(out, judge(c.Effects, keys).sentence(fmt.Sprintf("%s%s (%s to %s)", capital(c.Name), where, from.Label, to.Label)))
	}
	return out
}

func cellByID(s *results.Summary, id string) *results.Cell {
	for i := range s.Cells {
		if s.Cells[i].ID == id {
			return &s.Cells[i]
		}
	}
	return nil
}

func capital(s string) string {
	if s == "" {
		return s
	}
	r := []rune(s)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}

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
			slim.Cells[k].Plan, slim.Cells[k].Steps = nil, nil
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
			say("At %s px%s: %s", size(s), factor, best.sentence(base, mainColumns(s)))
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
