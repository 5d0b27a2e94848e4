package experiments

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"scalecrafter/ablation"
	"scalecrafter/configs"
	"scalecrafter/reports/results"
)

// panelConfig runs at two sizes, the damped method at the larger only.
const panelConfig = `name = "fake"
question = "Does it work at every size?"
[sample]
sizes = [[32, 32], [48, 32]]
count = 12
steps = 5
guidance_scale = 3.0
seed = 7
[reference]
count = 150
base_count = 10
[[method]]
name = "direct"
kind = "direct"
baseline = true
[[method]]
name = "half"
kind = "redilation"
factor = 2
tau_share = 0.4
[[method]]
name = "whole"
kind = "redilation"
factor = 2
tau_share = 1.0
[[method]]
name = "damped"
kind = "redilation"
factor = 2
tau_share = 0.6
min_depth = 0
only = ["48x32"]
[method.damped]
min_depth = 1
[report]
columns = ["right_share", "fid_r"]
picture_columns = 2
[[report.compare]]
name = "more steps"
from = "half"
to = "whole"
[[report.compare]]
name = "damping"
from = "half"
to = "damped"
[[report.plot]]
name = "over_size"
metric = "right_share"
x = "size"
[[report.plot]]
name = "by_cell"
metric = "excess_bodies"
`

// panelImages are the images of a whole run: cells, the shared base-resolution
// samples once, and true scenes.
const panelImages = (3+4)*12 + 10

func TestPanels(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, panelConfig), t.TempDir()
	drawn, base := 0, 0
	f := &fakeEngine{drawn: &drawn, onSample: func(job Job) {
		if job.Height == 16 {
			base += len(job.Indices)
		}
	}}
	o := runMain(context.Background(), f, "-config", config, "-out", root, "-workers", "1")
	if o.code != ExitDone {
		t.Fatalf("exit %d\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	if drawn != panelImages || base != 10 {
		t.Errorf("drew %d images, %d of them at the training size; want %d and 10: shared work is drawn once", drawn, base, panelImages)
	}
	if want := fmt.Sprintf("images %d/%d", panelImages+24, panelImages+24); !strings.Contains(o.stderr, want) {
		t.Errorf("the progress does not count all panels, want %q:\n%s", want, o.stderr)
	}
	run := filepath.Join(root, "fake")
	j, err := results.ReadJoint(run)
	if err != nil {
		t.Fatal(err)
	}
	if len(j.Panels) != 2 || j.Panels[0].Folder != "32x32" || j.Panels[1].Folder != "48x32" {
		t.Fatalf("panels %+v", j.Panels)
	}
	if _, err := results.ReadSummary(run); err == nil || !strings.Contains(err.Error(), "several sizes") {
		t.Errorf("the joint summary passes for one size: %v", err)
	}
	for i, cells := range []int{3, 4} {
		s, err := results.ReadSummary(filepath.Join(run, j.Panels[i].Folder))
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Cells) != cells || len(j.Panels[i].Summary.Cells) != cells {
			t.Errorf("%s: %d cells, %d in the joint summary; want %d", j.Panels[i].Folder, len(s.Cells), len(j.Panels[i].Summary.Cells), cells)
		}
		if want := fmt.Sprintf("%dx%d", s.Height, s.Width); want != j.Panels[i].Folder {
			t.Errorf("folder %s holds size %s", j.Panels[i].Folder, want)
		}
		if len(s.Comparisons) != i+1 || len(s.Plots) != 1 {
			t.Errorf("%s: %d comparisons, %d plots; want %d and the one that is not over size", j.Panels[i].Folder, len(s.Comparisons), len(s.Plots), i+1)
		}
		for k, c := range s.Cells {
			if c.Status != "done" || (len(c.Effects) == 0) != c.Baseline || c.Baseline != (k == 0) {
				t.Errorf("%s: cell %s: %s, baseline %v, %d effects", j.Panels[i].Folder, c.Label, c.Status, c.Baseline, len(c.Effects))
			}
			if _, err := os.Stat(filepath.Join(run, j.Panels[i].Folder, filepath.FromSlash(c.Images[1]))); err != nil {
				t.Error(err)
			}
		}
		for _, name := range []string{"report.html", "report.md", "report.txt", "config.toml", "tables/results.csv", "tables/comparisons.csv", "figures/by_cell.svg", "figures/pictures.png"} {
			if _, err := os.Stat(filepath.Join(run, j.Panels[i].Folder, name)); err != nil {
				t.Error(err)
			}
		}
		// A panel's configuration is a whole one: run alone it needs nothing.
		alone := runMain(context.Background(), &fakeEngine{drawn: &drawn}, "-config", filepath.Join(run, j.Panels[i].Folder, "config.toml"), "-out", root, "-dry-run")
		if alone.code != ExitDone || strings.Contains(alone.stdout, "to run") {
			t.Errorf("the panel's own configuration: exit %d\n%s%s", alone.code, alone.stdout, alone.stderr)
		}
	}

	// The joint report: both sizes, links, the comparisons, the plot over size.
	page, err := os.ReadFile(filepath.Join(run, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`href="32x32/report.html"`, `href="48x32/report.html"`, "48×32 px", "more steps, 32×32 px", "damping, 48×32 px", "data:image/png;base64,", "<svg"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the joint page lacks %q", want)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(string(page), -1) {
		if p := m[1]; !strings.HasPrefix(p, "data:") && !strings.HasPrefix(p, "#") && p != "32x32/report.html" && p != "48x32/report.html" {
			t.Errorf("the joint page links to %q", p)
		}
	}
	for _, name := range []string{"report.md", "report.txt", "config.toml", "figures/over_size.png", "tables/results.csv", "tables/comparisons.csv"} {
		if _, err := os.Stat(filepath.Join(run, name)); err != nil {
			t.Error(err)
		}
	}
	lines, err := csv.NewReader(strings.NewReader(readText(t, filepath.Join(run, "tables", "results.csv")))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if want := 1 + (3 + 2) + (4 + 2); len(lines) != want {
		t.Errorf("the joint table has %d lines, want %d", len(lines), want)
	}
	for _, want := range []string{"32×32 px, 4× the training pixels", "48×32 px, 6× the training pixels", "What each component adds", "Answer"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("the terminal lacks %q:\n%s", want, o.stdout)
		}
	}
	var text strings.Builder
	for _, f := range j.Findings {
		text.WriteString(f.Text + "\n")
	}
	for _, want := range []string{"At every size, 32x32 and 48x32 px, the best setting found beats the baseline on every one of right pictures, excess bodies, excess eyes, FID_r and KID_r.", "not significant after Holm's correction: ",
		"At 32x32 px (4 times the training pixels): The best of the 2 settings tried", "At 48x32 px (6 times the training pixels): The best of the 3",
		"More steps at 32x32 px (", "Damping at 48x32 px (", "n = 12 pairs"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the findings lack %q:\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "Damping at 32x32") {
		t.Errorf("a comparison with a method that does not run there:\n%s", text.String())
	}

	// Again: nothing is drawn, nothing changes.
	before := tree(t, root)
	drawn = 0
	if o := runMain(context.Background(), f, "-config", config, "-out", root, "-workers", "1"); o.code != ExitDone || drawn != 0 {
		t.Errorf("second run: exit %d, drew %d images\n%s", o.code, drawn, o.stderr)
	}
	sameTree(t, tree(t, root), before)
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The cells of a panel are those of an experiment of that size alone, so that
// the two share what they have drawn.
func TestPanelsShareWithSingle(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if o := runMain(context.Background(), &fakeEngine{}, "-config", writeConfig(t, panelConfig), "-out", root); o.code != ExitDone {
		t.Fatal(o.stderr)
	}
	single := strings.Replace(panelConfig, "sizes = [[32, 32], [48, 32]]", "height = 48\nwidth = 32", 1)
	single = strings.Replace(strings.Replace(single, "name = \"fake\"", "name = \"alone\"", 1), "only = [\"48x32\"]\n", "", 1)
	drawn := 0
	if o := runMain(context.Background(), &fakeEngine{drawn: &drawn}, "-config", writeConfig(t, single), "-out", root, "-workers", "1"); o.code != ExitDone || drawn != 0 {
		t.Fatalf("exit %d, drew %d images that the panel has\n%s", o.code, drawn, o.stderr)
	}
	if _, err := os.Stat(filepath.Join(root, "alone", "48x32")); err == nil {
		t.Error("an experiment of one size has a folder a size")
	}
	if _, err := results.ReadSummary(filepath.Join(root, "alone")); err != nil {
		t.Error(err)
	}
}

// Killed six times over both panels, the same command ends with the same.
func TestPanelsKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config, root, calm := writeConfig(t, panelConfig), t.TempDir(), t.TempDir()
	start := func(root string) *exec.Cmd {
		cmd := exec.Command(self, "-config", config, "-out", root, "-workers", "2", "-batch", "2")
		cmd.Env = append(os.Environ(), envRun+"=1", envDelay+"=10")
		return cmd
	}
	const files = 2*(panelImages+2*12) + 2*10
	for i := range 6 {
		cmd := start(root)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for over := false; !over; {
			select {
			case err := <-ended:
				t.Fatalf("run %d ended by itself at %d files: %v", i, countFiles(t, root), err)
			case <-time.After(2 * time.Millisecond):
				over = countFiles(t, root) >= i*files/7
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := <-ended; !errors.As(err, &exit) || exit.ExitCode() != -1 {
			t.Fatalf("run %d was not killed: %v", i, err)
		}
	}
	for _, folder := range []string{root, calm} {
		if out, err := start(folder).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	sameTree(t, tree(t, root), tree(t, calm))
}

// Ctrl-C in the panel drawn second, the cheaper one, keeps the first; the counts
// are over both.
func TestPanelsInterrupt(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, panelConfig), t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	var once sync.Once
	f := &fakeEngine{onSample: func(job Job) {
		if job.Height == 32 {
			once.Do(cancel)
		}
	}, perImage: time.Millisecond}
	o := runMain(ctx, f, "-config", config, "-out", root, "-batch", "2", "-workers", "1")
	if o.code != ExitInterrupted || !regexp.MustCompile(fmt.Sprintf(`interrupted: \d+ of %d images are finished`, panelImages+24)).MatchString(o.stderr) {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	drawn := 0
	if o := runMain(context.Background(), &fakeEngine{drawn: &drawn}, "-config", config, "-out", root, "-workers", "1"); o.code != ExitDone {
		t.Fatalf("resumed: exit %d\n%s", o.code, o.stderr)
	}
	if drawn == 0 || drawn > 3*12+10 {
		t.Errorf("drew %d images after the interruption, want some of the cheaper panel's 36 and the base's 10", drawn)
	}
}

// A cell that fails at one size leaves the other whole, and both are reported.
func TestPanelsFailedCell(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, panelConfig), t.TempDir()
	o := runMain(context.Background(), &fakeEngine{failAt: "damped"}, "-config", config, "-out", root)
	if o.code != ExitFailed || !strings.Contains(o.stderr, "(48x32 re-dilation x2") {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	j, err := results.ReadJoint(filepath.Join(root, "fake"))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 1} {
		failed := 0
		for _, c := range j.Panels[i].Summary.Cells {
			if c.Status == "failed" {
				failed++
			}
		}
		if failed != want {
			t.Errorf("%s: %d failed cells, want %d", j.Panels[i].Folder, failed, want)
		}
	}
	text := fmt.Sprint(j.Findings)
	if !strings.Contains(text, "At 48x32 px 1 of 4 cells failed") || strings.Contains(text, "Damping") {
		t.Errorf("findings: %s", text)
	}
	if !strings.Contains(readText(t, filepath.Join(root, "fake", "report.html")), "1 cell failed") {
		t.Error("the joint page hides the failure")
	}
	if o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root); o.code != ExitDone {
		t.Errorf("second run: exit %d\n%s", o.code, o.stderr)
	}
}

// All panels are planned before anything runs: every error once, with the
// sizes where it is one.
func TestPanelsErrors(t *testing.T) {
	t.Parallel()
	text := strings.Replace(panelConfig, "sizes = [[32, 32], [48, 32]]", "sizes = [[16, 16], [32, 32]]", 1)
	text = strings.Replace(text, "only = [\"48x32\"]\n", "", 1)
	text = strings.Replace(text, "[report]\n", "[[method]]\nname = \"attention\"\nkind = \"attention_scaling\"\n[[method]]\nname = \"nowhere\"\nkind = \"redilation\"\nfactor = 2\ntau = 1\nlayers = [\"none.*\"]\n[report]\n", 1)
	root := t.TempDir()
	o := runMain(context.Background(), &fakeEngine{}, "-config", writeConfig(t, text), "-out", root)
	if o.code != ExitBadInput || strings.Count(o.stderr, `"none.*" matches no layer`) != 1 || strings.Contains(o.stderr, `px: "none.*"`) ||
		!strings.Contains(o.stderr, "at 16x16 px: attention scaling never takes effect") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("something ran: %v (%v)", entries, err)
	}
}

// A second process is kept out of every panel.
func TestPanelsLock(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, panelConfig), t.TempDir()
	lock, err := lockFolder(filepath.Join(root, "fake"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.release()
	if o := runMain(context.Background(), &fakeEngine{}, "-config", config, "-out", root); o.code != ExitFailed || !strings.Contains(o.stderr, "is in use by process") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
}

func TestPanelsDryRun(t *testing.T) {
	t.Parallel()
	config, root := writeConfig(t, panelConfig), t.TempDir()
	o := runMain(context.Background(), &fakeEngine{perImage: 2 * time.Millisecond}, "-config", config, "-out", root, "-dry-run")
	if o.code != ExitDone {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	for _, want := range []string{"3 cells of 12 images at 32x32 px", "4 cells of 12 images at 48x32 px", "(shared with a size above)", "all 2 sizes: about"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("lacks %q:\n%s", want, o.stdout)
		}
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("a dry run left %v (%v)", entries, err)
	}
}

// The receipt says, step by step and layer by layer, what the plan that the
// sampler was handed says.
func TestReceiptIsThePlan(t *testing.T) {
	t.Parallel()
	const text = `name = "fake"
[sample]
height = 48
width = 32
count = 2
steps = 10
guidance_scale = 3.0
[reference]
count = 20
base_count = 2
[[method]]
name = "direct"
kind = "direct"
baseline = true
[[method]]
name = "everything"
kind = "redilation"
factor = [3, 2]
tau = 8
min_depth = 0
decay = "linear"
attention_scaling = true
guidance_scale = 5.0
guidance_rescale = 0.5
freeu = { b1 = 1.1, b2 = 1.2, s1 = 0.9, s2 = 0.5 }
sdedit = { tau = 2 }
[method.damped]
tau = 6
min_depth = 1
[method.dispersion]
kernel = 5
tau = 4
min_depth = 1
[[method]]
name = "unguided"
kind = "redilation"
factor = 2
tau = 8
min_depth = 0
guidance_scale = 1.0
`
	jobs := map[string]Job{}
	var mu sync.Mutex
	f := &fakeEngine{onSample: func(job Job) {
		mu.Lock()
		defer mu.Unlock()
		jobs[fmt.Sprint(job.Height, job.GuidanceScale)] = job
	}}
	root := t.TempDir()
	if o := runMain(context.Background(), f, "-config", writeConfig(t, text), "-out", root); o.code != ExitDone {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	s, err := results.ReadSummary(filepath.Join(root, "fake"))
	if err != nil {
		t.Fatal(err)
	}
	arch := f.Architecture()
	for i, key := range []string{"48 3", "48 5", "48 1"} {
		cell, job := &s.Cells[i], jobs[key]
		if len(job.Plan) != 10 || *cell.GuidanceScale != job.GuidanceScale || *cell.GuidanceRescale != job.GuidanceRescale || (cell.SDEdit != nil) != (i == 1) {
			t.Fatalf("%s: %d steps, guidance %v rescale %v, SDEdit %+v", cell.Label, len(job.Plan), *cell.GuidanceScale, *cell.GuidanceRescale, cell.SDEdit)
		}
		rows := map[string]*results.PlanRow{}
		for k := range cell.Plan {
			r := &cell.Plan[k]
			rows[r.Network+" "+r.Layer] = r
			if want := arch.Convs[k%len(arch.Convs)].Path; r.Layer != want {
				t.Errorf("%s: row %d is %s, want %s", cell.Label, k, r.Layer, want)
			}
		}
		dampedSteps, dispersed := 0, 0
		for step, p := range job.Plan {
			row := cell.Steps[step]
			if step < job.SDEdit.Tau {
				if !row.Skipped() || row.Cond != "" {
					t.Errorf("%s step %d was skipped, the receipt says %+v", cell.Label, step, row)
				}
				for name, r := range rows {
					if side, _ := r.Kernel(step); r.Factors[step] != 0 || r.Column(step) != 0 || side != 0 {
						t.Errorf("%s step %d was skipped, but %s has factor %v", cell.Label, step, name, r.Factors[step])
					}
				}
				continue
			}
			guided := job.GuidanceScale > 1
			want := results.StepRow{Cond: "main", Main: &results.NetworkRow{}}
			damped := guided && p.Damped != nil
			if guided {
				want.Base, want.Uncond = "main", "main"
			}
			if damped {
				dampedSteps++
				want.Base, want.Damped = "damped", &results.NetworkRow{}
			}
			if row.Base != want.Base || row.Uncond != want.Uncond || row.Cond != want.Cond || (row.Damped != nil) != damped || row.Main == nil {
				t.Errorf("%s step %d: terms %+v, want %+v", cell.Label, step, row, want)
			}
			for _, n := range []struct {
				name string
				plan *ablation.LayerPlan
				got  *results.NetworkRow
			}{{"main", p.Main, row.Main}, {"damped", p.Damped, row.Damped}} {
				on := n.name == "main" || damped
				if on && n.got.AttentionRatio != n.plan.AttentionRatio {
					t.Errorf("%s step %d %s: attention ratio %v, want %v", cell.Label, step, n.name, n.got.AttentionRatio, n.plan.AttentionRatio)
				}
				if n.name == "main" && i < 2 && n.plan.AttentionRatio != 0 != (len(cell.Attention) > 0) {
					t.Errorf("%s: ratio %v and %d rows of self-attention", cell.Label, n.plan.AttentionRatio, len(cell.Attention))
				}
				for _, r := range cell.Attention {
					want := 0.0
					if on {
						want = f.Work(job.Height, job.Width, n.plan).AttentionScales[0]
					}
					if r.Network == n.name && (r.Scales[step] != want || r.Layer != arch.SelfAttention[0]) {
						t.Errorf("%s step %d %s: %s scaled by %v, want %v", cell.Label, step, n.name, r.Layer, r.Scales[step], want)
					}
				}
				if on && n.plan.FreeU != nil != (n.got.FreeU != nil) {
					t.Errorf("%s step %d %s: FreeU %v, want %v", cell.Label, step, n.name, n.got.FreeU, n.plan.FreeU)
				}
				if on && n.plan.FreeU != nil && fmt.Sprint(n.got.FreeU) != fmt.Sprintf("[%v %v %v %v]", n.plan.FreeU.B1, n.plan.FreeU.B2, n.plan.FreeU.S1, n.plan.FreeU.S2) {
					t.Errorf("%s step %d %s: FreeU %v, want %+v", cell.Label, step, n.name, n.got.FreeU, *n.plan.FreeU)
				}
				for _, conv := range arch.Convs {
					r := rows[n.name+" "+conv.Path]
					factor, kernel, transform := ablation.Factor{H: 1, W: 1}, 3, ""
					if !on {
						factor, kernel = ablation.Factor{}, 0
					} else if f, ok := n.plan.Dilation[conv.Path]; ok {
						factor = f
						if tr := n.plan.Dispersion[conv.Path]; tr != nil {
							kernel, transform = tr.Large, tr.Name
							dispersed++
						}
					}
					if r == nil {
						if on && (factor != ablation.Factor{H: 1, W: 1}) {
							t.Errorf("%s step %d: no row for %s %s", cell.Label, step, n.name, conv.Path)
						}
						continue
					}
					side, name := r.Kernel(step)
					if r.Factors[step] != factor.H || r.Column(step) != factor.W || side != kernel || name != transform {
						t.Errorf("%s step %d %s %s: %v×%v, kernel %d %q; the plan has %v, %d %q", cell.Label, step, n.name, conv.Path, r.Factors[step], r.Column(step), side, name, factor, kernel, transform)
					}
				}
			}
		}
		switch i {
		case 0:
			if len(cell.Plan) != 0 {
				t.Errorf("direct sampling has %d rows", len(cell.Plan))
			}
		case 1:
			if dampedSteps != 4 || dispersed == 0 || len(cell.Plan) != 2*len(arch.Convs) {
				t.Errorf("%d damped steps, %d dispersed layers, %d rows: the test proves nothing", dampedSteps, dispersed, len(cell.Plan))
			}
		case 2:
			if len(cell.Plan) != len(arch.Convs) {
				t.Errorf("without guidance: %d rows, want %d of the one network", len(cell.Plan), len(arch.Convs))
			}
		}
	}
	text2 := readText(t, filepath.Join(root, "fake", "report.txt"))
	for _, want := range []string{"V, which gave the base term in steps 2–5", "steps 0–1 skipped", "with a dispersed kernel (5×5", "guidance rescale 0.5",
		"attention sharpened ×2.45 for ×6 pixels"} {
		if !strings.Contains(strings.Join(strings.Fields(text2), " "), want) {
			t.Errorf("the terminal report lacks %q:\n%s", want, text2)
		}
	}
	if files, err := filepath.Glob(filepath.Join(root, "fake", "tables", "receipt_*.csv")); err != nil || len(files) != 2 {
		t.Errorf("receipts as data: %v (%v), want two", files, err)
	}
}

// Errors of panels keep the file's order and name the sizes.
func TestJoinErrors(t *testing.T) {
	var panels []*configs.Config
	for _, height := range []int{16, 32, 48} {
		panels = append(panels, &configs.Config{Sample: configs.Sample{Height: height, Width: 16}})
	}
	e := func(line int, what string) *configs.Error {
		return &configs.Error{File: "f", Pos: configs.Pos{Line: line, Col: 1}, Key: "k", What: what}
	}
	got := joinErrors(panels, []configs.Errors{{e(9, "a"), e(2, "b")}, {e(9, "a")}, {e(9, "a"), e(5, "c")}})
	var text bytes.Buffer
	for _, e := range got {
		fmt.Fprintf(&text, "%d %s; ", e.Pos.Line, e.What)
	}
	if want := "2 at 16x16 px: b; 5 at 48x16 px: c; 9 a; "; text.String() != want {
		t.Errorf("%q, want %q", text.String(), want)
	}
}

// The sentences say what the numbers say and no more.
func TestVerdictSentences(t *testing.T) {
	effect := func(mean, half float64, significant bool) results.Effect {
		return results.Effect{Value: results.Value{Mean: mean, Lo: mean - half, Hi: mean + half, HasInterval: true, N: 96}, Significant: significant}
	}
	none := results.Effect{Value: results.Value{Mean: 1, N: 2}}
	for _, tt := range []struct {
		name    string
		effects map[string]results.Effect
		want    string
	}{
		{"helps", map[string]results.Effect{"right_share": effect(.1, .05, true), "fid_r": effect(-3, 1, true)},
			"X helps in right pictures +10.0 points [+5.0, +15.0] and FID_r -3.00 [-4.00, -2.00] (n = 96 pairs, Holm-corrected over the table)."},
		{"mixed", map[string]results.Effect{"right_share": effect(-.1, .05, true), "fid_r": effect(-3, 1, true)},
			"X helps in FID_r -3.00 [-4.00, -2.00] and harms in right pictures -10.0 points [-15.0, -5.0] (n = 96 pairs, Holm-corrected over the table)."},
		{"unclear", map[string]results.Effect{"right_share": effect(.1, .2, false), "fid_r": effect(-3, 1, false)},
			"X: no difference could be shown in right pictures +10.0 points [-10.0, +30.0]; not significant after Holm's correction: FID_r -3.00 [-4.00, -2.00] (n = 96 pairs, Holm-corrected over the table)."},
		{"half", map[string]results.Effect{"right_share": effect(.1, .05, true), "fid_r": none},
			"X helps in right pictures +10.0 points [+5.0, +15.0] (n = 96 pairs, Holm-corrected over the table); without an interval: FID_r."},
		{"nothing", map[string]results.Effect{"fid_r": none}, "X: nothing can be said, because no interval could be drawn; more samples are needed."},
	} {
		if got := judge(tt.effects, []string{"right_share", "fid_r"}).sentence("X"); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
	base := results.Cell{Label: "direct", Baseline: true, Status: "done", N: 96}
	summary := func(effects ...map[string]results.Effect) *results.Summary {
		s := &results.Summary{Columns: []results.Metric{{Key: "right_share"}, {Key: "fid_r"}}, Cells: []results.Cell{base}}
		for i, e := range effects {
			s.Cells = append(s.Cells, results.Cell{Label: fmt.Sprint("m", i), Status: "done", Effects: e,
				Metrics: map[string]results.Value{"right_share": {Mean: float64(i) / 10}}})
		}
		return s
	}
	good := map[string]results.Effect{"right_share": effect(.1, .05, true), "fid_r": effect(-3, 1, true)}
	half := map[string]results.Effect{"right_share": effect(.4, .05, true), "fid_r": effect(3, 1, true)}
	flat := map[string]results.Effect{"right_share": effect(.1, .2, false), "fid_r": effect(-3, 4, false)}
	for _, tt := range []struct {
		s    *results.Summary
		want string
	}{
		{summary(good, half), "The best of the 2 settings tried, m0, beats direct on every one of right pictures and FID_r (n = 96 pairs, Holm-corrected over the table)." +
			" M0 against direct helps in right pictures +10.0 points [+5.0, +15.0] and FID_r -3.00"},
		{summary(flat, half), "The best of the 2 settings tried, m1, beats direct on right pictures, but not on FID_r (n = 96 pairs, Holm-corrected over the table)." +
			" M1 against direct helps in right pictures +40.0 points [+35.0, +45.0] and harms in FID_r +3.00"},
		{summary(flat, flat), "None of the 2 settings tried beats direct on any of right pictures and FID_r (n = 96 pairs, Holm-corrected over the table)." +
			" M1 against direct: no difference could be shown in right pictures"},
		{summary(half), "The one setting tried, m0, beats direct on right pictures, but not on FID_r (n"},
		{summary(flat), "The one setting tried, m0, does not beat direct on any of right pictures and FID_r (n"},
		{summary(map[string]results.Effect{"fid_r": none}), "With 96 samples a cell no interval could be drawn, so nothing can be said about the settings tried (1)."},
	} {
		best := findBest(tt.s)
		if got := best.headline(&tt.s.Cells[0], mainColumns(tt.s)) + " " + best.detail(&tt.s.Cells[0]); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s\nwant %s", got, tt.want)
		}
	}
}
