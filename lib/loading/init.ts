import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import { onAbort, throwIfAborted } from "../base/abort.js";
import { type ErrorCode, invalidArgument, ShardspeedError } from "../base/errors.js";
import { formatBytes } from "../base/memory.js";
import { rejectConflicts, resolveConfig } from "../deepspeed_config/index.js";
import { Engine } from "../engine/engine.js";
import { Session } from "../engine/session.js";
import { type LaunchEnvironment, readLaunchEnvironment } from "../launch/environment.js";
import { findGroup, type GroupPlace, type Introduction, meetGroup, openLeaderListener } from "../launch/group.js";
import { roleTensors } from "../models/index.js";
import type { EnginePlan, GroupPlan, NativeBinding } from "../native/binding.js";
import { loadNative } from "../native/load.js";
import { type SaveShardsOptions, saveShardIndex, saveShards } from "../shards/save.js";
import { type Device, localRankDevice, memoryBudget, rankDevices, toPlanDevice } from "./device.js";
import { limitContext, memoryPools, planPages, requireContext } from "./memory.js";
import { MetaModel } from "./meta_model.js";
import { readModelConfig } from "./model_folder.js";
import { type InitOptions, type ResolvedInitOptions, resolveInitOptions } from "./options.js";
import { type ModelSource, type PreparedModel, prepareModel } from "./prepare_model.js";
import { shardedTensors } from "./sharding.js";

/**
 * Loads a model and starts its engine, as `deepspeed.init_inference()` does in Python. Under a launcher (torchrun, Slurm, MPI, Kubernetes,
 * `shardspeed run`) with a tp_size above 1 all ranks call it, and it returns on all of them: engine.isDriver tells them apart.
 *
 * @param model A Hugging Face model folder (config.json, weights, and where there is one a tokenizer), or a meta model of modelFromConfig(),
 * whose weights are those of `checkpoint`, or of the folder `baseDir`, or of the folder that its config came from.
 * @returns When the model can generate.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, ERR_CONFIG, ERR_UNSUPPORTED_MODEL, ERR_CHECKPOINT, ERR_TOKENIZER, ERR_OUT_OF_MEMORY,
 * ERR_CUDA, ERR_COMM, ERR_NATIVE or ERR_ABORTED. Nothing stays behind then: no thread, no memory, no open file.
 */
export async function initInference(model: string | MetaModel, options?: InitOptions): Promise<Engine> {
  if (!MetaModel.isInstance(model) && (typeof model !== "string" || model === "")) {
    throw invalidArgument("model", "the path of a model folder, or what modelFromConfig() made", model);
  }
  const resolved = resolveInitOptions(options);
  throwIfAborted(resolved.signal);
  const config = resolveConfig(resolved.config, resolved.logger);
  rejectConflicts(config, resolved);
  const prepare = async () => prepareModel(await readSource(model), config, resolved);
  const launch = readLaunchEnvironment();
  const place = findGroup(config.tpSize, launch);
  return place
    ? startRank(place, prepare, resolved)
    : startEngine(await prepare(), resolved, loadNative(), launch ?? alone);
}

/** The model's folder, or the config and dtype of a meta model. */
async function readSource(model: string | MetaModel): Promise<ModelSource> {
  if (typeof model !== "string")
    return { folder: model.folder, isMeta: true, config: model.config, dtype: model.dtype };
  return { folder: model, isMeta: false, config: await readModelConfig(model), dtype: undefined };
}

/** Of a process that was started without others. */
const alone = { localRank: 0, localWorldSize: 1 };

/**
 * Plans the memory, loads and waits until the model can generate. All ranks are in this process.
 *
 * @param place Of several processes that were started together, each with the whole model: they share what this host has.
 */
export async function startEngine(
  model: PreparedModel,
  options: ResolvedInitOptions,
  binding: NativeBinding = loadNative(),
  { localRank, localWorldSize }: Pick<LaunchEnvironment, "localRank" | "localWorldSize"> = alone,
): Promise<Engine> {
  const { tpSize = 1 } = model;
  const report = () => binding.cudaReport();
  const devices =
    localWorldSize > 1
      ? [localRankDevice(options.device, options.deviceName, localRank, localWorldSize, report)]
      : rankDevices(options.device, options.deviceName, tpSize, report, options.logger);
  const plan = makePlan(model, devices, tpSize * localWorldSize, options);
  planMemory(plan, devices, localWorldSize, options.kvCacheBytes, model, binding);
  const saving = toSaving(model, options);
  if (saving) {
    await saveShards(binding, saving, [...saving.layout.ranks.keys()], true);
    await saveShardIndex(saving);
  }
  const names = devices.map(({ name }) => name);
  return openEngine(plan, names, model, options, binding);
}

/** The same for one rank of several processes. */
async function startRank(
  place: GroupPlace,
  prepare: () => Promise<PreparedModel>,
  options: ResolvedInitOptions,
  binding: NativeBinding = loadNative(),
): Promise<Engine> {
  const { logger, signal, commTimeoutMs, rendezvousTimeoutMs } = options;
  const { localRank, localWorldSize } = place.launch;
  let listener: { descriptor: number; port: number } | undefined;
  let planned: { model: PreparedModel; plan: EnginePlan } | undefined;
  let failure: unknown;
  const mine: Introduction = { device: "", kvCachePages: 0, settings: {} };
  try {
    const report = () => binding.cudaReport();
    const device = localRankDevice(options.device, options.deviceName, localRank, localWorldSize, report);
    const model = await prepare();
    const plan = makePlan(model, [device], localWorldSize, options);
    // Ranks are numbered for the native side's sake; how they meet is known later.
    plan.group = { ...unmet, rank: place.rank, size: place.size };
    const share = options.kvCacheBytes === undefined ? undefined : Math.floor(options.kvCacheBytes / place.size);
    planMemory(plan, [device], localWorldSize, share, model, binding);
    const saving = toSaving(model, options);
    if (saving) await saveShards(binding, saving, [place.rank], place.rank === 0);
    if (place.rank === 0) listener = openLeaderListener(place, binding);
    planned = { model, plan };
    Object.assign(mine, { device: device.name, kvCachePages: plan.kvCachePages, settings: settingsOf(plan, device) });
    if (listener) mine.port = listener.port;
  } catch (error) {
    failure = error;
    mine.failure = {
      code: ShardspeedError.isInstance(error) ? error.code : "ERR_NATIVE",
      message: (error as Error).message,
    };
  }
  try {
    const meeting = await meetGroup(place, mine, failure, {
      ...{ commTimeoutMs, rendezvousTimeoutMs, signal, logger },
      listener: listener?.descriptor ?? -1,
    });
    const { model, plan } = planned as { model: PreparedModel; plan: EnginePlan };
    plan.group = meeting.plan;
    plan.kvCachePages = meeting.kvCachePages;
    listener = undefined; // the engine's from here on
    const engine = await openEngine(plan, meeting.devices, model, options, binding);
    const saving = place.rank === 0 ? toSaving(model, options) : undefined;
    // Every rank has come, so all have written their files.
    if (saving) await saveShardIndex(saving).catch((error) => engine.dispose().then(() => Promise.reject(error)));
    return engine;
  } catch (error) {
    if (listener) binding.closeListener(listener.descriptor);
    throw asGroupFailure(error, place);
  }
}

function toSaving(
  { shards, weights, dtype }: PreparedModel,
  { signal, onProgress }: ResolvedInitOptions,
): SaveShardsOptions | undefined {
  if (shards === undefined || weights === null) return undefined;
  const report =
    onProgress && ((savedBytes: number, totalBytes: number) => onProgress({ phase: "save", savedBytes, totalBytes }));
  return { ...shards, files: weights.files, dtype, signal, onProgress: report };
}

const unmet: GroupPlan = {
  ...{ rank: 0, size: 1, listener: -1, leaderHost: "", leaderPort: 0 },
  ...{ key: new Uint8Array(32), silenceLimitMs: 0 },
};

/** A rank that cannot load ends the group: all ranks hear that with one code, this one with the cause too. */
function asGroupFailure(error: unknown, { rank }: GroupPlace): unknown {
  const local: ErrorCode[] = ["ERR_CHECKPOINT", "ERR_OUT_OF_MEMORY", "ERR_CUDA", "ERR_NATIVE"];
  if (!ShardspeedError.isInstance(error) || !local.includes(error.code) || error.cause !== undefined) return error;
  return new ShardspeedError("ERR_COMM", `Rank ${rank} could not load: ${error.message} (${error.code})`, {
    cause: error,
  });
}

/** What ranks that compute together must have in common. */
function settingsOf(plan: EnginePlan, device: Device): Introduction["settings"] {
  const tensors =
    plan.weights && roleTensors(plan.weights.weights).map(({ role, dtype, shape }) => [role, dtype, shape]);
  return {
    model: createHash("sha256")
      .update(JSON.stringify([plan.spec, tensors]))
      .digest("hex")
      .slice(0, 16),
    dtype: plan.dtype,
    device: device.cudaIndex === undefined ? "cpu" : "cuda",
    maxBatchTokens: plan.maxBatchTokens,
    "longest sequence": plan.maxSequenceTokens,
  };
}

function makePlan(
  { spec, weights, dtype, maxSequenceTokens }: PreparedModel,
  devices: readonly Device[],
  ranksOnHost: number,
  { threads, maxBatchTokens }: ResolvedInitOptions,
): EnginePlan {
  return {
    ...{ spec, weights, dtype, maxSequenceTokens, maxBatchTokens },
    devices: devices.map(toPlanDevice),
    group: null,
    threads: threads ?? Math.min(1024, Math.max(1, Math.floor(availableParallelism() / ranksOnHost))),
    kvCachePages: 0,
  };
}

/** @param ranksOnHost Processes that plan with the same memory of this host. */
function planMemory(
  plan: EnginePlan,
  devices: readonly Device[],
  ranksOnHost: number,
  kvCacheBytes: number | undefined,
  { maxSequenceTokens }: PreparedModel,
  binding: NativeBinding,
): void {
  const estimates = binding.estimateMemory({ ...plan, weights: null });
  const onCpu = devices[0]?.cudaIndex === undefined;
  const budgets = (onCpu ? devices.slice(0, 1) : devices).map((device) => {
    const budget = memoryBudget(device, () => binding.cudaReport(device.cudaIndex));
    return onCpu ? { ...budget, availableBytes: Math.floor(budget.availableBytes / ranksOnHost) } : budget;
  });
  plan.kvCachePages = planPages(memoryPools(estimates, budgets, onCpu), maxSequenceTokens, kvCacheBytes);
}

async function openEngine(
  plan: EnginePlan,
  devices: string[],
  model: PreparedModel,
  options: ResolvedInitOptions,
  binding: NativeBinding,
): Promise<Engine> {
  const estimates = binding.estimateMemory({ ...plan, weights: null });
  const kvPageBytes = estimates.reduce((total, estimate) => total + estimate.kvPageBytes, 0);
  plan.maxSequenceTokens = limitContext(plan.kvCachePages, model.maxSequenceTokens, kvPageBytes, options.logger);
  requireContext(plan.maxSequenceTokens, model.minSequenceTokens);
  const session = await openSession(binding, plan, options);
  try {
    return toEngine(session, plan, devices, model, options, binding);
  } catch (error) {
    await session.close(); // a logger that throws, say
    throw error;
  }
}

function toEngine(
  session: Session,
  plan: EnginePlan,
  devices: string[],
  { tokenizer, generationDefaults }: PreparedModel,
  options: ResolvedInitOptions,
  binding: NativeBinding,
): Engine {
  const { spec, weights, dtype, maxSequenceTokens: contextTokens } = plan;
  const tensors = roleTensors(weights?.weights ?? []);
  const rank = plan.group?.rank ?? 0;
  const memory = session.stats().memory;
  const total = (key: "weightBytes" | "kvCacheBytes") => formatBytes(memory.reduce((sum, of) => sum + of[key], 0));
  const places = [...new Set(devices)].join(", ");
  const ranks = devices.length === 1 ? "" : ` in ${devices.length} ranks${plan.group ? ` (this is ${rank})` : ""}`;
  options.logger.info(
    `Loaded ${spec.family} on ${places}${ranks}: weights ${total("weightBytes")} as ${dtype}, KV cache ${total("kvCacheBytes")}, ` +
      `${options.device.cudaIndex === undefined ? `${plan.threads} threads${devices.length === 1 ? "" : " each"}, ` : ""}sequences of up to ${contextTokens} tokens`,
  );
  const held = devices.length === 1 ? undefined : binding.shardShapes({ ...plan, weights: null });
  return new Engine({
    session,
    module: {
      ...{ spec, dtype, devices },
      tensors: held
        ? shardedTensors(tensors, held)
        : tensors.map(({ role, tensor, shape }) => ({ role, name: tensor, shape })),
    },
    tokenizer,
    generationDefaults,
    contextTokens,
    rank,
  });
}

/** Starts the native engine and waits until its model is loaded. Whatever ends that earlier, nothing of it stays behind. */
async function openSession(binding: NativeBinding, plan: EnginePlan, options: ResolvedInitOptions): Promise<Session> {
  const { signal, onProgress } = options;
  let interrupt: (error: unknown) => void = () => {};
  const interrupted = new Promise<never>((_, reject) => {
    interrupt = reject;
  });
  interrupted.catch(() => {}); // the race below takes it, or something else has ended the call by then
  const stopListening = onAbort(signal, interrupt);
  const report = (loadedBytes: number, totalBytes: number) => {
    try {
      onProgress?.({ phase: "load", loadedBytes, totalBytes });
    } catch (error) {
      interrupt(error); // the caller's own: it ends the call that it belongs to
    }
  };
  let session: Session | undefined;
  try {
    session = new Session(binding, plan, report);
    const loadMs = await Promise.race([session.ready, interrupted]);
    onProgress?.({ phase: "ready", loadMs });
    return session;
  } catch (error) {
    await session?.close();
    throw error;
  } finally {
    stopListening();
  }
}
