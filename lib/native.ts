import type { ModelSpec, WeightPlan } from "./models/spec.js";

/** The native surface, all of it. Arguments are trusted there: everything is checked before it gets here. */
export interface NativeBinding {
  createEngine(plan: EnginePlan, onEvents: (events: EngineEvent[]) => void): NativeEngine;
  /** What an engine of this plan will allocate; kvCachePages and weights do not matter. Allocates nothing of it. */
  estimateMemory(plan: EnginePlan): MemoryEstimate;
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
  /** All that CUDA shows, also those that cannot be used. */
  devices: CudaDevice[];
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

export interface EnginePlan {
  spec: ModelSpec;
  /** Null: random weights (benches), from a fixed seed. */
  weights: WeightPlan | null;
  /** On CUDA never "float32". */
  dtype: "float32" | "float16" | "bfloat16";
  /** "cpu", or "cuda:" and the index of a device of cudaReport(). */
  device: string;
  threads: number;
  /** Longest sequence, prompt and new tokens. */
  maxSequenceTokens: number;
  /** Most tokens a step computes. */
  maxBatchTokens: number;
  kvCachePages: number;
}

export interface NativeRequest {
  id: number;
  tokens: Int32Array;
  maxNewTokens: number;
  minNewTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  /** Two 32-bit halves of the seed. */
  seedLow: number;
  seedHigh: number;
  stopTokens: Int32Array;
  /** -1: none; n: the chosen token's and the n largest. */
  logprobs: number;
  /** Logits at all positions, no new token. */
  forward: boolean;
}

export interface NativeEngine {
  submit(request: NativeRequest): void;
  cancel(id: number): void;
  stats(): NativeStats;
  /** Stops the engine thread, gives all memory back, then resolves. */
  close(): Promise<void>;
}

export interface NativeStats {
  running: number;
  waiting: number;
  kvPagesTotal: number;
  kvPagesFree: number;
  weightBytes: number;
  kvCacheBytes: number;
  activationBytes: number;
  steps: number;
  promptTokens: number;
  generatedTokens: number;
  preemptions: number;
}

export interface TokenLogprob {
  id: number;
  logprob: number;
}

/** What happened in a step: one call a step, however many sequences are in it. */
export type EngineEvent =
  | { kind: "progress"; loadedBytes: number; totalBytes: number }
  | { kind: "ready"; loadMs: number }
  | { kind: "failed"; code: string; message: string }
  | {
      kind: "token";
      id: number;
      token: number;
      logprob?: number;
      top?: TokenLogprob[];
    }
  | { kind: "done"; id: number; reason: "stop" | "length" | "cancelled" }
  | { kind: "logits"; id: number; logits: Float32Array }
  /** One request failed; the engine goes on. */
  | { kind: "rejected"; id: number; code: string; message: string };
