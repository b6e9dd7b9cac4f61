import { nativeError, ShardspeedError } from "../base/errors.js";
import type {
  EngineEvent,
  EnginePlan,
  LoadOutcome,
  NativeBinding,
  NativeEngine,
  NativeRequest,
  NativeSeed,
  NativeStats,
  NativeVocabulary,
  PromptScores,
} from "../native/binding.js";

/** A request of one sequence, which a session numbers. */
export type SequenceRequest = Omit<NativeRequest, "id" | "forks">;

/** Receives the events of a request. */
export interface RequestListener {
  /** Ahead of all else. */
  onPrompt?(scores: PromptScores): void;
  onToken(event: Extract<EngineEvent, { kind: "token" }>): void;
  onDone(reason: "stop" | "length" | "cancelled", score?: number): void;
  onOutputs(outputs: Float32Array, hidden: Float32Array): void;
  /** The engine failed or was disposed; no event follows. */
  onFailure(error: ShardspeedError): void;
}

/**
 * Sessions with pending work. The native side holds sessions weakly, so that an engine that is dropped without dispose() is collected and ends.
 * While it loads or has requests, this set keeps it alive.
 */
const awaited = new Set<Session>();

/** A native engine and the listeners of its requests. */
export class Session {
  readonly #native: NativeEngine;
  /** A vocabulary for grammars that requests name. */
  readonly openVocabulary: (bytes: Uint8Array, ends: Int32Array, endTokens: Int32Array) => NativeVocabulary;
  readonly #listeners = new Map<number, RequestListener>();
  readonly #ready: Promise<LoadOutcome>;
  #settleReady: { resolve(outcome: LoadOutcome): void; reject(error: ShardspeedError): void } | undefined;
  #onProgress: (loadedBytes: number, totalBytes: number) => void;
  #nextId = 1;
  #loaded = false;
  readonly #finished: Promise<void>;
  #settleFinished: { resolve(): void; reject(error: ShardspeedError): void } | undefined;
  readonly #follows: boolean;
  #ended: ShardspeedError | undefined;
  #closed: Promise<void> | undefined;

  constructor(binding: NativeBinding, plan: EnginePlan, onProgress: (loadedBytes: number, totalBytes: number) => void) {
    this.#onProgress = onProgress;
    this.openVocabulary = binding.openVocabulary;
    this.#ready = new Promise((resolve, reject) => {
      this.#settleReady = { resolve, reject };
    });
    this.#ready.catch(() => {}); // whoever loads awaits it; a dispose meanwhile is no unhandled rejection
    this.#finished = new Promise((resolve, reject) => {
      this.#settleFinished = { resolve, reject };
    });
    this.#finished.catch(() => {}); // who does not ask for it is told by the call that fails
    this.#follows = plan.firstRank > 0;
    this.#native = binding.createEngine(plan, Session.#deliverTo(new WeakRef(this)));
    awaited.add(this);
  }

  /** Made apart from the constructor, whose other closures would let this one hold `this` too. */
  static #deliverTo(target: WeakRef<Session>): (events: EngineEvent[]) => void {
    return (events) => {
      const session = target.deref();
      if (session) for (const event of events) session.#take(event);
    };
  }

  /** Resolves when rank 0 in another process has disposed of its engine, or this engine was closed; rejects when it failed. */
  get finished(): Promise<void> {
    return this.#finished;
  }

  /** Resolves when the model has been loaded. */
  get ready(): Promise<LoadOutcome> {
    return this.#ready;
  }

  /** The reason why no request is accepted any more; undefined while requests are accepted. */
  get ended(): ShardspeedError | undefined {
    return this.#ended;
  }

  submit(request: SequenceRequest, listener: RequestListener): number {
    return this.#submit(request, [listener], [])[0] as number;
  }

  /** Submits several samples of a prompt, the first by the request's own seed. @returns Their ids. */
  submitSamples(
    request: SequenceRequest,
    listeners: readonly RequestListener[],
    otherSeeds: readonly NativeSeed[],
  ): number[] {
    return this.#submit(request, listeners, otherSeeds);
  }

  #submit(
    request: SequenceRequest,
    listeners: readonly RequestListener[],
    otherSeeds: readonly NativeSeed[],
  ): number[] {
    if (this.#ended) throw this.#ended;
    const first = this.#nextId;
    this.#nextId += listeners.length;
    const ids = listeners.map((listener, i) => {
      this.#listeners.set(first + i, listener);
      return first + i;
    });
    awaited.add(this);
    const forks = otherSeeds.map((seed, i) => ({ id: first + 1 + i, ...seed }));
    try {
      this.#native.submit({ id: first, forks, ...request });
    } catch (error) {
      for (const id of ids) this.#forget(id);
      throw nativeError(error as Error, error);
    }
    return ids;
  }

  /** The listener gets no more events. */
  cancel(id: number): void {
    if (this.#listeners.delete(id) && !this.#ended) this.#native.cancel(id);
    this.#release();
  }

  stats(): NativeStats {
    return this.#native.stats();
  }

  /** Ends all requests with ERR_DISPOSED; resolves when the thread has ended and the memory is freed. On a follower rank this ends the group. */
  close(): Promise<void> {
    this.#closed ??= this.#native.close();
    this.#end(
      new ShardspeedError("ERR_DISPOSED", "The engine has been disposed. Make a new one with initInference()."),
    );
    return this.#closed;
  }

  #take(event: EngineEvent): void {
    switch (event.kind) {
      case "progress":
        this.#onProgress(event.loadedBytes, event.totalBytes);
        break;
      case "ready":
        this.#loaded = true;
        this.#settleReady?.resolve(event);
        this.#release();
        break;
      case "failed":
        this.#fail(nativeError(event));
        break;
      case "ended":
        if (this.#loaded) this.#end(new ShardspeedError("ERR_DISPOSED", "Rank 0 has disposed of the engine."));
        else this.#fail(new ShardspeedError("ERR_COMM", "Rank 0 gave up before the model was loaded."));
        break;
      case "prompt":
        this.#listeners.get(event.id)?.onPrompt?.(event);
        break;
      case "token":
        this.#listeners.get(event.id)?.onToken(event);
        break;
      case "done":
        this.#forget(event.id)?.onDone(event.reason, event.score);
        break;
      case "rejected":
        this.#forget(event.id)?.onFailure(nativeError(event));
        break;
      case "outputs":
        this.#forget(event.id)?.onOutputs(event.outputs, event.hidden);
        break;
    }
  }

  #forget(id: number): RequestListener | undefined {
    const listener = this.#listeners.get(id);
    this.#listeners.delete(id);
    this.#release();
    return listener;
  }

  /** Pending requests reject with the failure. Later calls reject with ERR_DISPOSED, which repeats it. */
  #fail(error: ShardspeedError): void {
    this.#settleFinished?.reject(error);
    const dead = `The engine has failed for good: ${error.message} (${error.code}). Dispose of it and make a new one with initInference().`;
    this.#end(error, new ShardspeedError("ERR_DISPOSED", dead, { cause: error }));
  }

  #end(error: ShardspeedError, afterwards = error): void {
    if (this.#ended) return;
    this.#ended = afterwards;
    this.#settleReady?.reject(error);
    this.#settleFinished?.resolve();
    const listeners = [...this.#listeners.values()];
    this.#listeners.clear();
    for (const listener of listeners) listener.onFailure(error);
    this.#release();
  }

  #release(): void {
    // A rank that follows works without being asked, for as long as its group lasts.
    if (this.#listeners.size === 0 && (this.#ended || !this.#follows)) awaited.delete(this);
  }
}
