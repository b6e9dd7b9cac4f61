import { AsyncLocalStorage } from "node:async_hooks";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { OptionReader } from "../base/option_reader.js";
import { Batch } from "./batch.js";
import { Metrics } from "./metrics.js";
import type { Untyped } from "./request.js";
import type { RequestHeader, RequestProcessor } from "./request_processor.js";
import type { IntermediateResponse } from "./response.js";
import { createSystemProperties, type SystemProperties } from "./system_properties.js";

/** Arguments of a context. Only the model's name and folder are required. */
export interface ContextOptions {
  /** Name that the model is served under. */
  modelName: string;
  /** Folder of the extracted archive. */
  modelDir: string;
  /** MAR-INF/MANIFEST.json, parsed. Default {}. */
  manifest?: Untyped;
  /** Maximum number of requests in a batch. Default 1. */
  batchSize?: number;
  /** Number of the model's first GPU; null or negative: no GPU. Default null. */
  gpuId?: number | null;
  /** Alias with the name in Python. */
  gpu?: number | null;
  /** system_properties["server_version"]. Default "0.12.0", the TorchServe version of this contract. */
  serverVersion?: string;
  /** Alias with the name in Python. */
  mmsVersion?: string;
  /** Passed to handlers. Default true. */
  limitMaxImagePixels?: boolean;
  /** Default: a new one. */
  metrics?: Metrics | null;
  /** model-config.yaml, parsed. Default {}; null for an empty file. */
  modelYamlConfig?: Untyped;
  /** Receives messages of shipped handlers. Default: none does. */
  logger?: Logger;
  /** Cancels the loading of the model in a shipped handler and in getDsEngine(). */
  signal?: AbortSignal | undefined;
}

const optionNames = [
  "modelName",
  "modelDir",
  "manifest",
  "batchSize",
  "gpuId",
  "gpu",
  "serverVersion",
  "mmsVersion",
  "limitMaxImagePixels",
  "metrics",
  "modelYamlConfig",
  "logger",
  "signal",
] as const satisfies (keyof ContextOptions)[];

/** In the order of Python's constructor. */
type PositionalArguments = [
  modelName: string,
  modelDir: string,
  manifest?: Untyped,
  batchSize?: number,
  gpu?: number | null,
  mmsVersion?: string,
  limitMaxImagePixels?: boolean,
  metrics?: Metrics | null,
  modelYamlConfig?: Untyped,
];

const positionalNames = [
  "modelName",
  "modelDir",
  "manifest",
  "batchSize",
  "gpu",
  "mmsVersion",
  "limitMaxImagePixels",
  "metrics",
  "modelYamlConfig",
] as const satisfies (keyof ContextOptions)[];

/**
 * Describes the model and the current batch to a handler: TorchServe's context (ts/context.py) with names in camel case.
 *
 * A model has one context as long as it is served, and a handler may keep it. Ids, headers, statuses and signals are those of the batch whose
 * handle() reads them, also after an await. Other code, such as a timer that initialize() has set, reads those of the last batch; while several
 * batches run, that is ERR_HANDLER.
 */
export class Context {
  /** Name that the model is served under. */
  readonly modelName: string;
  /** The archive's manifest. */
  readonly manifest: Untyped;
  /** model-config.yaml, parsed. */
  readonly modelYamlConfig: Untyped;
  /** Where the model is and what it runs on. */
  declare readonly systemProperties: SystemProperties;
  /** Receives messages of the handler and about it. */
  readonly logger: Logger;
  /** Aborts when loading of the model is cancelled. */
  readonly signal: AbortSignal | undefined;
  /** Collects metrics of the handler. */
  readonly metrics: Metrics;
  /** The batch of the calling code. */
  readonly #current = new AsyncLocalStorage<Batch>();
  readonly #running = new Set<Batch>();
  #last = Batch.ofOneRequest();
  /** Name of the header with the id of a sequence of requests. */
  readonly headerKeySequenceId = process.env.TS_REQUEST_SEQUENCE_ID ?? "ts_request_sequence_id";
  /** Name of the header that begins a sequence of requests. */
  readonly headerKeySequenceStart = process.env.TS_REQUEST_SEQUENCE_START ?? "ts_request_sequence_start";
  /** Name of the header that ends a sequence of requests. */
  readonly headerKeySequenceEnd = process.env.TS_REQUEST_SEQUENCE_END ?? "ts_request_sequence_end";

  /** @throws ShardspeedError ERR_INVALID_ARGUMENT */
  constructor(options: ContextOptions);
  /** Takes the arguments of Python's constructor, in its order. */
  constructor(...positional: PositionalArguments);
  constructor(...given: [ContextOptions] | PositionalArguments) {
    const [first] = given;
    const options =
      typeof first === "object" && first !== null
        ? first
        : Object.fromEntries(positionalNames.map((name, i) => [name, given[i]]));
    const reader = new OptionReader("Context option", options, optionNames);
    this.modelName = readText(reader, "modelName");
    const gpuId = reader.get("gpuId") ?? reader.get("gpu") ?? null;
    if (gpuId !== null && !Number.isInteger(gpuId)) throw invalidArgument("gpuId", "an integer or null", gpuId);
    const systemProperties = createSystemProperties({
      model_dir: readText(reader, "modelDir"),
      gpu_id: gpuId === null || (gpuId as number) < 0 ? null : (gpuId as number),
      batch_size: reader.integer("batchSize", 1, Number.MAX_SAFE_INTEGER, 1),
      server_name: "MMS",
      server_version: (reader.get("serverVersion") ?? reader.get("mmsVersion") ?? "0.12.0") as string,
      limit_max_image_pixels: reader.boolean("limitMaxImagePixels", true),
    });
    // Python has a property without a setter.
    Object.defineProperty(this, "systemProperties", { value: systemProperties, enumerable: true });
    const { manifest, metrics, modelYamlConfig, logger } = options as Partial<ContextOptions>;
    this.manifest = manifest ?? {};
    this.metrics = metrics ?? new Metrics();
    this.modelYamlConfig = modelYamlConfig === undefined ? {} : modelYamlConfig;
    this.logger = logger ?? silentLogger;
    this.signal = reader.signal("signal");
    this.metrics.followRequestIds(() => this.requestIds);
  }

  /**
   * Runs a function for which, with everything that it starts, this is the current batch. Called by services.
   *
   * @returns The result of the function; the batch ends when it settles.
   */
  async runBatch<T>(batch: Batch, run: () => T | Promise<T>): Promise<T> {
    this.#running.add(batch);
    this.#last = batch;
    try {
      return await this.#current.run(batch, run);
    } finally {
      this.#running.delete(batch);
    }
  }

  get #batch(): Batch {
    const batch = this.#current.getStore();
    if (batch !== undefined) return batch;
    if (this.#running.size > 1) {
      throw new ShardspeedError(
        "ERR_HANDLER",
        `The context of ${this.modelName} was asked for what belongs to a batch, from code that no handle() has called, while ` +
          `${this.#running.size} batches run. Ask in handle(), or in what it calls.`,
      );
    }
    const [only] = this.#running;
    return only ?? this.#last;
  }

  /** Ids of the requests, by index in the batch. */
  get requestIds(): Record<number, string> {
    return this.#batch.requestIds;
  }

  set requestIds(ids: Record<number, string>) {
    this.#batch.requestIds = ids;
  }

  /** One per request of the batch. Before the first batch there is one, so that a handler can be called without a service. */
  get requestProcessor(): RequestProcessor[] {
    return this.#batch.requestProcessor;
  }

  set requestProcessor(processors: RequestProcessor[]) {
    this.#batch.requestProcessor = processors;
  }

  /** One per request for a handler with continuous batching; else null. */
  get stoppingCriteria(): ((output: Untyped) => boolean)[] | null {
    return this.#batch.stoppingCriteria;
  }

  set stoppingCriteria(criteria: ((output: Untyped) => boolean)[] | null) {
    this.#batch.stoppingCriteria = criteria;
  }

  /** Signals of the requests, by index in the batch; one aborts when its client disconnects. */
  get requestSignals(): readonly (AbortSignal | undefined)[] {
    return this.#batch.requestSignals;
  }

  set requestSignals(signals: readonly (AbortSignal | undefined)[]) {
    this.#batch.requestSignals = signals;
  }

  /** Receives the parts that sendIntermediatePredictResponse() sends; undefined if responses cannot be sent in parts. */
  get onIntermediateResponse(): ((responses: IntermediateResponse[]) => void) | undefined {
    return this.#batch.onIntermediateResponse;
  }

  set onIntermediateResponse(receive: ((responses: IntermediateResponse[]) => void) | undefined) {
    this.#batch.onIntermediateResponse = receive;
  }

  /** undefined if there is no such request. */
  getRequestId(idx = 0): string | undefined {
    return this.requestIds[idx];
  }

  /** The value of a header, by its exact name with upper and lower case; undefined if the request does not have it. */
  getRequestHeader(idx: number, key: string): Untyped {
    return this.#request(idx).getRequestProperty(key);
  }

  /** Headers of a request of the batch, by name. */
  getAllRequestHeader(idx: number): Record<string, RequestHeader> {
    return this.#request(idx).getRequestProperties();
  }

  /** Sets the content type of the response to a request of the batch. */
  setResponseContentType(idx: number, value: string): void {
    this.setResponseHeader(idx, "content-type", value);
  }

  /** The content type that the handler has set; undefined if none. */
  getResponseContentType(idx: number): string | undefined {
    return this.#request(idx).getResponseHeader("content-type");
  }

  /** @param code HTTP status. Default 200. */
  setResponseStatus(code = 200, phrase: string | null = "", idx = 0): void {
    if (this.requestProcessor.length > 0) this.#request(idx).reportStatus(code, phrase);
  }

  /** Sets the status of all responses of the batch. */
  setAllResponseStatus(code = 200, phrase: string | null = ""): void {
    for (const request of this.requestProcessor) request.reportStatus(code, phrase);
  }

  /** Status and phrase; the phrase is null until one is set. */
  getResponseStatus(idx: number): [code: number, phrase: string | null] {
    const request = this.#request(idx);
    return [request.getResponseStatusCode(), request.getResponseStatusPhrase()];
  }

  /** Sets a header. The last value of a name is kept. */
  setResponseHeader(idx: number, key: string, value: string): void {
    this.#request(idx).addResponseProperty(key, value);
  }

  /** Headers of the response to a request of the batch. */
  getResponseHeaders(idx: number): Record<string, string> {
    return this.#request(idx).getResponseHeaders();
  }

  /** Id of the request's sequence, for stateful models; undefined if it has none. */
  getSequenceId(idx: number): Untyped {
    return this.getRequestHeader(idx, this.headerKeySequenceId);
  }

  #request(idx: number): RequestProcessor {
    const request = this.requestProcessor[idx];
    if (request !== undefined) return request;
    throw invalidArgument("idx", `the place of a request in the batch, which has ${this.requestProcessor.length}`, idx);
  }
}

function readText(reader: OptionReader, name: string): string {
  const value = reader.get(name);
  if (typeof value !== "string" || value === "") throw invalidArgument(name, "a string that is not empty", value);
  return value;
}
