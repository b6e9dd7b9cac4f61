import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { IntermediateResponse } from "../handler/response.js";
import type { LoadProgress } from "../loading/options.js";
import { BatchLane, type BatchLaneSettings, type HandlerJob } from "./batch_lane.js";
import { CallLane, type CallLaneSettings } from "./call_lane.js";
import { type Replica, Replicas } from "./replicas.js";
import type { HandlerAnswer, HandlerCall, RequestTimeline, Reservation, ServedModel } from "./served_model.js";
import { ServingError } from "./serving_error.js";
import type { EngineCallName, EngineCalls, EngineDescription, GenerateCall, GeneratePart } from "./worker/calls.js";
import type { WorkerDescription, WorkerPulse } from "./worker/protocol.js";
import type { DeathReason, WorkerStart } from "./worker/worker.js";

/** How a model version is served. */
export interface PoolSettings extends BatchLaneSettings, CallLaneSettings {
  /** Seconds after the first of several failures in which a worker is started again. */
  maxRetryTimeoutS: number;
}

/** Who wants to know what becomes of requests and workers. */
export interface PoolObserver {
  workerStateChanged?(replica: Replica): void;
  workerReady?(replica: Replica): void;
  workerPulse?(replica: Replica, pulse: WorkerPulse): void;
  /** It died without having been told to. */
  workerDied?(replica: Replica, error: ShardspeedError, reason: DeathReason): void;
  /** It was told to leave, and has. */
  workerLeft?(replica: Replica): void;
  generationStarted?(start: { receivedAt: number; maxTokens: number | undefined }): GenerationObserver;
  handlerRequestFinished?(outcome: HandlerOutcome): void;
  rejected?(error: ServingError): void;
}

/** Hears of one generation. Times are of performance.now(). */
export interface GenerationObserver {
  /** A worker has it. */
  dispatched(replica: Replica, at: number): void;
  prompt(tokens: number): void;
  tokens(count: number, at?: number): void;
  finished(reason: "stop" | "length" | "abort" | "error", at?: number): void;
}

/** How a request of a handler went. */
export interface HandlerOutcome {
  /** As the request named it. */
  version: string | undefined;
  status: number;
  queuedMs: number;
  totalMs: number;
}

export interface PoolOptions {
  name: string;
  version: string;
  settings: PoolSettings;
  start(index: number): WorkerStart;
  logger: Logger;
  observer: PoolObserver;
}

/** A model version with its workers and queues. */
export class ModelPool implements ServedModel {
  readonly name: string;
  readonly version: string;
  readonly created = Math.floor(Date.now() / 1000);
  readonly settings: PoolSettings;
  readonly replicas: Replicas;
  engine: EngineDescription | undefined;
  /** Of the worker that loads. */
  progress: LoadProgress | undefined;
  readonly #observer: PoolObserver;
  readonly #batches: BatchLane;
  readonly #calls: CallLane;
  #wasReady = false;
  #draining = false;

  constructor({ name, version, settings, start, logger, observer }: PoolOptions) {
    this.name = name;
    this.version = version;
    this.settings = settings;
    this.#observer = observer;
    this.replicas = new Replicas({
      start,
      maxRetryTimeoutS: settings.maxRetryTimeoutS,
      logger,
      onStart: (replica, worker) => {
        worker.onProgress = (progress) => {
          this.progress = progress;
        };
        worker.onPulse = (pulse) => observer.workerPulse?.(replica, pulse);
        observer.workerStateChanged?.(replica);
      },
      onChange: (replica) => {
        observer.workerStateChanged?.(replica);
        this.#dispatch();
      },
      onLeft: (replica) => observer.workerLeft?.(replica),
      onReady: (replica, description) => this.#onReady(replica, description),
      onDeath: (replica, error, reason) => observer.workerDied?.(replica, error, reason),
    });
    this.#batches = new BatchLane(settings, () => this.replicas.ready);
    this.#calls = new CallLane(settings, () => this.replicas.ready);
  }

  get state(): "loading" | "ready" | "failed" {
    if (this.replicas.ready.length > 0) return "ready";
    return this.replicas.hasHope ? "loading" : "failed";
  }

  /** Requests of the handler that wait. */
  get waitingRequests(): number {
    return this.#batches.waiting;
  }

  /** Sequences for the engine that wait for a worker. */
  get waitingSequences(): number {
    return this.#calls.waiting;
  }

  /** What is queued or worked on. */
  get pending(): number {
    return this.#batches.pending + this.#calls.pending;
  }

  /** No new request is taken from now on. */
  drain(): void {
    this.#draining = true;
  }

  reserve(count = 1): Reservation {
    try {
      this.#checkOpen();
      if (!this.#wasReady && this.state === "loading")
        throw new ServingError("model_loading", `The model ${this.name} is being loaded.`, { retryAfterS: 2 });
      return this.#calls.reserve(count);
    } catch (error) {
      if (error instanceof ServingError) this.#observer.rejected?.(error);
      throw error;
    }
  }

  async call<Name extends EngineCallName>(
    name: Name,
    argument: EngineCalls[Name]["argument"],
    options: {
      reservation: Reservation;
      signal: AbortSignal;
      onPart?: (parts: EngineCalls[Name]["part"][]) => void;
    },
  ): Promise<EngineCalls[Name]["result"]> {
    const { reservation, signal, onPart } = options;
    const meter = name === "generate" ? this.#meter(argument as GenerateCall, reservation) : undefined;
    try {
      const result = await this.#calls.run(name, argument, {
        reservation,
        signal,
        onDispatch: (worker) => {
          const replica = this.replicas.all.find((one) => one.worker === worker);
          if (replica !== undefined) meter?.dispatched(replica);
        },
        onParts: (parts) => {
          meter?.look(parts as GeneratePart[]);
          onPart?.(parts as EngineCalls[Name]["part"][]);
        },
      });
      meter?.finish(undefined);
      return result as EngineCalls[Name]["result"];
    } catch (error) {
      meter?.finish(error as Error);
      throw error;
    } finally {
      reservation.timeline.endedAt = performance.now();
    }
  }

  #meter({ options }: GenerateCall, { timeline }: Reservation): GenerationWatch {
    const { receivedAt } = timeline;
    const observer = this.#observer.generationStarted?.({ receivedAt, maxTokens: options.maxNewTokens });
    return new GenerationWatch(timeline, observer);
  }

  async predict(
    request: HandlerCall,
    options: { signal: AbortSignal; onPart?: (part: IntermediateResponse) => void },
  ): Promise<HandlerAnswer> {
    const receivedAt = performance.now();
    let job: HandlerJob | undefined;
    const finish = (status: number) => {
      const now = performance.now();
      const queuedMs = (job?.dispatchedAt ?? now) - receivedAt;
      this.#observer.handlerRequestFinished?.({
        version: request.version,
        status,
        queuedMs,
        totalMs: now - receivedAt,
      });
    };
    try {
      this.#checkOpen();
      job = this.#batches.add(request, options);
      const answer = await job.done;
      finish(answer.code === 200 ? answer.response.status : answer.code);
      return answer;
    } catch (error) {
      if (error instanceof ServingError && job === undefined) this.#observer.rejected?.(error);
      finish(error instanceof ServingError ? error.status : 500);
      throw error;
    }
  }

  async dispose(graceMs?: number): Promise<void> {
    this.drain();
    await this.replicas.dispose(graceMs);
    const gone = new ServingError("no_worker", `The model ${this.name} has been unregistered.`);
    this.#batches.failAll(gone);
    this.#calls.failAll(gone);
  }

  #checkOpen(): void {
    if (this.#draining)
      throw new ServingError("shutting_down", "The server is shutting down.", { retryAfterS: 5, final: true });
    if (!this.replicas.hasHope) throw new ServingError("no_worker", `The model ${this.name} has no worker.`);
  }

  #onReady(replica: Replica, description: WorkerDescription): void {
    this.#wasReady = true;
    this.progress = undefined;
    this.engine = description.engine ?? this.engine;
    this.#observer.workerReady?.(replica);
  }

  #dispatch(): void {
    if (!this.replicas.hasHope) {
      const gone = new ServingError("no_worker", `Model "${this.name}" has no worker any more.`);
      this.#batches.failAll(gone);
      this.#calls.failAll(gone);
      return;
    }
    this.#batches.dispatch();
    this.#calls.dispatch();
  }
}

/**
 * Follows a generation by its parts. What it sees is told behind all that the turn of the event loop has to do: an answer does not wait until it
 * has been counted, and whoever has an answer finds it counted.
 */
class GenerationWatch {
  readonly #timeline: RequestTimeline;
  readonly #observer: GenerationObserver | undefined;
  #finishReason: "stop" | "length" | undefined;
  #told: ((observer: GenerationObserver) => void)[] = [];

  constructor(timeline: RequestTimeline, observer: GenerationObserver | undefined) {
    this.#timeline = timeline;
    this.#observer = observer;
  }

  dispatched(replica: Replica): void {
    const at = this.#timeline.dispatchedAt ?? performance.now();
    this.#tell((observer) => observer.dispatched(replica, at));
  }

  look(parts: readonly GeneratePart[]): void {
    const at = performance.now();
    let tokens = 0;
    for (const part of parts) {
      if ("start" in part) {
        const { promptTokens } = part.start;
        this.#tell((observer) => observer.prompt(promptTokens));
      } else {
        tokens += part.chunk.ids.length;
        this.#finishReason = part.chunk.finishReason ?? this.#finishReason;
      }
    }
    if (tokens === 0) return;
    this.#timeline.firstPartAt ??= at;
    this.#tell((observer) => observer.tokens(tokens, at));
  }

  finish(error: Error | undefined): void {
    const at = performance.now();
    const reason = error === undefined ? (this.#finishReason ?? "stop") : isAborted(error) ? "abort" : "error";
    this.#tell((observer) => observer.finished(reason, at));
  }

  #tell(what: (observer: GenerationObserver) => void): void {
    const observer = this.#observer;
    if (observer === undefined || this.#told.push(what) > 1) return;
    setImmediate(() => {
      const told = this.#told;
      this.#told = [];
      for (const one of told) one(observer);
    });
  }
}

function isAborted(error: Error): boolean {
  return ShardspeedError.isInstance(error) && error.code === "ERR_ABORTED";
}
