package experiments

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"scalecrafter/model"
)

// Import is the import command: it restates ScaleCrafter's published settings
// (configs/*.yaml with the layer lists that they name) as schedule files of
// ours and says which of them do nothing. The result is the process's exit
// code: findings are no failure unless -strict says so.
func Import(_ context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("import", flag.ContinueOnError)
	fs.SetOutput(stderr)
	from := fs.String("from", "", "`folder` of ScaleCrafter's source tree, or one of its .yaml files")
	out := fs.String("o", "", "`folder` to write schedule files to (default: print them)")
	fallback := fs.String("model", "", "the model of configs whose name does not tell: "+strings.Join(model.Published, ", "))
	force := fs.Bool("force", false, "replace schedule files that differ")
	strict := fs.Bool("strict", false, "exit with 1 if there are findings")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	fail := func(format string, args ...any) int {
		fmt.Fprintf(stderr, "import: "+format+"\n", args...)
		return 2
	}
	switch {
	case fs.NArg() > 0:
		return fail("argument %q is not understood: name the tree with -from", fs.Arg(0))
	case *from == "":
		return fail("-from is missing: name ScaleCrafter's source tree, which has configs/*.yaml, or one of its .yaml files")
	case *fallback != "" && !slices.Contains(model.Published, *fallback):
		return fail("-model %q is not known, want one of %s", *fallback, strings.Join(model.Published, ", "))
	}
	root, only, err := importRoot(*from)
	if err != nil {
		return fail("%v", err)
	}
	im := importer{tree: os.DirFS(root), prefix: root, model: *fallback, lists: map[string]*layerList{}}
	schedules := im.run(only)
	if len(im.problems) > 0 {
		for _, p := range im.problems {
			fmt.Fprintln(stderr, im.render(p))
		}
		fmt.Fprintf(stderr, "import: %s, nothing is written\n", count(len(im.problems), "error", "errors"))
		return 2
	}
	if *out == "" {
		for _, s := range schedules {
			fmt.Fprintf(stdout, "--- %s.toml\n%s\n", s.name, s.toml())
		}
	}
	findings := 0
	for _, f := range im.findings {
		fmt.Fprintln(stdout, im.render(f))
		if f.kind != aNote {
			findings++
		}
	}
	fmt.Fprintln(stdout, im.summary(len(schedules)))
	if *out != "" {
		if err := writeSchedules(*out, schedules, *force, stdout); err != nil {
			fmt.Fprintf(stderr, "import: %v\n", err)
			return 1
		}
	}
	if *strict && findings > 0 {
		return 1
	}
	return 0
}

// importRoot splits -from into the tree's root and, if it is one file, that
// file's path below it: files name their lists from the folder above configs/.
func importRoot(from string) (root, only string, err error) {
	info, err := os.Stat(from)
	if err != nil {
		return "", "", err
	}
	if info.IsDir() {
		return from, "", nil
	}
	dir, file := filepath.Dir(from), filepath.Base(from)
	if abs, err := filepath.Abs(dir); err == nil && filepath.Base(abs) == "configs" {
		return filepath.Join(dir, ".."), "configs/" + file, nil
	}
	return dir, file, nil
}

// remarkKind sorts findings for the summary.
type remarkKind int

const (
	aNote remarkKind = iota
	deadLine
	idleDispersion
	unusedDamping
	unevenDispersion
	idleDilation
	idleDecay
	legacyKey
	unknownKey
	blankLine
	repeatedLayer
	otherTransform
	wrongSize
	leftOut
)

// kindWords says, for one and for more, what the summary counts.
var kindWords = map[remarkKind][2]string{
	deadLine:         {"dead line", "dead lines"},
	idleDispersion:   {"dispersion configuration never active", "dispersion configurations never active"},
	unusedDamping:    {"V list never used", "V lists never used"},
	unevenDispersion: {"dispersion that a network does not share", "dispersions that a network does not share"},
	idleDilation:     {"re-dilation never active", "re-dilations never active"},
	idleDecay:        {"progressive without effect", "progressives without effect"},
	legacyKey:        {"legacy key", "legacy keys"},
	unknownKey:       {"unknown key", "unknown keys"},
	blankLine:        {"blank line", "blank lines"},
	repeatedLayer:    {"layer listed twice", "layers listed twice"},
	otherTransform:   {"transform unlike its name", "transforms unlike their names"},
	wrongSize:        {"size that disagrees", "sizes that disagree"},
	leftOut:          {"setting left out", "settings left out"},
	aNote:            {"note", "notes"},
}

// remark is a finding or an error, at a place below the tree's root; line 0 is
// the file as a whole.
type remark struct {
	file string
	line int
	kind remarkKind
	text string
}

// sortRemarks orders by place and drops repetitions: a list may be read for
// two models.
func sortRemarks(rs []remark) []remark {
	slices.SortStableFunc(rs, func(a, b remark) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.text, b.text))
	})
	return slices.Compact(rs)
}

// importer reads one tree. Names in the tree are slash-separated paths below
// its root, as io/fs wants them.
type importer struct {
	tree     fs.FS
	prefix   string // of the tree, for people
	model    string // where a config's name does not tell
	lists    map[string]*layerList
	configs  int
	findings []remark
	problems []remark // unreadable input
}

func (im *importer) render(r remark) string {
	file := filepath.Join(im.prefix, filepath.FromSlash(r.file))
	if r.line > 0 {
		file += ":" + strconv.Itoa(r.line)
	}
	return file + ": " + r.text
}

func (im *importer) find(kind remarkKind, file string, line int, format string, args ...any) {
	im.findings = append(im.findings, remark{file, line, kind, fmt.Sprintf(format, args...)})
}

func (im *importer) problem(file string, line int, format string, args ...any) {
	im.problems = append(im.problems, remark{file: file, line: line, text: fmt.Sprintf(format, args...)})
}

// summary is one line of counts.
func (im *importer) summary(schedules int) string {
	counts := map[remarkKind]int{}
	deadIn := map[string]bool{}
	for _, f := range im.findings {
		counts[f.kind]++
		if f.kind == deadLine {
			deadIn[f.file] = true
		}
	}
	var parts []string
	for kind := deadLine; kind <= leftOut; kind++ {
		if n := counts[kind]; n > 0 {
			text := count(n, kindWords[kind][0], kindWords[kind][1])
			if kind == deadLine {
				text += " in " + count(len(deadIn), "file", "files")
			}
			parts = append(parts, text)
		}
	}
	findings := len(im.findings) - counts[aNote]
	head := fmt.Sprintf("%s, %s, %s", count(im.configs, "config", "configs"), count(schedules, "schedule", "schedules"), count(findings, "finding", "findings"))
	if counts[aNote] > 0 {
		head += ", " + count(counts[aNote], kindWords[aNote][0], kindWords[aNote][1])
	}
	if len(parts) > 0 {
		head += ": " + strings.Join(parts, "; ")
	}
	return head
}

func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// run imports every config of the tree, or only the one named, in the order of
// their names.
func (im *importer) run(only string) []*schedule {
	files := []string{only}
	if only == "" {
		files = nil
		for _, pattern := range []string{"configs/*.yaml", "configs/*.yml"} {
			found, _ := fs.Glob(im.tree, pattern) // the pattern is well-formed
			files = append(files, found...)
		}
		slices.Sort(files)
		if len(files) == 0 {
			im.problem("configs", 0, "has no *.yaml: -from wants the root of ScaleCrafter's source tree, or one .yaml file")
		}
	}
	im.configs = len(files)
	var out []*schedule
	names := map[string]string{}
	for _, file := range files {
		c := im.readConfig(file)
		if c == nil {
			continue
		}
		if other, ok := names[c.name]; ok {
			im.problem(file, 0, "would be written to %s.toml, as %s: keep one of them", c.name, other)
			continue
		}
		names[c.name] = file
		if s := im.restate(c); s != nil {
			out = append(out, s)
		}
	}
	im.findings, im.problems = sortRemarks(im.findings), sortRemarks(im.problems)
	return out
}
