package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Pool runs the pieces of a parallel loop on a fixed number of goroutines. It splits outputs, never sums, so results do not
// depend on the number of threads. A nil Pool runs everything on the caller. A Pool may be shared by several callers; a piece
// may itself start a loop on the same Pool (the inner loop is then helped by whoever is free).
type Pool struct {
	threads int
	work    chan *loop
	close   sync.Once
}

// loop is one parallel loop in flight.
type loop struct {
	n       int
	body    func(worker, i int)
	next    atomic.Int64   // next piece to hand out
	workers atomic.Int64   // next worker number to hand out
	left    atomic.Int64   // pieces that are not finished
	done    sync.WaitGroup // released by whoever finishes the last piece
	failure atomic.Pointer[failure]
}

// failure carries the first panic of a piece to the goroutine that started the loop.
type failure struct{ value any }

// NewPool starts a pool of the given number of threads, the caller of Run counted as one; less than 1 means 1.
func NewPool(threads int) *Pool {
	if threads < 1 {
		threads = 1
	}
	p := &Pool{threads: threads, work: make(chan *loop, threads-1)}
	for range threads - 1 {
		go p.serve()
	}
	return p
}

// spins is how often a goroutine looks for work, or for the end of it, before it sleeps: loops follow one another closely, and
// waking a sleeper takes longer than a small loop. Each look lets other goroutines run.
const spins = 200

// serve helps with loops until the pool is closed.
func (p *Pool) serve() {
	for {
		var l *loop
		var open bool
		for i := 0; l == nil && i < spins; i++ {
			select {
			case l, open = <-p.work:
				if !open {
					return
				}
			default:
				runtime.Gosched()
			}
		}
		if l == nil {
			if l, open = <-p.work; !open {
				return
			}
		}
		l.drain()
	}
}

// Threads returns how many pieces run at once; 1 for a nil Pool.
func (p *Pool) Threads() int {
	if p == nil {
		return 1
	}
	return p.threads
}

// Close ends the pool's goroutines. The pool must not be used afterwards.
func (p *Pool) Close() {
	if p != nil {
		p.close.Do(func() { close(p.work) })
	}
}

// Run calls f(i) once for every i in [0,n), in any order and on several goroutines, and returns when all calls are done.
// A panic in f is raised again on the caller.
func (p *Pool) Run(n int, f func(i int)) {
	p.run(n, func(_, i int) { f(i) })
}

// run is Run with a worker number in [0, Threads()) that no two concurrent calls of one loop share, for worker-owned scratch.
func (p *Pool) run(n int, f func(worker, i int)) {
	if n <= 0 {
		return
	}
	if p == nil || p.threads == 1 || n == 1 {
		for i := range n {
			f(0, i)
		}
		return
	}
	l := &loop{n: n, body: f}
	l.left.Store(int64(n))
	l.done.Add(1)
	for range min(p.threads, n) - 1 {
		select {
		case p.work <- l:
		default: // everybody is busy, for instance because this loop runs inside another: go on without help
		}
	}
	l.drain()
	for i := 0; l.left.Load() > 0 && i < spins; i++ {
		runtime.Gosched()
	}
	l.done.Wait()
	if bad := l.failure.Load(); bad != nil {
		panic(bad.value)
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
			l.done.Done()
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
		l.body(worker, i)
		finished++
	}
}
