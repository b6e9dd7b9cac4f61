import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention, groupedQkv, readHeadNorms } from "../parts/attention.js";
import { feedForwardPlaces, plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";
import { readPartialRope } from "../parts/rope.js";

/** Persimmon (Adept 2023), as transformers/models/persimmon computes it. */
export const persimmon: ModelDescriptor = {
  modelType: "persimmon",
  summary: "Persimmon: norms of queries and keys, the first elements of heads turn, squared ReLU, biases",
  classes: ["PersimmonForCausalLM"],
  bodyClasses: ["PersimmonModel"],
  aliases: {},
  ignoredKeys: "attention_dropout hidden_dropout initializer_range".split(" "),
  fixedKeys: {},
  bodyPrefixes: ["model.", ""],
  ignoredTensors: [/(^|\.)rotary_emb\.inv_freq$/],

  describe(config) {
    const layers = config.integer("num_hidden_layers", { maximum: limits.layers, unset: 36 });
    const hidden = config.integer("hidden_size", { maximum: limits.width, unset: 4096 });
    const heads = config.integer("num_attention_heads", { maximum: limits.heads, unset: 64 });
    const headDim = evenHeads(config, "hidden_size", hidden, heads);
    const sizes = { hidden, heads, kvHeads: heads, headDim };
    const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 262_144 });
    const ffn = config.integer("intermediate_size", { maximum: limits.ffn, unset: 16_384 });
    const trained = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 16_384 });
    const rope = readPartialRope(config, { headDim, positions: trained }, { share: 0.5 });
    const layerNorm = readNorm(config, "layer", "layer_norm_eps", 1e-5);
    const feedForward = plainFeedForward(ffn, config.choice("hidden_act", activations, "relu2"));
    const headNorms = readHeadNorms(config, layerNorm, sizes, true);
    const kind = { feedForward, norms: ahead(layerNorm), residual: "sequential" } as const;
    const output = { kind: "logits", tied: config.flag("tie_word_embeddings", false), norm: layerNorm } as const;
    return {
      spec: {
        ...{ family: "persimmon", vocabSize, hiddenSize: hidden, maxPositions: rope.maxPositions },
        kinds: [{ attention: { ...attention(sizes, rope.turned), ...headNorms.attention }, ...kind }],
        ...{ embedding: { width: hidden }, layers: Array<number>(layers).fill(0), rotaryTables: [rope.rotary], output },
      },
      body: [
        stored("embed.tokens.weight", "embed_tokens.weight", [vocabSize, hidden]),
        ...everyLayer(layers, "layers", [
          ...norm("attn.norm", "input_layernorm", hidden, true),
          ...groupedQkv(sizes, "self_attn.query_key_value", true),
          ...headNorms.layerPlaces,
          ...linear("attn.o", "self_attn.dense", hidden, hidden, true),
          ...norm("mlp.norm", "post_attention_layernorm", hidden, true),
          ...feedForwardPlaces(feedForward, hidden, { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" }, true),
        ]),
        ...norm("norm", "final_layernorm", hidden, true),
      ],
      head: linear("head", "lm_head", vocabSize, hidden, false),
    };
  },
};
