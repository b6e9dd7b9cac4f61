import type { AttentionMask, AttentionPositions, AttentionSpec } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { linear, stored, type WeightPlace } from "../descriptor.js";
import { limits } from "../limits.js";
import { narrow, select, share, unflatten, type ViewStep } from "../weights/views.js";

/** The sizes of an attention part. */
export interface AttentionSizes {
  hidden: number;
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** Scaled dot-product attention (Vaswani et al. 2017), causal where nothing else is said. */
export function attention(
  { heads, kvHeads, headDim }: Omit<AttentionSizes, "hidden">,
  positions: AttentionPositions,
  { scale = headDim ** -0.5, mask = { kind: "causal" } }: { scale?: number; mask?: AttentionMask } = {},
): AttentionSpec {
  return { heads, kvHeads, headDim, scale, mask, positions };
}

/** Queries, keys, values and output, each a matrix of its own. */
export function separateQkv(
  { hidden, heads, kvHeads, headDim }: AttentionSizes,
  [q, k, v, o]: readonly [q: string, k: string, v: string, o: string],
  bias: boolean,
  outputBias = bias,
): WeightPlace[] {
  return [
    ...linear("attn.q", q, heads * headDim, hidden, bias),
    ...linear("attn.k", k, kvHeads * headDim, hidden, bias),
    ...linear("attn.v", v, kvHeads * headDim, hidden, bias),
    ...linear("attn.o", o, hidden, heads * headDim, outputBias),
  ];
}

/** All queries, then all keys, then all values in one matrix (MPT). */
export function fusedQkv({ hidden, heads, kvHeads, headDim }: AttentionSizes, tensor: string): WeightPlace[] {
  const [queryRows, keyRows] = [heads * headDim, kvHeads * headDim];
  const rows = queryRows + 2 * keyRows;
  const part = (role: string, first: number, count: number) =>
    stored(`${role}.weight`, `${tensor}.weight`, [rows, hidden], share(0, first, count, rows));
  return [
    part("attn.q", 0, queryRows),
    part("attn.k", queryRows, keyRows),
    part("attn.v", queryRows + keyRows, keyRows),
  ];
}

/** How many heads of keys and values there are; as many as of queries where the config names none. */
export function readKvHeads(config: ConfigReader, heads: number): number {
  const kvHeads = config.integer("num_key_value_heads", { maximum: limits.heads, nullable: true, unset: heads });
  if (heads % kvHeads !== 0)
    throw config.wrong("num_key_value_heads", `a divisor of the number of attention heads, ${heads}`);
  return kvHeads;
}

/**
 * Queries, keys and values in one matrix: for each KV head its query heads, its key, its value (Falcon). Where every head has a key and value
 * of its own these are queries, keys and values by turns (BLOOM, GPT-NeoX); where there is one KV head, all queries, then the key and the
 * value.
 */
export function groupedQkv(
  { hidden, heads, kvHeads, headDim }: AttentionSizes,
  tensor: string,
  bias: boolean,
): WeightPlace[] {
  const rows = (heads + 2 * kvHeads) * headDim;
  const group = heads / kvHeads;
  const grouped = unflatten(0, [-1, group + 2, headDim]);
  const parts: [role: string, part: ViewStep][] = [
    ["attn.q", group === 1 ? select(1, 0) : narrow(1, 0, group)],
    ["attn.k", select(1, group)],
    ["attn.v", select(1, group + 1)],
  ];
  return parts.flatMap(([role, part]) => [
    stored(`${role}.weight`, `${tensor}.weight`, [rows, hidden], grouped, part),
    ...(bias ? [stored(`${role}.bias`, `${tensor}.bias`, [rows], grouped, part)] : []),
  ]);
}
