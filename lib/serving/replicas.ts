import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { WorkerDescription } from "./worker/protocol.js";
import { type DeathReason, Worker, type WorkerStart } from "./worker/worker.js";

/** Seconds before each start after the first that failed, as TorchServe waits (WorkerThread.java). */
export const backOffSeconds = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597] as const;

export type ReplicaState = "starting" | "ready" | "waiting" | "failed" | "stopping";

/** One place for a worker: who is in it changes when a worker dies. */
export interface Replica {
  readonly id: string;
  state: ReplicaState;
  worker: Worker | undefined;
  /** Of the worker in it: which of those that it has had. */
  incarnation: number;
  /** When the worker in it was started: milliseconds since 1970. */
  startedAt: number;
  error: ShardspeedError | undefined;
}

export interface ReplicasOptions {
  /** What the next worker is started with. @param index Number of the place, from 0. */
  start(index: number): WorkerStart;
  /** Seconds after the first of several failures in which a worker is started again. */
  maxRetryTimeoutS: number;
  logger: Logger;
  /** A worker was started, and loads its model. */
  onStart(replica: Replica, worker: Worker): void;
  /** A worker is ready, or was lost. */
  onChange(replica: Replica): void;
  onReady(replica: Replica, description: WorkerDescription): void;
  /** A worker has died without having been told to. */
  onDeath(replica: Replica, error: ShardspeedError, reason: DeathReason): void;
  /** It was told to leave, and has. */
  onLeft(replica: Replica): void;
}

const stopGraceMs = 10_000;

/** Of the next worker, whatever its model: TorchServe numbers workers by their ports. */
let nextId = 9000;

/** The workers of one model version. One that dies is started again: at once where it had been ready, else after longer and longer waits. */
export class Replicas {
  readonly #options: ReplicasOptions;
  #replicas: Replica[] = [];
  #disposed = false;

  constructor(options: ReplicasOptions) {
    this.#options = options;
  }

  get all(): readonly Replica[] {
    return this.#replicas;
  }

  /** Workers that can be asked now. */
  get ready(): Worker[] {
    const ready: Worker[] = [];
    for (const { state, worker } of this.#replicas) if (state === "ready" && worker?.takesWork) ready.push(worker);
    return ready;
  }

  /** Whether there is, or will be, a worker. */
  get hasHope(): boolean {
    return this.#replicas.some(({ state }) => state !== "failed" && state !== "stopping");
  }

  /**
   * Starts or stops workers until there are so many.
   *
   * @returns When those that were started are ready and those that were stopped have left.
   * @throws ShardspeedError of the first worker that could not be started at its first try.
   */
  async scaleTo(count: number): Promise<void> {
    // A place whose worker is not started again any more is given up: a new one takes its turn.
    const given = this.#replicas.filter(({ state }) => state === "failed");
    const staying = this.#replicas.filter(({ state }) => state !== "stopping" && state !== "failed");
    const leaving = [...given, ...staying.slice(count)];
    const coming = Array.from({ length: Math.max(0, count - staying.length) }, () => this.#add());
    await Promise.all([...leaving.map((replica) => this.#remove(replica)), ...coming]);
  }

  async dispose(graceMs: number = stopGraceMs): Promise<void> {
    this.#disposed = true;
    await Promise.all(this.#replicas.map((replica) => this.#remove(replica, graceMs)));
  }

  /** SIGKILL to all of them. */
  kill(): void {
    this.#disposed = true;
    for (const { worker } of this.#replicas) worker?.kill(new ShardspeedError("ERR_DISPOSED", "The server was ended."));
  }

  #add(): Promise<void> {
    const replica: Replica = {
      id: String(nextId++),
      state: "starting",
      worker: undefined,
      incarnation: 0,
      startedAt: Date.now(),
      error: undefined,
    };
    this.#replicas.push(replica);
    return new Promise((resolve, reject) => {
      void this.#keep(replica, { resolve, reject });
    });
  }

  /** Keeps a worker in a place until it is told to leave, or cannot be started. */
  async #keep(replica: Replica, first: { resolve(): void; reject(error: Error): void }): Promise<void> {
    const { maxRetryTimeoutS, logger } = this.#options;
    let failures = 0;
    let firstFailureAt = 0;
    while (this.#isKept(replica)) {
      const { error, wasReady, mayPass, reason } = await this.#runOne(replica, first.resolve);
      if (!this.#isKept(replica)) break;
      const failure = error ?? new ShardspeedError("ERR_HANDLER", "The worker ended.");
      replica.error = failure;
      this.#options.onDeath(replica, failure, reason);
      first.reject(failure);
      if (wasReady) failures = 0;
      if (failures === 0) firstFailureAt = performance.now();
      const spentS = (performance.now() - firstFailureAt) / 1000;
      if (!mayPass || maxRetryTimeoutS === 0 || spentS > maxRetryTimeoutS) {
        replica.state = "failed";
        logger.error(
          `${failure.message} (${failure.code}). It is not started again${mayPass ? "" : ": that would not help"}.`,
        );
        this.#options.onChange(replica);
        return;
      }
      // One that had been ready is started at once, and the first of the waits comes after that.
      const seconds = backOffSeconds[Math.min(wasReady ? 0 : failures + 1, backOffSeconds.length - 1)] as number;
      failures++;
      logger.warn(`${failure.message} (${failure.code}). It is started again in ${seconds} s.`);
      replica.state = "waiting";
      this.#options.onChange(replica);
      await this.#wait(replica, seconds * 1000);
    }
    first.resolve();
  }

  async #runOne(replica: Replica, onReady: () => void) {
    replica.state = "starting";
    replica.incarnation++;
    replica.startedAt = Date.now();
    let worker: Worker;
    try {
      worker = new Worker(this.#options.start(this.#replicas.indexOf(replica)));
    } catch (failure) {
      const end = { wasReady: false, reason: "load_failed" as const };
      if (ShardspeedError.isInstance(failure)) return { ...end, error: failure, mayPass: false };
      // No room in TMPDIR, or no more processes: that may pass, and the server has other workers.
      const error = new ShardspeedError("ERR_HANDLER", `The worker cannot be started: ${(failure as Error).message}`);
      return { ...end, error, mayPass: true };
    }
    replica.worker = worker;
    this.#options.onStart(replica, worker);
    worker.ready.then(
      (description) => {
        if (replica.state === "stopping") return;
        replica.state = "ready";
        replica.error = undefined;
        this.#options.onReady(replica, description);
        this.#options.onChange(replica);
        onReady();
      },
      () => {},
    );
    const end = await worker.ended;
    replica.worker = undefined;
    return end;
  }

  #isKept(replica: Replica): boolean {
    return !this.#disposed && replica.state !== "stopping";
  }

  /** In short steps: who is told to leave should not be waited for. */
  async #wait(replica: Replica, ms: number): Promise<void> {
    const until = performance.now() + ms;
    while (this.#isKept(replica) && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, Math.min(50, until - performance.now())));
    }
  }

  async #remove(replica: Replica, graceMs: number = stopGraceMs): Promise<void> {
    replica.state = "stopping";
    this.#options.onChange(replica);
    await replica.worker?.stop(graceMs);
    this.#replicas = this.#replicas.filter((other) => other !== replica);
    this.#options.onLeft(replica);
  }
}
