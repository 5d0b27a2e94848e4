package configs

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

// Error is one thing that is wrong with a configuration.
type Error struct {
	File   string
	Pos    Pos
	Set    string // the -set argument at fault, instead of a place in the file
	Key    string
	What   string // the value met and what is allowed
	Advice string // the next action; one line
}

// Error renders two lines: where, what and what is allowed; then the advice.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Set != "" {
		fmt.Fprintf(&b, "-set %s: ", e.Set)
	} else {
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Pos.Line, e.Pos.Col)
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.What)
	if e.Advice != "" {
		b.WriteString("\n  " + strings.ReplaceAll(e.Advice, "\n", "\n  "))
	}
	return b.String()
}

// Errors is everything that is wrong with a configuration, in the order of the
// file, -set arguments last.
type Errors []*Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted orders by place, file first and the files that it reads after it, and
// drops repetitions (a grid checks the same value once per combination).
func (es Errors) sorted(file string) Errors {
	sort.SliceStable(es, func(i, j int) bool {
		a, b := es[i], es[j]
		if (a.Set == "") != (b.Set == "") {
			return a.Set == ""
		}
		if a.File != b.File {
			return a.File == file || b.File != file && a.File < b.File
		}
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line < b.Pos.Line
		}
		return a.Pos.Col < b.Pos.Col
	})
	seen := map[string]bool{}
	out := es[:0]
	for _, e := range es {
		if text := e.Error(); !seen[text] {
			seen[text] = true
			out = append(out, e)
		}
	}
	return out
}

// syntaxError renders the TOML library's error with its source line.
func syntaxError(file, src string, err error) *Error {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return &Error{File: file, Pos: Pos{1, 1}, Key: "syntax", What: err.Error()}
	}
	// The library counts columns in bytes, points behind the line for a key
	// given twice, and says line 0 where a file ends in a broken escape.
	lines := strings.Split(src, "\n")
	line := max(min(pe.Position.Line, len(lines)), 1)
	text := strings.TrimRight(strings.ReplaceAll(lines[line-1], "\t", " "), "\r")
	mark := len([]rune(text[:max(min(pe.Position.Col-1, len(text)), 0)]))
	number := fmt.Sprint(line)
	return &Error{File: file, Pos: Pos{line, mark + 1}, Key: "syntax", What: pe.Message,
		Advice: fmt.Sprintf("%s | %s\n%s | %s^", number, text, strings.Repeat(" ", len(number)), strings.Repeat(" ", mark))}
}

// didYouMean is the nearest of the known words, as advice, or a list of them.
func didYouMean(word string, known []string) string {
	best, distance := "", len(word)/2+1
	for _, k := range known {
		if d := editDistance(word, k); d < distance || d == distance && best != "" && k < best {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known: " + strings.Join(known, ", ")
}

// editDistance counts insertions, deletions, changes and swaps of neighbours.
func editDistance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(x)][len(y)]
}
