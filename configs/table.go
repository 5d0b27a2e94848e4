package configs

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"scalecrafter/ablation"
)

// reader collects the errors of one file.
type reader struct {
	file  string
	spans map[string]span
	sets  map[string]string // path -> the -set argument that gave it
	errs  Errors
}

// has reports whether the file has a path.
func (r *reader) has(path string) bool {
	_, ok := r.spans[path]
	return ok
}

// given reports whether the file or a -set argument has a path.
func (r *reader) given(path string) bool {
	_, set := r.sets[path]
	return set || r.has(path)
}

// at is an Error at a path's key or value; a path that the file does not
// have is reported at the nearest table around it.
func (r *reader) at(path string, value bool) *Error {
	for p := path; ; p = parent(p) {
		if arg, ok := r.sets[p]; ok {
			return &Error{File: r.file, Set: arg, Key: path}
		}
		if sp, ok := r.spans[p]; ok {
			pos := sp.key
			if value {
				pos = sp.value
			}
			return &Error{File: r.file, Pos: pos, Key: path}
		}
		if p == "" {
			return &Error{File: r.file, Pos: Pos{1, 1}, Key: path}
		}
		value = false
	}
}

// parent cuts the last key or index off a path; quoted keys may hold dots.
func parent(path string) string {
	quoted := false
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i] {
		case '"':
			if i == 0 || path[i-1] != '\\' {
				quoted = !quoted
			}
		case '.', '[':
			if !quoted {
				return path[:i]
			}
		}
	}
	return ""
}

func (r *reader) fail(path, advice, format string, args ...any) {
	e := r.at(path, true)
	e.What, e.Advice = fmt.Sprintf(format, args...), advice
	r.errs = append(r.errs, e)
}

// failKey is fail for a key that is itself at fault.
func (r *reader) failKey(path, advice, format string, args ...any) {
	e := r.at(path, false)
	e.What, e.Advice = fmt.Sprintf(format, args...), advice
	r.errs = append(r.errs, e)
}

// table reads one TOML table key by key. What was asked for is what is known;
// done reports the rest.
type table struct {
	r     *reader
	path  string
	m     map[string]any
	known []string
	alias map[string]string // key -> path of the value, where it is not path.key (grids)
	// noFill keeps defaults out of the resolved file.
	noFill bool
	quiet  map[string]bool // noFill for single keys
	ruled  bool            // min_depth is the derived rule's
}

func (t *table) where(key string) string {
	if a, ok := t.alias[key]; ok {
		return a
	}
	return join(t.path, key)
}

func (t *table) has(key string) bool {
	_, ok := t.m[key]
	return ok
}

func (t *table) fail(key, advice, format string, args ...any) {
	t.r.fail(t.where(key), advice, format, args...)
}

// take marks a key as known and returns its value.
func (t *table) take(key string) (any, bool) {
	t.known = append(t.known, key)
	v, ok := t.m[key]
	return v, ok
}

// sub opens a table inside; nil where there is none or it is no table.
func (t *table) sub(key string) *table {
	v, ok := t.take(key)
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.fail(key, fmt.Sprintf("write it as [%s]", stripIndexes(t.where(key))), "is %s, want a table", show(v))
		return nil
	}
	s := &table{r: t.r, path: t.where(key), m: m}
	for k, path := range t.alias {
		if rest, ok := strings.CutPrefix(k, key+"."); ok {
			if s.alias == nil {
				s.alias = map[string]string{}
			}
			s.alias[rest] = path
		}
	}
	return s
}

// optional is sub for a table that false may stand for; off reports that.
func (t *table) optional(key string) (sub *table, off bool) {
	if v, ok := t.m[key].(bool); ok && !v {
		t.take(key)
		return nil, true
	}
	if v, ok := t.m[key]; ok {
		if _, isTable := v.(map[string]any); !isTable {
			t.take(key)
			t.fail(key, fmt.Sprintf("write it as [%s], or false", stripIndexes(t.where(key))), "is %s, want a table or false", show(v))
			return nil, false
		}
	}
	return t.sub(key), false
}

// varies reports whether a grid gives one of the keys.
func (t *table) varies(keys ...string) bool {
	for _, key := range keys {
		if _, ok := t.alias[key]; ok {
			return true
		}
	}
	return false
}

// done reports the keys that nobody asked for.
func (t *table) done() {
	keys := make([]string, 0, len(t.m))
	for k := range t.m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		known := false
		for _, have := range t.known {
			known = known || have == k
		}
		if !known {
			t.r.failKey(t.where(k), didYouMean(k, t.known), "unknown key")
		}
	}
}

// fill stores a default, so that the table becomes the resolved one.
func fill[T any](t *table, key string, v T) T {
	if !t.noFill {
		t.m[key] = v
	}
	return v
}

func (t *table) integer(key string, def, lo, hi int, advice string) int {
	v, ok := t.take(key)
	if !ok {
		fill(t, key, int64(def))
		return def
	}
	want := fmt.Sprintf("want an integer from %d to %d", lo, hi)
	if hi == math.MaxInt64 {
		want = fmt.Sprintf("want an integer of %d or more", lo)
	}
	n, ok := v.(int64)
	if !ok || n < int64(lo) || n > int64(hi) {
		t.fail(key, advice, "is %s, %s", show(v), want)
		return def
	}
	return int(n)
}

// needInteger is integer without a default: the key must be there.
func (t *table) needInteger(key string, def, lo, hi int, advice string) int {
	if !t.has(key) {
		t.missing(key, fmt.Sprintf("an integer from %d to %d", lo, hi), advice)
		t.take(key)
		return def
	}
	return t.integer(key, def, lo, hi, advice)
}

func (t *table) missing(key, want, advice string) {
	t.r.failKey(t.where(key), advice, "is missing, want %s", want)
}

func (t *table) number(key string, def, lo, hi float64, advice string) float64 {
	v, ok := t.take(key)
	if !ok {
		fill(t, key, def)
		return def
	}
	f, ok := asFloat(v)
	if !ok || !(f >= lo && f <= hi) {
		t.fail(key, advice, "is %s, want a number from %v to %v", show(v), lo, hi)
		return def
	}
	return f
}

func (t *table) boolean(key string, def bool, advice string) bool {
	v, ok := t.take(key)
	if !ok {
		return fill(t, key, def)
	}
	b, ok := v.(bool)
	if !ok {
		t.fail(key, advice, "is %s, want true or false", show(v))
		return def
	}
	return b
}

func (t *table) text(key, def string) string {
	v, ok := t.take(key)
	if !ok {
		return fill(t, key, def)
	}
	s, ok := v.(string)
	if !ok {
		t.fail(key, "put text in double quotes", "is %s, want text", show(v))
		return def
	}
	return s
}

// name is a text of lower-case letters, digits, - and _, as folders are named.
func (t *table) name(key string) string {
	if !t.has(key) {
		t.missing(key, "a name", fmt.Sprintf("add %s = \"...\" with lower-case letters, digits, - and _", key))
		t.take(key)
		return ""
	}
	s := t.text(key, "")
	if _, isText := t.m[key].(string); isText && !validName(s) {
		t.fail(key, "start with a letter or digit; at most 64 characters", "is %q, want lower-case letters, digits, - and _", s)
		return ""
	}
	return s
}

func validName(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '-' || s[0] == '_' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// choice is a text out of a list; def "" makes the key required.
func (t *table) choice(key, def string, allowed []string) string {
	if def == "" && !t.has(key) {
		t.missing(key, "one of "+quoted(allowed), fmt.Sprintf("add %s = %q", key, allowed[0]))
		t.take(key)
		return ""
	}
	v := t.text(key, def)
	if given, have := t.m[key]; have {
		if _, isText := given.(string); !isText {
			return ""
		}
	}
	for _, a := range allowed {
		if a == v {
			return v
		}
	}
	t.fail(key, didYouMean(v, allowed), "is %q, want one of %s", v, quoted(allowed))
	return ""
}

// texts is a list of texts; nil where the key is absent or unusable.
func (t *table) texts(key, example string) []string {
	v, ok := t.take(key)
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		t.fail(key, fmt.Sprintf("write %s = [%q]", key, example), "is %s, want a list of texts", show(v))
		return nil
	}
	out := []string{}
	for i, item := range list {
		s, ok := item.(string)
		if !ok {
			t.r.fail(element(t.where(key), i), "put text in double quotes", "is %s, want text", show(item))
			continue
		}
		out = append(out, s)
	}
	return out
}

// The range of dilation factors: below 1 nothing is dilated.
const (
	minFactor = 1
	maxFactor = ablation.MaxFactor
)

// ratioOrFactor is a factor, or a ratio that the size decides.
func (t *table) ratioOrFactor(key string) (f ablation.Factor, r ablation.Ratio) {
	text, isText := t.m[key].(string)
	if !isText {
		f, _ = t.factor(key)
		return f, ablation.NoRatio
	}
	t.take(key)
	ratios := []string{string(ablation.RatioSide), string(ablation.RatioAxes)}
	if !contains(ratios, text) {
		t.fail(key, didYouMean(text, ratios), "is %q, want a number from %d to %d, two of them, or one of %s", text, minFactor, maxFactor, quoted(ratios))
		return ablation.Factor{H: 2, W: 2}, ablation.NoRatio
	}
	return f, ablation.Ratio(text)
}

// factor is a dilation factor: a number, or [rows, columns].
func (t *table) factor(key string) (ablation.Factor, bool) {
	v, ok := t.take(key)
	if !ok {
		return ablation.Factor{}, false
	}
	const advice = "published settings lie between 1.5 and 4; write 2, or [2, 3] for rows and columns apart"
	if f, ok := asFloat(v); ok && f >= minFactor && f <= maxFactor {
		return ablation.Factor{H: f, W: f}, true
	}
	if list, ok := v.([]any); ok && len(list) == 2 {
		h, okH := asFloat(list[0])
		w, okW := asFloat(list[1])
		if okH && okW && h >= minFactor && h <= maxFactor && w >= minFactor && w <= maxFactor {
			return ablation.Factor{H: h, W: w}, true
		}
	}
	t.fail(key, advice, "is %s, want a number from %d to %d or two of them", show(v), minFactor, maxFactor)
	return ablation.Factor{H: 2, W: 2}, false
}

func asFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	}
	return 0, false
}

// asList turns both of the decoder's array types into []any.
func asList(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case []map[string]any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
		return out, true
	}
	return nil, false
}

// show writes a value as an error message quotes it, with its type where the
// value alone would not tell.
func show(v any) string {
	switch v := v.(type) {
	case string:
		if r := []rune(v); len(r) > 40 {
			v = string(r[:40]) + "..."
		}
		return strconv.Quote(v) + " (text)"
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return tomlFloat(v)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return fmt.Sprintf("%d tables", len(v))
	case []any:
		parts := make([]string, 0, len(v))
		for i, item := range v {
			if i == 4 {
				parts = append(parts, "...")
				break
			}
			parts = append(parts, strings.TrimSuffix(show(item), " (text)"))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v)
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strconv.Quote(w)
	}
	return strings.Join(out, ", ")
}

// quietIf marks a key whose default must not be kept, because it is another's
// value and that one varies.
func (t *table) quietIf(key string, yes bool) {
	if yes {
		if t.quiet == nil {
			t.quiet = map[string]bool{}
		}
		t.quiet[key] = true
	}
}

// inOrder is the table's keys in the order of the file.
func (t *table) inOrder() []string {
	keys := sortedKeys(t.m)
	sort.SliceStable(keys, func(i, j int) bool {
		return before(t.r.spans[t.where(keys[i])].key, t.r.spans[t.where(keys[j])].key)
	})
	return keys
}

func before(a, b Pos) bool {
	if a.Line != b.Line {
		return a.Line < b.Line
	}
	return a.Col < b.Col
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func anyOf(t *table, keys ...string) bool {
	for _, key := range keys {
		if t.has(key) {
			return true
		}
	}
	return false
}

// pixels reads a height or width.
func (t *table) pixels(key string, def int) int {
	advice := fmt.Sprintf("sizes are pixels and multiples of %d", sizeStep)
	n := t.needInteger(key, def, sizeStep, maxSide, advice)
	t.checkPixels(t.where(key), n)
	return n
}

const maxSide = 8192

func (t *table) checkPixels(path string, n int) {
	if n%sizeStep != 0 {
		lower := n / sizeStep * sizeStep
		t.r.fail(path, fmt.Sprintf("choose %d or %d", max(lower, sizeStep), lower+sizeStep), "is %d, want a multiple of %d", n, sizeStep)
	}
}

// shares is a list of numbers from 0 to 1; nil where the key is absent or
// unusable.
func (t *table) shares(key string) []float64 {
	v, ok := t.take(key)
	if !ok {
		return nil
	}
	const advice = "one number for each dilated step: 1 keeps the whole factor, 0 none of it"
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		t.fail(key, advice, "is %s, want a list of numbers from 0 to 1", show(v))
		return nil
	}
	out := make([]float64, len(list))
	for i, item := range list {
		f, ok := asFloat(item)
		if !ok || !(f >= 0 && f <= 1) {
			t.r.fail(element(t.where(key), i), advice, "is %s, want a number from 0 to 1", show(item))
			f = math.Max(0, math.Min(1, f))
		}
		out[i] = f
	}
	return out
}
