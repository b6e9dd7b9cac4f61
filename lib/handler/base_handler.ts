import path from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { parseJson, readTextIfThere } from "../base/json.js";
import type { Context } from "./context.js";
import type { HandlerRequest, Untyped } from "./request.js";

/**
 * What handlers extend (ts/torch_handler/base_handler.py): a batch goes through preprocess(), inference() and postprocess(), each of which a
 * subclass may replace, or handle() as a whole. A subclass may keep fields of its own on itself without declaring them.
 */
export class BaseHandler {
  [field: string]: Untyped;

  /** What inference() calls: a function, or an object with `forward`. */
  model: Untyped;
  /** index_to_name.json of the model folder, where there is one. */
  mapping: Untyped;
  /** "cpu" or "cuda:N"; a handler for DeepSpeed has the local rank here. */
  device: Untyped;
  initialized = false;
  context: Context | undefined;
  manifest: Untyped;
  modelPtPath: string | undefined;
  mapLocation: string | undefined;
  /** Whether the batch asks for an explanation. */
  explain = false;
  target: Untyped = 0;

  /**
   * Called once, before the first batch. This one sets context, manifest, device and mapping, and loads no model: a subclass does.
   *
   * @throws ShardspeedError ERR_CONFIG where index_to_name.json is damaged.
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

  /** What a batch of requests is to the model. This one passes it on. */
  preprocess(data: Untyped): Untyped {
    return data;
  }

  /** What the model makes of it. This one calls the model. */
  async inference(data: Untyped, ...more: Untyped[]): Promise<Untyped> {
    if (typeof this.model === "function") return this.model(data, ...more);
    if (typeof this.model?.forward === "function") return this.model.forward(data, ...more);
    throw new ShardspeedError(
      "ERR_HANDLER",
      `${this.constructor.name} has no model to call: set this.model in initialize(), or write an inference() of its own.`,
    );
  }

  /** One output for each request. This one makes arrays of typed arrays, and passes anything else on. */
  postprocess(data: Untyped): Untyped {
    return ArrayBuffer.isView(data) && !(data instanceof DataView) ? Array.from(data as Uint8Array) : data;
  }

  /**
   * One batch. With a header `describe: True` it answers with describeHandle(); with `explain: True` on the first request the whole batch is
   * explained.
   *
   * @returns As many outputs as requests: Buffers, text, or what JSON can hold.
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

  /** With `handler.profile: true` in the yaml each step is a metric of its own (ts/handler_utils/timer.py). */
  async #measured(step: string, run: () => Untyped): Promise<Untyped> {
    if (this.context?.modelYamlConfig?.handler?.profile !== true) return run();
    const startedAt = performance.now();
    const output = await run();
    this.context.metrics.addTime(`ts_handler_${step}`, performance.now() - startedAt, undefined, "ms");
    return output;
  }

  /** What is answered to a request that asks for a description. This one: nothing, which is `null`. */
  describeHandle(): Untyped {}

  /**
   * Explains the first request by `getInsights(prepared, inputs, target)`, which a subclass may have.
   *
   * @throws ShardspeedError ERR_HANDLER where it has none.
   */
  async explainHandle(prepared: Untyped, rawData: HandlerRequest[]): Promise<Untyped> {
    if (typeof this.getInsights !== "function") {
      throw new ShardspeedError(
        "ERR_HANDLER",
        `${this.constructor.name} cannot explain: it has no method getInsights(prepared, inputs, target). Ask without the header explain.`,
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
  const text = await readTextIfThere(file, "ERR_CONFIG");
  return text === undefined ? undefined : parseJson(text, file, "ERR_CONFIG");
}
