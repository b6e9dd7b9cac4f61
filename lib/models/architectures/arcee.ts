import { llamaLike, readFeedForward } from "../llama_like.js";

/** AFM (Arcee 2025), as transformers/models/arcee computes it. */
export const arcee = llamaLike({
  modelType: "arcee",
  summary: "Arcee: Llama with squared ReLU and without a gate",
  classes: ["ArceeForCausalLM"],
  defaults: {
    ...{ hidden_size: 2560, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 18_432 },
    ...{ vocab_size: 32_000, max_position_embeddings: 4096, rms_norm_eps: 1e-5, hidden_act: "relu2" },
  },
  differences: (config, { hidden }) => ({
    feedForward: readFeedForward(config, hidden, {}, { names: { up: "mlp.up_proj", down: "mlp.down_proj" } }),
  }),
});
