package metrics_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scalecrafter/metrics"
	"scalecrafter/model/weights"
)

// goldensDir is the folder in $GOLDENS, or testdata/goldens beside go.mod.
func goldensDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("GOLDENS"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "goldens")
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = parent
	}
}

func openGolden(t testing.TB, name string) *weights.File {
	t.Helper()
	f, err := weights.Open(filepath.Join(goldensDir(t), name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func floats(t testing.TB, f *weights.File, name string) ([]float64, []int) {
	t.Helper()
	data, shape, err := f.Float64(name)
	if err == nil {
		return data, shape
	}
	whole, shape, err := f.Int64(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range whole {
		data = append(data, float64(v))
	}
	return data, shape
}

func goldenFeatures(t testing.TB, f *weights.File, name string) *metrics.Features {
	t.Helper()
	data, shape := floats(t, f, "in.features."+name)
	x, err := metrics.NewFeatures(shape[0], shape[1], data)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func goldenIndices(t testing.TB, f *weights.File, name string) [][]int {
	t.Helper()
	data, shape, err := f.Int64(name)
	if err != nil {
		t.Fatal(err)
	}
	rows := make([][]int, shape[0])
	for s := range rows {
		for _, v := range data[s*shape[1] : (s+1)*shape[1]] {
			rows[s] = append(rows[s], int(v))
		}
	}
	return rows
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: got %.15g, want %.15g, off by %.3g (tolerance %g)", what, got, want, math.Abs(got-want), tolerance)
	}
}

// nearAll reports the value of got that is furthest from want.
func nearAll(t *testing.T, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	worst, at := -1.0, 0
	for i, v := range want {
		off := math.Abs(float64(got[i]) - v)
		if math.IsNaN(off) {
			worst, at = off, i
			break
		}
		if off > worst {
			worst, at = off, i
		}
	}
	near(t, fmt.Sprintf("%s, value %d", what, at), float64(got[at]), want[at], tolerance)
}

// Reference values: torch-fidelity 0.4.0 and clean-fid e88c4d6 (SciPy 1.10.1).
func TestGoldenMetricsFIDKID(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(goldensDir(t), "metrics_fid_kid.json"))
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		FID []struct {
			X, Y          string
			TorchFidelity float64 `json:"torch_fidelity"`
			Cleanfid      float64 `json:"cleanfid_sqrtm"`
			Eigh          float64 `json:"symmetric_eigh"`
		}
		KID []struct {
			X, Y      string
			Mean, Std float64
			Indices   string
			PerSubset string `json:"per_subset"`
		}
		Full struct {
			X, Y string
			Rows int `json:"first_rows"`
		} `json:"mmd2_full"`
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.FID) == 0 || len(golden.KID) == 0 {
		t.Fatal("golden lists no cases")
	}
	f := openGolden(t, "metrics_fid_kid")
	for _, c := range golden.FID {
		t.Run(fmt.Sprintf("fid %s %s", c.X, c.Y), func(t *testing.T) {
			x, y := goldenFeatures(t, f, c.X), goldenFeatures(t, f, c.Y)
			tolerance := 1e-6
			if x.N() < x.D() || y.N() < y.D() {
				tolerance = 1e-5
			}
			got, err := metrics.FIDFeatures(x, y)
			if err != nil {
				t.Fatal(err)
			}
			sx, err := metrics.NewStats(x)
			if err != nil {
				t.Fatal(err)
			}
			sy, err := metrics.NewStats(y)
			if err != nil {
				t.Fatal(err)
			}
			fromStats, err := metrics.FID(sx, sy)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []float64{c.TorchFidelity, c.Cleanfid, c.Eigh} {
				near(t, "from features", got, want, tolerance)
				near(t, "from moments", fromStats, want, tolerance)
			}
		})
	}
	for _, name := range f.Names() {
		set, ok := strings.CutPrefix(name, "out.mu.")
		if !ok {
			continue
		}
		t.Run("moments "+set, func(t *testing.T) {
			s, err := metrics.NewStats(goldenFeatures(t, f, set))
			if err != nil {
				t.Fatal(err)
			}
			mean, _ := floats(t, f, name)
			cov, _ := floats(t, f, "out.sigma."+set)
			for i := range mean {
				near(t, "mean", s.Mean[i], mean[i], 1e-12)
				for j := range mean {
					near(t, "cov", s.Cov.At(i, j), cov[i*len(mean)+j], 1e-11)
				}
			}
		})
	}
	for _, c := range golden.KID {
		t.Run(fmt.Sprintf("kid %s %s", c.X, c.Y), func(t *testing.T) {
			prefix, _, _ := strings.Cut(c.Indices, ".idx1")
			got, err := metrics.KIDOverSubsets(goldenFeatures(t, f, c.X), goldenFeatures(t, f, c.Y),
				goldenIndices(t, f, prefix+".idx1"), goldenIndices(t, f, prefix+".idx2"))
			if err != nil {
				t.Fatal(err)
			}
			near(t, "mean", got.Mean, c.Mean, 1e-9)
			near(t, "std", got.Std, c.Std, 1e-9)
			perSubset, _ := floats(t, f, c.PerSubset)
			for i, want := range perSubset {
				near(t, fmt.Sprintf("subset %d", i), got.PerSubset[i], want, 1e-9)
			}
		})
	}
	t.Run("kid of all pairs", func(t *testing.T) {
		first := make([]int, golden.Full.Rows)
		for i := range first {
			first[i] = i
		}
		x, err := goldenFeatures(t, f, golden.Full.X).Select(first)
		if err != nil {
			t.Fatal(err)
		}
		y, err := goldenFeatures(t, f, golden.Full.Y).Select(first)
		if err != nil {
			t.Fatal(err)
		}
		got, err := metrics.KIDFeatures(x, y)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := floats(t, f, "out.mmd2_full")
		near(t, "value", got.Value, want[0], 1e-9)
	})
}

// Reference values: torch-fidelity 0.4.0, clean-fid e88c4d6, Pillow 9.4.0.
func TestGoldenMetricsResize(t *testing.T) {
	f := openGolden(t, "metrics_resize")
	cases := 0
	for _, name := range f.Names() {
		rest, ok := strings.CutPrefix(name, "out.")
		if !ok {
			continue
		}
		cases++
		t.Run(rest, func(t *testing.T) {
			cut := strings.LastIndex(rest, "_")
			input, shape := floats(t, f, "in.uint8_"+rest[cut+1:])
			want, wantShape := floats(t, f, name)
			batch, c, h, w := shape[0], shape[1], shape[2], shape[3]
			toH, toW := 299, 299
			if !strings.Contains(rest, "299") {
				toH, toW = wantShape[2], wantShape[3]
			}
			planes := make([]float32, len(input))
			bytes := make([]uint8, len(input))
			for i, v := range input {
				planes[i], bytes[i] = float32(v), uint8(v)
			}
			filter := metrics.Bicubic
			if strings.Contains(rest, "bilinear") {
				filter = metrics.Bilinear
			} else if strings.Contains(rest, "lanczos") {
				filter = metrics.Lanczos
			}
			r, err := metrics.NewResizer(filter, h, w, toH, toW)
			if err != nil {
				t.Fatal(err)
			}
			var got []float32
			tolerance := 1e-3
			switch {
			case strings.HasPrefix(rest, "tf1_"):
				got, err = metrics.ResizeTF1(planes, h, w, toH, toW)
				tolerance = 5e-3
			case strings.HasPrefix(rest, "legacy_pytorch_"):
				got, err = metrics.ResizeHalfPixel(planes, h, w, toH, toW)
			case strings.HasPrefix(rest, "clean_"):
				got, err = r.Clean(planes)
			case strings.HasPrefix(rest, "pil_"):
				var small []uint8
				small, err = r.Bytes(bytes)
				for _, v := range small {
					got = append(got, float32(v))
				}
				tolerance = 0
			default:
				t.Fatalf("no rule for %s", name)
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != batch*c*toH*toW {
				t.Fatalf("got %d values, want %d", len(got), batch*c*toH*toW)
			}
			switch {
			case strings.Contains(rest, "_sum_"):
				// One sum a channel: of every picture, or of the first only.
				for i, sum := range want {
					total := 0.0
					for _, v := range got[i*toH*toW : (i+1)*toH*toW] {
						total += float64(v)
					}
					near(t, fmt.Sprintf("sum of channel %d", i), total, sum, 1)
				}
			case strings.Contains(rest, "_rows120to160_"):
				nearAll(t, "rows 120..159", got[120*toW:], want, tolerance)
			default:
				nearAll(t, "first picture", got, want, tolerance)
			}
		})
	}
	if cases == 0 {
		t.Fatal("golden holds no outputs")
	}
}
