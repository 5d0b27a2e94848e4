package experiments

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scalecrafter/ablation"
	"scalecrafter/model/weights"
)

// disperse runs the command and returns its exit code and what it printed.
func disperse(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = Disperse(args, &out, &err)
	return code, out.String(), err.String()
}

// What the command solves it can read again, and knows where it comes from.
func TestDisperse(t *testing.T) {
	dir := t.TempDir()
	file, plot := filepath.Join(dir, "r.safetensors"), filepath.Join(dir, "r.png")
	code, text, errs := disperse("-kernel", "3", "-to", "5", "-scale", "2", "-input", "3", "-eta", "0.05", "-o", file, "-plot", plot)
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	for _, want := range []string{
		"Dispersion 3to5-n3-x2-eta0.05: 3x3 kernels become 5x5", "upstream's R20to1_new",
		"169 structure, 81 pixel; rank 25 of 25 taps, condition number 18.82", "structure 0.051973, pixel 0.215399",
		"1.126727  1.061347  1.126727", "tap top left, sum 1.1267", "wrote " + file, "wrote " + plot,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the output lacks %q:\n%s", want, text)
		}
	}
	if st, err := os.Stat(plot); err != nil || st.Size() == 0 {
		t.Errorf("the plot: %v", err)
	}
	fit, err := ablation.DispersionSpec{Small: 3, Large: 5, Input: 3, Scale: 2, Eta: 0.05}.Solve()
	if err != nil {
		t.Fatal(err)
	}
	back, err := LoadTransform(file)
	if err != nil {
		t.Fatal(err)
	}
	if back.Key() != fit.Transform.Key() || back.Name != "3to5-n3-x2-eta0.05" {
		t.Errorf("%s, key %s, want %s", back.Name, back.Key(), fit.Transform.Key())
	}
	f, err := weights.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]string{"small": "3", "large": "5", "scale": "2", "input": "3", "eta": "0.05", "dc": "false", "legacy": "false"} {
		if f.Metadata[key] != want {
			t.Errorf("metadata %s is %q, want %q", key, f.Metadata[key], want)
		}
	}
	if f.DType("R") != "F64" {
		t.Errorf("R is stored as %s", f.DType("R"))
	}
}

// A file tells its setting, even one that is not published; a transform that no
// known setting gives is said to be unknown.
func TestDisperseFrom(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "r.safetensors")
	for _, tt := range []struct{ args, want string }{
		{"-kernel 5 -to 7 -scale 2 -eta 0.2 -dc", "setting           scale 2, input 3, eta 0.2, gain kept; largest difference 0\n"},
		{"-to 7", "setting           scale 3, input 3, eta 0.05; largest difference 0\n"},
		{"-input 5 -legacy -eta 0.5", "legacy equations (upstream's R2to1); largest difference 0\n"},
	} {
		if code, _, errs := disperse(append(strings.Fields(tt.args), "-o", file)...); code != 0 {
			t.Fatal(errs)
		}
		code, text, errs := disperse("-from", file)
		if code != 0 || !strings.Contains(text, tt.want) {
			t.Errorf("%s: exit code %d, want %q in %s%s", tt.args, code, tt.want, text, errs)
		}
	}
	r := weights.Tensor{Name: "any", DType: "F64", Shape: []int{25, 9}, Float64: make([]float64, 225)}
	if err := weights.Write(file, []weights.Tensor{r}, nil, ""); err != nil {
		t.Fatal(err)
	}
	code, text, _ := disperse("-from", file)
	if code != 0 || !strings.Contains(text, "not one of the known ones; nearest: ") || !strings.Contains(text, "Dispersion r:") {
		t.Errorf("exit code %d: %s", code, text)
	}
}

func TestDisperseRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, tensors ...weights.Tensor) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := weights.Write(path, tensors, nil, ""); err != nil {
			t.Fatal(err)
		}
		return path
	}
	matrix := func(name string, shape ...int) weights.Tensor {
		n := 1
		for _, s := range shape {
			n *= s
		}
		return weights.Tensor{Name: name, DType: "F64", Shape: shape, Float64: make([]float64, n)}
	}
	odd := write("odd.safetensors", matrix("R", 24, 9))
	flat := write("flat.safetensors", matrix("R", 225))
	even := write("even.safetensors", matrix("R", 16, 4))
	two := write("two.safetensors", matrix("a", 25, 9), matrix("b", 25, 9))
	none := write("none.safetensors")
	lying := filepath.Join(dir, "lying.safetensors")
	if err := weights.Write(lying, []weights.Tensor{matrix("R", 25, 9)}, map[string]string{"large": "7"}, ""); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text.mat")
	if err := os.WriteFile(text, []byte("R = ones(25, 9)"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		want []string
	}{
		{"-h", 0, []string{"-kernel side", "-eta weight", "-legacy"}},
		{"-kernal 3", 2, []string{"flag provided but not defined: -kernal"}},
		{"-kernel three", 2, []string{`invalid value "three"`}},
		{"file.mat", 2, []string{`argument "file.mat" is not understood`, "-from"}},
		{"-kernel 4", 2, []string{"small kernel's side is 4"}},
		{"-to 6", 2, []string{"large kernel's side is 6"}},
		{"-to 3", 2, []string{"nothing to enlarge"}},
		{"-kernel 5 -to 7", 2, []string{"(to-1)/(kernel-1) is 6/4", "-scale"}},
		{"-scale 0", 2, []string{"scale is 0"}},
		{"-input 0", 2, []string{"input's side is 0"}},
		{"-input 1", 2, []string{"determine only 1 of the enlarged kernel's 25 taps"}},
		{"-eta -1", 2, []string{"eta is -1"}},
		{"-eta NaN", 2, []string{"eta is NaN"}},
		{"-legacy -input 4", 2, []string{"must be odd"}},
		{"-o r.mat", 2, []string{"-o r.mat", ".safetensors"}},
		{"-plot r.gif", 2, []string{"-plot r.gif", ".png or .svg"}},
		{"-from " + odd + " -eta 1", 2, []string{"-eta has no effect"}},
		{"-from " + odd, 2, []string{odd, `"R" has shape [24 9]`, "[large*large, small*small]"}},
		{"-from " + flat, 2, []string{"shape [225]"}},
		{"-from " + even, 2, []string{"from side 2 to 4: want odd sides"}},
		{"-from " + two, 2, []string{"holds a, b, and none is called R"}},
		{"-from " + none, 2, []string{"holds no matrix of numbers"}},
		{"-from " + lying, 2, []string{`metadata's large is "7"`, "says 5"}},
		{"-from " + text, 2, []string{text, "header of 128"}},
		{"-from " + filepath.Join(dir, "missing.mat"), 2, []string{"missing.mat"}},
		{"-from r.npy", 2, []string{"r.npy", ".mat or .safetensors"}},
		{"-from=", 2, []string{".mat or .safetensors"}},
		{"-o " + filepath.Join(dir, "no", "r.safetensors"), 1, []string{"cannot write " + filepath.Join(dir, "no", "r.safetensors")}},
		{"-plot " + filepath.Join(dir, "no", "r.png"), 1, []string{"cannot write " + filepath.Join(dir, "no", "r.png")}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, _, errs := disperse(strings.Fields(tt.args)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, errs)
			}
			for _, want := range tt.want {
				if !strings.Contains(errs, want) {
					t.Errorf("got %q, want it to say %q", errs, want)
				}
			}
		})
	}
}
