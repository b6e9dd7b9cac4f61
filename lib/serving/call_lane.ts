import { onAbort, throwIfAborted } from "../base/abort.js";
import type { RequestTimeline, Reservation } from "./served_model.js";
import { ServingError } from "./serving_error.js";
import type { EngineCallName } from "./worker/calls.js";
import type { Worker } from "./worker/worker.js";

/** How calls of an engine are queued. */
export interface CallLaneSettings {
  /** Calls that a worker works on at a time. */
  maxConcurrentRequests: number;
  /** Sequences that may wait. */
  maxQueuedSequences: number;
  /** Milliseconds after which a waiting call is given up; 0: never. */
  queueTimeoutMs: number;
  /** Milliseconds that a call may take, its wait included; 0: any. */
  requestTimeoutMs: number;
}

interface CallJob {
  name: EngineCallName;
  argument: unknown;
  timeline: RequestTimeline;
  onDispatch(worker: Worker): void;
  onParts(parts: unknown[]): void;
  settle: { resolve(value: unknown): void; reject(error: Error): void };
  /** Ends its timers and its listening. */
  finish(): void;
  /** Where it runs. */
  running?: { worker: Worker; id: number };
}

/** The calls of the engines of a model's workers: each goes to the worker with the least work, in the order of arrival. */
export class CallLane {
  readonly #settings: CallLaneSettings;
  readonly #workers: () => Worker[];
  readonly #queue = new Set<CallJob>();
  #reserved = 0;

  constructor(settings: CallLaneSettings, workers: () => Worker[]) {
    this.#settings = settings;
    this.#workers = workers;
  }

  /** Sequences that have a place. */
  get pending(): number {
    return this.#reserved;
  }

  get waiting(): number {
    return this.#queue.size;
  }

  reserve(count: number): Reservation {
    const { maxQueuedSequences, maxConcurrentRequests } = this.#settings;
    const places = maxQueuedSequences + maxConcurrentRequests * Math.max(1, this.#workers().length);
    if (count > places)
      throw new ServingError(
        "too_many_sequences",
        `The request has ${count} sequences, and there is room for ${places}.`,
      );
    if (this.#reserved + count > places)
      throw new ServingError("queue_full", `All ${places} places of the queue are taken.`, { retryAfterS: 1 });
    this.#reserved += count;
    let isHeld = true;
    return {
      timeline: { receivedAt: performance.now() },
      release: () => {
        if (isHeld) this.#reserved -= count;
        isHeld = false;
      },
    };
  }

  run(
    name: EngineCallName,
    argument: unknown,
    options: {
      reservation: Reservation;
      signal: AbortSignal;
      /** A worker has it. */
      onDispatch(worker: Worker): void;
      /** Receives parts until the call ends, also where it is given up. */
      onParts(parts: unknown[]): void;
    },
  ): Promise<unknown> {
    const { reservation, signal, onDispatch, onParts } = options;
    return new Promise((resolve, reject) => {
      throwIfAborted(signal, "The request");
      const { queueTimeoutMs, requestTimeoutMs } = this.#settings;
      const job: CallJob = {
        name,
        argument,
        timeline: reservation.timeline,
        onDispatch,
        onParts,
        settle: { resolve, reject },
        finish,
      };
      const stopListening = onAbort(signal, (error) => this.#end(job, error), "The request");
      const queueTimer = startTimer(queueTimeoutMs, () => {
        if (job.running !== undefined) return;
        const text = `The request waited for ${queueTimeoutMs / 1000} s and was not begun.`;
        this.#end(job, new ServingError("queue_timeout", text, { retryAfterS: 2 }));
      });
      const requestTimer = startTimer(requestTimeoutMs, () => {
        this.#end(job, new ServingError("request_timeout", `The request took more than ${requestTimeoutMs / 1000} s.`));
      });
      function finish() {
        stopListening();
        clearTimeout(queueTimer);
        clearTimeout(requestTimer);
      }
      this.#queue.add(job);
      this.dispatch();
    });
  }

  /** Hands waiting calls to workers that have room. */
  dispatch(): void {
    for (const job of this.#queue) {
      const worker = leastBusy(this.#workers());
      if (worker === undefined || worker.workCount >= this.#settings.maxConcurrentRequests) return;
      this.#queue.delete(job);
      job.timeline.dispatchedAt ??= performance.now();
      job.onDispatch(worker);
      const id = worker.call(job.name, job.argument, {
        onParts: (parts) => job.onParts(parts),
        onResult: (value) => {
          job.finish();
          job.settle.resolve(value);
          this.dispatch();
        },
        onError: (error) => {
          job.finish();
          job.settle.reject(worker.hasEnded ? new ServingError("worker_died", "Worker died.") : error);
          this.dispatch();
        },
      });
      job.running = { worker, id };
    }
  }

  /** Fails what waits. */
  failAll(error: Error): void {
    for (const job of [...this.#queue]) this.#end(job, error);
  }

  #end(job: CallJob, error: Error): void {
    job.finish();
    this.#queue.delete(job);
    job.running?.worker.cancel(job.running.id);
    job.onParts = () => {};
    job.settle.reject(error);
  }
}

function leastBusy(workers: readonly Worker[]): Worker | undefined {
  let best: Worker | undefined;
  for (const worker of workers) if (best === undefined || worker.workCount < best.workCount) best = worker;
  return best;
}

/** 0: none. */
export function startTimer(ms: number, callback: () => void): NodeJS.Timeout | undefined {
  return ms === 0 ? undefined : setTimeout(callback, ms);
}
