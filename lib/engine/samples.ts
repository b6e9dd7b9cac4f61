import { throwIfAborted } from "../base/abort.js";
import {
  collect,
  type GenerationChoice,
  type GenerationChunk,
  type GenerationResult,
  type GenerationUsage,
  Inbox,
  readSequence,
  type SequenceRun,
  type StreamPace,
  toNativeSeed,
} from "./generation.js";
import { sampleSeed } from "./seed.js";

type Chunks = AsyncGenerator<GenerationChunk, void, undefined>;

/** Submits all samples of a prompt. `end` cancels those that have not ended, whoever waits for them. */
function openSamples({ session, request, options, tokenizer }: SequenceRun, pace: StreamPace) {
  throwIfAborted(options.signal);
  const inboxes = Array.from({ length: options.n }, () => new Inbox());
  const otherSeeds = inboxes.slice(1).map((_, i) => toNativeSeed(sampleSeed(options.seed, i + 1)));
  const ids = session.submitSamples(request, inboxes, otherSeeds);
  const together = new AbortController();
  const signal = AbortSignal.any([together.signal, ...(options.signal ? [options.signal] : [])]);
  const samples = inboxes.map((inbox, i) => {
    const sequence = { session, id: ids[i] as number, inbox, promptTokens: request.tokens };
    return readSequence(sequence, { ...options, signal }, tokenizer, pace);
  });
  const end = () => {
    together.abort();
    for (const sample of samples) sample.return().catch(() => {});
    // One that nobody has read yet ends nothing by itself.
    for (const id of ids) session.cancel(id);
  };
  return { samples, end };
}

/** Yields the chunks of all samples as they come, each with the sample's index; the very last one with the usage. */
export async function* streamSamples(run: SequenceRun, pace: StreamPace = {}): Chunks {
  const { samples, end } = openSamples(run, pace);
  try {
    const usages: GenerationUsage[] = [];
    let running = samples.length;
    for await (const { index, chunk } of merge(samples)) {
      const { usage, ...rest } = chunk;
      if (usage) {
        usages[index] = usage;
        running--;
      }
      yield { index, ...rest, ...(running === 0 ? { usage: sumUsages(usages) } : {}) };
    }
  } finally {
    end();
  }
}

/** Runs all samples to their ends. */
export async function collectSamples(run: SequenceRun, startedAt: number): Promise<GenerationResult> {
  const { samples, end } = openSamples(run, {});
  try {
    const results = await Promise.all(samples.map((sample) => collect(sample, run.request.tokens.length, startedAt)));
    return joinResults(results);
  } finally {
    end();
  }
}

function joinResults(results: readonly GenerationResult[]): GenerationResult {
  const [{ promptLogprobs } = {} as GenerationResult] = results;
  const choices = results.map(
    ({ usage: _, timings: _times, promptLogprobs: _scores, ...choice }): GenerationChoice => choice,
  );
  const timings = results.map((result) => result.timings);
  const rates = timings.flatMap(({ tokensPerSecond }) => tokensPerSecond ?? []);
  return {
    ...(choices[0] as GenerationChoice),
    choices,
    usage: sumUsages(results.map(({ usage }) => usage)),
    ...(promptLogprobs === undefined ? {} : { promptLogprobs }),
    timings: {
      firstTokenMs: Math.min(...timings.map(({ firstTokenMs }) => firstTokenMs)),
      totalMs: Math.max(...timings.map(({ totalMs }) => totalMs)),
      ...(rates.length > 0 ? { tokensPerSecond: rates.reduce((sum, rate) => sum + rate, 0) } : {}),
    },
  };
}

/** All new tokens, and the prompt once. */
function sumUsages(usages: readonly GenerationUsage[]): GenerationUsage {
  const newTokens = usages.reduce((sum, usage) => sum + usage.newTokens, 0);
  return { ...(usages[0] as GenerationUsage), newTokens };
}

/** What several generators yield, as it comes; who has waited longest goes first. The next of each is asked for when its last one has been taken. */
async function* merge(
  sources: readonly Chunks[],
): AsyncGenerator<{ index: number; chunk: GenerationChunk }, void, undefined> {
  const next = (index: number) => (sources[index] as Chunks).next().then((result) => ({ index, result }));
  const pending = new Map(sources.map((_, index) => [index, next(index)]));
  try {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values());
      pending.delete(index);
      if (result.done) continue;
      yield { index, chunk: result.value };
      pending.set(index, next(index));
    }
  } finally {
    // Whoever left does not want to hear how these end.
    for (const one of pending.values()) one.catch(() => {});
  }
}
