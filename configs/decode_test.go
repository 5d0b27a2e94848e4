package configs

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"scalecrafter/ablation"
)

// testArch is a three-level network with two self-attentions.
func testArch() ablation.Architecture { return uNet(3) }

// uNet is the layer list of a network with diffusers' block structure, one
// resnet a block.
func uNet(levels int) ablation.Architecture {
	a := ablation.Architecture{
		Levels:        levels,
		SelfAttention: []string{"down_blocks.1.attentions.0.transformer_blocks.0.attn1", "mid_block.attentions.0.transformer_blocks.0.attn1"},
	}
	resnet := func(block string, depth int) {
		for _, conv := range []string{"conv1", "conv2"} {
			a.Convs = append(a.Convs, ablation.ConvLayer{Path: block + ".resnets.0." + conv, Stride: 1, Depth: depth})
		}
	}
	for i := range levels {
		resnet(fmt.Sprintf("down_blocks.%d", i), i)
		if i < levels-1 {
			a.Convs = append(a.Convs, ablation.ConvLayer{Path: fmt.Sprintf("down_blocks.%d.downsamplers.0.conv", i), Stride: 2, Depth: i})
		}
	}
	resnet("mid_block", levels-1)
	for i := range levels {
		resnet(fmt.Sprintf("up_blocks.%d", i), levels-1-i)
		if i < levels-1 {
			a.Convs = append(a.Convs, ablation.ConvLayer{Path: fmt.Sprintf("up_blocks.%d.upsamplers.0.conv", i), Stride: 1, Depth: levels - 1 - i})
		}
	}
	return a
}

// Every experiment file of this folder decodes, plans on the built-in model's
// kind of network and, resolved, gives the same cells again.
func TestEveryFile(t *testing.T) {
	files, err := filepath.Glob("*.toml")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v (%v), want the experiment files", files, err)
	}
	names := map[string]string{}
	for _, file := range files {
		if strings.HasPrefix(file, "train_") {
			continue // another schema: LoadTrain's
		}
		t.Run(file, func(t *testing.T) {
			c, err := Load(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if other := names[c.Name]; other != "" {
				t.Errorf("name %q is taken by %s", c.Name, other)
			}
			names[c.Name] = file
			var all []ablation.Cell
			for _, p := range c.Panels() {
				cells := sameAgain(t, p, uNet(4))
				all = append(all, cells...)
				t.Logf("%d cells at %dx%d px", len(cells), p.Sample.Height, p.Sample.Width)
				for _, cell := range cells {
					t.Logf("%s %3d %s", cell.ID, cell.NFE, cell.Label)
				}
			}
			again, err := Decode(c.TOML(), "resolved", nil)
			if err != nil {
				t.Fatalf("resolved configuration:\n%v\n%s", err, c.TOML())
			}
			var cells []ablation.Cell
			for _, p := range again.Panels() {
				more, err := p.Cells(uNet(4), ablation.Size{H: 64, W: 64}, ablation.Identity{Weights: "w"})
				if err != nil {
					t.Fatal(err)
				}
				cells = append(cells, more...)
			}
			compareCells(t, all, cells)
			if file == "ablate_dilation.toml" && (len(all) < 8 || c.Sample.Count < 96 || c.Sample.Height != 128 || c.Sample.Width != 128) {
				t.Errorf("the main job has %d cells of %d images at %dx%d", len(all), c.Sample.Count, c.Sample.Height, c.Sample.Width)
			}
		})
	}
}

// sameAgain plans a configuration, decodes its resolved file, plans that, and
// reports every difference.
func sameAgain(t *testing.T, c *Config, arch ablation.Architecture) []ablation.Cell {
	t.Helper()
	train, id := ablation.Size{H: 64, W: 64}, ablation.Identity{Weights: "w"}
	cells, err := c.Cells(arch, train, id)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(c.TOML(), "resolved", nil)
	if err != nil {
		t.Fatalf("resolved configuration:\n%v\n%s", err, c.TOML())
	}
	again.LoadTransform = c.LoadTransform
	if again.TOML() != c.TOML() {
		t.Errorf("resolving twice differs:\n%s\n---\n%s", c.TOML(), again.TOML())
	}
	cells2, err := again.Cells(arch, train, id)
	if err != nil {
		t.Fatalf("%v\n%s", err, c.TOML())
	}
	compareCells(t, cells, cells2)
	return cells
}

// Every experiment runs with two samples, as the quick start asks.
func TestEveryFileWithTwoSamples(t *testing.T) {
	files, err := filepath.Glob("*.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasPrefix(file, "train_") {
			continue
		}
		c, err := Load(file, []string{"sample.count=2"})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if c.Sample.Count != 2 || c.Report.PictureColumns > 2 {
			t.Errorf("%s: %d samples, %d pictures shown", file, c.Sample.Count, c.Report.PictureColumns)
		}
	}
}

func compareCells(t *testing.T, cells, cells2 []ablation.Cell) {
	t.Helper()
	if len(cells) != len(cells2) {
		t.Fatalf("%d cells, resolved %d", len(cells), len(cells2))
	}
	for i := range cells {
		if cells[i].ID != cells2[i].ID || cells[i].Label != cells2[i].Label {
			t.Errorf("cell %d: %s %q, resolved %s %q", i, cells[i].ID, cells[i].Label, cells2[i].ID, cells2[i].Label)
		}
	}
}
