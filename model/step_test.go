package model

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"scalecrafter/ablation"
	"scalecrafter/model/kernels"
	"scalecrafter/model/sampler"
	"scalecrafter/model/weights"
)

// stepNet is a small network with every kind of layer, and its random weights.
func stepNet(t *testing.T) (*UNetConfig, string) {
	t.Helper()
	c, err := ParseUNetConfig([]byte(`{"in_channels": 4, "out_channels": 4, "block_out_channels": [16, 32], "layers_per_block": 1,
		"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
		"attention_head_dim": 2, "cross_attention_dim": 24, "norm_num_groups": 8}`), "test")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "net.safetensors")
	if err := c.RandomWeights(context.Background(), path, 7); err != nil {
		t.Fatal(err)
	}
	return c, path
}

func fillStep(s *Step, seed uint64) {
	for i, in := range [][]float32{s.Sample, s.Time, s.Text} {
		sampler.Noise(in, sampler.NoiseKey{Seed: seed, Stage: uint32(i)})
	}
}

// A step's bits depend neither on whether its weights are read or mapped and
// released, nor on how many of them stay packed, nor on threads.
func TestStepMapped(t *testing.T) {
	c, path := stepNet(t)
	pool := kernels.NewPool(2)
	defer pool.Close()
	plan := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{}}
	for _, conv := range c.Layers().Convs {
		plan.Dilation[conv.Path] = ablation.Factor{H: 2, W: 2}
	}
	for _, plan := range []*ablation.LayerPlan{nil, plan} {
		var want [][]float32
		for _, tt := range []struct {
			open   func(string) (*weights.File, error)
			packed int
			pool   *kernels.Pool
		}{{weights.Open, 0, nil}, {weights.Open, 1 << 30, pool}, {weights.Map, 0, pool}, {weights.Map, 1 << 16, nil}, {weights.Map, 1 << 30, pool}} {
			f, err := tt.open(path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewStep(context.Background(), c, f, tt.pool, StepShape{N: 2, H: 8, W: 8, Tokens: 3, Plan: plan, Packed: tt.packed})
			if err != nil {
				t.Fatal(err)
			}
			var got [][]float32
			for _, seed := range []uint64{1, 1, 2} { // pages are released and read again
				fillStep(s, seed)
				s.NewText()
				y, err := s.Run(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, slices.Clone(y))
			}
			if !slices.Equal(got[0], got[1]) || slices.Equal(got[0], got[2]) {
				t.Error("equal inputs give other bits, or other inputs the same")
			}
			if want == nil {
				want = got
			}
			for i := range want {
				if !slices.Equal(got[i], want[i]) {
					t.Errorf("mapped %v, %d bytes packed: run %d differs", f.Mapped(), tt.packed, i)
				}
			}
			arena, _, kept := s.Bytes()
			if arena <= 0 || kept <= 0 || tt.packed < 1<<20 && kept > tt.packed+1<<16 {
				t.Errorf("%d bytes of arena and %d kept, with room for %d", arena, kept, tt.packed)
			}
			f.Close()
		}
	}
}

// constantBytes is what the parts keep of the text.
func (s *Step) constantBytes() int {
	n := 0
	for _, p := range s.parts {
		n += p.constants.Bytes()
	}
	return n
}

// TestStepParts: a batch cut into parts, one a thread, gives the bits of a whole
// one, also with another text, and stops when it is told to.
func TestStepParts(t *testing.T) {
	c, path := stepNet(t)
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	shape := StepShape{N: 6, H: 8, W: 12, Tokens: 3, Packed: 1 << 30}
	whole, err := NewStep(context.Background(), c, f, nil, shape)
	if err != nil {
		t.Fatal(err)
	}
	for threads, want := range map[int]int{2: 2, 3: 3, 4: 1} {
		pool := kernels.NewPool(threads)
		s, err := NewStep(context.Background(), c, f, pool, shape)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.parts) != want {
			t.Errorf("%d threads: %d parts, want %d", threads, len(s.parts), want)
		}
		for seed := range uint64(3) {
			fillStep(whole, seed)
			fillStep(s, seed)
			whole.NewText()
			s.NewText()
			a, err := whole.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			b, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(a, b) {
				t.Errorf("%d threads, seed %d: other bits", threads, seed)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := s.Run(ctx); err != context.Canceled {
			t.Errorf("%d threads: a run that is cancelled: %v", threads, err)
		}
		pool.Close()
	}
	big, err := PublishedUNet("sd1.5")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := big.partsOf(2, 2); n != 1 || err != nil {
		t.Errorf("a network too large for it is cut into %d parts: %v", n, err)
	}
}

// TestStepIsCollected: nothing keeps a step that nobody uses, not even what it has
// packed.
func TestStepIsCollected(t *testing.T) {
	c, path := stepNet(t)
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pool := kernels.NewPool(2)
	defer pool.Close()
	var gone atomic.Bool
	func() {
		s, err := NewStep(context.Background(), c, f, pool, StepShape{N: 2, H: 8, W: 8, Tokens: 3, Packed: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		fillStep(s, 1)
		if _, err := s.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if s.packed.Bytes() == 0 {
			t.Error("nothing is packed")
		}
		runtime.AddCleanup(s, func(gone *atomic.Bool) { gone.Store(true) }, &gone)
	}()
	for range 100 {
		runtime.GC()
		if gone.Load() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the step is still there")
}

// TestPlanStep holds the plan, made before anything is taken, against what the
// step then has.
func TestPlanStep(t *testing.T) {
	c, path := stepNet(t)
	list, err := c.Parameters()
	if err != nil {
		t.Fatal(err)
	}
	all := 0
	for _, p := range list {
		n := 4
		for _, d := range p.Shape {
			n *= d
		}
		all += n
	}
	pool := kernels.NewPool(2)
	defer pool.Close()
	dilated := &ablation.LayerPlan{Dilation: map[string]ablation.Factor{"mid_block.resnets.0.conv1": {H: 2, W: 2}}}
	for _, plan := range []*ablation.LayerPlan{nil, dilated} {
		for _, open := range []func(string) (*weights.File, error){weights.Open, weights.Map} {
			for _, packed := range []int{0, 1 << 16, 1 << 30} {
				f, err := open(path)
				if err != nil {
					t.Fatal(err)
				}
				shape := StepShape{N: 2, H: 8, W: 8, Tokens: 3, Plan: plan, Packed: packed}
				m, err := PlanStep(c, f, pool, shape)
				if err != nil {
					t.Fatal(err)
				}
				s, err := NewStep(context.Background(), c, f, pool, shape)
				if err != nil {
					t.Fatal(err)
				}
				fillStep(s, 1)
				for range 2 {
					if _, err := s.Run(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				arena, scratch, kept := s.Bytes()
				if m.Arena != arena || m.Scratch != scratch || m.Arena == 0 || m.Inputs != 4*(len(s.Sample)+len(s.Time)+len(s.Text)) {
					t.Errorf("plan %+v, arena %d and scratch %d", m, arena, scratch)
				}
				if constants := s.constantBytes(); m.Constants != constants || m.Packed > packed || m.Packed > kept-constants || packed != 1<<16 && m.Packed != kept-constants {
					t.Errorf("%d bytes of constants and %d of packed weights planned, %d and %d kept", m.Constants, m.Packed, constants, kept-constants)
				}
				if !f.Mapped() && m.Weights != all || m.Weights < 1 || m.Weights > 2*all {
					t.Errorf("%d bytes of weights planned of %d, mapped %v", m.Weights, all, f.Mapped())
				}
				f.Close()
			}
		}
	}
	f, err := weights.Map(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := PlanStep(c, f, pool, StepShape{N: 1, H: 8, W: 8}); err == nil || !strings.Contains(err.Error(), "0 tokens") {
		t.Errorf("a step without text: %v", err)
	}
}

func TestStepErrors(t *testing.T) {
	c, path := stepNet(t)
	f, err := weights.Map(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := NewStep(context.Background(), c, f, nil, StepShape{N: 1, H: 8, W: 0, Tokens: 3}); err == nil {
		t.Error("a latent of width 0 is taken")
	}
	other := *c
	other.CrossAttentionDim = 16
	if _, err := NewStep(context.Background(), &other, f, nil, StepShape{N: 1, H: 8, W: 8, Tokens: 3}); err == nil || !strings.Contains(err.Error(), "want [16 16]") {
		t.Errorf("weights of another network: %v", err)
	}
	// Done contexts end the reading and the making of weights within a tensor.
	for _, at := range []int{1, 2, 20} {
		ctx := newStopAt(at, false)
		if _, err := NewStep(ctx, c, f, nil, StepShape{N: 1, H: 8, W: 8, Tokens: 3}); !errors.Is(err, context.Canceled) {
			t.Errorf("a step that is cancelled at weight %d: %v", at, err)
		}
		if n := int(ctx.asked.Load()); n > at+1 {
			t.Errorf("a step that is cancelled at weight %d asks its context %d times", at, n)
		}
		ctx = newStopAt(at, false)
		other := filepath.Join(t.TempDir(), "other")
		if err := c.RandomWeights(ctx, other, 1); !errors.Is(err, context.Canceled) || ctx.asked.Load() != int64(at) {
			t.Errorf("weights that are cancelled at tensor %d: %v, asked %d times", at, err, ctx.asked.Load())
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(other), "*")); len(left) > 0 {
			t.Errorf("cancelled weights leave %v", left)
		}
	}
	s, err := NewStep(context.Background(), c, f, nil, StepShape{N: 1, H: 8, W: 8, Tokens: 3})
	if err != nil {
		t.Fatal(err)
	}
	fillStep(s, 1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Run(ctx); err != context.Canceled {
		t.Errorf("a run that is cancelled: %v", err)
	}
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "after it was opened") {
		t.Errorf("a file that was cut: %v", err)
	}
}

// Parameters lists what diffusers' SD 1.5 has.
func TestParameters(t *testing.T) {
	c, err := PublishedUNet("sd1.5")
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Parameters()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range list {
		k := 1
		for _, d := range p.Shape {
			k *= d
		}
		n += k
	}
	// Source: the file sizes of runwayml/stable-diffusion-v1-5, 3.44 GB of float32.
	if len(list) != 686 || n != 859_520_964 {
		t.Errorf("%d tensors of %d numbers, want 686 of 859520964", len(list), n)
	}
}
