import { llamaLike, readFeedForward } from "../llama_like.js";
import { readWindow } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";

/** StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173), as transformers/models/starcoder2 computes it. */
export const starcoder2 = llamaLike({
  modelType: "starcoder2",
  summary: "StarCoder2: layer norms, no gate, biases, a window in all layers or in none",
  classes: ["Starcoder2ForCausalLM"],
  defaults: {
    ...{ hidden_size: 3072, num_hidden_layers: 30, num_attention_heads: 24, num_key_value_heads: 2 },
    ...{ intermediate_size: 12_288, vocab_size: 49_152, max_position_embeddings: 4096 },
    ...{ hidden_act: "gelu_pytorch_tanh", tie_word_embeddings: true },
  },
  ignoredKeys: ["embedding_dropout", "residual_dropout"],
  differences(config, { hidden }) {
    const hasBias = config.flag("use_bias", true);
    const bias = { qkv: hasBias, output: hasBias, feedForward: hasBias };
    return {
      norm: readNorm(config, "layer", "norm_epsilon", 1e-5),
      normTensors: "weight and bias",
      bias,
      attention: { mask: readWindow(config) },
      feedForward: readFeedForward(config, hidden, bias, { names: { up: "mlp.c_fc", down: "mlp.c_proj" } }),
    };
  },
});
