import type { ConfigReader } from "../config.js";
import { limits } from "../limits.js";
import { llamaLike, noBias, readFeedForward } from "../llama_like.js";
import { gatedNames, readMixture, routerTrainingKeys } from "../parts/experts.js";
import { masksOf, readLayerTypes, readRotaryLayers } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";

/** Text models of Llama 4 (Meta 2025), as transformers/models/llama4 computes them. */
export const llama4 = llamaLike({
  modelType: "llama4_text",
  summary:
    "Llama 4 (text): chunks, layers without positions whose queries grow with their position, experts in some layers",
  classes: ["Llama4ForCausalLM"],
  bodyClasses: ["Llama4TextModel"],
  defaults: {
    ...{ hidden_size: 5120, num_hidden_layers: 48, num_attention_heads: 40, num_key_value_heads: 8, head_dim: 128 },
    ...{ intermediate_size: 8192, intermediate_size_mlp: 16_384, vocab_size: 202_048 },
    ...{ num_experts: 16, num_experts_per_tok: 1 },
    ...{ max_position_embeddings: 131_072, rms_norm_eps: 1e-5, rope_theta: 500_000, attention_chunk_size: 8192 },
  },
  // Noise of training.
  ignoredKeys: [...routerTrainingKeys, "router_jitter_noise"],
  differences(config, { layers, hidden }) {
    const rotary = readRotaryLayers(config, layers);
    const chunks = config.raw("attention_chunk_size") !== null;
    const rule = (layer: number) => (chunks && rotary[layer] ? "chunked_attention" : "full_attention");
    const types = readLayerTypes(config, layers, ["full_attention", "chunked_attention"], rule);
    const qkNorm = { span: "head", norm: readNorm(config, "rms", "rms_norm_eps", 1e-5), afterPositions: true } as const;
    const turned = config.flag("use_qk_norm", true) ? { qkNorm } : {};
    const fixed = readTemperature(config);
    const isSparse = readSparseLayers(config, layers);
    const dense = readFeedForward(config, hidden, noBias, { names, sizeKey: "intermediate_size_mlp" });
    const experts = readExperts(config, hidden);
    return {
      bias: { feedForward: false },
      rotaryLayout: "interleaved",
      layers: masksOf(config, types).map((mask, layer) => {
        const feedForward = isSparse[layer] ? experts : dense;
        if (rotary[layer]) return { mask, attention: turned, feedForward };
        return { mask, rotary: "none", attention: fixed, feedForward };
      }),
    };
  },
});

const names = gatedNames("feed_forward");

function readTemperature(config: ConfigReader) {
  const period = config.integer("floor_scale", { maximum: limits.positions, unset: 8192 });
  const scale = config.number("attn_scale", { unset: 0.1 });
  return config.flag("attn_temperature_tuning", true) ? { temperature: { scale, period, offset: 1 } } : {};
}

/** Layers with experts: moe_layers, or each interleave_moe_layer_step-th. */
function readSparseLayers(config: ConfigReader, layers: number): boolean[] {
  const every = config.integer("interleave_moe_layer_step", { maximum: Number.MAX_SAFE_INTEGER, unset: 1 });
  const found = config.raw("moe_layers");
  const isGiven = found !== undefined && found !== null;
  if (isGiven && !(Array.isArray(found) && found.every(Number.isSafeInteger)))
    throw config.wrong("moe_layers", "a list of layers");
  return Array.from({ length: layers }, (_, layer) => (isGiven ? found.includes(layer) : (layer + 1) % every === 0));
}

/** Experts whose weights multiply what they read, and one of the same size for all tokens. */
function readExperts(config: ConfigReader, hidden: number) {
  const size = config.integer("intermediate_size", { maximum: limits.ffn });
  return readMixture(config, hidden, {
    names: {
      router: "feed_forward.router",
      fused: { gateUp: "feed_forward.experts.gate_up_proj", down: "feed_forward.experts.down_proj", rows: "inputs" },
      shared: gatedNames("feed_forward.shared_expert"),
    },
    sizeKey: "intermediate_size",
    router: { scoring: "sigmoid", weighsInput: true },
    shared: { size },
  });
}
