import { throwIfAborted } from "../base/abort.js";
import { invalidArgument } from "../base/errors.js";
import { type ResolvedConfig, rejectConflicts, resolveConfig, withOptions } from "../deepspeed_config/engine_config.js";
import type { Engine } from "../engine/engine.js";
import { readLaunchEnvironment } from "../launch/environment.js";
import { describeReplicas, findGroup } from "../launch/group.js";
import { loadNative } from "../native/load.js";
import { planDraft } from "./draft_model.js";
import { MetaModel } from "./meta_model.js";
import { planModel } from "./model_plan.js";
import { readSource } from "./model_source.js";
import { type InitOptions, type ResolvedInitOptions, resolveInitOptions } from "./options.js";
import { alone, type Placement, placeInGroup, placeLocally } from "./placement.js";
import { startInGroup, startLocally } from "./start.js";

/**
 * Loads a model and starts its engine, as `deepspeed.init_inference()` does in Python. Under a launcher (torchrun, Slurm, MPI, Kubernetes,
 * `shardspeed run`) with a tp_size above 1, all ranks call it and get an engine; `engine.isDriver` is true on rank 0.
 *
 * @param model A Hugging Face model folder (config.json, weights, usually a tokenizer), the name of a model in the Hugging Face cache, or a meta model of modelFromConfig(). The weights of a
 * meta model come from `checkpoint`, else from the folder `baseDir`, else from the folder of its config.
 * @returns The engine, ready to generate.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, ERR_CONFIG, ERR_UNSUPPORTED_MODEL, ERR_CHECKPOINT, ERR_TOKENIZER, ERR_OUT_OF_MEMORY,
 * ERR_CUDA, ERR_COMM, ERR_NATIVE or ERR_ABORTED. All threads, memory and open files are then freed.
 */
export async function initInference(model: string | MetaModel, options?: InitOptions): Promise<Engine> {
  if (!MetaModel.isInstance(model) && (typeof model !== "string" || model === "")) {
    throw invalidArgument("model", "the path of a model folder, or what modelFromConfig() made", model);
  }
  const { resolved, config } = readInitOptions(options);
  const launch = readLaunchEnvironment();
  const group = findGroup(config.tpSize, launch);
  const replicas = describeReplicas(config.tpSize, launch);
  if (replicas !== undefined) resolved.logger.warn(replicas);
  const report = () => loadNative().cudaReport();
  const plan = async ({ devices, firstRank }: Placement) => {
    const planned = await planModel(await readSource(model, resolved.signal), config, devices[0], resolved);
    // Other ranks compute what rank 0 tells them.
    return firstRank === 0 ? { ...planned, draft: await planDraft(planned, config, resolved) } : planned;
  };
  if (group !== undefined) {
    const prepare = async () => {
      const placement = placeInGroup(resolved, group, report);
      return { placement, model: await plan(placement) };
    };
    return startInGroup(group, prepare, resolved, loadNative());
  }
  const placement = placeLocally(resolved, config.tpSize, launch ?? alone, report);
  return startLocally(await plan(placement), placement, resolved, loadNative());
}

/**
 * Checks the options and their config, and that these do not contradict each other. Reads no other file than that of the config.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, ERR_CONFIG, ERR_ABORTED.
 */
export function readInitOptions(options: unknown): { resolved: ResolvedInitOptions; config: ResolvedConfig } {
  const resolved = resolveInitOptions(options);
  throwIfAborted(resolved.signal);
  const given = resolveConfig(resolved.config, resolved.logger);
  rejectConflicts(given, resolved);
  return { resolved, config: withOptions(given, resolved) };
}
