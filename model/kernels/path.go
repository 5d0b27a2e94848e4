// Package kernels holds the float32 loops under the networks: convolution, matrix products, normalisation, attention and the
// rest, forward and backward, on plain row-major slices. It knows no layers, no graphs and no settings. Every function splits
// its outputs over the threads of a Pool and never a sum, so results do not depend on the number of threads; those of one image
// do not depend on the batch either. Misuse (a slice too short, an impossible shape) panics with the prefix "kernels: ".
package kernels

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// kind selects the micro-kernel. It is switched on directly: a call through a function value would move every tile to the heap.
type kind int

const (
	portable kind = iota
	avx2
	avx512
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
	// check, if not nil, tries the micro-kernel on this machine before it is used and returns what is wrong with it.
	check func() error
}

var portableEngine = engine{name: "portable", kind: portable, mr: 2, vec: 4, kc: 256}

// active is the engine in use. It is set once at start; only tests change it.
var active, pathError = choose(os.Getenv("SCALECRAFTER_KERNELS"))

// choose returns the engine of the given name, or the best one of this machine when the name is empty. An engine that the
// machine lacks is replaced by the best one, and one that fails its check by the next best, with an error that says so.
func choose(name string) (*engine, error) { return chooseFrom(engines(), name) }

// chooseFrom is choose among engines in ascending order, of which the first has no check.
func chooseFrom(have []*engine, name string) (*engine, error) {
	pick := len(have) - 1
	var missing error
	if name != "" {
		pick = slices.IndexFunc(have, func(e *engine) bool { return e.name == name })
		if pick < 0 {
			pick = len(have) - 1
			names := make([]string, len(have))
			for i, e := range have {
				names[i] = e.name
			}
			missing = fmt.Errorf("SCALECRAFTER_KERNELS is %q, which this machine or build does not have: choose one of %s, or leave it unset", name, strings.Join(names, ", "))
		}
	}
	var broken error
	for ; have[pick].check != nil; pick-- {
		if err := have[pick].check(); err == nil {
			break
		} else {
			broken = errors.Join(broken, fmt.Errorf("the %s kernels fail their self-check on this machine: %w: please report this; SCALECRAFTER_KERNELS=%s avoids the check", have[pick].name, err, have[pick-1].name))
		}
	}
	if err := errors.Join(missing, broken); err != nil {
		return have[pick], fmt.Errorf("%s is used: %w", have[pick].name, err)
	}
	return have[pick], nil
}

// Path returns the name of the kernels in use: "avx512", "avx2" or "portable". Each is its own numeric identity: results
// differ between paths in the last bits, and never within one.
func Path() string { return active.name }

// PathError returns why the path in use is not the one that SCALECRAFTER_KERNELS asks for, or not the best one that the
// processor claims to support, or nil.
func PathError() error { return pathError }
