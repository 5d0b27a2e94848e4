package experiments

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"scalecrafter/ablation"
	"scalecrafter/model"
	"scalecrafter/model/weights"
)

// maxImportFile bounds what is read of a file, in bytes; upstream's largest
// list has 1.4 kB.
const maxImportFile = 1 << 20

func (im *importer) read(name string) ([]byte, error) {
	f, err := im.tree.Open(name)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxImportFile+1))
	if err == nil && len(b) > maxImportFile {
		err = fmt.Errorf("is larger than %d bytes", maxImportFile)
	}
	return b, err
}

// upstreamConfig is one yaml file of upstream's, with its lists.
type upstreamConfig struct {
	file, name, model         string
	lines                     map[string]int // of keys
	latentHeight, latentWidth int
	steps                     int
	dilateTau, ndcfgTau       int
	inflateTau, sdeditTau     int
	progressive               bool
	dilate, ndcfg, disperse   *layerList // nil: none named
	transform                 string     // path in the tree; "" none
	settings                  string     // the transform in TOML
	pixelHeight, pixelWidth   int        // 0: not given
	arch                      ablation.Architecture
}

// Keys of upstream's configs: those that scripts read but that say nothing of
// a schedule, and old names of others.
var (
	otherKeys  = []string{"inference_batch_size", "num_iters_per_prompt", "sdedit_scale"}
	legacyKeys = map[string]string{"inflate_settings": "disperse_settings", "inflate_transform": "disperse_transform"}
)

// scheduleName is what configs takes for the name of a schedule.
var scheduleName = regexp.MustCompile(`^[a-z0-9_][a-z0-9._-]{0,63}$`)

const (
	vaeScale  = 8    // the picture's side over the latent's in all published models
	maxSteps  = 1000 // the published models' training steps
	maxLatent = 1024 // a side; published ones end at 512
)

// readConfig reads a yaml file and the lists that it names; nil, with at least
// one problem, if it cannot be used.
func (im *importer) readConfig(file string) *upstreamConfig {
	before := len(im.problems)
	base := path.Base(file)
	c := &upstreamConfig{file: file, name: strings.TrimSuffix(base, path.Ext(base)), lines: map[string]int{}}
	for _, m := range model.Published {
		if strings.Contains(c.name, m) {
			c.model = m
		}
	}
	if c.model == "" {
		c.model = im.model
	}
	if c.model == "" {
		im.problem(file, 0, "its name does not tell the model (%s): say it with -model", strings.Join(model.Published, ", "))
	} else if unet, err := model.PublishedUNet(c.model); err != nil {
		im.problem(file, 0, "%v", err)
	} else {
		c.arch = unet.Layers()
	}
	if !scheduleName.MatchString(c.name) || strings.Contains(c.name, "..") || c.name == "derived" {
		im.problem(file, 0, "the schedule's name would be %s, want up to 64 lower-case letters, digits, ., _ and - other than derived: rename the file", printable(c.name))
	}
	b, err := im.read(file)
	if err != nil {
		im.problem(file, 0, "%v", err)
		return nil
	}
	keys := im.parseYAML(file, b, c.lines)
	if keys == nil {
		return nil
	}
	y := yamlKeys{im: im, file: file, keys: keys, lines: c.lines}
	c.latentHeight = y.count("latent_height", 1, maxLatent, true)
	c.latentWidth = y.count("latent_width", 1, maxLatent, true)
	c.pixelHeight = y.count("pixel_height", 1, vaeScale*maxLatent, false)
	c.pixelWidth = y.count("pixel_width", 1, vaeScale*maxLatent, false)
	c.steps = y.count("num_inference_steps", 1, maxSteps, true)
	most := c.steps
	if most == 0 {
		most = maxSteps // an error already; do not add to it
	}
	tau := func(key string, required bool) int { return y.count(key, 0, most, required) }
	c.dilateTau = tau("dilate_tau", true)
	c.ndcfgTau = tau("ndcfg_tau", true)
	c.inflateTau = tau("inflate_tau", true)
	c.sdeditTau = tau("sdedit_tau", false)
	c.progressive = y.boolean("progressive")
	dilate, ndcfg, disperse := y.path("dilate_settings"), y.path("ndcfg_dilate_settings"), y.path("disperse_settings")
	c.transform = y.path("disperse_transform")
	for _, key := range otherKeys {
		delete(keys, key)
	}
	for key := range keys {
		if now, ok := legacyKeys[key]; ok {
			im.find(legacyKey, file, c.lines[key], "legacy key %s: text2image.py and text2image_xl.py read %s in its place and ignore this one", key, now)
		} else {
			im.find(unknownKey, file, c.lines[key], "unknown key %q: no script reads it%s", key, nearestKey(key))
		}
	}
	if len(c.arch.Convs) > 0 {
		c.dilate = im.list(c, "dilate_settings", dilate, true)
		c.ndcfg = im.list(c, "ndcfg_dilate_settings", ndcfg, true)
		c.disperse = im.list(c, "disperse_settings", disperse, false)
	}
	if c.transform != "" {
		c.settings = im.transform(c)
	}
	if len(im.problems) > before {
		return nil
	}
	return c
}

// parseYAML reads a file that is one mapping from words to scalars, as all of
// upstream's are; nil, with a problem, if it is not.
func (im *importer) parseYAML(file string, b []byte, lines map[string]int) map[string]*yaml.Node {
	var doc yaml.Node
	if err := yaml.Load(b, &doc); err != nil {
		line, text := 0, err.Error()
		var le *yaml.LoadError
		if errors.As(err, &le) {
			line, text = le.Mark.Line, le.Message
		}
		im.problem(file, line, "no YAML: %s", strings.ReplaceAll(text, "\n", " "))
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		im.problem(file, max(doc.Line, 1), "want lines of key: value")
		return nil
	}
	keys := map[string]*yaml.Node{}
	content := doc.Content[0].Content
	for i := 0; i+1 < len(content); i += 2 {
		k, v := content[i], content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode:
			im.problem(file, k.Line, "a key is no word, want lines of key: value")
		case keys[k.Value] != nil:
			im.problem(file, k.Line, "%s is given twice, first on line %d: keep one", printable(k.Value), lines[k.Value])
		default:
			keys[k.Value], lines[k.Value] = v, k.Line
		}
	}
	return keys
}

// yamlKeys takes values out of keys; what remains is unknown.
type yamlKeys struct {
	im    *importer
	file  string
	keys  map[string]*yaml.Node
	lines map[string]int
}

// take is a key's scalar; nil if there is none, or it is null.
func (y yamlKeys) take(key, want string) *yaml.Node {
	v, ok := y.keys[key]
	delete(y.keys, key)
	if !ok || v.Kind == yaml.ScalarNode && v.ShortTag() == "!!null" {
		return nil
	}
	if v.Kind != yaml.ScalarNode {
		y.im.problem(y.file, v.Line, "%s is no plain value, want %s", key, want)
		return nil
	}
	return v
}

func (y yamlKeys) count(key string, low, high int, required bool) int {
	want := fmt.Sprintf("a whole number from %d to %d", low, high)
	_, given := y.keys[key]
	before := len(y.im.problems)
	v := y.take(key, want)
	if v == nil {
		if len(y.im.problems) == before && (required || given) {
			y.im.problem(y.file, y.lines[key], "%s is missing, want %s", key, want)
		}
		return 0
	}
	n, err := strconv.Atoi(v.Value)
	if v.ShortTag() != "!!int" || err != nil || n < low || n > high {
		y.im.problem(y.file, v.Line, "%s is %s, want %s", key, printable(v.Value), want)
		return 0
	}
	return n
}

func (y yamlKeys) boolean(key string) bool {
	v := y.take(key, "true or false")
	if v == nil {
		return false
	}
	b, err := strconv.ParseBool(strings.ToLower(v.Value))
	if v.ShortTag() != "!!bool" || err != nil {
		y.im.problem(y.file, v.Line, "%s is %s, want true or false", key, printable(v.Value))
	}
	return b
}

// path is a file's path below the tree's root; "" where none is named.
func (y yamlKeys) path(key string) string {
	v := y.take(key, "a path")
	if v == nil {
		return ""
	}
	p := path.Clean(v.Value)
	switch {
	case v.ShortTag() != "!!str" || v.Value == "":
		y.im.problem(y.file, v.Line, "%s is %s, want a path", key, printable(v.Value))
	case !fs.ValidPath(p) || p == "." || printable(p) != p:
		y.im.problem(y.file, v.Line, "%s is %s, want a path below the tree's root", key, printable(v.Value))
	default:
		return p
	}
	return ""
}

// nearestKey is advice for a key that no script reads.
func nearestKey(key string) string {
	known := append([]string{"latent_height", "latent_width", "pixel_height", "pixel_width", "num_inference_steps", "dilate_tau", "ndcfg_tau", "inflate_tau",
		"sdedit_tau", "progressive", "dilate_settings", "ndcfg_dilate_settings", "disperse_settings", "disperse_transform"}, otherKeys...)
	best, shared := "", 2
	for _, k := range known {
		if n := sharedLength(key, k); n > shared {
			best, shared = k, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// layerLine is a line of one of upstream's layer lists.
type layerLine struct {
	line   int
	name   string
	factor float64 // 1 in a list without factors
	dead   bool    // the model has no such layer
}

// layerList is one of upstream's layer lists, read for one model.
type layerList struct {
	file  string
	lines []layerLine
}

// live maps the layers that the model has to their factors.
func (l *layerList) live() map[string]float64 {
	out := map[string]float64{}
	if l != nil {
		for _, x := range l.lines {
			if !x.dead {
				out[x.name] = x.factor
			}
		}
	}
	return out
}

// list reads the list that a config's key names, once for all configs of a
// model; nil if none is named.
func (im *importer) list(c *upstreamConfig, key, file string, factors bool) *layerList {
	if file == "" {
		return nil
	}
	id := fmt.Sprintf("%s %v %s", c.model, factors, file)
	if l, ok := im.lists[id]; ok {
		return l
	}
	im.lists[id] = nil
	b, err := im.read(file)
	if err != nil {
		im.problem(c.file, c.lines[key], "%s: %s: %v", key, file, err)
		return nil
	}
	l := im.parseList(file, b, factors, c.model, c.arch)
	im.lists[id] = l
	return l
}

// transform is a config's dispersion transform in TOML: the solver's settings
// or a name where it is a published one, else its file. The tree may lack the
// file of a published one.
func (im *importer) transform(c *upstreamConfig) string {
	key, file := "disperse_transform", c.transform
	fail := func(err error) string {
		text := strings.TrimPrefix(err.Error(), file+": ")
		im.problem(c.file, c.lines[key], "%s: %s: %s", key, file, strings.ReplaceAll(text, "\n", " "))
		return ""
	}
	write := func(name string, s ablation.DispersionSpec) string {
		if s.Legacy { // only its name can ask for it
			return fmt.Sprintf("transform = %q\n", name)
		}
		return fmt.Sprintf("kernel = %d\nscale = %d\ninput = %d\neta = %g\n", s.Large, s.Scale, s.Input, s.Eta)
	}
	name := strings.TrimSuffix(path.Base(file), path.Ext(file))
	b, err := im.read(file)
	if errors.Is(err, fs.ErrNotExist) {
		for _, k := range ablation.KnownDispersions {
			if k.Name == name {
				return write(k.Name, k.DispersionSpec)
			}
		}
	}
	if err != nil {
		return fail(err)
	}
	mat, err := weights.ReadMat(b, file)
	if err != nil {
		return fail(err)
	}
	t := &ablation.Transform{Name: name}
	for _, m := range mat.Matrices {
		if m.Name == "R" && len(m.Shape) == 2 {
			t.Large, t.Small, t.R = root(m.Shape[0]), root(m.Shape[1]), m.Data
		}
	}
	if t.Large == 0 || t.Small == 0 {
		return fail(errors.New("has no matrix R of large*large rows and small*small columns"))
	}
	if err := t.Check(); err != nil {
		return fail(err)
	}
	settings := ""
	for _, k := range ablation.KnownDispersions {
		fit, err := k.Solve()
		if err != nil {
			return fail(err)
		}
		far := t.Distance(fit.Transform)
		if far <= sameTransform {
			settings = write(k.Name, k.DispersionSpec)
		} else if k.Name == name {
			im.find(otherTransform, c.file, c.lines[key], "%s is not the published transform of its name: numbers differ by up to %.3g", file, far)
		}
	}
	if settings != "" {
		return settings
	}
	return fmt.Sprintf("transform = %q\n", filepath.ToSlash(filepath.Join(im.prefix, filepath.FromSlash(file))))
}

// maxImportFactor is the largest factor that a schedule file takes.
const maxImportFactor = 16

// parseList reads lines of layer:factor, or of layers only. Upstream's reader
// fails on a blank line and keeps the last of a layer's factors.
//
// Source: YingqingHe/ScaleCrafter, text2image.py, read_dilate_settings and
// read_module_list.
func (im *importer) parseList(file string, b []byte, factors bool, modelName string, arch ablation.Architecture) *layerList {
	l := &layerList{file: file}
	known := map[string]bool{}
	for _, conv := range arch.Convs {
		known[conv.Path] = true
	}
	want := "layer.name:factor"
	if !factors {
		want = "layer.name"
	}
	at := map[string]int{} // index into l.lines
	n := 0
	for text := range strings.Lines(string(b)) {
		n++
		text = strings.TrimRight(text, "\r\n")
		if strings.TrimSpace(text) == "" {
			im.find(blankLine, file, n, "blank line: skipped here, but upstream's reader stops with an error")
			continue
		}
		x := layerLine{line: n, name: strings.TrimSpace(text), factor: 1}
		if factors {
			name, number, ok := strings.Cut(text, ":")
			if !ok || strings.Contains(number, ":") {
				im.problem(file, n, "%s is malformed, want %s", printable(text), want)
				continue
			}
			x.name = name
			f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil || math.IsNaN(f) || f < 1 || f > maxImportFactor {
				im.problem(file, n, "factor %s of %s: want a number from 1 to %d", printable(strings.TrimSpace(number)), printable(name), maxImportFactor)
				continue
			}
			x.factor = f
		}
		switch {
		case x.name == "" || strings.Trim(x.name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._") != "":
			im.problem(file, n, "%s is malformed, want %s", printable(text), want)
			continue
		case x.name == "conv_in" || x.name == "conv_out" || strings.HasSuffix(x.name, ".conv_shortcut"):
			im.problem(file, n, "%s is a convolution that no schedule may change: only 3x3 ones of resnets and samplers", x.name)
			continue
		case !known[x.name]:
			x.dead = true
			im.find(deadLine, file, n, "dead line: %s has no %s; the nearest layer is %s", modelName, x.name, nearestConv(x.name, arch))
		}
		if first, ok := at[x.name]; ok {
			old := l.lines[first]
			im.find(repeatedLayer, file, n, "%s is listed twice, first on line %d: the last one counts", x.name, old.line)
			l.lines[first].factor = x.factor
			continue
		}
		at[x.name] = len(l.lines)
		l.lines = append(l.lines, x)
	}
	return l
}

// nearestConv is the layer most like a name: equal parts count most, then near
// numbers, then shared beginnings.
func nearestConv(name string, arch ablation.Architecture) string {
	const differs = 100
	parts := strings.Split(name, ".")
	best, least := "", math.MaxInt
	for _, conv := range arch.Convs {
		have := strings.Split(conv.Path, ".")
		distance := differs * max(len(parts)-len(have), len(have)-len(parts))
		for i := range min(len(parts), len(have)) {
			a, errA := strconv.Atoi(parts[i])
			b, errB := strconv.Atoi(have[i])
			switch {
			case parts[i] == have[i]:
			case errA == nil && errB == nil:
				distance += min(max(a-b, b-a), differs)
			default:
				distance += differs - min(sharedLength(parts[i], have[i]), differs-1)
			}
		}
		if distance < least {
			best, least = conv.Path, distance
		}
	}
	return best
}

// sharedLength is the length of two words' common beginning.
func sharedLength(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// printable is text as it is, or quoted where it has anything but printable
// characters, cut where it is long.
func printable(text string) string {
	const longest = 80
	cut := ""
	if r := []rune(text); len(r) > longest {
		text, cut = string(r[:longest]), "..."
	}
	if q := strconv.Quote(text); text == "" || q != `"`+text+`"` {
		text = q
	}
	return text + cut
}
