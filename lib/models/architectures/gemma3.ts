import { limits } from "../limits.js";
import { llamaLike } from "../llama_like.js";
import { headNorms } from "../parts/attention.js";
import { everyNth, masksOf, readLayerTypes } from "../parts/layer_types.js";
import { readRopeByLayerType } from "../parts/rope.js";
import { gemma2, gemmaDifferences } from "./gemma2.js";

/** Text models of Gemma-3 (Gemma team 2025, arXiv:2503.19786), as transformers/models/gemma3 computes them. */
export const gemma3 = llamaLike({
  modelType: "gemma3_text",
  summary: "Gemma-3 (text): Gemma-2 with norms of heads and two rotary bases, without soft caps",
  classes: ["Gemma3ForCausalLM"],
  bodyClasses: ["Gemma3TextModel"],
  defaults: {
    ...gemma2.defaults,
    ...{ vocab_size: 262_208, max_position_embeddings: 131_072 },
    ...{ final_logit_softcapping: null, attn_logit_softcapping: null },
  },
  ignoredKeys: ["_sliding_window_pattern", "cache_implementation", "hidden_act"],
  fixedKeys: { use_bidirectional_attention: false },
  differences(config, sizes) {
    const every = config.integer("sliding_window_pattern", { maximum: limits.layers, unset: 6 });
    const types = readLayerTypes(config, sizes.layers, ["full_attention", "sliding_attention"], everyNth(every));
    const bases = { full: 1_000_000, sliding: 10_000 };
    const { full, sliding } = readRopeByLayerType(config, sizes, { bases, slidingKey: "rope_local_base_freq" });
    const common = gemmaDifferences(config, sizes);
    const { norm = { kind: "rms", epsilon: 1e-6 } } = common;
    const heads = headNorms(norm, sizes, "self_attn.q_norm", "self_attn.k_norm");
    return {
      ...common,
      ...heads,
      attention: { ...common.attention, ...heads.attention },
      ropes: [full, sliding],
      layers: masksOf(config, types).map((mask) => ({ mask, rotary: mask.kind === "window" ? 1 : 0 })),
    };
  },
});
