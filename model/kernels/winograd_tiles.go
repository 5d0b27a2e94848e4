package kernels

// How outputs are cut into tiles. A grid whose side is no multiple of 4 would be covered by tiles that hang over its edge; instead
// its last tiles are smaller, of 3 or 2 outputs a side, and take fewer products. With fewer outputs fewer points suffice:
//
//	4 outputs   0, a, -a, b, -b, infinity
//	3 outputs      a, -a, b, -b, infinity
//	2 outputs      a, -a, b,     infinity
//
// What the missing points would have put into the weights' transform goes into the inputs' instead, so that all tiles share the
// transformed weights: the rows of B' for a point p are those for the fewer points times p for 3 outputs, p*(p+b) for 2.
// Of all subsets of that many points these lose least (2 outputs: of those within the 3's), less than the whole set does. A tile
// may be of one size down and of another across. At 16x16 with dilation 3, whose grids are 6 and 5 pixels wide, this takes 784
// products for a pair of channels, not 1296.

const winogradSizes = 3 // sizes of tiles: 4, 3 and 2 outputs

// winogradClasses is how many kinds of tile there are: class 3*i+j has 4-i rows and 4-j columns of outputs.
const winogradClasses = winogradSizes * winogradSizes

// winogradUses reports whether a tile of 4-size outputs in one direction takes a point.
func winogradUses(size, point int) bool {
	return size == 0 || point != 0 && (size == 1 || point != 4)
}

// winogradTakes reports whether tiles of a class have a product at a tap.
func winogradTakes(class, tap int) bool {
	return winogradUses(class/winogradSizes, tap/6) && winogradUses(class%winogradSizes, tap%6)
}

// winogradCut is how one direction of the outputs, of the given length, is cut: lines of tiles that begin at the same pixel of every
// one of dil grids.
type winogradCut struct {
	length, dil int
	n           int  // pixels of the longest grids; the others have one less
	longest     int  // how many they are
	lines       int  // lines of tiles
	early       bool // the last line begins a pixel early, for 3+3 or 3+2 outputs instead of 4+2 or 4+1
}

func cutWinograd(length, dil int) winogradCut {
	c := winogradCut{length: length, dil: dil, n: ceilDiv(length, dil)}
	c.longest = length - (c.n-1)*dil
	c.lines = ceilDiv(c.n, 4)
	// With one pixel left, the longest grids gain a product and the others, which would have none left, lose three.
	c.early = c.lines > 1 && (c.n%4 == 2 || c.n%4 == 1 && c.longest > 3*(dil-c.longest))
	return c
}

// begin returns where a line of tiles begins on its grid, and for the one after the last where the last may end at most.
func (c *winogradCut) begin(line int) int {
	switch {
	case line == c.lines:
		return max(c.n, c.begin(line-1)+2)
	case line == c.lines-1 && c.early:
		return 4*line - 1
	}
	return 4 * line
}

// size returns the size of the tiles of one line on the grids of n pixels, as 4 less the outputs; false if there are none.
func (c *winogradCut) size(line, n int) (int, bool) {
	outputs := min(n, c.begin(line+1)) - c.begin(line)
	return 4 - max(2, outputs), outputs > 0
}

// products returns how many products all tiles take in this direction.
func (c *winogradCut) products() int {
	sum := 0
	for line := range c.lines {
		if size, ok := c.size(line, c.n); ok {
			sum += (6 - size) * c.longest
		}
		if size, ok := c.size(line, c.n-1); ok {
			sum += (6 - size) * (c.dil - c.longest)
		}
	}
	return sum
}

// winogradAxis lists the tiles of one direction.
type winogradAxis struct {
	winogradCut
	tiles  [winogradSizes][]int32 // by size the pixels of the map at which tiles begin, line by line
	before [winogradSizes][]int   // how many of them lie before each line
}

func newWinogradAxis(length, dil int) winogradAxis {
	x := winogradAxis{winogradCut: cutWinograd(length, dil)}
	for line := range x.lines + 1 {
		for s := range x.before {
			x.before[s] = append(x.before[s], len(x.tiles[s]))
		}
		for grid := range min(dil, length) {
			n := x.n
			if grid >= x.longest {
				n--
			}
			if line == x.lines {
				break
			}
			if s, ok := x.size(line, n); ok {
				x.tiles[s] = append(x.tiles[s], int32(x.begin(line)*dil+grid))
			}
		}
	}
	return x
}

// lined returns where tiles of a size in lines [a0,a1) begin.
func (x *winogradAxis) lined(size, a0, a1 int) []int32 {
	return x.tiles[size][x.before[size][a0]:x.before[size][a1]]
}

// tilesOf returns how many tiles of one image lie in rows [a0,a1) of tiles, by class.
func (k *winograd) tilesOf(a0, a1 int) (n [winogradClasses]int) {
	for c := range n {
		n[c] = len(k.down.lined(c/winogradSizes, a0, a1)) * len(k.across.tiles[c%winogradSizes])
	}
	return n
}

// list lists where the tiles in rows [a0,a1) of tiles begin, class by class within those bounds, in a map whose first pixel belongs to row
// a0.
func (k *winograd) list(at []int32, b *winogradBounds, line, step, a0, a1 int) {
	for class := range winogradClasses {
		t := b[class]
		if t == b[class+1] {
			continue
		}
		columns := k.across.tiles[class%winogradSizes]
		for _, row := range k.down.lined(class/winogradSizes, a0, a1) {
			from := (int(row) - k.c.DilH*k.down.begin(a0)) * line
			for _, col := range columns {
				at[t] = int32(from + int(col)*step)
				t++
			}
		}
	}
}

// winogradBounds says where the tiles of every class begin among those of a block, which lie class by class, and where they end.
type winogradBounds [winogradClasses + 1]int

// winogradBoundsOf returns those of some images.
func winogradBoundsOf(perImage [winogradClasses]int, images int) (b winogradBounds) {
	for c, n := range perImage {
		b[c+1] = b[c] + n*images
	}
	return b
}

// clip returns the bounds within tiles [from,from+count), counted from the first of these.
func (b winogradBounds) clip(from, count int) winogradBounds {
	for c := range b {
		b[c] = min(max(b[c]-from, 0), count)
	}
	return b
}

// runs returns the runs of tiles, [from,to) each, that have products at a tap. Those with from = to say nothing.
func (b *winogradBounds) runs(tap int) (r [winogradSizes][2]int) {
	if tiles := b[winogradClasses]; b[1] == tiles {
		return [winogradSizes][2]int{{0, tiles}}
	}
	i := 0
	for c := range winogradClasses {
		from, to := b[c], b[c+1]
		if from == to || !winogradTakes(c, tap) {
			continue
		}
		if r[i][0] < r[i][1] && r[i][1] < from {
			i++
		}
		if r[i][0] == r[i][1] {
			r[i][0] = from
		}
		r[i][1] = to
	}
	return r
}
