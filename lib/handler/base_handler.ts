import path from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { parseJson, readTextIfThere } from "../base/json.js";
import { fileLimits } from "../base/regular_file.js";
import type { Context } from "./context.js";
import { PredictionException } from "./prediction_exception.js";
import type { HandlerRequest, Untyped } from "./request.js";

/**
 * Base class of handlers (ts/torch_handler/base_handler.py). A batch goes through preprocess(), inference() and postprocess(). A subclass
 * overrides these, or handle() as a whole, and may use fields without declaring them.
 */
export class BaseHandler {
  [field: string]: Untyped;

  /** Called by inference(): a function, or an object with `forward`. */
  model: Untyped;
  /** Content of index_to_name.json in the model folder, if there is one. */
  mapping: Untyped;
  /** "cpu" or "cuda:N"; in a BaseDeepSpeedHandler the local rank. */
  device: Untyped;
  /** Whether initialize() has been done. */
  initialized = false;
  /** What initialize() was given. */
  context: Context | undefined;
  /** The archive's manifest, from the context. */
  manifest: Untyped;
  /** Path of the manifest's serialized file. */
  modelPtPath: string | undefined;
  /** "cuda" or "cpu", by the context's GPU. */
  mapLocation: string | undefined;
  /** Whether the batch requests an explanation. */
  explain = false;
  /** Used by explanations in Python. Without effect here. */
  target: Untyped = 0;

  /**
   * Called once, before the first batch. Sets context, manifest, device and mapping; a subclass loads the model.
   *
   * @throws ShardspeedError ERR_CONFIG if index_to_name.json is invalid.
   */
  async initialize(context: Context): Promise<void> {
    const { gpu_id: gpuId, model_dir: modelDir } = context.systemProperties;
    this.context = context;
    this.manifest = context.manifest;
    this.device = gpuId === null ? "cpu" : `cuda:${gpuId}`;
    this.mapLocation = gpuId === null ? "cpu" : "cuda";
    this.mapping = await readMapping(path.join(modelDir, "index_to_name.json"));
    this.initialized = true;
  }

  /** Turns a batch of requests into input of the model. By default the input is the batch. */
  preprocess(data: Untyped): Untyped {
    return data;
  }

  /** Computes the output of the model. By default calls `model`. */
  async inference(data: Untyped, ...more: Untyped[]): Promise<Untyped> {
    if (typeof this.model === "function") return this.model(data, ...more);
    if (typeof this.model?.forward === "function") return this.model.forward(data, ...more);
    throw new ShardspeedError(
      "ERR_HANDLER",
      `${this.constructor.name} has no model to call: set this.model in initialize(), or write an inference() of its own.`,
    );
  }

  /** Turns the output of the model into one output per request. By default turns a typed array into an array. */
  postprocess(data: Untyped): Untyped {
    return ArrayBuffer.isView(data) && !(data instanceof DataView) ? Array.from(data as Uint8Array) : data;
  }

  /**
   * Handles one batch. If the first request has a header `describe: True`, the output is that of describeHandle(); with `explain: True` it is that of
   * explainHandle().
   *
   * @returns One output per request: a Buffer, text, or a JSON value.
   */
  async handle(data: HandlerRequest[], context: Context): Promise<Untyped> {
    const startedAt = performance.now();
    this.context = context;
    const output = this.#asks("describe") ? [await this.describeHandle()] : await this.#run(data);
    const milliseconds = Number((performance.now() - startedAt).toFixed(2));
    context.metrics.addTime("HandlerTime", milliseconds, undefined, "ms");
    return output;
  }

  async #run(data: HandlerRequest[]): Promise<Untyped> {
    const prepared = await this.#measured("preprocess", () => this.preprocess(data));
    const explain = this.#asks("explain");
    this.explain = explain;
    if (explain) return this.explainHandle(prepared, data);
    const output = await this.#measured("inference", () => this.inference(prepared));
    return this.#measured("postprocess", () => this.postprocess(output));
  }

  /** With `handler.profile: true` in the yaml, each step has its own metric (ts/handler_utils/timer.py). */
  async #measured(step: string, run: () => Untyped): Promise<Untyped> {
    if (this.context?.modelYamlConfig?.handler?.profile !== true) return run();
    const startedAt = performance.now();
    const output = await run();
    this.context.metrics.addTime(`ts_handler_${step}`, performance.now() - startedAt, undefined, "ms");
    return output;
  }

  /** The output for a request with a header `describe: True`. By default null. */
  describeHandle(): Untyped {}

  /**
   * Explains the first request with `getInsights(prepared, inputs, target)` of the subclass.
   *
   * @throws PredictionException with status 400 if the subclass has no such method: no other try can help.
   */
  async explainHandle(prepared: Untyped, rawData: HandlerRequest[]): Promise<Untyped> {
    if (typeof this.getInsights !== "function") {
      throw new PredictionException(
        `${this.constructor.name} cannot explain: it has no method getInsights(prepared, inputs, target). Ask without the header explain.`,
        400,
      );
    }
    const row: HandlerRequest = rawData[0] ?? {};
    const inputs = row.data || row.body;
    const target = row.target || inputs?.target || 0;
    return this.getInsights(prepared, inputs, target);
  }

  #asks(header: "describe" | "explain"): boolean {
    return this.context?.requestProcessor[0]?.getRequestProperty(header) === "True";
  }
}

async function readMapping(file: string): Promise<unknown> {
  const text = await readTextIfThere(file, { code: "ERR_CONFIG", limitBytes: fileLimits.mapping });
  return text === undefined ? undefined : parseJson(text, file, "ERR_CONFIG");
}
