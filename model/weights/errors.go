package weights

import (
	"sort"
	"strconv"
	"strings"
)

// Error says which file and tensor is wrong, what is wrong with it and how to
// mend it. Any field but What may be empty.
type Error struct {
	File, Tensor, What, Mend string
	// Err is the cause, when another package reported it.
	Err error
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ": ")
	}
	if e.Tensor != "" {
		b.WriteString("tensor " + strconv.Quote(e.Tensor) + " ")
	}
	b.WriteString(e.What)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Mend != "" {
		b.WriteString("; " + e.Mend)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// nearest returns up to n names that look most like the wanted one: smallest
// edit distance first, ties in the given (sorted) order. Names too different
// to be a slip or a renamed prefix are left out, unless nothing is nearer.
func nearest(want string, names []string, n int) []string {
	type scored struct {
		name string
		cost int
	}
	all := make([]scored, len(names))
	for i, name := range names {
		cost := editDistance(want, name)
		// The same parameter under another prefix ("unet.conv_in.weight",
		// "model.conv_in.weight") is a better guess than a short edit.
		if strings.HasSuffix(name, "."+want) || strings.HasSuffix(want, "."+name) {
			cost = 1
		}
		all[i] = scored{name, cost}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].cost < all[j].cost })
	var out []string
	for _, s := range all {
		if len(out) == n || len(out) > 0 && s.cost > len(want)/2 {
			break
		}
		out = append(out, s.name)
	}
	return out
}

// editDistance is Levenshtein's, over bytes. Very long names are compared by
// their first 512 bytes, which bounds the cost of an error message.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), 512)], b[:min(len(b), 512)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func quoteList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return strings.Join(quoted, ", ")
}
