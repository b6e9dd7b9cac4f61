import type { MetricSet } from "./metric_set.js";

/** Why a generation ended, as vLLM counts it. */
export type FinishedReason = "stop" | "length" | "abort" | "error";
export const finishedReasons: readonly FinishedReason[] = ["stop", "length", "abort", "error"];

/** A generation as it is received. Times are milliseconds of performance.now(). */
export interface GenerationStart {
  model: string;
  /** Default: now. */
  receivedAt?: number;
  /** Maximum number of new tokens that the request asked for. */
  maxTokens?: number | undefined;
  /** Generations that the request asked for; left out for all but the first of them. */
  n?: number | undefined;
}

/** Measures one generation. Each method may be called late: `at` says when it was. */
export class GenerationMeter {
  readonly #metrics: MetricSet;
  readonly #start: GenerationStart;
  readonly #receivedAt: number;
  #engine = 0;
  #dispatchedAt: number | undefined;
  #firstAt: number | undefined;
  #lastAt = 0;
  #promptTokens = 0;
  #newTokens = 0;
  #hasEnded = false;

  constructor(metrics: MetricSet, start: GenerationStart) {
    this.#metrics = metrics;
    this.#start = start;
    this.#receivedAt = start.receivedAt ?? performance.now();
  }

  get #labels() {
    return { model_name: this.#start.model, engine: this.#engine };
  }

  /** A worker has it. */
  dispatched(engine: number, at = performance.now()): void {
    this.#engine = engine;
    this.#dispatchedAt = at;
  }

  /** The worker has counted the prompt's tokens. */
  prompt(tokens: number): void {
    this.#promptTokens = tokens;
  }

  /** New tokens came, in one step of the engine. */
  tokens(count: number, at = performance.now()): void {
    if (count <= 0 || this.#hasEnded) return;
    const metrics = this.#metrics;
    if (this.#firstAt === undefined) {
      this.#firstAt = at;
      metrics.observe("vllm:time_to_first_token_seconds", this.#labels, (at - this.#receivedAt) / 1000);
      // The prompt has been computed now, and not before.
      metrics.count("vllm:prompt_tokens_total", this.#labels, this.#promptTokens);
    } else {
      const seconds = (at - this.#lastAt) / 1000 / count;
      metrics.observe("vllm:inter_token_latency_seconds", this.#labels, seconds, count);
    }
    metrics.count("vllm:generation_tokens_total", this.#labels, count);
    this.#lastAt = at;
    this.#newTokens += count;
  }

  /** It ended. May be called again: the first call counts. */
  finished(reason: FinishedReason, at = performance.now()): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    const metrics = this.#metrics;
    const { maxTokens, n } = this.#start;
    const { model_name, engine } = this.#labels;
    metrics.count("vllm:request_success_total", { model_name, engine, finished_reason: reason });
    metrics.observe("vllm:e2e_request_latency_seconds", this.#labels, (at - this.#receivedAt) / 1000);
    if (maxTokens !== undefined) metrics.observe("vllm:request_params_max_tokens", this.#labels, maxTokens);
    if (n !== undefined) metrics.observe("vllm:request_params_n", this.#labels, n);
    if (this.#dispatchedAt !== undefined) this.#observePhases(this.#dispatchedAt, at);
    if (this.#promptTokens > 0) metrics.observe("vllm:request_prompt_tokens", this.#labels, this.#promptTokens);
    metrics.observe("vllm:request_generation_tokens", this.#labels, this.#newTokens);
    metrics.observe("vllm:request_max_num_generation_tokens", this.#labels, this.#newTokens);
  }

  #observePhases(dispatchedAt: number, endedAt: number): void {
    const metrics = this.#metrics;
    metrics.observe("vllm:request_queue_time_seconds", this.#labels, (dispatchedAt - this.#receivedAt) / 1000);
    metrics.observe("vllm:request_inference_time_seconds", this.#labels, (endedAt - dispatchedAt) / 1000);
    if (this.#firstAt === undefined) return;
    const decode = (this.#lastAt - this.#firstAt) / 1000;
    metrics.observe("vllm:request_prefill_time_seconds", this.#labels, (this.#firstAt - dispatchedAt) / 1000);
    metrics.observe("vllm:request_decode_time_seconds", this.#labels, decode);
    if (this.#newTokens > 1)
      metrics.observe("vllm:request_time_per_output_token_seconds", this.#labels, decode / (this.#newTokens - 1));
  }
}
