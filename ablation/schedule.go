package ablation

import (
	"cmp"
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

// Schedule is the plan of every sampling step, step 0 being the noisiest; the
// steps that SDEdit skips have theirs too. Equal plans share one pointer, within
// a step and across steps, so that a graph may be compiled per pointer.
//
// The error joins every *SettingError found: a glob that matches no layer, a
// depth that the network does not have, a setting that changes nothing, a
// dispersed layer that a network would run as trained.
//
// Source: ScaleCrafter text2image.py, pipeline_processor. D is dilated while
// step < Tau and V while step < Damped.Tau, the factor of a step is factorAt's
// with each network's own tau, and where a layer is dispersed that factor is
// then multiplied by (small-1)/(large-1), which keeps the kernel's extent.
// Deviations: an axis whose factor is 1 stays at 1 (upstream has no per-axis
// factors), a layer that has decayed to 1 runs its trained kernel, V is not
// evaluated at a step where it equals D, and what upstream would run with a
// wrong size or not at all is an error.
func (m Method) Schedule(arch Architecture, steps int, train, target Size) ([]StepPlan, error) {
	if steps < 1 {
		return nil, &SettingError{Key: "steps", Problem: fmt.Sprintf("is %d, want 1 or more", steps), Advice: "a schedule needs a step"}
	}
	m, err := m.Derived(arch, steps, train, target)
	if err != nil {
		return nil, err
	}
	p := planner{Method: m, arch: arch, steps: steps}
	ratio := p.attention(train, target)
	if u := m.FreeU; u != nil && *u == (FreeU{1, 1, 1, 1}) {
		p.fail("freeu", "drop it, or take a preset such as \"sd1.5\"", "FreeU never takes effect: all four of its numbers are 1")
	}
	p.sdedit(train, target)
	p.redilation()
	if len(p.problems) > 0 {
		return nil, errors.Join(p.problems...)
	}

	shared := map[string]*LayerPlan{}
	share := func(l network, step int) *LayerPlan {
		plan := &LayerPlan{AttentionRatio: ratio, FreeU: m.FreeU}
		l.at(step, plan)
		key := plan.Key()
		if old, ok := shared[key]; ok {
			return old
		}
		shared[key] = plan
		return plan
	}
	plans := make([]StepPlan, steps)
	dampedSteps, first := 0, p.skipped()
	for i := range plans {
		plans[i].Main = share(p.main, i)
		if i >= p.damped.tau {
			continue
		}
		if v := share(p.damped, i); v != plans[i].Main {
			plans[i].Damped = v
			if i >= first {
				dampedSteps++
			}
		}
	}
	if r := m.Redilation; r != nil && r.Damped != nil && dampedSteps == 0 {
		return nil, &SettingError{Key: "damped", Problem: "damping never takes effect: its network equals the dilated one at every step",
			Advice: "give it fewer layers (a larger min_depth) or a smaller factor"}
	}
	return plans, nil
}

// planner gathers what a schedule is made of and what is wrong with it.
type planner struct {
	Method
	arch         Architecture
	steps        int
	main, damped network
	problems     []error
}

func (p *planner) fail(key, advice, format string, args ...any) {
	p.problems = append(p.problems, &SettingError{Key: key, Problem: fmt.Sprintf(format, args...), Advice: advice})
}

// skipped is the number of steps that are not executed.
func (p *planner) skipped() int {
	if p.SDEdit == nil {
		return 0
	}
	return p.SDEdit.Tau
}

// attention checks attention scaling and returns its pixel ratio, 0 for off.
func (p *planner) attention(train, target Size) float64 {
	if !p.AttentionScaling {
		return 0
	}
	key := "attention_scaling"
	if p.Kind == AttentionScaling {
		key = "kind"
	}
	ratio := float64(target.Pixels()) / float64(train.Pixels())
	switch {
	case ratio == 1:
		p.fail(key, "choose a height and width whose area differs from the training size, or another method",
			"attention scaling never takes effect: the picture has the %s pixels that the network was trained on", train)
	case len(p.arch.SelfAttention) == 0:
		p.fail(key, "choose another method", "attention scaling never takes effect: the network has no self-attention")
	}
	return ratio
}

func (p *planner) sdedit(train, target Size) {
	e := p.SDEdit
	if e == nil {
		return
	}
	if e.Tau < 1 || e.Tau >= p.steps {
		p.fail("sdedit.tau", fmt.Sprintf("it is the number of steps to skip; choose 1..%d", max(p.steps-1, 1)), "is %d of %d steps, which leaves nothing to skip or nothing to run", e.Tau, p.steps)
	}
	if base := e.Base(train, target); base.Pixels() >= target.Pixels() {
		key := "sdedit"
		if e.Scale > 0 {
			key = "sdedit.scale"
		}
		p.fail(key, "choose a larger height and width or a larger scale, or drop sdedit", "the smaller picture to begin with would have %s px, no fewer than the %s px asked for", base, target)
	}
}

// redilation resolves the layers of D and V and what disperses in them.
func (p *planner) redilation() {
	r := p.Redilation
	if r == nil {
		return
	}
	p.main = network{name: "dilated", tau: r.Tau, decay: r.Decay, listed: r.Listed, layers: p.resolve(r.LayerSet, "")}
	if len(p.problems) == 0 && plain(p.main.layers) {
		p.fail("factor", "choose a factor above 1, or kind = \"direct\"", "re-dilation never takes effect: every chosen layer has factor 1")
	}
	p.checkTau("tau", "re-dilation", r.Tau)
	taus := []int{r.Tau}
	if v := r.Damped; v != nil {
		p.damped = network{name: "damped", tau: v.Tau, decay: r.Decay, listed: r.Listed, layers: p.resolve(v.LayerSet, "damped.")}
		p.checkTau("damped.tau", "damping", v.Tau)
		taus = append(taus, v.Tau)
	}
	p.decay(r, taus)
	if r.Dispersion != nil {
		p.disperse(r)
	}
}

// checkTau reports a number of steps that is none or more than there are, or
// that SDEdit skips altogether.
func (p *planner) checkTau(key, what string, tau int) {
	if tau < 1 || tau > p.steps {
		p.fail(key, fmt.Sprintf("tau counts steps from the noisiest; choose 1..%d", p.steps), "is %d of %d steps, so %s cannot run as asked", tau, p.steps, what)
	} else if tau <= p.skipped() {
		p.fail(key, fmt.Sprintf("choose %d or more, or a smaller sdedit.tau", p.skipped()+1), "is %d steps, but sdedit skips the first %d steps: %s never takes effect", tau, p.skipped(), what)
	}
}

// decay checks that the factors fall as asked, and that they do.
func (p *planner) decay(r *Redilation, taus []int) {
	if r.Decay == DecayListed {
		longest := 0
		for _, tau := range taus {
			longest = max(longest, tau)
		}
		if len(r.Listed) != longest {
			p.fail("listed", fmt.Sprintf("give one share for each of the %d steps that are dilated", longest), "has %d shares for %d steps", len(r.Listed), longest)
		}
		for i, share := range r.Listed {
			if !(share >= 0 && share <= 1) {
				p.fail(fmt.Sprintf("listed[%d]", i), "1 keeps the whole factor, 0 none of it", "is %v, want a share from 0 to 1", share)
			}
		}
	} else if len(r.Listed) > 0 {
		p.fail("listed", "choose decay = \"listed\", or drop it", "never takes effect: the decay is %q", cmp.Or(r.Decay, DecayConstant))
	}
	if r.Decay == "" || r.Decay == DecayConstant || len(p.problems) > 0 {
		return
	}
	effect, active := false, false
	for _, n := range []network{p.main, p.damped} {
		for i := p.skipped(); i < n.tau; i++ {
			for _, l := range n.layers {
				f := n.factor(l, i)
				effect = effect || f != l.Factor
				active = active || !f.Plain()
			}
		}
	}
	switch {
	case !active:
		p.fail(map[bool]string{true: "listed", false: "decay"}[r.Decay == DecayListed], "keep some of it", "re-dilation never takes effect: no step keeps any of the factor")
	case effect:
	case r.Decay == DecayProgressive:
		p.fail("decay", "drop it, or choose a factor above 2 and more steps", "never takes effect: factors shrink to whole ones, 2 at the least, and none of them does")
	default:
		p.fail("decay", "drop it, or choose a larger factor or more steps", "never takes effect: every step keeps the whole factor")
	}
}

// disperse chooses the layers that each network disperses.
func (p *planner) disperse(r *Redilation) {
	d := r.Dispersion
	before := len(p.problems)
	t := d.Transform
	switch {
	case t == nil:
		p.fail("dispersion", "give it a kernel size or a file", "has no transform")
	case t.Small != 3:
		p.fail("dispersion", "solve it for kernel 3", "enlarges kernels of %dx%d; the network's are 3x3", t.Small, t.Small)
	case t.Large <= t.Small || t.Large%2 == 0:
		p.fail("dispersion", "choose 5, 7 or 9", "makes kernels of %dx%d, want an odd size above 3", t.Large, t.Large)
	case len(t.R) != t.Large*t.Large*t.Small*t.Small:
		p.fail("dispersion", "solve or import it again", "has %d numbers, want %d", len(t.R), t.Large*t.Large*t.Small*t.Small)
	}
	p.checkTau("dispersion.tau", "dispersion", d.Tau)
	networks := []*network{&p.main}
	if r.Damped != nil {
		networks = append(networks, &p.damped)
	}
	if len(d.Layers) == 0 {
		n := 0
		for _, net := range networks {
			net.disperse(t, d.Tau, func(l layer) bool { return l.depth >= d.MinDepth })
			n += len(net.dispersed)
		}
		if n == 0 && before == 0 {
			p.fail("dispersion.min_depth", "choose a smaller one", "is %d, which matches no dilated layer: dispersion never takes effect", d.MinDepth)
		}
	} else {
		chosen := map[string]bool{}
		for i, glob := range d.Layers {
			key := fmt.Sprintf("dispersion.layers[%d]", i)
			n := 0
			var inactive [2][]string
			for _, c := range p.arch.Convs {
				if !Match(glob, c.Path) {
					continue
				}
				chosen[c.Path] = true
				n++
				for j, net := range networks {
					if !net.dilates(c.Path) {
						inactive[j] = append(inactive[j], c.Path)
					}
				}
			}
			if n == 0 {
				p.fail(key, nearestLayer(glob, p.arch), "%q matches no layer", glob)
			}
			if before > 0 {
				continue // the layers are not known
			}
			for j, net := range networks {
				if paths := inactive[j]; len(paths) > 0 {
					p.fail(key, fmt.Sprintf("drop it from dispersion.layers or dilate it in the %s network; without layers each network disperses what it dilates", net.name),
						"disperses %q%s, which the %s network does not dilate: from step %d on it would run a kernel that does not fit", paths[0], others(len(paths)-1), net.name, p.skipped())
				}
			}
		}
		for _, net := range networks {
			net.disperse(t, d.Tau, func(l layer) bool { return chosen[l.Glob] })
		}
	}
	// The damped network is not evaluated from its own tau on, the dilated one is.
	if len(p.problems) == before && d.Tau > p.main.tau {
		layer := ""
		for _, l := range p.main.layers {
			if p.main.dispersed[l.Glob] {
				layer = l.Glob
				break
			}
		}
		p.fail("dispersion.tau", fmt.Sprintf("choose 1..%d", p.main.tau), "is %d steps, but the dilated network dilates %q only up to step %d: at step %d a dispersed kernel would not fit", d.Tau, layer, p.main.tau-1, p.main.tau)
	}
}

func others(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " and another layer"
	}
	return fmt.Sprintf(" and %d other layers", n)
}

// layer is a chosen convolution; Glob is its path.
type layer struct {
	LayerFactor
	depth int
}

// network is D or V over the steps. The zero one is as trained.
type network struct {
	name      string
	tau       int
	decay     Decay
	listed    []float64
	layers    []layer // in execution order
	transform *Transform
	inflate   int // steps of dispersion
	dispersed map[string]bool
}

// dilates reports whether the network dilates a layer while it is active.
func (n *network) dilates(path string) bool {
	for _, l := range n.layers {
		if l.Glob == path {
			return !l.Factor.Plain()
		}
	}
	return false
}

func (n *network) disperse(t *Transform, tau int, chosen func(layer) bool) {
	n.transform, n.inflate, n.dispersed = t, tau, map[string]bool{}
	for _, l := range n.layers {
		if !l.Factor.Plain() && chosen(l) {
			n.dispersed[l.Glob] = true
		}
	}
}

// at adds one step's factors and dispersed layers to a plan. A layer listed
// with factor 1 stays listed, as upstream's hook does; a list of nothing but
// ones is the network as trained.
func (n *network) at(step int, plan *LayerPlan) {
	if step >= n.tau || plain(n.layers) {
		return
	}
	plan.Dilation = make(map[string]Factor, len(n.layers))
	for _, l := range n.layers {
		f := n.factor(l, step)
		if step < n.inflate && n.dispersed[l.Glob] && !f.Plain() {
			if plan.Dispersion == nil {
				plan.Dispersion = map[string]*Transform{}
			}
			plan.Dispersion[l.Glob] = n.transform
			scale := float64(n.transform.Small-1) / float64(n.transform.Large-1)
			f = Factor{H: f.H * scale, W: f.W * scale}
		}
		plan.Dilation[l.Glob] = f
	}
}

func (n *network) factor(l layer, step int) Factor {
	share := 0.0
	if n.decay == DecayListed && step < len(n.listed) {
		share = n.listed[step]
	}
	return Factor{H: factorAt(n.decay, l.Factor.H, step, n.tau, share), W: factorAt(n.decay, l.Factor.W, step, n.tau, share)}
}

// factorAt is the factor of one axis at an active step, 0 <= step < tau, of a
// layer whose factor is P:
//
//	constant     P
//	progressive  max(ceil(P*((tau-step)/tau)), 2), in float64 in this order
//	linear       1 + (P-1)*(tau-step)/tau           rounded
//	cosine       1 + (P-1)*(1+cos(pi*step/tau))/2   rounded
//	listed       1 + (P-1)*listed[step]
//
// Linear and cosine start at P and would reach 1 at step tau. Past the first
// step they are rounded to multiples of 1/2 (halves up) and no further than to
// P: every distinct factor is a graph of its own, and other fractions cost more
// (1.25 convolves 2.56 times the pixels, 1.5 convolves 1.78 times).
//
// progressive raises a factor between 1 and 2 to 2, as upstream does. An axis
// whose P is 1 stays at 1.
func factorAt(decay Decay, p float64, step, tau int, listed float64) float64 {
	if p == 1 {
		return 1
	}
	switch decay {
	case DecayProgressive:
		return math.Max(math.Ceil(p*(float64(tau-step)/float64(tau))), 2)
	case DecayLinear:
		return halves(p, float64(tau-step)/float64(tau))
	case DecayCosine:
		return halves(p, (1+math.Cos(math.Pi*float64(step)/float64(tau)))/2)
	case DecayListed:
		return 1 + (p-1)*listed
	}
	return p
}

// halves is 1+(p-1)*share rounded to a multiple of 1/2 and at most p.
func halves(p, share float64) float64 {
	if share == 1 {
		return p
	}
	return math.Min(math.Floor(2*(1+(p-1)*share)+0.5)/2, p)
}

// resolve lists the chosen layers in execution order with their factors.
func (p *planner) resolve(s LayerSet, prefix string) []layer {
	fail := func(key, advice, format string, args ...any) { p.fail(prefix+key, advice, format, args...) }
	deepest := -1
	for _, c := range p.arch.Convs {
		deepest = max(deepest, c.Depth)
	}
	chosen := make(map[string]Factor)
	// choose gives a factor to the layers that match; it returns their number.
	choose := func(f Factor, match func(ConvLayer) bool) int {
		n := 0
		for _, c := range p.arch.Convs {
			if match(c) {
				chosen[c.Path] = f
				n++
			}
		}
		return n
	}
	glob := func(key, glob string, f Factor) {
		if choose(f, func(c ConvLayer) bool { return Match(glob, c.Path) }) == 0 {
			fail(key, nearestLayer(glob, p.arch), "%q matches no layer", glob)
		}
	}
	if s.Factor != (Factor{}) {
		if len(s.Layers) == 0 && choose(s.Factor, func(c ConvLayer) bool { return c.Depth >= s.MinDepth }) == 0 {
			fail("min_depth", fmt.Sprintf("choose 0..%d", max(deepest, 0)), "is %d, which matches no layer: the deepest level is %d", s.MinDepth, deepest)
		}
		for i, g := range s.Layers {
			glob(fmt.Sprintf("layers[%d]", i), g, s.Factor)
		}
	}
	for _, d := range s.ByDepth {
		if choose(d.Factor, func(c ConvLayer) bool { return c.Depth == d.Depth }) == 0 {
			fail(fmt.Sprintf("depth.%d", d.Depth), fmt.Sprintf("choose 0..%d", max(deepest, 0)), "matches no layer: the deepest level is %d", deepest)
		}
	}
	for _, o := range s.Overrides {
		glob("dilation."+QuoteKey(o.Glob), o.Glob, o.Factor)
	}
	var out []layer
	for _, c := range p.arch.Convs {
		if f, ok := chosen[c.Path]; ok {
			out = append(out, layer{LayerFactor{Glob: c.Path, Factor: f}, c.Depth})
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

// plain reports whether every factor is 1.
func plain(layers []layer) bool {
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
