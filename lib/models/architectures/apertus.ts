import { stored } from "../descriptor.js";
import { llamaLike, noBias, readFeedForward } from "../llama_like.js";
import { activations } from "../parts/activations.js";
import { headNorms } from "../parts/attention.js";
import { readNorm } from "../parts/norms.js";

/** Apertus (Swiss AI 2025, arXiv:2509.14233), as transformers/models/apertus computes it. */
export const apertus = llamaLike({
  modelType: "apertus",
  summary: "Apertus: xIELU with learned numbers, no gate, norms of heads",
  classes: ["ApertusForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 14_336 },
    ...{ vocab_size: 131_072, max_position_embeddings: 65_536, rms_norm_eps: 1e-5, hidden_act: "xielu" },
    rope_parameters: {
      ...{ rope_type: "llama3", rope_theta: 12_000_000, factor: 8, original_max_position_embeddings: 8192 },
      ...{ low_freq_factor: 1, high_freq_factor: 4 },
    },
    rope_theta: 12_000_000,
  },
  // Constants of xIELU.
  ignoredTensors: [/\.mlp\.act_fn\.(beta|eps)$/],
  differences(config, sizes) {
    const { spec, places } = readFeedForward(config, sizes.hidden, noBias, {
      names,
      known: { ...activations, xielu: "xielu" },
    });
    const learned = [
      { ...stored("mlp.xielu.weight", "mlp.act_fn.alpha_p", [1]), firstCol: 0 },
      { ...stored("mlp.xielu.weight", "mlp.act_fn.alpha_n", [1]), firstCol: 1 },
    ];
    return {
      ...headNorms(readNorm(config, "rms", "rms_norm_eps", 1e-5), sizes, "self_attn.q_norm", "self_attn.k_norm"),
      norms: { attention: "attention_layernorm", feedForward: "feedforward_layernorm" },
      feedForward: { spec, places: [...places, ...(spec.activation === "xielu" ? learned : [])] },
    };
  },
});

const names = { up: "mlp.up_proj", down: "mlp.down_proj" };
