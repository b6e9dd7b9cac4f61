import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { parseJson } from "../base/json.js";

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
