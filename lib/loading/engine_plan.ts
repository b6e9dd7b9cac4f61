import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { formatBytes } from "../base/memory.js";
import type { EnginePlan, GroupPlan } from "../native/binding.js";
import { pageTokens } from "../native/limits.js";
import type { MemoryPlan } from "./memory_plan.js";
import type { ModelPlan } from "./model_plan.js";
import type { ResolvedInitOptions } from "./options.js";
import type { ResolvedSpeculation } from "./speculation.js";

/** What ranks that are processes have agreed on when they met. */
export interface Agreement {
  readonly plan: GroupPlan;
  /** What every one of them has memory for. */
  readonly kvCachePages: number;
}

/**
 * All that the native engine is told.
 *
 * @param agreement Undefined where all ranks are in this process.
 * @throws ShardspeedError ERR_CONFIG where sequences are limited to fewer tokens than min_out_tokens asks for.
 */
export function planEngine(
  model: ModelPlan,
  memory: MemoryPlan,
  agreement: Agreement | undefined,
  { speculation, prefixCache, logger }: Pick<ResolvedInitOptions, "speculation" | "prefixCache" | "logger">,
): EnginePlan {
  const kvCachePages = agreement?.kvCachePages ?? memory.kvCachePages;
  const kvPageBytes = memory.estimates.reduce((total, estimate) => total + estimate.kvPageBytes, 0);
  const maxSequenceTokens = limitContext(kvCachePages, model.maxSequenceTokens, kvPageBytes, logger);
  requireContext(maxSequenceTokens, model.minSequenceTokens);
  return {
    ...{ ...memory.ranks, maxSequenceTokens, weights: model.weights, kvCachePages },
    lookup: speculation?.method === "ngram" ? toLookup(speculation) : null,
    draft: toDraft(model, memory, maxSequenceTokens, kvCachePages),
    prefixCache,
    weighsDrafts: speculation?.adaptive ?? true,
    group: agreement?.plan ?? null,
  };
}

function toLookup({
  draftTokens,
  minMatch,
  maxMatch,
}: ResolvedSpeculation & { method: "ngram" }): EnginePlan["lookup"] {
  return { draftTokens, minMatch, maxMatch };
}

function toDraft(
  { draft }: ModelPlan,
  memory: MemoryPlan,
  maxSequenceTokens: number,
  kvCachePages: number,
): EnginePlan["draft"] {
  if (draft === undefined || memory.draft === undefined) return null;
  const { ranks } = memory.draft;
  const { weights } = draft.model;
  const longest = Math.min(ranks.maxSequenceTokens, maxSequenceTokens);
  return {
    draftTokens: draft.draftTokens,
    model: { ...ranks, maxSequenceTokens: longest, weights, kvCachePages },
  };
}

/** Longest sequence, prompt and new tokens, that model, config and KV cache allow; warns where the last limits it. */
function limitContext(kvCachePages: number, maxSequenceTokens: number, kvPageBytes: number, logger: Logger): number {
  const contextTokens = Math.min(maxSequenceTokens, kvCachePages * pageTokens);
  if (contextTokens < maxSequenceTokens) {
    logger.warn(
      `The KV cache of ${formatBytes(kvCachePages * kvPageBytes)} holds ${contextTokens} tokens: sequences are limited to that, not to ${maxSequenceTokens}`,
    );
  }
  return contextTokens;
}

/** @throws ShardspeedError ERR_CONFIG where sequences are limited to fewer tokens than min_out_tokens asks for. */
function requireContext(contextTokens: number, minSequenceTokens: number): void {
  if (contextTokens >= minSequenceTokens) return;
  throw new ShardspeedError(
    "ERR_CONFIG",
    `Found min_out_tokens ${minSequenceTokens}, but sequences of no more than ${contextTokens} tokens fit. Lower it, or raise kvCacheBytes ` +
      "or max_out_tokens, unless the model itself has no longer ones.",
  );
}
