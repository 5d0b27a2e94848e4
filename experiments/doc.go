// Package experiments turns a configuration into results: it plans the cells,
// reuses what is finished, draws what is missing with a few workers, scores
// every cell against the references and hands the numbers to the report. It
// knows every other room; none knows it.
package experiments

import (
	"context"
	"image"

	"scalecrafter/ablation"
	"scalecrafter/model"
	"scalecrafter/model/kernels"
)

// Protocol is the version of the way of sampling, judging and scoring; raise
// it with any change that may change a number.
const Protocol = "3"

// Engine is one loaded model with its world and its judges. It is safe for
// concurrent use; its workers are not.
type Engine interface {
	// Digest identifies the model's weights, FeatureDigest those of the
	// feature network, WorldVersion the exact renderer and the detector, and
	// KernelPath the numeric path (each gives its own bits).
	Digest() string
	FeatureDigest() string
	WorldVersion() string
	KernelPath() string
	// TrainSize is the picture size in pixels that the model was trained on.
	TrainSize() (h, w int)
	Architecture() ablation.Architecture
	// Work is what one network evaluation computes for one picture of this size
	// in pixels under a plan (nil: as trained).
	Work(h, w int, plan *ablation.LayerPlan) model.Work
	// NewWorker makes a worker that computes on this many threads.
	NewWorker(threads int) (Worker, error)
}

// mather is an Engine whose network has other arithmetic than float32.
type mather interface {
	// UseMath sets the arithmetic of workers made from now on; where it is not
	// Effective on this machine it is float32.
	UseMath(kernels.Math)
}

// Worker does the work of one goroutine.
type Worker interface {
	// Sample draws the images of a job and says how many network evaluations
	// each took. Image i depends on the job's settings, Seed, Indices[i] and
	// Prompts[i] only, never on the batch around it. It returns ctx's error
	// soon after ctx ends.
	Sample(ctx context.Context, job Job) ([]*image.NRGBA, float64, error)
	// Features are the vectors that FID and KID compare, one an image.
	Features(imgs []*image.NRGBA) ([][]float32, error)
	// Judge counts what an image shows and says whether it is what the prompt
	// asks for.
	Judge(prompt string, img *image.NRGBA) (Verdict, error)
	// TrueScene is the exact picture of a prompt's scene.
	TrueScene(prompt string, seed, index uint64, h, w int) *image.NRGBA
	// Prompt is the prompt of sample index.
	Prompt(seed, index uint64) string
}

// Job is one batch to draw.
type Job struct {
	Height, Width   int // pixels
	Prompts         []string
	Indices         []uint64 // sample indices; they and Seed key the noise
	Seed            uint64
	Steps           int
	GuidanceScale   float64
	GuidanceRescale float64
	Eta             float64
	Sampler         string
	SDEdit          ablation.SDEdit     // Tau 0 starts from noise
	Plan            []ablation.StepPlan // one a step, those that SDEdit skips too
	OnStep          func()              // called after each step of the batch; may be nil
}

// Verdict is what the judges read in one image.
type Verdict struct {
	Bodies, Eyes, Mouths              int
	Shape, Color, Background, Pattern bool // as the prompt says
}

// Right reports exactly one critter with two eyes and one mouth.
func (v Verdict) Right() bool { return v.Bodies == 1 && v.Eyes == 2 && v.Mouths == 1 }

// Opener loads the model that a configuration names: "builtin" or a path.
type Opener func(ctx context.Context, weights string) (Engine, error)
