// Package configs is the schema of the experiment files: strict decoding with
// every error at its place, defaults, and the cells that a file stands for. It
// knows TOML and the mathematics of ablation, and no model.
//
// Every default lives in this package and nowhere else.
package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"scalecrafter/ablation"
)

// Config is one experiment, checked and with its defaults filled in.
type Config struct {
	File            string
	Name            string // the folder of its results
	Title, Question string
	Weights         string // "builtin" or a path
	Math            string // arithmetic of the network, one of Maths
	Sample          Sample
	Reference       Reference
	Methods         []ablation.Method // grids expanded, in the order of the file
	Report          Report

	// LoadTransform reads the dispersion transforms that methods name as files;
	// Cells calls it. Panels inherit it.
	LoadTransform func(path string) (*ablation.Transform, error)

	origins   []origin // by method: where its settings stand
	reader    *reader
	tree      map[string]any       // the resolved file
	listed    []int                // method tables' places in the file; nil: in order
	folder    fs.FS                // of schedule files; nil: none
	schedules map[string]*Schedule // nil: at fault
	used      map[string]bool      // names of schedules
	cache     *transforms
}

// Sample says what every cell draws.
type Sample struct {
	Height, Width int // pixels
	// Sizes, when not nil, are the sizes of the panels; Height and Width are
	// then the first.
	Sizes         []ablation.Size
	Count         int // images per cell
	Steps         int
	GuidanceScale float64 // 1 or less: no guidance
	// GuidanceRescale is diffusers' guidance_rescale; 0 is off.
	GuidanceRescale float64
	Eta             float64 // DDIM's: 0 deterministic .. 1 as noisy as DDPM
	Seed            uint64
	Sampler         string
}

// Samplers are the values of sample.sampler.
var Samplers = []string{"ddim", "euler", "euler_ancestral", "dpmpp_2m"}

// Maths are the values of model.math, kernels.MathNames: plain float32; two bfloat16 halves
// a number with near-float32 error; bfloat16. The latter two are float32 on
// machines that are not faster with them.
var Maths = []string{"float32", "bf16x3", "bf16"}

// Reference says what FID and KID compare with.
type Reference struct {
	Count     int // true scenes at the target size
	BaseCount int // samples at the training size
}

// Report says what is shown.
type Report struct {
	Columns        []string // metric keys
	Plots          []Plot
	PictureRows    []string // method names; empty: all
	PictureColumns int      // prompts shown
	Compares       []Compare
}

// Compare asks for what one component adds: method To against method From.
type Compare struct {
	Name     string // the component
	From, To string // names of methods of one cell each
}

// Plot asks for one figure.
type Plot struct {
	Name, Title, Metric, X, GroupBy string
	Methods                         []string // names of those shown; empty: all
}

// origin is where a method's settings stand.
type origin struct {
	path   string // "method[1]"
	places map[string]place
	sizes  []ablation.Size // that the method runs at; nil: all
}

// place is a path in one of the files that were read.
type place struct {
	r    *reader
	path string
}

// locate is the place of a setting that Schedule complained about ("tau",
// "damped.layers[1]"), where the files give it.
func (o origin) locate(r *reader, key string) place {
	for prefix := key; prefix != ""; prefix = parent(prefix) {
		if p, ok := o.places[prefix]; ok {
			p.path += key[len(prefix):]
			return p
		}
	}
	return place{r, o.path + "." + key}
}

// Metrics are the keys that report.columns and plots may name.
var Metrics = []string{
	"right_share", "excess_bodies", "excess_eyes", "excess_mouths",
	"fid_r", "kid_r", "fid_b", "kid_b",
	"shape_accuracy", "color_accuracy", "background_accuracy", "pattern_accuracy",
}

// plotAxes are the settings that plots may use as x or group_by.
var plotAxes = []string{
	"kind", "size", "schedule", "factor", "tau", "tau_share", "min_depth", "layers", "decay",
	"damped", "damped_tau", "damped_tau_share", "damped_layers",
	"dispersed", "eta", "input", "dc", "dispersion_tau", "dispersion_tau_share",
	"attention_scaling", "guidance_scale", "guidance_rescale", "freeu", "sdedit",
}

// sizeStep is what height and width must be multiples of: the picture is
// folded 2x2 into latents, and a network's levels halve those. Sizes that do not
// halve evenly to the end are computed as diffusers computes them.
const sizeStep = 8

// maxCells bounds a grid; more is a slip of the keyboard.
const maxCells = 10000

// Load reads a file and applies -set arguments ("sample.count=8"). Schedules
// that methods name are read from the folder schedules beside it. A non-nil
// error is Errors where the content is at fault.
func Load(path string, sets []string) (*Config, error) {
	folder := os.DirFS(filepath.Join(filepath.Dir(path), "schedules"))
	return load(path, sets, func(src, file string, sets []string) (*Config, error) { return DecodeFS(src, file, sets, folder) })
}

// load reads the file for a decoder.
func load[T any](path string, sets []string, decode func(src, file string, sets []string) (T, error)) (T, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		var none T
		return none, fmt.Errorf("configuration: %w; give a TOML file with -config", err)
	}
	return decode(string(src), path, sets)
}

// Decode is Load for a source in memory that names no schedule file; file is
// the name in messages.
func Decode(src, file string, sets []string) (*Config, error) { return DecodeFS(src, file, sets, nil) }

// DecodeFS is Decode with a folder of schedule files, NAME.toml.
func DecodeFS(src, file string, sets []string, schedules fs.FS) (*Config, error) {
	c := &Config{File: file, folder: schedules, schedules: map[string]*Schedule{}, used: map[string]bool{}, cache: newTransforms()}
	tree, err := decode(src, file, sets, func(t *table) {
		c.reader = t.r
		c.read(t)
	})
	if err != nil {
		return nil, err
	}
	c.tree = tree
	return c, nil
}

// decode parses the source, applies -set arguments and has read take every key,
// collecting all errors; it returns the resolved tree.
func decode(src, file string, sets []string, read func(*table)) (map[string]any, error) {
	tree := map[string]any{}
	if _, err := toml.Decode(src, &tree); err != nil {
		return nil, Errors{syntaxError(file, src, err)}
	}
	r := &reader{file: file, spans: positions(src), sets: map[string]string{}}
	for _, arg := range sets {
		r.set(tree, arg)
	}
	read(&table{r: r, m: tree})
	if len(r.errs) > 0 {
		return nil, r.errs.sorted(r.file)
	}
	return tree, nil
}

func (c *Config) read(t *table) {
	c.Name = t.name("name")
	if c.Name == "cells" || c.Name == "reference" {
		t.fail("name", "choose another name", "is %q, which is a folder of the store", c.Name)
	}
	c.Title = t.text("title", c.Name)
	c.Question = t.text("question", "")
	m := section(t, "model")
	c.Weights = m.text("weights", "builtin")
	c.Math = m.choice("math", Maths[0], Maths)
	if c.Weights == "" {
		m.fail("weights", `write "builtin" or the folder of a model`, "is empty")
	}
	m.done()
	c.readSample(t)
	c.readReference(t)
	c.readSchedules(t)
	c.readTransforms(t)
	c.readMethods(t)
	c.keepSchedules(t)
	c.keepTransforms(t)
	c.readReport(t)
	t.done()
}

// section opens an optional table, creating it so that defaults can be filled.
func section(t *table, key string) *table {
	if s := t.sub(key); s != nil {
		return s
	}
	s := &table{r: t.r, path: join(t.path, key), m: map[string]any{}}
	if !t.has(key) {
		t.m[key] = s.m
	}
	return s
}

func (c *Config) readSample(t *table) {
	if _, ok := t.m["sample"].(map[string]any); !ok {
		if t.has("sample") {
			t.sub("sample") // reports that it is no table
		} else {
			t.take("sample")
			t.missing("sample", "a section [sample] with height and width", "add [sample], height = 128, width = 128")
		}
		c.Sample = Sample{Count: 1, Steps: 1000, GuidanceScale: 3} // so that nothing else is blamed
		return
	}
	s := section(t, "sample")
	if s.has("sizes") {
		for _, key := range []string{"height", "width"} {
			if _, ok := s.take(key); ok {
				s.fail(key, "keep either sizes or height and width", "is given beside sizes")
			}
		}
		c.Sample.Sizes = s.sizes("sizes")
		first := ablation.Size{H: 128, W: 128}
		if len(c.Sample.Sizes) > 0 {
			first = c.Sample.Sizes[0]
		}
		c.Sample.Height, c.Sample.Width = first.H, first.W
	} else {
		s.take("sizes")
		c.Sample.Height = s.pixels("height", 128)
		c.Sample.Width = s.pixels("width", 128)
	}
	c.Sample.Count = s.integer("count", 96, 2, 1000000, "images per cell; intervals need dozens")
	c.Sample.Steps = s.integer("steps", 20, 1, 1000, "the model was trained on 1000 timesteps; 20 to 50 are usual")
	c.Sample.GuidanceScale = s.number("guidance_scale", 3, 0, 50, "1 or less turns guidance off; 3 to 7.5 are usual")
	c.Sample.GuidanceRescale = s.number("guidance_rescale", 0, 0, 1, "0 turns it off")
	c.Sample.Eta = s.number("eta", 0, 0, 1, "0 is deterministic DDIM, 1 as noisy as DDPM")
	c.Sample.Seed = uint64(s.integer("seed", 1, 0, math.MaxInt64, "the same seed gives the same images"))
	c.Sample.Sampler = s.choice("sampler", "ddim", Samplers)
	if c.Sample.Eta > 0 && c.Sample.Sampler != "ddim" && c.Sample.Sampler != "" {
		s.fail("eta", "drop it, or choose sampler = \"ddim\"", "is %v, which never takes effect: the sampler is %q", c.Sample.Eta, c.Sample.Sampler)
	}
	if c.Sample.GuidanceRescale > 0 && c.Sample.GuidanceScale <= 1 {
		s.fail("guidance_rescale", "set it to 0 or raise sample.guidance_scale above 1", "is %v, which never takes effect: guidance is off", c.Sample.GuidanceRescale)
	}
	s.done()
}

func (c *Config) readReference(t *table) {
	r := section(t, "reference")
	c.Reference.Count = r.integer("count", 2000, 2, 1000000, "true scenes for FID_r and KID_r; 2000 are usual")
	c.Reference.BaseCount = r.integer("base_count", c.Sample.Count, 2, 1000000, "samples at the training size for FID_b and KID_b")
	r.done()
}

func (c *Config) readReport(t *table) {
	p := section(t, "report")
	c.Report.Columns = p.texts("columns", Metrics[0])
	for i, key := range c.Report.Columns {
		if !contains(Metrics, key) {
			t.r.fail(element(p.where("columns"), i), didYouMean(key, Metrics), "is %q, want a metric: %s", key, strings.Join(Metrics, ", "))
		}
	}
	if !p.has("columns") {
		c.Report.Columns = Metrics
		p.m["columns"] = anyList(Metrics)
	}
	names := map[string]bool{}
	for _, m := range c.Methods {
		names[m.Name] = true
	}
	c.Report.PictureRows = p.texts("picture_rows", "direct")
	for i, row := range c.Report.PictureRows {
		if !names[row] {
			t.r.fail(element(p.where("picture_rows"), i), didYouMean(row, methodNames(c.Methods)), "is %q, want the name of a method", row)
		}
	}
	// A -set that takes fewer samples is not to be followed by another.
	if n, ok := p.m["picture_columns"].(int64); ok && n > int64(c.Sample.Count) && t.r.sets["sample.count"] != "" && t.r.sets["report.picture_columns"] == "" {
		p.m["picture_columns"] = int64(c.Sample.Count)
	}
	c.Report.PictureColumns = p.integer("picture_columns", min(8, c.Sample.Count), 1, max(c.Sample.Count, 1), "prompts shown; at most sample.count")
	c.readCompares(p)
	v, ok := p.take("plot")
	if !ok {
		p.done()
		return
	}
	list, ok := asList(v)
	if !ok {
		p.fail("plot", "write it as [[report.plot]]", "is %s, want an array of tables", show(v))
	}
	seen := map[string]bool{}
	for i, item := range list {
		path := element(p.where("plot"), i)
		m, ok := item.(map[string]any)
		if !ok {
			t.r.fail(path, "write it as [[report.plot]]", "is %s, want a table", show(item))
			continue
		}
		q := &table{r: t.r, path: path, m: m}
		var plot Plot
		plot.Name = q.name("name")
		if seen[plot.Name] && plot.Name != "" {
			q.fail("name", "give every plot its own name", "is %q, which another plot has", plot.Name)
		}
		seen[plot.Name] = true
		plot.Metric = q.choice("metric", "", Metrics)
		plot.Title = q.text("title", "")
		plot.X = q.choice("x", "none", append([]string{"none"}, plotAxes...))
		plot.GroupBy = q.choice("group_by", "none", append([]string{"none"}, plotAxes...))
		if plot.X == "none" {
			plot.X = ""
		}
		if plot.GroupBy == "none" {
			plot.GroupBy = ""
		}
		plot.Methods = q.texts("methods", "redilation")
		if plot.Methods != nil && len(plot.Methods) == 0 {
			q.fail("methods", "name some, or drop it to show all", "is empty: the plot would show nothing")
		}
		for k, name := range plot.Methods {
			if !names[name] {
				t.r.fail(element(q.where("methods"), k), didYouMean(name, methodNames(c.Methods)), "is %q, want the name of a method", name)
			}
		}
		q.done()
		c.Report.Plots = append(c.Report.Plots, plot)
	}
	p.done()
}

// Settings is what all cells share, as the cells' identity needs it.
func (c *Config) Settings() ablation.Settings {
	return ablation.Settings{
		Size: ablation.Size{H: c.Sample.Height, W: c.Sample.Width}, Steps: c.Sample.Steps,
		GuidanceScale: c.Sample.GuidanceScale, GuidanceRescale: c.Sample.GuidanceRescale,
		Eta: c.Sample.Eta, Seed: c.Sample.Seed, Sampler: c.Sample.Sampler,
	}
}

// Cells plans every method on a network: the last check before anything runs.
// A configuration with sizes has the cells of its Panels. A non-nil error is
// Errors, with every method's problems at their places.
func (c *Config) Cells(arch ablation.Architecture, train ablation.Size, id ablation.Identity) ([]ablation.Cell, error) {
	r := &reader{file: c.reader.file, spans: c.reader.spans, sets: c.reader.sets}
	settings := c.Settings()
	// report puts an error of ablation at its place.
	report := func(o origin, err error) {
		for _, e := range flatten(err) {
			var se *ablation.SettingError
			if !errors.As(e, &se) {
				r.fail(o.path, "", "%v", e)
				continue
			}
			p := o.locate(r, se.Key)
			// Where a glob or a level is at fault, it is the key.
			inKey := strings.Contains(se.Key, "dilation.") || strings.Contains(se.Key, "depth.")
			found := p.r.at(p.path, !inKey)
			found.What, found.Advice = se.Problem, se.Advice
			r.errs = append(r.errs, found)
		}
	}
	methods := make([]ablation.Method, len(c.Methods))
	for i, m := range c.Methods {
		var err error
		if methods[i], err = c.solve(r, c.origins[i], m); err == nil {
			methods[i], err = methods[i].Derived(arch, settings.Steps, train, settings.Size)
		}
		if d := methods[i].Redilation; err == nil && d != nil && d.Damped != nil && methods[i].Settings(settings).GuidanceScale <= 1 {
			err = &ablation.SettingError{Key: "schedule", Problem: "the derived rule's noise-damped guidance never takes effect: guidance is off", Advice: "add damped = false, or raise the guidance scale above 1"}
		}
		if err != nil {
			report(c.origins[i], err)
		}
	}
	if len(r.errs) > 0 {
		return nil, r.errs.sorted(r.file)
	}
	labels := ablation.UniqueLabels(methods, settings.Steps)
	var cells []ablation.Cell
	first := map[string]string{}
	for i, m := range methods {
		o := c.origins[i]
		plan, err := m.Schedule(arch, settings.Steps, train, settings.Size)
		if err != nil {
			report(o, err)
			continue
		}
		s := m.Settings(settings)
		cell := ablation.Cell{
			ID: ablation.CellID(s, plan, id), Label: labels[i], Method: m, Plan: plan,
			NFE: ablation.NFE(plan[s.SDEdit.Tau:], s.GuidanceScale), BaseNFE: ablation.BaseNFE(s),
		}
		if other, ok := first[cell.ID]; ok {
			r.fail(o.path, "drop one of them or change a setting that matters", "cell %q computes exactly what cell %q does", cell.Label, other)
			continue
		}
		first[cell.ID] = cell.Label
		cells = append(cells, cell)
	}
	if len(r.errs) > 0 {
		return nil, r.errs.sorted(r.file)
	}
	return cells, nil
}

func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func anyList(words []string) []any {
	out := make([]any, len(words))
	for i, w := range words {
		out[i] = w
	}
	return out
}

func methodNames(methods []ablation.Method) []string {
	var out []string
	for _, m := range methods {
		if !contains(out, m.Name) {
			out = append(out, m.Name)
		}
	}
	return out
}
