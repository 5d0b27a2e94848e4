//go:build amd64 && !noasm

package kernels

// panelAVX2 is panel.generic with fused multiply-add.
//
//go:noescape
func panelAVX2(p *panel)

// run computes the panel.
func (p *panel) run(e *engine) {
	if e.kind == portable || p.m < 1 {
		p.generic()
		return
	}
	_, _, _ = p.a[(p.m-1)*p.ars+p.k-1], p.b[p.k*p.width()-1], p.c[(p.m-1)*p.ldc+p.width()-1]
	if p.off != nil {
		_, _ = p.to[(p.k-1)*p.step/4+panelWidth-1], p.off[p.k-1]
	}
	panelAVX2(p)
}
