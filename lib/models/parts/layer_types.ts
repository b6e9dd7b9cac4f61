import type { AttentionMask, LayerSpec } from "../../native/spec.js";
import { type ConfigReader, show } from "../config.js";
import { limits } from "../limits.js";

/** The reference's names of what a layer's queries see. */
export type LayerType = "full_attention" | "sliding_attention" | "chunked_attention";

/** Older names. */
const synonyms: Readonly<Record<string, LayerType>> = { attention: "full_attention" };

/**
 * Which layers see all keys and which some: `layer_types`, or a rule of the architecture where config.json has none.
 * @param types Those that the architecture has.
 */
export function readLayerTypes(
  config: ConfigReader,
  layers: number,
  types: readonly LayerType[],
  rule: (layer: number) => LayerType,
): LayerType[] {
  const found = config.raw("layer_types");
  if (found === undefined || found === null) return Array.from({ length: layers }, (_, layer) => rule(layer));
  if (!Array.isArray(found) || found.length !== layers) {
    throw config.wrong("layer_types", `a list of ${layers}, one for each layer`);
  }
  return found.map((name: unknown) => {
    const type = types.find((one) => one === name || (typeof name === "string" && synonyms[name] === one));
    if (type === undefined) throw config.wrong("layer_types", `only ${types.join(", ")}`, `It has ${show(name)}.`);
    return type;
  });
}

/** Whether layers of a pattern see all: each `every`-th. */
export function everyNth(every: number): (layer: number) => LayerType {
  return (layer) => ((layer + 1) % every === 0 ? "full_attention" : "sliding_attention");
}

/** A window that all layers have, where config.json gives one. */
export function readWindow(config: ConfigReader): AttentionMask {
  const size = config.integer("sliding_window", { maximum: limits.positions, nullable: true, unset: 0 });
  return size === 0 ? { kind: "causal" } : { kind: "window", size };
}

/**
 * The mask of each layer by its type.
 * @throws ShardspeedError ERR_UNSUPPORTED_MODEL where layers have a window or chunks and config.json gives them no size.
 */
export function masksOf(config: ConfigReader, types: readonly LayerType[]): AttentionMask[] {
  const sized = (type: LayerType, key: string) =>
    types.includes(type) ? config.integer(key, { maximum: limits.positions }) : 0;
  const window = sized("sliding_attention", "sliding_window");
  const chunk = sized("chunked_attention", "attention_chunk_size");
  // Read, but of no consequence where no layer has one.
  for (const key of ["sliding_window", "attention_chunk_size"]) config.raw(key);
  return types.map((type) => {
    if (type === "sliding_attention") return { kind: "window", size: window };
    return type === "chunked_attention" ? { kind: "chunk", size: chunk } : { kind: "causal" };
  });
}

/** Layers as kinds and the index of each layer's kind: those that are alike share one. */
export function kindsOf(layers: readonly LayerSpec[]): { kinds: LayerSpec[]; layers: number[] } {
  const indices = new Map<string, number>();
  const kinds: LayerSpec[] = [];
  const numbers = layers.map((layer) => {
    const text = JSON.stringify(layer);
    const index = indices.get(text) ?? kinds.push(layer) - 1;
    indices.set(text, index);
    return index;
  });
  return { kinds, layers: numbers };
}

/** Qwen's rule: with use_sliding_window, layers from max_window_layers on have the window. */
export function readQwenLayers(config: ConfigReader, layers: number): { mask: AttentionMask }[] {
  const slides = config.flag("use_sliding_window", false) && config.raw("sliding_window") !== null;
  const first = config.integer("max_window_layers", { minimum: 0, maximum: Number.MAX_SAFE_INTEGER, unset: 28 });
  const rule = (layer: number) => (slides && layer >= first ? "sliding_attention" : "full_attention");
  const types = readLayerTypes(config, layers, ["full_attention", "sliding_attention"], rule);
  if (!slides && types.includes("sliding_attention")) {
    throw config.wrong("use_sliding_window", "true, since layer_types has layers with a window");
  }
  return masksOf(config, types).map((mask) => ({ mask }));
}

/** Which layers have rotary positions: no_rope_layers, which has 1 for those that do, or all but each no_rope_layer_interval-th. */
export function readRotaryLayers(config: ConfigReader, layers: number): boolean[] {
  const every = config.integer("no_rope_layer_interval", { maximum: Number.MAX_SAFE_INTEGER, unset: 4 });
  const found = config.raw("no_rope_layers") ?? [];
  if (!Array.isArray(found) || !found.every((value) => value === 0 || value === 1)) {
    throw config.wrong("no_rope_layers", "a list of 0 and 1");
  }
  if (found.length === 0) return Array.from({ length: layers }, (_, layer) => (layer + 1) % every !== 0);
  if (found.length < layers) throw config.wrong("no_rope_layers", `an entry for each of ${layers} layers`);
  return found.slice(0, layers).map((value) => value === 1);
}
