//go:build !amd64 || noasm

package kernels

func bfEngines() []*bfEngine { return []*bfEngine{&bfPortableEngine} }

func bfSIMD() bool { return false }

func bfPairsFast(hi, lo *uint32, a, b *float32, n int)           {}
func bfRowFast(dst *uint16, x *float32, chunks, step, split int) {}
func bfChunkFast(dst *uint16, x *float32, ldx, split int)        {}
func bfPeakAMX(rounds int)                                       {}
func bfGather(dst, src []uint32, off, from, to []int32)          { bfGatherGo(dst, src, off, from, to) }

func (t *bfTile) run(bfKind) { bfTilePortable(t) }
