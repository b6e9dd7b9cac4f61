import { readFile } from "node:fs/promises";
import type { z } from "zod";
import type { ConfigValues } from "./config_schema.js";
import { ShardspeedError } from "./errors.js";
import { describeJsonError } from "./json_error.js";
import { type Logger, silentLogger } from "./logger.js";
import { nearestKey } from "./nearest.js";

/** What the engine takes from a DeepSpeed inference config. */
export interface ResolvedConfig {
  /** The engine's element type; undefined where the config names none. */
  dtype: "float32" | "float16" | "bfloat16" | undefined;
  /** Number of tensor-parallel ranks. */
  tpSize: number;
  /** Most tokens of a sequence, prompt and new ones together; undefined where the config names no limit. */
  maxOutTokens: number | undefined;
}

/**
 * Reads a DeepSpeed inference config (the key names of DeepSpeed 0.19), and warns of keys that change nothing here.
 * The object is left as it is.
 *
 * @param config The config, or the path of a JSON file; undefined is {}.
 * @throws ShardspeedError ERR_CONFIG, naming the key, what was found and what is expected.
 */
export async function resolveConfig(
  config: object | string | undefined,
  logger: Logger = silentLogger,
): Promise<ResolvedConfig> {
  if (config === undefined) return { dtype: undefined, tpSize: 1, maxOutTokens: undefined };
  const where = typeof config === "string" ? config : "The DeepSpeed config";
  const found = typeof config === "string" ? await readConfigFile(config) : config;
  if (typeof found !== "object" || found === null || Array.isArray(found)) {
    throw new ShardspeedError(
      "ERR_CONFIG",
      `${where}: expected an object of DeepSpeed inference keys, found ${show(found)}`,
    );
  }
  // Loaded here, since the schema library takes longer to load than everything else that a program without config needs.
  const { aliases, configSchema, knownKeys } = await import("./config_schema.js");
  const canonical = resolveAliases(found as Record<string, unknown>, aliases, where);
  const result = configSchema.safeParse(canonical);
  if (!result.success) throw describeIssue(result.error.issues[0] as z.core.$ZodIssue, canonical, where, knownKeys);
  const values = result.data;
  rejectUnsupported(values, where);
  const resolved = {
    dtype: readDtype(values.dtype, where),
    tpSize: readTpSize(values, where, logger),
    maxOutTokens: values.max_out_tokens,
  };
  warnWithoutEffect(values, where, logger);
  return resolved;
}

async function readConfigFile(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
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

function resolveAliases(
  found: Record<string, unknown>,
  aliases: Record<string, string>,
  where: string,
): Record<string, unknown> {
  const canonical: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(found)) {
    const name = Object.hasOwn(aliases, key) ? (aliases[key] as string) : key;
    if (name !== key && Object.hasOwn(found, name)) {
      throw new ShardspeedError("ERR_CONFIG", `${where} has both ${key} and ${name}, which are one key: remove one.`);
    }
    if (value !== undefined) canonical[name] = value;
  }
  return canonical;
}

const typeWords: Record<string, string> = {
  int: "an integer",
  number: "an integer",
  boolean: "true or false",
  string: "a string",
  object: "an object",
  record: "an object",
  array: "an array",
};

function describeIssue(
  issue: z.core.$ZodIssue,
  config: unknown,
  where: string,
  knownKeys: (path: readonly PropertyKey[]) => string[],
): ShardspeedError {
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0] as string;
    const inParallel = issue.path.length === 0 && knownKeys(["tensor_parallel"]).includes(key);
    const near = inParallel ? `tensor_parallel.${key}` : nearestKey(key, knownKeys(issue.path));
    const advice = near === undefined ? "Remove it." : `Did you mean ${near}?`;
    return new ShardspeedError(
      "ERR_CONFIG",
      `${where} has an unknown key ${[...issue.path, key].join(".")}. ${advice}`,
    );
  }
  let value: unknown = config;
  for (const step of issue.path) value = (value as Record<PropertyKey, unknown>)?.[step];
  const expected =
    issue.code === "invalid_type"
      ? `expected ${typeWords[issue.expected] ?? issue.expected}`
      : issue.message.replace(/^Invalid (input|option): /, "");
  return new ShardspeedError("ERR_CONFIG", `${where}: ${issue.path.join(".")}: ${expected}, found ${show(value)}`);
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Keys that would change what is computed or written, and cannot be followed yet. */
function rejectUnsupported(values: ConfigValues, where: string): void {
  const reject = (key: string, advice: string): never => {
    throw new ShardspeedError("ERR_CONFIG", `${where}: ${key} is not supported yet. ${advice}`);
  };
  if (values.checkpoint) reject("checkpoint", "Put the weight files into the model folder and remove it.");
  if (values.save_mp_checkpoint_path) reject("save_mp_checkpoint_path", "Remove it.");
  if (values.config && Object.keys(values.config).length > 0)
    reject("config", "Change the model's config.json instead.");
}

const dtypes = new Map<string, "float32" | "float16" | "bfloat16" | "int8">([
  ...["float16", "fp16", "half"].map((name) => [name, "float16"] as const),
  ...["float32", "fp32", "float"].map((name) => [name, "float32"] as const),
  ...["bfloat16", "bf16", "bfloat"].map((name) => [name, "bfloat16"] as const),
  ["int8", "int8"],
]);

function readDtype(found: string | undefined, where: string): ResolvedConfig["dtype"] {
  if (found === undefined) return undefined;
  const dtype = dtypes.get(found.toLowerCase().replace(/^torch\./, ""));
  if (dtype === "int8") {
    throw new ShardspeedError(
      "ERR_CONFIG",
      `${where}: dtype ${show(found)} is not supported yet. Use "fp16", "bf16" or "fp32".`,
    );
  }
  if (dtype !== undefined) return dtype;
  throw new ShardspeedError("ERR_CONFIG", `${where}: dtype: expected "fp16", "bf16" or "fp32", found ${show(found)}`);
}

function readTpSize(values: ConfigValues, where: string, logger: Logger): number {
  const { tensor_parallel: parallel, mp_size: oldSize } = values;
  if (oldSize !== undefined && parallel?.tp_size !== undefined) {
    throw new ShardspeedError(
      "ERR_CONFIG",
      `${where} has both mp_size and tensor_parallel.tp_size, which are one key: remove mp_size.`,
    );
  }
  const size = parallel?.tp_size ?? oldSize ?? 1;
  const key = oldSize === undefined ? "tensor_parallel.tp_size" : "mp_size";
  if (size < 1) throw new ShardspeedError("ERR_CONFIG", `${where}: ${key}: expected at least 1, found ${size}`);
  if (parallel?.enabled === false && size > 1) {
    logger.warn(`${where}: tensor_parallel.enabled is false, so ${key} ${size} is taken as 1`);
    return 1;
  }
  return size;
}

/** Values that ask for nothing. Keys that are not here ask for something whenever they are given. */
const defaults: Partial<Record<keyof ConfigValues, unknown>> = {
  enable_cuda_graph: false,
  use_triton: false,
  triton_autotune: false,
  triangular_masking: true,
  keep_module_on_host: false,
  base_dir: "",
  set_empty_params: false,
  return_tuple: true,
  training_mp_size: 1,
  replace_method: "auto",
  min_out_tokens: 1,
  transposed_mode: false,
  ep_size: 1,
  moe_type: "standard",
};

/** Keys that are followed, or that ask for what is always so (fused kernels). */
const followed: readonly string[] = [
  "dtype",
  "tensor_parallel",
  "mp_size",
  "max_out_tokens",
  "replace_with_kernel_inject",
];

function warnWithoutEffect(values: ConfigValues, where: string, logger: Logger): void {
  const asks = (value: unknown, unset: unknown): boolean =>
    value !== undefined &&
    value !== null &&
    value !== unset &&
    !(typeof value === "object" && Object.keys(value).length === 0);
  const names = (Object.keys(values) as (keyof ConfigValues)[])
    .filter((key) => !followed.includes(key) && asks(values[key], defaults[key]))
    .map(String);
  const { tp_grain_size: grain, mpu, tp_group: group } = values.tensor_parallel ?? {};
  if (asks(grain, 64)) names.push("tensor_parallel.tp_grain_size");
  if (asks(mpu, null)) names.push("tensor_parallel.mpu");
  if (asks(group, null)) names.push("tensor_parallel.tp_group");
  if (names.length > 0) logger.warn(`${where}: no effect here: ${names.join(", ")}`);
}
