package experiments

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"
)

// TestBuiltinModelSameBits runs the real model: the workers and the batch change
// neither a picture nor a number, on plain, re-dilated and stretched layers.
func TestBuiltinModelSameBits(t *testing.T) {
	config := writeConfig(t, `name = "bits"

[sample]
height = 96
width = 64
count = 5
steps = 3
guidance_scale = 2.0

[reference]
count = 8
base_count = 5

[[method]]
name = "direct"
kind = "direct"
baseline = true

[[method]]
name = "redilation"
kind = "redilation"
tau_share = 0.7
attention_scaling = true
[method.grid]
factor = [1.5, 2]
`)
	run := func(args ...string) map[string]string {
		t.Helper()
		out := t.TempDir()
		var stdout, stderr bytes.Buffer
		args = append([]string{"-config", config, "-out", out, "-quiet"}, args...)
		if code := Main(context.Background(), args, &stdout, &stderr, OpenModel); code != ExitDone {
			t.Fatalf("%v: exit code %d\n%s", args, code, stderr.String())
		}
		files := tree(t, out)
		// The report prints the seconds that the cells took.
		maps.DeleteFunc(files, func(path, _ string) bool {
			return strings.Contains(path, "/tables/") || strings.Contains(path, "/report.")
		})
		return files
	}
	want := run("-workers", "1", "-batch", "1")
	sameTree(t, run("-workers", "2", "-batch", "8"), want)
	sameTree(t, run("-workers", "1", "-batch", "3"), want)
}
