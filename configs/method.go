package configs

import (
	"fmt"
	"sort"
	"strings"

	"scalecrafter/ablation"
)

// Defaults of a method's settings. Outermost-level convolutions stay as
// trained unless asked for, as in every published setting of ScaleCrafter.
const defaultMinDepth = 1

// gridKeys are the settings that a grid may vary.
var gridKeys = []string{
	"factor", "tau", "tau_share", "min_depth", "layers", "progressive", "attention_scaling",
	"damped.factor", "damped.tau", "damped.tau_share", "damped.min_depth", "damped.layers",
}

// redilationKeys have no meaning in the other kinds.
var redilationKeys = []string{"factor", "tau", "tau_share", "layers", "min_depth", "progressive", "dilation", "damped", "attention_scaling"}

func (c *Config) readMethods(t *table) {
	const advice = "add [[method]], name = \"direct\", kind = \"direct\", baseline = true"
	v, ok := t.take("method")
	if !ok {
		t.missing("method", "at least one [[method]]", advice)
		return
	}
	list, ok := asList(v)
	if !ok {
		t.fail("method", "write it as [[method]]", "is %s, want an array of tables", show(v))
		return
	}
	if len(list) == 0 {
		t.fail("method", advice, "is empty, want at least one method")
		return
	}
	names := map[string]bool{}
	baselines, unclear := 0, false // unclear: a baseline key of the wrong type
	for i, item := range list {
		path := element("method", i)
		m, ok := item.(map[string]any)
		if !ok {
			t.r.fail(path, "write it as [[method]]", "is %s, want a table", show(item))
			continue
		}
		base := &table{r: t.r, path: path, m: m}
		if name, ok := m["name"].(string); ok {
			if names[name] {
				base.fail("name", "give every method its own name", "is %q, which another method has", name)
			}
			names[name] = true
		}
		if flag, ok := m["baseline"]; ok {
			if _, ok := flag.(bool); !ok {
				unclear = true
			}
		}
		cells := c.readGrid(base)
		for j, cell := range cells {
			method := c.readMethod(cell)
			if len(cell.alias) > 0 && method.Label != "" {
				method.Label += gridLabel(cell)
			}
			if method.Baseline {
				if baselines++; baselines > 1 {
					base.fail("baseline", "all effects refer to one cell; keep baseline = true on one method without a grid", "is true a second time, want exactly one baseline")
				}
			}
			c.Methods = append(c.Methods, method)
			c.origins = append(c.origins, origin{path: path, alias: cell.alias})
			if j == 0 {
				keepDefaults(m, cell.m, cell.alias, "")
			}
		}
	}
	if baselines == 0 && !unclear {
		t.r.fail("method", "add baseline = true to the method that effects refer to, usually \"direct\"", "has no baseline, want exactly one")
	}
}

// readGrid expands a method's grid: one table per combination, first axis of
// the file slowest. Without a grid it is the table itself, copied.
func (c *Config) readGrid(base *table) []*table {
	type axis struct {
		key, path string
		values    []any
	}
	var axes []axis
	known := &table{r: base.r, path: base.path, m: base.m}
	if g := known.sub("grid"); g != nil {
		add := func(g *table, prefix, key string) {
			full := prefix + key
			if !contains(gridKeys, full) {
				g.r.failKey(g.where(key), didYouMean(full, gridKeys), "unknown setting for a grid")
				return
			}
			values, ok := asList(g.m[key])
			if !ok || len(values) == 0 {
				g.fail(key, fmt.Sprintf("write %s = [...] with the values to run", key), "is %s, want a list of one value or more", show(g.m[key]))
				return
			}
			if lookup(base.m, full) {
				g.fail(key, fmt.Sprintf("keep either %s or the grid over it", full), "varies %s, which the method also sets", full)
				return
			}
			axes = append(axes, axis{full, g.where(key), values})
		}
		for _, key := range sortedKeys(g.m) {
			if inner, ok := g.m[key].(map[string]any); ok && key == "damped" {
				sub := &table{r: g.r, path: g.where(key), m: inner}
				for _, k := range sortedKeys(inner) {
					add(sub, "damped.", k)
				}
				continue
			}
			add(g, "", key)
		}
		sort.SliceStable(axes, func(i, j int) bool {
			a, b := base.r.spans[axes[i].path].key, base.r.spans[axes[j].path].key
			if a.Line != b.Line {
				return a.Line < b.Line
			}
			return a.Col < b.Col
		})
	}
	lengths := make([]int, len(axes))
	total := 1
	for i, a := range axes {
		lengths[i] = len(a.values)
		if total *= len(a.values); total > maxCells {
			base.fail("grid", "split it or drop values", "has more than %d combinations", maxCells)
			lengths = lengths[:0]
			break
		}
	}
	var out []*table
	for _, combination := range ablation.Product(lengths) {
		t := &table{r: base.r, path: base.path, m: clone(base.m), known: []string{"grid"}, alias: map[string]string{}}
		for a, i := range combination {
			store(t.m, axes[a].key, axes[a].values[i])
			t.alias[axes[a].key] = element(axes[a].path, i)
		}
		out = append(out, t)
	}
	return out
}

func gridLabel(t *table) string {
	var b strings.Builder
	for _, key := range gridKeys {
		if _, ok := t.alias[key]; ok {
			value, _ := find(t.m, key)
			fmt.Fprintf(&b, ", %s %s", key, strings.TrimSuffix(show(value), " (text)"))
		}
	}
	return b.String()
}

func (c *Config) readMethod(t *table) ablation.Method {
	m := ablation.Method{Name: t.name("name"), Label: t.text("label", "")}
	kinds := make([]string, len(ablation.Kinds))
	for i, k := range ablation.Kinds {
		kinds[i] = string(k)
	}
	m.Kind = ablation.Kind(t.choice("kind", "", kinds))
	m.Baseline = t.boolean("baseline", false, "effects are differences to the baseline")
	if m.Kind != ablation.Redilate {
		m.AttentionScaling = m.Kind == ablation.AttentionScaling
		for _, key := range redilationKeys {
			if _, ok := t.take(key); ok && m.Kind != "" {
				t.fail(key, "drop it, or choose kind = \"redilation\"", "never takes effect: the kind is %q", m.Kind)
			}
		}
		t.done()
		return m
	}
	m.AttentionScaling = t.boolean("attention_scaling", false, "true combines it with re-dilation")
	r := &ablation.Redilation{LayerSet: readLayers(t, ablation.Factor{})}
	r.Tau = c.readTau(t, 0)
	r.Progressive = t.boolean("progressive", false, "true lets factors shrink over the steps, never below 2")
	if d := t.sub("damped"); d != nil {
		for key, path := range t.alias {
			if rest, ok := strings.CutPrefix(key, "damped."); ok {
				if d.alias == nil {
					d.alias = map[string]string{}
				}
				d.alias[rest] = path
			}
		}
		v := &ablation.Damping{LayerSet: readLayers(d, r.Factor)}
		v.Tau = c.readTau(d, r.Tau)
		d.done()
		if c.Sample.GuidanceScale <= 1 {
			t.fail("damped", "drop it, or raise sample.guidance_scale above 1", "never takes effect: guidance is off (sample.guidance_scale is %v)", c.Sample.GuidanceScale)
		}
		r.Damped = v
	}
	m.Redilation = r
	t.done()
	return m
}

// readLayers reads which layers are dilated by what; inherit, when not zero,
// is the factor where none is given.
func readLayers(t *table, inherit ablation.Factor) ablation.LayerSet {
	var s ablation.LayerSet
	given := t.has("factor")
	s.Factor, _ = t.factor("factor")
	s.Layers = t.texts("layers", "down_blocks.*")
	if t.has("layers") && s.Layers != nil && len(s.Layers) == 0 {
		t.fail("layers", "write layers = [\"down_blocks.*\", ...], or use min_depth", "is empty, want one glob or more")
	}
	for i, glob := range s.Layers {
		checkGlob(t.r.fail, element(t.where("layers"), i), glob)
	}
	if t.has("layers") && t.has("min_depth") {
		t.fail("min_depth", "keep either layers or min_depth", "is given beside layers")
	}
	if d := t.sub("dilation"); d != nil {
		keys := sortedKeys(d.m)
		sort.SliceStable(keys, func(i, j int) bool {
			a, b := t.r.spans[d.where(keys[i])].key, t.r.spans[d.where(keys[j])].key
			if a.Line != b.Line {
				return a.Line < b.Line
			}
			return a.Col < b.Col
		})
		for _, glob := range keys {
			checkGlob(t.r.failKey, d.where(glob), glob)
			f, _ := d.factor(glob)
			s.Overrides = append(s.Overrides, ablation.LayerFactor{Glob: glob, Factor: f})
		}
		if len(keys) == 0 {
			t.fail("dilation", "add \"mid_block.*\" = 2, or drop the table", "is empty, want one glob or more")
		}
	}
	if !given && inherit != (ablation.Factor{}) {
		s.Factor = inherit
		given = true
		if inherit.H == inherit.W {
			t.m["factor"] = inherit.H
		} else {
			t.m["factor"] = []any{inherit.H, inherit.W}
		}
	}
	if !given && (len(s.Overrides) == 0 || t.has("layers") || t.has("min_depth")) {
		t.missing("factor", "a number or two", "add factor = 2, or factors by layer in a dilation table")
	}
	if !t.has("layers") && given {
		s.MinDepth = t.integer("min_depth", defaultMinDepth, 0, 16, "levels from the outermost that stay as trained; 0 dilates all")
	} else {
		t.take("min_depth")
	}
	return s
}

func checkGlob(fail func(path, advice, format string, args ...any), path, glob string) {
	if glob == "" || strings.Trim(glob, "abcdefghijklmnopqrstuvwxyz0123456789_.*?") != "" {
		fail(path, "layer paths look like \"down_blocks.1.resnets.0.conv1\"; * stands for any text", "is %q, want lower-case letters, digits, _, ., * and ?", glob)
	}
}

// readTau reads tau (steps) or tau_share (a share of the steps); inherit, when
// not 0, is used where neither is given.
func (c *Config) readTau(t *table, inherit int) int {
	steps := c.Sample.Steps
	hasTau, hasShare := t.has("tau"), t.has("tau_share")
	switch {
	case hasTau && hasShare:
		t.take("tau_share")
		t.take("tau")
		t.fail("tau", "keep either tau (steps) or tau_share (0..1)", "is given beside tau_share")
	case hasTau:
		t.take("tau_share")
		v, _ := t.take("tau")
		advice := fmt.Sprintf("tau counts sampling steps from the noisiest; choose 1..%d", steps)
		n, ok := v.(int64)
		switch {
		case ok && n > int64(steps):
			t.fail("tau", advice, "is %d, above sample.steps (%d)", n, steps)
		case !ok || n < 1:
			t.fail("tau", advice, "is %s, want an integer from 1 to %d", show(v), steps)
		default:
			return int(n)
		}
	case hasShare:
		t.take("tau")
		share := t.number("tau_share", 1, 0, 1, "the share of the steps, counted from the noisiest, that are dilated")
		n := ablation.TauSteps(share, steps)
		if n < 1 && len(t.r.errs) == 0 {
			t.fail("tau_share", fmt.Sprintf("choose %s or more, or kind = \"direct\"", tomlFloat(1/float64(steps))), "is %v of %d steps, which is no step: it never takes effect", share, steps)
		}
		return n
	case inherit > 0:
		t.take("tau_share")
		t.take("tau")
		t.m["tau"] = int64(inherit)
		return inherit
	default:
		t.take("tau_share")
		t.take("tau")
		t.missing("tau_share", "a share of the steps from 0 to 1", "add tau_share = 0.6, or tau in steps")
	}
	return steps
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// find follows a grid key ("damped.tau") into a method's table.
func find(m map[string]any, key string) (any, bool) {
	if outer, inner, ok := strings.Cut(key, "."); ok {
		sub, ok := m[outer].(map[string]any)
		if !ok {
			return nil, false
		}
		return find(sub, inner)
	}
	v, ok := m[key]
	return v, ok
}

func lookup(m map[string]any, key string) bool {
	_, ok := find(m, key)
	return ok
}

func store(m map[string]any, key string, v any) {
	if outer, inner, ok := strings.Cut(key, "."); ok {
		sub, ok := m[outer].(map[string]any)
		if !ok {
			sub = map[string]any{}
			m[outer] = sub
		}
		store(sub, inner, v)
		return
	}
	m[key] = v
}

// clone copies the tables of a tree; lists and scalars are never changed.
func clone(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if sub, ok := v.(map[string]any); ok {
			v = clone(sub)
		}
		out[k] = v
	}
	return out
}

// keepDefaults copies into dst what reading filled in, except what a grid gives.
func keepDefaults(dst, filled map[string]any, alias map[string]string, prefix string) {
	for k, v := range filled {
		if _, ok := alias[prefix+k]; ok {
			continue
		}
		old, have := dst[k]
		if sub, ok := v.(map[string]any); ok && prefix == "" {
			into, ok := old.(map[string]any)
			if !ok {
				into = map[string]any{}
				dst[k] = into
			}
			keepDefaults(into, sub, alias, k+".")
			continue
		}
		if !have {
			dst[k] = v
		}
	}
}
