package configs

import (
	"fmt"
	"strings"

	"scalecrafter/ablation"
)

func (c *Config) readMethods(t *table) {
	const advice = "add [[method]], name = \"direct\", kind = \"direct\", baseline = true"
	v, ok := t.take("method")
	if !ok {
		t.missing("method", "at least one [[method]]", advice)
		return
	}
	list, ok := asList(v)
	if !ok {
		t.fail("method", "write it as [[method]]", "is %s, want an array of tables", show(v))
		return
	}
	if len(list) == 0 {
		t.fail("method", advice, "is empty, want at least one method")
		return
	}
	names := map[string]bool{}
	sizes := c.sizes()
	baselines := make([]int, len(sizes))
	unclear := false // a baseline key of the wrong type
	for i, item := range list {
		path := element("method", i)
		m, ok := item.(map[string]any)
		if !ok {
			t.r.fail(path, "write it as [[method]]", "is %s, want a table", show(item))
			continue
		}
		base := &table{r: t.r, path: path, m: m}
		if name, ok := m["name"].(string); ok {
			if names[name] {
				base.fail("name", "give every method its own name", "is %q, which another method has", name)
			}
			names[name] = true
		}
		if flag, ok := m["baseline"]; ok {
			if _, ok := flag.(bool); !ok {
				unclear = true
			}
		}
		cells := c.readGrid(base)
		for j, cell := range cells {
			method, o := c.readMethod(cell)
			if len(cell.alias) > 0 && method.Label != "" {
				method.Label += c.gridLabel(cell)
			}
			for k, size := range sizes {
				if !method.Baseline || !o.runsAt(size) {
					continue
				}
				if baselines[k]++; baselines[k] > 1 {
					base.fail("baseline", "all effects refer to one cell; keep baseline = true on one method without a grid", "is true a second time, want exactly one baseline")
				}
			}
			c.Methods = append(c.Methods, method)
			c.origins = append(c.origins, o)
			if j == 0 {
				keepDefaults(m, cell.m, cell.alias, "")
			}
		}
	}
	for k, size := range sizes {
		if baselines[k] > 0 || unclear {
			continue
		}
		at := ""
		if len(sizes) > 1 {
			at = " at " + size.String()
		}
		t.r.fail("method", "add baseline = true to the method that effects refer to, usually \"direct\"", "has no baseline%s, want exactly one", at)
	}
}

func (c *Config) readMethod(t *table) (ablation.Method, origin) {
	o := origin{path: t.path, places: map[string]place{}}
	for key, path := range t.alias {
		o.places[key] = place{t.r, path}
	}
	m := ablation.Method{Name: t.name("name"), Label: t.text("label", "")}
	kinds := make([]string, len(ablation.Kinds))
	for i, k := range ablation.Kinds {
		kinds[i] = string(k)
	}
	m.Kind = ablation.Kind(t.choice("kind", "", kinds))
	m.Baseline = t.boolean("baseline", false, "effects are differences to the baseline")
	o.sizes = c.readOnly(t)
	scale := c.readGuidance(t, &m)
	m.FreeU = readFreeU(t)
	m.SDEdit = c.readSDEdit(t)
	if m.Kind != ablation.Redilate {
		m.AttentionScaling = m.Kind == ablation.AttentionScaling
		for _, key := range redilationKeys {
			if v, ok := t.take(key); ok && m.Kind != "" && !(v == false && contains(nested, key)) {
				t.fail(key, "drop it, or choose kind = \"redilation\"", "never takes effect: the kind is %q", m.Kind)
			}
		}
		t.done()
		return m, o
	}
	m.AttentionScaling = t.boolean("attention_scaling", false, "true combines it with re-dilation")
	m.Redilation = c.readRedilation(t, o.places, scale)
	t.done()
	return m, o
}

// readOnly reads the sizes that a method is limited to; nil: all.
func (c *Config) readOnly(t *table) []ablation.Size {
	names := t.texts("only", "256x256")
	if names == nil {
		return nil
	}
	known := []string{}
	for _, s := range c.sizes() {
		known = append(known, s.String())
	}
	if len(names) == 0 {
		t.fail("only", "name some of "+strings.Join(known, ", ")+", or drop it", "is empty: the method never runs")
	}
	var out []ablation.Size
	for i, n := range names {
		if !contains(known, n) {
			t.r.fail(element(t.where("only"), i), didYouMean(n, known), "is %q, want a size of this experiment as HEIGHTxWIDTH: %s", n, strings.Join(known, ", "))
		}
		for _, s := range c.sizes() {
			if s.String() == n {
				out = append(out, s)
			}
		}
	}
	return out
}

func (o origin) runsAt(size ablation.Size) bool {
	for _, s := range o.sizes {
		if s == size {
			return true
		}
	}
	return o.sizes == nil
}

// readGuidance reads the method's own guidance and returns the scale that it
// will have.
func (c *Config) readGuidance(t *table, m *ablation.Method) float64 {
	scale, rescale := c.Sample.GuidanceScale, c.Sample.GuidanceRescale
	if t.has("guidance_scale") {
		scale = t.number("guidance_scale", scale, 0, 50, guidanceAdvice)
		m.GuidanceScale = &scale
	} else {
		t.take("guidance_scale")
	}
	if t.has("guidance_rescale") {
		rescale = t.number("guidance_rescale", rescale, 0, 1, "0 turns it off")
		m.GuidanceRescale = &rescale
	} else {
		t.take("guidance_rescale")
	}
	switch {
	case rescale <= 0 || scale > 1:
	case m.GuidanceRescale != nil:
		t.fail("guidance_rescale", "set it to 0 or raise the guidance scale above 1", "is %v, which never takes effect: guidance is off (the guidance scale is %v)", rescale, scale)
	case m.GuidanceScale != nil:
		t.fail("guidance_scale", "add guidance_rescale = 0 to the method, or raise the scale above 1", "is %v, which turns guidance off: sample.guidance_rescale (%v) never takes effect", scale, rescale)
	}
	return scale
}

const guidanceAdvice = "1 or less turns guidance off; 3 to 7.5 are usual"

// readFreeU reads a preset's name or a table of the four numbers; nil: off.
func readFreeU(t *table) *ablation.FreeU {
	var names []string
	for _, p := range ablation.FreeUPresets {
		names = append(names, p.Name)
	}
	if v, ok := t.m["freeu"].(string); ok {
		t.take("freeu")
		for _, p := range ablation.FreeUPresets {
			if p.Name == v {
				u := p.FreeU
				return &u
			}
		}
		t.fail("freeu", didYouMean(v, names), "is %q, want one of %s or a table of b1, b2, s1 and s2", v, quoted(names))
		return nil
	}
	s, _ := t.optional("freeu")
	if s == nil {
		return nil
	}
	errs := len(t.r.errs)
	number := func(key string) float64 {
		return s.number(key, 1, 0, 4, "1 changes nothing; published values lie between 0.2 and 1.4")
	}
	u := &ablation.FreeU{B1: number("b1"), B2: number("b2"), S1: number("s1"), S2: number("s2")}
	s.done()
	if len(t.r.errs) == errs && *u == (ablation.FreeU{B1: 1, B2: 1, S1: 1, S2: 1}) {
		t.fail("freeu", fmt.Sprintf("drop it, or take one of %s", quoted(names)), "never takes effect: b1, b2, s1 and s2 are 1")
	}
	return u
}

func (c *Config) readSDEdit(t *table) *ablation.SDEdit {
	s, _ := t.optional("sdedit")
	if s == nil {
		return nil
	}
	last := c.Sample.Steps - 1
	e := &ablation.SDEdit{Tau: 1}
	if last < 1 {
		s.take("tau")
		t.fail("sdedit", "raise sample.steps, or drop it", "skips steps, but there is only one")
	} else {
		e.Tau = s.needInteger("tau", 1, 1, last, fmt.Sprintf("the number of steps to skip from the noisiest; choose 1..%d", last))
	}
	e.Scale = s.number("scale", 0, 0, 16, "how much smaller the first picture is; 0: of the training size")
	if e.Scale > 0 && e.Scale <= 1 {
		s.fail("scale", "choose a number above 1, or 0 for the training size", "is %v: the first picture must be smaller", e.Scale)
	}
	s.done()
	return e
}
