package sampler

import (
	"fmt"
	"math"
	"sort"
	"strings"
)

// Samplers stated in noise levels write the noisy sample as x0 + sigma n, with
// sigma_t = sqrt((1-a_t)/a_t): the training's x_t divided by sqrt(a_t).

// sigmaTable is sigma_t for every training timestep; it grows with t.
func (s *NoiseSchedule) sigmaTable() ([]float64, error) {
	sigmas := make([]float64, len(s.AlphaBar))
	for t, a := range s.AlphaBar {
		if a == 0 {
			return nil, fmt.Errorf("timestep %d holds no signal (zero terminal SNR), where the noise level is infinite: use ddim", t)
		}
		sigmas[t] = math.Sqrt((1 - a) / a)
	}
	return sigmas, nil
}

// sigmaAt interpolates the table linearly at a fractional timestep.
func sigmaAt(table []float64, t float64) float64 {
	i := min(int(t), len(table)-2)
	w := t - float64(i)
	return table[i]*(1-w) + table[i+1]*w
}

// karras spreads n noise levels from first to last evenly in their seventh
// root. Source: Karras et al. 2022 (arXiv 2206.00364), equation 5, rho 7.
func karras(first, last float64, n int) []float64 {
	const rho = 7
	a, b := math.Pow(first, 1.0/rho), math.Pow(last, 1.0/rho)
	out := make([]float64, n)
	for i := range out {
		ramp := 0.0
		if n > 1 {
			ramp = float64(i) / float64(n-1)
		}
		out[i] = math.Pow(a+ramp*(b-a), rho)
	}
	return out
}

// timestepOf is the fractional timestep of a noise level, linear between the
// logarithms of the table's. Levels off the table take its ends.
func timestepOf(table []float64, sigma float64) float64 {
	above := sort.SearchFloat64s(table, sigma) // first level >= sigma
	low := max(min(above, len(table)-1)-1, 0)
	if above < len(table) && table[above] == sigma {
		low = above
	}
	low = min(low, len(table)-2)
	from, to := math.Log(table[low]), math.Log(table[low+1])
	w := (math.Log(sigma) - from) / (to - from)
	return float64(low) + min(max(w, 0), 1)
}

// Euler follows the probability flow by straight lines in sigma; with eta above
// 0 part of each step's fall in noise is done by removing more and adding fresh
// noise back (Euler ancestral at eta 1).
//
// Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 2 without churn, in
// the form of diffusers v0.20.2: EulerDiscreteScheduler; ancestral steps from
// crowsonkb/k-diffusion: k_diffusion/sampling.py, get_ancestral_step.
//
//	up   = min(s', eta sqrt(s'^2 (s^2 - s'^2) / s^2)),  down = sqrt(s'^2 - up^2)
//	x'   = x + (x - x0)/s (down - s) + up n
//
// Its latents are x0 + sigma n; the network is given x / sqrt(sigma^2 + 1).
type Euler struct {
	timesteps []float64
	sigmas    []float64 // one more than steps; the last is 0
	steps     []eulerStep
	initial   float64
	clip      float64
}

type eulerStep struct {
	split          // of the latent in sigma form: x0 = x0x x + x0m m
	scale  float64 // 1/sqrt(sigma^2+1)
	slope  float64 // (down - sigma)/sigma, the factor of x - x0
	random float64 // up
}

// NewEuler prepares a run. eta is 0 (Euler) to 1 (Euler ancestral). Timesteps
// of linspace spacing and of Karras levels are fractional.
func NewEuler(s *NoiseSchedule, steps int, eta float64) (*Euler, error) {
	if !(eta >= 0 && eta <= 1) {
		return nil, fmt.Errorf("euler: eta is %v, want 0 to 1 (ancestral)", eta)
	}
	ts, err := s.Timesteps(steps)
	if err != nil {
		return nil, fmt.Errorf("euler: %w", err)
	}
	table, err := s.sigmaTable()
	if err != nil {
		return nil, fmt.Errorf("euler: %w", err)
	}
	if len(table) < 2 {
		return nil, fmt.Errorf("euler: num_train_timesteps is 1, want 2 or more")
	}
	d := &Euler{timesteps: make([]float64, steps), sigmas: make([]float64, steps+1), steps: make([]eulerStep, steps), clip: s.ClipRange}
	for i, t := range ts {
		d.timesteps[i] = float64(t)
		if s.Spacing == Linspace { // not rounded here
			d.timesteps[i] = float64(steps-1-i) * (float64(s.TrainSteps-1) / float64(steps-1))
		}
		d.sigmas[i] = sigmaAt(table, d.timesteps[i])
	}
	if s.Karras {
		copy(d.sigmas, karras(d.sigmas[0], d.sigmas[steps-1], steps))
		for i := range d.timesteps {
			d.timesteps[i] = timestepOf(table, d.sigmas[i])
		}
	}
	d.initial = d.sigmas[0]
	if s.Spacing == Leading {
		// The spread of x0 + sigma n when x0 has unit variance; upstream
		// leaves it out where the first level is the schedule's own last.
		d.initial = math.Sqrt(d.sigmas[0]*d.sigmas[0] + 1)
	}
	for i := range d.steps {
		from, to := d.sigmas[i], d.sigmas[i+1]
		up := min(to, eta*math.Sqrt(max(to*to*(from*from-to*to)/(from*from), 0)))
		down := math.Sqrt(max(to*to-up*up, 0))
		// With a = 1/(sigma^2+1), x/sqrt(sigma^2+1) is the training's x_t.
		a := 1 / (from*from + 1)
		sp, err := newSplit(s.Prediction, a, d.timesteps[i])
		if err != nil {
			return nil, fmt.Errorf("euler: %w", err)
		}
		scale := math.Sqrt(a)
		sp.x0x *= scale
		sp.ex *= scale
		d.steps[i] = eulerStep{split: sp, scale: scale, slope: (down - from) / from, random: up}
	}
	return d, nil
}

// Timesteps implements Sampler.
func (d *Euler) Timesteps() []float64 { return append([]float64(nil), d.timesteps...) }

// InitialScale implements Sampler.
func (d *Euler) InitialScale() float64 { return d.initial }

// AddNoise implements Sampler: x0 + sigma noise.
func (d *Euler) AddNoise(step int, dst, x0, noise []float32) {
	combine(dst, 1, x0, d.sigmas[step], noise)
}

// ScaleInput implements Sampler: the latent brought to the training's variance.
func (d *Euler) ScaleInput(step int, dst, x []float32) {
	scale := d.steps[step].scale
	for i, v := range x {
		dst[i] = float32(float64(v) * scale)
	}
}

// UsesNoise implements Sampler.
func (d *Euler) UsesNoise(step int) bool { return d.steps[step].random > 0 }

// Memory implements Sampler: Euler does not look back.
func (d *Euler) Memory() int { return 0 }

// Sigmas are the noise levels, one more than steps; the last is 0.
func (d *Euler) Sigmas() []float64 { return append([]float64(nil), d.sigmas...) }

// Step implements Sampler.
func (d *Euler) Step(u Update) {
	s := d.steps[u.Step]
	for i := range u.X {
		x, m := float64(u.X[i]), float64(u.Output[i])
		x0 := float64(s.x0x*x) + float64(s.x0m*m)
		if d.clip > 0 {
			x0 = min(max(x0, -d.clip), d.clip)
		}
		next := x + float64(s.slope*(x-x0))
		if s.random > 0 {
			next += float64(s.random * float64(u.Noise[i]))
		}
		u.X0[i] = float32(x0)
		u.Next[i] = float32(next)
	}
}

// DPMSolver is DPM-Solver++ of second order, multistep: each step extrapolates
// from this and the previous predicted clean sample. Deterministic.
//
// Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2 (2M), as in diffusers
// v0.20.2: DPMSolverMultistepScheduler with dpmsolver++, midpoint and
// lower_order_final. With lambda = ln(sqrt(a)/sqrt(1-a)), h = lambda' - lambda
// and h0 the step before's h:
//
//	D  = x0 + h/(2 h0) (x0 - x0 before)
//	x' = sqrt(1-a')/sqrt(1-a) x - sqrt(a') (exp(-h) - 1) D
//
// The first step is of first order (D = x0), and the last too in runs of fewer
// than 15 steps. As in that version the run ends at timestep 0, which holds a
// little noise, not at a noiseless sample.
type DPMSolver struct {
	timesteps []float64
	steps     []dpmStep
	clip      float64
}

type dpmStep struct {
	split
	keep, move   float64 // factors of x and D
	back         float64 // h/(2 h0); 0 for first order
	clean, noisy float64 // of x0 and noise in the latent before the step
}

// NewDPMSolver prepares a run. With Karras levels neighbouring steps can round
// to one timestep; they are merged, so that the run has fewer steps than asked
// for: Timesteps tells.
func NewDPMSolver(s *NoiseSchedule, steps int) (*DPMSolver, error) {
	fault := func(err error) error { return fmt.Errorf("dpm-solver++: %w", err) }
	table, err := s.sigmaTable()
	if err != nil {
		return nil, fault(err)
	}
	var ts []int
	switch {
	case steps < 1 || steps >= s.TrainSteps:
		return nil, fault(fmt.Errorf("sampling steps: %d, want 1 to below num_train_timesteps (%d)", steps, s.TrainSteps))
	case s.Karras:
		// Over the whole table, whatever the spacing.
		for _, sigma := range karras(table[len(table)-1], table[0], steps) {
			t := int(math.RoundToEven(timestepOf(table, sigma)))
			if len(ts) == 0 || ts[len(ts)-1] != t {
				ts = append(ts, t)
			}
		}
	case s.Spacing == Trailing:
		if ts, err = s.Timesteps(steps); err != nil {
			return nil, fault(err)
		}
	default: // one more, and the last is only stepped to
		if ts, err = s.Timesteps(steps + 1); err != nil {
			return nil, fault(err)
		}
		ts = ts[:steps]
	}
	d := &DPMSolver{timesteps: make([]float64, len(ts)), steps: make([]dpmStep, len(ts)), clip: s.ClipRange}
	lambda := func(t int) float64 { return math.Log(s.AlphaBar[t]/(1-s.AlphaBar[t])) / 2 }
	for i, t := range ts {
		next := 0
		last := i == len(ts)-1
		if !last {
			next = ts[i+1]
		}
		a, after := s.AlphaBar[t], s.AlphaBar[next]
		sp, err := newSplit(s.Prediction, a, float64(t))
		if err != nil {
			return nil, fault(err)
		}
		h := lambda(next) - lambda(t)
		step := dpmStep{split: sp, keep: math.Sqrt((1 - after) / (1 - a)), move: -math.Sqrt(after) * math.Expm1(-h),
			clean: math.Sqrt(a), noisy: math.Sqrt(1 - a)}
		if i > 0 && !(last && len(ts) < 15) {
			step.back = h / (2 * (lambda(t) - lambda(ts[i-1])))
		}
		d.timesteps[i] = float64(t)
		d.steps[i] = step
	}
	return d, nil
}

// Timesteps implements Sampler.
func (d *DPMSolver) Timesteps() []float64 { return append([]float64(nil), d.timesteps...) }

// InitialScale implements Sampler.
func (d *DPMSolver) InitialScale() float64 { return 1 }

// AddNoise implements Sampler: NoiseSchedule.AddNoise at the step's timestep.
func (d *DPMSolver) AddNoise(step int, dst, x0, noise []float32) {
	combine(dst, d.steps[step].clean, x0, d.steps[step].noisy, noise)
}

// ScaleInput implements Sampler: the latents have the training's variance.
func (d *DPMSolver) ScaleInput(_ int, dst, x []float32) { copy(dst, x) }

// UsesNoise implements Sampler.
func (d *DPMSolver) UsesNoise(int) bool { return false }

// Memory implements Sampler: the step before's clean sample.
func (d *DPMSolver) Memory() int { return 1 }

// Step implements Sampler. A step of second order with an empty History is
// taken in first order.
func (d *DPMSolver) Step(u Update) {
	s := d.steps[u.Step]
	second := s.back != 0 && len(u.History) > 0
	for i := range u.X {
		x, m := float64(u.X[i]), float64(u.Output[i])
		x0 := float64(s.x0x*x) + float64(s.x0m*m)
		if d.clip > 0 {
			x0 = min(max(x0, -d.clip), d.clip)
		}
		towards := x0
		if second {
			towards += float64(s.back * (x0 - float64(u.History[0][i])))
		}
		u.X0[i] = float32(x0)
		u.Next[i] = float32(float64(s.keep*x) + float64(s.move*towards))
	}
}

// Names are the samplers that New makes.
func Names() []string { return []string{"ddim", "euler", "euler_ancestral", "dpmpp_2m"} }

// New makes a sampler by name. eta is DDIM's; the others have their own amount
// of noise and refuse one.
func New(name string, s *NoiseSchedule, steps int, eta float64) (Sampler, error) {
	if name != "ddim" && eta != 0 {
		return nil, fmt.Errorf("sampler %q takes no eta (it is %v): leave it 0, or use ddim", name, eta)
	}
	var made Sampler
	var err error
	switch name {
	case "ddim":
		made, err = NewDDIM(s, steps, eta)
	case "euler":
		made, err = NewEuler(s, steps, 0)
	case "euler_ancestral":
		made, err = NewEuler(s, steps, 1)
	case "dpmpp_2m":
		made, err = NewDPMSolver(s, steps)
	default:
		return nil, fmt.Errorf("sampler %q is not known; choose %s", name, strings.Join(Names(), ", "))
	}
	if err != nil {
		return nil, err // made would be a nil pointer in an interface
	}
	return made, nil
}
