//go:build !amd64 || noasm

package kernels

// run computes the strip with the engine's micro-kernel.
func (s *strip) run(e *engine) { s.generic(e) }

// packStrips lays whole panels of mr neighbouring rows out term by term, and returns how many panels it has done: here none.
func packStrips(*engine, []float32, []float32, int, int, int) int { return 0 }
