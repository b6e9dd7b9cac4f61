import { llamaLike } from "../llama_like.js";

/** Seed-OSS (ByteDance 2025), as transformers/models/seed_oss computes it. */
export const seedOss = llamaLike({
  modelType: "seed_oss",
  summary: "Seed-OSS: Llama with biases of queries, keys and values, and heads of any width",
  classes: ["SeedOssForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 64, num_attention_heads: 80, num_key_value_heads: 8, head_dim: 128 },
    ...{ intermediate_size: 27_648, vocab_size: 155_136, max_position_embeddings: 524_288 },
  },
  ignoredKeys: ["residual_dropout"],
  differences: (config) => ({
    bias: { qkv: config.flag("attention_bias", true), output: config.flag("attention_out_bias", false) },
  }),
});
