import { llamaLike } from "../llama_like.js";
import { glm, glmDifferences } from "./glm.js";

/** GLM-4-0414 and GLM-Z1 (2025), as transformers/models/glm4 computes them. */
export const glm4 = llamaLike({
  modelType: "glm4",
  summary: "GLM-4-0414: GLM-4 with four norms a layer",
  classes: ["Glm4ForCausalLM"],
  defaults: { ...glm.defaults },
  differences: (config, sizes) => ({
    ...glmDifferences(config, sizes),
    norms: {
      attention: "input_layernorm",
      attentionOutput: "post_self_attn_layernorm",
      feedForward: "post_attention_layernorm",
      feedForwardOutput: "post_mlp_layernorm",
    },
  }),
});
