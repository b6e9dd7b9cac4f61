import type { BenchOptions } from "./options.js";
import type { SentRequest } from "./run.js";
import type { BenchResult } from "./serve.js";
import {
  countGood,
  type LatencyName,
  latenciesOf,
  latencyNames,
  peakConcurrency,
  peakTokensPerSecond,
  type Summary,
  summarize,
} from "./statistics.js";

/** The sums and latencies of a run: what the table prints and the JSON document has. */
export interface Report {
  durationSeconds: number;
  completed: number;
  rejected: number;
  failed: number;
  /** In flight when the run was ended by a signal. */
  aborted: number;
  notSent: number;
  inputTokens: number;
  outputTokens: number;
  requestThroughput: number;
  /** undefined where no objective was given. */
  requestGoodput?: number;
  outputThroughput: number;
  totalThroughput: number;
  peakTokensPerSecond: number;
  peakConcurrency: number;
  latencies: Record<LatencyName, Summary>;
  latenessMs: Summary;
  meanTokensPerChunk: number;
  reusedConnections: number;
  errors: ErrorRow[];
}

/** Requests that ended alike without an answer. */
export interface ErrorRow {
  /** The HTTP status, or the kind of failure. */
  reason: string;
  count: number;
  /** What the server said to the first of them. */
  message: string;
}

export function createReport(result: BenchResult, options: BenchOptions): Report {
  const { sent, figures, startMs, endMs } = result;
  const count = (state: SentRequest["state"]) => sent.filter((one) => one.state === state).length;
  const durationSeconds = (endMs - startMs) / 1000;
  const perSecond = (value: number) => (durationSeconds > 0 ? value / durationSeconds : 0);
  const inputTokens = figures.reduce((sum, one) => sum + one.inputTokens, 0);
  const outputTokens = figures.reduce((sum, one) => sum + one.outputTokens, 0);
  const completed = sent.filter(({ state }) => state === "completed");
  const arrivals = completed.map(({ tokenTimesMs }, i) => ({
    tokenTimesMs,
    outputTokens: figures[i]?.outputTokens ?? 0,
  }));
  const chunks = arrivals.reduce((sum, { tokenTimesMs }) => sum + tokenTimesMs.length, 0);
  const summary = (name: LatencyName) => summarize(latenciesOf(figures, name), options.metricPercentiles);
  return {
    durationSeconds,
    completed: completed.length,
    rejected: count("rejected"),
    failed: count("failed"),
    aborted: count("aborted"),
    notSent: options.numPrompts - sent.length,
    inputTokens,
    outputTokens,
    requestThroughput: perSecond(completed.length),
    ...(Object.keys(options.goodput).length === 0
      ? {}
      : { requestGoodput: perSecond(countGood(figures, options.goodput)) }),
    outputThroughput: perSecond(outputTokens),
    totalThroughput: perSecond(inputTokens + outputTokens),
    peakTokensPerSecond: peakTokensPerSecond(arrivals, startMs),
    peakConcurrency: peakConcurrency(sent),
    latencies: Object.fromEntries(latencyNames.map((name) => [name, summary(name)])) as Record<LatencyName, Summary>,
    latenessMs: summarize(
      sent.map((one) => one.latenessMs),
      [99, 100],
    ),
    meanTokensPerChunk: chunks === 0 ? 0 : outputTokens / chunks,
    reusedConnections: sent.filter((one) => one.reusedConnection).length,
    errors: listErrors(sent),
  };
}

/** The most frequent first. */
function listErrors(sent: readonly SentRequest[]): ErrorRow[] {
  const rows = new Map<string, ErrorRow>();
  for (const { state, reason = "unknown", message = "" } of sent) {
    if (state !== "rejected" && state !== "failed") continue;
    const row = rows.get(reason) ?? { reason, count: 0, message };
    row.count += 1;
    rows.set(reason, row);
  }
  return [...rows.values()].sort((a, b) => b.count - a.count);
}
