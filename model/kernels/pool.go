package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Pool runs the pieces of a parallel loop on a fixed number of goroutines. It splits outputs, never sums, so results do not
// depend on the number of threads. A nil Pool runs everything on the caller. A Pool may be shared by several callers; a piece
// may itself start a loop on the same Pool (the inner loop is then helped by whoever is free). A loop allocates nothing but
// what its caller's closure takes.
type Pool struct {
	*crew
	done <-chan struct{} // loops stop when it is closed; nil: never
}

// crew is the goroutines, which several Pools may share.
type crew struct {
	threads int
	work    chan *loop
	close   sync.Once

	mu   sync.Mutex
	idle *loop // loops to be used again
}

// loop is one parallel loop in flight.
type loop struct {
	n       int
	body    func(worker, i int)
	done    <-chan struct{}
	next    atomic.Int64   // next piece to hand out
	workers atomic.Int64   // next worker number to hand out
	left    atomic.Int64   // pieces that are not finished
	over    sync.WaitGroup // released by whoever finishes the last piece
	failure atomic.Pointer[failure]

	// A helper may find a loop in the queue when it is long over; only when all who were called have looked may it be used again.
	refs atomic.Int64
	link *loop
}

// failure carries the first panic of a piece to the goroutine that started the loop.
type failure struct{ value any }

// Stopped is what a loop panics with when its Pool was told to stop (Pool.StopOn): the kernel that started the loop is
// abandoned in the middle, so that nothing is computed from half a result. Whoever calls StopOn recovers from it.
type Stopped struct{}

func (Stopped) Error() string { return "kernels: stopped before the end" }

// NewPool starts a pool of the given number of threads, the caller of Run counted as one; less than 1 means 1.
func NewPool(threads int) *Pool {
	if threads < 1 {
		threads = 1
	}
	c := &crew{threads: threads, work: make(chan *loop, threads-1)}
	for range threads - 1 {
		go c.serve()
	}
	return &Pool{crew: c}
}

// alone is the crew of views of a nil Pool.
var alone = &crew{threads: 1}

// View returns a Pool with the same goroutines, which StopOn stops and p not. p may be nil.
func (p *Pool) View() *Pool {
	if p == nil {
		return &Pool{crew: alone}
	}
	return &Pool{crew: p.crew}
}

// StopOn makes loops started from now on panic with Stopped once done is closed: no further piece is begun, the pieces that run
// are waited for. nil: never. Not to be called while a loop of this Pool runs.
func (p *Pool) StopOn(done <-chan struct{}) { p.done = done }

// spins is how often a goroutine looks for work, or for the end of it, before it sleeps: loops follow one another closely, and
// waking a sleeper takes longer than a small loop. Each look lets other goroutines run.
const spins = 200

// serve helps with loops until the pool is closed.
func (c *crew) serve() {
	for {
		var l *loop
		var open bool
		for i := 0; l == nil && i < spins; i++ {
			select {
			case l, open = <-c.work:
				if !open {
					return
				}
			default:
				runtime.Gosched()
			}
		}
		if l == nil {
			if l, open = <-c.work; !open {
				return
			}
		}
		l.drain()
		c.drop(l)
	}
}

// take returns a loop that nobody uses.
func (c *crew) take() *loop {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.idle
	if l == nil {
		return new(loop)
	}
	c.idle, l.link = l.link, nil
	return l
}

// drop lets go of a loop; the last one to do so puts it back.
func (c *crew) drop(l *loop) {
	if l.refs.Add(-1) > 0 {
		return
	}
	l.body, l.done = nil, nil
	c.mu.Lock()
	l.link, c.idle = c.idle, l
	c.mu.Unlock()
}

// Threads returns how many pieces run at once; 1 for a nil Pool.
func (p *Pool) Threads() int {
	if p == nil {
		return 1
	}
	return p.threads
}

// Close ends the pool's goroutines. The pool and its views must not be used afterwards.
func (p *Pool) Close() {
	if p != nil && p.work != nil {
		p.close.Do(func() { close(p.work) })
	}
}

// Run calls f(i) once for every i in [0,n), in any order and on several goroutines, and returns when all calls are done.
// A panic in f is raised again on the caller.
func (p *Pool) Run(n int, f func(i int)) { each(p, n, f, runIndex) }

func runIndex(f *func(i int), _, i int) { (*f)(i) }

// run is Run with a worker number in [0, Threads()) that no two concurrent calls of one loop share, for worker-owned scratch.
func (p *Pool) run(n int, f func(worker, i int)) { p.runOn(p.Threads(), n, f) }

// runOn is run with worker numbers in [0, workers) and no more calls than that at a time.
func (p *Pool) runOn(workers, n int, f func(worker, i int)) {
	if n <= 0 {
		return
	}
	if p == nil {
		for i := range n {
			f(0, i)
		}
		return
	}
	if workers = min(workers, p.threads, n); workers <= 1 {
		for i := range n {
			p.check()
			f(0, i)
		}
		return
	}
	p.check()
	l := p.take()
	l.n, l.body, l.done = n, f, p.done
	l.next.Store(0)
	l.workers.Store(0)
	l.failure.Store(nil)
	l.left.Store(int64(n))
	l.over.Add(1)
	l.refs.Store(int64(workers))
	called := 1
	for range workers - 1 {
		select {
		case p.work <- l:
			called++
		default: // everybody is busy, for instance because this loop runs inside another: go on without help
		}
	}
	if called < workers {
		l.refs.Add(int64(called - workers)) // cannot reach 0: the caller's own is left
	}
	l.drain()
	for i := 0; l.left.Load() > 0 && i < spins; i++ {
		runtime.Gosched()
	}
	l.over.Wait()
	bad := l.failure.Load()
	p.drop(l)
	if bad != nil {
		panic(bad.value)
	}
}

// check panics with Stopped if the pool was told to stop. A piece that takes long calls it now and then.
func (p *Pool) check() {
	if p != nil && stopped(p.done) {
		panic(Stopped{})
	}
}

func stopped(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// drain runs pieces until none is left. A helper that comes late finds none and touches nothing. After a panic the pieces not
// yet handed out are dropped.
func (l *loop) drain() {
	finished := 0
	defer func() {
		if r := recover(); r != nil {
			l.failure.CompareAndSwap(nil, &failure{r})
			finished++
			if next := int(l.next.Swap(int64(l.n))); next < l.n {
				finished += l.n - next
			}
		}
		if finished > 0 && l.left.Add(int64(-finished)) == 0 {
			l.over.Done()
		}
	}()
	worker := -1
	for {
		i := int(l.next.Add(1)) - 1
		if i >= l.n {
			return
		}
		if worker < 0 {
			worker = int(l.workers.Add(1)) - 1
		}
		if stopped(l.done) {
			panic(Stopped{})
		}
		l.body(worker, i)
		finished++
	}
}
