import type { ConfigReader } from "../config.js";
import { limits } from "../limits.js";
import { llamaLike, noBias } from "../llama_like.js";
import { readWindow } from "../parts/layer_types.js";
import { ropeSection } from "../parts/rope.js";

/** Ministral 3, as transformers/models/ministral3 computes it. */
export const ministral3 = llamaLike({
  modelType: "ministral3",
  summary: "Ministral 3: Mistral whose queries grow with their position",
  classes: ["Ministral3ForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 34, num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128 },
    ...{ intermediate_size: 14_336, vocab_size: 131_072, max_position_embeddings: 262_144, rms_norm_eps: 1e-5 },
    rope_parameters: {
      ...{ type: "yarn", rope_theta: 1e6, factor: 16, original_max_position_embeddings: 16_384 },
      ...{ beta_fast: 32, beta_slow: 1, mscale_all_dim: 1, mscale: 1, llama_4_scaling_beta: 0.1 },
    },
  },
  differences: (config) => ({
    bias: noBias,
    attention: { mask: readWindow(config), temperature: readTemperature(config) },
    rope: { ignored: ["llama_4_scaling_beta", "max_position_embeddings"] },
  }),
});

function readTemperature(config: ConfigReader) {
  const section = ropeSection(config);
  if (!section) throw config.wrong("rope_parameters", "rope parameters with llama_4_scaling_beta");
  const scale = section.number("llama_4_scaling_beta", {});
  const period = section.integer("original_max_position_embeddings", { maximum: limits.positions });
  return { scale, period, offset: 0 };
}
