import type { LayerSpec } from "../../native/spec.js";
import { conv1d, evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention } from "../parts/attention.js";
import { plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";

/** GPT-2 (Radford et al. 2019), as transformers/models/gpt2 computes it. */
export const gpt2: ModelDescriptor = {
  modelType: "gpt2",
  summary: "GPT-2: learned positions, fused c_attn in [in, out] order, layer-wise attention scales, tied or not",
  classes: ["GPT2LMHeadModel"],
  bodyClasses: ["GPT2Model"],
  aliases: {
    hidden_size: "n_embd",
    max_position_embeddings: "n_positions",
    num_attention_heads: "n_head",
    num_hidden_layers: "n_layer",
  },
  // reorder_and_upcast_attn: in fp32, where attention is computed here, the order of scaling and the upcast change nothing.
  ignoredKeys: (
    "attn_pdrop embd_pdrop gradient_checkpointing initializer_range n_ctx reorder_and_upcast_attn resid_pdrop " +
    "summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj"
  ).split(" "),
  fixedKeys: {},
  bodyPrefixes: ["transformer.", ""],
  ignoredTensors: [/(^|\.)h\.\d+\.attn\.(bias|masked_bias)$/],

  describe(config) {
    const layers = config.integer("n_layer", { maximum: limits.layers });
    const hidden = config.integer("n_embd", { maximum: limits.width });
    const heads = config.integer("n_head", { maximum: limits.heads });
    const headDim = evenHeads(config, "n_embd", hidden, heads);
    const vocabulary = config.integer("vocab_size", { maximum: limits.vocabulary });
    const positions = config.integer("n_positions", { maximum: limits.positions, unset: 1024 });
    const ffn = config.integer("n_inner", { maximum: limits.ffn, nullable: true, unset: 4 * hidden });
    const scale = config.flag("scale_attn_weights", true) ? headDim ** -0.5 : 1;
    const byLayer = config.flag("scale_attn_by_inverse_layer_idx", false);
    const layerNorm = readNorm(config, "layer", "layer_norm_epsilon", 1e-5);
    const feedForward = plainFeedForward(ffn, config.choice("activation_function", activations, "gelu_new"));
    const kindOf = (layer: number): LayerSpec => ({
      attention: attention({ heads, kvHeads: heads, headDim }, { kind: "none" }, { scale: scale / (layer + 1) }),
      feedForward,
      norms: ahead(layerNorm),
      residual: "sequential",
    });
    const numbers = Array.from({ length: layers }, (_, layer) => layer);

    return {
      spec: {
        family: "gpt2",
        vocabSize: vocabulary,
        hiddenSize: hidden,
        maxPositions: positions,
        embedding: { width: hidden, positions: { kind: "learned", offset: 0 } },
        kinds: byLayer ? numbers.map(kindOf) : [kindOf(0)],
        layers: byLayer ? numbers : numbers.map(() => 0),
        rotaryTables: [],
        output: { kind: "logits", tied: config.flag("tie_word_embeddings", true), norm: layerNorm },
      },
      body: [
        stored("embed.tokens.weight", "wte.weight", [vocabulary, hidden]),
        stored("embed.positions.weight", "wpe.weight", [positions, hidden]),
        ...everyLayer(layers, "h", [
          ...norm("attn.norm", "ln_1", hidden, true),
          ...conv1d("attn.q", "attn.c_attn", hidden, hidden, 0, 3 * hidden),
          ...conv1d("attn.k", "attn.c_attn", hidden, hidden, hidden, 3 * hidden),
          ...conv1d("attn.v", "attn.c_attn", hidden, hidden, 2 * hidden, 3 * hidden),
          ...conv1d("attn.o", "attn.c_proj", hidden, hidden),
          ...norm("mlp.norm", "ln_2", hidden, true),
          ...conv1d("mlp.up", "mlp.c_fc", ffn, hidden),
          ...conv1d("mlp.down", "mlp.c_proj", hidden, ffn),
        ]),
        ...norm("norm", "ln_f", hidden, true),
      ],
      head: linear("head", "lm_head", vocabulary, hidden, false),
    };
  },
};
