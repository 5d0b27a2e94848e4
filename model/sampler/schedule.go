package sampler

import (
	"fmt"
	"math"
)

// Prediction is what the network was trained to predict.
type Prediction string

const (
	Epsilon          Prediction = "epsilon"      // the noise
	VPrediction      Prediction = "v_prediction" // sqrt(a) noise - sqrt(1-a) x0
	SamplePrediction Prediction = "sample"       // the clean sample x0
)

// BetaSchedule is how the noise added per training step grows.
type BetaSchedule string

const (
	Linear       BetaSchedule = "linear"            // beta itself is linear
	ScaledLinear BetaSchedule = "scaled_linear"     // its square root is: Stable Diffusion
	SquaredCos   BetaSchedule = "squaredcos_cap_v2" // alphaBar is a squared cosine
)

// Spacing is how the sampling steps are spread over the training timesteps.
type Spacing string

const (
	Leading  Spacing = "leading"  // multiples of floor(T/steps), plus the offset
	Trailing Spacing = "trailing" // counted down from T-1
	Linspace Spacing = "linspace" // from T-1 to 0, both included
)

// Config describes a noise schedule in diffusers' terms. It has no defaults:
// ParseSchedulerConfig fills in those of a file's scheduler class.
type Config struct {
	// TrainSteps is T, the number of training timesteps (num_train_timesteps).
	TrainSteps         int
	BetaStart, BetaEnd float64
	BetaSchedule       BetaSchedule
	// TrainedBetas, when not empty, replaces the three fields above; its
	// length is TrainSteps.
	TrainedBetas []float64
	Prediction   Prediction
	Spacing      Spacing
	// StepsOffset is added to the timesteps of Leading spacing.
	StepsOffset int
	// SetAlphaToOne makes the step below timestep 0 noiseless; otherwise it
	// has the noise of timestep 0.
	SetAlphaToOne bool
	// RescaleZeroSNR shifts and scales sqrt(alphaBar) so that the last
	// training step is pure noise (arXiv 2305.08891, algorithm 1).
	RescaleZeroSNR bool
	// ClipRange, when above 0, clips predicted clean samples to
	// [-ClipRange, ClipRange]; for networks over pixels, never over latents.
	ClipRange float64
	// Karras spreads noise levels as in arXiv 2206.00364, equation 5; only
	// samplers stated in sigmas (Euler, DPM-Solver++) heed it.
	Karras bool
}

// StableDiffusion is the noise schedule of SD 1.x, SD 2.x-base and SDXL as
// ScaleCrafter samples them.
// Source: scheduler_config.json of runwayml/stable-diffusion-v1-5.
func StableDiffusion() Config {
	return Config{
		TrainSteps: 1000, BetaStart: 0.00085, BetaEnd: 0.012, BetaSchedule: ScaledLinear,
		Prediction: Epsilon, Spacing: Leading, StepsOffset: 1,
	}
}

// Check returns the first impossible setting, naming the key as diffusers
// spells it.
func (c Config) Check() error {
	fault := func(key string, value any, want string) error {
		return fmt.Errorf("noise schedule: %s is %v, want %s", key, value, want)
	}
	if c.TrainSteps < 1 || c.TrainSteps > 1_000_000 {
		return fault("num_train_timesteps", c.TrainSteps, "1 to 1000000 (usually 1000)")
	}
	if len(c.TrainedBetas) > 0 {
		if len(c.TrainedBetas) != c.TrainSteps {
			return fault("trained_betas", fmt.Sprintf("a list of %d", len(c.TrainedBetas)), fmt.Sprintf("num_train_timesteps (%d) numbers", c.TrainSteps))
		}
		for i, b := range c.TrainedBetas {
			if !(b > 0 && b < 1) {
				return fault(fmt.Sprintf("trained_betas[%d]", i), b, "a number between 0 and 1")
			}
		}
	} else {
		switch c.BetaSchedule {
		case Linear, ScaledLinear:
			if !(c.BetaStart > 0 && c.BetaStart < 1) {
				return fault("beta_start", c.BetaStart, "a number between 0 and 1 (SD has 0.00085)")
			}
			if !(c.BetaEnd >= c.BetaStart && c.BetaEnd < 1) {
				return fault("beta_end", c.BetaEnd, "a number from beta_start to below 1 (SD has 0.012)")
			}
		case SquaredCos:
		default:
			return fault("beta_schedule", fmt.Sprintf("%q", c.BetaSchedule), `"linear", "scaled_linear" or "squaredcos_cap_v2"`)
		}
	}
	switch c.Prediction {
	case Epsilon, VPrediction, SamplePrediction:
	default:
		return fault("prediction_type", fmt.Sprintf("%q", c.Prediction), `"epsilon", "v_prediction" or "sample"`)
	}
	switch c.Spacing {
	case Leading, Trailing, Linspace:
	default:
		return fault("timestep_spacing", fmt.Sprintf("%q", c.Spacing), `"leading", "trailing" or "linspace"`)
	}
	if c.StepsOffset < 0 || c.StepsOffset >= c.TrainSteps {
		return fault("steps_offset", c.StepsOffset, "0 or more and below num_train_timesteps (SD has 1)")
	}
	if !(c.ClipRange >= 0) || math.IsInf(c.ClipRange, 0) {
		return fault("clip_sample_range", c.ClipRange, "0 (off) or more")
	}
	return nil
}

// NoiseSchedule is the variance-preserving forward process: at timestep t the
// noisy sample is x_t = sqrt(a_t) x0 + sqrt(1-a_t) n with n standard normal.
// Immutable once made; its tables must not be written to.
type NoiseSchedule struct {
	Config
	// Betas [TrainSteps] is the variance added at each training step.
	Betas []float64
	// AlphaBar [TrainSteps] is a_t, the product of 1-beta up to t, in float64.
	// diffusers multiplies in float32, which differs by up to 5e-7.
	AlphaBar []float64
}

// NewNoiseSchedule checks the configuration and computes its tables.
// Source: huggingface/diffusers v0.20.2: schedulers/scheduling_ddim.py,
// DDIMScheduler.__init__, betas_for_alpha_bar, rescale_zero_terminal_snr.
func NewNoiseSchedule(c Config) (*NoiseSchedule, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	n := c.TrainSteps
	s := &NoiseSchedule{Config: c, Betas: make([]float64, n), AlphaBar: make([]float64, n)}
	between := func(lo, hi float64, i int) float64 {
		if n == 1 {
			return lo
		}
		return lo + (hi-lo)*float64(i)/float64(n-1)
	}
	for i := range s.Betas {
		switch {
		case len(c.TrainedBetas) > 0:
			s.Betas[i] = c.TrainedBetas[i]
		case c.BetaSchedule == Linear:
			s.Betas[i] = between(c.BetaStart, c.BetaEnd, i)
		case c.BetaSchedule == ScaledLinear:
			root := between(math.Sqrt(c.BetaStart), math.Sqrt(c.BetaEnd), i)
			s.Betas[i] = root * root
		case c.BetaSchedule == SquaredCos:
			cos := func(t int) float64 {
				v := math.Cos((float64(t)/float64(n) + 0.008) / 1.008 * math.Pi / 2)
				return v * v
			}
			s.Betas[i] = min(1-cos(i+1)/cos(i), 0.999)
		}
	}
	product := 1.0
	for i, b := range s.Betas {
		product *= 1 - b
		s.AlphaBar[i] = product
	}
	if c.RescaleZeroSNR {
		if n < 2 {
			return nil, fmt.Errorf("noise schedule: rescale_betas_zero_snr needs num_train_timesteps of 2 or more, not %d", n)
		}
		first, last := math.Sqrt(s.AlphaBar[0]), math.Sqrt(s.AlphaBar[n-1])
		before := 1.0
		for i, a := range s.AlphaBar {
			root := (math.Sqrt(a) - last) * first / (first - last)
			s.AlphaBar[i] = root * root
			s.Betas[i] = 1 - s.AlphaBar[i]/before
			before = s.AlphaBar[i]
		}
	}
	return s, nil
}

// Timesteps returns the training timesteps of a sampling run, noisiest first.
// They are upstream's, ties and rounding included.
// Source: diffusers v0.20.2: DDIMScheduler.set_timesteps.
func (s *NoiseSchedule) Timesteps(steps int) ([]int, error) {
	n := s.TrainSteps
	if steps < 1 || steps > n {
		return nil, fmt.Errorf("sampling steps: %d, want 1 to num_train_timesteps (%d)", steps, n)
	}
	ts := make([]int, steps)
	switch s.Spacing {
	case Leading:
		ratio := n / steps
		for i := range ts {
			ts[i] = (steps-1-i)*ratio + s.StepsOffset
		}
		if ts[0] >= n {
			return nil, fmt.Errorf("sampling steps: %d with steps_offset %d start at timestep %d, beyond the last (%d): use fewer steps or a smaller offset",
				steps, s.StepsOffset, ts[0], n-1)
		}
	case Trailing:
		// numpy's arange takes its stride from the first two values as
		// rounded; whether a half rounds up or down can hang on that.
		top := float64(n)
		stride := (top - top/float64(steps)) - top
		for i := range ts {
			ts[i] = int(math.RoundToEven(top+float64(float64(i)*stride))) - 1
		}
	case Linspace:
		if steps == 1 {
			return nil, fmt.Errorf("sampling steps: 1 with linspace spacing would only visit timestep 0: use 2 or more, or trailing spacing")
		}
		stride := float64(n-1) / float64(steps-1)
		for i := range ts {
			ts[i] = int(math.RoundToEven(float64(steps-1-i) * stride))
		}
		ts[0] = n - 1
	}
	return ts, nil
}

// previousAlphaBar is a at the timestep that a step of the given stride from t
// leads to; below 0 it is 1 or a_0, by SetAlphaToOne.
func (s *NoiseSchedule) previousAlphaBar(t, stride int) float64 {
	switch {
	case t-stride >= 0:
		return s.AlphaBar[t-stride]
	case s.SetAlphaToOne:
		return 1
	}
	return s.AlphaBar[0]
}

// AddNoise sets dst to x_t = sqrt(a_t) x0 + sqrt(1-a_t) noise, element by
// element; dst may be x0 or noise. t is 0..TrainSteps-1.
func (s *NoiseSchedule) AddNoise(dst, x0, noise []float32, t int) {
	signal, level := math.Sqrt(s.AlphaBar[t]), math.Sqrt(1-s.AlphaBar[t])
	combine(dst, signal, x0, level, noise)
}

// Velocity sets dst to v = sqrt(a_t) noise - sqrt(1-a_t) x0; dst may be x0 or
// noise. Source: arXiv 2202.00512, appendix D.
func (s *NoiseSchedule) Velocity(dst, x0, noise []float32, t int) {
	signal, level := math.Sqrt(s.AlphaBar[t]), math.Sqrt(1-s.AlphaBar[t])
	combine(dst, signal, noise, -level, x0)
}

// Target sets dst to what a network of this schedule's prediction type should
// answer for x_t = AddNoise(x0, noise, t).
func (s *NoiseSchedule) Target(dst, x0, noise []float32, t int) {
	switch s.Prediction {
	case VPrediction:
		s.Velocity(dst, x0, noise, t)
	case SamplePrediction:
		copy(dst, x0)
	default:
		copy(dst, noise)
	}
}

// SNR is the signal-to-noise ratio a_t/(1-a_t) at t.
func (s *NoiseSchedule) SNR(t int) float64 { return s.AlphaBar[t] / (1 - s.AlphaBar[t]) }

// combine sets dst = a x + b y in float64, rounded once. The conversions keep
// compilers from fusing, so that every machine gives the same bits.
func combine(dst []float32, a float64, x []float32, b float64, y []float32) {
	for i := range dst {
		dst[i] = float32(float64(a*float64(x[i])) + float64(b*float64(y[i])))
	}
}

// split gives, for one element, the clean sample and the noise that the
// network's output m implies at x with cumulative alpha a.
//
//	epsilon: e = m                            x0 = (x - sqrt(1-a) m) / sqrt(a)
//	v:       e = sqrt(a) m + sqrt(1-a) x      x0 = sqrt(a) x - sqrt(1-a) m
//	sample:  e = (x - sqrt(a) m) / sqrt(1-a)  x0 = m
//
// Both are linear in x and m; the coefficients are computed once a step.
type split struct {
	x0x, x0m float64 // x0 = x0x x + x0m m
	ex, em   float64 // e = ex x + em m
}

// newSplit refuses the one impossible pair: noise cannot be told from signal
// by an epsilon network where there is no signal.
func newSplit(p Prediction, a float64, t float64) (split, error) {
	signal, level := math.Sqrt(a), math.Sqrt(1-a)
	switch p {
	case VPrediction:
		return split{x0x: signal, x0m: -level, ex: level, em: signal}, nil
	case SamplePrediction:
		return split{x0m: 1, ex: 1 / level, em: -signal / level}, nil
	}
	if a == 0 {
		return split{}, fmt.Errorf("timestep %g holds no signal (zero terminal SNR), where epsilon prediction is undefined: use v_prediction or leading spacing", t)
	}
	return split{x0x: 1 / signal, x0m: -level / signal, em: 1}, nil
}
