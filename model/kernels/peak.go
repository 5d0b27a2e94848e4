package kernels

import "time"

// PeakGFLOPS measures how many billion float32 multiplications and additions a second the active engine does in registers on
// all threads of the pool: the yardstick of every other loop. It takes about 50 ms; 0 where the engine has no such loop. Each call
// measures anew and returns the best of its rounds.
func PeakGFLOPS(p *Pool) float64 {
	return loopGFLOPS(p, peakLoop(), 384)
}

// BF16PeakGFLOPS is PeakGFLOPS for the products of the bfloat16 path; 0 where it has no products of its own.
func BF16PeakGFLOPS(p *Pool) float64 {
	loop, flops := BF16Peak()
	return loopGFLOPS(p, loop, flops)
}

// loopGFLOPS times a loop of so many operations a round.
func loopGFLOPS(p *Pool, loop func(rounds int), flops float64) float64 {
	if loop == nil {
		return 0
	}
	rounds := int(4e8 / flops) // some ms
	best := 0.0
	for range 8 {
		start := time.Now()
		p.Run(p.Threads(), func(int) { loop(rounds) })
		best = max(best, float64(p.Threads())*float64(rounds)*flops/time.Since(start).Seconds()/1e9)
	}
	return best
}
