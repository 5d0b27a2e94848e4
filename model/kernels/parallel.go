package kernels

import (
	"fmt"
	"reflect"
	"sync"
)

// chunk is the number of elements one task of an element-wise loop takes.
const chunk = 1 << 14

// poolThreads returns how many goroutines p may use; a nil pool is serial.
func poolThreads(p *Pool) int { return p.Threads() }

// task is the state of a loop, to be used again: what a closure would hold, without making one for every loop.
type task[T any] struct {
	state   T
	f       func(state *T, worker, i int)
	ranges  func(state *T, lo, hi int)
	n, step int
	call    func(worker, i int) // f
	chunk   func(worker, i int) // ranges of piece i
}

// tasks has a *sync.Pool of tasks for every type of state.
var tasks sync.Map

func tasksOf[T any]() *sync.Pool {
	key := reflect.TypeFor[T]()
	if p, ok := tasks.Load(key); ok {
		return p.(*sync.Pool)
	}
	p, _ := tasks.LoadOrStore(key, &sync.Pool{New: func() any {
		t := new(task[T])
		t.call = func(worker, i int) { t.f(&t.state, worker, i) }
		t.chunk = func(_, i int) { t.ranges(&t.state, i*t.step, min((i+1)*t.step, t.n)) }
		return t
	}})
	return p.(*sync.Pool)
}

// each calls f(&state, worker, i) once for every i in [0,n), as Pool.run does. With an f that captures nothing it allocates
// nothing: state is kept where the next loop over this type of state will find it.
func each[T any](p *Pool, n int, state T, f func(state *T, worker, i int)) {
	eachOn(p, p.Threads(), n, state, f)
}

// eachOn is each with at most that many workers.
func eachOn[T any](p *Pool, workers, n int, state T, f func(state *T, worker, i int)) {
	if n <= 0 {
		return
	}
	free := tasksOf[T]()
	t := free.Get().(*task[T])
	t.state, t.f = state, f
	p.runOn(workers, n, t.call)
	var none T
	t.state, t.f = none, nil // so that it keeps nobody's memory
	free.Put(t)
}

// eachChunk calls f(&state, lo, hi) for consecutive ranges of step elements covering n.
func eachChunk[T any](p *Pool, n, step int, state T, f func(state *T, lo, hi int)) {
	if n <= 0 {
		return
	}
	free := tasksOf[T]()
	t := free.Get().(*task[T])
	t.state, t.ranges, t.n, t.step = state, f, n, step
	p.runOn(p.Threads(), (n+step-1)/step, t.chunk)
	var none T
	t.state, t.ranges = none, nil
	free.Put(t)
}

// runChunks calls f(lo, hi) for consecutive ranges of step elements covering n.
func runChunks(p *Pool, n, step int, f func(lo, hi int)) {
	eachChunk(p, n, step, f, func(f *func(lo, hi int), lo, hi int) { (*f)(lo, hi) })
}

// runWorkers calls f(worker, task) once for every task in 0..tasks-1, with at
// most workers calls at a time and never two at once with the same worker
// number, which therefore can index scratch memory.
func runWorkers(p *Pool, workers, tasks int, f func(worker, task int)) {
	p.runOn(workers, tasks, f)
}

// plans keeps what follows from a description alone, so that no call makes it anew. The values are shared and never change.
type plans[K comparable, V any] struct {
	mu   sync.Mutex
	made map[K]V
}

// maxPlans bounds the plans kept: more than the layers of a network at some sizes. They are small, and all dropped when there are
// too many.
const maxPlans = 512

// get returns what has been made for the key.
func (p *plans[K, V]) get(key K, make func(K) V) V {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.made[key]
	if !ok {
		if p.made == nil || len(p.made) >= maxPlans {
			p.made = map[K]V{}
		}
		v = make(key)
		p.made[key] = v
	}
	return v
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
