import { onAbort, throwIfAborted } from "../base/abort.js";
import { ShardspeedError } from "../base/errors.js";
import type { EngineEvent, NativeSeed, NativeTokenLimits, PromptScores, TokenLogprob } from "../native/binding.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { type BeamOptions, type ResolvedGenerationOptions, samplingOf } from "./generation_options.js";
import {
  describeTokens,
  type GeneratedLogprob,
  type LikelyToken,
  type PromptLogprob,
  toPromptLogprobs,
} from "./logprobs.js";
import { noOutputs } from "./outputs.js";
import type { SequenceRequest, Session } from "./session.js";
import { TextStream } from "./text_stream.js";
import { noLimits } from "./token_limits.js";

/** Why a sequence ended: "stop" for a stop token or stop string, "length" for maxNewTokens. */
export type FinishReason = "stop" | "length";

/** A part of a stream: the tokens since the last chunk, and their text. */
export interface GenerationChunk {
  /** Where `n` is above 1: the sample that this is part of. */
  index?: number;
  /** May be empty: an incomplete character, or the possible beginning of a stop string, is held back. */
  text: string;
  /** New tokens since the chunk before. */
  ids: number[];
  /** On the first chunk, where the beginning of the prompt was found in the prefix cache: so many of its tokens. */
  cachedTokens?: number;
  /** One for each of `ids`, where they were asked for. */
  logprobs?: GeneratedLogprob[];
  /** On the first chunk, where they were asked for: one for each token of the prompt, null for the first one. */
  promptLogprobs?: (PromptLogprob | null)[];
  /** On the last chunk, of each sample. */
  finishReason?: FinishReason;
  /** With the finishReason "stop": the stop string, or the id of the stop token. */
  stopReason?: string | number;
  /** On the last chunk of a text that a beam search has found. */
  score?: number;
  /** On the last chunk: of the whole sequence, or of all samples. */
  usage?: GenerationUsage;
}

/** How many tokens a generation took. */
export interface GenerationUsage {
  /** Tokens of the prompt. */
  promptTokens: number;
  /** Tokens that were generated. */
  newTokens: number;
  /** Tokens of the prompt that were found in the prefix cache, and not computed again. */
  cachedTokens: number;
}

/** How long a generation took. */
export interface GenerationTimings {
  /** Time from the call to the first new token, including the wait in the queue. */
  firstTokenMs: number;
  /** Time from the call to the end. */
  totalMs: number;
  /** Rate of the new tokens after the first chunk; absent if there are none. */
  tokensPerSecond?: number;
}

/** A text that continues a prompt. Text and ids do not include the prompt. */
export interface GenerationChoice {
  /** Continues the prompt: without special tokens and without the stop string. Empty for a model without a tokenizer. */
  text: string;
  /** Includes the stop token, if one ended the sequence. */
  ids: number[];
  /** Why it ended. */
  finishReason: FinishReason;
  /** With the finishReason "stop": the stop string, or the id of the stop token. */
  stopReason?: string | number;
  /** One for each of `ids`, where they were asked for. */
  logprobs?: GeneratedLogprob[];
  /** Of a beam search: the sum of the log-probabilities, after penalties, divided by the number of tokens to the power of lengthPenalty. */
  score?: number;
}

/** The result of a generation. */
export interface GenerationResult extends GenerationChoice {
  /** Where `n` is above 1: all samples. The fields beside it are those of the first. */
  choices?: GenerationChoice[];
  /** How many tokens it took; of several samples all new tokens, and the prompt once. */
  usage: GenerationUsage;
  /** How long it took. */
  timings: GenerationTimings;
  /** One for each token of the prompt, where they were asked for; null for the first one. */
  promptLogprobs?: (PromptLogprob | null)[];
}

/** The request to the native engine for a prompt. */
export function toNativeRequest(
  tokens: number[],
  maxNewTokens: number,
  options: ResolvedGenerationOptions,
  limits: NativeTokenLimits = noLimits,
): SequenceRequest {
  return {
    tokens: Int32Array.from(tokens),
    maxNewTokens,
    ...samplingOf(options),
    ...toNativeSeed(options.seed),
    stopTokens: Int32Array.from(options.stopTokenIds),
    logprobs: options.logprobs ?? -1,
    promptLogprobs: options.promptLogprobs ?? -1,
    speculates: !options.noSpeculation,
    cacheSalt: options.cacheSalt,
    ...limits,
    ...noOutputs,
    beams: toNativeBeams(options.beamSearch),
  };
}

function toNativeBeams(search: BeamOptions | undefined): SequenceRequest["beams"] {
  if (search === undefined) return null;
  const { earlyStopping } = search;
  return { ...search, earlyStopping: earlyStopping === "never" ? earlyStopping : earlyStopping ? "yes" : "no" };
}

export function toNativeSeed(seed: bigint): NativeSeed {
  return { seedLow: Number(seed & 0xffffffffn), seedHigh: Number(seed >> 32n) };
}

/** What the sequences of a call need. */
export interface SequenceRun {
  session: Session;
  request: SequenceRequest;
  options: ResolvedGenerationOptions;
  tokenizer: Tokenizer | undefined;
}

/**
 * Runs one sequence and yields its chunks. A chunk holds all tokens since the last chunk was read, so a slow reader gets fewer and larger
 * chunks. Leaving the iteration cancels the sequence.
 *
 * @param pace Makes every reader a slow one.
 * @throws ShardspeedError ERR_ABORTED, ERR_DISPOSED, or the failure of the engine.
 */
export async function* runSequence(
  { session, request, options, tokenizer }: SequenceRun,
  pace: StreamPace = {},
): AsyncGenerator<GenerationChunk, void, undefined> {
  throwIfAborted(options.signal);
  const inbox = new Inbox();
  const id = session.submit(request, inbox);
  yield* readSequence({ session, id, inbox, promptTokens: request.tokens }, options, tokenizer, pace);
}

/** A sequence in the engine. */
export interface SubmittedSequence {
  session: Session;
  id: number;
  inbox: Inbox;
  promptTokens: Int32Array;
}

/** Yields the chunks of a sequence, as runSequence() does. */
export async function* readSequence(
  { session, id, inbox, promptTokens }: SubmittedSequence,
  options: ResolvedGenerationOptions,
  tokenizer: Tokenizer | undefined,
  { chunkIntervalMs = 0 }: StreamPace,
): AsyncGenerator<GenerationChunk, void, undefined> {
  // At once, not when the reader comes for the next chunk: it may never come.
  const stopListening = onAbort(options.signal, (error) => {
    session.cancel(id);
    inbox.onFailure(error);
  });
  const { stop, keepSpecialTokens } = options;
  const shown = { stop, skipSpecialTokens: !keepSpecialTokens, prompt: promptTokens };
  const texts = tokenizer ? new TextStream(tokenizer, shown) : undefined;
  const describe = describeTokens(tokenizer);
  // Who looks for stop strings looks at every step: tokens behind one would be computed in vain.
  const intervalMs = () =>
    stop.length > 0 ? 0 : typeof chunkIntervalMs === "number" ? chunkIntervalMs : chunkIntervalMs();
  let nextAt = 0;
  const usage = { promptTokens: promptTokens.length, newTokens: 0, cachedTokens: 0 };
  let lastId: number | undefined;
  try {
    for (;;) {
      await inbox.changed(nextAt);
      nextAt = performance.now() + intervalMs();
      const tokens = inbox.takeTokens();
      const ended = inbox.failure ?? inbox.finishReason;
      if (tokens.length === 0 && ended instanceof ShardspeedError) throw ended;
      const chunk = toChunk(tokens, texts, options.logprobs === undefined ? undefined : describe);
      const scores = inbox.takePrompt();
      if (scores) chunk.promptLogprobs = toPromptLogprobs(promptTokens, scores, describe);
      usage.newTokens += chunk.ids.length;
      usage.cachedTokens += chunk.cachedTokens ?? 0;
      lastId = chunk.ids.at(-1) ?? lastId;
      endChunk(chunk, typeof ended === "string" ? ended : undefined, texts, lastId);
      if (chunk.finishReason && inbox.score !== undefined) chunk.score = inbox.score;
      if (chunk.finishReason) chunk.usage = usage;
      yield chunk;
      if (chunk.finishReason) return;
    }
  } finally {
    stopListening();
    session.cancel(id);
  }
}

/** How often a stream has a chunk. */
export interface StreamPace {
  /**
   * Least time from a chunk to the next one, in milliseconds: each costs its readers about as much as many tokens do. The last chunk does not
   * wait, and with stop strings none does. A function is asked after each chunk. Default 0.
   */
  chunkIntervalMs?: number | (() => number);
}

type TokenEvent = Extract<EngineEvent, { kind: "token" }>;

/** Drops ids after the one that completes a stop string: the engine may be a step or two ahead. */
function toChunk(
  events: TokenEvent[],
  texts: TextStream | undefined,
  describe: ((token: TokenLogprob) => LikelyToken) | undefined,
): GenerationChunk {
  const chunk: GenerationChunk = { text: "", ids: [] };
  const logprobs: GeneratedLogprob[] = [];
  for (const event of events) {
    chunk.ids.push(event.token);
    if (event.cachedTokens) chunk.cachedTokens = event.cachedTokens;
    if (describe) {
      const own = describe({ id: event.token, logprob: event.logprob as number });
      logprobs.push({ ...own, top: (event.top ?? []).map(describe) });
    }
    if (!texts) continue;
    chunk.text += texts.push(event.token).text;
    if (texts.stopped) break;
  }
  if (describe) chunk.logprobs = logprobs;
  return chunk;
}

/** Completes the last chunk of a sequence. */
function endChunk(
  chunk: GenerationChunk,
  ended: FinishReason | undefined,
  texts: TextStream | undefined,
  lastId: number | undefined,
): void {
  if (texts?.stopped) {
    chunk.finishReason = "stop";
  } else if (ended !== undefined) {
    chunk.finishReason = ended;
    const rest = texts?.flush();
    if (rest) chunk.text += rest.text;
    if (rest?.stopped) chunk.finishReason = "stop";
  }
  if (chunk.finishReason !== "stop") return;
  const reason = texts?.stopString ?? lastId; // a stop token is the last one
  if (reason !== undefined) chunk.stopReason = reason;
}

/** Collects a sequence's events until its reader takes them. */
export class Inbox {
  failure: ShardspeedError | undefined;
  finishReason: FinishReason | undefined;
  #prompt: PromptScores | undefined;
  score: number | undefined;
  #tokens: TokenEvent[] = [];
  /** Goes on when there is something to take. */
  #wake: (() => void) | undefined;
  /** Ends a pause, in which tokens are only collected. */
  #endPause: (() => void) | undefined;

  /** Wakes nobody: a token or the end comes with it. */
  onPrompt(scores: PromptScores): void {
    this.#prompt = scores;
  }

  onToken(event: TokenEvent): void {
    this.#tokens.push(event);
    if (this.#endPause === undefined) this.#notify();
  }

  onDone(reason: "stop" | "length" | "cancelled", score?: number): void {
    this.score = score;
    if (reason !== "cancelled") this.finishReason = reason;
    this.#notify();
  }

  onOutputs(): void {}

  onFailure(error: ShardspeedError): void {
    this.failure ??= error;
    this.#notify();
  }

  takePrompt(): PromptScores | undefined {
    const prompt = this.#prompt;
    this.#prompt = undefined;
    return prompt;
  }

  takeTokens(): TokenEvent[] {
    const tokens = this.#tokens;
    this.#tokens = [];
    return tokens;
  }

  /** Resolves when there is something to take: tokens after a time of performance.now(), or the end. */
  async changed(tokensAfter: number): Promise<void> {
    const pauseMs = tokensAfter - performance.now();
    if (pauseMs > 0 && !this.#hasEnded) await this.#pause(pauseMs);
    if (this.#tokens.length > 0 || this.#hasEnded) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  get #hasEnded(): boolean {
    return this.failure !== undefined || this.finishReason !== undefined;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#endPause?.(), ms);
      this.#endPause = () => {
        clearTimeout(timer);
        this.#endPause = undefined;
        resolve();
      };
    });
  }

  #notify(): void {
    this.#endPause?.();
    this.#wake?.();
    this.#wake = undefined;
  }
}

/** Joins the chunks of a sequence to a result. */
export async function collect(
  chunks: AsyncIterable<GenerationChunk>,
  promptTokens: number,
  startedAt: number,
): Promise<GenerationResult> {
  const ids: number[] = [];
  const logprobs: GeneratedLogprob[] = [];
  let text = "";
  let finishReason: FinishReason = "length";
  let stopReason: string | number | undefined;
  let score: number | undefined;
  let firstAt = 0;
  let wantsLogprobs = false;
  let promptLogprobs: (PromptLogprob | null)[] | undefined;
  let firstCount = 0;
  let cachedTokens = 0;
  for await (const chunk of chunks) {
    if (ids.length === 0) {
      firstAt = performance.now();
      firstCount = chunk.ids.length;
    }
    text += chunk.text;
    cachedTokens += chunk.cachedTokens ?? 0;
    for (const id of chunk.ids) ids.push(id);
    if (chunk.logprobs) {
      wantsLogprobs = true;
      for (const logprob of chunk.logprobs) logprobs.push(logprob);
    }
    promptLogprobs ??= chunk.promptLogprobs;
    if (chunk.finishReason) finishReason = chunk.finishReason;
    stopReason = chunk.stopReason;
    score = chunk.score;
  }
  const endedAt = performance.now();
  const laterTokens = ids.length - firstCount;
  return {
    text,
    ids,
    finishReason,
    ...(stopReason === undefined ? {} : { stopReason }),
    usage: { promptTokens, newTokens: ids.length, cachedTokens },
    timings: {
      firstTokenMs: firstAt - startedAt,
      totalMs: endedAt - startedAt,
      ...(laterTokens > 0 ? { tokensPerSecond: (laterTokens * 1000) / (endedAt - firstAt) } : {}),
    },
    ...(wantsLogprobs ? { logprobs } : {}),
    ...(promptLogprobs === undefined ? {} : { promptLogprobs }),
    ...(score === undefined ? {} : { score }),
  };
}
