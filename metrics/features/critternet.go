// Package features holds the networks whose penultimate activations FID, KID
// and their relatives compare. It knows nothing of diffusion.
package features

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"math"

	"gorgonia.org/gorgonia"

	"scalecrafter/metrics"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/weights"
)

// Shape of critter-net, the built-in world's attribute classifier.
const (
	CritterNetSide = 64 // shorter side of the picture that it sees, px
	CritterNetDim  = 64 // width of its features
	critterGroups  = 8
)

var critterChannels = []int{24, 48, CritterNetDim}

// Classes are the numbers of values of the attributes that critter-net reads.
type Classes struct{ Shapes, Colors, Backgrounds, Patterns int }

// Logits are critter-net's answers as graph nodes, [N,classes] each.
type Logits struct{ Shape, Color, Background, Pattern *gorgonia.Node }

// CritterNetGraph adds the classifier to the graph of x [N,3,H,W] in [-1,1]:
// three strided 3x3 convolutions and a plain one, each with group norm and
// SiLU, the mean over the picture as features [N,CritterNetDim], and a linear
// layer for each attribute.
func CritterNetGraph(w params.Source, x *gorgonia.Node, c Classes) (features *gorgonia.Node, l Logits, err error) {
	g := x.Graph()
	err = params.Catch(func() error {
		return ops.Build(func() {
			in := 3
			block := func(name string, out, stride int) {
				x = ops.Conv2D(x, w.Leaf(g, name+".conv.weight", out, in, 3, 3), w.Leaf(g, name+".conv.bias", out), ops.Same(stride, 1, 1))
				x = ops.GroupNorm(x, w.Leaf(g, name+".norm.weight", out), w.Leaf(g, name+".norm.bias", out), critterGroups, 1e-5, true)
				in = out
			}
			for i, out := range critterChannels {
				block(fmt.Sprintf("blocks.%d", i), out, 2)
			}
			block(fmt.Sprintf("blocks.%d", len(critterChannels)), CritterNetDim, 1)
			features = ops.MeanSpatial(x)
			head := func(name string, classes int) *gorgonia.Node {
				return ops.Linear(features, w.Leaf(g, name+".weight", classes, CritterNetDim), w.Leaf(g, name+".bias", classes))
			}
			l = Logits{head("shape", c.Shapes), head("color", c.Colors), head("background", c.Backgrounds), head("pattern", c.Patterns)}
		})
	})
	if err != nil {
		err = fmt.Errorf("critter-net: %w", err)
	}
	return features, l, err
}

// CritterNet is the loaded classifier, read-only and shared by extractors.
type CritterNet struct {
	weights params.Source
	classes Classes
	digest  string
}

// NewCritterNet reads the weights from a safetensors file in memory.
func NewCritterNet(b []byte, name string, c Classes) (*CritterNet, error) {
	f, err := weights.Read(b, name)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	n := &CritterNet{weights: params.NewFile(f), classes: c, digest: hex.EncodeToString(sum[:])}
	_, err = n.session(1, CritterNetSide, CritterNetSide) // every weight is there and fits
	return n, err
}

// Digest is the sha256 of the weights.
func (n *CritterNet) Digest() string { return n.digest }

type critterSession struct {
	machine  *ops.Machine
	in       []float32
	features *gorgonia.Node
	logits   [4]*gorgonia.Node
}

func (n *CritterNet) session(batch, h, w int) (*critterSession, error) {
	g := gorgonia.NewGraph()
	x, in := params.Input(g, "x", batch, 3, h, w)
	f, l, err := CritterNetGraph(n.weights, x, n.classes)
	if err != nil {
		return nil, err
	}
	s := &critterSession{in: in, features: f, logits: [4]*gorgonia.Node{l.Shape, l.Color, l.Background, l.Pattern}}
	s.machine, err = ops.NewMachine(g, nil, append([]*gorgonia.Node{f}, s.logits[:]...)...)
	return s, err
}

// Bytes is the memory of the weights and of an extractor of square pictures.
func (n *CritterNet) Bytes() (weights, extractor int, err error) {
	s, err := n.session(1, CritterNetSide, CritterNetSide)
	if err != nil {
		return 0, 0, err
	}
	if c, ok := n.weights.(interface{ Count() int }); ok {
		weights = 4 * c.Count()
	}
	arena, scratch, _ := s.machine.Bytes()
	return weights, arena + scratch + 4*len(s.in), nil
}

// Reading is what critter-net sees in one picture.
type Reading struct {
	Features                          []float32 // [CritterNetDim]
	Shape, Color, Background, Pattern int       // likeliest class of each attribute
}

// Extractor runs critter-net for one goroutine.
type Extractor struct {
	net   *CritterNet
	cache map[[2]int]*critterSession
}

// NewExtractor makes an extractor.
func (n *CritterNet) NewExtractor() *Extractor {
	return &Extractor{net: n, cache: map[[2]int]*critterSession{}}
}

// Read resizes the picture so that its shorter side is CritterNetSide (clean,
// antialiased bicubic, as clean-fid does) and reads it. Cost: about 1 ms.
//
// Pictures are read one at a time, so a reading never depends on its company.
func (e *Extractor) Read(img *image.NRGBA) (Reading, error) {
	b := img.Bounds()
	if b.Empty() {
		return Reading{}, fmt.Errorf("critter-net: the picture is empty (%v)", b)
	}
	h, w := CritterNetSide, CritterNetSide
	if b.Dx() > b.Dy() {
		w = (CritterNetSide*b.Dx() + b.Dy()/2) / b.Dy()
	} else {
		h = (CritterNetSide*b.Dy() + b.Dx()/2) / b.Dx()
	}
	planes, err := metrics.ResizeClean(img, h, w)
	if err != nil {
		return Reading{}, err
	}
	s := e.cache[[2]int{h, w}]
	if s == nil {
		if s, err = e.net.session(1, h, w); err != nil {
			return Reading{}, err
		}
		e.cache[[2]int{h, w}] = s
	}
	for i, v := range planes {
		s.in[i] = v/127.5 - 1
	}
	if err := s.machine.RunAll(); err != nil {
		return Reading{}, err
	}
	r := Reading{Features: append([]float32(nil), s.machine.Output(s.features)...)}
	for i, to := range []*int{&r.Shape, &r.Color, &r.Background, &r.Pattern} {
		*to = argmax(s.machine.Output(s.logits[i]))
	}
	for i, v := range r.Features {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return Reading{}, fmt.Errorf("critter-net: feature %d is %v", i, v)
		}
	}
	return r, nil
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}
