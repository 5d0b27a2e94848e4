package configs

import (
	"strings"
	"testing"
)

const compareFile = `name = "x"
[sample]
sizes = [[128, 128], [256, 256]]
[[method]]
name = "direct"
kind = "direct"
baseline = true
[[method]]
name = "one"
kind = "redilation"
factor = 2
tau_share = 0.5
[[method]]
name = "large"
kind = "redilation"
factor = 4
tau_share = 0.5
only = ["256x256"]
[[method]]
name = "many"
kind = "redilation"
factor = 3
[method.grid]
tau_share = [0.5, 1.0]
[report]
[[report.compare]]
name = "re-dilation"
from = "direct"
to = "one"
[[report.compare]]
name = "a larger factor"
from = "one"
to = "large"
`

func TestCompares(t *testing.T) {
	c, err := Decode(compareFile, "f.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Compare{Name: "a larger factor", From: "one", To: "large"}); len(c.Report.Compares) != 2 || c.Report.Compares[1] != want {
		t.Fatalf("compares %+v", c.Report.Compares)
	}
	// One name may stand for different methods at different sizes.
	both := strings.Replace(compareFile, `only = ["256x256"]`, `only = ["256x256"]
[[method]]
name = "small"
kind = "redilation"
factor = 1.5
tau_share = 0.5
only = ["128x128"]`, 1) + "[[report.compare]]\nname = \"a larger factor\"\nfrom = \"direct\"\nto = \"small\"\n"
	if c, err := Decode(both, "f.toml", nil); err != nil || len(c.Panels()[0].Report.Compares) != 2 || len(c.Panels()[1].Report.Compares) != 2 {
		t.Errorf("one name at two sizes: %v", err)
	}
	if _, err := Decode(strings.Replace(both, "from = \"one\"\nto = \"large\"", "from = \"small\"\nto = \"large\"", 1), "f.toml", nil); err == nil ||
		!strings.Contains(err.Error(), `is "large", which runs at no size at which "small" does`) {
		t.Errorf("a comparison over sizes: %v", err)
	}
	// A panel has those whose methods run there, in its own file too.
	for i, want := range []int{1, 2} {
		p := c.Panels()[i]
		again, err := Decode(p.TOML(), "panel.toml", nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, p.TOML())
		}
		if len(p.Report.Compares) != want || len(again.Report.Compares) != want {
			t.Errorf("panel %d: %d compares, %d in its file; want %d", i, len(p.Report.Compares), len(again.Report.Compares), want)
		}
	}
	if again, err := Decode(c.TOML(), "f.toml", nil); err != nil || len(again.Report.Compares) != 2 {
		t.Errorf("the resolved file: %v, %+v", err, again)
	}
}

func TestComparesRefused(t *testing.T) {
	for _, tt := range []struct{ old, new, want string }{
		{`to = "large"`, `to = "larg"`, `f.toml:33:6: report.compare[1].to: is "larg", want the name of a method` + "\n  did you mean \"large\"?"},
		{`to = "large"`, `to = "many"`, `report.compare[1].to: is "many", a grid of 2 cells; a comparison is between two cells`},
		{`to = "large"`, `to = "one"`, `report.compare[1].to: is "one", the method it is compared with`},
		{`to = "large"`, `too = "large"`, `f.toml:33:1: report.compare[1].too: unknown key` + "\n  did you mean \"to\"?"},
		{`to = "large"`, `to = 3`, `report.compare[1].to: is 3, want text`},
		{`name = "a larger factor"`, `name = "re-dilation"`, `report.compare[1].name: is "re-dilation", which another comparison has`},
		{`name = "a larger factor"`, `name = ""`, `report.compare[1].name: is empty`},
		{`name = "a larger factor"`, ``, `report.compare[1].name: is missing, want a text`},
		{"[[report.compare]]\nname = \"re-dilation\"", "compare = 3\n[[report.plot]]\nname = \"re-dilation\"", `report.compare: is 3, want an array of tables`},
	} {
		text := strings.Replace(compareFile, tt.old, tt.new, 1)
		if tt.new == "compare = 3\n[[report.plot]]\nname = \"re-dilation\"" {
			text, _, _ = strings.Cut(text, "[[report.plot]]")
		}
		_, err := Decode(text, "f.toml", nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s:\n%v\nwant %s", tt.new, err, tt.want)
		}
	}
}
