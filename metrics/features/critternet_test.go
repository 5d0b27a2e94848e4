package features

import (
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"

	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/weights"
)

var classes = Classes{Shapes: 3, Colors: 4, Backgrounds: 2, Patterns: 5}

// normals are numbers that depend on the name alone.
func normals(name string, n int) []float32 {
	seed := uint64(n)
	for _, b := range []byte(name) {
		seed = seed*1099511628211 + uint64(b)
	}
	r := rand.New(rand.NewPCG(seed, 7))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64())
	}
	return out
}

// freshWeights are random weights of the network.
func freshWeights(t testing.TB) *params.Set {
	t.Helper()
	w := params.NewFresh(normals)
	g := gorgonia.NewGraph()
	x, _ := params.Input(g, "x", 1, 3, 16, 16)
	if _, _, err := CritterNetGraph(w, x, classes); err != nil {
		t.Fatal(err)
	}
	return &w.Set
}

// fileOf is the weights as a safetensors file.
func fileOf(t testing.TB, w *params.Set) []byte {
	t.Helper()
	var list []weights.Tensor
	for _, name := range w.Names() {
		list = append(list, *w.Tensor(name))
	}
	path := filepath.Join(t.TempDir(), "net.safetensors")
	if err := weights.Write(path, list, nil, "F32"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func freshNet(t testing.TB) *CritterNet {
	t.Helper()
	n, err := NewCritterNet(fileOf(t, freshWeights(t)), "net.safetensors", classes)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// picture is smooth and colourful.
func picture(height, width int, seed float64) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			u, v := float64(x)/float64(min(height, width)), float64(y)/float64(min(height, width))
			at := img.PixOffset(x, y)
			for c := range 3 {
				img.Pix[at+c] = uint8(127.5 + 120*math.Sin(seed+7*u*float64(c+1)+5*v))
			}
			img.Pix[at+3] = 255
		}
	}
	return img
}

func read(t testing.TB, e *Extractor, img *image.NRGBA) Reading {
	t.Helper()
	r, err := e.Read(img)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRead holds shapes, ranges and determinism on square, large, small and
// non-square pictures, whatever was read before.
func TestRead(t *testing.T) {
	net := freshNet(t)
	used := net.NewExtractor()
	var seen []Reading
	for _, size := range [][2]int{{64, 64}, {128, 128}, {64, 96}, {96, 64}, {150, 70}, {33, 32}, {64, 65}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			img := picture(size[0], size[1], 1)
			r := read(t, used, img)
			if len(r.Features) != CritterNetDim {
				t.Fatalf("%d features, want %d", len(r.Features), CritterNetDim)
			}
			for _, c := range []struct{ got, n int }{{r.Shape, classes.Shapes}, {r.Color, classes.Colors}, {r.Background, classes.Backgrounds}, {r.Pattern, classes.Patterns}} {
				if c.got < 0 || c.got >= c.n {
					t.Errorf("class %d of %d", c.got, c.n)
				}
			}
			read(t, used, picture(64, 64, 2)) // must leave nothing behind
			if again := read(t, used, img); !reflect.DeepEqual(again, r) {
				t.Error("the second reading differs")
			}
			if other := read(t, net.NewExtractor(), img); !reflect.DeepEqual(other, r) {
				t.Error("another extractor reads something else")
			}
			for _, o := range seen {
				if reflect.DeepEqual(o.Features, r.Features) {
					t.Error("pictures of two sizes have the same features")
				}
			}
			seen = append(seen, r)
		})
	}
}

// TestReadIsScaleFree holds that a smooth picture at twice the size has nearly
// the features of the smaller, and another picture does not.
func TestReadIsScaleFree(t *testing.T) {
	e := freshNet(t).NewExtractor()
	distance := func(a, b Reading) float64 {
		sum := 0.0
		for i, v := range a.Features {
			sum += math.Pow(float64(v-b.Features[i]), 2)
		}
		return math.Sqrt(sum)
	}
	small, large, other := read(t, e, picture(64, 64, 1)), read(t, e, picture(128, 128, 1)), read(t, e, picture(64, 64, 2.5))
	if near, far := distance(small, large), distance(small, other); !(near < 0.25*far) {
		t.Errorf("features at twice the size differ by %.3g, another picture's by %.3g", near, far)
	}
}

// TestReadSubImage holds that a part of a picture reads like its copy.
func TestReadSubImage(t *testing.T) {
	e := freshNet(t).NewExtractor()
	part := picture(100, 90, 1).SubImage(image.Rect(5, 11, 85, 91)).(*image.NRGBA)
	whole := image.NewNRGBA(image.Rect(0, 0, 80, 80))
	for y := range 80 {
		copy(whole.Pix[y*whole.Stride:(y+1)*whole.Stride], part.Pix[y*part.Stride:])
	}
	if !reflect.DeepEqual(read(t, e, part), read(t, e, whole)) {
		t.Error("a sub-picture reads differently from its copy")
	}
}

// TestReadIsTheGraph holds a 64x64 picture, which needs no resizing, against the
// graph on its pixels in [-1,1].
func TestReadIsTheGraph(t *testing.T) {
	net := freshNet(t)
	img := picture(64, 64, 1)
	g := gorgonia.NewGraph()
	x, xs := params.Input(g, "x", 1, 3, 64, 64)
	for i := range 64 * 64 {
		for c := range 3 {
			xs[c*64*64+i] = float32(img.Pix[4*i+c])/127.5 - 1
		}
	}
	features, logits, err := CritterNetGraph(net.weights, x, classes)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ops.NewMachine(g, nil, features, logits.Pattern)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	r := read(t, net.NewExtractor(), img)
	for i, v := range m.Output(features) {
		if math.Abs(float64(v-r.Features[i])) > 1e-5 {
			t.Fatalf("feature %d is %v, want %v", i, r.Features[i], v)
		}
	}
	best := 0
	for i, v := range m.Output(logits.Pattern) {
		if v > m.Output(logits.Pattern)[best] {
			best = i
		}
	}
	if r.Pattern != best {
		t.Errorf("pattern %d, want the likeliest, %d", r.Pattern, best)
	}
}

// TestGradient holds the gradient of every weight against the change of the
// loss along it, on a batch of two small pictures.
func TestGradient(t *testing.T) {
	w := freshWeights(t)
	g := gorgonia.NewGraph()
	x, xs := params.Input(g, "x", 2, 3, 16, 16)
	copy(xs, normals("pictures", len(xs)))
	_, l, err := CritterNetGraph(w, x, classes)
	if err != nil {
		t.Fatal(err)
	}
	var loss *gorgonia.Node
	err = ops.Build(func() {
		for i, logits := range []*gorgonia.Node{l.Shape, l.Color, l.Background, l.Pattern} {
			labels, v := params.Input(g, fmt.Sprint("labels", i), 2)
			v[0], v[1] = 1, float32(i%2)
			ce := ops.CrossEntropy(logits, labels)
			if loss == nil {
				loss = ce
			} else {
				loss = ops.AddScalars(loss, ce)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var leaves gorgonia.Nodes
	for _, name := range w.Names() {
		leaves = append(leaves, g.ByName(name)...)
	}
	grads, err := gorgonia.Grad(loss, leaves...)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ops.NewMachine(g, nil, append([]*gorgonia.Node{loss}, grads...)...)
	if err != nil {
		t.Fatal(err)
	}
	at := func() float64 {
		if err := m.RunAll(); err != nil {
			t.Fatal(err)
		}
		return float64(m.Output(loss)[0])
	}
	at()
	var all [][]float32
	for _, d := range grads {
		all = append(all, append([]float32(nil), m.Output(d)...))
	}
	for i, name := range w.Names() {
		data, grad := w.Tensor(name).Data, all[i]
		norm := 0.0
		for _, v := range grad {
			norm += float64(v) * float64(v)
		}
		norm = math.Sqrt(norm)
		if !(norm > 1e-3) {
			t.Errorf("%s: gradient of norm %v: the check says nothing", name, norm)
			continue
		}
		const step = 0.02
		old := append([]float32(nil), data...)
		along := func(h float64) float64 {
			for j := range data {
				data[j] = old[j] + float32(h*float64(grad[j])/norm)
			}
			return at()
		}
		want := (along(step) - along(-step)) / (2 * step)
		copy(data, old)
		if math.Abs(norm-want) > 0.01*want {
			t.Errorf("%s: slope %v along the gradient, want %v", name, norm, want)
		}
	}
}

// TestWeightErrors holds that weights that do not fit are errors that name the
// file and the tensor.
func TestWeightErrors(t *testing.T) {
	change := func(f func(w *params.Set)) []byte {
		w := freshWeights(t)
		f(w)
		return fileOf(t, w)
	}
	without := func(name string) []byte {
		w, out := freshWeights(t), params.New()
		for _, n := range w.Names() {
			if n != name {
				out.Add(n, w.Tensor(n).Shape, w.Tensor(n).Data)
			}
		}
		return fileOf(t, out)
	}
	for _, tt := range []struct {
		name string
		file []byte
		want []string
	}{
		{"missing", without("blocks.2.conv.bias"), []string{`"blocks.2.conv.bias"`}},
		{"misshapen", change(func(w *params.Set) { w.Add("color.weight", []int{7, CritterNetDim}, make([]float32, 7*CritterNetDim)) }),
			[]string{`"color.weight"`, "[7 64]", "[4 64]"}},
		{"NaN", change(func(w *params.Set) { w.Tensor("pattern.bias").Data[1] = float32(math.NaN()) }), []string{`"pattern.bias"`, "NaN"}},
		{"no file", []byte("not safetensors"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewCritterNet(tt.file, "net.safetensors", classes)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range append(tt.want, "net.safetensors") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

// TestReadErrors holds that an empty picture, and features that are not finite,
// are errors.
func TestReadErrors(t *testing.T) {
	for _, rect := range []image.Rectangle{{}, image.Rect(0, 0, 5, 0), image.Rect(0, 0, 0, 5)} {
		if _, err := freshNet(t).NewExtractor().Read(image.NewNRGBA(rect)); err == nil || !strings.Contains(err.Error(), "empty") {
			t.Errorf("picture %v: error %v, want one that says it is empty", rect, err)
		}
	}
	w := freshWeights(t)
	for i := range w.Tensor("blocks.3.norm.weight").Data {
		w.Tensor("blocks.3.norm.weight").Data[i] = math.MaxFloat32
	}
	n, err := NewCritterNet(fileOf(t, w), "net.safetensors", classes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.NewExtractor().Read(picture(64, 64, 1)); err == nil || !strings.Contains(err.Error(), "feature") {
		t.Errorf("error %v, want one of a feature that is not finite", err)
	}
}

// TestDigest holds that the digest follows the weights.
func TestDigest(t *testing.T) {
	a, b := freshNet(t), freshNet(t)
	if a.Digest() == "" || a.Digest() != b.Digest() {
		t.Errorf("digests %q and %q of the same weights", a.Digest(), b.Digest())
	}
	w := freshWeights(t)
	w.Tensor("shape.bias").Data[0]++
	c, err := NewCritterNet(fileOf(t, w), "net.safetensors", classes)
	if err != nil {
		t.Fatal(err)
	}
	if c.Digest() == a.Digest() {
		t.Error("other weights have the same digest")
	}
}
