import type { ModelSpec, WeightView } from "../models/spec.js";

/** What a rank holds of a model, in elements. */
export interface RankElements {
  weights: number;
  /** Elements of one token's keys and values, all layers, heads padded as backends pad them: to whole vectors or tiles of 16. */
  kvPerToken: number;
}

/** Sizes of tensor-parallel groups that a model can be divided among: heads must come out even. */
export function possibleTpSizes(spec: ModelSpec): number[] {
  return [1, 2, 4, 8].filter(
    (size) => spec.heads % size === 0 && (spec.kvHeads % size === 0 || size % spec.kvHeads === 0),
  );
}

/** The largest share of a model that a rank of `tpSize` holds. */
export function rankElements(spec: ModelSpec, weights: readonly WeightView[], tpSize: number): RankElements {
  const kvHeads = Math.max(1, spec.kvHeads / tpSize);
  const elements = (view: WeightView) => view.shape.reduce((product, length) => product * length, 1);
  return {
    weights: weights.reduce(
      (sum, view) => sum + Math.ceil(elements(view) * rankShare(view.role, spec, tpSize, kvHeads)),
      0,
    ),
    kvPerToken: 2 * spec.layers * kvHeads * Math.ceil(spec.headDim / 16) * 16,
  };
}

/** Heads, feed-forward units and vocabulary rows are divided; norms, positions and biases of row-parallel products are not. */
function rankShare(role: string, spec: ModelSpec, tpSize: number, kvHeads: number): number {
  if (/\.attn\.[kv]\./.test(role)) return kvHeads / spec.kvHeads;
  if (/\.(attn\.o|mlp\.down)\.bias$/.test(role)) return 1;
  if (/\.(attn\.[qo]|mlp\.(gate|up|down))\./.test(role)) return 1 / tpSize;
  if (role === "embed.tokens.weight" || /^head\.(weight|bias)$/.test(role)) return 1 / tpSize;
  return 1;
}
