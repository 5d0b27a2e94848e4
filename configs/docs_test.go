package configs

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// bogus is a key that no table has, nor any like it: its error lists the keys
// that the table has.
const bogus = "zzzzzzzzzz = 1\n"

// experimentOfBogus has every table of an experiment once, all defaults left
// open, each with a bogus key where mark stands.
const experimentOfBogus = `name = "x"
#MARK
[model]
#MARK
[sample]
height = 128
width = 128
#MARK
[reference]
#MARK
[[method]]
name = "direct"
kind = "direct"
baseline = true
[[method]]
name = "r"
kind = "redilation"
factor = 2
tau = 10
#MARK
[method.damped]
#MARK
[method.dispersion]
#MARK
[method.freeu]
b1 = 1.1
#MARK
[method.sdedit]
tau = 3
#MARK
[method.grid]
#MARK
[[method]]
name = "d"
kind = "redilation"
schedule = "derived"
[report]
#MARK
[[report.plot]]
name = "p"
metric = "fid_r"
#MARK
[[report.compare]]
name = "c"
from = "direct"
to = "r"
#MARK
`

const scheduleOfBogus = `model = "sd1.5"
height = 128
width = 128
tau = 5
factor = 2
#MARK
[damped]
tau = 5
#MARK
[dispersion]
tau = 5
#MARK
`

const trainingOfBogus = `name = "x"
network = "unet"
#MARK
[data]
#MARK
[optimizer]
steps = 3
#MARK
[log]
#MARK
`

// schema lists every table's keys, as the readers know them.
func schema(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	known := regexp.MustCompile(`^known: (.*)$`)
	add := func(prefix string, err error, tables int) {
		var all Errors
		if !errors.As(err, &all) {
			t.Fatal(err)
		}
		found := 0
		for _, e := range all {
			table, ok := strings.CutSuffix(e.Key, "zzzzzzzzzz")
			m := known.FindStringSubmatch(e.Advice)
			if !ok || m == nil {
				continue // of settings that are missing, and without effect
			}
			found++
			keys := strings.Split(m[1], ", ")
			slices.Sort(keys)
			out[prefix+strings.TrimSuffix(stripIndexes(table), ".")] = slices.Compact(keys)
		}
		if found != tables {
			t.Fatalf("%s: %d tables name their keys, want %d:\n%v", prefix, found, tables, err)
		}
	}
	marked := func(src string) string { return strings.ReplaceAll(src, "#MARK\n", bogus) }
	_, err := Decode(marked(experimentOfBogus), "x.toml", nil)
	add("", err, strings.Count(experimentOfBogus, "#MARK"))
	_, err = DecodeSchedule(marked(scheduleOfBogus), "x.toml")
	add("schedule ", err, strings.Count(scheduleOfBogus, "#MARK"))
	_, err = DecodeTrain(marked(trainingOfBogus), "x.toml", nil)
	add("training ", err, strings.Count(trainingOfBogus, "#MARK"))
	return out
}

// page is docs/config.md: by table and key, the default column.
func page(t *testing.T) map[string]map[string]string {
	t.Helper()
	data, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	section := ""
	quoted := regexp.MustCompile("`([^`]+)`")
	for _, line := range strings.Split(string(data), "\n") {
		if head, ok := strings.CutPrefix(line, "### "); ok {
			head = strings.Replace(strings.Replace(strings.ToLower(head), "top level", "", 1), ":", "", 1)
			section = strings.TrimSpace(strings.Trim(strings.NewReplacer("`", "", "[", "", "]", "").Replace(head), " "))
			if section == "schedule" || section == "training" {
				section += " "
			}
			out[section] = map[string]string{}
			continue
		}
		if cells := strings.Split(line, "|"); section != "" || out[""] != nil {
			if len(cells) < 4 || !strings.Contains(cells[1], "`") {
				continue
			}
			for _, key := range quoted.FindAllStringSubmatch(cells[1], -1) {
				if _, twice := out[section][key[1]]; twice {
					t.Errorf("[%s] %s stands there twice", section, key[1])
				}
				out[section][key[1]] = ""
				if len(cells) > 5 {
					out[section][key[1]] = strings.TrimSpace(cells[3])
				}
			}
		}
	}
	return out
}

// The page of all keys has every key that the readers know, and no other.
func TestPageHasEveryKey(t *testing.T) {
	known, shown := schema(t), page(t)
	for table, keys := range known {
		for _, key := range keys {
			if _, ok := shown[table][key]; !ok {
				t.Errorf("docs/config.md lacks [%s] %s", table, key)
			}
		}
		for key := range shown[table] {
			if !slices.Contains(keys, key) {
				t.Errorf("docs/config.md has [%s] %s, which is no key", table, key)
			}
		}
	}
	for table := range shown {
		if known[table] == nil {
			t.Errorf("docs/config.md has a table [%s], which no file has", table)
		}
	}
}

// Its defaults that are literals are those that resolving fills in; what is
// filled in without another setting's help is a literal there.
func TestPageHasDefaults(t *testing.T) {
	clean := func(src string) string { return strings.ReplaceAll(src, "#MARK\n", "") }
	c, err := Decode(strings.Replace(clean(experimentOfBogus), "[method.grid]\n", "", 1), "x.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := DecodeSchedule(clean(scheduleOfBogus), "x.toml")
	if err != nil {
		t.Fatal(err)
	}
	trees := map[string]map[string]any{"": c.tree, "schedule ": s.tree}
	if trees["training "], err = decode(clean(trainingOfBogus), "x.toml", nil, (&Train{}).read); err != nil {
		t.Fatal(err)
	}
	// Defaults that are another setting's value, or a function of it.
	follow := []string{
		"title", "reference.base_count", "report.columns", "report.picture_columns", "schedule name", "schedule damped.factor",
		"method.damped.factor", "method.damped.tau", "method.dispersion.tau", "method.dispersion.scale", "schedule dispersion.scale",
	}
	shown, checked := page(t), 0
	var walk func(table, prefix string, m map[string]any, given func(path string) bool)
	walk = func(table, prefix string, m map[string]any, given func(string) bool) {
		for key, v := range m {
			path := prefix + key
			if sub, ok := v.(map[string]any); ok {
				walk(strings.TrimSpace(table)+map[bool]string{true: " ", false: "."}[table == "schedule " || table == "training "]+key, path+".", sub, given)
				continue
			}
			if tables(v) {
				list, _ := asList(v)
				for i, item := range list {
					walk(stripIndexes(strings.TrimPrefix(table+"."+key, ".")), element(path, i)+".", item.(map[string]any), given)
				}
				continue
			}
			where := strings.TrimPrefix(table, ".")
			full := strings.TrimPrefix(where+"."+key, ".")
			if strings.HasSuffix(where, " ") {
				full = where + key
			}
			if given(path) || slices.Contains(follow, full) {
				continue
			}
			want := "`" + c.literal(path, v) + "`"
			if got := shown[where][key]; got != want {
				t.Errorf("docs/config.md gives [%s] %s the default %s, the code %s", where, key, got, want)
			}
			checked++
		}
	}
	walk("", "", trees[""], c.reader.has)
	walk("schedule ", "", trees["schedule "], s.reader.has)
	spans := positions(clean(trainingOfBogus))
	walk("training ", "", trees["training "], func(path string) bool { _, ok := spans[path]; return ok })
	if checked < 50 {
		t.Errorf("%d defaults checked: the test proves less than it should", checked)
	}
}
