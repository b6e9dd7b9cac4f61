import type { ConfigReader } from "../config.js";
import { limits } from "../limits.js";
import { llamaLike, noBias, readFeedForward } from "../llama_like.js";
import { masksOf, readLayerTypes, readRotaryLayers } from "../parts/layer_types.js";
import { readNorm } from "../parts/norms.js";

/** Text models of Llama 4 (Meta 2025) without experts, as transformers/models/llama4 computes them. */
export const llama4 = llamaLike({
  modelType: "llama4_text",
  summary: "Llama 4 (text, without experts): chunks, layers without positions whose queries grow with their position",
  classes: ["Llama4ForCausalLM"],
  bodyClasses: ["Llama4TextModel"],
  defaults: {
    ...{ hidden_size: 5120, num_hidden_layers: 48, num_attention_heads: 40, num_key_value_heads: 8, head_dim: 128 },
    ...{ intermediate_size: 8192, intermediate_size_mlp: 16_384, vocab_size: 202_048 },
    ...{ max_position_embeddings: 131_072, rms_norm_eps: 1e-5, rope_theta: 500_000, attention_chunk_size: 8192 },
  },
  // Of routers and experts.
  ignoredKeys: (
    "interleave_moe_layer_step intermediate_size num_experts_per_tok num_local_experts output_router_logits " +
    "router_aux_loss_coef router_jitter_noise"
  ).split(" "),
  differences(config, { layers, hidden }) {
    const rotary = readRotaryLayers(config, layers);
    const chunks = config.raw("attention_chunk_size") !== null;
    const rule = (layer: number) => (chunks && rotary[layer] ? "chunked_attention" : "full_attention");
    const types = readLayerTypes(config, layers, ["full_attention", "chunked_attention"], rule);
    const qkNorm = { span: "head", norm: readNorm(config, "rms", "rms_norm_eps", 1e-5), afterPositions: true } as const;
    const turned = config.flag("use_qk_norm", true) ? { qkNorm } : {};
    const fixed = readTemperature(config);
    checkExperts(config);
    return {
      bias: { feedForward: false },
      rotaryLayout: "interleaved",
      feedForward: readFeedForward(config, hidden, noBias, { names, sizeKey: "intermediate_size_mlp" }),
      layers: masksOf(config, types).map((mask, layer) =>
        rotary[layer] ? { mask, attention: turned } : { mask, rotary: "none", attention: fixed },
      ),
    };
  },
});

const names = { gate: "feed_forward.gate_proj", up: "feed_forward.up_proj", down: "feed_forward.down_proj" };

function readTemperature(config: ConfigReader) {
  const period = config.integer("floor_scale", { maximum: limits.positions, unset: 8192 });
  const scale = config.number("attn_scale", { unset: 0.1 });
  return config.flag("attn_temperature_tuning", true) ? { temperature: { scale, period, offset: 1 } } : {};
}

function checkExperts(config: ConfigReader): void {
  const layers = config.raw("moe_layers");
  if (Array.isArray(layers) && layers.length === 0) return;
  throw config.wrong("moe_layers", "no layers with experts: []", "Experts of Llama 4 are not computed.");
}
