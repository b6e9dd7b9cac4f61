import type { NormPlacementSpec, NormSpec } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";

/** The norm that a config's epsilon belongs to. */
export function readNorm(
  config: ConfigReader,
  kind: NormSpec["kind"],
  key: "layer_norm_epsilon" | "layer_norm_eps" | "norm_eps" | "norm_epsilon" | "rms_norm_eps",
  unset: number,
): NormSpec {
  return { kind, epsilon: config.number(key, { minimum: 0, maximum: 1, unset }) };
}

/** Ahead of each part of a layer (Xiong et al. 2020, arXiv:2002.04745). */
export function ahead(norm: NormSpec): NormPlacementSpec {
  return { norm, input: true, output: false };
}
