import { createHash } from "node:crypto";
import { type ErrorCode, ShardspeedError } from "../base/errors.js";
import type { Engine } from "../engine/engine.js";
import { type GroupPlace, type Introduction, meetGroup, openLeaderListener } from "../launch/group.js";
import { roleTensors } from "../models/index.js";
import type { NativeBinding } from "../native/binding.js";
import { type SaveShardsOptions, saveShardIndex, saveShards } from "../shards/save.js";
import { planEngine } from "./engine_plan.js";
import { type MemoryPlan, planMemory } from "./memory_plan.js";
import type { ModelPlan } from "./model_plan.js";
import { openEngine } from "./open_engine.js";
import type { ResolvedInitOptions } from "./options.js";
import type { Placement } from "./placement.js";

/** Plans the memory, loads and waits until the model can generate. All ranks are in this process. */
export async function startLocally(
  model: ModelPlan,
  placement: Placement,
  options: ResolvedInitOptions,
  binding: NativeBinding,
): Promise<Engine> {
  const memory = planMemory(model, placement, options, binding);
  const plan = planEngine(model, memory, undefined, options);
  const saving = toSaving(model, options);
  if (saving) {
    await saveShards(binding, saving, [...saving.layout.ranks.keys()], true);
    await saveShardIndex(saving);
  }
  const names = placement.devices.map(({ name }) => name);
  return openEngine(plan, model, names, options, binding);
}

/** A rank of several processes that has all it needs, and has not met the others yet. */
interface PreparedRank {
  model: ModelPlan;
  memory: MemoryPlan;
  introduction: Introduction;
  /** Of rank 0: its descriptor must be closed where no engine takes it over. */
  listener: { descriptor: number; port: number } | undefined;
}

/**
 * The same for one rank of several processes. Whatever it fails with before the ranks have met, the others hear of it.
 *
 * @param plan Places the rank and plans its model.
 * @throws ShardspeedError What this rank has failed with where all ranks have; else ERR_COMM, with the cause where that is here.
 */
export async function startInGroup(
  place: GroupPlace,
  plan: () => Promise<{ placement: Placement; model: ModelPlan }>,
  options: ResolvedInitOptions,
  binding: NativeBinding,
): Promise<Engine> {
  const { logger, signal, commTimeoutMs, rendezvousTimeoutMs } = options;
  let rank: PreparedRank | undefined;
  let failure: unknown;
  try {
    rank = await prepareRank(place, await plan(), options, binding);
  } catch (error) {
    failure = error;
  }
  let listener = rank?.listener;
  try {
    const meeting = await meetGroup(place, rank?.introduction ?? introduceFailure(failure), failure, {
      ...{ commTimeoutMs, rendezvousTimeoutMs, signal, logger },
      listener: listener?.descriptor ?? -1,
    });
    if (rank === undefined) throw failure; // meetGroup() has thrown by now
    const { model, memory } = rank;
    const enginePlan = planEngine(model, memory, meeting, options);
    listener = undefined; // the engine's from here on
    const engine = await openEngine(enginePlan, model, meeting.devices, options, binding);
    const saving = place.rank === 0 ? toSaving(model, options) : undefined;
    // Every rank has come, so all have written their files.
    if (saving) await saveShardIndex(saving).catch((error) => engine.dispose().then(() => Promise.reject(error)));
    return engine;
  } catch (error) {
    if (listener) binding.closeListener(listener.descriptor);
    throw asGroupFailure(error, place);
  }
}

async function prepareRank(
  place: GroupPlace,
  { placement, model }: { placement: Placement; model: ModelPlan },
  options: ResolvedInitOptions,
  binding: NativeBinding,
): Promise<PreparedRank> {
  const memory = planMemory(model, placement, options, binding);
  const saving = toSaving(model, options);
  if (saving) await saveShards(binding, saving, [place.rank], place.rank === 0);
  const settings = settingsOf(model, memory);
  const [device] = placement.devices;
  const listener = place.rank === 0 ? openLeaderListener(place, binding) : undefined;
  const introduction: Introduction = {
    ...{ device: device.name, kvCachePages: memory.kvCachePages, settings },
    ...(listener === undefined ? {} : { port: listener.port }),
  };
  return { model, memory, introduction, listener };
}

function introduceFailure(error: unknown): Introduction {
  const code = ShardspeedError.isInstance(error) ? error.code : "ERR_NATIVE";
  return { device: "", kvCachePages: 0, settings: {}, failure: { code, message: (error as Error).message } };
}

function toSaving(
  { shards, weights, dtype }: ModelPlan,
  { signal, onProgress }: ResolvedInitOptions,
): SaveShardsOptions | undefined {
  if (shards === undefined || weights === null) return undefined;
  const report =
    onProgress && ((savedBytes: number, totalBytes: number) => onProgress({ phase: "save", savedBytes, totalBytes }));
  return { ...shards, files: weights.files, dtype, signal, onProgress: report };
}

/** A rank that cannot load ends the group: all ranks hear that with one code, this one with the cause too. */
function asGroupFailure(error: unknown, { rank }: GroupPlace): unknown {
  const local: ErrorCode[] = ["ERR_CHECKPOINT", "ERR_OUT_OF_MEMORY", "ERR_CUDA", "ERR_NATIVE"];
  if (!ShardspeedError.isInstance(error) || !local.includes(error.code) || error.cause !== undefined) return error;
  return new ShardspeedError("ERR_COMM", `Rank ${rank} could not load: ${error.message} (${error.code})`, {
    cause: error,
  });
}

/** What ranks that compute together must have in common. */
function settingsOf({ spec, weights, dtype }: ModelPlan, { ranks }: MemoryPlan): Introduction["settings"] {
  const tensors = weights && roleTensors(weights.weights).map(({ role, dtype, shape }) => [role, dtype, shape]);
  const added = weights?.additions?.map(({ role, scale, right }) => [role, scale, right.shape]);
  return {
    model: createHash("sha256")
      .update(JSON.stringify(added ? [spec, tensors, added] : [spec, tensors]))
      .digest("hex")
      .slice(0, 16),
    dtype,
    "communication dtype": ranks.communicationDtype,
    device: ranks.devices[0] === "cpu" ? "cpu" : "cuda",
    maxBatchTokens: ranks.maxBatchTokens,
    "longest sequence": ranks.maxSequenceTokens,
  };
}
