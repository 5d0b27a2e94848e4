package experiments

import (
	"context"
	"fmt"
	"image"

	"scalecrafter/ablation"
	"scalecrafter/metrics"
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
func (e *engine) UseMath(m kernels.Math)              { e.pipeline.SetMath(m) }
func (e *engine) TrainSize() (h, w int)               { return e.pipeline.TrainSize() }
func (e *engine) Architecture() ablation.Architecture { return e.pipeline.Architecture() }

func (e *engine) Work(h, w int, plan *ablation.LayerPlan) model.Work {
	return e.pipeline.Config.Work(h/model.PixelScale, w/model.PixelScale, plan)
}

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

// stageSmaller is the noise stage of SDEdit's smaller picture, so that its noise
// is not the beginning of the target's; stage 0 is the target's own.
const stageSmaller = 1

func (w *worker) Sample(ctx context.Context, job Job) ([]*image.NRGBA, float64, error) {
	s, err := w.settings(job, job.Height, job.Width, job.Eta)
	if err != nil {
		return nil, 0, err
	}
	s.Plan = job.Plan
	if job.OnStep != nil {
		s.OnStep = func(sampler.StepInfo) { job.OnStep() }
	}
	evaluations := 0
	if job.SDEdit.Tau > 0 {
		s.Start = &sampler.Start{Step: job.SDEdit.Tau}
		if s.Start.Clean, evaluations, err = w.enlarged(ctx, job); err != nil {
			return nil, 0, fmt.Errorf("SDEdit's smaller picture: %w", err)
		}
	}
	latents, err := sampler.Sample(ctx, w.denoiser, s)
	if err != nil {
		return nil, 0, err
	}
	images, err := w.pipeline.Decode(latents, job.Height, job.Width)
	return images, float64(evaluations + s.NFE()), err
}

// settings are the sampler's for a job's samples as pictures of that size.
func (w *worker) settings(job Job, height, width int, eta float64) (sampler.Settings, error) {
	s := sampler.Settings{
		Steps: job.Steps, GuidanceScale: job.GuidanceScale, GuidanceRescale: job.GuidanceRescale,
		Seed: job.Seed, SampleIndex: job.Indices,
		C: w.pipeline.Config.InChannels, H: height / model.PixelScale, W: width / model.PixelScale,
	}
	var err error
	if s.Sampler, err = sampler.New(job.Sampler, w.pipeline.Scheduler, job.Steps, eta); err != nil {
		return s, err
	}
	if got := len(s.Sampler.Timesteps()); got != job.Steps {
		return s, fmt.Errorf("sampler %s makes %d steps of the %d asked for, as neighbouring ones fall on one timestep: ask for fewer, or choose another sampler", job.Sampler, got, job.Steps)
	}
	for _, prompt := range job.Prompts {
		c, err := w.encode(prompt)
		if err != nil {
			return s, fmt.Errorf("prompt %q: %w", prompt, err)
		}
		s.Cond = append(s.Cond, c)
	}
	empty, err := w.encode("")
	s.Uncond = []sampler.Condition{empty}
	return s, err
}

// enlarged draws the job's samples at SDEdit's smaller size by the network as
// trained, enlarges them to the job's size and returns their latents [N,C,H,W]
// with the number of evaluations that each took.
//
// Source: ScaleCrafter, text2image_xl.py: eta 0, 8-bit pictures, PIL's bicubic
// resize (whose height and width it exchanges; not so here).
func (w *worker) enlarged(ctx context.Context, job Job) ([]float32, int, error) {
	trainH, trainW := w.pipeline.TrainSize()
	base := job.SDEdit.Base(ablation.Size{H: trainH, W: trainW}, ablation.Size{H: job.Height, W: job.Width})
	s, err := w.settings(job, base.H, base.W, 0)
	if err != nil {
		return nil, 0, err
	}
	s.Stage = stageSmaller
	latents, err := sampler.Sample(ctx, w.denoiser, s)
	if err != nil {
		return nil, 0, err
	}
	small, err := w.pipeline.Decode(latents, base.H, base.W)
	if err != nil {
		return nil, 0, err
	}
	resizer, err := metrics.NewResizer(metrics.Bicubic, base.H, base.W, job.Height, job.Width)
	if err != nil {
		return nil, 0, err
	}
	size := 3 * job.Height * job.Width
	out := make([]float32, len(small)*size)
	pixels, planes := make([]uint8, 3*base.Pixels()), make([]float32, size)
	for i, img := range small {
		for p := range base.Pixels() {
			for c := range 3 {
				pixels[c*base.Pixels()+p] = img.Pix[4*p+c]
			}
		}
		large, err := resizer.Bytes(pixels)
		if err != nil {
			return nil, 0, err
		}
		for j, v := range large {
			planes[j] = float32(v)/127.5 - 1
		}
		model.PixelUnshuffle(out[i*size:(i+1)*size], planes, job.Height, job.Width)
	}
	return out, s.NFE(), nil
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
