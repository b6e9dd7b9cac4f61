import { llamaLike } from "../llama_like.js";
import { headWeightNorms } from "../parts/attention.js";
import { readNorm } from "../parts/norms.js";

/** Command R (Cohere 2024), as transformers/models/cohere computes it. */
export const cohere = llamaLike({
  modelType: "cohere",
  summary:
    "Command R: layer norms without biases, one for attention and feed-forward side by side, scaled logits, norms of heads",
  classes: ["CohereForCausalLM"],
  defaults: {
    ...{ hidden_size: 8192, num_hidden_layers: 40, num_attention_heads: 64, intermediate_size: 22_528 },
    ...{ vocab_size: 256_000, max_position_embeddings: 8192, rope_theta: 500_000, tie_word_embeddings: true },
  },
  differences(config, sizes) {
    const norm = readNorm(config, "layer", "layer_norm_eps", 1e-5);
    const hasHeadNorms = config.raw("use_qk_norm") !== null && config.flag("use_qk_norm", false);
    return {
      norm,
      norms: { attention: "input_layernorm" },
      residual: "shared-norm parallel",
      rotaryLayout: "interleaved",
      bias: { feedForward: false },
      logits: { scale: config.number("logit_scale", { above: 0, unset: 0.0625 }) },
      ...(hasHeadNorms && headWeightNorms(norm, sizes, "self_attn.q_norm", "self_attn.k_norm")),
    };
  },
});
