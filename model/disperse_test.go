package model

import (
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"gorgonia.org/gorgonia"
	"pgregory.net/rapid"

	"scalecrafter/ablation"
	"scalecrafter/model/ops"
)

// spread is the transform that puts the taps of a 3x3 kernel apart, step
// positions from one to the next, around the middle of a large one.
func spread(large, step int) *ablation.Transform {
	t := &ablation.Transform{Name: fmt.Sprintf("3x3 in %dx%d every %d", large, large, step), Small: 3, Large: large, R: make([]float64, large*large*9)}
	for i := range 3 {
		for j := range 3 {
			at := (large/2+(i-1)*step)*large + large/2 + (j-1)*step
			t.R[at*9+3*i+j] = 1
		}
	}
	return t
}

// dispersed is a plan of the layers that keep is true for.
func dispersed(p *Pipeline, f ablation.Factor, t *ablation.Transform, keep func(ablation.ConvLayer) bool) *ablation.LayerPlan {
	plan := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}, Dispersion: map[string]*ablation.Transform{}}
	for _, c := range p.Architecture().Convs {
		if keep(c) {
			plan.Dilation[c.Path], plan.Dispersion[c.Path] = f, t
		}
	}
	return plan
}

func every(ablation.ConvLayer) bool { return true }

// TestDispersedLayerIsRedilation: an enlarged kernel that is the small one with
// zeros around it runs as the small one at the same factor, fractions and
// stride 2 included; one whose taps are further apart by a whole step, at a
// whole factor, as the small one at step times that factor.
func TestDispersedLayerIsRedilation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		step := rapid.IntRange(1, 3).Draw(rt, "step")
		large := 2*rapid.IntRange(step, 4).Draw(rt, "half") + 1
		draw := func(name string) float64 {
			if step > 1 {
				return float64(rapid.IntRange(1, 3).Draw(rt, name))
			}
			return rapid.Float64Range(0.5, 4).Draw(rt, name)
		}
		f := ablation.Factor{H: draw("fh"), W: draw("fw")}
		stride := rapid.IntRange(1, 2).Draw(rt, "stride")
		h, w := rapid.IntRange(4, 12).Draw(rt, "h"), rapid.IntRange(4, 12).Draw(rt, "w")
		const n, cin, cout = 2, 3, 4
		small := noise("w", cout*cin*9)
		enlarged := make([]float32, cout*cin*large*large)
		spread(large, step).Apply(enlarged, small, cin*cout)
		vals := evaluate(t, func(g *gorgonia.ExprGraph) []*gorgonia.Node {
			x, b := bind(g, "x", noise("x", n*cin*h*w), n, cin, h, w), bind(g, "b", noise("b", cout), cout)
			return []*gorgonia.Node{
				Redilate(x, bind(g, "large", enlarged, cout, cin, large, large), b, f, stride),
				Redilate(x, bind(g, "small", small, cout, cin, 3, 3), b, ablation.Factor{H: f.H * float64(step), W: f.W * float64(step)}, stride),
			}
		})
		if d := maxDiff(t, vals[0], vals[1]); d > 2e-5 {
			rt.Errorf("%dx%d kernel, taps every %d, factor %v, stride %d: differs from re-dilation by %.2g", large, large, step, f, stride, d)
		}
	})
}

// TestDispersedNetworkIsRedilation holds the same of the whole network, every
// layer dispersed, its stride-2 layers too.
func TestDispersedNetworkIsRedilation(t *testing.T) {
	p := tinyPipeline(t)
	w := p.NewWorker(1)
	for _, tt := range []struct {
		transform *ablation.Transform
		f, want   float64
	}{{spread(5, 1), 1.5, 1.5}, {spread(5, 2), 2, 4}, {spread(7, 3), 1, 3}, {spread(5, 2), 1, 2}} {
		for _, size := range [][2]int{{8, 8}, {10, 14}} {
			f := ablation.Factor{H: tt.f, W: tt.f}
			got := predictTiny(t, w, 2, size[0], size[1], dispersed(p, f, tt.transform, every))
			redilated := dispersed(p, ablation.Factor{H: tt.want, W: tt.want}, nil, every)
			redilated.Dispersion = nil
			want := predictTiny(t, w, 2, size[0], size[1], redilated)
			if d := maxDiff(t, got, want); d > 1e-4 {
				t.Errorf("%s at factor %g, latent %v: differs from factor %g by %.2g", tt.transform.Name, tt.f, size, tt.want, d)
			}
		}
	}
}

// TestDispersedRows holds that a dispersed network's row has the same bits
// alone and in a batch, by one thread and by two, and by another worker after
// the kernels were dropped and made again.
func TestDispersedRows(t *testing.T) {
	fit, err := ablation.KnownDispersions[0].Solve()
	if err != nil {
		t.Fatal(err)
	}
	p := tinyPipeline(t)
	const rows = 5
	for _, f := range []ablation.Factor{{H: 2, W: 2}, {H: 1.5, W: 0.5}} {
		plan := dispersed(p, f, fit.Transform, func(c ablation.ConvLayer) bool { return c.Depth == 1 })
		plan.FreeU = &ablation.FreeU{B1: 1.2, B2: 1.4, S1: 0.9, S2: 0.2}
		batch := predictTiny(t, p.NewWorker(2), rows, 8, 10, plan)
		runtime.GC()
		one := p.NewWorker(1)
		per := len(batch) / rows
		for i := range rows {
			if alone := predictRows(t, one, i, 1, 8, 10, plan); !reflect.DeepEqual(alone, batch[i*per:(i+1)*per]) {
				t.Errorf("factor %v: row %d alone has other bits than in a batch", f, i)
			}
		}
	}
}

// kernelAt is where a worker's graphs have a layer's enlarged kernel.
func kernelAt(t *testing.T, w *Worker, path string) map[*float32]int {
	t.Helper()
	at := map[*float32]int{}
	for _, s := range w.cache {
		for _, k := range s.kernels {
			if strings.HasPrefix(k.Name, path+".weight@") {
				at[unsafe.SliceData(k.Data)]++
			}
		}
	}
	return at
}

// TestKernelsAreShared: one kernel a layer and transform serves all graphs of
// all workers, and goes with the last of them.
func TestKernelsAreShared(t *testing.T) {
	p := tinyPipeline(t)
	const path = "mid_block.resnets.0.conv1"
	mid := func(c ablation.ConvLayer) bool { return c.Path == path }
	five, seven := spread(5, 2), spread(7, 3)
	a, b := p.NewWorker(1), p.NewWorker(1)
	predictTiny(t, a, 1, 8, 8, dispersed(p, ablation.Factor{H: 1, W: 1}, five, mid))
	predictTiny(t, a, 2, 8, 8, dispersed(p, ablation.Factor{H: 2, W: 2}, five, mid))
	predictTiny(t, b, 1, 8, 8, dispersed(p, ablation.Factor{H: 1, W: 1}, spread(5, 2), mid)) // equal numbers
	inA, inB := kernelAt(t, a, path), kernelAt(t, b, path)
	if len(inA) != 1 || len(inB) != 1 || !reflect.DeepEqual(keys(inA), keys(inB)) {
		t.Errorf("the kernel lies at %v and at %v, want one place", inA, inB)
	}
	predictTiny(t, b, 1, 8, 8, dispersed(p, ablation.Factor{H: 1, W: 1}, seven, mid))
	if n := len(kernelAt(t, b, path)); n != 2 {
		t.Errorf("%d kernels of two transforms, want 2", n)
	}
	w := p.unet.(interface{ Names() []string })
	for _, name := range w.Names() {
		if strings.Contains(name, "@") {
			t.Errorf("the network's weights hold the enlarged kernel %s", name)
		}
	}
	a, b = nil, nil
	runtime.GC()
	predictTiny(t, p.NewWorker(1), 1, 8, 8, dispersed(p, ablation.Factor{H: 1, W: 1}, spread(9, 4), mid))
	if n := len(p.kernels.made); n != 1 {
		t.Errorf("%d kernels are known after the graphs of two were dropped, want 1", n)
	}
}

func keys(m map[*float32]int) map[*float32]bool {
	out := map[*float32]bool{}
	for k := range m {
		out[k] = true
	}
	return out
}

// TestKernelBytesAreBounded: graphs whose dispersed kernels take too much room
// go before the cache is full of graphs, and never the last two.
func TestKernelBytesAreBounded(t *testing.T) {
	p := tinyPipeline(t)
	w := p.NewWorker(1)
	mid := func(c ablation.ConvLayer) bool { return strings.HasPrefix(c.Path, "mid_block.") }
	one := ablation.Factor{H: 1, W: 1}
	predictTiny(t, w, 1, 8, 8, dispersed(p, one, spread(5, 1), mid))
	each := w.kernelBytes()
	if want := 4 * 4 * 16 * 16 * 25; each != want {
		t.Fatalf("four kernels of 16 x 16 pairs take %d bytes, want %d", each, want)
	}
	w.maxKernelBytes = 3 * each
	for i := range 5 {
		r := spread(5, 1)
		r.R[0] = float64(i) // another transform
		predictTiny(t, w, 1, 8, 8, dispersed(p, one, r, mid))
	}
	if n := w.kernelBytes(); n != 3*each || len(w.cache) != 3 {
		t.Errorf("%d graphs with %d bytes of kernels, want 3 with %d", len(w.cache), n, 3*each)
	}
	w.maxKernelBytes = 1
	predictTiny(t, w, 1, 8, 8, dispersed(p, one, spread(7, 1), mid))
	if len(w.cache) != 2 {
		t.Errorf("%d graphs under a bound that none meets, want the last 2", len(w.cache))
	}
}

// TestSchedulesFitTheCache: a decay with a plan of its own at each of 50 steps
// in both networks compiles every graph once, however often it is drawn.
func TestSchedulesFitTheCache(t *testing.T) {
	p := tinyPipeline(t)
	m := ablation.Method{Kind: ablation.Redilate, Redilation: &ablation.Redilation{
		LayerSet: ablation.LayerSet{Factor: ablation.Factor{H: 3, W: 2}}, Tau: 50, Decay: ablation.DecayListed,
		Damped: &ablation.Damping{LayerSet: ablation.LayerSet{Factor: ablation.Factor{H: 3, W: 2}, MinDepth: 1}, Tau: 50},
	}}
	for i := range 50 {
		m.Redilation.Listed = append(m.Redilation.Listed, float64(50-i)/50)
	}
	plan, err := m.Schedule(p.Architecture(), 50, ablation.Size{H: 16, W: 16}, ablation.Size{H: 8, W: 8})
	if err != nil {
		t.Fatal(err)
	}
	w := p.NewWorker(1)
	compiled := map[*session]bool{}
	for range 2 {
		for _, s := range plan {
			for _, l := range []*ablation.LayerPlan{s.Main, s.Damped} {
				r := request(t, w, 0, 1, 4, 4, l)
				if err := w.Predict(t.Context(), r, make([]float32, len(r.X))); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, s := range w.cache {
			compiled[s] = true
		}
	}
	if len(w.cache) != 100 || len(compiled) != 100 {
		t.Errorf("%d graphs in the cache of %d compiled, want 100 of 100", len(w.cache), len(compiled))
	}
}

// TestFreeUNetwork: FreeU by 1 changes no bit, and each of its four numbers
// changes the prediction.
func TestFreeUNetwork(t *testing.T) {
	p := tinyPipeline(t)
	w := p.NewWorker(1)
	run := func(u *ablation.FreeU) []float32 { return predictTiny(t, w, 2, 10, 6, &ablation.LayerPlan{FreeU: u}) }
	plain := predictTiny(t, w, 2, 10, 6, nil)
	if !reflect.DeepEqual(plain, run(&ablation.FreeU{B1: 1, B2: 1, S1: 1, S2: 1})) {
		t.Error("FreeU by 1 changes the prediction")
	}
	for i, u := range []ablation.FreeU{{B1: 1.2, B2: 1, S1: 1, S2: 1}, {B1: 1, B2: 1.4, S1: 1, S2: 1}, {B1: 1, B2: 1, S1: 0.9, S2: 1}, {B1: 1, B2: 1, S1: 1, S2: 0.2}} {
		if d := maxDiff(t, plain, run(&u)); d < 1e-4 {
			t.Errorf("number %d of FreeU changes the prediction by %.2g", i, d)
		}
	}
}

// TestFreeUResnets counts where FreeU acts in the published networks: seven
// decoder resnets by B1 and three by B2 in SD, four and three in SDXL
// (ScaleCrafter selects them by their width).
func TestFreeUResnets(t *testing.T) {
	for name, want := range map[string][2]int{"sd1.5": {7, 3}, "sd2.1": {7, 3}, "sdxl": {4, 3}} {
		c, err := PublishedUNet(name)
		if err != nil {
			t.Fatal(err)
		}
		g := gorgonia.NewGraph()
		in := UNetInputs{
			Sample: leaf(g, "sample", 1, c.InChannels, 16, 16),
			Time:   leaf(g, "time", 1, c.BlockOutChannels[0]),
			Text:   leaf(g, "text", 1, 4, c.CrossAttentionDim),
		}
		if c.AdditionEmbedType != "" {
			in.Added = leaf(g, "added", 1, c.ProjectionClassDim)
		}
		if _, err := UNet(c, &outline{shapes: map[string][]int{}}, in, &ablation.LayerPlan{FreeU: &ablation.FreeU{B1: 1.5, B2: 1.25, S1: 0.5, S2: 0.25}}); err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, n := range g.AllNodes() {
			op, ok := n.Op().(ops.Op)
			if !ok {
				continue
			}
			for _, kind := range []string{"C:1280 ", "C:640 ", "Scale:1.5", "Scale:1.25", "Scale:0.5", "Scale:0.25"} {
				if (op.Name() == "scaleChannels" || op.Name() == "fourierFilter") && strings.Contains(op.String()+" ", kind) {
					count[op.Name()+" "+kind]++
				}
			}
		}
		for _, check := range []struct {
			what string
			want int
		}{
			{"scaleChannels C:1280 ", want[0]}, {"scaleChannels C:640 ", want[1]},
			{"scaleChannels Scale:1.5", want[0]}, {"scaleChannels Scale:1.25", want[1]},
			{"fourierFilter Scale:0.5", want[0]}, {"fourierFilter Scale:0.25", want[1]},
		} {
			if count[check.what] != check.want {
				t.Errorf("%s: %d times %q, want %d", name, count[check.what], check.what, check.want)
			}
		}
	}
}

// TestFreeUOfOneWidth: a network whose levels are all alike has no second
// width.
func TestFreeUOfOneWidth(t *testing.T) {
	vals := evaluate(t, func(g *gorgonia.ExprGraph) []*gorgonia.Node {
		in := func(ch int) (*gorgonia.Node, *gorgonia.Node) {
			return bind(g, fmt.Sprint("x", ch), noise("x", ch*9), 1, ch, 3, 3), bind(g, fmt.Sprint("skip", ch), noise("skip", 2*9), 1, 2, 3, 3)
		}
		u := &ablation.FreeU{B1: 2, B2: 3, S1: 1, S2: 1}
		x4, s4 := in(4)
		wide, skip := freeU(x4, s4, []int{4, 4}, u)
		x6, s6 := in(6)
		other, same := freeU(x6, s6, []int{4, 4}, u)
		if other != x6 || same != s6 {
			t.Error("a width that is no level's is changed")
		}
		return []*gorgonia.Node{wide, x4, skip, s4}
	})
	for i, v := range vals[0] {
		want := vals[1][i]
		if i < 2*9 {
			want *= 2
		}
		if v != want {
			t.Fatalf("value %d is %v, want %v", i, v, want)
		}
	}
	if !reflect.DeepEqual(vals[2], vals[3]) {
		t.Error("the skip is changed by S1 = 1")
	}
}

// TestDispersionErrors holds what is said of dispersion and FreeU that do not
// fit the network.
func TestDispersionErrors(t *testing.T) {
	cfg, w := tinyWeights(t)
	const conv = "mid_block.resnets.1.conv2"
	two := map[string]ablation.Factor{conv: {H: 2, W: 2}}
	plan := func(t *ablation.Transform, paths ...string) *ablation.LayerPlan {
		p := &ablation.LayerPlan{Dilation: two, Dispersion: map[string]*ablation.Transform{}}
		for _, path := range paths {
			p.Dispersion[path] = t
		}
		return p
	}
	good := spread(5, 1)
	bent := func(f func(t *ablation.Transform)) *ablation.Transform {
		t := spread(5, 1)
		f(t)
		return t
	}
	for _, tt := range []struct {
		name string
		plan *ablation.LayerPlan
		want []string
	}{
		{"inactive", plan(good, conv, "down_blocks.0.downsamplers.0.conv"), []string{"layer down_blocks.0.downsamplers.0.conv:", "would be inactive", "dilate it"}},
		{"nothing dilated", &ablation.LayerPlan{Dispersion: map[string]*ablation.Transform{conv: good}}, []string{"layer " + conv + ":", "would be inactive"}},
		{"unknown layers", plan(good, conv, "z", "mid_block.resnets.7.conv1"), []string{`"mid_block.resnets.7.conv1"`, "disperses", "not a convolution"}},
		{"conv_in", plan(good, "conv_in"), []string{`"conv_in"`, "disperses"}},
		{"no transform", plan(nil, conv), []string{"layer " + conv + ":", "no transform"}},
		{"other kernel", plan(&ablation.Transform{Name: "five", Small: 5, Large: 9, R: make([]float64, 81*25)}, conv), []string{"layer " + conv + ":", `"five"`, "5x5", "3x3"}},
		{"even", plan(&ablation.Transform{Name: "six", Small: 3, Large: 6, R: make([]float64, 36*9)}, conv), []string{"layer " + conv + ":", `"six"`, "odd"}},
		{"numbers", plan(bent(func(t *ablation.Transform) { t.R = t.R[1:] }), conv), []string{"layer " + conv + ":", "224 numbers"}},
		{"NaN", plan(bent(func(t *ablation.Transform) { t.R[19] = math.NaN() }), conv), []string{"layer " + conv + ":", "NaN", "row 2, column 1"}},
		{"freeu", &ablation.LayerPlan{FreeU: &ablation.FreeU{B1: 1, B2: 1, S1: math.Inf(1), S2: 1}}, []string{"layer up_blocks.0.resnets.0:", "s1 is +Inf"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 3 { // not by the order of a map
				wantParts(t, buildTiny(cfg, w, 8, 8, tt.plan), tt.want...)
			}
		})
	}
	if err := buildTiny(cfg, w, 8, 8, plan(good, conv)); err != nil {
		t.Errorf("a plan that fits: %v", err)
	}
	// A missing weight is named as ever.
	missing := copyWeights(w)
	missing.Add(conv+".weight", []int{1}, []float32{0})
	wantParts(t, buildTiny(cfg, missing, 8, 8, plan(good, conv)), "layer "+conv+":", `"`+conv+`.weight"`, "[1]", "[16 16 3 3]")
}
