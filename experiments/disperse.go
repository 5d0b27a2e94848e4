package experiments

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mattn/go-isatty"

	"scalecrafter/ablation"
	"scalecrafter/model/weights"
	"scalecrafter/reports"
)

// Disperse is the disperse command: it solves for dispersed convolution's
// transform R, or reads one, says how good it is, draws it and stores it. The
// result is the process's exit code.
func Disperse(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("disperse", flag.ContinueOnError)
	fs.SetOutput(stderr)
	var spec ablation.DispersionSpec
	fs.IntVar(&spec.Small, "kernel", 3, "`side` of the network's kernels")
	fs.IntVar(&spec.Large, "to", 5, "`side` of the enlarged kernels")
	fs.IntVar(&spec.Scale, "scale", 0, "how many `times` the feature is stretched (default (to-1)/(kernel-1))")
	fs.IntVar(&spec.Input, "input", 3, "`side` of the feature that the equations are set up on")
	fs.Float64Var(&spec.Eta, "eta", 0.05, "`weight` of the pixel equations")
	fs.BoolVar(&spec.DC, "dc", false, "keep the gain: every tap's image sums to 1")
	fs.BoolVar(&spec.Legacy, "legacy", false, "the equations of upstream's older R20to1 (-input 5) and R2to1 (-input 5 -eta 0.5)")
	from := fs.String("from", "", "read R from this .mat or .safetensors `file` instead of solving")
	out := fs.String("o", "", "write R to this .safetensors `file`")
	plot := fs.String("plot", "", "draw the heat map to this .png or .svg `file`")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	bad := func(err error) int {
		fmt.Fprintf(stderr, "disperse: %v\n", err)
		return 2
	}
	if fs.NArg() > 0 {
		return bad(fmt.Errorf("argument %q is not understood: settings are given as flags, a file with -from", fs.Arg(0)))
	}
	if *out != "" && filepath.Ext(*out) != ".safetensors" {
		return bad(fmt.Errorf("-o %s: a transform is written as .safetensors", *out))
	}
	if *plot != "" {
		if err := reports.CheckKernelMap(*plot); err != nil {
			return bad(fmt.Errorf("-plot %w", err))
		}
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })

	var d *dispersal
	var err error
	if given["from"] {
		for _, name := range []string{"kernel", "to", "scale", "input", "eta", "dc", "legacy"} {
			if given[name] {
				return bad(fmt.Errorf("-%s has no effect on an R that is read from a file: give it without -from, or drop it", name))
			}
		}
		d, err = readDispersal(*from)
	} else {
		if !given["scale"] {
			if spec.Scale, err = defaultScale(spec.Small, spec.Large); err != nil {
				return bad(err)
			}
		}
		d, err = solveDispersal(spec)
	}
	if err != nil {
		return bad(err)
	}
	if err := d.deliver(*out, *plot, stdout); err != nil {
		fmt.Fprintf(stderr, "disperse: %v\n", err)
		return 1
	}
	return 0
}

// defaultScale is how far the enlarged kernel reaches over the small one.
func defaultScale(small, large int) (int, error) {
	if small < 3 || large <= small || small%2 == 0 || large%2 == 0 { // for Check to name
		return 1, nil
	}
	if (large-1)%(small-1) != 0 {
		return 0, fmt.Errorf("(to-1)/(kernel-1) is %d/%d, no whole number: say with -scale how far the feature is stretched", large-1, small-1)
	}
	return (large - 1) / (small - 1), nil
}

// dispersal is a transform to be shown and stored, and the solved setting that
// is nearest to it: its own, where it was solved here.
type dispersal struct {
	transform *ablation.Transform
	file      string // where it was read; "" when solved
	nearest   *ablation.DispersionFit
	distance  float64 // largest difference from nearest's numbers
	metadata  map[string]string
}

// sameTransform is how far apart the numbers of one setting may be, from
// whatever solver.
const sameTransform = 1e-9

func solveDispersal(spec ablation.DispersionSpec) (*dispersal, error) {
	fit, err := spec.Solve()
	if err != nil {
		return nil, err
	}
	return &dispersal{transform: fit.Transform, nearest: fit, metadata: dispersionMetadata(fit)}, nil
}

// readDispersal reads a transform and finds the known setting that gives it, or
// comes nearest to it.
func readDispersal(path string) (*dispersal, error) {
	t, metadata, err := loadTransform(path)
	if err != nil {
		return nil, err
	}
	d := &dispersal{transform: t, file: path, distance: math.Inf(1)}
	for _, spec := range knownSettings(t, metadata) {
		fit, err := spec.Solve()
		if err != nil {
			continue // such a setting has no transform
		}
		if far := t.Distance(fit.Transform); far < d.distance {
			d.nearest, d.distance = fit, far
		}
	}
	d.metadata = map[string]string{"name": t.Name, "small": strconv.Itoa(t.Small), "large": strconv.Itoa(t.Large)}
	if d.known() {
		d.metadata = dispersionMetadata(d.nearest)
		d.metadata["name"] = t.Name
	}
	return d, nil
}

// known reports whether the nearest setting gives the transform.
func (d *dispersal) known() bool { return d.nearest != nil && d.distance <= sameTransform }

// knownSettings lists the settings that a transform is compared with: that of
// its file's metadata, the published ones, and the usual one for its sides with
// and without its gain kept.
func knownSettings(t *ablation.Transform, metadata map[string]string) []ablation.DispersionSpec {
	var list []ablation.DispersionSpec
	if spec, ok := metadataSpec(metadata); ok && spec.Small == t.Small && spec.Large == t.Large {
		list = append(list, spec)
	}
	for _, k := range ablation.KnownDispersions {
		if k.Small == t.Small && k.Large == t.Large {
			list = append(list, k.DispersionSpec)
		}
	}
	usual := ablation.DispersionSpec{Small: t.Small, Large: t.Large, Input: 3, Eta: 0.05}
	if scale, err := defaultScale(t.Small, t.Large); err == nil {
		usual.Scale = scale
		list = append(list, usual)
		usual.DC = true
		list = append(list, usual)
	}
	return list
}

func dispersionMetadata(fit *ablation.DispersionFit) map[string]string {
	return map[string]string{
		"name": fit.Transform.Name, "small": strconv.Itoa(fit.Small), "large": strconv.Itoa(fit.Large),
		"scale": strconv.Itoa(fit.Scale), "input": strconv.Itoa(fit.Input), "eta": strconv.FormatFloat(fit.Eta, 'g', -1, 64),
		"dc": strconv.FormatBool(fit.DC), "legacy": strconv.FormatBool(fit.Legacy),
	}
}

// metadataSpec is dispersionMetadata turned round; ok is false where the file
// does not tell the whole setting.
func metadataSpec(m map[string]string) (spec ablation.DispersionSpec, ok bool) {
	ok = true
	whole := func(key string) int {
		n, err := strconv.Atoi(m[key])
		ok = ok && err == nil
		return n
	}
	flag := func(key string) bool {
		v, err := strconv.ParseBool(m[key])
		ok = ok && err == nil
		return v
	}
	spec = ablation.DispersionSpec{Small: whole("small"), Large: whole("large"), Scale: whole("scale"), Input: whole("input"), DC: flag("dc"), Legacy: flag("legacy")}
	eta, err := strconv.ParseFloat(m["eta"], 64)
	spec.Eta = eta
	return spec, ok && err == nil && spec.Check() == nil
}

// LoadTransform reads a dispersion transform from a .safetensors file that the
// disperse command wrote, or from one of upstream's .mat files: the matrix R, or
// the file's only one, of odd squares [Large*Large, Small*Small].
func LoadTransform(path string) (*ablation.Transform, error) {
	t, _, err := loadTransform(path)
	return t, err
}

func loadTransform(path string) (*ablation.Transform, map[string]string, error) {
	const want = "a transform is one matrix of [large*large, small*small] numbers, called R"
	var data []float64
	var shape []int
	var metadata map[string]string
	var variable string // the matrix's name in the file
	// pick prefers R; a file's only matrix may have another name.
	pick := func(names []string) error {
		for _, name := range names {
			if name == "R" || len(names) == 1 {
				variable = name
			}
		}
		switch {
		case variable != "":
			return nil
		case len(names) == 0:
			return fmt.Errorf("%s: holds no matrix of numbers; %s", path, want)
		}
		return fmt.Errorf("%s: holds %s, and none is called R; %s", path, strings.Join(names, ", "), want)
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".mat":
		f, err := weights.OpenMat(path)
		if err != nil {
			return nil, nil, err
		}
		var names []string
		for _, m := range f.Matrices {
			names = append(names, m.Name)
		}
		if err := pick(names); err != nil {
			return nil, nil, err
		}
		for _, m := range f.Matrices {
			if m.Name == variable {
				data, shape = m.Data, m.Shape
			}
		}
	case ".safetensors":
		f, err := weights.Open(path)
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		if err := pick(f.Names()); err != nil {
			return nil, nil, err
		}
		if data, shape, err = f.Float64(variable); err != nil {
			return nil, nil, err
		}
		metadata = f.Metadata
	default:
		return nil, nil, fmt.Errorf("%s: a transform is read from .mat or .safetensors", path)
	}
	t := &ablation.Transform{Name: metadata["name"], R: data}
	if t.Name == "" {
		t.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	if len(shape) == 2 {
		t.Large, t.Small = root(shape[0]), root(shape[1])
	}
	if t.Large == 0 || t.Small == 0 {
		return nil, nil, fmt.Errorf("%s: %q has shape %v, and its sides are no squares; %s", path, variable, shape, want)
	}
	if err := t.Check(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	for key, side := range map[string]int{"small": t.Small, "large": t.Large} {
		if text, ok := metadata[key]; ok && text != strconv.Itoa(side) {
			return nil, nil, fmt.Errorf("%s: the metadata's %s is %q and R's shape %v says %d: the file is not what it says it is", path, key, text, shape, side)
		}
	}
	return t, metadata, nil
}

// root is the square root of n, or 0 where it is not whole.
func root(n int) int {
	r := int(math.Round(math.Sqrt(float64(n))))
	if r*r != n {
		return 0
	}
	return r
}

// deliver prints the transform and writes the files that are asked for.
func (d *dispersal) deliver(out, plot string, stdout io.Writer) error {
	if err := d.print(stdout); err != nil {
		return err
	}
	if out != "" {
		r := weights.Tensor{Name: "R", DType: "F64", Shape: []int{d.transform.Large * d.transform.Large, d.transform.Small * d.transform.Small}, Float64: d.transform.R}
		if err := weights.Write(out, []weights.Tensor{r}, d.metadata, "F64"); err != nil {
			return fmt.Errorf("cannot write %s: %w", out, err)
		}
		fmt.Fprintf(stdout, "wrote %s\n", out)
	}
	if plot != "" {
		if err := reports.KernelMap(plot, d.transform, d.title(), d.subtitle()); err != nil {
			return fmt.Errorf("cannot write %s: %w", plot, err)
		}
		fmt.Fprintf(stdout, "wrote %s\n", plot)
	}
	return nil
}

func (d *dispersal) title() string {
	t := d.transform
	return fmt.Sprintf("Dispersion %s: %dx%d kernels become %dx%d", t.Name, t.Small, t.Small, t.Large, t.Large)
}

// subtitle says where the numbers come from.
func (d *dispersal) subtitle() string {
	if d.file != "" && !d.known() {
		return "read from " + filepath.Base(d.file)
	}
	return settingText(d.nearest.DispersionSpec)
}

func settingText(s ablation.DispersionSpec) string {
	text := fmt.Sprintf("scale %d, input %d, eta %g", s.Scale, s.Input, s.Eta)
	if s.DC {
		text += ", gain kept"
	}
	if s.Legacy {
		text += ", legacy equations"
	}
	for _, k := range ablation.KnownDispersions {
		if k.DispersionSpec == s {
			text += " (upstream's " + k.Name + ")"
		}
	}
	return text
}

func (d *dispersal) print(w io.Writer) error {
	t := d.transform
	fmt.Fprintf(w, "%s\n", d.title())
	if d.file != "" {
		fmt.Fprintf(w, "  read from         %s\n", d.file)
	}
	if fit := d.nearest; fit != nil {
		structure, pixel := fit.Structure, fit.Pixel
		switch {
		case d.file == "":
			fmt.Fprintf(w, "  setting           %s\n", settingText(fit.DispersionSpec))
		case d.known():
			fmt.Fprintf(w, "  setting           %s; largest difference %.2g\n", settingText(fit.DispersionSpec), d.distance)
		default:
			fmt.Fprintf(w, "  setting           not one of the known ones; nearest: %s, largest difference %.2g\n", settingText(fit.DispersionSpec), d.distance)
			var err error
			if structure, pixel, err = fit.Residuals(t); err != nil {
				return err
			}
		}
		fmt.Fprintf(w, "  equations         %d structure, %d pixel; rank %d of %d taps, condition number %.2f\n",
			structure.Equations, pixel.Equations, fit.Rank, t.Large*t.Large, fit.Condition)
		fmt.Fprintf(w, "  residual (rms)    structure %.6f, pixel %.6f\n", structure.RMS, pixel.RMS)
	}
	fmt.Fprintf(w, "  gain per tap     ")
	for j, g := range t.Gain() {
		if j > 0 && j%t.Small == 0 {
			fmt.Fprintf(w, "\n                   ")
		}
		fmt.Fprintf(w, " %9.6f", g)
	}
	fmt.Fprintln(w)
	return reports.KernelText(w, t, colourful(w))
}

// colourful reports whether w is a terminal whose user has not asked for plain
// text (no-color.org).
func colourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd()) && os.Getenv("NO_COLOR") == ""
}
