package ops

import "sort"

// planner gives every intermediate value a place in one arena so that values
// that are never alive together share memory.
type planner struct {
	stores []store
	of     map[int]int // value -> store; leaves have none, -1
	offset map[int]int // value -> where it begins in its store, for windows
	last   map[int]int // store -> last instruction that touches it
	sum    int
}

type store struct {
	size   int
	offset int
	placed bool
}

// blockFloats keeps every value on a 64-byte boundary.
const blockFloats = 16

func newPlanner() planner {
	return planner{of: map[int]int{}, offset: map[int]int{}, last: map[int]int{}}
}

func (p *planner) leaf(v int) { p.of[v] = -1 }

func (p *planner) fresh(v, n int) {
	n = (n + blockFloats - 1) / blockFloats * blockFloats
	p.of[v] = len(p.stores)
	p.stores = append(p.stores, store{size: n})
	p.sum += n
}

// alias makes v a window into base: they share one store and its lifetime.
func (p *planner) alias(v, base, offset int) {
	p.of[v] = p.of[base]
	p.offset[v] = p.offset[base] + offset
}

func (p *planner) use(v, at int) {
	if s := p.of[v]; s >= 0 && at >= p.last[s] {
		p.last[s] = at
	}
}

// layOut walks the program, giving each store an offset when it is first
// written and its room back after its last use, and returns the arena's size
// in floats.
func (p *planner) layOut(prog []instr) int {
	ending := map[int][]int{}
	for s, at := range p.last {
		ending[at] = append(ending[at], s)
	}
	var f freeList
	moved := map[int]bool{} // stores whose room another took over
	for i, in := range prog {
		s := p.of[in.dst]
		if _, isAlias := in.k.(aliaser); !isAlias && s >= 0 && !p.stores[s].placed {
			if from := p.reusable(in, i); from >= 0 {
				p.stores[s].offset, p.stores[s].placed = p.stores[from].offset, true
				moved[from] = true
			} else {
				p.stores[s].offset, p.stores[s].placed = f.take(p.stores[s].size), true
			}
		}
		ends := ending[i]
		sort.Ints(ends)
		for _, e := range ends {
			if p.stores[e].placed && !moved[e] {
				f.give(p.stores[e].offset, p.stores[e].size)
			}
		}
	}
	return f.end
}

// reusable is an operand's store that the result may be written over: the op
// allows it, the operand dies here, is as large and begins where its store
// does (else the result would lie shifted over it, and threads would overwrite
// what others have yet to read), and no other operand lies in it. -1 if there
// is none.
func (p *planner) reusable(in instr, at int) int {
	ip, ok := in.k.(inPlacer)
	if !ok {
		return -1
	}
	for _, i := range ip.inPlace() {
		s := p.of[in.src[i]]
		if s < 0 || p.offset[in.src[i]] != 0 || p.last[s] != at || p.stores[s].size != p.stores[p.of[in.dst]].size || !p.stores[s].placed {
			continue
		}
		shared := false
		for j, other := range in.src {
			shared = shared || (j != i && p.of[other] == s)
		}
		if !shared {
			return s
		}
	}
	return -1
}

// place is where a value lies, for values that are not leaves.
func (p *planner) place(v int) (offset int, ok bool) {
	s := p.of[v]
	if s < 0 || !p.stores[s].placed {
		return 0, false
	}
	return p.stores[s].offset, true
}

// freeList is a sorted list of free spans below end; the arena grows at end.
type freeList struct {
	spans []span
	end   int
}

type span struct{ at, n int }

// take finds the smallest free span that fits.
func (f *freeList) take(n int) int {
	best := -1
	for i, s := range f.spans {
		if s.n >= n && (best < 0 || s.n < f.spans[best].n) {
			best = i
		}
	}
	if best >= 0 {
		at := f.spans[best].at
		if f.spans[best].n == n {
			f.spans = append(f.spans[:best], f.spans[best+1:]...)
		} else {
			f.spans[best].at += n
			f.spans[best].n -= n
		}
		return at
	}
	// A free span at the very end only needs to grow by what is missing.
	if l := len(f.spans); l > 0 && f.spans[l-1].at+f.spans[l-1].n == f.end {
		at := f.spans[l-1].at
		f.spans = f.spans[:l-1]
		f.end = at + n
		return at
	}
	at := f.end
	f.end += n
	return at
}

func (f *freeList) give(at, n int) {
	i := sort.Search(len(f.spans), func(i int) bool { return f.spans[i].at > at })
	f.spans = append(f.spans, span{})
	copy(f.spans[i+1:], f.spans[i:])
	f.spans[i] = span{at, n}
	if i+1 < len(f.spans) && at+n == f.spans[i+1].at {
		f.spans[i].n += f.spans[i+1].n
		f.spans = append(f.spans[:i+1], f.spans[i+2:]...)
	}
	if i > 0 && f.spans[i-1].at+f.spans[i-1].n == at {
		f.spans[i-1].n += f.spans[i].n
		f.spans = append(f.spans[:i], f.spans[i+1:]...)
	}
}
