package reports

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scalecrafter/reports/results"
)

// copyOf is a deep copy, with maps filled in another order.
func copyOf(t testing.TB, s *results.Summary) *results.Summary {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out := new(results.Summary)
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCheckRefuses(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		name string
		edit func(s *results.Summary)
		want string
	}{
		{"other schema", func(s *results.Summary) { s.Version = 99 }, "schema version 99, want 1"},
		{"no cells", func(s *results.Summary) { s.Cells = nil }, "no cells"},
		{"NaN mean", func(s *results.Summary) { s.Cells[1].Metrics["fid_r"] = results.Value{Mean: nan} }, `"re-dilation ×2, 20% of steps": metric fid_r.mean is NaN; leave the entry out`},
		{"infinite end", func(s *results.Summary) {
			s.Cells[1].Metrics["fid_r"] = results.Value{Hi: math.Inf(1), HasInterval: true}
		}, "metric fid_r.hi is +Inf"},
		{"ends swapped", func(s *results.Summary) {
			s.Cells[1].Metrics["fid_r"] = results.Value{Mean: 1, Lo: 2, Hi: 0, HasInterval: true}
		}, "[2, 0], lower end above upper"},
		{"NaN effect", func(s *results.Summary) {
			s.Cells[2].Effects["fid_r"] = results.Effect{Value: results.Value{Mean: nan}}
		}, "effect fid_r.mean is NaN"},
		{"NaN p", func(s *results.Summary) { s.Cells[2].Effects["fid_r"] = results.Effect{P: nan} }, "effect fid_r.p is NaN"},
		{"NaN in a reference row", func(s *results.Summary) { s.Reference[0].Metrics["fid_r"] = results.Value{Mean: nan} }, `reference row 0 "true scenes, 128 px"`},
		{"NaN seconds", func(s *results.Summary) { s.Cells[0].Seconds = nan }, "seconds is NaN"},
		{"NaN axis", func(s *results.Summary) { s.Cells[1].Axes[0].Number = &nan }, "axis factor is NaN"},
		{"NaN factor", func(s *results.Summary) { s.Cells[1].Plan[0].Factors[3] = nan }, "plan row 0 (down_blocks.0.resnets.0.conv1) step 3 is NaN"},
		{"negative factor", func(s *results.Summary) { s.Cells[1].Plan[0].Factors[3] = -1 }, "factor -1 (columns -1), want above 0"},
		{"half a factor", func(s *results.Summary) { s.Cells[10].Plan[24].Columns[3] = 0 }, "factor 1 (columns 0), want above 0"},
		{"ragged kernels", func(s *results.Summary) { s.Cells[10].Plan[10].Kernels = []int{5} }, "has 30 steps, but 0 column factors, 1 kernels and 30 transforms"},
		{"kernel of nothing", func(s *results.Summary) { s.Cells[10].Plan[10].Kernels[2] = 0 }, "step 2 has a kernel of side 0 at factor 1"},
		{"ragged steps", func(s *results.Summary) { s.Cells[10].Steps = s.Cells[10].Steps[:3] }, "3 steps are recorded, but the plan has 30"},
		{"a term from nowhere", func(s *results.Summary) { s.Cells[10].Steps[29].Base = "damped" }, `step 29 has its base term from network "damped", which was not evaluated`},
		{"ragged attention", func(s *results.Summary) { s.Cells[10].Attention[0].Scales = s.Cells[10].Attention[0].Scales[:3] }, "attn1 has 3 steps, but 30 are recorded"},
		{"attention of nothing", func(s *results.Summary) { s.Cells[10].Attention[1].Scales[29] = 1.2 }, "attn1 step 29 has scale 1.2, want above 0 where"},
		{"NaN FreeU", func(s *results.Summary) { s.Cells[10].Steps[2].Main.FreeU[1] = nan }, "step 2 FreeU is NaN"},
		{"comparison of nothing", func(s *results.Summary) { s.Comparisons[0].To = "lost" }, `comparison 0 "Re-dilation": no cell has id "lost"`},
		{"ragged plan", func(s *results.Summary) { s.Cells[1].Plan[1].Factors = []float64{1} }, "has 1 steps, the first row has 30"},
		{"unknown status", func(s *results.Summary) { s.Cells[1].Status = "ok" }, `status "ok", want done or failed`},
		{"same id", func(s *results.Summary) { s.Cells[1].ID = s.Cells[0].ID }, "given twice"},
		{"two baselines", func(s *results.Summary) { s.Cells[1].Baseline = true }, "2 cells are marked as baseline"},
		{"plot of no column", func(s *results.Summary) { s.Plots[0].Metric = "fid" }, `metric "fid" is no column, want one of attribute_accuracy`},
		{"plot name climbs out", func(s *results.Summary) { s.Plots[0].Name = "../x" }, `name "../x" is no file name`},
		{"plot name taken", func(s *results.Summary) { s.Plots[0].Name = "pictures" }, "is taken"},
		{"image outside", func(s *results.Summary) { s.Cells[0].Images = []string{"../secret.png"} }, "not inside the run's folder"},
		{"image absolute", func(s *results.Summary) { s.Cells[0].Images = []string{"/etc/x.png"} }, "not inside the run's folder"},
		{"column twice", func(s *results.Summary) { s.Columns = append(s.Columns, s.Columns[0]) }, "key given twice"},
		{"digits", func(s *results.Summary) { s.Columns[0].Digits = -1 }, "digits is -1, want 0..12"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := copyOf(t, sample(t, ""))
			tt.edit(s)
			_, err := render(s, t.TempDir())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			var b bytes.Buffer
			if err := Terminal(&b, s); err == nil || b.Len() > 0 {
				t.Errorf("Terminal wrote %d bytes and returned %v, want an error and nothing written", b.Len(), err)
			}
		})
	}
	if err := check(nil); err == nil {
		t.Error("a nil summary passed")
	}
}

func TestCheckReportsAllAtOnce(t *testing.T) {
	s := copyOf(t, sample(t, ""))
	for i := range s.Cells {
		s.Cells[i].Status = "?"
		s.Cells[i].Seconds = math.NaN()
	}
	err := check(s)
	if err == nil || strings.Count(err.Error(), "\n") != maxProblems+1 || !strings.Contains(err.Error(), "and 14 more") {
		t.Fatalf("got %v, want %d problems and the count of the rest", err, maxProblems)
	}
}

// rows by label of a fresh view.
func entryAt(t *testing.T, s *results.Summary, cell, col int) entry {
	t.Helper()
	if err := check(s); err != nil {
		t.Fatal(err)
	}
	return newView(s).rows[len(s.Reference)+cell].entries[col]
}

func TestBestIsEarned(t *testing.T) {
	value := func(mean, half float64) results.Value {
		return results.Value{Mean: mean, Lo: mean - half, Hi: mean + half, HasInterval: true, N: 9}
	}
	effect := func(mean float64, significant bool) results.Effect {
		return results.Effect{Value: value(mean, math.Abs(mean)/2), Significant: significant}
	}
	type cell struct {
		v results.Value
		e *results.Effect
	}
	at := func(v results.Value, e results.Effect) cell { return cell{v, &e} }
	for _, tt := range []struct {
		name  string
		cells []cell // the first is the baseline
		want  string // one letter a cell: b best, - not
	}{
		{"rank alone earns nothing", []cell{{v: value(1, .1)}, at(value(9, .1), effect(8, false))}, "--"},
		{"significant and first", []cell{{v: value(1, .1)}, at(value(9, .1), effect(8, true))}, "-b"},
		{"two tie", []cell{{v: value(1, .1)}, at(value(9, 1), effect(8, true)), at(value(8.5, 1), effect(7.5, true))}, "-bb"},
		{"behind the best", []cell{{v: value(1, .1)}, at(value(9, .1), effect(8, true)), at(value(8, .1), effect(7, true))}, "-b-"},
		{"the best mean is not significant, its tie is", []cell{{v: value(1, .1)}, at(value(9, 5), effect(8, false)), at(value(8, .1), effect(7, true))}, "--b"},
		{"baseline beats all", []cell{{v: value(9, .1)}, at(value(1, .1), effect(-8, true)), at(value(2, .1), effect(-7, true))}, "b--"},
		{"baseline beats one", []cell{{v: value(9, .1)}, at(value(1, .1), effect(-8, true)), at(value(8.9, .1), effect(-.1, false))}, "---"},
		{"alone", []cell{{v: value(9, .1)}}, "-"},
		{"no interval", []cell{{v: value(1, .1)}, at(results.Value{Mean: 9}, effect(8, true))}, "--"},
	} {
		for _, higher := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s higher=%v", tt.name, higher), func(t *testing.T) {
				s := &results.Summary{Version: results.SchemaVersion, Columns: []results.Metric{{Key: "m", HigherIsBetter: higher, Digits: 1}}}
				flip := func(v results.Value) results.Value {
					if higher {
						return v
					}
					return results.Value{Mean: -v.Mean, Lo: -v.Hi, Hi: -v.Lo, HasInterval: v.HasInterval}
				}
				for i, c := range tt.cells {
					r := results.Cell{ID: strconv.Itoa(i), Label: strconv.Itoa(i), Status: "done", Baseline: i == 0,
						Metrics: map[string]results.Value{"m": flip(c.v)}}
					if c.e != nil {
						e := *c.e
						e.Value = flip(e.Value)
						r.Effects = map[string]results.Effect{"m": e}
					}
					s.Cells = append(s.Cells, r)
				}
				got := ""
				for i := range s.Cells {
					if entryAt(t, s, i, 0).best {
						got += "b"
					} else {
						got += "-"
					}
				}
				if got != tt.want {
					t.Errorf("best marks %q, want %q", got, tt.want)
				}
			})
		}
	}
}

// No mark without significance, and none against the interval it claims.
func TestMarksAreEarned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float64Range(-5, 5)
		lo := f.Draw(t, "lo")
		e := results.Effect{Value: results.Value{Mean: f.Draw(t, "mean"), Lo: lo, Hi: lo + rapid.Float64Range(0, 5).Draw(t, "w"), HasInterval: rapid.Bool().Draw(t, "has")},
			Significant: rapid.Bool().Draw(t, "sig")}
		m := results.Metric{Key: "m", HigherIsBetter: rapid.Bool().Draw(t, "higher")}
		c := &results.Cell{Effects: map[string]results.Effect{"m": e}}
		got := mark(c, m)
		zeroInside := e.HasInterval && e.Lo <= 0 && e.Hi >= 0
		if got != 0 && (!e.Significant || zeroInside) {
			t.Fatalf("mark %d for %+v", got, e)
		}
		if e.Significant && !zeroInside && e.Mean != 0 {
			want := 1
			if (e.Mean > 0) != m.HigherIsBetter {
				want = -1
			}
			if got != want {
				t.Fatalf("mark %d for %+v, higher=%v, want %d", got, e, m.HigherIsBetter, want)
			}
		}
	})
}

func TestTerminal(t *testing.T) {
	var b bytes.Buffer
	s := sample(t, "")
	if err := Terminal(&b, s); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, line := range strings.Split(text, "\n") {
		if w := displayWidth(line); w > terminalWidth {
			t.Errorf("line of %d columns, want %d at most: %q", w, terminalWidth, line)
		}
	}
	for _, want := range []string{"66.0 [57.9, 74.6] ▲ *", "direct sampling (baseline)", "failed", "lower the factor", "FID_r ↓", "right ↑ [%]", "NFE"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q", want)
		}
	}
	if tail := text[strings.Index(text, "\nAnswer\n"):]; !strings.Contains(tail, "Yes: re-dilation") || strings.Contains(tail, "│") {
		t.Errorf("the findings are not last:\n%s", tail)
	}
	// Every label must be whole, over however many lines.
	flat := strings.Join(strings.Fields(strings.ReplaceAll(text, "│", " ")), " ")
	if !strings.Contains(flat, "80%,") || !strings.Contains(flat, "noise-damped") {
		t.Error("a long label was cut")
	}
}

func TestCSVReadsBack(t *testing.T) {
	s := sample(t, "")
	s.Cells[0].Label = `with "quotes", commas` + "\nand lines"
	v := newView(s)
	got, err := csv.NewReader(bytes.NewReader(resultsCSV(v))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := map[string]int{}
	for i, name := range got[0] {
		column[name] = i
	}
	if len(got) != 1+len(s.Reference)+len(s.Cells) {
		t.Fatalf("%d lines, want a head and %d rows", len(got), len(s.Reference)+len(s.Cells))
	}
	for i, line := range got[1+len(s.Reference):] {
		c := s.Cells[i]
		if line[column["id"]] != c.ID || line[column["label"]] != clean(c.Label) {
			t.Errorf("line %d is %q %q, want %q %q", i, line[column["id"]], line[column["label"]], c.ID, c.Label)
		}
		for _, m := range s.Columns {
			val, ok := c.Metrics[m.Key]
			for suffix, want := range map[string]float64{"": val.Mean, "_lo": val.Lo, "_hi": val.Hi, "_n": float64(val.N)} {
				field := line[column[m.Key+suffix]]
				if !ok {
					if field != "" {
						t.Errorf("%s%s of %q is %q, want nothing", m.Key, suffix, c.Label, field)
					}
					continue
				}
				if x, err := strconv.ParseFloat(field, 64); err != nil || x != want {
					t.Errorf("%s%s of %q is %q, want %v", m.Key, suffix, c.Label, field, want)
				}
			}
		}
	}
	effects, err := csv.NewReader(bytes.NewReader(effectsCSV(v))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range s.Cells {
		n += len(c.Effects)
	}
	if len(effects) != n+1 {
		t.Errorf("%d lines of effects, want %d", len(effects), n+1)
	}
}

func TestLaTeXTable(t *testing.T) {
	s := sample(t, "")
	s.Cells[1].Label = `50% of a_b & c`
	s.Cells[2].Label = `[x] first`
	v := newView(s)
	for name, tex := range map[string]string{"results": string(resultsLaTeX(v)), "effects": string(effectsLaTeX(v))} {
		if !strings.Contains(tex, `50\% of a\_b \& c`) {
			t.Errorf("%s: label is not escaped", name)
		}
		if !strings.Contains(tex, "\n{}[x] first") {
			t.Errorf("%s: a label in brackets is an argument of the line end before it", name)
		}
		for _, line := range strings.Split(tex, "\n") {
			if !strings.HasSuffix(line, `\\`) || strings.Contains(line, "multicolumn") {
				continue
			}
			line = strings.ReplaceAll(line, `\&`, "")
			if got, want := strings.Count(line, "&"), columnsOf(tex); got != want {
				t.Errorf("%s: %d separators, want %d: %s", name, got, want, line)
			}
		}
	}
	if !strings.Contains(string(resultsLaTeX(v)), `\multicolumn{6}{l}{failed: conv down\_blocks`) {
		t.Error("the failed cell does not span the metrics")
	}
}

// columnsOf counts the right-aligned columns of a tabular's preamble.
func columnsOf(tex string) int {
	_, rest, _ := strings.Cut(tex, `\begin{tabular}{l`)
	spec, _, _ := strings.Cut(rest, "}")
	return len(spec)
}

func TestMarkdownTableIsWhole(t *testing.T) {
	s := sample(t, "")
	s.Cells[1].Label = "a|b *c* <script>"
	v := newView(s)
	md, err := markdown(v, nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	text := string(md)
	if strings.Contains(text, "<script") || strings.Contains(text, "\x00") {
		t.Error("the Markdown holds raw HTML or a marker")
	}
	cells := -1
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			cells = -1
			continue
		}
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if cells >= 0 && n != cells {
			t.Errorf("%d bars, want %d: %s", n, cells, line)
		}
		cells = n
	}
	if !strings.Contains(text, "**66.0 \\[57.9, 74.6\\]**") || !strings.Contains(text, `a\|b \*c\* &lt;script&gt;`) {
		t.Error("bold or escaping is missing")
	}
}
