import type { DenseFeedForward } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { norm, type WeightPlace } from "../descriptor.js";
import { type AttentionSizes, separateQkv } from "./attention.js";
import { feedForwardPlaces } from "./feed_forward.js";

/** A layer under the names of Fairseq's decoders (OPT, XGLM, BioGPT). */
export function fairseqLayer(
  sizes: AttentionSizes,
  feedForward: DenseFeedForward,
  { bias = true, normsHaveWeights = true }: { bias?: boolean; normsHaveWeights?: boolean } = {},
): WeightPlace[] {
  const { hidden } = sizes;
  const normPlaces = (role: string, tensor: string) => (normsHaveWeights ? norm(role, tensor, hidden, true) : []);
  return [
    ...normPlaces("attn.norm", "self_attn_layer_norm"),
    ...separateQkv(sizes, ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"], bias),
    ...normPlaces("mlp.norm", "final_layer_norm"),
    ...feedForwardPlaces(feedForward, hidden, { up: "fc1", down: "fc2" }, bias),
  ];
}

/** Tokens' rows times the root of their width, unless scale_embedding is false (XGLM, BioGPT). */
export function readEmbeddingScale(config: ConfigReader, hidden: number): { scale?: number } {
  return config.flag("scale_embedding", true) ? { scale: Math.sqrt(hidden) } : {};
}
