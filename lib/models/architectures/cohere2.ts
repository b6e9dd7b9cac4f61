import { limits } from "../limits.js";
import { llamaLike } from "../llama_like.js";
import { everyNth, masksOf, readLayerTypes } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";
import { cohere } from "./cohere.js";

/** Command R7B and Command A (Cohere 2025, arXiv:2504.00698), as transformers/models/cohere2 computes them. */
export const cohere2 = llamaLike({
  modelType: "cohere2",
  summary: "Command R7B, Command A: Command R with a window in most layers, and no positions in the others",
  classes: ["Cohere2ForCausalLM"],
  defaults: { ...cohere.defaults, rope_theta: 10_000, sliding_window: 4096 },
  differences(config, { layers, hidden, heads, headDim }) {
    if (headDim !== hidden / heads)
      throw config.wrong("head_dim", `hidden_size / num_attention_heads, ${hidden / heads}`);
    const every = config.integer("sliding_window_pattern", { maximum: limits.layers, unset: 4 });
    const types = readLayerTypes(config, layers, ["full_attention", "sliding_attention"], everyNth(every));
    return {
      norm: readNorm(config, "layer", "layer_norm_eps", 1e-5),
      norms: { attention: "input_layernorm" },
      residual: "shared-norm parallel",
      rotaryLayout: "interleaved",
      bias: { feedForward: false },
      logits: { scale: config.number("logit_scale", { above: 0, unset: 0.0625 }) },
      layers: masksOf(config, types).map((mask) => ({ mask, rotary: mask.kind === "window" ? 0 : "none" })),
    };
  },
});
