import { ShardspeedError } from "../base/errors.js";
import { nearestKey } from "../base/nearest.js";
import { isPlainObject } from "../base/objects.js";
import { configKeys, keysOf, lastPart, valueAt } from "./keys.js";
import type { ConfigSource } from "./snapshot.js";

/** A config whose keys have one name each: aliases are gone, and values that mean "not given". */
export interface NamedConfig extends ConfigSource {
  /** A key as it is written in the config, for messages. */
  written: (name: string) => string;
  /** Whether a key, or the deprecated one that it took the place of, is given. */
  has: (name: string) => boolean;
}

/**
 * Gives each key its own name, and drops those that are undefined or "auto", which is the default whatever the type (as
 * DeepSpeedConfigModel does in deepspeed/runtime/config_utils.py).
 *
 * @throws ShardspeedError ERR_CONFIG for unknown keys, and for two names of one key.
 */
export function nameKeys({ values, where }: ConfigSource): NamedConfig {
  const written = new Map<string, string>();
  const named = nameObject(values, "", "", written, where);
  const config: NamedConfig = {
    values: named,
    where,
    written: (name) => written.get(name) ?? name,
    has: (name) =>
      valueAt(named, name) !== undefined ||
      configKeys.some(({ name: old, renamedTo }) => renamedTo === name && named[old] !== undefined),
  };
  rejectBothNames(config);
  return config;
}

function nameObject(
  found: Record<string, unknown>,
  parent: string,
  writtenParent: string,
  written: Map<string, string>,
  where: string,
): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  const known = keysOf.get(parent) ?? [];
  for (const [key, value] of Object.entries(found)) {
    if (value === undefined || (value === "auto" && key !== "replace_method")) continue;
    const place = writtenParent + key;
    const match = known.find(({ name, alias }) => lastPart(name) === key || alias === key);
    if (match === undefined) throw unknownKey(key, place, parent, where);
    const earlier = written.get(match.name);
    if (earlier !== undefined) throw twoNames(earlier, place, where);
    written.set(match.name, place);
    const hasKeys = keysOf.has(match.name) && isPlainObject(value);
    result[lastPart(match.name)] = hasKeys ? nameObject(value, match.name, `${place}.`, written, where) : value;
  }
  return result;
}

function rejectBothNames({ values, written, where }: NamedConfig): void {
  for (const { name, renamedTo } of configKeys) {
    if (renamedTo !== undefined && values[name] !== undefined && valueAt(values, renamedTo) !== undefined)
      throw twoNames(written(name), written(renamedTo), where);
  }
}

function twoNames(first: string, second: string, where: string): ShardspeedError {
  return new ShardspeedError(
    "ERR_CONFIG",
    `${where} has both ${first} and ${second}, which are one key: remove one of them.`,
  );
}

function unknownKey(key: string, place: string, parent: string, where: string): ShardspeedError {
  const inOther = configKeys.find(({ name }) => parent === "" && name.includes(".") && lastPart(name) === key);
  const names = (keysOf.get(parent) ?? []).flatMap(({ name, alias }) => [lastPart(name), ...(alias ? [alias] : [])]);
  const near =
    inOther?.name ??
    (key.length > kLongestKey ? undefined : nearestKey(key, names)) ??
    names.find((name) => name.length > 4 && key.startsWith(name)); // "quantization_setting", of old tutorials
  const advice = near === undefined ? "Remove it." : `Did you mean ${near}?`;
  return new ShardspeedError("ERR_CONFIG", `${where} has an unknown key ${showKey(place)}. ${advice}`);
}

/** Longer ones are no misspellings, and would take long to compare. */
const kLongestKey = 64;

function showKey(key: string): string {
  const short = key.length > 2 * kLongestKey ? `${key.slice(0, 2 * kLongestKey)}...` : key;
  return /^[\w.-]+$/.test(short) ? short : JSON.stringify(short);
}
