import { setMaxListeners } from "node:events";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import type { Client } from "./client.js";
import type { BenchOptions } from "./options.js";
import type { BenchPrompt } from "./prompts.js";
import { type RequestOutcome, sendRequest } from "./request.js";

/** A request that was sent, and how late. */
export interface SentRequest extends RequestOutcome {
  prompt: BenchPrompt;
  /** Milliseconds from when it could have been sent: at its time, or when another's end made room under `maxConcurrency`. */
  latenessMs: number;
}

export interface RunFigures {
  sent: SentRequest[];
  startMs: number;
  endMs: number;
  /** Processor time of this process, all threads together, as a part of one processor. */
  cpuShare: number;
  /** Part of the time in which the event loop was busy: near 1, the load generator measures itself. */
  eventLoopUtilization: number;
}

export interface RunHooks {
  signal: AbortSignal;
  onEnd?(done: number): void;
}

/** The body of a request. `extraBody` is the last word. */
export function bodyOf(prompt: BenchPrompt, model: string, options: BenchOptions): string {
  const { backend, ignoreEos, temperature, extraBody } = options;
  const asked =
    backend === "openai"
      ? { prompt: prompt.prompt, max_tokens: prompt.outputTokens }
      : { messages: [{ role: "user", content: prompt.prompt }], max_completion_tokens: prompt.outputTokens };
  return JSON.stringify({
    model,
    ...asked,
    temperature,
    ...(ignoreEos ? { ignore_eos: true } : {}),
    stream: true,
    stream_options: { include_usage: true },
    ...extraBody,
  });
}

/** Sends each request at its time and waits for all of them. After an abort: those that were sent until then. */
export async function runRequests(
  client: Client,
  model: string,
  options: BenchOptions,
  prompts: readonly BenchPrompt[],
  timesSeconds: readonly number[],
  { signal, onEnd }: RunHooks,
): Promise<RunFigures> {
  // One listener for each request in flight.
  setMaxListeners(0, signal);
  const sent: SentRequest[] = [];
  const slots = new Slots(options.maxConcurrency ?? Number.POSITIVE_INFINITY);
  const pending: Promise<void>[] = [];
  const cpuBefore = process.cpuUsage();
  const loopBefore = performance.eventLoopUtilization();
  const startMs = performance.now();
  const send = async (prompt: BenchPrompt, dueMs: number) => {
    const freeMs = await slots.take();
    if (!signal.aborted) {
      const body = bodyOf(prompt, model, options);
      const outcome = await sendRequest(client, options.endpoint, body, {
        timeoutMs: options.requestTimeoutMs,
        signal,
      });
      sent.push({ ...outcome, prompt, latenessMs: outcome.sentMs - Math.max(dueMs, freeMs) });
      onEnd?.(sent.length);
    }
    slots.giveBack();
  };
  for (const [i, prompt] of prompts.entries()) {
    const dueMs = startMs + (timesSeconds[i] as number) * 1000;
    await waitUntil(dueMs, signal);
    if (signal.aborted) break;
    pending.push(send(prompt, dueMs));
  }
  await Promise.all(pending);
  const endMs = sent.reduce((latest, { endMs: end }) => Math.max(latest, end), startMs);
  const cpu = process.cpuUsage(cpuBefore);
  return {
    sent,
    startMs,
    endMs,
    cpuShare: (cpu.user + cpu.system) / 1000 / (performance.now() - startMs),
    eventLoopUtilization: performance.eventLoopUtilization(loopBefore).utilization,
  };
}

/**
 * Returns less than 1 ms before the time at the earliest. Lets what arrived meanwhile be read, also where nothing is left to wait for:
 * a burst would delay the first answers otherwise.
 */
async function waitUntil(timeMs: number, signal: AbortSignal): Promise<void> {
  await nextTurn();
  // Timers count whole milliseconds of another clock, and may end before their time.
  for (let leftMs = timeMs - performance.now(); leftMs >= 1 && !signal.aborted; leftMs = timeMs - performance.now()) {
    await sleep(Math.ceil(leftMs), undefined, { signal }).catch(() => {});
  }
}

/** As many requests at a time as are allowed, in the order in which they came. */
class Slots {
  #free: number;
  readonly #waiting: ((freeMs: number) => void)[] = [];
  #next = 0;

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves to the time when the slot became free; -Infinity for one that was free before. */
  take(): Promise<number> {
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve(Number.NEGATIVE_INFINITY);
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  giveBack(): void {
    const next = this.#waiting[this.#next];
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#next += 1;
    next(performance.now());
  }
}
