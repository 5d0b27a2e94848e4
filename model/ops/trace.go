package ops

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strconv"
	"sync"
	"time"

	"gorgonia.org/gorgonia"
)

// Trace starts to add up the time spent in every op.
func (m *Machine) Trace() { m.trace = make([]time.Duration, len(m.prog)) }

// OpTime is the time spent in one kind of op since Trace.
type OpTime struct {
	Name  string
	Calls int
	Time  time.Duration
	Flops float64 // floating-point operations of all calls; 0 where they are not counted
}

// Times sums the trace by op and shape, slowest first.
func (m *Machine) Times() []OpTime {
	at := map[string]int{}
	var out []OpTime
	for i, in := range m.prog {
		if m.trace == nil || m.trace[i] == 0 {
			continue
		}
		name := title(in.k)
		j, ok := at[name]
		if !ok {
			j = len(out)
			at[name] = j
			out = append(out, OpTime{Name: name})
		}
		out[j].Calls++
		out[j].Time += m.trace[i]
		out[j].Flops += flops(in.k)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Time > out[j].Time })
	return out
}

// counted is a kernel that knows its floating-point operations: multiplications
// and additions of its sums, as if computed directly.
type counted interface{ flops() float64 }

func flops(k kernel) float64 {
	if c, ok := k.(counted); ok {
		return c.flops()
	}
	return 0
}

// took records that an op ended now.
func (m *Machine) took(i int, in *instr, start time.Time) {
	d := time.Since(start)
	if m.trace != nil && i >= 0 {
		m.trace[i] += d
	}
	if m.tracer != nil {
		m.tracer.add(in.traced, m.thread, start, d)
	}
}

// SetTracer has every op of every run recorded, as done by that thread; nil: no
// longer.
func (m *Machine) SetTracer(t *Tracer, thread int) {
	m.tracer, m.thread = t, thread
	if t != nil {
		t.describe(m)
	}
}

// Tracer collects when which op ran, in any number of machines and goroutines,
// for a file that chrome://tracing and ui.perfetto.dev read. It keeps the first
// Limit events and sums of all.
type Tracer struct {
	Limit int // 0: a million

	mu      sync.Mutex
	start   time.Time
	ops     map[kernelAt]*tracedOp
	order   []*tracedOp
	events  [][]event // in blocks
	kept    int
	dropped int
}

// kernelAt is an op of a layer.
type kernelAt struct{ layer, title string }

type tracedOp struct {
	kernelAt
	number int32 // in Tracer.order
	name   string
	shape  []int
	flops  float64
	calls  int
	time   time.Duration
}

type event struct {
	op, thread int32
	start, dur time.Duration // since Tracer.start
}

const (
	defaultEvents = 1 << 20
	eventBlock    = 4 << 10
)

// describe notes the machine's ops before they run.
func (t *Tracer) describe(m *Machine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ops == nil {
		t.ops, t.start = map[kernelAt]*tracedOp{}, time.Now()
	}
	kids := func(n *gorgonia.Node) []*gorgonia.Node {
		var out []*gorgonia.Node
		it := n.Graph().From(n.ID())
		for it != nil && it.Next() {
			out = append(out, it.Node().(*gorgonia.Node))
		}
		return out
	}
	seen := map[*gorgonia.Node]string{}
	names := map[int]string{} // of leaves
	for _, l := range m.leaves {
		names[l.val] = l.node.Name()
	}
	note := func(in *instr) {
		if in.from >= 0 {
			return
		}
		if k, ok := in.k.(packer); ok { // a fused op is the layer's that has the weight
			if layer := parent(names[in.src[k.weight()]]); layer != "" {
				seen[in.node] = layer
			}
		}
		at := kernelAt{label(in.node, kids, seen), title(in.k)}
		op := t.ops[at]
		if op == nil {
			op = &tracedOp{kernelAt: at, number: int32(len(t.order)), name: Op{k: in.k}.Name(), shape: in.k.shape(), flops: flops(in.k)}
			t.ops[at] = op
			t.order = append(t.order, op)
		}
		in.traced = op
	}
	for i := range m.folded {
		note(&m.folded[i].instr)
	}
	for i := range m.prog {
		note(&m.prog[i])
	}
}

func (t *Tracer) add(op *tracedOp, thread int, start time.Time, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	op.calls++
	op.time += d
	limit := t.Limit
	if limit == 0 {
		limit = defaultEvents
	}
	if t.kept >= limit {
		t.dropped++
		return
	}
	if t.kept%eventBlock == 0 {
		t.events = append(t.events, make([]event, 0, eventBlock))
	}
	last := &t.events[len(t.events)-1]
	*last = append(*last, event{op.number, int32(thread), start.Sub(t.start), d})
	t.kept++
}

// Dropped is the number of events beyond Limit.
func (t *Tracer) Dropped() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped
}

// Times sums the trace by op, shape and layer, slowest first.
func (t *Tracer) Times() []OpTime {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []OpTime
	for _, op := range t.order {
		if op.calls == 0 {
			continue
		}
		name := op.title
		if op.layer != "" {
			name = op.layer + ": " + name
		}
		out = append(out, OpTime{Name: name, Calls: op.calls, Time: op.time, Flops: op.flops * float64(op.calls)})
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Time > out[j].Time })
	return out
}

// WriteTo writes the events as Chrome's trace-event JSON: times in microseconds,
// one line an event.
//
// Source: Trace Event Format, the JSON object form with complete ("X") events.
func (t *Tracer) WriteTo(w io.Writer) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// What does not change from event to event is written once for every op.
	heads, args := make([][]byte, len(t.order)), make([][]byte, len(t.order))
	for i, op := range t.order {
		name := op.name
		if op.layer != "" {
			name = op.layer + " " + name
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return 0, err
		}
		heads[i] = append(quoted, `,"cat":"op","ph":"X","pid":1,"tid":`...)
		if args[i], err = json.Marshal(struct {
			Op    string `json:"op"`
			Layer string `json:"layer,omitempty"`
			Shape string `json:"shape"`
		}{op.title, op.layer, fmt.Sprint(op.shape)}); err != nil {
			return 0, err
		}
		args[i] = args[i][:len(args[i])-1] // more to come
	}
	c := &counter{w: w}
	b := bufio.NewWriterSize(c, 64<<10)
	fmt.Fprintf(b, `{"displayTimeUnit":"ms","otherData":{"dropped events":%d},"traceEvents":[`, t.dropped)
	threads := map[int32]bool{}
	var line []byte
	sep := "\n"
	for _, block := range t.events {
		for _, e := range block {
			if !threads[e.thread] {
				threads[e.thread] = true
				fmt.Fprintf(b, `%s{"name":"thread_name","ph":"M","pid":1,"tid":%d,"args":{"name":"worker %d"}}`, sep, e.thread, e.thread)
				sep = ",\n"
			}
			line = append(append(line[:0], sep...), `{"name":`...)
			line = strconv.AppendInt(append(line, heads[e.op]...), int64(e.thread), 10)
			line = strconv.AppendFloat(append(line, `,"ts":`...), float64(e.start.Nanoseconds())/1e3, 'f', 3, 64)
			line = strconv.AppendFloat(append(line, `,"dur":`...), float64(e.dur.Nanoseconds())/1e3, 'f', 3, 64)
			line = append(append(line, `,"args":`...), args[e.op]...)
			if flops := t.order[e.op].flops; flops > 0 && e.dur > 0 {
				line = strconv.AppendFloat(append(line, `,"GFLOP/s":`...), flops/float64(e.dur.Nanoseconds()), 'f', 1, 64)
			}
			line = append(line, "}}"...)
			if _, err := b.Write(line); err != nil {
				return c.n, err
			}
			sep = ",\n"
		}
	}
	b.WriteString("\n]}\n")
	err := b.Flush()
	return c.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
