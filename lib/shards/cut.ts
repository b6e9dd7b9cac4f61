import { countUnits, deal, divisionOf, layerOf, parseRole, type Range } from "../models/roles.js";
import type { ModelSpec } from "../native/spec.js";

export type { Range } from "../models/roles.js";

/** What a role's tensor is cut into: its rows (a column-parallel product), its columns (a row-parallel one), or nothing. */
export type Cut = "rows" | "columns" | "none";

/**
 * Megatron-LM's cuts (Shoeybi et al. 2019) of what layers hold. Embeddings and head stay whole, as in DeepSpeed's pre-sharded checkpoints,
 * while the engine divides them by vocabulary rows; so do norms and other vectors.
 */
export function cutOf(name: string): Cut {
  const { role, isBias } = parseRole(name);
  const { division } = role;
  if (role.isVector || typeof division !== "object" || division.unit === "vocabulary") return "none";
  return isBias && division.by === "columns" ? "none" : division.by;
}

const times = ({ first, count }: Range, factor: number): Range => ({ first: first * factor, count: count * factor });

/**
 * The part of a role's tensor, in rows or columns, that rank `rank` of `size` has; undefined where the role is not cut. KV heads go with
 * their query heads; where there are fewer KV heads than ranks, keys and values stay whole.
 */
export function shareOf(spec: ModelSpec, name: string, rank: number, size: number): Range | undefined {
  if (cutOf(name) === "none") return undefined;
  const { role, layer } = parseRole(name);
  const kind = layerOf(spec, layer);
  const division = divisionOf(role, kind, spec);
  if (typeof division === "string") return undefined;
  if (division.unit === "neurons" || division.unit === "sharedNeurons")
    return deal(countUnits(spec, kind, division.unit), rank, size);
  const { heads, kvHeads } = kind.attention;
  const [rows, cols] = role.shape(spec, kind);
  const width = (division.by === "rows" ? rows : cols) / countUnits(spec, kind, division.unit);
  const isKeyOrValue = division.unit === "kvHeads";
  if (size > kvHeads) return isKeyOrValue ? undefined : times(deal(heads, rank, size), width);
  const own = times(deal(kvHeads, rank, size), width);
  return isKeyOrValue ? own : times(own, heads / kvHeads);
}
