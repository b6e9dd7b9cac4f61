import { llamaLike } from "../llama_like.js";
import { headNorms } from "../parts/attention.js";
import { commonExperts, readMixture, routerTrainingKeys } from "../parts/experts.js";
import { readWindow } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";
import { mixLayers } from "./qwen2_moe.js";

/** Qwen3-MoE (Yang et al. 2025, arXiv:2505.09388), as transformers/models/qwen3_moe computes it. */
export const qwen3Moe = llamaLike({
  modelType: "qwen3_moe",
  summary: "Qwen3-MoE: norms of each query and key head, experts in all layers or some",
  classes: ["Qwen3MoeForCausalLM"],
  defaults: {
    ...{ hidden_size: 2048, num_hidden_layers: 24, num_attention_heads: 32, num_key_value_heads: 4 },
    ...{ intermediate_size: 6144, vocab_size: 151_936, max_position_embeddings: 32_768, sliding_window: 4096 },
    ...{ num_experts: 128, num_experts_per_tok: 8, moe_intermediate_size: 768 },
  },
  ignoredKeys: [...routerTrainingKeys, "max_window_layers"],
  differences(config, sizes) {
    const slides = config.flag("use_sliding_window", false);
    const mask = slides ? readWindow(config) : ({ kind: "causal" } as const);
    config.raw("sliding_window");
    const { attention, layerPlaces } = headNorms(
      readNorm(config, "rms", "rms_norm_eps", 1e-6),
      sizes,
      "self_attn.q_norm",
      "self_attn.k_norm",
    );
    const experts = readMixture(config, sizes.hidden, {
      names: { ...commonExperts, router: "mlp.gate" },
      sizeKey: "moe_intermediate_size",
      router: { scoring: "softmax", normalise: config.flag("norm_topk_prob", false) },
    });
    return {
      attention: { ...attention, mask },
      layerPlaces,
      bias: { feedForward: false },
      layers: mixLayers(config, sizes, experts),
    };
  },
});
