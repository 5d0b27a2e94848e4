package sampler_test

import (
	"context"
	"fmt"
	"math"

	"scalecrafter/model/sampler"
)

// point is the perfect network for a world whose only picture is one value.
type point struct {
	schedule *sampler.NoiseSchedule
	value    float64
}

func (p point) Predict(_ context.Context, req sampler.Request, out []float32) error {
	a := p.schedule.AlphaBar[int(req.T)]
	for i, x := range req.X {
		out[i] = float32((float64(x) - math.Sqrt(a)*p.value) / math.Sqrt(1-a))
	}
	return nil
}

func ExampleSample() {
	c := sampler.StableDiffusion()
	c.SetAlphaToOne = true // the last step leaves no noise
	schedule, err := sampler.NewNoiseSchedule(c)
	if err != nil {
		fmt.Println(err)
		return
	}
	s := sampler.Settings{
		Steps: 4, GuidanceScale: 1, Seed: 7, SampleIndex: []uint64{0, 1},
		Cond: make([]sampler.Condition, 2), C: 1, H: 1, W: 1, Schedule: schedule,
		OnStep: func(i sampler.StepInfo) { fmt.Printf("step %d, timestep %g\n", i.Step, i.T) },
	}
	x, err := sampler.Sample(context.Background(), point{schedule, 0.25}, s)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.3f after %d evaluations each\n", x, s.NFE())
	// Output:
	// step 0, timestep 751
	// step 1, timestep 501
	// step 2, timestep 251
	// step 3, timestep 1
	// [0.250 0.250] after 4 evaluations each
}

func ExampleNewStream() {
	// The same key gives the same numbers, whoever asks and whenever.
	s := sampler.NewStream(sampler.NoiseKey{Seed: 1, Sample: 42})
	fmt.Println(s.Intn(6), s.Intn(6), s.Intn(6))
	// Output: 3 5 2
}
