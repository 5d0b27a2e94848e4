package configs

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"scalecrafter/ablation"
)

// defaultMinDepth: outermost-level convolutions stay as
// trained unless asked for, as in every published setting of ScaleCrafter.
const defaultMinDepth = 1

// redilationKeys have no meaning in the other kinds.
var redilationKeys = []string{
	"schedule", "axis", "factor", "tau", "tau_share", "layers", "min_depth", "depth", "dilation", "decay", "progressive", "listed",
	"attention_scaling", "damped", "dispersion",
}

// redilation is the reader of kind "redilation". Where a schedule is named, what
// the method does not give is the schedule's.
type redilation struct {
	*ablation.Redilation
	c      *Config
	t      *table
	places map[string]place
	scale  float64 // the method's guidance scale

	from *Schedule          // nil: none, or the derived rule
	base *ablation.LayerSet // its layers; nil: neither a schedule nor the rule
}

func (c *Config) readRedilation(t *table, places map[string]place, scale float64) *ablation.Redilation {
	r := &redilation{Redilation: &ablation.Redilation{}, c: c, t: t, places: places, scale: scale}
	if !r.schedule() {
		for _, key := range redilationKeys { // not to be judged without it
			t.take(key)
		}
		return nil
	}
	r.axis()
	if r.Rule != nil {
		const advice = "levels from the outermost that stay as trained; 1 in published settings"
		r.Rule.MinDepth = readRuleDepth(t, advice, defaultMinDepth, t.varies("schedule"))
	}
	r.LayerSet = readLayers(t, ablation.LayerSet{}, r.base)
	r.Tau = c.readTau(t, tauFrom{steps: r.Tau, optional: r.base != nil, quiet: true})
	if r.from != nil && r.Tau == 0 {
		r.from.zero("tau", "tau_share = 0.6", "re-dilation", c.reader)
	}
	r.noteTau("", t)
	if decay, listed := readDecay(t, r.base != nil); decay != "" {
		r.Decay, r.Listed = decay, listed
		for _, key := range []string{"listed", "progressive", "decay"} {
			if t.r.given(t.where(key)) { // not a default
				places["decay"] = place{t.r, t.where(key)}
			}
		}
	}
	r.damped()
	r.dispersion()
	return r.Redilation
}

// schedule reads the schedule's name and takes its settings; false after an
// error.
func (r *redilation) schedule() bool {
	t := r.t
	if !t.has("schedule") {
		t.take("schedule")
		return true
	}
	name := t.text("schedule", "")
	if name == derived {
		r.Rule, r.Schedule = &ablation.Rule{}, derived
		r.base = &ablation.LayerSet{}
	} else {
		if _, isText := t.m["schedule"].(string); isText {
			r.from = r.c.schedule(t, name)
		}
		if r.from == nil {
			return false
		}
		*r.Redilation = r.from.scaled(r.c.Sample.Steps)
		layers := r.LayerSet
		r.base = &layers
	}
	for _, key := range scheduleKeys {
		r.places[key] = place{t.r, t.where("schedule")}
		if r.from != nil && r.from.reader.has(r.from.at(key)) {
			r.places[key] = place{r.from.reader, r.from.at(key)}
		}
	}
	r.own("", t)
	return true
}

// own notes the places of what the method gives beside a schedule.
func (r *redilation) own(prefix string, t *table) {
	for _, key := range sortedKeys(t.m) {
		if r.base == nil || contains(nested, key) {
			continue
		}
		if inner, ok := t.m[key].(map[string]any); ok {
			for k := range inner {
				k = ablation.QuoteKey(k)
				r.places[prefix+key+"."+k] = place{t.r, t.where(key) + "." + k}
			}
			continue
		}
		r.places[prefix+key] = place{t.r, t.where(key)}
	}
}

// noteTau notes the place of a tau that is given as a share.
func (r *redilation) noteTau(prefix string, t *table) {
	if t.has("tau_share") {
		r.places[prefix+"tau"] = place{t.r, t.where("tau_share")}
	}
}

func (r *redilation) axis() {
	t, axes := r.t, []string{"isotropic", "separate"}
	switch {
	case r.Rule != nil && (t.has("axis") || !t.varies("schedule")):
		r.Rule.Separate = t.choice("axis", axes[0], axes) == axes[1]
	case t.has("axis") && !t.varies("schedule"):
		t.fail("axis", "write schedule = \"derived\", or give factors as [rows, columns]", "never takes effect: only the derived schedule asks for it")
		t.take("axis")
	default:
		t.take("axis")
	}
}

// inheritsTau is where the tau of a section is taken from if it gives none: the
// schedule's section, else the method's own tau.
func (r *redilation) inheritsTau(schedules bool, tau int) tauFrom {
	if !schedules {
		tau = r.Tau
	}
	return tauFrom{steps: tau, optional: true, quiet: r.base != nil || r.t.varies("tau", "tau_share")}
}

func (r *redilation) damped() {
	t := r.t
	v, off := t.optional("damped")
	switch {
	case off:
		r.Damped = nil
		if r.Rule != nil {
			r.Rule.NoDamped = true
		}
	case v != nil:
		r.own("damped.", v)
		r.noteTau("damped.", v)
		v.quietIf("factor", t.varies("factor", "schedule"))
		old, base := 0, (*ablation.LayerSet)(nil)
		switch {
		case r.Rule != nil:
			const advice = "levels from the outermost that the damped network leaves as trained; 2 in published settings"
			r.Rule.DampedMinDepth = readRuleDepth(v, advice, 0, true)
			base = &ablation.LayerSet{}
		case r.Damped != nil:
			old, base = r.Damped.Tau, &r.Damped.LayerSet
		}
		set := readLayers(v, r.LayerSet, base)
		r.Damped = &ablation.Damping{LayerSet: set, Tau: r.c.readTau(v, r.inheritsTau(r.Damped != nil, old))}
		v.done()
	}
	if r.Damped == nil {
		return
	}
	if r.Damped.Tau == 0 && r.from != nil {
		r.from.zero("damped.tau", "tau_share in [method.damped], or damped = false", "noise-damped guidance", r.c.reader)
	}
	if r.scale <= 1 {
		key, at := "damped", "sample.guidance_scale"
		if v == nil {
			key = "schedule"
		}
		if t.has("guidance_scale") {
			at = "guidance_scale"
		}
		t.fail(key, fmt.Sprintf("write damped = false, or raise %s above 1", at), "never takes effect: guidance is off (%s is %v)", at, r.scale)
	}
}

func (r *redilation) dispersion() {
	d, off := r.t.optional("dispersion")
	switch {
	case off:
		r.Dispersion = nil
	case d != nil:
		r.own("dispersion.", d)
		r.noteTau("dispersion.", d)
		old := r.Dispersion
		r.Dispersion = readDispersion(d, old)
		r.Dispersion.Tau = r.c.readTau(d, r.inheritsTau(old != nil, r.Dispersion.Tau))
		d.done()
	}
	if r.Dispersion == nil {
		return
	}
	if r.Dispersion.Tau == 0 && r.from != nil {
		r.from.zero("dispersion.tau", "tau_share in [method.dispersion], or dispersion = false", "dispersion", r.c.reader)
	}
	r.c.useTransform(r.Dispersion)
}

// readLayers reads which layers are dilated by what; inherit has the factor where
// none is given, or nothing. base, when not nil, is a schedule's layers:
// without a factor the method adds to them or changes them.
func readLayers(t *table, inherit ablation.LayerSet, base *ablation.LayerSet) ablation.LayerSet {
	var s ablation.LayerSet
	given := t.has("factor")
	s.Factor, s.Ratio = t.ratioOrFactor("factor")
	if t.has("layers") {
		s.Layers = readGlobs(t)
	} else {
		t.take("layers")
	}
	if t.has("layers") && t.has("min_depth") {
		t.fail("min_depth", "keep either layers or min_depth", "is given beside layers")
	}
	s.ByDepth = readDepths(t)
	if d := t.sub("dilation"); d != nil {
		keys := d.inOrder()
		for _, glob := range keys {
			checkGlob(t.r.failKey, d.where(glob), glob)
			f, _ := d.factor(glob)
			s.Overrides = append(s.Overrides, ablation.LayerFactor{Glob: glob, Factor: f})
		}
		if len(keys) == 0 {
			t.fail("dilation", "add \"mid_block.*\" = 2, or drop the table", "is empty, want one glob or more")
		}
	}
	own := anyOf(t, "dilation", "depth")
	if f := inherit.Factor; !given && base == nil && (f != (ablation.Factor{}) || inherit.Ratio != ablation.NoRatio) {
		s.Factor, s.Ratio = f, inherit.Ratio
		given = true
		switch {
		case t.quiet["factor"]:
		case inherit.Ratio != ablation.NoRatio:
			t.m["factor"] = string(inherit.Ratio)
		case f.H == f.W:
			t.m["factor"] = f.H
		default:
			t.m["factor"] = []any{f.H, f.W}
		}
	}
	if key := "min_depth"; base != nil && !given && (t.has("layers") || t.has(key) && !t.ruled) {
		if t.has("layers") {
			key = "layers"
		}
		t.fail(key, "add factor = 2, which replaces the schedule's factors, or change single ones by dilation or depth", "is given beside a schedule, which has layers and factors of its own")
	}
	if base == nil && !given && (!own || anyOf(t, "layers", "min_depth")) {
		t.missing("factor", "a number or two", "add factor = 2, or factors by layer in a dilation table")
	}
	if !t.has("layers") && given {
		s.MinDepth = t.integer("min_depth", defaultMinDepth, 0, 16, "levels from the outermost that stay as trained; 0 dilates all")
	} else {
		t.take("min_depth")
	}
	if base != nil && !given {
		s = extend(*base, s)
	}
	return s
}

// readRuleDepth reads min_depth where the derived rule gives the factors; quiet
// keeps its default out of the resolved file. Beside a factor it is readLayers'.
func readRuleDepth(t *table, advice string, def int, quiet bool) int {
	if anyOf(t, "factor", "layers") || quiet && !t.has("min_depth") {
		return def
	}
	t.ruled = true
	return t.integer("min_depth", def, 0, 16, advice)
}

// extend is a schedule's layers with the method's own factors after them; a
// level or glob that the method gives too is the method's.
func extend(base, own ablation.LayerSet) ablation.LayerSet {
	out := base
	out.ByDepth, out.Overrides = nil, nil
	for _, d := range base.ByDepth {
		again := false
		for _, o := range own.ByDepth {
			again = again || o.Depth == d.Depth
		}
		if !again {
			out.ByDepth = append(out.ByDepth, d)
		}
	}
	for _, l := range base.Overrides {
		again := false
		for _, o := range own.Overrides {
			again = again || o.Glob == l.Glob
		}
		if !again {
			out.Overrides = append(out.Overrides, l)
		}
	}
	out.ByDepth = append(out.ByDepth, own.ByDepth...)
	out.Overrides = append(out.Overrides, own.Overrides...)
	return out
}

// readDepths reads factors by level, depth = { 1 = 2, 2 = 3 }, outermost first.
func readDepths(t *table) []ablation.DepthFactor {
	d := t.sub("depth")
	if d == nil {
		return nil
	}
	var out []ablation.DepthFactor
	for _, key := range sortedKeys(d.m) {
		n, err := strconv.Atoi(key)
		if err != nil || n < 0 || n > 16 || strconv.Itoa(n) != key {
			d.take(key)
			t.r.failKey(d.where(key), "0 is the outermost level: depth = { 1 = 2, 2 = 3 }", "want a level from 0 to 16")
			continue
		}
		f, _ := d.factor(key)
		out = append(out, ablation.DepthFactor{Depth: n, Factor: f})
	}
	if len(d.m) == 0 {
		t.fail("depth", "add 1 = 2, or drop the table", "is empty, want one level or more")
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Depth < out[j].Depth })
	return out
}

func checkGlob(fail func(path, advice, format string, args ...any), path, glob string) {
	if glob == "" || strings.Trim(glob, "abcdefghijklmnopqrstuvwxyz0123456789_.*?") != "" {
		fail(path, "layer paths look like \"down_blocks.1.resnets.0.conv1\"; * stands for any text", "is %q, want lower-case letters, digits, _, ., * and ?", glob)
	}
}

// tauFrom is what a tau is where a table gives none.
type tauFrom struct {
	steps    int  // 0: nothing is known
	optional bool // giving none is no error
	quiet    bool // the default must not be kept
}

// readTau reads tau (steps) or tau_share (a share of the steps).
func (c *Config) readTau(t *table, from tauFrom) int {
	steps := c.Sample.Steps
	hasTau, hasShare := t.has("tau"), t.has("tau_share")
	switch {
	case hasTau && hasShare:
		t.take("tau_share")
		t.take("tau")
		t.fail("tau", "keep either tau (steps) or tau_share (0..1)", "is given beside tau_share")
	case hasTau:
		t.take("tau_share")
		v, _ := t.take("tau")
		advice := fmt.Sprintf("tau counts sampling steps from the noisiest; choose 1..%d", steps)
		n, ok := v.(int64)
		switch {
		case ok && n > int64(steps):
			t.fail("tau", advice, "is %d, above sample.steps (%d)", n, steps)
		case !ok || n < 1:
			t.fail("tau", advice, "is %s, want an integer from 1 to %d", show(v), steps)
		default:
			return int(n)
		}
	case hasShare:
		t.take("tau")
		share := t.number("tau_share", 1, 0, 1, "the share of the steps, counted from the noisiest, that are dilated")
		n := ablation.TauSteps(share, steps)
		if n < 1 && len(t.r.errs) == 0 {
			t.fail("tau_share", fmt.Sprintf("choose %s or more, or kind = \"direct\"", tomlFloat(1/float64(steps))), "is %v of %d steps, which is no step: it never takes effect", share, steps)
		}
		return n
	case from.steps > 0 || from.optional:
		t.take("tau_share")
		t.take("tau")
		if from.steps > 0 && !from.quiet {
			t.m["tau"] = int64(from.steps)
		}
		return from.steps
	default:
		t.take("tau_share")
		t.take("tau")
		t.missing("tau_share", "a share of the steps from 0 to 1", "add tau_share = 0.6, or tau in steps")
	}
	return steps
}

// readDecay reads decay, its short form progressive and listed. Under a
// schedule an absent decay is "".
func readDecay(t *table, inherits bool) (ablation.Decay, []float64) {
	decays := make([]string, len(ablation.Decays))
	for i, d := range ablation.Decays {
		decays[i] = string(d)
	}
	listed := t.shares("listed")
	hasDecay, hasProgressive := t.has("decay"), t.has("progressive")
	switch {
	case hasDecay && hasProgressive:
		t.take("decay")
		t.take("progressive")
		t.fail("progressive", "keep either; progressive = true is short for decay = \"progressive\"", "is given beside decay")
		return "", listed
	case hasProgressive:
		t.take("decay")
		if t.boolean("progressive", false, "true lets factors shrink over the steps, never below 2") {
			return ablation.DecayProgressive, listed
		}
		return ablation.DecayConstant, listed
	case hasDecay:
		t.take("progressive")
		return ablation.Decay(t.choice("decay", "constant", decays)), listed
	}
	t.take("decay")
	t.take("progressive")
	switch {
	case listed != nil:
		if _, varies := t.alias["listed"]; !varies {
			fill(t, "decay", string(ablation.DecayListed))
		}
		return ablation.DecayListed, listed
	case inherits:
		return "", nil
	}
	return ablation.Decay(fill(t, "decay", string(ablation.DecayConstant))), nil
}

// dispersionKeys are those of the solver.
var dispersionKeys = []string{"kernel", "scale", "input", "eta", "dc"}

// readDispersion reads everything but tau; base, when not nil, gives what the
// table does not.
func readDispersion(t *table, base *ablation.Dispersion) *ablation.Dispersion {
	d := &ablation.Dispersion{}
	if base != nil {
		*d = *base
		t.noFill = true // the rest is the schedule's
		defer func() { t.noFill = false }()
	}
	transform := t.has("transform")
	solver := anyOf(t, dispersionKeys...)
	switch {
	case transform:
		d.File, d.Spec = t.text("transform", ""), nil
		if _, isText := t.m["transform"].(string); isText && d.File == "" {
			t.fail("transform", "name a .safetensors or .mat file, or one of "+knownTransforms(), "is empty")
		}
		for _, k := range ablation.KnownDispersions {
			if d.File == k.Name {
				spec := k.DispersionSpec
				d.File, d.Spec = "", &spec
			}
		}
		for _, key := range dispersionKeys {
			if _, ok := t.take(key); ok {
				t.fail(key, "keep either transform or the solver's settings ("+strings.Join(dispersionKeys, ", ")+")", "never takes effect beside transform")
			}
		}
	case !solver && base != nil && base.Spec == nil:
		for _, key := range dispersionKeys {
			t.take(key)
		}
	default:
		t.take("transform")
		spec := ablation.DispersionSpec{Small: 3, Large: 5, Input: ablation.DefaultDispersionInput, Eta: ablation.DefaultDispersionEta}
		if base != nil && base.Spec != nil {
			spec = *base.Spec
		}
		scale := spec.Scale
		if k := t.integer("kernel", spec.Large, 5, maxKernel, "3x3 kernels are enlarged to 5, 7 or 9"); k%2 == 0 {
			t.fail("kernel", fmt.Sprintf("choose %d or %d", max(k-1, 5), k+1), "is %d, want an odd number: a kernel has a centre", k)
		} else {
			if spec.Large != k {
				scale = 0
			}
			spec.Large = k
		}
		if scale == 0 {
			scale = (spec.Large - 1) / 2
		}
		const scaleAdvice = "how far the feature is stretched; (kernel-1)/2 keeps the extent"
		if _, varies := t.alias["kernel"]; varies && !t.has("scale") {
			t.take("scale")
			spec.Scale = scale
		} else {
			spec.Scale = t.integer("scale", scale, 1, 8, scaleAdvice)
		}
		spec.Input = t.integer("input", spec.Input, 2, 16, "the side of the feature that the equations are set up on; upstream takes 3")
		spec.Eta = t.number("eta", spec.Eta, 0, 1000, "the weight of the pixel equations; upstream takes 0.05")
		spec.DC = t.boolean("dc", spec.DC, "true keeps the response to constant features")
		d.File, d.Spec = "", &spec
	}
	if t.has("layers") && t.has("min_depth") {
		t.fail("min_depth", "keep either layers or min_depth", "is given beside layers")
	}
	switch {
	case t.has("layers"):
		d.MinDepth = 0
		t.take("min_depth")
		d.Layers = readGlobs(t)
	case t.has("min_depth") || base == nil:
		t.take("layers")
		d.Layers = nil
		d.MinDepth = t.integer("min_depth", 0, 0, 16, "each network disperses the layers that it dilates from this level on; 0: all of them")
	default:
		t.take("layers")
		t.take("min_depth")
	}
	return d
}

// maxKernel bounds dispersed kernels; published ones are 5x5.
const maxKernel = 15

func knownTransforms() string {
	var names []string
	for _, k := range ablation.KnownDispersions {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

// readGlobs reads layers, which is there.
func readGlobs(t *table) []string {
	globs := t.texts("layers", "down_blocks.*")
	if globs != nil && len(globs) == 0 {
		t.fail("layers", "write layers = [\"down_blocks.*\", ...], or use min_depth", "is empty, want one glob or more")
	}
	for i, glob := range globs {
		checkGlob(t.r.fail, element(t.where("layers"), i), glob)
	}
	return globs
}
