import type { ConfigReader } from "../config.js";
import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored, type WeightPlace } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { type AttentionSizes, attention, separateQkv } from "../parts/attention.js";
import { feedForwardPlaces, plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";
import { plainRotary } from "../parts/rope.js";

/** GPT-J (Wang and Komatsuzaki 2021), as transformers/models/gptj computes it. */
export const gptj: ModelDescriptor = {
  modelType: "gptj",
  summary: "GPT-J: one norm for both parts of a layer, the first elements of heads turn in pairs, biases on the head",
  classes: ["GPTJForCausalLM"],
  bodyClasses: ["GPTJModel"],
  aliases: {
    hidden_size: "n_embd",
    max_position_embeddings: "n_positions",
    num_attention_heads: "n_head",
    num_hidden_layers: "n_layer",
  },
  // Scores are scaled whatever scale_attn_weights says.
  ignoredKeys: (
    "attn_pdrop embd_pdrop initializer_range n_ctx resid_pdrop rotary scale_attn_weights summary_activation summary_first_dropout " +
    "summary_proj_to_labels summary_type summary_use_proj"
  ).split(" "),
  fixedKeys: {},
  bodyPrefixes: ["transformer.", ""],
  ignoredTensors: [/(^|\.)attn\.(bias|masked_bias|embed_positions)$/],
  describe: (config) =>
    describeGptj("gptj", config, (sizes) =>
      separateQkv(sizes, ["attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj"], false),
    ),
};

/** What GPT-J and CodeGen have in common: all but the places of queries, keys and values. */
export function describeGptj(
  family: string,
  config: ConfigReader,
  attentionPlaces: (sizes: AttentionSizes) => WeightPlace[],
) {
  const layers = config.integer("n_layer", { maximum: limits.layers, unset: 28 });
  const hidden = config.integer("n_embd", { maximum: limits.width, unset: 4096 });
  const heads = config.integer("n_head", { maximum: limits.heads, unset: 16 });
  const headDim = evenHeads(config, "n_embd", hidden, heads);
  const sizes = { hidden, heads, kvHeads: heads, headDim };
  const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 50_400 });
  const maxPositions = config.integer("n_positions", { maximum: limits.positions, unset: 2048 });
  const dims = config.integer("rotary_dim", { maximum: limits.headDim, unset: 64 });
  if (dims > headDim || dims % 2 !== 0)
    throw config.wrong("rotary_dim", `an even number of a head's ${headDim} elements`);
  const ffn = config.integer("n_inner", { maximum: limits.ffn, nullable: true, unset: 4 * hidden });
  const layerNorm = readNorm(config, "layer", "layer_norm_epsilon", 1e-5);
  const feedForward = plainFeedForward(ffn, config.choice("activation_function", activations, "gelu_new"));
  const positions = { kind: "rotary", dims, layout: "interleaved", table: 0 } as const;
  const kind = { feedForward, norms: ahead(layerNorm), residual: "shared-norm parallel" } as const;
  const output = { kind: "logits", tied: config.flag("tie_word_embeddings", false), norm: layerNorm } as const;
  return {
    spec: {
      ...{ family, vocabSize, hiddenSize: hidden, maxPositions, embedding: { width: hidden } },
      ...{ kinds: [{ attention: attention(sizes, positions), ...kind }], layers: Array<number>(layers).fill(0) },
      ...{ rotaryTables: [plainRotary(dims)], output },
    },
    body: [
      stored("embed.tokens.weight", "wte.weight", [vocabSize, hidden]),
      ...everyLayer(layers, "h", [
        ...norm("attn.norm", "ln_1", hidden, true),
        ...attentionPlaces(sizes),
        ...feedForwardPlaces(feedForward, hidden, { up: "mlp.fc_in", down: "mlp.fc_out" }, true),
      ]),
      ...norm("norm", "ln_f", hidden, true),
    ],
    head: linear("head", "lm_head", vocabSize, hidden, true),
  };
}
