package kernels

import (
	"math"
	"sync"
)

// GroupNorm normalises x [N,C,HW] over groups of C/Groups neighbouring
// channels, scales and shifts each channel, and optionally applies SiLU:
//
//	z = gamma[c]*(x-mean)/sqrt(var+Eps) + beta[c],  y = z or z*sigmoid(z)
//
// with the biased variance of the group.
//
// Source: Wu and He, Group Normalization, 2018.
type GroupNorm struct {
	N, C, HW, Groups int
	Eps              float32
	SiLU             bool
}

// check panics with the offending numbers when the shape makes no sense.
func (g GroupNorm) check() {
	if g.Groups <= 0 || g.C%g.Groups != 0 || g.N < 0 || g.HW <= 0 {
		panicf("GroupNorm: %d channels in %d groups, N %d, HW %d: want groups that divide the channels and positive sizes",
			g.C, g.Groups, g.N, g.HW)
	}
}

// GroupNormForward computes y [N,C,HW] from x; y may be x. gamma and beta are
// [C].
//
// A group is one task: it is read from memory once for its statistics, and
// normalised while it is still in the cache. Where there are fewer groups than
// threads, or groups larger than a cache, the pieces of all groups are shared
// out, first for the statistics and then to be normalised. Both ways give the
// same bits, which depend on neither batch nor threads.
func GroupNormForward(p *Pool, g GroupNorm, y, x, gamma, beta []float32) {
	g.check()
	need("GroupNormForward: y", y, g.N*g.C*g.HW)
	need("GroupNormForward: x", x, g.N*g.C*g.HW)
	need("GroupNormForward: gamma", gamma, g.C)
	need("GroupNormForward: beta", beta, g.C)
	groups, size := g.N*g.Groups, g.C/g.Groups*g.HW
	if t := p.Threads(); groups >= 2*t || groups%t == 0 {
		each(p, groups, normalising{g, y, x, gamma, beta, nil}, (*normalising).group)
		return
	}
	pieces := ceilDiv(size, momentPiece)
	stats := statsPool.Get().(*[]moment)
	if n := groups * pieces; len(*stats) < n {
		*stats = make([]moment, n)
	}
	s := normalising{g, y, x, gamma, beta, *stats}
	each(p, groups*pieces, s, (*normalising).measure)
	each(p, groups, s, (*normalising).join)
	each(p, g.N*g.C, s, (*normalising).channel)
	statsPool.Put(stats)
}

var statsPool = sync.Pool{New: func() any { return new([]moment) }}

// momentPiece is how many numbers are measured in one piece.
const momentPiece = 4 << 10

// moment is the count, mean and sum of squared differences from it of numbers.
type moment struct{ n, mean, m2 float64 }

// momentOf takes one pass. The sums in float64 lose less than 2^-46 of the squares, so that the variance is off by 2^-46 of
// mean^2+variance; until |mean| is a million standard deviations, a float32 a*x+b loses more by its own rounding.
func momentOf(x []float32) moment {
	n := float64(len(x))
	sum, squares := vecSums(x)
	mean := sum / n
	return moment{n, mean, max(squares-sum*mean, 0)}
}

// plus is the moment of a's and b's numbers together.
//
// Source: Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm
// for Computing Sample Variances, 1979.
func (a moment) plus(b moment) moment {
	n, d := a.n+b.n, b.mean-a.mean
	return moment{n, a.mean + d*(b.n/n), a.m2 + (b.m2 + d*d*(a.n*b.n/n))}
}

func (a moment) rstd(eps float32) float64 { return 1 / math.Sqrt(a.m2/a.n+float64(eps)) }

// moments returns the mean and 1/sqrt(var+eps) of x, in float64, reading memory
// once.
func moments(x []float32, eps float32) (mean, rstd float64) {
	m := momentOf(x[:min(momentPiece, len(x))])
	for lo := momentPiece; lo < len(x); lo += momentPiece {
		m = m.plus(momentOf(x[lo:min(lo+momentPiece, len(x))]))
	}
	return m.mean, m.rstd(eps)
}

// normalising is the state of GroupNormForward's loops.
type normalising struct {
	g                 GroupNorm
	y, x, gamma, beta []float32
	stats             []moment // of the pieces of every group, then of the group in its first
}

// group does group i alone.
func (s *normalising) group(_, i int) {
	per := s.g.C / s.g.Groups
	mean, rstd := moments(s.x[i*per*s.g.HW:(i+1)*per*s.g.HW], s.g.Eps)
	for j := range per {
		s.scale(i*per+j, mean, rstd)
	}
}

// scale normalises one channel of one image, c counted over all images.
func (s *normalising) scale(c int, mean, rstd float64) {
	a := float64(s.gamma[c%s.g.C]) * rstd
	b := float64(s.beta[c%s.g.C]) - mean*a
	y, x := s.y[c*s.g.HW:(c+1)*s.g.HW], s.x[c*s.g.HW:(c+1)*s.g.HW]
	if s.g.SiLU {
		vecAffineSiLU(y, x, float32(a), float32(b))
	} else {
		vecAffine(y, x, float32(a), float32(b))
	}
}

// measure does piece i of all groups.
func (s *normalising) measure(_, i int) {
	size := s.g.C / s.g.Groups * s.g.HW
	pieces := ceilDiv(size, momentPiece)
	x := s.x[i/pieces*size:][:size]
	lo := i % pieces * momentPiece
	s.stats[i] = momentOf(x[lo:min(lo+momentPiece, size)])
}

// join adds up the pieces of group i.
func (s *normalising) join(_, i int) {
	pieces := ceilDiv(s.g.C/s.g.Groups*s.g.HW, momentPiece)
	of := s.stats[i*pieces:][:pieces]
	for _, m := range of[1:] {
		of[0] = of[0].plus(m)
	}
}

func (s *normalising) channel(_, c int) {
	per := s.g.C / s.g.Groups
	m := s.stats[c/per*ceilDiv(per*s.g.HW, momentPiece)]
	s.scale(c, m.mean, m.rstd(s.g.Eps))
}

// ScratchBackward returns the floats of scratch GroupNormBackward wants.
func (g GroupNorm) ScratchBackward() int { return 2 * g.N * g.C }

// GroupNormBackward computes dx [N,C,HW], dgamma [C] and dbeta [C] from the
// upstream gradient dy and the forward input x, overwriting all three; with
// SiLU set it recomputes z. dx may be dy but not x. Sums over the batch run in
// order of n.
func GroupNormBackward(p *Pool, g GroupNorm, dx, dgamma, dbeta, dy, x, gamma, beta, scratch []float32) {
	g.check()
	size := g.N * g.C * g.HW
	need("GroupNormBackward: dx", dx, size)
	need("GroupNormBackward: dy", dy, size)
	need("GroupNormBackward: x", x, size)
	need("GroupNormBackward: dgamma", dgamma, g.C)
	need("GroupNormBackward: dbeta", dbeta, g.C)
	need("GroupNormBackward: gamma", gamma, g.C)
	need("GroupNormBackward: beta", beta, g.C)
	need("GroupNormBackward: scratch", scratch, g.ScratchBackward())
	per := g.C / g.Groups
	partGamma, partBeta := scratch[:g.N*g.C], scratch[g.N*g.C:2*g.N*g.C]
	p.Run(g.N*g.Groups, func(i int) {
		lo := i * per * g.HW
		mean, rstd := moments(x[lo:lo+per*g.HW], g.Eps)
		// With dz the gradient at z and xh = (x-mean)*rstd:
		// dx = rstd*(gamma*dz - s1/M - xh*s2/M), s1 = sum(gamma*dz), s2 = sum(gamma*dz*xh).
		var s1, s2 float64
		for j := range per {
			c := i%g.Groups*per + j
			from, to := lo+j*g.HW, lo+(j+1)*g.HW
			dz, xc := dx[from:to], x[from:to]
			if g.SiLU {
				a := float64(gamma[c]) * rstd
				vecAffineSiLUGrad(dz, dy[from:to], xc, float32(a), float32(float64(beta[c])-mean*a))
			} else {
				copy(dz, dy[from:to])
			}
			sum := vecSum(dz)
			dot := (vecDot(dz, xc) - mean*sum) * rstd
			n := i/g.Groups*g.C + c
			partGamma[n], partBeta[n] = float32(dot), float32(sum)
			s1 += float64(gamma[c]) * sum
			s2 += float64(gamma[c]) * dot
		}
		m := float64(per * g.HW)
		b := -rstd * rstd * s2 / m
		k := -rstd*s1/m - b*mean
		for j := range per {
			from, to := lo+j*g.HW, lo+(j+1)*g.HW
			a := float64(gamma[i%g.Groups*per+j]) * rstd
			vecAffine2(dx[from:to], dx[from:to], x[from:to], float32(a), float32(b), float32(k))
		}
	})
	for c := range g.C {
		var sg, sb float64
		for n := range g.N {
			sg += float64(partGamma[n*g.C+c])
			sb += float64(partBeta[n*g.C+c])
		}
		dgamma[c], dbeta[c] = float32(sg), float32(sb)
	}
}

// LayerNorm normalises each row of x [T,C] and applies gamma and beta [C].
//
// Source: Ba, Kiros and Hinton, Layer Normalization, 2016.
type LayerNorm struct {
	T, C int
	Eps  float32
}

// rowsPerTask gives a task of row-wise work about chunk elements.
func rowsPerTask(c int) int { return max(1, chunk/max(c, 1)) }

// LayerNormForward computes y [T,C] from x; y may be x.
func LayerNormForward(p *Pool, l LayerNorm, y, x, gamma, beta []float32) {
	need("LayerNormForward: y", y, l.T*l.C)
	need("LayerNormForward: x", x, l.T*l.C)
	need("LayerNormForward: gamma", gamma, l.C)
	need("LayerNormForward: beta", beta, l.C)
	s := layerNorming{l, y, x, gamma[:l.C], beta[:l.C]}
	eachChunk(p, l.T, rowsPerTask(l.C), s, func(s *layerNorming, lo, hi int) {
		c := s.l.C
		vecLayerNorm(s.y[lo*c:hi*c], s.x[lo*c:hi*c], s.gamma, s.beta, float64(s.l.Eps))
	})
}

// layerNormGo normalises the rows of x, each as long as gamma and beta.
func layerNormGo(y, x, gamma, beta []float32, eps float64) {
	c := len(gamma)
	for lo := 0; lo+c <= len(x); lo += c {
		row, out := x[lo:lo+c], y[lo:lo+c]
		m := momentOf(row)
		rstd := 1 / math.Sqrt(m.m2/m.n+eps)
		vecAffine(out, row, float32(rstd), float32(-m.mean*rstd))
		vecMul(out, out, gamma)
		vecAdd(out, out, beta)
	}
}

type layerNorming struct {
	l                 LayerNorm
	y, x, gamma, beta []float32
}

// ScratchBackward returns the floats of scratch LayerNormBackward wants.
func (l LayerNorm) ScratchBackward() int { return 2 * l.T }

// LayerNormBackward computes dx [T,C], dgamma [C] and dbeta [C], overwriting
// all three. dx may not share memory with dy or x.
func LayerNormBackward(p *Pool, l LayerNorm, dx, dgamma, dbeta, dy, x, gamma, beta, scratch []float32) {
	need("LayerNormBackward: dx", dx, l.T*l.C)
	need("LayerNormBackward: dy", dy, l.T*l.C)
	need("LayerNormBackward: x", x, l.T*l.C)
	need("LayerNormBackward: dgamma", dgamma, l.C)
	need("LayerNormBackward: dbeta", dbeta, l.C)
	need("LayerNormBackward: gamma", gamma, l.C)
	need("LayerNormBackward: scratch", scratch, l.ScratchBackward())
	gamma = gamma[:l.C]
	runChunks(p, l.T, rowsPerTask(l.C), func(lo, hi int) {
		for t := lo; t < hi; t++ {
			row, d, out := x[t*l.C:(t+1)*l.C], dy[t*l.C:(t+1)*l.C], dx[t*l.C:(t+1)*l.C]
			mean, rstd := moments(row, l.Eps)
			scratch[2*t], scratch[2*t+1] = float32(mean), float32(rstd)
			vecMul(out, d, gamma)
			s1 := vecSum(out)
			s2 := (vecDot(out, row) - mean*s1) * rstd
			b := -rstd * rstd * s2 / float64(l.C)
			k := -rstd*s1/float64(l.C) - b*mean
			vecAffine2(out, out, row, float32(rstd), float32(b), float32(k))
		}
	})
	// dgamma = sum_t dy*xhat, dbeta = sum_t dy: a task owns a block of columns
	// and walks all rows in order.
	runChunks(p, l.C, columnBlock, func(lo, hi int) {
		var sg, sb [columnBlock]float64
		var xh [columnBlock]float32
		w := hi - lo
		for t := range l.T {
			d := dy[t*l.C+lo : t*l.C+hi]
			mean, rstd := scratch[2*t], scratch[2*t+1]
			for j, v := range x[t*l.C+lo : t*l.C+hi] {
				xh[j] = (v - mean) * rstd
			}
			vecMul(xh[:w], xh[:w], d)
			vecAccumulate(sg[:w], xh[:w])
			vecAccumulate(sb[:w], d)
		}
		for j := range w {
			dgamma[lo+j], dbeta[lo+j] = float32(sg[j]), float32(sb[j])
		}
	})
}

// columnBlock is the number of columns a task of a column sum owns.
const columnBlock = 64
