import type { ModelSpec, WeightPlan, WeightView } from "./spec.js";

/**
 * The native surface, all of it. What users may get wrong is checked before it gets here; what the native side does not know (a key, a name
 * of a union, a type, a size out of range) it refuses all the same, with ERR_NATIVE and the path of the key.
 */
export interface NativeBinding {
  createEngine(plan: EnginePlan, onEvents: (events: EngineEvent[]) => void): NativeEngine;
  /** The first thing of the model that the plan's devices cannot compute, as a sentence; null where they can compute it. Loads nothing. */
  unsupported(plan: RankPlan): string | null;
  /** What an engine of this plan will allocate, for each rank of this process. Allocates nothing of it. */
  estimateMemory(plan: RankPlan): MemoryEstimate[];
  /** Rows and columns that the first rank of this process holds of each matrix, by role without ".weight". */
  shardShapes(plan: RankPlan): Record<string, [rows: number, cols: number]>;
  /** Opens a port, chosen by the system, for a group's rank 0. An engine takes it over; where none comes to be it must be closed. */
  openListener(host: string): { descriptor: number; port: number };
  closeListener(descriptor: number): void;
  /** Writes a file of tensors on a thread of its own; it must not be there yet. What failed is an error with a code, and leaves no file. */
  writeTensors(plan: WritePlan): { done: Promise<void>; cancel(): void; writtenBytes(): number };
  /** A vocabulary for grammars. Token i has the bytes from ends[i - 1] to ends[i]; one without bytes stands for no text. */
  openVocabulary(bytes: Uint8Array, ends: Int32Array, endTokens: Int32Array): NativeVocabulary;
  cpuFeatures(): CpuFeatures;
  /**
   * What there is of CUDA. Never throws: what is missing is in the answer. `open`: the device to open, which takes some of its
   * memory for as long as the process lives and tells how much is free; true opens all, nothing none.
   */
  cudaReport(open?: number | true): CudaReport;
  buildInfo(): BuildInfo;
  /** Reads `bytes` of memory with `threads` threads, `rounds` times; best bytes per second. Blocks: for benches. */
  measureReadBandwidth(bytes: number, threads: number, rounds: number): number;
  /** Best fp32 FMA rate of `threads` threads on the chosen instruction set, in floating-point operations per second. Blocks. */
  measureFmaPeak(threads: number, rounds: number): number;
  /** Median seconds of an all-reduce of `bytes` among ranks that are threads, on the CPU. Blocks. */
  measureAllReduce(ranks: number, bytes: number, rounds: number): number;
  /** Median seconds of copying `bytes`. Blocks. */
  measureCopy(bytes: number, rounds: number): number;
  /**
   * The time of a step's attention on the CPU, in all layers, and that of reading as many bytes as it reads of the KV cache: seconds, one of
   * each a round, by turns. Blocks.
   */
  measureAttention(size: AttentionSize, threads: number, rounds: number): AttentionTimes;
}

/** Each of the sequences has `rows` new tokens, with which its context ends. */
export interface AttentionSize {
  heads: number;
  kvHeads: number;
  headDim: number;
  layers: number;
  sequences: number;
  context: number;
  rows: number;
}

export interface AttentionTimes {
  attend: number[];
  read: number[];
  /** Of the keys and values. */
  bytes: number;
}

export interface NativeVocabulary {
  /** Compiles what lib/format made, on a thread of its own. */
  compileGrammar(nodes: Int32Array): Promise<NativeGrammar>;
}

export interface NativeGrammar {
  /** By which a request names it, while this object is held. */
  readonly number: number;
  /** How large it is. */
  readonly states: number;
  /** A text from its start. */
  begin(): { fill(): Int32Array | null; accept(token: number): void };
}

export interface CpuFeatures {
  /** The kernels that run: "portable", "avx2" or "avx512". */
  kernels: string;
  /** All that this processor could run. */
  available: string[];
}

export interface CudaReport {
  /** Whether this build has the CUDA backend. */
  built: boolean;
  /** The backend is there and runs on an emulator, on the CPU: a build for tests. */
  emulated: boolean;
  /** A sentence that says why no device can be used, and exactly what is missing: the driver, a newer one, a device. */
  problem?: string;
  driverVersion?: string;
  runtimeVersion?: string;
  /** Of an emulator: what the last fault of a kernel was. */
  fault?: string;
  /** All that CUDA shows, also those that cannot be used. */
  devices: CudaDevice[];
  /** Where all devices were opened: libraries that are used if the dynamic loader finds them. */
  libraries?: CudaLibrary[];
}

export interface CudaLibrary {
  /** "cuBLASLt" or "NCCL" */
  name: string;
  /** The file found. */
  path?: string;
  version?: string;
  /** What the dynamic loader says where it finds none. */
  problem?: string;
}

export interface CudaDevice {
  index: number;
  name: string;
  /** "9.0" */
  computeCapability: string;
  totalBytes: number;
  /** Where the device was opened, else 0. */
  freeBytes: number;
  usable: boolean;
  /** Why it is not usable, such as a compute capability that is too small. */
  problem?: string;
}

export interface MemoryEstimate {
  weightBytes: number;
  activationBytes: number;
  /** One page of the KV cache, all layers: 16 tokens. On CUDA its elements are of the engine's dtype, on the CPU fp32. */
  kvPageBytes: number;
}

export interface BuildInfo {
  compiler: string;
  cuda: boolean;
}

/** What the ranks of this process compute, as far as their memory depends on it. */
export interface RankPlan {
  readonly spec: ModelSpec;
  /** On CUDA never "float32". */
  readonly dtype: "float32" | "float16" | "bfloat16";
  /** Of parts that ranks add up: "float32", or on CUDA `dtype`. */
  readonly communicationDtype: "float32" | "float16" | "bfloat16";
  /** Ranks that the model is divided among, in all processes. */
  readonly tpSize: number;
  /** The rank of this process; 0 where all ranks are in it. */
  readonly firstRank: number;
  /** One for each rank of this process: "cpu", or "cuda:" and the index of a device of cudaReport(). Several: ranks are its threads. */
  readonly devices: readonly string[];
  /** CPU threads of each rank. */
  readonly threads: number;
  /** Longest sequence, prompt and new tokens. */
  readonly maxSequenceTokens: number;
  /** Most tokens a step computes. */
  readonly maxBatchTokens: number;
}

export interface EnginePlan extends RankPlan {
  /** Null: random weights (benches), from a fixed seed. */
  readonly weights: WeightPlan | null;
  /** How this process, one rank of several, meets the others; null: all ranks are in this process. */
  readonly group: GroupPlan | null;
  readonly kvCachePages: number;
  /** Drafts by prompt lookup; null: none. */
  readonly lookup: {
    /** Most tokens of a draft. */
    readonly draftTokens: number;
    /** Tokens at the end that must have occurred before, and of how many more is no better. */
    readonly minMatch: number;
    readonly maxMatch: number;
  } | null;
  /** Whether sequences that begin with the same tokens share pages of the KV cache. */
  readonly prefixCache: boolean;
  /** Drafts by a model of the same vocabulary, in place of prompt lookup; null: none. */
  readonly draft: {
    /** Most tokens of a draft. */
    readonly draftTokens: number;
    readonly model: DraftModelPlan;
  } | null;
  /** Whether drafts are left out where they take longer than they save. */
  readonly weighsDrafts: boolean;
}

/** One rank on the CPU, in the threads of the engine's first rank. */
export interface DraftModelPlan extends RankPlan, Pick<EnginePlan, "weights" | "kvCachePages"> {}

/** A file to write: the header as it is, then the tensors, one behind the other. */
export interface WritePlan {
  path: string;
  header: Uint8Array;
  /** To read from. */
  files: WeightPlan["files"];
  /** Row-major; the views are all of it, or tiles that cover it. */
  tensors: { rows: number; cols: number; dtype: EnginePlan["dtype"]; views: WeightView[] }[];
}

/** How a rank that is a process meets the others of its group. */
export interface GroupPlan {
  /** Rank 0: the descriptor of openListener(). The others: -1. */
  listener: number;
  leaderHost: string;
  leaderPort: number;
  /** 32 bytes that only ranks of the group know. */
  key: Uint8Array;
  /** A rank that does not connect for as long, or is silent for as long, is taken for gone. */
  silenceLimitMs: number;
}

/** How the next token is chosen. */
export interface SamplingParameters {
  minNewTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
}

export type Pooling = "first" | "last" | "mean" | "max" | "mean sqrt length" | "weighted mean";

/** Which tokens may come next, and how likely they are made. */
export interface NativeTokenLimits {
  /** Different tokens, and what is added to the logit of each. */
  biasTokens: Int32Array;
  biases: readonly number[];
  /** Empty: all. */
  allowedTokens: Int32Array;
  /** Tokens of each, at least one. */
  badWords: readonly Int32Array[];
  /** Number of the grammar that the text keeps to, 0: none. It needs a stop token without a text. */
  grammar: number;
}

/** Two 32-bit halves of a seed. */
export interface NativeSeed {
  seedLow: number;
  seedHigh: number;
}

export interface NativeRequest extends SamplingParameters, NativeTokenLimits, NativeSeed {
  id: number;
  tokens: Int32Array;
  maxNewTokens: number;
  /** More samples of the same prompt, which share its pages. */
  forks: readonly (NativeSeed & { id: number })[];
  /** A beam search; its texts, the best first, answer the request and its forks. Null: none. */
  beams: {
    readonly beams: number;
    readonly lengthPenalty: number;
    readonly earlyStopping: "no" | "yes" | "never";
  } | null;
  stopTokens: Int32Array;
  /** -1: none; n: the chosen token's and the n largest. */
  logprobs: number;
  /** -1: none; n: those of the prompt's tokens, with their ranks and the n largest. */
  promptLogprobs: number;
  /** Whether drafts may be made, where the engine makes any. */
  speculates: boolean;
  /** Pages of the KV cache are shared among requests with the same one. */
  cacheSalt: string;
  /** New tokens; or what the head makes (of each token, or of the one that it picks), hidden states, or both of these. */
  wanted: "tokens" | "head" | "hidden" | "hidden and head";
  /** (tokens) or null: all 0. */
  tokenTypes: Int32Array | null;
  /** Ways to make one row of the hidden states, each of which gives a row; none: they stay as they are. */
  poolings: readonly Pooling[];
  /** Tokens before it are left out of pooling. */
  poolFrom: number;
}

export interface NativeEngine {
  submit(request: NativeRequest): void;
  cancel(id: number): void;
  stats(): NativeStats;
  /** Stops the engine thread, gives all memory back, then resolves. */
  close(): Promise<void>;
}

export interface RankMemory {
  weightBytes: number;
  kvCacheBytes: number;
  activationBytes: number;
}

export interface NativeStats {
  running: number;
  waiting: number;
  kvPagesTotal: number;
  kvPagesFree: number;
  /** Pages that sequences which begin alike can find; those of them that none uses count as free. */
  kvPagesFindable: number;
  /** Tokens of prompts that were looked for in these pages, and that were found. */
  prefixQueries: number;
  prefixHits: number;
  /** By rank of the group. */
  memory: RankMemory[];
  steps: number;
  /** Of all steps together. */
  stepMs: number;
  /** Of these, in sums over ranks and in gathering logits, waiting for slower ranks included; 0 where that cannot be told. */
  groupMs: number;
  promptTokens: number;
  generatedTokens: number;
  preemptions: number;
  /** Drafts that were verified, their tokens, and those of them that were right; these also by position in the draft. */
  drafts: number;
  draftTokens: number;
  acceptedTokens: number;
  acceptedAt: number[];
}

/** A token and the logarithm of its probability. */
export interface TokenLogprob {
  /** A token. */
  id: number;
  /** Natural logarithm of its probability. */
  logprob: number;
}

/** How loading the ranks of this process went. */
export interface LoadOutcome {
  loadMs: number;
  /** Of a dtype of fp16: how many finite values of a tensor were beyond its range and became infinite. Only tensors with such values. */
  overflows: { tensor: string; count: number }[];
}

/** What the tokens of a prompt behind its first one are, by the logits ahead of each. */
export interface PromptScores {
  logprobs: Float32Array;
  /** 1: the likeliest. */
  ranks: Int32Array;
  /** (tokens, n) */
  topTokens: Int32Array;
  topLogprobs: Float32Array;
}

/** What happened in a step: one call a step, however many sequences are in it. */
export type EngineEvent =
  | { kind: "progress"; loadedBytes: number; totalBytes: number }
  | ({ kind: "ready" } & LoadOutcome)
  | { kind: "failed"; code: string; message: string }
  /** Rank 0, another process, is done; this one was not. */
  | { kind: "ended" }
  /** Ahead of the sequence's first token, or of its end where it has none. Only where asked for. */
  | ({ kind: "prompt"; id: number } & PromptScores)
  | {
      kind: "token";
      id: number;
      token: number;
      /** With the first one: tokens of the prompt that were found in the KV cache. */
      cachedTokens?: number;
      logprob?: number;
      top?: TokenLogprob[];
    }
  /** score: of a text that a beam search found. */
  | { kind: "done"; id: number; reason: "stop" | "length" | "cancelled"; score?: number }
  /** Rows of the head, and of hidden states; empty where they were not wanted. */
  | { kind: "outputs"; id: number; outputs: Float32Array; hidden: Float32Array }
  /** One request failed; the engine goes on. */
  | { kind: "rejected"; id: number; code: string; message: string };
