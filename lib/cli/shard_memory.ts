import { seesLater } from "../engine/model_info.js";
import { largestTpSize } from "../loading/sharding.js";
import { heldShape, shapeOf, unitsOf } from "../models/roles.js";
import type { ModelSpec, WeightView } from "../native/spec.js";

/** What a rank holds of a model, in elements. */
export interface RankElements {
  weights: number;
  /** Elements of one token's keys and values, all layers, heads padded as backends pad them: to whole vectors or tiles of 16. */
  kvPerToken: number;
}

/** Sizes of tensor-parallel groups to show: those in use, as far as the model can be divided so often. */
export function shownTpSizes(spec: ModelSpec): number[] {
  return [1, 2, 4, 8].filter((size) => size <= largestTpSize(spec));
}

/** The most that a rank of `tpSize` holds of a model. */
export function rankElements(spec: ModelSpec, weights: readonly WeightView[], tpSize: number): RankElements {
  const ranks = Array.from({ length: tpSize }, (_, rank) => elementsOf(spec, weights, rank, tpSize));
  return {
    weights: Math.max(...ranks.map((rank) => rank.weights)),
    kvPerToken: Math.max(...ranks.map((rank) => rank.kvPerToken)),
  };
}

function elementsOf(spec: ModelSpec, weights: readonly WeightView[], rank: number, tpSize: number): RankElements {
  const product = (sizes: readonly number[]) => sizes.reduce((whole, size) => whole * size, 1);
  const share = (role: string) => product(heldShape(spec, role, rank, tpSize) ?? [0]) / product(shapeOf(spec, role));
  const keys = spec.kinds.map((kind) => {
    const { count } = unitsOf(spec, kind, "kvHeads", rank, tpSize);
    return 2 * count * Math.ceil(kind.attention.headDim / 16) * 16;
  });
  return {
    weights: Math.round(weights.reduce((sum, { role, shape }) => sum + product(shape) * share(role), 0)),
    kvPerToken: (seesLater(spec) ? spec.layers.slice(0, 1) : spec.layers).reduce(
      (sum, kind) => sum + (keys[kind] as number),
      0,
    ),
  };
}
