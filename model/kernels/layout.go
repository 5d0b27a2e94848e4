package kernels

// operands is the state of a loop over the elements, rows or planes of a result y
// of operands a and b: sizes n and m and a factor as the loop wants them.
type operands struct {
	y, a, b []float32
	n, m    int
	scale   float32
}

// Add computes y = a + b element by element; y may be a or b.
func Add(p *Pool, y, a, b []float32) {
	need("Add: y", y, len(a))
	need("Add: b", b, len(a))
	eachChunk(p, len(a), chunk, operands{y: y, a: a, b: b}, func(s *operands, lo, hi int) { vecAdd(s.y[lo:hi], s.a[lo:hi], s.b[lo:hi]) })
}

// Scale computes y = s*x; y may be x.
func Scale(p *Pool, y, x []float32, s float32) {
	need("Scale: y", y, len(x))
	eachChunk(p, len(x), chunk, operands{y: y, a: x, scale: s}, func(s *operands, lo, hi int) { vecAffine(s.y[lo:hi], s.a[lo:hi], s.scale, 0) })
}

// AddChannel computes y = x + t[n,c] for x [N,C,HW] and t [N,C]; y may be x.
func AddChannel(p *Pool, N, C, HW int, y, x, t []float32) {
	need("AddChannel: y", y, N*C*HW)
	need("AddChannel: x", x, N*C*HW)
	need("AddChannel: t", t, N*C)
	eachChunk(p, N*C, rowsPerTask(HW), operands{y: y, a: x, b: t, n: HW}, func(s *operands, lo, hi int) {
		for i := lo; i < hi; i++ {
			vecAffine(s.y[i*s.n:(i+1)*s.n], s.a[i*s.n:(i+1)*s.n], 1, s.b[i])
		}
	})
}

// SumSpatial computes dt [N,C], the sums of dy [N,C,HW] over HW: the gradient
// of AddChannel's t.
func SumSpatial(p *Pool, N, C, HW int, dt, dy []float32) {
	need("SumSpatial: dt", dt, N*C)
	need("SumSpatial: dy", dy, N*C*HW)
	runChunks(p, N*C, rowsPerTask(HW), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			dt[i] = float32(vecSum(dy[i*HW : (i+1)*HW]))
		}
	})
}

// SumBatchSpatial computes db [C], the sums of dy [N,C,HW] over N and HW: the
// bias gradient of a convolution. The batch is added in order.
func SumBatchSpatial(p *Pool, N, C, HW int, db, dy []float32) {
	need("SumBatchSpatial: db", db, C)
	need("SumBatchSpatial: dy", dy, N*C*HW)
	runChunks(p, C, rowsPerTask(N*HW), func(lo, hi int) {
		for c := lo; c < hi; c++ {
			var s float64
			for n := range N {
				s += vecSum(dy[(n*C+c)*HW : (n*C+c+1)*HW])
			}
			db[c] = float32(s)
		}
	})
}

// SumRows computes db [O], the sums of dy [T,O] over its rows in order: the
// bias gradient of a linear layer.
func SumRows(p *Pool, T, O int, db, dy []float32) {
	need("SumRows: db", db, O)
	need("SumRows: dy", dy, T*O)
	runChunks(p, O, columnBlock, func(lo, hi int) {
		var s [columnBlock]float64
		for t := range T {
			vecAccumulate(s[:hi-lo], dy[t*O+lo:t*O+hi])
		}
		for j := lo; j < hi; j++ {
			db[j] = float32(s[j-lo])
		}
	})
}

// ConcatChannels writes a [N,ca,HW] and b [N,cb,HW] one after the other into
// y [N,ca+cb,HW], which shares no memory with them.
func ConcatChannels(p *Pool, N, HW int, y, a []float32, ca int, b []float32, cb int) {
	need("ConcatChannels: y", y, N*(ca+cb)*HW)
	need("ConcatChannels: a", a, N*ca*HW)
	need("ConcatChannels: b", b, N*cb*HW)
	copyBlocks(p, N, y, (ca+cb)*HW, a, ca*HW)
	copyBlocks(p, N, y[ca*HW:], (ca+cb)*HW, b, cb*HW)
}

// copyBlocks copies n blocks of size floats that lie one after the other in src
// to places step apart in dst.
func copyBlocks(p *Pool, n int, dst []float32, step int, src []float32, size int) {
	const part = 4 * chunk
	each(p, n*ceilDiv(size, part), blocks{dst, src, step, size}, func(s *blocks, _, i int) {
		parts := ceilDiv(s.size, part)
		n, lo := i/parts, i%parts*part
		hi := min(lo+part, s.size)
		copy(s.dst[n*s.step+lo:n*s.step+hi], s.src[n*s.size+lo:n*s.size+hi])
	})
}

type blocks struct {
	dst, src   []float32
	step, size int
}

// SplitChannels is ConcatChannels' adjoint: it copies dy [N,ca+cb,HW] to da and
// db, either of which may be nil.
func SplitChannels(p *Pool, N, HW int, da []float32, ca int, db []float32, cb int, dy []float32) {
	need("SplitChannels: dy", dy, N*(ca+cb)*HW)
	if da != nil {
		need("SplitChannels: da", da, N*ca*HW)
	}
	if db != nil {
		need("SplitChannels: db", db, N*cb*HW)
	}
	p.Run(N, func(n int) {
		in := dy[n*(ca+cb)*HW : (n+1)*(ca+cb)*HW]
		if da != nil {
			copy(da[n*ca*HW:(n+1)*ca*HW], in[:ca*HW])
		}
		if db != nil {
			copy(db[n*cb*HW:(n+1)*cb*HW], in[ca*HW:])
		}
	})
}

type transposing struct {
	y, x       []float32
	r, c, rows int // rows in one task
}

// transposeBatch transposes N matrices [R,C] to [C,R]; a task takes a block of
// rows.
func transposeBatch(p *Pool, N, R, C int, y, x []float32) {
	rows := max(64, chunk/max(C, 1)&^7)
	each(p, N*ceilDiv(R, rows), transposing{y, x, R, C, rows}, func(s *transposing, _, i int) {
		tasks := ceilDiv(s.r, s.rows)
		n, lo, size := i/tasks, i%tasks*s.rows, s.r*s.c
		transposeFast(active, s.y[n*size+lo:(n+1)*size], s.r, s.x[n*size+lo*s.c:(n+1)*size], s.c, min(s.rows, s.r-lo), s.c)
	})
}

// ChannelsToTokens turns x [N,C,HW] into y [N,HW,C].
func ChannelsToTokens(p *Pool, N, C, HW int, y, x []float32) {
	need("ChannelsToTokens: y", y, N*C*HW)
	need("ChannelsToTokens: x", x, N*C*HW)
	transposeBatch(p, N, C, HW, y, x)
}

// TokensToChannels turns x [N,HW,C] into y [N,C,HW]; it is the inverse and the
// adjoint of ChannelsToTokens.
func TokensToChannels(p *Pool, N, C, HW int, y, x []float32) {
	need("TokensToChannels: y", y, N*C*HW)
	need("TokensToChannels: x", x, N*C*HW)
	transposeBatch(p, N, HW, C, y, x)
}

// AvgPool2 averages 2x2 windows of x [NC,H,W] into y [NC,H/2,W/2]; the last
// row or column of an odd size is left out, as in PyTorch.
func AvgPool2(p *Pool, NC, H, W int, y, x []float32) {
	oh, ow := H/2, W/2
	need("AvgPool2: y", y, NC*oh*ow)
	need("AvgPool2: x", x, NC*H*W)
	eachChunk(p, NC, rowsPerTask(H*W), operands{y: y, a: x, n: H, m: W}, func(s *operands, lo, hi int) {
		H, W := s.n, s.m
		oh, ow := H/2, W/2
		for c := lo; c < hi; c++ {
			for i := range oh {
				top := s.a[(c*H+2*i)*W : (c*H+2*i+1)*W]
				bottom := s.a[(c*H+2*i+1)*W : (c*H+2*i+2)*W]
				for j := range ow {
					s.y[(c*oh+i)*ow+j] = 0.25 * ((top[2*j] + top[2*j+1]) + (bottom[2*j] + bottom[2*j+1]))
				}
			}
		}
	})
}

// AvgPool2Backward computes dx [NC,H,W] from dy [NC,H/2,W/2], overwriting it.
func AvgPool2Backward(p *Pool, NC, H, W int, dx, dy []float32) {
	oh, ow := H/2, W/2
	need("AvgPool2Backward: dx", dx, NC*H*W)
	need("AvgPool2Backward: dy", dy, NC*oh*ow)
	runChunks(p, NC, rowsPerTask(H*W), func(lo, hi int) {
		clear(dx[lo*H*W : hi*H*W])
		for c := lo; c < hi; c++ {
			for i := range 2 * oh {
				row := dx[(c*H+i)*W : (c*H+i+1)*W]
				for j, g := range dy[(c*oh+i/2)*ow : (c*oh+i/2+1)*ow] {
					row[2*j], row[2*j+1] = 0.25*g, 0.25*g
				}
			}
		}
	})
}

// MeanSpatial computes y [N,C], the means of x [N,C,HW] over HW.
func MeanSpatial(p *Pool, N, C, HW int, y, x []float32) {
	need("MeanSpatial: y", y, N*C)
	need("MeanSpatial: x", x, N*C*HW)
	eachChunk(p, N*C, rowsPerTask(HW), operands{y: y, a: x, n: HW}, func(s *operands, lo, hi int) {
		for i := lo; i < hi; i++ {
			s.y[i] = float32(vecSum(s.a[i*s.n:(i+1)*s.n]) / float64(s.n))
		}
	})
}

// MeanSpatialBackward spreads dy [N,C] over dx [N,C,HW], overwriting it.
func MeanSpatialBackward(p *Pool, N, C, HW int, dx, dy []float32) {
	need("MeanSpatialBackward: dx", dx, N*C*HW)
	need("MeanSpatialBackward: dy", dy, N*C)
	runChunks(p, N*C, rowsPerTask(HW), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g := dy[i] / float32(HW)
			row := dx[i*HW : (i+1)*HW]
			for j := range row {
				row[j] = g
			}
		}
	})
}

// embeddingRow returns the table row an id names and panics when it names none. Ids are
// whole numbers carried as floats, as all graph values are.
func embeddingRow(id float32, V int) int {
	i := int(id)
	if float32(i) != id || i < 0 || i >= V {
		panicf("Embedding: id %v is not a row of the table: want a whole number in 0..%d", id, V-1)
	}
	return i
}

// Embedding copies row ids[t] of table [V,D] to row t of y [T,D].
func Embedding(T, D int, y, table, ids []float32) {
	need("Embedding: y", y, T*D)
	need("Embedding: ids", ids, T)
	V := len(table) / D
	for t, id := range ids[:T] {
		i := embeddingRow(id, V)
		copy(y[t*D:(t+1)*D], table[i*D:(i+1)*D])
	}
}

// EmbeddingBackward computes dtable [V,D] from dy [T,D], overwriting it: rows
// used more than once add up in the order of t.
func EmbeddingBackward(T, V, D int, dtable, dy, ids []float32) {
	need("EmbeddingBackward: dtable", dtable, V*D)
	need("EmbeddingBackward: dy", dy, T*D)
	need("EmbeddingBackward: ids", ids, T)
	clear(dtable[:V*D])
	for t, id := range ids[:T] {
		i := embeddingRow(id, V)
		vecAdd(dtable[i*D:(i+1)*D], dtable[i*D:(i+1)*D], dy[t*D:(t+1)*D])
	}
}
