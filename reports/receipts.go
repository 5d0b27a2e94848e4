package reports

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"scalecrafter/reports/results"
)

// heatCell is how one layer ran at one step. The zero value is a step at which
// its network was not evaluated.
type heatCell struct {
	rows, columns float64 // dilation factor
	kernel        int     // side in taps
	transform     string  // that made the kernel; "" as trained
}

func (c heatCell) off() bool     { return c.rows == 0 }
func (c heatCell) trained() bool { return c.rows == 1 && c.columns == 1 && c.transform == "" }

// factor is "2", or "2×4" for rows and columns apart.
func (c heatCell) factor() string {
	if c.rows == c.columns {
		return exact(c.rows)
	}
	return exact(c.rows) + "×" + exact(c.columns)
}

// heatNetwork is one network's half of a receipt: rows by layer, then step.
type heatNetwork struct {
	name string
	rows [][]heatCell
}

// heat is a receipt made ready to be drawn.
type heat struct {
	layers  []string // paths in execution order; one empty path stands for all of them
	steps   int
	records []results.StepRow // empty in old files
	// attention is empty where it ran as trained, and in old files.
	attention []results.AttentionRow
	networks  []heatNetwork // main first
}

// receiptIsPlain reports whether every layer ran as it was trained at every
// step and every step was run.
func receiptIsPlain(c *results.Cell) bool {
	for i := range c.Plan {
		for _, k := range cellsOf(&c.Plan[i]) {
			if !k.off() && !k.trained() {
				return false
			}
		}
	}
	for i := range c.Steps {
		s := &c.Steps[i]
		if s.Skipped() {
			return false
		}
		for _, n := range []*results.NetworkRow{s.Main, s.Damped} {
			if n != nil && (sharpened(n) || n.FreeU != nil) {
				return false
			}
		}
	}
	return true
}

// sharpened reports whether self-attention ran with another scale.
func sharpened(n *results.NetworkRow) bool { return n.AttentionRatio != 0 && n.AttentionRatio != 1 }

func cellsOf(r *results.PlanRow) []heatCell {
	out := make([]heatCell, len(r.Factors))
	for i := range out {
		out[i].rows, out[i].columns = r.Factors[i], r.Column(i)
		out[i].kernel, out[i].transform = r.Kernel(i)
	}
	return out
}

// newHeat lays a cell's receipt out. A network that ran as trained throughout
// has no rows in the record; it gets some here, so that both networks share
// their layers.
func newHeat(c *results.Cell) *heat {
	h := &heat{steps: len(c.Steps), records: c.Steps, attention: c.Attention}
	if len(c.Plan) > 0 {
		h.steps = len(c.Plan[0].Factors)
	}
	at := map[string]int{}
	networks := []string{results.NetworkMain}
	for i := range c.Plan {
		if p := c.Plan[i].Layer; !hasKey(at, p) {
			at[p] = len(h.layers)
			h.layers = append(h.layers, p)
		}
	}
	damped := false
	for i := range c.Plan {
		damped = damped || c.Plan[i].Network == results.NetworkDamped
	}
	for i := range c.Steps {
		damped = damped || c.Steps[i].Damped != nil
	}
	if damped {
		networks = append(networks, results.NetworkDamped)
	}
	if len(h.layers) == 0 {
		h.layers = []string{""}
	}
	for _, name := range networks {
		n := heatNetwork{name: name, rows: make([][]heatCell, len(h.layers))}
		for i := range c.Plan {
			if r := &c.Plan[i]; r.Network == name || r.Network == "" && name == results.NetworkMain {
				n.rows[at[r.Layer]] = cellsOf(r)
			}
		}
		for l := range n.rows {
			if n.rows[l] != nil {
				continue
			}
			n.rows[l] = make([]heatCell, h.steps)
			for s := range n.rows[l] {
				if s >= len(c.Steps) || c.Steps[s].Of(name) != nil {
					n.rows[l][s] = heatCell{rows: 1, columns: 1, kernel: 3}
				}
			}
		}
		h.networks = append(h.networks, n)
	}
	return h
}

func hasKey[V any](m map[string]V, key string) bool { _, ok := m[key]; return ok }

// splitLayer shortens a layer's path for reading:
// "down_blocks.1.resnets.0.conv1" is block "down 1", layer "res 0 conv1".
func splitLayer(path string) (block, rest string) {
	parts := strings.Split(clean(path), ".")
	switch {
	case (parts[0] == "down_blocks" || parts[0] == "up_blocks") && len(parts) > 1:
		block = strings.TrimSuffix(parts[0], "_blocks") + " " + parts[1]
		parts = parts[2:]
	case parts[0] == "mid_block":
		block = "mid"
		parts = parts[1:]
	default:
		block = parts[0]
		parts = parts[1:]
	}
	for i, p := range parts {
		switch p {
		case "resnets":
			parts[i] = "res"
		case "downsamplers", "upsamplers":
			parts[i] = strings.TrimSuffix(p, "samplers") + "sample"
		}
	}
	return block, strings.Join(parts, " ")
}

// span is a run of steps with one value: steps from..to-1.
type span[T comparable] struct {
	from, to int
	value    T
}

func spans[T comparable](values []T) []span[T] {
	var out []span[T]
	for i, v := range values {
		if n := len(out); n > 0 && out[n-1].value == v {
			out[n-1].to = i + 1
			continue
		}
		out = append(out, span[T]{i, i + 1, v})
	}
	return out
}

func equal[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// stepRange is "step 4" or "steps 0–11".
func stepRange(from, to int) string {
	if to-from == 1 {
		return fmt.Sprintf("step %d", from)
	}
	return fmt.Sprintf("steps %d–%d", from, to-1)
}

// stepsWhere is the range of the steps that hold, or ranges where there are gaps.
func stepsWhere(n int, in func(step int) bool) string {
	flags := make([]bool, n)
	for i := range flags {
		flags[i] = in(i)
	}
	var parts []string
	for _, s := range spans(flags) {
		if s.value {
			parts = append(parts, stepRange(s.from, s.to))
		}
	}
	return strings.Join(parts, ", ")
}

// networkName is what a reader calls a network; the letters are ScaleCrafter's.
func networkName(n string) string {
	switch n {
	case "", results.NetworkMain:
		return "D, main network"
	case results.NetworkDamped:
		return "V, damping network"
	}
	return clean(n)
}

// receiptLine tells a receipt in one line.
func receiptLine(s *results.Summary, c *results.Cell) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	h := newHeat(c)
	if n := skippedSteps(h); n > 0 {
		from := "an enlarged smaller picture"
		if c.SDEdit != nil && c.SDEdit.Scale > 0 {
			from = fmt.Sprintf("a picture enlarged ×%s", exact(c.SDEdit.Scale))
		}
		add("%s skipped, started from %s (SDEdit)", stepRange(0, n), from)
	}
	for _, n := range h.networks {
		var text string
		if n.name == results.NetworkDamped {
			terms := stepsWhere(len(h.records), func(i int) bool { return h.records[i].Base == results.NetworkDamped })
			if terms == "" {
				text = "V:"
			} else {
				text = "V, which gave the base term in " + terms + ":"
			}
		} else {
			text = "D:"
		}
		what := networkLine(h, n)
		if what == "" && len(h.networks) == 1 {
			continue
		}
		if what == "" {
			what = "as trained"
		}
		add("%s %s", text, what)
	}
	for _, kind := range []struct {
		text func(*results.NetworkRow) string
	}{
		{func(n *results.NetworkRow) string {
			if !sharpened(n) {
				return ""
			}
			return "attention sharpened " + scaleRange(c) + "for ×" + shortNumber(n.AttentionRatio) + " pixels"
		}},
		{func(n *results.NetworkRow) string {
			if n.FreeU == nil {
				return ""
			}
			return freeuText(n.FreeU)
		}},
	} {
		texts := make([]string, len(h.records))
		for i := range h.records {
			if n := h.records[i].Main; n != nil {
				texts[i] = kind.text(n)
			}
		}
		for _, k := range spans(texts) {
			if k.value == "" {
				continue
			}
			if k.to-k.from == len(texts)-skippedSteps(h) {
				add("%s at every step", k.value)
			} else {
				add("%s in %s", k.value, stepRange(k.from, k.to))
			}
		}
	}
	if c.GuidanceScale != nil && *c.GuidanceScale != s.GuidanceScale {
		add("guidance %s", exact(*c.GuidanceScale))
	}
	if c.GuidanceRescale != nil && *c.GuidanceRescale != 0 {
		add("guidance rescale %s", exact(*c.GuidanceRescale))
	}
	if len(parts) == 0 {
		return "as trained at every step"
	}
	return strings.Join(parts, "; ")
}

// skippedSteps counts the steps at the beginning that were not run.
func skippedSteps(h *heat) int {
	n := 0
	for n < len(h.records) && h.records[n].Skipped() {
		n++
	}
	return n
}

// freeuText names FreeU's parameters.
func freeuText(p []float64) string {
	if len(p) != 4 {
		return "FreeU"
	}
	return fmt.Sprintf("FreeU b %s, %s, s %s, %s", exact(p[0]), exact(p[1]), exact(p[2]), exact(p[3]))
}

// shortNumber writes a ratio with three significant digits at most.
func shortNumber(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }

// networkLine says which layers ran changed, how and when; "" where none did.
func networkLine(h *heat, n heatNetwork) string {
	layers, dispersed := 0, 0
	seen := map[heatCell]bool{}
	var order []heatCell // by first step
	var kernels []string
	active, enlarged := make([]bool, h.steps), make([]bool, h.steps)
	for _, row := range n.rows {
		changed, large := false, false
		for i, k := range row {
			if k.off() || k.trained() {
				continue
			}
			changed, active[i] = true, true
			if k.transform != "" {
				large, enlarged[i] = true, true
				text := fmt.Sprintf("%d×%d, %s", k.kernel, k.kernel, clean(k.transform))
				if !containsText(kernels, text) {
					kernels = append(kernels, text)
				}
			}
			key := heatCell{rows: k.rows, columns: k.columns}
			if !seen[key] {
				seen[key] = true
				order = append(order, key)
			}
		}
		if changed {
			layers++
		}
		if large {
			dispersed++
		}
	}
	if layers == 0 {
		return ""
	}
	sort.SliceStable(order, func(a, b int) bool {
		return order[a].rows*order[a].columns > order[b].rows*order[b].columns
	})
	var factors []string
	for _, k := range order {
		if k.rows == k.columns {
			factors = append(factors, "×"+exact(k.rows))
		} else {
			factors = append(factors, k.factor()+" (rows × columns)")
		}
	}
	if len(factors) > 4 {
		factors = []string{factors[0] + " to " + factors[len(factors)-1]}
	}
	text := fmt.Sprintf("%d of %d layers at %s in %s", layers, len(n.rows), strings.Join(factors, ", "), stepsWhere(h.steps, func(i int) bool { return active[i] }))
	if dispersed > 0 {
		many := fmt.Sprintf("%d of them", dispersed)
		if dispersed == layers {
			many = "all of them"
			if layers == 1 {
				many = "it"
			}
		}
		text += fmt.Sprintf(", %s with a dispersed kernel (%s)", many, strings.Join(kernels, "; "))
		if !equal(active, enlarged) {
			text += " in " + stepsWhere(h.steps, func(i int) bool { return enlarged[i] })
		}
	}
	return text
}

// scaleRange is the range of the factors on the logits of a cell's
// self-attentions, "×1.15 to ×1.22 ", where they are recorded.
func scaleRange(c *results.Cell) string {
	lo, hi := 0.0, 0.0
	for _, r := range c.Attention {
		for _, s := range r.Scales {
			if s == 0 || s == 1 {
				continue
			}
			if lo == 0 || s < lo {
				lo = s
			}
			hi = max(hi, s)
		}
	}
	switch from, to := fmt.Sprintf("×%.2f", lo), fmt.Sprintf("×%.2f", hi); {
	case lo == 0:
		return ""
	case from == to:
		return from + " "
	default:
		return from + " to " + to + " "
	}
}

func containsText(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
