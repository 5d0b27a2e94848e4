package experiments

import (
	"context"
	"image"
	"reflect"
	"strings"
	"testing"

	"scalecrafter/ablation"
	"scalecrafter/model/critters"
)

// builtin is a worker of the model that is compiled in.
func builtin(t *testing.T) *worker {
	t.Helper()
	e, err := OpenModel(t.Context(), builtinWeights)
	if err != nil {
		t.Fatal(err)
	}
	w, err := e.NewWorker(1)
	if err != nil {
		t.Fatal(err)
	}
	return w.(*worker)
}

func testJob(n int) Job {
	j := Job{Height: 96, Width: 64, Seed: 5, Steps: 4, GuidanceScale: 2, Sampler: "ddim"}
	for i := range n {
		j.Indices = append(j.Indices, uint64(i))
		j.Prompts = append(j.Prompts, critters.PromptAttributes(5, uint64(i)).Prompt())
	}
	return j
}

func sampleJob(t *testing.T, w *worker, j Job) ([]*image.NRGBA, float64) {
	t.Helper()
	pictures, evaluations, err := w.Sample(context.Background(), j)
	if err != nil {
		t.Fatal(err)
	}
	if len(pictures) != len(j.Indices) || pictures[0].Rect.Dy() != j.Height || pictures[0].Rect.Dx() != j.Width {
		t.Fatalf("%d pictures of %v, want %d of %dx%d px", len(pictures), pictures[0].Rect, len(j.Indices), j.Height, j.Width)
	}
	return pictures, evaluations
}

// apart is the mean difference of two pictures' values.
func apart(a, b *image.NRGBA) float64 {
	sum := 0
	for i := range a.Pix {
		d := int(a.Pix[i]) - int(b.Pix[i])
		sum += max(d, -d)
	}
	return float64(sum) / float64(len(a.Pix))
}

// TestSDEditStart runs the whole path with the real model: a start at a late
// step stays near the enlarged small picture, an early one leaves it; the
// evaluations are those of both sizes; the batch changes nothing, nor does the
// plan change the small picture, which is drawn at eta 0 whatever the job's is.
func TestSDEditStart(t *testing.T) {
	w := builtin(t)
	job := testJob(2)
	job.Steps = 10
	steps := 0
	job.OnStep = func() { steps++ }
	near := func(tau int) float64 {
		job.SDEdit = ablation.SDEdit{Tau: tau}
		clean, base, err := w.enlarged(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		large, err := w.pipeline.Decode(clean, job.Height, job.Width)
		if err != nil {
			t.Fatal(err)
		}
		steps = 0
		pictures, evaluations := sampleJob(t, w, job)
		if base != 20 || evaluations != float64(20+2*(10-tau)) || steps != 10-tau {
			t.Errorf("tau %d: %d and in all %g evaluations, %d steps told, want 20, %d and %d", tau, base, evaluations, steps, 20+2*(10-tau), 10-tau)
		}
		sum := 0.0
		for i := range pictures {
			sum += apart(pictures[i], large[i])
		}
		return sum / float64(len(pictures))
	}
	if late, early := near(9), near(1); late > 8 || early < 2*late {
		t.Errorf("a start at the last step is %.1f of 255 from the picture given, at the second %.1f: want at most 8, and twice as much", late, early)
	}

	job.SDEdit, job.Eta = ablation.SDEdit{Tau: 6, Scale: 1.5}, 1
	job.Plan = make([]ablation.StepPlan, job.Steps)
	plain, _, err := w.enlarged(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	batch, _ := sampleJob(t, w, job)
	for i := range job.Plan {
		job.Plan[i].Main = &ablation.LayerPlan{AttentionRatio: 1.5}
	}
	job.Eta = 0
	other, _, err := w.enlarged(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(plain, other) {
		t.Error("the plan or eta changes the small picture")
	}
	job.Plan, job.Eta = nil, 1
	job.Indices, job.Prompts = job.Indices[1:2], job.Prompts[1:2]
	if alone, _ := sampleJob(t, w, job); !reflect.DeepEqual(alone[0].Pix, batch[1].Pix) {
		t.Error("a picture alone has other bits than in a batch")
	}
}

// TestJobSamplers: every sampler draws its own picture from one seed; names
// that there are none of, and etas that a sampler does not take, are errors.
func TestJobSamplers(t *testing.T) {
	w := builtin(t)
	seen := map[string]string{}
	for _, name := range []string{"ddim", "euler", "euler_ancestral", "dpmpp_2m"} {
		job := testJob(1)
		job.Sampler = name
		pictures, evaluations := sampleJob(t, w, job)
		if evaluations != 8 {
			t.Errorf("%s: %g evaluations, want 8", name, evaluations)
		}
		key := string(pictures[0].Pix)
		if other, ok := seen[key]; ok {
			t.Errorf("%s draws the picture of %s", name, other)
		}
		seen[key] = name
	}
	for _, tt := range []struct {
		change func(j *Job)
		want   string
	}{
		{func(j *Job) { j.Sampler = "heun" }, `sampler "heun" is not known`},
		{func(j *Job) { j.Sampler, j.Eta = "euler", 0.5 }, `"euler" takes no eta`},
		{func(j *Job) { j.SDEdit = ablation.SDEdit{Tau: 4} }, "Start at step 4 of 4"},
		{func(j *Job) { j.Prompts[0] = "an unheard-of word" }, `prompt "an unheard-of word"`},
	} {
		job := testJob(1)
		tt.change(&job)
		if _, _, err := w.Sample(context.Background(), job); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want one with %q", err, tt.want)
		}
	}
}

// TestJobPlans: dispersion and FreeU in a job's plan reach the network.
func TestJobPlans(t *testing.T) {
	w := builtin(t)
	fit, err := ablation.KnownDispersions[0].Solve()
	if err != nil {
		t.Fatal(err)
	}
	redilated, dispersed := map[string]ablation.Factor{}, map[string]*ablation.Transform{}
	for _, c := range w.pipeline.Architecture().Convs {
		if c.Depth >= 1 {
			redilated[c.Path], dispersed[c.Path] = ablation.Factor{H: 1, W: 1}, fit.Transform
		}
	}
	seen := map[string]int{}
	for i, plan := range []*ablation.LayerPlan{nil, {Dilation: redilated, Dispersion: dispersed}, {FreeU: &ablation.FreeUPresets[0].FreeU}} {
		job := testJob(1)
		job.Plan = make([]ablation.StepPlan, job.Steps)
		for step := range 2 {
			job.Plan[step].Main = plan
		}
		pictures, _ := sampleJob(t, w, job)
		key := string(pictures[0].Pix)
		if other, ok := seen[key]; ok {
			t.Errorf("plan %d draws the picture of plan %d", i, other)
		}
		seen[key] = i
	}
}
