package reports

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"scalecrafter/reports/results"
)

// maxProblems bounds an error message; the rest is counted.
const maxProblems = 12

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// problems collects everything that is wrong with a summary, so that one run
// shows all of it.
type problems struct{ list []string }

func (p *problems) add(format string, args ...any) {
	p.list = append(p.list, fmt.Sprintf(format, args...))
}

// finite notes a NaN or an infinity: a number that was not measured has no
// place in a table, where it would pass for one that was.
func (p *problems) finite(where, what string, v float64) bool {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		p.add("%s: %s is %v; leave the entry out where nothing was measured", where, what, v)
		return false
	}
	return true
}

func (p *problems) value(where, key string, v results.Value) {
	ok := p.finite(where, key+".mean", v.Mean)
	if v.HasInterval {
		ok = p.finite(where, key+".lo", v.Lo) && p.finite(where, key+".hi", v.Hi) && ok
		if ok && v.Lo > v.Hi {
			p.add("%s: %s has interval [%g, %g], lower end above upper", where, key, v.Lo, v.Hi)
		}
	}
	if v.N < 0 {
		p.add("%s: %s.n is %d, want 0 or more", where, key, v.N)
	}
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	shown := p.list
	more := ""
	if len(shown) > maxProblems {
		more = fmt.Sprintf("\n  and %d more", len(shown)-maxProblems)
		shown = shown[:maxProblems]
	}
	return errors.New("reports: cannot report these results:\n  " + strings.Join(shown, "\n  ") + more)
}

// check refuses a summary that would make a misleading report. All problems
// come in one error.
func check(s *results.Summary) error {
	p := &problems{}
	if s == nil {
		return errors.New("reports: no summary given")
	}
	if s.Version != results.SchemaVersion {
		return fmt.Errorf("reports: summary has schema version %d, want %d; run the experiment again with this program",
			s.Version, results.SchemaVersion)
	}
	if len(s.Cells) == 0 {
		p.add("the summary has no cells; nothing was run")
	}
	columns := map[string]bool{}
	for i, m := range s.Columns {
		where := fmt.Sprintf("column %d (%s)", i, m.Key)
		if m.Key == "" {
			p.add("%s: empty key", where)
		}
		if columns[m.Key] {
			p.add("%s: key given twice", where)
		}
		columns[m.Key] = true
		if m.Digits < 0 || m.Digits > 12 {
			p.add("%s: digits is %d, want 0..12", where, m.Digits)
		}
	}
	p.finite("summary", "guidance_scale", s.GuidanceScale)

	baselines := 0
	ids := map[string]bool{}
	for i := range s.Cells {
		c := &s.Cells[i]
		where := cellName("cell", i, c)
		if ids[c.ID] {
			p.add("%s: id %q given twice", where, c.ID)
		}
		ids[c.ID] = true
		if c.Baseline {
			baselines++
		}
		switch c.Status {
		case "done", "failed":
		default:
			p.add("%s: status %q, want done or failed", where, c.Status)
		}
		p.cell(where, c)
	}
	if baselines > 1 {
		p.add("%d cells are marked as baseline, want one at most: effects have one reference", baselines)
	}
	for i := range s.Reference {
		p.cell(cellName("reference row", i, &s.Reference[i]), &s.Reference[i])
	}
	p.comparisons(s, ids)
	names := map[string]bool{}
	for i, plot := range s.Plots {
		where := fmt.Sprintf("plot %d (%s)", i, plot.Name)
		if !plainName.MatchString(plot.Name) {
			p.add("%s: name %q is no file name, want letters, digits, '-', '_' and '.'", where, plot.Name)
		}
		if names[plot.Name] || plot.Name == "pictures" || strings.HasPrefix(plot.Name, "receipt_") {
			p.add("%s: name %q is taken", where, plot.Name)
		}
		names[plot.Name] = true
		if !columns[plot.Metric] {
			p.add("%s: metric %q is no column, want one of %s", where, plot.Metric, strings.Join(sortedKeys(columns), ", "))
		}
	}
	return p.err()
}

// cell checks the numbers and paths of one row.
func (p *problems) cell(where string, c *results.Cell) {
	if c.N < 0 {
		p.add("%s: n is %d, want 0 or more", where, c.N)
	}
	p.finite(where, "nfe", c.NFE)
	p.finite(where, "seconds", c.Seconds)
	for _, key := range sortedKeys(c.Metrics) {
		p.value(where, "metric "+key, c.Metrics[key])
	}
	for _, key := range sortedKeys(c.Effects) {
		e := c.Effects[key]
		p.value(where, "effect "+key, e.Value)
		p.finite(where, "effect "+key+".p", e.P)
	}
	for _, a := range c.Axes {
		if a.Number != nil {
			p.finite(where, "axis "+a.Name, *a.Number)
		}
	}
	for _, path := range c.Images {
		if !filepath.IsLocal(filepath.FromSlash(path)) {
			p.add("%s: image %q is not inside the run's folder", where, path)
		}
	}
	p.receipt(where, c)
}

// receipt checks what a cell says it executed.
func (p *problems) receipt(where string, c *results.Cell) {
	for i := range c.Plan {
		row := &c.Plan[i]
		name := fmt.Sprintf("plan row %d (%s)", i, row.Layer)
		steps := len(c.Plan[0].Factors)
		switch {
		case len(row.Factors) == 0 || len(row.Factors) != steps:
			p.add("%s: plan row %s has %d steps, the first row has %d", where, row.Layer, len(row.Factors), steps)
			continue
		case row.Columns != nil && len(row.Columns) != steps || row.Kernels != nil && len(row.Kernels) != steps || len(row.Kernels) != len(row.Transforms):
			p.add("%s: %s has %d steps, but %d column factors, %d kernels and %d transforms", where, name, steps, len(row.Columns), len(row.Kernels), len(row.Transforms))
			continue
		}
		for step, f := range row.Factors {
			w := row.Column(step)
			if !p.finite(where, fmt.Sprintf("%s step %d", name, step), f) || !p.finite(where, fmt.Sprintf("%s step %d columns", name, step), w) {
				break
			}
			if f < 0 || w < 0 || (f == 0) != (w == 0) {
				p.add("%s: %s step %d has factor %g (columns %g), want above 0, or 0 for both where the network was not evaluated", where, name, step, f, w)
				break
			}
			if side, _ := row.Kernel(step); (side == 0) != (f == 0) || side < 0 {
				p.add("%s: %s step %d has a kernel of side %d at factor %g, want 0 where the network was not evaluated and only there", where, name, step, side, f)
				break
			}
		}
	}
	if len(c.Plan) > 0 && len(c.Steps) > 0 && len(c.Steps) != len(c.Plan[0].Factors) {
		p.add("%s: %d steps are recorded, but the plan has %d", where, len(c.Steps), len(c.Plan[0].Factors))
	}
	for i := range c.Attention {
		row := &c.Attention[i]
		if len(row.Scales) != len(c.Steps) {
			p.add("%s: self-attention %s has %d steps, but %d are recorded", where, row.Layer, len(row.Scales), len(c.Steps))
			continue
		}
		for step, v := range row.Scales {
			if !p.finite(where, fmt.Sprintf("self-attention %s step %d", row.Layer, step), v) {
				break
			}
			if evaluated := c.Steps[step].Of(row.Network) != nil; v < 0 || (v > 0) != evaluated {
				p.add("%s: self-attention %s step %d has scale %g, want above 0 where the network was evaluated and 0 elsewhere", where, row.Layer, step, v)
				break
			}
		}
	}
	for i := range c.Steps {
		s := &c.Steps[i]
		for _, term := range []struct{ name, network string }{{"base", s.Base}, {"uncond", s.Uncond}, {"cond", s.Cond}} {
			if term.network != "" && s.Of(term.network) == nil {
				p.add("%s: step %d has its %s term from network %q, which was not evaluated", where, i, term.name, term.network)
			}
		}
		for _, n := range []*results.NetworkRow{s.Main, s.Damped} {
			if n == nil {
				continue
			}
			p.finite(where, fmt.Sprintf("step %d attention ratio", i), n.AttentionRatio)
			for _, v := range n.FreeU {
				p.finite(where, fmt.Sprintf("step %d FreeU", i), v)
			}
		}
	}
}

// comparisons checks that they compare cells of the summary.
func (p *problems) comparisons(s *results.Summary, ids map[string]bool) {
	for i, c := range s.Comparisons {
		where := fmt.Sprintf("comparison %d %q", i, c.Name)
		for _, id := range []string{c.From, c.To} {
			if !ids[id] {
				p.add("%s: no cell has id %q", where, id)
			}
		}
		for _, key := range sortedKeys(c.Effects) {
			e := c.Effects[key]
			p.value(where, "effect "+key, e.Value)
			p.finite(where, "effect "+key+".p", e.P)
		}
	}
}

func cellName(what string, i int, c *results.Cell) string {
	return fmt.Sprintf("%s %d %q", what, i, c.Label)
}

// sortedKeys lists a map's keys in order: no output follows a map's own.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
