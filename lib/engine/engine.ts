import { inspect } from "node:util";
import { throwIfAborted } from "../base/abort.js";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { NativeStats } from "../native/binding.js";
import { pageTokens } from "../native/limits.js";
import type { ModelLabels } from "../native/spec.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { type Classification, type ClassifyOptions, classifyTexts, type TextOrPair } from "./classify.js";
import { type Embeddings, type EmbedOptions, embedTexts } from "./embed.js";
import { Formats } from "./formats.js";
import { type ForwardInputs, type ForwardResult, runForward } from "./forward.js";
import {
  collect,
  type GenerationChunk,
  type GenerationResult,
  runSequence,
  type StreamPace,
  toNativeRequest,
} from "./generation.js";
import { type GenerationDefaults, withoutTexts } from "./generation_defaults.js";
import { checkTokenIds, type GenerationOptions, resolveGenerationOptions } from "./generation_options.js";
import type { AdapterInfo, ModelInfo } from "./model_info.js";
import { type ModuleGenerateInputs, type ModuleGenerateOptions, moduleGenerate } from "./module_generate.js";
import {
  copyTokenIds,
  encodeConversation,
  isBatch,
  isConversation,
  type Prompt,
  renderConversation,
  type TextPrompt,
} from "./prompts.js";
import { collectSamples, streamSamples } from "./samples.js";
import { SamplingNotices } from "./sampling_notices.js";
import { noSentenceSettings, type SentenceSettings } from "./sentence_settings.js";
import type { Session } from "./session.js";
import { checkTextLength, type TextReader } from "./texts.js";
import { toNativeLimits } from "./token_limits.js";

/** The loaded and sharded model. */
export interface EngineModule {
  /** Family and sizes of the model. */
  info: ModelInfo;
  /** @deprecated The same object as `info`. */
  spec: ModelInfo;
  /** Element type of the weights. CPUs compute in fp32; on CUDA activations and KV cache have this type too, and sums are fp32. */
  dtype: "float32" | "float16" | "bfloat16";
  /** One per rank: "cpu", "cuda:0". */
  devices: string[];
  /** Role, checkpoint name and shape of every tensor of this process; of its first rank if it has several. */
  tensors: { role: string; name: string; shape: number[] }[];
  /** The adapter that was merged into the weights; undefined where there is none. */
  adapter: AdapterInfo | undefined;
  /** Logits of every position, as Engine.forward(). */
  forward(inputs: ForwardInputs): Promise<ForwardResult>;
  /**
   * Generates with the option names and defaults of `generate()` in transformers: greedy unless doSample is true.
   *
   * @param inputs Rows of token ids, one row, or the result of a tokenizer call: an object with inputIds and attentionMask.
   * @returns Whole sequences, as rows of equal length: each input row with its padding, then the new tokens with the end token, then padTokenId.
   * Padding, as the mask marks it, does not change the result.
   * @throws ShardspeedError ERR_INVALID_ARGUMENT, ERR_CONTEXT_LENGTH and ERR_TOKENIZER before work starts; ERR_ABORTED, ERR_DISPOSED.
   */
  generate(inputs: ModuleGenerateInputs, options?: ModuleGenerateOptions): Promise<number[][]>;
}

/** Counters of an engine, and its memory. */
export interface EngineStats {
  /** Sequences that are computed, and those that wait for room in the KV cache. */
  requests: { running: number; waiting: number };
  /** Tokens since the model was loaded: of prompts, and generated. */
  tokens: { prompt: number; generated: number };
  /** Pages of the KV cache; a page holds pageTokens tokens. */
  kvCache: { pagesTotal: number; pagesUsed: number; pagesFree: number; pageTokens: number };
  /** One per rank, in bytes. */
  memory: { device: string; weightBytes: number; kvCacheBytes: number; activationBytes: number }[];
  /** Steps since the model was loaded. */
  steps: number;
  /** Milliseconds of all steps; of these in all-reduces and gathering on rank 0, including waits for slower ranks (CPU ranks only, else 0). */
  timings: { stepMs: number; allReduceMs: number };
  /** How often a sequence gave its pages to older ones, to be computed again. */
  preemptions: number;
  /** Prompts that began like others (docs/prefix-cache.md). */
  prefixCache: {
    /** Tokens of prompts that were looked for in the KV cache. */
    queries: number;
    /** Tokens of prompts that were found there, and not computed again. */
    hits: number;
    /** Pages that can be found now. Those of them that no sequence uses count as free. */
    pages: number;
  };
  /** Drafts since the start. */
  speculation: {
    /** That were verified. */
    drafts: number;
    /** Of all of them. */
    draftTokens: number;
    /** Tokens of drafts that were what the model chose. */
    acceptedTokens: number;
    /** The same by position in the draft. */
    acceptedAt: number[];
  };
}

/** Parts of an engine. */
export interface EngineParts {
  session: Session;
  module: Omit<EngineModule, "forward" | "generate" | "spec">;
  tokenizer: Tokenizer | undefined;
  /** Why there is no tokenizer, as a clause with the files that are there. */
  tokenizerFiles?: string | undefined;
  /** What a sentence-transformers folder says about embeddings. */
  sentenceSettings?: SentenceSettings;
  /** How scores of classes are made. */
  problemType?: ModelLabels["problemType"];
  generationDefaults: GenerationDefaults;
  logger?: Logger;
  contextTokens: number;
  /** Rank of this process in its group; 0 if all ranks are in this process. */
  rank: number;
}

/** A loaded model. Made by initInference(). Any number of calls may run at once; they share the engine's steps. */
export class Engine {
  /** The model: what it is, and `generate` and `forward` as in transformers. */
  readonly module: EngineModule;
  /** The model's tokenizer; undefined where its folder has none. */
  readonly tokenizer: Tokenizer | undefined;
  /** Maximum number of tokens of a sequence, prompt and new tokens together. */
  readonly contextTokens: number;
  /** Rank of this process in its group; 0 if all ranks are in this process. */
  readonly rank: number;
  readonly #session: Session;
  readonly #generationDefaults: GenerationDefaults;
  readonly #tokenizerFiles: string;
  readonly #sentenceSettings: SentenceSettings;
  readonly #problemType: ModelLabels["problemType"];
  readonly #notices: SamplingNotices;
  readonly #formats: Formats;
  /** Whether a call of the user has rejected, or will reject, with the failure that ended the engine. */
  #failureTold = false;

  /** @internal */
  constructor(parts: EngineParts) {
    this.#session = parts.session;
    this.rank = parts.rank;
    const defaults = parts.tokenizer ? parts.generationDefaults : withoutTexts(parts.generationDefaults);
    this.#generationDefaults = defaults;
    this.tokenizer = parts.tokenizer;
    this.#notices = new SamplingNotices(defaults, parts.logger);
    this.#sentenceSettings = parts.sentenceSettings ?? noSentenceSettings;
    this.#problemType = parts.problemType;
    this.#tokenizerFiles = parts.tokenizerFiles ?? "The model has none";
    this.contextTokens = parts.contextTokens;
    const { vocabSize } = parts.module.info;
    const { session, tokenizer } = parts;
    this.#formats = new Formats({ session, tokenizer, vocabSize, eosTokenIds: defaults.eosTokenIds });
    this.module = {
      ...parts.module,
      spec: parts.module.info,
      forward: (inputs) => this.forward(inputs),
      generate: (inputs, options) =>
        moduleGenerate({ engine: this, defaults, vocabSize, notices: this.#notices }, inputs, options),
    };
  }

  /**
   * What generation_config.json sets of sampling, by the names of generation options, with doSample and maxLength. Unlike `generationDefaults:
   * "model"` it has nothing that the file does not say.
   */
  get modelSampling(): Readonly<Record<string, number | boolean | string>> {
    return { ...this.#generationDefaults.sampling };
  }

  /**
   * Whether this process is the driver. If ranks are processes, that is rank 0 of the group. The others follow until it disposes of its engine;
   * their generate(), stream() and forward() throw ERR_NOT_DRIVER.
   */
  get isDriver(): boolean {
    return this.rank === 0;
  }

  /** Resolves when this process or the driver has disposed of the engine; rejects with the failure that ended it otherwise, such as ERR_COMM. */
  get finished(): Promise<void> {
    this.#failureTold = true;
    return this.#session.finished;
  }

  /** True after dispose(), and after a failure that ended the engine. */
  get disposed(): boolean {
    return this.#session.ended !== undefined;
  }

  /**
   * Generates from a prompt, or from an array of prompts at once.
   *
   * @param prompt Text, token ids, the messages of a conversation, or an array of these. Messages become text by the model's chat template.
   * @returns The result, or for an array of prompts an array of results.
   * @throws ShardspeedError ERR_INVALID_ARGUMENT, ERR_CONTEXT_LENGTH and ERR_TOKENIZER before work starts; ERR_ABORTED, ERR_DISPOSED.
   */
  generate(prompt: Prompt, options?: GenerationOptions): Promise<GenerationResult>;
  generate(prompts: readonly Prompt[], options?: GenerationOptions): Promise<GenerationResult[]>;
  generate(
    prompt: Prompt | readonly Prompt[],
    options?: GenerationOptions,
  ): Promise<GenerationResult | GenerationResult[]>;
  async generate(
    prompt: Prompt | readonly Prompt[],
    options?: GenerationOptions,
  ): Promise<GenerationResult | GenerationResult[]> {
    const startedAt = performance.now();
    if (isConversation(prompt) || !isBatch(prompt))
      return (await this.#prepare(prompt, options, "prompt", startedAt)).run();
    const preparing = prompt.map((one, i) => this.#prepare(one, options, `prompt[${i}]`, startedAt));
    const sequences = await Promise.all(preparing);
    // If one fails, cancel the others: their results would be lost.
    const together = new AbortController();
    try {
      return await Promise.all(sequences.map((sequence) => sequence.run(together.signal)));
    } catch (error) {
      together.abort();
      throw error;
    }
  }

  /**
   * Generates from a prompt and yields text and ids as they are generated. Leaving the loop cancels the sequence and frees its pages.
   *
   * @param pace chunkIntervalMs: the least time from a chunk to the next one, or a function that is asked for it. Default 0: a chunk is what came since the last one was read.
   * @throws ShardspeedError Like generate(), from the first step of the iteration.
   */
  async *stream(
    prompt: Prompt,
    options?: GenerationOptions,
    pace?: StreamPace,
  ): AsyncGenerator<GenerationChunk, void, undefined> {
    yield* (await this.#prepare(prompt, options, "prompt", performance.now())).chunks(pace);
  }

  /**
   * Computes a batch: logits at every position of every row, or what the head of an encoder or a classifier makes.
   *
   * @param inputs inputIds: rows of token ids; attentionMask: rows of 0 (padding, at either end) and 1, needed for texts of unequal length;
   * tokenTypeIds: for models that have token types.
   * @returns logits with dims [batch, sequence, vocab], or of classes; of models without a head lastHiddenState and poolerOutput. Zeros at padding.
   * @throws ShardspeedError ERR_INVALID_ARGUMENT, ERR_CONTEXT_LENGTH and ERR_OUT_OF_MEMORY before work starts; ERR_DISPOSED.
   */
  async forward(inputs: ForwardInputs): Promise<ForwardResult> {
    this.#checkDriver();
    return runForward(this.#session, inputs, this.module.info, this.contextTokens);
  }

  /**
   * Embeds texts: pools the hidden states of each, as a sentence-transformers folder says or as the options do. Each text is a sequence of its
   * own, nothing is padded.
   *
   * @param texts A text, token ids, or an array of either.
   * @returns Embeddings with dims [texts, width], and the tokens that they took.
   * @throws ShardspeedError ERR_INVALID_ARGUMENT, ERR_CONTEXT_LENGTH, ERR_TOKENIZER and ERR_UNSUPPORTED_MODEL before work starts; ERR_ABORTED,
   * ERR_DISPOSED.
   */
  async embed(texts: TextPrompt | readonly TextPrompt[], options?: EmbedOptions): Promise<Embeddings> {
    this.#checkDriver();
    const { hiddenSize, generates } = this.module.info;
    const list = isBatch(texts) ? texts : [texts];
    const context = { session: this.#session, settings: this.#sentenceSettings, hiddenSize, generates };
    return embedTexts({ ...context, ...this.#textReader() }, list, options);
  }

  /**
   * Classifies texts, or pairs of texts, by a model for sequence classification.
   *
   * @returns The likeliest label of a text, with its score; for an array of texts an array of these.
   * @throws ShardspeedError ERR_UNSUPPORTED_MODEL for a model of another kind; ERR_INVALID_ARGUMENT, ERR_CONTEXT_LENGTH and ERR_TOKENIZER before
   * work starts; ERR_ABORTED, ERR_DISPOSED.
   */
  classify(text: TextOrPair, options?: ClassifyOptions): Promise<Classification>;
  classify(texts: readonly TextOrPair[], options?: ClassifyOptions): Promise<Classification[]>;
  classify(
    texts: TextOrPair | readonly TextOrPair[],
    options?: ClassifyOptions,
  ): Promise<Classification | Classification[]>;
  async classify(
    texts: TextOrPair | readonly TextOrPair[],
    options?: ClassifyOptions,
  ): Promise<Classification | Classification[]> {
    this.#checkDriver();
    const list = Array.isArray(texts) ? texts : [texts];
    const context = { session: this.#session, info: this.module.info, problemType: this.#problemType };
    const results = await classifyTexts({ ...context, ...this.#textReader() }, list, options);
    return Array.isArray(texts) ? results : (results[0] as Classification);
  }

  #textReader(): TextReader {
    const { tokenizer, contextTokens } = this;
    const { vocabSize } = this.module.info;
    return { tokenizer, tokenizerFiles: this.#tokenizerFiles, vocabSize, contextTokens };
  }

  /** Counts and sizes of this moment. */
  stats(): EngineStats {
    this.#checkAlive();
    return toEngineStats(this.#session.stats(), this.module.devices);
  }

  /**
   * Ends all calls with ERR_DISPOSED and frees the memory; resolves when that is done. May be called more than once. A follower rank waits until the
   * driver has disposed of its engine, so all ranks may run the same code.
   *
   * @throws ShardspeedError ERR_COMM on a follower rank, after freeing the memory, if the group has failed and neither `finished` nor another
   * call has reported it.
   */
  async dispose(): Promise<void> {
    let failure: unknown;
    if (!this.isDriver) {
      await this.#session.finished.catch((error) => {
        failure = error;
      });
    }
    await this.#session.close();
    if (failure === undefined || this.#failureTold) return;
    this.#failureTold = true;
    throw failure;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** A line for console.log: hundreds of tensors and a vocabulary help nobody. */
  [inspect.custom](): string {
    const { info, dtype, devices } = this.module;
    const state = this.disposed ? ", disposed" : "";
    return `Engine { ${info.family}, ${dtype}, ${[...new Set(devices)].join(", ")}, up to ${this.contextTokens} tokens${state} }`;
  }

  #checkAlive(): void {
    if (!this.#session.ended) return;
    this.#failureTold = true;
    throw this.#session.ended;
  }

  #checkDriver(): void {
    this.#checkAlive();
    if (this.isDriver) return;
    throw new ShardspeedError(
      "ERR_NOT_DRIVER",
      `This process is rank ${this.rank} of its group, and rank 0 drives: call this where engine.isDriver is true.`,
    );
  }

  async #prepare(prompt: Prompt, options: GenerationOptions | undefined, name: string, startedAt: number) {
    this.#checkDriver();
    checkGenerates(this.module.info);
    const resolved = resolveGenerationOptions(options, this.#generationDefaults);
    throwIfAborted(resolved.signal);
    this.#notices.tellBeforeGenerate(options);
    if (resolved.stop.length > 0 && !this.tokenizer) {
      throw new ShardspeedError(
        "ERR_TOKENIZER",
        "Stop strings need a tokenizer, and the model has none. Use stopTokenIds.",
      );
    }
    const tokens = await this.#toTokens(prompt, name);
    throwIfAborted(resolved.signal);
    const room = this.contextTokens - tokens.length;
    const wanted = resolved.maxNewTokensGiven ? resolved.maxNewTokens : 1;
    if (room < wanted) {
      throw new ShardspeedError(
        "ERR_CONTEXT_LENGTH",
        `Found ${tokens.length} tokens in ${name} and ${wanted} new ones asked for, expected no more than ${this.contextTokens} together. ` +
          "Shorten the prompt or lower maxNewTokens.",
      );
    }
    const limits = await toNativeLimits(resolved, this.module.info.vocabSize, this.tokenizer);
    const grammar =
      resolved.format === undefined ? undefined : await this.#formats.compile(resolved.format, resolved.stopTokenIds);
    throwIfAborted(resolved.signal);
    const maxNewTokens = Math.min(resolved.maxNewTokens, room);
    const toRun = (also?: AbortSignal) => {
      const signals = [resolved.signal, also].filter((signal) => signal !== undefined);
      const signal = signals.length > 1 ? AbortSignal.any(signals) : signals[0];
      // Made here, so that the grammar is held until then.
      const request = toNativeRequest(tokens, maxNewTokens, resolved, { grammar: grammar?.number ?? 0, ...limits });
      const own = also === undefined ? resolved : { ...resolved, signal };
      return { session: this.#session, request, options: own, tokenizer: this.tokenizer };
    };
    const isOne = resolved.n === 1;
    return {
      chunks: (pace?: StreamPace) => {
        if (resolved.beamSearch) throw notStreamable();
        return isOne ? runSequence(toRun(), pace) : streamSamples(toRun(), pace);
      },
      run: (also?: AbortSignal) => {
        if (!isOne) return collectSamples(toRun(also), startedAt);
        return collect(runSequence(toRun(also)), tokens.length, startedAt);
      },
    };
  }

  async #toTokens(prompt: Prompt, name: string): Promise<number[]> {
    const tokens = await this.#encode(prompt, name);
    // As in transformers, a text of no tokens is one that begins.
    if (tokens.length === 0 && prompt === "") tokens.push(...this.#firstToken());
    if (tokens.length === 0) throw invalidArgument(name, "at least one token", prompt);
    checkTokenIds(tokens, this.module.info.vocabSize, name);
    return tokens;
  }

  #firstToken(): number[] {
    const id = this.#generationDefaults.bosTokenId ?? this.tokenizer?.bosTokenId;
    return id === undefined ? [] : [id];
  }

  async #encode(prompt: Prompt, name: string): Promise<number[]> {
    const isChat = isConversation(prompt);
    if (!isChat && typeof prompt !== "string") return copyTokenIds(prompt, name);
    if (!this.tokenizer) {
      throw new ShardspeedError(
        "ERR_TOKENIZER",
        `Found a prompt of ${isChat ? "messages" : "text"}, and no tokenizer: prompts must be token ids. ${this.#tokenizerFiles}.`,
      );
    }
    const text = isChat ? renderConversation(this.tokenizer, prompt) : prompt;
    checkTextLength(text, this.contextTokens, name);
    return isChat ? encodeConversation(this.tokenizer, text) : this.tokenizer.encodeAsync(text);
  }
}

function notStreamable(): ShardspeedError {
  return new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    "Found numBeams above 1 for a stream: until a beam search ends no text of it is certain. Call generate().",
  );
}

/** @throws ShardspeedError ERR_UNSUPPORTED_MODEL for a model that makes no text. */
function checkGenerates({ generates, family, head, task }: ModelInfo): void {
  if (generates) return;
  const other = {
    classes: "classify()",
    hidden: "embed()",
    logits: "forward()",
    "token-classes": "forward()",
  } as const;
  throw new ShardspeedError(
    "ERR_UNSUPPORTED_MODEL",
    `Found a ${family} model for ${task}, which generates no text. Call ${other[head]}.`,
  );
}

function toEngineStats(stats: NativeStats, devices: string[]): EngineStats {
  return {
    requests: { running: stats.running, waiting: stats.waiting },
    tokens: { prompt: stats.promptTokens, generated: stats.generatedTokens },
    kvCache: {
      pagesTotal: stats.kvPagesTotal,
      pagesUsed: stats.kvPagesTotal - stats.kvPagesFree,
      pagesFree: stats.kvPagesFree,
      pageTokens,
    },
    memory: stats.memory.map((memory, rank) => ({ device: devices[rank] ?? "", ...memory })),
    steps: stats.steps,
    timings: { stepMs: stats.stepMs, allReduceMs: stats.groupMs },
    preemptions: stats.preemptions,
    prefixCache: { queries: stats.prefixQueries, hits: stats.prefixHits, pages: stats.kvPagesFindable },
    speculation: {
      drafts: stats.drafts,
      draftTokens: stats.draftTokens,
      acceptedTokens: stats.acceptedTokens,
      acceptedAt: stats.acceptedAt,
    },
  };
}
