package configs

import (
	"fmt"
	"strings"
	"testing"

	"scalecrafter/ablation"
)

// ratios runs at a square and at a picture of 1:2, and names factors by the size.
const ratios = `name = "ratios"
[sample]
sizes = [[128, 128], [128, 256]]
count = 4
steps = 10

[[method]]
name = "direct"
kind = "direct"
baseline = true

[[method]]
name = "side"
kind = "redilation"
factor = "ratio"
tau = 6
[method.damped]
min_depth = 2

[[method]]
name = "axes"
kind = "redilation"
factor = "ratio_axes"
only = ["128x256"]
tau = 6
[method.damped]
factor = "ratio"

[[method]]
name = "grid"
kind = "redilation"
tau = 4
[method.grid]
factor = [3, "ratio"]

[report]
[[report.plot]]
name = "axes"
metric = "fid_r"
methods = ["axes"]
[[report.plot]]
name = "some"
metric = "fid_r"
methods = ["grid", "axes"]
`

// A ratio is the panel's own enlargement, and its cells are those of the number.
func TestRatio(t *testing.T) {
	c, err := Decode(ratios, "x.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, p := range c.Panels() {
		cells := sameAgain(t, p, testArch()) // the resolved file says the same
		for _, cell := range cells[1:] {
			r := cell.Method.Redilation
			text := fmt.Sprintf("%s %s: %s", p.Settings().Size, cell.Method.Name, r.Factor)
			if r.Damped != nil {
				text += fmt.Sprintf(", damped %s", r.Damped.Factor)
			}
			got = append(got, text)
			factor := cell.Plan[0].Main.Dilation["mid_block.resnets.0.conv1"]
			if factor != r.Factor || r.Ratio != "" {
				t.Errorf("%s: the plan has %v", text, factor)
			}
		}
		for _, plot := range p.Report.Plots {
			got = append(got, fmt.Sprintf("plot %s of %v", plot.Name, plot.Methods))
		}
		if i == 1 && !strings.Contains(p.TOML(), "[method.damped]\nfactor = \"ratio\"\ntau = 6\nmin_depth = 2") {
			t.Errorf("the damped network's factor is not the method's:\n%s", p.TOML())
		}
		// By number: the same identities.
		factors := map[string]string{`"ratio"`: "2", `"ratio_axes"`: "[2, 4]"}
		if i == 1 {
			factors[`"ratio"`] = "4"
		}
		text := p.TOML()
		for ratio, number := range factors {
			text = strings.ReplaceAll(text, ratio, number)
		}
		n, err := Decode(text, "n.toml", nil)
		if err != nil {
			t.Fatal(err)
		}
		numbers, err := n.Cells(testArch(), ablation.Size{H: 64, W: 64}, ablation.Identity{Weights: "w"})
		if err != nil {
			t.Fatal(err)
		}
		for k := range cells {
			if cells[k].ID != numbers[k].ID || cells[k].Label != numbers[k].Label {
				t.Errorf("%s (%s) is not %s (%s)", cells[k].Label, cells[k].ID, numbers[k].Label, numbers[k].ID)
			}
		}
	}
	want := `128x128 side: 2, damped 2
128x128 grid: 3
128x128 grid: 2
plot some of [grid]
128x256 side: 4, damped 4
128x256 axes: 2x4, damped 4
128x256 grid: 3
128x256 grid: 4
plot axes of [axes]
plot some of [grid axes]`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// A ratio that is none, here or anywhere, is refused with its place.
func TestRatioRefused(t *testing.T) {
	decode := func(src string) error {
		_, err := Decode(src, "x.toml", nil)
		return err
	}
	cells := func(src string) error {
		c, err := Decode(src, "x.toml", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Cells(testArch(), ablation.Size{H: 64, W: 64}, ablation.Identity{})
		return err
	}
	sized := func(size string, lines string) string {
		return strings.ReplaceAll(method(lines), "128", size)
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"unknown", decode(method("factor = \"ration\"\ntau = 3\n")), `x.toml:18:10: method[1].factor: is "ration", want a number from 1 to 16, two of them, or one of "ratio", "ratio_axes"
  did you mean "ratio"?`},
		{"unknown in the damped network", decode(method("factor = 2\ntau = 3\ndamped = { factor = \"axes\" }\n")), `x.toml:20:21: method[1].damped.factor: is "axes", want a number from 1 to 16, two of them, or one of "ratio", "ratio_axes"
  known: ratio, ratio_axes`},
		{"by level", decode(method("tau = 3\ndepth = { 1 = \"ratio\" }\n")), `x.toml:19:15: method[1].depth.1: is "ratio" (text), want a number from 1 to 16 or two of them
  published settings lie between 1.5 and 4; write 2, or [2, 3] for rows and columns apart`},
		{"at the training size", cells(sized("64", "factor = \"ratio\"\ntau = 3\n")), `x.toml:18:10: method[1].factor: is "ratio", which is 1 here: 64x64 px is no larger than the 64x64 px that the network was trained on
  choose a larger height or width, give a number, or leave the size out by only`},
		{"in a grid", cells(sized("32", "tau = 3\n[method.grid]\nfactor = [2, \"ratio_axes\"]\n")), `x.toml:20:14: method[1].grid.factor[1]: is "ratio_axes", which is 1 here: 32x32 px is no larger than the 64x64 px that the network was trained on
  choose a larger height or width, give a number, or leave the size out by only`},
		{"too large", cells(sized("2048", "factor = 2\ntau = 3\ndamped = { factor = \"ratio\" }\n")), `x.toml:20:21: method[1].damped.factor: is "ratio", which is 32 at 2048x2048 px, above 16
  choose a smaller height or width, or give a number`},
		{"plot of nothing", decode(good + "[[report.plot]]\nname = \"p\"\nmetric = \"fid_r\"\nmethods = []\n"), `x.toml:23:11: report.plot[0].methods: is empty: the plot would show nothing
  name some, or drop it to show all`},
		{"plot of nobody", decode(good + "[[report.plot]]\nname = \"p\"\nmetric = \"fid_r\"\nmethods = [\"direct\", \"dilation\"]\n"), `x.toml:23:22: report.plot[0].methods[1]: is "dilation", want the name of a method
  did you mean "redilation"?`},
	} {
		if tt.err == nil || tt.err.Error() != tt.want {
			t.Errorf("%s: got\n%v\nwant\n%s", tt.name, tt.err, tt.want)
		}
	}
}
