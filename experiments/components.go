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

// headline says whether the best setting beats the baseline on every main
// metric, or on which; detail has the numbers.
func (b *bestSetting) headline(baseline *results.Cell, keys []string) string {
	v := b.verdict
	if !v.measured() {
		return fmt.Sprintf("With %d samples a cell no interval could be drawn, so nothing can be said about the settings tried (%d).", baseline.N, b.tried)
	}
	who := fmt.Sprintf("The best of the %d settings tried, %s,", b.tried, b.cell.Label)
	none := fmt.Sprintf("None of the %d settings tried beats", b.tried)
	if b.tried == 1 {
		who = fmt.Sprintf("The one setting tried, %s,", b.cell.Label)
		none = who + " does not beat"
	}
	end := fmt.Sprintf(" (n = %d pairs, Holm-corrected over the table).", v.n)
	switch {
	case v.whole():
		return fmt.Sprintf("%s beats %s on every one of %s%s", who, baseline.Label, list(proseAll(keys)), end)
	case len(v.better) == 0:
		return fmt.Sprintf("%s %s on any of %s%s", none, baseline.Label, list(proseAll(keys)), end)
	}
	var not []string
	for _, key := range keys {
		if !contains(v.betterKeys, key) {
			not = append(not, prose(key))
		}
	}
	return fmt.Sprintf("%s beats %s on %s, but not on %s%s", who, baseline.Label, list(proseAll(v.betterKeys)), list(not), end)
}

// detail is the best setting's comparison in numbers; "" where there are none.
func (b *bestSetting) detail(baseline *results.Cell) string {
	if !b.verdict.measured() {
		return ""
	}
	return b.verdict.sentence(fmt.Sprintf("%s against %s", capital(b.cell.Label), baseline.Label))
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
