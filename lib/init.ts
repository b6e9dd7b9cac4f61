import { join } from "node:path";
import { openCheckpoint } from "./checkpoint/index.js";
import { resolveConfig } from "./config.js";
import { chooseDtype, memoryBudget, toPlanDevice } from "./device.js";
import { Engine } from "./engine.js";
import { invalidArgument, ShardspeedError } from "./errors.js";
import { abortedError } from "./generation.js";
import { loadNative } from "./load_native.js";
import type { Logger } from "./logger.js";
import { formatBytes, planMemory } from "./memory.js";
import { readModelConfig } from "./model_folder.js";
import { describeModel, type ModelDescription, resolveWeights } from "./models/index.js";
import type { ModelSpec, WeightPlan } from "./models/spec.js";
import type { EnginePlan, NativeBinding } from "./native.js";
import {
  type GenerationDefaults,
  type InitOptions,
  loadGenerationDefaults,
  type ResolvedInitOptions,
  resolveInitOptions,
} from "./options.js";
import { Session } from "./session.js";
import { loadTokenizer, type Tokenizer } from "./tokenizer/index.js";

/**
 * Loads a model and starts its engine, as `deepspeed.init_inference()` does in Python.
 *
 * @param model A Hugging Face model folder: config.json, weights, and where there is one a tokenizer.
 * @returns When the model can generate.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, ERR_CONFIG, ERR_UNSUPPORTED_MODEL, ERR_CHECKPOINT, ERR_TOKENIZER, ERR_OUT_OF_MEMORY,
 * ERR_CUDA, ERR_NATIVE or ERR_ABORTED. Nothing stays behind then: no thread, no memory, no open file.
 */
export async function initInference(model: string, options?: InitOptions): Promise<Engine> {
  if (typeof model !== "string" || model === "") throw invalidArgument("model", "the path of a model folder", model);
  const resolved = resolveInitOptions(options);
  const { logger, signal } = resolved;
  if (signal?.aborted) throw abortedError(signal);
  const config = await resolveConfig(resolved.config, logger);
  const description = describeFolder(model, await readModelConfig(model), logger);
  const checkpoint = await openCheckpoint(model, { logger, ...(signal ? { signal } : {}) });
  const { spec, files, weights, storedDtype } = resolveWeights(description, checkpoint, { logger });
  const [tokenizer, generationDefaults] = await Promise.all([loadTokenizer(model), loadGenerationDefaults(model)]);
  return startEngine(
    {
      spec,
      weights: { files, weights },
      dtype: chooseDtype(config.dtype, storedDtype, resolved.device, logger),
      maxSequenceTokens: Math.min(spec.maxPositions, config.maxOutTokens ?? Number.POSITIVE_INFINITY),
      tokenizer,
      generationDefaults,
    },
    resolved,
  );
}

function describeFolder(folder: string, config: unknown, logger: Logger): ModelDescription {
  try {
    return describeModel(config, { logger });
  } catch (error) {
    if (!(error instanceof ShardspeedError)) throw error;
    throw new ShardspeedError(error.code, `${join(folder, "config.json")}: ${error.message}`, { cause: error });
  }
}

/** A model that is ready to be loaded. */
export interface PreparedModel {
  spec: ModelSpec;
  /** Null: random weights. */
  weights: WeightPlan | null;
  dtype: EnginePlan["dtype"];
  maxSequenceTokens: number;
  tokenizer: Tokenizer | undefined;
  generationDefaults: GenerationDefaults;
}

/** Plans the memory, loads and waits until the model can generate. */
export async function startEngine(
  model: PreparedModel,
  options: ResolvedInitOptions,
  binding: NativeBinding = loadNative(),
): Promise<Engine> {
  const { spec, weights, dtype } = model;
  const plan: EnginePlan = {
    spec,
    weights,
    dtype,
    device: toPlanDevice(options.device),
    threads: options.threads,
    maxSequenceTokens: model.maxSequenceTokens,
    maxBatchTokens: options.maxBatchTokens,
    kvCachePages: 0,
  };
  const memory = planMemory(
    binding.estimateMemory({ ...plan, weights: null }),
    model.maxSequenceTokens,
    options.kvCacheBytes,
    memoryBudget(options.device, () => binding.cudaReport(options.device.cudaIndex)),
    options.logger,
  );
  plan.kvCachePages = memory.kvCachePages;
  plan.maxSequenceTokens = memory.contextTokens;
  const session = await openSession(binding, plan, options);
  try {
    return toEngine(session, model, options, memory.contextTokens);
  } catch (error) {
    await session.close(); // a logger that throws, say
    throw error;
  }
}

function toEngine(session: Session, model: PreparedModel, options: ResolvedInitOptions, contextTokens: number): Engine {
  const { spec, weights, dtype, tokenizer, generationDefaults } = model;
  const { weightBytes, kvCacheBytes } = session.stats();
  const { device, threads } = options;
  options.logger.info(
    `Loaded ${spec.family} on ${device.name}: weights ${formatBytes(weightBytes)} as ${dtype}, KV cache ${formatBytes(kvCacheBytes)}, ` +
      `${device.cudaIndex === undefined ? `${threads} threads, ` : ""}sequences of up to ${contextTokens} tokens`,
  );
  const tensors = (weights?.weights ?? []).map(({ role, tensor, shape }) => ({ role, name: tensor, shape }));
  return new Engine({
    session,
    module: { spec, dtype, devices: [device.name], tensors },
    tokenizer,
    generationDefaults,
    contextTokens,
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
  const onAbort = () => interrupt(abortedError(signal as AbortSignal));
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
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
    signal?.removeEventListener("abort", onAbort);
  }
}
