import { type BenchFlags, type BenchOptions, readBenchOptions } from "../../dist/bench/options.js";
import type { RequestOutcome } from "../../dist/bench/request.js";
import type { SentRequest } from "../../dist/bench/run.js";

/** The flags with their defaults. */
export const defaultFlags: BenchFlags = {
  backend: "openai",
  host: "127.0.0.1",
  port: 8000,
  datasetName: "random",
  randomInputLen: 1024,
  randomOutputLen: 128,
  randomRangeRatio: 0,
  prefixRepetitionPrefixLen: 256,
  prefixRepetitionSuffixLen: 256,
  prefixRepetitionNumPrefixes: 10,
  prefixRepetitionOutputLen: 128,
  customOutputLen: 256,
  numPrompts: 1000,
  requestRate: Number.POSITIVE_INFINITY,
  burstiness: 1,
  seed: 0,
  temperature: 0,
  percentileMetrics: "ttft,tpot,itl",
  metricPercentiles: "99",
  numWarmups: 0,
  readyCheckTimeoutS: 600,
  requestTimeoutS: 21600,
};

export function optionsOf(flags: Partial<BenchFlags>): BenchOptions {
  return readBenchOptions({ ...defaultFlags, ...flags });
}

export function outcomeOf(given: Partial<RequestOutcome>): RequestOutcome {
  return { state: "completed", sentMs: 0, tokenTimesMs: [], endMs: 0, text: "", reusedConnection: false, ...given };
}

export function sentOf(given: Partial<SentRequest>): SentRequest {
  const prompt = { prompt: "a b", inputTokens: 2, outputTokens: 3 };
  return { ...outcomeOf(given), prompt, latenessMs: 0, ...given };
}
