package ablation

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// uNet is the layer list of a network with diffusers' block structure.
func uNet(levels int) Architecture {
	a := Architecture{Levels: levels, SelfAttention: []string{"mid_block.attentions.0.transformer_blocks.0.attn1"}}
	add := func(depth int, stride int, format string, args ...any) {
		a.Convs = append(a.Convs, ConvLayer{Path: fmt.Sprintf(format, args...), Stride: stride, Depth: depth})
	}
	for i := range levels {
		add(i, 1, "down_blocks.%d.resnets.0.conv1", i)
		if i < levels-1 {
			add(i, 2, "down_blocks.%d.downsamplers.0.conv", i)
		}
	}
	add(levels-1, 1, "mid_block.resnets.0.conv1")
	for i := range levels {
		add(levels-1-i, 1, "up_blocks.%d.resnets.0.conv1", i)
		if i < levels-1 {
			add(levels-1-i, 1, "up_blocks.%d.upsamplers.0.conv", i)
		}
	}
	return a
}

// enlarge is a transform of the right shape that keeps the kernel in its
// middle; its numbers do not matter to plans.
func enlarge(large int) *Transform {
	t := &Transform{Name: fmt.Sprintf("pad%d", large), Small: 3, Large: large, R: make([]float64, large*large*9)}
	for i := range 9 {
		row := (large/2-1+i/3)*large + large/2 - 1 + i%3
		t.R[row*9+i] = 1
	}
	return t
}

// kernels is a layer's kernel side at every step.
func kernels(plan []StepPlan, of func(StepPlan) *LayerPlan, layer string) []float64 {
	out := make([]float64, len(plan))
	for i, s := range plan {
		out[i] = 3
		if p := of(s); p != nil && p.Dispersion[layer] != nil {
			out[i] = float64(p.Dispersion[layer].Large)
		}
	}
	return out
}

const (
	mid   = "mid_block.resnets.0.conv1"
	inner = "down_blocks.2.resnets.0.conv1"
	outer = "down_blocks.1.resnets.0.conv1"
)

func mustPlan(t *testing.T, m Method, arch Architecture, steps int) []StepPlan {
	t.Helper()
	plan, err := m.Schedule(arch, steps, small, large)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// The tables of methods.md 1.4 and 1.5: progressive first, then the share of
// the kernel's extent, so that a floored 2 becomes 1; three taus, each its own.
func TestDispersionSchedule(t *testing.T) {
	published := []DepthFactor{{1, square(2)}, {2, square(3)}, {3, square(4)}}
	tests := []struct {
		name                  string
		r                     Redilation
		layer                 string
		d, v, kernelD, kernel string
	}{
		{"4 over 35, inflate 35", Redilation{LayerSet: LayerSet{ByDepth: published}, Tau: 35, Decay: DecayProgressive,
			Dispersion: &Dispersion{Tau: 35, Transform: enlarge(5)}}, mid,
			"2x9 1.5x9 1x32", "1x50", "5x35 3x15", "3x50"},
		{"3 over 35, inflate 20", Redilation{LayerSet: LayerSet{ByDepth: published}, Tau: 35, Decay: DecayProgressive,
			Dispersion: &Dispersion{Tau: 20, Transform: enlarge(5)}}, inner,
			"1.5x12 1x8 2x15 1x15", "1x50", "5x20 3x30", "3x50"},
		{"V with its own tau", Redilation{LayerSet: LayerSet{ByDepth: published}, Tau: 35, Decay: DecayProgressive,
			Damped:     &Damping{LayerSet: LayerSet{ByDepth: published[1:]}, Tau: 37},
			Dispersion: &Dispersion{Tau: 35, Transform: enlarge(5)}}, mid,
			"2x9 1.5x9 1x32", "2x10 1.5x9 1x16 2x2 1x13", "5x35 3x15", "5x35 3x15"},
		{"V disperses what it dilates", Redilation{LayerSet: LayerSet{ByDepth: published}, Tau: 35,
			Damped:     &Damping{LayerSet: LayerSet{ByDepth: published[1:]}, Tau: 35},
			Dispersion: &Dispersion{Tau: 35, Transform: enlarge(5)}}, outer,
			"1x50", "1x50", "5x35 3x15", "3x50"},
		{"V no longer evaluated", Redilation{LayerSet: LayerSet{ByDepth: published}, Tau: 35,
			Damped:     &Damping{LayerSet: LayerSet{ByDepth: published[1:]}, Tau: 10},
			Dispersion: &Dispersion{Layers: []string{"mid_block.*"}, Tau: 35, Transform: enlarge(5)}}, mid,
			"2x35 1x15", "2x10 1x40", "5x35 3x15", "5x10 3x40"},
		{"7x7 of 3", Redilation{LayerSet: LayerSet{Factor: square(3)}, Tau: 2, Dispersion: &Dispersion{Tau: 2, Transform: enlarge(7)}}, mid,
			"1x50", "1x50", "7x2 3x48", "3x50"},
		{"9x9 of 6", Redilation{LayerSet: LayerSet{Factor: square(6)}, Tau: 2, Dispersion: &Dispersion{Tau: 1, Transform: enlarge(9)}}, mid,
			"1.5x1 6x1 1x48", "1x50", "9x1 3x49", "3x50"},
		{"from a level", Redilation{LayerSet: LayerSet{ByDepth: published}, Tau: 2, Dispersion: &Dispersion{MinDepth: 2, Tau: 2, Transform: enlarge(5)}}, outer,
			"2x2 1x48", "1x50", "3x50", "3x50"},
		{"decayed to 1", Redilation{LayerSet: LayerSet{Factor: square(2)}, Tau: 4, Decay: DecayListed, Listed: []float64{1, 0.5, 0, 1},
			Dispersion: &Dispersion{Tau: 4, Transform: enlarge(5)}}, mid,
			"1x1 0.75x1 1x48", "1x50", "5x2 3x1 5x1 3x46", "3x50"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan := mustPlan(t, Method{Kind: Redilate, Redilation: &tt.r}, sdLike(), 50)
			for _, c := range []struct{ what, got, want string }{
				{"D's factors", runs(factors(t, plan, mainOf, tt.layer)), tt.d},
				{"V's factors", runs(factors(t, plan, dampedOf, tt.layer)), tt.v},
				{"D's kernels", runs(kernels(plan, mainOf, tt.layer)), tt.kernelD},
				{"V's kernels", runs(kernels(plan, dampedOf, tt.layer)), tt.kernel},
			} {
				if c.got != c.want {
					t.Errorf("%s: %s, want %s", c.what, c.got, c.want)
				}
			}
			for i, s := range plan {
				for _, p := range []*LayerPlan{s.Main, s.Damped} {
					if p == nil {
						continue
					}
					for path := range p.Dispersion {
						if _, ok := p.Dilation[path]; !ok {
							t.Fatalf("step %d: %s is dispersed and not dilated", i, path)
						}
					}
				}
			}
		})
	}
}

func TestDecays(t *testing.T) {
	tests := []struct {
		name   string
		p      float64
		tau    int
		decay  Decay
		listed []float64
		want   string
	}{
		{"constant", 2.5, 8, DecayConstant, nil, "2.5x8 1x2"},
		{"linear 2", 2, 8, DecayLinear, nil, "2x3 1.5x4 1x3"},
		{"linear 4", 4, 6, DecayLinear, nil, "4x1 3.5x1 3x1 2.5x1 2x1 1.5x1 1x4"},
		{"linear 1.2 rounds to its neighbours", 1.2, 4, DecayLinear, nil, "1.2x1 1x9"},
		{"cosine 4", 4, 6, DecayCosine, nil, "4x2 3.5x1 2.5x1 2x1 1x5"},
		{"listed", 3, 4, DecayListed, []float64{1, 0.25, 0, 0.5}, "3x1 1.5x1 1x1 2x1 1x6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan := mustPlan(t, Method{Kind: Redilate, Redilation: &Redilation{LayerSet: LayerSet{Factor: square(tt.p)}, Tau: tt.tau, Decay: tt.decay, Listed: tt.listed}}, sdLike(), 10)
			if got := runs(factors(t, plan, mainOf, mid)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Linear and cosine factors never rise, start at the whole factor, stay within
// it and are multiples of 1/2 after the first step; an axis of 1 never moves.
func TestDecayProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.Float64Range(1, 16).Draw(t, "factor")
		tau := rapid.IntRange(1, 100).Draw(t, "tau")
		decay := rapid.SampledFrom([]Decay{DecayLinear, DecayCosine}).Draw(t, "decay")
		last := p
		for i := range tau {
			f := factorAt(decay, p, i, tau, 0)
			if i == 0 && f != p || f > last || f < 1 || i > 0 && f != p && 2*f != math.Floor(2*f) {
				t.Fatalf("step %d of %d: %v after %v", i, tau, f, last)
			}
			if one := factorAt(decay, 1, i, tau, 0); one != 1 {
				t.Fatalf("step %d: an axis of 1 becomes %v", i, one)
			}
			last = f
		}
	})
}

func TestComponentErrors(t *testing.T) {
	base := Redilation{LayerSet: LayerSet{Factor: square(2), MinDepth: 1}, Tau: 4}
	with := func(edit func(*Redilation)) Method {
		r := base
		edit(&r)
		return Method{Kind: Redilate, Redilation: &r}
	}
	disperse := func(d Dispersion) Method {
		return with(func(r *Redilation) {
			if d.Transform == nil {
				d.Transform = enlarge(5)
			}
			r.Dispersion = &d
		})
	}
	tests := []struct {
		name string
		m    Method
		want []string
	}{
		{"beyond D's tau", disperse(Dispersion{Tau: 5}),
			[]string{`dispersion.tau: is 5 steps, but the dilated network dilates "down_blocks.1.resnets.0.conv1" only up to step 3: at step 4 a dispersed kernel would not fit`}},
		{"not in D", disperse(Dispersion{Layers: []string{"mid_block.*", "down_blocks.0.*"}, Tau: 4}),
			[]string{`dispersion.layers[1]: disperses "down_blocks.0.resnets.0.conv1" and 4 other layers, which the dilated network does not dilate: from step 0 on it would run a kernel that does not fit`}},
		{"not in V", with(func(r *Redilation) {
			r.Damped = &Damping{LayerSet: LayerSet{Factor: square(2), Layers: []string{"mid_block.*"}}, Tau: 2}
			r.Dispersion = &Dispersion{Layers: []string{"up_blocks.2.upsamplers.*", "mid_block.*"}, Tau: 4, Transform: enlarge(5)}
		}), []string{`dispersion.layers[0]: disperses "up_blocks.2.upsamplers.0.conv", which the damped network does not dilate: from step 0 on it would run a kernel that does not fit`}},
		{"not in a V as trained", with(func(r *Redilation) {
			r.Damped = &Damping{LayerSet: LayerSet{Factor: square(1)}, Tau: 2}
			r.Dispersion = &Dispersion{Layers: []string{"mid_block.resnets.?.conv2"}, Tau: 4, Transform: enlarge(5)}
		}), []string{`dispersion.layers[0]: disperses "mid_block.resnets.0.conv2" and another layer, which the damped network does not dilate`}},
		{"no such layer", disperse(Dispersion{Layers: []string{"mid.*"}, Tau: 4}), []string{`dispersion.layers[0]: "mid.*" matches no layer`}},
		{"no such level", disperse(Dispersion{MinDepth: 4, Tau: 4}), []string{`dispersion.min_depth: is 4, which matches no dilated layer: dispersion never takes effect`}},
		{"tau 0", disperse(Dispersion{}), []string{`dispersion.tau: is 0 of 6 steps`}},
		{"no transform", with(func(r *Redilation) { r.Dispersion = &Dispersion{Tau: 4} }), []string{"dispersion: has no transform"}},
		{"of 5x5 kernels", disperse(Dispersion{Tau: 4, Transform: &Transform{Small: 5, Large: 7, R: make([]float64, 25*49)}}), []string{"dispersion: enlarges kernels of 5x5; the network's are 3x3"}},
		{"to an even size", disperse(Dispersion{Tau: 4, Transform: &Transform{Small: 3, Large: 6, R: make([]float64, 9*36)}}), []string{"dispersion: makes kernels of 6x6, want an odd size above 3"}},
		{"numbers missing", disperse(Dispersion{Tau: 4, Transform: &Transform{Small: 3, Large: 5, R: make([]float64, 9)}}), []string{"dispersion: has 9 numbers, want 225"}},
		{"listed too short", with(func(r *Redilation) { r.Decay, r.Listed = DecayListed, []float64{1, 0.5} }), []string{"listed: has 2 shares for 4 steps"}},
		{"listed for V", with(func(r *Redilation) {
			r.Decay, r.Listed = DecayListed, []float64{1, 0.5, 1, 1}
			r.Damped = &Damping{LayerSet: LayerSet{Factor: square(2), MinDepth: 2}, Tau: 5}
		}), []string{"listed: has 4 shares for 5 steps"}},
		{"listed above 1", with(func(r *Redilation) { r.Decay, r.Listed = DecayListed, []float64{1, 2, 1, math.NaN()} }),
			[]string{"listed[1]: is 2, want a share from 0 to 1", "listed[3]: is NaN"}},
		{"listed all", with(func(r *Redilation) { r.Decay, r.Listed = DecayListed, []float64{1, 1, 1, 1} }), []string{"decay: never takes effect: every step keeps the whole factor"}},
		{"listed none", with(func(r *Redilation) { r.Decay, r.Listed = DecayListed, []float64{0, 0, 0, 0} }), []string{"listed: re-dilation never takes effect: no step keeps any of the factor"}},
		{"listed and constant", with(func(r *Redilation) { r.Listed = []float64{1, 1, 1, 0} }), []string{`listed: never takes effect: the decay is "constant"`}},
		{"linear over one step", with(func(r *Redilation) { r.Decay, r.Tau = DecayLinear, 1 }), []string{"decay: never takes effect: every step keeps the whole factor"}},
		{"level", with(func(r *Redilation) { r.ByDepth = []DepthFactor{{2, square(3)}, {4, square(3)}} }), []string{"depth.4: matches no layer: the deepest level is 3"}},
		{"damped level", with(func(r *Redilation) {
			r.Damped = &Damping{LayerSet: LayerSet{ByDepth: []DepthFactor{{7, square(3)}}}, Tau: 3}
		}), []string{"damped.depth.7: matches no layer"}},
		{"FreeU of ones", Method{Kind: Direct, FreeU: &FreeU{1, 1, 1, 1}}, []string{"freeu: FreeU never takes effect"}},
		{"sdedit of nothing", Method{Kind: Direct, SDEdit: &SDEdit{}}, []string{"sdedit.tau: is 0 of 6 steps"}},
		{"sdedit of everything", Method{Kind: Direct, SDEdit: &SDEdit{Tau: 6}}, []string{"sdedit.tau: is 6 of 6 steps"}},
		{"sdedit from a larger picture", Method{Kind: Direct, SDEdit: &SDEdit{Tau: 2, Scale: 0.5}}, []string{"sdedit.scale: the smaller picture to begin with would have 256x256 px, no fewer than the 128x128 px asked for"}},
		{"sdedit before dilation ends", with(func(r *Redilation) {}).sdedit(4), []string{"tau: is 4 steps, but sdedit skips the first 4 steps: re-dilation never takes effect"}},
		{"sdedit before damping ends", with(func(r *Redilation) {
			r.Damped = &Damping{LayerSet: LayerSet{Factor: square(2), MinDepth: 2}, Tau: 2}
		}).sdedit(3), []string{"damped.tau: is 2 steps, but sdedit skips the first 3 steps: damping never takes effect"}},
		{"sdedit before dispersion ends", disperse(Dispersion{Tau: 1}).sdedit(1), []string{"dispersion.tau: is 1 steps, but sdedit skips the first 1 steps: dispersion never takes effect"}},
		{"derived at the training size", Method{Kind: Redilate, Redilation: &Redilation{Rule: &Rule{MinDepth: 1}}, FreeU: &FreeU{1, 1, 1, 1}}, []string{"schedule: the derived rule has nothing to change"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target := large
			if strings.Contains(tt.name, "training size") {
				target = small
			}
			_, err := tt.m.Schedule(sdLike(), 6, small, target)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("got %q, want %q", got[i], tt.want[i])
				}
			}
		})
	}
}

func (m Method) sdedit(tau int) Method {
	m.SDEdit = &SDEdit{Tau: tau}
	return m
}

// FreeU is in every step's plans of both networks, so that no plan is plain.
func TestFreeUPlan(t *testing.T) {
	u := &FreeU{1.2, 1.4, 0.9, 0.2}
	plan := mustPlan(t, Method{Kind: Redilate, FreeU: u, Redilation: &Redilation{LayerSet: LayerSet{Factor: square(2), MinDepth: 1}, Tau: 2,
		Damped: &Damping{LayerSet: LayerSet{Factor: square(1)}, Tau: 3}}}, sdLike(), 4)
	for i, s := range plan {
		if s.Main.FreeU != u || s.Main.Plain() || s.Damped != nil && (s.Damped.FreeU != u || s.Damped.Plain()) {
			t.Errorf("step %d: main %s, damped %v", i, s.Main.Key(), s.Damped)
		}
	}
	if plan[1].Damped == nil || plan[2].Damped != nil || plan[1].Damped != plan[3].Main {
		t.Error("the damped network as trained is not the plain one with FreeU")
	}
}

func TestSDEditBase(t *testing.T) {
	for _, tt := range []struct {
		scale         float64
		train, target Size
		want          Size
	}{
		{0, Size{64, 64}, Size{128, 128}, Size{64, 64}},
		{-1, Size{64, 64}, Size{128, 256}, Size{48, 88}},
		{2, Size{64, 64}, Size{256, 256}, Size{128, 128}},
		{16, Size{64, 64}, Size{64, 128}, Size{8, 8}},
		{0, Size{512, 512}, Size{2048, 1024}, Size{728, 360}},
	} {
		if got := (SDEdit{Tau: 1, Scale: tt.scale}).Base(tt.train, tt.target); got != tt.want {
			t.Errorf("%v of %v from %v: %v, want %v", tt.scale, tt.target, tt.train, got, tt.want)
		}
	}
}

// The published SD 1.5 settings (methods.md 1.11), block by block, against the
// derived rule: every layer's factor at every one of 50 steps in both networks.
// sd1.5_1280x1280 has tau 35 where 60% would be 30, hence the rule's 70%.
func TestDerivedIsPublished(t *testing.T) {
	blocks := func(names string, factors ...float64) []LayerFactor {
		var out []LayerFactor
		for i, name := range strings.Fields(names) {
			out = append(out, LayerFactor{name + ".*", square(factors[i])})
		}
		return out
	}
	const all = "down_blocks.1 down_blocks.2 down_blocks.3 mid_block up_blocks.0 up_blocks.1 up_blocks.2"
	const innerBlocks = "down_blocks.2 down_blocks.3 mid_block up_blocks.0 up_blocks.1"
	large := Redilation{LayerSet: LayerSet{Overrides: blocks(all, 2, 3, 4, 4, 4, 3, 2)}, Tau: 35, Decay: DecayProgressive,
		Damped: &Damping{LayerSet: LayerSet{Overrides: blocks(innerBlocks, 3, 4, 4, 4, 3)}, Tau: 35}}
	published := []struct {
		name string
		size Size // height, width
		r    Redilation
	}{
		{"sd1.5_1024x1024", Size{1024, 1024}, Redilation{LayerSet: LayerSet{Overrides: blocks(all, 2, 2, 2, 2, 2, 2, 2)}, Tau: 30}},
		{"sd1.5_1280x1280", Size{1280, 1280}, Redilation{LayerSet: LayerSet{Overrides: blocks(all, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5)}, Tau: 35}},
		{"sd1.5_2048x1024", Size{1024, 2048}, large},
		{"sd1.5_2048x2048", Size{2048, 2048}, large},
	}
	train := Size{512, 512}
	for _, p := range published {
		t.Run(p.name, func(t *testing.T) {
			want, err := Method{Kind: Redilate, Redilation: &p.r}.Schedule(sdLike(), 50, train, p.size)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Method{Kind: Redilate, Redilation: &Redilation{Rule: &Rule{MinDepth: 1}}}.Schedule(sdLike(), 50, train, p.size)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				if got[i].Main.Key() != want[i].Main.Key() || got[i].Damped.Key() != want[i].Damped.Key() || (got[i].Damped == nil) != (want[i].Damped == nil) {
					t.Fatalf("step %d:\n%s | %s\nwant\n%s | %s", i, got[i].Main.Key(), got[i].Damped.Key(), want[i].Main.Key(), want[i].Damped.Key())
				}
			}
		})
	}
}

// Whatever the size and the number of levels, the rule plans without error,
// leaves the outermost level alone, never falls towards the inside and depends
// on each axis as asked.
func TestDerivedProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		arch := uNet(rapid.IntRange(2, 6).Draw(t, "levels"))
		train := Size{64, 64}
		target := Size{8 * rapid.IntRange(1, 80).Draw(t, "height"), 8 * rapid.IntRange(9, 80).Draw(t, "width")}
		separate := rapid.Bool().Draw(t, "separate")
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		minDepth := rapid.IntRange(0, arch.Levels-1).Draw(t, "min_depth")
		m := Method{Kind: Redilate, Redilation: &Redilation{Rule: &Rule{MinDepth: minDepth, Separate: separate, NoDamped: rapid.Bool().Draw(t, "undamped")}}}
		d, err := m.Derived(arch, steps, train, target)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := d.Derived(arch, steps, train, target); err != nil || again.Redilation != d.Redilation {
			t.Fatalf("deriving twice differs (%v)", err)
		}
		plan, err := m.Schedule(arch, steps, train, target)
		if err != nil {
			t.Fatal(err)
		}
		h, w := float64(target.H)/64, float64(target.W)/64
		if top := math.Max(h, w); !separate {
			h, w = top, top
		}
		dilation := plan[0].Main.Dilation
		byDepth := map[int]Factor{}
		for _, c := range arch.Convs {
			f, ok := dilation[c.Path]
			if ok != (c.Depth >= minDepth) {
				t.Fatalf("%s at depth %d: listed %v", c.Path, c.Depth, ok)
			}
			if !ok {
				continue
			}
			if old, ok := byDepth[c.Depth]; ok && old != f {
				t.Fatalf("two factors at depth %d", c.Depth)
			}
			byDepth[c.Depth] = f
			if (f.H == 1) != (h <= 1) || (f.W == 1) != (w <= 1) {
				t.Fatalf("factor %v for %gx%g", f, h, w)
			}
		}
		for depth := minDepth + 1; depth < arch.Levels; depth++ {
			if a, b := byDepth[depth-1], byDepth[depth]; b.H < a.H || b.W < a.W {
				t.Fatalf("%v inside %v", b, a)
			}
		}
	})
}

// What a method says beside the rule wins.
func TestDerivedKeepsItsOwn(t *testing.T) {
	m := Method{Kind: Redilate, Redilation: &Redilation{
		LayerSet: LayerSet{Overrides: []LayerFactor{{"mid_block.*", square(5)}}}, Tau: 3, Decay: DecayConstant, Rule: &Rule{MinDepth: 1, NoDamped: true},
		Dispersion: &Dispersion{Transform: enlarge(5)},
	}}
	d, err := m.Derived(sdLike(), 10, Size{64, 64}, Size{256, 256})
	if err != nil {
		t.Fatal(err)
	}
	r := d.Redilation
	if r.Tau != 3 || r.Decay != DecayConstant || r.Damped != nil || r.Dispersion.Tau != 3 || r.Rule != nil || m.Redilation.Rule == nil || m.Redilation.Dispersion.Tau != 0 {
		t.Errorf("got %+v, %+v", r, r.Dispersion)
	}
	plan, err := m.Schedule(sdLike(), 10, Size{64, 64}, Size{256, 256})
	if err != nil {
		t.Fatal(err)
	}
	if got := plan[0].Main.Dilation; got[mid] != square(2.5) || got[inner] != square(1.5) || got[outer] != square(1) {
		t.Errorf("factors %v, %v, %v", got[mid], got[inner], got[outer])
	}
}

// Everything that decides a number is in the identity; what is not executed is
// not.
func TestComponentIDs(t *testing.T) {
	arch := sdLike()
	settings := Settings{Size: large, Steps: 6, GuidanceScale: 3, Sampler: "ddim"}
	ids := map[string]string{}
	id := func(m Method) string { return CellID(m.Settings(settings), mustPlan(t, m, arch, 6), Identity{}) }
	note := func(what string, m Method) {
		t.Helper()
		if other, ok := ids[id(m)]; ok {
			t.Errorf("%s has the ID of %s", what, other)
		}
		ids[id(m)] = what
	}
	value := func(v float64) *float64 { return &v }
	redilate := func(d *Dispersion) Method {
		return Method{Kind: Redilate, Redilation: &Redilation{LayerSet: LayerSet{Factor: square(2), MinDepth: 1}, Tau: 4, Dispersion: d}}
	}
	other := enlarge(5)
	other.R[0] = 1e-9
	note("direct", Method{Kind: Direct})
	note("guidance", Method{Kind: Direct, GuidanceScale: value(2)})
	note("rescale", Method{Kind: Direct, GuidanceRescale: value(0.5)})
	note("freeu", Method{Kind: Direct, FreeU: &FreeU{1.2, 1.4, 0.9, 0.2}})
	note("other freeu", Method{Kind: Direct, FreeU: &FreeU{1.2, 1.4, 0.9, 0.3}})
	note("sdedit", Method{Kind: Direct, SDEdit: &SDEdit{Tau: 2}})
	note("later sdedit", Method{Kind: Direct, SDEdit: &SDEdit{Tau: 3}})
	note("scaled sdedit", Method{Kind: Direct, SDEdit: &SDEdit{Tau: 3, Scale: 4}})
	note("redilation", redilate(nil))
	note("dispersed", redilate(&Dispersion{Tau: 4, Transform: enlarge(5)}))
	note("dispersed shorter", redilate(&Dispersion{Tau: 3, Transform: enlarge(5)}))
	note("dispersed deeper", redilate(&Dispersion{Tau: 4, MinDepth: 2, Transform: enlarge(5)}))
	note("dispersed 7x7", redilate(&Dispersion{Tau: 4, Transform: enlarge(7)}))
	note("another transform", redilate(&Dispersion{Tau: 4, Transform: other}))

	if got := id(Method{Kind: Direct, GuidanceScale: value(3), GuidanceRescale: value(0)}); ids[got] != "direct" {
		t.Errorf("the experiment's own guidance, given again, has the ID of %q", ids[got])
	}
	if got := id(Method{Kind: Direct, SDEdit: &SDEdit{Tau: 3, Scale: -1}}); ids[got] != "later sdedit" {
		t.Errorf("scale -1 has the ID of %q, want that of scale 0", ids[got])
	}
	byGlob := redilate(&Dispersion{Tau: 4, Transform: enlarge(5), Layers: []string{"down_blocks.[1-3]*", "*"}})
	byGlob.Redilation.Dispersion.Layers = []string{"down_blocks.1.*", "down_blocks.2.*", "down_blocks.3.*", "mid*", "up_blocks.0.*", "up_blocks.1.*", "up_blocks.2.*"}
	if got := id(byGlob); ids[got] != "dispersed" {
		t.Errorf("the same layers by globs have the ID of %q", ids[got])
	}
	// The first steps of a plan that SDEdit skips do not matter.
	early := redilate(nil).sdedit(2)
	late := redilate(nil).sdedit(2)
	late.Redilation = &Redilation{LayerSet: early.Redilation.LayerSet, Tau: 4, Decay: DecayListed, Listed: []float64{0.5, 0, 1, 1}}
	if err := func() error { _, err := late.Schedule(arch, 6, small, large); return err }(); err == nil {
		t.Error("a decay only in skipped steps is no error")
	}
}

func TestEvaluations(t *testing.T) {
	m := Method{Kind: Redilate, SDEdit: &SDEdit{Tau: 2}, Redilation: &Redilation{LayerSet: LayerSet{Factor: square(2), MinDepth: 1}, Tau: 4,
		Damped: &Damping{LayerSet: LayerSet{Factor: square(2), MinDepth: 2}, Tau: 3}}}
	plan := mustPlan(t, m, sdLike(), 6)
	s := m.Settings(Settings{Steps: 6, GuidanceScale: 2})
	if got, want := NFE(plan[s.SDEdit.Tau:], s.GuidanceScale), 3+2+2+2; got != want {
		t.Errorf("%d evaluations, want %d", got, want)
	}
	if got := BaseNFE(s); got != 12 {
		t.Errorf("%d evaluations of the smaller picture, want 12", got)
	}
	s.GuidanceScale = 1
	if got := BaseNFE(s); got != 6 {
		t.Errorf("%d evaluations of the smaller picture without guidance, want 6", got)
	}
	if got := BaseNFE(Settings{Steps: 6, GuidanceScale: 2}); got != 0 {
		t.Errorf("%d evaluations of no smaller picture", got)
	}
}

func TestDescribe(t *testing.T) {
	value := func(v float64) *float64 { return &v }
	all := LayerSet{Factor: square(2)}
	spec := func(edit func(*DispersionSpec)) *DispersionSpec {
		s := &DispersionSpec{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05}
		edit(s)
		return s
	}
	usual := spec(func(*DispersionSpec) {})
	tests := []struct {
		want string
		m    Method
	}{
		{"direct, guidance 1.5, rescale 0.7, FreeU sd1.5", Method{Kind: Direct, GuidanceScale: value(1.5), GuidanceRescale: value(0.7), FreeU: &FreeU{1.2, 1.4, 0.9, 0.2}}},
		{"attention scaling, FreeU b 1 2 s 0.5 1, SDEdit from step 3 of 1/2 size", Method{Kind: AttentionScaling, FreeU: &FreeU{1, 2, 0.5, 1}, SDEdit: &SDEdit{Tau: 3, Scale: 2}}},
		{"re-dilation x2, 100% of steps, all levels, dispersed 5x5, noise-damped", Method{Kind: Redilate, Redilation: &Redilation{LayerSet: all, Tau: 20,
			Dispersion: &Dispersion{Spec: usual, Tau: 20}, Damped: &Damping{LayerSet: LayerSet{Factor: square(2), MinDepth: 1}, Tau: 20}}}},
		{"re-dilation x2, 100% of steps, all levels, noise-damped for 50% of steps by x2 levels from 2", Method{Kind: Redilate, Redilation: &Redilation{LayerSet: all, Tau: 20,
			Damped: &Damping{LayerSet: LayerSet{Factor: square(2), MinDepth: 2}, Tau: 10}}}},
		{"re-dilation x2, 100% of steps, all levels, noise-damped by the network as trained", Method{Kind: Redilate, Redilation: &Redilation{LayerSet: all, Tau: 20,
			Damped: &Damping{LayerSet: LayerSet{Factor: square(1)}, Tau: 20}}}},
		{"re-dilation x2, 100% of steps, all levels, dispersed 7x7 scale 2 input 5 eta 0 of equal gain from level 1 for 25% of steps", Method{Kind: Redilate, Redilation: &Redilation{LayerSet: all, Tau: 20,
			Dispersion: &Dispersion{Spec: spec(func(s *DispersionSpec) { s.Large, s.Input, s.Eta, s.DC = 7, 5, 0, true }), Tau: 5, MinDepth: 1}}}},
		{"re-dilation level 1 x2, level 2 x3x4, 50% of steps, cosine decay, dispersed 5x5 pad5 in mid_block.*", Method{Kind: Redilate, Redilation: &Redilation{
			LayerSet: LayerSet{ByDepth: []DepthFactor{{1, square(2)}, {2, Factor{3, 4}}}}, Tau: 10, Decay: DecayCosine,
			Dispersion: &Dispersion{Layers: []string{"mid_block.*"}, Transform: enlarge(5), File: "a.mat", Tau: 10}}}},
		{"re-dilation as sd1.5_2048x2048, 70% of steps, progressive, noise-damped", Method{Kind: Redilate, Redilation: &Redilation{Schedule: "sd1.5_2048x2048",
			LayerSet: LayerSet{Overrides: []LayerFactor{{"mid_block.*", square(4)}}}, Tau: 14, Decay: DecayProgressive, Damped: &Damping{Tau: 14}}}},
	}
	for _, tt := range tests {
		if got := tt.m.Describe(20); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestAxes(t *testing.T) {
	text := func(m Method) string {
		var parts []string
		for _, a := range m.Axes(Settings{Size: Size{128, 256}, Steps: 20, GuidanceScale: 2}) {
			part := a.Name + "=" + a.Text
			if a.IsNum {
				part += fmt.Sprintf("(%g)", a.Number)
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, " ")
	}
	value := 3.5
	m := Method{Kind: Redilate, GuidanceScale: &value, Redilation: &Redilation{
		LayerSet: LayerSet{Factor: Factor{2, 4}}, Tau: 20, Decay: DecayLinear, Damped: &Damping{LayerSet: LayerSet{Factor: square(2), MinDepth: 2}, Tau: 10},
		Dispersion: &Dispersion{Tau: 5, Spec: &DispersionSpec{Small: 3, Large: 7, Input: 3, Scale: 3, Eta: 0.1}},
	}}
	const want = "kind=redilation size=128x256 factor=2x4(2.8284271247461903) tau=20(20) tau_share=100%(1) min_depth=0(0) decay=linear damped=yes " +
		"damped_tau=10(10) damped_tau_share=50%(0.5) damped_layers=x2 levels from 2 dispersed=7x7 eta=0.1(0.1) input=3(3) dc=no " +
		"dispersion_tau=5(5) dispersion_tau_share=25%(0.25) attention_scaling=no guidance_scale=3.5(3.5) guidance_rescale=0(0) freeu=no sdedit=0(0)"
	if got := text(m); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := text(Method{Kind: Direct}), "kind=direct size=128x256 guidance_scale=2(2) guidance_rescale=0(0) freeu=no sdedit=0(0)"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A ratio is the enlargement of the larger side or of each, and 1 where there is
// none.
func TestRatio(t *testing.T) {
	train := Size{64, 64}
	for _, tt := range []struct {
		size       Size
		side, axes Factor
	}{
		{Size{128, 128}, square(2), square(2)},
		{Size{128, 256}, square(4), Factor{2, 4}},
		{Size{160, 64}, square(2.5), Factor{2.5, 1}},
		{Size{32, 192}, square(3), Factor{1, 3}},
		{Size{32, 64}, square(1), square(1)},
	} {
		if side, axes := RatioSide.Of(train, tt.size), RatioAxes.Of(train, tt.size); side != tt.side || axes != tt.axes {
			t.Errorf("at %s px: %s and %s, want %s and %s", tt.size, side, axes, tt.side, tt.axes)
		}
	}
	// Deriving changes no method but the copy.
	m := Method{Kind: Redilate, Redilation: &Redilation{LayerSet: LayerSet{Ratio: RatioSide}, Tau: 3, Damped: &Damping{LayerSet: LayerSet{Ratio: RatioAxes}, Tau: 3}}}
	d, err := m.Derived(sdLike(), 10, train, Size{128, 256})
	if err != nil {
		t.Fatal(err)
	}
	if r := d.Redilation; r.Factor != square(4) || r.Damped.Factor != (Factor{2, 4}) || m.Redilation.Factor != (Factor{}) || m.Redilation.Damped.Ratio != RatioAxes {
		t.Errorf("derived %+v and %+v from %+v", r, r.Damped, m.Redilation)
	}
}
