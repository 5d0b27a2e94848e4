package kernels

// PackKind says what a Packing is for, and with it how the packed floats lie.
type PackKind int

const (
	// NoPacking is the kind of the zero Packing, which packs nothing.
	NoPacking PackKind = iota
	// PackLinear is w [O,K] of a Linear in float32: panels of as many outputs as the engine's tile has columns, each [K][columns],
	// one after the other; the last one's missing columns are zeros.
	PackLinear
	// PackWinograd is w [O,K,KH,KW] of a Conv, transformed by Winograd's algorithm: for every one of its 36 taps strips of as many
	// outputs as the engine's tile has columns, each [sub-kernels * channels][columns], see winograd.weights.
	PackWinograd
)

// Packing describes weights laid out for one kernel of one engine. It is comparable: two layers whose Packing is equal can
// share the packed floats of equal weights, whatever their batch and their image's size.
type Packing struct {
	Kind PackKind
	O, K int // outputs, and inputs to each (for a convolution channels)
	// KH, KW are a convolution's taps, 0 for a linear layer.
	KH, KW int
	// Engine is the name of the path whose micro-kernel reads the floats, see Path.
	Engine string
	Math   Math
}

// Floats returns how many floats the packed weights take.
func (k Packing) Floats() int {
	switch k.Kind {
	case PackLinear:
		return k.linearFloats()
	case PackBFLinear, PackBFConv:
		return k.bfFloats()
	case PackWinograd:
		return k.winogradFloats()
	}
	return 0
}

// Pack lays out the weights w in dst, which has Floats floats of any content and does not overlap w.
func (k Packing) Pack(p *Pool, dst, w []float32) {
	need("Packing.Pack: dst", dst, k.Floats())
	if k.Engine != active.name {
		panicf("Packing.Pack: the layout is the %s path's, and %s is in use", k.Engine, active.name)
	}
	switch k.Kind {
	case PackLinear:
		k.packLinear(p, dst, w)
	case PackBFLinear, PackBFConv:
		k.bfPack(p, dst, w)
	case PackWinograd:
		k.packWinograd(p, dst, w)
	default:
		panicf("Packing.Pack: nothing is packed with kind %d", k.Kind)
	}
}
