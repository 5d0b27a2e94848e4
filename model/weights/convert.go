package weights

import (
	"encoding/binary"
	"math"
)

var little = binary.LittleEndian

// toFloat32 returns the conversion of a block of bytes of that element type,
// or nil when the type is not a real number. dst is at least as long as the
// block has elements.
func toFloat32(dtype string) func(dst []float32, b []byte) {
	switch dtype {
	case "F32":
		return func(dst []float32, b []byte) {
			for i := range len(b) / 4 {
				dst[i] = math.Float32frombits(little.Uint32(b[4*i:]))
			}
		}
	case "F16":
		return func(dst []float32, b []byte) {
			for i := range len(b) / 2 {
				dst[i] = fromHalf(little.Uint16(b[2*i:]))
			}
		}
	case "BF16":
		return func(dst []float32, b []byte) {
			for i := range len(b) / 2 {
				dst[i] = math.Float32frombits(uint32(little.Uint16(b[2*i:])) << 16)
			}
		}
	case "F64":
		return func(dst []float32, b []byte) {
			for i := range len(b) / 8 {
				dst[i] = float32(math.Float64frombits(little.Uint64(b[8*i:])))
			}
		}
	}
	return nil
}

// toFloat64 is toFloat32 without rounding.
func toFloat64(dtype string) func(dst []float64, b []byte) {
	if dtype == "F64" {
		return func(dst []float64, b []byte) {
			for i := range len(b) / 8 {
				dst[i] = math.Float64frombits(little.Uint64(b[8*i:]))
			}
		}
	}
	narrow, width := toFloat32(dtype), widths[dtype]
	if narrow == nil {
		return nil
	}
	return func(dst []float64, b []byte) {
		var block [256]float32
		for at := 0; len(b) > 0; {
			piece := b[:min(len(b), width*len(block))]
			n := len(piece) / width
			narrow(block[:n], piece)
			for i, v := range block[:n] {
				dst[at+i] = float64(v)
			}
			at, b = at+n, b[len(piece):]
		}
	}
}

// toInt64 is toFloat32 for whole numbers.
func toInt64(dtype string) func(dst []int64, b []byte) {
	switch dtype {
	case "I64":
		return func(dst []int64, b []byte) {
			for i := range len(b) / 8 {
				dst[i] = int64(little.Uint64(b[8*i:]))
			}
		}
	case "I32":
		return func(dst []int64, b []byte) {
			for i := range len(b) / 4 {
				dst[i] = int64(int32(little.Uint32(b[4*i:])))
			}
		}
	case "I16":
		return func(dst []int64, b []byte) {
			for i := range len(b) / 2 {
				dst[i] = int64(int16(little.Uint16(b[2*i:])))
			}
		}
	case "I8":
		return func(dst []int64, b []byte) {
			for i, v := range b {
				dst[i] = int64(int8(v))
			}
		}
	case "U8":
		return func(dst []int64, b []byte) {
			for i, v := range b {
				dst[i] = int64(v)
			}
		}
	case "BOOL":
		return func(dst []int64, b []byte) {
			for i, v := range b {
				dst[i] = 0
				if v != 0 {
					dst[i] = 1
				}
			}
		}
	}
	return nil
}

// fromHalf widens an IEEE 754 binary16 number; exact.
func fromHalf(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10)&31, uint32(h)&0x3ff
	switch exponent {
	case 0: // zero or subnormal: fraction * 2^-24
		v := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31: // infinity or NaN, payload kept
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// toHalf rounds to binary16, ties to even. Values from 65520 on become
// infinite; NaN stays NaN.
func toHalf(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits>>16) & 0x8000
	bits &= 0x7fffffff
	switch {
	case bits > 0x7f800000:
		return sign | 0x7e00 | uint16(bits>>13)&0x1ff
	case bits >= 0x477ff000: // 65520: halfway above the largest number
		return sign | 0x7c00
	case bits >= 0x38800000: // 2^-14: normal
		bits -= 112 << 23
		return sign | uint16((bits+0xfff+bits>>13&1)>>13)
	}
	// Subnormal: a whole multiple of 2^-24. Scaling by a power of two is exact
	// in float64, so the one rounding is RoundToEven's.
	return sign | uint16(math.RoundToEven(float64(math.Float32frombits(bits))*(1<<24)))
}

// toBrain rounds to bfloat16, ties to even; NaN stays NaN.
func toBrain(v float32) uint16 {
	bits := math.Float32bits(v)
	if bits&0x7fffffff > 0x7f800000 {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// putFloat stores v into b, which has the element type's width.
func putFloat(b []byte, dtype string, v float32) {
	switch dtype {
	case "F32":
		little.PutUint32(b, math.Float32bits(v))
	case "F16":
		little.PutUint16(b, toHalf(v))
	case "BF16":
		little.PutUint16(b, toBrain(v))
	}
}
