import { llamaLike } from "../llama_like.js";
import { rowNorms } from "../parts/attention.js";
import { everyNth, masksOf, readLayerTypes } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";
import { readRopeByLayerType } from "../parts/rope.js";
import { olmo2 } from "./olmo2.js";

/** OLMo-3 (OLMo team 2025), as transformers/models/olmo3 computes it. */
export const olmo3 = llamaLike({
  modelType: "olmo3",
  summary: "OLMo-3: OLMo-2 with a window in three layers of four, whose positions are not stretched",
  classes: ["Olmo3ForCausalLM"],
  defaults: { ...olmo2.defaults, sliding_window: 4096 },
  differences(config, sizes) {
    const types = readLayerTypes(config, sizes.layers, ["full_attention", "sliding_attention"], everyNth(4));
    const { full, sliding } = readRopeByLayerType(config, sizes, { bases: { full: 500_000, sliding: 500_000 } });
    return {
      ...rowNorms(readNorm(config, "rms", "rms_norm_eps", 1e-5), sizes, "self_attn.q_norm", "self_attn.k_norm"),
      norms: { attentionOutput: "post_attention_layernorm", feedForwardOutput: "post_feedforward_layernorm" },
      bias: { feedForward: false },
      ropes: [full, sliding],
      layers: masksOf(config, types).map((mask) => ({ mask, rotary: mask.kind === "window" ? 1 : 0 })),
    };
  },
});
