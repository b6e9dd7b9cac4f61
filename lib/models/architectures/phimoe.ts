import type { ConfigReader } from "../config.js";
import { type DecoderSizes, llamaLike } from "../llama_like.js";
import { mixtralExperts, readMixture, routerTrainingKeys } from "../parts/experts.js";
import { readWindow } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";
import { readRope, scaledRopeSection } from "../parts/rope.js";

/** Phi-3.5-MoE (Abdin et al. 2024, arXiv:2404.14219), as transformers/models/phimoe computes it. */
export const phimoe = llamaLike({
  modelType: "phimoe",
  summary: "Phi-3.5-MoE: two experts chosen one after the other (sparsemixer), layer norms, longrope",
  classes: ["PhimoeForCausalLM", "PhiMoEForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8 },
    ...{ intermediate_size: 6400, vocab_size: 32_064, max_position_embeddings: 131_072, rms_norm_eps: 1e-5 },
    ...{ num_experts: 16, num_experts_per_tok: 2, rope_theta: 1e6 },
  },
  // Noise of training.
  ignoredKeys: [...routerTrainingKeys, "input_jitter_noise", "hidden_dropout"],
  differences(config, sizes) {
    // The reference's sparsemixer chooses two, whatever num_experts_per_tok says, and fails for others.
    const perToken = config.integer("num_experts_per_tok", { maximum: Number.MAX_SAFE_INTEGER });
    if (perToken !== 2) throw config.wrong("num_experts_per_tok", "2, which is what sparsemixer chooses");
    return {
      norm: readNorm(config, "layer", "rms_norm_eps", 1e-5),
      normTensors: "weight and bias",
      bias: { head: config.flag("lm_head_bias", false) },
      attention: { mask: readWindow(config) },
      ropes: [readScaledRope(config, sizes)],
      feedForward: readMixture(config, sizes.hidden, {
        names: { ...mixtralExperts, router: "block_sparse_moe.gate", instead: { router: "mlp.router" } },
        sizeKey: "intermediate_size",
        router: {
          scoring: "sparsemixer",
          jitter: config.number("router_jitter_noise", { minimum: 0, maximum: 1, unset: 0.01 }),
        },
      }),
    };
  },
});

/**
 * Of scaled frequencies, short_mscale and long_mscale multiply cosines and sines in place of what other models derive. The frequencies of
 * longrope are the short ones for sequences of any length, as transformers 5 has them here: its class asks for them without a length.
 */
function readScaledRope(config: ConfigReader, sizes: DecoderSizes) {
  const rope = readRope(config, sizes);
  const parameters = scaledRopeSection(config);
  if (!parameters) return rope;
  const short = parameters.number("short_mscale", { above: 0 });
  const amplitude = parameters.number("long_mscale", { above: 0 });
  const { rotary } = rope;
  const { inverseFrequencies } = rotary;
  const longer = rotary.long ? { long: { ...rotary.long, inverseFrequencies, amplitude } } : {};
  return { ...rope, rotary: { ...rotary, amplitude: short, ...longer } };
}
