import { drawArrivals } from "./arrivals.js";
import { Client } from "./client.js";
import type { BenchOptions } from "./options.js";
import { compareMetrics, readMetrics, type ServerFigures } from "./prometheus.js";
import { type BenchPrompt, drawPrompts } from "./prompts.js";
import { Random } from "./random.js";
import { checkReady, findModel } from "./ready.js";
import { bodyOf, type RunFigures, runRequests } from "./run.js";
import { ServerTokenizer } from "./server_tokenizer.js";
import { type RequestFigures, toFigures } from "./statistics.js";

/** What was measured, before it is summed up. */
export interface BenchResult extends RunFigures {
  model: string;
  startedAt: Date;
  /** Of the requests of `sent` that were completed, in their order. */
  figures: RequestFigures[];
  /** How the output tokens of requests were counted. */
  tokenSources: Record<TokenSource, number>;
  /** undefined for a server without metrics. */
  server: ServerFigures | undefined;
  /** Pairs of requests with the same prompt that were both completed, and those among them with different text. */
  textPairs: { compared: number; different: number } | undefined;
}

/** `usage`: as the server says; `tokenizer`: the text, by the server's route; `chunks`: the chunks of the stream. */
export type TokenSource = "usage" | "tokenizer" | "chunks";

export interface BenchHooks {
  /** Ends the run: what was measured until then is the result. */
  signal: AbortSignal;
  /** What goes on, for a terminal. */
  onPhase?(phase: string): void;
  onEnd?(done: number, total: number): void;
}

/** How long the metrics page may take, which an abort must not wait for. */
const metricsMs = 5000;

/**
 * Measures a server.
 *
 * @throws ShardspeedError ERR_BENCH for a server that is not there or refuses the first request; ERR_INVALID_ARGUMENT for data that cannot be
 * used; ERR_ABORTED for a signal before the first request of the run.
 */
export async function benchServe(options: BenchOptions, hooks: BenchHooks): Promise<BenchResult> {
  const client = new Client(options);
  try {
    return await measure(client, options, hooks);
  } finally {
    client.close();
  }
}

async function measure(client: Client, options: BenchOptions, hooks: BenchHooks): Promise<BenchResult> {
  const { signal, onPhase } = hooks;
  const patience = { timeoutMs: options.readyCheckTimeoutMs, signal };
  onPhase?.("Waiting for the server");
  const model = options.model ?? (await findModel(client, patience));
  if (options.readyCheckTimeoutMs > 0) {
    const probe = { prompt: "Hello", inputTokens: 1, outputTokens: 1 };
    await checkReady(client, options.endpoint, bodyOf(probe, model, options), patience);
  }
  onPhase?.("Drawing prompts");
  const probing = new ServerTokenizer(client, model, signal);
  const tokenizer = (await probing.isThere()) ? probing : undefined;
  const prompts = await drawRunPrompts(options, tokenizer);
  const times = drawArrivals(options.numPrompts, options, new Random(options.seed, 1));
  if (options.numWarmups > 0) {
    onPhase?.("Warming up");
    const warmups = Array.from({ length: options.numWarmups }, (_, i) => prompts[i % prompts.length] as BenchPrompt);
    await runRequests(client, model, options, warmups, new Array(warmups.length).fill(0), { signal });
  }
  const before = await readMetrics(client, AbortSignal.timeout(metricsMs));
  onPhase?.("Measuring");
  const startedAt = new Date();
  const run = await runRequests(client, model, options, prompts, times, {
    signal,
    onEnd: (done) => hooks.onEnd?.(done, prompts.length),
  });
  const after = await readMetrics(client, AbortSignal.timeout(metricsMs));
  const counted = await countTokens(run, signal.aborted ? undefined : tokenizer);
  const textPairs = options.textMismatch ? compareTexts(run) : undefined;
  return { ...run, model, startedAt, ...counted, server: compareMetrics(before, after), textPairs };
}

/** With `textMismatch` each prompt is there twice, in an order of chance. */
async function drawRunPrompts(options: BenchOptions, tokenizer: ServerTokenizer | undefined): Promise<BenchPrompt[]> {
  const { numPrompts, seed, backend, textMismatch, dataset } = options;
  const source = { random: new Random(seed, 0), tokenizer, takesIds: backend === "openai" };
  if (!textMismatch) return drawPrompts(dataset, numPrompts, source);
  const once = await drawPrompts(dataset, Math.ceil(numPrompts / 2), source);
  return new Random(seed, 2).shuffle([...once, ...once].slice(0, numPrompts));
}

async function countTokens(
  { sent }: RunFigures,
  tokenizer: ServerTokenizer | undefined,
): Promise<Pick<BenchResult, "figures" | "tokenSources">> {
  const figures: RequestFigures[] = [];
  const tokenSources = { usage: 0, tokenizer: 0, chunks: 0 };
  for (const one of sent) {
    if (one.state !== "completed") continue;
    const encoded = one.usage === undefined && one.text !== "" ? await tokenizer?.encode(one.text) : undefined;
    const source = one.usage !== undefined ? "usage" : encoded !== undefined ? "tokenizer" : "chunks";
    tokenSources[source] += 1;
    const newTokens = one.usage?.newTokens ?? encoded?.length ?? one.tokenTimesMs.length;
    figures.push(toFigures(one, one.usage?.promptTokens ?? one.prompt.inputTokens, newTokens));
  }
  return { figures, tokenSources };
}

/** Requests of one prompt share its object. */
function compareTexts({ sent }: RunFigures): NonNullable<BenchResult["textPairs"]> {
  const pairs = { compared: 0, different: 0 };
  const firsts = new Map<BenchPrompt, string>();
  for (const { state, prompt, text } of sent) {
    if (state !== "completed") continue;
    const first = firsts.get(prompt);
    if (first === undefined) firsts.set(prompt, text);
    else {
      pairs.compared += 1;
      if (first !== text) pairs.different += 1;
    }
  }
  return pairs;
}
