import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { isObject, parseJson } from "../base/json.js";
import { describeMissingFolder, resolveModelPath } from "../base/model_folder_scope.js";

/** A model's config.json: its keys as they stand there. */
export interface ModelConfig {
  model_type?: string;
  [key: string]: unknown;
}

/** Apart from the configs, whose keys are the file's alone. */
const folders = new WeakMap<object, string>();

/** The folder that a config was read from, as an absolute path; undefined for an object that AutoConfig did not make. */
export function modelConfigFolder(config: object): string | undefined {
  return folders.get(config);
}

/** The name that transformers users know. */
export class AutoConfig {
  /**
   * Reads the config.json of a model folder.
   *
   * @param folder A folder with config.json; a relative path is looked for from the working directory, then in the model folder of the handler
   * that calls.
   * @returns The parsed file, which modelFromConfig takes; it remembers its folder, invisibly.
   * @throws ShardspeedError ERR_CHECKPOINT when there is none or it cannot be read.
   */
  static async fromPretrained(folder: string): Promise<ModelConfig> {
    if (typeof folder !== "string" || folder === "") {
      throw invalidArgument("folder", "the path of a model folder", folder);
    }
    const path = resolve(await resolveModelPath(folder));
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
export async function readModelConfig(folder: string): Promise<unknown> {
  const path = join(folder, "config.json");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const found = await describeFolder(folder);
    throw new ShardspeedError("ERR_CHECKPOINT", `${folder}: expected a Hugging Face model folder, but ${found}.`, {
      cause: error,
    });
  }
  return parseJson(text, path, "ERR_CHECKPOINT");
}

async function describeFolder(folder: string): Promise<string> {
  const status = await stat(folder).catch(() => undefined);
  if (status === undefined) return "there is no such folder";
  return status.isDirectory() ? "it has no config.json that can be read" : "it is not a folder";
}
