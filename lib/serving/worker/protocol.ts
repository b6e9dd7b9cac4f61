import { type ErrorCode, errorCodes, isError, ShardspeedError } from "../../base/errors.js";
import type { EngineStats } from "../../engine/engine.js";
import type { RequestPart } from "../../handler/request.js";
import type { InitOptions, LoadProgress } from "../../loading/options.js";
import type { Settings } from "../../torchserve_config/index.js";
import type { EngineCallName, EngineDescription } from "./calls.js";
import type { HandlerMeasure } from "./handler_metrics.js";

/** What a worker opens. */
export interface WorkerPlan {
  /** Archive or folder. */
  location: string;
  /** Where the server has unpacked the archive: it is the same for all workers of the model. */
  unpacked?: string | undefined;
  modelName: string;
  /** Values that take precedence over the model's model-config.yaml. */
  settings: Settings;
  modelConfigYaml?: string | undefined;
  handlerMap: Readonly<Record<string, string>>;
  gpuId: number | null;
  /** Least milliseconds between two chunks of a stream of tokens. */
  streamIntervalMs: number;
  /** Most chunks of all streams together. Default: by the processors of the worker. */
  streamChunksPerSecond?: number | undefined;
  /** What a shipped handler opens its engine with, before what the model's files say. */
  engineOptions: Pick<
    InitOptions,
    "device" | "adapter" | "dtype" | "tpSize" | "threads" | "maxBatchTokens" | "kvCacheBytes" | "speculation" | "config"
  >;
}

/** A request of a handler's batch. */
export interface WireRequest {
  id: string;
  parts: readonly RequestPart[];
  headers: Readonly<Record<string, string>>;
}

/** What a server says to a worker. */
export type ToWorker =
  | { kind: "open"; plan: WorkerPlan }
  | { kind: "predict"; id: number; requests: readonly WireRequest[] }
  | { kind: "call"; id: number; name: EngineCallName; argument: unknown }
  /** Of a batch, the request at `index`: its client has gone. */
  | { kind: "cancel"; id: number; index?: number }
  | { kind: "stop" };

/** What a worker is, once it is ready. */
export interface WorkerDescription {
  version: string;
  /** Absent where the handler has no engine. */
  engine?: EngineDescription;
  /** What the handler answered to a request for its description is not among this: it is asked for by a request. */
  pid: number;
}

/** How a worker is doing. */
export interface WorkerPulse {
  rssBytes: number;
  /** Processor time since its start, in seconds. */
  cpuSeconds: number;
  engine?: EngineStats;
  /** What the handler has measured since the last pulse. */
  measures?: readonly HandlerMeasure[];
}

/** An error on its way to another process. */
export interface WireError {
  /** Absent for an error that is no ShardspeedError. */
  code?: ErrorCode;
  message: string;
  details?: Record<string, unknown>;
}

/** What a worker says to its server. */
export type FromWorker =
  | { kind: "hello"; token: string; rank: number; pid: number }
  | { kind: "progress"; progress: LoadProgress }
  | { kind: "ready"; description: WorkerDescription }
  /** The load failed. mayPass: another try may succeed, as the failure is not one of what was read. */
  | { kind: "failed"; error: WireError; mayPass: boolean }
  | { kind: "part"; id: number; part: unknown }
  | { kind: "result"; id: number; value: unknown }
  | { kind: "error"; id: number; error: WireError }
  | { kind: "log"; level: "debug" | "info" | "warn" | "error"; message: string }
  | { kind: "pulse"; pulse: WorkerPulse };

/** Environment variables by which a worker finds its server. */
export const socketVariable = "SHARDSPEED_WORKER_SOCKET";
export const tokenVariable = "SHARDSPEED_WORKER_TOKEN";

export function toWireError(error: unknown): WireError {
  const { details } = (error ?? {}) as { details?: Record<string, unknown> };
  if (ShardspeedError.isInstance(error))
    return { code: error.code, message: error.message, ...(details === undefined ? {} : { details }) };
  return { message: isError(error) ? error.message : String(error) };
}

/** The error again; one of a kind that is not known here is the worker's failure. */
export function fromWireError({ code, message, details }: WireError): ShardspeedError {
  const known = code !== undefined && Object.hasOwn(errorCodes, code) ? code : "ERR_HANDLER";
  const error = new ShardspeedError(known, message);
  return details === undefined ? error : Object.assign(error, { details });
}
