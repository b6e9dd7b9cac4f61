import { llamaLike } from "../llama_like.js";
import { rowNorms } from "../parts/attention.js";
import { readNorm } from "../parts/norms.js";
import { olmo } from "./olmo.js";

/** OLMo-2 (OLMo team 2024, arXiv:2501.00656), as transformers/models/olmo2 computes it. */
export const olmo2 = llamaLike({
  modelType: "olmo2",
  summary: "OLMo-2: norms of what attention and feed-forward compute, and of all queries and all keys",
  classes: ["Olmo2ForCausalLM"],
  defaults: { ...olmo.defaults, rms_norm_eps: 1e-5 },
  differences: (config, sizes) => ({
    ...rowNorms(readNorm(config, "rms", "rms_norm_eps", 1e-5), sizes, "self_attn.q_norm", "self_attn.k_norm"),
    norms: { attentionOutput: "post_attention_layernorm", feedForwardOutput: "post_feedforward_layernorm" },
    bias: { feedForward: false },
  }),
});
