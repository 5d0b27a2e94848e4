package metrics

import (
	"fmt"
	"testing"
)

func BenchmarkResizeClean(b *testing.B) {
	for _, size := range [][4]int{{128, 128, 64, 64}, {512, 512, 64, 64}, {512, 512, 299, 299}} {
		b.Run(fmt.Sprintf("%dx%d to %dx%d", size[0], size[1], size[2], size[3]), func(b *testing.B) {
			img := noisePicture(1, size[0], size[1])
			b.ReportAllocs()
			for b.Loop() {
				must[[]float32](b)(ResizeClean(img, size[2], size[3]))
			}
		})
	}
}

func BenchmarkSelfSimilarity(b *testing.B) {
	img := noisePicture(1, 128, 128)
	for b.Loop() {
		must[float64](b)(SelfSimilarity(img))
	}
}

// One operation is the point estimate and 200 draws, reference of 2048 rows.
func BenchmarkBootstrap(b *testing.B) {
	s := newStream(1, 0, 0)
	w := world{d: 64}
	reference := w.features(b, s, 2048, nil)
	fid := must[*FIDReference](b)(NewFIDReference(must[*Stats](b)(NewStats(reference))))
	kid := must[*KIDReference](b)(NewKIDReference(reference))
	for _, n := range []int{96, 512} {
		f := w.features(b, s, n, nil)
		plan := must[*Resamples](b)(NewResamples(1, n, 200))
		b.Run(fmt.Sprintf("FID N=%d", n), func(b *testing.B) {
			for b.Loop() {
				must[*Estimate](b)(fid.Bootstrap(f, plan))
			}
		})
		b.Run(fmt.Sprintf("KID N=%d", n), func(b *testing.B) {
			for b.Loop() {
				must[*Estimate](b)(kid.Bootstrap(f, plan))
			}
		})
	}
}
