package reports

import (
	"strconv"
	"strings"
	"unicode"

	"scalecrafter/reports/results"
)

// missing stands where a metric was not measured.
const missing = "–"

// number writes v with the given number of decimals and never as "-0".
func number(v float64, digits int) string {
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Trim(s, "-0.") == "" {
		s = strings.TrimPrefix(s, "-")
	}
	return s
}

// signed is number with a plus before positive values.
func signed(v float64, digits int) string {
	s := number(v, digits)
	if strings.Trim(s, "0.") != "" && !strings.HasPrefix(s, "-") {
		s = "+" + s
	}
	return s
}

// exact is the shortest decimal text that reads back as v.
func exact(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// scale is what a metric's stored values are multiplied by to be shown.
func scale(m results.Metric) float64 {
	if m.Percent {
		return 100
	}
	return 1
}

// unit is the unit of a metric's shown values, and of differences of them.
func unit(m results.Metric) (value, difference string) {
	if m.Percent {
		return "%", "points"
	}
	return m.Unit, m.Unit
}

// interval writes "[lo, hi]", or nothing where none was computed.
func interval(v results.Value, m results.Metric, sign bool) string {
	if !v.HasInterval {
		return ""
	}
	k := scale(m)
	f := number
	if sign {
		f = signed
	}
	return "[" + f(k*v.Lo, m.Digits) + ", " + f(k*v.Hi, m.Digits) + "]"
}

// seconds writes a duration of s seconds with about three figures.
func seconds(s float64) string {
	switch {
	case s <= 0:
		return missing
	case s < 10:
		return number(s, 2)
	case s < 100:
		return number(s, 1)
	}
	return number(s, 0)
}

// evaluations writes the network evaluations per image.
func evaluations(n float64) string {
	if n <= 0 {
		return missing
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

// count writes n, or a dash for none.
func count(n int) string {
	if n <= 0 {
		return missing
	}
	return strconv.Itoa(n)
}

// clean makes a text fit for one line of any output: valid UTF-8, no control
// characters, no runs of blanks.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// shorten cuts s to n runes, the last being an ellipsis.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimRight(string(r[:n-1]), " ") + "…"
}

// wrap breaks s into lines for which fits holds, between words where it can
// and within a word where it must. At least one line is returned.
func wrap(s string, fits func(string) bool) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		next := word
		if line != "" {
			next = line + " " + word
		}
		if fits(next) {
			line = next
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		line = ""
		for _, r := range word {
			if line != "" && !fits(line+string(r)) {
				lines = append(lines, line)
				line = ""
			}
			line += string(r)
		}
	}
	return append(lines, line)
}

// slug makes a file name of a label: ASCII letters and digits, dashes between.
func slug(s string, n int) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(s) {
		if r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			if dash && b.Len() > 0 {
				b.WriteByte('-')
			}
			dash = false
			b.WriteRune(r)
		} else {
			dash = true
		}
		if b.Len() >= n {
			break
		}
	}
	return b.String()
}
