import type { AttentionMask, AttentionPositions, AttentionSpec, NormSpec } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { linear, norm as normPlaces, stackedLinear, stored, type WeightPlace } from "../descriptor.js";
import { limits } from "../limits.js";
import { narrow, select, unflatten, type ViewStep } from "../weights/views.js";

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

/** All queries, then all keys, then all values in one matrix (Phi-3, MPT, ModernBERT). */
export function fusedQkv(
  { hidden, heads, kvHeads, headDim }: AttentionSizes,
  tensor: string,
  bias = false,
): WeightPlace[] {
  const [queryRows, keyRows] = [heads * headDim, kvHeads * headDim];
  return stackedLinear(
    [
      ["attn.q", queryRows],
      ["attn.k", keyRows],
      ["attn.v", keyRows],
    ],
    tensor,
    hidden,
    bias,
  );
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

/** Norms of queries and keys, and the places of their weights in a layer. */
interface QueryKeyNorms {
  attention: Pick<AttentionSpec, "qkNorm">;
  layerPlaces: WeightPlace[];
}

/** Norms of queries and keys, each head by itself with the weights that all heads share. */
export function headNorms(
  norm: NormSpec,
  { headDim }: AttentionSizes,
  q: string,
  k: string,
  { afterPositions = false, bias = false }: { afterPositions?: boolean; bias?: boolean } = {},
): QueryKeyNorms {
  return {
    attention: { qkNorm: { span: "head", norm, ...(afterPositions && { afterPositions }) } },
    layerPlaces: [...normPlaces("attn.q_norm", q, headDim, bias), ...normPlaces("attn.k_norm", k, headDim, bias)],
  };
}

/** Norms of heads where qk_layernorm asks for them (Phi, Persimmon). */
export function readHeadNorms(
  config: ConfigReader,
  norm: NormSpec,
  sizes: AttentionSizes,
  unset: boolean,
): QueryKeyNorms {
  if (!config.flag("qk_layernorm", unset)) return { attention: {}, layerPlaces: [] };
  return headNorms(norm, sizes, "self_attn.q_layernorm", "self_attn.k_layernorm", { bias: true });
}

/** The same with weights of its own for each head, in one tensor (heads, headDim). */
export function headWeightNorms(
  norm: NormSpec,
  { heads, kvHeads, headDim }: AttentionSizes,
  q: string,
  k: string,
): QueryKeyNorms {
  const eachHead = (role: string, tensor: string, count: number) =>
    Array.from({ length: count }, (_, head) => ({
      ...stored(`${role}.weight`, `${tensor}.weight`, [count, headDim], narrow(0, head, 1)),
      firstCol: head * headDim,
    }));
  return {
    attention: { qkNorm: { span: "head", norm, headWeights: true } },
    layerPlaces: [...eachHead("attn.q_norm", q, heads), ...eachHead("attn.k_norm", k, kvHeads)],
  };
}

/** Norms of all queries and of all keys of a token. */
export function rowNorms(
  norm: NormSpec,
  { heads, kvHeads, headDim }: AttentionSizes,
  q: string,
  k: string,
): QueryKeyNorms {
  return {
    attention: { qkNorm: { span: "row", norm } },
    layerPlaces: [
      ...normPlaces("attn.q_norm", q, heads * headDim, false),
      ...normPlaces("attn.k_norm", k, kvHeads * headDim, false),
    ],
  };
}
