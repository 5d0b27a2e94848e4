package experiments

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// plainEvery is the time between two lines of progress where there is no
// terminal.
const plainEvery = 5 * time.Second

// barUnits is the resolution of a bar.
const barUnits = 10000

// progress shows how far a run is: bars on a terminal, a line now and then
// elsewhere, nothing when quiet. Work is counted by experiment.price, so that
// the time left holds for cells of unequal cost and size.
type progress struct {
	w     io.Writer
	quiet bool
	outMu sync.Mutex // one line at a time on w

	mu         sync.Mutex
	total      float64 // to do in this run
	done       float64
	wantImages int
	haveImages int
	wantCells  int
	haveCells  int
	left       map[*work]int
	started    time.Time

	bars *mpb.Progress
	all  *mpb.Bar
	// barMu guards cells. It is another lock than mu because the bars' own
	// goroutine takes mu while it draws.
	barMu sync.Mutex
	cells map[*work]*mpb.Bar

	stop    chan struct{}
	stopped sync.WaitGroup
}

func newProgress(w io.Writer, quiet bool, e *experiment) *progress {
	g := &progress{w: w, quiet: quiet, started: time.Now(), left: map[*work]int{}, cells: map[*work]*mpb.Bar{}, stop: make(chan struct{})}
	g.total = e.toDo()
	for _, k := range e.works {
		missing := len(k.missing())
		g.wantImages += k.count
		g.haveImages += k.count - missing
		g.left[k] = missing
		g.wantCells++
		if missing == 0 {
			g.haveCells++
		}
	}
	if quiet {
		return g
	}
	if g.total == 0 {
		fmt.Fprintf(w, "all %d images are finished; nothing is sampled\n", g.wantImages)
		return g
	}
	if file, ok := w.(*os.File); ok && isatty.IsTerminal(file.Fd()) {
		g.bars = mpb.New(mpb.WithOutput(file), mpb.WithWidth(48), mpb.WithRefreshRate(200*time.Millisecond))
		g.all = g.bars.AddBar(barUnits,
			mpb.BarPriority(1<<20),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return g.counts() }, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Any(func(decor.Statistics) string { return "  " + g.timeLeft() })),
		)
		return g
	}
	g.print(g.line())
	g.stopped.Go(func() {
		tick := time.NewTicker(plainEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				g.print(g.line())
			case <-g.stop:
				return
			}
		}
	})
	return g
}

// advance adds work done.
func (g *progress) advance(cost float64) {
	g.mu.Lock()
	g.done += cost
	share := g.done / g.total
	g.mu.Unlock()
	if g.all != nil {
		g.all.SetCurrent(min(int64(share*barUnits), barUnits-1))
	}
}

// images adds finished images of one cell, none at its start.
func (g *progress) images(k *work, n int) {
	g.mu.Lock()
	g.haveImages += n
	g.left[k] -= n
	have := k.count - g.left[k]
	g.mu.Unlock()
	if g.bars == nil {
		return
	}
	g.barMu.Lock()
	defer g.barMu.Unlock()
	bar := g.cells[k]
	if bar == nil {
		bar = g.bars.AddBar(int64(k.count), mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(k.title, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.CountersNoUnit("%d/%d")))
		g.cells[k] = bar
	}
	bar.SetCurrent(int64(have))
}

// finished tells that a cell has all its images.
func (g *progress) finished(k *work) {
	g.mu.Lock()
	g.haveCells++
	g.mu.Unlock()
	g.say("done: %s (%d images)", k.title, k.count)
}

// say prints a line above the bars.
func (g *progress) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...) + "\n"
	switch {
	case g.bars != nil:
		g.bars.Write([]byte(text))
	case !g.quiet:
		g.print(strings.TrimSuffix(text, "\n"))
	}
}

func (g *progress) print(line string) {
	g.outMu.Lock()
	defer g.outMu.Unlock()
	fmt.Fprintln(g.w, line)
}

// close ends the display.
func (g *progress) close() {
	close(g.stop)
	g.stopped.Wait()
	if g.bars == nil {
		if !g.quiet && g.total > 0 {
			fmt.Fprintf(g.w, "%s; took %s\n", g.counts(), duration(time.Since(g.started).Seconds()))
		}
		return
	}
	g.barMu.Lock()
	for _, bar := range g.cells {
		bar.Abort(true)
	}
	g.barMu.Unlock()
	g.mu.Lock()
	whole := g.haveImages == g.wantImages
	g.mu.Unlock()
	if whole {
		g.all.SetCurrent(barUnits)
	} else {
		g.all.Abort(false)
	}
	g.bars.Wait()
}

func (g *progress) counts() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return fmt.Sprintf("cells %d/%d, images %d/%d", g.haveCells, g.wantCells, g.haveImages, g.wantImages)
}

func (g *progress) timeLeft() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done <= 0 || g.total <= 0 {
		return "time left unknown"
	}
	if g.done >= g.total {
		return "0s left"
	}
	return duration(time.Since(g.started).Seconds()*(g.total-g.done)/g.done) + " left"
}

func (g *progress) line() string {
	g.mu.Lock()
	share := 0.0
	if g.total > 0 {
		share = min(g.done/g.total, 1)
	}
	g.mu.Unlock()
	return strings.Join([]string{fmt.Sprintf("%3.0f%%", 100*share), g.counts(), g.timeLeft()}, ", ")
}
