//go:build !amd64 || noasm

package kernels

// run computes the panel.
func (p *panel) run(*engine) { p.generic() }
