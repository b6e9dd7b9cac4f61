import { abortedError, onAbort, throwIfAborted } from "../base/abort.js";
import { ShardspeedError } from "../base/errors.js";
import type { IntermediateResponse, RequestResponse } from "../handler/response.js";
import { startTimer } from "./call_lane.js";
import type { HandlerAnswer, HandlerCall } from "./served_model.js";
import { ServingError } from "./serving_error.js";
import type { Worker } from "./worker/worker.js";

/** How requests of a handler are queued and batched. */
export interface BatchLaneSettings {
  /** Requests in a batch. */
  batchSize: number;
  maxBatchDelayMs: number;
  /** Until the answer, or the next part of it. */
  responseTimeoutMs: number;
  /** Requests that may wait. */
  jobQueueSize: number;
  /** Milliseconds after which a waiting request is given up; 0: never. */
  queueTimeoutMs: number;
  /** Take a request only where a worker is idle. */
  useJobTicket: boolean;
  /** Requests are handed on at once, and overlap. */
  overlaps: boolean;
  /** Requests that a worker works on at a time, where they overlap. */
  maxConcurrentRequests: number;
}

/** A request of the handler, from its arrival to its answer. */
export interface HandlerJob {
  readonly done: Promise<HandlerAnswer>;
  dispatchedAt: number | undefined;
}

class Job implements HandlerJob {
  readonly done: Promise<HandlerAnswer>;
  dispatchedAt: number | undefined;
  cancel: () => void = () => {};
  finish: () => void = () => {};
  isDone = false;
  #settle!: { resolve(answer: HandlerAnswer): void; reject(error: Error): void };

  constructor(
    readonly request: HandlerCall,
    readonly onPart: (part: IntermediateResponse) => void,
  ) {
    this.done = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
  }

  resolve(answer: HandlerAnswer): void {
    this.#end(() => this.#settle.resolve(answer));
  }

  reject(error: Error): void {
    this.#end(() => this.#settle.reject(error));
  }

  #end(settle: () => void): void {
    if (this.isDone) return;
    this.isDone = true;
    this.finish();
    settle();
  }
}

interface BatchResult {
  code: number;
  message: string;
  responses: RequestResponse[];
}

/**
 * The requests of a model's handler: a bounded queue, from which a worker that is idle takes a batch. The first request of a batch waits for others
 * up to maxBatchDelay. Where requests overlap each is a batch of its own.
 */
export class BatchLane {
  readonly #settings: BatchLaneSettings;
  readonly #workers: () => Worker[];
  readonly #queue = new Set<Job>();
  readonly #busy = new Map<Worker, number>();
  /** The batch that waits for more requests. Its delay begins with its first one; they have left the queue. */
  #forming: { jobs: Set<Job>; timer: NodeJS.Timeout | undefined } | undefined;
  #running = 0;

  constructor(settings: BatchLaneSettings, workers: () => Worker[]) {
    this.#settings = settings;
    this.#workers = workers;
  }

  get waiting(): number {
    return this.#queue.size;
  }

  get pending(): number {
    return this.#queue.size + (this.#forming?.jobs.size ?? 0) + this.#running;
  }

  /** @throws ServingError queue_full; ShardspeedError ERR_ABORTED. */
  add(request: HandlerCall, { signal, onPart = () => {} }: AddOptions): HandlerJob {
    throwIfAborted(signal, "The request");
    const { jobQueueSize, queueTimeoutMs, useJobTicket } = this.#settings;
    if (this.#queue.size >= jobQueueSize || (useJobTicket && this.#findIdle() === undefined))
      throw new ServingError("queue_full", `All ${jobQueueSize} places of the queue are taken.`, { retryAfterS: 1 });
    const job = new Job(request, onPart);
    const stopListening = onAbort(signal, () => this.#abort(job, signal), "The request");
    const timer = startTimer(queueTimeoutMs, () => {
      if (!this.#forget(job)) return;
      const text = `The request waited for ${queueTimeoutMs / 1000} s and was not begun.`;
      job.reject(new ServingError("queue_timeout", text, { retryAfterS: 2 }));
    });
    job.finish = () => {
      stopListening();
      clearTimeout(timer);
    };
    this.#queue.add(job);
    this.dispatch();
    return job;
  }

  /** Hands batches to workers that have room. */
  dispatch(): void {
    const { overlaps, batchSize, maxBatchDelayMs } = this.#settings;
    while (this.#queue.size > 0) {
      const worker = this.#findIdle();
      if (worker === undefined) return;
      if (overlaps) {
        this.#send(worker, this.#take(1));
        continue;
      }
      this.#forming ??= { jobs: new Set(), timer: startTimer(maxBatchDelayMs, () => this.#sendFormed()) };
      const { jobs, timer } = this.#forming;
      for (const job of this.#take(batchSize - jobs.size)) jobs.add(job);
      if (jobs.size < batchSize && timer !== undefined) return;
      this.#sendFormed();
    }
  }

  /** Sends the batch that formed, if all of its clients have not gone meanwhile. */
  #sendFormed(): void {
    const formed = this.#forming;
    this.#forming = undefined;
    clearTimeout(formed?.timer);
    if (formed === undefined || formed.jobs.size === 0) return;
    const worker = this.#findIdle();
    if (worker !== undefined) {
      this.#send(worker, [...formed.jobs]);
      return;
    }
    // The worker that it formed for is gone: first in the queue again.
    const later = [...this.#queue];
    this.#queue.clear();
    for (const job of [...formed.jobs, ...later]) this.#queue.add(job);
  }

  failAll(error: Error): void {
    for (const job of [...(this.#forming?.jobs ?? []), ...this.#queue]) {
      this.#forget(job);
      job.reject(error);
    }
  }

  #take(count: number): Job[] {
    const jobs: Job[] = [];
    for (const job of this.#queue) {
      if (jobs.length === count) break;
      this.#queue.delete(job);
      jobs.push(job);
    }
    return jobs;
  }

  #findIdle(): Worker | undefined {
    const most = this.#settings.overlaps ? this.#settings.maxConcurrentRequests : 1;
    let best: Worker | undefined;
    let least = most;
    for (const worker of this.#workers()) {
      const count = this.#busy.get(worker) ?? 0;
      if (count < least) {
        best = worker;
        least = count;
      }
    }
    return best;
  }

  #send(worker: Worker, jobs: Job[]): void {
    const { responseTimeoutMs, overlaps } = this.#settings;
    this.#busy.set(worker, (this.#busy.get(worker) ?? 0) + 1);
    this.#running += jobs.length;
    const dispatchedAt = performance.now();
    for (const job of jobs) job.dispatchedAt = dispatchedAt;
    let timer: NodeJS.Timeout | undefined;
    const finish = () => {
      clearTimeout(timer);
      this.#running -= jobs.length;
      const left = (this.#busy.get(worker) ?? 1) - 1;
      if (left === 0) this.#busy.delete(worker);
      else this.#busy.set(worker, left);
    };
    const requests = jobs.map(({ request: { id: requestId, parts, headers } }) => ({ id: requestId, parts, headers }));
    const id = worker.predict(requests, {
      onParts: (parts) => {
        timer?.refresh();
        for (const part of parts as IntermediateResponse[]) jobs[part.index]?.onPart(part);
      },
      onResult: (value) => {
        const { code, message, responses } = value as BatchResult;
        finish();
        for (const [index, job] of jobs.entries())
          job.resolve({ code, message, response: responses[index] as RequestResponse });
        this.dispatch();
      },
      onError: (error) => {
        finish();
        for (const job of jobs) job.reject(worker.hasEnded ? new ServingError("worker_died", "Worker died.") : error);
        this.dispatch();
      },
    });
    timer = setTimeout(() => {
      const text = `The handler did not answer in ${responseTimeoutMs / 1000} s.`;
      // Nothing else ends a handler that is caught in a loop; one whose requests overlap works on others meanwhile.
      if (!overlaps) return worker.kill(new ShardspeedError("ERR_HANDLER", text));
      worker.cancel(id);
      for (const job of jobs) job.reject(new ServingError("request_timeout", text));
    }, responseTimeoutMs);
    for (const [index, job] of jobs.entries()) job.cancel = () => worker.cancel(id, index);
  }

  /** A job that has not begun. */
  #forget(job: Job): boolean {
    return this.#queue.delete(job) || this.#forming?.jobs.delete(job) === true;
  }

  #abort(job: Job, signal: AbortSignal): void {
    this.#forget(job);
    job.cancel();
    job.reject(abortedError(signal, "The request"));
  }
}

interface AddOptions {
  signal: AbortSignal;
  onPart?: (part: IntermediateResponse) => void;
}
