import { resolve } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { parseJson } from "../base/json.js";
import { isObject, isPlainObject } from "../base/objects.js";
import { decodeText, fileLimits, readRegularFileSync } from "../base/regular_file.js";
import { showValue } from "../base/text.js";

/** Deeper and larger than any config is: what follows the copy need not care about either. */
const kMostLevels = 100;
const kMostValues = 100_000;

/** A config that nobody else holds, and what messages call it. */
export interface ConfigSource {
  values: Record<string, unknown>;
  where: string;
}

/**
 * Reads a config file, or copies a config object, so that the caller's is never changed and cannot change meanwhile.
 *
 * @throws ShardspeedError ERR_CONFIG for a file that cannot be read or is not JSON, and for what is not an object.
 */
export function takeConfig(config: unknown): ConfigSource {
  const where = typeof config === "string" ? resolve(config) : "The DeepSpeed config";
  const found = typeof config === "string" ? readConfigFile(config) : config;
  const values = found === undefined ? {} : copyValue(found, where);
  if (isPlainObject(values)) return { values, where };
  // A Map or a Promise shows nothing of itself.
  const kind = Object.prototype.toString.call(values);
  const shown = isObject(values) ? kind : showValue(values);
  throw new ShardspeedError("ERR_CONFIG", `${where}: expected an object of DeepSpeed inference keys, found ${shown}`);
}

function readConfigFile(path: string): unknown {
  const bytes = readRegularFileSync(path, { code: "ERR_CONFIG", limitBytes: fileLimits.deepSpeedConfig });
  if (bytes === undefined) {
    const message = `Cannot read the DeepSpeed config: there is no file ${resolve(path)}`;
    throw new ShardspeedError("ERR_CONFIG", message);
  }
  return parseJson(decodeText(bytes), resolve(path), "ERR_CONFIG");
}

function copyValue(value: unknown, where: string): unknown {
  try {
    return copyTree(value, [], { holders: new Set(), values: 0 });
  } catch (error) {
    throw new ShardspeedError("ERR_CONFIG", `${where} cannot be read: ${(error as Error)?.message ?? error}`, {
      cause: error,
    });
  }
}

interface CopyState {
  /** What the value is in. */
  holders: Set<unknown>;
  values: number;
}

function copyTree(value: unknown, path: readonly string[], state: CopyState): unknown {
  if (++state.values > kMostValues) throw new Error(`more than ${kMostValues} values`);
  if (!Array.isArray(value) && !isPlainObject(value)) return value;
  if (state.holders.has(value)) throw new Error(`${path.join(".")} contains itself`);
  if (path.length === kMostLevels) throw new Error(`more than ${kMostLevels} levels deep`);
  if (Array.isArray(value) && value.length > kMostValues) throw new Error(`more than ${kMostValues} values`);
  state.holders.add(value);
  const copyOf = (item: unknown, key: string | number) => copyTree(item, [...path, String(key)], state);
  const copy = Array.isArray(value)
    ? Array.from(value, copyOf)
    : Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copyOf(item, key)]));
  state.holders.delete(value);
  return copy;
}
