import { llamaLike, readFeedForward } from "../llama_like.js";
import { activations } from "../parts/activations.js";
import { readNorm } from "../parts/norms.js";

/** Gemma (Gemma team 2024, arXiv:2403.08295), as transformers/models/gemma computes it. */
export const gemma = llamaLike({
  modelType: "gemma",
  summary: "Gemma: norm weights plus one, embeddings times the root of their width, heads of any width",
  classes: ["GemmaForCausalLM"],
  defaults: {
    ...{ hidden_size: 3072, num_hidden_layers: 28, num_attention_heads: 16, num_key_value_heads: 16, head_dim: 256 },
    ...{ intermediate_size: 24_576, vocab_size: 256_000, max_position_embeddings: 8192 },
    ...{ hidden_act: "gelu_pytorch_tanh", tie_word_embeddings: true },
  },
  fixedKeys: { use_bidirectional_attention: false },
  differences(config, { hidden }) {
    const bias = { feedForward: false };
    // The first configs say gelu and mean its approximation.
    const feedForward = readFeedForward(config, hidden, bias, { known: { ...activations, gelu: "gelu_tanh" } });
    const { activation } = feedForward.spec;
    const other = config.raw("hidden_activation") ?? null;
    if (other !== null && config.choice("hidden_activation", activations, "") !== activation)
      throw config.wrong("hidden_activation", "the same activation as hidden_act");
    return {
      norm: { ...readNorm(config, "rms", "rms_norm_eps", 1e-6), weightOffset: 1 },
      bias,
      embeddingScale: Math.fround(hidden ** 0.5),
      feedForward,
    };
  },
});
