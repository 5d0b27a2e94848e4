package experiments

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/BurntSushi/toml"
	"pgregory.net/rapid"

	"scalecrafter/ablation"
	"scalecrafter/configs"
	"scalecrafter/model"
)

// upstreamLists is methods.md 1.11 as data: for every layer list the factor of
// each block's resnets and, after a slash, of its sampler ("-" or nothing: not
// listed), for down0..3, mid and up0..3. SDXL's lists have SD's names, layers
// that SDXL does not have included. "y" lists a layer without a factor.
var upstreamLists = map[string]string{
	"dilate_settings/sd1.5_1024x1024": "- 2/2 2/2 2 2 2/2 2/2 2/2 -",
	"dilate_settings/sd1.5_1280x1280": "- 2.5/2.5 2.5/2.5 2.5 2.5 2.5/2.5 2.5/2.5 2.5/2.5 -",
	"dilate_settings/sd1.5_2048x1024": "- 2/2 3/3 4 4 4/4 3/3 2/2 -",
	"dilate_settings/sd1.5_2048x2048": "- 2/2 3/3 4 4 4/4 3/3 2/2 -",
	"dilate_settings/sd2.1_1024x1024": "- 2/2 2/2 2 2 2/2 2/2 2/2 -",
	"dilate_settings/sd2.1_1280x1280": "- 2.5/2.5 2.5/2.5 2.5 2.5 2.5/2.5 2.5/2.5 2.5/2.5 -",
	"dilate_settings/sd2.1_2048x1024": "- 2/2 3/3 4 4 4/4 3/3 2/2 -",
	"dilate_settings/sd2.1_2048x2048": "- - 3/4 4 4 4/4 4/4 3/3 2",
	"dilate_settings/sdxl_2048x2048":  "- - - 2 2 2/2 - - -",
	"dilate_settings/sdxl_2560x2560":  "- - - 2.5 2.5 2.5/2.5 - - -",
	"dilate_settings/sdxl_4096x2048":  "- - 3/3 4 4 4/4 3/3 2/2 -",
	"dilate_settings/sdxl_4096x4096":  "- - 4/4 4 4 4/4 3/3 2/2 -",

	"ndcfg_dilate_settings/sd1.5_2048x1024": "- - 3/3 4 4 4/4 3/3 - -",
	"ndcfg_dilate_settings/sd1.5_2048x2048": "- - 3/3 4 4 4/4 3/3 - -",
	"ndcfg_dilate_settings/sd2.1_2048x1024": "- - 3/4 4 4 4/4 4/4 3/3 -",
	"ndcfg_dilate_settings/sd2.1_2048x2048": "- - 3/4 4 4 4/4 4/4 3/3 -",
	"ndcfg_dilate_settings/sdxl_4096x2048":  "- - - 2 2 2/2 - - -",
	"ndcfg_dilate_settings/sdxl_4096x4096":  "- - - 2 2 2/2 - - -",

	"disperse_settings/sd1.5_2048x2048": "- - -/y y y y/y y/y - -",
	"disperse_settings/sd2.1_2048x2048": "- - -/y y y y/y y/y - -",
	"disperse_settings/sdxl_4096x4096":  "- - y/y - y y/y - - -",
}

// upstreamConfigs is the same section's table of configs: latent height and
// width, dilate_tau, ndcfg_tau, progressive, whether V is named, whether
// dispersion is.
var upstreamConfigs = []struct {
	name                string
	h, w, dilate, ndcfg int
	progressive, v, r   bool
}{
	{"sd1.5_1024x1024", 128, 128, 30, 0, false, false, false},
	{"sd1.5_1280x1280", 160, 160, 35, 0, false, false, false},
	{"sd1.5_2048x1024", 128, 256, 35, 35, true, true, false},
	{"sd1.5_2048x2048", 256, 256, 35, 35, true, true, false},
	{"sd1.5_2048x2048_disperse", 256, 256, 35, 35, true, true, true},
	{"sd2.1_1024x1024", 128, 128, 20, 0, false, false, false},
	{"sd2.1_1280x1280", 160, 160, 30, 0, false, false, false},
	{"sd2.1_2048x1024", 128, 256, 37, 0, true, true, false},
	{"sd2.1_2048x2048", 256, 256, 37, 37, true, true, false},
	{"sd2.1_2048x2048_disperse", 256, 256, 37, 37, true, true, true},
	{"sdxl_2048x2048", 256, 256, 30, 0, false, false, false},
	{"sdxl_2560x2560", 320, 320, 30, 0, false, false, false},
	{"sdxl_4096x2048", 256, 512, 35, 35, true, true, false},
	{"sdxl_4096x4096", 512, 512, 35, 35, true, true, false},
	{"sdxl_4096x4096_disperse", 512, 512, 35, 35, true, true, true},
}

// upstreamTree builds the part of upstream's tree that import reads, in the
// order of lines and keys that its files have.
func upstreamTree() fstest.MapFS {
	tree := fstest.MapFS{}
	add := func(name, text string) { tree[name] = &fstest.MapFile{Data: []byte(text)} }
	for name, row := range upstreamLists {
		cells := strings.Fields(row)
		var b strings.Builder
		entry := func(layer, factor string) {
			switch factor {
			case "-", "":
			case "y":
				fmt.Fprintf(&b, "%s\n", layer)
			default:
				fmt.Fprintf(&b, "%s:%s\n", layer, factor)
			}
		}
		block := func(name string, resnets int, sampler, cell string) {
			own, other, _ := strings.Cut(cell, "/")
			for j := range resnets {
				for k := range 2 {
					entry(fmt.Sprintf("%s.resnets.%d.conv%d", name, j, k+1), own)
				}
			}
			entry(name+"."+sampler+".0.conv", other)
		}
		for i := range 4 {
			block(fmt.Sprintf("down_blocks.%d", i), 2, "downsamplers", cells[i])
		}
		for i := range 4 {
			block(fmt.Sprintf("up_blocks.%d", i), 3, "upsamplers", cells[5+i])
		}
		block("mid_block", 2, "", cells[4])
		add("assets/"+name+".txt", b.String())
	}
	for _, c := range upstreamConfigs {
		plain := strings.TrimSuffix(c.name, "_disperse")
		path := func(named bool, format string) string {
			if !named {
				return "~"
			}
			return fmt.Sprintf(format, plain)
		}
		var b strings.Builder
		fmt.Fprintf(&b, "ndcfg_tau: %d\ndilate_tau: %d\ninflate_tau: 0\n", c.ndcfg, c.dilate)
		xl := strings.HasPrefix(c.name, "sdxl")
		if xl {
			b.WriteString("sdedit_tau: 0\n")
		}
		fmt.Fprintf(&b, "dilate_settings: %s\nndcfg_dilate_settings: %s\ndisperse_settings: %s\n",
			path(true, "./assets/dilate_settings/%s.txt"), path(c.v, "./assets/ndcfg_dilate_settings/%s.txt"), path(c.r, "./assets/disperse_settings/%s.txt"))
		if c.r {
			b.WriteString("disperse_transform: ./transforms/R20to1_new.mat\n")
		} else {
			b.WriteString("disperse_transform: ~\n")
		}
		fmt.Fprintf(&b, "progressive: %v\nnum_inference_steps: 50\ninference_batch_size: 4\nnum_iters_per_prompt: 1\nlatent_height: %d\nlatent_width: %d", c.progressive, c.h, c.w)
		if xl {
			fmt.Fprintf(&b, "\npixel_height: %d\npixel_width: %d\n", 8*c.h, 8*c.w)
		}
		add("configs/"+c.name+".yaml", b.String())
	}
	add("configs/sdxl_vanilla.yaml", "ndcfg_tau: 0\ndilate_tau: 0\ninflate_tau: 0\nsdedit_tau: 0\ndilate_settings: ~\ninflate_settings: ~\n"+
		"ndcfg_dilate_settings: ~\ninflate_transform: ~\nprogressive: false\nnum_inference_steps: 50\ninference_batch_size: 1\n"+
		"num_iters_per_prompt: 1\nlatent_height: 256\nlatent_width: 256\npixel_height: 2048\npixel_width: 2048")
	return tree
}

func newImporter(tree fs.FS) *importer {
	return &importer{tree: tree, lists: map[string]*layerList{}}
}

func rendered(im *importer, rs []remark) []string {
	var out []string
	for _, r := range rs {
		out = append(out, im.render(r))
	}
	return out
}

// Every setting of upstream's tree that does nothing is found where it stands,
// and nothing else is.
//
// The dead lines are 29 in 7 files, on upstream's own tree as on the one built
// here: 4 in each of sdxl_2048x2048, sdxl_2560x2560 and the two V lists (all of
// down_blocks.3), 6 in each of the two larger D lists (these, and a sampler of
// the innermost encoder and of the outermost decoder block), 1 in the disperse
// list (that down-sampler).
func TestImportFindsWhatDoesNothing(t *testing.T) {
	dead := map[string][]int{
		"assets/dilate_settings/sdxl_2048x2048.txt":       {1, 2, 3, 4},
		"assets/dilate_settings/sdxl_2560x2560.txt":       {1, 2, 3, 4},
		"assets/dilate_settings/sdxl_4096x2048.txt":       {5, 6, 7, 8, 9, 30},
		"assets/dilate_settings/sdxl_4096x4096.txt":       {5, 6, 7, 8, 9, 30},
		"assets/disperse_settings/sdxl_4096x4096.txt":     {5},
		"assets/ndcfg_dilate_settings/sdxl_4096x2048.txt": {1, 2, 3, 4},
		"assets/ndcfg_dilate_settings/sdxl_4096x4096.txt": {1, 2, 3, 4},
	}
	nearest := map[string]string{
		"down_blocks.3.resnets.0.conv1": "down_blocks.2.resnets.0.conv1", "down_blocks.3.resnets.0.conv2": "down_blocks.2.resnets.0.conv2",
		"down_blocks.3.resnets.1.conv1": "down_blocks.2.resnets.1.conv1", "down_blocks.3.resnets.1.conv2": "down_blocks.2.resnets.1.conv2",
		"down_blocks.2.downsamplers.0.conv": "down_blocks.1.downsamplers.0.conv", "up_blocks.2.upsamplers.0.conv": "up_blocks.1.upsamplers.0.conv",
	}
	tree := upstreamTree()
	var want []string
	for _, file := range slices.Sorted(maps.Keys(dead)) {
		lines := strings.Split(string(tree[file].Data), "\n")
		for _, n := range dead[file] {
			name, _, _ := strings.Cut(lines[n-1], ":")
			want = append(want, fmt.Sprintf("%s:%d: dead line: sdxl has no %s; the nearest layer is %s", file, n, name, nearest[name]))
		}
	}
	if len(want) != 29 {
		t.Fatalf("the test lists %d dead lines", len(want))
	}
	want = append(want,
		"configs/sd1.5_2048x1024.yaml: 2048x1024 in its name is width x height: the schedule says height 1024, width 2048",
		"configs/sd1.5_2048x2048_disperse.yaml:3: dispersion never active: inflate_tau is 0, so the kernels of 23 layers in assets/disperse_settings/sd1.5_2048x2048.txt are never enlarged",
		"configs/sd2.1_2048x1024.yaml: 2048x1024 in its name is width x height: the schedule says height 1024, width 2048",
		"configs/sd2.1_2048x1024.yaml:5: V list never used: ndcfg_tau is 0, so assets/ndcfg_dilate_settings/sd2.1_2048x1024.txt with its 34 layers is read and forgotten",
		"configs/sd2.1_2048x2048_disperse.yaml:3: dispersion never active: inflate_tau is 0, so the kernels of 23 layers in assets/disperse_settings/sd2.1_2048x2048.txt are never enlarged",
		"configs/sdxl_4096x2048.yaml: 4096x2048 in its name is width x height: the schedule says height 2048, width 4096",
		"configs/sdxl_4096x4096_disperse.yaml:3: dispersion never active: inflate_tau is 0, so the kernels of 15 layers in assets/disperse_settings/sdxl_4096x4096.txt are never enlarged",
		"configs/sdxl_4096x4096_disperse.yaml:7: dispersion not shared: assets/disperse_settings/sdxl_4096x4096.txt disperses 4 layers (down_blocks.2.*) that V (assets/ndcfg_dilate_settings/sdxl_4096x4096.txt) does not dilate, which fails once inflate_tau is above 0",
		"configs/sdxl_vanilla.yaml: plain sampling: kind = \"direct\" does this, so no schedule is written",
		"configs/sdxl_vanilla.yaml:6: legacy key inflate_settings: text2image.py and text2image_xl.py read disperse_settings in its place and ignore this one",
		"configs/sdxl_vanilla.yaml:8: legacy key inflate_transform: text2image.py and text2image_xl.py read disperse_transform in its place and ignore this one",
	)
	im := newImporter(tree)
	schedules := im.run("")
	if len(im.problems) > 0 {
		t.Fatalf("problems: %v", rendered(im, im.problems))
	}
	got := rendered(im, im.findings)
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("unexpected: %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	if !t.Failed() && !slices.Equal(got, want) {
		t.Errorf("order:\n%s", strings.Join(got, "\n"))
	}
	const summary = "16 configs, 15 schedules, 36 findings, 4 notes: 29 dead lines in 7 files; 3 dispersion configurations never active; " +
		"1 V list never used; 1 dispersion that a network does not share; 2 legacy keys"
	if s := im.summary(len(schedules)); s != summary {
		t.Errorf("summary\n%s\nwant\n%s", s, summary)
	}
}

// shipped is where the repository keeps the published schedules.
var shipped = filepath.Join("..", "configs", "schedules")

// The schedules in the repository are what import makes of the published
// settings, byte for byte, and no others are there.
func TestShippedSchedulesAreImported(t *testing.T) {
	im := newImporter(upstreamTree())
	want := map[string]string{}
	for _, s := range im.run("") {
		want[s.name+".toml"] = s.toml()
	}
	if len(want) != 15 {
		t.Errorf("%d schedules, want 15", len(want))
	}
	entries, err := os.ReadDir(shipped)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got, err := os.ReadFile(filepath.Join(shipped, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		text, ok := want[e.Name()]
		if !ok {
			t.Errorf("%s is no published setting", e.Name())
		} else if text != string(got) {
			t.Errorf("%s differs; import now writes\n%s", e.Name(), text)
		}
		delete(want, e.Name())
	}
	for name := range want {
		t.Errorf("%s is missing: go run . import -from ScaleCrafter -o configs/schedules", name)
	}
}

// expand applies globs as a schedule does; a layer matched twice is an error.
func expand(t testing.TB, arch ablation.Architecture, gs []ablation.LayerFactor) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, g := range gs {
		matched := false
		for _, c := range arch.Convs {
			if ablation.Match(g.Glob, c.Path) {
				if _, twice := out[c.Path]; twice {
					t.Errorf("%s is matched twice, by %s too", c.Path, g.Glob)
				}
				out[c.Path] = g.Factor.H
				matched = true
			}
		}
		if !matched {
			t.Errorf("%s matches no layer", g.Glob)
		}
		if g.Factor.H != g.Factor.W {
			t.Errorf("%s has factor %v, want one number", g.Glob, g.Factor)
		}
	}
	return out
}

// Written globs stand for exactly the live lines of the published lists, whose
// counts methods.md 1.3 and 1.11 give.
func TestGlobsOfPublishedLists(t *testing.T) {
	live := map[string]int{"sd1.5_1024x1024": 39, "sd2.1_2048x2048": 40, "sdxl_2048x2048": 11, "sdxl_2560x2560": 11, "sdxl_4096x4096": 28}
	im := newImporter(upstreamTree())
	for _, s := range im.run("") {
		if got, want := expand(t, s.arch, s.main), s.dilate.live(); !maps.Equal(got, want) {
			t.Errorf("%s: D is\n%v\nwant\n%v", s.name, got, want)
		} else if n, ok := live[s.name]; ok && len(got) != n {
			t.Errorf("%s dilates %d layers, want %d", s.name, len(got), n)
		}
		if got, want := expand(t, s.arch, s.damped), s.ndcfg.live(); !maps.Equal(got, want) {
			t.Errorf("%s: V is\n%v\nwant\n%v", s.name, got, want)
		}
		var r []ablation.LayerFactor
		for _, g := range s.dispersed {
			r = append(r, ablation.LayerFactor{Glob: g, Factor: ablation.Factor{H: 1, W: 1}})
		}
		if got, want := expand(t, s.arch, r), s.disperse.live(); !maps.Equal(got, want) {
			t.Errorf("%s: dispersed are\n%v\nwant\n%v", s.name, got, want)
		}
	}
}

func publishedArch(t testing.TB, name string) ablation.Architecture {
	t.Helper()
	c, err := model.PublishedUNet(name)
	if err != nil {
		t.Fatal(err)
	}
	return c.Layers()
}

// Whatever a list says, its globs stand for exactly its live lines, the last
// line of a layer counting, and its dead ones are all found.
func TestGlobsOfAnyList(t *testing.T) {
	archs := map[string]ablation.Architecture{}
	for _, name := range model.Published {
		archs[name] = publishedArch(t, name)
	}
	sd := archs["sd1.5"] // its names, in every model's lists
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom(model.Published).Draw(rt, "model")
		factors := []float64{1, 2, 2.5, 3, 4}
		var b strings.Builder
		want, dead := map[string]float64{}, 0
		line := func(layer string, f float64) {
			fmt.Fprintf(&b, "%s:%g\n", layer, f)
			if slices.ContainsFunc(archs[name].Convs, func(c ablation.ConvLayer) bool { return c.Path == layer }) {
				want[layer] = f
			} else {
				dead++
			}
		}
		switch rapid.IntRange(0, 2).Draw(rt, "kind") {
		case 0: // blocks of one factor, with gaps
			block, f := "", 0.0
			for _, c := range sd.Convs {
				if b, _, _ := strings.Cut(c.Path, ".resnets"); b != block && !strings.Contains(c.Path, "samplers") {
					block, f = b, rapid.SampledFrom(factors).Draw(rt, "block")
				}
				if rapid.IntRange(0, 19).Draw(rt, "gap") > 0 {
					line(c.Path, f)
				}
			}
		case 1: // any layers, perhaps twice
			for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(sd.Convs)-1), 0, 60).Draw(rt, "layers") {
				line(sd.Convs[i].Path, rapid.SampledFrom(factors).Draw(rt, "factor"))
			}
		case 2: // all
			for _, c := range sd.Convs {
				line(c.Path, rapid.SampledFrom(factors).Draw(rt, "factor"))
			}
		}
		im := newImporter(nil)
		l := im.parseList("list.txt", []byte(b.String()), true, name, archs[name])
		if len(im.problems) > 0 {
			rt.Fatalf("problems: %v", im.problems)
		}
		found := 0
		for _, f := range im.findings {
			if f.kind == deadLine {
				found++
			}
		}
		gs := globs(archs[name], l.live())
		if got := expand(t, archs[name], gs); t.Failed() || !maps.Equal(got, want) || found != dead {
			rt.Fatalf("%s\n%v\nstand for\n%v\nand %d dead lines, want\n%v\nand %d", b.String(), gs, got, found, want, dead)
		}
		if len(gs) > len(want) {
			rt.Fatalf("%d globs for %d layers", len(gs), len(want))
		}
	})
}

// A block is one glob where it is uniform, its resnets or samplers where they
// are, and layers by name elsewhere.
func TestGlobsAreFew(t *testing.T) {
	arch := publishedArch(t, "sdxl")
	factors := map[string]float64{}
	for _, c := range arch.Convs {
		switch {
		case strings.HasPrefix(c.Path, "mid_block."):
			factors[c.Path] = 4
		case strings.HasPrefix(c.Path, "down_blocks.1."):
			factors[c.Path] = 2
			if strings.Contains(c.Path, "samplers") {
				factors[c.Path] = 3
			}
		case strings.HasPrefix(c.Path, "down_blocks.2."):
			factors[c.Path] = 3
		}
	}
	factors["up_blocks.0.resnets.2.conv1"] = 2.5
	var got []string
	for _, g := range globs(arch, factors) {
		got = append(got, g.Glob+"="+g.Factor.String())
	}
	want := []string{"down_blocks.1.resnets.*=2", "down_blocks.1.downsamplers.*=3", "down_blocks.2.*=3", "mid_block.*=4", "up_blocks.0.resnets.2.conv1=2.5"}
	if !slices.Equal(got, want) {
		t.Errorf("globs %v, want %v", got, want)
	}
}

// small is a tree of one config of SD 1.5 with its lists, to be spoilt.
func small() fstest.MapFS {
	all := upstreamTree()
	tree := fstest.MapFS{}
	for _, name := range []string{"configs/sd1.5_2048x2048_disperse.yaml", "assets/dilate_settings/sd1.5_2048x2048.txt",
		"assets/ndcfg_dilate_settings/sd1.5_2048x2048.txt", "assets/disperse_settings/sd1.5_2048x2048.txt"} {
		tree[name] = all[name]
	}
	return tree
}

const (
	smallConfig = "configs/sd1.5_2048x2048_disperse.yaml"
	smallD      = "assets/dilate_settings/sd1.5_2048x2048.txt"
	smallV      = "assets/ndcfg_dilate_settings/sd1.5_2048x2048.txt"
	smallR      = "assets/disperse_settings/sd1.5_2048x2048.txt"
)

// replaced puts text in the place of old in a file of the tree.
func replaced(t *testing.T, tree fstest.MapFS, file, old, text string) {
	t.Helper()
	data := string(tree[file].Data)
	if strings.Count(data, old) != 1 {
		t.Fatalf("%s has %q %d times", file, old, strings.Count(data, old))
	}
	tree[file] = &fstest.MapFile{Data: []byte(strings.Replace(data, old, text, 1))}
}

// Input that cannot be read is an error with its place, and all of them are
// said at once.
func TestImportRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, tree fstest.MapFS)
		want  []string
	}{
		{"no configs", func(t *testing.T, tree fstest.MapFS) { delete(tree, smallConfig) },
			[]string{"configs: has no *.yaml: -from wants the root of ScaleCrafter's source tree, or one .yaml file"}},
		{"truncated yaml", func(t *testing.T, tree fstest.MapFS) {
			tree[smallConfig] = &fstest.MapFile{Data: []byte("ndcfg_tau: 35\ndilate_settings: \"./assets")}
		}, []string{smallConfig + ":2: no YAML: found unexpected end of stream"}},
		{"empty yaml", func(t *testing.T, tree fstest.MapFS) { tree[smallConfig] = &fstest.MapFile{} },
			[]string{smallConfig + ": no YAML: "}},
		{"yaml list", func(t *testing.T, tree fstest.MapFS) { tree[smallConfig] = &fstest.MapFile{Data: []byte("- 1\n- 2\n")} },
			[]string{smallConfig + ":1: want lines of key: value"}},
		{"wrong types", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "dilate_tau: 35\ninflate_tau: 0", "dilate_tau: many\ninflate_tau: 0.5")
			replaced(t, tree, smallConfig, "progressive: true", "progressive: [true]")
			replaced(t, tree, smallConfig, "latent_height: 256", "latent_height: -256")
			replaced(t, tree, smallConfig, "./transforms/R20to1_new.mat", "12")
		}, []string{
			smallConfig + ":2: dilate_tau is many, want a whole number from 0 to 50",
			smallConfig + ":3: inflate_tau is 0.5, want a whole number from 0 to 50",
			smallConfig + ":7: disperse_transform is 12, want a path",
			smallConfig + ":8: progressive is no plain value, want true or false",
			smallConfig + ":12: latent_height is -256, want a whole number from 1 to 1024",
		}},
		{"key twice", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "progressive: true", "progressive: true\ndilate_tau: 30")
		}, []string{smallConfig + ":9: dilate_tau is given twice, first on line 2: keep one"}},
		{"key missing", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "inflate_tau: 0\n", "")
			replaced(t, tree, smallConfig, "num_inference_steps: 50", "num_inference_steps: ~")
		}, []string{
			smallConfig + ": inflate_tau is missing, want a whole number from 0 to 1000",
			smallConfig + ":8: num_inference_steps is missing, want a whole number from 1 to 1000",
		}},
		{"tau beyond the steps", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "\ndilate_tau: 35", "\ndilate_tau: 51")
		}, []string{smallConfig + ":2: dilate_tau is 51, want a whole number from 0 to 50"}},
		{"missing lists", func(t *testing.T, tree fstest.MapFS) {
			delete(tree, smallD)
			delete(tree, smallR)
		}, []string{
			smallConfig + ":4: dilate_settings: " + smallD + ": file does not exist",
			smallConfig + ":6: disperse_settings: " + smallR + ": file does not exist",
		}},
		{"a path out of the tree", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "./assets/dilate_settings/sd1.5_2048x2048.txt", "../../etc/passwd")
		}, []string{smallConfig + ":4: dilate_settings is ../../etc/passwd, want a path below the tree's root"}},
		{"malformed lines", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallD, "down_blocks.1.resnets.0.conv1:2\n", "down_blocks.1.resnets.0.conv1:nan\n")
			replaced(t, tree, smallD, "down_blocks.1.resnets.0.conv2:2\n", "down_blocks.1.resnets.0.conv2:-2\n")
			replaced(t, tree, smallD, "down_blocks.1.resnets.1.conv1:2\n", "down_blocks.1.resnets.1.conv1 2\n")
			replaced(t, tree, smallD, "down_blocks.1.resnets.1.conv2:2\n", "down_blocks.1.resnets.1.conv2:2:3\n")
			replaced(t, tree, smallD, "down_blocks.1.downsamplers.0.conv:2\n", "down_blocks.1.downsamplers.0.conv:1e999\n")
			replaced(t, tree, smallV, "down_blocks.2.resnets.0.conv1:3\n", "conv_in:3\n")
			replaced(t, tree, smallR, "mid_block.resnets.0.conv1\n", "mid block\x00\n")
		}, []string{
			smallD + ":1: factor nan of down_blocks.1.resnets.0.conv1: want a number from 1 to 16",
			smallD + ":2: factor -2 of down_blocks.1.resnets.0.conv2: want a number from 1 to 16",
			smallD + ":3: down_blocks.1.resnets.1.conv1 2 is malformed, want layer.name:factor",
			smallD + ":4: down_blocks.1.resnets.1.conv2:2:3 is malformed, want layer.name:factor",
			smallD + ":5: factor 1e999 of down_blocks.1.downsamplers.0.conv: want a number from 1 to 16",
			smallR + `:20: "mid block\x00" is malformed, want layer.name`,
			smallV + ":1: conv_in is a convolution that no schedule may change: only 3x3 ones of resnets and samplers",
		}},
		{"a transform of nobody, not there", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "R20to1_new.mat", "mine.mat")
		}, []string{smallConfig + ":7: disperse_transform: transforms/mine.mat: file does not exist"}},
		{"a transform of noise", func(t *testing.T, tree fstest.MapFS) {
			tree["transforms/R20to1_new.mat"] = &fstest.MapFile{Data: []byte("MATLAB 5.0")}
		}, []string{smallConfig + ":7: disperse_transform: transforms/R20to1_new.mat: is 10 bytes long, "}},
		{"a name for no schedule", func(t *testing.T, tree fstest.MapFS) {
			tree["configs/sd1.5 Mine.yaml"] = tree[smallConfig]
			delete(tree, smallConfig)
		}, []string{"configs/sd1.5 Mine.yaml: the schedule's name would be sd1.5 Mine, want up to 64 lower-case letters, digits, ., _ and - other than derived: rename the file"}},
		{"no model in the name", func(t *testing.T, tree fstest.MapFS) {
			tree["configs/mine.yaml"] = tree[smallConfig]
			delete(tree, smallConfig)
		}, []string{"configs/mine.yaml: its name does not tell the model (sd1.5, sd2.1, sdxl): say it with -model"}},
		{"two of a name", func(t *testing.T, tree fstest.MapFS) {
			tree[strings.Replace(smallConfig, "yaml", "yml", 1)] = tree[smallConfig]
		}, []string{strings.Replace(smallConfig, "yaml", "yml", 1) + ": would be written to sd1.5_2048x2048_disperse.toml, as " + smallConfig + ": keep one of them"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := small()
			tt.spoil(t, tree)
			im := newImporter(tree)
			im.run("")
			got := rendered(im, im.problems)
			ok := len(got) == len(tt.want)
			for i := 0; ok && i < len(got); i++ {
				ok = strings.HasPrefix(got[i], tt.want[i])
			}
			if !ok {
				t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// What upstream tolerates or ignores in silence is a finding.
func TestImportFindings(t *testing.T) {
	idle := smallConfig + ":3: dispersion never active: inflate_tau is 0, so the kernels of 23 layers in " + smallR + " are never enlarged"
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, tree fstest.MapFS)
		want  []string
		toml  string // in the schedule; "-": there is none
	}{
		{"as it is", func(t *testing.T, tree fstest.MapFS) {}, []string{idle}, "kernel = 5\nscale = 2\ninput = 3\neta = 0.05\n"},
		{"blank lines and a layer twice", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallD, "down_blocks.1.resnets.0.conv2:2\n", "\r\ndown_blocks.1.resnets.0.conv2:2\r\n \n")
			replaced(t, tree, smallD, "mid_block.resnets.1.conv2:4\n", "mid_block.resnets.1.conv2:4\nmid_block.resnets.1.conv2:3")
		}, []string{
			smallD + ":2: blank line: skipped here, but upstream's reader stops with an error",
			smallD + ":4: blank line: skipped here, but upstream's reader stops with an error",
			smallD + ":42: mid_block.resnets.1.conv2 is listed twice, first on line 41: the last one counts",
			idle,
		}, "\"mid_block.resnets.1.conv2\" = 3\n"},
		{"unknown keys", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "progressive: true", "progressive: true\ndilate_taus: 3\nwidth: 3\n")
		}, []string{
			idle,
			smallConfig + `:10: unknown key "width": no script reads it`,
			smallConfig + `:9: unknown key "dilate_taus": no script reads it; did you mean dilate_tau?`,
		}, "tau = 35\ndecay = \"progressive\"\n"},
		{"active dispersion, later than D", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "inflate_tau: 0", "inflate_tau: 36")
		}, []string{smallConfig + ":3: dispersion not shared: inflate_tau is 36, but D is dilated for 35 steps only (dilate_tau), and upstream fails from then on"}, "[dispersion]\ntau = 36\n"},
		{"an older transform", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "inflate_tau: 0", "inflate_tau: 35")
			replaced(t, tree, smallConfig, "R20to1_new.mat", "R2to1.mat")
		}, nil, "# transforms/R2to1.mat\ntransform = \"R2to1\"\n"},
		{"a transform of another name", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "R20to1_new.mat", "mine.mat")
			tree["transforms/mine.mat"] = &fstest.MapFile{Data: matOf(t, ablation.KnownDispersions[0].DispersionSpec, 0)}
		}, []string{idle}, "# transforms/mine.mat\nkernel = 5\nscale = 2\ninput = 3\neta = 0.05\n"},
		{"a transform of another's name", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "R20to1_new.mat", "R2to1.mat")
			tree["transforms/R2to1.mat"] = &fstest.MapFile{Data: matOf(t, ablation.KnownDispersions[0].DispersionSpec, 0)}
		}, []string{idle, smallConfig + ":7: transforms/R2to1.mat is not the published transform of its name: numbers differ by up to 1.11"},
			"# transforms/R2to1.mat\nkernel = 5\n"},
		{"a transform of nobody", func(t *testing.T, tree fstest.MapFS) {
			tree["transforms/R20to1_new.mat"] = &fstest.MapFile{Data: matOf(t, ablation.KnownDispersions[0].DispersionSpec, 0.25)}
		}, []string{idle, smallConfig + ":7: transforms/R20to1_new.mat is not the published transform of its name: numbers differ by up to 0.25"},
			"transform = \"transforms/R20to1_new.mat\"\n"},
		{"a list without a transform", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "./transforms/R20to1_new.mat", "~")
		}, []string{smallConfig + ":6: dispersion never active: " + smallR + " is named, but no disperse_transform"}, "[damped]"},
		{"a list of two models", func(t *testing.T, tree fstest.MapFS) {
			tree["configs/sd2.1.yaml"] = tree[smallConfig]
			replaced(t, tree, smallV, "mid_block.resnets.1.conv2:4\n", "mid_block.resnets.1.conv2:4\n\nmid:1")
		}, []string{
			smallV + ":28: blank line: skipped here, but upstream's reader stops with an error",
			smallV + ":29: dead line: sd1.5 has no mid; the nearest layer is mid_block.resnets.0.conv1",
			smallV + ":29: dead line: sd2.1 has no mid; the nearest layer is mid_block.resnets.0.conv1",
			"configs/sd2.1.yaml" + idle[len(smallConfig):], idle,
		}, "[damped]"},
		{"V as trained", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "./assets/ndcfg_dilate_settings/sd1.5_2048x2048.txt", "~")
			replaced(t, tree, smallConfig, "disperse_settings: ./assets/disperse_settings/sd1.5_2048x2048.txt\ndisperse_transform: ./transforms/R20to1_new.mat", "")
		}, nil, "[damped]\ntau = 35\n\n[damped.dilation]\n\"*\" = 1\n"},
		{"sizes", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "latent_width: 256", "latent_width: 128\npixel_width: 2048")
		}, []string{
			idle,
			smallConfig + ":12: the name says 2048 px wide and 2048 high, but the latent makes 1024 x 2048: the schedule says height 2048, width 1024",
			smallConfig + ":14: pixel_width is 2048, but the latent makes 1024 px: the schedule says 1024",
		}, "height = 2048\nwidth = 1024\n"},
		{"sdedit", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "inflate_tau: 0", "inflate_tau: 0\nsdedit_tau: 6")
		}, []string{idle, smallConfig + ":4: sdedit_tau is 6, which is no part of a schedule: give the method sdedit = { tau = 6 }"}, "tau = 35"},
		{"progressive twos", func(t *testing.T, tree fstest.MapFS) {
			for _, f := range []string{smallD, smallV} {
				text := strings.NewReplacer(":3\n", ":2\n", ":4\n", ":2\n").Replace(string(tree[f].Data))
				tree[f] = &fstest.MapFile{Data: []byte(text)}
			}
		}, []string{idle, smallConfig + ":8: progressive without effect: factors shrink to 2 at the least, and every one is 2"}, "decay = \"constant\""},
		{"progressive raises 1 to 2", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallD, "down_blocks.1.downsamplers.0.conv:2\n", "down_blocks.1.downsamplers.0.conv:1\n")
		}, []string{idle}, "\"down_blocks.1.*\" = 2\n"},
		{"D never", func(t *testing.T, tree fstest.MapFS) {
			replaced(t, tree, smallConfig, "\ndilate_tau: 35", "\ndilate_tau: 0")
		}, []string{
			smallConfig + ":2: re-dilation never active: dilate_tau is 0, so no schedule is written; upstream's script, being progressive, divides by it",
			idle,
		}, "-"},
		{"D of dead lines", func(t *testing.T, tree fstest.MapFS) {
			tree[smallD] = &fstest.MapFile{Data: []byte("down_block.1.resnets.0.conv1:2\nup_blocks.7.resnets.0.conv1:2\nmiddle:2")}
		}, []string{
			smallD + ":1: dead line: sd1.5 has no down_block.1.resnets.0.conv1; the nearest layer is down_blocks.1.resnets.0.conv1",
			smallD + ":2: dead line: sd1.5 has no up_blocks.7.resnets.0.conv1; the nearest layer is up_blocks.3.resnets.0.conv1",
			smallD + ":3: dead line: sd1.5 has no middle; the nearest layer is mid_block.resnets.0.conv1",
			smallConfig + ":2: re-dilation never active: dilate_settings names no layer of sd1.5 with a factor above 1, so no schedule is written",
			idle,
			smallConfig + ":6: dispersion not shared: " + smallR + " disperses 23 layers (down_blocks.2.downsamplers.*, down_blocks.3.*, mid_block.*, up_blocks.0.*, up_blocks.1.*) that D (" + smallD + ") does not dilate, which fails once inflate_tau is above 0",
		}, "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := small()
			tt.spoil(t, tree)
			im := newImporter(tree)
			schedules := im.run("")
			if len(im.problems) > 0 {
				t.Fatalf("problems: %v", rendered(im, im.problems))
			}
			got := rendered(im, im.findings)
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("findings\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			text := "-"
			if len(schedules) > 0 {
				text = schedules[0].toml()
			}
			if !strings.Contains(text, tt.toml) || text == "-" != (tt.toml == "-") {
				t.Errorf("the schedule lacks %q:\n%s", tt.toml, text)
			}
		})
	}
}

// matOf is a MATLAB file of level 5 with the matrix R of a setting, its first
// number moved.
func matOf(t *testing.T, spec ablation.DispersionSpec, moved float64) []byte {
	t.Helper()
	fit, err := spec.Solve()
	if err != nil {
		t.Fatal(err)
	}
	rows, cols := spec.Large*spec.Large, spec.Small*spec.Small
	var b []byte
	put := func(vs ...uint32) {
		for _, v := range vs {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
	}
	b = append(b, "MATLAB 5.0 MAT-file"...)
	b = append(b, bytes.Repeat([]byte{' '}, 124-len(b))...)
	b = append(b, 0, 1, 'I', 'M')
	const matrix, words, ints, chars, doubles, double = 14, 6, 5, 1, 9, 6
	put(matrix, uint32(16+16+16+8+8*rows*cols))
	put(words, 8, double, 0)
	put(ints, 8, uint32(rows), uint32(cols))
	put(chars, 1, 'R', 0)
	put(doubles, uint32(8*rows*cols))
	for j := range cols { // column-major
		for i := range rows {
			v := fit.Transform.R[i*cols+j]
			if i == 0 && j == 0 {
				v += moved
			}
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	return b
}

// published is an experiment that runs one method at a schedule's own size and
// step count.
func published(s *configs.Schedule, method string) string {
	return fmt.Sprintf(`name = "x"
[sample]
count = 2
steps = 50
height = %d
width = %d
guidance_scale = 7.5
[[method]]
name = "direct"
kind = "direct"
baseline = true
[[method]]
name = "m"
kind = "redilation"
schedule = %q
%s`, s.Height, s.Width, s.Name, method)
}

// upstreamFactor is text2image.py's factor of a layer at an active step.
func upstreamFactor(p float64, progressive bool, step, tau int) float64 {
	if progressive {
		return math.Max(math.Ceil(p*(float64(tau-step)/float64(tau))), 2)
	}
	return p
}

// Every shipped schedule decodes, and its plan has, at every step, the factors
// that upstream's loop computes from the published lists. Those that by design
// never take effect are refused, at the key at fault, until told otherwise.
func TestShippedSchedulesPlan(t *testing.T) {
	im := newImporter(upstreamTree())
	for _, want := range im.run("") {
		t.Run(want.name, func(t *testing.T) {
			file := filepath.Join(shipped, want.name+".toml")
			s, err := configs.LoadSchedule(file)
			if err != nil {
				t.Fatal(err)
			}
			if s.Model != want.model || s.Height != 8*want.latentHeight || s.Width != 8*want.latentWidth || s.Steps != 50 || s.Redilation.Tau != want.dilateTau {
				t.Errorf("it reads as %s, %dx%d, tau %d of %d", s.Model, s.Height, s.Width, s.Redilation.Tau, s.Steps)
			}
			unet, err := model.PublishedUNet(want.model)
			if err != nil {
				t.Fatal(err)
			}
			arch, side := unet.Layers(), 8*unet.SampleSize
			cells := func(method string) ([]ablation.Cell, error) {
				c, err := configs.DecodeFS(published(s, method), "x.toml", nil, os.DirFS(shipped))
				if err != nil {
					return nil, err
				}
				return c.Cells(arch, ablation.Size{H: side, W: side}, ablation.Identity{})
			}
			refused := func(method string, parts ...string) {
				t.Helper()
				_, err := cells(method)
				for _, p := range parts {
					if err == nil || !strings.Contains(err.Error(), p) {
						t.Errorf("with %q: %v, want an error with %q", method, err, p)
					}
				}
			}
			method := ""
			if want.ndcfg != nil && want.ndcfgTau == 0 {
				refused(method, want.name+".toml:", "damped.tau: is 0 of 50 steps", "never takes effect")
				method = "damped = false\n"
			}
			if want.disperse != nil {
				refused(method, want.name+".toml:", "dispersion.tau: is 0 of 50 steps", "never takes effect")
				method = "dispersion = false\n"
			}
			got, err := cells(method)
			if err != nil {
				t.Fatalf("with %q: %v", method, err)
			}
			d, v := want.dilate.live(), want.ndcfg.live()
			check := func(plan *ablation.LayerPlan, tau, step int, listed map[string]float64) {
				t.Helper()
				factors := map[string]ablation.Factor{}
				for layer, p := range listed {
					if f := upstreamFactor(p, want.progressive, step, tau); step < tau {
						factors[layer] = ablation.Factor{H: f, W: f}
					}
				}
				if !maps.Equal(plan.Dilation, factors) && len(plan.Dilation)+len(factors) > 0 {
					t.Errorf("step %d dilates %v, want %v", step, plan.Dilation, factors)
				}
			}
			for step, p := range got[1].Plan {
				check(p.Main, want.dilateTau, step, d)
				if (p.Damped != nil) != (step < want.ndcfgTau) {
					t.Errorf("step %d: damped is %v", step, p.Damped)
				} else if p.Damped != nil {
					check(p.Damped, want.ndcfgTau, step, v)
				}
			}
			if want.disperse == nil {
				return
			}
			const active = "[method.dispersion]\ntau = 35\n"
			if want.model == "sdxl" {
				refused(active, "the damped network does not dilate", "down_blocks.2.resnets.0.conv1")
				return
			}
			if got, err = cells(active); err != nil {
				t.Fatal(err)
			}
			live := want.disperse.live()
			for step, p := range got[1].Plan {
				for _, plan := range []*ablation.LayerPlan{p.Main, p.Damped} {
					if plan == nil {
						continue
					}
					if n := len(plan.Dispersion); n != len(live) && step < 35 || n != 0 && step >= 35 {
						t.Errorf("step %d disperses %d layers", step, n)
					}
					for layer, tr := range plan.Dispersion {
						if _, ok := live[layer]; !ok || tr.Large != 5 || plan.Dilation[layer].H != upstreamFactor(d[layer], true, step, want.dilateTau)/2 {
							t.Errorf("step %d disperses %s to %d taps at factor %v", step, layer, tr.Large, plan.Dilation[layer])
						}
					}
				}
			}
		})
	}
}

// importCommand runs the command and returns its exit code and output.
func importCommand(args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = Import(context.Background(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestImportCommand(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "up")
	if err := os.CopyFS(tree, upstreamTree()); err != nil {
		t.Fatal(err)
	}
	contains := func(t *testing.T, text string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(text, p) {
				t.Errorf("output lacks %q:\n%s", p, text)
			}
		}
	}
	code, first, stderr := importCommand("-from", tree)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	contains(t, first, "--- sd1.5_1024x1024.toml\n", filepath.Join(tree, "assets", "dilate_settings", "sdxl_2048x2048.txt")+":1: dead line: ", "\n16 configs, 15 schedules, ")
	if code, again, _ := importCommand("-from", tree, "-strict"); code != 1 || again != first {
		t.Errorf("-strict: exit %d, want 1 with the same output", code)
	}

	out := filepath.Join(dir, "new", "schedules")
	code, stdout, stderr := importCommand("-from", tree, "-o", out)
	if code != 0 || strings.Count(stdout, ": written\n") != 15 || strings.Contains(stdout, "---") {
		t.Errorf("-o: exit %d, %s%s", code, stdout, stderr)
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 15 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	if code, stdout, _ := importCommand("-from", tree, "-o", out); code != 0 || strings.Count(stdout, ": unchanged\n") != 15 {
		t.Errorf("-o again: exit %d, %s", code, stdout)
	}
	edited := filepath.Join(out, "sdxl_2048x2048.toml")
	if err := os.WriteFile(edited, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(out, "sd1.5_1024x1024.toml"))
	code, _, stderr = importCommand("-from", tree, "-o", out)
	contains(t, stderr, edited, "-force", "nothing is written")
	if b, _ := os.ReadFile(edited); code != 1 || string(b) != "mine" {
		t.Errorf("a file that differs: exit %d, it is now %q", code, b)
	}
	if _, err := os.Stat(filepath.Join(out, "sd1.5_1024x1024.toml")); err == nil {
		t.Error("another file was written all the same")
	}
	if code, stdout, _ = importCommand("-from", tree, "-o", out, "-force"); code != 0 || strings.Count(stdout, ": written\n") != 2 {
		t.Errorf("-force: exit %d, %s", code, stdout)
	}

	one := filepath.Join(tree, "configs", "sd1.5_1280x1280.yaml")
	code, stdout, stderr = importCommand("-from", one, "-strict")
	if code != 0 || stderr != "" {
		t.Errorf("one file: exit %d, %s", code, stderr)
	}
	contains(t, stdout, "--- sd1.5_1280x1280.toml\n", "\"mid_block.*\" = 2.5\n", "\n1 config, 1 schedule, 0 findings\n")
	t.Chdir(filepath.Join(tree, "configs"))
	if code, stdout, stderr = importCommand("-from", "sd1.5_1280x1280.yaml"); code != 0 || !strings.Contains(stdout, "1 schedule") {
		t.Errorf("one file, from its folder: exit %d, %s", code, stderr)
	}
	t.Chdir(dir)
	if err := os.Rename(one, filepath.Join(tree, "configs", "mine.yaml")); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr = importCommand("-from", filepath.Join("up", "configs", "mine.yaml"), "-model", "sdxl"); code != 0 {
		t.Errorf("-model: exit %d, %s", code, stderr)
	}
	contains(t, stdout, "model = \"sdxl\"\n", "dead line: sdxl has no down_blocks.3.resnets.0.conv1")

	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "-from is missing"},
		{[]string{"-from", filepath.Join(dir, "nowhere")}, "no such file"},
		{[]string{"-from", tree, "more"}, `"more" is not understood`},
		{[]string{"-from", tree, "-model", "sd3"}, "want one of sd1.5, sd2.1, sdxl"},
		{[]string{"-from", tree}, "mine.yaml: its name does not tell the model"},
		{[]string{"-from", out}, "has no *.yaml"},
		{[]string{"-bad"}, "-bad"},
	} {
		code, stdout, stderr := importCommand(tt.args...)
		if code != 2 || !strings.Contains(stderr, tt.want) || stdout != "" {
			t.Errorf("import %v: exit %d, %q, want 2 with %q\n%s", tt.args, code, stderr, tt.want, stdout)
		}
	}
	if code, _, stderr := importCommand("-h"); code != 0 || !strings.Contains(stderr, "-from") {
		t.Errorf("-h: exit %d, %s", code, stderr)
	}
}

// Import is a function of the tree: twice the same, in the order of the files.
func TestImportIsDeterministic(t *testing.T) {
	text := func() []string {
		im := newImporter(upstreamTree())
		var out []string
		for _, s := range im.run("") {
			out = append(out, s.toml())
		}
		return append(out, rendered(im, im.findings)...)
	}
	if first := text(); !reflect.DeepEqual(first, text()) {
		t.Error("two imports of one tree differ")
	}
}

// FuzzLayerList holds the reader of layer lists to its word on any text: every
// line is a layer, a finding or an error, and factors are in range.
func FuzzLayerList(f *testing.F) {
	tree := upstreamTree()
	for _, file := range []string{smallD, smallR, "assets/dilate_settings/sdxl_4096x4096.txt"} {
		f.Add(string(tree[file].Data), file != smallR)
	}
	f.Add("\n\r\nmid_block.resnets.0.conv1:2:\n:\n:3\nx:nan\nx:1_0\nmid_block.resnets.0.conv1: 3 \xff\n", true)
	arch := publishedArch(f, "sdxl")
	f.Fuzz(func(t *testing.T, text string, factors bool) {
		im := newImporter(nil)
		l := im.parseList("list.txt", []byte(text), factors, "sdxl", arch)
		accounted := len(l.lines) + len(im.problems)
		for _, r := range im.findings {
			if r.kind == blankLine || r.kind == repeatedLayer {
				accounted++
			}
		}
		lines := 0
		for range strings.Lines(text) {
			lines++
		}
		if accounted != lines {
			t.Errorf("%d of %d lines accounted for", accounted, lines)
		}
		for _, r := range slices.Concat(im.findings, im.problems) {
			if r.line < 1 || r.line > lines {
				t.Errorf("a remark on line %d of %d", r.line, lines)
			}
			if strings.ContainsAny(im.render(r), "\n\r\x00") {
				t.Errorf("not one line: %q", im.render(r))
			}
		}
		for _, x := range l.lines {
			if math.IsNaN(x.factor) || x.factor < 1 || x.factor > maxImportFactor {
				t.Errorf("factor %v", x.factor)
			}
		}
		if got := expand(t, arch, globs(arch, l.live())); !maps.Equal(got, l.live()) {
			t.Errorf("globs stand for %v, want %v", got, l.live())
		}
	})
}

// FuzzUpstreamConfig holds the importer to its word on any yaml: an error, or
// a schedule within bounds whose text is TOML that says so.
func FuzzUpstreamConfig(f *testing.F) {
	tree := upstreamTree()
	for _, c := range upstreamConfigs {
		f.Add(string(tree["configs/"+c.name+".yaml"].Data))
	}
	f.Add(string(tree["configs/sdxl_vanilla.yaml"].Data))
	f.Add("a: &a [*a]\n")
	f.Add("? [1]\n: 2\n<<: {dilate_tau: 3}\nprogressive: yes\ndilate_tau: 0x10\n")
	f.Add("dilate_settings: \"a\\nb\"\nndcfg_tau: !!int \"3\"\n---\nx: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		tree["configs/sdxl_fuzz.yaml"] = &fstest.MapFile{Data: []byte(text)}
		im := newImporter(tree)
		schedules := im.run("configs/sdxl_fuzz.yaml")
		for _, r := range slices.Concat(im.findings, im.problems) {
			if strings.ContainsAny(im.render(r), "\n\r\x00") || r.line < 0 {
				t.Errorf("not one line: %q", im.render(r))
			}
		}
		if len(im.problems) > 0 != (len(schedules) == 0) && len(im.findings) == 0 {
			t.Errorf("%d schedules, problems %v, and nothing said", len(schedules), im.problems)
		}
		for _, s := range schedules {
			if s.dilateTau < 1 || s.dilateTau > s.steps || s.ndcfgTau > s.steps || s.inflateTau > s.steps || len(s.main) == 0 {
				t.Errorf("schedule %+v", s)
			}
			var back struct {
				Name, Model        string
				Height, Width, Tau int
				Dilation           map[string]float64
			}
			if err := toml.Unmarshal([]byte(s.toml()), &back); err != nil {
				t.Fatalf("%v\n%s", err, s.toml())
			}
			if back.Name != s.name || back.Model != "sdxl" || back.Height != 8*s.latentHeight || back.Width != 8*s.latentWidth || back.Tau != s.dilateTau || len(back.Dilation) != len(s.main) {
				t.Errorf("reads as %+v:\n%s", back, s.toml())
			}
		}
	})
}
