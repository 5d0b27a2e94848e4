package ops

import (
	"fmt"

	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
)

// step is a node of the program to be: a leaf (no kernel), or an op with its
// operands, which are not the node's own where ops were fused.
type step struct {
	node   *gorgonia.Node
	k      kernel
	in     []*gorgonia.Node
	folded bool // computed once, not in every run
	gone   bool // another step does it too
}

// steps turns nodes into steps, operands first: it finds what is constant and
// fuses what can be.
func (m *Machine) steps(order []*gorgonia.Node, kids map[*gorgonia.Node][]*gorgonia.Node, outputs []*gorgonia.Node, kinds map[*gorgonia.Node]leafKind) ([]step, error) {
	uses := map[*gorgonia.Node]int{}
	for _, n := range order {
		for _, c := range kids[n] {
			uses[c]++
		}
	}
	isOutput := map[*gorgonia.Node]bool{}
	for _, o := range outputs {
		uses[o]++
		isOutput[o] = true
	}
	steps := make([]step, 0, len(order))
	at := map[*gorgonia.Node]int{}
	constant := map[*gorgonia.Node]bool{} // computed once, or a leaf that is kept
	fixed := map[*gorgonia.Node]bool{}    // could be constant if there were room
	room := 0
	if m.constants != nil {
		room = m.constants.Budget
	}
	for _, n := range order {
		s := step{node: n}
		if n.Op() == nil || len(kids[n]) == 0 {
			constant[n] = m.constants != nil && kinds[n] != inputLeaf
			fixed[n] = constant[n]
		} else {
			k, err := kernelOf(n)
			if err != nil {
				return nil, err
			}
			s.k, s.in = withMath(k, m.math), kids[n]
			bytes := 4 * size(k.shape())
			if _, ok := k.(aliaser); ok {
				bytes = 0
			}
			fixed[n] = m.constants != nil && !isOutput[n]
			s.folded = fixed[n] && bytes <= room
			for _, c := range s.in {
				fixed[n] = fixed[n] && fixed[c]
				s.folded = s.folded && constant[c]
			}
			constant[n] = s.folded
			if s.folded {
				room -= bytes
			}
			if !fixed[n] {
				// What only this op reads, it may do itself.
				s.fuse(func(c *gorgonia.Node) *step {
					if i, ok := at[c]; ok && uses[c] == 1 && steps[i].k != nil && !fixed[c] {
						return &steps[i]
					}
					return nil
				})
			}
		}
		at[n] = len(steps)
		steps = append(steps, s)
	}
	left := steps[:0]
	for _, s := range steps {
		if !s.gone {
			left = append(left, s)
		}
	}
	return left, nil
}

// fuse takes the step that computes one of s's operands into s, where s only
// adds to its result, a channel's time embedding to a convolution's or a
// residual to a convolution's or a linear layer's, or is a convolution's SiLU.
// only returns the step of an
// operand that nobody else reads, nil for others.
//
// What is fused depends on the graph alone, never on sizes, so that rows have
// the same bits in any batch.
func (s *step) fuse(only func(*gorgonia.Node) *step) {
	take := func(from *step, k kernel, more ...*gorgonia.Node) {
		s.k, s.in = k, append(append([]*gorgonia.Node(nil), from.in...), more...)
		from.gone = true
	}
	switch s.k.(type) {
	case addChannel:
		if from := only(s.in[0]); from != nil {
			if k, ok := from.k.(conv2D); ok && !k.Add && !k.SiLU && !k.Residual {
				k.Add = true
				take(from, k, s.in[1])
			}
		}
	case activate:
		if from := only(s.in[0]); from != nil && s.k.(activate).Act == kernels.SiLU {
			if k, ok := from.k.(conv2D); ok && !k.SiLU && !k.Residual {
				k.SiLU = true
				take(from, k)
			}
		}
	case add:
		for i, c := range s.in {
			from := only(c)
			if from == nil || !same(s.k.shape(), from.k.shape()) {
				continue
			}
			switch k := from.k.(type) {
			case conv2D:
				if !k.Residual {
					k.Residual = true
					take(from, k, s.in[1-i])
					return
				}
			case linear:
				if !k.Residual {
					k.Residual = true
					take(from, k, s.in[1-i])
					return
				}
			}
		}
	}
}

// label is the layer that a step belongs to, for traces: the name of its weight
// without its last part, or what its operands' layers have in common.
func label(node *gorgonia.Node, kids func(*gorgonia.Node) []*gorgonia.Node, seen map[*gorgonia.Node]string) string {
	if l, ok := seen[node]; ok {
		return l
	}
	seen[node] = "" // not again on the way
	l, first := "", ""
	for _, c := range kids(node) {
		var of string
		if c.Op() == nil {
			of = parent(c.Name())
			if of == "" { // an input, not a weight
				continue
			}
			l, first = of, of
			break
		}
		if of = label(c, kids, seen); of == "" {
			continue
		}
		if first == "" {
			l, first = of, of
		} else {
			l = commonPath(l, of)
		}
	}
	if l == "" {
		l = first
	}
	seen[node] = l
	return l
}

// parent is a dotted name without its last part.
func parent(name string) string {
	for i := len(name) - 1; i > 0; i-- {
		if name[i] == '.' {
			return name[:i]
		}
	}
	return ""
}

// commonPath is the dotted parts that two names begin with.
func commonPath(a, b string) string {
	end := 0
	for i := 0; ; i++ {
		aEnds, bEnds := i == len(a), i == len(b)
		if (aEnds || a[i] == '.') && (bEnds || b[i] == '.') {
			end = i
		}
		if aEnds || bEnds || a[i] != b[i] {
			return a[:end]
		}
	}
}

// title is an op's kind and result's shape, with what was fused into it.
func title(k kernel) string {
	name := Op{k: k}.Name()
	switch k := k.(type) {
	case conv2D:
		if k.Add {
			name += "+time"
		}
		if k.Residual {
			name += "+residual"
		}
		c := k.C
		name += fmt.Sprintf(" %dx%d", c.KH, c.KW)
		if c.StrideH != 1 || c.StrideW != 1 {
			name += fmt.Sprintf(" stride %dx%d", c.StrideH, c.StrideW)
		}
		if c.DilH != 1 || c.DilW != 1 {
			name += fmt.Sprintf(" dilation %dx%d", c.DilH, c.DilW)
		}
		name += fmt.Sprintf(" of %d", c.Cin)
	case linear:
		if k.Residual {
			name += "+residual"
		}
		name += fmt.Sprintf(" of %d", k.L.K)
	case attention:
		name += fmt.Sprintf(" %d heads, %d keys", k.A.Heads, k.A.Tk)
	}
	return fmt.Sprintf("%s %v", name, k.shape())
}
