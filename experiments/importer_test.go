package experiments

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
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
