package ablation

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// sdLike is the layer list of a network with SD's block structure, four
// levels, cut to what the tests need.
func sdLike() Architecture {
	a := Architecture{Levels: 4, SelfAttention: []string{"mid_block.attentions.0.transformer_blocks.0.attn1"}}
	add := func(path string, stride, depth int) {
		a.Convs = append(a.Convs, ConvLayer{Path: path, Stride: stride, Depth: depth})
	}
	for i := range 4 {
		for j := range 2 {
			for k := 1; k <= 2; k++ {
				add(fmt.Sprintf("down_blocks.%d.resnets.%d.conv%d", i, j, k), 1, i)
			}
		}
		if i < 3 {
			add(fmt.Sprintf("down_blocks.%d.downsamplers.0.conv", i), 2, i)
		}
	}
	for j := range 2 {
		for k := 1; k <= 2; k++ {
			add(fmt.Sprintf("mid_block.resnets.%d.conv%d", j, k), 1, 3)
		}
	}
	for i := range 4 {
		for j := range 3 {
			for k := 1; k <= 2; k++ {
				add(fmt.Sprintf("up_blocks.%d.resnets.%d.conv%d", i, j, k), 1, 3-i)
			}
		}
		if i < 3 {
			add(fmt.Sprintf("up_blocks.%d.upsamplers.0.conv", i), 1, 3-i)
		}
	}
	return a
}

var (
	small = Size{64, 64}
	large = Size{128, 128}
)

func square(f float64) Factor { return Factor{f, f} }

// factors is a layer's factor at every step, 1 where it is as trained.
func factors(t *testing.T, plan []StepPlan, of func(StepPlan) *LayerPlan, layer string) []float64 {
	t.Helper()
	var out []float64
	for _, s := range plan {
		f := 1.0
		if p := of(s); p != nil {
			if d, ok := p.Dilation[layer]; ok {
				f = d.H
			}
		}
		out = append(out, f)
	}
	return out
}

func mainOf(s StepPlan) *LayerPlan   { return s.Main }
func dampedOf(s StepPlan) *LayerPlan { return s.Damped }

// runs writes a schedule as "4x9 3x9 2x17 1x15": value x number of steps.
func runs(fs []float64) string {
	var parts []string
	for i := 0; i < len(fs); {
		n := 1
		for i+n < len(fs) && fs[i+n] == fs[i] {
			n++
		}
		parts = append(parts, fmt.Sprintf("%gx%d", fs[i], n))
		i += n
	}
	return strings.Join(parts, " ")
}

// The table of methods.md 1.4 (computed from ScaleCrafter's
// pipeline_processor): factor by step for P and tau, 50 steps.
func TestProgressive(t *testing.T) {
	tests := []struct {
		p    float64
		tau  int
		want string
	}{
		{4, 35, "4x9 3x9 2x17 1x15"},
		{3, 35, "3x12 2x23 1x15"},
		{4, 37, "4x10 3x9 2x18 1x13"},
		{3, 37, "3x13 2x24 1x13"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("P%g_tau%d", tt.p, tt.tau), func(t *testing.T) {
			m := Method{Kind: Redilate, Redilation: &Redilation{LayerSet: LayerSet{Factor: square(tt.p), MinDepth: 1}, Tau: tt.tau, Decay: DecayProgressive}}
			plan, err := m.Schedule(sdLike(), 50, small, large)
			if err != nil {
				t.Fatal(err)
			}
			if got := runs(factors(t, plan, mainOf, "mid_block.resnets.0.conv1")); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if got := runs(factors(t, plan, mainOf, "down_blocks.0.resnets.0.conv1")); got != "1x50" {
				t.Errorf("outermost level: got %s", got)
			}
		})
	}
}

// A listed 1.5 is raised to 2 by progressive, as upstream does.
func TestProgressiveRaises(t *testing.T) {
	m := Method{Kind: Redilate, Redilation: &Redilation{LayerSet: LayerSet{Factor: square(1.5)}, Tau: 3, Decay: DecayProgressive}}
	plan, err := m.Schedule(sdLike(), 5, small, large)
	if err != nil {
		t.Fatal(err)
	}
	if got := runs(factors(t, plan, mainOf, "mid_block.resnets.0.conv1")); got != "2x3 1x2" {
		t.Errorf("got %s", got)
	}
}

func TestConstantAndOverrides(t *testing.T) {
	m := Method{Kind: Redilate, Redilation: &Redilation{
		LayerSet: LayerSet{Factor: square(2.5), Layers: []string{"down_blocks.2.*", "mid_block.*"},
			Overrides: []LayerFactor{{"mid_block.resnets.1.*", square(4)}, {"up_blocks.?.upsamplers.0.conv", Factor{2, 3}}}},
		Tau: 2,
	}}
	plan, err := m.Schedule(sdLike(), 3, small, large)
	if err != nil {
		t.Fatal(err)
	}
	for layer, want := range map[string]Factor{
		"down_blocks.2.resnets.0.conv1":     square(2.5),
		"down_blocks.2.downsamplers.0.conv": square(2.5),
		"mid_block.resnets.0.conv2":         square(2.5),
		"mid_block.resnets.1.conv2":         square(4),
		"up_blocks.1.upsamplers.0.conv":     {2, 3},
	} {
		if got := plan[1].Main.Dilation[layer]; got != want {
			t.Errorf("%s: %v, want %v", layer, got, want)
		}
	}
	if n := len(plan[0].Main.Dilation); n != 5+4+3 {
		t.Errorf("%d layers dilated, want 12", n)
	}
	if plan[0].Main != plan[1].Main {
		t.Error("equal steps do not share their plan")
	}
	if !plan[2].Main.Plain() {
		t.Errorf("step 2 is %s, want plain", plan[2].Main.Key())
	}
}

// The published sd1.5_1024x1024 setting dilates every level but the outermost:
// 39 layers (methods.md 1.11: down 1-3, mid, up 0-2 with their samplers).
func TestMinDepthIsThePublishedSet(t *testing.T) {
	m := Method{Kind: Redilate, Redilation: &Redilation{LayerSet: LayerSet{Factor: square(2), MinDepth: 1}, Tau: 30}}
	plan, err := m.Schedule(sdLike(), 50, small, large)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(plan[0].Main.Dilation); n != 5+5+4+4+7+7+7 {
		t.Errorf("%d layers, want 39", n)
	}
}

func TestDamped(t *testing.T) {
	m := Method{Kind: Redilate, AttentionScaling: true, Redilation: &Redilation{
		LayerSet: LayerSet{Factor: square(4)}, Tau: 4, Decay: DecayProgressive,
		Damped: &Damping{LayerSet: LayerSet{Factor: square(4), MinDepth: 2}, Tau: 6},
	}}
	plan, err := m.Schedule(sdLike(), 8, small, large)
	if err != nil {
		t.Fatal(err)
	}
	// Each network has its own tau: ceil(4*(4-i)/4) and ceil(4*(6-i)/6), floor 2.
	if got := runs(factors(t, plan, mainOf, "mid_block.resnets.0.conv1")); got != "4x1 3x1 2x2 1x4" {
		t.Errorf("D: %s", got)
	}
	if got := runs(factors(t, plan, dampedOf, "mid_block.resnets.0.conv1")); got != "4x2 3x1 2x3 1x2" {
		t.Errorf("V: %s", got)
	}
	if got := runs(factors(t, plan, dampedOf, "down_blocks.0.resnets.0.conv1")); got != "1x8" {
		t.Errorf("V, outermost: %s", got)
	}
	for i, s := range plan {
		if (s.Damped != nil) != (i < 6) {
			t.Errorf("step %d: damped %v", i, s.Damped != nil)
		}
		if s.Main.AttentionRatio != 4 || s.Damped != nil && s.Damped.AttentionRatio != 4 {
			t.Errorf("step %d: attention ratio %v", i, s.Main.AttentionRatio)
		}
	}
	if got, want := NFE(plan, 3), 6*3+2*2; got != want {
		t.Errorf("NFE %d, want %d", got, want)
	}
	if got := NFE(plan, 1); got != 8 {
		t.Errorf("NFE without guidance %d, want 8", got)
	}
}

// A damped network of factor 1 is the network as trained (the paper's V).
func TestDampedAsTrained(t *testing.T) {
	m := Method{Kind: Redilate, Redilation: &Redilation{LayerSet: LayerSet{Factor: square(2), MinDepth: 1}, Tau: 2,
		Damped: &Damping{LayerSet: LayerSet{Factor: square(1)}, Tau: 4}}}
	plan, err := m.Schedule(sdLike(), 4, small, large)
	if err != nil {
		t.Fatal(err)
	}
	if plan[0].Damped == nil || !plan[0].Damped.Plain() {
		t.Error("step 0: want a plain damped network")
	}
	if plan[3].Damped != nil {
		t.Error("step 3: D is plain too, so the damped network would be evaluated for nothing")
	}
	if plan[0].Damped != plan[3].Main {
		t.Error("the plain plan is not shared")
	}
}

func TestAttentionScaling(t *testing.T) {
	plan, err := Method{Kind: AttentionScaling, AttentionScaling: true}.Schedule(sdLike(), 3, small, Size{64, 128})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range plan {
		if s.Main.AttentionRatio != 2 || s.Main != plan[0].Main || s.Damped != nil {
			t.Errorf("step %d: %s", i, s.Main.Key())
		}
	}
	direct, err := Method{Kind: Direct}.Schedule(sdLike(), 3, small, large)
	if err != nil || !direct[0].Main.Plain() || direct[0].Main != direct[2].Main {
		t.Errorf("direct: %v, %v", direct[0].Main.Key(), err)
	}
}

func TestScheduleErrors(t *testing.T) {
	redilate := func(r Redilation) Method { return Method{Kind: Redilate, Redilation: &r} }
	inner := LayerSet{Factor: square(2), MinDepth: 1}
	noAttention := sdLike()
	noAttention.SelfAttention = nil
	tests := []struct {
		name   string
		m      Method
		arch   Architecture
		target Size
		want   []string // key: part of the problem
	}{
		{"glob", redilate(Redilation{LayerSet: LayerSet{Factor: square(2), Layers: []string{"mid*", "down_block.1.*"}}, Tau: 2}), sdLike(), large,
			[]string{`layers[1]: "down_block.1.*" matches no layer`}},
		{"all globs", redilate(Redilation{LayerSet: LayerSet{Overrides: []LayerFactor{{"x*", square(2)}, {"mid_block.resnets.0.conv3", square(2)}}}, Tau: 2}), sdLike(), large,
			[]string{`dilation."x*": "x*" matches no layer`, `dilation."mid_block.resnets.0.conv3": "mid_block.resnets.0.conv3" matches no layer`}},
		{"depth", redilate(Redilation{LayerSet: LayerSet{Factor: square(2), MinDepth: 4}, Tau: 2}), sdLike(), large,
			[]string{"min_depth: is 4, which matches no layer: the deepest level is 3"}},
		{"damped depth", redilate(Redilation{LayerSet: inner, Tau: 2, Damped: &Damping{LayerSet: LayerSet{Factor: square(2), MinDepth: 9}, Tau: 2}}), sdLike(), large,
			[]string{"damped.min_depth: is 9"}},
		{"factor 1", redilate(Redilation{LayerSet: LayerSet{Factor: square(1)}, Tau: 2}), sdLike(), large,
			[]string{"factor: re-dilation never takes effect"}},
		{"tau 0", redilate(Redilation{LayerSet: inner}), sdLike(), large, []string{"tau: is 0 of 5 steps"}},
		{"tau above", redilate(Redilation{LayerSet: inner, Tau: 6}), sdLike(), large, []string{"tau: is 6 of 5 steps"}},
		{"damped tau", redilate(Redilation{LayerSet: inner, Tau: 2, Damped: &Damping{LayerSet: LayerSet{Factor: square(2), MinDepth: 2}, Tau: 9}}), sdLike(), large,
			[]string{"damped.tau: is 9 of 5 steps"}},
		{"same damping", redilate(Redilation{LayerSet: inner, Tau: 2, Damped: &Damping{LayerSet: inner, Tau: 2}}), sdLike(), large,
			[]string{"damped: damping never takes effect"}},
		{"progressive", redilate(Redilation{LayerSet: inner, Tau: 2, Decay: DecayProgressive}), sdLike(), large,
			[]string{"decay: never takes effect: factors shrink to whole ones"}},
		{"attention at the training size", Method{Kind: AttentionScaling, AttentionScaling: true}, sdLike(), small,
			[]string{"kind: attention scaling never takes effect"}},
		{"attention beside", Method{Kind: Redilate, AttentionScaling: true, Redilation: &Redilation{LayerSet: inner, Tau: 2}}, noAttention, large,
			[]string{"attention_scaling: attention scaling never takes effect: the network has no self-attention"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.m.Schedule(tt.arch, 5, small, tt.target)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %d problems", got, len(tt.want))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("got %q, want %q", got[i], tt.want[i])
				}
			}
			var se *SettingError
			if !errors.As(err, &se) || se.Advice == "" {
				t.Errorf("%v has no advice", err)
			}
		})
	}
}

// Whatever the settings: factors never fall below 2 or rise while active under
// progressive, nothing is dilated from tau on, no unlisted layer ever is, and
// equal plans are one pointer.
func TestScheduleProperties(t *testing.T) {
	arch := sdLike()
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		tau := rapid.IntRange(1, steps).Draw(t, "tau")
		p := rapid.Float64Range(2.001, 8).Draw(t, "factor")
		depth := rapid.IntRange(0, 3).Draw(t, "min_depth")
		progressive := rapid.Bool().Draw(t, "progressive")
		decay := DecayConstant
		if progressive {
			decay = DecayProgressive
			p += 0.001 // 3 would stay 3 over a single step, which is an error
			if math.Ceil(p) == p {
				p += 0.001
			}
		}
		m := Method{Kind: Redilate, Redilation: &Redilation{LayerSet: LayerSet{Factor: square(p), MinDepth: depth}, Tau: tau, Decay: decay}}
		plan, err := m.Schedule(arch, steps, small, large)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan) != steps {
			t.Fatalf("%d plans for %d steps", len(plan), steps)
		}
		pointers := map[string]*LayerPlan{}
		for i, s := range plan {
			if old, ok := pointers[s.Main.Key()]; ok && old != s.Main {
				t.Fatalf("step %d: an equal plan has another pointer", i)
			}
			pointers[s.Main.Key()] = s.Main
			for _, c := range arch.Convs {
				f, listed := s.Main.Dilation[c.Path]
				if listed != (i < tau && c.Depth >= depth) {
					t.Fatalf("step %d, %s at depth %d: listed %v", i, c.Path, c.Depth, listed)
				}
				if !listed {
					continue
				}
				want := p
				if progressive {
					want = math.Max(math.Ceil(p*(float64(tau-i)/float64(tau))), 2)
				}
				if f != square(want) {
					t.Fatalf("step %d: factor %v, want %v", i, f, want)
				}
			}
		}
	})
}

func TestMatch(t *testing.T) {
	tests := []struct {
		glob, path string
		want       bool
	}{
		{"mid_block.*", "mid_block.resnets.0.conv1", true},
		{"mid_block", "mid_block.resnets.0.conv1", false},
		{"*", "", true},
		{"", "", true},
		{"", "a", false},
		{"*.conv1", "down_blocks.0.resnets.1.conv1", true},
		{"*.conv1", "down_blocks.0.resnets.1.conv2", false},
		{"down_blocks.?.*.conv2", "down_blocks.3.resnets.0.conv2", true},
		{"down_blocks.?.*.conv2", "down_blocks.13.resnets.0.conv2", false},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b*", "xxbxxaxx", false},
		{"a**", "a", true},
		{"mid.block", "mid_block", false},
	}
	for _, tt := range tests {
		if got := Match(tt.glob, tt.path); got != tt.want {
			t.Errorf("Match(%q, %q) = %v, want %v", tt.glob, tt.path, got, tt.want)
		}
	}
}

// Match agrees with the definition, written out recursively.
func TestMatchProperty(t *testing.T) {
	var slow func(g, p string) bool
	slow = func(g, p string) bool {
		switch {
		case g == "":
			return p == ""
		case g[0] == '*':
			return slow(g[1:], p) || p != "" && slow(g, p[1:])
		case p == "":
			return false
		}
		return (g[0] == '?' || g[0] == p[0]) && slow(g[1:], p[1:])
	}
	rapid.Check(t, func(t *rapid.T) {
		g := rapid.StringMatching(`[ab.*?]{0,8}`).Draw(t, "glob")
		p := rapid.StringMatching(`[ab.]{0,10}`).Draw(t, "path")
		if Match(g, p) != slow(g, p) {
			t.Fatalf("Match(%q, %q) = %v", g, p, Match(g, p))
		}
	})
}

func TestProductProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 4).Draw(t, "lengths")
		total := 1
		for _, n := range lengths {
			total *= n
		}
		got := Product(lengths)
		if len(got) != total {
			t.Fatalf("%d combinations of %v, want %d", len(got), lengths, total)
		}
		for i, c := range got {
			for a, v := range c {
				if v < 0 || v >= lengths[a] {
					t.Fatalf("combination %v of %v", c, lengths)
				}
			}
			if i > 0 && !less(got[i-1], c) {
				t.Fatalf("%v after %v: want the first axis slowest, each once", c, got[i-1])
			}
		}
	})
}

func less(a, b []int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// Every field of the settings, the identity and the plan changes the ID; how
// the plan was written does not.
func TestCellID(t *testing.T) {
	arch := sdLike()
	settings := Settings{Size: large, Steps: 4, GuidanceScale: 3, GuidanceRescale: 0.1, Eta: 0.2, Seed: 5, Sampler: "ddim"}
	identity := Identity{Weights: "w", Features: "f", World: "c", Kernels: "k", Protocol: "p"}
	plan := func(m Method) []StepPlan {
		p, err := m.Schedule(arch, 4, small, large)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	direct := plan(Method{Kind: Direct})
	base := CellID(settings, direct, identity)
	if len(base) != 24 {
		t.Errorf("ID %q", base)
	}
	ids := map[string]string{base: "base"}
	note := func(what, id string) {
		if other, ok := ids[id]; ok {
			t.Errorf("%s has the ID of %s", what, other)
		}
		ids[id] = what
	}
	// bump changes one field, found by reflection, so that a field added later
	// and forgotten in CellID fails here.
	bump := func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Int:
			v.SetInt(v.Int() + 1)
		case reflect.Uint64:
			v.SetUint(v.Uint() + 1)
		case reflect.Float64:
			v.SetFloat(v.Float() + 0.5)
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Struct:
			v.Field(0).SetInt(v.Field(0).Int() + 1)
		default:
			t.Fatalf("cannot change a %s", v.Kind())
		}
	}
	for i := range reflect.TypeOf(settings).NumField() {
		s := settings
		bump(reflect.ValueOf(&s).Elem().Field(i))
		note("settings."+reflect.TypeOf(s).Field(i).Name, CellID(s, direct, identity))
	}
	wider := settings
	wider.Size.W++
	note("width", CellID(wider, direct, identity))
	for i := range reflect.TypeOf(identity).NumField() {
		id := identity
		bump(reflect.ValueOf(&id).Elem().Field(i))
		note("identity."+reflect.TypeOf(id).Field(i).Name, CellID(settings, direct, id))
	}
	r := func(f Factor, depth, tau int, damped *Damping) Method {
		return Method{Name: "any", Kind: Redilate, Redilation: &Redilation{LayerSet: LayerSet{Factor: f, MinDepth: depth}, Tau: tau, Damped: damped}}
	}
	note("attention", CellID(settings, plan(Method{Kind: AttentionScaling, AttentionScaling: true}), identity))
	note("x2", CellID(settings, plan(r(square(2), 1, 2, nil)), identity))
	note("x2 rows", CellID(settings, plan(r(Factor{2, 1}, 1, 2, nil)), identity))
	note("x2.5", CellID(settings, plan(r(square(2.5), 1, 2, nil)), identity))
	note("deeper", CellID(settings, plan(r(square(2), 2, 2, nil)), identity))
	note("longer", CellID(settings, plan(r(square(2), 1, 3, nil)), identity))
	damped := r(square(2), 1, 2, &Damping{LayerSet: LayerSet{Factor: square(2), MinDepth: 2}, Tau: 1})
	note("damped", CellID(settings, plan(damped), identity))

	byGlob := Method{Name: "other", Label: "other", Kind: Redilate, Redilation: &Redilation{Tau: 2, LayerSet: LayerSet{
		Factor: square(2), Layers: []string{"down_blocks.1.*", "down_blocks.2.*", "down_blocks.3.*", "mid*", "up_blocks.0.*", "up_blocks.1.*", "up_blocks.2.*"}}}}
	if got := CellID(settings, plan(byGlob), identity); ids[got] != "x2" {
		t.Errorf("the same layers by globs have the ID of %q", ids[got])
	}
	off := settings
	off.GuidanceScale = 1
	if CellID(off, plan(damped), identity) != CellID(off, plan(r(square(2), 1, 2, nil)), identity) {
		t.Error("without guidance damping changes nothing, but the ID")
	}
}

func TestTauSteps(t *testing.T) {
	for _, tt := range []struct {
		share float64
		steps int
		want  int
	}{{0.6, 20, 12}, {0.5, 5, 3}, {1, 50, 50}, {0.01, 20, 0}, {0.7, 50, 35}, {0.29, 100, 29}} {
		if got := TauSteps(tt.share, tt.steps); got != tt.want {
			t.Errorf("TauSteps(%v, %d) = %d, want %d", tt.share, tt.steps, got, tt.want)
		}
	}
}

func TestLabelsAreUnique(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "methods")
		var methods []Method
		for range n {
			methods = append(methods, Method{
				Name:  rapid.SampledFrom([]string{"a", "b", "a: x"}).Draw(t, "name"),
				Label: rapid.SampledFrom([]string{"x", "a: x", "x (2)", "y"}).Draw(t, "label"),
				Kind:  Direct,
			})
		}
		seen := map[string]bool{}
		for _, l := range UniqueLabels(methods, 10) {
			if seen[l] {
				t.Fatalf("label %q twice", l)
			}
			seen[l] = true
		}
	})
}

func ExampleMethod_Describe() {
	m := Method{Name: "redilation", Kind: Redilate, Redilation: &Redilation{
		LayerSet: LayerSet{Factor: Factor{2, 2}, MinDepth: 1}, Tau: 12,
		Damped: &Damping{LayerSet: LayerSet{Factor: Factor{2, 2}, MinDepth: 2}, Tau: 12},
	}}
	fmt.Println(m.Describe(20))
	// Output: re-dilation x2, 60% of steps, noise-damped
}
