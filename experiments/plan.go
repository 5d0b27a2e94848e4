package experiments

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"scalecrafter/ablation"
	"scalecrafter/configs"
	"scalecrafter/reports/results"
)

// Kinds of the reference rows.
const (
	kindTrue = "true_scenes"
	kindBase = "base_resolution"
)

// blockSize is the number of true scenes in one block of reference features:
// one unit of work and one file.
const blockSize = 100

// work is a set of images to have: a cell, or a reference row.
type work struct {
	cell     ablation.Cell
	kind     string // kindTrue, kindBase or "" for a cell of the experiment
	settings ablation.Settings
	count    int
	dir      results.CellDir

	// By sample index. Slots are written by one goroutine each.
	samples  []results.Sample
	seconds  []float64
	finished []bool
	pending  int   // units not yet done; guarded by run.mu
	err      error // first failure; guarded by run.mu
}

// plan is an experiment made ready: everything checked, what is finished known.
type plan struct {
	config *configs.Config
	engine Engine
	store  results.Store
	runDir string
	train  ablation.Size
	id     ablation.Identity

	trueScenes *work           // exact pictures of the prompts at the target size
	base       *work           // the same prompts at the training size
	rows       []ablation.Cell // the experiment's cells under their own labels
	cells      []*work         // their images, by row
	works      []*work         // all of them, each once, in the order of drawing

	sceneID string
	blocks  [][]results.Vector // reference features by block; nil: to be made

	damaged []string // files found broken, to be made again
}

// sceneBlock is the record of one block of reference features.
type sceneBlock struct {
	Block    int              `json:"block"`
	Features []results.Vector `json:"features"`
}

// newPlan checks the configuration against the model and looks what the store
// already has. Errors of the configuration are configs.Errors.
func newPlan(c *configs.Config, engine Engine, root string) (*plan, error) {
	h, w := engine.TrainSize()
	p := &plan{
		config: c, engine: engine, store: results.Store{Root: root}, train: ablation.Size{H: h, W: w},
		id: ablation.Identity{
			Weights: engine.Digest(), Features: engine.FeatureDigest(), World: engine.WorldVersion(),
			Kernels: engine.KernelPath(), Protocol: Protocol,
		},
	}
	p.runDir = p.store.RunDir(c.Name)
	cells, err := c.Cells(engine.Architecture(), p.train, p.id)
	if err != nil {
		return nil, err
	}
	settings := c.Settings()
	byID := map[string]*work{}
	add := func(cell ablation.Cell, kind string, s ablation.Settings, count int) *work {
		if old, ok := byID[cell.ID]; ok {
			old.count = max(old.count, count)
			return old
		}
		w := &work{cell: cell, kind: kind, settings: s, count: count, dir: p.store.Cell(cell.ID)}
		byID[cell.ID] = w
		p.works = append(p.works, w)
		return w
	}

	sceneSettings := ablation.Settings{Size: settings.Size, Seed: settings.Seed, Sampler: kindTrue}
	sceneIdentity := p.id
	sceneIdentity.Weights = "" // scenes do not depend on the model
	p.sceneID = ablation.CellID(sceneSettings, nil, sceneIdentity)
	p.trueScenes = add(ablation.Cell{ID: p.sceneID, Label: "true scenes"}, kindTrue, sceneSettings, c.Sample.Count)

	baseSettings := settings
	baseSettings.Size = p.train
	direct := ablation.Method{Name: "base", Kind: ablation.Direct}
	basePlan, err := direct.Schedule(engine.Architecture(), settings.Steps, p.train, p.train)
	if err != nil {
		return nil, fmt.Errorf("base-resolution samples: %w", err)
	}
	p.base = add(ablation.Cell{
		ID: ablation.CellID(baseSettings, basePlan, p.id), Label: fmt.Sprintf("base resolution, %s px", p.train),
		Method: direct, Plan: basePlan, NFE: ablation.NFE(basePlan, settings.GuidanceScale),
	}, kindBase, baseSettings, c.Reference.BaseCount)

	for _, cell := range cells {
		p.rows = append(p.rows, cell)
		p.cells = append(p.cells, add(cell, "", settings, c.Sample.Count))
	}
	return p, p.look()
}

// look reads what the store has of this plan.
func (p *plan) look() error {
	for _, w := range p.works {
		w.samples = make([]results.Sample, w.count)
		w.seconds = make([]float64, w.count)
		w.finished = make([]bool, w.count)
		for i := range w.count {
			s, seconds, err := w.dir.Get(i)
			switch {
			case err == nil:
				w.samples[i], w.seconds[i], w.finished[i] = s, seconds, true
			case errors.Is(err, results.ErrDamaged):
				p.damaged = append(p.damaged, err.Error())
			case !errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("read the store: %w; mend the folder's permissions or choose another with -out", err)
			}
		}
	}
	n := p.config.Reference.Count
	p.blocks = make([][]results.Vector, (n+blockSize-1)/blockSize)
	for b := range p.blocks {
		var block sceneBlock
		path := p.store.ReferenceBlock(p.sceneID, b)
		_, err := results.ReadSealed(path, &block)
		switch {
		case err == nil && block.Block == b && len(block.Features) == blockSize:
			p.blocks[b] = block.Features
		case errors.Is(err, fs.ErrNotExist):
		case err == nil:
			p.damaged = append(p.damaged, fmt.Sprintf("%s: not the block it should be", path))
		case errors.Is(err, results.ErrDamaged):
			p.damaged = append(p.damaged, err.Error())
		default:
			return fmt.Errorf("read the store: %w; mend the folder's permissions or choose another with -out", err)
		}
	}
	return nil
}

func (w *work) missing() []int {
	var out []int
	for i, ok := range w.finished {
		if !ok {
			out = append(out, i)
		}
	}
	return out
}

func (w *work) have() int { return w.count - len(w.missing()) }

// evaluations is the cost of one image in network evaluations at the target
// size, by which progress and estimates are weighed. Rendering and judging
// count as a small share of one.
func (p *plan) evaluations(w *work) float64 {
	const judging = 0.2
	target := p.config.Settings().Size.Pixels()
	scale := float64(w.settings.Size.Pixels()) / float64(target)
	return (float64(w.cell.NFE) + judging) * scale
}

// describe is a cell's settings for people who open its folder.
func (p *plan) describe(w *work) results.Description {
	s := w.settings
	d := results.Description{ID: w.cell.ID, Settings: map[string]string{
		"weights": p.id.Weights, "features": p.id.Features, "world": p.id.World, "kernels": p.id.Kernels, "protocol": p.id.Protocol,
		"size": s.Size.String(), "steps": strconv.Itoa(s.Steps), "guidance_scale": fmt.Sprint(s.GuidanceScale),
		"guidance_rescale": fmt.Sprint(s.GuidanceRescale), "eta": fmt.Sprint(s.Eta), "seed": strconv.FormatUint(s.Seed, 10), "sampler": s.Sampler,
	}}
	last := ""
	for i, step := range w.cell.Plan {
		text := "main " + step.Main.Key()
		if step.Damped != nil {
			text += " | damped " + step.Damped.Key()
		}
		if text != last {
			d.Settings[fmt.Sprintf("from_step_%03d", i)] = text
			last = text
		}
	}
	return d
}
