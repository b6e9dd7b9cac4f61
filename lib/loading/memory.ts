import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { formatBytes } from "../base/memory.js";
import type { MemoryEstimate } from "../native/binding.js";
import { pageTokens } from "../native/limits.js";

/** Sequences of full length that the KV cache holds by default. */
const defaultContexts = 8;
/** Share of the memory left beside the weights that the KV cache takes by default, once a sequence of full length fits. */
const defaultShare = 0.25;
/** The same for a sequence of full length that takes more than that: long contexts are cut to what fits here. */
const largestShare = 0.8;
/** Fewer tokens than this are no use: then the model does not fit. */
const leastContextTokens = 256;

/** What may be planned with, and words for errors that say where it is. */
export interface MemoryBudget {
  availableBytes: number;
  /** Empty, or as " on cuda:0 (...)". */
  place: string;
}

/** Ranks that share one memory: what they take together, and where. */
export interface MemoryPool {
  estimate: MemoryEstimate;
  budget: MemoryBudget;
}

/** The ranks of the CPU share the machine's memory, those of CUDA have a device each. */
export function memoryPools(
  estimates: readonly MemoryEstimate[],
  budgets: readonly MemoryBudget[],
  together: boolean,
): MemoryPool[] {
  if (!together) return estimates.map((estimate, i) => ({ estimate, budget: budgets[i] as MemoryBudget }));
  const sum = (key: keyof MemoryEstimate) => estimates.reduce((total, estimate) => total + estimate[key], 0);
  const estimate = {
    weightBytes: sum("weightBytes"),
    activationBytes: sum("activationBytes"),
    kvPageBytes: sum("kvPageBytes"),
  };
  return [{ estimate, budget: budgets[0] as MemoryBudget }];
}

/**
 * Divides the memory before any of it is taken. A page of the KV cache is on all ranks, each with its heads: the smallest memory limits all.
 *
 * @param kvCacheBytes For the ranks of all pools together.
 * @returns Pages of the KV cache.
 * @throws ShardspeedError ERR_OUT_OF_MEMORY with what is needed, what there is, and how to need less.
 */
export function planPages(
  pools: readonly MemoryPool[],
  maxSequenceTokens: number,
  kvCacheBytes: number | undefined,
): number {
  let wanted: number | undefined;
  if (kvCacheBytes !== undefined) {
    const kvPageBytes = pools.reduce((total, { estimate }) => total + estimate.kvPageBytes, 0);
    wanted = Math.floor(kvCacheBytes / kvPageBytes);
    if (wanted < 1) {
      throw new ShardspeedError(
        "ERR_OUT_OF_MEMORY",
        `Found kvCacheBytes ${kvCacheBytes}, which holds no page of the KV cache: ${pageTokens} tokens of this model take ${kvPageBytes} bytes.`,
      );
    }
  }
  return Math.min(...pools.map((pool) => pagesOf(pool, maxSequenceTokens, wanted)));
}

function pagesOf({ estimate, budget }: MemoryPool, maxSequenceTokens: number, wanted: number | undefined): number {
  const { weightBytes, activationBytes, kvPageBytes } = estimate;
  const { availableBytes, place } = budget;
  const contextPages = Math.ceil(maxSequenceTokens / pageTokens);
  const fixedBytes = weightBytes + activationBytes;
  const pagesIn = (share: number) => Math.floor((Math.max(0, availableBytes - fixedBytes) * share) / kvPageBytes);
  const kvCachePages =
    wanted ??
    Math.max(
      Math.min(contextPages, Math.max(pagesIn(largestShare), leastContextTokens / pageTokens)),
      Math.min(defaultContexts * contextPages, pagesIn(defaultShare)),
    );
  const neededBytes = fixedBytes + kvCachePages * kvPageBytes;
  if (neededBytes > availableBytes) {
    throw new ShardspeedError(
      "ERR_OUT_OF_MEMORY",
      `The model needs ${formatBytes(neededBytes)} (weights ${formatBytes(weightBytes)}, KV cache ` +
        `${formatBytes(kvCachePages * kvPageBytes)}, activations ${formatBytes(activationBytes)}), but ${formatBytes(availableBytes)} ` +
        `are available${place}. Use a smaller dtype, or set a smaller kvCacheBytes, max_out_tokens or maxBatchTokens.`,
    );
  }
  return kvCachePages;
}

/** Longest sequence, prompt and new tokens, that model, config and KV cache allow; warns where the last limits it. */
export function limitContext(
  kvCachePages: number,
  maxSequenceTokens: number,
  kvPageBytes: number,
  logger: Logger,
): number {
  const contextTokens = Math.min(maxSequenceTokens, kvCachePages * pageTokens);
  if (contextTokens < maxSequenceTokens) {
    logger.warn(
      `The KV cache of ${formatBytes(kvCachePages * kvPageBytes)} holds ${contextTokens} tokens: sequences are limited to that, not to ${maxSequenceTokens}`,
    );
  }
  return contextTokens;
}

/** @throws ShardspeedError ERR_CONFIG where sequences are limited to fewer tokens than min_out_tokens asks for. */
export function requireContext(contextTokens: number, minSequenceTokens = 1): void {
  if (contextTokens >= minSequenceTokens) return;
  throw new ShardspeedError(
    "ERR_CONFIG",
    `Found min_out_tokens ${minSequenceTokens}, but sequences of no more than ${contextTokens} tokens fit. Lower it, or raise kvCacheBytes ` +
      "or max_out_tokens, unless the model itself has no longer ones.",
  );
}
