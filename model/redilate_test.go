package model

import (
	"fmt"
	"reflect"
	"testing"

	"gorgonia.org/gorgonia"
	"pgregory.net/rapid"

	"scalecrafter/ablation"
	"scalecrafter/model/ops"
)

// TestRedilateByOne holds that factor 1 is the plain convolution, bit for bit:
// any size with stride 1, even sizes with stride 2.
func TestRedilateByOne(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		stride := rapid.IntRange(1, 2).Draw(rt, "stride")
		k := rapid.SampledFrom([]int{1, 3, 5}).Draw(rt, "kernel")
		h, w := stride*rapid.IntRange(3, 9).Draw(rt, "h"), stride*rapid.IntRange(3, 9).Draw(rt, "w")
		cin, cout := rapid.IntRange(1, 9).Draw(rt, "cin"), rapid.IntRange(1, 9).Draw(rt, "cout")
		vals := evaluate(t, func(g *gorgonia.ExprGraph) []*gorgonia.Node {
			x := bind(g, "x", noise("x", 2*cin*h*w), 2, cin, h, w)
			wt := bind(g, "w", noise("w", cout*cin*k*k), cout, cin, k, k)
			b := bind(g, "b", noise("b", cout), cout)
			return []*gorgonia.Node{Redilate(x, wt, b, ablation.Factor{H: 1, W: 1}, stride), ops.Conv2D(x, wt, b, ops.Same(stride, 1, (k-1)/2))}
		})
		if !reflect.DeepEqual(vals[0], vals[1]) {
			rt.Errorf("factor 1 differs from the plain convolution by %g", maxDiff(t, vals[0], vals[1]))
		}
	})
}

// TestRedilateByWhole holds a whole factor, on sizes that it divides, against
// plain convolutions of the sub-grids: pixels that are d apart see one another
// as neighbours, and no others.
func TestRedilateByWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dh, dw := rapid.IntRange(1, 3).Draw(rt, "dh"), rapid.IntRange(1, 3).Draw(rt, "dw")
		sh, sw := rapid.IntRange(2, 5).Draw(rt, "h"), rapid.IntRange(2, 5).Draw(rt, "w") // of a sub-grid
		h, w := dh*sh, dw*sw
		const n, cin, cout = 2, 3, 4
		x := noise(fmt.Sprint("x", h, w), n*cin*h*w)
		vals := evaluate(t, func(g *gorgonia.ExprGraph) []*gorgonia.Node {
			wt := bind(g, "w", noise("w", cout*cin*9), cout, cin, 3, 3)
			b := bind(g, "b", noise("b", cout), cout)
			outs := []*gorgonia.Node{Redilate(bind(g, "x", x, n, cin, h, w), wt, b, ablation.Factor{H: float64(dh), W: float64(dw)}, 1)}
			for i := range dh {
				for j := range dw {
					sub := make([]float32, 0, n*cin*sh*sw)
					for p := range n * cin {
						for y := range sh {
							for xx := range sw {
								sub = append(sub, x[(p*h+y*dh+i)*w+xx*dw+j])
							}
						}
					}
					outs = append(outs, ops.Conv2D(bind(g, fmt.Sprintf("x%d.%d", i, j), sub, n, cin, sh, sw), wt, b, ops.Same(1, 1, 1)))
				}
			}
			return outs
		})
		for i := range dh {
			for j := range dw {
				sub := vals[1+i*dw+j]
				for p := range n * cout {
					for y := range sh {
						for xx := range sw {
							got, want := vals[0][(p*h+y*dh+i)*w+xx*dw+j], sub[(p*sh+y)*sw+xx]
							if d := got - want; d > 1e-5 || d < -1e-5 || d != d {
								rt.Fatalf("factor %dx%d, sub-grid (%d,%d), plane %d at (%d,%d): %v, want %v", dh, dw, i, j, p, y, xx, got, want)
							}
						}
					}
				}
			}
		}
	})
}

// TestRedilateSizes holds the output's size, floor(n/stride), and the size that
// the feature is stretched to, halves rounded to even.
func TestRedilateSizes(t *testing.T) {
	for _, tt := range []struct {
		factor         float64
		n              int
		dilation, side int
	}{
		{1, 7, 1, 7}, {2, 7, 2, 7}, {1.5, 9, 2, 12}, {2.5, 10, 3, 12}, {1.6, 4, 2, 5},
		{4.0 / 3, 5, 2, 8}, // 7.5 rounds to 8
		{4.0 / 3, 3, 2, 4}, // 4.5 rounds to 4
		{0.5, 6, 1, 12}, {3.5, 7, 4, 8}, {2.000001, 8, 3, 12},
	} {
		if d, side := stretch(tt.factor, tt.n); d != tt.dilation || side != tt.side {
			t.Errorf("stretch(%v, %d) = %d, %d, want %d, %d", tt.factor, tt.n, d, side, tt.dilation, tt.side)
		}
	}
	for _, stride := range []int{1, 2} {
		for _, f := range []ablation.Factor{{H: 1, W: 1}, {H: 2, W: 1.5}, {H: 2.5, W: 3}} {
			g := gorgonia.NewGraph()
			y := Redilate(bind(g, "x", nil, 1, 2, 9, 12), bind(g, "w", nil, 2, 2, 3, 3), nil, f, stride)
			if s := y.Shape(); s[2] != 9/stride || s[3] != 12/stride {
				t.Errorf("factor %v, stride %d: size %v, want %dx%d", f, stride, s, 9/stride, 12/stride)
			}
		}
	}
}

// TestAttentionScale holds the formula at its fixed points.
func TestAttentionScale(t *testing.T) {
	// sqrt(ln 4096 / ln 1024) = sqrt(12/10), for 4x pixels.
	if got := AttentionScale(4096, 4); got < 1.095444 || got > 1.095446 {
		t.Errorf("scale %v, want sqrt(1.2)", got)
	}
	if got := AttentionScale(100, 1); got != 1 {
		t.Errorf("scale %v at the trained size, want 1", got)
	}
}
