import type { ModelSpec } from "../models/spec.js";

/** Units first ... first + count - 1 of something. */
export interface Range {
  first: number;
  count: number;
}

/** What a role's tensor is cut into: its rows (a column-parallel product), its columns (a row-parallel one), or nothing. */
export type Cut = "rows" | "columns" | "none";

/** Megatron-LM's cuts (Shoeybi et al. 2019). Embeddings, head and norms stay whole, as in DeepSpeed's pre-sharded checkpoints. */
export function cutOf(role: string): Cut {
  if (/\.attn\.[qkv]\.(weight|bias)$/.test(role) || /\.mlp\.(up|gate)\.(weight|bias)$/.test(role)) return "rows";
  return /\.(attn\.o|mlp\.down)\.weight$/.test(role) ? "columns" : "none";
}

/** The index-th of `parts` parts of `units`, which differ by one unit at most. */
function deal(units: number, index: number, parts: number): Range {
  const first = Math.floor((units * index) / parts);
  return { first, count: Math.floor((units * (index + 1)) / parts) - first };
}

const times = ({ first, count }: Range, factor: number): Range => ({ first: first * factor, count: count * factor });

/**
 * The part of a role's tensor, in rows or columns, that rank `rank` of `size` has; undefined where the role is not cut. KV heads go with
 * their query heads; where there are fewer KV heads than ranks, keys and values stay whole.
 */
export function shareOf(spec: ModelSpec, role: string, rank: number, size: number): Range | undefined {
  const { heads, kvHeads, headDim, ffnSize } = spec;
  if (cutOf(role) === "none") return undefined;
  if (/\.mlp\./.test(role)) return deal(ffnSize, rank, size);
  const isKeyOrValue = /\.attn\.[kv]\./.test(role);
  if (size > kvHeads) return isKeyOrValue ? undefined : times(deal(heads, rank, size), headDim);
  const own = times(deal(kvHeads, rank, size), headDim);
  return isKeyOrValue ? own : times(own, heads / kvHeads);
}
