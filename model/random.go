package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strings"

	"scalecrafter/model/params"
	"scalecrafter/model/weights"
)

// RandomKey is where a file of RandomWeights has its RandomID in the metadata.
const RandomKey = "random weights"

// randomRule is to be raised when RandomWeights gives other numbers for a seed.
const randomRule = 1

// RandomID tells files of RandomWeights apart: a digest, in hexadecimal, of the
// seed and of all parameters' names and shapes.
func (c *UNetConfig) RandomID(seed uint64) (string, error) {
	list, err := c.Parameters()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "rule %d, seed %d\n", randomRule, seed)
	for _, t := range list {
		fmt.Fprintf(h, "%q %v\n", t.Name, t.Shape)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// RandomWeights writes weights for the config to a safetensors file: uniform in
// +-1/sqrt(fan in), as PyTorch starts linear and convolution layers, and ones
// and zeros for norms. Equal seeds give equal files. For measurements; such a
// network draws nothing. The file's metadata hold its RandomID. Once the context
// is done nothing is left of the file, and the context's error is returned.
func (c *UNetConfig) RandomWeights(ctx context.Context, path string, seed uint64) error {
	list, err := c.Parameters()
	if err != nil {
		return err
	}
	id, err := c.RandomID(seed)
	if err != nil {
		return err
	}
	fanIn := map[string]int{} // by layer
	for _, t := range list {
		if layer, kind := cutLast(t.Name); kind == "weight" && len(t.Shape) > 1 {
			fanIn[layer] = params.Elements(t.Shape[1:])
		}
	}
	return weights.Stream(path, list, map[string]string{RandomKey: id}, func(name string, dst []float32) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		layer, kind := cutLast(name)
		fan := fanIn[layer]
		if fan == 0 { // a norm
			v := float32(0)
			if kind == "weight" {
				v = 1
			}
			for i := range dst {
				dst[i] = v
			}
			return nil
		}
		state := seed
		for _, b := range []byte(name) {
			state = (state ^ uint64(b)) * 1099511628211
		}
		step := float32(1 / (math.Sqrt(float64(fan)) * (1 << 23)))
		for i := range dst {
			// SplitMix64. Source: Steele, Lea, Flood, Fast splittable
			// pseudorandom number generators, 2014.
			state += 0x9e3779b97f4a7c15
			z := state
			z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
			z = (z ^ z>>27) * 0x94d049bb133111eb
			z ^= z >> 31
			dst[i] = step * float32(int32(z>>40)-1<<23)
		}
		return nil
	})
}

// cutLast splits a parameter's name at its last dot.
func cutLast(name string) (layer, kind string) {
	i := strings.LastIndex(name, ".")
	return name[:max(i, 0)], name[i+1:]
}
