import type { RequestPart } from "../handler/request.js";
import type { IntermediateResponse, RequestResponse } from "../handler/response.js";
import type { EngineCallName, EngineCalls, EngineDescription } from "./worker/calls.js";

/** Times of one request, in milliseconds of performance.now(); undefined while not reached. */
export interface RequestTimeline {
  receivedAt: number;
  /** When a worker got it. */
  dispatchedAt?: number;
  firstPartAt?: number;
  endedAt?: number;
}

/** Places in a model's queue, taken before the request is looked at any further. */
export interface Reservation {
  readonly timeline: RequestTimeline;
  /** Gives the places back. May be called again. Whoever reserves calls it in a `finally`. */
  release(): void;
}

/** A request of a handler. */
export interface HandlerCall {
  id: string;
  parts: readonly RequestPart[];
  headers: Readonly<Record<string, string>>;
  /** The version that the client named. */
  version?: string | undefined;
}

/** A model version that is served, as routes see it. All workers and the queue are behind it. */
export interface ServedModel {
  readonly name: string;
  readonly version: string;
  /** Seconds since 1970, of the registration: constant. */
  readonly created: number;
  /** undefined until a worker is ready, and for a model whose handler has no engine. */
  readonly engine: EngineDescription | undefined;
  /** "loading" until the first worker is ready; "failed" when none is and none will be started again. */
  readonly state: "loading" | "ready" | "failed";

  /**
   * Takes places for `count` sequences.
   *
   * @throws ServingError queue_full, model_loading, shutting_down, no_worker.
   */
  reserve(count?: number): Reservation;

  /**
   * Asks the engine of a worker.
   *
   * @param options.onPart Receives the parts before the result, in order. A batch of parts comes in one call a step of the engine.
   * @throws ShardspeedError of the worker; ServingError worker_died, request_timeout; ShardspeedError ERR_ABORTED after the signal.
   */
  call<Name extends EngineCallName>(
    name: Name,
    argument: EngineCalls[Name]["argument"],
    options: {
      reservation: Reservation;
      signal: AbortSignal;
      onPart?: (parts: EngineCalls[Name]["part"][]) => void;
    },
  ): Promise<EngineCalls[Name]["result"]>;

  /**
   * Has the handler answer one request, in a batch with others.
   *
   * @param options.onPart Receives parts that come before the last one.
   * @throws As call().
   */
  predict(
    request: HandlerCall,
    options: { signal: AbortSignal; onPart?: (part: IntermediateResponse) => void },
  ): Promise<HandlerAnswer>;
}

/** What a handler made of one request. */
export interface HandlerAnswer {
  /** 200, or the status with which the whole batch failed. */
  code: number;
  message: string;
  response: RequestResponse;
}

/** The models of a server. */
export interface ModelDirectory {
  /**
   * @param version Default: the model's default version.
   * @throws ServingError model_not_found, version_not_found.
   */
  find(name: string, version?: string): ServedModel;
  /** The default version of each model, by name. */
  list(): ServedModel[];
}
