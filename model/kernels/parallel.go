package kernels

import (
	"fmt"
	"sync/atomic"
)

// chunk is the number of elements one task of an element-wise loop takes.
const chunk = 1 << 14

// poolThreads returns how many goroutines p may use; a nil pool is serial.
func poolThreads(p *Pool) int {
	if p == nil {
		return 1
	}
	return max(p.Threads(), 1)
}

// runChunks calls f(lo, hi) for consecutive ranges of step elements covering n.
func runChunks(p *Pool, n, step int, f func(lo, hi int)) {
	if n <= step {
		if n > 0 {
			f(0, n)
		}
		return
	}
	p.Run((n+step-1)/step, func(i int) {
		f(i*step, min((i+1)*step, n))
	})
}

// runWorkers calls f(worker, task) once for every task in 0..tasks-1, with at
// most workers calls at a time and never two at once with the same worker
// number, which therefore can index scratch memory.
func runWorkers(p *Pool, workers, tasks int, f func(worker, task int)) {
	workers = min(workers, tasks, poolThreads(p))
	if workers <= 1 {
		for i := range tasks {
			f(0, i)
		}
		return
	}
	var next atomic.Int64
	p.Run(workers, func(w int) {
		for {
			i := int(next.Add(1)) - 1
			if i >= tasks {
				return
			}
			f(w, i)
		}
	})
}

// need panics unless a slice holds at least want floats: a shape error of the
// caller. where names the kernel and the argument.
func need(where string, s []float32, want int) {
	if len(s) < want {
		panic(fmt.Sprintf("kernels: %s has %d floats, want %d", where, len(s), want))
	}
}

// panicf panics with the package's prefix.
func panicf(format string, args ...any) {
	panic("kernels: " + fmt.Sprintf(format, args...))
}
