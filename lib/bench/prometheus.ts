import type { Client } from "./client.js";

/** Samples of a metrics page by name and labels as the page has them. */
export type Samples = ReadonlyMap<string, number>;

/** Reads the text format of Prometheus. Lines that are no sample are left out: this page is another program's. */
export function parseMetrics(text: string): Samples {
  const samples = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(\{.*\})?\s+(\S+)/.exec(line);
    if (match === null) continue;
    const value = Number(match[3]);
    if (Number.isFinite(value)) samples.set(`${match[1]}${match[2] ?? ""}`, value);
  }
  return samples;
}

/** The metrics page of a server; undefined where it has none, or does not show it. */
export async function readMetrics(client: Client, signal?: AbortSignal): Promise<Samples | undefined> {
  try {
    const { status, body } = await client.call("GET", "/metrics", undefined, signal);
    if (status !== 200 || typeof body !== "string") return undefined;
    const samples = parseMetrics(body);
    return samples.size > 0 ? samples : undefined;
  } catch {
    return undefined;
  }
}

/** What a server counted itself while it was measured. */
export interface ServerFigures {
  promptTokens?: number;
  newTokens?: number;
  preemptions?: number;
  /** Of the tokens that were looked up in the prefix cache, the part that was found. */
  prefixCacheHitRate?: number;
  /** Requests by the reason for which they ended. */
  finished: Record<string, number>;
  /** Mean milliseconds of a request. */
  meansMs: Partial<Record<keyof typeof histograms, number>>;
}

/** Counters that are reported, by their names without prefix. */
export const counters = {
  promptTokens: "prompt_tokens_total",
  newTokens: "generation_tokens_total",
  preemptions: "num_preemptions_total",
  finished: "request_success_total",
  cacheQueries: "prefix_cache_queries_total",
  cacheHits: "prefix_cache_hits_total",
} as const;

/** Histograms of seconds whose means are reported, by their names without prefix. */
export const histograms = {
  queue: "request_queue_time_seconds",
  prefill: "request_prefill_time_seconds",
  decode: "request_decode_time_seconds",
  ttft: "time_to_first_token_seconds",
  e2el: "e2e_request_latency_seconds",
} as const;

/** The differences of vLLM's metrics, which shardspeed has too, between two readings; undefined where one is missing or none is there. */
export function compareMetrics(before: Samples | undefined, after: Samples | undefined): ServerFigures | undefined {
  if (before === undefined || after === undefined) return undefined;
  const changed = (name: string) => {
    const found = [...after].filter(([sample]) => nameOf(sample) === `vllm:${name}`);
    // A counter that is new began at 0; one that fell began again with its server.
    const change = ([sample, value]: [string, number]) => {
      const earlier = before.get(sample) ?? 0;
      return value < earlier ? value : value - earlier;
    };
    return found.length === 0 ? undefined : found.map((one) => ({ sample: one[0], by: change(one) }));
  };
  const total = (name: string) => changed(name)?.reduce((sum, { by }) => sum + by, 0);
  const meansMs: ServerFigures["meansMs"] = {};
  for (const [key, name] of Object.entries(histograms)) {
    const count = total(`${name}_count`);
    const sum = total(`${name}_sum`);
    if (count !== undefined && sum !== undefined && count > 0) {
      meansMs[key as keyof typeof histograms] = (sum / count) * 1000;
    }
  }
  const finished: Record<string, number> = {};
  for (const { sample, by } of changed(counters.finished) ?? []) {
    const reason = /finished_reason="([^"]*)"/.exec(sample)?.[1] ?? "all";
    finished[reason] = (finished[reason] ?? 0) + by;
  }
  const promptTokens = total(counters.promptTokens);
  const newTokens = total(counters.newTokens);
  if (promptTokens === undefined && newTokens === undefined) return undefined;
  const preemptions = total(counters.preemptions);
  const queries = total(counters.cacheQueries) ?? 0;
  const prefixCacheHitRate = queries > 0 ? (total(counters.cacheHits) ?? 0) / queries : undefined;
  const figures = { promptTokens, newTokens, preemptions, prefixCacheHitRate };
  return { ...withoutUndefined(figures), finished, meansMs };
}

function nameOf(sample: string): string {
  return sample.split("{", 1)[0] as string;
}

function withoutUndefined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as never;
}
