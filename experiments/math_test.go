package experiments

import (
	"context"
	"strings"
	"testing"

	"scalecrafter/configs"
	"scalecrafter/model/kernels"
)

// A cell's identity has the arithmetic that is used, not the one asked for: where bf16 falls back to float32 the cells are those
// of float32, and the program says so; where it does not they are others. True scenes are the same in any case.
func TestMathIdentity(t *testing.T) {
	t.Parallel()
	plan := func(math string) *plan {
		t.Helper()
		c, err := configs.Decode(fakeConfig, "fake.toml", []string{"model.math=" + math})
		if err != nil {
			t.Fatal(err)
		}
		e, err := newExperiment(c, &fakeEngine{}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return e.panels[0]
	}
	base := plan("float32")
	for name, m := range map[string]kernels.Math{"bf16": kernels.BF16, "bf16x3": kernels.BF16x3} {
		p := plan(name)
		same := m.Effective() == kernels.Float32
		if got := p.rows[0].ID == base.rows[0].ID; got != same {
			t.Errorf("%s: cells are those of float32: %v, want %v", name, got, same)
		}
		if p.sceneID != base.sceneID {
			t.Errorf("%s: true scenes are others", name)
		}
		if p.id.Math != m.Identity() || mathUsed(p.id) == "" {
			t.Errorf("%s: identity %q, used %q", name, p.id.Math, mathUsed(p.id))
		}
		o := runMain(context.Background(), &fakeEngine{}, "-config", writeConfig(t, fakeConfig), "-set", "model.math="+name, "-dry-run", "-out", t.TempDir())
		if said := strings.Contains(o.stderr, "falls back to float32"); o.code != ExitDone || said != same {
			t.Errorf("%s: exit %d, says that it falls back: %v, want %v\n%s", name, o.code, said, same, o.stderr)
		}
	}
}

func (e *fakeEngine) UseMath(kernels.Math) {}

// A model without other arithmetic than float32 must not have its pictures
// stored as those of another.
func TestMathRefused(t *testing.T) {
	t.Parallel()
	for math, ok := range map[string]bool{"float32": true, "bf16": false} {
		c, err := configs.Decode(fakeConfig, "fake.toml", []string{"model.math=" + math})
		if err != nil {
			t.Fatal(err)
		}
		_, err = newExperiment(c, struct{ Engine }{&fakeEngine{}}, t.TempDir())
		if (err == nil) != ok || !ok && !strings.Contains(err.Error(), "model.math") {
			t.Errorf("%s: %v", math, err)
		}
	}
}
