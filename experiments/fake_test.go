package experiments

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"image"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"scalecrafter/ablation"
	"scalecrafter/model"
)

// fakeEngine is a model that draws at once: every pixel is a hash of what
// decides it, so two runs agree in their pictures exactly when they agree in
// settings, prompt, seed, index and plan. What a picture "shows" is read from
// its first pixels. Training size is 16x16 px.
type fakeEngine struct {
	perImage time.Duration // drawing time, for tests that interrupt
	failAt   string        // part of a plan's key whose cells fail
	panicAt  string
	digest   string
	drawn    *int // counts images, when not nil; single worker only
	poison   bool // one feature is NaN
	onSample func(job Job)
}

func (f *fakeEngine) Digest() string        { return "fake-weights" + f.digest }
func (f *fakeEngine) FeatureDigest() string { return "fake-features" }
func (f *fakeEngine) WorldVersion() string  { return "fake-world" }
func (f *fakeEngine) KernelPath() string    { return "fake" }
func (f *fakeEngine) TrainSize() (h, w int) { return 16, 16 }
func (f *fakeEngine) Architecture() ablation.Architecture {
	return ablation.Architecture{
		Levels: 2,
		Convs: []ablation.ConvLayer{
			{Path: "down_blocks.0.resnets.0.conv1", Stride: 1}, {Path: "down_blocks.0.downsamplers.0.conv", Stride: 2},
			{Path: "mid_block.resnets.0.conv1", Stride: 1, Depth: 1}, {Path: "up_blocks.0.resnets.0.conv1", Stride: 1, Depth: 1},
			{Path: "up_blocks.1.resnets.0.conv1", Stride: 1},
		},
		SelfAttention: []string{"mid_block.attentions.0.transformer_blocks.0.attn1"},
	}
}

// Work counts the taps of the fake's convolutions; its one self-attention is
// sharpened by the root of the pixel ratio.
func (f *fakeEngine) Work(h, w int, plan *ablation.LayerPlan) model.Work {
	work := model.Work{AttentionScales: []float64{1}}
	for _, c := range f.Architecture().Convs {
		side := 3
		if plan != nil {
			if t := plan.Dispersion[c.Path]; t != nil {
				side = t.Large
			}
		}
		work.MultiplyAdds += float64(h * w * side * side)
	}
	if plan != nil && plan.AttentionRatio > 0 {
		work.AttentionScales[0] = math.Sqrt(plan.AttentionRatio)
	}
	return work
}

func (f *fakeEngine) NewWorker(threads int) (Worker, error) {
	if threads < 1 {
		return nil, fmt.Errorf("a worker of %d threads", threads)
	}
	return fakeWorker{f}, nil
}

type fakeWorker struct{ *fakeEngine }

func hashOf(parts ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprintln(h, parts...)
	return h.Sum64()
}

// paint fills a picture from a hash; the first pixels say what it shows.
func paint(h, w int, key uint64, verdict Verdict) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	state := key
	for i := 0; i < len(img.Pix); i += 4 {
		state = state*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint32(img.Pix[i:], uint32(state>>33))
		img.Pix[i+3] = 255
	}
	flags := byte(0)
	for i, b := range []bool{verdict.Shape, verdict.Color, verdict.Background, verdict.Pattern} {
		if b {
			flags |= 1 << i
		}
	}
	copy(img.Pix, []byte{byte(verdict.Bodies), byte(verdict.Eyes), byte(verdict.Mouths), 255, flags})
	return img
}

func (f fakeWorker) Sample(ctx context.Context, job Job) ([]*image.NRGBA, float64, error) {
	var keys strings.Builder
	dilated := 0
	for i, p := range job.Plan {
		if i < job.SDEdit.Tau {
			continue
		}
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		fmt.Fprintln(&keys, i, p.Main.Key())
		if p.Damped != nil {
			fmt.Fprintln(&keys, "damped", p.Damped.Key())
		}
		if len(p.Main.Dilation) > 0 {
			dilated++
		}
		if f.perImage > 0 {
			select {
			case <-time.After(f.perImage * time.Duration(len(job.Indices)) / time.Duration(len(job.Plan))):
			case <-ctx.Done():
				return nil, 0, ctx.Err()
			}
		}
		if job.OnStep != nil {
			job.OnStep()
		}
	}
	if f.failAt != "" && strings.Contains(keys.String(), f.failAt) {
		return nil, 0, errors.New("the fake was told to fail")
	}
	if f.panicAt != "" && strings.Contains(keys.String(), f.panicAt) {
		panic("the fake was told to panic")
	}
	if f.onSample != nil {
		f.onSample(job)
	}
	var out []*image.NRGBA
	for i, index := range job.Indices {
		key := hashOf(job.Height, job.Width, job.Prompts[i], index, job.Seed, job.Steps, job.GuidanceScale, job.GuidanceRescale, job.Eta, job.Sampler, job.SDEdit, keys.String())
		// The more dilated steps, the fewer repeated bodies; at the training
		// size all is well.
		v := Verdict{Bodies: 1, Eyes: 2, Mouths: 1, Shape: key%3 > 0, Color: true, Background: key%5 > 0, Pattern: key%2 > 0}
		if job.Height > 16 && int((key>>8)%uint64(len(job.Plan))) >= dilated {
			v.Bodies, v.Eyes, v.Mouths = 2, 4+int(key%3), 2
		}
		out = append(out, paint(job.Height, job.Width, key, v))
		if f.drawn != nil {
			*f.drawn++
		}
	}
	return out, float64(ablation.NFE(job.Plan[job.SDEdit.Tau:], job.GuidanceScale)), nil
}

func (f fakeWorker) Features(imgs []*image.NRGBA) ([][]float32, error) {
	out := make([][]float32, len(imgs))
	for i, img := range imgs {
		v := make([]float32, 6)
		for k, b := range img.Pix {
			v[k%len(v)] += float32(b) / float32(len(img.Pix))
		}
		v[0] += float32(img.Pix[0])
		v[1] += float32(img.Pix[1])
		if f.poison && img.Pix[0] == 2 {
			v[3] = float32(math.NaN())
		}
		out[i] = v
	}
	return out, nil
}

func (f fakeWorker) Judge(prompt string, img *image.NRGBA) (Verdict, error) {
	p := img.Pix
	return Verdict{Bodies: int(p[0]), Eyes: int(p[1]), Mouths: int(p[2]), Shape: p[4]&1 > 0, Color: p[4]&2 > 0, Background: p[4]&4 > 0, Pattern: p[4]&8 > 0}, nil
}

func (f fakeWorker) TrueScene(prompt string, seed, index uint64, h, w int) *image.NRGBA {
	return paint(h, w, hashOf("scene", prompt, seed, index), Verdict{Bodies: 1, Eyes: 2, Mouths: 1, Shape: true, Color: true, Background: true, Pattern: true})
}

func (f fakeWorker) Prompt(seed, index uint64) string {
	return fmt.Sprintf("a fake critter %d", hashOf("prompt", seed, index)%50)
}

// fakeConfig is a small experiment of six cells.
const fakeConfig = `name = "fake"
question = "Does the harness work?"
[sample]
height = 32
width = 32
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
name = "attention"
kind = "attention_scaling"
[[method]]
name = "redilation"
kind = "redilation"
factor = 2
[method.grid]
tau_share = [0.4, 0.8, 1.0]
[[method]]
name = "damped"
kind = "redilation"
factor = 2
tau_share = 0.6
min_depth = 0
[method.damped]
min_depth = 1
[report]
picture_columns = 2
[[report.plot]]
name = "right"
metric = "right_share"
x = "tau_share"
`

// The environment that makes this test binary run the harness on the fake
// engine, as a child process that a test may kill.
const (
	envRun   = "SCALECRAFTER_FAKE_RUN"
	envDelay = "SCALECRAFTER_FAKE_DELAY_MS"
)

func TestMain(m *testing.M) {
	if os.Getenv(envRun) == "" {
		os.Exit(m.Run())
	}
	ms, err := strconv.Atoi(os.Getenv(envDelay))
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f := &fakeEngine{perImage: time.Duration(ms) * time.Millisecond}
	os.Exit(Main(ctx, os.Args[1:], os.Stdout, os.Stderr, opener(f)))
}

func opener(f *fakeEngine) Opener {
	return func(context.Context, string) (Engine, error) { return f, nil }
}
