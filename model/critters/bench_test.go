package critters

import (
	"fmt"
	"testing"
)

func BenchmarkRenderFloat64(b *testing.B) {
	dst := make([]float32, 3*64*64)
	b.ReportAllocs()
	scenes := make([]Scene, 64)
	for i := range scenes {
		scenes[i] = NewScene(1, uint64(i))
	}
	for i := 0; b.Loop(); i++ {
		scenes[i%64].RenderFloat(dst, 64, 64)
	}
}

func BenchmarkNewScene(b *testing.B) {
	for i := 0; b.Loop(); i++ {
		NewScene(1, uint64(i))
	}
}

func BenchmarkDetect(b *testing.B) {
	for _, side := range []int{64, 128, 512} {
		img := NewScene(1, 1).Render(side, side)
		b.Run(fmt.Sprint(side), func(b *testing.B) {
			for b.Loop() {
				Detect(img)
			}
		})
	}
}
