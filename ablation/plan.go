// Package ablation holds what is varied: methods as data, the plan that a
// method makes for every layer and step, the grid of settings and the cells
// in it. It is pure data and mathematics: no tensors, no TOML, no files, no
// clock and no randomness.
package ablation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"sort"
	"strings"
)

// Factor is a dilation factor per axis, rows then columns. A value of 1 means
// "as trained"; it may be fractional (ScaleCrafter section 3.2: the feature is
// stretched to ceil(f)/f of its size, convolved with dilation ceil(f) and
// brought back).
type Factor struct {
	H, W float64
}

// MaxFactor bounds factors: a 3x3 kernel that spans 33 pixels is beyond every
// published setting (the largest is 4).
const MaxFactor = 16

// Plain reports whether the factor leaves the layer as it was trained.
func (f Factor) Plain() bool { return f.H == 1 && f.W == 1 }

// LayerPlan says how one network runs at one step: what differs, layer by
// layer, from the network as trained. It is immutable once built; graphs are
// compiled per plan and shared by Key.
type LayerPlan struct {
	// Dilation maps a convolution's diffusers path (for instance
	// "down_blocks.1.resnets.0.conv1") to its factor. A layer in the map is
	// run by the re-dilation rule even where the factor is 1 (on odd sizes a
	// stride-2 layer then yields floor(n/2), as upstream's hook does).
	Dilation map[string]Factor
	// AttentionRatio is the pixel count of the picture over the pixel count
	// trained on; every self-attention's logits are multiplied by
	// sqrt(ln L / ln(L/ratio)) for its L tokens (arXiv 2306.08645). 0 or 1: off.
	AttentionRatio float64
	// Dispersion maps a convolution's path to the transform that enlarges its
	// kernel. Every such layer is in Dilation too, with the factor that its
	// enlarged kernel runs at (half of the listed one for 3x3 to 5x5).
	Dispersion map[string]*Transform
	// FreeU re-weights the decoder's backbone and skips; nil: off.
	FreeU *FreeU
}

// Transform is dispersed convolution's linear map R: an enlarged kernel of
// Large x Large taps is R times the Small x Small one, both flattened
// row-major, for every pair of channels alike (ScaleCrafter section 3.3). It
// is immutable.
type Transform struct {
	// Name is what people call it: "R20to1_new", or how it was solved.
	Name         string
	Small, Large int
	R            []float64 // [Large*Large, Small*Small] row-major
}

// Key names the transform by its numbers: equal keys mean equal kernels.
func (t *Transform) Key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %d", t.Small, t.Large)
	for _, v := range t.R {
		fmt.Fprintf(h, " %x", math.Float64bits(v))
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// FreeU is FreeU as ScaleCrafter bundles it: B1 and S1 act on decoder inputs
// of the network's widest level, B2 and S2 on those of the next narrower width
// (1280 and 640 channels in SD).
type FreeU struct {
	B1, B2, S1, S2 float64
}

// Plain reports whether the plan changes nothing.
func (p *LayerPlan) Plain() bool {
	return p == nil || (len(p.Dilation) == 0 && (p.AttentionRatio == 0 || p.AttentionRatio == 1) && len(p.Dispersion) == 0 && p.FreeU == nil)
}

// Key is a canonical text of the plan: equal keys mean equal computations.
func (p *LayerPlan) Key() string {
	if p.Plain() {
		return "plain"
	}
	paths := make([]string, 0, len(p.Dilation))
	for path := range p.Dilation {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	keys := map[*Transform]string{} // a plan has few of them and many layers
	var b strings.Builder
	for _, path := range paths {
		f := p.Dilation[path]
		fmt.Fprintf(&b, "%s=%gx%g", path, f.H, f.W)
		if t := p.Dispersion[path]; t != nil {
			if keys[t] == "" {
				keys[t] = t.Key()
			}
			fmt.Fprintf(&b, "@%s", keys[t])
		}
		b.WriteByte(';')
	}
	if p.AttentionRatio != 0 && p.AttentionRatio != 1 {
		fmt.Fprintf(&b, "attn=%g;", p.AttentionRatio)
	}
	if u := p.FreeU; u != nil {
		fmt.Fprintf(&b, "freeu=%g,%g,%g,%g;", u.B1, u.B2, u.S1, u.S2)
	}
	return b.String()
}

// StepPlan is what one sampling step runs.
type StepPlan struct {
	// Main is the network of the step (ScaleCrafter's D).
	Main *LayerPlan
	// Damped, when not nil, is the network of the guidance sum's base term
	// (ScaleCrafter's V): eps = eps_V(x,0) + w (eps_D(x,c) - eps_D(x,0)).
	Damped *LayerPlan
}

// ConvLayer describes one convolution that may be re-dilated.
type ConvLayer struct {
	Path   string
	Stride int
	// Depth is the resolution level of the block that the layer belongs to: 0 is
	// the outermost. An up-sampler counts to its own block, though it sees the
	// enlarged feature, so that "depth 1 and deeper" is exactly the published
	// SD 1.5 setting for 4x pixels.
	Depth int
}

// Architecture is what a plan needs to know of a network.
type Architecture struct {
	// Convs lists the 3x3 convolutions that may be dilated, in execution order
	// (resnets, down- and up-samplers; never conv_in, conv_out or shortcuts).
	Convs []ConvLayer
	// Levels is the number of resolution levels.
	Levels int
	// SelfAttention lists the attn1 paths in execution order.
	SelfAttention []string
}
