import { stat } from "node:fs/promises";
import { ShardspeedError } from "../base/errors.js";
import { describeMissingFolder } from "../base/foreign_model.js";
import { findModelFolder } from "../base/hub_cache.js";
import type { RankPlan } from "../native/binding.js";
import { readModelConfig } from "./auto_config.js";
import type { MetaModel } from "./meta_model.js";

/** What initInference was given: a folder, or a model that was made from a config alone. */
export interface ModelSource {
  /** Where config.json came from; undefined for a config that was made by hand. */
  folder: string | undefined;
  /** Whether the folder is the model, or only that of its config. */
  isMeta: boolean;
  /** The parsed config.json. */
  config: unknown;
  /** The dtype that the model was made with, where the DeepSpeed config names none. */
  dtype: RankPlan["dtype"] | undefined;
}

/**
 * The model's folder, or the config and dtype of a meta model.
 *
 * @throws ShardspeedError ERR_CHECKPOINT, ERR_ABORTED.
 */
export async function readSource(model: string | MetaModel, signal: AbortSignal | undefined): Promise<ModelSource> {
  if (typeof model !== "string")
    return { folder: model.folder, isMeta: true, config: model.config, dtype: model.dtype };
  const folder = await findModelFolder(model, "ERR_CHECKPOINT");
  await stat(folder).catch((cause) => {
    // With its cause, as other files that cannot be read: a group then keeps the code where all ranks fail alike.
    throw new ShardspeedError("ERR_CHECKPOINT", `${describeMissingFolder(model)}.`, { cause });
  });
  return { folder, isMeta: false, config: await readModelConfig(folder, signal), dtype: undefined };
}
