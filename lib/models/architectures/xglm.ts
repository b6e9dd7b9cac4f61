import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention } from "../parts/attention.js";
import { fairseqLayer, readEmbeddingScale } from "../parts/fairseq.js";
import { plainFeedForward } from "../parts/feed_forward.js";
import { ahead } from "../parts/norms.js";

/** XGLM (Lin et al. 2021, arXiv:2112.10668), as transformers/models/xglm computes it. */
export const xglm: ModelDescriptor = {
  modelType: "xglm",
  summary: "XGLM: positions by sines and cosines, token embeddings times the root of their width",
  classes: ["XGLMForCausalLM"],
  bodyClasses: ["XGLMModel"],
  aliases: { hidden_size: "d_model", num_attention_heads: "attention_heads", num_hidden_layers: "num_layers" },
  ignoredKeys: "activation_dropout attention_dropout dropout init_std layerdrop".split(" "),
  fixedKeys: {},
  bodyPrefixes: ["model.", ""],
  ignoredTensors: [/(^|\.)embed_positions\.weights$/],

  describe(config) {
    const layers = config.integer("num_layers", { maximum: limits.layers, unset: 24 });
    const hidden = config.integer("d_model", { maximum: limits.width, unset: 1024 });
    const heads = config.integer("attention_heads", { maximum: limits.heads, unset: 16 });
    const sizes = { hidden, heads, kvHeads: heads, headDim: evenHeads(config, "d_model", hidden, heads) };
    if (hidden < 4 || hidden % 2 !== 0) throw config.wrong("d_model", "an even width of at least 4, for its positions");
    const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 256_008 });
    const maxPositions = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 2048 });
    const ffn = config.integer("ffn_dim", { maximum: limits.ffn, unset: 4096 });
    // The reference blanks this row of its positions; rows 0 and 1 are of no token.
    if (![undefined, null, 0, 1].includes(config.raw("pad_token_id") as null))
      throw config.wrong("pad_token_id", "0, 1 or null: at another one a position would have no sines");
    const layerNorm = { kind: "layer", epsilon: 1e-5 } as const;
    const feedForward = plainFeedForward(ffn, config.choice("activation_function", activations, "gelu"));
    const embedding = {
      width: hidden,
      ...readEmbeddingScale(config, hidden),
      positions: { kind: "sinusoidal", offset: 2 },
    } as const;
    const kind = { feedForward, norms: ahead(layerNorm), residual: "sequential" } as const;
    const kinds = [{ attention: attention(sizes, { kind: "none" }), ...kind }];
    const output = { kind: "logits", tied: config.flag("tie_word_embeddings", true), norm: layerNorm } as const;
    return {
      spec: {
        ...{ family: "xglm", vocabSize, hiddenSize: hidden, maxPositions, embedding, kinds, rotaryTables: [], output },
        layers: Array<number>(layers).fill(0),
      },
      body: [
        stored("embed.tokens.weight", "embed_tokens.weight", [vocabSize, hidden]),
        ...everyLayer(layers, "layers", fairseqLayer(sizes, feedForward)),
        ...norm("norm", "layer_norm", hidden, true),
      ],
      head: linear("head", "lm_head", vocabSize, hidden, false),
    };
  },
};
