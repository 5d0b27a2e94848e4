package ablation

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Kind is the family of a method.
type Kind string

// The kinds of methods. Attention scaling may also be combined with
// re-dilation (Method.AttentionScaling).
const (
	Direct           Kind = "direct"
	Redilate         Kind = "redilation"
	AttentionScaling Kind = "attention_scaling"
)

// Kinds lists every kind in the order of the documentation.
var Kinds = []Kind{Direct, Redilate, AttentionScaling}

// Size is a picture's size in pixels.
type Size struct {
	H, W int
}

// Pixels is the area.
func (s Size) Pixels() int { return s.H * s.W }

func (s Size) String() string { return fmt.Sprintf("%dx%d", s.H, s.W) }

// LayerFactor gives the layers that a glob matches their own factor.
type LayerFactor struct {
	Glob   string
	Factor Factor
}

// DepthFactor gives the layers of one resolution level their own factor.
type DepthFactor struct {
	Depth  int // 0 is the outermost
	Factor Factor
}

// Ratio is a factor that follows the picture's size.
type Ratio string

// The ratios, of height and width over those trained on; a side that is not
// enlarged counts as 1.
const (
	NoRatio   Ratio = ""
	RatioSide Ratio = "ratio"      // the larger of both, for rows and columns
	RatioAxes Ratio = "ratio_axes" // rows by the height's, columns by the width's
)

// Of is the factor at a size.
func (r Ratio) Of(train, target Size) Factor {
	h, w := math.Max(1, float64(target.H)/float64(train.H)), math.Max(1, float64(target.W)/float64(train.W))
	if r != RatioAxes {
		h, w = math.Max(h, w), math.Max(h, w)
	}
	return Factor{H: h, W: w}
}

// LayerSet says which convolutions are dilated, and by how much.
//
// The layers that Layers matches (or, where Layers is empty, those at depth
// MinDepth or deeper) get Factor; then ByDepth and then Overrides apply in
// order, each adding its layers or changing their factor. A zero Factor leaves
// only ByDepth and Overrides.
type LayerSet struct {
	Factor Factor
	// Ratio, when not empty, is what Factor shall be; see Method.Derived.
	Ratio     Ratio
	Layers    []string // globs over diffusers paths: * any text, ? one character
	MinDepth  int      // levels from the outermost that stay as trained
	ByDepth   []DepthFactor
	Overrides []LayerFactor
}

// Decay is how the factors fall over the active steps; see factorAt for the
// formulas. The empty one is DecayConstant.
type Decay string

// The decays.
const (
	DecayConstant    Decay = "constant"
	DecayProgressive Decay = "progressive" // as upstream: whole factors, never below 2
	DecayLinear      Decay = "linear"
	DecayCosine      Decay = "cosine"
	DecayListed      Decay = "listed" // by Redilation.Listed
)

// Decays lists every decay in the order of the documentation.
var Decays = []Decay{DecayConstant, DecayProgressive, DecayLinear, DecayCosine, DecayListed}

// Redilation is ScaleCrafter's re-dilation: method D of the guidance sum and,
// with Damped, method V.
type Redilation struct {
	LayerSet
	// Tau counts sampling steps from the noisiest; D is dilated while
	// step < Tau (upstream: dilate_tau).
	Tau int
	// Decay lets the factors fall over the steps.
	Decay Decay
	// Listed is, for DecayListed, the share of (factor-1) that each step below
	// Tau keeps.
	Listed []float64
	// Damped, when not nil, turns noise-damped guidance on.
	Damped *Damping
	// Dispersion, when not nil, enlarges kernels in D and V.
	Dispersion *Dispersion
	// Schedule names where the settings come from: a schedule file's name, or
	// "derived"; "" where the experiment gives them itself.
	Schedule string
	// Rule, when not nil, asks for the derived settings; see Method.Derived.
	Rule *Rule
}

// Damping is the second, less changed network V, which gives the guidance
// sum's base term while step < Tau (upstream: ndcfg_tau). Its factors decay as
// the dilated network's do, over its own Tau.
type Damping struct {
	LayerSet
	Tau int
}

// Dispersion is ScaleCrafter's dispersed convolution (section 3.3): while
// step < Tau (upstream: inflate_tau) the chosen layers run an enlarged kernel,
// in D and in V.
type Dispersion struct {
	// Layers are globs of layers that must be dispersed in D and in V alike
	// (upstream's disperse settings). Where it is empty, each network disperses
	// the layers at depth MinDepth or deeper that it dilates itself.
	Layers   []string
	MinDepth int
	Tau      int
	// Transform enlarges the kernels; every layer gets the same. Spec is how to
	// solve it, or File what to read it from: whoever plans does so first.
	Transform *Transform
	Spec      *DispersionSpec
	File      string
}

// SDEdit starts sampling from a noised, enlarged picture that the network as
// trained drew at a smaller size (upstream: sdedit_tau, sdedit_scale).
type SDEdit struct {
	// Tau is the number of steps that are not executed: sampling begins at
	// step Tau.
	Tau int
	// Scale is the height and width over the smaller picture's. 0 or less
	// takes the smaller picture of the target's shape and the training area.
	Scale float64
}

// Base is the size of the smaller picture, each side rounded to the nearest
// multiple of 8 px (halves up) and 8 px at the least.
func (s SDEdit) Base(train, target Size) Size {
	scale := s.Scale
	if scale <= 0 {
		scale = math.Sqrt(float64(target.Pixels()) / float64(train.Pixels()))
	}
	side := func(n int) int { return max(8, 8*int(math.Floor(float64(n)/scale/8+0.5))) }
	return Size{H: side(target.H), W: side(target.W)}
}

// FreeUPresets are the published FreeU settings by model (upstream's
// free_lunch parameters).
var FreeUPresets = []struct {
	Name string
	FreeU
}{
	{"sd1.5", FreeU{B1: 1.2, B2: 1.4, S1: 0.9, S2: 0.2}},
	{"sd2.1", FreeU{B1: 1.1, B2: 1.2, S1: 0.9, S2: 0.2}},
	{"sdxl", FreeU{B1: 1.1, B2: 1.2, S1: 0.6, S2: 0.4}},
}

// Method is one way of sampling above the training size, as data.
type Method struct {
	Name     string // the method's name in the TOML file; unique there
	Label    string // what a table shows; "" lets Describe choose
	Kind     Kind
	Baseline bool
	// AttentionScaling sharpens every self-attention to the token count
	// (arXiv 2306.08645), at all steps; always set for its own kind.
	AttentionScaling bool
	// Redilation is set for kind Redilate and nil otherwise.
	Redilation *Redilation
	// GuidanceScale and GuidanceRescale, when not nil, replace the experiment's.
	GuidanceScale, GuidanceRescale *float64
	// FreeU, when not nil, acts in both networks at every step.
	FreeU *FreeU
	// SDEdit, when not nil, skips the first steps.
	SDEdit *SDEdit
}

// Settings is the shared settings with the method's own in their place: what
// the method's cell is drawn with.
func (m Method) Settings(s Settings) Settings {
	if m.GuidanceScale != nil {
		s.GuidanceScale = *m.GuidanceScale
	}
	if m.GuidanceRescale != nil {
		s.GuidanceRescale = *m.GuidanceRescale
	}
	if m.SDEdit != nil {
		s.SDEdit = *m.SDEdit
	}
	return s
}

// Rule asks for the settings that Derived chooses.
type Rule struct {
	// MinDepth is the outermost level that is dilated; 1 in every published
	// setting of SD 1.5.
	MinDepth int
	// DampedMinDepth is the damped network's; 0 takes max(2, MinDepth+1).
	DampedMinDepth int
	// Separate derives rows and columns apart; otherwise both get the larger
	// side's factor, as every published setting has it.
	Separate bool
	// NoDamped keeps the rule from adding noise-damped guidance.
	NoDamped bool
}

// TauSteps is the step count that a share of the steps means, rounded to the
// nearest (halves up).
func TauSteps(share float64, steps int) int {
	return int(math.Floor(share*float64(steps) + 0.5))
}

// Axis is one setting of a method, as text and, where it is a number, as one.
type Axis struct {
	Name   string
	Text   string
	Number float64
	IsNum  bool
}

// Axes lists the method's settings by which a plot may arrange cells, in a
// fixed order, under the experiment's settings. Settings that the kind does not
// have are left out.
func (m Method) Axes(s Settings) []Axis {
	s = m.Settings(s)
	steps := s.Steps
	axes := []Axis{}
	text := func(name, text string) { axes = append(axes, Axis{Name: name, Text: text}) }
	number := func(name, text string, v float64) {
		axes = append(axes, Axis{Name: name, Text: text, Number: v, IsNum: true})
	}
	yesNo := func(name string, v bool) { text(name, map[bool]string{false: "no", true: "yes"}[v]) }
	tau := func(prefix string, n int) {
		share := float64(n) / float64(steps)
		number(prefix+"tau", strconv.Itoa(n), float64(n))
		number(prefix+"tau_share", percent(share), share)
	}
	text("kind", string(m.Kind))
	text("size", s.Size.String())
	if r := m.Redilation; r != nil {
		if r.Schedule != "" {
			text("schedule", r.Schedule)
		}
		if f := r.Factor; f != (Factor{}) {
			number("factor", f.String(), math.Sqrt(f.H*f.W))
		}
		tau("", r.Tau)
		switch {
		case len(r.Layers) > 0:
			text("layers", strings.Join(r.Layers, " "))
		case r.Factor != (Factor{}):
			number("min_depth", strconv.Itoa(r.MinDepth), float64(r.MinDepth))
		default:
			text("layers", r.LayerSet.describe())
		}
		text("decay", string(cmp.Or(r.Decay, DecayConstant)))
		yesNo("damped", r.Damped != nil)
		if v := r.Damped; v != nil {
			tau("damped_", v.Tau)
			text("damped_layers", v.LayerSet.describe())
		}
		d := r.Dispersion
		if d == nil {
			text("dispersed", "no")
		} else {
			text("dispersed", d.kernel())
			if d.Spec != nil {
				number("eta", formatFloat(d.Spec.Eta), d.Spec.Eta)
				number("input", strconv.Itoa(d.Spec.Input), float64(d.Spec.Input))
				yesNo("dc", d.Spec.DC)
			}
			tau("dispersion_", d.Tau)
		}
		yesNo("attention_scaling", m.AttentionScaling)
	}
	number("guidance_scale", formatFloat(s.GuidanceScale), s.GuidanceScale)
	number("guidance_rescale", formatFloat(s.GuidanceRescale), s.GuidanceRescale)
	freeu := "no"
	if m.FreeU != nil {
		freeu = m.FreeU.String()
	}
	text("freeu", freeu)
	number("sdedit", strconv.Itoa(s.SDEdit.Tau), float64(s.SDEdit.Tau))
	return axes
}

// Describe is the label of a method that was given none, for instance
// "re-dilation x2, 60% of steps, dispersed 5x5, noise-damped".
func (m Method) Describe(steps int) string {
	if m.Label != "" {
		return m.Label
	}
	var b strings.Builder
	switch {
	case m.Kind == AttentionScaling:
		b.WriteString("attention scaling")
	case m.Redilation == nil:
		b.WriteString("direct")
	default:
		m.Redilation.describe(&b, steps)
		if m.AttentionScaling {
			b.WriteString(", attention scaling")
		}
	}
	if m.GuidanceScale != nil {
		b.WriteString(", guidance " + formatFloat(*m.GuidanceScale))
	}
	if m.GuidanceRescale != nil {
		b.WriteString(", rescale " + formatFloat(*m.GuidanceRescale))
	}
	if m.FreeU != nil {
		b.WriteString(", FreeU " + m.FreeU.String())
	}
	if e := m.SDEdit; e != nil {
		fmt.Fprintf(&b, ", SDEdit from step %d", e.Tau)
		if e.Scale > 0 {
			b.WriteString(" of 1/" + formatFloat(e.Scale) + " size")
		}
	}
	return b.String()
}

func (r *Redilation) describe(b *strings.Builder, steps int) {
	share := func(tau int) string { return percent(float64(tau)/float64(steps)) + " of steps" }
	b.WriteString("re-dilation")
	switch {
	case r.Schedule != "":
		b.WriteString(" as " + r.Schedule)
	case r.Factor != (Factor{}):
		b.WriteString(" x" + r.Factor.String())
		if len(r.ByDepth)+len(r.Overrides) > 0 {
			b.WriteString(", " + r.describeOwn())
		}
	default:
		b.WriteString(" " + r.describeOwn())
	}
	b.WriteString(", " + share(r.Tau))
	if r.Factor != (Factor{}) && (len(r.Layers) > 0 || r.MinDepth != 1) {
		b.WriteString(", " + r.where())
	}
	switch r.Decay {
	case "", DecayConstant:
	case DecayProgressive:
		b.WriteString(", progressive")
	default:
		b.WriteString(", " + string(r.Decay) + " decay")
	}
	if d := r.Dispersion; d != nil {
		b.WriteString(", dispersed " + d.kernel())
		if s := d.Spec; s != nil {
			if s.Scale*(s.Small-1) != s.Large-1 {
				fmt.Fprintf(b, " scale %d", s.Scale)
			}
			if s.Input != DefaultDispersionInput {
				fmt.Fprintf(b, " input %d", s.Input)
			}
			if s.Eta != DefaultDispersionEta {
				b.WriteString(" eta " + formatFloat(s.Eta))
			}
			if s.DC {
				b.WriteString(" of equal gain")
			}
		}
		switch {
		case len(d.Layers) > 0:
			b.WriteString(" in " + strings.Join(d.Layers, " "))
		case d.MinDepth > 0:
			fmt.Fprintf(b, " from level %d", d.MinDepth)
		}
		if d.Tau != r.Tau {
			b.WriteString(" for " + share(d.Tau))
		}
	}
	if v := r.Damped; v != nil {
		b.WriteString(", noise-damped")
		if v.Tau != r.Tau {
			b.WriteString(" for " + share(v.Tau))
		}
		// As published, the damped network leaves one level more as trained.
		usual := len(r.Layers)+len(r.ByDepth)+len(r.Overrides) == 0 && len(v.Layers)+len(v.ByDepth)+len(v.Overrides) == 0 &&
			v.Factor == r.Factor && v.MinDepth == r.MinDepth+1
		if !usual && r.Schedule == "" {
			b.WriteString(" by " + v.LayerSet.describe())
		}
	}
}

// describe says which layers get which factor: "x2 levels from 1".
func (s LayerSet) describe() string {
	if s.Factor.Plain() && len(s.ByDepth)+len(s.Overrides) == 0 {
		return "the network as trained"
	}
	if s.Factor == (Factor{}) {
		return s.describeOwn()
	}
	text := "x" + s.Factor.String() + " " + s.where()
	if len(s.ByDepth)+len(s.Overrides) > 0 {
		text += ", " + s.describeOwn()
	}
	return text
}

// where names the layers that Factor is for.
func (s LayerSet) where() string {
	switch {
	case len(s.Layers) > 0:
		return "layers " + strings.Join(s.Layers, " ")
	case s.MinDepth == 0:
		return "all levels"
	}
	return fmt.Sprintf("levels from %d", s.MinDepth)
}

// describeOwn names the factors of single levels and layers.
func (s LayerSet) describeOwn() string {
	var parts []string
	for _, d := range s.ByDepth {
		parts = append(parts, fmt.Sprintf("level %d x%s", d.Depth, d.Factor))
	}
	if len(s.Overrides) > 3 {
		return strings.Join(append(parts, "by layer"), ", ")
	}
	for _, o := range s.Overrides {
		parts = append(parts, fmt.Sprintf("%s x%s", o.Glob, o.Factor))
	}
	return strings.Join(parts, ", ")
}

// The dispersion solver's usual settings (upstream's kernel_disperse call).
const (
	DefaultDispersionInput = 3
	DefaultDispersionEta   = 0.05
)

// kernel is the enlarged kernel's size as text.
func (d *Dispersion) kernel() string {
	switch {
	case d.Transform != nil && d.Spec == nil:
		return fmt.Sprintf("%dx%d %s", d.Transform.Large, d.Transform.Large, d.Transform.Name)
	case d.Spec != nil:
		return fmt.Sprintf("%dx%d", d.Spec.Large, d.Spec.Large)
	}
	return d.File
}

// String is a preset's name or the four numbers.
func (u FreeU) String() string {
	for _, p := range FreeUPresets {
		if p.FreeU == u {
			return p.Name
		}
	}
	return fmt.Sprintf("b %g %g s %g %g", u.B1, u.B2, u.S1, u.S2)
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// String writes an isotropic factor as one number, others as rows x columns.
func (f Factor) String() string {
	if f.H == f.W {
		return strconv.FormatFloat(f.H, 'g', -1, 64)
	}
	return strconv.FormatFloat(f.H, 'g', -1, 64) + "x" + strconv.FormatFloat(f.W, 'g', -1, 64)
}

func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1000)/10, 'g', -1, 64) + "%"
}
