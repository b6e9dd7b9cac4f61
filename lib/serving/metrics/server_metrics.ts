import { hostname } from "node:os";
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { HandlerMeasure } from "../worker/handler_metrics.js";
import { finishedReasons, GenerationMeter, type GenerationStart } from "./generation_meter.js";
import { GpuMeter } from "./gpus.js";
import { HandlerMeter } from "./handler_meter.js";
import { HostMeter } from "./host.js";
import { MetricSet } from "./metric_set.js";
import { chooseFormat, metricContentTypes, renderMetrics } from "./render.js";
import { WorkerMeter, type WorkerReport } from "./worker_meter.js";

/** Why a request was refused. */
export type RejectionReason = "queue_full" | "loading" | "draining" | "timeout" | "auth" | "too_large";
const rejectionReasons: readonly RejectionReason[] = [
  "queue_full",
  "loading",
  "draining",
  "timeout",
  "auth",
  "too_large",
];

/** What a worker is doing. */
export type WorkerState = "loading" | "ready" | "restarting" | "stopping" | "failed";
const workerStates: readonly WorkerState[] = ["loading", "ready", "restarting", "stopping", "failed"];

/** Why a worker was started anew. */
export type RestartReason = "exit" | "kill" | "out_of_memory" | "timeout" | "load_failed";

/** A response that has ended, whoever made it. */
export interface FinishedRequest {
  /** The route's pattern, never the URL: "/v1/models/*". "unmatched" where there is none. */
  route: string;
  method: string;
  code: number;
  seconds: number;
}

/** A request that a handler answered. Times in milliseconds. */
export interface FinishedHandlerRequest {
  model: string;
  /** As the request names it; undefined: the default version. */
  version?: string | undefined;
  queueMs: number;
  /** From the request to its response. */
  totalMs: number;
}

/** The KV cache of a worker that is ready. */
export interface CacheDescription {
  blockSize: number;
  blocks: number;
  dtype: string;
}

export interface ServerMetricsOptions {
  version: string;
  /** "cpu", or the GPU. */
  device: string;
  /** Default: the machine's. */
  hostname?: string;
  /** Without the metrics of processor, memory, disk and GPUs. */
  disableSystemMetrics?: boolean;
}

const methods = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]);

/** Known request fields without effect: others would make a label of whatever clients send. */
const ignoredFields = new Set([
  ...["user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"],
  ...["verbosity", "include_obfuscation", "parallel_tool_calls", "reasoning_effort"],
]);

/** All metrics of a server: what happens is told here, and a reader gets them as text. */
export class ServerMetrics {
  readonly #set = new MetricSet();
  readonly #host: { Level: string; Hostname: string };
  readonly #handlers: HandlerMeter;
  readonly #hostMeter: HostMeter | undefined;
  readonly #gpuMeter: GpuMeter | undefined;
  readonly #loopDelay = monitorEventLoopDelay({ resolution: 10 });
  readonly #workers = new Set<WorkerMeter>();
  readonly #queues = new Map<string, Map<string, number>>();
  readonly #ranks = new Map<string, number>();
  readonly #states = new Map<string, Map<string, WorkerState>>();

  constructor(options: ServerMetricsOptions) {
    const { version, device, disableSystemMetrics = false } = options;
    this.#host = { Level: "Host", Hostname: options.hostname ?? hostname() };
    this.#handlers = new HandlerMeter(this.#set.registry, this.#host.Hostname);
    this.#hostMeter = disableSystemMetrics ? undefined : new HostMeter();
    this.#gpuMeter = disableSystemMetrics || device === "cpu" ? undefined : new GpuMeter();
    this.#loopDelay.enable();
    this.#set.set("shardspeed_build_info", { version, node: process.version, device }, 1);
    for (const name of ["Requests2XX", "Requests4XX", "Requests5XX"] as const) this.#set.count(name, this.#host, 0);
    for (const reason of rejectionReasons) this.#set.count("shardspeed_rejected_total", { reason }, 0);
  }

  /** A request's headers are there. */
  requestReceived(): void {
    this.#set.add("shardspeed_http_requests_in_flight", {}, 1);
  }

  /** Its response has ended, or its client has gone. */
  requestFinished({ route, method, code, seconds }: FinishedRequest): void {
    this.#set.add("shardspeed_http_requests_in_flight", {}, -1);
    const known = methods.has(method) ? method : "other";
    this.#set.count("shardspeed_http_requests_total", { route, method: known, code });
    this.#set.observe("shardspeed_http_request_duration_seconds", { route }, seconds);
    const hundred = Math.floor(code / 100);
    if (hundred === 2) this.#set.count("Requests2XX", this.#host);
    if (hundred === 4) this.#set.count("Requests4XX", this.#host);
    if (hundred >= 5) this.#set.count("Requests5XX", this.#host);
  }

  rejected(reason: RejectionReason): void {
    this.#set.count("shardspeed_rejected_total", { reason });
  }

  /** A request has a field without effect. Counted for a fixed list of names. */
  ignoredField(field: string): void {
    if (ignoredFields.has(field)) this.#set.count("shardspeed_ignored_fields_total", { field });
  }

  generationStarted(start: GenerationStart): GenerationMeter {
    return new GenerationMeter(this.#set, start);
  }

  handlerRequestFinished({ model, version = "default", queueMs, totalMs }: FinishedHandlerRequest): void {
    const labels = { model_name: model, model_version: version, hostname: this.#host.Hostname };
    this.#set.count("ts_inference_requests_total", labels);
    this.#set.count("ts_queue_latency_microseconds", labels, Math.max(0, queueMs * 1000));
    this.#set.count("ts_inference_latency_microseconds", labels, Math.max(0, totalMs * 1000));
    this.#set.set("QueueTime", this.#host, queueMs);
  }

  /** A handler has measured something itself. */
  handlerMeasured(model: string, measures: readonly HandlerMeasure[]): void {
    // A worker that ends may still tell of a model that is gone.
    if (!this.#states.has(model)) return;
    for (const { name, value } of measures) {
      if (name === "HandlerTime") this.handlerBatchFinished({ model, handlerMs: value });
      if (name === "PredictionTime") this.handlerBatchFinished({ model, predictionMs: value });
    }
    this.#handlers.take(model, measures);
  }

  /** A batch came back. Milliseconds: in the handler's handle(), in the worker, and on the way to the worker and back. */
  handlerBatchFinished(batch: { model: string; handlerMs?: number; predictionMs?: number; threadMs?: number }): void {
    const { model, handlerMs, predictionMs, threadMs } = batch;
    const labels = { ModelName: model, Level: "Model", Hostname: this.#host.Hostname };
    if (handlerMs !== undefined) this.#set.set("HandlerTime", labels, handlerMs);
    if (predictionMs !== undefined) this.#set.set("PredictionTime", labels, predictionMs);
    if (threadMs !== undefined) this.#set.set("WorkerThreadTime", this.#host, threadMs);
  }

  /** A model is served now, by whatever workers: its counters begin at 0, so that a rate can be taken of the first request. */
  modelRegistered(model: string): void {
    this.#set.admitModel(model);
    const labels = { model_name: model, engine: 0 };
    for (const finished_reason of finishedReasons)
      this.#set.count("vllm:request_success_total", { ...labels, finished_reason }, 0);
    this.#set.count("vllm:prompt_tokens_total", labels, 0);
    this.#set.count("vllm:generation_tokens_total", labels, 0);
    this.queueDepth(model, 0);
    // Another version of it may have workers.
    if (!this.#states.has(model)) this.#states.set(model, new Map());
    this.#showStates(model);
  }

  /** No version of the model is served any more. */
  async modelRemoved(model: string): Promise<void> {
    this.#queues.delete(model);
    this.#ranks.delete(model);
    this.#states.delete(model);
    this.#handlers.removeModel(model);
    for (const worker of this.#workers) if (worker.model === model) this.#workers.delete(worker);
    await this.#set.removeModel(model);
  }

  /** Requests of a version of the model that wait for a worker. */
  queueDepth(model: string, waiting: number, version = ""): void {
    const versions = this.#queues.get(model) ?? new Map<string, number>();
    this.#queues.set(model, versions.set(version, waiting));
    this.#set.set("shardspeed_queue_depth", { model }, this.#queued(model, 0));
    this.#showWaiting(model, 0);
  }

  /** @param worker Names it among the workers of the model. @param state undefined: it is gone. */
  workerState(model: string, worker: string, state: WorkerState | undefined): void {
    const states = this.#states.get(model) ?? new Map<string, WorkerState>();
    this.#states.set(model, states);
    if (state === undefined) states.delete(worker);
    else states.set(worker, state);
    this.#showStates(model);
  }

  workerRestarted(model: string, reason: RestartReason): void {
    this.#set.count("shardspeed_worker_restarts_total", { model, reason });
  }

  /** @param name As TorchServe's workers are called: "W-9000-opt_1.0". */
  modelLoaded(
    model: string,
    worker: { name: string; engine: number; seconds: number; cache?: CacheDescription },
  ): void {
    this.#set.set("shardspeed_model_load_seconds", { model }, worker.seconds);
    this.#set.set("WorkerLoadTime", { WorkerName: worker.name, ...this.#host }, worker.seconds * 1000);
    if (worker.cache === undefined) return;
    const { blockSize, blocks, dtype } = worker.cache;
    const labels = { block_size: blockSize, num_gpu_blocks: blocks, cache_dtype: dtype };
    this.#set.set("vllm:cache_config_info", { model_name: model, engine: worker.engine, ...labels }, 1);
  }

  /** A worker with an engine begins: whoever starts it passes its reports on, and says when it ends. */
  workerStarted(model: string, engine: number): WorkerMeter {
    const worker: WorkerMeter = new WorkerMeter(this.#set, model, engine, () => {
      if (worker.latest === undefined) this.#workers.delete(worker);
      this.#showWorkers(model, engine);
    });
    this.#workers.add(worker);
    return worker;
  }

  /** All metrics as a client wants them, by its Accept header. @param names Only these, where there are any. */
  async render(accept?: string, names: readonly string[] = []): Promise<{ contentType: string; body: string }> {
    const format = chooseFormat(accept);
    this.#set.set("shardspeed_event_loop_lag_seconds", {}, Math.max(0, this.#loopDelay.max / 1e9 || 0));
    this.#loopDelay.reset();
    const noLora = { max_lora: 0, running_lora_adapters: "", waiting_lora_adapters: "" };
    this.#set.set("vllm:lora_requests_info", noLora, Date.now() / 1000);
    for (const [name, value] of Object.entries((await this.#hostMeter?.measure()) ?? {}))
      this.#set.set(name as "CPUUtilization", this.#host, value);
    await this.#measureGpus();
    const body = await renderMetrics(this.#set.registry, format, names);
    return { contentType: metricContentTypes[format], body };
  }

  async #measureGpus(): Promise<void> {
    for (const { deviceId, ...measures } of (await this.#gpuMeter?.measure()) ?? [])
      for (const [name, value] of Object.entries(measures))
        this.#set.set(name as "GPUUtilization", { ...this.#host, DeviceId: deviceId }, value);
  }

  /** Ends what runs for the metrics alone. */
  close(): void {
    this.#loopDelay.disable();
  }

  #showStates(model: string): void {
    const states = [...(this.#states.get(model)?.values() ?? [])];
    for (const state of workerStates)
      this.#set.set("shardspeed_workers", { model, state }, states.filter((one) => one === state).length);
  }

  /** The latest reports of the workers that live. */
  #reportsOf(model: string) {
    return [...this.#workers].flatMap((worker) =>
      worker.model === model && worker.latest !== undefined ? [{ engine: worker.engine, ...worker.latest }] : [],
    );
  }

  #showWaiting(model: string, engine: number): void {
    const inEngine = this.#reportsOf(model).find((report) => report.engine === engine)?.requests.waiting ?? 0;
    this.#set.set("vllm:num_requests_waiting", { model_name: model, engine }, inEngine + this.#queued(model, engine));
  }

  /** Requests that no worker has yet are shown with the first one. */
  #queued(model: string, engine: number): number {
    if (engine !== 0) return 0;
    return [...(this.#queues.get(model)?.values() ?? [])].reduce((sum, waiting) => sum + waiting, 0);
  }

  #showWorkers(model: string, engine: number): void {
    const labels = { model_name: model, engine };
    const reports = this.#reportsOf(model);
    const own = reports.find((report) => report.engine === engine);
    this.#showWaiting(model, engine);
    this.#set.set("vllm:num_requests_running", labels, own?.requests.running ?? 0);
    const { pagesUsed = 0, pagesTotal = 0 } = own?.kvCache ?? {};
    this.#set.set("vllm:kv_cache_usage_perc", labels, pagesUsed / Math.max(1, pagesTotal));
    const sum = (read: (report: WorkerReport) => number) => reports.reduce((all, one) => all + read(one), 0);
    const showPages = (state: string, pages: number) => this.#set.set("shardspeed_kv_pages", { model, state }, pages);
    showPages(
      "free",
      sum(({ kvCache }) => kvCache.pagesFree),
    );
    showPages(
      "used",
      sum(({ kvCache }) => kvCache.pagesUsed),
    );
    // Of a worker that ended, zeros: its ranks are known from before.
    const ranks = Math.max(this.#ranks.get(model) ?? 0, ...reports.map(({ memory }) => memory.length));
    this.#ranks.set(model, ranks);
    for (let rank = 0; rank < ranks; rank++) {
      const show = (kind: string, bytes: number) =>
        this.#set.set("shardspeed_rank_memory_bytes", { model, rank, kind }, bytes);
      show(
        "weights",
        sum(({ memory }) => memory[rank]?.weightBytes ?? 0),
      );
      show(
        "kv_cache",
        sum(({ memory }) => memory[rank]?.kvCacheBytes ?? 0),
      );
      show(
        "activations",
        sum(({ memory }) => memory[rank]?.activationBytes ?? 0),
      );
    }
  }
}

/** The names of `?name[]=a&name[]=b`. */
export function readMetricNames(query: URLSearchParams): string[] {
  return query.getAll("name[]").filter((name) => name !== "");
}
