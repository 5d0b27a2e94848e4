package experiments

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scalecrafter/model/weights"
)

const tinyUNet = `{
  "_class_name": "UNet2DConditionModel", "sample_size": 8, "in_channels": 12, "out_channels": 12,
  "flip_sin_to_cos": true, "freq_shift": 0,
  "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "mid_block_type": "UNetMidBlock2DCrossAttn",
  "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "block_out_channels": [8, 8], "layers_per_block": 1,
  "act_fn": "silu", "norm_num_groups": 4, "norm_eps": 1e-05, "cross_attention_dim": 8, "attention_head_dim": [1, 2],
  "transformer_layers_per_block": 1, "use_linear_projection": true
}`

// tinyTraining writes a training file of a network of a few thousand weights.
func tinyTraining(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	unet := filepath.Join(dir, "config.json")
	config := filepath.Join(dir, "tiny.toml")
	text := "name = \"tiny\"\nnetwork = \"unet\"\nunet = \"" + filepath.ToSlash(unet) + "\"\n" +
		"[data]\nsize = 16\n[optimizer]\nsteps = 2\nbatch = 2\nwarmup = 0\n[log]\npicture_every = 1000\n"
	for path, content := range map[string]string{unet: tinyUNet, config: text} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return config
}

func trainTiny(t *testing.T, want int, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := Train(context.Background(), args, &out, &errs); code != want {
		t.Fatalf("train %v: exit %d, want %d\n%s%s", args, code, want, out.String(), errs.String())
	}
	return errs.String()
}

// A run that starts from a model and hardly learns ends with that model.
func TestTrainStartsFromAModel(t *testing.T) {
	config, first, second := tinyTraining(t), t.TempDir(), t.TempDir()
	trainTiny(t, 0, "-config", config, "-out", first, "-set", "data.seed=5")
	model := filepath.Join(first, "model")
	trainTiny(t, 0, "-config", config, "-out", second, "-set", "init="+model, "-set", "optimizer.learning_rate=1e-9")
	for _, path := range []string{unetWeights, textWeights} {
		from, err := weights.Open(filepath.Join(model, path))
		if err != nil {
			t.Fatal(err)
		}
		to, err := weights.Open(filepath.Join(second, "model", path))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range from.Names() {
			a, err := from.Float32(name)
			if err != nil {
				t.Fatal(err)
			}
			b, err := to.Float32(name)
			if err != nil {
				t.Fatal(err)
			}
			for i := range a.Data {
				if math.Abs(float64(a.Data[i]-b.Data[i])) > 1e-6 {
					t.Fatalf("%s[%d] is %g, want the first model's %g", name, i, b.Data[i], a.Data[i])
				}
			}
		}
		from.Close()
		to.Close()
	}
	if msg := trainTiny(t, 1, "-config", config, "-out", t.TempDir(), "-set", "init=nowhere"); !strings.Contains(msg, "init") || !strings.Contains(msg, "nowhere") {
		t.Errorf("a missing model folder gives %q", msg)
	}
	// Another start is another run: its checkpoint is not taken over.
	if msg := trainTiny(t, 1, "-config", config, "-out", second, "-set", "optimizer.learning_rate=1e-9"); !strings.Contains(msg, "checkpoint") {
		t.Errorf("a checkpoint of another start gives %q", msg)
	}
}
