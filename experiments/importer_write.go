package experiments

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"scalecrafter/ablation"
)

// schedule is one of upstream's configs, ready to be written.
type schedule struct {
	*upstreamConfig
	decays       bool
	main, damped []ablation.LayerFactor // globs
	dispersed    []string               // globs
}

// restate says what a config does, and what in it does nothing; nil if the
// config leaves the network as it was trained.
func (im *importer) restate(c *upstreamConfig) *schedule {
	find := func(kind remarkKind, key, format string, args ...any) {
		im.find(kind, c.file, c.lines[key], format, args...)
	}
	im.checkSize(c)
	if c.sdeditTau > 0 {
		find(leftOut, "sdedit_tau", "sdedit_tau is %d, which is no part of a schedule: give the method sdedit = { tau = %d }", c.sdeditTau, c.sdeditTau)
	}
	d, v := c.dilate.live(), c.ndcfg.live()
	if c.ndcfg != nil && c.ndcfgTau == 0 {
		find(unusedDamping, "ndcfg_dilate_settings", "V list never used: ndcfg_tau is 0, so %s with its %s is read and forgotten", c.ndcfg.file, count(len(v), "layer", "layers"))
	}
	im.checkDispersion(c, d, v)
	switch {
	case c.dilateTau == 0 && len(d) == 0 && c.ndcfgTau == 0:
		im.find(aNote, c.file, 0, "plain sampling: kind = \"direct\" does this, so no schedule is written")
		return nil
	case c.dilateTau == 0:
		text := "re-dilation never active: dilate_tau is 0, so no schedule is written"
		if c.progressive && len(d) > 0 {
			text += "; upstream's script, being progressive, divides by it"
		}
		find(idleDilation, "dilate_tau", "%s", text)
		return nil
	case largest(d) == 0 || largest(d) == 1 && !c.progressive:
		find(idleDilation, "dilate_tau", "re-dilation never active: dilate_settings names no layer of %s with a factor above 1, so no schedule is written", c.model)
		return nil
	}
	s := &schedule{upstreamConfig: c, decays: c.progressive}
	if c.progressive && onlyTwos(d) && (c.ndcfgTau == 0 || onlyTwos(v)) {
		find(idleDecay, "progressive", "progressive without effect: factors shrink to 2 at the least, and every one is 2")
		s.decays = false
	}
	s.main, s.damped = globs(c.arch, effective(d, c.progressive)), globs(c.arch, effective(v, c.progressive))
	if c.disperse != nil && c.transform != "" {
		for _, g := range globs(c.arch, c.disperse.live()) {
			s.dispersed = append(s.dispersed, g.Glob)
		}
	}
	return s
}

// checkSize compares the sizes that a config gives: of the latent, of the
// picture and in its name.
func (im *importer) checkSize(c *upstreamConfig) {
	h, w := vaeScale*c.latentHeight, vaeScale*c.latentWidth
	for _, p := range []struct {
		key   string
		pixel int
		want  int
	}{{"pixel_height", c.pixelHeight, h}, {"pixel_width", c.pixelWidth, w}} {
		if p.pixel != 0 && p.pixel != p.want {
			im.find(wrongSize, c.file, c.lines[p.key], "%s is %d, but the latent makes %d px: the schedule says %d", p.key, p.pixel, p.want, p.want)
		}
	}
	m := sizeInName.FindStringSubmatch(c.name)
	switch {
	case m == nil:
	case m[1] != strconv.Itoa(w) || m[2] != strconv.Itoa(h):
		im.find(wrongSize, c.file, c.lines["latent_height"], "the name says %s px wide and %s high, but the latent makes %d x %d: the schedule says height %d, width %d", m[1], m[2], w, h, h, w)
	case h != w:
		im.find(aNote, c.file, 0, "%s in its name is width x height: the schedule says height %d, width %d", m[0], h, w)
	}
}

var sizeInName = regexp.MustCompile(`([0-9]+)x([0-9]+)`)

// checkDispersion reports dispersion that never runs, or that would fail if it
// did: a dispersed layer which its network does not dilate at some step is a
// 5x5 kernel with a 3x3 one's padding (methods.md 1.5).
func (im *importer) checkDispersion(c *upstreamConfig, d, v map[string]float64) {
	find := func(kind remarkKind, key, format string, args ...any) {
		im.find(kind, c.file, c.lines[key], format, args...)
	}
	live := c.disperse.live()
	switch {
	case c.disperse == nil && c.transform == "":
		if c.inflateTau > 0 {
			find(idleDispersion, "inflate_tau", "dispersion never active: inflate_tau is %d, but no disperse_settings are named", c.inflateTau)
		}
		return
	case c.disperse == nil:
		find(idleDispersion, "disperse_transform", "dispersion never active: %s is named, but no disperse_settings", c.transform)
		return
	case c.transform == "":
		find(idleDispersion, "disperse_settings", "dispersion never active: %s is named, but no disperse_transform", c.disperse.file)
		return
	case len(live) == 0:
		find(idleDispersion, "disperse_settings", "dispersion never active: %s names no layer of %s", c.disperse.file, c.model)
		return
	case c.inflateTau == 0:
		find(idleDispersion, "inflate_tau", "dispersion never active: inflate_tau is 0, so the kernels of %s in %s are never enlarged", count(len(live), "layer", "layers"), c.disperse.file)
	}
	networks := []struct {
		name   string
		tau    int
		file   *layerList
		layers map[string]float64
	}{{"D", c.dilateTau, c.dilate, d}, {"V", c.ndcfgTau, c.ndcfg, v}}
	for _, n := range networks {
		if n.name == "V" && n.tau == 0 {
			continue // there is no V
		}
		missing := map[string]float64{}
		for layer := range live {
			if _, ok := n.layers[layer]; !ok {
				missing[layer] = 1
			}
		}
		if len(missing) > 0 {
			source := "which is the network as trained"
			if n.file != nil {
				source = n.file.file
			}
			var names []string
			for _, g := range globs(c.arch, missing) {
				names = append(names, g.Glob)
			}
			find(unevenDispersion, "disperse_settings", "dispersion not shared: %s disperses %s (%s) that %s (%s) does not dilate, which fails once inflate_tau is above 0",
				c.disperse.file, count(len(missing), "layer", "layers"), strings.Join(names, ", "), n.name, source)
		}
	}
	// V is not run at all from ndcfg_tau on, so only D can be left with it.
	if c.inflateTau > c.dilateTau {
		find(unevenDispersion, "inflate_tau", "dispersion not shared: inflate_tau is %d, but D is dilated for %s only (dilate_tau), and upstream fails from then on", c.inflateTau, count(c.dilateTau, "step", "steps"))
	}
}

func largest(factors map[string]float64) float64 {
	most := 0.0
	for _, f := range factors {
		most = max(most, f)
	}
	return most
}

func onlyTwos(factors map[string]float64) bool {
	for _, f := range factors {
		if f != 2 {
			return false
		}
	}
	return true
}

// effective replaces the factor 1 where the decay is progressive: upstream
// raises it to 2 at every active step, we keep an axis of factor 1 as trained.
func effective(factors map[string]float64, progressive bool) map[string]float64 {
	out := make(map[string]float64, len(factors))
	for layer, f := range factors {
		if progressive && f == 1 {
			f = 2
		}
		out[layer] = f
	}
	return out
}

// globs writes layers' factors as few globs that match exactly these layers,
// none of them twice, in execution order: a whole block where it is uniform,
// else its resnets or samplers, else layer by layer.
func globs(arch ablation.Architecture, factors map[string]float64) []ablation.LayerFactor {
	group := func(parts int) func(string) string {
		return func(p string) string {
			n := parts
			if strings.HasPrefix(p, "mid_block.") {
				n-- // its blocks have no number
			}
			return strings.Join(strings.SplitN(p, ".", n+1)[:n], ".")
		}
	}
	// members are the layers of each group, by the group's name.
	block, kind := group(2), group(3)
	members := map[string][]string{}
	for _, c := range arch.Convs {
		members[block(c.Path)] = append(members[block(c.Path)], c.Path)
		members[kind(c.Path)] = append(members[kind(c.Path)], c.Path)
	}
	uniform := func(name string) bool {
		first, ok := factors[members[name][0]]
		for _, p := range members[name] {
			if f, listed := factors[p]; !ok || !listed || f != first {
				return false
			}
		}
		return true
	}
	var out []ablation.LayerFactor
	done := map[string]bool{}
	for _, c := range arch.Convs {
		f, ok := factors[c.Path]
		if !ok {
			continue
		}
		glob := c.Path
		if b, k := block(c.Path), kind(c.Path); uniform(b) {
			glob = b + ".*"
		} else if uniform(k) {
			glob = k + ".*"
		}
		if !done[glob] {
			done[glob] = true
			out = append(out, ablation.LayerFactor{Glob: glob, Factor: ablation.Factor{H: f, W: f}})
		}
	}
	return out
}

// dropped is a comment on which lines of a list name no layer.
func (l *layerList) dropped(modelName string) string {
	var parts []string
	for i := 0; i < len(l.lines); i++ {
		if !l.lines[i].dead {
			continue
		}
		first := l.lines[i]
		last := first
		for i+1 < len(l.lines) && l.lines[i+1].dead && l.lines[i+1].line == last.line+1 {
			i++
			last = l.lines[i]
		}
		where := fmt.Sprintf("line %d (%s)", first.line, first.name)
		if last != first {
			where = fmt.Sprintf("lines %d-%d (%s to %s)", first.line, last.line, first.name, last.name)
		}
		parts = append(parts, where)
	}
	if len(parts) == 0 {
		return ""
	}
	return "dropped, as " + modelName + " has no such layer: " + strings.Join(parts, ", ")
}

// toml is the schedule file.
func (s *schedule) toml() string {
	var b strings.Builder
	text := strconv.Quote // names and globs have nothing to escape
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	list := func(l *layerList) {
		if l == nil {
			return
		}
		line("# %s", l.file)
		if d := l.dropped(s.model); d != "" {
			line("# %s", d)
		}
	}
	factors := func(fs []ablation.LayerFactor) {
		for _, f := range fs {
			line("%s = %s", text(f.Glob), f.Factor)
		}
	}
	line("# ScaleCrafter's %s, restated by: go run . import", s.file)
	line("name = %s", text(s.name))
	line("model = %s", text(s.model))
	line("height = %d", vaeScale*s.latentHeight)
	line("width = %d", vaeScale*s.latentWidth)
	line("steps = %d", s.steps)
	line("tau = %d", s.dilateTau)
	decay := ablation.DecayConstant
	if s.decays {
		decay = ablation.DecayProgressive
	}
	line("decay = %s", text(string(decay)))
	line("")
	list(s.dilate)
	line("[dilation]")
	factors(s.main)
	if s.ndcfg != nil || s.ndcfgTau > 0 {
		line("")
		if s.ndcfgTau == 0 {
			line("# Never used as published: ndcfg_tau is 0.")
		}
		line("[damped]")
		line("tau = %d", s.ndcfgTau)
		line("")
		list(s.ndcfg)
		line("[damped.dilation]")
		if len(s.damped) == 0 { // V is the network as trained
			line("\"*\" = 1")
		}
		factors(s.damped)
	}
	if len(s.dispersed) > 0 {
		line("")
		list(s.disperse)
		if s.inflateTau == 0 {
			line("# Never active as published: inflate_tau is 0.")
		}
		line("[dispersion]")
		line("tau = %d", s.inflateTau)
		quoted := make([]string, len(s.dispersed))
		for i, g := range s.dispersed {
			quoted[i] = text(g)
		}
		line("layers = [%s]", strings.Join(quoted, ", "))
		line("# %s", s.transform)
		b.WriteString(s.settings)
	}
	return b.String()
}

// writeSchedules writes every schedule to its file in dir, each atomically. If
// one would replace a file that differs and force is not set, none is written.
func writeSchedules(dir string, schedules []*schedule, force bool, log io.Writer) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var differ []string
	same := map[string]bool{}
	file := func(s *schedule) string { return filepath.Join(dir, s.name+".toml") }
	for _, s := range schedules {
		old, err := os.ReadFile(file(s))
		switch {
		case err == nil && bytes.Equal(old, []byte(s.toml())):
			same[s.name] = true
		case err == nil && !force:
			differ = append(differ, file(s))
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("nothing is written: these files exist and differ; replace them with -force or name another folder with -o:\n  %s", strings.Join(differ, "\n  "))
	}
	for _, s := range schedules {
		if same[s.name] {
			fmt.Fprintf(log, "%s: unchanged\n", file(s))
			continue
		}
		if err := writeAtomically(file(s), s.toml()); err != nil {
			return err
		}
		fmt.Fprintf(log, "%s: written\n", file(s))
	}
	return nil
}

// writeAtomically replaces a file by a renamed temporary one beside it.
func writeAtomically(name, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".import-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.WriteString(text); err == nil {
		err = f.Chmod(0o644)
	}
	if err = cmp.Or(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
