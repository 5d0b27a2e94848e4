//go:build amd64 && !noasm

package kernels

import (
	"errors"

	"golang.org/x/sys/cpu"
)

//go:generate sh -c "cd internal/gen && go run . -out ../../bf16_amd64.s -pkg kernels"

// The assembly takes a bfTile by its fields' offsets; see internal/gen.

//go:noescape
func bfPairsAVX2(hi, lo *uint32, a, b *float32, n int)

//go:noescape
func bfRowAVX2(dst *uint16, x *float32, chunks, step, split int)

//go:noescape
func bfChunkAVX2(dst *uint16, x *float32, ldx, split int)

//go:noescape
func bfGatherAVX2(dst, src *uint32, off *int32, n int, from, to *int32, groups int)

//go:noescape
func bfTileAVX2(t *bfTile)

//go:noescape
func bfTileAVX512(t *bfTile)

//go:noescape
func bfTileAVX512BF16(t *bfTile)

//go:noescape
func bfTileAMX(t *bfTile)

func bfPeakAMX(rounds int)

func bfXGETBV() uint64

var (
	bfAVX2Engine      = bfEngine{name: "avx2", force: "avx2", kind: bfAVX2, check: func() error { return bfCheck(bfTileAVX2) }}
	bfAVX512Engine    = bfEngine{name: "avx512", force: "avx512", kind: bfAVX512, check: func() error { return bfCheck(bfTileAVX512) }}
	bfAVX512DotEngine = bfEngine{name: "avx512-bf16", force: "avx512", kind: bfAVX512Dot, check: func() error { return bfCheck(bfTileAVX512BF16) }}
	bfAMXEngine       = bfEngine{name: "amx", force: "amx", kind: bfAMX, check: func() error {
		if err := amxAllowed(); err != nil {
			return err
		}
		return bfCheck(bfTileAMX)
	}}
)

// bfEngines returns the bfloat16 paths that the processor claims to have, the best one last.
func bfEngines() []*bfEngine {
	have := []*bfEngine{&bfPortableEngine}
	x := &cpu.X86
	if !x.HasAVX2 || !x.HasFMA {
		return have
	}
	have = append(have, &bfAVX2Engine)
	if x.HasAVX512F && x.HasAVX512DQ && x.HasAVX512BW && x.HasAVX512VL {
		have = append(have, &bfAVX512Engine)
		if x.HasAVX512BF16 {
			have = append(have, &bfAVX512DotEngine)
		}
	}
	if x.HasOSXSAVE && x.HasAMXTile && x.HasAMXBF16 {
		have = append(have, &bfAMXEngine)
	}
	return have
}

// amxAllowed asks the system for the tiles: whether it saves their state, and for its permission.
func amxAllowed() error {
	const tiles = 1<<17 | 1<<18 // XTILECFG, XTILEDATA
	if bfXGETBV()&tiles != tiles {
		return errors.New("the operating system does not save AMX tiles")
	}
	return amxPermission()
}

// bfSIMD says whether conversions are AVX2; their bits are those of the portable ones.
func bfSIMD() bool { return active.kind != portable }

func bfPairsFast(hi, lo *uint32, a, b *float32, n int) { bfPairsAVX2(hi, lo, a, b, n) }
func bfRowFast(dst *uint16, x *float32, chunks, step, split int) {
	bfRowAVX2(dst, x, chunks, step, split)
}

func bfChunkFast(dst *uint16, x *float32, ldx, split int) { bfChunkAVX2(dst, x, ldx, split) }

// bfGather is bfGatherGo.
func bfGather(dst, src []uint32, off, from, to []int32) {
	if len(off) == 0 || len(from) == 0 {
		return
	}
	if !bfSIMD() {
		bfGatherGo(dst, src, off, from, to)
		return
	}
	last := len(from) - 1
	_, _, _ = dst[16*len(off)-1+int(to[last])], src[int(off[len(off)-1]+from[last])+15], to[last]
	bfGatherAVX2(&dst[0], &src[0], &off[0], len(off), &from[0], &to[0], len(from))
}

// run computes the product with a path's micro-kernel.
func (t *bfTile) run(k bfKind) {
	switch k {
	case bfAMX:
		bfTileAMX(t)
	case bfAVX512Dot:
		bfTileAVX512BF16(t)
	case bfAVX512:
		bfTileAVX512(t)
	case bfAVX2:
		bfTileAVX2(t)
	default:
		bfTilePortable(t)
	}
}
