package ablation

import (
	"fmt"
	"math"
)

// Derived is the method with its Ratios and its Redilation.Rule put into numbers
// for a network and a size; a method without either comes back as it is. What
// the method says
// itself wins over the rule: a Tau, a Decay, a Damped or its Tau, a Factor; its
// ByDepth and Overrides apply after the rule's factors.
//
// The rule extends the published SD 1.5 settings to any size and any U-Net of
// the family. With L levels and r the larger of height and width over the
// trained ones (or each axis by its own, if separate):
//
//   - a layer at depth d >= Rule.MinDepth (published: 1, the outermost level
//     stays as trained) gets the factor r if r <= 3, else max(2, r-(L-1-d));
//   - 60% of the steps are dilated if r <= 2, else 70%;
//   - if r > 3 the decay is progressive and guidance noise-damped, the damped
//     network having the same factors at depth >= 2 (and at least one level
//     fewer) and the same tau.
//
// Every published SD 1.5 setting is such a one (methods.md 1.11), those of
// SD 2.1 and SDXL are not. An axis that is not enlarged has factor 1.
func (m Method) Derived(arch Architecture, steps int, train, target Size) (Method, error) {
	if m.Redilation == nil {
		return m, nil
	}
	r := *m.Redilation
	follows := r.Ratio != NoRatio || r.Damped != nil && r.Damped.Ratio != NoRatio
	if follows {
		if err := r.followSize(train, target); err != nil {
			return m, err
		}
	}
	if r.Rule == nil {
		if follows {
			m.Redilation = &r
		}
		return m, nil
	}
	rule := *r.Rule
	r.Rule = nil
	r.Schedule = "derived"
	if rule.Separate {
		r.Schedule += " by axis"
	}
	if rule.MinDepth == 0 {
		r.Schedule += " at all levels"
	} else if rule.MinDepth > 1 {
		r.Schedule += fmt.Sprintf(" at levels from %d", rule.MinDepth)
	}
	m.Redilation = &r
	h, w := float64(target.H)/float64(train.H), float64(target.W)/float64(train.W)
	top := math.Max(h, w)
	if !rule.Separate {
		h, w = top, top
	}
	if top <= 1 {
		return m, &SettingError{Key: "schedule", Problem: fmt.Sprintf("the derived rule has nothing to change: %s px is no larger than the %s px that the network was trained on", target, train),
			Advice: "choose a larger height or width, or kind = \"direct\""}
	}
	if rule.MinDepth >= arch.Levels {
		return m, &SettingError{Key: "min_depth", Problem: fmt.Sprintf("is %d, which matches no layer: the deepest level is %d", rule.MinDepth, arch.Levels-1), Advice: fmt.Sprintf("choose 0..%d", arch.Levels-1)}
	}
	from := func(depth int) []DepthFactor {
		var out []DepthFactor
		for d := depth; d < arch.Levels; d++ {
			out = append(out, DepthFactor{Depth: d, Factor: Factor{H: derivedFactor(h, d, arch.Levels), W: derivedFactor(w, d, arch.Levels)}})
		}
		return out
	}
	if r.Factor == (Factor{}) {
		r.ByDepth = append(from(rule.MinDepth), r.ByDepth...)
	}
	if r.Tau == 0 {
		share := 0.6
		if top > 2 {
			share = 0.7
		}
		r.Tau = max(1, TauSteps(share, steps))
	}
	if r.Decay == "" && top > 3 && r.Tau > 1 { // over one step nothing falls
		r.Decay = DecayProgressive
	}
	v := r.Damped
	if v == nil && top > 3 && !rule.NoDamped {
		v = &Damping{}
	}
	if v != nil {
		damped := *v
		if damped.Factor == (Factor{}) {
			depth := rule.DampedMinDepth
			if depth == 0 {
				depth = max(2, rule.MinDepth+1)
			}
			inner := from(depth)
			if len(inner) == 0 { // no level is left: the network as trained
				inner = []DepthFactor{{Depth: arch.Levels - 1, Factor: Factor{H: 1, W: 1}}}
			}
			damped.ByDepth = append(inner, damped.ByDepth...)
		}
		if damped.Tau == 0 {
			damped.Tau = r.Tau
		}
		r.Damped = &damped
	}
	if r.Dispersion != nil && r.Dispersion.Tau == 0 {
		d := *r.Dispersion
		d.Tau = r.Tau
		r.Dispersion = &d
	}
	return m, nil
}

// followSize puts ratios into numbers.
func (r *Redilation) followSize(train, target Size) error {
	resolve := func(s *LayerSet, key string) error {
		if s.Ratio == NoRatio {
			return nil
		}
		s.Factor = s.Ratio.Of(train, target)
		if s.Factor.Plain() {
			return &SettingError{Key: key, Problem: fmt.Sprintf("is %q, which is 1 here: %s px is no larger than the %s px that the network was trained on", string(s.Ratio), target, train),
				Advice: "choose a larger height or width, give a number, or leave the size out by only"}
		}
		if f := math.Max(s.Factor.H, s.Factor.W); f > MaxFactor {
			return &SettingError{Key: key, Problem: fmt.Sprintf("is %q, which is %s at %s px, above %d", string(s.Ratio), s.Factor, target, MaxFactor), Advice: "choose a smaller height or width, or give a number"}
		}
		s.Ratio = NoRatio
		return nil
	}
	if err := resolve(&r.LayerSet, "factor"); err != nil {
		return err
	}
	if r.Damped == nil {
		return nil
	}
	v := *r.Damped
	r.Damped = &v
	return resolve(&v.LayerSet, "damped.factor")
}

// derivedFactor is the rule's factor of one axis that is enlarged r times.
func derivedFactor(r float64, depth, levels int) float64 {
	switch {
	case r <= 1:
		return 1
	case r <= 3:
		return r
	}
	return math.Max(2, r-float64(levels-1-depth))
}
