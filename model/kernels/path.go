// Package kernels holds the float32 loops under the networks: convolution, matrix products, normalisation, attention and the
// rest, forward and backward, on plain row-major slices. It knows no layers, no graphs and no settings. Every function splits
// its outputs over the threads of a Pool and never a sum, so results do not depend on the number of threads; those of one image
// do not depend on the batch either. Misuse (a slice too short, an impossible shape) panics with the prefix "kernels: ".
package kernels

import (
	"fmt"
	"os"
)

// kind selects the micro-kernel. It is switched on directly: a call through a function value would move every tile to the heap.
type kind int

const (
	portable kind = iota
	avx2
)

// engine is one numeric identity: a micro-kernel, the tile that it works on, and the blocking that fixes the order of sums.
// Everything else in the package asks the engine for the tile's shape and never assumes one.
type engine struct {
	name string
	kind kind
	// mr is the number of rows that the micro-kernel holds in registers; work is split over rows in multiples of it.
	mr int
	// vec is the length of one group of neighbouring columns; a tile has two groups.
	vec int
	// kc is the longest run of a sum that is accumulated in registers. It decides the rounding, so it never depends on
	// the batch or on the number of threads.
	kc int
}

var portableEngine = engine{name: "portable", kind: portable, mr: 2, vec: 4, kc: 256}

// active is the engine in use. It is set once at start; only tests change it.
var active, pathError = choose(os.Getenv("SCALECRAFTER_KERNELS"))

// choose returns the engine of the given name, or the best one of this machine when the name is empty. An engine that the
// machine lacks is replaced by the best one, with an error that says so.
func choose(name string) (*engine, error) {
	have := engines()
	best := have[len(have)-1]
	if name == "" {
		return best, nil
	}
	for _, e := range have {
		if e.name == name {
			return e, nil
		}
	}
	names := ""
	for i, e := range have {
		if i > 0 {
			names += ", "
		}
		names += e.name
	}
	return best, fmt.Errorf("SCALECRAFTER_KERNELS is %q, which this machine or build does not have: %s is used; choose one of %s, or leave it unset", name, best.name, names)
}

// Path returns the name of the kernels in use: "avx512", "avx2" or "portable". Each is its own numeric identity: results
// differ between paths in the last bits, and never within one.
func Path() string { return active.name }

// PathError returns why the path asked for by SCALECRAFTER_KERNELS is not the one in use, or nil.
func PathError() error { return pathError }
