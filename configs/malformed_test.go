package configs

import (
	"errors"
	"strings"
	"testing"

	"scalecrafter/ablation"
)

// good is a small valid experiment; the malformed ones below are edits of it.
const good = `name = "good"

[sample]
height = 128
width = 128
count = 16
steps = 20
guidance_scale = 3.0

[[method]]
name = "direct"
kind = "direct"
baseline = true

[[method]]
name = "redilation"
kind = "redilation"
factor = 2
tau_share = 0.6
`

// edit replaces one line of good; line "" appends.
func edit(old, new string) string {
	if old == "" {
		return good + new
	}
	if strings.Count(good, old+"\n") != 1 {
		panic("good has not exactly one " + old)
	}
	return strings.Replace(good, old+"\n", new+"\n", 1)
}

func TestGood(t *testing.T) {
	if _, err := Decode(good, "x.toml", nil); err != nil {
		t.Fatal(err)
	}
}

// Each malformed file's message, exactly as the user reads it.
func TestMalformed(t *testing.T) {
	const grid = "\n[method.grid]\n"
	tests := []struct {
		name string
		src  string
		sets []string
		want string
	}{
		{"syntax", edit(`count = 16`, `count = = 16`), nil, `x.toml:6:9: syntax: expected value but found '=' instead
  6 | count = = 16
    |         ^`},
		{"unclosed text", edit(`name = "good"`, `name = "good`), nil, `x.toml:1:13: syntax: strings cannot contain newlines
  1 | name = "good
    |             ^`},
		{"key twice", edit(`count = 16`, "count = 16\ncount = 17"), nil, `x.toml:7:11: syntax: Key 'sample.count' has already been defined.
  7 | count = 17
    |           ^`},
		{"unknown key", edit(`count = 16`, `cuont = 16`), nil, `x.toml:6:1: sample.cuont: unknown key
  did you mean "count"?`},
		{"unknown section", edit("", "\n[samples]\ncount = 3\n"), nil, `x.toml:21:1: samples: unknown key
  did you mean "sample"?`},
		{"unknown key far from any", edit(`count = 16`, `zzzzzzzzzzzzz = 16`), nil, `x.toml:6:1: sample.zzzzzzzzzzzzz: unknown key
  known: sizes, height, width, count, steps, guidance_scale, guidance_rescale, eta, seed, sampler`},
		{"quoted unknown key", edit(`count = 16`, `"a b" = 16`), nil, `x.toml:6:1: sample."a b": unknown key
  known: sizes, height, width, count, steps, guidance_scale, guidance_rescale, eta, seed, sampler`},
		{"wrong type", edit(`count = 16`, `count = "many"`), nil, `x.toml:6:9: sample.count: is "many" (text), want an integer from 2 to 1000000
  images per cell; intervals need dozens`},
		{"float for integer", edit(`steps = 20`, `steps = 20.0`), nil, `x.toml:7:9: sample.steps: is 20.0, want an integer from 1 to 1000
  the model was trained on 1000 timesteps; 20 to 50 are usual`},
		{"number for text", edit(`name = "good"`, `name = 7`), nil, `x.toml:1:8: name: is 7, want text
  put text in double quotes`},
		{"text for number", edit(`guidance_scale = 3.0`, `guidance_scale = "3"`), nil, `x.toml:8:18: sample.guidance_scale: is "3" (text), want a number from 0 to 50
  1 or less turns guidance off; 3 to 7.5 are usual`},
		{"number for boolean", edit(`baseline = true`, `baseline = 1`), nil, `x.toml:13:12: method[0].baseline: is 1, want true or false
  effects are differences to the baseline`},
		{"not a number", edit(`guidance_scale = 3.0`, `guidance_scale = nan`), nil, `x.toml:8:18: sample.guidance_scale: is nan, want a number from 0 to 50
  1 or less turns guidance off; 3 to 7.5 are usual`},
		{"bad name", edit(`name = "good"`, `name = "../good"`), nil, `x.toml:1:8: name: is "../good", want lower-case letters, digits, - and _
  start with a letter or digit; at most 64 characters`},
		{"name of the store", edit(`name = "good"`, `name = "cells"`), nil, `x.toml:1:8: name: is "cells", which is a folder of the store
  choose another name`},
		{"no name", edit(`name = "good"`, ``), nil, `x.toml:1:1: name: is missing, want a name
  add name = "..." with lower-case letters, digits, - and _`},
		{"no sample section", "name = \"good\"\n" + good[strings.Index(good, "[[method]]"):], nil, `x.toml:1:1: sample: is missing, want a section [sample] with height and width
  add [sample], height = 128, width = 128`},
		{"no height", edit(`height = 128`, ``), nil, `x.toml:3:1: sample.height: is missing, want an integer from 8 to 8192
  sizes are pixels and multiples of 8`},
		{"no methods", good[:strings.Index(good, "[[method]]")], nil, `x.toml:1:1: method: is missing, want at least one [[method]]
  add [[method]], name = "direct", kind = "direct", baseline = true`},
		{"method as table", good[:strings.Index(good, "[[method]]")] + "[method]\nname = \"direct\"\n", nil, `x.toml:10:1: method: is a table, want an array of tables
  write it as [[method]]`},
		{"sample as value", "sample = 3\n" + strings.Replace(good, good[strings.Index(good, "[sample]"):strings.Index(good, "[[method]]")], "", 1), nil, `x.toml:1:10: sample: is 3, want a table
  write it as [sample]`},
		{"odd size", edit(`height = 128`, `height = 130`), nil, `x.toml:4:10: sample.height: is 130, want a multiple of 8
  choose 128 or 136`},
		{"no steps", edit(`steps = 20`, `steps = 0`), nil, `x.toml:7:9: sample.steps: is 0, want an integer from 1 to 1000
  the model was trained on 1000 timesteps; 20 to 50 are usual`},
		{"unknown sampler", edit(`steps = 20`, "steps = 20\nsampler = \"dimm\""), nil, `x.toml:8:11: sample.sampler: is "dimm", want one of "ddim", "euler", "euler_ancestral", "dpmpp_2m"
  did you mean "ddim"?`},
		{"unknown arithmetic", edit("", "\n[model]\nmath = \"fp16\"\n"), nil, `x.toml:22:8: model.math: is "fp16", want one of "float32", "bf16x3", "bf16"
  did you mean "bf16"?`},
		{"negative seed", edit(`steps = 20`, "steps = 20\nseed = -1"), nil, `x.toml:8:8: sample.seed: is -1, want an integer of 0 or more
  the same seed gives the same images`},
		{"rescale without guidance", edit(`guidance_scale = 3.0`, "guidance_scale = 1\nguidance_rescale = 0.7"), nil, `x.toml:9:20: sample.guidance_rescale: is 0.7, which never takes effect: guidance is off
  set it to 0 or raise sample.guidance_scale above 1`},
		{"unknown kind", edit(`kind = "redilation"`, `kind = "redialtion"`), nil, `x.toml:17:8: method[1].kind: is "redialtion", want one of "direct", "redilation", "attention_scaling"
  did you mean "redilation"?`},
		{"no kind", edit(`kind = "direct"`, ``), nil, `x.toml:10:1: method[0].kind: is missing, want one of "direct", "redilation", "attention_scaling"
  add kind = "direct"`},
		{"name twice", edit(`name = "redilation"`, `name = "direct"`), nil, `x.toml:16:8: method[1].name: is "direct", which another method has
  give every method its own name`},
		{"no baseline", edit(`baseline = true`, ``), nil, `x.toml:10:1: method: has no baseline, want exactly one
  add baseline = true to the method that effects refer to, usually "direct"`},
		{"two baselines", edit(`factor = 2`, "factor = 2\nbaseline = true"), nil, `x.toml:19:12: method[1].baseline: is true a second time, want exactly one baseline
  all effects refer to one cell; keep baseline = true on one method without a grid`},
		{"factor of nothing", edit(`factor = 2`, `factor = 0`), nil, `x.toml:18:10: method[1].factor: is 0, want a number from 1 to 16 or two of them
  published settings lie between 1.5 and 4; write 2, or [2, 3] for rows and columns apart`},
		{"absurd factor", edit(`factor = 2`, `factor = [2, 40]`), nil, `x.toml:18:10: method[1].factor: is [2, 40], want a number from 1 to 16 or two of them
  published settings lie between 1.5 and 4; write 2, or [2, 3] for rows and columns apart`},
		{"no factor", edit(`factor = 2`, ``), nil, `x.toml:15:1: method[1].factor: is missing, want a number or two
  add factor = 2, or factors by layer in a dilation table`},
		{"factor in direct", edit(`kind = "direct"`, "kind = \"direct\"\nfactor = 2"), nil, `x.toml:13:10: method[0].factor: never takes effect: the kind is "direct"
  drop it, or choose kind = "redilation"`},
		{"tau above steps", edit(`tau_share = 0.6`, `tau = 21`), nil, `x.toml:19:7: method[1].tau: is 21, above sample.steps (20)
  tau counts sampling steps from the noisiest; choose 1..20`},
		{"tau of nothing", edit(`tau_share = 0.6`, `tau = 0`), nil, `x.toml:19:7: method[1].tau: is 0, want an integer from 1 to 20
  tau counts sampling steps from the noisiest; choose 1..20`},
		{"share above one", edit(`tau_share = 0.6`, `tau_share = 60`), nil, `x.toml:19:13: method[1].tau_share: is 60, want a number from 0 to 1
  the share of the steps, counted from the noisiest, that are dilated`},
		{"share of no step", edit(`tau_share = 0.6`, `tau_share = 0.01`), nil, `x.toml:19:13: method[1].tau_share: is 0.01 of 20 steps, which is no step: it never takes effect
  choose 0.05 or more, or kind = "direct"`},
		{"tau and share", edit(`tau_share = 0.6`, "tau_share = 0.6\ntau = 12"), nil, `x.toml:20:7: method[1].tau: is given beside tau_share
  keep either tau (steps) or tau_share (0..1)`},
		{"no tau", edit(`tau_share = 0.6`, ``), nil, `x.toml:15:1: method[1].tau_share: is missing, want a share of the steps from 0 to 1
  add tau_share = 0.6, or tau in steps`},
		{"layers and depth", edit(`factor = 2`, "factor = 2\nlayers = [\"mid_block.*\"]\nmin_depth = 1"), nil, `x.toml:20:13: method[1].min_depth: is given beside layers
  keep either layers or min_depth`},
		{"layers as text", edit(`factor = 2`, "factor = 2\nlayers = \"mid_block.*\""), nil, `x.toml:19:10: method[1].layers: is "mid_block.*" (text), want a list of texts
  write layers = ["down_blocks.*"]`},
		{"layer as number", edit(`factor = 2`, "factor = 2\nlayers = [\"mid_block.*\", 7]"), nil, `x.toml:19:26: method[1].layers[1]: is 7, want text
  put text in double quotes`},
		{"bad glob", edit(`factor = 2`, "factor = 2\nlayers = [\"mid block\"]"), nil, `x.toml:19:11: method[1].layers[0]: is "mid block", want lower-case letters, digits, _, ., * and ?
  layer paths look like "down_blocks.1.resnets.0.conv1"; * stands for any text`},
		{"no globs", edit(`factor = 2`, "factor = 2\nlayers = []"), nil, `x.toml:19:10: method[1].layers: is empty, want one glob or more
  write layers = ["down_blocks.*", ...], or use min_depth`},
		{"factor by layer", edit("", "[method.dilation]\n\"mid_block.*\" = -1\n"), nil, `x.toml:21:17: method[1].dilation."mid_block.*": is -1, want a number from 1 to 16 or two of them
  published settings lie between 1.5 and 4; write 2, or [2, 3] for rows and columns apart`},
		{"damping without guidance", edit(`guidance_scale = 3.0`, `guidance_scale = 1`) + "[method.damped]\nmin_depth = 2\n", nil, `x.toml:20:1: method[1].damped: never takes effect: guidance is off (sample.guidance_scale is 1)
  write damped = false, or raise sample.guidance_scale above 1`},
		{"damped typo", edit("", "[method.damped]\nmin_dept = 2\n"), nil, `x.toml:21:1: method[1].damped.min_dept: unknown key
  did you mean "min_depth"?`},
		{"grid typo", edit("", grid+"progresive = [true, false]\n"), nil, `x.toml:22:1: method[1].grid.progresive: unknown setting for a grid
  did you mean "progressive"?`},
		{"grid of one value", edit(`factor = 2`, ``) + grid + "factor = 2\n", nil, `x.toml:15:1: method[1].factor: is missing, want a number or two
  add factor = 2, or factors by layer in a dilation table
x.toml:22:10: method[1].grid.factor: is 2, want a list of one value or more
  write factor = [...] with the values to run`},
		{"grid and value", edit("", grid+"factor = [2, 3]\n"), nil, `x.toml:22:10: method[1].grid.factor: varies factor, which the method also sets
  keep either factor or the grid over it`},
		{"bad value in a grid", edit(`factor = 2`, ``) + grid + "factor = [2, 99, 3]\n", nil, `x.toml:22:14: method[1].grid.factor[1]: is 99, want a number from 1 to 16 or two of them
  published settings lie between 1.5 and 4; write 2, or [2, 3] for rows and columns apart`},
		{"baseline with a grid", edit("baseline = true", "") + "baseline = true\n" + grid + "min_depth = [1, 2]\n", nil, `x.toml:20:12: method[1].baseline: is true a second time, want exactly one baseline
  all effects refer to one cell; keep baseline = true on one method without a grid`},
		{"unknown metric", edit("", "[report]\ncolumns = [\"right_share\", \"fid_rr\"]\n"), nil, `x.toml:21:27: report.columns[1]: is "fid_rr", want a metric: right_share, excess_bodies, excess_eyes, excess_mouths, fid_r, kid_r, fid_b, kid_b, shape_accuracy, color_accuracy, background_accuracy, pattern_accuracy
  did you mean "fid_r"?`},
		{"too many pictures", edit("", "[report]\npicture_columns = 17\n"), nil, `x.toml:21:19: report.picture_columns: is 17, want an integer from 1 to 16
  prompts shown; at most sample.count`},
		{"picture row", edit("", "[report]\npicture_rows = [\"dirct\"]\n"), nil, `x.toml:21:17: report.picture_rows[0]: is "dirct", want the name of a method
  did you mean "direct"?`},
		{"plot axis", edit("", "[[report.plot]]\nname = \"p\"\nmetric = \"fid_r\"\nx = \"taushare\"\n"), nil, `x.toml:23:5: report.plot[0].x: is "taushare", want one of "none", "kind", "size", "schedule", "factor", "tau", "tau_share", "min_depth", "layers", "decay", "damped", "damped_tau", "damped_tau_share", "damped_layers", "dispersed", "eta", "input", "dc", "dispersion_tau", "dispersion_tau_share", "attention_scaling", "guidance_scale", "guidance_rescale", "freeu", "sdedit"
  did you mean "tau_share"?`},
		{"plot without metric", edit("", "[[report.plot]]\nname = \"p\"\n"), nil, `x.toml:20:1: report.plot[0].metric: is missing, want one of "right_share", "excess_bodies", "excess_eyes", "excess_mouths", "fid_r", "kid_r", "fid_b", "kid_b", "shape_accuracy", "color_accuracy", "background_accuracy", "pattern_accuracy"
  add metric = "right_share"`},
		{"dotted key", edit(`name = "good"`, "name = \"good\"\nreference.count = 1"), nil, `x.toml:2:19: reference.count: is 1, want an integer from 2 to 1000000
  true scenes for FID_r and KID_r; 2000 are usual`},
		{"inline table", edit(`name = "good"`, "name = \"good\"\nreference = { count = 100, base = 3 }"), nil, `x.toml:2:28: reference.base: unknown key
  known: count, base_count`},
		{"several at once", strings.Replace(edit(`count = 16`, `count = -4`), `factor = 2`, `factr = 2`, 1), nil, `x.toml:6:9: sample.count: is -4, want an integer from 2 to 1000000
  images per cell; intervals need dozens
x.toml:15:1: method[1].factor: is missing, want a number or two
  add factor = 2, or factors by layer in a dilation table
x.toml:18:1: method[1].factr: unknown key
  did you mean "factor"?`},

		{"set: no value", good, []string{"sample.count"}, `-set sample.count: want key=value with a dotted key
  write -set sample.count=8`},
		{"set: unknown key", good, []string{"sample.cuont=8"}, `-set sample.cuont=8: sample.cuont: unknown key
  did you mean "count"?`},
		{"set: wrong value", good, []string{"method.redilation.factor=[2,99]"}, `-set method.redilation.factor=[2,99]: method[1].factor: is [2, 99], want a number from 1 to 16 or two of them
  published settings lie between 1.5 and 4; write 2, or [2, 3] for rows and columns apart`},
		{"set: unknown method", good, []string{"method.redilate.factor=3"}, `-set method.redilate.factor=3: method: has no element "redilate"
  did you mean "redilation"?`},
		{"set: through a value", good, []string{"name.first=x"}, `-set name.first=x: name: is "good" (text), not a table
  name a key that the schema has`},
		{"set: above another", good, []string{"sample.steps=5", "method.1.tau=6"}, `-set method.1.tau=6: method[1].tau: is given beside tau_share
  keep either tau (steps) or tau_share (0..1)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode(tt.src, "x.toml", tt.sets)
			if err == nil {
				t.Fatalf("no error; want\n%s", tt.want)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			var all Errors
			if !errors.As(err, &all) {
				t.Errorf("a %T, want Errors", err)
			}
		})
	}
}

// What only the network can refuse is refused before anything runs, at the
// place in the file.
func TestAgainstNetwork(t *testing.T) {
	tests := []struct {
		name string
		src  string
		sets []string
		want string
	}{
		{"glob", edit(`factor = 2`, "factor = 2\nlayers = [\"mid_block.*\", \"down_block.1.*\"]"), nil, `x.toml:19:26: method[1].layers[1]: "down_block.1.*" matches no layer
  * stands for any text; a layer of this network is "down_blocks.0.resnets.0.conv1"`},
		{"glob in a table", edit("", "[method.dilation]\n\"mid.*\" = 3\n"), nil, `x.toml:21:1: method[1].dilation."mid.*": "mid.*" matches no layer
  * stands for any text; a layer of this network is "mid_block.resnets.0.conv1"`},
		{"depth", edit(`factor = 2`, "factor = 2\nmin_depth = 3"), nil, `x.toml:19:13: method[1].min_depth: is 3, which matches no layer: the deepest level is 2
  choose 0..2`},
		{"depth in a grid", edit("", "[method.grid]\nmin_depth = [0, 1, 2, 3]\n"), nil, `x.toml:21:23: method[1].grid.min_depth[3]: is 3, which matches no layer: the deepest level is 2
  choose 0..2`},
		{"damped depth in a grid", edit("", "[method.grid]\ndamped.min_depth = [2, 7]\n"), nil, `x.toml:21:24: method[1].grid.damped.min_depth[1]: is 7, which matches no layer: the deepest level is 2
  choose 0..2`},
		{"depth by -set", good, []string{"method.redilation.min_depth=8"}, `-set method.redilation.min_depth=8: method[1].min_depth: is 8, which matches no layer: the deepest level is 2
  choose 0..2`},
		{"factor 1", edit(`factor = 2`, `factor = 1`), nil, `x.toml:18:10: method[1].factor: re-dilation never takes effect: every chosen layer has factor 1
  choose a factor above 1, or kind = "direct"`},
		{"progressive", edit(`factor = 2`, "factor = 2\nprogressive = true"), nil, `x.toml:19:15: method[1].progressive: never takes effect: factors shrink to whole ones, 2 at the least, and none of them does
  drop it, or choose a factor above 2 and more steps`},
		{"damping without effect", edit("", "[method.damped]\n"), nil, `x.toml:20:1: method[1].damped: damping never takes effect: its network equals the dilated one at every step
  give it fewer layers (a larger min_depth) or a smaller factor`},
		{"attention at the training size", strings.NewReplacer("128", "64").Replace(good) + "[[method]]\nname = \"a\"\nkind = \"attention_scaling\"\n", nil, `x.toml:22:8: method[2].kind: attention scaling never takes effect: the picture has the 64x64 pixels that the network was trained on
  choose a height and width whose area differs from the training size, or another method`},
		{"the same cell twice", edit("", "[[method]]\nname = \"again\"\nkind = \"redilation\"\nfactor = 2\ntau = 12\n"), nil, `x.toml:20:1: method[2]: cell "again: re-dilation x2, 60% of steps" computes exactly what cell "redilation: re-dilation x2, 60% of steps" does
  drop one of them or change a setting that matters`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Decode(tt.src, "x.toml", tt.sets)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Cells(testArch(), ablation.Size{H: 64, W: 64}, ablation.Identity{})
			if err == nil {
				t.Fatalf("no error; want\n%s", tt.want)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}
