package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"scalecrafter/ablation"
)

// scheduleKeys are what a schedule gives.
var scheduleKeys = []string{"factor", "tau", "layers", "min_depth", "depth", "dilation", "decay", "listed", "damped", "dispersion"}

// zero reports a tau of a schedule file that is 0, or so small that it is no
// step of this experiment, and which the method does not give either.
func (s *Schedule) zero(key, mend, what string, r *reader) {
	e := s.reader.at(s.at(key), true)
	tau := s.Redilation.Tau
	switch key {
	case "damped.tau":
		if s.Redilation.Damped == nil {
			return // it is the method's, and its own tau is 0
		}
		tau = s.Redilation.Damped.Tau
	case "dispersion.tau":
		if s.Redilation.Dispersion == nil {
			return
		}
		tau = s.Redilation.Dispersion.Tau
	}
	e.What = fmt.Sprintf("is %d of %d steps, which is no step here: %s never takes effect", tau, s.Steps, what)
	e.Advice = fmt.Sprintf("give the method that takes schedule = %q %s", s.Name, mend)
	r.errs = append(r.errs, e)
}

// derived is the schedule of the rule that needs no file (Method.Derived).
const derived = "derived"

// ScheduleModels are the values of a schedule file's model key: the networks
// whose layers its globs name.
var ScheduleModels = []string{"sd1.5", "sd2.1", "sdxl", "builtin"}

// Schedule is one schedule file, schedules/NAME.toml beside the experiment: the
// published settings of one model at one size, as data.
type Schedule struct {
	File          string
	Name, Model   string
	Height, Width int // pixels
	Steps         int // that the taus count
	// Redilation holds the settings as the file gives them. Its taus may be 0,
	// because published files say so; a method that uses such a one is refused.
	Redilation ablation.Redilation

	reader *reader
	path   string // of its table in reader; "" in its own file
	tree   map[string]any
}

// LoadSchedule reads a schedule file. A non-nil error is Errors where the
// content is at fault.
func LoadSchedule(name string) (*Schedule, error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	return DecodeSchedule(string(src), name)
}

// DecodeSchedule is LoadSchedule for a source in memory; file is the name in
// messages, and its base without ".toml" is what the schedule must be called.
func DecodeSchedule(src, file string) (*Schedule, error) {
	s := &Schedule{File: file}
	_, err := decode(src, file, nil, func(t *table) {
		s.read(t, strings.TrimSuffix(path.Base(filepath.ToSlash(file)), ".toml"))
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// at is a key's path in the schedule's reader.
func (s *Schedule) at(key string) string {
	if s.path == "" {
		return key
	}
	return s.path + "." + key
}

// TOML renders the schedule with its defaults filled in.
func (s *Schedule) TOML() string {
	var b strings.Builder
	(&Config{reader: s.reader}).renderTable(&b, s.path, s.tree)
	return b.String()
}

// read takes every key of the schedule's table.
func (s *Schedule) read(t *table, name string) {
	s.reader, s.path, s.tree = t.r, t.path, t.m
	s.Name = t.text("name", name)
	if s.Name != name {
		t.fail("name", "call the file as the schedule, or the other way round", "is %q, but the file is %q", s.Name, name+".toml")
	}
	s.Model = t.choice("model", "", ScheduleModels)
	s.Height = t.pixels("height", 1024)
	s.Width = t.pixels("width", 1024)
	s.Steps = t.integer("steps", 50, 1, 1000, "the steps that tau counts; published ones count 50")
	tau := func(t *table) int {
		return t.needInteger("tau", s.Steps, 0, s.Steps, fmt.Sprintf("tau counts sampling steps from the noisiest; choose 0..%d", s.Steps))
	}
	r := &s.Redilation
	r.Schedule = name
	r.Tau = tau(t)
	if !anyOf(t, "factor", "layers", "min_depth", "depth", "dilation") && r.Tau == 0 {
		for _, key := range []string{"factor", "layers", "min_depth", "depth", "dilation"} {
			t.take(key)
		}
	} else {
		r.LayerSet = readLayers(t, ablation.LayerSet{}, nil)
	}
	r.Decay, r.Listed = readDecay(t, false)
	longest := r.Tau
	if d := t.sub("damped"); d != nil {
		r.Damped = &ablation.Damping{Tau: tau(d), LayerSet: readLayers(d, r.LayerSet, nil)}
		longest = max(longest, r.Damped.Tau)
		d.done()
	}
	if n := len(r.Listed); n > 0 && n != longest {
		t.fail("listed", fmt.Sprintf("give one share for each of the %d steps that are dilated", longest), "has %d shares for %d steps", n, longest)
	}
	if d := t.sub("dispersion"); d != nil {
		r.Dispersion = readDispersion(d, nil)
		r.Dispersion.Tau = tau(d)
		d.done()
	}
	t.done()
}

// scaled is the schedule's settings with its taus as the same shares of so many
// steps, and listed shares repeated or left out to fit.
func (s *Schedule) scaled(steps int) ablation.Redilation {
	r := s.Redilation
	scale := func(tau int) int { return ablation.TauSteps(float64(tau)/float64(s.Steps), steps) }
	r.Tau = scale(r.Tau)
	longest := r.Tau
	if r.Damped != nil {
		v := *r.Damped
		v.Tau = scale(v.Tau)
		longest = max(longest, v.Tau)
		r.Damped = &v
	}
	if r.Dispersion != nil {
		d := *r.Dispersion
		d.Tau = scale(d.Tau)
		r.Dispersion = &d
	}
	if n := len(r.Listed); n > 0 {
		listed := make([]float64, longest)
		for i := range listed {
			listed[i] = r.Listed[i*n/longest]
		}
		r.Listed = listed
	}
	return r
}

// readSchedules reads the schedules that the experiment's own file holds.
func (c *Config) readSchedules(t *table) {
	all := t.sub("schedules")
	if all == nil {
		return
	}
	for _, name := range sortedKeys(all.m) {
		if !validSchedule(name) {
			t.r.failKey(all.where(name), "schedules are called like \"sd1.5_2048x2048\"", "want lower-case letters, digits, -, _ and . in the name")
			continue
		}
		if inner := all.sub(name); inner != nil {
			s := &Schedule{File: c.File}
			before := len(t.r.errs)
			s.read(inner, name)
			if len(t.r.errs) > before {
				s = nil
			}
			c.schedules[name] = s
		}
	}
	all.done()
}

// schedule finds a schedule by its name: in the experiment's own file, else in
// the folder beside it. It is nil after an error, which has been reported.
func (c *Config) schedule(t *table, name string) *Schedule {
	c.used[name] = true
	if s, ok := c.schedules[name]; ok {
		return s
	}
	const want = "want \"derived\" or the name of a schedule file"
	if !validSchedule(name) {
		t.fail("schedule", "schedules are called like \"sd1.5_2048x2048\", after their files", "is %q, %s", name, want)
		return nil
	}
	if c.folder == nil {
		t.fail("schedule", fmt.Sprintf("give the schedule in a table [schedules.%s], or read the configuration from a file", ablation.QuoteKey(name)),
			"is %q, which cannot be looked up: the configuration was not read from a file", name)
		return nil
	}
	file := path.Join(path.Dir(filepath.ToSlash(c.File)), "schedules", name+".toml")
	src, err := fs.ReadFile(c.folder, name+".toml")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			t.fail("schedule", didYouMean(name, append([]string{derived}, c.scheduleNames()...)), "is %q, %s; there is no %s", name, want, file)
		} else {
			t.fail("schedule", "mend the file", "is %q, which cannot be read: %v", name, err)
		}
		return nil
	}
	s, err := DecodeSchedule(string(src), file)
	c.schedules[name] = s
	if err != nil {
		c.schedules[name] = nil
		var all Errors
		if errors.As(err, &all) {
			t.r.errs = append(t.r.errs, all...)
		}
		return nil
	}
	return s
}

func (c *Config) scheduleNames() []string {
	entries, _ := fs.ReadDir(c.folder, ".")
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".toml"); ok {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// keepSchedules puts the schedules used into the resolved file, so that it
// depends on no other, and reports those of the file that nobody uses.
func (c *Config) keepSchedules(t *table) {
	for _, name := range sortedKeys(c.schedules) {
		s := c.schedules[name]
		if s == nil {
			continue
		}
		if !c.used[name] {
			t.r.failKey(s.path, fmt.Sprintf("write schedule = %q in a method, or drop it", name), "no method uses this schedule")
			continue
		}
		all, ok := t.m["schedules"].(map[string]any)
		if !ok {
			all = map[string]any{}
			t.m["schedules"] = all
		}
		all[name] = s.tree
	}
}

func validSchedule(name string) bool {
	return name != "" && len(name) <= 64 && name != derived && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" &&
		name[0] != '.' && name[0] != '-' && !strings.Contains(name, "..")
}
