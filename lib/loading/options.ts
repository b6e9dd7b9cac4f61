import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { type Logger, readLogger } from "../base/logger.js";
import { OptionReader } from "../base/option_reader.js";
import type { GenerationDefaults } from "../engine/generation_config.js";
import { nextSeed } from "../engine/seed.js";
import type { CudaReport } from "../native/binding.js";
import { loadNative } from "../native/load.js";
import { chooseDevice, type Device, readDeviceName } from "./device.js";

export { type GenerationDefaults, loadGenerationDefaults } from "../engine/generation_config.js";

/** What to generate and when to stop. Every option may be left out. */
export interface GenerationOptions {
  /** Most new tokens: an integer of at least 1. Default 256, or what is left of the context where that is less. */
  maxNewTokens?: number;
  /** No stop token is chosen before this many new tokens: an integer from 0 to maxNewTokens. Default 0. */
  minNewTokens?: number;
  /** Logits are divided by it before sampling: a number of at least 0. Default 0, which is greedy: sampling options then have no effect. */
  temperature?: number;
  /** Sample among the k likeliest tokens: an integer of at least 0. Default 0: among all. */
  topK?: number;
  /** Sample among the likeliest tokens that together have this probability: above 0, at most 1. Default 1: among all. */
  topP?: number;
  /** Sample among tokens at least this many times as likely as the likeliest: from 0 to 1. Default 0: among all. */
  minP?: number;
  /** Logits of tokens in the prompt or the new text are divided by it where positive, else multiplied: above 0. Default 1: none. */
  repetitionPenalty?: number;
  /** Taken from the logits of tokens that are in the new text: from -2 to 2. Default 0. */
  presencePenalty?: number;
  /** Taken from the logits of tokens, times how often they are in the new text: from -2 to 2. Default 0. */
  frequencyPenalty?: number;
  /** Same seed, same samples: an integer from 0 to 2^53 - 1, or a bigint below 2^64. Default: the next of manualSeed()'s, else a random one. */
  seed?: number | bigint;
  /** The text ends before the first of these: a string or an array of strings, none empty. Default none. */
  stop?: string | readonly string[];
  /** The text ends before the first of these tokens, besides the model's end-of-sequence tokens. Default none. */
  stopTokenIds?: readonly number[];
  /** Go on after the model's end-of-sequence tokens. Default false. */
  ignoreEos?: boolean;
  /** Log-probabilities of the new tokens: true or 0 for these alone, 1 to 20 for that many of the likeliest besides. Default false. */
  logprobs?: boolean | number;
  /** Ends the work with ERR_ABORTED. */
  signal?: AbortSignal;
  /** Beam search is not available yet: only 1. */
  numBeams?: number;
}

/** Generation options, checked, with their defaults. */
export interface ResolvedGenerationOptions {
  maxNewTokens: number;
  /** Whether the caller named maxNewTokens: a context too short for it is then an error, and otherwise bounds it. */
  maxNewTokensGiven: boolean;
  minNewTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  /** From 0 to 2^64 - 1. */
  seed: bigint;
  stop: string[];
  /** The caller's, and the model's end-of-sequence tokens unless ignoreEos. No duplicates. */
  stopTokenIds: number[];
  /** undefined: none; n: the chosen token's and the n largest. */
  logprobs: number | undefined;
  signal: AbortSignal | undefined;
}

const generationOptionNames = [
  "maxNewTokens",
  "minNewTokens",
  "temperature",
  "topK",
  "topP",
  "minP",
  "repetitionPenalty",
  "presencePenalty",
  "frequencyPenalty",
  "seed",
  "stop",
  "stopTokenIds",
  "ignoreEos",
  "logprobs",
  "signal",
  "numBeams",
] as const satisfies (keyof GenerationOptions)[];

/** More rows than this do not fit into one launch on CUDA, and nobody gains by them. */
const mostBatchTokens = 65_535;
const maxInt32 = 2 ** 31 - 1;
/** At most kMostLogprobs of cuda/sample.h. */
export const maxLogprobs = 20;

/**
 * Checks generation options and fills in defaults. The caller's object is left as it is.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, naming the option, what was found and what is expected.
 */
export function resolveGenerationOptions(options: unknown, defaults?: GenerationDefaults): ResolvedGenerationOptions {
  const reader = new OptionReader("The generation options", options, generationOptionNames);
  checkNumBeams(reader.get("numBeams"));
  const maxNewTokens = reader.integer("maxNewTokens", 1, maxInt32, 256);
  const ignoreEos = reader.boolean("ignoreEos", false);
  const stopTokenIds = [
    ...readTokenIds(reader.get("stopTokenIds")),
    ...(ignoreEos ? [] : (defaults?.eosTokenIds ?? [])),
  ];
  return {
    maxNewTokens,
    maxNewTokensGiven: reader.get("maxNewTokens") !== undefined,
    minNewTokens: reader.integer("minNewTokens", 0, maxNewTokens, 0),
    temperature: reader.number("temperature", "a number of at least 0", (value) => value >= 0, 0),
    topK: reader.integer("topK", 0, maxInt32, 0),
    topP: reader.number("topP", "a number above 0, at most 1", (value) => value > 0 && value <= 1, 1),
    minP: reader.number("minP", "a number from 0 to 1", (value) => value >= 0 && value <= 1, 0),
    repetitionPenalty: reader.number("repetitionPenalty", "a number above 0", (value) => value > 0, 1),
    presencePenalty: reader.number("presencePenalty", "a number from -2 to 2", (value) => Math.abs(value) <= 2, 0),
    frequencyPenalty: reader.number("frequencyPenalty", "a number from -2 to 2", (value) => Math.abs(value) <= 2, 0),
    seed: readSeed(reader.get("seed")),
    stop: readStop(reader.get("stop"), "stop"),
    stopTokenIds: [...new Set(stopTokenIds)],
    logprobs: readLogprobs(reader.get("logprobs")),
    signal: reader.signal("signal"),
  };
}

function checkNumBeams(value: unknown): void {
  if (value === undefined || value === 1) return;
  if (!Number.isInteger(value) || (value as number) < 1) throw invalidArgument("numBeams", "1", value);
  throw new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    `Expected numBeams to be 1, found ${value}: beam search is not available yet. Leave it out, or sample with temperature.`,
  );
}

function readTokenIds(value: unknown): number[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw invalidArgument("stopTokenIds", "an array of token ids", value);
  return value.map((id, i) => {
    if (!Number.isInteger(id) || id < 0 || id > maxInt32) throw invalidArgument(`stopTokenIds[${i}]`, "a token id", id);
    return id;
  });
}

function readSeed(value: unknown): bigint {
  if (value === undefined) return nextSeed();
  if (
    typeof value === "bigint" ? value >= 0n && value < 2n ** 64n : Number.isSafeInteger(value) && (value as number) >= 0
  ) {
    return BigInt(value as number | bigint);
  }
  throw invalidArgument("seed", "an integer from 0 to 2^53 - 1, or a bigint from 0 to 2^64 - 1", value);
}

/** Stop strings without duplicates; `name` is the option's, for errors. */
export function readStop(value: unknown, name: string): string[] {
  if (value === undefined) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  for (const stop of list) {
    if (typeof stop !== "string" || stop === "")
      throw invalidArgument(name, "a string or an array of strings, none empty", value);
    // Half of a surrogate pair is no character, so no text could ever hold it.
    if (/\p{Surrogate}/u.test(stop)) throw invalidArgument(name, "text of whole Unicode characters", stop);
  }
  return [...new Set(list as string[])];
}

function readLogprobs(value: unknown): number | undefined {
  if (value === undefined || value === false) return undefined;
  if (value === true) return 0;
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > maxLogprobs) {
    throw invalidArgument("logprobs", `true, false or an integer from 0 to ${maxLogprobs}`, value);
  }
  return value as number;
}

/** What `onProgress` receives: where the config has a save_mp_checkpoint_path some of the first kind, then some of the second, then one of the third. */
export type LoadProgress =
  | { phase: "save"; savedBytes: number; totalBytes: number }
  | { phase: "load"; loadedBytes: number; totalBytes: number }
  | { phase: "ready"; loadMs: number };

/** How to load a model. Every option may be left out. */
export interface InitOptions {
  /** DeepSpeed inference config: an object, or the path of a JSON file. Default: as {}. */
  config?: object | string;
  /** DeepSpeed checkpoint JSON, an object or the path of a file: which files hold the weights. Default: the config's, else the files of the model folder. */
  checkpoint?: object | string;
  /** Where the files are that `checkpoint` names. Default: the config's; files are also found from the JSON's own folder. */
  baseDir?: string;
  /** "auto", "cpu", "cuda" (the first GPU that can be used) or "cuda:1". Default "auto": as "cuda" where there is one, else the CPU, with one log line. */
  device?: string;
  /**
   * CPU threads of each rank, that load weights and, on the CPU, compute: 1 to 1024. Default: the number of processors that this process may
   * use, divided among the ranks of this host.
   */
  threads?: number;
  /** Most tokens that one step computes: 1 to 65,535. Longer prompts take several steps. Default 512. */
  maxBatchTokens?: number;
  /** Memory for the keys and values of all running sequences, of all ranks together, in bytes. Default: chosen from the model and the free memory. */
  kvCacheBytes?: number;
  /**
   * Where ranks are processes: how long a rank may be stopped or out of reach, in milliseconds, until all calls on all ranks end with ERR_COMM:
   * 100 to 3,600,000. Default 10,000. A rank whose process has ended is noticed at once.
   */
  commTimeoutMs?: number;
  /** Where ranks are processes: how long all of them have to come and to open the model, in milliseconds. Default 300,000. */
  rendezvousTimeoutMs?: number;
  /** Called while the model is loaded; where ranks are processes, with what this one loads. */
  onProgress?: (progress: LoadProgress) => void;
  /** Ends loading with ERR_ABORTED. */
  signal?: AbortSignal;
  /** Where messages go. Default: nowhere. */
  logger?: Logger;
}

/** Init options, checked, with their defaults. */
export interface ResolvedInitOptions {
  config: object | string | undefined;
  checkpoint: object | string | undefined;
  baseDir: string | undefined;
  /** Of the first rank. */
  device: Device;
  /** As it was asked for: "auto", "cuda:1". */
  deviceName: string;
  /** Undefined: to be divided among ranks. */
  threads: number | undefined;
  maxBatchTokens: number;
  kvCacheBytes: number | undefined;
  commTimeoutMs: number;
  rendezvousTimeoutMs: number;
  onProgress: ((progress: LoadProgress) => void) | undefined;
  signal: AbortSignal | undefined;
  logger: Logger;
}

const initOptionNames = [
  "config",
  "checkpoint",
  "baseDir",
  "device",
  "threads",
  "maxBatchTokens",
  "kvCacheBytes",
  "commTimeoutMs",
  "rendezvousTimeoutMs",
  "onProgress",
  "signal",
  "logger",
] as const satisfies (keyof InitOptions)[];

/**
 * Checks init options and fills in defaults.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, naming the option, what was found and what is expected; ERR_CUDA for a
 * CUDA device that cannot be used.
 */
export function resolveInitOptions(
  options: unknown,
  cudaReport: () => CudaReport = () => loadNative().cudaReport(),
): ResolvedInitOptions {
  const reader = new OptionReader("The options of initInference", options, initOptionNames);
  const resolved = {
    config: readJsonOption(reader, "config"),
    checkpoint: readJsonOption(reader, "checkpoint"),
    baseDir: readPath(reader, "baseDir"),
    threads: reader.integer("threads", 1, 1024, undefined),
    maxBatchTokens: reader.integer("maxBatchTokens", 1, mostBatchTokens, 512),
    kvCacheBytes: reader.integer("kvCacheBytes", 1, Number.MAX_SAFE_INTEGER, undefined),
    commTimeoutMs: reader.integer("commTimeoutMs", 100, 3_600_000, 10_000),
    rendezvousTimeoutMs: reader.integer("rendezvousTimeoutMs", 1, 86_400_000, 300_000),
    onProgress: reader.function<(progress: LoadProgress) => void>("onProgress"),
    signal: reader.signal("signal"),
    logger: readLogger(reader.get("logger")),
  };
  // Last: it may wake the driver, which takes a while.
  const device = chooseDevice(reader.get("device"), cudaReport, resolved.logger);
  return { ...resolved, device, deviceName: readDeviceName(reader.get("device")) };
}

function readJsonOption(reader: OptionReader, name: "config" | "checkpoint"): object | string | undefined {
  const value = reader.get(name);
  if (value === undefined || (typeof value === "string" && value !== "")) return value;
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw invalidArgument(name, "an object or the path of a JSON file", value);
}

function readPath(reader: OptionReader, name: "baseDir"): string | undefined {
  const value = reader.get(name);
  if (value === undefined || value === "") return undefined; // DeepSpeed's default is ""
  if (typeof value === "string" && !value.includes("\0")) return value;
  throw invalidArgument(name, "the path of a folder", value);
}
