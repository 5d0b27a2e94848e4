package configs

import (
	"path/filepath"
	"strings"
	"testing"

	"scalecrafter/ablation"
)

// testArch is a three-level network with two self-attentions.
func testArch() ablation.Architecture {
	conv := func(path string, stride, depth int) ablation.ConvLayer {
		return ablation.ConvLayer{Path: path, Stride: stride, Depth: depth}
	}
	return ablation.Architecture{
		Levels: 3,
		Convs: []ablation.ConvLayer{
			conv("down_blocks.0.resnets.0.conv1", 1, 0), conv("down_blocks.0.resnets.0.conv2", 1, 0), conv("down_blocks.0.downsamplers.0.conv", 2, 0),
			conv("down_blocks.1.resnets.0.conv1", 1, 1), conv("down_blocks.1.resnets.0.conv2", 1, 1), conv("down_blocks.1.downsamplers.0.conv", 2, 1),
			conv("down_blocks.2.resnets.0.conv1", 1, 2), conv("down_blocks.2.resnets.0.conv2", 1, 2),
			conv("mid_block.resnets.0.conv1", 1, 2), conv("mid_block.resnets.0.conv2", 1, 2),
			conv("up_blocks.0.resnets.0.conv1", 1, 2), conv("up_blocks.0.upsamplers.0.conv", 1, 1),
			conv("up_blocks.1.resnets.0.conv1", 1, 1), conv("up_blocks.1.upsamplers.0.conv", 1, 0),
			conv("up_blocks.2.resnets.0.conv1", 1, 0),
		},
		SelfAttention: []string{"down_blocks.1.attentions.0.transformer_blocks.0.attn1", "mid_block.attentions.0.transformer_blocks.0.attn1"},
	}
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
			cells, err := c.Cells(testArch(), ablation.Size{H: 64, W: 64}, ablation.Identity{Weights: "w"})
			if err != nil {
				t.Fatal(err)
			}
			again, err := Decode(c.TOML(), "resolved", nil)
			if err != nil {
				t.Fatalf("resolved configuration:\n%v\n%s", err, c.TOML())
			}
			if again.TOML() != c.TOML() {
				t.Errorf("resolving twice differs:\n%s\n---\n%s", c.TOML(), again.TOML())
			}
			cells2, err := again.Cells(testArch(), ablation.Size{H: 64, W: 64}, ablation.Identity{Weights: "w"})
			if err != nil {
				t.Fatal(err)
			}
			if len(cells) != len(cells2) {
				t.Fatalf("%d cells, resolved %d", len(cells), len(cells2))
			}
			for i := range cells {
				if cells[i].ID != cells2[i].ID || cells[i].Label != cells2[i].Label {
					t.Errorf("cell %d: %s %q, resolved %s %q", i, cells[i].ID, cells[i].Label, cells2[i].ID, cells2[i].Label)
				}
				t.Logf("%s %3d %s", cells[i].ID, cells[i].NFE, cells[i].Label)
			}
			if file == "ablate_dilation.toml" && (len(cells) < 8 || c.Sample.Count < 96 || c.Sample.Height != 128 || c.Sample.Width != 128) {
				t.Errorf("the main job has %d cells of %d images at %dx%d", len(cells), c.Sample.Count, c.Sample.Height, c.Sample.Width)
			}
		})
	}
}
