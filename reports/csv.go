package reports

import (
	"bytes"
	"encoding/csv"
	"strconv"
	"strings"

	"scalecrafter/reports/results"
)

// csvBytes writes records with \n line ends. Writing to memory cannot fail.
func csvBytes(records [][]string) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.WriteAll(records)
	return b.Bytes()
}

// csvValue is mean, lo, hi, n at full precision, in stored units (a share of
// 1 is 1, not 100); fields are empty where nothing was measured.
func csvValue(v results.Value, ok bool) []string {
	out := make([]string, 4)
	if !ok {
		return out
	}
	out[0] = exact(v.Mean)
	if v.HasInterval {
		out[1], out[2] = exact(v.Lo), exact(v.Hi)
	}
	out[3] = strconv.Itoa(v.N)
	return out
}

// resultsCSV holds one line a row, four fields a metric.
func resultsCSV(v *view) []byte {
	var axes []string
	seen := map[string]bool{}
	for _, r := range v.rows {
		for _, a := range r.cell.Axes {
			if !seen[a.Name] {
				seen[a.Name] = true
				axes = append(axes, a.Name)
			}
		}
	}
	head := []string{"row", "id", "label", "method", "kind", "status", "error", "n", "nfe", "seconds"}
	for _, a := range axes {
		head = append(head, "axis_"+a)
	}
	for _, c := range v.columns {
		head = append(head, c.Key, c.Key+"_lo", c.Key+"_hi", c.Key+"_n")
	}
	records := [][]string{head}
	for _, r := range v.rows {
		c := r.cell
		role := "cell"
		switch {
		case r.reference:
			role = "reference"
		case c.Baseline:
			role = "baseline"
		}
		line := []string{role, c.ID, r.label, clean(c.Method), clean(c.Kind), c.Status, r.reason,
			strconv.Itoa(c.N), exact(c.NFE), exact(c.Seconds)}
		for _, name := range axes {
			a := findAxis(c, name)
			switch {
			case a == nil:
				line = append(line, "")
			case a.Number != nil:
				line = append(line, exact(*a.Number))
			default:
				line = append(line, clean(a.Text))
			}
		}
		for _, col := range v.columns {
			val, ok := c.Metrics[col.Key]
			line = append(line, csvValue(val, ok && !r.failed)...)
		}
		records = append(records, line)
	}
	return csvBytes(records)
}

// effectsCSV holds one line a cell and metric.
func effectsCSV(v *view) []byte {
	records := [][]string{{"id", "label", "metric", "difference", "lo", "hi", "n", "p", "significant"}}
	for _, r := range v.rows {
		if r.reference || r.failed {
			continue
		}
		for _, col := range v.columns {
			e, ok := r.cell.Effects[col.Key]
			if !ok || r.cell.Baseline {
				continue
			}
			line := append([]string{r.cell.ID, r.label, col.Key}, csvValue(e.Value, true)...)
			records = append(records, append(line, exact(e.P), strconv.FormatBool(e.Significant)))
		}
	}
	return csvBytes(records)
}

// comparisonsCSV holds one line a comparison and metric.
func comparisonsCSV(v *view) []byte {
	records := [][]string{{"comparison", "from", "to", "metric", "difference", "lo", "hi", "n", "p", "significant"}}
	for _, c := range v.s.Comparisons {
		for _, col := range v.comparisons.columns {
			e, ok := c.Effects[col.Key]
			if !ok {
				continue
			}
			line := append([]string{clean(c.Name), v.labelOf(c.From), v.labelOf(c.To), col.Key}, csvValue(e.Value, true)...)
			records = append(records, append(line, exact(e.P), strconv.FormatBool(e.Significant)))
		}
	}
	return csvBytes(records)
}

// receiptCSV holds one line a step, network and layer: convolutions, then those
// self-attentions that did not run as trained throughout. A step that was not run
// has one line with the networks' fields empty; a network that ran as trained
// throughout has one line a step with the layer's fields empty.
func receiptCSV(c *results.Cell) []byte {
	records := [][]string{{"step", "network", "terms", "attention_ratio", "freeu_b1", "freeu_b2", "freeu_s1", "freeu_s2",
		"layer", "factor_rows", "factor_columns", "kernel", "transform", "attention_scale"}}
	h := newHeat(c)
	for step := range h.steps {
		ran := false
		for _, n := range h.networks {
			line := []string{strconv.Itoa(step), n.name, "", "", "", "", "", ""}
			if step < len(h.records) {
				s := &h.records[step]
				of := s.Of(n.name)
				if of == nil {
					continue
				}
				for _, term := range []struct{ name, network string }{{"base", s.Base}, {"uncond", s.Uncond}, {"cond", s.Cond}} {
					if term.network == n.name {
						line[2] = strings.TrimSpace(line[2] + " " + term.name)
					}
				}
				line[3] = exact(1)
				if sharpened(of) {
					line[3] = exact(of.AttentionRatio)
				}
				for i, v := range of.FreeU {
					if i < 4 {
						line[4+i] = exact(v)
					}
				}
			}
			for l, path := range h.layers {
				k := n.rows[l][step]
				if k.off() {
					continue
				}
				ran = true
				full := append(append([]string{}, line...), clean(path), exact(k.rows), exact(k.columns), strconv.Itoa(k.kernel), clean(k.transform), "")
				if path == "" {
					full = append(append([]string{}, line...), "", "", "", "", "", "")
				}
				records = append(records, full)
			}
			for _, r := range c.Attention {
				if r.Network == n.name && r.Scales[step] > 0 {
					records = append(records, append(append([]string{}, line...), clean(r.Layer), "", "", "", "", exact(r.Scales[step])))
				}
			}
		}
		if !ran {
			records = append(records, append([]string{strconv.Itoa(step)}, make([]string, 13)...))
		}
	}
	return csvBytes(records)
}

// findAxis returns the cell's axis of that name, or nil.
func findAxis(c *results.Cell, name string) *results.Axis {
	for i := range c.Axes {
		if c.Axes[i].Name == name {
			return &c.Axes[i]
		}
	}
	return nil
}
