package experiments

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scalecrafter/ablation"
	"scalecrafter/configs"
	"scalecrafter/model"
)

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
