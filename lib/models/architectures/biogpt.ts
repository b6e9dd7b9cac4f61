import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention } from "../parts/attention.js";
import { fairseqLayer, readEmbeddingScale } from "../parts/fairseq.js";
import { plainFeedForward } from "../parts/feed_forward.js";
import { ahead } from "../parts/norms.js";

/** BioGPT (Luo et al. 2022, arXiv:2210.10341), as transformers/models/biogpt computes it. */
export const biogpt: ModelDescriptor = {
  modelType: "biogpt",
  summary: "BioGPT: learned positions behind two rows, token embeddings times the root of their width",
  classes: ["BioGptForCausalLM"],
  bodyClasses: ["BioGptModel"],
  aliases: {},
  // Norms have PyTorch's epsilon whatever layer_norm_eps says.
  ignoredKeys:
    "activation_dropout attention_probs_dropout_prob hidden_dropout_prob initializer_range layer_norm_eps layerdrop".split(
      " ",
    ),
  fixedKeys: {},
  bodyPrefixes: ["biogpt.", ""],
  ignoredTensors: [],

  describe(config) {
    const layers = config.integer("num_hidden_layers", { maximum: limits.layers, unset: 24 });
    const hidden = config.integer("hidden_size", { maximum: limits.width, unset: 1024 });
    const heads = config.integer("num_attention_heads", { maximum: limits.heads, unset: 16 });
    const sizes = { hidden, heads, kvHeads: heads, headDim: evenHeads(config, "hidden_size", hidden, heads) };
    const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 42_384 });
    const maxPositions = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 1024 });
    const ffn = config.integer("intermediate_size", { maximum: limits.ffn, unset: 4096 });
    const layerNorm = { kind: "layer", epsilon: 1e-5 } as const;
    const feedForward = plainFeedForward(ffn, config.choice("hidden_act", activations, "gelu"));
    const embedding = {
      width: hidden,
      ...readEmbeddingScale(config, hidden),
      positions: { kind: "learned", offset: 2 },
    } as const;
    const kind = { feedForward, norms: ahead(layerNorm), residual: "sequential" } as const;
    const kinds = [{ attention: attention(sizes, { kind: "none" }), ...kind }];
    const output = { kind: "logits", tied: config.flag("tie_word_embeddings", true), norm: layerNorm } as const;
    return {
      spec: {
        ...{
          family: "biogpt",
          vocabSize,
          hiddenSize: hidden,
          maxPositions,
          embedding,
          kinds,
          rotaryTables: [],
          output,
        },
        layers: Array<number>(layers).fill(0),
      },
      body: [
        stored("embed.tokens.weight", "embed_tokens.weight", [vocabSize, hidden]),
        stored("embed.positions.weight", "embed_positions.weight", [maxPositions + 2, hidden]),
        ...everyLayer(layers, "layers", fairseqLayer(sizes, feedForward)),
        ...norm("norm", "layer_norm", hidden, true),
      ],
      head: linear("head", "output_projection", vocabSize, hidden, false),
    };
  },
};
