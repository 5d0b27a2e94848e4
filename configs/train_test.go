package configs

import (
	"path/filepath"
	"testing"
)

// Every training file of this folder decodes.
func TestEveryTrainFile(t *testing.T) {
	files, err := filepath.Glob("train_*.toml")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v (%v), want the training files", files, err)
	}
	for _, file := range files {
		c, err := LoadTrain(file, nil)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if c.Steps < 1 || c.Batch%c.Shards != 0 {
			t.Errorf("%s: %d steps of %d pictures in %d shards", file, c.Steps, c.Batch, c.Shards)
		}
	}
}

// Each malformed training file's message, exactly as the user reads it.
func TestMalformedTrain(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"unknown key", "name = \"a\"\nnetwork = \"unet\"\n\n[optimizer]\nsteps = 5\nlearningrate = 1e-3\n",
			"x.toml:6:1: optimizer.learningrate: unknown key\n  did you mean \"learning_rate\"?"},
		{"no steps", "name = \"a\"\nnetwork = \"unet\"\n", "x.toml:1:1: optimizer.steps: is missing, want an integer from 1 to 2147483647\n  the number of optimiser steps"},
		{"network", "name = \"a\"\nnetwork = \"unett\"\n[optimizer]\nsteps = 5\n",
			"x.toml:2:11: network: is \"unett\", want one of \"unet\", \"critter-net\"\n  did you mean \"unet\"?"},
		{"batch", "name = \"a\"\nnetwork = \"unet\"\n[optimizer]\nsteps = 5\nbatch = 7\nshards = 2\n",
			"x.toml:5:9: optimizer.batch: is 7, want a multiple of shards (2)\n  every shard takes as many pictures"},
		{"type", "name = \"a\"\nnetwork = \"unet\"\n[optimizer]\nsteps = \"many\"\n",
			"x.toml:4:9: optimizer.steps: is \"many\" (text), want an integer from 1 to 2147483647\n  the number of optimiser steps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeTrain(tt.src, "x.toml", nil)
			if err == nil {
				t.Fatal("no error")
			}
			if err.Error() != tt.want {
				t.Errorf("got\n%s\nwant\n%s", err, tt.want)
			}
		})
	}
}
