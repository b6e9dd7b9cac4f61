import type { ConfigReader } from "../config.js";
import { type DecoderSizes, type Differences, llamaLike, noBias, readFeedForward } from "../llama_like.js";
import { stackedGate } from "../parts/feed_forward.js";

/** GLM-4-9B (GLM team 2024, arXiv:2406.12793), as transformers/models/glm computes it. */
export const glm = llamaLike({
  modelType: "glm",
  summary: "GLM-4: gate and up in one matrix, rotary positions of neighbours on half of each head",
  classes: ["GlmForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 40, num_attention_heads: 32, num_key_value_heads: 2, head_dim: 128 },
    ...{ intermediate_size: 13_696, vocab_size: 151_552, max_position_embeddings: 131_072 },
    ...{ rms_norm_eps: 1.5625e-7, attention_bias: true },
  },
  differences: glmDifferences,
});

/** Where GLM-4 and GLM-4-0414 are not like Llama. */
export function glmDifferences(config: ConfigReader, { hidden }: DecoderSizes): Differences {
  const { spec } = readFeedForward(config, hidden, noBias);
  return {
    bias: { qkv: config.flag("attention_bias", true), output: false },
    rope: { partial: 0.5 },
    rotaryLayout: "interleaved",
    feedForward: { spec, places: stackedGate(spec, hidden, "mlp.gate_up_proj", "mlp.down_proj") },
  };
}
