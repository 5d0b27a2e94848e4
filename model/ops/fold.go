package ops

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// Constants holds results of ops that depend on weights and kept leaves alone,
// between runs and for all machines that share it: in a U-Net the keys and
// values of the cross-attentions, which change with the prompts and not with
// the steps. A result is known by its op with all its settings, by the memory
// of the weights and by the versions of the kept leaves, so machines share
// what is the same and nothing else. Like an Arena it belongs to machines that
// never run at the same time.
type Constants struct {
	// Budget is the most bytes held. A machine leaves what exceeds it in its
	// program; results not used for longest make room for new ones.
	Budget int

	made  map[digest]*constant
	bytes int
	tick  int // of runs
}

// constant is one result. It holds the weights that it was made of, so that
// their addresses cannot become another's.
type constant struct {
	key  digest
	data []float32 // nil once dropped
	of   []identity
	used int
}

// digest is a SHA-256, so that what has equal ones is equal.
type digest [sha256.Size]byte

// folded is an op outside the program, whose result a Constants holds.
type folded struct {
	instr
	key  digest // of the op and its operands
	deps []int  // indexes into Machine.leaves
	held *constant
}

// identity says which numbers a leaf has: a weight's by where they lie, a kept
// leaf's by their version.
type identity struct {
	at      *float32
	size    int
	version uint64
}

func (m *Machine) identity(l *leaf) identity {
	if l.kind == keptLeaf {
		return identity{size: l.size, version: l.version}
	}
	return identity{at: &m.vals[l.val][0], size: l.size}
}

// Bytes is what is held now.
func (c *Constants) Bytes() int { return c.bytes }

// Forget drops the results that depend on a kept leaf of that version.
func (c *Constants) Forget(version uint64) {
	for _, h := range c.made {
		for _, id := range h.of {
			if id.at == nil && id.version == version {
				c.drop(h)
				break
			}
		}
	}
}

func (c *Constants) drop(h *constant) {
	delete(c.made, h.key)
	c.bytes -= 4 * len(h.data)
	h.data, h.of = nil, nil
}

// describeFolded writes the keys of folded ops and lists the leaves that they
// depend on, each once: an op is told by its settings and by what its operands
// are, leaves by their place in that list. What is equal has equal keys, in all
// machines, as the list's order follows from the ops alone.
func (m *Machine) describeFolded() {
	leafAt := map[int]int{}
	for i, l := range m.leaves {
		leafAt[l.val] = i
	}
	foldedAt := map[int]int{}
	for i := range m.folded {
		f := &m.folded[i]
		foldedAt[f.dst] = i
		dep := func(leaf int) int {
			at := slices.Index(f.deps, leaf)
			if at < 0 {
				at = len(f.deps)
				f.deps = append(f.deps, leaf)
			}
			return at
		}
		h := sha256.New()
		op := fmt.Sprintf("%T%+v", f.k, f.k)
		fmt.Fprintf(h, "%d %s", len(op), op)
		for _, s := range f.src {
			j, ok := foldedAt[s]
			if !ok {
				fmt.Fprintf(h, " leaf %d", dep(leafAt[s]))
				continue
			}
			fmt.Fprintf(h, " op %x", m.folded[j].key)
			for _, d := range m.folded[j].deps {
				fmt.Fprintf(h, " %d", dep(d))
			}
		}
		f.key = digest(h.Sum(nil))
	}
}

// ConstantBytes is what the machine wants held in Constants.
func (m *Machine) ConstantBytes() int {
	n := 0
	for i := range m.folded {
		if m.folded[i].from < 0 {
			n += 4 * m.folded[i].size
		}
	}
	return n
}

// fold finds or computes the values of folded ops.
func (m *Machine) fold(ctx context.Context) error {
	if len(m.folded) == 0 {
		return nil
	}
	for i := range m.leaves {
		if l := &m.leaves[i]; l.kind == keptLeaf && l.version == 0 {
			return fmt.Errorf("input %q has no version: say which content it has with SetVersion", l.node.Name())
		}
	}
	c := m.constants
	c.tick++
	for i := range m.folded {
		f := &m.folded[i]
		if f.from >= 0 {
			m.step(&f.instr, nil)
			continue
		}
		if f.held == nil || f.held.data == nil || !m.current(f) {
			key := m.keyNow(f)
			if f.held = c.made[key]; f.held == nil {
				if err := ctx.Err(); err != nil {
					return err
				}
				f.held = m.compute(f, key)
			}
		}
		f.held.used = c.tick
		m.vals[f.dst] = f.held.data
	}
	return nil
}

// current reports whether the result that f holds is of the leaves as they are.
func (m *Machine) current(f *folded) bool {
	for i, d := range f.deps {
		if f.held.of[i] != m.identity(&m.leaves[d]) {
			return false
		}
	}
	return true
}

// keyNow is the key of the op on the leaves as they are.
func (m *Machine) keyNow(f *folded) digest {
	h := sha256.New()
	h.Write(f.key[:])
	for _, d := range f.deps {
		id := m.identity(&m.leaves[d])
		fmt.Fprintf(h, " %p %d %d", id.at, id.size, id.version)
	}
	return digest(h.Sum(nil))
}

// compute makes a result and keeps it, if it comes to that.
func (m *Machine) compute(f *folded, key digest) *constant {
	h := &constant{key: key, data: make([]float32, f.size), used: m.constants.tick}
	for _, d := range f.deps {
		h.of = append(h.of, m.identity(&m.leaves[d]))
	}
	m.vals[f.dst] = h.data
	start := time.Now()
	m.step(&f.instr, h.data) // may panic with Stopped
	m.took(-1, &f.instr, start)
	m.constants.keep(h)
	return h
}

// keep takes a result in and drops others until the budget holds; what this run
// uses stays, which a machine has made sure to have room for.
func (c *Constants) keep(h *constant) {
	if c.made == nil {
		c.made = map[digest]*constant{}
	}
	c.made[h.key] = h
	c.bytes += 4 * len(h.data)
	for c.bytes > c.Budget {
		var oldest *constant
		for _, o := range c.made {
			if o.used < c.tick && (oldest == nil || o.used < oldest.used) {
				oldest = o
			}
		}
		if oldest == nil {
			return
		}
		c.drop(oldest)
	}
}
