package metrics_test

import (
	"fmt"
	"log"

	"scalecrafter/metrics"
)

// Two methods drew the same eight prompts with the same noise; did the second
// draw fewer excess bodies?
func ExampleResamples_MeanDifference() {
	direct := []float64{2, 1, 3, 2, 1, 2, 4, 1}
	redilated := []float64{0, 0, 1, 0, 0, 1, 0, 0}
	plan, err := metrics.NewResamples(1, len(direct), 1000)
	if err != nil {
		log.Fatal(err)
	}
	effect, err := plan.MeanDifference(redilated, direct)
	if err != nil {
		log.Fatal(err)
	}
	lo, hi := effect.Interval95()
	p, err := plan.SignFlip(1, redilated, direct)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.2f, zero inside [lo,hi]: %v, p %.4f\n", effect.Point, lo <= 0 && hi >= 0, p)
	// Output: -1.75, zero inside [lo,hi]: false, p 0.0078
}

func ExampleCounts_Score() {
	score, err := metrics.Counts{Bodies: 2, Eyes: 5, Mouths: 2}.Score()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("excess bodies:", score.ExcessBodies)
	fmt.Println("eyes beyond two a body:", score.LocalEyes)
	// Output:
	// excess bodies: 1
	// eyes beyond two a body: 1
}
