// Package sampler draws samples from a diffusion model: noise schedules,
// samplers, guidance, counter-based noise and the loop that joins them. It
// knows the network only as a Denoiser, and knows no graphs, weights, prompts,
// files or clocks.
package sampler

import (
	"context"
	"fmt"
	"math"

	"scalecrafter/ablation"
)

// Denoiser is the network.
type Denoiser interface {
	// Predict writes the network's answer to the request into out
	// [N,C,H,W]. A row's answer must not depend on the other rows. It
	// returns early with ctx's error when ctx ends, and must not keep the
	// request's slices.
	Predict(ctx context.Context, req Request, out []float32) error
}

// Request is one evaluation of the network on a batch.
type Request struct {
	X          []float32 // [N,C,H,W] row-major
	N, C, H, W int
	// T is the training timestep of all rows; some samplers visit fractions.
	T    float64
	Cond []Condition // one a row
	// Plan is how the network differs from the one trained; nil: not at all.
	Plan *ablation.LayerPlan
}

// Condition is what a row is conditioned on: the text encoder's states
// [Len,Dim]. Conditions share their Embedding freely; nobody writes to it.
type Condition struct {
	Embedding []float32
	Len, Dim  int
}

// Settings is one sampling run of N = len(SampleIndex) images.
type Settings struct {
	Steps int
	// GuidanceScale w: above 1 the empty prompt is evaluated as well and the
	// answers combined; 1 or less is the conditional answer alone.
	GuidanceScale float64
	// Eta is DDIM's, 0..1.
	Eta float64
	// GuidanceRescale is rescaleGuidance's r, 0 (off) to 1.
	GuidanceRescale float64
	// Seed and SampleIndex key the noise: a row's depends on its own pair
	// only, never on its place in the batch.
	Seed        uint64
	SampleIndex []uint64
	// Stage separates noises of one sample where a method runs several loops.
	Stage uint32
	// Cond has one condition a sample. Uncond has as many, or one for all; it
	// may be empty when guidance is off.
	Cond, Uncond []Condition
	C, H, W      int // of the latent
	// Schedule is the noise schedule that the network was trained on.
	Schedule *NoiseSchedule
	// Sampler replaces DDIM, Steps and Eta's sampler; its number of timesteps
	// must be Steps.
	Sampler Sampler
	// Plan is what each step runs, Steps of them; nil runs the network as
	// trained.
	Plan []ablation.StepPlan
	// Initial [N,C,H,W], when not nil, replaces the initial noise. It is in
	// the sampler's own scale and is not changed.
	Initial []float32
	// Start, when not nil, skips the first steps: the run begins from a given
	// clean latent, noised (SDEdit). It excludes Initial.
	Start *Start
	// StepNoise, when not nil, replaces the noise of the steps: it fills dst
	// [N,C,H,W]. It is called for steps that use noise, in order.
	StepNoise func(step int, dst []float32)
	// OnStep, when not nil, is told after every step.
	OnStep func(StepInfo)
}

// Start is where a run that skips steps begins: at Step, from Clean
// [N,C,H,W], to which the sampler adds the initial noise of the sample's own
// key at the level of that step. Steps keep their numbers, 0 being the
// noisiest, for plans, noise keys and OnStep alike.
//
// Source: SDEdit (arXiv 2108.01073), section 3; ScaleCrafter's sdedit_tau is
// Step as its text means it (its code forgets to skip the steps, and would
// number those left from 0).
type Start struct {
	Step  int
	Clean []float32
}

// StepInfo is the state after a step. Its slices are the loop's own: valid
// until OnStep returns, not to be changed.
type StepInfo struct {
	Step, Steps int
	T           float64
	X           []float32 // the latents [N,C,H,W]
	X0          []float32 // the clean samples predicted from the step's start
	NFE         int       // network evaluations a sample so far
}

// guided reports whether the empty prompt takes part.
func (s *Settings) guided() bool { return s.GuidanceScale > 1 }

// damped returns the network of a step's base term when it has to be evaluated
// on its own: guidance is on and the plan differs from the main network's.
func (s *Settings) damped(step int) *ablation.LayerPlan {
	if s.Plan == nil || !s.guided() {
		return nil
	}
	p := s.Plan[step]
	if p.Damped == nil || p.Damped == p.Main || p.Damped.Key() == p.Main.Key() {
		// One network: eps_V(x,0) is the main batch's own answer, bit for bit.
		return nil
	}
	return p.Damped
}

// first is the first step that is run.
func (s *Settings) first() int {
	if s.Start == nil {
		return 0
	}
	return s.Start.Step
}

// NFE is how many network evaluations a sample takes: one a step that is run,
// two with guidance, three while the guidance is damped by another network.
func (s *Settings) NFE() int {
	nfe := 0
	for step := s.first(); step < s.Steps; step++ {
		nfe += s.stepNFE(step)
	}
	return nfe
}

func (s *Settings) stepNFE(step int) int {
	nfe := 1
	if s.guided() {
		nfe++
	}
	if s.damped(step) != nil {
		nfe++
	}
	return nfe
}

// Check returns the first setting that cannot be sampled.
func (s *Settings) Check() error {
	n := len(s.SampleIndex)
	fault := func(format string, a ...any) error { return fmt.Errorf("sampling: "+format, a...) }
	size := s.C * s.H * s.W
	switch {
	case n == 0:
		return fault("no samples are asked for: SampleIndex is empty")
	case s.C < 1 || s.H < 1 || s.W < 1 || size > math.MaxInt32:
		return fault("latent size [%d,%d,%d], want sides of 1 or more", s.C, s.H, s.W)
	case s.Steps < 1:
		return fault("Steps is %d, want 1 or more", s.Steps)
	case s.Schedule == nil && s.Sampler == nil:
		return fault("neither Schedule nor Sampler is given")
	case math.IsNaN(s.GuidanceScale) || math.IsInf(s.GuidanceScale, 0):
		return fault("GuidanceScale is %v, want a finite number", s.GuidanceScale)
	case !(s.GuidanceRescale >= 0 && s.GuidanceRescale <= 1):
		return fault("GuidanceRescale is %v, want 0 (off) to 1", s.GuidanceRescale)
	case len(s.Cond) != n:
		return fault("%d conditions for %d samples, want one each", len(s.Cond), n)
	case s.guided() && len(s.Uncond) != n && len(s.Uncond) != 1:
		return fault("%d empty-prompt conditions for %d samples, want one each or one for all", len(s.Uncond), n)
	case s.Plan != nil && len(s.Plan) != s.Steps:
		return fault("a plan for %d steps in a run of %d", len(s.Plan), s.Steps)
	case s.Initial != nil && len(s.Initial) != n*size:
		return fault("Initial has %d values, want %d for [%d,%d,%d,%d]", len(s.Initial), n*size, n, s.C, s.H, s.W)
	case s.Start != nil && s.Initial != nil:
		return fault("both Initial and Start are given: a run begins from noise or from a noised picture")
	case s.Start != nil && (s.Start.Step < 0 || s.Start.Step >= s.Steps):
		return fault("Start at step %d of %d, want 0 to %d: some step must be run", s.Start.Step, s.Steps, s.Steps-1)
	case s.Start != nil && len(s.Start.Clean) != n*size:
		return fault("Start.Clean has %d values, want %d for [%d,%d,%d,%d]", len(s.Start.Clean), n*size, n, s.C, s.H, s.W)
	}
	for i, c := range append(append([]Condition(nil), s.Cond...), s.Uncond...) {
		if c.Len < 0 || c.Dim < 0 || len(c.Embedding) != c.Len*c.Dim {
			what := fmt.Sprintf("condition of sample %d", i)
			if i >= n {
				what = fmt.Sprintf("empty-prompt condition %d", i-n)
			}
			return fault("%s has %d values for shape [%d,%d]", what, len(c.Embedding), c.Len, c.Dim)
		}
	}
	return nil
}

// Sample runs the loop and returns the latents [N,C,H,W]. Equal settings give
// equal bits, and splitting the samples over several calls changes none of
// them. It stops between steps when ctx ends, with ctx's error wrapped. The
// network's answers are checked for NaN and infinity at every step.
//
// While a step is damped and guidance is on, three evaluations are made: the
// main network on the empty prompts and the prompts in one batch of 2N, and
// the damped network on the empty prompts.
func Sample(ctx context.Context, d Denoiser, s Settings) ([]float32, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	method := s.Sampler
	if method == nil {
		ddim, err := NewDDIM(s.Schedule, s.Steps, s.Eta)
		if err != nil {
			return nil, err
		}
		method = ddim
	}
	l, err := newLoop(d, &s, method)
	if err != nil {
		return nil, err
	}
	for step := s.first(); step < s.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("sampling: stopped before step %d of %d: %w", step, s.Steps, err)
		}
		if err := l.step(ctx, step); err != nil {
			return nil, err
		}
	}
	return l.x, nil
}

// loop is the state of one run; its buffers are made once.
type loop struct {
	d          Denoiser
	s          *Settings
	method     Sampler
	timesteps  []float64
	n, m       int         // samples; values in one
	cond       []Condition // uncond rows (when guided), then cond rows
	x          []float32   // [N,C,H,W], the latents
	in, out    []float32   // the main network's batch of N or 2N rows
	base       []float32   // the damped network's answer, made when first needed
	noise      []float32   // likewise
	x0         []float32
	history    [][]float32 // earlier x0, latest first
	evaluation int         // NFE so far
}

func newLoop(d Denoiser, s *Settings, method Sampler) (*loop, error) {
	n, m := len(s.SampleIndex), s.C*s.H*s.W
	l := &loop{d: d, s: s, method: method, timesteps: method.Timesteps(), n: n, m: m}
	if len(l.timesteps) != s.Steps {
		return nil, fmt.Errorf("sampling: Sampler has %d timesteps in a run of %d", len(l.timesteps), s.Steps)
	}
	rows := n
	if s.guided() {
		rows = 2 * n
		for i := range n {
			l.cond = append(l.cond, s.Uncond[min(i, len(s.Uncond)-1)])
		}
	}
	l.cond = append(l.cond, s.Cond...)
	l.x = make([]float32, n*m)
	l.in = make([]float32, rows*m)
	l.out = make([]float32, rows*m)
	l.x0 = make([]float32, n*m)
	if s.Initial != nil {
		copy(l.x, s.Initial)
		return l, nil
	}
	l.draw(l.x, 0)
	if s.Start != nil {
		method.AddNoise(s.Start.Step, l.x, s.Start.Clean, l.x)
		return l, nil
	}
	if scale := method.InitialScale(); scale != 1 {
		for i, v := range l.x {
			l.x[i] = float32(float64(v) * scale)
		}
	}
	return l, nil
}

// draw fills dst with the noise of every sample's own key.
func (l *loop) draw(dst []float32, at uint32) {
	for i, index := range l.s.SampleIndex {
		Noise(dst[i*l.m:(i+1)*l.m], NoiseKey{Seed: l.s.Seed, Sample: index, Stage: l.s.Stage, Step: at})
	}
}

func (l *loop) step(ctx context.Context, step int) error {
	s, t, half := l.s, l.timesteps[step], l.n*l.m
	l.method.ScaleInput(step, l.in[:half], l.x)
	var main *ablation.LayerPlan
	if s.Plan != nil {
		main = s.Plan[step].Main
	}
	eps := l.out[:half]
	if s.guided() {
		copy(l.in[half:], l.in[:half])
		uncond, cond := l.out[:half], l.out[half:]
		if err := l.predict(ctx, step, main, l.in, l.cond, l.out); err != nil {
			return err
		}
		base := uncond
		if damped := s.damped(step); damped != nil {
			if l.base == nil {
				l.base = make([]float32, half)
			}
			base = l.base
			if err := l.predict(ctx, step, damped, l.in[:half], l.cond[:l.n], base); err != nil {
				return err
			}
		}
		guide(eps, base, uncond, cond, s.GuidanceScale)
		if s.GuidanceRescale > 0 {
			rescaleGuidance(eps, cond, l.n, l.m, s.GuidanceRescale)
		}
	} else if err := l.predict(ctx, step, main, l.in, l.cond, l.out); err != nil {
		return err
	}
	l.evaluation += s.stepNFE(step)

	u := Update{Step: step, X: l.x, Output: eps, History: l.history, Next: l.x, X0: l.x0}
	if l.method.UsesNoise(step) {
		if l.noise == nil {
			l.noise = make([]float32, half)
		}
		if s.StepNoise != nil {
			s.StepNoise(step, l.noise)
		} else {
			l.draw(l.noise, uint32(step)+1)
		}
		u.Noise = l.noise
	}
	l.method.Step(u)
	if err := l.checkFinite(l.x, step, "latent after the step"); err != nil {
		return err
	}
	if s.OnStep != nil {
		s.OnStep(StepInfo{Step: step, Steps: s.Steps, T: t, X: l.x, X0: l.x0, NFE: l.evaluation})
	}
	l.remember()
	return nil
}

// predict asks the network about the rows of x and screens its answer.
func (l *loop) predict(ctx context.Context, step int, plan *ablation.LayerPlan, x []float32, cond []Condition, out []float32) error {
	err := l.d.Predict(ctx, Request{
		X: x, N: len(cond), C: l.s.C, H: l.s.H, W: l.s.W, T: l.timesteps[step], Cond: cond, Plan: plan,
	}, out)
	if err != nil {
		return fmt.Errorf("sampling: step %d (timestep %g): %w", step, l.timesteps[step], err)
	}
	return l.checkFinite(out, step, "network's answer")
}

// checkFinite looks through rows of m values; in a batch of 2N, rows N.. are
// the same samples again.
func (l *loop) checkFinite(x []float32, step int, what string) error {
	for i, v := range x {
		if math.Float32bits(v)&0x7f800000 != 0x7f800000 {
			continue
		}
		row, at := i/l.m, i%l.m
		plane := l.s.H * l.s.W
		return fmt.Errorf("sampling: step %d (timestep %g), sample index %d: %s holds %v at channel %d, row %d, column %d; "+
			"check the weights for NaN, and whether the guidance scale or a dilation is extreme",
			step, l.timesteps[step], l.s.SampleIndex[row%l.n], what, v, at/plane, at%plane/l.s.W, at%l.s.W)
	}
	return nil
}

// remember moves x0 into the history of samplers that look back.
func (l *loop) remember() {
	k := l.method.Memory()
	if k == 0 {
		return
	}
	var free []float32
	if len(l.history) == k {
		free = l.history[k-1]
		l.history = l.history[:k-1]
	} else {
		free = make([]float32, len(l.x0))
	}
	l.history = append([][]float32{l.x0}, l.history...)
	l.x0 = free
}
