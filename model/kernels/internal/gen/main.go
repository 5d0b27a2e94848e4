// Command gen writes the assembly of the bfloat16 kernels, bf16_amd64.s:
//
//	cd model/kernels && go generate
//
// It has its own module, so that the program does not depend on avo. Instructions that Go's assembler lacks (AMX and
// VDPBF16PS) are emitted as bytes, with the instruction in a comment.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of kernels.bfTile; a test of that package compares them.
const (
	fieldA, fieldB, fieldC            = 0, 8, 16
	fieldAStep, fieldBStep, fieldCRow = 24, 32, 40
	fieldM, fieldN, fieldChunks       = 48, 56, 64
	fieldSplit, fieldAdd              = 72, 80
)

// Sizes of the packed operands in bytes: a plane of a chunk (32 rows or columns by 32 terms), half of it, and the 64 bytes that
// are a row of A or the pairs of a row of B in one half.
const (
	plane = 2048
	half  = 1024
	line  = 64
)

// pass is one product of planes of A and B: 0 is the rounded operand, 1 what rounding left.
type pass struct{ a, b int }

var (
	plain = []pass{{0, 0}}
	split = []pass{{0, 1}, {0, 0}, {1, 0}}
)

func main() {
	ConstraintExpr("amd64")
	ConstraintExpr("!noasm")
	pairs()
	row()
	gather()
	chunk()
	multiply("bfTileAVX2", avx2{})
	multiply("bfTileAVX512", avx512{})
	multiply("bfTileAVX512BF16", avx512{dot: true})
	amx()
	amxPeak()
	xgetbv()
	Generate()
}

func mem(base reg.Register, disp int) operand.Mem { return operand.Mem{Base: base, Disp: disp} }

func at(base, index reg.Register, scale, disp int) operand.Mem {
	return operand.Mem{Base: base, Index: index, Scale: uint8(scale), Disp: disp}
}

// emit writes an instruction as bytes.
func emit(comment string, bytes ...byte) {
	Comment(comment)
	for _, b := range bytes {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []operand.Op{operand.U8(b)}})
	}
}

// ---- conversion

// constants of rounding: 1, 0x7fff, the quiet bit, and the mask of the upper halves.
func roundConstants() {
	for i, v := range []uint32{1, 0x7fff, 0x400000, 0xffff0000} {
		MOVL(operand.U32(v), reg.EAX)
		x, y := []reg.Register{reg.X12, reg.X13, reg.X14, reg.X15}[i], []reg.Register{reg.Y12, reg.Y13, reg.Y14, reg.Y15}[i]
		MOVD(reg.EAX, x)
		VPBROADCASTD(x, y)
	}
}

// round sets r to x rounded to nearest even in the upper 16 bits of every lane (the lower ones are rubbish); a NaN stays one.
func round(x, r, t, u reg.Register) {
	VPSRLD(operand.Imm(16), x, r)
	VPAND(reg.Y12, r, r)
	VPADDD(x, r, r)
	VPADDD(reg.Y13, r, r)
	VCMPPS(operand.Imm(3), x, x, t)
	VPOR(reg.Y14, x, u)
	VBLENDVPS(t, u, r, r)
}

// rest takes x, rounded to r, to what rounding left: x - r, in x.
func rest(x, r, t reg.Register) {
	VPAND(reg.Y15, r, t)
	VSUBPS(t, x, x)
}

// join puts the upper halves of a and b together, in a.
func join(a, b, t reg.Register) {
	VPSRLD(operand.Imm(16), a, a)
	VPAND(reg.Y15, b, t)
	VPOR(t, a, a)
}

// pairs is kernels.bfPairs for whole vectors.
func pairs() {
	TEXT("bfPairsAVX2", 4, "func(hi, lo *uint32, a, b *float32, n int)")
	Doc("bfPairsAVX2 is bfPairs for n a multiple of 8.")
	Load(Param("hi"), reg.RDI)
	Load(Param("lo"), reg.RSI)
	Load(Param("a"), reg.R8)
	Load(Param("b"), reg.R9)
	Load(Param("n"), reg.RCX)
	roundConstants()
	XORQ(reg.RDX, reg.RDX)
	TESTQ(reg.RSI, reg.RSI)
	JNZ(operand.LabelRef("halves"))
	Label("whole")
	VMOVUPS(at(reg.R8, reg.RDX, 4, 0), reg.Y0)
	VMOVUPS(at(reg.R9, reg.RDX, 4, 0), reg.Y1)
	round(reg.Y0, reg.Y2, reg.Y4, reg.Y5)
	round(reg.Y1, reg.Y3, reg.Y6, reg.Y7)
	join(reg.Y2, reg.Y3, reg.Y4)
	VMOVDQU(reg.Y2, at(reg.RDI, reg.RDX, 4, 0))
	ADDQ(operand.Imm(8), reg.RDX)
	CMPQ(reg.RDX, reg.RCX)
	JLT(operand.LabelRef("whole"))
	VZEROUPPER()
	RET()
	Label("halves")
	VMOVUPS(at(reg.R8, reg.RDX, 4, 0), reg.Y0)
	VMOVUPS(at(reg.R9, reg.RDX, 4, 0), reg.Y1)
	round(reg.Y0, reg.Y2, reg.Y4, reg.Y5)
	round(reg.Y1, reg.Y3, reg.Y6, reg.Y7)
	rest(reg.Y0, reg.Y2, reg.Y4)
	rest(reg.Y1, reg.Y3, reg.Y6)
	join(reg.Y2, reg.Y3, reg.Y4)
	VMOVDQU(reg.Y2, at(reg.RDI, reg.RDX, 4, 0))
	round(reg.Y0, reg.Y2, reg.Y4, reg.Y5)
	round(reg.Y1, reg.Y3, reg.Y6, reg.Y7)
	join(reg.Y2, reg.Y3, reg.Y4)
	VMOVDQU(reg.Y2, at(reg.RSI, reg.RDX, 4, 0))
	ADDQ(operand.Imm(8), reg.RDX)
	CMPQ(reg.RDX, reg.RCX)
	JLT(operand.LabelRef("halves"))
	VZEROUPPER()
	RET()
}

// row is kernels.bfRow for whole chunks.
func row() {
	TEXT("bfRowAVX2", 4, "func(dst *uint16, x *float32, chunks, step, split int)")
	Doc("bfRowAVX2 is bfRow for whole chunks; step is in bytes.")
	Load(Param("dst"), reg.RDI)
	Load(Param("x"), reg.RSI)
	Load(Param("chunks"), reg.RCX)
	Load(Param("step"), reg.R8)
	Load(Param("split"), reg.R9)
	roundConstants()
	// store packs 16 rounded floats in two vectors to 16 halves in order.
	store := func(a, b reg.Register, disp int) {
		VPSRLD(operand.Imm(16), a, a)
		VPSRLD(operand.Imm(16), b, b)
		VPACKUSDW(b, a, a)
		VPERMQ(operand.Imm(0xd8), a, a)
		VMOVDQU(a, mem(reg.RDI, disp))
	}
	Label("chunk")
	for _, h := range []int{0, 1} {
		VMOVUPS(mem(reg.RSI, 64*h), reg.Y0)
		VMOVUPS(mem(reg.RSI, 64*h+32), reg.Y1)
		round(reg.Y0, reg.Y2, reg.Y4, reg.Y5)
		round(reg.Y1, reg.Y3, reg.Y6, reg.Y7)
		skip := fmt.Sprintf("whole%d", h)
		TESTQ(reg.R9, reg.R9)
		JZ(operand.LabelRef(skip))
		rest(reg.Y0, reg.Y2, reg.Y4)
		rest(reg.Y1, reg.Y3, reg.Y6)
		round(reg.Y0, reg.Y8, reg.Y4, reg.Y5)
		round(reg.Y1, reg.Y9, reg.Y6, reg.Y7)
		store(reg.Y8, reg.Y9, plane+32*h)
		Label(skip)
		store(reg.Y2, reg.Y3, 32*h)
	}
	ADDQ(operand.I32(128), reg.RSI)
	ADDQ(reg.R8, reg.RDI)
	DECQ(reg.RCX)
	JNZ(operand.LabelRef("chunk"))
	VZEROUPPER()
	RET()
}

// chunk packs a chunk of B from its rows.
func chunk() {
	TEXT("bfChunkAVX2", 4, "func(dst *uint16, x *float32, ldx, split int)")
	Doc("bfChunkAVX2 packs 32 terms of 32 columns, rows ldx bytes apart, into a chunk of B.")
	Load(Param("dst"), reg.RDI)
	Load(Param("x"), reg.RSI)
	Load(Param("ldx"), reg.R8)
	Load(Param("split"), reg.R9)
	roundConstants()
	MOVQ(operand.I32(16), reg.RCX)
	Label("pair")
	for v := range 4 {
		to := v/2*half + v%2*32
		VMOVUPS(mem(reg.RSI, 32*v), reg.Y0)
		VMOVUPS(at(reg.RSI, reg.R8, 1, 32*v), reg.Y1)
		round(reg.Y0, reg.Y2, reg.Y4, reg.Y5)
		round(reg.Y1, reg.Y3, reg.Y6, reg.Y7)
		whole := fmt.Sprintf("whole%d", v)
		TESTQ(reg.R9, reg.R9)
		JZ(operand.LabelRef(whole))
		rest(reg.Y0, reg.Y2, reg.Y4)
		rest(reg.Y1, reg.Y3, reg.Y6)
		round(reg.Y0, reg.Y8, reg.Y4, reg.Y5)
		round(reg.Y1, reg.Y9, reg.Y6, reg.Y7)
		join(reg.Y8, reg.Y9, reg.Y4)
		VMOVDQU(reg.Y8, mem(reg.RDI, plane+to))
		Label(whole)
		join(reg.Y2, reg.Y3, reg.Y4)
		VMOVDQU(reg.Y2, mem(reg.RDI, to))
	}
	LEAQ(at(reg.RSI, reg.R8, 2, 0), reg.RSI)
	ADDQ(operand.Imm(64), reg.RDI)
	DECQ(reg.RCX)
	JNZ(operand.LabelRef("pair"))
	VZEROUPPER()
	RET()
}

// gather copies rows of 16 pairs.
func gather() {
	TEXT("bfGatherAVX2", 4, "func(dst, src *uint32, off *int32, n int, from, to *int32, groups int)")
	Doc("bfGatherAVX2 is bfGather.")
	Load(Param("dst"), reg.RDI)
	Load(Param("src"), reg.RSI)
	Load(Param("off"), reg.R8)
	Load(Param("n"), reg.RCX)
	Load(Param("from"), reg.R9)
	Load(Param("to"), reg.R10)
	Load(Param("groups"), reg.R11)
	Label("next")
	MOVLQSX(mem(reg.R8, 0), reg.RBX)
	LEAQ(at(reg.RSI, reg.RBX, 4, 0), reg.RBX)
	XORQ(reg.RDX, reg.RDX)
	Label("group")
	MOVLQSX(at(reg.R9, reg.RDX, 4, 0), reg.RAX)
	MOVLQSX(at(reg.R10, reg.RDX, 4, 0), reg.R12)
	VMOVDQU(at(reg.RBX, reg.RAX, 4, 0), reg.Y0)
	VMOVDQU(at(reg.RBX, reg.RAX, 4, 32), reg.Y1)
	VMOVDQU(reg.Y0, at(reg.RDI, reg.R12, 4, 0))
	VMOVDQU(reg.Y1, at(reg.RDI, reg.R12, 4, 32))
	INCQ(reg.RDX)
	CMPQ(reg.RDX, reg.R11)
	JLT(operand.LabelRef("group"))
	ADDQ(operand.Imm(4), reg.R8)
	ADDQ(operand.Imm(64), reg.RDI)
	DECQ(reg.RCX)
	JNZ(operand.LabelRef("next"))
	VZEROUPPER()
	RET()
}

// ---- products with vector registers

// vectors is how a path holds a strip of C: rows by the columns of two vectors.
type vectors interface {
	rows() int  // of C in registers
	bytes() int // of a vector
	start()     // constants
	acc(row, side int) reg.Register
	load(m, r operand.Op)
	zero(r reg.Register)
	b(m operand.Mem, side int)
	term(m operand.Mem, row int) // one row of A by what b loaded
	end()
}

// multiply is kernels.bfTile.run with vectors. Registers: DI the description, SI A's row block, BX B's panel and column strip,
// DX C, AX and CX walk A and B, R8 C's row step, R9 three of them, R10 the fourth row of C, R11 the counters' row blocks,
// R12 panels, R13 the strip of rows and columns, R14 chunks.
func multiply(name string, v vectors) {
	TEXT(name, 4, "func(t *byte)")
	Doc(name + " computes a bfTile with vector registers.")
	Load(Param("t"), reg.RDI)
	v.start()
	MOVQ(mem(reg.RDI, fieldA), reg.RSI)
	MOVQ(mem(reg.RDI, fieldCRow), reg.R8)
	LEAQ(at(reg.R8, reg.R8, 2, 0), reg.R9)
	XORQ(reg.R11, reg.R11)
	strips := 32 / v.rows()
	sides := 64 / v.bytes() // strips of columns: two vectors of 4 bytes a column and 32 columns
	Label("block")
	XORQ(reg.R12, reg.R12)
	Label("panel")
	XORQ(reg.R13, reg.R13)
	Label("strip")
	// C of the strip: c + 32*rows + 128*panel + side.
	MOVQ(reg.R11, reg.RDX)
	SHLQ(operand.Imm(5), reg.RDX)
	MOVQ(reg.R13, reg.RAX)
	ANDQ(operand.Imm(uint64(strips-1)), reg.RAX)
	IMUL3Q(operand.Imm(uint64(v.rows())), reg.RAX, reg.RAX)
	ADDQ(reg.RAX, reg.RDX)
	IMULQ(reg.R8, reg.RDX)
	ADDQ(mem(reg.RDI, fieldC), reg.RDX)
	MOVQ(reg.R12, reg.RCX)
	SHLQ(operand.Imm(7), reg.RCX)
	ADDQ(reg.RCX, reg.RDX)
	// A and B of the strip.
	SHLQ(operand.Imm(6), reg.RAX)
	ADDQ(reg.RSI, reg.RAX)
	MOVQ(reg.R12, reg.RBX)
	IMULQ(mem(reg.RDI, fieldBStep), reg.RBX)
	ADDQ(mem(reg.RDI, fieldB), reg.RBX)
	if sides == 2 { // side is the strip's number over the strips of rows
		MOVQ(reg.R13, reg.RCX)
		SHRQ(operand.Imm(uint64(log2(strips))), reg.RCX)
		SHLQ(operand.Imm(6), reg.RCX)
		ADDQ(reg.RCX, reg.RDX)
		SHLQ(operand.Imm(4), reg.RCX)
		ADDQ(reg.RCX, reg.RBX)
	}
	eachRow := func(f func(row int, m func(side int) operand.Mem)) {
		MOVQ(reg.RDX, reg.R10)
		for r := range v.rows() {
			if r > 0 && r%4 == 0 {
				LEAQ(at(reg.R10, reg.R8, 4, 0), reg.R10)
			}
			f(r, func(side int) operand.Mem {
				switch r % 4 {
				case 0:
					return mem(reg.R10, side*v.bytes())
				case 1:
					return at(reg.R10, reg.R8, 1, side*v.bytes())
				case 2:
					return at(reg.R10, reg.R8, 2, side*v.bytes())
				}
				return at(reg.R10, reg.R9, 1, side*v.bytes())
			})
		}
	}
	CMPQ(mem(reg.RDI, fieldAdd), operand.Imm(0))
	JEQ(operand.LabelRef("zero"))
	eachRow(func(r int, m func(int) operand.Mem) {
		v.load(m(0), v.acc(r, 0))
		v.load(m(1), v.acc(r, 1))
	})
	JMP(operand.LabelRef("sum"))
	Label("zero")
	for r := range v.rows() {
		v.zero(v.acc(r, 0))
		v.zero(v.acc(r, 1))
	}
	Label("sum")
	MOVQ(mem(reg.RDI, fieldChunks), reg.R14)
	CMPQ(mem(reg.RDI, fieldSplit), operand.Imm(0))
	JNE(operand.LabelRef("split"))
	for _, way := range []struct {
		label  string
		passes []pass
		planes int
	}{{"plain", plain, 1}, {"split", split, 2}} {
		Label(way.label)
		for i, p := range way.passes {
			// Four pairs of terms at a time; CX counts them, and A and B move along.
			MOVQ(operand.I32(4), reg.RCX)
			loop := fmt.Sprintf("%s%d", way.label, i)
			Label(loop)
			for k := range 4 {
				apart := v.bytes()
				if v.bytes() == 64 {
					apart = half
				}
				v.b(mem(reg.RBX, p.b*plane+k*line), 0)
				v.b(mem(reg.RBX, p.b*plane+k*line+apart), 1)
				for r := range v.rows() {
					v.term(mem(reg.RAX, p.a*plane+r*line+k*4), r)
				}
			}
			ADDQ(operand.Imm(16), reg.RAX)
			ADDQ(operand.I32(4*line), reg.RBX)
			DECQ(reg.RCX)
			JNZ(operand.LabelRef(loop))
			if i+1 < len(way.passes) {
				SUBQ(operand.Imm(64), reg.RAX)
				SUBQ(operand.I32(16*line), reg.RBX)
			} else {
				ADDQ(operand.I32(int32(way.planes*plane-64)), reg.RAX)
				ADDQ(operand.I32(int32(way.planes*plane-16*line)), reg.RBX)
			}
		}
		DECQ(reg.R14)
		JNZ(operand.LabelRef(way.label))
		if way.label == "plain" {
			JMP(operand.LabelRef("store"))
		}
	}
	Label("store")
	eachRow(func(r int, m func(int) operand.Mem) {
		v.load(v.acc(r, 0), m(0))
		v.load(v.acc(r, 1), m(1))
	})
	INCQ(reg.R13)
	CMPQ(reg.R13, operand.Imm(uint64(strips*sides)))
	JLT(operand.LabelRef("strip"))
	INCQ(reg.R12)
	CMPQ(reg.R12, mem(reg.RDI, fieldN))
	JLT(operand.LabelRef("panel"))
	ADDQ(mem(reg.RDI, fieldAStep), reg.RSI)
	INCQ(reg.R11)
	CMPQ(reg.R11, mem(reg.RDI, fieldM))
	JLT(operand.LabelRef("block"))
	v.end()
	RET()
}

func log2(n int) int {
	i := 0
	for ; n > 1; n /= 2 {
		i++
	}
	return i
}

// avx2 holds 4 rows by 16 columns: accumulators Y0..Y7, B's odd terms in Y8 and Y9, its even ones in Y10 and Y11, A's in Y12 and Y13.
type avx2 struct{}

func ymm(i int) reg.Register {
	return []reg.Register{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}[i]
}

func (avx2) rows() int  { return 4 }
func (avx2) bytes() int { return 32 }
func (avx2) start() {
	MOVL(operand.U32(0xffff0000), reg.EAX)
	MOVD(reg.EAX, reg.X15)
	VPBROADCASTD(reg.X15, reg.Y15)
}
func (avx2) acc(row, side int) reg.Register { return ymm(2*row + side) }
func (avx2) load(m, r operand.Op)           { VMOVUPS(m, r) }
func (avx2) zero(r reg.Register)            { VPXOR(r, r, r) }
func (avx2) b(m operand.Mem, side int) {
	VMOVDQU(m, ymm(10+side))
	VPAND(reg.Y15, ymm(10+side), ymm(8+side))
	VPSLLD(operand.Imm(16), ymm(10+side), ymm(10+side))
}
func (v avx2) term(m operand.Mem, row int) {
	VPBROADCASTD(m, reg.Y13)
	VPAND(reg.Y15, reg.Y13, reg.Y12)
	VPSLLD(operand.Imm(16), reg.Y13, reg.Y13)
	for side := range 2 {
		VFMADD231PS(ymm(8+side), reg.Y12, v.acc(row, side))
	}
	for side := range 2 {
		VFMADD231PS(ymm(10+side), reg.Y13, v.acc(row, side))
	}
}
func (avx2) end() { VZEROUPPER() }

// avx512 holds 8 rows by 32 columns: accumulators Z0..Z15, B in Z16..Z19, A in Z20..Z27; dot uses AVX512_BF16's dot products
// in place of conversions and multiply-adds.
type avx512 struct{ dot bool }

func zmm(i int) reg.Register {
	return []reg.Register{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}[i]
}

func (avx512) rows() int  { return 8 }
func (avx512) bytes() int { return 64 }
func (v avx512) start() {
	if !v.dot {
		MOVL(operand.U32(0xffff0000), reg.EAX)
		VPBROADCASTD(reg.EAX, reg.Z31)
	}
}
func (avx512) acc(row, side int) reg.Register { return zmm(2*row + side) }
func (avx512) load(m, r operand.Op)           { VMOVUPS(m, r) }
func (avx512) zero(r reg.Register)            { VPXORD(r, r, r) }
func (v avx512) b(m operand.Mem, side int) {
	VMOVDQU32(m, zmm(18+side))
	if !v.dot {
		VPANDD(reg.Z31, zmm(18+side), zmm(16+side))
		VPSLLD(operand.Imm(16), zmm(18+side), zmm(18+side))
	}
}
func (v avx512) term(m operand.Mem, row int) {
	a := 20 + 2*(row%4)
	VPBROADCASTD(m, zmm(a))
	if v.dot {
		for side := range 2 {
			vdpbf16ps(2*row+side, a, 18+side)
		}
		return
	}
	VPANDD(reg.Z31, zmm(a), zmm(a+1))
	VPSLLD(operand.Imm(16), zmm(a), zmm(a))
	for side := range 2 {
		VFMADD231PS(zmm(16+side), zmm(a+1), v.acc(row, side))
	}
	for side := range 2 {
		VFMADD231PS(zmm(18+side), zmm(a), v.acc(row, side))
	}
}
func (avx512) end() { VZEROUPPER() }

// vdpbf16ps adds to Z[d] the dot products of the pairs of Z[a] and Z[b]: EVEX.512.F3.0F38.W0 52 /r (Intel SDM, volume 2C).
func vdpbf16ps(d, a, b int) {
	bit := func(n, at int) byte { return byte(^n>>at) & 1 } // inverted, as the prefix has it
	p0 := bit(d, 3)<<7 | bit(b, 4)<<6 | bit(b, 3)<<5 | bit(d, 4)<<4 | 2
	p1 := byte(^a&15)<<3 | 1<<2 | 2
	p2 := byte(2)<<5 | bit(a, 4)<<3
	emit(fmt.Sprintf("VDPBF16PS Z%d, Z%d, Z%d", b, a, d), 0x62, p0, p1, p2, 0x52, 0xc0|byte(d&7)<<3|byte(b&7))
}

// ---- AMX

// number is how instructions name a general register.
func number(r reg.Register) byte {
	for i, g := range []reg.Register{reg.RAX, reg.RCX, reg.RDX, reg.RBX, nil, nil, reg.RSI, reg.RDI, reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13, reg.R14, reg.R15} {
		if g == r {
			return byte(i)
		}
	}
	panic("gen: not a register for an address")
}

// tileMove is a load or store of tile t at base + disp, with index bytes from one row to the next:
// VEX.128.{F2,F3}.0F38.W0 4B !(11):rrr:100 with a 32-bit displacement.
func tileMove(name string, prefix byte, t int, base, index reg.Register, disp int) {
	b, x := number(base), number(index)
	emit(fmt.Sprintf("%s T%d, %d(%s)(%s*1)", name, t, disp, base.Asm(), index.Asm()),
		0xc4, 1<<7|(1-x>>3)<<6|(1-b>>3)<<5|2, 0x78|prefix, 0x4b, 0x84|byte(t)<<3, (x&7)<<3|b&7,
		byte(disp), byte(disp>>8), byte(disp>>16), byte(disp>>24))
}

func tileLoad(t int, base, index reg.Register, disp int) {
	tileMove("TILELOADD", 3, t, base, index, disp)
}
func tileStore(t int, base, index reg.Register, disp int) {
	tileMove("TILESTORED", 2, t, base, index, disp)
}

func tileZero(t int) { emit(fmt.Sprintf("TILEZERO T%d", t), 0xc4, 0xe2, 0x7b, 0x49, 0xc0|byte(t)<<3) }

// tdpbf16ps adds A's rows by B's pairs to tile d: VEX.128.F3.0F38.W0 5C 11:rrr:bbb.
func tdpbf16ps(d, a, b int) {
	emit(fmt.Sprintf("TDPBF16PS T%d, T%d, T%d", d, a, b), 0xc4, 0xe2, byte(^b&15)<<3|2, 0x5c, 0xc0|byte(d)<<3|byte(a))
}

func tileRelease() { emit("TILERELEASE", 0xc4, 0xe2, 0x78, 0x49, 0xc0) }

// configure loads the configuration: eight tiles of 16 rows of 64 bytes.
func configure() {
	LEAQ(operand.NewDataAddr(operand.NewStaticSymbol("bfTileConfig"), 0), reg.RAX)
	emit("LDTILECFG (AX)", 0xc4, 0xe2, 0x78, 0x49, 0x00)
}

// products multiplies 2 tiles of A (4, 5) by 2 of B (6, 7) into the 4 of C (0..3).
func products() {
	tdpbf16ps(0, 4, 6)
	tdpbf16ps(1, 4, 7)
	tdpbf16ps(2, 5, 6)
	tdpbf16ps(3, 5, 7)
}

// amx is kernels.bfTile.run with tiles. The state of the tiles belongs to the thread: it is set up, used and given back within
// one call, during which Go does not move the goroutine. Registers: DI the description, SI A's row block, BX B's panel, DX C,
// R9 C 16 rows on, AX and CX walk A and B, R8 64, R10 C's row step, R11 row blocks left, R12 panels left, R13 chunks left.
func amx() {
	GLOBL("bfTileConfig", 24) // NOPTR|RODATA
	DATA(0, operand.U64(1))
	DATA(8, operand.U64(0))
	for i := range 2 {
		DATA(16+8*i, operand.U64(0x0040004000400040))
	}
	DATA(32, operand.U64(0))
	DATA(40, operand.U64(0))
	DATA(48, operand.U64(0x1010101010101010))
	DATA(56, operand.U64(0))
	TEXT("bfTileAMX", 4, "func(t *byte)")
	Doc("bfTileAMX computes a bfTile with AMX tiles.")
	Load(Param("t"), reg.RDI)
	configure()
	MOVQ(mem(reg.RDI, fieldA), reg.RSI)
	MOVQ(mem(reg.RDI, fieldCRow), reg.R10)
	MOVQ(operand.I32(64), reg.R8)
	XORQ(reg.R11, reg.R11)
	Label("block")
	MOVQ(mem(reg.RDI, fieldB), reg.RBX)
	MOVQ(reg.R11, reg.RDX)
	SHLQ(operand.Imm(5), reg.RDX)
	IMULQ(reg.R10, reg.RDX)
	ADDQ(mem(reg.RDI, fieldC), reg.RDX)
	MOVQ(mem(reg.RDI, fieldN), reg.R12)
	Label("panel")
	MOVQ(reg.R10, reg.R9)
	SHLQ(operand.Imm(4), reg.R9)
	ADDQ(reg.RDX, reg.R9)
	each := func(f func(t int, base, index reg.Register, disp int)) {
		f(0, reg.RDX, reg.R10, 0)
		f(1, reg.RDX, reg.R10, 64)
		f(2, reg.R9, reg.R10, 0)
		f(3, reg.R9, reg.R10, 64)
	}
	CMPQ(mem(reg.RDI, fieldAdd), operand.Imm(0))
	JEQ(operand.LabelRef("zero"))
	each(tileLoad)
	JMP(operand.LabelRef("sum"))
	Label("zero")
	for t := range 4 {
		tileZero(t)
	}
	Label("sum")
	MOVQ(reg.RSI, reg.RAX)
	MOVQ(reg.RBX, reg.RCX)
	MOVQ(mem(reg.RDI, fieldChunks), reg.R13)
	CMPQ(mem(reg.RDI, fieldSplit), operand.Imm(0))
	JNE(operand.LabelRef("split"))
	a := func(p int) {
		tileLoad(4, reg.RAX, reg.R8, p*plane)
		tileLoad(5, reg.RAX, reg.R8, p*plane+half)
	}
	b := func(p int) {
		tileLoad(6, reg.RCX, reg.R8, p*plane)
		tileLoad(7, reg.RCX, reg.R8, p*plane+half)
	}
	for _, way := range []struct {
		label  string
		passes []pass
		planes int
	}{{"plain", plain, 1}, {"split", split, 2}} {
		Label(way.label)
		inA, inB := -1, -1
		for _, p := range way.passes {
			if p.a != inA {
				a(p.a)
			}
			if p.b != inB {
				b(p.b)
			}
			inA, inB = p.a, p.b
			products()
		}
		ADDQ(operand.I32(int32(way.planes*plane)), reg.RAX)
		ADDQ(operand.I32(int32(way.planes*plane)), reg.RCX)
		DECQ(reg.R13)
		JNZ(operand.LabelRef(way.label))
		if way.label == "plain" {
			JMP(operand.LabelRef("store"))
		}
	}
	Label("store")
	each(tileStore)
	ADDQ(mem(reg.RDI, fieldBStep), reg.RBX)
	ADDQ(operand.I32(128), reg.RDX)
	DECQ(reg.R12)
	JNZ(operand.LabelRef("panel"))
	ADDQ(mem(reg.RDI, fieldAStep), reg.RSI)
	INCQ(reg.R11)
	CMPQ(reg.R11, mem(reg.RDI, fieldM))
	JLT(operand.LabelRef("block"))
	tileRelease()
	RET()
}

// amxPeak multiplies tiles of zeros: 4 products of 16x16x32 multiply-adds a round, 65,536 floating-point operations.
func amxPeak() {
	TEXT("bfPeakAMX", 4, "func(rounds int)")
	Doc("bfPeakAMX does 65,536 floating-point operations a round in AMX tiles.")
	Load(Param("rounds"), reg.RCX)
	configure()
	for t := range 8 {
		tileZero(t)
	}
	Label("round")
	products()
	DECQ(reg.RCX)
	JNZ(operand.LabelRef("round"))
	tileRelease()
	RET()
}

// xgetbv reads the register states that the system has switched on.
func xgetbv() {
	TEXT("bfXGETBV", 4, "func() uint64")
	Doc("bfXGETBV returns XCR0, the register states that the system saves. The processor must have OSXSAVE.")
	XORL(reg.ECX, reg.ECX)
	XGETBV()
	SHLQ(operand.Imm(32), reg.RDX)
	ORQ(reg.RDX, reg.RAX)
	Store(reg.RAX, ReturnIndex(0))
	RET()
}
