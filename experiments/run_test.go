package experiments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"scalecrafter/reports/results"
)

// outcome is what one call of Main left.
type outcome struct {
	code           int
	stdout, stderr string
}

func runMain(ctx context.Context, f *fakeEngine, args ...string) outcome {
	var out, err bytes.Buffer
	code := Main(ctx, args, &out, &err, opener(f))
	return outcome{code, out.String(), err.String()}
}

// writeConfig puts a configuration into a fresh folder and returns its path.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fake.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tree reads a results folder, without what may differ between equal runs:
// wall times, the command line, and the lock.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch {
		case d.Name() == lockName:
			return nil
		case d.Name() == "summary.json" && results.IsJoint(data):
			j, err := results.DecodeJoint(path, data)
			if err != nil {
				return err
			}
			j.Provenance.Started, j.Provenance.Finished, j.Provenance.Command, j.Provenance.ConfigFile = time.Time{}, time.Time{}, "", ""
			for _, p := range j.Panels {
				for i := range p.Summary.Cells {
					p.Summary.Cells[i].Seconds = 0
				}
				for i := range p.Summary.Reference {
					p.Summary.Reference[i].Seconds = 0
				}
			}
			if data, err = json.Marshal(j); err != nil {
				return err
			}
		case d.Name() == "summary.json":
			s, err := results.DecodeSummary(path, data)
			if err != nil {
				return err
			}
			s.Provenance.Started, s.Provenance.Finished, s.Provenance.Command, s.Provenance.ConfigFile = time.Time{}, time.Time{}, "", ""
			for i := range s.Cells {
				s.Cells[i].Seconds = 0
			}
			for i := range s.Reference {
				s.Reference[i].Seconds = 0
			}
			if data, err = json.Marshal(s); err != nil {
				return err
			}
		case strings.HasPrefix(rel, "fake"+string(filepath.Separator)) && d.Name() != "config.toml":
			// The report shows times; its pictures are compared through the cells.
			data = nil
		case strings.HasSuffix(path, ".json") && d.Name() != "cell.json":
			var sealed map[string]any
			if err := json.Unmarshal(data, &sealed); err != nil {
				return err
			}
			delete(sealed, "seconds")
			if data, err = json.Marshal(sealed); err != nil {
				return err
			}
		}
		out[rel] = string(data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameTree(t *testing.T, got, want map[string]string) {
	t.Helper()
	var names []string
	for name := range want {
		names = append(names, name)
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		g, okG := got[name]
		w, okW := want[name]
		switch {
		case !okG:
			t.Errorf("%s is missing", name)
		case !okW:
			t.Errorf("%s is too much", name)
		case g != w:
			t.Errorf("%s differs:\n%.300s\nwant\n%.300s", name, g, w)
		}
	}
}

func TestWholeRun(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, fakeConfig), t.TempDir()
	drawn := 0
	f := &fakeEngine{drawn: &drawn}
	first := runMain(context.Background(), f, "-config", config, "-out", root, "-workers", "1")
	if first.code != ExitDone {
		t.Fatalf("exit %d\n%s\n%s", first.code, first.stdout, first.stderr)
	}
	if want := 6*12 + 10; drawn != want {
		t.Errorf("drew %d images, want %d", drawn, want)
	}
	s, err := results.ReadSummary(filepath.Join(root, "fake"))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Cells) != 6 || len(s.Reference) != 2 || len(s.Prompts) != 12 {
		t.Fatalf("%d cells, %d reference rows, %d prompts", len(s.Cells), len(s.Reference), len(s.Prompts))
	}
	for _, c := range s.Cells {
		if c.Status != "done" || c.N != 12 || len(c.Metrics) != len(s.Columns) || len(c.Images) != 12 {
			t.Errorf("cell %s: status %s, n %d, %d metrics of %d, %d images", c.Label, c.Status, c.N, len(c.Metrics), len(s.Columns), len(c.Images))
		}
		if (len(c.Effects) == 0) != c.Baseline {
			t.Errorf("cell %s: baseline %v has %d effects", c.Label, c.Baseline, len(c.Effects))
		}
		if _, err := os.Stat(filepath.Join(root, "fake", filepath.FromSlash(c.Images[3]))); err != nil {
			t.Error(err)
		}
	}
	// At all steps dilated the fake repeats nothing; direct it always does.
	if v := s.Cells[0].Metrics["right_share"]; v.Mean != 0 || v.Hi == 0 {
		t.Errorf("direct: right share %+v, want 0 with an interval above it", v)
	}
	if v := s.Cells[4].Metrics["right_share"]; v.Mean != 1 {
		t.Errorf("%s: right share %+v, want 1", s.Cells[4].Label, v)
	}
	if e := s.Cells[4].Effects["right_share"]; !e.Significant || e.Mean != 1 {
		t.Errorf("%s: effect %+v, want a significant 1", s.Cells[4].Label, e)
	}
	if e := s.Cells[1].Effects["right_share"]; e.Significant || e.Mean != 0 {
		t.Errorf("%s: effect %+v, want 0", s.Cells[1].Label, e)
	}
	text := ""
	for _, f := range s.Findings {
		text += f.Text + "\n"
	}
	for _, want := range []string{"Re-dilation raises the share of right pictures", "100% of steps", "Attention scaling alone does not change"} {
		if !strings.Contains(text, want) {
			t.Errorf("findings lack %q:\n%s", want, text)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "fake", "report.html")); err != nil {
		t.Error(err)
	}

	// A second run draws nothing and changes nothing.
	before := tree(t, root)
	drawn = 0
	second := runMain(context.Background(), f, "-config", config, "-out", root, "-workers", "1")
	if second.code != ExitDone || drawn != 0 {
		t.Errorf("second run: exit %d, drew %d images\n%s", second.code, drawn, second.stderr)
	}
	if !strings.Contains(second.stderr, "nothing is sampled") {
		t.Errorf("second run says %q", second.stderr)
	}
	sameTree(t, tree(t, root), before)

	// More images extend the cells; a new method runs alone.
	drawn = 0
	runMain(context.Background(), f, "-config", config, "-out", root, "-workers", "1", "-set", "sample.count=14")
	if want := 6 * 2; drawn != want {
		t.Errorf("two more images a cell: drew %d, want %d", drawn, want)
	}
}

func TestWorkersAndBatchChangeNothing(t *testing.T) {
	t.Parallel()
	config := writeConfig(t, fakeConfig)
	var want map[string]string
	for _, args := range [][]string{{"-workers", "1", "-batch", "1"}, {"-workers", "2", "-batch", "8"}, {"-workers", "3", "-batch", "5"}} {
		root := t.TempDir()
		o := runMain(context.Background(), &fakeEngine{}, append([]string{"-config", config, "-out", root, "-quiet"}, args...)...)
		if o.code != ExitDone || o.stderr != "" {
			t.Fatalf("%v: exit %d\n%s", args, o.code, o.stderr)
		}
		got := tree(t, root)
		if want == nil {
			want = got
			continue
		}
		sameTree(t, got, want)
	}
}

// Killed at ten random points, the same command ends with the same results.
func TestKilledTenTimes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a dozen processes")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config, root, calm := writeConfig(t, fakeConfig), t.TempDir(), t.TempDir()
	start := func(root string) *exec.Cmd {
		cmd := exec.Command(self, "-config", config, "-out", root, "-workers", "2", "-batch", "2")
		cmd.Env = append(os.Environ(), envRun+"=1", envDelay+"=12")
		return cmd
	}
	// Kill points are spread over the whole run by the number of files that it
	// has left so far, each with a little delay of its own so that they fall on
	// different moments of drawing and writing.
	const files = 2*(6*12+10+12) + 8 + 8 // images and records, descriptions, markers
	killed := 0
	for i := range 10 {
		cmd := start(root)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var err error
		for over := false; !over; {
			select {
			case err = <-ended:
				t.Fatalf("run %d ended by itself at %d files: %v\n%s", i, countFiles(t, root), err, stderr.String())
			case <-time.After(time.Millisecond):
				over = countFiles(t, root) >= i*files/11
			}
		}
		time.Sleep(time.Duration(i*i%7) * 700 * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if errors.As(<-ended, &exit) && exit.ExitCode() == -1 {
			killed++
		}
	}
	if n := countFiles(t, root); killed < 10 || n < files/2 || n >= files {
		t.Fatalf("%d runs killed, %d of %d files there: the test proves less than it should", killed, n, files)
	}
	for _, folder := range []string{root, calm} {
		if out, err := start(folder).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	sameTree(t, tree(t, root), tree(t, calm))
}

// countFiles counts the finished files of a store's cells.
func countFiles(t *testing.T, root string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "cells", "*", "[0-9c]*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// Ctrl-C ends a run soon, keeps what is finished and says how to go on.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, fakeConfig), t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(250*time.Millisecond, cancel)
	o := runMain(ctx, &fakeEngine{perImage: 20 * time.Millisecond}, "-config", config, "-out", root, "-batch", "2", "-workers", "1")
	if o.code != ExitInterrupted || !strings.Contains(o.stderr, "the same command goes on from there") {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	if o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root, "-workers", "1"); o.code != ExitDone {
		t.Fatalf("resumed: exit %d\n%s", o.code, o.stderr)
	}
}

func TestFailedCell(t *testing.T) {
	t.Parallel()
	config := writeConfig(t, fakeConfig)
	for _, f := range []*fakeEngine{{failAt: "attn="}, {panicAt: "attn="}} {
		root := t.TempDir()
		o := runMain(context.Background(), f, "-config", config, "-out", root, "-workers", "2")
		if o.code != ExitFailed || !strings.Contains(o.stderr, "(attention scaling) failed: ") {
			t.Fatalf("exit %d\n%s", o.code, o.stderr)
		}
		s, err := results.ReadSummary(filepath.Join(root, "fake"))
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range s.Cells {
			if wantFailed := i == 1; (c.Status == "failed") != wantFailed || (c.Error != "") != wantFailed {
				t.Errorf("cell %s: status %s, error %q", c.Label, c.Status, c.Error)
			}
		}
		if !strings.Contains(s.Findings[0].Text, "1 of 6 cells failed") {
			t.Errorf("first finding: %s", s.Findings[0].Text)
		}
		// The next run tries again.
		if o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root); o.code != ExitDone {
			t.Errorf("second run: exit %d\n%s", o.code, o.stderr)
		}
	}
}

// Damaged files are found and made again; everything ends as if nothing had
// happened.
func TestDamage(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, fakeConfig), t.TempDir()
	if o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root); o.code != ExitDone {
		t.Fatal(o.stderr)
	}
	want := tree(t, root)
	var names []string
	for name := range want {
		if strings.HasPrefix(name, "cells") || strings.HasPrefix(name, "reference") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for i, name := range names {
		path := filepath.Join(root, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 5 {
		case 0:
			data = data[:len(data)/2]
		case 1:
			data[len(data)/3] ^= 0x10
		case 2:
			data = nil
		case 3:
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		case 4:
			continue
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root)
	if o.code != ExitDone || !strings.Contains(o.stderr, "damaged") {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	sameTree(t, tree(t, root), want)
}

func TestSecondProcess(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, fakeConfig), t.TempDir()
	lock, err := lockFolder(filepath.Join(root, "fake"))
	if err != nil {
		t.Fatal(err)
	}
	o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root)
	if o.code != ExitFailed || !strings.Contains(o.stderr, "is in use by process") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	lock.release()
	if o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root); o.code != ExitDone {
		t.Errorf("after the release: exit %d\n%s", o.code, o.stderr)
	}
}

// A store that cannot be written stops the run with a clear message and loses
// nothing that is finished.
func TestStoreBreaks(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, fakeConfig), t.TempDir()
	calls, broken := 0, ""
	f := &fakeEngine{onSample: func(Job) {
		// In the middle of the run a file takes the place of the cell's folder.
		if calls++; calls != 6 {
			return
		}
		entries, err := os.ReadDir(filepath.Join(root, "cells"))
		if err != nil {
			t.Error(err)
			return
		}
		for _, e := range entries {
			dir := filepath.Join(root, "cells", e.Name())
			if files, err := os.ReadDir(dir); err == nil && len(files) == 1 && broken == "" { // cell.json only: not yet drawn
				broken = dir
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(dir, nil, 0o644); err != nil {
					t.Error(err)
				}
			}
		}
	}}
	o := runMain(context.Background(), f, "-config", config, "-out", root, "-workers", "1", "-batch", "4")
	if o.code != ExitFailed || !strings.Contains(o.stderr, "write "+filepath.Join(root, "cells")) {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	finished, _ := filepath.Glob(filepath.Join(root, "cells", "*", "*.png"))
	if len(finished) < 12+10 || broken == "" {
		t.Fatalf("%d finished images, broken %q: the test proves nothing", len(finished), broken)
	}
	entries, err := os.ReadDir(filepath.Join(root, "cells"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries { // mend it
		if !e.IsDir() {
			if err := os.Remove(filepath.Join(root, "cells", e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := tree(t, filepath.Join(root, "cells"))
	if o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root); o.code != ExitDone {
		t.Fatalf("after mending: exit %d\n%s", o.code, o.stderr)
	}
	after := tree(t, filepath.Join(root, "cells"))
	for name, want := range before {
		if after[name] != want {
			t.Errorf("%s was not kept", name)
		}
	}
}

func TestStoreInTheWay(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, fakeConfig), t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cells"), []byte("in the way"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root)
	if o.code != ExitFailed || !strings.Contains(o.stderr, "cells") || !strings.Contains(o.stderr, "-out") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}

// The smallest experiment there can be has numbers, if few intervals.
func TestTwoImages(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, fakeConfig), t.TempDir()
	o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root,
		"-set", "sample.count=2", "-set", "reference.count=2", "-set", "reference.base_count=2")
	if o.code != ExitDone {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	// With a reference of full size two images still have no KID, and do not fail.
	if o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", t.TempDir(), "-set", "sample.count=2"); o.code != ExitDone {
		t.Errorf("full reference: exit %d\n%s", o.code, o.stderr)
	}
	s, err := results.ReadSummary(filepath.Join(root, "fake"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Cells {
		if c.Status != "done" || c.Metrics["right_share"].N != 2 || c.Metrics["fid_r"].N != 2 || c.Metrics["fid_r"].HasInterval {
			t.Errorf("%s: %s, %+v", c.Label, c.Status, c.Metrics)
		}
	}
}

// A NaN fails the cell at once and is never stored.
func TestPoisonedFeatures(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, fakeConfig), t.TempDir()
	o := runMain(context.Background(), &fakeEngine{poison: true}, "-config", config, "-out", root)
	if o.code != ExitFailed || !strings.Contains(o.stderr, "feature 3 is NaN") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root); o.code != ExitDone {
		t.Errorf("mended: exit %d\n%s", o.code, o.stderr)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, fakeConfig), t.TempDir()
	o := runMain(context.Background(), &fakeEngine{perImage: time.Millisecond}, "-config", config, "-out", root, "-dry-run")
	if o.code != ExitDone {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	for _, want := range []string{"direct (baseline)", "re-dilation x2, 40% of steps", "0/12", "to run", "measured with one step"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("lacks %q:\n%s", want, o.stdout)
		}
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("a dry run left %v (%v)", entries, err)
	}
	runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root)
	o = runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root, "-dry-run")
	if strings.Contains(o.stdout, "to run") || !strings.Contains(o.stdout, "12/12") {
		t.Errorf("after the run:\n%s", o.stdout)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	config := writeConfig(t, fakeConfig)
	broken := writeConfig(t, strings.Replace(fakeConfig, "steps = 5", "stepz = 5", 1))
	noLayer := writeConfig(t, strings.Replace(fakeConfig, "min_depth = 0", "layers = [\"nothing.*\"]", 1))
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"help", []string{"-h"}, ExitDone, "usage: scalecrafter"},
		{"no config", nil, ExitBadInput, "-config is missing"},
		{"unknown flag", []string{"-confg", "x"}, ExitBadInput, "flag provided but not defined: -confg"},
		{"argument", []string{"-config", config, "trian"}, ExitBadInput, `unexpected argument "trian"`},
		{"workers", []string{"-config", config, "-workers", "-1"}, ExitBadInput, "-workers is -1, want 0 to 4096"},
		{"batch", []string{"-config", config, "-batch", "0"}, ExitBadInput, "-batch is 0, want 1 to 4096"},
		{"out", []string{"-config", config, "-out", ""}, ExitBadInput, "-out is empty"},
		{"no file", []string{"-config", "no/such.toml"}, ExitBadInput, "no such file"},
		{"unknown key", []string{"-config", broken}, ExitBadInput, "fake.toml:7:1: sample.stepz: unknown key\n  did you mean \"steps\"?"},
		{"no layer", []string{"-config", noLayer}, ExitBadInput, `method[3].layers[0]: "nothing.*" matches no layer`},
		{"set", []string{"-config", config, "-set", "sample.count=none"}, ExitBadInput, `-set sample.count=none: sample.count: is "none" (text), want an integer from 2 to 1000000`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := runMain(context.Background(), &fakeEngine{}, append(tt.args[:len(tt.args):len(tt.args)], "-out", t.TempDir())...)
			if tt.name == "out" {
				o = runMain(context.Background(), &fakeEngine{}, tt.args...)
			}
			if o.code != tt.code || !strings.Contains(o.stderr, tt.want) {
				t.Errorf("exit %d, want %d\n%s\nwant %s", o.code, tt.code, o.stderr, tt.want)
			}
		})
	}
}

func TestBrokenWeights(t *testing.T) {
	t.Parallel()
	config := writeConfig(t, fakeConfig)
	var out, err bytes.Buffer
	code := Main(context.Background(), []string{"-config", config, "-out", t.TempDir()}, &out, &err, func(context.Context, string) (Engine, error) {
		return nil, errors.New("unet.safetensors: tensor conv_in.weight: index 3 is NaN")
	})
	if code != ExitBadInput || !strings.Contains(err.String(), `model "builtin": unet.safetensors: tensor conv_in.weight`) {
		t.Errorf("exit %d\n%s", code, err.String())
	}
}
