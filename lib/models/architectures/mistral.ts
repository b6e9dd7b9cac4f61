import { llamaLike, noBias } from "../llama_like.js";
import { readWindow } from "../parts/layer_types.js";

const sizes = { hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8 };

/** Mistral (Jiang et al. 2023, arXiv:2310.06825), as transformers/models/mistral computes it. */
export const mistral = llamaLike({
  modelType: "mistral",
  summary: "Mistral: Llama with a window in all layers, or without one",
  classes: ["MistralForCausalLM"],
  defaults: {
    ...sizes,
    intermediate_size: 14_336,
    vocab_size: 32_000,
    max_position_embeddings: 131_072,
    sliding_window: 4096,
  },
  differences: (config) => ({ bias: noBias, attention: { mask: readWindow(config) } }),
});
