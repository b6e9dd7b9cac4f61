import type { ConfigReader } from "../config.js";
import { limits } from "../limits.js";
import { llamaLike, noBias } from "../llama_like.js";
import { headNorms } from "../parts/attention.js";
import { everyNth, masksOf, readLayerTypes } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";

/** EXAONE 4.0 (LG AI Research 2025, arXiv:2507.11407), as transformers/models/exaone4 computes it. */
export const exaone4 = llamaLike({
  modelType: "exaone4",
  summary: "EXAONE 4: norms of what parts compute and of heads, a window in most layers and no positions in the others",
  classes: ["Exaone4ForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 32 },
    ...{ intermediate_size: 16_384, vocab_size: 102_400, max_position_embeddings: 2048, rms_norm_eps: 1e-5 },
    sliding_window: 4096,
  },
  differences(config, sizes) {
    const slides = config.raw("sliding_window") !== null;
    const every = readPattern(config);
    const rule = slides ? everyNth(every) : () => "full_attention" as const;
    const types = readLayerTypes(config, sizes.layers, ["full_attention", "sliding_attention"], rule);
    return {
      ...headNorms(readNorm(config, "rms", "rms_norm_eps", 1e-5), sizes, "self_attn.q_norm", "self_attn.k_norm"),
      norms: { attentionOutput: "post_attention_layernorm", feedForwardOutput: "post_feedforward_layernorm" },
      bias: noBias,
      layers: masksOf(config, types).map((mask) => ({ mask, rotary: slides && mask.kind !== "window" ? "none" : 0 })),
    };
  },
});

function readPattern(config: ConfigReader): number {
  const pattern = config.raw("sliding_window_pattern");
  // LLLG is three layers with a window and one without.
  if (typeof pattern === "string" && /^L+G$/.test(pattern)) return pattern.length;
  return config.integer("sliding_window_pattern", { minimum: 0, maximum: limits.layers, nullable: true, unset: 4 });
}
