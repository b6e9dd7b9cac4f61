import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention, groupedQkv } from "../parts/attention.js";
import { feedForwardPlaces, plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";
import { readPartialRope } from "../parts/rope.js";

/** GPT-NeoX (Black et al. 2022, arXiv:2204.06745) and Pythia, as transformers/models/gpt_neox computes them. */
export const gptNeox: ModelDescriptor = {
  modelType: "gpt_neox",
  summary: "GPT-NeoX: both parts of a layer at once or one after the other, the first elements of heads turn, biases",
  classes: ["GPTNeoXForCausalLM"],
  bodyClasses: ["GPTNeoXModel"],
  aliases: {},
  // transformers 4 wrote rope_theta and partial_rotary_factor beside the two that count.
  ignoredKeys:
    "attention_dropout classifier_dropout hidden_dropout initializer_range partial_rotary_factor rope_theta".split(" "),
  fixedKeys: {},
  bodyPrefixes: ["gpt_neox.", ""],
  ignoredTensors: [/(^|\.)attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/, /(^|\.)rotary_emb\.inv_freq$/],

  describe(config) {
    const layers = config.integer("num_hidden_layers", { maximum: limits.layers, unset: 44 });
    const hidden = config.integer("hidden_size", { maximum: limits.width, unset: 6144 });
    const heads = config.integer("num_attention_heads", { maximum: limits.heads, unset: 64 });
    const headDim = evenHeads(config, "hidden_size", hidden, heads);
    const sizes = { hidden, heads, kvHeads: heads, headDim };
    const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 50_432 });
    const ffn = config.integer("intermediate_size", { maximum: limits.ffn, unset: 24_576 });
    const trained = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 2048 });
    const rope = readPartialRope(
      config,
      { headDim, positions: trained },
      { share: 0.25, baseKey: "rotary_emb_base", shareKey: "rotary_pct" },
    );
    const bias = config.flag("attention_bias", true);
    const layerNorm = readNorm(config, "layer", "layer_norm_eps", 1e-5);
    const feedForward = plainFeedForward(ffn, config.choice("hidden_act", activations, "gelu"));
    const residual = config.flag("use_parallel_residual", true) ? "parallel" : "sequential";
    const kind = { attention: attention(sizes, rope.turned), feedForward, norms: ahead(layerNorm), residual } as const;
    const output = { kind: "logits", tied: config.flag("tie_word_embeddings", false), norm: layerNorm } as const;
    return {
      spec: {
        ...{ family: "gpt_neox", vocabSize, hiddenSize: hidden, maxPositions: rope.maxPositions },
        ...{ embedding: { width: hidden }, kinds: [kind], layers: Array<number>(layers).fill(0) },
        ...{ rotaryTables: [rope.rotary], output },
      },
      body: [
        stored("embed.tokens.weight", "embed_in.weight", [vocabSize, hidden]),
        ...everyLayer(layers, "layers", [
          ...norm("attn.norm", "input_layernorm", hidden, true),
          ...groupedQkv(sizes, "attention.query_key_value", bias),
          ...linear("attn.o", "attention.dense", hidden, hidden, bias),
          ...norm("mlp.norm", "post_attention_layernorm", hidden, true),
          ...feedForwardPlaces(feedForward, hidden, { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" }, true),
        ]),
        ...norm("norm", "final_layer_norm", hidden, true),
      ],
      head: linear("head", "embed_out", vocabSize, hidden, false),
    };
  },
};
