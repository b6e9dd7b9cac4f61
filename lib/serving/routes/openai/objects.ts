import { createHash, randomUUID } from "node:crypto";
import { readPackageInfo } from "../../../base/package_info.js";
import type { GenerationUsage } from "../../../engine/generation.js";
import type { Reservation, ServedModel } from "../../served_model.js";
import type { EngineDescription } from "../../worker/calls.js";
import type { Session } from "./session.js";

/** Random: an id made from the client's would be the same for two clients. */
export function newId(prefix: string): string {
  // Node draws the random bits of many of these at once.
  return prefix + randomUUID().replaceAll("-", "").slice(8);
}

export function nowInSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

const fingerprints = new WeakMap<EngineDescription, string>();

/** Changes where the same seed may give another text: with the version, the model and what computes it. */
function fingerprint({ name, version }: ServedModel, engine: EngineDescription): string {
  const known = fingerprints.get(engine);
  if (known !== undefined) return known;
  const parts = [readPackageInfo().version, name, version, engine.dtype, engine.devices];
  const made = `fp_${createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 12)}`;
  fingerprints.set(engine, made);
  return made;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  completion_tokens_details?: { reasoning_tokens: number };
}

/** Of all prompts of a request. */
export function toUsage(usages: readonly GenerationUsage[]): Usage {
  const prompt = usages.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
  const cached = usages.reduce((sum, { cachedTokens }) => sum + cachedTokens, 0);
  const completion = usages.reduce((sum, { newTokens }) => sum + newTokens, 0);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
  };
}

/** The beginning of each answer and chunk. */
export interface AnswerHead {
  id: string;
  object: string;
  created: number;
  model: string;
  system_fingerprint: string;
}

export function newHead({ name, model, engine }: Session, prefix: string, object: string): AnswerHead {
  const system_fingerprint = fingerprint(model, engine);
  return { id: newId(prefix), object, created: nowInSeconds(), model: name, system_fingerprint };
}

/** An answer or a chunk. Field by field: for a literal that begins with a spread, Node 20 makes new hidden classes each time. */
export function withHead<Rest extends object>(head: AnswerHead, rest: Rest): AnswerHead & Rest {
  const { id, object, created, model, system_fingerprint } = head;
  return { id, object, created, model, system_fingerprint, ...rest };
}

/** What is known at the end of an answer. */
export interface LastFields {
  usage: Usage;
  timings?: Record<string, number>;
}

export function lastFields(
  { reservation }: Session,
  body: { timings?: boolean | null | undefined },
  usages: readonly GenerationUsage[],
): LastFields {
  const usage = toUsage(usages);
  return { usage, ...(body.timings ? { timings: toTimings(reservation, usage) } : {}) };
}

/** How long a request took, by the names of llama.cpp, and how long it waited. */
function toTimings({ timeline }: Reservation, usage: Usage): Record<string, number> {
  const now = performance.now();
  const { receivedAt, dispatchedAt = receivedAt, firstPartAt = now } = timeline;
  const promptMs = Math.max(0, firstPartAt - dispatchedAt);
  const predictedMs = Math.max(0, now - firstPartAt);
  const cached = usage.prompt_tokens_details.cached_tokens;
  const read = usage.prompt_tokens - cached; // llama.cpp counts those apart that it need not compute
  const rate = (tokens: number, ms: number) => (ms > 0 ? (tokens * 1000) / ms : 0);
  return {
    queue_ms: Math.max(0, dispatchedAt - receivedAt),
    prompt_n: read,
    prompt_ms: promptMs,
    prompt_per_second: rate(read, promptMs),
    predicted_n: usage.completion_tokens,
    predicted_ms: predictedMs,
    predicted_per_second: rate(usage.completion_tokens, predictedMs),
    cache_n: cached,
  };
}
