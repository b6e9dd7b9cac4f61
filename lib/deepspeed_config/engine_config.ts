import { isDeepStrictEqual } from "node:util";
import { ShardspeedError } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { showValue } from "../base/text.js";
import { elementTypeOf } from "./dtype.js";
import { type ParsedConfig, parseConfig } from "./inference_config.js";
import type { ResolvedDeepSpeedConfig } from "./types.js";

/** What the engine takes from a DeepSpeed inference config. */
export interface ResolvedConfig {
  /** The engine's element type; undefined where the config names none, and the checkpoint's own is used. */
  dtype: "float32" | "float16" | "bfloat16" | undefined;
  /** Number of tensor-parallel ranks. */
  tpSize: number;
  /** Whether the config names it. */
  namesTpSize: boolean;
  /** Most tokens of a sequence, prompt and new ones together; undefined where the config names no limit. */
  maxOutTokens: number | undefined;
  /** Tokens of a sequence that there must be room for. Default 1. */
  minOutTokens: number;
  /** A checkpoint JSON, or its path. */
  checkpoint: string | Record<string, unknown> | undefined;
  /** The folder that the checkpoint JSON's paths start from. */
  baseDir: string | undefined;
  /** The folder that the divided checkpoint is written to. */
  saveMpCheckpointPath: string | undefined;
  /** What messages call the config: its file, or "the DeepSpeed config". */
  where: string;
  /** All keys, those without effect here among them. */
  resolved: ResolvedDeepSpeedConfig;
}

/**
 * Reads a DeepSpeed inference config for an engine.
 *
 * @param config The config, or the path of a JSON file; undefined is {}.
 * @throws ShardspeedError ERR_CONFIG as DeepSpeedInferenceConfig.parse, and for what an engine cannot do.
 */
export function resolveConfig(config: object | string | undefined, logger: Logger = silentLogger): ResolvedConfig {
  const parsed = parseConfig(config, logger);
  rejectUnsupported(parsed);
  const { resolved, named } = parsed;
  return {
    dtype: named.has("dtype") ? (resolved.dtype.replace("torch.", "") as ResolvedConfig["dtype"]) : undefined,
    tpSize: resolved.tensor_parallel.tp_size,
    namesTpSize: named.has("tensor_parallel.tp_size"),
    maxOutTokens: named.has("max_out_tokens") ? resolved.max_out_tokens : undefined,
    minOutTokens: resolved.min_out_tokens,
    checkpoint: resolved.checkpoint ?? undefined,
    baseDir: resolved.base_dir === "" ? undefined : resolved.base_dir,
    saveMpCheckpointPath: resolved.save_mp_checkpoint_path ?? undefined,
    where: typeof config === "string" ? named.where : "the DeepSpeed config",
    resolved,
  };
}

/** Keys that would change what is computed or written, and cannot be followed. */
function rejectUnsupported({ resolved, named: { where, values, written } }: ParsedConfig): void {
  const reject = (key: string, text: string): never => {
    throw new ShardspeedError("ERR_CONFIG", `${where}: ${written(key)}${text}`);
  };
  if (resolved.dtype === "torch.int8")
    reject("dtype", ` ${showValue(values.dtype)} is not supported yet. Use "fp16", "bf16" or "fp32".`);
  if (Object.keys(resolved.config ?? {}).length > 0)
    reject("config", " is not supported: change the model's config.json instead.");
  for (const key of ["checkpoint", "save_mp_checkpoint_path"] as const) {
    if (resolved[key] === "") reject(key, ': expected a path, found "". Name one or remove the key.');
  }
  const { min_out_tokens: least, max_out_tokens: most } = resolved;
  if (values.max_out_tokens !== undefined && least > most)
    reject(
      "min_out_tokens",
      ` ${least} is more than ${written("max_out_tokens")} ${most}. Lower the one or raise the other.`,
    );
}

/** Options of initInference that a config has keys for. */
export interface ConfigOptions {
  checkpoint?: string | object | undefined;
  baseDir?: string | undefined;
  /** Any of the config's spellings. */
  dtype?: string | undefined;
  tpSize?: number | undefined;
}

/** A config with the dtype and tp_size of the options where it names none. rejectConflicts() has seen to the rest. */
export function withOptions(config: ResolvedConfig, options: Pick<ConfigOptions, "dtype" | "tpSize">): ResolvedConfig {
  const dtype = elementTypeOf(options.dtype) as ResolvedConfig["dtype"];
  return { ...config, dtype: config.dtype ?? dtype, tpSize: options.tpSize ?? config.tpSize };
}

/**
 * Refuses options that say something else than the config; the same said twice is fine. (DeepSpeed's docstring promises that arguments take
 * precedence, and its init_inference raises ValueError.)
 *
 * @throws ShardspeedError ERR_CONFIG with both values.
 */
export function rejectConflicts(config: ResolvedConfig, options: ConfigOptions): void {
  const compare = (option: string, given: unknown, key: string, configured: unknown, written = given): void => {
    if (given === undefined || configured === undefined || isDeepStrictEqual(given, configured)) return;
    throw new ShardspeedError(
      "ERR_CONFIG",
      `Found ${option} ${showValue(written)} in the options and ${key} ${showValue(configured)} in ${config.where}: remove one of them.`,
    );
  };
  compare("checkpoint", options.checkpoint, "checkpoint", config.checkpoint);
  compare("baseDir", options.baseDir, "base_dir", config.baseDir);
  const dtype = elementTypeOf(options.dtype) ?? options.dtype;
  compare("dtype", dtype, "dtype", config.dtype, options.dtype);
  compare("tpSize", options.tpSize, "tensor_parallel.tp_size", config.namesTpSize ? config.tpSize : undefined);
}
