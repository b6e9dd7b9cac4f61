import type { RequestOutcome } from "./request.js";

/** Latencies that are measured: time to first token, time per output token, inter-token latency, end-to-end latency. */
export const latencyNames = ["ttft", "tpot", "itl", "e2el"] as const;
export type LatencyName = (typeof latencyNames)[number];

/** A completed request in figures. */
export interface RequestFigures {
  inputTokens: number;
  outputTokens: number;
  ttftMs: number;
  /** undefined for a request of at most one token. */
  tpotMs?: number;
  itlsMs: number[];
  e2elMs: number;
}

/** An outcome's figures. The token that ended an answer without text arrived with its last chunk. */
export function toFigures(outcome: RequestOutcome, inputTokens: number, outputTokens: number): RequestFigures {
  const { sentMs, endMs, tokenTimesMs } = outcome;
  const ttftMs = (tokenTimesMs[0] ?? endMs) - sentMs;
  const e2elMs = endMs - sentMs;
  return {
    inputTokens,
    outputTokens,
    ttftMs,
    ...(outputTokens > 1 ? { tpotMs: (e2elMs - ttftMs) / (outputTokens - 1) } : {}),
    itlsMs: tokenTimesMs.slice(1).map((time, i) => time - (tokenTimesMs[i] as number)),
    e2elMs,
  };
}

export interface Summary {
  mean: number;
  median: number;
  /** Standard deviation of the values themselves, not of a sample. */
  std: number;
  /** By percentile, in the order in which they were asked for. */
  percentiles: [number, number][];
}

/** Mean, median, standard deviation and percentiles; zeros for no values, as vLLM has them. */
export function summarize(values: readonly number[], percentiles: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const mean = meanOf(sorted);
  const variance = meanOf(sorted.map((value) => (value - mean) ** 2));
  return {
    mean,
    median: percentileOf(sorted, 50),
    std: Math.sqrt(variance),
    percentiles: percentiles.map((percentile) => [percentile, percentileOf(sorted, percentile)]),
  };
}

export function meanOf(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** A percentile of sorted values, between two of them by linear interpolation, as NumPy has it. 0 for no values. */
export function percentileOf(sorted: readonly number[], percentile: number): number {
  if (sorted.length === 0) return 0;
  const place = (percentile / 100) * (sorted.length - 1);
  const low = sorted[Math.floor(place)] as number;
  const high = sorted[Math.ceil(place)] as number;
  return low + (high - low) * (place - Math.floor(place));
}

/** All values of a latency. ITLs are pooled over requests. */
export function latenciesOf(figures: readonly RequestFigures[], name: LatencyName): number[] {
  switch (name) {
    case "ttft":
      return figures.map(({ ttftMs }) => ttftMs);
    case "tpot":
      return figures.flatMap(({ tpotMs }) => tpotMs ?? []);
    case "itl":
      return figures.flatMap(({ itlsMs }) => itlsMs);
    case "e2el":
      return figures.map(({ e2elMs }) => e2elMs);
  }
}

/** Objectives of a request in milliseconds. */
export type Goodput = Partial<Record<"ttft" | "tpot" | "e2el", number>>;

/** How many requests met all objectives. A request of at most one token has no TPOT to miss. */
export function countGood(figures: readonly RequestFigures[], goodput: Goodput): number {
  const { ttft = Infinity, tpot = Infinity, e2el = Infinity } = goodput;
  return figures.filter((one) => one.ttftMs <= ttft && (one.tpotMs ?? 0) <= tpot && one.e2elMs <= e2el).length;
}

/** The most requests that were in flight at a time. One that begins when another ends is not beside it. */
export function peakConcurrency(outcomes: readonly Pick<RequestOutcome, "sentMs" | "endMs">[]): number {
  const changes = outcomes.flatMap(({ sentMs, endMs }) => [
    { atMs: sentMs, by: 1 },
    { atMs: endMs, by: -1 },
  ]);
  changes.sort((a, b) => a.atMs - b.atMs || a.by - b.by);
  let running = 0;
  let peak = 0;
  for (const { by } of changes) {
    running += by;
    peak = Math.max(peak, running);
  }
  return peak;
}

/** The most tokens that arrived in one of the seconds since the start. A request's tokens are spread evenly over its chunks. */
export function peakTokensPerSecond(
  requests: readonly { tokenTimesMs: readonly number[]; outputTokens: number }[],
  startMs: number,
): number {
  const seconds = new Map<number, number>();
  for (const { tokenTimesMs, outputTokens } of requests) {
    for (const time of tokenTimesMs) {
      const second = Math.floor((time - startMs) / 1000);
      seconds.set(second, (seconds.get(second) ?? 0) + outputTokens / tokenTimesMs.length);
    }
  }
  return [...seconds.values()].reduce((peak, tokens) => Math.max(peak, tokens), 0);
}
