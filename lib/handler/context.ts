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

/** What a context is made of. All but the model's name and folder may be left out. */
export interface ContextOptions {
  modelName: string;
  /** Folder of the extracted archive. */
  modelDir: string;
  /** MAR-INF/MANIFEST.json, parsed. Default {}. */
  manifest?: Untyped;
  /** Most requests of a batch. Default 1. */
  batchSize?: number;
  /** First GPU of the model; null or negative: none. Default null. */
  gpuId?: number | null;
  /** The same by the name of Python's constructor. */
  gpu?: number | null;
  /** What system_properties["server_version"] says. Default "0.12.0", the TorchServe whose contract this is. */
  serverVersion?: string;
  /** The same by the name of Python's constructor. */
  mmsVersion?: string;
  /** Kept for handlers that ask. Default true. */
  limitMaxImagePixels?: boolean;
  /** Default: a new one. */
  metrics?: Metrics | null;
  /** model-config.yaml, parsed. Default {}; null for an empty file. */
  modelYamlConfig?: Untyped;
  /** Where messages of shipped handlers go. Default: nowhere. */
  logger?: Logger;
  /** Ends the loading of the model in a shipped handler and in getDsEngine(). */
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
 * What a handler knows of its model, and of the batch that it works on: TorchServe's context (ts/context.py) with names in camel case.
 *
 * A model has one context for as long as it is served, which a handler may keep. What it says of a batch (ids, headers, statuses, signals) is
 * that of the batch in whose handle() it is asked, after any await too. Asked from elsewhere, such as a timer that initialize() has set, it is
 * that of the last batch; while several batches run, such a question is an error.
 */
export class Context {
  readonly modelName: string;
  readonly manifest: Untyped;
  readonly modelYamlConfig: Untyped;
  declare readonly systemProperties: SystemProperties;
  readonly logger: Logger;
  /** Aborts when nobody waits any more for the model to be loaded. */
  readonly signal: AbortSignal | undefined;
  readonly metrics: Metrics;
  /** The batch that the asking code works on. */
  readonly #current = new AsyncLocalStorage<Batch>();
  readonly #running = new Set<Batch>();
  #last = Batch.ofOneRequest();
  readonly headerKeySequenceId = process.env.TS_REQUEST_SEQUENCE_ID ?? "ts_request_sequence_id";
  readonly headerKeySequenceStart = process.env.TS_REQUEST_SEQUENCE_START ?? "ts_request_sequence_start";
  readonly headerKeySequenceEnd = process.env.TS_REQUEST_SEQUENCE_END ?? "ts_request_sequence_end";

  /** @throws ShardspeedError ERR_INVALID_ARGUMENT */
  constructor(options: ContextOptions);
  /** With the arguments of Python's constructor, in its order. */
  constructor(...positional: PositionalArguments);
  constructor(...given: [ContextOptions] | PositionalArguments) {
    const [first] = given;
    const options =
      typeof first === "object" && first !== null
        ? first
        : Object.fromEntries(positionalNames.map((name, i) => [name, given[i]]));
    const reader = new OptionReader("A context", options, optionNames);
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
   * Runs a function that sees this batch in the context, as does all that it starts. Services call it.
   *
   * @returns What the function returns; the batch is over when that settles.
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

  /** Ids of the batch's requests, by place. */
  get requestIds(): Record<number, string> {
    return this.#batch.requestIds;
  }

  set requestIds(ids: Record<number, string>) {
    this.#batch.requestIds = ids;
  }

  /** One for each request of the batch. Before the first batch there is one, so that a handler can be called without a service. */
  get requestProcessor(): RequestProcessor[] {
    return this.#batch.requestProcessor;
  }

  set requestProcessor(processors: RequestProcessor[]) {
    this.#batch.requestProcessor = processors;
  }

  /** One for each request, of a handler that batches continuously; else null. */
  get stoppingCriteria(): ((output: Untyped) => boolean)[] | null {
    return this.#batch.stoppingCriteria;
  }

  set stoppingCriteria(criteria: ((output: Untyped) => boolean)[] | null) {
    this.#batch.stoppingCriteria = criteria;
  }

  /** Signals of requests whose clients may go away, by place. */
  get requestSignals(): readonly (AbortSignal | undefined)[] {
    return this.#batch.requestSignals;
  }

  set requestSignals(signals: readonly (AbortSignal | undefined)[]) {
    this.#batch.requestSignals = signals;
  }

  /** Receives what sendIntermediatePredictResponse() sends; undefined where nobody can take a part of a response. */
  get onIntermediateResponse(): ((responses: IntermediateResponse[]) => void) | undefined {
    return this.#batch.onIntermediateResponse;
  }

  set onIntermediateResponse(receive: ((responses: IntermediateResponse[]) => void) | undefined) {
    this.#batch.onIntermediateResponse = receive;
  }

  /** undefined where there is no such request. */
  getRequestId(idx = 0): string | undefined {
    return this.requestIds[idx];
  }

  /** A header by its exact name, upper and lower case included; undefined where the request has none. */
  getRequestHeader(idx: number, key: string): Untyped {
    return this.#request(idx).getRequestProperty(key);
  }

  getAllRequestHeader(idx: number): Record<string, RequestHeader> {
    return this.#request(idx).getRequestProperties();
  }

  setResponseContentType(idx: number, value: string): void {
    this.setResponseHeader(idx, "content-type", value);
  }

  /** undefined where the handler has set none: the response then has none. */
  getResponseContentType(idx: number): string | undefined {
    return this.#request(idx).getResponseHeader("content-type");
  }

  /** @param code HTTP status. Default 200. */
  setResponseStatus(code = 200, phrase: string | null = "", idx = 0): void {
    if (this.requestProcessor.length > 0) this.#request(idx).reportStatus(code, phrase);
  }

  setAllResponseStatus(code = 200, phrase: string | null = ""): void {
    for (const request of this.requestProcessor) request.reportStatus(code, phrase);
  }

  /** Status and phrase; a null phrase until one is set. */
  getResponseStatus(idx: number): [code: number, phrase: string | null] {
    const request = this.#request(idx);
    return [request.getResponseStatusCode(), request.getResponseStatusPhrase()];
  }

  /** A header has one value: the last one set. */
  setResponseHeader(idx: number, key: string, value: string): void {
    this.#request(idx).addResponseProperty(key, value);
  }

  getResponseHeaders(idx: number): Record<string, string> {
    return this.#request(idx).getResponseHeaders();
  }

  /** The request's sequence, for stateful models; undefined where it has none. */
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
