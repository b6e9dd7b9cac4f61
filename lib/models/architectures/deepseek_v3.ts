import { deepseekLike } from "../parts/latent_attention.js";

/** DeepSeek-V3 and R1 (2024, arXiv:2412.19437), as transformers/models/deepseek_v3 computes them. */
export const deepseekV3 = deepseekLike({
  modelType: "deepseek_v3",
  summary: "DeepSeek-V3, R1 (not fp8): latent attention, experts in groups chosen by corrected sigmoid scores",
  classes: ["DeepseekV3ForCausalLM"],
  defaults: {
    ...{ hidden_size: 7168, num_hidden_layers: 61, num_attention_heads: 128, intermediate_size: 18_432 },
    ...{ vocab_size: 129_280, max_position_embeddings: 4096, head_dim: 64, first_k_dense_replace: 3 },
    ...{ num_experts: 256, num_experts_per_tok: 8, moe_intermediate_size: 2048, n_shared_experts: 1 },
    ...{ kv_lora_rank: 512, q_lora_rank: 1536, qk_nope_head_dim: 128, qk_rope_head_dim: 64, v_head_dim: 128 },
    ...{ n_group: 8, topk_group: 4 },
  },
  ignoredKeys: ["num_nextn_predict_layers", "num_mtp_layers"],
  fixedKeys: { scoring_func: "sigmoid", topk_method: "noaux_tc" },
  // A layer that predicts a further token, which the reference does not load.
  ignoredTensors: [/(^|\.)rotary_emb\.inv_freq$/, /(^|\.)layers\.61\./],
  correction: "mlp.gate.e_score_correction_bias",
  readRouter: (config) => ({
    ...{ scoring: "sigmoid", best: 2, correction: true, normalise: config.flag("norm_topk_prob", true) },
    scale: config.number("routed_scaling_factor", { above: 0, unset: 2.5 }),
  }),
});
