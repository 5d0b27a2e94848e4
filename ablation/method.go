package ablation

import (
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

// LayerSet says which convolutions are dilated, and by how much.
//
// The layers that Layers matches (or, where Layers is empty, those at depth
// MinDepth or deeper) get Factor; then Overrides apply in order, each adding
// its layers or changing their factor. A zero Factor leaves only Overrides.
type LayerSet struct {
	Factor    Factor
	Layers    []string // globs over diffusers paths: * any text, ? one character
	MinDepth  int      // levels from the outermost that stay as trained
	Overrides []LayerFactor
}

// Redilation is ScaleCrafter's re-dilation: method D of the guidance sum and,
// with Damped, method V.
type Redilation struct {
	LayerSet
	// Tau counts sampling steps from the noisiest; D is dilated while
	// step < Tau (upstream: dilate_tau).
	Tau int
	// Progressive lets the factor shrink over the steps, never below 2.
	Progressive bool
	// Damped, when not nil, turns noise-damped guidance on.
	Damped *Damping
}

// Damping is the second, less changed network V, which gives the guidance
// sum's base term while step < Tau (upstream: ndcfg_tau).
type Damping struct {
	LayerSet
	Tau int
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
// fixed order. Settings that the kind does not have are left out.
func (m Method) Axes(steps int) []Axis {
	axes := []Axis{{Name: "kind", Text: string(m.Kind)}}
	number := func(name, text string, v float64) {
		axes = append(axes, Axis{Name: name, Text: text, Number: v, IsNum: true})
	}
	yesNo := func(name string, v bool) {
		axes = append(axes, Axis{Name: name, Text: map[bool]string{false: "no", true: "yes"}[v]})
	}
	if r := m.Redilation; r != nil {
		if f := r.Factor; f != (Factor{}) {
			number("factor", f.String(), math.Sqrt(f.H*f.W))
		}
		share := float64(r.Tau) / float64(steps)
		number("tau", strconv.Itoa(r.Tau), float64(r.Tau))
		number("tau_share", percent(share), share)
		if len(r.Layers) > 0 {
			axes = append(axes, Axis{Name: "layers", Text: strings.Join(r.Layers, " ")})
		} else {
			number("min_depth", strconv.Itoa(r.MinDepth), float64(r.MinDepth))
		}
		yesNo("progressive", r.Progressive)
		yesNo("damped", r.Damped != nil)
		yesNo("attention_scaling", m.AttentionScaling)
	}
	return axes
}

// Describe is the label of a method that was given none, for instance
// "re-dilation x2, 60% of steps".
func (m Method) Describe(steps int) string {
	if m.Label != "" {
		return m.Label
	}
	if m.Kind == Direct {
		return "direct"
	}
	if m.Kind == AttentionScaling {
		return "attention scaling"
	}
	r := m.Redilation
	var b strings.Builder
	b.WriteString("re-dilation")
	if r.Factor != (Factor{}) {
		b.WriteString(" x" + r.Factor.String())
	}
	if len(r.Overrides) > 0 {
		b.WriteString(" by layer")
	}
	b.WriteString(", " + percent(float64(r.Tau)/float64(steps)) + " of steps")
	switch {
	case len(r.Layers) > 0:
		b.WriteString(", layers " + strings.Join(r.Layers, " "))
	case r.Factor == (Factor{}):
	case r.MinDepth == 0:
		b.WriteString(", all levels")
	case r.MinDepth > 1:
		fmt.Fprintf(&b, ", levels from %d", r.MinDepth)
	}
	if r.Progressive {
		b.WriteString(", progressive")
	}
	if r.Damped != nil {
		b.WriteString(", noise-damped")
	}
	if m.AttentionScaling {
		b.WriteString(", attention scaling")
	}
	return b.String()
}

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
