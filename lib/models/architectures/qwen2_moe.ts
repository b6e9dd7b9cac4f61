import type { ConfigReader } from "../config.js";
import { limits } from "../limits.js";
import { type DecoderSizes, type FeedForward, llamaLike, noBias, readFeedForward } from "../llama_like.js";
import { commonExperts, gatedNames, readMixture, routerTrainingKeys } from "../parts/experts.js";
import { masksOf, readLayerTypes } from "../parts/layer_types.js";

/** Qwen1.5-MoE and Qwen2-MoE (Yang et al. 2024, arXiv:2407.10671), as transformers/models/qwen2_moe computes them. */
export const qwen2Moe = llamaLike({
  modelType: "qwen2_moe",
  summary: "Qwen1.5-MoE, Qwen2-MoE: experts in all layers or some, and one for all tokens behind a gate",
  classes: ["Qwen2MoeForCausalLM"],
  defaults: {
    ...{ hidden_size: 2048, num_hidden_layers: 24, num_attention_heads: 16, num_key_value_heads: 16 },
    ...{ intermediate_size: 5632, vocab_size: 151_936, max_position_embeddings: 32_768, sliding_window: 4096 },
    ...{ num_experts: 60, num_experts_per_tok: 4, moe_intermediate_size: 1408 },
  },
  ignoredKeys: routerTrainingKeys,
  differences(config, sizes) {
    const size = config.integer("shared_expert_intermediate_size", { maximum: limits.ffn, unset: 5632 });
    const experts = readMixture(config, sizes.hidden, {
      names: {
        ...commonExperts,
        router: "mlp.gate",
        shared: gatedNames("mlp.shared_expert"),
        sharedRouter: "mlp.shared_expert_gate",
      },
      sizeKey: "moe_intermediate_size",
      router: { scoring: "softmax", normalise: config.flag("norm_topk_prob", false) },
      shared: { size, gate: "sigmoid" },
    });
    const masks = masksOf(config, readTypes(config, sizes.layers));
    const isSparse = readSparseLayers(config, sizes.layers);
    const dense = readFeedForward(config, sizes.hidden, noBias);
    return {
      bias: { qkv: config.flag("qkv_bias", true), output: false, feedForward: false },
      layers: masks.map((mask, layer) => ({ mask, feedForward: isSparse[layer] ? experts : dense })),
    };
  },
});

/** Every second layer of the first max_window_layers has the window. */
function readTypes(config: ConfigReader, layers: number) {
  const slides = config.flag("use_sliding_window", false);
  const last = config.integer("max_window_layers", { minimum: 0, maximum: Number.MAX_SAFE_INTEGER, unset: 28 });
  return readLayerTypes(config, layers, ["full_attention", "sliding_attention"], (layer) =>
    slides && layer % 2 === 0 && layer < last ? "sliding_attention" : "full_attention",
  );
}

/** Layers with experts: each decoder_sparse_step-th, but for mlp_only_layers. */
export function readSparseLayers(config: ConfigReader, layers: number): boolean[] {
  const step = config.integer("decoder_sparse_step", { maximum: Number.MAX_SAFE_INTEGER, unset: 1 });
  const dense = config.raw("mlp_only_layers") ?? [];
  if (!Array.isArray(dense) || !dense.every(Number.isSafeInteger))
    throw config.wrong("mlp_only_layers", "a list of layers");
  return Array.from({ length: layers }, (_, layer) => !dense.includes(layer) && (layer + 1) % step === 0);
}

/** The feed-forward part of each layer. */
export function mixLayers(
  config: ConfigReader,
  { hidden, layers }: DecoderSizes,
  experts: FeedForward,
): { feedForward: FeedForward }[] {
  const isSparse = readSparseLayers(config, layers);
  const dense = readFeedForward(config, hidden, noBias);
  return isSparse.map((sparse) => ({ feedForward: sparse ? experts : dense }));
}
