import type { BenchOptions } from "./options.js";
import type { Report } from "./report.js";
import type { BenchResult } from "./serve.js";
import type { LatencyName } from "./statistics.js";

const width = 50;

const latencyTitles: Readonly<Record<LatencyName, string>> = {
  ttft: "Time to First Token",
  tpot: "Time per Output Token (excl. 1st token)",
  itl: "Inter-token Latency",
  e2el: "End-to-end Latency",
};

/** The table that `vllm bench serve` prints, line for line, with sections of our own before its end. */
export function formatTable(report: Report, result: BenchResult, options: BenchOptions): string {
  const { maxConcurrency, requestRate } = options;
  const lines = [
    center(" Serving Benchmark Result ", "="),
    row("Successful requests:", String(report.completed)),
    row("Failed requests:", String(report.failed)),
    ...(report.rejected === 0 ? [] : [row("Rejected requests (429, 503):", String(report.rejected))]),
    ...(report.aborted + report.notSent === 0
      ? []
      : [row("Interrupted; requests not finished:", String(report.aborted + report.notSent))]),
    ...(maxConcurrency === undefined ? [] : [row("Maximum request concurrency:", String(maxConcurrency))]),
    ...(requestRate === Infinity ? [] : [row("Request rate configured (RPS):", decimal(requestRate))]),
    row("Benchmark duration (s):", decimal(report.durationSeconds)),
    row("Total input tokens:", String(report.inputTokens)),
    row("Total generated tokens:", String(report.outputTokens)),
    row("Request throughput (req/s):", decimal(report.requestThroughput)),
    ...(report.requestGoodput === undefined ? [] : [row("Request goodput (req/s):", decimal(report.requestGoodput))]),
    row("Output token throughput (tok/s):", decimal(report.outputThroughput)),
    row("Peak output token throughput (tok/s):", decimal(report.peakTokensPerSecond)),
    row("Peak concurrent requests:", decimal(report.peakConcurrency)),
    row("Total token throughput (tok/s):", decimal(report.totalThroughput)),
    ...options.percentileMetrics.flatMap((name) => formatLatency(report, name)),
    ...formatErrors(report),
    ...formatServer(result),
    ...formatClient(report, result),
    "=".repeat(width),
  ];
  return `${lines.join("\n")}\n`;
}

function formatLatency(report: Report, name: LatencyName): string[] {
  const { mean, median, percentiles } = report.latencies[name];
  const label = name.toUpperCase();
  return [
    center(latencyTitles[name], "-"),
    row(`Mean ${label} (ms):`, decimal(mean)),
    row(`Median ${label} (ms):`, decimal(median)),
    ...percentiles.map(([percentile, value]) => row(`P${percentile} ${label} (ms):`, decimal(value))),
  ];
}

function formatErrors({ errors }: Report): string[] {
  if (errors.length === 0) return [];
  return [
    center("Errors by Status", "-"),
    ...errors.flatMap(({ reason, count, message }) => [
      row(`${reason}:`, String(count)),
      ...(message === "" ? [] : [`  ${message}`]),
    ]),
  ];
}

function formatServer({ server, textPairs }: BenchResult): string[] {
  const lines: string[] = [];
  if (textPairs !== undefined) {
    lines.push(row("Same prompt, compared pairs:", String(textPairs.compared)));
    lines.push(row("Same prompt, different text:", String(textPairs.different)));
  }
  if (server !== undefined) {
    const { promptTokens, newTokens, preemptions, prefixCacheHitRate, finished, meansMs } = server;
    const whole = (label: string, value: number | undefined) => {
      if (value !== undefined) lines.push(row(label, String(value)));
    };
    for (const [reason, count] of Object.entries(finished)) if (count > 0) whole(`Finished, ${reason}:`, count);
    whole("Prompt tokens:", promptTokens);
    whole("Generated tokens:", newTokens);
    if (preemptions) whole("Preemptions:", preemptions);
    if (prefixCacheHitRate !== undefined)
      lines.push(row("Prefix cache hit rate (%):", decimal(prefixCacheHitRate * 100)));
    for (const [name, label] of Object.entries(meanLabels)) {
      const value = meansMs[name as keyof typeof meanLabels];
      if (value !== undefined) lines.push(row(label, decimal(value)));
    }
  }
  return lines.length === 0 ? [] : [center("Server Side", "-"), ...lines];
}

const meanLabels = {
  queue: "Mean queue time (ms):",
  prefill: "Mean prefill time (ms):",
  decode: "Mean decode time (ms):",
  ttft: "Mean TTFT (ms):",
  e2el: "Mean E2EL (ms):",
} as const;

/** What the figures above are worth: a load generator that is late or busy measures itself. */
function formatClient(report: Report, { cpuShare, eventLoopUtilization, tokenSources }: BenchResult): string[] {
  const [p99, most] = report.latenessMs.percentiles.map(([, value]) => value) as [number, number];
  const { usage, ...others } = tokenSources;
  const estimated = Object.entries(others).filter(([, count]) => count > 0);
  return [
    center("Load Generator", "-"),
    row("Mean lateness (ms):", decimal(report.latenessMs.mean)),
    row("P99 lateness (ms):", decimal(p99)),
    row("Maximum lateness (ms):", decimal(most)),
    row("Processor share (%):", decimal(cpuShare * 100)),
    row("Event loop busy (%):", decimal(eventLoopUtilization * 100)),
    row("Requests on reused connections:", String(report.reusedConnections)),
    row("Mean tokens per chunk:", decimal(report.meanTokensPerChunk)),
    ...estimated.map(([source, count]) => row(`Requests counted by ${source}:`, String(count))),
  ];
}

function row(label: string, value: string): string {
  return `${label.padEnd(40)} ${value.padEnd(10)}`;
}

function decimal(value: number): string {
  return value.toFixed(2);
}

function center(title: string, character: string): string {
  const space = Math.max(0, width - title.length);
  const left = Math.floor(space / 2);
  return character.repeat(left) + title + character.repeat(space - left);
}
