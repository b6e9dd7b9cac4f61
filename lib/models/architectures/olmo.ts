import { llamaLike } from "../llama_like.js";

/** OLMo (Groeneveld et al. 2024, arXiv:2402.00838), as transformers/models/olmo computes it. */
export const olmo = llamaLike({
  modelType: "olmo",
  summary: "OLMo: layer norms without weights, queries, keys and values within limits",
  classes: ["OlmoForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 11_008 },
    ...{ vocab_size: 50_304, max_position_embeddings: 2048 },
  },
  differences(config) {
    const limit = config.number("clip_qkv", { above: 0, nullable: true, unset: Number.POSITIVE_INFINITY });
    return {
      norm: { kind: "layer", epsilon: 1e-5 },
      normTensors: "none",
      bias: { feedForward: false },
      ...(Number.isFinite(limit) && { attention: { clamp: limit } }),
    };
  },
});
