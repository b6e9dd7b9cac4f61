import { type Histogram, readHistogram, type Sample } from "./prometheus.js";

/** The histograms of seconds that can be looked at, and their names for people. */
export const latencies = {
  "vllm:time_to_first_token_seconds": "Time to the first token",
  "vllm:inter_token_latency_seconds": "Time between tokens",
  "vllm:e2e_request_latency_seconds": "Whole request",
  "vllm:request_queue_time_seconds": "Wait in the queue",
} as const;
export type LatencyName = keyof typeof latencies;

/** All metrics that are asked for. */
export const wantedMetrics: readonly string[] = [
  ...Object.keys(latencies),
  ...["vllm:generation_tokens_total", "vllm:prompt_tokens_total", "vllm:num_requests_running"],
  ...["vllm:num_requests_waiting", "shardspeed_kv_pages", "shardspeed_rank_memory_bytes", "shardspeed_workers"],
];

export interface RankMemory {
  rank: number;
  weightBytes: number;
  kvCacheBytes: number;
  activationBytes: number;
}

/** One reading of a model's metrics, or of all models' where it has none of its name. */
export interface Figures {
  /** Milliseconds, of whatever clock the readings share. */
  atMs: number;
  newTokens: number;
  promptTokens: number;
  running: number;
  waiting: number;
  pagesUsed: number;
  pagesTotal: number;
  ranks: RankMemory[];
  workersReady: number;
  workersTotal: number;
  latencies: Partial<Record<LatencyName, Histogram>>;
}

export function readFigures(samples: readonly Sample[], model: string | undefined, atMs: number): Figures {
  const nameOf = ({ labels }: Sample) => labels.model_name ?? labels.model;
  // A model may be served by several names: the metrics have the first.
  const isKnown = model !== undefined && samples.some((sample) => nameOf(sample) === model);
  const own = isKnown ? samples.filter((sample) => nameOf(sample) === model) : samples;
  const sum = (name: string, labels: Record<string, string> = {}) =>
    own
      .filter(
        (sample) =>
          sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
      )
      .reduce((total, { value }) => total + value, 0);
  const pagesUsed = sum("shardspeed_kv_pages", { state: "used" });
  const histograms = Object.keys(latencies).map((name) => [name, readHistogram(own, name)]);
  return {
    atMs,
    newTokens: sum("vllm:generation_tokens_total"),
    promptTokens: sum("vllm:prompt_tokens_total"),
    running: sum("vllm:num_requests_running"),
    waiting: sum("vllm:num_requests_waiting"),
    pagesUsed,
    pagesTotal: pagesUsed + sum("shardspeed_kv_pages", { state: "free" }),
    ranks: readRanks(own),
    workersReady: sum("shardspeed_workers", { state: "ready" }),
    workersTotal: sum("shardspeed_workers"),
    latencies: Object.fromEntries(histograms.filter(([, histogram]) => histogram !== undefined)),
  };
}

function readRanks(samples: readonly Sample[]): RankMemory[] {
  const ranks = new Map<number, RankMemory>();
  const fields = { weights: "weightBytes", kv_cache: "kvCacheBytes", activations: "activationBytes" } as const;
  for (const { name, labels, value } of samples) {
    const field = fields[labels.kind as keyof typeof fields];
    if (name !== "shardspeed_rank_memory_bytes" || field === undefined) continue;
    const rank = Number(labels.rank);
    const known = ranks.get(rank) ?? { rank, weightBytes: 0, kvCacheBytes: 0, activationBytes: 0 };
    ranks.set(rank, { ...known, [field]: known[field] + value });
  }
  return [...ranks.values()].sort((a, b) => a.rank - b.rank);
}

/** Tokens a second between two readings. A counter that fell began again with its server. */
export function rates(
  before: Figures | undefined,
  now: Figures,
): { newTokens: number; promptTokens: number } | undefined {
  if (before === undefined || now.atMs <= before.atMs) return undefined;
  const seconds = (now.atMs - before.atMs) / 1000;
  const rate = (earlier: number, later: number) => (later < earlier ? later : later - earlier) / seconds;
  return {
    newTokens: rate(before.newTokens, now.newTokens),
    promptTokens: rate(before.promptTokens, now.promptTokens),
  };
}
