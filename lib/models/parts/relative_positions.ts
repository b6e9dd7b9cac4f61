import type { AttentionPositions, RelativeTable } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import type { EncoderSizes } from "./encoder.js";

const round = Math.fround;

/**
 * Rows of distances on both sides (He et al. 2020, arXiv:2006.03654): 2 span rows, the middle one of distance 0, keys ahead of the query in the
 * rows before it. Without buckets each distance has a row; with buckets, half of them, and the others have theirs in logarithmic steps up to about
 * maxDistance. Rounded as the reference computes it, in fp32. Nothing is farther than `farthest`.
 */
export function relativeRows(
  { buckets, maxDistance }: { buckets: number | undefined; maxDistance: number },
  farthest: number,
): RelativeTable {
  const span = buckets ?? maxDistance;
  const middle = Math.floor(span / 2);
  const scale = round(Math.log(round((maxDistance - 1) / middle)));
  const bucket = (far: number) => {
    if (buckets === undefined || far <= middle) return far;
    const steps = round(round(Math.log(round(far / middle))) / scale);
    return Math.ceil(round(steps * (middle - 1))) + middle;
  };
  const reach = buckets === undefined ? Math.min(farthest, maxDistance) : farthest;
  const rowOf = Array.from({ length: 2 * reach + 1 }, (_, index) => {
    const behind = reach - index;
    return Math.min(Math.max(span + Math.sign(behind) * bucket(Math.abs(behind)), 0), 2 * span - 1);
  });
  return { rows: 2 * span, rowOf };
}

/** Rows up to which tables of distances are taken for undamaged. */
const mostRows = 1 << 16;

/** Which products with relative positions there are, and by how many terms together scores are scaled. */
export function readRelative(
  config: ConfigReader,
  { maxPositions, layerNorm }: EncoderSizes,
): { positions: AttentionPositions; table?: RelativeTable; terms: number } {
  const types = readTypes(config);
  const queries = types.includes("c2p");
  const keys = types.includes("p2c");
  const terms = 1 + Number(queries) + Number(keys);
  const isRelative = config.flag("relative_attention", false);
  const isNormed = words(config.text("norm_rel_ebd", "none")).includes("layer_norm");
  // Below 1 neither says anything.
  const rows = { minimum: Number.MIN_SAFE_INTEGER, maximum: mostRows, unset: -1 };
  const given = config.integer("max_relative_positions", rows);
  const buckets = config.integer("position_buckets", rows);
  const isShared = config.flag("share_att_key", false);
  if (!isRelative || terms === 1) return { positions: { kind: "none" }, terms };
  const maxDistance = given < 1 ? maxPositions : given;
  if (maxPositions > mostRows) throw config.wrong("max_position_embeddings", `at most ${mostRows}`);
  if (buckets > 0 && (buckets < 2 || maxDistance - 1 <= Math.floor(buckets / 2)))
    throw config.wrong("position_buckets", "at least 2, of which half are fewer than there are distances");
  const table = relativeRows({ buckets: buckets > 0 ? buckets : undefined, maxDistance }, maxPositions);
  return {
    positions: { kind: "relative", queries, keys, ...(isShared ? {} : { separate: true }) },
    table: isNormed ? { ...table, norm: layerNorm } : table,
    terms,
  };
}

/** `pos_att_type`, a list or a text of several with bars between. */
function readTypes(config: ConfigReader): unknown[] {
  const found: unknown = config.raw("pos_att_type") ?? [];
  const types: unknown = typeof found === "string" ? words(found) : found;
  if (!Array.isArray(types) || !types.every((type) => ["c2p", "p2c", ""].includes(type)))
    throw config.wrong("pos_att_type", "a list of c2p and p2c");
  return types;
}

function words(text: string): string[] {
  return text
    .toLowerCase()
    .split("|")
    .map((word) => word.trim());
}
