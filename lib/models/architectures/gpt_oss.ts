import { stored } from "../descriptor.js";
import { llamaLike } from "../llama_like.js";
import { readMixture, routerTrainingKeys } from "../parts/experts.js";
import { masksOf, readLayerTypes } from "../parts/layer_types.js";

/** GPT-OSS (OpenAI 2025, arXiv:2508.10925), as transformers/models/gpt_oss computes it from bf16 weights. */
export const gptOss = llamaLike({
  modelType: "gpt_oss",
  summary: "GPT-OSS (bf16 weights, not MXFP4): attention sinks, a window in every second layer, clamped gates, biases",
  classes: ["GptOssForCausalLM"],
  defaults: {
    ...{ hidden_size: 2880, num_hidden_layers: 36, num_attention_heads: 64, num_key_value_heads: 8, head_dim: 64 },
    ...{ intermediate_size: 2880, vocab_size: 201_088, max_position_embeddings: 131_072, rms_norm_eps: 1e-5 },
    ...{ num_experts: 128, num_experts_per_tok: 4, sliding_window: 128, attention_bias: true, rope_theta: 150_000 },
    rope_parameters: {
      rope_type: "yarn",
      factor: 32,
      beta_fast: 32,
      beta_slow: 1,
      truncate: false,
      original_max_position_embeddings: 4096,
    },
  },
  ignoredKeys: [...routerTrainingKeys, "experts_per_token", "initial_context_length"],
  differences(config, { layers, hidden, heads }) {
    const types = readLayerTypes(config, layers, ["full_attention", "sliding_attention"], (layer) =>
      layer % 2 === 0 ? "sliding_attention" : "full_attention",
    );
    const limit = config.number("swiglu_limit", { above: 0, unset: 7 });
    const alpha = config.number("swiglu_alpha", { above: 0, unset: 1.702 });
    return {
      attention: { sinks: true },
      layerPlaces: [stored("attn.sinks.weight", "self_attn.sinks", [heads])],
      layers: masksOf(config, types).map((mask) => ({ mask })),
      feedForward: readMixture(config, hidden, {
        names: { router: "mlp.router", routerBias: true, fused },
        sizeKey: "intermediate_size",
        clamped: { limit, alpha },
        router: { scoring: "topk-softmax" },
      }),
    };
  },
});

const fused = {
  gateUp: "mlp.experts.gate_up_proj",
  down: "mlp.experts.down_proj",
  rows: "inputs",
  interleaved: true,
  biasSuffix: "_bias",
} as const;
