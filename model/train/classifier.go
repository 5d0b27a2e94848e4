package train

import (
	"fmt"

	"gorgonia.org/gorgonia"

	"scalecrafter/metrics/features"
	"scalecrafter/model/critters"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
	"scalecrafter/model/sampler"
)

// Classifier is what critter-net's training needs beside the optimiser.
type Classifier struct {
	Noise float64 `toml:"noise"` // largest deviation of the noise added to a picture, of its [-1,1] range
}

// CritterClasses are the built-in world's numbers of attribute values.
func CritterClasses() features.Classes {
	return features.Classes{Shapes: len(critters.Shapes), Colors: len(critters.Colors), Backgrounds: len(critters.Backgrounds), Patterns: len(critters.Patterns)}
}

// NewClassifier builds critter-net's loss, the sum of the attributes' cross
// entropies, on true scenes with a little noise, so that it also reads pictures
// that a diffusion model drew.
func NewClassifier(s Settings, c Classifier) (Task, error) {
	if err := s.check(); err != nil {
		return Task{}, err
	}
	w := params.NewFresh(freshNormals(s.Seed))
	task := Task{Weights: &w.Set, Meta: map[string]string{"world": critters.Version, "network": "critter-net", "classifier": fmt.Sprintf("%+v", c)}}
	n := s.Batch / s.Shards
	for shard := range s.Shards {
		g := gorgonia.NewGraph()
		const side = features.CritterNetSide
		x, xs := params.Input(g, "x", n, 3, side, side)
		_, logits, err := features.CritterNetGraph(w, x, CritterClasses())
		if err != nil {
			return Task{}, err
		}
		var labels [4][]float32
		var loss *gorgonia.Node
		err = ops.Build(func() {
			for i, l := range []*gorgonia.Node{logits.Shape, logits.Color, logits.Background, logits.Pattern} {
				var node *gorgonia.Node
				node, labels[i] = params.Input(g, fmt.Sprintf("labels.%d", i), n)
				ce := ops.CrossEntropy(l, node)
				if loss == nil {
					loss = ce
				} else {
					loss = ops.AddScalars(loss, ce)
				}
			}
		})
		if err != nil {
			return Task{}, err
		}
		size := 3 * side * side
		noise := make([]float32, size)
		fill := func(step int) error {
			for i := range n {
				index := uint64(step)*uint64(s.Batch) + uint64(shard*n+i)
				scene := critters.NewScene(s.Seed, index)
				picture := xs[i*size : (i+1)*size]
				scene.RenderFloat(picture, side, side)
				key := sampler.NoiseKey{Seed: s.Seed, Sample: index, Stage: stageNoise}
				sampler.Noise(noise, key)
				key.Stage = stageStep
				sigma := float32(c.Noise * sampler.NewStream(key).Float64())
				for j, v := range noise {
					picture[j] += sigma * v
				}
				a := scene.Attributes()
				for j, label := range []int{a.Shape, a.Color, a.Background, a.Pattern} {
					labels[j][i] = float32(label)
				}
			}
			return nil
		}
		task.Shards = append(task.Shards, Shard{Graph: g, Loss: loss, Fill: fill})
	}
	return task, nil
}
