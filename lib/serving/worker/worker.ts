import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ShardspeedError } from "../../base/errors.js";
import type { Logger } from "../../base/logger.js";
import { RankSet, type RankSetOptions } from "../../launch/rank_set.js";
import type { LoadProgress } from "../../loading/options.js";
import { ownedPrefix, workerKind } from "../owned_names.js";
import { Channel } from "./channel.js";
import { WorkerOutput } from "./output.js";
import {
  type FromWorker,
  fromWireError,
  socketVariable,
  type ToWorker,
  tokenVariable,
  type WorkerDescription,
  type WorkerPlan,
  type WorkerPulse,
} from "./protocol.js";

/** How a worker is started. */
export interface WorkerStart {
  plan: WorkerPlan;
  /** Processes, one for each rank; 1: the ranks are threads of the one process. */
  processes: number;
  /** Where other hosts have the other ranks: this worker is rank 0 of them. */
  group?: GroupStart | undefined;
  /** Milliseconds until the model must be loaded. */
  startupTimeoutMs: number;
  /** What its processes find in their environment. */
  environment: NodeJS.ProcessEnv;
  logger: Logger;
}

/** A group of ranks that a launcher has started, one process a rank. */
export type GroupStart = Required<Pick<RankSetOptions, "worldSize" | "masterAddr" | "masterPort" | "secret">>;

/** Takes what a worker says about one piece of work. */
export interface WorkListener {
  /** Parts that came together. */
  onParts(parts: unknown[]): void;
  onResult(value: unknown): void;
  onError(error: Error): void;
}

/** Why a worker died. */
export type DeathReason = "exit" | "kill" | "timeout" | "load_failed";

/** Why a worker ended. */
export interface WorkerEnd {
  reason: DeathReason;
  /** undefined where it was told to. */
  error: ShardspeedError | undefined;
  /** Whether it had been ready. */
  wasReady: boolean;
  /** Whether another start may succeed. */
  mayPass: boolean;
}

/** Listened to on one socket for all processes of a worker. */
type Peer = Channel<FromWorker, ToWorker>;

/** One replica of a model: a process, or one for each of its ranks, that a server asks over a socket. */
export class Worker {
  /** Resolves when the model is loaded. Rejects with the error of the load, and then nothing of the worker is left. */
  readonly ready: Promise<WorkerDescription>;
  /** Resolves when nothing of it is left. */
  readonly ended: Promise<WorkerEnd>;
  readonly startedAt = Date.now();
  /** Called with each pulse. */
  onPulse: (pulse: WorkerPulse) => void = () => {};
  onProgress: (progress: LoadProgress) => void = () => {};
  pulse: WorkerPulse | undefined;
  pid: number | undefined;
  readonly #start: WorkerStart;
  readonly #folder: string;
  readonly #token = randomBytes(24).toString("base64url");
  readonly #ranks: RankSet;
  /** What its handler says by the context's logger. */
  readonly #messages: WorkerOutput;
  readonly #server: Server;
  readonly #peers = new Map<number, Peer>();
  readonly #work = new Map<number, WorkListener>();
  #parts = new Map<number, unknown[]>();
  #nextId = 1;
  #isReady = false;
  #hasEnded = false;
  #stopping = false;
  #failure: ShardspeedError | undefined;
  #mayPass = true;
  #wasKilled = false;
  #diedOfSignal = false;
  #settleReady!: { resolve(description: WorkerDescription): void; reject(error: ShardspeedError): void };
  #startupTimer: NodeJS.Timeout | undefined;

  constructor(start: WorkerStart) {
    this.#start = start;
    this.ready = new Promise((resolve, reject) => {
      this.#settleReady = { resolve, reject };
    });
    this.ready.catch(() => {}); // `ended` says it too
    this.#folder = makeFolder();
    const socketPath = path.join(this.#folder, "s");
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.once("error", (error) => {
      this.#fail(
        new ShardspeedError("ERR_COMM", `The worker's socket ${socketPath} cannot be made: ${error.message}.`),
      );
    });
    this.#server.listen(socketPath);
    this.#ranks = new RankSet({
      program: fileURLToPath(new URL("main.js", import.meta.url)),
      count: start.processes,
      ...start.group,
      environment: {
        ...start.environment,
        // What it unpacks goes with it, also where it is killed.
        TMPDIR: this.#folder,
        [socketVariable]: socketPath,
        [tokenVariable]: this.#token,
      },
      output: (source, { rank, name }, onWait) => {
        const prefix = start.processes > 1 ? `[rank ${rank}] ` : "";
        return this.#output(name === "stderr" ? "warn" : "info").read(source, prefix, onWait);
      },
    });
    this.#messages = this.#output("info");
    this.ended = this.#run();
    this.#startupTimer = setTimeout(() => {
      this.#fail(
        new ShardspeedError(
          "ERR_HANDLER",
          `The model was not loaded in ${start.startupTimeoutMs / 1000} s. A larger startupTimeout in model-config.yaml, or ` +
            "default_startup_timeout of the server, gives it more time.",
        ),
      );
    }, start.startupTimeoutMs);
  }

  #output(level: "info" | "warn"): WorkerOutput {
    const { logger } = this.#start;
    return new WorkerOutput(
      (line) => logger[level](line),
      (message) => logger.warn(message),
    );
  }

  /** Whether nothing of it is left, or will be in a moment. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Whether it can be given work. */
  get takesWork(): boolean {
    return this.#isReady && !this.#hasEnded && !this.#stopping && this.#failure === undefined;
  }

  /** How much work it has. */
  get workCount(): number {
    return this.#work.size;
  }

  /** Hands work to the worker. @returns Its id, for cancel(). */
  predict(requests: Extract<ToWorker, { kind: "predict" }>["requests"], listener: WorkListener): number {
    return this.#submit(listener, (id) => ({ kind: "predict", id, requests }));
  }

  call(name: Extract<ToWorker, { kind: "call" }>["name"], argument: unknown, listener: WorkListener): number {
    return this.#submit(listener, (id) => ({ kind: "call", id, name, argument }));
  }

  /** The work ends soon, with ERR_ABORTED or a result. */
  cancel(id: number, index?: number): void {
    if (this.#work.has(id)) this.#send({ kind: "cancel", id, ...(index === undefined ? {} : { index }) });
  }

  /** Lets what it does be done and the handler end, for up to graceMs. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    const until = performance.now() + graceMs;
    while (this.#work.size > 0 && performance.now() < until) await sleep(10);
    for (const peer of this.#peers.values()) peer.send({ kind: "stop" });
    // Where no process has connected yet there is nobody to ask.
    if (this.#peers.size < this.#start.processes) void this.#ranks.stop(0);
    const timer = setTimeout(() => void this.#ranks.stop(0), Math.max(500, until - performance.now()));
    await this.ended;
    clearTimeout(timer);
  }

  /** Ends it at once: what it does fails with `error`. */
  kill(error: ShardspeedError): void {
    this.#wasKilled = true;
    this.#fail(error);
  }

  #submit(listener: WorkListener, toMessage: (id: number) => ToWorker): number {
    const id = this.#nextId++;
    this.#work.set(id, listener);
    this.#send(toMessage(id));
    return id;
  }

  #send(message: ToWorker): void {
    this.#peers.get(0)?.send(message);
  }

  #fail(error: ShardspeedError): void {
    this.#failure ??= error;
    this.#ranks.kill();
  }

  async #run(): Promise<WorkerEnd> {
    try {
      await this.#ranks.start();
      const failed = await this.#ranks.ended;
      this.#diedOfSignal = typeof failed?.signal === "string";
      if (!this.#stopping && this.#failure === undefined)
        this.#failure = new ShardspeedError("ERR_HANDLER", describeDeath(failed, this.#isReady));
    } catch (error) {
      this.#failure ??= ShardspeedError.isInstance(error) ? error : new ShardspeedError("ERR_COMM", String(error));
    }
    this.#hasEnded = true;
    clearTimeout(this.#startupTimer);
    this.#messages.end();
    this.#server.close();
    for (const peer of this.#peers.values()) peer.destroy();
    rmSync(this.#folder, { recursive: true, force: true });
    const error = this.#failure;
    const gone = error ?? new ShardspeedError("ERR_DISPOSED", "The worker was stopped.");
    this.#settleReady.reject(gone);
    const left = [...this.#work.values()];
    this.#work.clear();
    for (const listener of left) listener.onError(gone);
    const killed = this.#wasKilled ? "timeout" : this.#diedOfSignal ? "kill" : "exit";
    return {
      error,
      wasReady: this.#isReady,
      mayPass: this.#mayPass,
      reason: this.#isReady ? killed : "load_failed",
    };
  }

  #accept(socket: Socket): void {
    let rank: number | undefined;
    const peer: Peer = new Channel<FromWorker, ToWorker>(
      socket,
      (message) => {
        if (message.kind === "hello") {
          if (message.token !== this.#token || this.#peers.has(message.rank)) return peer.destroy();
          rank = message.rank;
          this.#peers.set(rank, peer);
          if (rank === 0) this.pid = message.pid;
          peer.send({ kind: "open", plan: this.#start.plan });
        } else if (rank !== undefined) this.#take(rank, message);
      },
      () => {
        // The process is about to end, or has: the rank set says how.
      },
    );
  }

  #take(rank: number, message: FromWorker): void {
    switch (message.kind) {
      case "ready":
        if (rank !== 0) return;
        clearTimeout(this.#startupTimer);
        this.#isReady = true;
        this.#settleReady.resolve(message.description);
        return;
      case "failed":
        this.#failure ??= fromWireError(message.error);
        this.#mayPass = message.mayPass;
        return;
      case "progress":
        if (rank === 0) this.onProgress(message.progress);
        return;
      case "part":
        this.#collect(message.id, message.part);
        return;
      case "result":
        this.#finish(message.id, (listener) => listener.onResult(message.value));
        return;
      case "error":
        this.#finish(message.id, (listener) => listener.onError(fromWireError(message.error)));
        return;
      case "log":
        this.#messages.line(message.message, (text) => this.#start.logger[message.level](text));
        return;
      case "pulse":
        this.pulse = message.pulse;
        this.onPulse(message.pulse);
    }
  }

  /** Parts of one frame reach their listener in one call: a step of the engine is one write to a client. */
  #collect(id: number, part: unknown): void {
    const waiting = this.#parts.get(id);
    if (waiting !== undefined) {
      waiting.push(part);
      return;
    }
    if (this.#parts.size === 0) queueMicrotask(() => this.#deliver());
    this.#parts.set(id, [part]);
  }

  #deliver(): void {
    const parts = this.#parts;
    this.#parts = new Map();
    for (const [id, some] of parts) this.#work.get(id)?.onParts(some);
  }

  #finish(id: number, tell: (listener: WorkListener) => void): void {
    if (this.#parts.has(id)) this.#deliver();
    const listener = this.#work.get(id);
    if (listener === undefined || !this.#work.delete(id)) return;
    tell(listener);
  }
}

/** Longer paths are cut by the system, and then those of two workers are one. macOS has 104 bytes, with the zero at the end. */
const mostSocketBytes = 103;

/** @throws ShardspeedError ERR_CONFIG where TMPDIR is too long for the path of a socket; an error of the file system. */
function makeFolder(): string {
  const pattern = path.join(tmpdir(), ownedPrefix(workerKind));
  const bytes = Buffer.byteLength(`${pattern}XXXXXX/s`);
  if (bytes <= mostSocketBytes) return mkdtempSync(pattern);
  throw new ShardspeedError(
    "ERR_CONFIG",
    `The path of a worker's socket would have ${bytes} bytes, expected no more than ${mostSocketBytes}: TMPDIR (${tmpdir()}) is too long.`,
  );
}

function describeDeath(exit: { code: number | null; signal: string | null } | undefined, wasReady: boolean): string {
  const how =
    exit === undefined
      ? "ended"
      : exit.signal === null
        ? `exited with code ${exit.code}`
        : `was ended by ${exit.signal}`;
  return `The worker process ${how}${wasReady ? "" : " before the model was loaded"}.`;
}
