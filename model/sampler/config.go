package sampler

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ParseSchedulerConfig reads diffusers' scheduler_config.json. Keys that are
// absent take the defaults of the file's scheduler class; keys of other
// schedulers that change nothing here are passed over, as diffusers does when
// it builds one scheduler from another's file. Settings that would change the
// numbers and are not supported are errors. name is used in errors.
//
// Sample clipping is honoured for DDIM and DDPM files only: the other classes
// have no such setting.
func ParseSchedulerConfig(text []byte, name string) (Config, error) {
	var raw struct {
		Class          string    `json:"_class_name"`
		TrainSteps     *int      `json:"num_train_timesteps"`
		BetaStart      *float64  `json:"beta_start"`
		BetaEnd        *float64  `json:"beta_end"`
		BetaSchedule   *string   `json:"beta_schedule"`
		TrainedBetas   []float64 `json:"trained_betas"`
		Prediction     *string   `json:"prediction_type"`
		Spacing        *string   `json:"timestep_spacing"`
		StepsOffset    *int      `json:"steps_offset"`
		SetAlphaToOne  *bool     `json:"set_alpha_to_one"`
		RescaleZeroSNR bool      `json:"rescale_betas_zero_snr"`
		Clip           *bool     `json:"clip_sample"`
		ClipRange      *float64  `json:"clip_sample_range"`
		Thresholding   bool      `json:"thresholding"`
		Karras         bool      `json:"use_karras_sigmas"`
		Exponential    bool      `json:"use_exponential_sigmas"`
		Beta           bool      `json:"use_beta_sigmas"`
		Algorithm      *string   `json:"algorithm_type"`
		SolverType     *string   `json:"solver_type"`
		Interpolation  *string   `json:"interpolation_type"`
	}
	if err := json.Unmarshal(finiteJSON(text), &raw); err != nil {
		return Config{}, fmt.Errorf("%s: not a scheduler configuration: %w; give a diffusers scheduler_config.json", name, err)
	}
	unsupported := func(key string, value any) error {
		return fmt.Errorf("%s: %s is %v, which is not supported: set another value, or sample with another scheduler's file", name, key, value)
	}
	clips := raw.Class == "" || strings.HasPrefix(raw.Class, "DDIM") || strings.HasPrefix(raw.Class, "DDPM")
	switch {
	case raw.Thresholding:
		return Config{}, unsupported("thresholding", true)
	case raw.Exponential:
		return Config{}, unsupported("use_exponential_sigmas", true)
	case raw.Beta:
		return Config{}, unsupported("use_beta_sigmas", true)
	case raw.Algorithm != nil && *raw.Algorithm != "dpmsolver++":
		return Config{}, unsupported("algorithm_type", *raw.Algorithm)
	case raw.SolverType != nil && *raw.SolverType != "midpoint":
		return Config{}, unsupported("solver_type", *raw.SolverType)
	case raw.Interpolation != nil && *raw.Interpolation != "linear":
		return Config{}, unsupported("interpolation_type", *raw.Interpolation)
	}
	c := Config{
		TrainSteps:     or(raw.TrainSteps, 1000),
		BetaStart:      or(raw.BetaStart, 0.0001),
		BetaEnd:        or(raw.BetaEnd, 0.02),
		BetaSchedule:   BetaSchedule(or(raw.BetaSchedule, string(Linear))),
		TrainedBetas:   raw.TrainedBetas,
		Prediction:     Prediction(or(raw.Prediction, string(Epsilon))),
		Spacing:        Spacing(or(raw.Spacing, string(defaultSpacing(raw.Class)))),
		StepsOffset:    or(raw.StepsOffset, 0),
		SetAlphaToOne:  or(raw.SetAlphaToOne, !strings.HasPrefix(raw.Class, "PNDM")),
		RescaleZeroSNR: raw.RescaleZeroSNR,
		Karras:         raw.Karras,
	}
	if clips && or(raw.Clip, true) {
		c.ClipRange = or(raw.ClipRange, 1)
	}
	if err := c.Check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// defaultSpacing is the class's own default in diffusers 0.20.2.
func defaultSpacing(class string) Spacing {
	for _, prefix := range []string{"Euler", "DPMSolver", "Heun", "KDPM2", "LMS", "DEIS", "UniPC"} {
		if strings.HasPrefix(class, prefix) {
			return Linspace
		}
	}
	return Leading
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// finiteJSON replaces the bare NaN, Infinity and -Infinity that Python writes
// (diffusers: "lambda_min_clipped": -Infinity) by null, which JSON allows.
func finiteJSON(text []byte) []byte {
	words := []string{"-Infinity", "Infinity", "NaN"}
	var out []byte
	for i, quoted := 0, false; i < len(text); {
		switch c := text[i]; {
		case quoted && c == '\\' && i+1 < len(text):
			out = append(out, c, text[i+1])
			i += 2
			continue
		case c == '"':
			quoted = !quoted
		case !quoted:
			word := ""
			for _, w := range words {
				if strings.HasPrefix(string(text[i:min(len(text), i+len(w))]), w) {
					word = w
					break
				}
			}
			if word != "" {
				out = append(out, "null"...)
				i += len(word)
				continue
			}
		}
		out = append(out, text[i])
		i++
	}
	return out
}
