// Package results is the contract between the program that measures and the
// program that reports: the records that lie in a run's folder. It imports
// only the standard library and knows nothing of models, metrics or drawing.
package results

import "time"

// SchemaVersion is written into every file; a reader refuses others.
const SchemaVersion = 1

// Value is one measured number with its interval.
type Value struct {
	Mean float64 `json:"mean"`
	// Lo and Hi bound the 95% bootstrap interval; both equal Mean where no
	// interval was computed, and HasInterval is then false.
	Lo          float64 `json:"lo"`
	Hi          float64 `json:"hi"`
	HasInterval bool    `json:"has_interval"`
	N           int     `json:"n"`
}

// Metric describes a column of the result table.
type Metric struct {
	Key            string `json:"key"`   // "fid_r", "right_share", ...
	Title          string `json:"title"` // "FID_r"
	Unit           string `json:"unit"`  // "%" or ""
	Help           string `json:"help"`  // one sentence: what it is, against what
	HigherIsBetter bool   `json:"higher_is_better"`
	Percent        bool   `json:"percent"` // show 100 x value
	Digits         int    `json:"digits"`
}

// Axis is one setting that the experiment varies, as text and, where it is a
// number, as one.
type Axis struct {
	Name   string   `json:"name"`
	Text   string   `json:"text"`
	Number *float64 `json:"number,omitempty"`
}

// Effect is a cell's difference to the baseline in one metric, paired by
// sample (same prompts, same noise).
type Effect struct {
	Value
	// Significant is true where the 95% paired interval, after Holm's
	// correction over the table, excludes zero.
	Significant bool `json:"significant"`
	// P is the two-sided p-value after Holm's correction over the table.
	P float64 `json:"p"`
}

// Cell is one row of the result table: one method with one setting.
type Cell struct {
	ID       string            `json:"id"`     // content hash of everything that decides the numbers
	Label    string            `json:"label"`  // "re-dilation x2, 60% of steps"
	Method   string            `json:"method"` // the method's name in the TOML file
	Kind     string            `json:"kind"`   // direct, redilation, attention_scaling, ...
	Baseline bool              `json:"baseline"`
	Axes     []Axis            `json:"axes"`
	Status   string            `json:"status"` // done, failed
	Error    string            `json:"error,omitempty"`
	N        int               `json:"n"`
	NFE      float64           `json:"nfe"`     // network evaluations per image
	Seconds  float64           `json:"seconds"` // sampling wall time on the machine that drew it
	Metrics  map[string]Value  `json:"metrics"`
	Effects  map[string]Effect `json:"effects"` // against the baseline
	Images   []string          `json:"images"`  // PNG paths relative to the run's folder, by sample index

	// The receipt: what was executed. Plan has a row a layer and network, in
	// execution order, main before damped; networks that ran as trained
	// throughout have none. Steps has a row a step.
	Plan  []PlanRow `json:"plan"`
	Steps []StepRow `json:"steps,omitempty"`
	// Attention has a row a self-attention and network, ordered as Plan; none
	// for networks whose attention ran as trained throughout.
	Attention []AttentionRow `json:"attention,omitempty"`
	// GuidanceScale and GuidanceRescale are the cell's own; nil in files of
	// programs that did not write receipts.
	GuidanceScale   *float64 `json:"guidance_scale,omitempty"`
	GuidanceRescale *float64 `json:"guidance_rescale,omitempty"`
	// SDEdit is set where the picture began as an enlarged smaller one.
	SDEdit *SDEdit `json:"sdedit,omitempty"`
}

// Networks of a receipt.
const (
	NetworkMain   = "main"   // ScaleCrafter's D
	NetworkDamped = "damped" // ScaleCrafter's V, in noise-damped guidance
)

// PlanRow is how one layer of one network ran at every step.
type PlanRow struct {
	Layer   string `json:"layer"`   // diffusers path
	Network string `json:"network"` // NetworkMain or NetworkDamped
	// Factors is the dilation factor along rows that the kernel ran at, 1 as
	// trained, 0 where the network was not evaluated at that step. Columns is
	// the one along columns; nil where it equals Factors at every step.
	Factors []float64 `json:"factors"`
	Columns []float64 `json:"columns,omitempty"`
	// Kernels is the kernel's taps along a side, 3 as trained, 5 or more where
	// the kernel was dispersed, 0 where the network was not evaluated. nil where
	// the layer was never dispersed. Transforms names the transform then, ""
	// where there was none.
	Kernels    []int    `json:"kernels,omitempty"`
	Transforms []string `json:"transforms,omitempty"`
}

// AttentionRow is how one self-attention of one network ran at every step.
type AttentionRow struct {
	Layer   string `json:"layer"`   // diffusers path
	Network string `json:"network"` // NetworkMain or NetworkDamped
	// Scales is the factor on its logits, 1 as trained, 0 where the network was
	// not evaluated at that step.
	Scales []float64 `json:"scales"`
}

// Column is the dilation factor along columns at a step.
func (r *PlanRow) Column(step int) float64 {
	if r.Columns == nil {
		return r.Factors[step]
	}
	return r.Columns[step]
}

// Kernel is the kernel's side at a step and the transform that made it, "" for
// the kernel as trained.
func (r *PlanRow) Kernel(step int) (side int, transform string) {
	switch {
	case r.Factors[step] == 0:
		return 0, ""
	case r.Kernels == nil:
		return 3, ""
	}
	return r.Kernels[step], r.Transforms[step]
}

// StepRow is what one sampling step evaluated: the guidance sum is
// base + w (cond - uncond), and each term names the network that gave it. A
// term that was not evaluated is "": base and uncond without guidance, all
// where SDEdit skipped the step.
type StepRow struct {
	Base   string `json:"base,omitempty"`
	Uncond string `json:"uncond,omitempty"`
	Cond   string `json:"cond,omitempty"`
	// Main and Damped are the settings of a whole network at this step; nil
	// where it was not evaluated.
	Main   *NetworkRow `json:"main,omitempty"`
	Damped *NetworkRow `json:"damped,omitempty"`
}

// Skipped reports a step that was not run.
func (s *StepRow) Skipped() bool { return s.Main == nil && s.Damped == nil }

// Of is the network's settings at the step; nil where it was not evaluated.
func (s *StepRow) Of(network string) *NetworkRow {
	if network == NetworkDamped {
		return s.Damped
	}
	return s.Main
}

// NetworkRow is what holds for a whole network at one step.
type NetworkRow struct {
	// AttentionRatio is the picture's pixels over those trained on, by which
	// self-attention was sharpened; 0: it was not. Cell.Attention has the factor
	// that this means for each.
	AttentionRatio float64 `json:"attention_ratio,omitempty"`
	// FreeU holds b1, b2, s1, s2; nil: off.
	FreeU []float64 `json:"freeu,omitempty"`
}

// SDEdit is a start from an enlarged smaller picture instead of noise.
type SDEdit struct {
	Skipped int     `json:"skipped"` // steps, from the noisiest
	Scale   float64 `json:"scale"`   // the target's side over the smaller picture's; 0: from the training size
}

// Provenance is what one needs to judge whether two numbers may be compared.
type Provenance struct {
	Program       string    `json:"program"`
	Commit        string    `json:"commit"`
	GoVersion     string    `json:"go_version"`
	OS            string    `json:"os"`
	CPU           string    `json:"cpu"`
	KernelPath    string    `json:"kernel_path"`         // avx512, avx2, portable
	Math          string    `json:"math,omitempty"`      // arithmetic of the network, with its path: "bf16x3 amx"
	MathNote      string    `json:"math_note,omitempty"` // why it is not the one asked for
	Cores         int       `json:"cores"`
	Started       time.Time `json:"started"`
	Finished      time.Time `json:"finished"`
	ModelDigest   string    `json:"model_digest"`
	FeatureDigest string    `json:"feature_digest"`
	WorldVersion  string    `json:"world_version"`
	Protocol      string    `json:"protocol"`
	ConfigFile    string    `json:"config_file"`
	Command       string    `json:"command"`
}

// Finding is one sentence of the report's answer, computed from the numbers.
type Finding struct {
	Text string `json:"text"`
}

// Summary is everything a report is made of. It lies in the run's folder as
// summary.json and is replaced atomically.
type Summary struct {
	Version       int       `json:"version"`
	Name          string    `json:"name"`
	Title         string    `json:"title"`
	Question      string    `json:"question"`
	Height        int       `json:"height"`
	Width         int       `json:"width"`
	TrainHeight   int       `json:"train_height"`
	TrainWidth    int       `json:"train_width"`
	Steps         int       `json:"steps"`
	GuidanceScale float64   `json:"guidance_scale"`
	Prompts       []string  `json:"prompts"` // by sample index
	Columns       []Metric  `json:"columns"`
	Cells         []Cell    `json:"cells"`
	Reference     []Cell    `json:"reference"` // rows for orientation: true scenes, base-resolution samples
	Plots         []Plot    `json:"plots"`
	Findings      []Finding `json:"findings"`
	// Comparisons are the differences between two cells that the experiment
	// asks for, corrected together and apart from the cells' effects.
	Comparisons  []Comparison `json:"comparisons,omitempty"`
	Provenance   Provenance   `json:"provenance"`
	ResolvedTOML string       `json:"resolved_toml"`
	// PictureRows are the IDs of the cells in the picture grid, in order;
	// empty: all. PictureColumns are the sample indices shown; empty: the
	// report chooses.
	PictureRows    []string `json:"picture_rows,omitempty"`
	PictureColumns []int    `json:"picture_columns,omitempty"`
}

// Comparison is what one component adds: the paired differences of cell To to
// cell From, by the key of the metric.
type Comparison struct {
	Name    string            `json:"name"` // what To has and From has not
	From    string            `json:"from"` // IDs of cells
	To      string            `json:"to"`
	Effects map[string]Effect `json:"effects"`
}

// Joint is an experiment at several sizes: one panel a size. It lies in the
// run's folder as summary.json; the panels' own summaries lie in the panels'
// folders.
type Joint struct {
	Version    int        `json:"version"`
	Name       string     `json:"name"`
	Title      string     `json:"title"`
	Question   string     `json:"question"`
	Columns    []Metric   `json:"columns"` // by which the sizes are compared
	Panels     []Panel    `json:"panels"`
	Plots      []Plot     `json:"plots"` // over the axis "size"
	Findings   []Finding  `json:"findings"`
	Provenance Provenance `json:"provenance"`
	// ResolvedTOML is the whole experiment's; every panel has its own too.
	ResolvedTOML string `json:"resolved_toml"`
}

// Panel is one size of an experiment. Its summary lacks what the panel's own
// file has: receipts, provenance and configuration. Paths in it are relative to
// Folder.
type Panel struct {
	Folder  string   `json:"folder"` // relative to the run's folder: "256x256"
	Summary *Summary `json:"summary"`
}

// Plot asks for one figure: a metric over an axis, one line a group.
type Plot struct {
	Name    string `json:"name"` // file name without extension
	Title   string `json:"title"`
	Metric  string `json:"metric"`  // key of a column
	X       string `json:"x"`       // name of an axis; "" draws one bar a cell
	GroupBy string `json:"groupby"` // name of an axis; "" groups by method
	// Methods are the names of those whose cells are shown, beside the baseline
	// and the reference rows; empty: all.
	Methods []string `json:"methods,omitempty"`
}
