import type { JsonObject } from "../base/objects.js";
import type { BenchOptions } from "./options.js";
import type { Report } from "./report.js";
import type { BenchResult } from "./serve.js";

/**
 * The document of a run: the keys of `vllm bench serve --save-result`, so that its readers read this one too, and ours behind them.
 *
 * @param detailed With the values of every request, as `--save-detailed` has them.
 */
export function toResultJson(
  report: Report,
  result: BenchResult,
  options: BenchOptions,
  detailed: boolean,
): JsonObject {
  return {
    date: formatDate(result.startedAt),
    endpoint_type: options.backend,
    backend: options.backend,
    label: options.label,
    model_id: result.model,
    tokenizer_id: result.model,
    num_prompts: options.numPrompts,
    request_rate: options.requestRate === Infinity ? "inf" : options.requestRate,
    burstiness: options.burstiness,
    max_concurrency: options.maxConcurrency ?? null,
    duration: report.durationSeconds,
    completed: report.completed,
    failed: report.failed,
    total_input_tokens: report.inputTokens,
    total_output_tokens: report.outputTokens,
    request_throughput: report.requestThroughput,
    request_goodput: report.requestGoodput ?? null,
    output_throughput: report.outputThroughput,
    total_token_throughput: report.totalThroughput,
    max_output_tokens_per_s: report.peakTokensPerSecond,
    max_concurrent_requests: report.peakConcurrency,
    ...latencyKeys(report),
    ...(detailed ? requestKeys(result) : {}),
    ...ownKeys(report, result, options),
  };
}

/** All latencies, whatever the table shows: `mean_ttft_ms`, `p99_itl_ms`. */
function latencyKeys({ latencies }: Report): JsonObject {
  const entries = Object.entries(latencies).flatMap(([name, { mean, median, std, percentiles }]) => [
    [`mean_${name}_ms`, mean],
    [`median_${name}_ms`, median],
    [`std_${name}_ms`, std],
    ...percentiles.map(([percentile, value]) => [`p${percentile}_${name}_ms`, value]),
  ]);
  return Object.fromEntries(entries) as JsonObject;
}

/** Lists of all requests in the order in which they ended; times in seconds, zeros and empty lists for those that were not completed. */
function requestKeys({ sent, figures, startMs }: BenchResult): JsonObject {
  const remaining = figures.values();
  const rows = sent.map((one) => ({ one, of: one.state === "completed" ? remaining.next().value : undefined }));
  return {
    input_lens: rows.map(({ one, of }) => of?.inputTokens ?? one.prompt.inputTokens),
    output_lens: rows.map(({ of }) => of?.outputTokens ?? 0),
    ttfts: rows.map(({ of }) => (of?.ttftMs ?? 0) / 1000),
    itls: rows.map(({ of }) => (of?.itlsMs ?? []).map((gap) => gap / 1000)),
    start_times: rows.map(({ one }) => (one.sentMs - startMs) / 1000),
    generated_texts: rows.map(({ one }) => one.text),
    errors: rows.map(({ one }) =>
      one.state === "completed" ? "" : `${one.reason ?? one.state}: ${one.message ?? ""}`,
    ),
  };
}

function ownKeys(report: Report, result: BenchResult, options: BenchOptions): JsonObject {
  const { server, textPairs } = result;
  const [p99, most] = report.latenessMs.percentiles.map(([, value]) => value);
  return {
    seed: options.seed,
    dataset_name: options.dataset.name,
    rejected: report.rejected,
    aborted: report.aborted,
    not_sent: report.notSent,
    errors_by_status: Object.fromEntries(report.errors.map(({ reason, count }) => [reason, count])),
    text_mismatch: textPairs?.different ?? null,
    text_compared: textPairs?.compared ?? null,
    token_sources: result.tokenSources,
    mean_tokens_per_chunk: report.meanTokensPerChunk,
    client: {
      mean_lateness_ms: report.latenessMs.mean,
      p99_lateness_ms: p99,
      max_lateness_ms: most,
      cpu_share: result.cpuShare,
      event_loop_utilization: result.eventLoopUtilization,
      reused_connections: report.reusedConnections,
    },
    server_metrics:
      server === undefined
        ? null
        : {
            prompt_tokens: server.promptTokens ?? null,
            generation_tokens: server.newTokens ?? null,
            preemptions: server.preemptions ?? null,
            prefix_cache_hit_rate: server.prefixCacheHitRate ?? null,
            finished: server.finished,
            ...Object.fromEntries(Object.entries(server.meansMs).map(([name, value]) => [`mean_${name}_ms`, value])),
          },
  };
}

/** `20261130-134501`, by the local clock, as vLLM has it. */
export function formatDate(date: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
  return `${day}-${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}

/** vLLM's name of a result file: `openai-4.0qps-concurrency8-opt-20261130-134501.json`. */
export function resultFileName({ model, startedAt }: BenchResult, options: BenchOptions): string {
  const { requestRate, maxConcurrency, label } = options;
  // Python writes a decimal with its point.
  const rate =
    requestRate === Infinity ? "inf" : Number.isInteger(requestRate) ? `${requestRate}.0` : String(requestRate);
  const concurrency = maxConcurrency === undefined ? "" : `-concurrency${maxConcurrency}`;
  const name = `${label}-${rate}qps${concurrency}-${model.split("/").at(-1)}-${formatDate(startedAt)}.json`;
  return name.replaceAll(/[/\\]/g, "_");
}
