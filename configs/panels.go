package configs

import (
	"errors"
	"fmt"

	"scalecrafter/ablation"
)

// sizes are the sizes that the experiment runs at.
func (c *Config) sizes() []ablation.Size {
	if len(c.Sample.Sizes) > 0 {
		return c.Sample.Sizes
	}
	return []ablation.Size{{H: c.Sample.Height, W: c.Sample.Width}}
}

// Panels is one configuration per size, each with the methods that run there
// and a resolved file of its own; a configuration without sizes is its only
// panel. Panels share what was solved and read for them.
func (c *Config) Panels() []*Config {
	if len(c.Sample.Sizes) == 0 {
		return []*Config{c}
	}
	var out []*Config
	for _, size := range c.Sample.Sizes {
		p := *c
		p.Sample.Height, p.Sample.Width, p.Sample.Sizes = size.H, size.W, nil
		p.Methods, p.origins, p.listed = nil, nil, nil
		p.tree = clone(c.tree)
		runs, used := map[string]bool{}, map[string]bool{}
		for i, m := range c.Methods {
			if !c.origins[i].runsAt(size) {
				continue
			}
			p.Methods = append(p.Methods, m)
			p.origins = append(p.origins, c.origins[i])
			runs[c.origins[i].path] = true
			if m.Redilation != nil {
				used[m.Redilation.Schedule] = true
			}
		}
		all, _ := asList(p.tree["method"])
		var kept []any
		for i, item := range all {
			if m, ok := item.(map[string]any); ok && runs[element("method", i)] {
				m = clone(m)
				delete(m, "only")
				kept = append(kept, m)
				p.listed = append(p.listed, i)
			}
		}
		p.tree["method"] = kept
		sample := p.tree["sample"].(map[string]any)
		delete(sample, "sizes")
		sample["height"], sample["width"] = int64(size.H), int64(size.W)
		if all, ok := p.tree["schedules"].(map[string]any); ok {
			for name := range all {
				if !used[name] {
					delete(all, name)
				}
			}
			if len(all) == 0 {
				delete(p.tree, "schedules")
			}
		}
		if rows := c.Report.PictureRows; rows != nil {
			p.Report.PictureRows = []string{}
			for _, row := range rows {
				if contains(methodNames(p.Methods), row) {
					p.Report.PictureRows = append(p.Report.PictureRows, row)
				}
			}
			report := p.tree["report"].(map[string]any)
			report["picture_rows"] = anyList(p.Report.PictureRows)
		}
		p.keepCompares()
		p.keepPlots()
		out = append(out, &p)
	}
	return out
}

// sizes is a list of [height, width] pairs, without repetition.
func (t *table) sizes(key string) []ablation.Size {
	v, _ := t.take(key)
	const advice = "write sizes = [[128, 128], [128, 256]], height before width"
	list, ok := v.([]any)
	if !ok || len(list) == 0 || len(list) > maxSizes {
		t.fail(key, advice, "is %s, want a list of 1 to %d pairs of pixels", show(v), maxSizes)
		return nil
	}
	var out []ablation.Size
	for i, item := range list {
		path := element(t.where(key), i)
		pair, ok := item.([]any)
		if !ok || len(pair) != 2 {
			t.r.fail(path, advice, "is %s, want [height, width]", show(item))
			continue
		}
		var side [2]int
		for j, v := range pair {
			n, ok := v.(int64)
			if !ok || n < sizeStep || n > maxSide {
				t.r.fail(element(path, j), fmt.Sprintf("sizes are pixels and multiples of %d", sizeStep), "is %s, want an integer from %d to %d", show(v), sizeStep, maxSide)
				n = sizeStep
			}
			t.checkPixels(element(path, j), int(n))
			side[j] = int(n)
		}
		size := ablation.Size{H: side[0], W: side[1]}
		for _, other := range out {
			if other == size {
				t.r.fail(path, "drop it", "is %s a second time", size)
			}
		}
		out = append(out, size)
	}
	return out
}

const maxSizes = 16

// transforms are the dispersion transforms solved and read so far, and the
// digests that a resolved file promises.
type transforms struct {
	solved  map[ablation.DispersionSpec]*ablation.Transform
	read    map[string]*ablation.Transform
	digests map[string]string
	used    map[string]bool // files that methods name
}

func newTransforms() *transforms {
	return &transforms{map[ablation.DispersionSpec]*ablation.Transform{}, map[string]*ablation.Transform{}, map[string]string{}, map[string]bool{}}
}

// readTransforms reads the digests of a resolved file.
func (c *Config) readTransforms(t *table) {
	s := t.sub("transforms")
	if s == nil {
		return
	}
	for _, file := range sortedKeys(s.m) {
		c.cache.digests[file] = s.text(file, "")
	}
	s.done()
}

// keepTransforms reports digests of files that no method names.
func (c *Config) keepTransforms(t *table) {
	for _, file := range sortedKeys(c.cache.digests) {
		if !c.cache.used[file] {
			t.r.failKey(join("transforms", file), "drop it", "no method reads this file")
		}
	}
}

// digests are those of the files that the methods name and that were read or
// promised.
func (c *Config) digests() map[string]any {
	out := map[string]any{}
	for _, m := range c.Methods {
		if m.Redilation == nil || m.Redilation.Dispersion == nil || m.Redilation.Dispersion.File == "" {
			continue
		}
		file := m.Redilation.Dispersion.File
		if t := c.cache.read[file]; t != nil {
			out[file] = t.Key()
		} else if d := c.cache.digests[file]; d != "" {
			out[file] = d
		}
	}
	return out
}

func (c *Config) useTransform(d *ablation.Dispersion) {
	if d.File != "" {
		c.cache.used[d.File] = true
	}
}

// solve gives the method's dispersion its transform. An error is of the kind
// that Schedule returns.
func (c *Config) solve(r *reader, o origin, m ablation.Method) (ablation.Method, error) {
	if m.Redilation == nil || m.Redilation.Dispersion == nil {
		return m, nil
	}
	re, d := *m.Redilation, *m.Redilation.Dispersion
	re.Dispersion, m.Redilation = &d, &re
	switch {
	case d.Spec != nil:
		t, ok := c.cache.solved[*d.Spec]
		if !ok {
			fit, err := d.Spec.Solve()
			if err != nil {
				return m, &ablation.SettingError{Key: "dispersion", Problem: fmt.Sprintf("cannot be solved: %v", err), Advice: "upstream takes kernel = 5, scale = 2, input = 3, eta = 0.05"}
			}
			t = fit.Transform
			c.cache.solved[*d.Spec] = t
		}
		d.Transform = t
	case d.File != "":
		const key = "dispersion.transform"
		t, ok := c.cache.read[d.File]
		if !ok {
			if c.LoadTransform == nil {
				return m, &ablation.SettingError{Key: key, Problem: "files of transforms cannot be read here", Advice: "give kernel, scale, input and eta instead"}
			}
			var err error
			if t, err = c.LoadTransform(d.File); err != nil {
				return m, &ablation.SettingError{Key: key, Problem: err.Error(), Advice: "name a .safetensors or .mat file, relative to where the program is run"}
			}
			c.cache.read[d.File] = t
		}
		if want := c.cache.digests[d.File]; want != "" && want != t.Key() {
			return m, &ablation.SettingError{Key: key, Problem: fmt.Sprintf("%s has the digest %s, not the %s of the resolved file", d.File, t.Key(), want),
				Advice: "give the file that the run was made with, or drop its line under [transforms]"}
		}
		d.Transform = t
	default:
		return m, errors.New("dispersion has no transform")
	}
	return m, nil
}
