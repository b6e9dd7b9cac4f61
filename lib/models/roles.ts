import type { LayerSpec, ModelSpec } from "../native/spec.js";

/** Units first ... first + count - 1 of something. */
export interface Range {
  first: number;
  count: number;
}

/** What is dealt out to the ranks of a group: query heads, KV heads, feed-forward neurons (of each expert, or of the shared one), vocabulary rows. */
export type Unit = "heads" | "kvHeads" | "neurons" | "sharedNeurons" | "vocabulary";

export type Division = { by: "rows" | "columns"; unit: Unit } | "whole" | "rank 0 only";

/** One weight role: what its matrix is, and how it is divided among ranks. */
export interface Role {
  /** Rows and columns of its matrix; of a vector, 1 row. */
  shape(spec: ModelSpec, layer: LayerSpec): [rows: number, cols: number];
  /**
   * What each rank keeps of it. By rows: its own rows, also of the bias (a column-parallel product). By columns: its own columns and the
   * whole bias, which is added once to the sum (a row-parallel product). Of a vector: its own elements, of the bias as well.
   */
  division: Division | ((layer: LayerSpec, spec: ModelSpec) => Division);
  /** A norm's weight and bias, or a vector of other numbers; it is whole in checkpoints in shards. */
  isVector?: true;
}

const queryRows = ({ attention: { heads, headDim } }: LayerSpec) => heads * headDim;
/** Elements of a value, and of a key that belong to its head alone. */
const valueDim = ({ attention: { headDim, latent } }: LayerSpec) => latent?.valueDim ?? headDim;
const keyDim = ({ attention: { headDim, latent } }: LayerSpec) => headDim - (latent?.positionDims ?? 0);
const hiddenNorm: Role = { shape: ({ hiddenSize }) => [1, hiddenSize], division: "whole", isVector: true };
/** Of queries or keys: one head's weights for all of them, or weights of their own. */
const headsNorm = (unit: "heads" | "kvHeads"): Role => {
  const isShared = ({ attention: { qkNorm } }: LayerSpec) => qkNorm?.span === "head" && qkNorm.headWeights !== true;
  return {
    shape: (_, layer) => [1, (isShared(layer) ? 1 : layer.attention[unit]) * layer.attention.headDim],
    division: (layer) => (isShared(layer) ? "whole" : { by: "columns", unit }),
    isVector: true,
  };
};
const ofKvHeads = (width: (layer: LayerSpec) => number): Role => ({
  shape: ({ hiddenSize }, layer) => [
    layer.attention.kvHeads * width(layer),
    layer.attention.latent?.rank ?? hiddenSize,
  ],
  division: { by: "rows", unit: "kvHeads" },
});
/** Of latent attention: rows of lower rank, and their norm. */
const ofRank = (key: "queryRank" | "rank" | "positionDims"): Role => ({
  shape: ({ hiddenSize }, { attention: { latent } }) => [latent?.[key] ?? 0, hiddenSize],
  division: "whole",
});
const rankNorm = (key: "queryRank" | "rank"): Role => ({
  shape: (_, { attention: { latent } }) => [1, latent?.[key] ?? 0],
  division: "whole",
  isVector: true,
});
const upward: Role = {
  shape: ({ hiddenSize }, { feedForward }) => [feedForward.size, hiddenSize],
  division: { by: "rows", unit: "neurons" },
};
const downward: Role = {
  shape: ({ hiddenSize }, { feedForward }) => [hiddenSize, feedForward.size],
  division: { by: "columns", unit: "neurons" },
};
const sharedSize = ({ feedForward }: LayerSpec) =>
  feedForward.kind === "experts" ? (feedForward.shared?.size ?? 0) : 0;
const sharedUpward: Role = {
  shape: ({ hiddenSize }, layer) => [sharedSize(layer), hiddenSize],
  division: { by: "rows", unit: "sharedNeurons" },
};
const experts = ({ feedForward }: LayerSpec) => (feedForward.kind === "experts" ? feedForward.count : 0);
const vocabularyRows: Role = {
  shape: ({ vocabSize, embedding }) => [vocabSize, embedding.width],
  division: { by: "rows", unit: "vocabulary" },
};

/** Of positions, token types and the norm behind them. */
const embeddedWidth = ({ embedding, hiddenSize }: ModelSpec) => (embedding.projectsLast ? embedding.width : hiddenSize);
/** Of what a head's matrix reads. */
const headWidth = ({ output, embedding, hiddenSize }: ModelSpec) =>
  output.kind === "hidden" || (output.kind !== "logits" && embedding.projectsLast) ? hiddenSize : embedding.width;
/** Of scores of distances. */
const buckets = ({ attention: { positions } }: LayerSpec) => (positions.kind === "buckets" ? positions.buckets : 0);

/**
 * Every weight role, without `.weight` or `.bias`. Those of a layer are `layers.N.` and one of layerRoles, in which N is the index of an expert.
 * A head that is the token embedding has no weight. src/model/layout.cpp and shard.cpp divide by the same rules: test/models/roles.test.ts compares the two.
 */
export const modelRoles = {
  "embed.tokens": vocabularyRows,
  "embed.positions": {
    // Learned ones; sinusoidal ones are computed.
    shape: (spec) => [spec.maxPositions + (spec.embedding.positions?.offset ?? 0), embeddedWidth(spec)],
    division: "rank 0 only",
  },
  "embed.token_types": {
    shape: (spec) => [spec.embedding.tokenTypes?.count ?? 0, embeddedWidth(spec)],
    division: "rank 0 only",
  },
  "embed.projection": { shape: ({ hiddenSize, embedding }) => [hiddenSize, embedding.width], division: "whole" },
  "embed.norm": { shape: (spec) => [1, embeddedWidth(spec)], division: "whole", isVector: true },
  "positions.scores": {
    shape: ({ kinds }) => [Math.max(...kinds.map(buckets)), kinds[0]?.attention.heads ?? 0],
    division: { by: "columns", unit: "heads" },
  },
  "positions.relative": {
    shape: ({ relativeTable, hiddenSize }) => [relativeTable?.rows ?? 0, hiddenSize],
    division: "whole",
  },
  "positions.relative_norm": hiddenNorm,
  norm: hiddenNorm,
  "head.projection": { shape: ({ hiddenSize, embedding }) => [embedding.width, hiddenSize], division: "whole" },
  "head.dense": { shape: (spec) => [headWidth(spec), spec.hiddenSize], division: "whole" },
  "head.norm": { shape: (spec) => [1, headWidth(spec)], division: "whole", isVector: true },
  head: {
    shape: (spec) => ["count" in spec.output ? spec.output.count : spec.vocabSize, headWidth(spec)],
    division: (_, { output }) => (output.kind === "logits" ? { by: "rows", unit: "vocabulary" } : "whole"),
  },
} as const satisfies Record<string, Role>;

export const layerRoles = {
  "attn.norm": hiddenNorm,
  "attn.q": {
    shape: ({ hiddenSize }, layer) => [queryRows(layer), layer.attention.latent?.queryRank ?? hiddenSize],
    division: { by: "rows", unit: "heads" },
  },
  "attn.k": ofKvHeads(keyDim),
  "attn.v": ofKvHeads(valueDim),
  "attn.o": {
    shape: ({ hiddenSize }, layer) => [hiddenSize, layer.attention.heads * valueDim(layer)],
    division: { by: "columns", unit: "heads" },
  },
  "attn.q_norm": headsNorm("heads"),
  "attn.k_norm": headsNorm("kvHeads"),
  "attn.sinks": {
    shape: (_, { attention: { heads } }) => [1, heads],
    division: { by: "columns", unit: "heads" },
    isVector: true,
  },
  "attn.q_relative": {
    shape: ({ hiddenSize }, layer) => [queryRows(layer), hiddenSize],
    division: { by: "rows", unit: "heads" },
  },
  "attn.k_relative": ofKvHeads(keyDim),
  "attn.out_norm": hiddenNorm,
  "attn.q_latent": ofRank("queryRank"),
  "attn.q_latent_norm": rankNorm("queryRank"),
  "attn.kv_latent": ofRank("rank"),
  "attn.kv_latent_norm": rankNorm("rank"),
  "attn.k_shared": ofRank("positionDims"),
  "mlp.norm": hiddenNorm,
  "mlp.gate": upward,
  "mlp.up": upward,
  "mlp.down": downward,
  "mlp.router": { shape: ({ hiddenSize }, layer) => [experts(layer), hiddenSize], division: "whole" },
  "mlp.router.correction": { shape: (_spec, layer) => [1, experts(layer)], division: "whole", isVector: true },
  "mlp.experts.N.gate": upward,
  "mlp.experts.N.up": upward,
  "mlp.experts.N.down": downward,
  "mlp.shared.router": { shape: ({ hiddenSize }) => [1, hiddenSize], division: "whole" },
  "mlp.shared.gate": sharedUpward,
  "mlp.shared.up": sharedUpward,
  "mlp.shared.down": {
    shape: ({ hiddenSize }, layer) => [hiddenSize, sharedSize(layer)],
    division: { by: "columns", unit: "sharedNeurons" },
  },
  "mlp.out_norm": hiddenNorm,
  /** alpha_p and alpha_n, as they are stored. */
  "mlp.xielu": { shape: () => [1, 2], division: "whole", isVector: true },
} as const satisfies Record<string, Role>;

/** What a role's full name says. */
export interface RoleName {
  role: Role;
  /** Without `.weight` or `.bias`. */
  matrix: string;
  isBias: boolean;
  /** Index of its layer; undefined outside layers. */
  layer: number | undefined;
}

/** @throws TypeError for a name that is none. */
export function parseRole(name: string): RoleName {
  const [, matrix = "", layer, inLayer, part] = /^((?:layers\.(\d+)\.)?(.+))\.(weight|bias)$/.exec(name) ?? [];
  const table: Readonly<Record<string, Role>> = layer === undefined ? modelRoles : layerRoles;
  const key = inLayer?.replace(/^mlp\.experts\.\d+\./, "mlp.experts.N.");
  const isKnown = key !== undefined && !inLayer?.includes(".N.") && Object.hasOwn(table, key);
  const role = isKnown ? table[key] : undefined;
  if (!role) throw new TypeError(`${name} is no weight role`);
  return { role, matrix, isBias: part === "bias", layer: layer === undefined ? undefined : Number(layer) };
}

/** The kind of the layer that a role belongs to; of roles outside layers, any. */
export function layerOf(spec: ModelSpec, layer: number | undefined): LayerSpec {
  return spec.kinds[spec.layers[layer ?? 0] ?? 0] as LayerSpec;
}

export function divisionOf({ division }: Role, layer: LayerSpec, spec: ModelSpec): Division {
  return typeof division === "function" ? division(layer, spec) : division;
}

/** Rows and columns of a role's matrix, of all ranks together; of a bias, 1 row. */
export function shapeOf(spec: ModelSpec, name: string): [rows: number, cols: number] {
  const { role, isBias, layer } = parseRole(name);
  const [rows, cols] = role.shape(spec, layerOf(spec, layer));
  return isBias ? [1, role.isVector ? cols : rows] : [rows, cols];
}

/** Neurons and vocabulary rows are dealt out in blocks of so many, if there are enough of them (kGateBlock of src/backend.h). */
const blockUnits = 16;

/** The index-th of `parts` parts of `units`, which differ by one unit at most. */
export function deal(units: number, index: number, parts: number): Range {
  const first = Math.floor((units * index) / parts);
  return { first, count: Math.floor((units * (index + 1)) / parts) - first };
}

function dealBlocks(units: number, index: number, parts: number): Range {
  const blocks = Math.ceil(units / blockUnits);
  if (blocks < parts) return deal(units, index, parts);
  const dealt = deal(blocks, index, parts);
  const first = dealt.first * blockUnits;
  return { first, count: Math.min(units, (dealt.first + dealt.count) * blockUnits) - first };
}

/** Whole KV heads with their query heads; where there are fewer of them than ranks, the ranks are dealt out to the KV heads. */
function dealHeads({ attention }: LayerSpec, rank: number, size: number): Record<"heads" | "kvHeads", Range> {
  const { heads, kvHeads } = attention;
  const group = heads / kvHeads;
  if (size <= kvHeads) {
    const own = deal(kvHeads, rank, size);
    return { kvHeads: own, heads: { first: own.first * group, count: own.count * group } };
  }
  let kvHead = 0;
  let ranks = deal(size, kvHead, kvHeads);
  while (ranks.first + ranks.count <= rank) ranks = deal(size, ++kvHead, kvHeads);
  const queries = deal(group, rank - ranks.first, ranks.count);
  return {
    kvHeads: { first: kvHead, count: 1 },
    heads: { first: kvHead * group + queries.first, count: queries.count },
  };
}

/** The units that rank `rank` of `size` computes (src/model/shard.cpp). */
export function unitsOf(spec: ModelSpec, layer: LayerSpec, unit: Unit, rank: number, size: number): Range {
  if (unit === "vocabulary") return dealBlocks(spec.vocabSize, rank, size);
  if (unit === "neurons" || unit === "sharedNeurons") return dealBlocks(countUnits(spec, layer, unit), rank, size);
  return dealHeads(layer, rank, size)[unit];
}

/** How many units of a kind there are, of all ranks together. */
export function countUnits(spec: ModelSpec, layer: LayerSpec, unit: Unit): number {
  const { attention, feedForward } = layer;
  return {
    ...{ heads: attention.heads, kvHeads: attention.kvHeads },
    ...{ neurons: feedForward.size, sharedNeurons: sharedSize(layer), vocabulary: spec.vocabSize },
  }[unit];
}

/** Rows and columns of a role that rank `rank` of `size` holds; undefined where it holds nothing of it. */
export function heldShape(
  spec: ModelSpec,
  name: string,
  rank: number,
  size: number,
): [rows: number, cols: number] | undefined {
  const { role, isBias, layer } = parseRole(name);
  const [rows, cols] = shapeOf(spec, name);
  const kind = layerOf(spec, layer);
  const division = divisionOf(role, kind, spec);
  if (division === "rank 0 only") return rank === 0 ? [rows, cols] : undefined;
  if (division === "whole" || (isBias && !role.isVector && division.by === "columns")) return [rows, cols];
  const { count } = unitsOf(spec, kind, division.unit, rank, size);
  const part = (whole: number) => (whole * count) / countUnits(spec, kind, division.unit);
  return isBias || division.by === "columns" ? [rows, part(cols)] : [part(rows), cols];
}
