package ops

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
)

// slow is an op of many pieces that each take a while.
type slow struct {
	Out   []int
	Piece time.Duration
	ran   *atomic.Int32
	noGrad
	noScratch
}

func (k slow) inputs() int  { return 1 }
func (k slow) shape() []int { return k.Out }
func (k slow) slowly(e *Env, dst []float32) {
	e.Pool.Run(len(dst), func(i int) {
		time.Sleep(k.Piece)
		k.ran.Add(1)
		dst[i] = 1
	})
	panicIf(k.ran.Load() < int32(len(dst)), "a kernel went on with half of its pieces")
}
func (k slow) run(e *Env, dst []float32, _ [][]float32) { k.slowly(e, dst) }

func panicIf(bad bool, what string) {
	if bad {
		panic(what)
	}
}

// TestCancelInside holds that a run ends soon after its context, inside a long
// op, with any number of threads, and that the machine and its pool can be used
// again.
func TestCancelInside(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 4} {
		var pool *kernels.Pool
		if threads > 0 {
			pool = kernels.NewPool(threads)
		}
		var ran atomic.Int32
		g := gorgonia.NewGraph()
		x, _ := leafNode(g, "x", 1000)
		y := apply(slow{Out: []int{1000}, Piece: 5 * time.Millisecond, ran: &ran}, nil, x)
		m, err := NewMachine(g, pool, y)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			for ran.Load() < 5 {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		if err := m.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("%d threads: %v, want context.Canceled", threads, err)
		}
		if n := ran.Load(); n > 500 {
			t.Errorf("%d threads: %d of 1000 pieces ran after 5", threads, n)
		}
		after := ran.Load()
		time.Sleep(20 * time.Millisecond)
		if ran.Load() != after {
			t.Errorf("%d threads: pieces run on after Run has returned", threads)
		}
		if err := m.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%d threads: %v, want context.Canceled", threads, err)
		}
		ran.Store(100000)
		m.prog[0].k = slow{Out: []int{1000}, ran: &ran}
		if err := m.RunAll(); err != nil {
			t.Errorf("%d threads: after a cancelled run: %v", threads, err)
		}
		pool.Close()
	}
}

// TestCancelConvolution stops a convolution that would take long, in the middle
// of an arena that another machine uses too.
func TestCancelConvolution(t *testing.T) {
	for _, threads := range []int{1, 2} {
		pool := kernels.NewPool(threads)
		g := gorgonia.NewGraph()
		x, xd := leafNode(g, "x", 1, 96, 384, 384)
		w, wd := leafNode(g, "w", 96, 96, 5, 5)
		normals("x", xd[:1<<16])
		normals("w", wd)
		y := Conv2D(x, w, nil, Same(1, 2, 4))
		m, err := NewMachine(g, pool, y)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		at := make(chan time.Time, 1)
		go func() {
			time.Sleep(20 * time.Millisecond)
			at <- time.Now()
			cancel()
		}()
		err = m.Run(ctx)
		late := time.Since(<-at)
		if !errors.Is(err, context.Canceled) { // 70 GFLOP: no machine is done in 20 ms
			t.Fatalf("%d threads: %v, %v after the context's end", threads, err, late)
		}
		t.Logf("%d threads: ended %v after its context", threads, late)
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
		want := append([]float32(nil), m.Output(y)...)
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m.Output(y), want) {
			t.Error("runs after the cancelled one differ")
		}
		pool.Close()
	}
}
