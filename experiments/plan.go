package experiments

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"scalecrafter/ablation"
	"scalecrafter/configs"
	"scalecrafter/model/kernels"
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
	title    string // for progress and messages
	kind     string // kindTrue, kindBase or "" for a cell of the experiment
	settings ablation.Settings
	count    int
	cost     float64 // of one image, see experiment.price
	dir      results.CellDir

	// By sample index. Slots are written by one goroutine each.
	samples  []results.Sample
	seconds  []float64
	finished []bool
	pending  int   // units not yet done; guarded by run.mu
	err      error // first failure; guarded by run.mu
}

// experiment is a configuration made ready: one panel a size, everything
// checked, what is finished known. Panels share works of equal identity, the
// base-resolution samples for one.
type experiment struct {
	config  *configs.Config
	engine  Engine
	store   results.Store
	runDir  string
	train   ablation.Size
	id      ablation.Identity
	panels  []*plan
	works   []*work  // of all panels, each once, in the order of drawing
	damaged []string // files found broken, to be made again
}

// plan is one panel: the experiment at one size.
type plan struct {
	*experiment
	config *configs.Config // of this size alone
	runDir string
	size   ablation.Size

	trueScenes *work           // exact pictures of the prompts at the target size
	base       *work           // the same prompts at the training size
	rows       []ablation.Cell // the experiment's cells under their own labels
	cells      []*work         // their images, by row
	works      []*work         // those of them that no earlier panel has

	sceneID string
	blocks  [][]results.Vector // reference features by block; nil: to be made
}

// sceneBlock is the record of one block of reference features.
type sceneBlock struct {
	Block    int              `json:"block"`
	Features []results.Vector `json:"features"`
}

// newExperiment checks the configuration at every size against the model and
// looks what the store already has. Errors of the configuration are
// configs.Errors: those of all panels at once.
func newExperiment(c *configs.Config, engine Engine, root string) (*experiment, error) {
	math, err := kernels.ParseMath(c.Math)
	if err != nil {
		return nil, err
	}
	if m, ok := engine.(mather); ok {
		m.UseMath(math)
	} else if math != kernels.Float32 {
		return nil, fmt.Errorf("model.math = %q: this model has no other arithmetic than float32", c.Math)
	}
	h, w := engine.TrainSize()
	e := &experiment{
		config: c, engine: engine, store: results.Store{Root: root}, train: ablation.Size{H: h, W: w},
		id: ablation.Identity{
			Weights: engine.Digest(), Features: engine.FeatureDigest(), World: engine.WorldVersion(),
			Kernels: engine.KernelPath(), Math: math.Identity(), Protocol: Protocol,
		},
	}
	e.runDir = e.store.RunDir(c.Name)
	panels := c.Panels()
	byID := map[string]*work{}
	invalid := make([]configs.Errors, len(panels))
	wrong := false
	for i, panel := range panels {
		p, err := e.newPanel(panel, byID, len(panels) > 1)
		switch {
		case errors.As(err, &invalid[i]):
			wrong = true
		case err != nil:
			return nil, err
		}
		e.panels = append(e.panels, p)
	}
	if wrong {
		return nil, joinErrors(panels, invalid)
	}
	return e, e.look()
}

// joinErrors puts the panels' errors into one list, each once, in the order of
// the file. What is wrong at some sizes only says at which.
func joinErrors(panels []*configs.Config, lists []configs.Errors) configs.Errors {
	var out configs.Errors
	at := map[string][]string{} // sizes by error
	for i, list := range lists {
		for _, e := range list {
			text := e.Error()
			if len(at[text]) == 0 {
				out = append(out, e)
			}
			at[text] = append(at[text], panels[i].Settings().Size.String())
		}
	}
	for i, e := range out {
		if sizes := at[e.Error()]; len(sizes) < len(panels) {
			told := *e
			told.What = "at " + strings.Join(sizes, ", ") + " px: " + e.What
			out[i] = &told
		}
	}
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i], out[j]
		switch {
		case (a.Set == "") != (b.Set == ""):
			return a.Set == ""
		case a.Pos.Line != b.Pos.Line:
			return a.Pos.Line < b.Pos.Line
		}
		return a.Pos.Col < b.Pos.Col
	})
	return out
}

// newPanel plans one size. Works that another panel has are shared.
func (e *experiment) newPanel(c *configs.Config, byID map[string]*work, several bool) (*plan, error) {
	settings := c.Settings()
	p := &plan{experiment: e, config: c, runDir: e.runDir, size: settings.Size}
	if several {
		p.runDir = filepath.Join(e.runDir, p.size.String())
	}
	cells, err := c.Cells(e.engine.Architecture(), e.train, e.id)
	if err != nil {
		return nil, err
	}
	add := func(cell ablation.Cell, kind string, s ablation.Settings, count int) *work {
		if old, ok := byID[cell.ID]; ok {
			old.count = max(old.count, count)
			return old
		}
		w := &work{cell: cell, title: cell.Label, kind: kind, settings: s, count: count, cost: e.price(cell, s), dir: e.store.Cell(cell.ID)}
		if several && kind != kindBase {
			w.title = p.size.String() + " " + w.title
		}
		byID[cell.ID] = w
		p.works = append(p.works, w)
		e.works = append(e.works, w)
		return w
	}

	sceneSettings := ablation.Settings{Size: settings.Size, Seed: settings.Seed, Sampler: kindTrue}
	sceneIdentity := e.id
	sceneIdentity.Weights, sceneIdentity.Math = "", "" // scenes do not depend on the model
	p.sceneID = ablation.CellID(sceneSettings, nil, sceneIdentity)
	p.trueScenes = add(ablation.Cell{ID: p.sceneID, Label: "true scenes"}, kindTrue, sceneSettings, c.Sample.Count)

	baseSettings := settings
	baseSettings.Size = e.train
	direct := ablation.Method{Name: "base", Kind: ablation.Direct}
	basePlan, err := direct.Schedule(e.engine.Architecture(), settings.Steps, e.train, e.train)
	if err != nil {
		return nil, fmt.Errorf("base-resolution samples: %w", err)
	}
	p.base = add(ablation.Cell{
		ID: ablation.CellID(baseSettings, basePlan, e.id), Label: fmt.Sprintf("base resolution, %s px", e.train),
		Method: direct, Plan: basePlan, NFE: ablation.NFE(basePlan, settings.GuidanceScale),
	}, kindBase, baseSettings, c.Reference.BaseCount)

	for _, cell := range cells {
		p.rows = append(p.rows, cell)
		p.cells = append(p.cells, add(cell, "", cell.Method.Settings(settings), c.Sample.Count))
	}
	return p, nil
}

// look reads what the store has.
func (e *experiment) look() error {
	e.damaged = nil
	for _, w := range e.works {
		w.samples = make([]results.Sample, w.count)
		w.seconds = make([]float64, w.count)
		w.finished = make([]bool, w.count)
		for i := range w.count {
			s, seconds, err := w.dir.Get(i)
			switch {
			case err == nil:
				w.samples[i], w.seconds[i], w.finished[i] = s, seconds, true
			case errors.Is(err, results.ErrDamaged):
				e.damaged = append(e.damaged, err.Error())
			case !errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("read the store: %w; mend the folder's permissions or choose another with -out", err)
			}
		}
	}
	for _, p := range e.panels {
		n := p.config.Reference.Count
		p.blocks = make([][]results.Vector, (n+blockSize-1)/blockSize)
		for b := range p.blocks {
			var block sceneBlock
			path := e.store.ReferenceBlock(p.sceneID, b)
			_, err := results.ReadSealed(path, &block)
			switch {
			case err == nil && block.Block == b && len(block.Features) == blockSize:
				p.blocks[b] = block.Features
			case errors.Is(err, fs.ErrNotExist):
			case err == nil:
				e.damaged = append(e.damaged, fmt.Sprintf("%s: not the block it should be", path))
			case errors.Is(err, results.ErrDamaged):
				e.damaged = append(e.damaged, err.Error())
			default:
				return fmt.Errorf("read the store: %w; mend the folder's permissions or choose another with -out", err)
			}
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

// Shares of a network evaluation as trained.
const (
	judging   = 0.2  // one picture's, its encoding and writing included
	rendering = 0.03 // one reference scene's, its features included
)

// price is the cost of one image, by which progress, estimates and the order of
// work are weighed: the multiply-adds of its network evaluations, each by the
// plan that it runs, over those of one as trained at the training size.
func (e *experiment) price(cell ablation.Cell, s ablation.Settings) float64 {
	cost := judging * e.evaluation(s.Size, nil)
	job := Job{GuidanceScale: s.GuidanceScale, Plan: cell.Plan}
	of := map[*ablation.LayerPlan]float64{} // steps share plans
	add := func(plan *ablation.LayerPlan, n float64) {
		if plan == nil {
			return
		}
		if _, ok := of[plan]; !ok {
			of[plan] = e.evaluation(s.Size, plan)
		}
		cost += n * of[plan]
	}
	for i := s.SDEdit.Tau; i < len(cell.Plan); i++ {
		main, damped := job.networks(i)
		if s.GuidanceScale > 1 {
			add(main, 2)
		} else {
			add(main, 1)
		}
		add(damped, 1)
	}
	if cell.BaseNFE > 0 {
		cost += float64(cell.BaseNFE) * e.evaluation(s.SDEdit.Base(e.train, s.Size), nil)
	}
	return cost
}

// evaluation is the cost of one network evaluation under a plan.
func (e *experiment) evaluation(size ablation.Size, plan *ablation.LayerPlan) float64 {
	one := e.engine.Work(e.train.H, e.train.W, nil).MultiplyAdds
	return e.engine.Work(size.H, size.W, plan).MultiplyAdds / one
}

// blockCost is the cost of one block of reference scenes.
func (p *plan) blockCost() float64 { return blockSize * rendering * p.evaluation(p.size, nil) }

// toDo is the cost of all that is missing.
func (e *experiment) toDo() float64 {
	total := 0.0
	for _, p := range e.panels {
		for _, b := range p.blocks {
			if b == nil {
				total += p.blockCost()
			}
		}
	}
	for _, w := range e.works {
		total += w.cost * float64(len(w.missing()))
	}
	return total
}

// describe is a cell's settings for people who open its folder.
func (e *experiment) describe(w *work) results.Description {
	s := w.settings
	d := results.Description{ID: w.cell.ID, Settings: map[string]string{
		"weights": e.id.Weights, "features": e.id.Features, "world": e.id.World, "kernels": e.id.Kernels, "protocol": e.id.Protocol,
		"size": s.Size.String(), "steps": strconv.Itoa(s.Steps), "guidance_scale": fmt.Sprint(s.GuidanceScale),
		"guidance_rescale": fmt.Sprint(s.GuidanceRescale), "eta": fmt.Sprint(s.Eta), "seed": strconv.FormatUint(s.Seed, 10), "sampler": s.Sampler,
	}}
	if e.id.Math != "" {
		d.Settings["math"] = e.id.Math
	}
	if s.SDEdit.Tau > 0 {
		d.Settings["sdedit"] = fmt.Sprintf("skips %d steps, starts at %s px", s.SDEdit.Tau, s.SDEdit.Base(e.train, s.Size))
	}
	last := ""
	for i, step := range w.cell.Plan {
		if i < s.SDEdit.Tau {
			continue
		}
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
