/** What the server says of a request's times, on its last chunk. */
export interface Timings {
  queue_ms?: number;
  prompt_ms?: number;
  prompt_n?: number;
  cache_n?: number;
  predicted_ms?: number;
  predicted_n?: number;
}

/** What the browser sees of a request, in milliseconds of one clock. */
export interface SeenTimes {
  sentAt: number;
  /** When the first token came. */
  firstAt?: number | undefined;
  /** When the answer ended, or now. */
  endAt: number;
}

export interface Segment {
  name: "queue" | "prefill" | "decode" | "other";
  ms: number;
  /** Where it begins and how long it is, as parts of the whole: from 0 to 1. */
  start: number;
  share: number;
}

export interface Timeline {
  segments: Segment[];
  totalMs: number;
  /** The server's own times, or only what the browser saw. */
  source: "server" | "browser";
  /** Of the decoding: tokens behind the first, by the time since it. */
  tokensPerSecond: number | undefined;
  /** Tokens of the prompt that were found in the prefix cache, and all of them; undefined: none were, or that is not known. */
  cached: { tokens: number; of: number } | undefined;
}

/**
 * Divides the time of a request. With the server's times, what they leave of the time that the browser saw is the way there and back.
 * Without them (a stream that was stopped or cut) the wait and the prefill cannot be told apart: both are in "prefill".
 */
export function makeTimeline(seen: SeenTimes, timings: Timings | undefined, newTokens: number): Timeline {
  const seenMs = Math.max(0, seen.endAt - seen.sentAt);
  const parts: [Segment["name"], number][] = [];
  if (timings?.predicted_ms !== undefined) {
    const served = [timings.queue_ms, timings.prompt_ms, timings.predicted_ms].map((ms) => Math.max(0, ms ?? 0));
    const [queue = 0, prefill = 0, decode = 0] = served;
    const other = Math.max(0, seenMs - queue - prefill - decode);
    parts.push(["queue", queue], ["prefill", prefill], ["decode", decode], ["other", other]);
  } else {
    const firstAt = Math.min(Math.max(seen.firstAt ?? seen.endAt, seen.sentAt), Math.max(seen.endAt, seen.sentAt));
    parts.push(["prefill", firstAt - seen.sentAt], ["decode", Math.max(0, seen.endAt - firstAt)]);
  }
  const totalMs = parts.reduce((sum, [, ms]) => sum + ms, 0);
  let before = 0;
  const segments = parts.map(([name, ms]) => {
    const segment = { name, ms, start: totalMs > 0 ? before / totalMs : 0, share: totalMs > 0 ? ms / totalMs : 0 };
    before += ms;
    return segment;
  });
  const cachedTokens = timings?.cache_n ?? 0;
  const decodeMs = parts.find(([name]) => name === "decode")?.[1] ?? 0;
  return {
    ...{ segments, totalMs },
    source: timings?.predicted_ms === undefined ? "browser" : "server",
    tokensPerSecond: newTokens > 1 && decodeMs > 0 ? ((newTokens - 1) * 1000) / decodeMs : undefined,
    cached: cachedTokens > 0 ? { tokens: cachedTokens, of: cachedTokens + (timings?.prompt_n ?? 0) } : undefined,
  };
}

/** Milliseconds for people: three digits are enough. */
export function showMs(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)}\u00a0s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)}\u00a0s`;
  if (ms >= 100) return `${ms.toFixed(0)}\u00a0ms`;
  return ms >= 10 ? `${ms.toFixed(1)}\u00a0ms` : `${ms.toFixed(2)}\u00a0ms`;
}
