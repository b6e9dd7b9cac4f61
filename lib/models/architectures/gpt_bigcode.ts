import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention, groupedQkv } from "../parts/attention.js";
import { feedForwardPlaces, plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";

/** GPTBigCode (StarCoder, SantaCoder; Li et al. 2023, arXiv:2305.06161), as transformers/models/gpt_bigcode computes it. */
export const gptBigcode: ModelDescriptor = {
  modelType: "gpt_bigcode",
  summary: "GPTBigCode: GPT-2 with one key head for all queries or one for each, and matrices in the usual order",
  classes: ["GPTBigCodeForCausalLM"],
  bodyClasses: ["GPTBigCodeModel"],
  aliases: {
    hidden_size: "n_embd",
    max_position_embeddings: "n_positions",
    num_attention_heads: "n_head",
    num_hidden_layers: "n_layer",
  },
  // num_key_value_heads is made of multi_query; the two of softmax are about half precision; the rest is of older runners and heads.
  ignoredKeys: (
    "attention_softmax_in_fp32 attn_pdrop embd_pdrop inference_runner initializer_range max_batch_size max_sequence_length n_ctx " +
    "num_key_value_heads pad_key_length pre_allocate_kv_cache resid_pdrop scale_attention_softmax_in_fp32 summary_activation " +
    "summary_first_dropout summary_proj_to_labels summary_type summary_use_proj validate_runner_input"
  ).split(" "),
  fixedKeys: {},
  bodyPrefixes: ["transformer.", ""],
  ignoredTensors: [/(^|\.)h\.\d+\.attn\.(bias|masked_bias)$/],

  describe(config) {
    const layers = config.integer("n_layer", { maximum: limits.layers, unset: 12 });
    const hidden = config.integer("n_embd", { maximum: limits.width, unset: 768 });
    const heads = config.integer("n_head", { maximum: limits.heads, unset: 12 });
    const headDim = evenHeads(config, "n_embd", hidden, heads);
    const sizes = { hidden, heads, kvHeads: config.flag("multi_query", true) ? 1 : heads, headDim };
    const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 50_257 });
    const maxPositions = config.integer("n_positions", { maximum: limits.positions, unset: 1024 });
    const ffn = config.integer("n_inner", { maximum: limits.ffn, nullable: true, unset: 4 * hidden });
    const scale = config.flag("scale_attn_weights", true) ? headDim ** -0.5 : 1;
    const layerNorm = readNorm(config, "layer", "layer_norm_epsilon", 1e-5);
    const feedForward = plainFeedForward(ffn, config.choice("activation_function", activations, "gelu_pytorch_tanh"));
    const kind = { feedForward, norms: ahead(layerNorm), residual: "sequential" } as const;
    const kinds = [{ attention: attention(sizes, { kind: "none" }, { scale }), ...kind }];
    const output = { kind: "logits", tied: config.flag("tie_word_embeddings", true), norm: layerNorm } as const;
    return {
      spec: {
        ...{ family: "gpt_bigcode", vocabSize, hiddenSize: hidden, maxPositions, kinds, rotaryTables: [], output },
        ...{ embedding: { width: hidden, positions: { kind: "learned", offset: 0 } } },
        layers: Array<number>(layers).fill(0),
      },
      body: [
        stored("embed.tokens.weight", "wte.weight", [vocabSize, hidden]),
        stored("embed.positions.weight", "wpe.weight", [maxPositions, hidden]),
        ...everyLayer(layers, "h", [
          ...norm("attn.norm", "ln_1", hidden, true),
          ...groupedQkv(sizes, "attn.c_attn", true),
          ...linear("attn.o", "attn.c_proj", hidden, hidden, true),
          ...norm("mlp.norm", "ln_2", hidden, true),
          ...feedForwardPlaces(feedForward, hidden, { up: "mlp.c_fc", down: "mlp.c_proj" }, true),
        ]),
        ...norm("norm", "ln_f", hidden, true),
      ],
      head: linear("head", "lm_head", vocabSize, hidden, false),
    };
  },
};
