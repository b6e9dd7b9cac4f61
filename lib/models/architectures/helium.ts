import { llamaLike } from "../llama_like.js";

/** Helium (Kyutai 2025), as transformers/models/helium computes it. */
export const helium = llamaLike({
  modelType: "helium",
  summary: "Helium: Llama whose rotary positions turn neighbours",
  classes: ["HeliumForCausalLM"],
  defaults: {
    ...{ hidden_size: 2560, num_hidden_layers: 24, num_attention_heads: 20, num_key_value_heads: 20, head_dim: 128 },
    ...{ intermediate_size: 7040, vocab_size: 48_000, max_position_embeddings: 4096 },
    ...{ rms_norm_eps: 1e-8, rope_theta: 100_000 },
  },
  differences(config, { hidden, heads, headDim }) {
    if (headDim * heads !== hidden)
      throw config.wrong("head_dim", `hidden_size / num_attention_heads, ${hidden / heads}`);
    return { rotaryLayout: "interleaved", bias: { output: false } };
  },
});
