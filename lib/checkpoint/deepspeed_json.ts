import path from "node:path";
import { type Logger, silentLogger } from "../base/logger.js";
import { nearestKey } from "../base/nearest.js";
import { isObject } from "../base/objects.js";
import { truncate } from "../base/text.js";
import { checkpointError, quote } from "./errors.js";
import { kindOf, parseStrictJson, StrictJsonError } from "./strict_json.js";
import { WeightFile } from "./weight_file.js";

/** An index names some files: this is far more than any has. */
const kMaxJsonBytes = 10_000_000;

/** What a DeepSpeed checkpoint JSON says, its forms made one. */
export interface DeepSpeedCheckpoint {
  /** The file, or words for the object. */
  where: string;
  /** Of the file; undefined for an object. */
  folder: string | undefined;
  /** The forms that hold the tensors under the names of the model's own classes, or Megatron-LM's. */
  type: "ds_model" | "bloom" | "Megatron";
  /** Megatron's layout of fused queries, keys and values; null where the files say it. For other types it means nothing. */
  version: number | null;
  baseDir: string | undefined;
  /** Files with whole tensors, as they are named. */
  whole: string[];
  /** Files with pieces of tensors: for each rank those that it had. */
  shards: string[][];
}

const keys = ["type", "checkpoints", "version", "parallelization", "tp_size", "mp_size", "base_dir", "dtype"];

/**
 * Reads a DeepSpeed checkpoint JSON in all its forms: `checkpoints` as a list, as `{tp, non_tp}`, or (as its tutorial shows and its code does
 * not take) as one path. Source: deepspeed/runtime/state_dict_factory.py, SDLoaderFactory; module_inject/replace_module.py.
 *
 * @param source The object, or the path of the file.
 * @throws ShardspeedError ERR_CHECKPOINT with the key, what was found and what was expected.
 */
export async function readDeepSpeedJson(
  source: object | string,
  { logger = silentLogger, signal }: { logger?: Logger; signal?: AbortSignal } = {},
): Promise<DeepSpeedCheckpoint> {
  const where = typeof source === "string" ? path.resolve(source) : "The checkpoint object";
  const json = typeof source === "string" ? await readJson(where, signal) : source;
  const folder = typeof source === "string" ? path.dirname(where) : undefined;
  return parse(json, where, folder, logger);
}

async function readJson(file: string, signal: AbortSignal | undefined): Promise<unknown> {
  const bytes = await WeightFile.use(file, signal, async (opened) => {
    if (opened.bytes > kMaxJsonBytes) {
      throw checkpointError(
        { file },
        `is ${opened.bytes} bytes long, the limit of a checkpoint JSON is ${kMaxJsonBytes}`,
      );
    }
    return await opened.read(0, opened.bytes);
  });
  try {
    return parseStrictJson(bytes);
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    throw checkpointError(
      { file },
      `${error.message}. A checkpoint JSON names weight files: {"type": "ds_model", "checkpoints": [...], "version": 1.0}`,
    );
  }
}

function parse(json: unknown, where: string, folder: string | undefined, logger: Logger): DeepSpeedCheckpoint {
  const wrong = (message: string) => checkpointError({ file: where }, message);
  if (!isObject(json)) throw wrong(`is ${kindOf(json)}, expected an object with type, checkpoints and version`);
  for (const key of Object.keys(json)) {
    if (keys.includes(key)) continue;
    const near = nearestKey(key, keys);
    const advice = near === undefined ? "It has no effect" : `It has no effect; did you mean ${near}?`;
    logger.warn(`${where}: has an unknown key ${quote(key)}. ${advice}`);
  }
  for (const key of ["type", "checkpoints", "version"]) {
    if (json[key] === undefined) throw wrong(`has no ${quote(key)}, expected type, checkpoints and version`);
  }
  const type = readType(json.type, wrong);
  const version = readVersion(json.version, type, wrong);
  const baseDir = readText(json.base_dir, "base_dir", wrong);
  const common = { where, folder, type, version, baseDir };
  const { checkpoints } = json;
  const size = readSize(json.mp_size, "mp_size", wrong) ?? readSize(json.tp_size, "tp_size", wrong);
  if (isObject(checkpoints)) return { ...common, ...readParts(checkpoints, size, wrong) };
  const files = readFiles(checkpoints, "checkpoints", wrong);
  if (files.length === 0) throw wrong("names no files: its checkpoints are empty");
  const inShards = readParallelization(json.parallelization, wrong) === "tp" || type === "Megatron";
  return {
    ...common,
    ...(inShards ? { whole: [], shards: dealFiles(files, size, wrong) } : { whole: files, shards: [] }),
  };
}

type Wrong = (message: string) => Error;

function readType(value: unknown, wrong: Wrong): DeepSpeedCheckpoint["type"] {
  const types = ["ds_model", "bloom", "Megatron"] as const;
  const found = types.find((type) => typeof value === "string" && type.toLowerCase() === value.toLowerCase());
  if (found === undefined) throw wrong(`has type ${show(value)}, expected one of ${types.map(quote).join(", ")}`);
  return found;
}

function readVersion(value: unknown, type: DeepSpeedCheckpoint["type"], wrong: Wrong): number | null {
  if (value === null) return null;
  const version = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof version !== "number" || !Number.isFinite(version))
    throw wrong(`has version ${show(value)}, expected a number`);
  if (type === "Megatron") checkMegatronVersion(version, wrong);
  return version;
}

/** @throws what `wrong` makes of a version whose layout of fused queries, keys and values is not known. */
export function checkMegatronVersion(version: number, wrong: Wrong): void {
  if (![0, 1, 2].includes(version)) throw wrong(`has Megatron version ${version}, expected 0, 1.0 or 2.0`);
}

function readParallelization(value: unknown, wrong: Wrong): "pp" | "tp" {
  if (value === undefined || value === null) return "pp";
  if (value === "pp" || value === "tp") return value;
  throw wrong(`has parallelization ${show(value)}, expected "pp" (whole tensors) or "tp" (shards of them)`);
}

function readParts(parts: Record<string, unknown>, size: number | undefined, wrong: Wrong) {
  const unknown = Object.keys(parts).find((key) => key !== "tp" && key !== "non_tp");
  if (unknown !== undefined) throw wrong(`has checkpoints with a key ${quote(unknown)}, expected tp and non_tp`);
  const whole = readFiles(parts.non_tp ?? [], "checkpoints.non_tp", wrong);
  const shards = readFiles(parts.tp ?? [], "checkpoints.tp", wrong);
  if (whole.length + shards.length === 0) throw wrong("names no files: its checkpoints are empty");
  return { whole, shards: shards.length === 0 ? [] : dealFiles(shards, size, wrong) };
}

/** Files of several parts a rank come with all ranks of a part side by side: tp_00_00, tp_01_00, tp_00_01, tp_01_01. */
function dealFiles(files: string[], given: number | undefined, wrong: Wrong): string[][] {
  const size = given ?? files.length;
  if (files.length % size !== 0) {
    throw wrong(
      `names ${files.length} files for ${size} ranks, expected as many for each: tp_size (or mp_size) says how many ranks wrote them`,
    );
  }
  return Array.from({ length: size }, (_, rank) => files.filter((_, at) => at % size === rank));
}

function readFiles(value: unknown, key: string, wrong: Wrong): string[] {
  if (!Array.isArray(value) && typeof value !== "string") {
    throw wrong(`has ${key} that are ${kindOf(value)}, expected a list of paths`);
  }
  const list: unknown[] = typeof value === "string" ? [value] : Array.from(value);
  for (const name of list) {
    if (typeof name === "string" && name !== "" && !name.includes("\0")) continue;
    throw wrong(`has ${key} with ${show(name)} among them, expected paths of files`);
  }
  const names = list as string[];
  const seen = new Set<string>();
  const twice = names.find((name) => seen.size === seen.add(name).size);
  if (twice !== undefined) throw wrong(`has ${key} that name ${quote(twice)} twice`);
  return names;
}

function readSize(value: unknown, key: string, wrong: Wrong): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Number.isInteger(value) || (value as number) < 1)
    throw wrong(`has ${key} ${show(value)}, expected an integer of at least 1`);
  return value as number;
}

function readText(value: unknown, key: string, wrong: Wrong): string | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  if (typeof value !== "string" || value.includes("\0")) throw wrong(`has ${key} ${show(value)}, expected a path`);
  return value;
}

function show(value: unknown): string {
  try {
    return truncate(JSON.stringify(value) ?? String(value));
  } catch {
    return kindOf(value); // a circle, or a bigint
  }
}
