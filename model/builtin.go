package model

import (
	"embed"
	"io/fs"
)

// The weights that `go run . train` made; docs/training.md says how.
//
//go:embed builtin
var builtin embed.FS

// LoadBuiltin loads the model that is trained in this repository.
func LoadBuiltin() (*Pipeline, error) {
	dir, err := fs.Sub(builtin, "builtin")
	if err != nil {
		return nil, err
	}
	return load(dir, "builtin")
}

// CritterNetWeights is the built-in feature network's safetensors file.
func CritterNetWeights() ([]byte, error) { return builtin.ReadFile("builtin/critter_net.safetensors") }
