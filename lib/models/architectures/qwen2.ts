import { llamaLike } from "../llama_like.js";
import { readQwenLayers } from "../parts/layer_types.js";

/** Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv:2407.10671), as transformers/models/qwen2 computes them. */
export const qwen2 = llamaLike({
  modelType: "qwen2",
  summary: "Qwen2, Qwen2.5: biases of queries, keys and values, a window in the last layers or in none",
  classes: ["Qwen2ForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 32 },
    ...{ intermediate_size: 22_016, vocab_size: 151_936, max_position_embeddings: 32_768 },
    ...{ sliding_window: 4096, max_window_layers: 28 },
  },
  differences: (config, { layers }) => ({
    bias: { qkv: true, output: false, feedForward: false },
    layers: readQwenLayers(config, layers),
  }),
});
