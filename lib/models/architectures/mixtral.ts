import { llamaLike, noBias } from "../llama_like.js";
import { mixtralExperts, readMixture, routerTrainingKeys } from "../parts/experts.js";
import { readWindow } from "../parts/layer_types.js";

/** Mixtral (Jiang et al. 2024, arXiv:2401.04088), as transformers/models/mixtral computes it. */
export const mixtral = llamaLike({
  modelType: "mixtral",
  summary: "Mixtral: experts in each layer, any number for a token, weights that add up to one",
  classes: ["MixtralForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8 },
    ...{ intermediate_size: 14_336, vocab_size: 32_000, max_position_embeddings: 131_072, rms_norm_eps: 1e-5 },
    ...{ num_experts: 8, num_experts_per_tok: 2, rope_theta: 1e6 },
  },
  // Noise of training.
  ignoredKeys: [...routerTrainingKeys, "router_jitter_noise"],
  differences: (config, { hidden }) => ({
    bias: noBias,
    attention: { mask: readWindow(config) },
    feedForward: readMixture(config, hidden, {
      names: { ...mixtralExperts, router: "block_sparse_moe.gate", instead: { router: "mlp.gate" } },
      sizeKey: "intermediate_size",
      router: { scoring: "softmax", normalise: true },
    }),
  }),
});
