package reports

import (
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"scalecrafter/reports/results"
)

var writeDir = flag.String("write", "", "write a sample report into this folder, to be looked at")

// TestWriteSample makes the sample report. With -write it stays:
//
//	go test ./reports -run WriteSample -write /somewhere/else
func TestWriteSample(t *testing.T) {
	dir := *writeDir
	if dir == "" {
		dir = t.TempDir()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(sample(t, dir), dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.html", "report.md", "report.txt", "tables/results.csv", "tables/results.tex",
		"tables/effects.csv", "tables/effects.tex", "figures/pictures.png", "figures/right-over-tau.svg", "figures/right-over-tau.png"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Size() == 0 {
			t.Errorf("%s: missing or empty (%v)", name, err)
		}
	}
}

func num(v float64) *float64 { return &v }

// wobble is a small repeatable value in [-1,1) for i: no generator, no seed.
func wobble(i int) float64 {
	x := math.Sin(float64(i)*12.9898+78.233) * 43758.5453
	return 2*(x-math.Floor(x)) - 1
}

var sampleColumns = []results.Metric{
	{Key: "right_share", Title: "right", Unit: "%", Percent: true, Digits: 1, HigherIsBetter: true, Help: "Share of pictures with exactly one body, two eyes and one mouth, as counted by the detector."},
	{Key: "excess_bodies", Title: "extra bodies", Digits: 2, Help: "Bodies beyond the first, mean over pictures: global repetition."},
	{Key: "excess_eyes", Title: "extra eyes", Digits: 2, Help: "Eyes beyond the second, mean over pictures: local repetition."},
	{Key: "attribute_accuracy", Title: "prompt kept", Unit: "%", Percent: true, Digits: 1, HigherIsBetter: true, Help: "Share of the prompt's attributes (shape, colour, background, pattern) that critter-net reads from the picture."},
	{Key: "fid_r", Title: "FID_r", Digits: 1, Help: "Fréchet distance of critter-net features to true scenes rendered at the same size."},
	{Key: "kid_r", Title: "KID_r ×10³", Digits: 2, Help: "Kernel distance of critter-net features to true scenes, unbiased; may be slightly negative."},
}

// sampleCell makes a plausible cell with a given share of right pictures.
func sampleCell(i int, label, method, kind string, right float64, axes ...results.Axis) results.Cell {
	value := func(mean, half, limit float64) results.Value {
		return results.Value{Mean: mean, Lo: mean - half, Hi: math.Min(mean+half*1.07, limit), HasInterval: true, N: 96}
	}
	w := 0.02 * wobble(i)
	return results.Cell{
		ID: fmt.Sprintf("%016x", 0x9e3779b97f4a7c15*uint64(i+1)), Label: label, Method: method, Kind: kind,
		Status: "done", N: 96, NFE: 60, Seconds: 41.7 + 3*wobble(i+40), Axes: axes,
		Metrics: map[string]results.Value{
			"right_share":        value(right, 0.085*math.Sqrt(4*right*(1-right)), 1),
			"excess_bodies":      value(1.1*math.Pow(1-right, 2.4)+0.02, 0.09, 9),
			"excess_eyes":        value(3.4*(1-right)+0.1+w, 0.31, 9),
			"attribute_accuracy": value(0.62+0.3*right+w, 0.04, 1),
			"fid_r":              value(62-38*right+40*w, 3.1, 999),
			"kid_r":              value(21-14*right+20*w, 1.4, 99),
		},
	}
}

func samplePlan(steps, until int, factor float64, outer bool) []results.PlanRow {
	var rows []results.PlanRow
	add := func(path string, f float64, down bool) {
		r := results.PlanRow{Layer: path, Network: "main"}
		for s := range steps {
			v := 1.0
			if s < until && down {
				v = f
			}
			r.Factors = append(r.Factors, v)
		}
		rows = append(rows, r)
	}
	for l := range 3 {
		for k := 1; k <= 2; k++ {
			add(fmt.Sprintf("down_blocks.%d.resnets.0.conv%d", l, k), factor, l > 0 || outer)
		}
		if l < 2 {
			add(fmt.Sprintf("down_blocks.%d.downsamplers.0.conv", l), factor, l > 0 || outer)
		}
	}
	for _, k := range []string{"0.conv1", "0.conv2", "1.conv1", "1.conv2"} {
		add("mid_block.resnets."+k, factor, true)
	}
	for l := range 3 {
		for r := range 2 {
			for k := 1; k <= 2; k++ {
				add(fmt.Sprintf("up_blocks.%d.resnets.%d.conv%d", l, r, k), factor, l < 2 || outer)
			}
		}
	}
	return rows
}

// sample is a realistic summary of 13 cells, one failed, with pictures in dir
// of which one is missing; without pictures where dir is empty.
func sample(t testing.TB, dir string) *results.Summary {
	t.Helper()
	const steps = 30
	axis := func(name, text string, v float64) results.Axis {
		return results.Axis{Name: name, Text: text, Number: num(v)}
	}
	var cells []results.Cell
	base := sampleCell(0, "direct sampling", "direct", "direct", 0.135)
	base.Baseline = true
	cells = append(cells, base)
	for f, curve := range sampleCurves() {
		for k, share := range []float64{0.2, 0.4, 0.6, 0.8, 1} {
			if f == 1 && k == 0 {
				continue
			}
			tau := fmt.Sprintf("%.0f%%", 100*share)
			factor := []float64{2, 1.5}[f]
			c := sampleCell(len(cells), fmt.Sprintf("re-dilation ×%g, %s of steps", factor, tau), "redilation", "redilation", curve[k],
				axis("factor", "×"+exact(factor), factor), axis("dilated steps", tau, share))
			c.Plan = samplePlan(steps, int(share*steps), factor, false)
			cells = append(cells, c)
		}
	}
	damped := sampleCell(len(cells), "re-dilation ×2 of all levels, 80%, noise-damped", "damped", "redilation", 0.58)
	damped.NFE = 90
	damped.Seconds = 66.4
	damped.Plan = samplePlan(steps, 24, 2, true)
	for i := range damped.Plan { // the deepest block is dispersed for a while
		if r := &damped.Plan[i]; strings.HasPrefix(r.Layer, "mid_block") {
			r.Kernels, r.Transforms = make([]int, steps), make([]string, steps)
			for s := range steps {
				r.Kernels[s] = 3
				if s < 18 {
					r.Factors[s], r.Kernels[s], r.Transforms[s] = 1, 5, "R20to1_new"
				}
			}
		}
	}
	for _, r := range samplePlan(steps, 24, 2, false) {
		r.Network = "damped"
		r.Columns = make([]float64, steps)
		for s := range steps {
			r.Columns[s] = 1
			if s >= 24 {
				r.Factors[s], r.Columns[s] = 0, 0
			}
		}
		damped.Plan = append(damped.Plan, r)
	}
	for s := range steps {
		n := &results.NetworkRow{AttentionRatio: 4, FreeU: []float64{1.2, 1.4, 0.9, 0.2}}
		row := results.StepRow{Base: "main", Uncond: "main", Cond: "main", Main: n}
		if s < 24 {
			row.Base, row.Damped = "damped", n
		}
		damped.Steps = append(damped.Steps, row)
	}
	for _, l := range []struct {
		layer string
		scale float64
	}{
		{"down_blocks.1.attentions.0.transformer_blocks.0.attn1", 1.17}, {"mid_block.attentions.0.transformer_blocks.0.attn1", 1.25},
		{"up_blocks.2.attentions.0.transformer_blocks.0.attn1", 1.17},
	} {
		main := results.AttentionRow{Layer: l.layer, Network: "main"}
		v := results.AttentionRow{Layer: l.layer, Network: "damped", Scales: make([]float64, steps)}
		for s := range steps {
			main.Scales = append(main.Scales, l.scale)
			if s < 24 {
				v.Scales[s] = l.scale
			}
		}
		damped.Attention = append(damped.Attention, main, v)
	}
	damped.GuidanceScale = num(5)
	cells = append(cells, damped)
	attention := sampleCell(len(cells), "attention scaling", "attention", "attention_scaling", 0.17)
	for range steps {
		attention.Steps = append(attention.Steps, results.StepRow{Base: "main", Uncond: "main", Cond: "main", Main: &results.NetworkRow{AttentionRatio: 4}})
	}
	cells = append(cells, attention)
	failed := sampleCell(len(cells), "re-dilation ×4, 100% of steps", "redilation", "redilation", 0.1, axis("factor", "×4", 4), axis("dilated steps", "100%", 1))
	failed.Status, failed.Metrics, failed.N, failed.Seconds = "failed", nil, 0, 0
	failed.Error = "conv down_blocks.2.resnets.0.conv1: input [8,128,8,8] is smaller than the dilated kernel (9x9); lower the factor"
	cells = append(cells, failed)
	delete(cells[11].Metrics, "kid_r")

	for i := range cells {
		c := &cells[i]
		if c.Baseline || c.Status != "done" {
			continue
		}
		c.Effects = map[string]results.Effect{}
		for _, m := range sampleColumns {
			v, ok := c.Metrics[m.Key]
			if !ok {
				continue
			}
			d := v.Mean - base.Metrics[m.Key].Mean
			half := 0.9 * (v.Hi - v.Lo) / 2
			e := results.Effect{Value: results.Value{Mean: d, Lo: d - half, Hi: d + half, HasInterval: true, N: 96}}
			e.Significant = math.Abs(d) > 1.2*half
			e.P = math.Exp(-2 * math.Abs(d) / half)
			c.Effects[m.Key] = e
		}
	}
	difference := func(m float64, half float64) results.Effect {
		return results.Effect{Value: results.Value{Mean: m, Lo: m - half, Hi: m + half, HasInterval: true, N: 96}, Significant: math.Abs(m) > half, P: 0.01}
	}
	s := &results.Summary{
		Comparisons: []results.Comparison{
			{Name: "Re-dilation", From: cells[0].ID, To: cells[4].ID, Effects: map[string]results.Effect{"right_share": difference(0.52, 0.08), "fid_r": difference(-19, 3)}},
			{Name: "Noise-damped guidance", From: cells[4].ID, To: damped.ID, Effects: map[string]results.Effect{"right_share": difference(-0.08, 0.09)}},
		},
		Version: results.SchemaVersion, Name: "ablate_dilation",
		Title:    "Re-dilation at four times the training pixels",
		Question: "Does re-dilation stop a diffusion model from repeating objects at four times its training pixels, which factor and how many steps of it, and how does attention scaling compare?",
		Height:   128, Width: 128, TrainHeight: 64, TrainWidth: 64, Steps: steps, GuidanceScale: 3,
		Prompts: []string{"a red square critter on blue stripes", "a purple round critter on grey checks", "a white triangle critter on plain brown",
			"a blue round critter on plain brown", "a yellow square critter on blue checks", "a red round critter on plain green", "a teal triangle critter on plain violet", "a red diamond critter on green checks"},
		Columns: sampleColumns, Cells: cells,
		Plots: []results.Plot{
			{Name: "right-over-tau", Title: "Share of right pictures over dilated steps", Metric: "right_share", X: "dilated steps", GroupBy: "factor"},
			{Name: "eyes-over-tau", Title: "Extra eyes over dilated steps", Metric: "excess_eyes", X: "dilated steps", GroupBy: "factor"},
			{Name: "right-by-cell", Title: "Share of right pictures by cell", Metric: "right_share"},
			{Name: "fid-by-cell", Title: "FID against true scenes by cell", Metric: "fid_r"},
		},
		Findings: []results.Finding{
			{Text: "Yes: re-dilation ×2 over 80% of the steps raises the share of right pictures from 13.5% to 66.0% (paired difference +52.5 points, 95% interval [+44.4, +60.6])."},
			{Text: "The factor matters more than the number of steps: ×1.5 stays below 40% at every setting, ×2 passes 60% from 60% of the steps on."},
			{Text: "Attention scaling alone changes the share of right pictures by +3.5 points, which cannot be told from zero; it leaves bodies merged."},
			{Text: "Extra bodies vanish before extra eyes do: global repetition is cured by 40% of the steps, local repetition needs 80% or more."},
		},
		Provenance: results.Provenance{
			Program: "scalecrafter 0.1", Commit: "3f2a91c0d4b7", GoVersion: "go1.26.8", OS: "linux/amd64", CPU: "AMD EPYC 9V74", KernelPath: "avx2", Cores: 2,
			Started: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), Finished: time.Date(2026, 3, 1, 9, 8, 41, 0, time.UTC),
			ModelDigest: "sha256:5be1…c09f", FeatureDigest: "sha256:a17d…02e4", WorldVersion: "critters-1", Protocol: "critters-fid-1",
			ConfigFile: "configs/ablate_dilation.toml", Command: "go run . -config configs/ablate_dilation.toml",
		},
		ResolvedTOML: "title = \"Re-dilation at four times the training pixels\"\n\n[model]\nname = \"critters\"\n\n[sampling]\nheight = 128\nwidth = 128\nsteps = 30\nguidance_scale = 3.0\neta = 0.0\n\n[[method]]\nname = \"redilation\"\nkind = \"redilation\"\nfactor = [1.5, 2.0]\nsteps_share = [0.2, 0.4, 0.6, 0.8, 1.0]\n",
	}
	scenes := sampleCell(90, "true scenes, 128 px", "scenes", "reference", 0.99)
	scenes.NFE, scenes.Seconds = 0, 0
	small := sampleCell(91, "base samples, 64 px", "base", "reference", 0.972)
	s.Reference = []results.Cell{scenes, small}
	if dir == "" {
		return s
	}
	for i := range s.Reference {
		s.Reference[i].Images = samplePictures(t, dir, fmt.Sprintf("ref%d", i), 128>>i, 0)
	}
	for i := range s.Cells {
		if s.Cells[i].Status == "done" {
			grain := 34 * (1 - s.Cells[i].Metrics["right_share"].Mean)
			s.Cells[i].Images = samplePictures(t, dir, "cell"+strconv.Itoa(i), 128, grain)
		}
	}
	s.Cells[3].Images[2] = "images/lost.png"
	return s
}

func sampleCurves() [][]float64 {
	return [][]float64{{0.16, 0.34, 0.57, 0.66, 0.63}, {0.15, 0.22, 0.31, 0.38, 0.36}}
}

// samplePictures draws eight faces, with more of them as grain grows.
func samplePictures(t testing.TB, dir, name string, side int, grain float64) []string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "images"), 0o755); err != nil {
		t.Fatal(err)
	}
	bodies := []color.NRGBA{{214, 40, 57, 255}, {112, 60, 190, 255}, {235, 235, 235, 255}, {90, 190, 235, 255},
		{235, 190, 40, 255}, {214, 40, 57, 255}, {30, 160, 170, 255}, {200, 30, 60, 255}}
	grounds := []color.NRGBA{{90, 120, 200, 255}, {130, 130, 130, 255}, {120, 90, 80, 255}, {110, 80, 70, 255},
		{80, 130, 190, 255}, {90, 180, 120, 255}, {130, 110, 150, 255}, {110, 190, 140, 255}}
	var out []string
	for k := range bodies {
		img := image.NewNRGBA(image.Rect(0, 0, side, side))
		for y := range side {
			for x := range side {
				u, v := float64(x)/float64(side)-0.5, float64(y)/float64(side)-0.5
				c := grounds[k]
				faces := 1 + int(grain/12)
				for f := range faces {
					cx, cy := 0.12*wobble(k+31*f+7), 0.12*wobble(k+17*f+3)
					r := math.Hypot(u-cx, v-cy)
					if r < 0.24 {
						c = bodies[k]
						if r > 0.215 {
							c = color.NRGBA{c.R / 2, c.G / 2, c.B / 2, 255}
						}
					}
					for _, e := range []float64{-0.07, 0.07} {
						if d := math.Hypot(u-cx-e, v-cy+0.05); d < 0.045 {
							c = color.NRGBA{250, 250, 250, 255}
							if d < 0.02 {
								c = color.NRGBA{20, 20, 20, 255}
							}
						}
					}
				}
				n := grain * wobble(x*7919+y*104729+k)
				add := func(b uint8) uint8 { return uint8(math.Max(0, math.Min(255, float64(b)+n))) }
				img.SetNRGBA(x, y, color.NRGBA{add(c.R), add(c.G), add(c.B), 255})
			}
		}
		path := fmt.Sprintf("images/%s-%d.png", name, k)
		f, err := os.Create(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		out = append(out, path)
	}
	return out
}
