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
	Plan     []PlanRow         `json:"plan"`    // what was executed, layer by step
}

// PlanRow is one layer's executed dilation factor at every step (1: as trained).
type PlanRow struct {
	Layer   string    `json:"layer"`
	Network string    `json:"network"` // "main" or "damped"
	Factors []float64 `json:"factors"`
}

// Provenance is what one needs to judge whether two numbers may be compared.
type Provenance struct {
	Program       string    `json:"program"`
	Commit        string    `json:"commit"`
	GoVersion     string    `json:"go_version"`
	OS            string    `json:"os"`
	CPU           string    `json:"cpu"`
	KernelPath    string    `json:"kernel_path"` // avx512, avx2, portable
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
	Version       int        `json:"version"`
	Name          string     `json:"name"`
	Title         string     `json:"title"`
	Question      string     `json:"question"`
	Height        int        `json:"height"`
	Width         int        `json:"width"`
	TrainHeight   int        `json:"train_height"`
	TrainWidth    int        `json:"train_width"`
	Steps         int        `json:"steps"`
	GuidanceScale float64    `json:"guidance_scale"`
	Prompts       []string   `json:"prompts"` // by sample index
	Columns       []Metric   `json:"columns"`
	Cells         []Cell     `json:"cells"`
	Reference     []Cell     `json:"reference"` // rows for orientation: true scenes, base-resolution samples
	Plots         []Plot     `json:"plots"`
	Findings      []Finding  `json:"findings"`
	Provenance    Provenance `json:"provenance"`
	ResolvedTOML  string     `json:"resolved_toml"`
	// PictureRows are the IDs of the cells in the picture grid, in order;
	// empty: all. PictureColumns are the sample indices shown; empty: the
	// report chooses.
	PictureRows    []string `json:"picture_rows,omitempty"`
	PictureColumns []int    `json:"picture_columns,omitempty"`
}

// Plot asks for one figure: a metric over an axis, one line a group.
type Plot struct {
	Name    string `json:"name"` // file name without extension
	Title   string `json:"title"`
	Metric  string `json:"metric"`  // key of a column
	X       string `json:"x"`       // name of an axis; "" draws one bar a cell
	GroupBy string `json:"groupby"` // name of an axis; "" groups by method
}
