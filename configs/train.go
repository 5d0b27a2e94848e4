package configs

import (
	"math"
)

// Train is one training run, checked and with its defaults filled in.
type Train struct {
	File    string
	Name    string // the folder of its results under runs/
	Network string // "unet" or "critter-net"
	// UNet is the path of the U-Net's diffusers config.json, relative to where
	// the program is run; unused for critter-net.
	UNet string
	// Init is a model folder in diffusers' layout whose weights training starts
	// from; empty: from fresh ones.
	Init string

	Size int // picture side, px
	// Prediction is what the U-Net learns to predict, in diffusers' words.
	Prediction string
	Dropout    float64 // share of prompts replaced by the empty one
	SNRCap     float64 // loss weight min(SNR, cap)/SNR; 0: none
	Noise      float64 // critter-net: largest deviation of the noise on its pictures

	Steps, Batch, Shards, Warmup         int
	LearningRate, FinalRate, WeightDecay float64
	Beta1, Beta2, Clip, EMA              float64
	Seed                                 uint64

	SaveEvery, LogEvery, PictureEvery int
}

// Networks are the values of a training file's network key.
var Networks = []string{"unet", "critter-net"}

// LoadTrain reads a training file and applies -set arguments, as Load does for
// an experiment.
func LoadTrain(path string, sets []string) (*Train, error) { return load(path, sets, DecodeTrain) }

// DecodeTrain is LoadTrain for a source in memory.
func DecodeTrain(src, file string, sets []string) (*Train, error) {
	c := &Train{File: file}
	if _, err := decode(src, file, sets, c.read); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Train) read(t *table) {
	c.Name = t.name("name")
	c.Network = t.choice("network", "", Networks)
	c.UNet = t.text("unet", "model/builtin/unet/config.json")
	c.Init = t.text("init", "")

	d := section(t, "data")
	c.Size = d.integer("size", 64, 16, 1024, "the side in px of the pictures trained on")
	if c.Size%sizeStep != 0 {
		d.fail("size", "latents are halved level by level", "is %d, want a multiple of %d", c.Size, sizeStep)
	}
	c.Prediction = d.choice("prediction", "v_prediction", []string{"v_prediction", "epsilon", "sample"})
	c.Dropout = d.number("dropout", 0.12, 0, 1, "the share of prompts replaced by the empty one")
	c.SNRCap = d.number("snr_gamma", 0, 0, math.MaxFloat64, "the loss weight's cap on the signal-to-noise ratio; 0: no weighting")
	c.Noise = d.number("noise", 0.15, 0, 1, "critter-net: the largest deviation of the noise on its pictures")
	c.Seed = uint64(d.integer("seed", 1, 0, math.MaxInt64, "the seed of weights, scenes and noise"))
	d.done()

	o := section(t, "optimizer")
	c.Steps = o.needInteger("steps", 1, 1, math.MaxInt32, "the number of optimiser steps")
	c.Batch = o.integer("batch", 32, 1, 4096, "pictures a step")
	c.Shards = o.integer("shards", 2, 1, 64, "parts of the batch that run side by side")
	if c.Batch%c.Shards != 0 {
		o.fail("batch", "every shard takes as many pictures", "is %d, want a multiple of shards (%d)", c.Batch, c.Shards)
	}
	c.LearningRate = o.number("learning_rate", 1.2e-3, 1e-9, 1, "the peak learning rate")
	c.FinalRate = o.number("final_rate", 0.02, 0, 1, "the share of learning_rate that the cosine ends at")
	c.Warmup = o.integer("warmup", 100, 0, math.MaxInt32, "steps of linear warm-up")
	c.WeightDecay = o.number("weight_decay", 0.01, 0, 1, "AdamW's decoupled decay")
	c.Beta1 = o.number("beta1", 0.9, 0, 0.9999, "AdamW's first decay")
	c.Beta2 = o.number("beta2", 0.99, 0, 0.99999, "AdamW's second decay")
	c.Clip = o.number("clip", 1, 0, math.MaxFloat64, "the largest norm of the gradient; 0: no clipping")
	c.EMA = o.number("ema", 0.999, 0, 0.999999, "decay of the averaged weights")
	o.done()

	l := section(t, "log")
	c.SaveEvery = l.integer("save_every", 250, 1, math.MaxInt32, "steps between checkpoints")
	c.LogEvery = l.integer("log_every", 25, 1, math.MaxInt32, "steps between lines of the log")
	c.PictureEvery = l.integer("picture_every", 500, 1, math.MaxInt32, "steps between sample sheets and loss plots")
	l.done()
	t.done()
}
