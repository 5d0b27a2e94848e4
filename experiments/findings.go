package experiments

import (
	"fmt"
	"math"
	"strings"

	"scalecrafter/ablation"
	"scalecrafter/metrics"
	"scalecrafter/reports/results"
)

// findings are the sentences that answer the experiment's question, computed
// from the numbers and saying what they say, whatever that is.
func findings(s *results.Summary, stderrRight float64) []results.Finding {
	var out []results.Finding
	say := func(format string, args ...any) {
		out = append(out, results.Finding{Text: fmt.Sprintf(format, args...)})
	}
	failed := 0
	var base *results.Cell
	for i := range s.Cells {
		c := &s.Cells[i]
		if c.Status != "done" {
			failed++
		} else if c.Baseline {
			base = c
		}
	}
	if failed > 0 {
		say("%d of %d cells failed and are missing from every comparison.", failed, len(s.Cells))
	}
	if base == nil {
		say("The baseline could not be measured, so nothing can be compared with it.")
		return out
	}
	const right = "right_share"
	baseline := ""
	if v, ok := base.Metrics[right]; ok {
		baseline = fmt.Sprintf("The baseline (%s) at %dx%d px draws a right picture, one critter with two eyes and one mouth, in %s of %d samples",
			base.Label, s.Height, s.Width, percentValue(v), v.N)
		for _, r := range s.Reference {
			if r.Kind == kindBase && r.Status == "done" {
				if b, ok := r.Metrics[right]; ok {
					baseline += fmt.Sprintf("; at its training size of %dx%d px the same model does in %s", s.TrainHeight, s.TrainWidth, percentValue(b))
				}
			}
		}
		baseline += "."
	}

	best := findBest(s)
	sayBest := func() {
		if best == nil {
			return
		}
		say("%s", best.headline(base, mainColumns(s)))
		if text := best.detail(base); text != "" {
			say("%s", text)
		}
	}
	if len(s.Comparisons) > 0 {
		// The experiment asks what each component adds: that is its answer.
		sayBest()
		for _, text := range componentFindings(s, "") {
			say("%s", text)
		}
		for i := range s.Cells {
			if c := &s.Cells[i]; !c.Baseline && len(c.Effects) > 0 && (best == nil || c != best.cell) {
				say("%s", judge(c.Effects, mainColumns(s)).sentence(fmt.Sprintf("%s against %s", capital(c.Label), base.Label)))
			}
		}
		if baseline != "" {
			say("%s", baseline)
		}
		sayPower(s, base, stderrRight, say)
		return out
	}

	// The best setting of every family, by the share of right pictures.
	dilated := bestOf(s.Cells, right, func(c *results.Cell) bool { return c.Kind == string(ablation.Redilate) })
	if dilated != nil {
		e := dilated.Effects[right]
		v := dilated.Metrics[right]
		switch {
		case e.Significant && e.Mean > 0:
			say("Re-dilation raises the share of right pictures from %.1f%% to %.1f%%: its best setting here, %s, reaches %s, %s against the baseline (Holm-corrected p %s).",
				100*base.Metrics[right].Mean, 100*v.Mean, dilated.Label, percentValue(v), points(e), pValue(e.P))
		case e.Significant && e.Mean < 0:
			say("Re-dilation lowers the share of right pictures at every setting tried; the least harmful, %s, reaches %s, %s against the baseline.", dilated.Label, percentValue(v), points(e))
		default:
			say("No re-dilation setting changes the share of right pictures significantly upwards: the best one here, %s, reaches %s, %s against the baseline (Holm-corrected p %s).", dilated.Label, percentValue(v), points(e), pValue(e.P))
		}
	}
	if baseline != "" { // the answer first, then what it is compared with
		say("%s", baseline)
	}
	if dilated != nil {
		for _, part := range []struct{ key, what string }{
			{"excess_bodies", "Whole bodies repeated (excess bodies a picture)"},
			{"excess_eyes", "Excess eyes a picture"},
		} {
			a, okA := base.Metrics[part.key]
			b, okB := dilated.Metrics[part.key]
			e, okE := dilated.Effects[part.key]
			if okA && okB && okE {
				say("%s go from %.2f to %.2f with %s, a change of %+.2f [%+.2f, %+.2f]%s.", part.what, a.Mean, b.Mean, dilated.Label, e.Mean, e.Lo, e.Hi, notSignificant(e))
			}
		}
	}
	sayBest()
	for _, axis := range ladders {
		if text := along(s.Cells, axis.name, axis.title, right); text != "" {
			say("%s", text)
		}
	}
	if c := bestOf(s.Cells, right, func(c *results.Cell) bool { return c.Kind == string(ablation.AttentionScaling) }); c != nil {
		e := c.Effects[right]
		verdict := "does not change the share of right pictures significantly"
		if e.Significant && e.Mean > 0 {
			verdict = "raises the share of right pictures"
		} else if e.Significant {
			verdict = "lowers the share of right pictures"
		}
		say("Attention scaling alone %s: %s, %s against the baseline (Holm-corrected p %s).", verdict, percentValue(c.Metrics[right]), points(e), pValue(e.P))
	}
	if best := bestOf(s.Cells, "fid_r", func(c *results.Cell) bool { return !c.Baseline }); best != nil {
		if v, ok := base.Metrics["fid_r"]; ok {
			text := fmt.Sprintf("The lowest FID against true scenes among the methods is %.2f, of %s; the baseline has %.2f", best.Metrics["fid_r"].Mean, best.Label, v.Mean)
			if e, ok := best.Effects["fid_r"]; ok {
				text += fmt.Sprintf(" (difference %+.2f [%+.2f, %+.2f]%s)", e.Mean, e.Lo, e.Hi, notSignificant(e))
			}
			say("%s.", text)
		}
	}
	sayPower(s, base, stderrRight, say)
	return out
}

// sayPower says how many comparisons are significant and how small a
// difference could have been seen.
func sayPower(s *results.Summary, base *results.Cell, stderrRight float64, say func(string, ...any)) {
	tests, significant := 0, 0
	for _, c := range s.Cells {
		for _, e := range c.Effects {
			tests++
			if e.Significant {
				significant++
			}
		}
	}
	if tests > 0 && significant == 0 {
		say("None of the %d comparisons with the baseline is significant at the 5%% level after Holm's correction: with %d samples a cell this run cannot tell the methods apart.", tests, base.N)
	} else if tests > 0 {
		say("%d of %d comparisons with the baseline are significant at the 5%% level after Holm's correction over the table.", significant, tests)
	}
	if stderrRight > 0 {
		if d, err := metrics.MinimumDetectable(stderrRight, 0.05, 0.8); err == nil {
			say("With %d samples a cell, a true difference in right pictures below about %.0f points would more often than not escape even a single test at 80%% power.", base.N, math.Ceil(100*d))
		}
	}
}

// ladders are the settings whose values a sentence compares one by one.
var ladders = []struct{ name, title string }{
	{"factor", "dilation factor"}, {"tau_share", "share of dilated steps"}, {"min_depth", "outermost dilated level"},
	{"damped_tau_share", "share of damped steps"}, {"guidance_scale", "guidance scale"}, {"guidance_rescale", "guidance rescale"},
	{"eta", "weight of dispersion's pixel level"}, {"input", "input size that dispersion is solved on"},
	{"dispersion_tau_share", "share of dispersed steps"}, {"sdedit", "steps that SDEdit skips"},
}

// highest is the largest value of a metric among cells that have it.
func highest(cells []*results.Cell, key string) float64 {
	best := math.Inf(-1)
	for _, c := range cells {
		best = math.Max(best, c.Metrics[key].Mean)
	}
	return best
}

// bestOf is the finished cell with the best value of a metric; the first of
// equals; nil where none has it.
func bestOf(cells []results.Cell, key string, in func(*results.Cell) bool) *results.Cell {
	var best *results.Cell
	for i := range cells {
		c := &cells[i]
		v, ok := c.Metrics[key]
		if c.Status != "done" || !ok || !in(c) {
			continue
		}
		if best == nil || column(key).HigherIsBetter && v.Mean > best.Metrics[key].Mean || !column(key).HigherIsBetter && v.Mean < best.Metrics[key].Mean {
			best = c
		}
	}
	return best
}

// along describes a metric over one axis where several finished cells differ
// in nothing else; "" where no two do. Of several such series the longest is
// described, and the best of equally long.
func along(cells []results.Cell, axis, title, key string) string {
	type series struct {
		others string
		cells  []*results.Cell
	}
	var all []*series
	for i := range cells {
		c := &cells[i]
		if c.Status != "done" || axisOf(c, axis) == nil {
			continue
		}
		if _, ok := c.Metrics[key]; !ok {
			continue
		}
		var others []string
		for _, a := range c.Axes {
			if a.Name == axis || a.Name == strings.TrimSuffix(axis, "_share") {
				continue
			}
			others = append(others, a.Name+" "+a.Text)
		}
		// Damped networks have settings of their own; they are one series a method.
		if a := axisOf(c, "damped"); a != nil && a.Text == "yes" {
			others = append(others, c.Method)
		}
		id := strings.Join(others, ", ")
		var found *series
		for _, s := range all {
			if s.others == id {
				found = s
			}
		}
		if found == nil {
			found = &series{others: id}
			all = append(all, found)
		}
		found.cells = append(found.cells, c)
	}
	var pick *series
	for _, s := range all {
		// The longest series, of equal ones the one with the best cell.
		if len(s.cells) >= 2 && (pick == nil || len(s.cells) > len(pick.cells) ||
			len(s.cells) == len(pick.cells) && highest(s.cells, key) > highest(pick.cells, key)) {
			pick = s
		}
	}
	if pick == nil {
		return ""
	}
	ordered := append([]*results.Cell(nil), pick.cells...)
	for i := 1; i < len(ordered); i++ {
		for j := i; j > 0 && number(ordered[j], axis) < number(ordered[j-1], axis); j-- {
			ordered[j], ordered[j-1] = ordered[j-1], ordered[j]
		}
	}
	parts := make([]string, len(ordered))
	best := ordered[0]
	for i, c := range ordered {
		parts[i] = fmt.Sprintf("%s: %.1f%%", axisOf(c, axis).Text, 100*c.Metrics[key].Mean)
		if c.Metrics[key].Mean > best.Metrics[key].Mean {
			best = c
		}
	}
	var fixed []string
	for _, a := range ladders {
		if o := axisOf(best, a.name); o != nil && a.name != axis && varies(cells, a.name) {
			fixed = append(fixed, a.title+" "+o.Text)
		}
	}
	equal := "all else equal"
	if len(fixed) > 0 {
		equal += " (" + strings.Join(fixed, ", ") + ")"
	}
	return fmt.Sprintf("Right pictures over the %s, %s: %s; the best is %s.", title, equal, strings.Join(parts, ", "), axisOf(best, axis).Text)
}

// varies reports whether cells that have the axis differ on it.
func varies(cells []results.Cell, axis string) bool {
	first := ""
	for i := range cells {
		if a := axisOf(&cells[i], axis); a != nil {
			if first != "" && a.Text != first {
				return true
			}
			first = a.Text
		}
	}
	return false
}

func axisOf(c *results.Cell, name string) *results.Axis {
	for i := range c.Axes {
		if c.Axes[i].Name == name {
			return &c.Axes[i]
		}
	}
	return nil
}

func number(c *results.Cell, axis string) float64 {
	if a := axisOf(c, axis); a != nil && a.Number != nil {
		return *a.Number
	}
	return 0
}

func percentValue(v results.Value) string {
	if !v.HasInterval {
		return fmt.Sprintf("%.1f%%", 100*v.Mean)
	}
	return fmt.Sprintf("%.1f%% [%.1f, %.1f]", 100*v.Mean, 100*v.Lo, 100*v.Hi)
}

func points(e results.Effect) string {
	return fmt.Sprintf("%+.1f points [%+.1f, %+.1f]", 100*e.Mean, 100*e.Lo, 100*e.Hi)
}

func notSignificant(e results.Effect) string {
	if e.Significant {
		return ""
	}
	return ", not significant"
}

func pValue(p float64) string {
	if p < 0.001 {
		return "below 0.001"
	}
	return fmt.Sprintf("%.3f", p)
}
