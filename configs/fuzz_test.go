package configs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"scalecrafter/ablation"
)

// seeds are the files of this folder and awkward spellings.
func seeds(f *testing.F) {
	files, err := filepath.Glob("*.toml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no files (%v)", err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(src))
	}
	for _, src := range []string{
		good, "", "\ufeffname = 1", "a.b.c = 1\na.b.d = 2", "\"a b\".'c d' = [1, [2, {x = 3}], ]", "a = \"\"\"\n\\\"\"\"\" # x\n\"\"\"\nb = '''x'''",
		"[[a]]\n[[a.b]]\nc = 1\n[[a.b]]\nc = 2\n[[a]]\n[a.d]\ne = 3", "a = [ # c\n 1,\n 2 ]\nb = 1979-05-27 07:32:00\n", "x = {a = {b = 1}, c = [{d = 1}, {d = 2}]}",
		"[a", "a = ", "a = [", "a = {", "a = \"", "= 1", "[[", "a = '''", strings.Repeat("a = [", 500), "a = 1 \x00", "[method]\n", "method = [1, {}]", "sample = [[]]",
		method("schedule = \"small_4x\"\ndepth = { 1 = 2 }\n[method.grid]\nfreeu = [false, \"sdxl\"]\ndispersion.kernel = [5, 7]\n"),
		method("factor = 2\ntau_share = 0.5\nsdedit = { tau = 3 }\nguidance_scale = 2\n[method.damped]\nmin_depth = 2\n[method.dispersion]\ntransform = \"pad.mat\"\n[method.grid]\ndecay = [\"linear\", \"cosine\"]\n"),
		strings.Replace(method("schedule = \"derived\"\naxis = \"separate\"\nonly = [\"128x256\"]\ndamped = false\n[method.grid]\ndispersion = [false, { eta = 0.1, layers = [\"mid*\"] }]\nlisted = [[1, 0.5]]\n"), "height = 128\nwidth = 128\n", "sizes = [[128, 128], [128, 256]]\n", 1),
		"[[method]]\nname = 3\nkind = []\n[method.grid]\nfactor = [[1]]\ndamped = 3\n", "report.plot = [{}, 1]", "name = \"x\"\n[sample]\nheight = inf\nwidth = 1e400",
	} {
		f.Add(src)
	}
}

// Decoding never panics; every error has a place in the file and renders; what
// decodes resolves to itself and plans without panic.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, src string) {
		for _, sets := range [][]string{nil, {"sample.count=8"}, {"method.0.factor=[2,3]", "a.b.c=x"}} {
			c, err := DecodeFS(src, "fuzz.toml", sets, schedules)
			if err != nil {
				var all Errors
				if !errors.As(err, &all) || len(all) == 0 {
					t.Fatalf("a %T: %v", err, err)
				}
				lines := strings.Count(src, "\n") + 2
				for _, e := range all {
					if e.Set == "" && (e.Pos.Line < 1 || e.Pos.Col < 1 || e.Pos.Line > lines) {
						t.Errorf("position %v of %q", e.Pos, e.Error())
					}
					if e.What == "" {
						t.Errorf("empty message for %s", e.Key)
					}
				}
				continue
			}
			text := c.TOML()
			again, err := Decode(text, "resolved.toml", nil)
			if err != nil {
				t.Fatalf("resolved:\n%s\n%v", text, err)
			}
			if again.TOML() != text {
				t.Fatalf("resolving twice differs:\n%s\n---\n%s", text, again.TOML())
			}
			for i, p := range c.Panels() {
				alone, err := Decode(p.TOML(), "panel.toml", nil)
				if err != nil {
					t.Fatalf("panel %d:\n%s\n%v", i, p.TOML(), err)
				}
				cells, err := fuzzCells(p)
				for _, other := range []*Config{again.Panels()[i], alone} {
					cells2, err2 := fuzzCells(other)
					if (err == nil) != (err2 == nil) || len(cells) != len(cells2) {
						t.Fatalf("%d cells (%v), resolved %d (%v):\n%s", len(cells), err, len(cells2), err2, other.TOML())
					}
					for j := range cells {
						if cells[j].ID != cells2[j].ID {
							t.Fatalf("cell %d changes when resolved:\n%s", j, other.TOML())
						}
					}
				}
			}
		}
	})
}

// fuzzCells plans a configuration. Those of many cells or costly transforms
// would only slow the search down.
func fuzzCells(c *Config) ([]ablation.Cell, error) {
	if len(c.Methods)*c.Sample.Steps > 300 {
		return nil, nil
	}
	for _, m := range c.Methods {
		if r := m.Redilation; r != nil && r.Dispersion != nil && r.Dispersion.Spec != nil && r.Dispersion.Spec.Large*r.Dispersion.Spec.Input > 40 {
			return nil, nil
		}
	}
	c.LoadTransform = pad
	return c.Cells(testArch(), ablation.Size{H: 64, W: 64}, ablation.Identity{})
}

// Every key that the TOML library finds in a valid file has a position, which
// lies inside the file.
func FuzzPositions(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, src string) {
		found := positions(src) // must not panic, valid or not
		lines := strings.Split(src, "\n")
		bare := map[string]bool{}
		for path, sp := range found {
			bare[stripIndexes(path)] = true
			for _, p := range []Pos{sp.key, sp.value} {
				if p.Line < 1 || p.Line > len(lines) || p.Col < 1 || p.Col > len([]rune(lines[p.Line-1]))+1 {
					t.Fatalf("%s at %v, outside the file", path, p)
				}
			}
		}
		tree := map[string]any{}
		meta, err := toml.Decode(src, &tree)
		if err != nil || strings.ContainsAny(src, "\\\x00\ufffd") {
			return // keys with escapes have no position, by design
		}
		for _, key := range meta.Keys() {
			path := ""
			for _, k := range key {
				path = join(path, k)
			}
			if !bare[path] && !strings.ContainsAny(path, "[]") {
				t.Errorf("%s has no position", path)
			}
		}
	})
}

func TestEditDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "", 3}, {"tau", "tua", 1}, {"kitten", "sitting", 3}, {"factor", "fctor", 1}, {"größe", "grösse", 2}}
	for _, tt := range tests {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := editDistance(tt.b, tt.a); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}

func TestSet(t *testing.T) {
	c, err := Decode(good, "x.toml", []string{"sample.count=24", "name=other", "method.redilation.factor=3", `method.redilation.dilation."mid_block.*"=4`, "reference.count=50", "method.0.label=base line"})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Methods[1].Redilation
	if c.Sample.Count != 24 || c.Name != "other" || r.Factor.H != 3 || c.Reference.Count != 50 || c.Methods[0].Label != "base line" || c.Reference.BaseCount != 24 ||
		len(r.Overrides) != 1 || r.Overrides[0].Glob != "mid_block.*" || r.Overrides[0].Factor.W != 4 {
		t.Errorf("got %+v, %+v", c, r)
	}
}

// The order of the file decides the order of grid axes and of overrides.
func TestGridOrder(t *testing.T) {
	src := good + "[method.dilation]\n\"mid_block.*\" = 3\n\"down_blocks.*\" = 4\n[method.grid]\nprogressive = [true, false]\nmin_depth = [1, 2]\n"
	c, err := Decode(src, "x.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range c.Methods[1:] {
		r := m.Redilation
		got = append(got, strings.Join([]string{show(r.Decay == ablation.DecayProgressive), show(int64(r.MinDepth)), r.Overrides[0].Glob}, " "))
	}
	want := "true 1 mid_block.*, true 2 mid_block.*, false 1 mid_block.*, false 2 mid_block.*"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestFactorPair(t *testing.T) {
	c, err := Decode(strings.Replace(good, "factor = 2", "factor = [2, 1.5]", 1), "x.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Methods[1].Redilation.Factor; got != (ablation.Factor{H: 2, W: 1.5}) {
		t.Errorf("factor %v", got)
	}
}
