package experiments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"scalecrafter/ablation"
	"scalecrafter/model"
	"scalecrafter/model/kernels"
	"scalecrafter/model/ops"
	"scalecrafter/model/sampler"
	"scalecrafter/model/weights"
)

// mapAbove is the size of a file of weights, in bytes, above which it is mapped
// into memory and not read.
const mapAbove = 256 << 20

// stepBench measures whole steps. Random weights are written to a file once a
// network.
type stepBench struct {
	dir    string
	keep   bool
	packed int               // bytes of weights laid out for the kernels
	trace  *ops.Tracer       // of one run more of each step; may be nil
	files  map[string]string // by network
}

// benchSeed is the random weights'.
const benchSeed = 1

// file is the path of the network's weights. A file that is kept has their
// RandomID in its name and in its metadata: that of another seed, network or
// version is never used.
func (s *stepBench) file(ctx context.Context, net string, c *model.UNetConfig) (string, error) {
	if path := s.files[net]; path != "" {
		return path, nil
	}
	id, err := c.RandomID(benchSeed)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, fmt.Sprintf("scalecrafter-bench-%s-seed%d-%.12s.safetensors", net, benchSeed, id))
	if !s.keep {
		dir, err := os.MkdirTemp(s.dir, "scalecrafter-bench-")
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
	} else if f, err := weights.Open(path); err == nil {
		f.Close()
		if f.Metadata[model.RandomKey] != id {
			return "", fmt.Errorf("%s does not hold the bench's random weights for %s: delete it or move it away, and it is made anew", path, net)
		}
		s.files[net] = path
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the kept file of random weights cannot be used: %w: delete it, and it is made anew", err)
	}
	s.files[net] = path
	return path, c.RandomWeights(ctx, path, benchSeed)
}

func (s *stepBench) close() {
	for _, path := range s.files {
		if !s.keep {
			os.RemoveAll(filepath.Dir(path))
		}
	}
}

// measure fills in a step's times and memory. The first run is not timed: it
// reads the file and lays out what is kept of the weights.
func (s *stepBench) measure(ctx context.Context, p *kernels.Pool, r *benchResult, m kernels.Math, atLeast time.Duration, stderr io.Writer) error {
	v := r.Step
	c, err := benchNet(v.Net)
	if err != nil {
		return err
	}
	path, err := s.file(ctx, v.Net, c)
	if err != nil {
		return err
	}
	debug.FreeOSMemory()
	resetPeak()
	f, err := weights.OpenWithin(path, mapAbove)
	if err != nil {
		return err
	}
	defer f.Close()
	shape := model.StepShape{N: v.N, H: v.Side, W: v.Side, Tokens: v.Tokens, Math: m, Packed: s.packed}
	if v.Dilation != 1 {
		shape.Plan = &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}}
		for _, conv := range c.Layers().Convs {
			shape.Plan.Dilation[conv.Path] = ablation.Factor{H: v.Dilation, W: v.Dilation}
		}
	}
	if r.Plan, err = planStep(c, f, p, shape); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%s %s: memory: %s\n", r.Name, m, r.Plan)
	step, err := model.NewStep(ctx, c, f, p, shape)
	if err != nil {
		return err
	}
	for i, in := range [][]float32{step.Sample, step.Text, step.Added} {
		sampler.Noise(in, sampler.NoiseKey{Seed: 1, Stage: uint32(i)})
	}
	for i := range v.N {
		dim := c.BlockOutChannels[0]
		c.EmbedTime(step.Time[i*dim:(i+1)*dim], 501)
	}
	if _, err := step.Run(ctx); err != nil {
		return err
	}
	r.Times = timeRuns(ctx, func() { _, err = step.Run(ctx) }, atLeast, 1)
	if err != nil {
		return err
	}
	if s.trace != nil {
		step.Trace(s.trace)
		if _, err := step.Run(ctx); err != nil {
			return err
		}
		step.Trace(nil)
	}
	arena, scratch, kept := step.Bytes()
	r.Arena, r.Kept = int64(arena+scratch), int64(kept)
	if st, err := os.Stat(path); err == nil {
		r.Weights = st.Size()
	}
	r.PeakRSS = peakRSS()
	return nil
}

// stepPlan is what a step will take at its peak, in bytes, as known before it
// is compiled.
type stepPlan struct {
	Total int `json:"total"`
	// Program is the process before: the program, Go's runtime and what they
	// have allocated so far.
	Program   int `json:"program"`
	Arena     int `json:"arena"`
	Scratch   int `json:"scratch"`
	Packed    int `json:"packed"` // weights laid out for the kernels
	Weights   int `json:"weights"`
	Constants int `json:"constants"`
	Inputs    int `json:"inputs"`
}

func planStep(c *model.UNetConfig, f *weights.File, p *kernels.Pool, s model.StepShape) (*stepPlan, error) {
	m, err := model.PlanStep(c, f, p, s)
	if err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	out := &stepPlan{Program: resident(), Arena: m.Arena, Scratch: m.Scratch, Packed: m.Packed, Weights: m.Weights, Constants: m.Constants, Inputs: m.Inputs}
	out.Total = out.Program + m.Shared() + m.Worker()
	return out, nil
}

func (m *stepPlan) String() string {
	return fmt.Sprintf("about %s at the peak: program %s, arena %s, scratch %s, packed weights %s, other weights at a time %s, constants %s, inputs %s",
		sizeText(m.Total), sizeText(m.Program), sizeText(m.Arena), sizeText(m.Scratch), sizeText(m.Packed), sizeText(m.Weights), sizeText(m.Constants), sizeText(m.Inputs))
}

// peakRSS is the most memory of this process that was resident at a time, in
// bytes, since it started or since resetPeak; 0 where the system does not tell.
// Pages of mapped files count while they are mapped in.
func peakRSS() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}

// resetPeak makes Linux count the peak anew. Where that is refused, the peak
// stays that of the whole process.
//
// Source: Linux, Documentation/filesystems/proc.rst, clear_refs.
func resetPeak() { os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }
