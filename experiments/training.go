package experiments

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"scalecrafter/configs"
	"scalecrafter/model"
	"scalecrafter/model/critters"
	"scalecrafter/model/kernels"
	"scalecrafter/model/params"
	"scalecrafter/model/sampler"
	"scalecrafter/model/train"
	"scalecrafter/model/weights"
	"scalecrafter/reports"
)

// Train is the train command: it trains the network that a TOML file
// describes, resuming from its folder's checkpoint, and leaves there the loss
// curve, sample sheets and, at the end, the model's files. The result is the
// process's exit code.
func Train(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("train", flag.ContinueOnError)
	fs.SetOutput(stderr)
	path := fs.String("config", "configs/train_critters.toml", "training `file`")
	out := fs.String("out", "", "`folder` of checkpoints and results (default runs/<name>)")
	threads := fs.Int("threads", runtime.NumCPU(), "threads")
	trace := fs.Int("trace", 0, "time the ops of this many `steps` and stop")
	export := fs.Bool("export", false, "write the model's files from the checkpoint as it stands, and stop")
	var sets stringList
	fs.Var(&sets, "set", "`key=value` that replaces one of the file's; may be repeated")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "train: argument %q is not understood: name the file with -config\n", fs.Arg(0))
		return 2
	}
	cfg, err := configs.LoadTrain(*path, sets)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if *out == "" {
		*out = filepath.Join("runs", cfg.Name)
	}
	err = runTraining(ctx, cfg, *out, *threads, *trace, *export, stdout)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(stderr, "interrupted; the same command goes on from %s\n", filepath.Join(*out, train.CheckpointFile))
		return 130
	}
	fmt.Fprintln(stderr, err)
	return 1
}

func runTraining(ctx context.Context, cfg *configs.Train, dir string, threads, trace int, export bool, log io.Writer) error {
	s := train.Settings{
		Steps: cfg.Steps, Batch: cfg.Batch, Shards: cfg.Shards, LearningRate: cfg.LearningRate, FinalRate: cfg.FinalRate,
		Warmup: cfg.Warmup, WeightDecay: cfg.WeightDecay, Beta1: cfg.Beta1, Beta2: cfg.Beta2, Clip: cfg.Clip, EMA: cfg.EMA, Seed: cfg.Seed,
	}
	var task train.Task
	var finish func(averaged *params.Set) error
	picture := func(*params.Set, int) error { return nil }
	if cfg.Network == "critter-net" {
		var err error
		if task, err = train.NewClassifier(s, train.Classifier{Noise: cfg.Noise}); err != nil {
			return err
		}
		finish = func(w *params.Set) error {
			return writeSet(filepath.Join(dir, "critter_net.safetensors"), w, func(string) bool { return true }, "F32")
		}
	} else {
		text, err := os.ReadFile(cfg.UNet)
		if err != nil {
			return fmt.Errorf("%s: unet: %w", cfg.File, err)
		}
		unet, err := model.ParseUNetConfig(text, cfg.UNet)
		if err != nil {
			return err
		}
		sc := sampler.StableDiffusion()
		sc.Prediction = sampler.Prediction(cfg.Prediction)
		sched, err := sampler.NewNoiseSchedule(sc)
		if err != nil {
			return err
		}
		if unet.SampleSize*model.PixelScale != cfg.Size {
			return fmt.Errorf("%s: data.size is %d, but %s has sample_size %d (%d px)", cfg.File, cfg.Size, cfg.UNet, unet.SampleSize, unet.SampleSize*model.PixelScale)
		}
		if task, err = train.NewDiffusion(unet, sched, s, train.Diffusion{Size: cfg.Size, Dropout: cfg.Dropout, SNRCap: cfg.SNRCap}); err != nil {
			return err
		}
		if err := startFrom(task, cfg.Init); err != nil {
			return fmt.Errorf("%s: init: %w", cfg.File, err)
		}
		picture = func(w *params.Set, step int) error {
			p, err := model.New(unet, sc, w, w)
			if err != nil {
				return err
			}
			return sampleSheet(ctx, p, threads, filepath.Join(dir, fmt.Sprintf("samples_%06d.png", step)))
		}
		finish = func(w *params.Set) error { return writeModel(filepath.Join(dir, "model"), text, sc, w) }
	}
	t, err := train.New(s, task, kernels.NewPool(threads))
	if err != nil {
		return err
	}
	if export {
		if err := t.Load(filepath.Join(dir, train.CheckpointFile)); err != nil {
			return err
		}
		fmt.Fprintf(log, "%s: averaged weights of step %d of %d\n", cfg.Name, t.StepsDone(), cfg.Steps)
		return finish(t.Averaged())
	}
	arena, scratch, unplanned := t.Machine(0).Bytes()
	fmt.Fprintf(log, "%s: %d weights, %d steps of %d pictures; each shard holds %d MB (%d MB unplanned) and %d MB of scratch; kernels %s\n",
		cfg.Name, task.Weights.Count(), cfg.Steps, cfg.Batch, arena>>20, unplanned>>20, scratch>>20, kernels.Path())
	if trace > 0 {
		return traceSteps(ctx, t, trace, log)
	}
	run := train.Run{Dir: dir, SaveEvery: cfg.SaveEvery, LogEvery: cfg.LogEvery, Log: log, Checkpoint: func() error {
		if !t.Done() && t.StepsDone()%cfg.PictureEvery != 0 {
			return nil
		}
		if err := lossPlot(dir); err != nil {
			return err
		}
		return picture(t.Averaged(), t.StepsDone())
	}}
	if err := run.Do(ctx, t); err != nil {
		return err
	}
	return finish(t.Averaged())
}

// startFrom replaces a U-Net's fresh weights by those of a model folder; an
// empty folder changes nothing.
func startFrom(task train.Task, dir string) error {
	task.Meta["init"] = "" // so that a checkpoint of another start is refused
	if dir == "" {
		return nil
	}
	unet, err := weights.Open(filepath.Join(dir, unetWeights))
	if err != nil {
		return err
	}
	defer unet.Close()
	text, err := weights.Open(filepath.Join(dir, textWeights))
	if err != nil {
		return err
	}
	defer text.Close()
	for _, name := range task.Weights.Names() {
		w := task.Weights.Tensor(name)
		file := unet
		if model.IsTextWeight(name) {
			file = text
		}
		from, err := file.Expect(name, w.Shape...)
		if err != nil {
			return err
		}
		copy(w.Data, from.Data)
	}
	task.Meta["init"] = unet.Digest() + " " + text.Digest()
	return nil
}

// traceSteps prints where a step's time goes.
func traceSteps(ctx context.Context, t *train.Trainer, steps int, log io.Writer) error {
	if _, err := t.Step(ctx); err != nil { // the first one pays for page faults
		return err
	}
	t.Machine(0).Trace()
	for range steps {
		if _, err := t.Step(ctx); err != nil {
			return err
		}
	}
	for _, o := range t.Machine(0).Times() {
		fmt.Fprintf(log, "%9.3f ms a step  %3d x %s\n", o.Time.Seconds()*1000/float64(steps), o.Calls, o.Name)
	}
	return nil
}

// Where diffusers' layout keeps weights.
const (
	unetWeights = "unet/diffusion_pytorch_model.safetensors"
	textWeights = "text_encoder/model.safetensors"
)

// writeModel writes a model folder in diffusers' layout, weights in half
// precision.
func writeModel(dir string, unetConfig []byte, scheduler sampler.Config, w *params.Set) error {
	for _, sub := range []string{"unet", "text_encoder", "scheduler"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "unet", "config.json"), unetConfig, 0o644); err != nil {
		return err
	}
	sc, err := schedulerJSON(scheduler)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "scheduler", "scheduler_config.json"), sc, 0o644); err != nil {
		return err
	}
	if err := writeSet(filepath.Join(dir, unetWeights), w, func(n string) bool { return !model.IsTextWeight(n) }, "F16"); err != nil {
		return err
	}
	return writeSet(filepath.Join(dir, textWeights), w, model.IsTextWeight, "F16")
}

// schedulerJSON is diffusers' scheduler_config.json for a noise schedule.
func schedulerJSON(c sampler.Config) ([]byte, error) {
	return json.MarshalIndent(map[string]any{
		"_class_name": "DDIMScheduler", "num_train_timesteps": c.TrainSteps, "beta_start": c.BetaStart, "beta_end": c.BetaEnd,
		"beta_schedule": c.BetaSchedule, "prediction_type": c.Prediction, "timestep_spacing": c.Spacing, "steps_offset": c.StepsOffset,
		"set_alpha_to_one": c.SetAlphaToOne, "clip_sample": c.ClipRange > 0,
	}, "", "  ")
}

func writeSet(path string, w *params.Set, keep func(name string) bool, dtype string) error {
	var list []weights.Tensor
	for _, name := range w.Names() {
		if keep(name) {
			list = append(list, *w.Tensor(name))
		}
	}
	return weights.Write(path, list, map[string]string{"format": "pt", "world": critters.Version}, dtype)
}

// sampleSheet draws two rows of pictures with the averaged weights.
func sampleSheet(ctx context.Context, p *model.Pipeline, threads int, path string) error {
	const columns, rows, steps, guidance, seed = 8, 2, 20, 3, 7
	h, w := p.TrainSize()
	sheet := image.NewNRGBA(image.Rect(0, 0, columns*w, rows*h))
	worker := p.NewWorker(threads)
	empty, err := p.Encode("")
	if err != nil {
		return err
	}
	for row := range rows {
		s := sampler.Settings{Steps: steps, GuidanceScale: guidance, Seed: seed, C: p.Config.InChannels, H: p.Config.SampleSize, W: p.Config.SampleSize,
			Schedule: p.Scheduler, Uncond: []sampler.Condition{empty}}
		for col := range columns {
			i := uint64(row*columns + col)
			c, err := p.Encode(critters.PromptAttributes(seed, i).Prompt())
			if err != nil {
				return err
			}
			s.Cond = append(s.Cond, c)
			s.SampleIndex = append(s.SampleIndex, i)
		}
		x, err := sampler.Sample(ctx, worker, s)
		if err != nil {
			return err
		}
		images, err := p.Decode(x, h, w)
		if err != nil {
			return err
		}
		for col, img := range images {
			draw.Draw(sheet, image.Rect(col*w, row*h, col*w+w, row*h+h), img, image.Point{}, draw.Src)
		}
	}
	return savePNG(path, sheet)
}

func savePNG(path string, img image.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(png.Encode(f, img), f.Close())
}

// lossPlot draws the folder's loss.csv.
func lossPlot(dir string) error {
	f, err := os.Open(filepath.Join(dir, train.LossFile))
	if err != nil {
		return err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return err
	}
	var steps, losses []float64
	for _, row := range rows[1:] {
		step, err1 := strconv.ParseFloat(row[0], 64)
		loss, err2 := strconv.ParseFloat(row[1], 64)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		steps, losses = append(steps, step), append(losses, loss)
	}
	return reports.LossCurve(filepath.Join(dir, "loss.png"), steps, losses)
}
