/** The settings of a `model-config.yaml`, under the file's own names, with defaults where it gives none. */
export interface ModelConfigYaml {
  /** Workers to keep; all the ranks of a divided model are one worker. Default 1. */
  minWorkers: number;
  /** Most workers, at least minWorkers. Default: minWorkers. */
  maxWorkers: number;
  /** Most requests that one call of a handler gets. Default 1. */
  batchSize: number;
  /** Milliseconds that the first request of a batch waits for others; 0 is no waiting. Default 100. */
  maxBatchDelay: number;
  /** Seconds to wait for an answer, and for each part of one that comes in parts. Default 120. */
  responseTimeout: number;
  /** Seconds to wait until a model is loaded. Default 120. */
  startupTimeout: number;
  /** Default "auto": GPUs where there are any. */
  deviceType: "auto" | "cpu" | "gpu";
  /** Numbers of the GPUs to use; empty, which is the default, for all. */
  deviceIds: number[];
  /** How a model is divided among ranks. Default "none". */
  parallelType: "none" | "tp" | "custom";
  /** Ranks of a worker; 0, which is the default, for what the DeepSpeed config says. Counts with a parallelType only. */
  parallelLevel: number;
  torchrun: TorchrunSettings;
  /** Seconds within which a worker that died is started again; 0 for never. Default 300. */
  maxRetryTimeoutInSec: number;
  /** Milliseconds after which a request that still waits is given up; 0, which is the default, for never. */
  clientTimeoutInMills: number;
  /** Most requests that wait. Default 100. */
  jobQueueSize: number;
  /** Take a request only if a worker is idle. Default false. */
  useJobTicket: boolean;
  /** Give each request to the handler at once, and let the engine batch tokens. Default false, or what asyncCommunication says. */
  continuousBatching: boolean;
  /** Another name of continuousBatching. Default false. */
  asyncCommunication: boolean;
  /** Not served. Default false. */
  sequenceBatching: boolean;
  /** Not served. Milliseconds; default 0. */
  sequenceMaxIdleMSec: number;
  /** Not served. Milliseconds; default 0. */
  sequenceTimeoutMSec: number;
  /** Not served. Default 1. */
  maxNumSequence: number;
  /** Not served. Default 1. */
  maxSequenceJobQueueSize: number;
  /** Has no effect: there is no Python environment. Default false. */
  useVenv: boolean;
  deepspeed: DeepSpeedSection;
  /** The handler's own settings, or the name of a shipped handler. Default {}. */
  handler: string | Record<string, unknown>;
}

/** The section `torchrun`. Only nproc-per-node and OMP_NUMBER_THREADS have an effect. */
export interface TorchrunSettings {
  /** Hosts. Default 1. */
  nnodes: number;
  /** Ranks of a worker: sets parallelLevel. Default 1. */
  "nproc-per-node": number;
  /** Default "c10d". */
  "rdzv-backend": string;
  /** Default "". */
  "rdzv-endpoint": string;
  /** Default "". */
  "rdzv-conf": string;
  /** Seconds. Default 5. */
  "monitor-interval": number;
  /** Default 0. */
  "node-rank": number;
  /** CPU threads of each rank; 0, which is the default, for the engine's choice. */
  OMP_NUMBER_THREADS: number;
}

/** The section `deepspeed`. Paths are relative to the model's folder. */
export interface DeepSpeedSection {
  /** The DeepSpeed inference config, a JSON file; undefined where none is named. */
  config: string | undefined;
  /** The checkpoint index to write and to load from, a JSON file; undefined where none is named. */
  checkpoint: string | undefined;
}

/** A key that a file gives. */
export interface GivenKey {
  value: unknown;
  /** `model-config.yaml:4:1`: file, line and column of the key. */
  place: string;
}

/** A `model-config.yaml` that was read. */
export interface ParsedModelConfig {
  values: ModelConfigYaml;
  /** The whole file as plain data, keys that shardspeed does not know included: what handlers see. */
  raw: Record<string, unknown>;
  /** What the file gives, by dotted name (`torchrun.nproc-per-node`). */
  given: ReadonlyMap<string, GivenKey>;
  /** What the file asks for in vain, each with its place. */
  warnings: string[];
}
