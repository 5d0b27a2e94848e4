package configs

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"scalecrafter/ablation"
)

// keyOrder is the order in which keys are rendered; others follow by name.
var keyOrder = []string{
	"name", "title", "question", "model", "weights",
	"sample", "height", "width", "count", "steps", "guidance_scale", "guidance_rescale", "eta", "seed", "sampler",
	"reference", "base_count", "method", "label", "kind", "baseline", "factor", "tau", "tau_share", "layers", "min_depth",
	"progressive", "attention_scaling", "report", "columns", "picture_rows", "picture_columns", "metric", "x", "group_by",
}

// TOML renders the resolved configuration: every default filled in, comments
// gone. Decoding it gives the same cells.
func (c *Config) TOML() string {
	var b strings.Builder
	c.renderTable(&b, "", c.tree)
	return b.String()
}

func (c *Config) renderTable(b *strings.Builder, path string, m map[string]any) {
	keys := sortedKeys(m)
	rank := func(key string) int {
		for i, k := range keyOrder {
			if k == key {
				return i
			}
		}
		return len(keyOrder)
	}
	sort.SliceStable(keys, func(i, j int) bool {
		a, z := rank(keys[i]), rank(keys[j])
		if a != z || a < len(keyOrder) {
			return a < z
		}
		// Globs and grid axes keep the order of the file: it has a meaning.
		p, q := c.reader.spans[join(path, keys[i])].key, c.reader.spans[join(path, keys[j])].key
		if p.Line != q.Line {
			return p.Line < q.Line
		}
		return p.Col < q.Col
	})
	if strings.HasSuffix(path, ".grid") || strings.HasSuffix(path, ".dilation") {
		sort.SliceStable(keys, func(i, j int) bool {
			p, q := c.reader.spans[join(path, keys[i])].key, c.reader.spans[join(path, keys[j])].key
			if p.Line != q.Line {
				return p.Line < q.Line
			}
			return p.Col < q.Col
		})
	}
	for _, k := range keys {
		if _, isTable := m[k].(map[string]any); isTable {
			continue
		}
		if tables(m[k]) {
			continue
		}
		fmt.Fprintf(b, "%s = %s\n", ablation.QuoteKey(k), literal(m[k]))
	}
	for _, k := range keys {
		header := join(stripIndexes(path), k)
		if sub, ok := m[k].(map[string]any); ok {
			fmt.Fprintf(b, "\n[%s]\n", header)
			c.renderTable(b, join(path, k), sub)
		} else if tables(m[k]) {
			list, _ := asList(m[k])
			for i, item := range list {
				fmt.Fprintf(b, "\n[[%s]]\n", header)
				c.renderTable(b, element(join(path, k), i), item.(map[string]any))
			}
		}
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

func literal(v any) string {
	switch v := v.(type) {
	case string:
		return tomlText(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return tomlFloat(v)
	case bool:
		return strconv.FormatBool(v)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = literal(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
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
