import type { ConfigReader } from "../config.js";
import { type DecoderSizes, type Differences, llamaLike, readFeedForward } from "../llama_like.js";
import { everyNth, masksOf, readLayerTypes } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";

/** Gemma-2 (Gemma team 2024, arXiv:2408.00118), as transformers/models/gemma2 computes it. */
export const gemma2 = llamaLike({
  modelType: "gemma2",
  summary: "Gemma-2: Gemma with four norms a layer, a window in every second layer, soft caps",
  classes: ["Gemma2ForCausalLM"],
  defaults: {
    ...{ hidden_size: 2304, num_hidden_layers: 26, num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256 },
    ...{ intermediate_size: 9216, vocab_size: 256_000, max_position_embeddings: 8192 },
    ...{ hidden_activation: "gelu_pytorch_tanh", tie_word_embeddings: true },
    ...{ query_pre_attn_scalar: 256, sliding_window: 4096, final_logit_softcapping: 30, attn_logit_softcapping: 50 },
  },
  // Without effect: hidden_activation is what counts.
  ignoredKeys: ["cache_implementation", "hidden_act"],
  fixedKeys: { use_bidirectional_attention: false },
  differences(config, sizes) {
    const types = readLayerTypes(config, sizes.layers, ["full_attention", "sliding_attention"], everyNth(2));
    const softCap = readCap(config, "attn_logit_softcapping");
    const common = gemmaDifferences(config, sizes);
    return {
      ...common,
      attention: { ...common.attention, ...softCap },
      layers: masksOf(config, types).map((mask) => ({ mask })),
    };
  },
});

/** Where Gemma-2 and Gemma-3 are not like Llama. */
export function gemmaDifferences(config: ConfigReader, { hidden }: DecoderSizes): Differences {
  const bias = { feedForward: false };
  return {
    norm: { ...readNorm(config, "rms", "rms_norm_eps", 1e-6), weightOffset: 1 },
    norms: {
      attention: "input_layernorm",
      attentionOutput: "post_attention_layernorm",
      feedForward: "pre_feedforward_layernorm",
      feedForwardOutput: "post_feedforward_layernorm",
    },
    bias,
    embeddingScale: Math.fround(hidden ** 0.5),
    feedForward: readFeedForward(config, hidden, bias, { activationKey: "hidden_activation" }),
    attention: { scale: config.number("query_pre_attn_scalar", { above: 0 }) ** -0.5 },
    logits: readCap(config, "final_logit_softcapping"),
  };
}

function readCap(config: ConfigReader, key: string): { softCap?: number } {
  const softCap = config.number(key, { above: 0, nullable: true, unset: Number.POSITIVE_INFINITY });
  return Number.isFinite(softCap) ? { softCap } : {};
}
