import { llamaLike } from "../llama_like.js";
import { rowNorms } from "../parts/attention.js";
import { commonExperts, readMixture, routerTrainingKeys } from "../parts/experts.js";
import { readNorm } from "../parts/norms.js";

/** OLMoE (Muennighoff et al. 2024, arXiv:2409.02060), as transformers/models/olmoe computes it. */
export const olmoe = llamaLike({
  modelType: "olmoe",
  summary: "OLMoE: many small experts, norms of all queries and all keys",
  classes: ["OlmoeForCausalLM"],
  defaults: {
    ...{ hidden_size: 2048, num_hidden_layers: 16, num_attention_heads: 16, intermediate_size: 2048 },
    ...{ vocab_size: 50_304, max_position_embeddings: 4096, rms_norm_eps: 1e-5 },
    ...{ num_experts: 64, num_experts_per_tok: 8 },
  },
  ignoredKeys: routerTrainingKeys,
  differences(config, sizes) {
    const clamp = config.number("clip_qkv", { above: 0, nullable: true, unset: 0 });
    const norm = readNorm(config, "rms", "rms_norm_eps", 1e-5);
    const { attention, layerPlaces } = rowNorms(norm, sizes, "self_attn.q_norm", "self_attn.k_norm");
    return {
      attention: { ...attention, ...(clamp > 0 ? { clamp } : {}) },
      layerPlaces,
      feedForward: readMixture(config, sizes.hidden, {
        names: { ...commonExperts, router: "mlp.gate" },
        sizeKey: "intermediate_size",
        router: { scoring: "softmax", normalise: config.flag("norm_topk_prob", false) },
      }),
    };
  },
});
