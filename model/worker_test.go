package model

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"scalecrafter/ablation"
	"scalecrafter/model/critters"
	"scalecrafter/model/sampler"
)

// request is a call for n rows of the tiny model; row i's data depend on i alone.
func request(t testing.TB, w *Worker, first, n, h, wd int, plan *ablation.LayerPlan) sampler.Request {
	t.Helper()
	r := sampler.Request{N: n, C: 12, H: h, W: wd, T: 321, Plan: plan}
	for i := first; i < first+n; i++ {
		r.X = append(r.X, noise(fmt.Sprintf("row %d %dx%d", i, h, wd), 12*h*wd)...)
		dim := w.p.Config.CrossAttentionDim
		r.Cond = append(r.Cond, sampler.Condition{Embedding: noise(fmt.Sprintf("text %d", i), 8*dim), Len: 8, Dim: dim})
	}
	return r
}

// predictTiny evaluates rows 0 to n.
func predictTiny(t testing.TB, w *Worker, n, h, wd int, plan *ablation.LayerPlan) []float32 {
	t.Helper()
	return predictRows(t, w, 0, n, h, wd, plan)
}

func predictRows(t testing.TB, w *Worker, first, n, h, wd int, plan *ablation.LayerPlan) []float32 {
	t.Helper()
	r := request(t, w, first, n, h, wd, plan)
	out := make([]float32, len(r.X))
	if err := w.Predict(context.Background(), r, out); err != nil {
		t.Fatal(err)
	}
	if d := maxDiff(t, out, make([]float32, len(out))); !(d > 0) || math.IsInf(d, 0) {
		t.Fatalf("a prediction with largest value %v tells nothing", d)
	}
	return out
}

// tinyPlans are plans of the tiny network that all compute something else.
func tinyPlans(p *Pipeline) []*ablation.LayerPlan {
	plans := []*ablation.LayerPlan{nil, {AttentionRatio: 4}}
	for _, f := range []ablation.Factor{{H: 2, W: 2}, {H: 1.5, W: 1.5}, {H: 1, W: 2}} {
		for _, c := range p.Architecture().Convs {
			plans = append(plans, &ablation.LayerPlan{Dilation: map[string]ablation.Factor{c.Path: f}})
		}
	}
	return plans
}

// TestPredictRows holds that a row's prediction is the same, bit for bit, alone
// and in any place of a batch, plain and dilated, on even and odd sizes.
func TestPredictRows(t *testing.T) {
	p := tinyPipeline(t)
	one, many := p.NewWorker(1), p.NewWorker(2)
	dilated := &ablation.LayerPlan{AttentionRatio: 2, Dilation: map[string]ablation.Factor{}}
	for _, c := range p.Architecture().Convs {
		dilated.Dilation[c.Path] = ablation.Factor{H: 1.5, W: 2}
	}
	for _, size := range [][2]int{{8, 8}, {10, 6}} {
		for _, plan := range []*ablation.LayerPlan{nil, dilated} {
			const rows = 5
			batch := predictTiny(t, many, rows, size[0], size[1], plan)
			per := len(batch) / rows
			for i := range rows {
				if alone := predictRows(t, one, i, 1, size[0], size[1], plan); !reflect.DeepEqual(alone, batch[i*per:(i+1)*per]) {
					t.Errorf("%v, plan %s: row %d alone has other bits than in a batch", size, plan.Key(), i)
				}
			}
		}
	}
}

// TestPredictCache fills the cache beyond its bound and comes back: the graphs
// dropped and built again give the same bits.
func TestPredictCache(t *testing.T) {
	p := tinyPipeline(t)
	w := p.NewWorker(1)
	w.maxSessions = 8
	plans := tinyPlans(p)
	if len(plans) <= w.maxSessions {
		t.Fatalf("%d plans do not overflow a cache of %d", len(plans), w.maxSessions)
	}
	var first [][]float32
	for i, plan := range plans {
		y := predictTiny(t, w, 1, 8, 8, plan)
		for j, other := range first {
			if plan.Key() == plans[j].Key() {
				t.Fatalf("plans %d and %d are one", i, j)
			}
			if reflect.DeepEqual(y, other) {
				t.Errorf("plans %s and %s give the same bits", plan.Key(), plans[j].Key())
			}
		}
		first = append(first, y)
		if len(w.cache) > w.maxSessions {
			t.Fatalf("%d graphs in the cache, want at most %d", len(w.cache), w.maxSessions)
		}
		// The plain network is in use all the time, so it is never dropped.
		if again := predictTiny(t, w, 1, 8, 8, nil); !reflect.DeepEqual(again, first[0]) {
			t.Fatalf("after plan %s the plain network has other bits", plan.Key())
		}
	}
	if w.cache["1 8 8 plain"] == nil {
		t.Error("the graph in use was dropped")
	}
	for i, plan := range plans {
		if y := predictTiny(t, w, 1, 8, 8, plan); !reflect.DeepEqual(y, first[i]) {
			t.Errorf("plan %s has other bits the second time", plan.Key())
		}
	}
}

// TestPredictConcurrent runs workers of one pipeline at once, each building its
// own graphs.
func TestPredictConcurrent(t *testing.T) {
	p := tinyPipeline(t)
	plans := tinyPlans(p)[:4]
	var want [][]float32
	for _, plan := range plans {
		want = append(want, predictTiny(t, p.NewWorker(1), 2, 8, 8, plan))
	}
	var group sync.WaitGroup
	errs := make([]error, 3)
	for k := range errs {
		w := p.NewWorker(1)
		group.Go(func() {
			for i, plan := range plans {
				r := request(t, w, 0, 2, 8, 8, plan)
				out := make([]float32, len(r.X))
				if errs[k] = w.Predict(context.Background(), r, out); errs[k] != nil {
					return
				}
				if !reflect.DeepEqual(out, want[i]) {
					errs[k] = fmt.Errorf("plan %s has other bits", plan.Key())
					return
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// TestPredictErrors holds what is said of requests that do not fit.
func TestPredictErrors(t *testing.T) {
	p := tinyPipeline(t)
	w := p.NewWorker(1)
	for _, tt := range []struct {
		name string
		bend func(r *sampler.Request, out *[]float32)
		want []string
	}{
		{"channels", func(r *sampler.Request, _ *[]float32) { r.C = 4 }, []string{"[2 4 8 8]", "12 channels"}},
		{"latents", func(r *sampler.Request, _ *[]float32) { r.X = r.X[1:] }, []string{"1535 numbers", "[2 12 8 8]"}},
		{"no rows", func(r *sampler.Request, _ *[]float32) { r.N, r.X = 0, nil }, []string{"[0 12 8 8]"}},
		{"no size", func(r *sampler.Request, _ *[]float32) { r.H, r.X = 0, nil }, []string{"[2 12 0 8]"}},
		{"out", func(_ *sampler.Request, out *[]float32) { *out = (*out)[:7] }, []string{"7", "1536"}},
		{"conditions", func(r *sampler.Request, _ *[]float32) { r.Cond = r.Cond[:1] }, []string{"1 conditions", "2 rows"}},
		{"text", func(r *sampler.Request, _ *[]float32) { r.Cond[1].Embedding = r.Cond[1].Embedding[:8] }, []string{"row 1", "8 numbers", "width 8"}},
		{"plan", func(r *sampler.Request, _ *[]float32) {
			r.Plan = &ablation.LayerPlan{Dilation: map[string]ablation.Factor{"nowhere": {H: 2, W: 2}}}
		}, []string{`"nowhere"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request(t, w, 0, 2, 8, 8, nil)
			out := make([]float32, len(r.X))
			tt.bend(&r, &out)
			wantParts(t, w.Predict(context.Background(), r, out), tt.want...)
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := request(t, w, 0, 1, 8, 8, nil)
	if err := w.Predict(ctx, r, make([]float32, len(r.X))); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// TestArchitecture holds the list of layers that a method may change.
func TestArchitecture(t *testing.T) {
	a := tinyPipeline(t).Architecture()
	want := []ablation.ConvLayer{
		{Path: "down_blocks.0.resnets.0.conv1", Stride: 1, Depth: 0}, {Path: "down_blocks.0.resnets.0.conv2", Stride: 1, Depth: 0},
		{Path: "down_blocks.0.downsamplers.0.conv", Stride: 2, Depth: 0},
		{Path: "down_blocks.1.resnets.0.conv1", Stride: 1, Depth: 1}, {Path: "down_blocks.1.resnets.0.conv2", Stride: 1, Depth: 1},
		{Path: "mid_block.resnets.0.conv1", Stride: 1, Depth: 1}, {Path: "mid_block.resnets.0.conv2", Stride: 1, Depth: 1},
		{Path: "mid_block.resnets.1.conv1", Stride: 1, Depth: 1}, {Path: "mid_block.resnets.1.conv2", Stride: 1, Depth: 1},
		{Path: "up_blocks.0.resnets.0.conv1", Stride: 1, Depth: 1}, {Path: "up_blocks.0.resnets.0.conv2", Stride: 1, Depth: 1},
		{Path: "up_blocks.0.resnets.1.conv1", Stride: 1, Depth: 1}, {Path: "up_blocks.0.resnets.1.conv2", Stride: 1, Depth: 1},
		{Path: "up_blocks.0.upsamplers.0.conv", Stride: 1, Depth: 1},
		{Path: "up_blocks.1.resnets.0.conv1", Stride: 1, Depth: 0}, {Path: "up_blocks.1.resnets.0.conv2", Stride: 1, Depth: 0},
		{Path: "up_blocks.1.resnets.1.conv1", Stride: 1, Depth: 0}, {Path: "up_blocks.1.resnets.1.conv2", Stride: 1, Depth: 0},
	}
	if !reflect.DeepEqual(a.Convs, want) {
		t.Errorf("convolutions\n%v\nwant\n%v", a.Convs, want)
	}
	attn := []string{
		"down_blocks.1.attentions.0.transformer_blocks.0.attn1", "mid_block.attentions.0.transformer_blocks.0.attn1",
		"up_blocks.0.attentions.0.transformer_blocks.0.attn1", "up_blocks.0.attentions.1.transformer_blocks.0.attn1",
	}
	if !reflect.DeepEqual(a.SelfAttention, attn) || a.Levels != 2 {
		t.Errorf("%d levels, self-attentions %v, want 2 and %v", a.Levels, a.SelfAttention, attn)
	}
}

// TestEncode holds the text encoder's shape, its determinism, and that prompts
// differ.
func TestEncode(t *testing.T) {
	p := tinyPipeline(t)
	var seen []sampler.Condition
	for _, prompt := range []string{"", critters.Attributes{}.Prompt()} {
		a, err := p.Encode(prompt)
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.Encode(prompt)
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%q encodes to %v, then %v (%v)", prompt, a, b, err)
		}
		if a.Dim != 8 || len(a.Embedding) != a.Len*a.Dim {
			t.Errorf("%q: %d numbers for %d tokens of width %d", prompt, len(a.Embedding), a.Len, a.Dim)
		}
		seen = append(seen, a)
	}
	if reflect.DeepEqual(seen[0], seen[1]) {
		t.Error("two prompts encode alike")
	}
	if _, err := p.Encode("an unheard-of word"); err == nil || !strings.Contains(err.Error(), "unheard") {
		t.Errorf("error %v, want one that names the word", err)
	}
}

// TestDecode holds pictures against the planes that they were made of.
func TestDecode(t *testing.T) {
	p := tinyPipeline(t)
	const h, w = 4, 6
	var latents []float32
	var planes [][]float32
	for i := range 2 {
		x := noise(fmt.Sprint("picture ", i), 3*h*w)
		latent := make([]float32, len(x))
		PixelUnshuffle(latent, x, h, w)
		planes, latents = append(planes, x), append(latents, latent...)
	}
	pictures, err := p.Decode(latents, h, w)
	if err != nil {
		t.Fatal(err)
	}
	if len(pictures) != 2 {
		t.Fatalf("%d pictures, want 2", len(pictures))
	}
	for i, img := range pictures {
		want, err := Image(planes[i], h, w)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(img, want) {
			t.Errorf("picture %d differs from its planes", i)
		}
	}
	latents[5] = float32(math.NaN())
	if _, err := p.Decode(latents, h, w); err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("error %v, want one of the NaN", err)
	}
	if _, err := p.Decode(latents[:70], h, w); err == nil || !strings.Contains(err.Error(), "70") {
		t.Errorf("error %v, want one of 70 numbers", err)
	}
}

// TestBuiltin loads the weights that are compiled in.
func TestBuiltin(t *testing.T) {
	if _, err := os.Stat("builtin/" + unetWeightsFile); err != nil {
		t.Skip("no weights are built in yet")
	}
	p, err := LoadBuiltin()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Architecture().Convs) == 0 || p.Digest() == "" {
		t.Error("the built-in model has no layers or no digest")
	}
	if b, err := CritterNetWeights(); err != nil || len(b) == 0 {
		t.Errorf("critter-net: %d bytes, %v", len(b), err)
	}
}

// TestPixelShuffle holds the order of torch.nn.PixelUnshuffle, and the inverse.
func TestPixelShuffle(t *testing.T) {
	const h, w = 4, 6
	src := make([]float32, 3*h*w)
	for i := range src {
		src[i] = float32(i)
	}
	dst := make([]float32, len(src))
	PixelUnshuffle(dst, src, h, w)
	// Channel c*4 + dy*2 + dx at (y,x) is pixel (2y+dy, 2x+dx) of colour c.
	for c := range 3 {
		for dy := range 2 {
			for dx := range 2 {
				for y := range h / 2 {
					for x := range w / 2 {
						got, want := dst[((c*4+dy*2+dx)*(h/2)+y)*(w/2)+x], src[(c*h+2*y+dy)*w+2*x+dx]
						if got != want {
							t.Fatalf("colour %d, offset (%d,%d), position (%d,%d): %v, want %v", c, dy, dx, y, x, got, want)
						}
					}
				}
			}
		}
	}
	back := make([]float32, len(src))
	PixelShuffle(back, dst, h, w)
	if !reflect.DeepEqual(back, src) {
		t.Errorf("shuffled back: %v, want %v", back, src)
	}
}

// TestImage holds rounding, clamping, the NaN error and the way back.
func TestImage(t *testing.T) {
	planes := []float32{-1, 1, 0, -2, 3, float32(math.Inf(1)), float32(math.Inf(-1)), 0.5, -0.5, 1 / 255.0, -1 / 255.0, 0.2}
	img, err := Image(planes, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []uint8{0, 255, 64, 255, 255, 255, 128, 255, 128, 0, 127, 255, 0, 191, 153, 255}
	if !reflect.DeepEqual(img.Pix, want) {
		t.Errorf("pixels %v, want %v", img.Pix, want)
	}
	for i := range planes {
		bad := append([]float32(nil), planes...)
		bad[i] = float32(math.NaN())
		_, err := Image(bad, 2, 2)
		wantParts(t, err, "NaN", fmt.Sprintf("channel %d at row %d, column %d", i/4, i%4/2, i%2))
	}
	// Every 8-bit value survives planes and back, from a sub-picture too.
	all := image.NewNRGBA(image.Rect(0, 0, 20, 20))
	for i := range all.Pix {
		all.Pix[i] = uint8(i * 7)
		if i%4 == 3 {
			all.Pix[i] = 255
		}
	}
	part := all.SubImage(image.Rect(3, 5, 19, 15)).(*image.NRGBA)
	dst := make([]float32, 3*10*16)
	Planes(dst, part)
	back, err := Image(dst, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	for y := range 10 {
		for x := range 16 {
			if got, want := back.NRGBAAt(x, y), part.NRGBAAt(3+x, 5+y); got != want {
				t.Fatalf("pixel (%d,%d) is %v, want %v", x, y, got, want)
			}
		}
	}
}
