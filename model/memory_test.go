package model

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"scalecrafter/ablation"
	"scalecrafter/model/ops"
)

// TestTextIsFolded holds that keys and values of the text, kept between steps and
// shared by the graphs of a worker, give the bits of a fresh worker whatever
// order prompts, plans and batches come in.
func TestTextIsFolded(t *testing.T) {
	p := tinyPipeline(t)
	w := p.NewWorker(1)
	dilated := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{"mid_block.resnets.0.conv1": {H: 2, W: 2}}}
	predict := func(w *Worker, plan *ablation.LayerPlan, texts ...int) []float32 {
		t.Helper()
		r := request(t, w, 0, len(texts), 8, 8, plan)
		for i, text := range texts {
			r.Cond[i].Embedding = noise("text "+string(rune('a'+text)), len(r.Cond[i].Embedding))
		}
		out := make([]float32, len(r.X))
		if err := w.Predict(context.Background(), r, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for i, tt := range []struct {
		plan  *ablation.LayerPlan
		texts []int
	}{
		{nil, []int{0, 1}}, {nil, []int{0, 1}}, {dilated, []int{0, 1}}, {nil, []int{1, 0}}, {dilated, []int{1, 0}}, {nil, []int{0}},
		{dilated, []int{1}}, {nil, []int{0, 1}}, {dilated, []int{2, 3}}, {nil, []int{4, 5}}, {nil, []int{6, 7}}, {nil, []int{8, 9}}, {nil, []int{0, 1}},
	} {
		if got, want := predict(w, tt.plan, tt.texts...), predict(p.NewWorker(1), tt.plan, tt.texts...); !reflect.DeepEqual(got, want) {
			t.Errorf("call %d, texts %v: other bits than a fresh worker's", i, tt.texts)
		}
	}
	if w.memory.constants.Bytes() == 0 {
		t.Error("nothing is kept between steps")
	}
	plan, err := p.PlanMemory(1, []Batch{{2, 8, 8, nil}, {2, 8, 8, dilated}})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.memory.constants.Bytes(); got > plan.Constants {
		t.Errorf("%d bytes are kept, %d planned", got, plan.Constants)
	}
	// Text that is kept is not computed again.
	var tr ops.Tracer
	p.Trace(&tr)
	traced := p.NewWorker(1)
	p.Trace(nil)
	predict(traced, nil, 0, 1)
	predict(traced, nil, 0, 1)
	kept := 0
	for _, o := range tr.Times() {
		want := 2
		if strings.Contains(o.Name, "attn2.to_k") || strings.Contains(o.Name, "attn2.to_v") {
			want = 1
			kept++
		}
		if o.Calls%want != 0 || want == 1 && o.Calls != 1 {
			t.Errorf("%s ran %d times in two steps", o.Name, o.Calls)
		}
	}
	if kept != 8 { // four cross-attentions
		t.Errorf("%d layers of the text are in the trace, want 8", kept)
	}
}

// TestPlanMemory holds the plan against what a worker then has.
func TestPlanMemory(t *testing.T) {
	p := tinyPipeline(t)
	dilated := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{"mid_block.resnets.0.conv1": {H: 2, W: 2}}}
	plan, err := p.PlanMemory(1, Batches([]Batch{{4, 8, 8, nil}, {4, 8, 8, nil}, {2, 8, 8, dilated}}))
	if err != nil {
		t.Fatal(err)
	}
	w := p.NewWorker(1)
	w.Reserve(plan)
	predictTiny(t, w, 4, 8, 8, nil)
	predictTiny(t, w, 2, 8, 8, dilated)
	largest, scratch := 0, 0
	for _, s := range w.cache {
		a, b, _ := s.machine.Bytes()
		largest, scratch = max(largest, a), max(scratch, b)
	}
	if plan.Arena != largest || plan.Scratch != scratch {
		t.Errorf("arena %d and scratch %d planned, %d and %d taken", plan.Arena, plan.Scratch, largest, scratch)
	}
	if got := p.packed.Bytes(); got > plan.Packed || got == 0 {
		t.Errorf("%d bytes of packed weights, %d planned", got, plan.Packed)
	}
	if plan.Weights == 0 || plan.Inputs == 0 || plan.Latents == 0 || plan.Dispersed != 0 {
		t.Errorf("plan %+v", plan)
	}
	if plan.Worker() != plan.Arena+plan.Scratch+plan.Constants+plan.Inputs+plan.Latents || plan.Shared() != plan.Weights+plan.Packed {
		t.Errorf("sums of %+v are %d and %d", plan, plan.Worker(), plan.Shared())
	}
}

// stopAt is a context that is cancelled when its Err is asked for the time at, 0
// for never: before the answer, or, with late, after it, so that what comes next
// finds the channel closed in the middle.
type stopAt struct {
	context.Context
	cancel    func()
	at, asked atomic.Int64
	late      bool
}

func newStopAt(at int, late bool) *stopAt {
	c := &stopAt{late: late}
	c.Context, c.cancel = context.WithCancel(context.Background())
	c.at.Store(int64(at))
	return c
}

func (c *stopAt) Err() error {
	now := c.asked.Add(1) == c.at.Load()
	if now && !c.late {
		c.cancel()
	}
	err := c.Context.Err()
	if now && c.late {
		c.cancel()
	}
	return err
}

// TestPredictEnds holds that a prediction ends at once wherever its context does,
// between two ops or in one, and that the worker goes on with the right bits.
func TestPredictEnds(t *testing.T) {
	p := tinyPipeline(t)
	w := p.NewWorker(2)
	want := predictTiny(t, w, 1, 8, 8, nil)
	r := request(t, w, 0, 8, 32, 32, nil)
	out := make([]float32, len(r.X))
	whole := newStopAt(0, false)
	if err := w.Predict(whole, r, out); err != nil { // compiles
		t.Fatal(err)
	}
	whole = newStopAt(0, false)
	if err := w.Predict(whole, r, out); err != nil {
		t.Fatal(err)
	}
	asked := int(whole.asked.Load()) // once an op
	if asked < 50 {
		t.Fatalf("a whole prediction asks its context %d times", asked)
	}
	for i := range 8 {
		for _, late := range []bool{false, true} {
			ctx := newStopAt(1+i*(asked-2)/7, late) // the last one is stopped late in its last op
			if err := w.Predict(ctx, r, out); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled at %d of %d, late %v: %v, want context.Canceled", ctx.at.Load(), asked, late, err)
			}
			if after := ctx.asked.Load() - ctx.at.Load(); after > 3 {
				t.Errorf("cancelled at %d of %d, late %v: asks %d times more", ctx.at.Load(), asked, late, after)
			}
		}
	}
	if got := predictTiny(t, w, 1, 8, 8, nil); !reflect.DeepEqual(got, want) {
		t.Error("after stopped predictions the bits are others")
	}
}
