import { type Logger, readLogger } from "../base/logger.js";
import { isObject } from "../base/objects.js";
import { OptionReader } from "../base/option_reader.js";
import { rule } from "../base/rules.js";
import type { DeepSpeedConfig, DtypeName } from "../deepspeed_config/config_input.js";
import { canonicalDtype, elementTypeOf } from "../deepspeed_config/dtype.js";
import { mostBatchTokens, mostRanks, mostThreads } from "../native/limits.js";
import { readDeviceName } from "./device.js";
import { type ResolvedSpeculation, readSpeculation, type SpeculationOptions } from "./speculation.js";

/** Argument of `onProgress`: "save" events if the config has a save_mp_checkpoint_path, then "load" events, then one "ready" event. */
export type LoadProgress =
  | {
      /** The divided checkpoint is written. */
      phase: "save";
      /** Bytes that have been written. */
      savedBytes: number;
      /** Bytes of all of it. */
      totalBytes: number;
    }
  | {
      /** Weights are read. */
      phase: "load";
      /** Bytes that have been read. */
      loadedBytes: number;
      /** Bytes of all of it. */
      totalBytes: number;
    }
  | {
      /** The engine can generate. */
      phase: "ready";
      /** Milliseconds that loading took. */
      loadMs: number;
    };

/** How to load a model. All options are optional. */
export interface InitOptions {
  /** DeepSpeed inference config: an object, or the path of a JSON file. Default {}. */
  config?: DeepSpeedConfig | string;
  /** DeepSpeed checkpoint JSON, which lists the weight files: an object or the path of a file. Default: that of the config, else the files of the model folder. */
  checkpoint?: object | string;
  /** Folder of the files that `checkpoint` names. Default: that of the config. The JSON's own folder is searched too. */
  baseDir?: string;
  /** Folder of a PEFT adapter (LoRA), which is merged into the weights while they are loaded. Default: none. */
  adapter?: string;
  /** Element type of the weights: "fp32", "fp16", "bf16" or another name of these. Default: the config's, else the checkpoint's. */
  dtype?: DtypeName;
  /** Number of tensor-parallel ranks, from 1. Default: tensor_parallel.tp_size of the config, else 1. */
  tpSize?: number;
  /**
   * Element type of what GPUs of several ranks add up of a product: "fp32", or that of the weights, "fp16" or "bf16", which is half as many
   * bytes and rounds each rank's part (docs/tensor_parallel.md). Then tokens may differ from those of another tpSize. Default "fp32".
   */
  communicationDtype?: DtypeName;
  /** "auto", "cpu", "cuda" (the first usable GPU) or "cuda:1". Default "auto": the first usable GPU, else the CPU, with a log line. */
  device?: string;
  /**
   * CPU threads of each rank, for loading weights and for computing on the CPU: 1 to 1024. Default: the processors that affinity and the
   * CPU quotas of containers leave this process, divided among the ranks of this host.
   */
  threads?: number;
  /** Maximum number of tokens in a step: 1 to 65,535. Longer prompts take several steps. Default 512. */
  maxBatchTokens?: number;
  /** Bytes for the KV cache of all ranks together, and of a draft model. Default: planned from the model and the free memory (docs/memory.md). */
  kvCacheBytes?: number;
  /** Draft tokens and verify several in one step: { method: "ngram" }, or { method: "draft", model: "..." } (docs/speculation.md). It changes no token. Default false: one token a step. */
  speculation?: SpeculationOptions | false;
  /** Whether prompts that begin alike share what was computed of them (docs/prefix-cache.md). It changes no token. Default true. */
  prefixCache?: boolean;
  /**
   * For ranks that are processes: milliseconds for which a rank may be unreachable before all calls on all ranks reject with ERR_COMM, from 100
   * to 3,600,000. Default 10,000. The end of a rank's process is noticed at once.
   */
  commTimeoutMs?: number;
  /** For ranks that are processes: milliseconds in which all of them must have connected and opened the model. Default 300,000. */
  rendezvousTimeoutMs?: number;
  /** Called while the model loads. If ranks are processes, it reports the progress of this process. */
  onProgress?: (progress: LoadProgress) => void;
  /** Cancels loading with ERR_ABORTED. */
  signal?: AbortSignal;
  /** Receives messages. Default: none does. */
  logger?: Logger;
}

/** Checked init options with all defaults. */
export interface ResolvedInitOptions {
  readonly config: object | string | undefined;
  readonly checkpoint: object | string | undefined;
  readonly baseDir: string | undefined;
  readonly adapter: string | undefined;
  readonly dtype: string | undefined;
  readonly tpSize: number | undefined;
  readonly communicationDtype: "float32" | "float16" | "bfloat16";
  /** As requested: "auto", "cuda:1". The device is chosen later, when CUDA has been asked. */
  readonly device: string;
  /** Undefined: divide the processors among the ranks. */
  readonly threads: number | undefined;
  readonly maxBatchTokens: number;
  readonly kvCacheBytes: number | undefined;
  readonly speculation: ResolvedSpeculation | undefined;
  readonly prefixCache: boolean;
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
  "adapter",
  "dtype",
  "tpSize",
  "communicationDtype",
  "device",
  "threads",
  "maxBatchTokens",
  "kvCacheBytes",
  "speculation",
  "prefixCache",
  "commTimeoutMs",
  "rendezvousTimeoutMs",
  "onProgress",
  "signal",
  "logger",
] as const satisfies (keyof InitOptions)[];

/**
 * Checks init options and fills in defaults. Reads no file and does not load the addon.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, naming the option, what was found and what is expected.
 */
export function resolveInitOptions(options: unknown): ResolvedInitOptions {
  const reader = new OptionReader("initInference option", options, initOptionNames);
  return {
    config: reader.read("config", jsonOrPath, undefined),
    checkpoint: reader.read("checkpoint", jsonOrPath, undefined),
    baseDir: reader.read("baseDir", folderOrNothing, undefined) || undefined,
    adapter: reader.read("adapter", folderName, undefined),
    dtype: reader.read("dtype", dtypeName, undefined),
    tpSize: reader.integer("tpSize", 1, mostRanks, undefined),
    communicationDtype: (elementTypeOf(reader.read("communicationDtype", dtypeName, undefined)) ??
      "float32") as ResolvedInitOptions["communicationDtype"],
    device: readDeviceName(reader.get("device")),
    threads: reader.integer("threads", 1, mostThreads, undefined),
    maxBatchTokens: reader.integer("maxBatchTokens", 1, mostBatchTokens, 512),
    kvCacheBytes: reader.integer("kvCacheBytes", 1, Number.MAX_SAFE_INTEGER, undefined),
    speculation: readSpeculation(reader.get("speculation")),
    prefixCache: reader.boolean("prefixCache", true),
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

const dtypeName = rule<string>('"fp32", "fp16" or "bf16"', (value) => {
  const dtype = canonicalDtype(value);
  return dtype !== undefined && dtype !== "torch.int8";
});

const folderName = rule<string>(
  "the path of a folder",
  (value) => typeof value === "string" && value !== "" && !value.includes("\0"),
);

/** "" is DeepSpeed's default: none. */
const folderOrNothing = rule<string>(
  "the path of a folder",
  (value) => typeof value === "string" && !value.includes("\0"),
);
