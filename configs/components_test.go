package configs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"scalecrafter/ablation"
	"scalecrafter/model/kernels"
	"scalecrafter/model/sampler"
)

// schedules is a folder of schedule files.
var schedules = fstest.MapFS{
	"small_2x.toml": {Data: []byte(`name = "small_2x"
model = "builtin"
height = 128
width = 128
steps = 50
tau = 30
decay = "constant"

[dilation]
"down_blocks.1.*" = 2
"mid_block.*" = 3
`)},
	"small_4x.toml": {Data: []byte(`name = "small_4x"
model = "builtin"
height = 256
width = 256
tau = 35
decay = "progressive"
depth = { 1 = 3, 2 = 4 }

[damped]
tau = 30
[damped.dilation]
"mid_block.*" = 4

[dispersion]
tau = 35
layers = ["mid_block.*"]
kernel = 5
`)},
	"idle.toml": {Data: []byte(`model = "sd1.5"
height = 2048
width = 2048
tau = 35

[dilation]
"down_blocks.1.*" = 2
"mid_block.*" = 4

[damped]
tau = 0
[damped.dilation]
"mid_block.*" = 4

[dispersion]
tau = 0
layers = ["mid_block.*"]
`)},
	"elsewhere.toml": {Data: []byte(`model = "sdxl"
height = 2048
width = 2048
tau = 30
[dilation]
"down_blocks.1.*" = 2
"down_blocks.3.*" = 4
`)},
	"broken.toml": {Data: []byte("model = \"sd1.5\"\nheight = 2047\ntau = 60\n[dilation]\n\"mid block\" = 2\n[damped]\n")},
	"syntax.toml": {Data: []byte("model = \n")},
}

// method is good with another second method.
func method(lines string) string {
	return good[:strings.Index(good, "[[method]]\nname = \"redilation\"")] + "[[method]]\nname = \"m\"\nkind = \"redilation\"\n" + lines
}

// Each malformed file's message, exactly as the user reads it. Line 18 is the
// first of method's.
func TestMalformedComponents(t *testing.T) {
	const re = "factor = 2\ntau_share = 0.5\n" // lines 18 and 19
	sizes := func(value string) string {
		return strings.Replace(strings.Replace(good, "width = 128\n", "", 1), "height = 128", "sizes = "+value, 1)
	}
	only := func(sizesValue, line string) string {
		return strings.Replace(sizes(sizesValue), "factor = 2", "factor = 2\n"+line, 1)
	}
	tests := []struct {
		name string
		src  string
		sets []string
		want string
	}{
		{"kernel even", method(re + "[method.dispersion]\nkernel = 6\n"), nil, `x.toml:21:10: method[1].dispersion.kernel: is 6, want an odd number: a kernel has a centre
  choose 5 or 7`},
		{"kernel of 3", method(re + "[method.dispersion]\nkernel = 3\n"), nil, `x.toml:21:10: method[1].dispersion.kernel: is 3, want an integer from 5 to 15
  3x3 kernels are enlarged to 5, 7 or 9`},
		{"kernel as text", method(re + "[method.dispersion]\nkernel = \"5x5\"\n"), nil, `x.toml:21:10: method[1].dispersion.kernel: is "5x5" (text), want an integer from 5 to 15
  3x3 kernels are enlarged to 5, 7 or 9`},
		{"dispersion typo", method(re + "[method.dispersion]\nkernal = 5\n"), nil, `x.toml:21:1: method[1].dispersion.kernal: unknown key
  did you mean "kernel"?`},
		{"dispersion input", method(re + "[method.dispersion]\ninput = 1\n"), nil, `x.toml:21:9: method[1].dispersion.input: is 1, want an integer from 2 to 16
  the side of the feature that the equations are set up on; upstream takes 3`},
		{"dispersion eta", method(re + "[method.dispersion]\neta = -0.05\n"), nil, `x.toml:21:7: method[1].dispersion.eta: is -0.05, want a number from 0 to 1000
  the weight of the pixel equations; upstream takes 0.05`},
		{"dispersion tau", method(re + "[method.dispersion]\ntau = 0\n"), nil, `x.toml:21:7: method[1].dispersion.tau: is 0, want an integer from 1 to 20
  tau counts sampling steps from the noisiest; choose 1..20`},
		{"dispersion tau and share", method(re + "[method.dispersion]\ntau = 3\ntau_share = 0.5\n"), nil, `x.toml:21:7: method[1].dispersion.tau: is given beside tau_share
  keep either tau (steps) or tau_share (0..1)`},
		{"dispersion layers and depth", method(re + "[method.dispersion]\nlayers = [\"mid_block.*\"]\nmin_depth = 2\n"), nil, `x.toml:22:13: method[1].dispersion.min_depth: is given beside layers
  keep either layers or min_depth`},
		{"dispersion no layers", method(re + "[method.dispersion]\nlayers = []\n"), nil, `x.toml:21:10: method[1].dispersion.layers: is empty, want one glob or more
  write layers = ["down_blocks.*", ...], or use min_depth`},
		{"transform and kernel", method(re + "[method.dispersion]\ntransform = \"a.mat\"\nkernel = 5\n"), nil, `x.toml:22:10: method[1].dispersion.kernel: never takes effect beside transform
  keep either transform or the solver's settings (kernel, scale, input, eta, dc)`},
		{"no transform", method(re + "[method.dispersion]\ntransform = \"\"\n"), nil, `x.toml:21:13: method[1].dispersion.transform: is empty
  name a .safetensors or .mat file, or one of R20to1_new, R20to1, R2to1`},
		{"dispersion = true", method(re + "dispersion = true\n"), nil, `x.toml:20:14: method[1].dispersion: is true, want a table or false
  write it as [method.dispersion], or false`},
		{"damped = 1", method(re + "damped = 1\n"), nil, `x.toml:20:10: method[1].damped: is 1, want a table or false
  write it as [method.damped], or false`},
		{"dispersion in direct", edit(`kind = "direct"`, "kind = \"direct\"\ndispersion = { kernel = 5 }"), nil, `x.toml:13:14: method[0].dispersion: never takes effect: the kind is "direct"
  drop it, or choose kind = "redilation"`},
		{"decay", method(re + "decay = \"linaer\"\n"), nil, `x.toml:20:9: method[1].decay: is "linaer", want one of "constant", "progressive", "linear", "cosine", "listed"
  did you mean "linear"?`},
		{"decay and progressive", method(re + "decay = \"linear\"\nprogressive = true\n"), nil, `x.toml:21:15: method[1].progressive: is given beside decay
  keep either; progressive = true is short for decay = "progressive"`},
		{"listed as number", method(re + "decay = \"listed\"\nlisted = 0.5\n"), nil, `x.toml:21:10: method[1].listed: is 0.5, want a list of numbers from 0 to 1
  one number for each dilated step: 1 keeps the whole factor, 0 none of it`},
		{"listed above 1", method(re + "listed = [1, 0.5, 50]\n"), nil, `x.toml:20:19: method[1].listed[2]: is 50, want a number from 0 to 1
  one number for each dilated step: 1 keeps the whole factor, 0 none of it`},
		{"depth not a level", method("tau = 3\ndepth = { deepest = 2 }\n"), nil, `x.toml:19:11: method[1].depth.deepest: want a level from 0 to 16
  0 is the outermost level: depth = { 1 = 2, 2 = 3 }`},
		{"depth of nothing", method("tau = 3\ndepth = {}\n"), nil, `x.toml:19:9: method[1].depth: is empty, want one level or more
  add 1 = 2, or drop the table`},
		{"depth factor", method("tau = 3\ndepth = { 1 = 2, 2 = 0 }\n"), nil, `x.toml:19:22: method[1].depth.2: is 0, want a number from 1 to 16 or two of them
  published settings lie between 1.5 and 4; write 2, or [2, 3] for rows and columns apart`},
		{"guidance scale", method(re + "guidance_scale = -1\n"), nil, `x.toml:20:18: method[1].guidance_scale: is -1, want a number from 0 to 50
  1 or less turns guidance off; 3 to 7.5 are usual`},
		{"guidance rescale", method(re + "guidance_rescale = 70\n"), nil, `x.toml:20:20: method[1].guidance_rescale: is 70, want a number from 0 to 1
  0 turns it off`},
		{"rescale without guidance", method(re + "guidance_scale = 1\nguidance_rescale = 0.7\n"), nil, `x.toml:21:20: method[1].guidance_rescale: is 0.7, which never takes effect: guidance is off (the guidance scale is 1)
  set it to 0 or raise the guidance scale above 1`},
		{"guidance off under a rescale", strings.Replace(method(re+"guidance_scale = 1\n"), "guidance_scale = 3.0\n", "guidance_scale = 3.0\nguidance_rescale = 0.5\n", 1), nil, `x.toml:21:18: method[1].guidance_scale: is 1, which turns guidance off: sample.guidance_rescale (0.5) never takes effect
  add guidance_rescale = 0 to the method, or raise the scale above 1`},
		{"damping without the method's guidance", method(re + "guidance_scale = 1.0\n[method.damped]\nmin_depth = 2\n"), nil, `x.toml:21:1: method[1].damped: never takes effect: guidance is off (guidance_scale is 1)
  write damped = false, or raise guidance_scale above 1`},
		{"freeu preset", method(re + "freeu = \"sd15\"\n"), nil, `x.toml:20:9: method[1].freeu: is "sd15", want one of "sd1.5", "sd2.1", "sdxl" or a table of b1, b2, s1 and s2
  did you mean "sd1.5"?`},
		{"freeu typo", method(re + "freeu = { b1 = 1.2, s3 = 0.9 }\n"), nil, `x.toml:20:21: method[1].freeu.s3: unknown key
  did you mean "s1"?`},
		{"freeu number", method(re + "freeu = { b1 = 12 }\n"), nil, `x.toml:20:16: method[1].freeu.b1: is 12, want a number from 0 to 4
  1 changes nothing; published values lie between 0.2 and 1.4`},
		{"freeu of ones", method(re + "freeu = { b1 = 1, b2 = 1.0 }\n"), nil, `x.toml:20:9: method[1].freeu: never takes effect: b1, b2, s1 and s2 are 1
  drop it, or take one of "sd1.5", "sd2.1", "sdxl"`},
		{"sdedit without tau", method(re + "sdedit = { scale = 2 }\n"), nil, `x.toml:20:1: method[1].sdedit.tau: is missing, want an integer from 1 to 19
  the number of steps to skip from the noisiest; choose 1..19`},
		{"sdedit of all steps", method(re + "sdedit = { tau = 20 }\n"), nil, `x.toml:20:18: method[1].sdedit.tau: is 20, want an integer from 1 to 19
  the number of steps to skip from the noisiest; choose 1..19`},
		{"sdedit enlarged", method(re + "sdedit = { tau = 3, scale = 0.5 }\n"), nil, `x.toml:20:29: method[1].sdedit.scale: is 0.5: the first picture must be smaller
  choose a number above 1, or 0 for the training size`},
		{"sdedit of one step", method(re + "sdedit = { tau = 3 }\n"), []string{"sample.steps=1"}, `x.toml:20:10: method[1].sdedit: skips steps, but there is only one
  raise sample.steps, or drop it`},
		{"axis of nothing", method(re + "axis = \"separate\"\n"), nil, `x.toml:20:8: method[1].axis: never takes effect: only the derived schedule asks for it
  write schedule = "derived", or give factors as [rows, columns]`},
		{"axis", method("schedule = \"derived\"\naxis = \"seperate\"\n"), nil, `x.toml:19:8: method[1].axis: is "seperate", want one of "isotropic", "separate"
  did you mean "separate"?`},
		{"schedule typo", method("schedule = \"derive\"\n"), nil, `x.toml:18:12: method[1].schedule: is "derive", want "derived" or the name of a schedule file; there is no schedules/derive.toml
  did you mean "derived"?`},
		{"schedule file typo", method("schedule = \"small_2\"\n"), nil, `x.toml:18:12: method[1].schedule: is "small_2", want "derived" or the name of a schedule file; there is no schedules/small_2.toml
  did you mean "small_2x"?`},
		{"schedule outside", method("schedule = \"../small_2x\"\n"), nil, `x.toml:18:12: method[1].schedule: is "../small_2x", want "derived" or the name of a schedule file
  schedules are called like "sd1.5_2048x2048", after their files`},
		{"schedule as number", method("schedule = 2\n"), nil, `x.toml:18:12: method[1].schedule: is 2, want text
  put text in double quotes`},
		{"schedule and layers", method("schedule = \"small_2x\"\nlayers = [\"mid_block.*\"]\n"), nil, `x.toml:19:10: method[1].layers: is given beside a schedule, which has layers and factors of its own
  add factor = 2, which replaces the schedule's factors, or change single ones by dilation or depth`},
		{"idle schedule", method("schedule = \"idle\"\n"), nil, `schedules/idle.toml:11:7: damped.tau: is 0 of 50 steps, which is no step here: noise-damped guidance never takes effect
  give the method that takes schedule = "idle" tau_share in [method.damped], or damped = false
schedules/idle.toml:16:7: dispersion.tau: is 0 of 50 steps, which is no step here: dispersion never takes effect
  give the method that takes schedule = "idle" tau_share in [method.dispersion], or dispersion = false`},
		{"damping of a schedule without guidance", strings.Replace(method("schedule = \"small_4x\"\n"), "guidance_scale = 3.0", "guidance_scale = 1.0", 1), nil, `x.toml:18:12: method[1].schedule: never takes effect: guidance is off (sample.guidance_scale is 1)
  write damped = false, or raise sample.guidance_scale above 1`},
		{"broken schedule", method("schedule = \"broken\"\n"), nil, `schedules/broken.toml:1:1: width: is missing, want an integer from 8 to 8192
  sizes are pixels and multiples of 8
schedules/broken.toml:2:10: height: is 2047, want a multiple of 8
  choose 2040 or 2048
schedules/broken.toml:3:7: tau: is 60, want an integer from 0 to 50
  tau counts sampling steps from the noisiest; choose 0..50
schedules/broken.toml:5:1: dilation."mid block": is "mid block", want lower-case letters, digits, _, ., * and ?
  layer paths look like "down_blocks.1.resnets.0.conv1"; * stands for any text
schedules/broken.toml:6:1: damped.tau: is missing, want an integer from 0 to 50
  tau counts sampling steps from the noisiest; choose 0..50
schedules/broken.toml:6:1: damped.factor: is missing, want a number or two
  add factor = 2, or factors by layer in a dilation table`},
		{"schedule syntax", method("schedule = \"syntax\"\n"), nil, `schedules/syntax.toml:1:9: syntax: expected value but found '\n' instead
  1 | model = 
    |         ^`},
		{"unused schedule", edit("", "[schedules.x]\nmodel = \"builtin\"\nheight = 128\nwidth = 128\ntau = 3\nfactor = 2\n"), nil, `x.toml:20:1: schedules.x: no method uses this schedule
  write schedule = "x" in a method, or drop it`},
		{"inner schedule at fault", method("schedule = \"x\"\n[schedules.x]\nmodel = \"sd15\"\nheight = 128\nwidth = 128\ntau = 3\n"), nil, `x.toml:19:1: schedules.x.factor: is missing, want a number or two
  add factor = 2, or factors by layer in a dilation table
x.toml:20:9: schedules.x.model: is "sd15", want one of "sd1.5", "sd2.1", "sdxl", "builtin"
  did you mean "sd1.5"?`},
		{"grid of nothing nested", method(re + "[method.grid]\ndispersion.kernels = [5, 7]\n"), nil, `x.toml:21:12: method[1].grid.dispersion.kernels: unknown setting for a grid
  did you mean "dispersion.kernel"?`},
		{"grid and nested value", method(re + "[method.dispersion]\neta = 0.1\n[method.grid]\ndispersion.eta = [0.1, 0.2]\n"), nil, `x.toml:23:18: method[1].grid.dispersion.eta: varies dispersion.eta, which the method also sets
  keep either dispersion.eta or the grid over it`},
		{"grid of wrong kernels", method(re + "[method.grid]\ndispersion.kernel = [5, 8]\n"), nil, `x.toml:21:25: method[1].grid.dispersion.kernel[1]: is 8, want an odd number: a kernel has a centre
  choose 7 or 9`},
		{"grid of tables", method(re + "[method.grid]\ndamped = [false, { min_dept = 2 }]\n"), nil, `x.toml:21:20: method[1].grid.damped[1].min_dept: unknown key
  did you mean "min_depth"?`},
		{"grid of presets", method(re + "[method.grid]\nfreeu = [false, \"sd3\"]\n"), nil, `x.toml:21:17: method[1].grid.freeu[1]: is "sd3", want one of "sd1.5", "sd2.1", "sdxl" or a table of b1, b2, s1 and s2
  known: sd1.5, sd2.1, sdxl`},
		{"sizes and height", edit(`height = 128`, "height = 128\nsizes = [[128, 128]]"), nil, `x.toml:4:10: sample.height: is given beside sizes
  keep either sizes or height and width
x.toml:6:9: sample.width: is given beside sizes
  keep either sizes or height and width`},
		{"sizes flat", sizes("[128, 128]"), nil, `x.toml:4:10: sample.sizes[0]: is 128, want [height, width]
  write sizes = [[128, 128], [128, 256]], height before width
x.toml:4:15: sample.sizes[1]: is 128, want [height, width]
  write sizes = [[128, 128], [128, 256]], height before width`},
		{"sizes odd", sizes("[[128, 130]]"), nil, `x.toml:4:16: sample.sizes[0][1]: is 130, want a multiple of 8
  choose 128 or 136`},
		{"sizes twice", sizes("[[128, 128], [128, 256], [128, 128]]"), nil, `x.toml:4:34: sample.sizes[2]: is 128x128 a second time
  drop it`},
		{"sizes as text", sizes(`[["128", 128]]`), nil, `x.toml:4:11: sample.sizes[0][0]: is "128" (text), want an integer from 8 to 8192
  sizes are pixels and multiples of 8`},
		{"no sizes", sizes("[]"), nil, `x.toml:4:9: sample.sizes: is [], want a list of 1 to 16 pairs of pixels
  write sizes = [[128, 128], [128, 256]], height before width`},
		{"only elsewhere", only("[[128, 128], [128, 256]]", `only = ["256x128"]`), nil, `x.toml:18:9: method[1].only[0]: is "256x128", want a size of this experiment as HEIGHTxWIDTH: 128x128, 128x256
  did you mean "128x128"?`},
		{"only as text", only("[[128, 128], [128, 256]]", `only = "128x256"`), nil, `x.toml:18:8: method[1].only: is "128x256" (text), want a list of texts
  write only = ["256x256"]`},
		{"only nowhere", only("[[128, 128], [128, 256]]", `only = []`), nil, `x.toml:18:8: method[1].only: is empty: the method never runs
  name some of 128x128, 128x256, or drop it`},
		{"baseline at one size", strings.Replace(sizes("[[128, 128], [128, 256]]"), "baseline = true", "baseline = true\nonly = [\"128x256\"]", 1), nil, `x.toml:9:1: method: has no baseline at 128x128, want exactly one
  add baseline = true to the method that effects refer to, usually "direct"`},
		{"eta of another sampler", edit(`steps = 20`, "steps = 20\nsampler = \"euler\"\neta = 1.0"), nil, `x.toml:9:7: sample.eta: is 1, which never takes effect: the sampler is "euler"
  drop it, or choose sampler = "ddim"`},
		{"transform digest of nobody", edit("", "[transforms]\n\"a.mat\" = \"00\"\n"), nil, `x.toml:21:1: transforms."a.mat": no method reads this file
  drop it`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeFS(tt.src, "x.toml", tt.sets, schedules)
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

// What only the network can refuse, at the place in the file at fault.
func TestComponentsAgainstNetwork(t *testing.T) {
	const re = "factor = 2\ntau_share = 0.5\n"
	tests := []struct {
		name, src, want string
	}{
		{"dispersed and not dilated", method(re + "[method.dispersion]\nlayers = [\"mid_block.*\", \"down_blocks.0.*\"]\n"), `x.toml:21:26: method[1].dispersion.layers[1]: disperses "down_blocks.0.resnets.0.conv1" and 2 other layers, which the dilated network does not dilate: from step 0 on it would run a kernel that does not fit
  drop it from dispersion.layers or dilate it in the dilated network; without layers each network disperses what it dilates`},
		{"dispersed and not in V", method(re + "[method.damped]\nmin_depth = 2\n[method.dispersion]\nlayers = [\"down_blocks.1.*\"]\n"), `x.toml:23:11: method[1].dispersion.layers[0]: disperses "down_blocks.1.resnets.0.conv1" and 2 other layers, which the damped network does not dilate: from step 0 on it would run a kernel that does not fit
  drop it from dispersion.layers or dilate it in the damped network; without layers each network disperses what it dilates`},
		{"dispersed too long", method(re + "[method.dispersion]\ntau_share = 0.6\n"), `x.toml:21:13: method[1].dispersion.tau_share: is 12 steps, but the dilated network dilates "down_blocks.1.resnets.0.conv1" only up to step 9: at step 10 a dispersed kernel would not fit
  choose 1..10`},
		{"dispersed too long in a grid", method(re + "[method.grid]\ndispersion.tau = [5, 11]\n"), `x.toml:21:22: method[1].grid.dispersion.tau[1]: is 11 steps, but the dilated network dilates "down_blocks.1.resnets.0.conv1" only up to step 9: at step 10 a dispersed kernel would not fit
  choose 1..10`},
		{"dispersion level", method(re + "dispersion = { min_depth = 5 }\n"), `x.toml:20:28: method[1].dispersion.min_depth: is 5, which matches no dilated layer: dispersion never takes effect
  choose a smaller one`},
		{"dispersion level in a grid of tables", method(re + "[method.grid]\ndispersion = [false, { kernel = 5, min_depth = 5 }]\n"), `x.toml:21:48: method[1].grid.dispersion[1].min_depth: is 5, which matches no dilated layer: dispersion never takes effect
  choose a smaller one`},
		{"dispersion glob", method(re + "dispersion = { layers = [\"mid.*\"] }\n"), `x.toml:20:26: method[1].dispersion.layers[0]: "mid.*" matches no layer
  * stands for any text; a layer of this network is "mid_block.resnets.0.conv1"`},
		{"listed too short", method("factor = 2\ntau = 3\nlisted = [1, 0.5]\n"), `x.toml:20:10: method[1].listed: has 2 shares for 3 steps
  give one share for each of the 3 steps that are dilated`},
		{"listed of ones", method("factor = 2\ntau = 3\nlisted = [1, 1, 1]\n"), `x.toml:20:10: method[1].listed: never takes effect: every step keeps the whole factor
  drop it, or choose a larger factor or more steps`},
		{"linear over one step", method("factor = 2\ntau = 1\ndecay = \"linear\"\n"), `x.toml:20:9: method[1].decay: never takes effect: every step keeps the whole factor
  drop it, or choose a larger factor or more steps`},
		{"level", method("tau = 3\ndepth = { 1 = 2, 3 = 3 }\n"), `x.toml:19:18: method[1].depth.3: matches no layer: the deepest level is 2
  choose 0..2`},
		{"damped level", method(re + "[method.damped.depth]\n7 = 2\n"), `x.toml:21:1: method[1].damped.depth.7: matches no layer: the deepest level is 2
  choose 0..2`},
		{"sdedit past the dilation", method(re + "sdedit = { tau = 12 }\n"), `x.toml:19:13: method[1].tau_share: is 10 steps, but sdedit skips the first 12 steps: re-dilation never takes effect
  choose 13 or more, or a smaller sdedit.tau`},
		{"sdedit scale", method(re + "sdedit = { tau = 2, scale = 1.01 }\n"), `x.toml:20:29: method[1].sdedit.scale: the smaller picture to begin with would have 128x128 px, no fewer than the 128x128 px asked for
  choose a larger height and width or a larger scale, or drop sdedit`},
		{"layer of another network", method("schedule = \"elsewhere\"\n"), `schedules/elsewhere.toml:7:1: dilation."down_blocks.3.*": "down_blocks.3.*" matches no layer
  * stands for any text; a layer of this network is "down_blocks.0.resnets.0.conv1"`},
		{"own glob beside a schedule", method("schedule = \"small_2x\"\ndilation = { \"mid.*\" = 2 }\n"), `x.toml:19:14: method[1].dilation."mid.*": "mid.*" matches no layer
  * stands for any text; a layer of this network is "mid_block.resnets.0.conv1"`},
		{"own tau beside a schedule", method("schedule = \"small_4x\"\ntau = 10\n"), `schedules/small_4x.toml:15:7: dispersion.tau: is 14 steps, but the dilated network dilates "mid_block.resnets.0.conv1" only up to step 9: at step 10 a dispersed kernel would not fit
  choose 1..10`},
		{"derived at the training size", strings.NewReplacer("128", "64").Replace(method("schedule = \"derived\"\n")), `x.toml:18:12: method[1].schedule: the derived rule has nothing to change: 64x64 px is no larger than the 64x64 px that the network was trained on
  choose a larger height or width, or kind = "direct"`},
		{"derived level", method("schedule = \"derived\"\nmin_depth = 3\n"), `x.toml:19:13: method[1].min_depth: is 3, which matches no layer: the deepest level is 2
  choose 0..2`},
		{"derived without guidance", strings.NewReplacer("128", "256", "guidance_scale = 3.0", "guidance_scale = 1").Replace(method("schedule = \"derived\"\n")), `x.toml:18:12: method[1].schedule: the derived rule's noise-damped guidance never takes effect: guidance is off
  add damped = false, or raise the guidance scale above 1`},
		{"transform file", method(re + "dispersion = { transform = \"none.mat\" }\n"), `x.toml:20:28: method[1].dispersion.transform: open none.mat: file does not exist
  name a .safetensors or .mat file, relative to where the program is run`},
		{"transform changed", method(re+"dispersion = { transform = \"pad.mat\" }\n") + "[transforms]\n\"pad.mat\" = \"0123456789abcdef\"\n", `x.toml:20:28: method[1].dispersion.transform: pad.mat has the digest c9680786a23f1a2b, not the 0123456789abcdef of the resolved file
  give the file that the run was made with, or drop its line under [transforms]`},
		{"the same cell twice", method(re+"[method.dispersion]\nkernel = 5\n") + "[[method]]\nname = \"again\"\nkind = \"redilation\"\nfactor = 2\ntau = 10\ndispersion = { transform = \"R20to1_new\", tau = 10 }\n", `x.toml:22:1: method[2]: cell "again: re-dilation x2, 50% of steps, dispersed 5x5" computes exactly what cell "m: re-dilation x2, 50% of steps, dispersed 5x5" does
  drop one of them or change a setting that matters`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := DecodeFS(tt.src, "x.toml", nil, schedules)
			if err != nil {
				t.Fatal(err)
			}
			c.LoadTransform = pad
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

// pad stands for the reader of transform files.
func pad(path string) (*ablation.Transform, error) {
	if path != "pad.mat" {
		return nil, fmt.Errorf("open %s: %w", path, os.ErrNotExist)
	}
	t := &ablation.Transform{Name: "pad", Small: 3, Large: 5, R: make([]float64, 225)}
	for i := range 9 {
		t.R[((i/3+1)*5+i%3+1)*9+i] = 1
	}
	return t, nil
}

// plans decodes a file and plans its first panel.
func plans(t *testing.T, src string, sets ...string) (*Config, []ablation.Cell) {
	t.Helper()
	c, err := DecodeFS(src, "x.toml", sets, schedules)
	if err != nil {
		t.Fatal(err)
	}
	c.LoadTransform = pad
	return c, sameAgain(t, c, testArch())
}

// Whatever a method says, its resolved file stands alone and says the same:
// sameAgain decodes it without a folder of schedules.
func TestResolvedComponents(t *testing.T) {
	const re = "factor = 2\ntau_share = 0.5\n"
	for name, lines := range map[string]string{
		"dispersion":        re + "[method.dispersion]\n",
		"dispersion 7x7":    re + "dispersion = { kernel = 7, input = 4, eta = 0.5, dc = true, tau_share = 0.3, layers = [\"mid_block.*\"] }\n",
		"known transform":   re + "dispersion = { transform = \"R20to1_new\", min_depth = 2 }\n",
		"transform file":    re + "dispersion = { transform = \"pad.mat\" }\n",
		"grid of kernels":   re + "[method.grid]\ndispersion.kernel = [5, 7]\n",
		"grid of tables":    re + "[method.grid]\ndamped = [false, { min_depth = 2 }, { dilation = { \"mid*\" = 3, \"down*\" = 2 } }]\ndispersion = [false, { kernel = 5 }, { transform = \"pad.mat\" }]\n",
		"grid order":        "[method.grid]\ndamped.min_depth = [2, 0]\nfactor = [2, 3]\ndispersion.eta = [0.05, 0.5]\ntau_share = [0.5, 0.25]\n",
		"grid of tau":       "factor = 2\n[method.damped]\nmin_depth = 2\n[method.dispersion]\nkernel = 5\n[method.grid]\ntau = [5, 10]\n",
		"grid of factors":   "tau = 5\n[method.damped]\nmin_depth = 2\n[method.grid]\nfactor = [2, [2, 3]]\n",
		"grid of schedules": "[method.grid]\nschedule = [\"small_2x\", \"small_4x\", \"derived\"]\n",
		"grid of shares":    "factor = 2\ntau = 3\n[method.grid]\nlisted = [[1, 0.5, 0.25], [1, 1, 0]]\n",
		"grid of depths":    "tau = 3\n[method.grid]\ndepth = [{ 1 = 2, 2 = 3 }, { 2 = 2 }]\ndilation = [{ \"mid*\" = 2, \"mid_block.resnets.0.conv2\" = 3 }, { \"mid_block.resnets.0.conv2\" = 3, \"mid*\" = 2 }]\n",
		"grid of axes":      "schedule = \"derived\"\ndamped = false\n[method.grid]\naxis = [\"isotropic\", \"separate\"]\n",
		"guidance":          re + "[method.grid]\nguidance_scale = [1, 2.5]\n",
		"freeu and sdedit":  re + "[method.grid]\nfreeu = [false, \"sdxl\", { b1 = 1.5 }]\nsdedit = [false, { tau = 4 }, { tau = 4, scale = 4 }]\n",
		"nested freeu":      re + "freeu = { b1 = 1.1 }\nsdedit = { scale = 2 }\n[method.grid]\nfreeu.s1 = [0.9, 0.5]\nsdedit.tau = [2, 3]\n",
		"derived":           "schedule = \"derived\"\n[method.damped]\nmin_depth = 2\ntau = 4\n[method.dispersion]\n",
		"beside a schedule": "schedule = \"small_4x\"\ndilation = { \"down_blocks.1.*\" = 2 }\ndecay = \"linear\"\n[method.damped]\ntau_share = 0.3\n[method.dispersion]\neta = 0.1\n",
		"labelled grid":     "label = \"mine\"\n" + re + "[method.grid]\ndispersion = [{ kernel = 5 }, { kernel = 7 }]\nfreeu = [\"sd1.5\", \"sd2.1\"]\n",
	} {
		t.Run(name, func(t *testing.T) {
			src := method(lines)
			if name == "grid of axes" {
				src = strings.Replace(src, "width = 128", "width = 256", 1)
			}
			_, cells := plans(t, src)
			for _, cell := range cells {
				t.Logf("%s", cell.Label)
			}
		})
	}
}

// factorsOf shows a plan's factors of a layer at the first and the last
// dilated step, D | V.
func stepOf(cell ablation.Cell, step int, layer string) string {
	show := func(p *ablation.LayerPlan) string {
		if p == nil {
			return "-"
		}
		text := "1"
		if f, ok := p.Dilation[layer]; ok {
			text = f.String()
		}
		if tr := p.Dispersion[layer]; tr != nil {
			text += fmt.Sprintf("@%d", tr.Large)
		}
		return text
	}
	return show(cell.Plan[step].Main) + "|" + show(cell.Plan[step].Damped)
}

// Schedules give layers, shares of the steps, the decay, damping and
// dispersion; what the method says wins.
func TestScheduleInMethod(t *testing.T) {
	const mid, outer = "mid_block.resnets.0.conv1", "down_blocks.1.resnets.0.conv1"
	tests := []struct {
		name, lines string
		layer       string
		steps       []int
		want        string
		label       string
	}{
		{"constant", "schedule = \"small_2x\"\n", mid, []int{0, 11, 12}, "3|- 3|- 1|-", "re-dilation as small_2x, 60% of steps"},
		{"everything", "schedule = \"small_4x\"\n", mid, []int{0, 11, 12, 13, 14}, "2@5|2@5 1@5|1@5 1@5|- 1@5|- 1|-",
			"re-dilation as small_4x, 70% of steps, progressive, dispersed 5x5 in mid_block.*, noise-damped for 60% of steps"},
		{"not in V", "schedule = \"small_4x\"\n", outer, []int{0, 11, 12}, "3|1 2|1 2|-", ""},
		{"own tau", "schedule = \"small_2x\"\ntau = 3\n", mid, []int{2, 3}, "3|- 1|-", ""},
		{"own decay", "schedule = \"small_4x\"\ndecay = \"constant\"\n", mid, []int{0, 11, 13}, "2@5|2@5 2@5|2@5 2@5|-", ""},
		{"own factor", "schedule = \"small_4x\"\nfactor = 2\nmin_depth = 0\nprogressive = false\n", mid, []int{0, 13}, "1@5|2@5 1@5|-", ""},
		{"own glob", "schedule = \"small_2x\"\n[method.dilation]\n\"down_blocks.1.*\" = 4\n", outer, []int{0}, "4|-", ""},
		{"own level", "schedule = \"small_4x\"\ndepth = { 1 = 5 }\n", outer, []int{0}, "5|1", ""},
		{"undamped", "schedule = \"small_4x\"\ndamped = false\n", mid, []int{0}, "2@5|-", ""},
		{"undispersed", "schedule = \"small_4x\"\ndispersion = false\n", mid, []int{0}, "4|4", ""},
		{"own kernel", "schedule = \"small_4x\"\n[method.dispersion]\nkernel = 9\ntau = 2\n", mid, []int{0, 1, 2}, "1@9|1@9 1@9|1@9 4|4", ""},
		{"idle, mended", "schedule = \"idle\"\n[method.damped]\ntau_share = 0.5\n[method.dispersion]\ntau = 4\n", mid, []int{0, 4, 9, 10}, "2@5|2@5 4|4 4|4 4|-", ""},
		{"idle, dropped", "schedule = \"idle\"\ndamped = false\ndispersion = false\n", mid, []int{0, 13, 14}, "4|- 4|- 1|-", ""},
		{"derived", "schedule = \"derived\"\n", mid, []int{0, 11, 12}, "2|- 2|- 1|-", "re-dilation as derived, 60% of steps"},
		{"derived, all", "schedule = \"derived\"\nmin_depth = 0\ntau_share = 1.0\n[method.damped]\n[method.dispersion]\nmin_depth = 2\n", mid, []int{0, 19}, "1@5|1@5 1@5|1@5",
			"re-dilation as derived at all levels, 100% of steps, dispersed 5x5 from level 2, noise-damped"},
		{"inner", "schedule = \"mine\"\n[schedules.mine]\nmodel = \"builtin\"\nheight = 128\nwidth = 128\nsteps = 4\ntau = 3\nlisted = [1, 0.5, 0.25]\nfactor = 3\n", mid,
			[]int{0, 4, 5, 9, 10, 14, 15}, "3|- 3|- 2|- 2|- 1.5|- 1.5|- 1|-", "re-dilation as mine, 75% of steps, listed decay"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, cells := plans(t, method(tt.lines))
			cell := cells[len(cells)-1]
			var got []string
			for _, step := range tt.steps {
				got = append(got, stepOf(cell, step, tt.layer))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %s, want %s", s, tt.want)
			}
			if tt.label != "" && cell.Label != tt.label {
				t.Errorf("label %q, want %q", cell.Label, tt.label)
			}
		})
	}
}

// The resolved file holds the schedules and the digests of the transforms, and
// a changed transform is found.
func TestResolvedHoldsAll(t *testing.T) {
	c, _ := plans(t, method("dispersion = { transform = \"pad.mat\" }\n[method.grid]\nschedule = [\"small_2x\", \"derived\"]\n"))
	text := c.TOML()
	for _, want := range []string{"[schedules.small_2x]\n", "[schedules.small_2x.dilation]\n\"down_blocks.1.*\" = 2\n", "[transforms]\n\"pad.mat\" = \"c9680786a23f1a2b\"\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the resolved file lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "small_4x") {
		t.Errorf("the resolved file holds a schedule that nobody uses:\n%s", text)
	}
	again, err := Decode(text, "resolved", nil)
	if err != nil {
		t.Fatal(err)
	}
	again.LoadTransform = func(string) (*ablation.Transform, error) {
		tr, err := pad("pad.mat")
		tr.R[0] = 1e-12
		return tr, err
	}
	if _, err := again.Cells(testArch(), ablation.Size{H: 64, W: 64}, ablation.Identity{}); err == nil || !strings.Contains(err.Error(), "has the digest") {
		t.Errorf("a changed transform: %v", err)
	}
	again.LoadTransform = nil
	again.cache.read = map[string]*ablation.Transform{}
	if _, err := again.Cells(testArch(), ablation.Size{H: 64, W: 64}, ablation.Identity{}); err == nil || !strings.Contains(err.Error(), "cannot be read here") {
		t.Errorf("without a reader: %v", err)
	}
}

// A solver's setting is solved once, whichever cell and panel asks.
func TestTransformsAreShared(t *testing.T) {
	src := strings.Replace(method("factor = 2\ntau = 4\ndispersion = {}\n[method.grid]\nmin_depth = [0, 1]\n"), "height = 128\nwidth = 128\n", "sizes = [[128, 128], [256, 128]]\n", 1)
	c, err := Decode(src, "x.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[*ablation.Transform]bool{}
	for _, p := range c.Panels() {
		for _, cell := range sameAgain(t, p, testArch())[1:] {
			seen[cell.Method.Redilation.Dispersion.Transform] = true
		}
	}
	if len(seen) != 1 {
		t.Errorf("%d transforms of one setting", len(seen))
	}
}

// Every panel has its size, its methods, one baseline and a file of its own.
func TestPanels(t *testing.T) {
	src := `name = "sizes"
[sample]
sizes = [[128, 128], [64, 256]]
count = 4
steps = 10

[[method]]
name = "direct"
kind = "direct"
baseline = true

[[method]]
name = "square"
kind = "redilation"
schedule = "small_2x"
only = ["128x128"]

[[method]]
name = "wide"
kind = "redilation"
schedule = "derived"
axis = "separate"
damped = false
only = ["64x256"]
[method.grid]
decay = ["constant", "linear"]

[report]
picture_rows = ["direct", "square"]
[[report.compare]]
name = "re-dilation"
from = "direct"
to = "square"
`
	c, err := DecodeFS(src, "x.toml", nil, schedules)
	if err != nil {
		t.Fatal(err)
	}
	panels := c.Panels()
	var got []string
	for _, p := range panels {
		cells := sameAgain(t, p, testArch())
		var names []string
		for _, cell := range cells {
			names = append(names, cell.Method.Name)
		}
		got = append(got, fmt.Sprintf("%s: %s; rows %v, %d compared, %d panels", p.Settings().Size, strings.Join(names, " "), p.Report.PictureRows, len(p.Report.Compares), len(p.Panels())))
		text := p.TOML()
		if strings.Contains(text, "sizes =") || strings.Contains(text, "only =") || strings.Contains(text, "small_2x") != (p == panels[0]) {
			t.Errorf("the panel's file is not its own:\n%s", text)
		}
	}
	want := "128x128: direct square; rows [direct square], 1 compared, 1 panels\n64x256: direct wide wide; rows [direct], 0 compared, 1 panels"
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
	if text := c.TOML(); !strings.Contains(text, "sizes = [[128, 128], [64, 256]]") || !strings.Contains(text, "only = [\"64x256\"]") {
		t.Errorf("the experiment's file lost its sizes:\n%s", text)
	}
	// Errors of a panel are at their places in the experiment's file.
	bad, err := DecodeFS(strings.Replace(src, "decay = [", "depth = [{ 7 = 2 }]\ndecay = [", 1), "x.toml", nil, schedules)
	if err != nil {
		t.Fatal(err)
	}
	_, err = bad.Panels()[1].Cells(testArch(), ablation.Size{H: 64, W: 64}, ablation.Identity{})
	if wantErr := "x.toml:26:12: method[2].grid.depth[0].7: matches no layer: the deepest level is 2\n  choose 0..2"; err == nil || err.Error() != wantErr {
		t.Errorf("got %v, want %s", err, wantErr)
	}
}

// The lists that configs may not import are those of the packages that have
// them.
func TestLists(t *testing.T) {
	if !slices.Equal(Samplers, sampler.Names()) {
		t.Errorf("samplers %v, the sampler package has %v", Samplers, sampler.Names())
	}
	if !slices.Equal(Maths, kernels.MathNames) {
		t.Errorf("arithmetic %v, the kernels have %v", Maths, kernels.MathNames)
	}
	seen := map[string]bool{}
	value := 2.0
	for _, m := range []ablation.Method{
		{Kind: ablation.Direct, GuidanceScale: &value},
		{Kind: ablation.Redilate, Redilation: &ablation.Redilation{
			LayerSet: ablation.LayerSet{Factor: ablation.Factor{H: 2, W: 2}}, Tau: 3, Schedule: "x", Damped: &ablation.Damping{Tau: 2},
			Dispersion: &ablation.Dispersion{Tau: 1, Spec: &ablation.DispersionSpec{Large: 5}},
		}},
		{Kind: ablation.Redilate, Redilation: &ablation.Redilation{LayerSet: ablation.LayerSet{Layers: []string{"mid*"}}, Tau: 3}},
	} {
		for _, a := range m.Axes(ablation.Settings{Steps: 4}) {
			if !contains(plotAxes, a.Name) {
				t.Errorf("plots cannot ask for the axis %q", a.Name)
			}
			seen[a.Name] = true
		}
	}
	for _, name := range plotAxes {
		if !seen[name] {
			t.Errorf("no method has the axis %q", name)
		}
	}
}

// Every schedule file of the folder decodes, resolves to itself, and is called
// as its file.
func TestEverySchedule(t *testing.T) {
	files, err := os.ReadDir("schedules")
	if err != nil || len(files) == 0 {
		t.Fatalf("no schedules (%v)", err)
	}
	for _, f := range files {
		s, err := LoadSchedule("schedules/" + f.Name())
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		again, err := DecodeSchedule(s.TOML(), f.Name())
		if err != nil || again.TOML() != s.TOML() {
			t.Errorf("%s: resolved:\n%s\n%v", f.Name(), s.TOML(), err)
		}
		if s.Name+".toml" != f.Name() || s.Steps != 50 {
			t.Errorf("%s: called %q, %d steps", f.Name(), s.Name, s.Steps)
		}
	}
}

// Decoding a schedule never panics; what decodes resolves to itself and scales
// to any number of steps.
func FuzzSchedule(f *testing.F) {
	seeds(f)
	for _, name := range sortedKeys(schedules) {
		f.Add(string(schedules[name].Data))
	}
	f.Fuzz(func(t *testing.T, src string) {
		s, err := DecodeSchedule(src, "fuzz.toml")
		if err != nil {
			var all Errors
			if !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("a %T: %v", err, err)
			}
			for _, e := range all {
				if e.Pos.Line < 1 || e.Pos.Col < 1 || e.Pos.Line > strings.Count(src, "\n")+2 || e.What == "" {
					t.Errorf("%v: %q", e.Pos, e.Error())
				}
			}
			return
		}
		text := s.TOML()
		again, err := DecodeSchedule(text, "fuzz.toml")
		if err != nil || again.TOML() != text {
			t.Fatalf("resolved:\n%s\n%v", text, err)
		}
		for _, steps := range []int{1, 7, 50, 1000} {
			r := s.scaled(steps)
			longest := r.Tau
			if r.Damped != nil {
				longest = max(longest, r.Damped.Tau)
			}
			if r.Tau < 0 || longest > steps || len(r.Listed) > 0 && len(r.Listed) != longest {
				t.Fatalf("%d of %d steps, %d shares", longest, steps, len(r.Listed))
			}
		}
	})
}

// The published SD 1.5 schedules and the derived rule compute the same on a
// network of four levels: the cell of one is the cell of the other.
func TestPublishedIsDerived(t *testing.T) {
	for _, name := range []string{"sd1.5_1024x1024", "sd1.5_1280x1280", "sd1.5_2048x1024", "sd1.5_2048x2048"} {
		s, err := LoadSchedule("schedules/" + name + ".toml")
		if err != nil {
			t.Error(err)
			continue
		}
		src := fmt.Sprintf(`name = "published"
[sample]
height = %d
width = %d
steps = 50
[[method]]
name = "direct"
kind = "direct"
baseline = true
[[method]]
name = "published"
kind = "redilation"
schedule = "%s"
[[method]]
name = "derived"
kind = "redilation"
schedule = "derived"
`, s.Height, s.Width, name)
		c, err := DecodeFS(src, "x.toml", nil, os.DirFS("schedules"))
		if err != nil {
			t.Error(err)
			continue
		}
		_, err = c.Cells(uNet(4), ablation.Size{H: 512, W: 512}, ablation.Identity{})
		if err == nil || !strings.Contains(err.Error(), "computes exactly what cell") {
			t.Errorf("%s is not what the rule derives: %v", name, err)
		}
	}
}
