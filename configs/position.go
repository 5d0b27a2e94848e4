package configs

import (
	"fmt"

	"scalecrafter/ablation"
)

// Pos is a place in a TOML file, counted from 1 in lines and characters.
type Pos struct {
	Line, Col int
}

// span is where a key and its value stand.
type span struct {
	key, value Pos
}

// positions finds every key of a TOML source and where it and its value stand.
// Keys are spelt as paths, "method[1].grid.factor[2]", with elements of arrays
// and of arrays of tables in brackets. The decoder of the TOML library gives
// no positions for unknown keys and wrong types; hence this scanner. The
// source has already passed that decoder; on anything else the scanner stays
// within bounds and finds what it can.
func positions(src string) map[string]span {
	s := &scanner{src: []rune(src), line: 1, col: 1, found: map[string]span{}, tables: map[string]int{}}
	s.document()
	return s.found
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return ablation.QuoteKey(key)
	}
	return path + "." + ablation.QuoteKey(key)
}

// element is the path of an array's element.
func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// maxNesting bounds recursion into inline arrays and tables.
const maxNesting = 200

type scanner struct {
	src       []rune
	at        int
	line, col int
	found     map[string]span
	tables    map[string]int // length so far of each array of tables
	nesting   int
}

func (s *scanner) peek(ahead int) rune {
	if s.at+ahead < len(s.src) {
		return s.src[s.at+ahead]
	}
	return -1
}

func (s *scanner) next() {
	if s.at >= len(s.src) {
		return
	}
	if s.src[s.at] == '\n' {
		s.line++
		s.col = 0
	}
	s.at++
	s.col++
}

func (s *scanner) pos() Pos { return Pos{s.line, s.col} }

func (s *scanner) blanks(newlines bool) {
	for s.at < len(s.src) {
		switch c := s.peek(0); {
		case c == ' ' || c == '\t' || c == '\r' || c == '\ufeff':
			s.next()
		case newlines && c == '\n':
			s.next()
		case newlines && c == '#':
			s.restOfLine()
		default:
			return
		}
	}
}

func (s *scanner) restOfLine() {
	for s.at < len(s.src) && s.peek(0) != '\n' {
		s.next()
	}
}

func (s *scanner) document() {
	prefix := ""
	for {
		s.blanks(true)
		if s.at >= len(s.src) {
			return
		}
		if s.peek(0) == '[' {
			prefix = s.header()
		} else {
			s.assignment(prefix)
		}
		s.restOfLine()
	}
}

// header reads [table] or [[array of tables]] and returns the path that it opens.
func (s *scanner) header() string {
	here := s.pos()
	s.next()
	array := s.peek(0) == '['
	if array {
		s.next()
	}
	keys := s.keys()
	path := ""
	for i, k := range keys {
		path = join(path, k.name)
		if i == len(keys)-1 && array {
			n := s.tables[path]
			s.tables[path] = n + 1
			if n == 0 {
				s.found[path] = span{here, here}
			}
			path = element(path, n)
		} else if n := s.tables[path]; n > 0 {
			path = element(path, n-1)
		}
	}
	if path != "" {
		s.found[path] = span{here, here}
	}
	return path
}

type keyAt struct {
	name string
	pos  Pos
}

// keys reads a dotted key.
func (s *scanner) keys() []keyAt {
	var out []keyAt
	for {
		s.blanks(false)
		k := keyAt{pos: s.pos()}
		switch s.peek(0) {
		case '"', '\'':
			k.name = s.text()
		default:
			start := s.at
			for s.at < len(s.src) && !stops(s.peek(0)) {
				s.next()
			}
			if s.at == start {
				return out
			}
			k.name = string(s.src[start:s.at])
		}
		out = append(out, k)
		s.blanks(false)
		if s.peek(0) != '.' {
			return out
		}
		s.next()
	}
}

func stops(r rune) bool {
	switch r {
	case '.', '=', ']', '[', '{', '}', ',', '#', '"', '\'', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}

// assignment reads key = value below prefix; false where there is none.
func (s *scanner) assignment(prefix string) bool {
	keys := s.keys()
	if len(keys) == 0 {
		return false
	}
	path := prefix
	for i, k := range keys {
		path = join(path, k.name)
		if _, ok := s.found[path]; !ok || i == len(keys)-1 {
			s.found[path] = span{k.pos, k.pos}
		}
	}
	s.blanks(false)
	if s.peek(0) != '=' {
		return false
	}
	s.next()
	s.value(path)
	return true
}

func (s *scanner) value(path string) {
	s.blanks(false)
	here := s.pos()
	sp := s.found[path]
	if sp.key == (Pos{}) {
		sp.key = here
	}
	sp.value = here
	s.found[path] = sp
	if s.nesting++; s.nesting > maxNesting {
		s.at = len(s.src)
	}
	defer func() { s.nesting-- }()
	switch s.peek(0) {
	case '"', '\'':
		s.text()
	case '[':
		s.next()
		for i := 0; ; {
			s.blanks(true)
			switch s.peek(0) {
			case -1:
				return
			case ']':
				s.next()
				return
			case ',':
				s.next()
			default:
				before := s.at
				s.value(element(path, i))
				i++
				if s.at == before {
					return
				}
			}
		}
	case '{':
		s.next()
		for {
			s.blanks(true)
			switch s.peek(0) {
			case -1:
				return
			case '}':
				s.next()
				return
			case ',':
				s.next()
			default:
				if !s.assignment(path) {
					return
				}
			}
		}
	default:
		for s.at < len(s.src) {
			switch s.peek(0) {
			case ',', ']', '}', '\n', '#':
				return
			}
			s.next()
		}
	}
}

// text reads a string in any of TOML's four quotings. Escapes are kept apart
// from the quotes only as far as finding the end needs; keys with escapes are
// returned undecoded and then simply have no position.
func (s *scanner) text() string {
	quote := s.peek(0)
	if s.peek(1) == quote && s.peek(2) == quote {
		for range 3 {
			s.next()
		}
		start := s.at
		for s.at < len(s.src) {
			if quote == '"' && s.peek(0) == '\\' {
				s.next()
			} else if s.peek(0) == quote && s.peek(1) == quote && s.peek(2) == quote && s.peek(3) != quote {
				out := string(s.src[start:s.at])
				for range 3 {
					s.next()
				}
				return out
			}
			s.next()
		}
		return string(s.src[min(start, len(s.src)):])
	}
	s.next()
	start := s.at
	for s.at < len(s.src) && s.peek(0) != quote && s.peek(0) != '\n' {
		if quote == '"' && s.peek(0) == '\\' {
			s.next()
		}
		s.next()
	}
	out := string(s.src[min(start, len(s.src)):min(s.at, len(s.src))])
	s.next()
	return out
}
