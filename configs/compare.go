package configs

import (
	"fmt"

	"scalecrafter/ablation"
)

// readCompares reads [[report.compare]]: name, from, to. At one size names are
// unique; a component whose methods differ by size has one name.
func (c *Config) readCompares(p *table) {
	v, ok := p.take("compare")
	if !ok {
		return
	}
	list, ok := asList(v)
	if !ok {
		p.fail("compare", "write it as [[report.compare]]", "is %s, want an array of tables", show(v))
		return
	}
	cells := map[string]int{}
	for _, m := range c.Methods {
		cells[m.Name]++
	}
	seen := map[string]bool{} // name and size
	for i, item := range list {
		path := element(p.where("compare"), i)
		m, ok := item.(map[string]any)
		if !ok {
			p.r.fail(path, "write it as [[report.compare]]", "is %s, want a table", show(item))
			continue
		}
		q := &table{r: p.r, path: path, m: m}
		method := func(key, example string) string {
			if !q.has(key) {
				q.missing(key, "the name of a method", fmt.Sprintf("add %s = %q", key, example))
				q.take(key)
				return ""
			}
			name := q.text(key, "")
			if _, isText := m[key].(string); !isText {
				return ""
			}
			switch cells[name] {
			case 0:
				q.fail(key, didYouMean(name, methodNames(c.Methods)), "is %q, want the name of a method", name)
			case 1:
			default:
				q.fail(key, "give the setting to compare a [[method]] of its own", "is %q, a grid of %d cells; a comparison is between two cells", name, cells[name])
			}
			return name
		}
		var compare Compare
		if q.has("name") {
			compare.Name = q.text("name", "")
			if text, isText := m["name"].(string); isText && text == "" {
				q.fail("name", "name what the second method has and the first has not", "is empty")
			}
		} else {
			q.missing("name", "a text", `name what the second method has and the first has not: add name = "dispersion"`)
			q.take("name")
		}
		compare.From, compare.To = method("from", "direct"), method("to", "redilation")
		if compare.From == compare.To && compare.From != "" {
			q.fail("to", "compare two methods", "is %q, the method it is compared with", compare.To)
		}
		runs, taken := 0, false
		for _, size := range c.sizes() {
			if !c.methodRuns(compare.From, size) || !c.methodRuns(compare.To, size) {
				continue
			}
			runs++
			key := compare.Name + " " + size.String()
			taken = taken || seen[key]
			seen[key] = true
		}
		switch {
		case taken && compare.Name != "":
			q.fail("name", "give every comparison its own name", "is %q, which another comparison has", compare.Name)
		case runs == 0 && cells[compare.From] == 1 && cells[compare.To] == 1:
			q.fail("to", "compare methods that have a size in common", "is %q, which runs at no size at which %q does: the comparison never takes effect", compare.To, compare.From)
		}
		q.done()
		c.Report.Compares = append(c.Report.Compares, compare)
	}
}

// keepPlots leaves a panel's plots the methods that it has; a plot of others is
// dropped.
func (c *Config) keepPlots() {
	if len(c.Report.Plots) == 0 {
		return
	}
	report := clone(c.tree["report"].(map[string]any))
	c.tree["report"] = report
	all, _ := asList(report["plot"])
	names := methodNames(c.Methods)
	var kept []Plot
	var tables []any
	for i, plot := range c.Report.Plots {
		if i >= len(all) {
			continue
		}
		table := clone(all[i].(map[string]any))
		if plot.Methods != nil {
			var own []string
			for _, name := range plot.Methods {
				if contains(names, name) {
					own = append(own, name)
				}
			}
			if len(own) == 0 {
				continue
			}
			plot.Methods = own
			table["methods"] = anyList(own)
		}
		kept = append(kept, plot)
		tables = append(tables, table)
	}
	c.Report.Plots = kept
	report["plot"] = tables
	if len(tables) == 0 {
		delete(report, "plot")
	}
}

// methodRuns reports whether a method of that name runs at the size.
func (c *Config) methodRuns(name string, size ablation.Size) bool {
	for i, m := range c.Methods {
		if m.Name == name && c.origins[i].runsAt(size) {
			return true
		}
	}
	return false
}

// keepCompares leaves a panel the comparisons whose methods it has.
func (c *Config) keepCompares() {
	if len(c.Report.Compares) == 0 {
		return
	}
	report := clone(c.tree["report"].(map[string]any))
	c.tree["report"] = report
	all, _ := asList(report["compare"])
	names := methodNames(c.Methods)
	var kept []Compare
	var tables []any
	for i, compare := range c.Report.Compares {
		if contains(names, compare.From) && contains(names, compare.To) && i < len(all) {
			kept = append(kept, compare)
			tables = append(tables, all[i])
		}
	}
	c.Report.Compares = kept
	report["compare"] = tables
	if len(tables) == 0 {
		delete(report, "compare")
	}
}
