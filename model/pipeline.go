package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"io/fs"
	"math"
	"os"
	"slices"
	"sync/atomic"

	"gorgonia.org/gorgonia"

	"scalecrafter/ablation"
	"scalecrafter/model/critters"
	"scalecrafter/model/kernels"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/sampler"
	"scalecrafter/model/weights"
)

// Files of a model folder, as diffusers lays them out.
const (
	unetConfigFile  = "unet/config.json"
	unetWeightsFile = "unet/diffusion_pytorch_model.safetensors"
	textWeightsFile = "text_encoder/model.safetensors"
	schedulerFile   = "scheduler/scheduler_config.json"
)

// Pipeline is a loaded model: the U-Net, its text encoder, the noise schedule
// it was trained on and its pixel autoencoder. It is read-only once loaded and
// may be used from several goroutines.
type Pipeline struct {
	Config    *UNetConfig
	Scheduler *sampler.NoiseSchedule
	unet      params.Source
	text      params.Source
	kernels   kernelStore
	packed    ops.WeightCache
	math      kernels.Math
	arch      ablation.Architecture
	digest    string
	tracer    *ops.Tracer
	workers   atomic.Int32 // made so far
}

// Load reads a model folder in diffusers' layout from the disk. The text
// encoder must be the built-in world's.
func Load(dir string) (*Pipeline, error) { return load(os.DirFS(dir), dir) }

func load(dir fs.FS, name string) (*Pipeline, error) {
	read := func(path string) ([]byte, error) {
		b, err := fs.ReadFile(dir, path)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w (want a folder with %s, %s, %s and %s)", name, err, unetConfigFile, unetWeightsFile, textWeightsFile, schedulerFile)
		}
		return b, nil
	}
	sum := sha256.New()
	var files [4][]byte
	for i, path := range []string{unetConfigFile, schedulerFile, unetWeightsFile, textWeightsFile} {
		b, err := read(path)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(sum, "%s %d\n", path, len(b))
		sum.Write(b)
		files[i] = b
	}
	cfg, err := ParseUNetConfig(files[0], name+"/"+unetConfigFile)
	if err != nil {
		return nil, err
	}
	sc, err := sampler.ParseSchedulerConfig(files[1], name+"/"+schedulerFile)
	if err != nil {
		return nil, err
	}
	unet, err := weights.Read(files[2], name+"/"+unetWeightsFile)
	if err != nil {
		return nil, err
	}
	text, err := weights.Read(files[3], name+"/"+textWeightsFile)
	if err != nil {
		return nil, err
	}
	p, err := New(cfg, sc, params.NewFile(unet), params.NewFile(text))
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	p.digest = hex.EncodeToString(sum.Sum(nil))
	return p, nil
}

// New joins the parts of a model and checks, by building the graphs once, that
// every weight is there, of the right shape and finite.
func New(cfg *UNetConfig, sc sampler.Config, unet, text params.Source) (*Pipeline, error) {
	if want := 3 * PixelScale * PixelScale; cfg.InChannels != want || cfg.OutChannels != want {
		return nil, fmt.Errorf("in_channels %d and out_channels %d, want %d: the built-in autoencoder turns %dx%d pixels into one latent position",
			cfg.InChannels, cfg.OutChannels, want, PixelScale, PixelScale)
	}
	if cfg.SampleSize < 1 {
		return nil, fmt.Errorf("sample_size is %d, want the latent side trained on, 1 or more", cfg.SampleSize)
	}
	sched, err := sampler.NewNoiseSchedule(sc)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{Config: cfg, Scheduler: sched, unet: unet, text: text, packed: ops.WeightCache{Budget: maxPackedBytes}}
	side := cfg.SampleSize
	s, err := p.session(Batch{1, side, side, nil}, newMemory(), ops.Options{PlanOnly: true})
	if err != nil {
		return nil, err
	}
	p.arch = s.arch
	if _, err := p.Encode(""); err != nil {
		return nil, err
	}
	return p, nil
}

// Digest is the sha256 of the model's files; equal digests compute equal numbers.
func (p *Pipeline) Digest() string { return p.digest }

// Architecture lists the layers that a method may change.
func (p *Pipeline) Architecture() ablation.Architecture { return p.arch }

// TrainSize is the picture size trained on, in px.
func (p *Pipeline) TrainSize() (height, width int) {
	return p.Config.SampleSize * PixelScale, p.Config.SampleSize * PixelScale
}

// Encode turns a prompt into text states; "" is the empty prompt of guidance.
func (p *Pipeline) Encode(prompt string) (sampler.Condition, error) {
	g := gorgonia.NewGraph()
	ids, idv := params.Input(g, "ids", 1, critters.Tokens)
	pos, posv := params.Input(g, "positions", 1, critters.Tokens)
	if err := TokenIDs(idv, prompt); err != nil {
		return sampler.Condition{}, err
	}
	Positions(posv)
	out, err := TextEncoder(p.text, ids, pos, p.Config.CrossAttentionDim)
	if err != nil {
		return sampler.Condition{}, err
	}
	m, err := ops.NewMachine(g, nil, out)
	if err != nil {
		return sampler.Condition{}, err
	}
	if err := m.RunAll(); err != nil {
		return sampler.Condition{}, err
	}
	return sampler.Condition{Embedding: append([]float32(nil), m.Output(out)...), Len: critters.Tokens, Dim: p.Config.CrossAttentionDim}, nil
}

// Decode turns latents [N,12,H/2,W/2] into pictures of height x width px.
func (p *Pipeline) Decode(latents []float32, height, width int) ([]*image.NRGBA, error) {
	size := 3 * height * width
	if height < 1 || width < 1 || height%PixelScale != 0 || width%PixelScale != 0 || len(latents)%size != 0 {
		return nil, fmt.Errorf("%d latents are not pictures of %dx%d px: want sides that are multiples of %d and %d numbers each", len(latents), height, width, PixelScale, size)
	}
	planes := make([]float32, size)
	images := make([]*image.NRGBA, len(latents)/size)
	for i := range images {
		PixelShuffle(planes, latents[i*size:(i+1)*size], height, width)
		img, err := Image(planes, height, width)
		if err != nil {
			return nil, err
		}
		images[i] = img
	}
	return images, nil
}

// session is one compiled graph: a batch, a latent size and a layer plan.
type session struct {
	machine          *ops.Machine
	sample, time, tx []float32
	text, out        *gorgonia.Node
	arch             ablation.Architecture
	kernels          []*weights.Tensor // held for the other graphs that use them
	used             int               // tick of last use
}

// memory is what the sessions of one goroutine share, as only one of them runs
// at a time: the arena of the intermediate values, what does not change from
// step to step, and the inputs.
type memory struct {
	arena     ops.Arena
	constants ops.Constants
	inputs    map[string][]float32
	texts     []text // the last ones seen, latest last
	versions  uint64 // of texts so far
}

// text is the content of a text input and what ops.Constants know it by.
type text struct {
	version uint64
	data    []float32
}

// keptTexts is how many texts' keys and values are kept: a job's prompts with and
// without the empty one, and those of the job before.
const keptTexts = 3

// version tells what the text input holds: equal numbers, bit for bit, in equal
// order have equal versions, and no others.
func (m *memory) version(tx []float32) uint64 {
	for i, t := range m.texts {
		if sameBits(t.data, tx) {
			m.texts = append(slices.Delete(m.texts, i, i+1), t)
			return t.version
		}
	}
	m.versions++
	t := text{version: m.versions}
	if len(m.texts) == keptTexts {
		t.data = m.texts[0].data[:0]
		m.constants.Forget(m.texts[0].version)
		m.texts = slices.Delete(m.texts, 0, 1)
	}
	t.data = append(t.data, tx...)
	m.texts = append(m.texts, t)
	return t.version
}

func sameBits(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i, v := range a {
		if math.Float32bits(v) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

// input is a leaf on the memory kept under that name.
func (m *memory) input(g *gorgonia.ExprGraph, name string, shape ...int) (*gorgonia.Node, []float32) {
	n := params.Elements(shape)
	if len(m.inputs[name]) < n {
		m.inputs[name] = make([]float32, n)
	}
	data := m.inputs[name][:n:n]
	return leafOn(g, name, data, shape...), data
}

// Batch is what one evaluation of the network computes: rows, the size of the
// latents and how its layers are run.
type Batch struct {
	N, H, W int
	Plan    *ablation.LayerPlan // nil: as trained
}

func (p *Pipeline) session(x Batch, m *memory, o ops.Options) (*session, error) {
	g := gorgonia.NewGraph()
	var s session
	var in UNetInputs
	in.Sample, s.sample = m.input(g, "sample", x.N, p.Config.InChannels, x.H, x.W)
	in.Time, s.time = m.input(g, "time", x.N, p.Config.BlockOutChannels[0])
	in.Text, s.tx = m.input(g, "text", x.N, critters.Tokens, p.Config.CrossAttentionDim)
	b, err := unet(p.Config, p.unet, &p.kernels, in, x.Plan)
	if err != nil {
		return nil, err
	}
	s.text, s.out, s.arch, s.kernels = in.Text, b.out, b.arch, b.kernels
	o.Arena, o.Constants, o.Weights = &m.arena, &m.constants, &p.packed
	o.Math = p.math
	o.Inputs, o.Kept = []*gorgonia.Node{in.Sample, in.Time}, []*gorgonia.Node{in.Text}
	if s.machine, err = ops.NewMachineWith(g, o, s.out); err != nil {
		return nil, err
	}
	return &s, nil
}

// SetMath sets the arithmetic of the U-Net in workers that are made from now on;
// where it is not Effective on this machine it is float32. To be called before
// the pipeline is shared.
func (p *Pipeline) SetMath(m kernels.Math) { p.math = m }

// Trace has every op recorded that workers made from now on run; nil: no longer.
func (p *Pipeline) Trace(t *ops.Tracer) { p.tracer = t }

// Worker evaluates the network for one goroutine: it holds the compiled graphs
// and their memory. It is a sampler.Denoiser.
type Worker struct {
	p      *Pipeline
	pool   *kernels.Pool
	memory *memory
	cache  map[string]*session
	tick   int
	tracer *ops.Tracer
	number int // for the tracer, from 1

	maxSessions, maxKernelBytes int // of the cache
}

// A worker keeps as many compiled graphs as the longest schedules have plans:
// two networks at each of 50 steps whose factors fall all the way, and the
// plain one. As the steps take turns, a smaller cache would drop every graph
// just before it is used again. Graphs share the arena and the weights, so one
// costs little (BenchmarkCompile) beside the dispersed kernels that it holds.
const (
	maxSessions    = 128
	maxKernelBytes = 512 << 20

	// Of packed weights of a network, and of what a worker keeps from step to
	// step. Weights that are not packed cost a little time.
	maxPackedBytes   = 256 << 20
	maxConstantBytes = 128 << 20
)

func newMemory() *memory {
	return &memory{inputs: map[string][]float32{}, constants: ops.Constants{Budget: maxConstantBytes}}
}

// NewWorker makes a worker that runs its kernels on the given number of threads.
func (p *Pipeline) NewWorker(threads int) *Worker {
	return &Worker{p: p, pool: kernels.NewPool(threads), memory: newMemory(), cache: map[string]*session{},
		maxSessions: maxSessions, maxKernelBytes: maxKernelBytes, tracer: p.tracer, number: int(p.workers.Add(1))}
}

// Predict is the U-Net's noise prediction (sampler.Denoiser).
func (w *Worker) Predict(ctx context.Context, r sampler.Request, out []float32) error {
	c := w.p.Config
	switch size := r.N * r.H * r.W; {
	case r.N < 1 || r.H < 1 || r.W < 1 || r.C != c.InChannels || len(r.X) != size*r.C:
		return fmt.Errorf("latents of %d numbers and shape [%d %d %d %d], want %d channels", len(r.X), r.N, r.C, r.H, r.W, c.InChannels)
	case len(out) != size*c.OutChannels:
		return fmt.Errorf("room for %d predicted numbers, want %d", len(out), size*c.OutChannels)
	case len(r.Cond) != r.N:
		return fmt.Errorf("%d conditions for %d rows", len(r.Cond), r.N)
	}
	key := fmt.Sprintf("%d %d %d %s", r.N, r.H, r.W, r.Plan.Key())
	s := w.cache[key]
	if s == nil {
		var err error
		if s, err = w.p.session(Batch{r.N, r.H, r.W, r.Plan}, w.memory, ops.Options{Pool: w.pool}); err != nil {
			return err
		}
		s.machine.SetTracer(w.tracer, w.number)
		w.cache[key] = s
		s.used = w.tick + 1 // not the one to drop
		for len(w.cache) > w.maxSessions || len(w.cache) > 2 && w.kernelBytes() > w.maxKernelBytes {
			w.evict()
		}
	}
	w.tick++
	s.used = w.tick
	copy(s.sample, r.X)
	row := len(s.tx) / r.N
	for i, c := range r.Cond {
		if len(c.Embedding) != row {
			return fmt.Errorf("row %d: text states of %d numbers, want %d tokens of width %d", i, len(c.Embedding), critters.Tokens, w.p.Config.CrossAttentionDim)
		}
		copy(s.tx[i*row:(i+1)*row], c.Embedding)
	}
	s.machine.SetVersion(s.text, w.memory.version(s.tx))
	dim := w.p.Config.BlockOutChannels[0]
	w.p.Config.EmbedTime(s.time[:dim], r.T)
	for i := 1; i < r.N; i++ {
		copy(s.time[i*dim:(i+1)*dim], s.time[:dim])
	}
	if err := s.machine.Run(ctx); err != nil {
		return err
	}
	copy(out, s.machine.Output(s.out))
	return nil
}

// kernelBytes is the memory of the dispersed kernels that the graphs hold.
func (w *Worker) kernelBytes() int {
	seen, n := map[*weights.Tensor]bool{}, 0
	for _, s := range w.cache {
		for _, k := range s.kernels {
			if !seen[k] {
				seen[k] = true
				n += 4 * len(k.Data)
			}
		}
	}
	return n
}

// evict drops the graph that was not used for longest.
func (w *Worker) evict() {
	oldest, at := "", math.MaxInt
	for key, s := range w.cache {
		if s.used < at {
			oldest, at = key, s.used
		}
	}
	delete(w.cache, oldest)
}
