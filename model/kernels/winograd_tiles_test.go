package kernels

import "testing"

// The tiles of one direction cover every output once, in lines that begin alike on all grids, and take no more products than tiles of
// 4 would.
func TestWinogradAxis(t *testing.T) {
	for dil := 1; dil <= 9; dil++ {
		for length := 1; length <= 70; length++ {
			x := newWinogradAxis(length, dil)
			covered, products := make([]int, length), 0
			for size := range winogradSizes {
				for line := range x.lines {
					for _, from := range x.lined(size, line, line+1) {
						if grid := int(from) - x.begin(line)*dil; grid < 0 || grid >= dil {
							t.Fatalf("length %d, dilation %d: a tile at %d is in line %d", length, dil, from, line)
						}
						products += 6 - size
						for i := range 4 - size {
							at := int(from) + i*dil
							if end := x.begin(x.lines) * dil; at >= end || line+1 < x.lines && at >= x.begin(line+1)*dil {
								t.Fatalf("length %d, dilation %d: the tile at %d leaves its line", length, dil, from)
							}
							if at < length {
								covered[at]++
							} else if size < 2 {
								t.Fatalf("length %d, dilation %d: the tile at %d hangs over the edge", length, dil, from)
							}
						}
					}
				}
			}
			for i, n := range covered {
				if n != 1 {
					t.Fatalf("length %d, dilation %d: %d tiles at %d", length, dil, n, i)
				}
			}
			if most := 6 * min(dil, length) * x.lines; products != x.products() || products > most {
				t.Fatalf("length %d, dilation %d: %d products, counted as %d, at most %d", length, dil, products, x.products(), most)
			}
		}
	}
}

// Every tile takes part in the products of its taps and in no others, whatever part of the tiles is worked on.
func TestWinogradRuns(t *testing.T) {
	for mask := range 1 << winogradClasses {
		var perImage [winogradClasses]int
		for c := range perImage {
			perImage[c] = mask >> c & 1 * (c + 1)
		}
		all := winogradBoundsOf(perImage, 2)
		tiles := all[winogradClasses]
		for _, from := range []int{0, tiles / 3} {
			b := all.clip(from, tiles/2)
			for tap := range winogradTaps {
				takes := make([]int, tiles/2)
				for _, r := range b.runs(tap) {
					for i := r[0]; i < r[1]; i++ {
						takes[i]++
					}
				}
				for i, n := range takes {
					class := 0
					for all[class+1] <= from+i {
						class++
					}
					if want := winogradTakes(class, tap); n > 1 || n == 1 != want {
						t.Fatalf("classes %b: tile %d of class %d is in %d runs of tap %d", mask, from+i, class, n, tap)
					}
				}
			}
		}
	}
}
