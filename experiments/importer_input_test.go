package experiments

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/BurntSushi/toml"

	"scalecrafter/ablation"
)

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
