import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { compareMetrics, counters, histograms, parseMetrics } from "../../dist/bench/prometheus.js";
import { createReport, type Report } from "../../dist/bench/report.js";
import { formatDate, resultFileName, toResultJson } from "../../dist/bench/result_json.js";
import type { BenchResult } from "../../dist/bench/serve.js";
import { type Summary, toFigures } from "../../dist/bench/statistics.js";
import { formatTable } from "../../dist/bench/table.js";
import { metricNames } from "../../dist/serving/metrics/metric_set.js";
import { optionsOf, sentOf } from "./support.js";

// What vLLM's `vllm bench serve` printed for a run of 250 requests.
const recorded = `
============ Serving Benchmark Result ============
Successful requests:                     250       
Failed requests:                         0         
Request rate configured (RPS):           0.30      
Benchmark duration (s):                  835.07    
Total input tokens:                      69764     
Total generated tokens:                  44889     
Request throughput (req/s):              0.30      
Output token throughput (tok/s):         53.75     
Peak output token throughput (tok/s):    149.00    
Peak concurrent requests:                8.00      
Total token throughput (tok/s):          137.30    
---------------Time to First Token----------------
Mean TTFT (ms):                          122.88    
Median TTFT (ms):                        118.16    
P50 TTFT (ms):                           118.16    
P99 TTFT (ms):                           206.12    
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          28.38     
Median TPOT (ms):                        29.08     
P50 TPOT (ms):                           29.08     
P99 TPOT (ms):                           39.08     
---------------Inter-token Latency----------------
Mean ITL (ms):                           32.13     
Median ITL (ms):                         24.78     
P50 ITL (ms):                            24.78     
P99 ITL (ms):                            142.10    
----------------End-to-end Latency----------------
Mean E2EL (ms):                          5093.68   
Median E2EL (ms):                        3411.11   
P50 E2EL (ms):                           3411.11   
P99 E2EL (ms):                           20174.17  
`.trimStart();

function resultOf(given: Partial<BenchResult> = {}): BenchResult {
  return {
    sent: [],
    startMs: 0,
    endMs: 1000,
    cpuShare: 0.25,
    eventLoopUtilization: 0.5,
    model: "facebook/opt-125m",
    startedAt: new Date(2026, 10, 30, 13, 45, 1),
    figures: [],
    tokenSources: { usage: 0, tokenizer: 0, chunks: 0 },
    server: undefined,
    textPairs: undefined,
    ...given,
  };
}

/** Two answers, a refusal for lack of room and two failures, by the hand of a clock. */
function measured(): BenchResult {
  const prompt = { prompt: "a b", inputTokens: 2, outputTokens: 3 };
  const first = sentOf({ prompt, sentMs: 0, tokenTimesMs: [100, 200, 300], endMs: 300, text: "x", latenessMs: 2 });
  const second = sentOf({ prompt, sentMs: 200, tokenTimesMs: [600, 2000], endMs: 2000, text: "y", latenessMs: 4 });
  const rest = [
    sentOf({ prompt, state: "rejected", reason: "503", message: "queue is full", sentMs: 250, endMs: 260 }),
    sentOf({ prompt, state: "failed", reason: "cut_stream", message: "cut", sentMs: 250, endMs: 400 }),
    sentOf({ prompt, state: "failed", reason: "cut_stream", message: "cut again", sentMs: 250, endMs: 400 }),
    sentOf({ prompt, state: "aborted", reason: "aborted", sentMs: 300, endMs: 400, reusedConnection: true }),
  ];
  return resultOf({
    sent: [first, ...rest, second],
    endMs: 2000,
    figures: [toFigures(first, 2, 3), toFigures(second, 4, 5)],
    tokenSources: { usage: 1, tokenizer: 0, chunks: 1 },
    textPairs: { compared: 1, different: 1 },
  });
}

describe("the report", () => {
  const options = optionsOf({ numPrompts: 8, goodput: ["ttft:200"], metricPercentiles: "50,99.5" });
  const report = createReport(measured(), options);

  test("adds up what was measured", () => {
    const { latencies, latenessMs, errors, ...sums } = report;
    assert.deepEqual(sums, {
      durationSeconds: 2,
      completed: 2,
      rejected: 1,
      failed: 2,
      aborted: 1,
      notSent: 2,
      inputTokens: 6,
      outputTokens: 8,
      requestThroughput: 1,
      requestGoodput: 0.5,
      outputThroughput: 4,
      totalThroughput: 7,
      peakTokensPerSecond: 5.5, // in the first second 3, and half of the second request's 5
      peakConcurrency: 5,
      meanTokensPerChunk: 1.6,
      reusedConnections: 1,
    });
    assert.equal(latencies.ttft.mean, 250);
    assert.deepEqual(latencies.itl.percentiles[0], [50, 100]);
    assert.deepEqual(latenessMs.percentiles.at(-1), [100, 4]);
    assert.deepEqual(errors, [
      { reason: "cut_stream", count: 2, message: "cut" },
      { reason: "503", count: 1, message: "queue is full" },
    ]);
  });

  test("as JSON has all keys of vLLM's result, and no number that JSON cannot hold", () => {
    const json = toResultJson(report, measured(), options, true);
    const keys =
      "date endpoint_type backend label model_id tokenizer_id num_prompts request_rate burstiness max_concurrency duration completed " +
      "failed total_input_tokens total_output_tokens request_throughput request_goodput output_throughput total_token_throughput " +
      "max_output_tokens_per_s max_concurrent_requests input_lens output_lens ttfts itls generated_texts errors start_times";
    const latencies = ["ttft", "tpot", "itl", "e2el"].flatMap((name) =>
      ["mean", "median", "std", "p50", "p99.5"].map((kind) => `${kind}_${name}_ms`),
    );
    assert.deepEqual(
      [...keys.split(" "), ...latencies].filter((key) => json[key] === undefined),
      [],
    );
    assert.deepEqual(JSON.parse(JSON.stringify(json)), json);
    assert.equal(json.request_rate, "inf");
    assert.equal(json.date, "20261130-134501");
    assert.deepEqual(json.errors_by_status, { cut_stream: 2, "503": 1 });
    assert.equal(json.text_mismatch, 1);
    assert.equal(json.p50_itl_ms, 100);
    assert.deepEqual(json.output_lens, [3, 0, 0, 0, 0, 5]);
    assert.deepEqual((json.errors as string[])[1], "503: queue is full");
    assert.deepEqual((json.itls as number[][])[5], [1.4]);
    assert.deepEqual((json.ttfts as number[])[5], 0.4);
    const brief = toResultJson(report, measured(), options, false);
    assert.equal(brief.generated_texts, undefined);
  });

  test("is the table of vLLM, line for line", () => {
    const summary = (mean: number, median: number, p99: number): Summary => ({
      mean,
      median,
      std: 0,
      percentiles: [
        [50, median],
        [99, p99],
      ],
    });
    const known: Report = {
      ...report,
      ...{ completed: 250, failed: 0, rejected: 0, aborted: 0, notSent: 0, durationSeconds: 835.07, errors: [] },
      ...{ inputTokens: 69764, outputTokens: 44889, requestThroughput: 0.2994, outputThroughput: 53.7549 },
      ...{ peakTokensPerSecond: 149, peakConcurrency: 8, totalThroughput: 137.2999 },
      latencies: {
        ttft: summary(122.88, 118.16, 206.12),
        tpot: summary(28.38, 29.08, 39.08),
        itl: summary(32.13, 24.78, 142.1),
        e2el: summary(5093.68, 3411.11, 20174.17),
      },
    };
    delete known.requestGoodput;
    const flags = { requestRate: 0.3, percentileMetrics: "ttft,tpot,itl,e2el", metricPercentiles: "50,99" };
    const table = formatTable(known, resultOf(), optionsOf(flags));
    assert.equal(table.slice(0, recorded.length), recorded);
    assert.match(table.slice(recorded.length), /^-{18}Load Generator-{18}\n/);
    assert.ok(table.endsWith(`\n${"=".repeat(50)}\n`));
  });

  test("prints what is only there sometimes", () => {
    const server = { promptTokens: 9, newTokens: 7, finished: { stop: 2, error: 0 }, meansMs: { queue: 1.5 } };
    const flags = { ...options, maxConcurrency: 4 };
    const table = formatTable(report, { ...measured(), server }, flags);
    const rows = table.split("\n").map((line) => line.replace(/ +/g, " ").trim());
    for (const row of [
      "Rejected requests (429, 503): 1",
      "Interrupted; requests not finished: 3",
      "Maximum request concurrency: 4",
      "Request goodput (req/s): 0.50",
      "cut_stream: 2",
      "503: 1",
      "queue is full",
      "Same prompt, different text: 1",
      "Finished, stop: 2",
      "Mean queue time (ms): 1.50",
      "Maximum lateness (ms): 4.00",
      "Requests counted by chunks: 1",
      "P99.5 TTFT (ms): 398.50",
    ]) {
      assert.ok(rows.includes(row), `no line "${row}" in\n${table}`);
    }
    assert.ok(!table.includes("Finished, error"));
  });

  test("has vLLM's file name, which leads to no other folder", () => {
    const result = resultOf();
    assert.equal(resultFileName(result, optionsOf({})), "openai-infqps-opt-125m-20261130-134501.json");
    const flags = { requestRate: 4, maxConcurrency: 8, label: "../a" };
    assert.equal(resultFileName(result, optionsOf(flags)), ".._a-4.0qps-concurrency8-opt-125m-20261130-134501.json");
    assert.equal(formatDate(new Date(2026, 0, 2, 3, 4, 5)), "20260102-030405");
  });
});

describe("the server's metrics", () => {
  const page = (factor: number, tokens = factor * 100) =>
    parseMetrics(`# HELP vllm:prompt_tokens_total x
vllm:prompt_tokens_total{model_name="a",engine="0"} ${tokens}
vllm:prompt_tokens_total{model_name="b {1}",engine="0"} 5
vllm:generation_tokens_total{model_name="a"} ${factor * 10}
vllm:request_success_total{model_name="a",finished_reason="stop"} ${factor}
vllm:request_success_total{model_name="a",finished_reason="length"} 3
vllm:request_queue_time_seconds_sum{model_name="a"} ${factor * 0.5}
vllm:request_queue_time_seconds_count{model_name="a"} ${factor * 10}
vllm:prefix_cache_queries_total ${factor * 8} 1700000000
vllm:prefix_cache_hits_total ${factor * 2}
vllm:time_to_first_token_seconds_count 4
vllm:time_to_first_token_seconds_sum NaN
not a sample
`);

  test("are compared: what was added between two readings", () => {
    assert.deepEqual(compareMetrics(page(1), page(3)), {
      promptTokens: 200,
      newTokens: 20,
      prefixCacheHitRate: 0.25,
      finished: { stop: 2, length: 0 },
      meansMs: { queue: 50 },
    });
  });

  test("have the names that our server's have", () => {
    const names = [...Object.values(counters), ...Object.values(histograms)].map((name) => `vllm:${name}`);
    const known: readonly string[] = metricNames;
    // Not there before there is a prefix cache.
    const later = names.filter((name) => name.startsWith("vllm:prefix_cache_"));
    assert.deepEqual(
      names.filter((name) => !known.includes(name) && !later.includes(name)),
      [],
    );
  });

  test("of a server that began again count from 0", () => {
    assert.equal(compareMetrics(page(3), page(1, 40))?.promptTokens, 40);
  });

  test("are nothing where a reading is missing, or has no such names", () => {
    assert.equal(compareMetrics(undefined, page(1)), undefined);
    assert.equal(compareMetrics(page(1), undefined), undefined);
    assert.equal(compareMetrics(parseMetrics("up 1"), parseMetrics("up 2")), undefined);
  });
});
