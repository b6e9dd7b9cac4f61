import { httpStatuses, invalidArgument, isError, ShardspeedError } from "../base/errors.js";
import { settleLogger } from "../base/logger.js";
import { runInModelFolder } from "../base/model_folder_scope.js";
import { OptionReader } from "../base/option_reader.js";
import { batchesOverlap } from "../torchserve_config/values.js";
import { Batch } from "./batch.js";
import type { Context } from "./context.js";
import { PredictionException } from "./prediction_exception.js";
import { decodeRequest, type HandlerRequest, type RequestPart, requestHeaders, type Untyped } from "./request.js";
import { RequestProcessor } from "./request_processor.js";
import { encodeOutput, type IntermediateResponse, type RequestResponse, streamNextHeader } from "./response.js";

/** A handler as an object. Only `handle` is required. */
export interface HandlerObject {
  /** Called once, before the first batch. */
  initialize?(context: Context): unknown;
  /** Answers a batch: an array with an output for each request, or a promise of one. */
  handle(data: HandlerRequest[], context: Context): unknown;
  /** Called when the service ends, to free resources such as an engine. */
  dispose?(): unknown;
}

/** A handler as a function. It is first called with undefined instead of requests, to initialize. */
export type HandlerFunction = (data: HandlerRequest[] | undefined, context: Context) => unknown;

/** A request of a batch. */
export interface BatchRequest {
  /** Comes back in its response. */
  id: string;
  /** Its undecoded parameters; or `data`, the decoded ones. */
  parts?: readonly RequestPart[];
  /** Decoded parameters; they count in place of `parts`. */
  data?: HandlerRequest;
  /** HTTP headers of the request. */
  headers?: Readonly<Record<string, string>>;
  /** Aborts when the client disconnects; handlers may observe it. */
  signal?: AbortSignal | undefined;
}

/** Outcome of a batch (ts/service.py): 200, or the reason why all of its requests failed. */
export interface BatchOutcome {
  /** 200, or the status of the failure. */
  code: number;
  /** "Prediction success", or what a client may know of the failure. */
  message: string;
  /** One per request, in the same order. */
  responses: RequestResponse[];
  /** The error of the handler, for logs: its message may contain data of a request. */
  error?: unknown;
}

/** Options of HandlerService.predict(). */
export interface PredictOptions {
  /** Receives the parts of responses before their last ones. */
  onIntermediateResponse?: ((responses: IntermediateResponse[]) => void) | undefined;
}

/** Options of a HandlerService. */
export interface ServiceOptions {
  /** Whether batches may overlap. Default: continuousBatching of the context's model-config.yaml. */
  overlaps?: boolean;
}

/**
 * Runs batches through a handler, one at a time. With `continuousBatching: true` in model-config.yaml batches overlap, and the engine computes
 * them together.
 */
export class HandlerService {
  /** What the handler gets beside each batch. */
  readonly context: Context;
  /** Whether batches may overlap. */
  readonly overlaps: boolean;
  readonly #handler: HandlerObject | undefined;
  readonly #entry: HandlerFunction;
  readonly #running = new Set<Promise<unknown>>();
  #last: Promise<unknown> = Promise.resolve();
  #disposed: Promise<void> | undefined;

  /** @throws ShardspeedError ERR_INVALID_ARGUMENT for an invalid handler or context. */
  constructor(handler: HandlerObject | HandlerFunction, context: Context, options: ServiceOptions = {}) {
    if (typeof handler !== "function" && typeof handler?.handle !== "function") {
      throw invalidArgument("handler", "a function, or an object with a method handle", handler);
    }
    if (typeof context?.systemProperties?.model_dir !== "string")
      throw invalidArgument("context", "a Context", context);
    this.context = context;
    const reader = new OptionReader("HandlerService option", options, ["overlaps"]);
    this.overlaps = reader.boolean("overlaps", batchesOverlap(context.modelYamlConfig));
    this.#handler = typeof handler === "function" ? undefined : handler;
    this.#entry =
      typeof handler === "function" ? handler : (data, ctx) => handler.handle(data as HandlerRequest[], ctx);
  }

  /**
   * Initializes the handler.
   *
   * @throws ShardspeedError ERR_DISPOSED after dispose(); the error of the handler if it is a ShardspeedError; else ERR_HANDLER with that error as cause.
   */
  async initialize(): Promise<void> {
    this.#checkNotDisposed();
    const begin = () =>
      this.#handler === undefined ? this.#entry(undefined, this.context) : this.#handler.initialize?.(this.context);
    try {
      await this.#inModelFolder(begin);
    } catch (error) {
      if (ShardspeedError.isInstance(error)) throw error;
      const name = this.#handler?.constructor.name ?? this.#entry.name;
      throw new ShardspeedError("ERR_HANDLER", `The handler ${name} could not initialise: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /**
   * Runs a batch: after the previous batches, or with continuousBatching at once. It does not reject if the handler fails.
   *
   * @throws ShardspeedError ERR_INVALID_ARGUMENT for an invalid array of requests; ERR_DISPOSED after dispose().
   */
  async predict(requests: readonly BatchRequest[], options: PredictOptions = {}): Promise<BatchOutcome> {
    if (!Array.isArray(requests) || !requests.every((request) => typeof request === "object" && request !== null)) {
      throw invalidArgument("requests", "an array of requests", requests);
    }
    this.#checkNotDisposed();
    const outcome = this.overlaps
      ? this.#predict(requests, options)
      : this.#last.then(() => this.#predict(requests, options));
    const done = outcome.catch(() => {}); // a logger that throws must not end the service
    this.#last = done;
    this.#running.add(done);
    void done.then(() => this.#running.delete(done));
    return outcome;
  }

  /** Waits for the pending batches, then ends the handler. New ones are refused from here on. May be called again. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#end();
    return this.#disposed;
  }

  async #end(): Promise<void> {
    await Promise.all(this.#running);
    await this.#handler?.dispose?.();
  }

  #checkNotDisposed(): void {
    if (this.#disposed === undefined) return;
    throw new ShardspeedError(
      "ERR_DISPOSED",
      `The service of ${this.context.modelName} has been disposed. Make a new one with openModel() or new HandlerService().`,
    );
  }

  async #predict(requests: readonly BatchRequest[], options: PredictOptions): Promise<BatchOutcome> {
    const ids = requests.map(({ id }) => id);
    const startedAt = performance.now();
    const batch = new Batch();
    let output: Untyped;
    try {
      output = await this.context.runBatch(batch, () =>
        this.#inModelFolder(() => this.#entry(fill(batch, requests, options), this.context)),
      );
    } catch (error) {
      settleLogger(this.context.logger).error(`Invoking the handler failed: ${stackOf(error)}`);
      return { ...failure(ids, ...outcomeOf(error)), error };
    }
    if (!Array.isArray(output)) return failure(ids, 503, "Invalid model predict output");
    if (output.length !== requests.length) return failure(ids, 503, "number of batch response mismatched");
    const milliseconds = Number((performance.now() - startedAt).toFixed(2));
    const outcome = respond(batch, ids, output);
    if (outcome.code === 200) this.context.metrics.addTime("PredictionTime", milliseconds, undefined, "ms");
    return outcome;
  }

  /** Relative paths of models are the model folder's; what a handler does of its own ends with it. */
  #inModelFolder<T>(run: () => T): T {
    return runInModelFolder(this.context.systemProperties.model_dir, run);
  }
}

/** Makes the batch what the requests are. @returns what the handler gets of them */
function fill(batch: Batch, requests: readonly BatchRequest[], options: PredictOptions): HandlerRequest[] {
  batch.requestIds = Object.fromEntries(requests.map(({ id }, i) => [i, id]));
  batch.requestSignals = requests.map(({ signal }) => signal);
  batch.requestProcessor = requests.map(
    ({ parts = [], headers = {} }) => new RequestProcessor(requestHeaders(parts, headers)),
  );
  batch.onIntermediateResponse = options.onIntermediateResponse;
  return requests.map(({ parts = [], data }) => data ?? decodeRequest(parts));
}

function respond(batch: Batch, ids: readonly string[], output: readonly unknown[]): BatchOutcome {
  const responses: RequestResponse[] = [];
  for (const [i, requestId] of ids.entries()) {
    const body = encodeOutput(output[i]);
    if (body === undefined) return failure(ids, 503, "Unsupported model output data type.");
    const request = batch.requestProcessor[i] ?? new RequestProcessor(); // a handler may have replaced the array
    const { "content-type": contentType, ...headers } = request.getResponseHeaders();
    if (headers[streamNextHeader] === "true") headers[streamNextHeader] = "false";
    const [status, phrase] = [request.getResponseStatusCode(), request.getResponseStatusPhrase()];
    responses.push({ requestId, status, phrase, contentType, headers, body });
  }
  return { code: 200, message: "Prediction success", responses };
}

function failure(ids: readonly string[], code: number, message: string): BatchOutcome {
  const responses = ids.map((requestId) => {
    return { requestId, status: code, phrase: null, contentType: undefined, headers: {}, body: Buffer.from("error") };
  });
  return { code, message, responses };
}

function outcomeOf(error: unknown): [code: number, message: string] {
  if (PredictionException.isInstance(error)) return [error.errorCode, error.message];
  if (isOutOfResources(error)) return [507, "Out of resources"];
  return [503, "Prediction failed"];
}

function isOutOfResources(error: unknown): boolean {
  if (ShardspeedError.isInstance(error) && httpStatuses[error.code] === 507) return true;
  const message = messageOf(error);
  if (message.includes("CUDA")) return true;
  // What V8 and Node say where memory runs out, as long as they can still say something.
  const { code } = (error ?? {}) as { code?: unknown };
  return (
    code === "ERR_MEMORY_ALLOCATION_FAILED" ||
    (error instanceof RangeError && /allocation failed|out of memory/i.test(message))
  );
}

/** A handler may throw anything. */
function messageOf(error: unknown): string {
  try {
    return isError(error) ? String(error.message) : String(error);
  } catch {
    return "something that cannot be shown";
  }
}

function stackOf(error: unknown): string {
  return isError(error) ? String(error.stack ?? error.message) : messageOf(error);
}
