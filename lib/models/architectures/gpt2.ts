import { conv1d, evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";

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
  ignoredKeys: [
    "attn_pdrop",
    "embd_pdrop",
    "gradient_checkpointing",
    "initializer_range",
    "n_ctx",
    // In fp32, where attention is computed here, the order of scaling and the upcast change nothing.
    "reorder_and_upcast_attn",
    "resid_pdrop",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
  ],
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

    return {
      spec: {
        family: "gpt2",
        layers,
        vocabSize: vocabulary,
        hiddenSize: hidden,
        embeddingSize: hidden,
        heads,
        kvHeads: heads,
        headDim,
        ffnSize: ffn,
        maxPositions: positions,
        gatedFfn: false,
        activation: config.choice("activation_function", activations, "gelu_new"),
        norm: "layer",
        normPlacement: "pre",
        normEpsilon: config.number("layer_norm_epsilon", { minimum: 0, maximum: 1, unset: 1e-5 }),
        finalNorm: true,
        positions: "learned",
        positionOffset: 0,
        attentionScales: Array.from({ length: layers }, (_, layer) => (byLayer ? scale / (layer + 1) : scale)),
        tiedHead: config.flag("tie_word_embeddings", true),
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
