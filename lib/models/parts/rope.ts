import { isObject } from "../../base/objects.js";
import type { AttentionPositions, RotarySpec } from "../../native/spec.js";
import { ConfigReader, show } from "../config.js";
import { limits } from "../limits.js";
import { plainFrequencies, type Rope, type RopeType, ropeTypes } from "./rope_types.js";

export type { Rope } from "./rope_types.js";

export interface RopeSizes {
  headDim: number;
  /** config.json's max_position_embeddings. */
  positions: number;
}

/** What an architecture makes of rope parameters that others do not. */
export interface RopeOptions {
  /** The first elements of each head turn: partial_rotary_factor of them, or this share where the config says nothing. Else whole heads do. */
  partial?: number;
  /** The types that the architecture has, by the names in its configs. Default: all but those that are for one architecture. */
  types?: Readonly<Record<string, RopeType>>;
  /** Names of rope_theta and partial_rotary_factor outside the rope parameters, where they are others. */
  baseKey?: string;
  shareKey?: string;
  /** Parameters that belong to other parts of the model. */
  ignored?: readonly string[];
}

/** Frequencies, and how many elements of a head they turn. */
export interface ReadRope extends Rope {
  dims: number;
}

/** The one set of rope parameters that config.json has: `rope_scaling` comes first, as in the reference. */
export function ropeSection(config: ConfigReader): ConfigReader | undefined {
  return config.section("rope_scaling") ?? config.section("rope_parameters");
}

/** The same, where its type is another than the default. */
export function scaledRopeSection(config: ConfigReader): ConfigReader | undefined {
  const parameters = ropeSection(config);
  const type = parameters?.peek("rope_type") ?? parameters?.peek("type") ?? "default";
  return type === "default" ? undefined : parameters;
}

/**
 * Rotary positions from config.json, in the form of transformers 5 (`rope_parameters`) or 4 (`rope_theta` at the top,
 * `rope_scaling` with `rope_type` or `type`).
 */
export function readRope(config: ConfigReader, sizes: RopeSizes, options: RopeOptions = {}): ReadRope {
  const parameters = ropeSection(config) ?? ConfigReader.empty("rope_parameters");
  for (const key of parameters.keys()) {
    const value = parameters.peek(key);
    if (isObject(value)) {
      throw parameters.wrong(key, "a plain value: this architecture has one set of rope parameters for all layers");
    }
  }
  const { baseKey = "rope_theta" } = options;
  const outside = config.number(baseKey, { ...bases, unset: 10_000 });
  const base = parameters.number("rope_theta", { ...bases, unset: outside });
  if (base !== outside && config.has(baseKey)) {
    config.notes.push(`${baseKey} = ${outside} gives way to ${base} in the rope parameters, as in transformers`);
  }
  return computeRope(config, parameters, base, sizes, options);
}

/** As readRope(), of the first elements of each head, each with the one half of them away. */
export function readPartialRope(
  config: ConfigReader,
  sizes: RopeSizes,
  { share, ...names }: { share: number; baseKey?: string; shareKey?: string },
): Rope & { turned: AttentionPositions } {
  const { dims, ...rope } = readRope(config, sizes, { partial: share, ...names });
  return { ...rope, turned: { kind: "rotary", dims, layout: "half", table: 0 } };
}

/** Frequencies without settings of their own, where positions have no rope parameters (GPT-J). */
export function plainRotary(dims: number): RotarySpec {
  return { inverseFrequencies: plainFrequencies({ base: 10_000, dims }), amplitude: 1 };
}

/** Of an architecture whose layers with a window turn by frequencies of their own (Gemma-3, OLMo-3, ModernBERT). */
export interface RopeByLayerType extends Pick<RopeOptions, "types"> {
  /** Bases where config.json gives none. */
  bases: { full: number; sliding: number };
  /** The key of transformers 4 for the base of layers with full attention. Default "rope_theta". */
  fullKey?: string;
  /** The key of transformers 4 for the base of layers with a window; without one theirs is as above. */
  slidingKey?: string;
}

/**
 * The same for layers with full attention and for those with a window: `rope_parameters` has a section for each in transformers 5. In
 * transformers 4, `fullKey` and `rope_scaling` are those of full attention.
 */
export function readRopeByLayerType(
  config: ConfigReader,
  sizes: RopeSizes,
  { bases: unset, fullKey = "rope_theta", slidingKey, ...options }: RopeByLayerType,
): { full: ReadRope; sliding: ReadRope } {
  const nested = config.section("rope_parameters");
  const scaling = config.section("rope_scaling");
  const own = nested?.section("full_attention");
  if (scaling && own) throw config.wrong("rope_scaling", "no such section beside rope_parameters.full_attention");
  const full = scaling ?? own ?? ConfigReader.empty("rope_parameters.full_attention");
  const sliding = nested?.section("sliding_attention") ?? ConfigReader.empty("rope_parameters.sliding_attention");
  const baseOf = (parameters: ConfigReader, key: string | undefined, otherwise: number) => {
    const outside = key === undefined ? otherwise : config.number(key, { ...bases, unset: otherwise });
    return parameters.number("rope_theta", { ...bases, unset: outside });
  };
  return {
    full: computeRope(config, full, baseOf(full, fullKey, unset.full), sizes, options),
    sliding: computeRope(config, sliding, baseOf(sliding, slidingKey, unset.sliding), sizes, options),
  };
}

const bases = { above: 0, maximum: 1e30 };

function computeRope(
  config: ConfigReader,
  parameters: ConfigReader,
  base: number,
  { headDim, positions }: RopeSizes,
  { partial, types = ropeTypes, shareKey = "partial_rotary_factor", ignored = [] }: RopeOptions,
): ReadRope {
  const type = readType(parameters, types);
  const dims = partial === undefined ? headDim : readPartialDims(config, parameters, headDim, shareKey, partial);
  if (partial === undefined) checkPartial(config, parameters, type.name);
  for (const key of ignored) parameters.raw(key);
  const originalPositions = () => {
    const range = { maximum: limits.positions, unset: positions };
    const inside = parameters.integer("original_max_position_embeddings", range);
    // The reference lets the one at the top win, its default too.
    return config.integer("original_max_position_embeddings", { ...range, unset: inside });
  };
  const rope = type.compute(parameters, { base, dims, positions, originalPositions });
  const { inverseFrequencies, long } = rope.rotary;
  if (![...inverseFrequencies, ...(long?.inverseFrequencies ?? [])].every(Number.isFinite)) {
    throw parameters.wrong("rope_theta", "parameters whose frequencies are finite");
  }
  return { ...rope, dims };
}

/**
 * Whole heads that turn by a rotary table, the first by default, each element with the one half a head away (Llama, GPT-NeoX).
 *
 * @param key Of config.json, that the width of a head comes from.
 * @throws ShardspeedError ERR_UNSUPPORTED_MODEL where the elements of a head make no pairs.
 */
export function wholeRotary(config: ConfigReader, key: string, headDim: number, table = 0): AttentionPositions {
  if (headDim % 2 !== 0) throw config.wrong(key, `heads of even width (rotary positions turn pairs), found ${headDim}`);
  return { kind: "rotary", dims: headDim, layout: "half", table };
}

function readType(
  parameters: ConfigReader,
  types: Readonly<Record<string, RopeType>>,
): { name: string; compute: RopeType } {
  const key = parameters.has("rope_type") || !parameters.has("type") ? "rope_type" : "type";
  const name = parameters.text(key, "default");
  // Many configs give both; where they differ, the one that is left unread gets into the warning.
  if (parameters.peek("type") === name) parameters.raw("type");
  const compute = Object.hasOwn(types, name) ? types[name] : undefined;
  if (!compute) throw parameters.wrong(key, `one of ${Object.keys(types).join(", ")}`);
  return { name, compute };
}

function readPartialDims(
  config: ConfigReader,
  parameters: ConfigReader,
  headDim: number,
  shareKey: string,
  unset: number,
): number {
  const isInside = parameters.has("partial_rotary_factor");
  const [holder, key] = isInside ? ([parameters, "partial_rotary_factor"] as const) : ([config, shareKey] as const);
  const share = holder.number(key, { above: 0, maximum: 1, unset });
  // Where it is in both, the reference has no use for the other one.
  config.raw(shareKey);
  const dims = Math.trunc(headDim * share);
  if (dims < 2 || dims % 2 !== 0) {
    throw holder.wrong(key, `a share of heads of ${headDim} that is an even number of elements, found ${dims}`);
  }
  return dims;
}

/**
 * Llama turns whole heads: for the default type the reference ignores partial_rotary_factor, for the others it fails.
 * It is ignored here with a warning, or refused.
 */
function checkPartial(config: ConfigReader, parameters: ConfigReader, type: string): void {
  const holder = parameters.has("partial_rotary_factor") ? parameters : config;
  const share = holder.number("partial_rotary_factor", { above: 0, nullable: true, unset: 1 });
  if (share === 1) return;
  if (type !== "default") throw holder.wrong("partial_rotary_factor", `1 with rope type ${type}`);
  config.notes.push(
    `partial_rotary_factor = ${show(share)} is without effect in this architecture, as in transformers`,
  );
}
