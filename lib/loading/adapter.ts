import { ShardspeedError } from "../base/errors.js";
import { findModelFolder } from "../base/hub_cache.js";
import type { ResolvedConfig } from "../deepspeed_config/engine_config.js";
import type { AdapterInfo } from "../engine/model_info.js";
import { type Adapter, openAdapter } from "../models/adapters/adapter.js";
import type { LowRankAddition } from "../native/spec.js";
import type { ResolvedInitOptions } from "./options.js";

/**
 * The adapter that the options name.
 *
 * @throws ShardspeedError ERR_CHECKPOINT, ERR_UNSUPPORTED_MODEL, ERR_ABORTED; ERR_CONFIG where the merged model would have to be written.
 */
export async function findAdapter(
  { adapter, logger, signal }: Pick<ResolvedInitOptions, "adapter" | "logger" | "signal">,
  config?: Pick<ResolvedConfig, "saveMpCheckpointPath">,
): Promise<Adapter | undefined> {
  if (adapter === undefined) return undefined;
  if (config?.saveMpCheckpointPath !== undefined) {
    throw new ShardspeedError(
      "ERR_CONFIG",
      "Found adapter in the options and save_mp_checkpoint_path in the config: shards of a model with an adapter are not written. Remove one of them.",
    );
  }
  const folder = await findModelFolder(adapter, "ERR_CHECKPOINT");
  return await openAdapter(folder, { logger, ...(signal ? { signal } : {}) });
}

export function describeAdapter(
  { folder, config, factors, replacements }: Adapter,
  additions: readonly LowRankAddition[] = [],
): AdapterInfo {
  return {
    folder,
    method: config.usesDora ? "DoRA" : "LoRA",
    modules: factors.size,
    rank: additions.reduce((largest, { right }) => Math.max(largest, right.shape[0] as number), 0),
    replacedTensors: replacements.size,
  };
}
