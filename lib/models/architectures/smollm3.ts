import { llamaLike } from "../llama_like.js";
import { masksOf, readLayerTypes, readRotaryLayers } from "../parts/layer_types.js";

/** SmolLM3 (Hugging Face 2025), as transformers/models/smollm3 computes it. */
export const smollm3 = llamaLike({
  modelType: "smollm3",
  summary: "SmolLM3: Llama without positions in every fourth layer",
  classes: ["SmolLM3ForCausalLM"],
  defaults: {
    ...{ hidden_size: 2048, num_hidden_layers: 36, num_attention_heads: 16, num_key_value_heads: 4 },
    ...{ intermediate_size: 11_008, vocab_size: 128_256, max_position_embeddings: 32_768 },
    ...{ rope_theta: 2_000_000, tie_word_embeddings: true },
  },
  differences(config, { layers }) {
    const rotary = readRotaryLayers(config, layers);
    const slides = config.flag("use_sliding_window", false) && (config.raw("sliding_window") ?? null) !== null;
    const rule = (layer: number) => (slides && !rotary[layer] ? "sliding_attention" : "full_attention");
    const types = readLayerTypes(config, layers, ["full_attention", "sliding_attention"], rule);
    const masks = masksOf(config, types);
    return { layers: masks.map((mask, layer) => ({ mask, rotary: rotary[layer] ? 0 : "none" })) };
  },
});
