// Package configs is the schema of the experiment files: strict decoding with
// every error at its place, defaults, and the cells that a file stands for. It
// knows TOML and the mathematics of ablation, and no model.
//
// Every default lives in this package and nowhere else.
package configs

import (
	"errors"
	"fmt"
	"math"
	"os"
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
	Sample          Sample
	Reference       Reference
	Methods         []ablation.Method // grids expanded, in the order of the file
	Report          Report

	origins []origin // by method: where its settings stand
	reader  *reader
	tree    map[string]any // the resolved file
}

// Sample says what every cell draws.
type Sample struct {
	Height, Width int // pixels
	Count         int // images per cell
	Steps         int
	GuidanceScale float64 // 1 or less: no guidance
	// GuidanceRescale is diffusers' guidance_rescale; 0 is off.
	GuidanceRescale float64
	Eta             float64 // 0 deterministic .. 1 as noisy as DDPM
	Seed            uint64
	Sampler         string
}

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
}

// Plot asks for one figure.
type Plot struct {
	Name, Title, Metric, X, GroupBy string
}

type origin struct {
	path  string            // "method[1]"
	alias map[string]string // setting -> path of its value in the grid
}

// locate is the path of a setting that Schedule complained about ("tau",
// "damped.layers[1]"), where the file gives it.
func (o origin) locate(key string) string {
	base, index := key, ""
	if i := strings.LastIndexByte(key, '['); i >= 0 && strings.HasSuffix(key, "]") {
		base, index = key[:i], key[i:]
	}
	if path, ok := o.alias[base]; ok {
		return path + index
	}
	return o.path + "." + key
}

// Metrics are the keys that report.columns and plots may name.
var Metrics = []string{
	"right_share", "excess_bodies", "excess_eyes", "excess_mouths",
	"fid_r", "kid_r", "fid_b", "kid_b",
	"shape_accuracy", "color_accuracy", "background_accuracy", "pattern_accuracy",
}

// plotAxes are the settings that plots may use as x or group_by.
var plotAxes = []string{"kind", "factor", "tau", "tau_share", "min_depth", "layers", "progressive", "damped", "attention_scaling"}

// sizeStep is what height and width must be multiples of: the picture is
// folded 2x2 into latents, and a network's levels halve those. Sizes that do not
// halve evenly to the end are computed as diffusers computes them.
const sizeStep = 8

// maxCells bounds a grid; more is a slip of the keyboard.
const maxCells = 10000

// Load reads a file and applies -set arguments ("sample.count=8"). A non-nil
// error is Errors where the content is at fault.
func Load(path string, sets []string) (*Config, error) { return load(path, sets, Decode) }

// load reads the file for a decoder.
func load[T any](path string, sets []string, decode func(src, file string, sets []string) (T, error)) (T, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		var none T
		return none, fmt.Errorf("configuration: %w; give a TOML file with -config", err)
	}
	return decode(string(src), path, sets)
}

// Decode is Load for a source in memory; file is the name in messages.
func Decode(src, file string, sets []string) (*Config, error) {
	c := &Config{File: file}
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
		return nil, r.errs.sorted()
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
	if c.Weights == "" {
		m.fail("weights", `write "builtin" or the folder of a model`, "is empty")
	}
	m.done()
	c.readSample(t)
	c.readReference(t)
	c.readMethods(t)
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
	size := func(key string) int {
		advice := fmt.Sprintf("sizes are pixels and multiples of %d", sizeStep)
		n := s.needInteger(key, 128, sizeStep, 8192, advice)
		if n%sizeStep != 0 {
			lower := n / sizeStep * sizeStep
			s.fail(key, fmt.Sprintf("choose %d or %d", lower, lower+sizeStep), "is %d, want a multiple of %d", n, sizeStep)
		}
		return n
	}
	c.Sample.Height = size("height")
	c.Sample.Width = size("width")
	c.Sample.Count = s.integer("count", 96, 2, 1000000, "images per cell; intervals need dozens")
	c.Sample.Steps = s.integer("steps", 20, 1, 1000, "the model was trained on 1000 timesteps; 20 to 50 are usual")
	c.Sample.GuidanceScale = s.number("guidance_scale", 3, 0, 50, "1 or less turns guidance off; 3 to 7.5 are usual")
	c.Sample.GuidanceRescale = s.number("guidance_rescale", 0, 0, 1, "0 turns it off")
	c.Sample.Eta = s.number("eta", 0, 0, 1, "0 is deterministic DDIM, 1 as noisy as DDPM")
	c.Sample.Seed = uint64(s.integer("seed", 1, 0, math.MaxInt64, "the same seed gives the same images"))
	c.Sample.Sampler = s.choice("sampler", "ddim", []string{"ddim"})
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
	c.Report.PictureColumns = p.integer("picture_columns", min(8, c.Sample.Count), 1, max(c.Sample.Count, 1), "prompts shown; at most sample.count")
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
// A non-nil error is Errors, with every method's problems at their places.
func (c *Config) Cells(arch ablation.Architecture, train ablation.Size, id ablation.Identity) ([]ablation.Cell, error) {
	r := &reader{file: c.reader.file, spans: c.reader.spans, sets: c.reader.sets}
	settings := c.Settings()
	labels := ablation.UniqueLabels(c.Methods, settings.Steps)
	var cells []ablation.Cell
	first := map[string]string{}
	for i, m := range c.Methods {
		o := c.origins[i]
		plan, err := m.Schedule(arch, settings.Steps, train, settings.Size)
		if err != nil {
			for _, e := range flatten(err) {
				var se *ablation.SettingError
				if !errors.As(e, &se) {
					r.fail(o.path, "", "%v", e)
					continue
				}
				path := o.locate(se.Key)
				if strings.Contains(se.Key, "dilation.") {
					r.failKey(path, se.Advice, "%s", se.Problem) // the glob is the key
				} else {
					r.fail(path, se.Advice, "%s", se.Problem)
				}
			}
			continue
		}
		cell := ablation.Cell{ID: ablation.CellID(settings, plan, id), Label: labels[i], Method: m, Plan: plan, NFE: ablation.NFE(plan, settings.GuidanceScale)}
		if other, ok := first[cell.ID]; ok {
			r.fail(o.path, "drop one of them or change a setting that matters", "cell %q computes exactly what cell %q does", cell.Label, other)
			continue
		}
		first[cell.ID] = cell.Label
		cells = append(cells, cell)
	}
	if len(r.errs) > 0 {
		return nil, r.errs.sorted()
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
