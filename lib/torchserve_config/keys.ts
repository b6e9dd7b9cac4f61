/** Type of a key's value. */
export type KeyType =
  | {
      kind: "integer";
      minimum: number;
      /** Value to use for 0, which TorchServe's users write for "not set". */
      zeroIs?: number;
    }
  | { kind: "boolean" }
  | { kind: "text" }
  | { kind: "integers" }
  /** Words, case-insensitive, and the value of each. */
  | { kind: "word"; words: Readonly<Record<string, string>> };

export interface KeyDescription {
  type: KeyType;
  unit?: "ms" | "s";
  /** undefined: no default. */
  default: unknown;
  /** Why the key has no effect; the text of a warning. */
  noEffect?: string;
}

const flag: KeyType = { kind: "boolean" };
const text: KeyType = { kind: "text" };

function atLeast(minimum: number, zeroIs?: number): KeyType {
  return { kind: "integer", minimum, ...(zeroIs === undefined ? {} : { zeroIs }) };
}

const sequences = "requests are not kept together as sequences";
const oneHost = "a worker's ranks are on one host, and find each other without a rendezvous";

/** Every key of `model-config.yaml` outside of free-form sections, by dotted name. A test compares it with the table of docs/model-config.md. */
export const modelYamlKeys: Readonly<Record<string, KeyDescription>> = {
  minWorkers: { type: atLeast(1, 1), default: 1 },
  maxWorkers: { type: atLeast(1, 1), default: undefined },
  batchSize: { type: atLeast(1, 1), default: 1 },
  maxBatchDelay: { type: atLeast(0), unit: "ms", default: 100 },
  responseTimeout: { type: atLeast(1), unit: "s", default: 120 },
  startupTimeout: { type: atLeast(1), unit: "s", default: 120 },
  deviceType: { type: { kind: "word", words: { auto: "auto", cpu: "cpu", gpu: "gpu" } }, default: "auto" },
  deviceIds: { type: { kind: "integers" }, default: [] },
  parallelType: {
    type: { kind: "word", words: { none: "none", "": "none", tp: "tp", custom: "custom" } },
    default: "none",
  },
  parallelLevel: { type: atLeast(0), default: 0 },
  "torchrun.nnodes": { type: atLeast(1), default: 1, noEffect: oneHost },
  "torchrun.nproc-per-node": { type: atLeast(1), default: 1 },
  "torchrun.rdzv-backend": { type: text, default: "c10d", noEffect: oneHost },
  "torchrun.rdzv-endpoint": { type: text, default: "", noEffect: oneHost },
  "torchrun.rdzv-conf": { type: text, default: "", noEffect: oneHost },
  "torchrun.monitor-interval": { type: atLeast(1), unit: "s", default: 5, noEffect: "ranks are watched all the time" },
  "torchrun.node-rank": { type: atLeast(0), default: 0, noEffect: oneHost },
  "torchrun.OMP_NUMBER_THREADS": { type: atLeast(0), default: 0 },
  maxRetryTimeoutInSec: { type: atLeast(0), unit: "s", default: 300 },
  clientTimeoutInMills: { type: atLeast(0), unit: "ms", default: 0 },
  jobQueueSize: { type: atLeast(1, 100), default: 100 },
  useJobTicket: { type: flag, default: false },
  continuousBatching: { type: flag, default: false },
  asyncCommunication: { type: flag, default: false },
  sequenceBatching: { type: flag, default: false, noEffect: sequences },
  sequenceMaxIdleMSec: { type: atLeast(0), unit: "ms", default: 0, noEffect: sequences },
  sequenceTimeoutMSec: { type: atLeast(0), unit: "ms", default: 0, noEffect: sequences },
  maxNumSequence: { type: atLeast(1, 1), default: 1, noEffect: sequences },
  maxSequenceJobQueueSize: { type: atLeast(1, 1), default: 1, noEffect: sequences },
  useVenv: { type: flag, default: false, noEffect: "there is no Python environment" },
  "deepspeed.config": { type: text, default: undefined },
  "deepspeed.checkpoint": { type: text, default: undefined },
};

/** Sections for other backends: passed to handlers unchanged, with a warning. */
export const foreignSections: Readonly<Record<string, string>> = {
  pippy: "there are no pipelines",
  pt2: "nothing is compiled by PyTorch",
  micro_batching: "the engine cuts steps itself",
};

/** The keys of a section, or the top-level keys. */
export function keysOf(section?: string): string[] {
  const names = Object.keys(modelYamlKeys);
  if (section === undefined) {
    const own = names.map((name) => name.split(".")[0] as string);
    return [...new Set([...own, "handler", ...Object.keys(foreignSections)])];
  }
  const prefix = `${section}.`;
  return names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
}
