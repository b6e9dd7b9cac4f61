import { llamaLike } from "../llama_like.js";
import { headNorms } from "../parts/attention.js";
import { readQwenLayers } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";
import { qwen2 } from "./qwen2.js";

/** Qwen3 (Yang et al. 2025, arXiv:2505.09388), as transformers/models/qwen3 computes it. */
export const qwen3 = llamaLike({
  modelType: "qwen3",
  summary: "Qwen3: norms of each query and key head, heads of any width",
  classes: ["Qwen3ForCausalLM"],
  defaults: { ...qwen2.defaults, head_dim: 128 },
  differences(config, sizes) {
    const norm = readNorm(config, "rms", "rms_norm_eps", 1e-6);
    return {
      bias: { feedForward: false },
      ...headNorms(norm, sizes, "self_attn.q_norm", "self_attn.k_norm"),
      layers: readQwenLayers(config, sizes.layers),
    };
  },
});
