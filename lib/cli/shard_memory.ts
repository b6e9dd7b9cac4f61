import { largestTpSize } from "../loading/sharding.js";
import type { ModelSpec, WeightView } from "../models/spec.js";

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

/** The largest share of a model that a rank of `tpSize` holds. */
export function rankElements(spec: ModelSpec, weights: readonly WeightView[], tpSize: number): RankElements {
  const kvHeads = Math.ceil(spec.kvHeads / tpSize);
  const elements = (view: WeightView) => view.shape.reduce((product, length) => product * length, 1);
  return {
    weights: weights.reduce((sum, view) => sum + Math.ceil(elements(view) * rankShare(view.role, spec, tpSize)), 0),
    kvPerToken: 2 * spec.layers * kvHeads * Math.ceil(spec.headDim / 16) * 16,
  };
}

/** Heads, feed-forward units and vocabulary rows are divided (src/model/shard.h); norms, positions and biases behind sums are not. */
function rankShare(role: string, spec: ModelSpec, tpSize: number): number {
  const share = (units: number) => Math.min(1, (Math.ceil(Math.ceil(units / 16) / tpSize) * 16) / units);
  if (/\.attn\.[kv]\./.test(role)) return Math.ceil(spec.kvHeads / tpSize) / spec.kvHeads;
  if (/\.(attn\.o|mlp\.down)\.bias$/.test(role)) return 1;
  if (/\.attn\.[qo]\./.test(role)) return mostHeads(spec, tpSize) / spec.heads;
  if (/\.mlp\.(gate|up|down)\./.test(role)) return share(spec.ffnSize);
  if (role === "embed.tokens.weight" || /^head\.(weight|bias)$/.test(role)) return share(spec.vocabSize);
  return 1;
}

/** Query heads of the rank that has most. */
function mostHeads({ heads, kvHeads }: ModelSpec, tpSize: number): number {
  const group = heads / kvHeads;
  if (tpSize <= kvHeads) return Math.ceil(kvHeads / tpSize) * group;
  return Math.ceil(group / Math.floor(tpSize / kvHeads));
}
