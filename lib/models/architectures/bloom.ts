import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { alibiSlopes } from "../parts/alibi.js";
import { attention, groupedQkv } from "../parts/attention.js";
import { feedForwardPlaces, plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";

/** BLOOM (BigScience 2022, arXiv:2211.05100), as transformers/models/bloom computes it. */
export const bloom: ModelDescriptor = {
  modelType: "bloom",
  summary: "BLOOM: ALiBi, a norm behind the embedding, queries, keys and values by turns in one matrix, tied or not",
  classes: ["BloomForCausalLM"],
  bodyClasses: ["BloomModel"],
  aliases: { n_embed: "hidden_size", num_attention_heads: "n_head", num_hidden_layers: "n_layer" },
  // pretraining_tp cuts products into pieces where slow_but_exact is set; the rest is of Megatron-LM, and nothing reads it.
  ignoredKeys: (
    "attention_dropout attention_softmax_in_fp32 bias_dropout_fusion hidden_dropout initializer_range masked_softmax_fusion " +
    "n_inner offset_alibi pretraining_tp skip_bias_add skip_bias_add_qkv"
  ).split(" "),
  // With slow_but_exact and a pretraining_tp above 1 the reference leaves out the biases of both row-parallel products.
  fixedKeys: { apply_residual_connection_post_layernorm: false, slow_but_exact: false },
  bodyPrefixes: ["transformer.", ""],
  ignoredTensors: [],

  describe(config) {
    const layers = config.integer("n_layer", { maximum: limits.layers, unset: 2 });
    const hidden = config.integer("hidden_size", { maximum: limits.width, unset: 64 });
    const heads = config.integer("n_head", { maximum: limits.heads, unset: 8 });
    const sizes = { hidden, heads, kvHeads: heads, headDim: evenHeads(config, "hidden_size", hidden, heads) };
    const vocabulary = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 250_880 });
    // What the model was trained with: ALiBi itself has no longest sequence, and the reference no limit.
    const positions = config.integer("seq_length", { maximum: limits.positions, nullable: true, unset: 2048 });
    const layerNorm = readNorm(config, "layer", "layer_norm_epsilon", 1e-5);
    const feedForward = plainFeedForward(4 * hidden, "gelu_tanh");

    return {
      spec: {
        family: "bloom",
        vocabSize: vocabulary,
        hiddenSize: hidden,
        maxPositions: positions,
        embedding: { width: hidden, norm: layerNorm },
        kinds: [
          {
            attention: attention(sizes, { kind: "alibi", slopes: alibiSlopes(heads) }),
            feedForward,
            norms: ahead(layerNorm),
            residual: "sequential",
          },
        ],
        layers: Array<number>(layers).fill(0),
        rotaryTables: [],
        output: { kind: "logits", tied: config.flag("tie_word_embeddings", true), norm: layerNorm },
      },
      body: [
        stored("embed.tokens.weight", "word_embeddings.weight", [vocabulary, hidden]),
        ...norm("embed.norm", "word_embeddings_layernorm", hidden, true),
        ...everyLayer(layers, "h", [
          ...norm("attn.norm", "input_layernorm", hidden, true),
          ...groupedQkv(sizes, "self_attention.query_key_value", true),
          ...linear("attn.o", "self_attention.dense", hidden, hidden, true),
          ...norm("mlp.norm", "post_attention_layernorm", hidden, true),
          ...feedForwardPlaces(feedForward, hidden, { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" }, true),
        ]),
        ...norm("norm", "ln_f", hidden, true),
      ],
      head: linear("head", "lm_head", vocabulary, hidden, false),
    };
  },
};
