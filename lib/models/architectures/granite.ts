import type { ConfigReader } from "../config.js";
import { llamaLike } from "../llama_like.js";

/** Granite 3 (IBM 2024), as transformers/models/granite computes it. */
export const granite = llamaLike({
  modelType: "granite",
  summary: "Granite: multipliers of embeddings, attention, residuals and logits",
  classes: ["GraniteForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 11_008 },
    ...{ vocab_size: 32_000, max_position_embeddings: 2048 },
  },
  differences: graniteMultipliers,
});

/** Numbers that multiply embeddings, scores, what a part of a layer computes, and logits. */
export function graniteMultipliers(config: ConfigReader) {
  const multiplier = (key: string) => config.number(key, { above: 0, unset: 1 });
  return {
    attention: { scale: multiplier("attention_multiplier") },
    embeddingScale: multiplier("embedding_multiplier"),
    residualScale: multiplier("residual_multiplier"),
    logits: { scale: 1 / multiplier("logits_scaling") },
  };
}
