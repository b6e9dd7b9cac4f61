import { type Place, showText } from "./findings.js";
import type { Scalar } from "./scalars.js";

/** A value of a YAML file: plain data, and where it stands. */
export type YamlValue = YamlMap | YamlList | YamlScalar;

interface Common {
  place: Place;
  /** Values in it, itself included, with those that an alias repeats. */
  size: number;
  /** Levels of maps and lists. */
  height: number;
}

export interface YamlMap extends Common {
  kind: "map";
  entries: Map<string, YamlEntry>;
}

export interface YamlEntry {
  keyPlace: Place;
  value: YamlValue;
}

export interface YamlList extends Common {
  kind: "list";
  items: YamlValue[];
}

export interface YamlScalar extends Common {
  kind: "scalar";
  value: Scalar;
  /** As it is written, without quotes. */
  source: string;
}

/** Objects and arrays that share nothing, not even where the file has aliases. */
export function plainData(value: YamlValue): unknown {
  if (value.kind === "scalar") return value.value;
  if (value.kind === "list") return value.items.map(plainData);
  return mapData(value);
}

export function mapData(map: YamlMap): Record<string, unknown> {
  return Object.fromEntries([...map.entries].map(([key, { value }]) => [key, plainData(value)]));
}

/** What was found, for a message. */
export function describeValue(value: YamlValue): string {
  if (value.kind !== "scalar") return value.kind === "map" ? "a map" : "a list";
  if (value.value === null) return "nothing";
  return typeof value.value === "string" ? showText(value.value) : value.source;
}
