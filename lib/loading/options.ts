import { isObject } from "../base/json.js";
import { type Logger, readLogger } from "../base/logger.js";
import { OptionReader } from "../base/option_reader.js";
import { rule } from "../base/rules.js";
import { mostBatchTokens, mostThreads } from "../native/limits.js";
import { readDeviceName } from "./device.js";

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
  readonly config: object | string | undefined;
  readonly checkpoint: object | string | undefined;
  readonly baseDir: string | undefined;
  /** As it is asked for: "auto", "cuda:1". Which device that is, is known once CUDA has been asked. */
  readonly device: string;
  /** Undefined: to be divided among ranks. */
  readonly threads: number | undefined;
  readonly maxBatchTokens: number;
  readonly kvCacheBytes: number | undefined;
  readonly commTimeoutMs: number;
  readonly rendezvousTimeoutMs: number;
  readonly onProgress: ((progress: LoadProgress) => void) | undefined;
  readonly signal: AbortSignal | undefined;
  readonly logger: Logger;
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
 * Checks init options and fills in defaults. Reads no file and loads no addon.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, naming the option, what was found and what is expected.
 */
export function resolveInitOptions(options: unknown): ResolvedInitOptions {
  const reader = new OptionReader("The options of initInference", options, initOptionNames);
  return {
    config: reader.read("config", jsonOrPath, undefined),
    checkpoint: reader.read("checkpoint", jsonOrPath, undefined),
    baseDir: reader.read("baseDir", folderOrNothing, undefined) || undefined,
    device: readDeviceName(reader.get("device")),
    threads: reader.integer("threads", 1, mostThreads, undefined),
    maxBatchTokens: reader.integer("maxBatchTokens", 1, mostBatchTokens, 512),
    kvCacheBytes: reader.integer("kvCacheBytes", 1, Number.MAX_SAFE_INTEGER, undefined),
    commTimeoutMs: reader.integer("commTimeoutMs", 100, 3_600_000, 10_000),
    rendezvousTimeoutMs: reader.integer("rendezvousTimeoutMs", 1, 86_400_000, 300_000),
    onProgress: reader.function<(progress: LoadProgress) => void>("onProgress"),
    signal: reader.signal("signal"),
    logger: readLogger(reader.get("logger")),
  };
}

const jsonOrPath = rule<object | string>(
  "an object or the path of a JSON file",
  (value) => isObject(value) || (typeof value === "string" && value !== ""),
);

/** "" is DeepSpeed's default: none. */
const folderOrNothing = rule<string>(
  "the path of a folder",
  (value) => typeof value === "string" && !value.includes("\0"),
);
