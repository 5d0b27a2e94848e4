package reports

import (
	"strings"
	"testing"

	"gonum.org/v1/plot"

	"scalecrafter/reports/results"
)

// Labels break at a comma where both parts fit, else between words, in two
// lines at the most, and lose nothing.
func TestTwoLines(t *testing.T) {
	fits := func(s string) bool { return len(s) <= 24 }
	for label, want := range map[string]string{
		"direct": "direct",
		"re-dilation x2, all levels, guidance 1.5":                    "re-dilation x2,|all levels, guidance 1.5",
		"all levels, noise-damped, scale 4":                           "all levels,|noise-damped, scale 4",
		"all levels, damped, scale 4.5":                               "all levels, damped,|scale 4.5", // the last that serves
		"one two three four five six seven":                           "one two three four five|six seven",
		"a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d": "a b c d e f g h i j k l|m n o p q r s t u v w x y z a b c d",
	} {
		if got := strings.Join(twoLines(label, fits), "|"); got != want {
			t.Errorf("%q breaks into %q, want %q", label, got, want)
		}
	}
}

// A line joins sizes of rising area only.
func TestOrdered(t *testing.T) {
	places := func(texts ...string) []point {
		var pts []point
		for i, s := range texts {
			pts = append(pts, point{x: float64(i), xText: s})
		}
		return pts
	}
	for _, tt := range []struct {
		axis  string
		texts []string
		want  bool
	}{
		{"size", []string{"128x128", "128x256", "256x256"}, true},
		{"size", []string{"64x256", "256x64"}, false},
		{"size", []string{"256x256", "128x128"}, false},
		{"size", []string{"small", "large"}, false},
		{"decay", []string{"constant", "linear"}, false},
	} {
		if got := ordered(tt.axis, places(tt.texts...)); got != tt.want {
			t.Errorf("%s %v: %v", tt.axis, tt.texts, got)
		}
	}
}

// Where all is nothing the axis says so in whole numbers from 0.
func TestRangeOfNothing(t *testing.T) {
	var a plot.Axis
	if setRange(&a, results.Metric{}, 0, 0); a.Min != 0 || a.Max != 1 {
		t.Errorf("range %g to %g, want 0 to 1", a.Min, a.Max)
	}
}

// A plot of some methods shows their cells and the baseline only, and a setting
// in two units is one in a legend.
func TestPlotOfMethods(t *testing.T) {
	s := copyOf(t, short(t))
	draw := func(methods ...string) string {
		s.Plots = []results.Plot{
			{Name: "dots", Metric: s.Columns[0].Key, Methods: methods},
			{Name: "lines", Metric: s.Columns[0].Key, X: "factor", Methods: methods},
		}
		if err := check(s); err != nil {
			t.Fatal(err)
		}
		figures, err := drawPlots(newView(s))
		if err != nil {
			t.Fatal(err)
		}
		return figures[0].alt + figures[0].caption + figures[1].alt + figures[1].caption
	}
	all := draw()
	for i := range s.Cells {
		c := &s.Cells[i]
		if c.Status != "done" {
			continue
		}
		only := draw(c.Method)
		for k := range s.Cells {
			other := &s.Cells[k]
			shown := strings.Contains(only, other.Label)
			if want := other.Method == c.Method || other.Baseline; other.Status == "done" && shown != want && strings.Contains(all, other.Label) {
				t.Errorf("a plot of %s shows %s: %v", c.Method, other.Label, shown)
			}
		}
	}
	cell := func(share, tau string) point {
		return point{cell: &results.Cell{Axes: []results.Axis{{Name: "tau", Text: tau}, {Name: "tau_share", Text: share}, {Name: "eta", Text: tau}}}}
	}
	if got := varyingAxes([]point{cell("50%", "8"), cell("100%", "16")}, "x", ""); strings.Join(got, " ") != "tau_share eta" {
		t.Errorf("varying: %v, want tau_share and eta", got)
	}
}
