import { ShardspeedError } from "../base/errors.js";
import { availableMemoryBytes, processorShare } from "../base/machine.js";
import { formatBytes } from "../base/memory.js";
import { seesLater } from "../engine/model_info.js";
import type { CudaReport, MemoryEstimate, NativeBinding, RankPlan } from "../native/binding.js";
import { mostThreads, pageTokens } from "../native/limits.js";
import { cpuDevice, type Device, describeUnusable, toPlanDevice } from "./device.js";
import { type DraftMemory, planDraftMemory } from "./draft_model.js";
import type { ModelPlan } from "./model_plan.js";
import type { ResolvedInitOptions } from "./options.js";
import type { Placement } from "./placement.js";

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

/** What the ranks of this process take, planned before any of it is taken. */
export interface MemoryPlan {
  /** What it was planned for. */
  readonly ranks: RankPlan;
  /** By rank of this process. */
  readonly estimates: readonly MemoryEstimate[];
  /** Of the model that drafts, if there is one in this process. */
  readonly draft: DraftMemory | undefined;
  /** Of the KV cache; a page is on all ranks, each with its heads. The draft model's cache has as many. */
  readonly kvCachePages: number;
}

/**
 * Divides the memory of the devices that the ranks of this process compute on.
 *
 * @throws ShardspeedError ERR_OUT_OF_MEMORY with what is needed, what there is, and how to need less; ERR_CUDA where a device is gone;
 * ERR_CONFIG for a communicationDtype that the devices do not add up in;
 * ERR_UNSUPPORTED_MODEL where a device's backend does not compute all of the model.
 */
export function planMemory(
  model: ModelPlan,
  placement: Placement,
  options: Pick<ResolvedInitOptions, "threads" | "maxBatchTokens" | "kvCacheBytes" | "communicationDtype" | "logger">,
  binding: NativeBinding,
): MemoryPlan {
  const { spec, dtype, tpSize, maxSequenceTokens } = model;
  const { devices, firstRank, processesOnHost } = placement;
  const threads = chooseThreads(options, devices.length * processesOnHost, devices[0].cudaIndex === undefined);
  const ranks: RankPlan = {
    ...{ spec, dtype, tpSize, firstRank, threads, maxSequenceTokens },
    devices: devices.map(toPlanDevice),
    communicationDtype: checkCommunicationDtype(options.communicationDtype, dtype, devices[0]),
    maxBatchTokens: seesLater(spec) ? Math.max(options.maxBatchTokens, maxSequenceTokens) : options.maxBatchTokens,
  };
  const problem = binding.unsupported(ranks);
  if (problem !== null) {
    throw new ShardspeedError(
      "ERR_UNSUPPORTED_MODEL",
      `This ${spec.family} model cannot be run: ${problem} Leaving it out would change what the model says.`,
    );
  }
  const estimates = binding.estimateMemory(ranks);
  const draft = model.draft && planDraftMemory(model.draft, ranks, binding);
  const onCpu = devices[0].cudaIndex === undefined;
  const budgets = (onCpu ? devices.slice(0, 1) : devices).map((device) => {
    const budget = memoryBudget(device, () => binding.cudaReport(device.cudaIndex));
    return onCpu ? { ...budget, availableBytes: Math.floor(budget.availableBytes / processesOnHost) } : budget;
  });
  // The option is for all ranks together.
  const kvCacheBytes = options.kvCacheBytes && Math.floor((options.kvCacheBytes * devices.length) / tpSize);
  const pools = memoryPools(draft && onCpu ? [...estimates, draft.estimate] : estimates, budgets, onCpu);
  if (draft && !onCpu) {
    pools.push({ estimate: draft.estimate, budget: memoryBudget(cpuDevice, () => binding.cudaReport()) });
  }
  return { ranks, estimates, draft, kvCachePages: planPages(pools, maxSequenceTokens, kvCacheBytes) };
}

/**
 * Whether parts of sums may travel so.
 *
 * @throws ShardspeedError ERR_CONFIG where not.
 */
function checkCommunicationDtype(
  wanted: RankPlan["communicationDtype"],
  dtype: RankPlan["dtype"],
  device: Device,
): RankPlan["communicationDtype"] {
  if (wanted === "float32") return wanted;
  const found = `Found communicationDtype ${wanted}, but`;
  if (device.cudaIndex === undefined)
    throw new ShardspeedError("ERR_CONFIG", `${found} ranks on CPUs add up in float32. Leave it out, or use GPUs.`);
  if (wanted !== dtype) {
    throw new ShardspeedError(
      "ERR_CONFIG",
      `${found} this engine computes in ${dtype}. Use that for both, or leave communicationDtype out.`,
    );
  }
  return wanted;
}

/** Threads of each rank: by default the processors of this process (what a container and its neighbours leave of them), divided among the ranks of the host. */
function chooseThreads(
  { threads: wanted, logger }: Pick<ResolvedInitOptions, "threads" | "logger">,
  ranks: number,
  onCpu: boolean,
): number {
  const processors = processorShare();
  const share = Math.min(mostThreads, Math.max(1, Math.floor(processors / ranks)));
  const threads = wanted ?? share;
  // Threads for a GPU only load the weights.
  if (onCpu && threads * ranks > processors) {
    logger.warn(
      `${threads} threads for each of the ${ranks} ranks on this host are more than the ${processors} processors that this process should use: ` +
        `they will wait for each other. ${threads > share ? `Set threads to ${share}, or leave it out.` : "Use fewer ranks."}`,
    );
  }
  return threads;
}

/** Ranks that share one memory: what they take together, and where. */
interface MemoryPool {
  estimate: MemoryEstimate;
  budget: MemoryBudget;
}

/** The ranks of the CPU share the machine's memory, those of CUDA have a device each. */
function memoryPools(
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
function planPages(pools: readonly MemoryPool[], maxSequenceTokens: number, kvCacheBytes: number | undefined): number {
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

/**
 * The memory that an engine on this device may plan with.
 *
 * @param report What CUDA says now: other engines and processes take memory meanwhile.
 * @throws ShardspeedError ERR_CUDA where the device is not there any more.
 */
export function memoryBudget(device: Device, report: () => CudaReport): MemoryBudget {
  if (device.cudaIndex === undefined) return { availableBytes: availableMemoryBytes(), place: "" };
  const { devices, problem } = report();
  const found = devices.find(({ index }) => index === device.cudaIndex);
  if (found === undefined || !found.usable) {
    const reason = found === undefined ? (problem ?? "CUDA does not show it.") : `${describeUnusable([found])}.`;
    throw new ShardspeedError("ERR_CUDA", `Device ${device.name} cannot be used any more: ${reason}`);
  }
  const reservedBytes = Math.min(found.freeBytes, cudaReserveBytes + cudaReserveShare * found.freeBytes);
  return {
    availableBytes: Math.floor(found.freeBytes - reservedBytes),
    place: ` on ${device.name} (${formatBytes(found.freeBytes)} free, less ${formatBytes(Math.ceil(reservedBytes))} for CUDA itself)`,
  };
}

/** CUDA's own needs beside weights, activations and KV cache: code of kernels, captured graphs. docs/cuda.md names both numbers. */
const cudaReserveBytes = 256 * 2 ** 20;
const cudaReserveShare = 0.02;
