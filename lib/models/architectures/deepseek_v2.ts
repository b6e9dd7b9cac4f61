import type { ConfigReader } from "../config.js";
import { deepseekLike } from "../parts/latent_attention.js";

/** DeepSeek-V2 (2024, arXiv:2405.04434), as transformers/models/deepseek_v2 computes it. */
export const deepseekV2 = deepseekLike({
  modelType: "deepseek_v2",
  summary:
    "DeepSeek-V2: latent attention (keys and values are cached for each head), experts in groups, some for all tokens",
  classes: ["DeepseekV2ForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 11_008 },
    ...{ vocab_size: 102_400, max_position_embeddings: 2048, head_dim: 64, first_k_dense_replace: 0 },
    ...{ num_experts: 64, moe_intermediate_size: 1407, n_shared_experts: 2 },
    ...{ kv_lora_rank: 512, q_lora_rank: 1536, qk_nope_head_dim: 128, qk_rope_head_dim: 64, v_head_dim: 128 },
  },
  // The reference divides weights by no sum.
  fixedKeys: { norm_topk_prob: false, scoring_func: "softmax", mlp_bias: false },
  readRouter(config) {
    const method = config.text("topk_method", "greedy");
    if (method !== "greedy" && method !== "group_limited_greedy")
      throw config.wrong("topk_method", "greedy or group_limited_greedy");
    const scale = config.number("routed_scaling_factor", { above: 0, unset: 1 });
    return { scoring: "softmax", scale, ...(method === "greedy" ? skipGroups(config) : { best: 1 }) };
  },
});

/** Groups are of no consequence to the greedy method. */
function skipGroups(config: ConfigReader) {
  for (const key of ["n_group", "topk_group"]) config.raw(key);
  return {};
}
