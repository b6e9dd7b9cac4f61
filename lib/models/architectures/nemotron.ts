import { llamaLike, readFeedForward } from "../llama_like.js";
import { readNorm } from "../parts/norms.js";

/** Nemotron-4 and Minitron (NVIDIA 2024, arXiv:2402.16819), as transformers/models/nemotron computes them. */
export const nemotron = llamaLike({
  modelType: "nemotron",
  summary:
    "Nemotron-4, Minitron: layer norms with weights plus one, squared ReLU, rotary positions on half of each head",
  classes: ["NemotronForCausalLM"],
  defaults: {
    ...{ hidden_size: 6144, num_hidden_layers: 32, num_attention_heads: 48, intermediate_size: 24_576 },
    ...{ vocab_size: 256_000, max_position_embeddings: 4096, hidden_act: "relu2" },
  },
  differences: (config, { hidden }) => ({
    norm: { ...readNorm(config, "layer", "norm_eps", 1e-5), weightOffset: 1 },
    normTensors: "weight and bias",
    rope: { partial: 0.5 },
    feedForward: readFeedForward(config, hidden, {}, { names: { up: "mlp.up_proj", down: "mlp.down_proj" } }),
  }),
});
