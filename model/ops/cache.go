package ops

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
	"weak"

	"gorgonia.org/gorgonia"

	"scalecrafter/model/kernels"
)

// WeightCache holds weights as their kernels want them (kernels.Packing), made
// once for all machines of a network, in any goroutine. A packed weight lives as
// long as a machine that has used it. The weights must never change. What the
// budget has no room for, the kernels pack anew in each run, with the same bits,
// until there is room.
type WeightCache struct {
	Budget int // bytes; not to be changed while a machine runs

	mu   sync.Mutex
	made map[packKey]weak.Pointer[packed]
}

// freed counts the packed weights, of all caches, that were collected. It is in no
// cache, as a cleanup keeps what it points at: the cache, and the machines beside it
// that hold the weight, would never be collected.
var freed atomic.Uint64

// refusal is when the cache had no room for a weight: as long as nothing was
// freed since, there is none.
type refusal struct {
	weight *float32
	freed  uint64
	budget int
}

type packKey struct {
	at      uintptr // the weight's memory, which packed keeps from becoming another's
	size    int
	packing kernels.Packing
}

type packed struct {
	weight, data []float32
}

// get returns the packed weight; nil if there is no room for it.
func (c *WeightCache) get(p *kernels.Pool, w []float32, k kernels.Packing) *packed {
	c.mu.Lock()
	defer c.mu.Unlock() // also where packing is stopped
	key := packKey{uintptr(unsafe.Pointer(&w[0])), len(w), k}
	if h := c.made[key].Value(); h != nil {
		return h
	}
	if c.bytes()+4*k.Floats() > c.Budget {
		return nil
	}
	h := &packed{w, make([]float32, k.Floats())}
	k.Pack(p, h.data, w)
	if c.made == nil {
		c.made = map[packKey]weak.Pointer[packed]{}
	}
	c.made[key] = weak.Make(h)
	runtime.AddCleanup(h, func(struct{}) { freed.Add(1) }, struct{}{})
	return h
}

// bytes adds up what lives, and forgets what does not.
func (c *WeightCache) bytes() int {
	n := 0
	for key, h := range c.made {
		if v := h.Value(); v != nil {
			n += 4 * len(v.data)
		} else {
			delete(c.made, key)
		}
	}
	return n
}

// Bytes is what is held now.
func (c *WeightCache) Bytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes()
}

// packer is a kernel one of whose operands is a weight that can be packed.
type packer interface {
	packing() (k kernels.Packing, ok bool)
	weight() int // the operand
}

// findPackings notes the packings of the program's weights.
func (m *Machine) findPackings() {
	if m.weights == nil {
		return
	}
	weights := map[int]bool{}
	for _, l := range m.leaves {
		weights[l.val] = l.kind == weightLeaf
	}
	for i := range m.prog {
		in := &m.prog[i]
		if k, ok := in.k.(packer); ok && weights[in.src[k.weight()]] {
			if packing, ok := k.packing(); ok {
				in.packing = packing
			}
		}
	}
}

// packedWeight is the op's weight, packed; nil if there is no room for it.
func (m *Machine) packedWeight(in *instr) []float32 {
	w := m.vals[in.src[in.k.(packer).weight()]]
	if in.packed == nil || &in.packed.weight[0] != &w[0] {
		// Read before the cache is asked: what is freed in between counts.
		now := refusal{&w[0], freed.Load(), m.weights.Budget}
		if in.refused == now {
			return nil
		}
		if in.packed = m.weights.get(m.env.Pool, w, in.packing); in.packed == nil {
			in.refused = now
			return nil
		}
	}
	return in.packed.data
}

// PackedBytes is what the machine's packed weights would take in all, a weight
// that several ops pack alike counted once; seen has those counted before and
// may be nil.
func (m *Machine) PackedBytes(seen map[any]bool) int {
	if seen == nil {
		seen = map[any]bool{}
	}
	nodes := map[int]*gorgonia.Node{}
	for _, l := range m.leaves {
		nodes[l.val] = l.node
	}
	n := 0
	for i := range m.prog {
		in := &m.prog[i]
		if in.packing == (kernels.Packing{}) {
			continue
		}
		key := packKey{packing: in.packing}
		w, err := floats(nodes[in.src[in.k.(packer).weight()]].Value())
		if err != nil || len(w) == 0 {
			continue
		}
		key.at, key.size = uintptr(unsafe.Pointer(&w[0])), len(w)
		if !seen[key] {
			seen[key] = true
			n += 4 * in.packing.Floats()
		}
	}
	return n
}

// PlanWeights walks a first run, which packs weights while the cache has room,
// and a later one, which finds them packed, and returns how many bytes of packed
// weights there are and how many of the weights themselves when the two together
// are most: those of them that mapped says are given back after their last use
// (AfterLeaf). The machine may be one for its plan only, and a cache that other
// machines fill too has less room.
func (m *Machine) PlanWeights(mapped func(leaf *gorgonia.Node) bool) (packed, read int) {
	type pack struct {
		leaf    int
		packing kernels.Packing
	}
	bytes := map[int]int{} // of the leaves that count, by value
	base := map[int]int{}  // window into a leaf -> leaf
	for _, l := range m.leaves {
		if l.kind == weightLeaf && mapped(l.node) {
			bytes[l.val] = 4 * l.size
		}
	}
	made, here := map[pack]bool{}, map[int]bool{}
	now, size := 0, 0 // bytes of weights, of packed ones
	step := func(in *instr) {
		unread := -1
		if in.packing != (kernels.Packing{}) {
			unread = in.k.(packer).weight()
			key := pack{in.src[unread], in.packing}
			if !made[key] {
				unread = -1
				if n := 4 * in.packing.Floats(); size+n <= m.weights.Budget {
					made[key] = true
					size += n
				}
			}
		}
		for i, s := range in.src {
			if b, ok := base[s]; ok {
				s = b
			}
			if in.from >= 0 {
				base[in.dst] = s
			} else if i != unread && !here[s] {
				here[s] = true
				now += bytes[s]
			}
		}
		if size+now >= packed+read { // of equals the last, by when most is packed
			packed, read = size, now
		}
		for _, l := range in.last {
			if here[l] {
				delete(here, l)
				now -= bytes[l]
			}
		}
	}
	for i := range m.folded {
		step(&m.folded[i].instr)
	}
	for range 2 {
		for i := range m.prog {
			step(&m.prog[i])
		}
	}
	return packed, read
}
