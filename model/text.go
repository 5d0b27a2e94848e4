package model

import (
	"fmt"
	"strings"

	"gorgonia.org/gorgonia"

	"scalecrafter/model/critters"
	"scalecrafter/model/ops"
	"scalecrafter/model/params"
)

// The built-in model's text encoder: token plus position embedding, then a
// layer norm, under the names of Hugging Face's CLIP text model. Every token
// stays a token, so cross-attention has words to attend to.
const (
	tokenEmbedding    = "text_model.embeddings.token_embedding.weight"
	positionEmbedding = "text_model.embeddings.position_embedding.weight"
	finalNorm         = "text_model.final_layer_norm"
)

// TextEncoder adds the encoder to the graph: ids and positions [N,T], whole
// numbers held as float32, to text states [N,T,dim].
func TextEncoder(w params.Source, ids, positions *gorgonia.Node, dim int) (out *gorgonia.Node, err error) {
	g := ids.Graph()
	err = params.Catch(func() error {
		return ops.Build(func() {
			tok := ops.Embedding(w.Leaf(g, tokenEmbedding, len(critters.Vocabulary), dim), ids)
			pos := ops.Embedding(w.Leaf(g, positionEmbedding, critters.Tokens, dim), positions)
			out = ops.LayerNorm(ops.Add(tok, pos), w.Leaf(g, finalNorm+".weight", dim), w.Leaf(g, finalNorm+".bias", dim), 1e-5)
		})
	})
	if err != nil {
		err = fmt.Errorf("text encoder: %w", err)
	}
	return out, err
}

// TokenIDs writes a prompt's token ids into dst [critters.Tokens].
func TokenIDs(dst []float32, prompt string) error {
	ids, err := critters.Tokenize(prompt)
	if err != nil {
		return err
	}
	for i, id := range ids {
		dst[i] = float32(id)
	}
	return nil
}

// Positions writes 0..T-1 for each row of dst [N,T].
func Positions(dst []float32) {
	for i := range dst {
		dst[i] = float32(i % critters.Tokens)
	}
}

// IsTextWeight reports whether a weight belongs to the text encoder rather than
// the U-Net.
func IsTextWeight(name string) bool { return strings.HasPrefix(name, "text_model.") }
