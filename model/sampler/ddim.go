package sampler

import (
	"fmt"
	"math"
)

// Sampler turns the network's answers into a walk from noise to a sample. It
// is immutable: whatever a step needs is in its Update, so one Sampler serves
// any number of runs at once and a run can be cut and taken up at any step.
type Sampler interface {
	// Timesteps are what the network is told at each step, noisiest first; a
	// fraction where the sampler's noise levels fall between training steps.
	Timesteps() []float64
	// InitialScale is the standard deviation of the initial latent.
	InitialScale() float64
	// AddNoise sets dst to the latent before the step of a sample x0 and
	// standard normal noise; dst may be either.
	AddNoise(step int, dst, x0, noise []float32)
	// ScaleInput sets dst to what the network is given for the latent x at the
	// step; dst may be x.
	ScaleInput(step int, dst, x []float32)
	// UsesNoise reports whether the step adds noise. Only then is it drawn.
	UsesNoise(step int) bool
	// Memory is how many earlier Outputs a step may look back at.
	Memory() int
	// Step makes one step.
	Step(u Update)
}

// Update is one step of a Sampler. All slices have the same length and hold
// any number of samples end to end: steps are element by element.
type Update struct {
	Step   int
	X      []float32 // the latent before the step
	Output []float32 // the network's answer, guidance applied
	Noise  []float32 // standard normal; nil unless UsesNoise(Step)
	// History holds the X0 of earlier steps, latest first, up to Memory() of
	// them.
	History [][]float32
	// Next receives the latent after the step; it may be X.
	Next []float32
	// X0 receives the predicted clean sample; it must not be X or Output.
	X0 []float32
}

// DDIM is the sampler of denoising diffusion implicit models: deterministic at
// eta 0, as noisy as the training process reversed at eta 1.
//
// Source: Song, Meng, Ermon 2021 (arXiv 2010.02502), equations 12 and 16;
// details as in huggingface/diffusers v0.20.2: schedulers/scheduling_ddim.py,
// DDIMScheduler.step. With a = alphaBar at t and a' = alphaBar at
// t - floor(T/steps):
//
//	sigma = eta sqrt((1-a')/(1-a) (1 - a/a'))
//	x'    = sqrt(a') x0 + sqrt(1 - a' - sigma^2) e + sigma n
//
// Upstream's two peculiarities are kept: the step goes to t - floor(T/steps)
// even where that is not the next timestep (trailing, linspace), and below
// timestep 0 the noise of timestep 0 remains unless SetAlphaToOne, so that
// with eta 1 the last step still adds noise (0.0206 for SD in 50 steps).
type DDIM struct {
	timesteps []float64
	steps     []ddimStep
	clip      float64
}

type ddimStep struct {
	split
	signal, direction, sigma float64 // factors of x0, e and n
	clean, noisy             float64 // of x0 and noise in the latent before the step
}

// NewDDIM prepares the coefficients of a run of the given number of steps.
// eta is 0..1.
func NewDDIM(s *NoiseSchedule, steps int, eta float64) (*DDIM, error) {
	if !(eta >= 0 && eta <= 1) {
		return nil, fmt.Errorf("ddim: eta is %v, want 0 (deterministic) to 1", eta)
	}
	ts, err := s.Timesteps(steps)
	if err != nil {
		return nil, fmt.Errorf("ddim: %w", err)
	}
	d := &DDIM{timesteps: make([]float64, steps), steps: make([]ddimStep, steps), clip: s.ClipRange}
	stride := s.TrainSteps / steps
	for i, t := range ts {
		a, next := s.AlphaBar[t], s.previousAlphaBar(t, stride)
		sp, err := newSplit(s.Prediction, a, float64(t))
		if err != nil {
			return nil, fmt.Errorf("ddim: %w", err)
		}
		sigma := eta * math.Sqrt((1-next)/(1-a)*max(1-a/next, 0))
		d.timesteps[i] = float64(t)
		d.steps[i] = ddimStep{
			split:  sp,
			signal: math.Sqrt(next),
			// Rounding can push the difference below its least value, 0.
			direction: math.Sqrt(max(1-next-sigma*sigma, 0)),
			sigma:     sigma,
			clean:     math.Sqrt(a),
			noisy:     math.Sqrt(1 - a),
		}
	}
	return d, nil
}

// Timesteps implements Sampler; DDIM's are whole numbers.
func (d *DDIM) Timesteps() []float64 { return append([]float64(nil), d.timesteps...) }

// InitialScale implements Sampler: DDIM starts from unit noise.
func (d *DDIM) InitialScale() float64 { return 1 }

// AddNoise implements Sampler: NoiseSchedule.AddNoise at the step's timestep.
func (d *DDIM) AddNoise(step int, dst, x0, noise []float32) {
	combine(dst, d.steps[step].clean, x0, d.steps[step].noisy, noise)
}

// ScaleInput implements Sampler: DDIM's latents have the training's variance.
func (d *DDIM) ScaleInput(_ int, dst, x []float32) { copy(dst, x) }

// UsesNoise implements Sampler.
func (d *DDIM) UsesNoise(step int) bool { return d.steps[step].sigma > 0 }

// Memory implements Sampler: DDIM does not look back.
func (d *DDIM) Memory() int { return 0 }

// Sigma is the standard deviation of the noise that a step adds.
func (d *DDIM) Sigma(step int) float64 { return d.steps[step].sigma }

// Step implements Sampler. Every element is computed in float64 and rounded
// once.
func (d *DDIM) Step(u Update) {
	s := d.steps[u.Step]
	for i := range u.X {
		x, m := float64(u.X[i]), float64(u.Output[i])
		x0 := float64(s.x0x*x) + float64(s.x0m*m)
		e := float64(s.ex*x) + float64(s.em*m)
		if d.clip > 0 {
			// The noise is not made to agree with the clipped sample
			// (upstream's use_clipped_model_output is off).
			x0 = min(max(x0, -d.clip), d.clip)
		}
		next := float64(s.signal*x0) + float64(s.direction*e)
		if s.sigma > 0 {
			next += float64(s.sigma * float64(u.Noise[i]))
		}
		u.X0[i] = float32(x0)
		u.Next[i] = float32(next)
	}
}
