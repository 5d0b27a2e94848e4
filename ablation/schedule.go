package ablation

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// SettingError is a setting that cannot do what it says. Key is the setting's
// path inside its method, as the TOML file spells it ("damped.layers[1]").
type SettingError struct {
	Key     string
	Problem string
	Advice  string
}

func (e *SettingError) Error() string { return e.Key + ": " + e.Problem }

// Schedule is the plan of every sampling step, step 0 being the noisiest.
// Equal plans share one pointer, within a step and across steps, so that a
// graph may be compiled per pointer.
//
// The error joins every *SettingError found: a glob that matches no layer, a
// depth that the network does not have, a setting that changes nothing.
//
// Source: ScaleCrafter text2image.py, pipeline_processor. D is dilated while
// step < Tau and V while step < Damped.Tau; progressive factors are
// max(ceil(P*((tau-step)/tau)), 2) with each network's own tau. Deviations: an
// axis whose factor is 1 stays at 1 under progressive (upstream has no
// per-axis factors), and V is not evaluated at a step where it equals D.
func (m Method) Schedule(arch Architecture, steps int, train, target Size) ([]StepPlan, error) {
	if steps < 1 {
		return nil, &SettingError{Key: "steps", Problem: fmt.Sprintf("is %d, want 1 or more", steps), Advice: "a schedule needs a step"}
	}
	var problems []error
	fail := func(key, advice, format string, args ...any) {
		problems = append(problems, &SettingError{Key: key, Problem: fmt.Sprintf(format, args...), Advice: advice})
	}
	ratio := 0.0
	if m.AttentionScaling {
		ratio = float64(target.Pixels()) / float64(train.Pixels())
		key := "attention_scaling"
		if m.Kind == AttentionScaling {
			key = "kind"
		}
		switch {
		case ratio == 1:
			fail(key, "choose a height and width whose area differs from the training size, or another method",
				"attention scaling never takes effect: the picture has the %s pixels that the network was trained on", train)
		case len(arch.SelfAttention) == 0:
			fail(key, "choose another method", "attention scaling never takes effect: the network has no self-attention")
		}
	}
	var main, damped []LayerFactor
	r := m.Redilation
	if r != nil {
		main = resolve(r.LayerSet, "", arch, &problems)
		if len(problems) == 0 && plain(main) {
			fail("factor", "choose a factor above 1, or kind = \"direct\"", "re-dilation never takes effect: every chosen layer has factor 1")
		}
		if r.Tau < 1 || r.Tau > steps {
			fail("tau", fmt.Sprintf("tau counts steps from the noisiest; choose 1..%d", steps), "is %d of %d steps, so re-dilation cannot run as asked", r.Tau, steps)
		}
		if v := r.Damped; v != nil {
			damped = resolve(v.LayerSet, "damped.", arch, &problems)
			if v.Tau < 1 || v.Tau > steps {
				fail("damped.tau", fmt.Sprintf("tau counts steps from the noisiest; choose 1..%d", steps), "is %d of %d steps, so damping cannot run as asked", v.Tau, steps)
			}
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}

	shared := map[string]*LayerPlan{}
	share := func(p *LayerPlan) *LayerPlan {
		key := p.Key()
		if old, ok := shared[key]; ok {
			return old
		}
		shared[key] = p
		return p
	}
	if r != nil && r.Progressive && !shrinks(main) && !(r.Damped != nil && shrinks(damped)) {
		return nil, &SettingError{Key: "progressive", Problem: "never takes effect: factors shrink to 2 at the least, and none is above it",
			Advice: "drop it, or choose a factor above 2"}
	}
	plans := make([]StepPlan, steps)
	dampedSteps := 0
	for i := range plans {
		p := &LayerPlan{AttentionRatio: ratio}
		if r != nil && i < r.Tau {
			p.Dilation = dilations(main, r.Progressive, i, r.Tau)
		}
		plans[i].Main = share(p)
		if r == nil || r.Damped == nil || i >= r.Damped.Tau {
			continue
		}
		v := share(&LayerPlan{AttentionRatio: ratio, Dilation: dilations(damped, r.Progressive, i, r.Damped.Tau)})
		if v != plans[i].Main {
			plans[i].Damped = v
			dampedSteps++
		}
	}
	if r != nil && r.Damped != nil && dampedSteps == 0 {
		return nil, &SettingError{Key: "damped", Problem: "damping never takes effect: its network equals the dilated one at every step",
			Advice: "give it fewer layers (a larger min_depth) or a smaller factor"}
	}
	return plans, nil
}

// resolve lists the chosen layers in execution order with their factors.
func resolve(s LayerSet, prefix string, arch Architecture, problems *[]error) []LayerFactor {
	fail := func(key, advice, format string, args ...any) {
		*problems = append(*problems, &SettingError{Key: prefix + key, Problem: fmt.Sprintf(format, args...), Advice: advice})
	}
	chosen := make(map[string]Factor)
	if s.Factor != (Factor{}) {
		if len(s.Layers) == 0 {
			deepest := -1
			for _, c := range arch.Convs {
				if c.Depth >= s.MinDepth {
					chosen[c.Path] = s.Factor
				}
				deepest = max(deepest, c.Depth)
			}
			if len(chosen) == 0 {
				fail("min_depth", fmt.Sprintf("choose 0..%d", max(deepest, 0)), "is %d, which matches no layer: the deepest level is %d", s.MinDepth, deepest)
			}
		}
		for i, glob := range s.Layers {
			n := 0
			for _, c := range arch.Convs {
				if Match(glob, c.Path) {
					chosen[c.Path] = s.Factor
					n++
				}
			}
			if n == 0 {
				fail(fmt.Sprintf("layers[%d]", i), nearestLayer(glob, arch), "%q matches no layer", glob)
			}
		}
	}
	for _, o := range s.Overrides {
		n := 0
		for _, c := range arch.Convs {
			if Match(o.Glob, c.Path) {
				chosen[c.Path] = o.Factor
				n++
			}
		}
		if n == 0 {
			fail("dilation."+QuoteKey(o.Glob), nearestLayer(o.Glob, arch), "%q matches no layer", o.Glob)
		}
	}
	var out []LayerFactor
	for _, c := range arch.Convs {
		if f, ok := chosen[c.Path]; ok {
			out = append(out, LayerFactor{Glob: c.Path, Factor: f})
		}
	}
	return out
}

// nearestLayer is advice for a glob that matches nothing: the real path that
// shares the longest beginning with it.
func nearestLayer(glob string, arch Architecture) string {
	best, length := "", -1
	for _, c := range arch.Convs {
		n := 0
		for n < len(glob) && n < len(c.Path) && glob[n] == c.Path[n] {
			n++
		}
		if n > length {
			best, length = c.Path, n
		}
	}
	if best == "" {
		return "the network has no layer that may be dilated"
	}
	return fmt.Sprintf("* stands for any text; a layer of this network is %q", best)
}

// dilations is the layers' factors at one active step. A layer listed with
// factor 1 stays listed, as upstream's hook does; a list of nothing but ones
// is the network as trained.
func dilations(layers []LayerFactor, progressive bool, step, tau int) map[string]Factor {
	if plain(layers) {
		return nil
	}
	d := make(map[string]Factor, len(layers))
	for _, l := range layers {
		f := l.Factor
		if progressive {
			f = Factor{H: shrink(f.H, step, tau), W: shrink(f.W, step, tau)}
		}
		d[l.Glob] = f
	}
	return d
}

// shrink is the progressive factor of one axis; the order of the float64
// operations is upstream's.
func shrink(p float64, step, tau int) float64 {
	if p == 1 {
		return 1
	}
	return math.Max(math.Ceil(p*(float64(tau-step)/float64(tau))), 2)
}

// shrinks reports whether progressive can change a factor: all but 1 and 2
// (a factor between them is raised to 2).
func shrinks(layers []LayerFactor) bool {
	for _, l := range layers {
		for _, p := range []float64{l.Factor.H, l.Factor.W} {
			if p != 1 && p != 2 {
				return true
			}
		}
	}
	return false
}

func plain(layers []LayerFactor) bool {
	for _, l := range layers {
		if !l.Factor.Plain() {
			return false
		}
	}
	return true
}

// Match reports whether a glob matches a whole layer path: * stands for any
// text, dots included, ? for one character.
func Match(glob, path string) bool {
	g, p, star, mark := 0, 0, -1, 0
	for p < len(path) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, mark = g, p
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == path[p]):
			g++
			p++
		case star >= 0:
			mark++
			g, p = star+1, mark
		default:
			return false
		}
	}
	for g < len(glob) && glob[g] == '*' {
		g++
	}
	return g == len(glob)
}

// QuoteKey writes a key as TOML does: bare where it may be, else in quotes.
func QuoteKey(key string) string {
	if key != "" && strings.IndexFunc(key, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}) < 0 {
		return key
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(key) + `"`
}
