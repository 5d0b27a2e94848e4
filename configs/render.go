package configs

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"scalecrafter/ablation"
)

// keyOrder is the order in which keys are rendered; others follow by their
// place in the file.
var keyOrder = []string{
	"name", "title", "question", "model", "weights", "height", "width", "sizes", "count", "steps", "guidance_scale", "guidance_rescale", "eta", "seed", "sampler",
	"base_count", "label", "kind", "baseline", "only", "schedule", "axis", "factor", "tau", "tau_share", "layers", "min_depth", "depth",
	"decay", "progressive", "listed", "attention_scaling", "kernel", "scale", "input", "dc", "transform", "freeu", "sdedit",
	"columns", "picture_rows", "picture_columns", "metric", "x", "group_by", "methods", "from", "to",
	// Tables.
	"sample", "reference", "method", "dilation", "damped", "dispersion", "grid", "report", "compare", "plot", "transforms", "schedules",
}

// TOML renders the resolved configuration: every default filled in, the
// schedules it names inside, the digests of the files it reads, comments gone.
// Decoding it gives the same cells.
func (c *Config) TOML() string {
	tree := clone(c.tree)
	if digests := c.digests(); len(digests) > 0 {
		tree["transforms"] = digests
	}
	var b strings.Builder
	c.renderTable(&b, "", tree)
	return b.String()
}

// inFile orders keys by their places in the file. Globs, levels and grid axes
// keep them because their order has a meaning.
func (c *Config) inFile(path string, keys []string) {
	sort.SliceStable(keys, func(i, j int) bool {
		return before(c.reader.spans[join(path, keys[i])].key, c.reader.spans[join(path, keys[j])].key)
	})
}

func (c *Config) order(path string, m map[string]any) []string {
	keys := sortedKeys(m)
	c.inFile(path, keys)
	if strings.HasSuffix(path, ".dilation") || strings.Contains(path, "dilation[") { // the second in a grid
		return keys
	}
	rank := func(key string) int {
		for i, k := range keyOrder {
			if k == key {
				return i
			}
		}
		return len(keyOrder)
	}
	sort.SliceStable(keys, func(i, j int) bool { return rank(keys[i]) < rank(keys[j]) })
	return keys
}

func (c *Config) renderTable(b *strings.Builder, path string, m map[string]any) {
	keys := c.order(path, m)
	for _, k := range keys {
		if _, isTable := m[k].(map[string]any); isTable || tables(m[k]) {
			continue
		}
		fmt.Fprintf(b, "%s = %s\n", ablation.QuoteKey(k), c.literal(join(path, k), m[k]))
	}
	for _, k := range keys {
		header := join(stripIndexes(path), k)
		if sub, ok := m[k].(map[string]any); ok {
			if len(sub) == 0 || c.hasValues(sub) || k == "grid" {
				fmt.Fprintf(b, "\n[%s]\n", header)
			}
			if k == "grid" && strings.HasPrefix(path, "method[") {
				c.renderGrid(b, join(path, k), sub)
			} else {
				c.renderTable(b, join(path, k), sub)
			}
		} else if tables(m[k]) {
			list, _ := asList(m[k])
			for i, item := range list {
				fmt.Fprintf(b, "\n[[%s]]\n", header)
				c.renderTable(b, element(join(path, k), c.place(path, k, i)), item.(map[string]any))
			}
		}
	}
}

// hasValues reports whether a table has keys of its own besides tables.
func (c *Config) hasValues(m map[string]any) bool {
	for _, v := range m {
		if _, ok := v.(map[string]any); !ok && !tables(v) {
			return true
		}
	}
	return false
}

// place is an element's index in the file; panels leave methods out.
func (c *Config) place(path, key string, i int) int {
	if path == "" && key == "method" && c.listed != nil {
		return c.listed[i]
	}
	return i
}

// renderGrid writes the axes in their order, nested ones with dotted keys.
func (c *Config) renderGrid(b *strings.Builder, path string, m map[string]any) {
	type axis struct {
		key, path string
		value     any
	}
	var axes []axis
	for _, k := range sortedKeys(m) {
		if sub, ok := m[k].(map[string]any); ok {
			for _, inner := range sortedKeys(sub) {
				axes = append(axes, axis{join(k, inner), join(join(path, k), inner), sub[inner]})
			}
			continue
		}
		axes = append(axes, axis{ablation.QuoteKey(k), join(path, k), m[k]})
	}
	sort.SliceStable(axes, func(i, j int) bool {
		return before(c.reader.spans[axes[i].path].key, c.reader.spans[axes[j].path].key)
	})
	for _, a := range axes {
		fmt.Fprintf(b, "%s = %s\n", a.key, c.literal(a.path, a.value))
	}
}

func tables(v any) bool {
	list, ok := asList(v)
	if !ok || len(list) == 0 {
		return false
	}
	for _, item := range list {
		if _, ok := item.(map[string]any); !ok {
			return false
		}
	}
	return true
}

// stripIndexes turns "method[1].grid" into the header's spelling "method.grid".
func stripIndexes(path string) string {
	var b strings.Builder
	skip, quoted := false, false
	for _, r := range path {
		switch {
		case r == '"':
			quoted = !quoted
		case r == '[' && !quoted:
			skip = true
		}
		if !skip {
			b.WriteRune(r)
		}
		if r == ']' && !quoted {
			skip = false
		}
	}
	return b.String()
}

// literal is a value as TOML; path is its place, for the order of keys.
func (c *Config) literal(path string, v any) string {
	switch v := v.(type) {
	case string:
		return tomlText(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return tomlFloat(v)
	case bool:
		return strconv.FormatBool(v)
	case []any, []map[string]any:
		list, _ := asList(v)
		parts := make([]string, len(list))
		for i, item := range list {
			parts[i] = c.literal(element(path, i), item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, k := range c.order(path, v) {
			parts = append(parts, ablation.QuoteKey(k)+" = "+c.literal(join(path, k), v[k]))
		}
		if len(parts) == 0 {
			return "{}"
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	return tomlText(fmt.Sprint(v))
}

func tomlFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func tomlText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
