package configs

import (
	"fmt"
	"sort"
	"strings"

	"scalecrafter/ablation"
)

// gridKeys are the settings that a grid may vary.
var gridKeys = []string{
	"schedule", "axis", "factor", "tau", "tau_share", "min_depth", "layers", "depth", "dilation", "decay", "progressive", "listed", "attention_scaling",
	"damped", "damped.factor", "damped.tau", "damped.tau_share", "damped.min_depth", "damped.layers", "damped.depth", "damped.dilation",
	"dispersion", "dispersion.kernel", "dispersion.scale", "dispersion.input", "dispersion.eta", "dispersion.dc", "dispersion.transform",
	"dispersion.tau", "dispersion.tau_share", "dispersion.min_depth", "dispersion.layers",
	"guidance_scale", "guidance_rescale", "freeu", "freeu.b1", "freeu.b2", "freeu.s1", "freeu.s2",
	"sdedit", "sdedit.tau", "sdedit.scale",
}

// nested are the tables inside a method whose keys a grid may vary.
var nested = []string{"damped", "dispersion", "freeu", "sdedit"}

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
			if inner, ok := g.m[key].(map[string]any); ok && contains(nested, key) {
				sub := &table{r: g.r, path: g.where(key), m: inner}
				for _, k := range sortedKeys(inner) {
					add(sub, key+".", k)
				}
				continue
			}
			add(g, "", key)
		}
		sort.SliceStable(axes, func(i, j int) bool {
			return before(base.r.spans[axes[i].path].key, base.r.spans[axes[j].path].key)
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
			store(t.m, axes[a].key, copied(axes[a].values[i]))
			t.alias[axes[a].key] = element(axes[a].path, i)
		}
		out = append(out, t)
	}
	return out
}

// gridLabel tells the cells of one labelled method apart.
func (c *Config) gridLabel(t *table) string {
	var b strings.Builder
	for _, key := range gridKeys {
		if path, ok := t.alias[key]; ok {
			value, _ := find(t.m, key)
			text, isText := value.(string)
			if !isText {
				text = c.literal(path, value)
			}
			fmt.Fprintf(&b, ", %s %s", key, text)
		}
	}
	return b.String()
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

// copied is a value that may be filled in without changing the original.
func copied(v any) any {
	if m, ok := v.(map[string]any); ok {
		return clone(m)
	}
	return v
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
