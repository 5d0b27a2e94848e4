package weights

import (
	"os"
	"path/filepath"
	"testing"
)

// Every reference file was written by the format's own library; all of them
// open and all their tensors read, finite.
func TestGoldenFilesRead(t *testing.T) {
	dir := os.Getenv("GOLDENS")
	if dir == "" {
		dir = filepath.Join("..", "..", "testdata", "goldens")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no .safetensors in %s (%v); set GOLDENS to the folder of reference vectors", dir, err)
	}
	for _, path := range paths {
		f, err := Open(path)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, name := range f.Names() {
			shape, _ := f.Shape(name)
			if toFloat32(f.DType(name)) != nil {
				_, err = f.Expect(name, shape...)
			} else {
				_, _, err = f.Int64(name)
			}
			if err != nil {
				t.Error(err)
			}
		}
		f.Close()
	}
}
