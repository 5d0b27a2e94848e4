package ablation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Settings is what all cells of an experiment share.
type Settings struct {
	Size          Size
	Steps         int
	GuidanceScale float64
	// GuidanceRescale is diffusers' guidance_rescale, 0 for off.
	GuidanceRescale float64
	Eta             float64
	Seed            uint64
	Sampler         string
	// SDEdit has Tau 0 where sampling starts from noise.
	SDEdit SDEdit
}

// Identity is everything outside the settings that decides a number.
type Identity struct {
	Weights  string // digest of the model's weights
	Features string // digest of the feature network's weights
	World    string // version of the built-in world
	Kernels  string // kernel path: each is a numeric identity of its own
	Math     string // effective arithmetic of the network with its path, "" for float32
	Protocol string // version of the way of sampling and judging
}

// Cell is one row of an experiment: a method with its plan.
type Cell struct {
	ID    string
	Label string
	// Method is resolved: a derived one holds what was derived.
	Method Method
	// Plan has every step, those that SDEdit skips too.
	Plan []StepPlan
	// NFE is the number of network evaluations per image at the size asked for.
	NFE int
	// BaseNFE is the number of those at SDEdit's smaller size (SDEdit.Base)
	// that come before; 0 without SDEdit.
	BaseNFE int
}

// BaseNFE counts the evaluations of SDEdit's smaller picture, which the network
// as trained draws in as many steps with the same guidance.
func BaseNFE(s Settings) int {
	switch {
	case s.SDEdit.Tau <= 0:
		return 0
	case s.GuidanceScale > 1:
		return 2 * s.Steps
	}
	return s.Steps
}

// CellID is the content hash of a cell, 24 hexadecimal digits. The plan enters
// as what is computed and not as how it was written, so tau = 12 and
// tau_share = 0.6 of 20 steps are one cell, and labels do not matter. The number of
// images is left out on purpose: sample i depends on the ID and on i only, so
// a longer run extends a shorter one.
func CellID(s Settings, plan []StepPlan, id Identity) string {
	h := sha256.New()
	line := func(key string, value any) { fmt.Fprintf(h, "%s=%v\n", key, value) }
	line("weights", id.Weights)
	line("features", id.Features)
	line("world", id.World)
	line("kernels", id.Kernels)
	if id.Math != "" {
		line("math", id.Math)
	}
	line("protocol", id.Protocol)
	line("height", s.Size.H)
	line("width", s.Size.W)
	line("steps", s.Steps)
	line("guidance_scale", s.GuidanceScale)
	line("guidance_rescale", s.GuidanceRescale)
	line("eta", s.Eta)
	line("seed", s.Seed)
	line("sampler", s.Sampler)
	if s.SDEdit.Tau > 0 {
		line("sdedit_tau", s.SDEdit.Tau)
		line("sdedit_scale", max(s.SDEdit.Scale, 0))
	}
	for i, p := range plan {
		if i < s.SDEdit.Tau {
			continue // not executed
		}
		line(fmt.Sprintf("step %d main", i), p.Main.Key())
		if p.Damped != nil && s.GuidanceScale > 1 {
			line(fmt.Sprintf("step %d damped", i), p.Damped.Key())
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:24]
}

// NFE counts the network evaluations per image: one a step without guidance,
// two with it, three where a damped network gives the base term. Steps that are
// not executed are not to be in plan: hand in plan[SDEdit.Tau:].
func NFE(plan []StepPlan, guidanceScale float64) int {
	n := 0
	for _, p := range plan {
		switch {
		case guidanceScale <= 1:
			n++
		case p.Damped != nil:
			n += 3
		default:
			n += 2
		}
	}
	return n
}

// Product lists every combination of one index per axis, the first axis
// varying slowest. Without axes it is one empty combination; an axis of
// length 0 makes it empty.
func Product(lengths []int) [][]int {
	total := 1
	for _, n := range lengths {
		total *= n
	}
	out := make([][]int, 0, total)
	for i := range total {
		combination := make([]int, len(lengths))
		rest := i
		for a := len(lengths) - 1; a >= 0; a-- {
			combination[a] = rest % lengths[a]
			rest /= lengths[a]
		}
		out = append(out, combination)
	}
	return out
}

// UniqueLabels gives every method the label it describes itself by; labels
// that occur twice get the method's name in front, and a number if even that
// does not tell them apart.
func UniqueLabels(methods []Method, steps int) []string {
	labels := make([]string, len(methods))
	count := map[string]int{}
	for i, m := range methods {
		labels[i] = m.Describe(steps)
		count[labels[i]]++
	}
	seen := map[string]bool{}
	for i, m := range methods {
		if count[labels[i]] > 1 {
			labels[i] = m.Name + ": " + labels[i]
		}
		label := labels[i]
		for n := 2; seen[label]; n++ {
			label = fmt.Sprintf("%s (%d)", labels[i], n)
		}
		labels[i] = label
		seen[label] = true
	}
	return labels
}
