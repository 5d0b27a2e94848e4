package kernels

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPoolRunsEachPieceOnce holds that loops, one after the other, inside one another and from several goroutines at once, run
// every piece once, and give no worker number to two pieces at a time.
func TestPoolRunsEachPieceOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 5} {
		p := NewPool(threads)
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				for n := range 40 {
					counts := make([]atomic.Int32, n*3)
					busy := make([]atomic.Int32, threads)
					p.run(n, func(worker, i int) {
						if busy[worker].Add(1) != 1 {
							t.Errorf("%d threads: worker %d has two pieces at a time", threads, worker)
						}
						each(p, 3, counts[i*3:], func(c *[]atomic.Int32, _, j int) { (*c)[j].Add(1) })
						busy[worker].Add(-1)
					})
					for i := range counts {
						if c := counts[i].Load(); c != 1 {
							t.Errorf("%d threads, %d pieces: piece %d ran %d times", threads, n, i, c)
						}
					}
				}
			})
		}
		callers.Wait()
		p.Close()
	}
}

// TestPoolPanic holds that a piece's panic reaches the caller, and that the pool works on.
func TestPoolPanic(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	for range 50 {
		func() {
			defer func() {
				if r := recover(); r != "piece" {
					t.Errorf("recovered %v, want the piece's panic", r)
				}
			}()
			p.Run(20, func(i int) {
				if i == 7 {
					panic("piece")
				}
			})
		}()
		var n atomic.Int32
		p.Run(20, func(int) { n.Add(1) })
		if n.Load() != 20 {
			t.Fatalf("after a panic %d of 20 pieces ran", n.Load())
		}
	}
}

// TestPoolStops holds that a view stops between pieces, at any number of threads and inside nested loops, that the pool it
// looks on goes on, and that no piece runs after the loop has returned.
func TestPoolStops(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 4} { // 0: a nil pool
		var p *Pool
		if threads > 0 {
			p = NewPool(threads)
		}
		v := p.View()
		done := make(chan struct{})
		v.StopOn(done)
		var ran atomic.Int32
		var over atomic.Bool
		err := catch(func() {
			v.Run(100, func(int) {
				each(v, 100, &over, func(over **atomic.Bool, _, _ int) {
					if (*over).Load() {
						t.Errorf("%d threads: a piece ran after the loop had returned", threads)
					}
					if ran.Add(1) == 150 {
						close(done)
					}
				})
			})
		})
		over.Store(true)
		if !errors.Is(err, Stopped{}) {
			t.Fatalf("%d threads: %v, want Stopped", threads, err)
		}
		if n := ran.Load(); n < 150 || n > 150+int32(threads)*2 {
			t.Errorf("%d threads: %d pieces ran, the 150th stopped the pool", threads, n)
		}
		if err := catch(func() { v.Run(1, func(int) { t.Error("a stopped pool began a piece") }) }); !errors.Is(err, Stopped{}) {
			t.Errorf("%d threads: %v, want Stopped", threads, err)
		}
		ran.Store(0)
		p.Run(10, func(int) { ran.Add(1) })
		v.StopOn(nil)
		v.Run(10, func(int) { ran.Add(1) })
		if ran.Load() != 20 {
			t.Errorf("%d threads: %d of 20 pieces ran on what was not stopped", threads, ran.Load())
		}
		p.Close()
	}
}

// catch returns the error that f panics with.
func catch(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = r.(error)
		}
	}()
	f()
	return nil
}

// TestLoopsAllocateNothing holds that a loop whose body captures nothing allocates nothing.
func TestLoopsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops what is kept to be used again")
	}
	for _, threads := range []int{1, 2, 4} {
		p := NewPool(threads)
		x := make([]float32, 100<<10)
		run := func() {
			Add(p, x, x, x)
			Scale(p, x, x, 0.5)
		}
		run()
		if n := testing.AllocsPerRun(200, run); n >= 1 {
			t.Errorf("%d threads: two loops allocate %v times", threads, n)
		}
		p.Close()
	}
}

// TestPoolSleeps holds that helpers that found no work for long still come.
func TestPoolSleeps(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	time.Sleep(5 * time.Millisecond)
	var both sync.WaitGroup
	both.Add(2)
	p.Run(2, func(int) { both.Done(); both.Wait() }) // ends only if two goroutines take part
}
