/** The settings of a `model-config.yaml` with all defaults, under the names in the file. */
export interface ModelConfigYaml {
  /** Minimum number of workers; all ranks of a sharded model are one worker. Default 1. */
  minWorkers: number;
  /** Maximum number of workers, at least minWorkers. Default: minWorkers. */
  maxWorkers: number;
  /** Maximum number of requests in a batch. Default 1. */
  batchSize: number;
  /** Milliseconds that the first request of a batch waits for others; 0: no wait. Default 100. */
  maxBatchDelay: number;
  /** Timeout in seconds for a response, or for each part of a streamed response. Default 120. */
  responseTimeout: number;
  /** Timeout in seconds for loading a model. Default 120. */
  startupTimeout: number;
  /** Default "auto": GPUs if there are any. */
  deviceType: "auto" | "cpu" | "gpu";
  /** Numbers of the GPUs to use; empty, the default: all. */
  deviceIds: number[];
  /** How a model is sharded over ranks. Default "none". */
  parallelType: "none" | "tp" | "custom";
  /** Ranks of a worker; 0, the default: from the DeepSpeed config. Used only with a parallelType. */
  parallelLevel: number;
  /** The section `torchrun`. */
  torchrun: TorchrunSettings;
  /** Seconds in which a dead worker is restarted; 0: never. Default 300. */
  maxRetryTimeoutInSec: number;
  /** Maximum milliseconds of a request in the queue; 0, the default: unlimited. */
  clientTimeoutInMills: number;
  /** Maximum number of waiting requests. Default 100. */
  jobQueueSize: number;
  /** Accept a request only if a worker is idle. Default false. */
  useJobTicket: boolean;
  /** Pass each request to the handler immediately; the engine batches tokens. Default: asyncCommunication, else false. */
  continuousBatching: boolean;
  /** Alias of continuousBatching. Default false. */
  asyncCommunication: boolean;
  /** No effect. Default false. */
  sequenceBatching: boolean;
  /** No effect. Milliseconds; default 0. */
  sequenceMaxIdleMSec: number;
  /** No effect. Milliseconds; default 0. */
  sequenceTimeoutMSec: number;
  /** No effect. Default 1. */
  maxNumSequence: number;
  /** No effect. Default 1. */
  maxSequenceJobQueueSize: number;
  /** No effect: there is no Python environment. Default false. */
  useVenv: boolean;
  /** The section `deepspeed`. */
  deepspeed: DeepSpeedSection;
  /** Settings of the handler, or the name of a shipped handler. Default {}. */
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
  /** CPU threads of each rank; 0, the default: automatic. */
  OMP_NUMBER_THREADS: number;
}

/** The section `deepspeed`. Paths are relative to the model's folder. */
export interface DeepSpeedSection {
  /** Path of the DeepSpeed inference config, a JSON file. */
  config: string | undefined;
  /** Path of the checkpoint index, a JSON file that is written and then loaded from. */
  checkpoint: string | undefined;
}

/** A key in a file. */
export interface GivenKey {
  /** As checked: "4" is 4 for a key that is an integer. */
  value: unknown;
  /** `model-config.yaml:4:1`: file, line and column of the key. */
  place: string;
}

/** A parsed `model-config.yaml`. */
export interface ParsedModelConfig {
  /** Every key, with its default where the file has none. */
  values: ModelConfigYaml;
  /** The whole file as plain data with unknown keys, as handlers get it. */
  raw: Record<string, unknown>;
  /** The keys in the file, by dotted name (`torchrun.nproc-per-node`). */
  given: ReadonlyMap<string, GivenKey>;
  /** Messages about keys without effect, each with its place. */
  warnings: string[];
}
