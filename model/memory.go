package model

import (
	"slices"

	"scalecrafter/model/kernels"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
)

// Memory is what evaluating the network takes, in bytes, as planned before it
// runs.
type Memory struct {
	// Shared by all workers: the weights as loaded (of a mapped file those that
	// are in memory at a time), those that plans disperse, and those kept packed
	// for their kernels.
	Weights, Dispersed, Packed int
	// Of each worker: the arena of all intermediate values, the kernels'
	// scratch, what is kept from step to step (Constants), the graphs' inputs,
	// and the sampler's latents around them.
	Arena, Scratch, Constants, Inputs, Latents int
}

// Shared and Worker are the sums of what is there once and once a worker.
func (m Memory) Shared() int { return m.Weights + m.Dispersed + m.Packed }
func (m Memory) Worker() int { return m.Arena + m.Scratch + m.Constants + m.Inputs + m.Latents }

// latentCopies is how many times as much memory as the network's input a
// sampling loop has: input and output, and for half as many rows the latents,
// the clean sample, the noise, the damped answer, and two earlier ones.
const latentCopies = 5

// PlanMemory plans what workers of that many threads take that evaluate these
// batches: the greediest graph's arena and scratch, as a worker's graphs share
// them.
func (p *Pipeline) PlanMemory(threads int, batches []Batch) (Memory, error) {
	pool := kernels.NewPool(threads)
	defer pool.Close()
	m := newMemory()
	var out Memory
	dispersed, packed := map[string]int{}, map[any]bool{}
	for _, b := range batches {
		s, err := p.session(b, m, ops.Options{Pool: pool, PlanOnly: true})
		if err != nil {
			return out, err
		}
		arena, scratch, _ := s.machine.Bytes()
		out.Arena, out.Scratch = max(out.Arena, arena), max(out.Scratch, scratch)
		out.Constants = max(out.Constants, keptTexts*s.machine.ConstantBytes())
		out.Latents = max(out.Latents, latentCopies*4*len(s.sample))
		out.Packed += s.machine.PackedBytes(packed)
		for _, k := range s.kernels {
			dispersed[k.Name] = 4 * len(k.Data)
		}
	}
	for _, n := range dispersed {
		out.Dispersed += n
	}
	out.Dispersed = min(out.Dispersed, maxKernelBytes)
	out.Packed = min(out.Packed, maxPackedBytes)
	out.Constants = min(out.Constants, maxConstantBytes)
	for _, in := range m.inputs {
		out.Inputs += 4 * len(in)
	}
	out.Inputs += keptTexts * 4 * len(m.inputs["text"])
	for _, s := range []params.Source{p.unet, p.text} {
		if c, ok := s.(interface{ Count() int }); ok {
			out.Weights += 4 * c.Count()
		}
	}
	if p.unet == p.text { // counted twice
		out.Weights /= 2
	}
	return out, nil
}

// Reserve takes the memory at once that plan says a worker will need, so that
// it does not grow in between, when the old and the new are there together.
func (w *Worker) Reserve(plan Memory) { w.memory.arena.Reserve(plan.Arena, plan.Scratch) }

// Batches lists what is different in a list of batches, in order.
func Batches(all []Batch) []Batch {
	var out []Batch
	for _, b := range all {
		if !slices.ContainsFunc(out, func(o Batch) bool {
			return o.N == b.N && o.H == b.H && o.W == b.W && (o.Plan == b.Plan || o.Plan.Key() == b.Plan.Key())
		}) {
			out = append(out, b)
		}
	}
	return out
}
