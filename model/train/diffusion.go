package train

import (
	"fmt"

	"gorgonia.org/gorgonia"

	"scalecrafter/model"
	"scalecrafter/model/critters"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/sampler"
)

// Diffusion is what the built-in model's training needs beside the optimiser.
type Diffusion struct {
	Size    int     `toml:"size"`    // picture side in px
	Dropout float64 `toml:"dropout"` // share of prompts replaced by the empty one
	// SNRCap is min-SNR's gamma: the squared error of the clean picture is
	// weighted by min(SNR, cap). 0: every timestep's error of the network's own
	// target counts alike. Source: Hang et al., arXiv 2303.09556.
	SNRCap float64 `toml:"snr_gamma"`
}

// Streams of a training run, told apart by the noise key's stage.
const (
	stageInit = 0x7261 + iota
	stageStep
	stageNoise
)

// freshNormals gives every tensor its own stream, named by the tensor.
func freshNormals(seed uint64) func(name string, n int) []float32 {
	return func(name string, n int) []float32 {
		h := uint64(14695981039346656037) // FNV-1a
		for i := 0; i < len(name); i++ {
			h = (h ^ uint64(name[i])) * 1099511628211
		}
		out := make([]float32, n)
		sampler.Noise(out, sampler.NoiseKey{Seed: seed, Sample: h, Stage: stageInit})
		return out
	}
}

// NewDiffusion builds the denoising loss of the U-Net and its text encoder on
// critters, with fresh weights; the schedule says what the network predicts.
func NewDiffusion(cfg *model.UNetConfig, sched *sampler.NoiseSchedule, s Settings, d Diffusion) (Task, error) {
	if err := s.check(); err != nil {
		return Task{}, err
	}
	if want := 3 * model.PixelScale * model.PixelScale; cfg.InChannels != want || cfg.OutChannels != want {
		return Task{}, fmt.Errorf("in_channels %d and out_channels %d, want %d: pictures become latents of %d channels", cfg.InChannels, cfg.OutChannels, want, want)
	}
	if d.Size < model.PixelScale || d.Size%model.PixelScale != 0 {
		return Task{}, fmt.Errorf("size is %d px, want a multiple of %d", d.Size, model.PixelScale)
	}
	w := params.NewFresh(freshNormals(s.Seed))
	task := Task{Weights: &w.Set, Meta: map[string]string{
		"world": critters.Version, "network": fmt.Sprintf("%+v", *cfg), "diffusion": fmt.Sprintf("%+v %+v", d, sched.Config),
	}}
	for i := 0; i < s.Shards; i++ {
		sh, err := diffusionShard(cfg, sched, w, s, d, i)
		if err != nil {
			return Task{}, err
		}
		task.Shards = append(task.Shards, sh)
	}
	return task, nil
}

func diffusionShard(cfg *model.UNetConfig, sched *sampler.NoiseSchedule, w *params.Fresh, s Settings, d Diffusion, shard int) (Shard, error) {
	n, side := s.Batch/s.Shards, d.Size/model.PixelScale
	g := gorgonia.NewGraph()
	x, xs := params.Input(g, "sample", n, cfg.InChannels, side, side)
	temb, ts := params.Input(g, "time", n, cfg.BlockOutChannels[0])
	ids, idv := params.Input(g, "ids", n, critters.Tokens)
	pos, posv := params.Input(g, "positions", n, critters.Tokens)
	target, tv := params.Input(g, "target", n, cfg.InChannels, side, side)
	weight, wv := params.Input(g, "weight", n)
	model.Positions(posv)

	text, err := model.TextEncoder(w, ids, pos, cfg.CrossAttentionDim)
	if err != nil {
		return Shard{}, err
	}
	eps, err := model.UNet(cfg, w, model.UNetInputs{Sample: x, Time: temb, Text: text}, nil)
	if err != nil {
		return Shard{}, err
	}
	var loss *gorgonia.Node
	if err := ops.Build(func() { loss = ops.WeightedMSE(eps, target, weight) }); err != nil {
		return Shard{}, err
	}

	latent := cfg.InChannels * side * side
	planes := make([]float32, 3*d.Size*d.Size)
	clean, noise := make([]float32, latent), make([]float32, latent)
	times := make([]float64, n)
	fill := func(step int) error {
		for i := range n {
			index := uint64(step)*uint64(s.Batch) + uint64(shard*n+i)
			scene := critters.NewScene(s.Seed, index)
			scene.RenderFloat(planes, d.Size, d.Size)
			model.PixelUnshuffle(clean, planes, d.Size, d.Size)

			r := sampler.NewStream(sampler.NoiseKey{Seed: s.Seed, Sample: index, Stage: stageStep})
			t := r.Intn(len(sched.AlphaBar))
			var tokens [critters.Tokens]int
			if r.Float64() >= d.Dropout {
				scene.Attributes().Tokens(tokens[:])
			} else {
				empty, _ := critters.Tokenize("")
				copy(tokens[:], empty)
			}
			for j, id := range tokens {
				idv[i*critters.Tokens+j] = float32(id)
			}
			sampler.Noise(noise, sampler.NoiseKey{Seed: s.Seed, Sample: index, Stage: stageNoise})
			sched.Target(tv[i*latent:(i+1)*latent], clean, noise, t)
			sched.AddNoise(xs[i*latent:(i+1)*latent], clean, noise, t)
			times[i] = float64(t)
			wv[i] = d.weight(sched.Config.Prediction, sched.SNR(t))
		}
		cfg.EmbedTime(ts, times...)
		return nil
	}
	return Shard{Graph: g, Loss: loss, Fill: fill}, nil
}

// weight is the loss weight of a timestep of the given signal-to-noise ratio:
// min-SNR's weight on the clean picture, carried over to the network's target.
func (d Diffusion) weight(p sampler.Prediction, snr float64) float32 {
	if d.SNRCap == 0 {
		return 1
	}
	w := min(snr, d.SNRCap)
	switch p {
	case sampler.Epsilon:
		w /= snr
	case sampler.VPrediction:
		w /= snr + 1
	}
	return float32(w)
}
