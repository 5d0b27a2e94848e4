package configs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// set applies one -set argument, "key=value", to the tree. Keys are dotted;
// elements of arrays of tables are named ("method.direct.label") or numbered
// from 0 ("method.0.label"). A value that is not TOML is taken as text.
func (r *reader) set(tree map[string]any, arg string) {
	fail := func(key, advice, format string, args ...any) {
		r.errs = append(r.errs, &Error{File: r.file, Set: arg, Key: key, What: fmt.Sprintf(format, args...), Advice: advice})
	}
	key, value, ok := strings.Cut(arg, "=")
	s := &scanner{src: []rune(key)}
	parts := s.keys()
	if !ok || len(parts) == 0 || s.at < len(s.src) {
		fail("", "write -set sample.count=8", "want key=value with a dotted key")
		return
	}
	holder := map[string]any{}
	var v any = strings.TrimSpace(value)
	if _, err := toml.Decode("v = "+value, &holder); err == nil && len(holder) == 1 {
		v = holder["v"]
	}
	path, at := "", tree
	for i, part := range parts[:len(parts)-1] {
		path = join(path, part.name)
		next, ok := at[part.name]
		if !ok {
			next = map[string]any{}
			at[part.name] = next
		}
		if list, isList := asList(next); isList && i+1 < len(parts)-1 {
			which := parts[i+1].name
			j := elementOf(list, which)
			if j < 0 {
				fail(path, didYouMean(which, elementNames(list)), "has no element %q", which)
				return
			}
			at, _ = list[j].(map[string]any)
			r.setInside(at, element(path, j), parts[i+2:], v, arg)
			return
		}
		sub, isTable := next.(map[string]any)
		if !isTable {
			fail(path, "name a key that the schema has", "is %s, not a table", show(next))
			return
		}
		at = sub
	}
	r.put(at, join(path, parts[len(parts)-1].name), parts[len(parts)-1].name, v, arg)
}

// setInside goes on below an element of an array of tables.
func (r *reader) setInside(at map[string]any, path string, parts []keyAt, v any, arg string) {
	for _, part := range parts[:len(parts)-1] {
		path = join(path, part.name)
		sub, ok := at[part.name].(map[string]any)
		if !ok {
			if old, exists := at[part.name]; exists {
				r.errs = append(r.errs, &Error{File: r.file, Set: arg, Key: path, What: "is " + show(old) + ", not a table", Advice: "name a key that the schema has"})
				return
			}
			sub = map[string]any{}
			at[part.name] = sub
		}
		at = sub
	}
	last := parts[len(parts)-1].name
	r.put(at, join(path, last), last, v, arg)
}

func (r *reader) put(at map[string]any, path, key string, v any, arg string) {
	at[key] = v
	for p := range r.spans {
		if p == path || strings.HasPrefix(p, path+"[") || strings.HasPrefix(p, path+".") {
			delete(r.spans, p)
		}
	}
	r.sets[path] = arg
}

func elementOf(list []any, which string) int {
	for i, item := range list {
		if m, ok := item.(map[string]any); ok && m["name"] == which {
			return i
		}
	}
	if n, err := strconv.Atoi(which); err == nil && n >= 0 && n < len(list) {
		if _, ok := list[n].(map[string]any); ok {
			return n
		}
	}
	return -1
}

func elementNames(list []any) []string {
	var out []string
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			if name, ok := m["name"].(string); ok {
				out = append(out, name)
			}
		}
	}
	return out
}
