import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { orAborted, throwIfAborted } from "../base/abort.js";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { describeForeignModel, describeMissingFolder } from "../base/foreign_model.js";
import { findModelFolder } from "../base/hub_cache.js";
import { parseJson, readTextIfThere } from "../base/json.js";
import { isObject } from "../base/objects.js";
import { OptionReader } from "../base/option_reader.js";
import { fileLimits } from "../base/regular_file.js";

/** The content of a model's config.json. */
export interface ModelConfig {
  /** The model's family, such as "opt". */
  model_type?: string;
  [key: string]: unknown;
}

/** Apart from the configs, whose keys are the file's alone. */
const folders = new WeakMap<object, string>();

/** The folder that a config was read from, as an absolute path; undefined for an object that AutoConfig did not make. */
export function modelConfigFolder(config: object): string | undefined {
  return folders.get(config);
}

/** Reads the config.json of a model, as in transformers. */
export class AutoConfig {
  /**
   * Reads the config.json of a model folder.
   *
   * @param folder A folder with config.json. A relative path is searched in the working directory, then in the model folder of the calling
   * handler. A name of the Hub is searched in the cache of Hugging Face; nothing is downloaded.
   * @param options.signal Cancels the call with ERR_ABORTED.
   * @returns The parsed file, for modelFromConfig().
   * @throws ShardspeedError ERR_CHECKPOINT if the file does not exist or cannot be read.
   */
  static async fromPretrained(folder: string, options?: { signal?: AbortSignal }): Promise<ModelConfig> {
    if (typeof folder !== "string" || folder === "") {
      throw invalidArgument("folder", "the path of a model folder", folder);
    }
    const signal = new OptionReader("AutoConfig.fromPretrained option", options, ["signal"]).signal("signal");
    throwIfAborted(signal);
    return orAborted(AutoConfig.#read(folder), signal);
  }

  static async #read(folder: string): Promise<ModelConfig> {
    const path = await findModelFolder(folder, "ERR_CHECKPOINT");
    if (!(await stat(path).catch(() => undefined))) {
      throw new ShardspeedError("ERR_CHECKPOINT", `${describeMissingFolder(folder)}, config.json among them.`);
    }
    const config = await readModelConfig(path);
    if (!isObject(config)) {
      throw new ShardspeedError("ERR_CHECKPOINT", `${path}: expected config.json to hold an object.`);
    }
    folders.set(config, path);
    return config as ModelConfig;
  }
}

/**
 * Reads the config.json of a model folder.
 *
 * @throws ShardspeedError ERR_CHECKPOINT, saying what is wrong with the folder or the file.
 */
export async function readModelConfig(folder: string, signal?: AbortSignal): Promise<unknown> {
  const path = join(resolve(folder), "config.json");
  const rules = { code: "ERR_CHECKPOINT", limitBytes: fileLimits.settings, signal } as const;
  const text = await readTextIfThere(path, rules);
  if (text === undefined) {
    const found = await describeForeignModel(folder);
    const message = `${resolve(folder)}: expected a Hugging Face model folder, but ${found}.`;
    throw new ShardspeedError("ERR_CHECKPOINT", message);
  }
  return parseJson(text, path, "ERR_CHECKPOINT");
}
