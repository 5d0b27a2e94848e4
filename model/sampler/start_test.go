package sampler

import (
	"fmt"
	"math"
	"reflect"
	"testing"

	"scalecrafter/ablation"
)

// resuming is a sampler whose clean latents are the noisy ones, so that a run
// may be taken up where another one was cut.
type resuming struct{ Sampler }

func (resuming) AddNoise(_ int, dst, x0, _ []float32) { copy(dst, x0) }

// Taken up at any step with the latents that a whole run has there, the steps
// left give the same bits: plans, timesteps and noise go by the step's own
// number. Evaluations are counted for the steps that are run.
func TestStartKeepsStepNumbers(t *testing.T) {
	const steps = 5
	for _, name := range []string{"ddim", "euler", "euler_ancestral"} {
		eta := 0.0
		if name == "ddim" {
			eta = 1
		}
		s := settings(t, 3, steps)
		for i := range steps {
			p := ablation.StepPlan{Main: dilated(float64(2 + i))}
			if i < 3 {
				p.Damped = dilated(float64(20 + i))
			}
			s.Plan = append(s.Plan, p)
		}
		method, err := New(name, s.Schedule, steps, eta)
		if err != nil {
			t.Fatal(err)
		}
		s.Sampler = resuming{method}
		var at [][]float32
		s.OnStep = func(i StepInfo) { at = append(at, append([]float32(nil), i.X...)) }
		whole := mustSample(t, &fake{}, s)
		for first := 1; first < steps; first++ {
			var told []int
			rest := s
			rest.Start = &Start{Step: first, Clean: at[first-1]}
			rest.OnStep = func(i StepInfo) { told = append(told, i.Step) }
			net := &fake{}
			sameBits(t, fmt.Sprintf("%s from step %d", name, first), mustSample(t, net, rest), whole)
			if len(told) != steps-first || told[0] != first {
				t.Errorf("%s from step %d: told of steps %v", name, first, told)
			}
			rows := 0
			for _, c := range net.calls {
				rows += c.rows
			}
			if want := 2*(steps-first) + max(3-first, 0); rest.NFE() != want || rows != 3*want {
				t.Errorf("%s from step %d: NFE %d and %d rows of 3 samples, want %d", name, first, rest.NFE(), rows, want)
			}
		}
	}
}

// Every sampler noises to the level that its network is told: DDIM's and
// DPM-Solver++'s latents are the schedule's own, Euler's those divided by
// sqrt(alphaBar).
func TestAddNoiseOfSamplers(t *testing.T) {
	const steps = 12
	sched := mustSchedule(t, StableDiffusion())
	x0, n := make([]float32, 50), make([]float32, 50)
	Noise(x0, NoiseKey{Sample: 1})
	Noise(n, NoiseKey{Sample: 2})
	for _, name := range Names() {
		method, err := New(name, sched, steps, 0)
		if err != nil {
			t.Fatal(err)
		}
		for step, ts := range method.Timesteps() {
			want, got := make([]float32, 50), make([]float32, 50)
			sched.AddNoise(want, x0, n, int(ts))
			method.AddNoise(step, got, x0, n)
			tolerance := 0.0
			if e, ok := method.(*Euler); ok {
				for i, v := range got {
					if w := float64(x0[i]) + e.Sigmas()[step]*float64(n[i]); math.Abs(float64(v)-w) > 1e-5 {
						t.Fatalf("%s step %d: noised value %d is %g, want x0 + sigma n = %g", name, step, i, v, w)
					}
				}
				tolerance = 1e-6
			}
			method.ScaleInput(step, got, got)
			near(t, fmt.Sprintf("%s step %d", name, step), got, want, tolerance)
		}
	}
}

// A perfect network brings noised samples of the data back to samples of the
// data, from any step, with any sampler; and the later the start, the more of
// the given picture is kept.
func TestStartReachesTheData(t *testing.T) {
	const spread, steps = 0.4, 50
	sched := mustSchedule(t, StableDiffusion())
	clean := make([]float32, 2*24*24)
	Noise(clean, NoiseKey{Seed: 9})
	for i := range clean {
		clean[i] *= spread
	}
	for _, name := range Names() {
		method, err := New(name, sched, steps, 0)
		if err != nil {
			t.Fatal(err)
		}
		last := -1.0
		for _, first := range []int{0, 10, 25, 40, 49} {
			x := mustSample(t, newOracle(t, sched, spread), Settings{Steps: steps, Sampler: method, Seed: 3, C: 1, H: 24, W: 24,
				SampleIndex: []uint64{0, 1}, Cond: make([]Condition, 2), Start: &Start{Step: first, Clean: clean}})
			if off := deviation(x)/spread - 1; math.Abs(off) > 0.15 {
				t.Errorf("%s from step %d: the deviation is off by %.1f%%, want at most 15%%", name, first, 100*off)
			}
			both := 0.0
			for i := range x {
				both += float64(x[i]) * float64(clean[i])
			}
			kept := both / float64(len(x)) / (spread * spread)
			if kept < last {
				t.Errorf("%s from step %d: correlation %.2f with the picture, %.2f from an earlier step", name, first, kept, last)
			}
			last = kept
		}
		if last < 0.85 { // dpmpp_2m's last level is 0.14 to a spread of 0.4
			t.Errorf("%s from the last step: correlation %.2f with the picture, want almost 1", name, last)
		}
	}
}

// The noise of a start is the initial noise of the sample's own key: paired
// with a run from noise, and independent of the batch.
func TestStartNoiseIsPaired(t *testing.T) {
	s := settings(t, 4, 6)
	m := s.C * s.H * s.W
	s.Start = &Start{Step: 2, Clean: make([]float32, 4*m)}
	for i := range s.Start.Clean {
		s.Start.Clean[i] = float32(i%7) / 7
	}
	clean := append([]float32(nil), s.Start.Clean...)
	var first []float32
	net := &fake{before: func(r Request) error {
		if first == nil {
			first = append(first, r.X[:4*m]...)
		}
		return nil
	}}
	whole := mustSample(t, net, s)
	if !reflect.DeepEqual(clean, s.Start.Clean) {
		t.Error("the given latents were changed")
	}
	for i, index := range s.SampleIndex {
		n, want := make([]float32, m), make([]float32, m)
		Noise(n, NoiseKey{Seed: s.Seed, Sample: index})
		s.Schedule.AddNoise(want, clean[i*m:(i+1)*m], n, int(net.calls[0].t))
		sameBits(t, "noised latent", first[i*m:(i+1)*m], want)

		alone := subset(s, i, i+1)
		alone.Start = &Start{Step: 2, Clean: clean[i*m : (i+1)*m]}
		sameBits(t, "alone", mustSample(t, &fake{}, alone), whole[i*m:(i+1)*m])
	}
}
