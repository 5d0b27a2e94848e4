package main

import (
	"os/exec"
	"strings"
	"testing"
)

// rules is the table of the house: what every package may import besides the
// standard library. A trailing /... stands for all packages below.
var rules = map[string][]string{
	"scalecrafter": {"scalecrafter/experiments", "scalecrafter/configs", "scalecrafter/reports"},

	"scalecrafter/configs":  {"scalecrafter/ablation", "github.com/BurntSushi/toml"},
	"scalecrafter/ablation": {"gonum.org/v1/gonum/mat"}, // pure data and mathematics

	"scalecrafter/model/kernels":  {"golang.org/x/sys/cpu"},
	"scalecrafter/model/weights":  {},
	"scalecrafter/model/critters": {},
	"scalecrafter/model/sampler":  {"scalecrafter/ablation", "scalecrafter/model/kernels"}, // no Gorgonia
	"scalecrafter/model/ops":      {"scalecrafter/model/kernels", "gorgonia.org/gorgonia", "gorgonia.org/tensor", "github.com/chewxy/hm"},
	"scalecrafter/model/params":   {"scalecrafter/model/weights", "gorgonia.org/gorgonia", "gorgonia.org/tensor"},
	"scalecrafter/model": {
		"scalecrafter/ablation", "scalecrafter/model/critters", "scalecrafter/model/kernels", "scalecrafter/model/ops",
		"scalecrafter/model/params", "scalecrafter/model/sampler", "scalecrafter/model/weights", "gorgonia.org/gorgonia", "gorgonia.org/tensor",
	},
	"scalecrafter/model/train": {"scalecrafter/model", "scalecrafter/model/...", "scalecrafter/metrics/features", "gorgonia.org/gorgonia", "gorgonia.org/tensor"},

	"scalecrafter/metrics": {"gonum.org/v1/gonum/..."}, // no U-Net, no Gorgonia
	"scalecrafter/metrics/features": {
		"scalecrafter/metrics", "scalecrafter/model/ops", "scalecrafter/model/params", "scalecrafter/model/weights", "scalecrafter/model/kernels",
		"gorgonia.org/gorgonia", "gorgonia.org/tensor",
	},

	"scalecrafter/reports/results": {},
	"scalecrafter/reports": { // no model, no metrics
		"scalecrafter/reports/results", "scalecrafter/ablation", "gonum.org/v1/plot", "gonum.org/v1/plot/...",
		"github.com/olekukonko/tablewriter", "github.com/olekukonko/tablewriter/...", "golang.org/x/image/...", "codeberg.org/go-fonts/...",
	},

	// Only experiments knows everybody, and yet no graph engine and no TOML; its
	// import command reads upstream's YAML.
	"scalecrafter/experiments": {"scalecrafter/...", "go.yaml.in/yaml/v4", "github.com/vbauerster/mpb/v8", "github.com/vbauerster/mpb/v8/...", "github.com/mattn/go-isatty"},
}

// Every package imports only what the table allows; a package that the table
// does not have needs a line in it first.
func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", "{{.ImportPath}} {{.Standard}} {{join .CgoFiles \",\"}}|{{join .Imports \" \"}}", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		head, imports, _ := strings.Cut(strings.TrimSpace(line), "|")
		fields := strings.Fields(head)
		pkg := fields[0]
		allowed, ok := rules[pkg]
		if !ok {
			t.Errorf("package %s is not in the table of imports: say there what it may know", pkg)
			continue
		}
		seen++
		if len(fields) > 2 {
			t.Errorf("package %s uses cgo (%s): the program must build without a C compiler", pkg, fields[2])
		}
		for _, path := range strings.Fields(imports) {
			if !permitted(path, allowed) {
				t.Errorf("package %s imports %s; it may import %s", pkg, path, strings.Join(append([]string{"the standard library"}, allowed...), ", "))
			}
		}
	}
	if seen < len(rules) {
		t.Errorf("go list found %d of the table's %d packages: drop the lines of those that are gone", seen, len(rules))
	}
}

func permitted(path string, allowed []string) bool {
	first, _, _ := strings.Cut(path, "/")
	if !strings.Contains(first, ".") && first != "scalecrafter" {
		return path != "C" // cgo shows as C; the rest is the standard library
	}
	for _, a := range allowed {
		if prefix, ok := strings.CutSuffix(a, "..."); ok && strings.HasPrefix(path, prefix) || path == a {
			return true
		}
	}
	return false
}

// The rules themselves catch what they are there for.
func TestPermitted(t *testing.T) {
	for path, want := range map[string]bool{
		"fmt": true, "net/http": true, "C": false, "gorgonia.org/gorgonia": false, "gonum.org/v1/gonum/mat": true,
		"scalecrafter/model": false, "gonum.org/v1/plot": false,
	} {
		if got := permitted(path, rules["scalecrafter/metrics"]); got != want {
			t.Errorf("metrics may import %s: %v, want %v", path, got, want)
		}
	}
}
