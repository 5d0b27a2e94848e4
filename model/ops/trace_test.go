package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"sync"
	"testing"
)

// chrome is the part of the trace-event format that is written.
type chrome struct {
	OtherData   map[string]int `json:"otherData"`
	TraceEvents []struct {
		Name, Ph string
		Pid, Tid int
		Ts, Dur  float64
		Args     map[string]any
	} `json:"traceEvents"`
}

// TestTracer holds that machines in several goroutines write one file with an
// event for every op of every run, and that its size is bounded.
func TestTracer(t *testing.T) {
	for _, limit := range []int{0, 7} {
		tr := &Tracer{Limit: limit}
		const workers, runs = 3, 2
		ops := 0
		var group sync.WaitGroup
		for w := range workers {
			g, _, outs := fusable(t, 1)
			m, err := NewMachine(g, nil, outs...)
			if err != nil {
				t.Fatal(err)
			}
			m.SetTracer(tr, w+1)
			ops = 0
			for _, in := range m.prog {
				if in.from < 0 {
					ops++
				}
			}
			group.Go(func() {
				for range runs {
					if err := m.RunAll(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		var b bytes.Buffer
		if n, err := tr.WriteTo(&b); err != nil || n != int64(b.Len()) {
			t.Fatalf("%d bytes written, %v; want %d", n, err, b.Len())
		}
		var got chrome
		if err := json.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatalf("%v in\n%s", err, b.Bytes())
		}
		want := workers * ops * runs
		events, rates := 0, 0
		for _, e := range got.TraceEvents {
			if e.Ph == "M" {
				continue
			}
			events++
			if e.Ph != "X" || e.Tid < 1 || e.Tid > workers || e.Ts < 0 || e.Dur < 0 || e.Args["shape"] == nil {
				t.Errorf("event %+v", e)
			}
			if e.Args["GFLOP/s"] != nil {
				rates++
			}
		}
		kept := want
		if limit > 0 {
			kept = limit
		}
		if events != kept || got.OtherData["dropped events"] != want-kept || tr.Dropped() != want-kept {
			t.Errorf("limit %d: %d events and %v dropped, want %d of %d", limit, events, got.OtherData, kept, want)
		}
		if rates == 0 {
			t.Error("no op has a rate")
		}
		calls := 0
		for i, o := range tr.Times() {
			calls += o.Calls
			if i > 0 && o.Time > tr.Times()[i-1].Time {
				t.Error("times are not slowest first")
			}
		}
		if calls != want {
			t.Errorf("%d calls in the sums, want %d", calls, want)
		}
		if _, err := tr.WriteTo(full{}); err == nil {
			t.Error("a full disk is no error")
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
