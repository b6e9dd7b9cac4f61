import { llamaLike } from "../llama_like.js";

/** Dense models of ERNIE 4.5 (Baidu 2025), as transformers/models/ernie4_5 computes them. */
export const ernie4_5 = llamaLike({
  modelType: "ernie4_5",
  summary: "ERNIE 4.5 (dense): Llama whose rotary positions turn neighbours, with biases or without",
  classes: ["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"],
  bodyClasses: ["Ernie4_5Model", "Ernie4_5_Model"],
  defaults: {
    ...{ hidden_size: 1024, num_hidden_layers: 18, num_attention_heads: 16, num_key_value_heads: 2, head_dim: 128 },
    ...{ intermediate_size: 3072, vocab_size: 103_424, max_position_embeddings: 131_072 },
    ...{ rms_norm_eps: 1e-5, rope_theta: 500_000, tie_word_embeddings: true },
  },
  differences(config) {
    const hasBias = config.raw("use_bias") !== null && config.flag("use_bias", false);
    return { rotaryLayout: "interleaved", bias: { qkv: hasBias, output: hasBias, feedForward: hasBias } };
  },
});
