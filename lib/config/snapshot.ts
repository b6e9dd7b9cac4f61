import { readFileSync } from "node:fs";
import { ShardspeedError, showValue } from "../errors.js";
import { describeJsonError } from "../json_error.js";

/** Deeper than any config is; what follows the copy may recurse without care. */
const kMostLevels = 100;

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
  const where = typeof config === "string" ? config : "The DeepSpeed config";
  const found = typeof config === "string" ? readConfigFile(config) : config;
  const values = found === undefined ? {} : copyValue(found, where);
  if (isRecord(values)) return { values, where };
  // A Map or a Promise shows nothing of itself.
  const kind = Object.prototype.toString.call(values);
  const shown = typeof values === "object" && values !== null && !Array.isArray(values) ? kind : showValue(values);
  throw new ShardspeedError("ERR_CONFIG", `${where}: expected an object of DeepSpeed inference keys, found ${shown}`);
}

function readConfigFile(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new ShardspeedError("ERR_CONFIG", `Cannot read the DeepSpeed config: ${(error as Error).message}`, {
      cause: error,
    });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ShardspeedError("ERR_CONFIG", `${path} is not JSON: ${describeJsonError(text, error)}`, { cause: error });
  }
}

/** An object with keys: no array, Map, Date, Promise or URL, which would read as one without any. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return Object.prototype.toString.call(value) === "[object Object]";
}

function copyValue(value: unknown, where: string): unknown {
  try {
    return copyTree(value, [], new Map());
  } catch (error) {
    throw new ShardspeedError("ERR_CONFIG", `${where} cannot be read: ${(error as Error)?.message ?? error}`, {
      cause: error,
    });
  }
}

/** @param copies Of what has been seen, so that what is shared stays so, and takes no time twice. */
function copyTree(value: unknown, path: readonly string[], copies: Map<unknown, unknown>): unknown {
  if (!Array.isArray(value) && !isRecord(value)) return value;
  if (copies.has(value)) {
    const copy = copies.get(value);
    if (copy === undefined) throw new Error(`${path.join(".")} contains itself`);
    return copy;
  }
  if (path.length === kMostLevels) throw new Error(`more than ${kMostLevels} levels deep`);
  copies.set(value, undefined);
  const copyOf = (item: unknown, key: string | number) => copyTree(item, [...path, String(key)], copies);
  const copy = Array.isArray(value)
    ? value.map(copyOf)
    : Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copyOf(item, key)]));
  copies.set(value, copy);
  return copy;
}
