import { llamaLike, noBias } from "../llama_like.js";
import { masksOf, readLayerTypes } from "../parts/layer_types.js";
import { mistral } from "./mistral.js";

/** Ministral, as transformers/models/ministral computes it. */
export const ministral = llamaLike({
  modelType: "ministral",
  summary: "Ministral: Mistral with a window in some layers",
  classes: ["MinistralForCausalLM"],
  defaults: { ...mistral.defaults },
  differences(config, { layers }) {
    const rule = config.raw("sliding_window") === null ? "full_attention" : "sliding_attention";
    const types = readLayerTypes(config, layers, ["full_attention", "sliding_attention"], () => rule);
    return { bias: noBias, layers: masksOf(config, types).map((mask) => ({ mask })) };
  },
});
