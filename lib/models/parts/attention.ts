import { linear, type WeightPlace } from "../descriptor.js";
import type { AttentionMask, AttentionPositions, AttentionSpec } from "../spec.js";

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
): WeightPlace[] {
  return [
    ...linear("attn.q", q, heads * headDim, hidden, bias),
    ...linear("attn.k", k, kvHeads * headDim, hidden, bias),
    ...linear("attn.v", v, kvHeads * headDim, hidden, bias),
    ...linear("attn.o", o, hidden, heads * headDim, bias),
  ];
}
