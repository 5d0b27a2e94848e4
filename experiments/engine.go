package experiments

import (
	"context"
	"fmt"
	"image"

	"scalecrafter/ablation"
	"scalecrafter/metrics/features"
	"scalecrafter/model"
	"scalecrafter/model/critters"
	"scalecrafter/model/kernels"
	"scalecrafter/model/sampler"
	"scalecrafter/model/train"
)

// builtinWeights names the embedded model in a configuration.
const builtinWeights = "builtin"

// OpenModel loads the model that a configuration names: "builtin", or a folder
// in diffusers' layout that was trained on the critters world. It is the Opener
// of the program.
func OpenModel(_ context.Context, weights string) (Engine, error) {
	var p *model.Pipeline
	var err error
	if weights == builtinWeights {
		p, err = model.LoadBuiltin()
	} else {
		p, err = model.Load(weights)
	}
	if err != nil {
		return nil, err
	}
	b, err := model.CritterNetWeights()
	if err != nil {
		return nil, err
	}
	net, err := features.NewCritterNet(b, "built-in critter_net.safetensors", train.CritterClasses())
	if err != nil {
		return nil, err
	}
	return &engine{pipeline: p, net: net}, nil
}

// engine is a diffusion model on the critters world, its renderer as the truth,
// the detector and critter-net as its judges.
type engine struct {
	pipeline *model.Pipeline
	net      *features.CritterNet
}

func (e *engine) Digest() string        { return e.pipeline.Digest() }
func (e *engine) FeatureDigest() string { return e.net.Digest() }
func (e *engine) WorldVersion() string {
	return critters.Version + " " + critters.DetectorVersion
}
func (e *engine) KernelPath() string                  { return kernels.Path() }
func (e *engine) TrainSize() (h, w int)               { return e.pipeline.TrainSize() }
func (e *engine) Architecture() ablation.Architecture { return e.pipeline.Architecture() }

func (e *engine) NewWorker(threads int) (Worker, error) {
	return &worker{engine: e, denoiser: e.pipeline.NewWorker(threads), reader: e.net.NewExtractor(), prompts: map[string]sampler.Condition{}, readings: map[*image.NRGBA]features.Reading{}}, nil
}

type worker struct {
	*engine
	denoiser *model.Worker
	reader   *features.Extractor
	prompts  map[string]sampler.Condition // encoded

	// Features and Judge read the same pictures one after the other; what
	// critter-net saw in the last batch is kept.
	readings map[*image.NRGBA]features.Reading
}

// read is critter-net's reading of a picture.
func (w *worker) read(img *image.NRGBA) (features.Reading, error) {
	if r, ok := w.readings[img]; ok {
		return r, nil
	}
	r, err := w.reader.Read(img)
	if err != nil {
		return r, err
	}
	if len(w.readings) >= keptReadings {
		clear(w.readings)
	}
	w.readings[img] = r
	return r, nil
}

// keptReadings bounds how many pictures' readings a worker keeps.
const keptReadings = 128

func (w *worker) encode(prompt string) (sampler.Condition, error) {
	if c, ok := w.prompts[prompt]; ok {
		return c, nil
	}
	c, err := w.pipeline.Encode(prompt)
	if err == nil {
		w.prompts[prompt] = c
	}
	return c, err
}

func (w *worker) Sample(ctx context.Context, job Job) ([]*image.NRGBA, float64, error) {
	cfg := w.pipeline.Config
	s := sampler.Settings{
		Steps: job.Steps, GuidanceScale: job.GuidanceScale, GuidanceRescale: job.GuidanceRescale, Eta: job.Eta,
		Seed: job.Seed, SampleIndex: job.Indices, Schedule: w.pipeline.Scheduler, Plan: job.Plan,
		C: cfg.InChannels, H: job.Height / model.PixelScale, W: job.Width / model.PixelScale,
	}
	for _, prompt := range job.Prompts {
		c, err := w.encode(prompt)
		if err != nil {
			return nil, 0, fmt.Errorf("prompt %q: %w", prompt, err)
		}
		s.Cond = append(s.Cond, c)
	}
	empty, err := w.encode("")
	if err != nil {
		return nil, 0, err
	}
	s.Uncond = []sampler.Condition{empty}
	if job.OnStep != nil {
		s.OnStep = func(sampler.StepInfo) { job.OnStep() }
	}
	latents, err := sampler.Sample(ctx, w.denoiser, s)
	if err != nil {
		return nil, 0, err
	}
	images, err := w.pipeline.Decode(latents, job.Height, job.Width)
	return images, float64(s.NFE()), err
}

func (w *worker) Features(images []*image.NRGBA) ([][]float32, error) {
	out := make([][]float32, len(images))
	for i, img := range images {
		r, err := w.read(img)
		if err != nil {
			return nil, err
		}
		out[i] = r.Features
	}
	return out, nil
}

func (w *worker) Judge(prompt string, img *image.NRGBA) (Verdict, error) {
	want, err := critters.ParsePrompt(prompt)
	if err != nil {
		return Verdict{}, err
	}
	r, err := w.read(img)
	if err != nil {
		return Verdict{}, err
	}
	c := critters.Detect(img)
	return Verdict{
		Bodies: c.Bodies, Eyes: c.Eyes, Mouths: c.Mouths,
		Shape: r.Shape == want.Shape, Color: r.Color == want.Color,
		Background: r.Background == want.Background, Pattern: r.Pattern == want.Pattern,
	}, nil
}

func (w *worker) TrueScene(prompt string, seed, index uint64, height, width int) *image.NRGBA {
	a, err := critters.ParsePrompt(prompt)
	if err != nil { // the prompt is this worker's own
		panic(err)
	}
	return critters.NewSceneFor(seed, index, a).Render(height, width)
}

func (w *worker) Prompt(seed, index uint64) string {
	return critters.PromptAttributes(seed, index).Prompt()
}
