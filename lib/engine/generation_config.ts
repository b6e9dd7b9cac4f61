import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { describeJsonError } from "../base/json_error.js";

/** What a model folder says about token ids. Sampling parameters are not taken from there: text does not change unasked. */
export interface GenerationDefaults {
  /** Any of these ends a sequence. */
  eosTokenIds: number[];
  bosTokenId: number | undefined;
  padTokenId: number | undefined;
}

type JsonObject = { [key: string]: unknown };

/**
 * Reads eos_token_id, bos_token_id and pad_token_id: from generation_config.json, and what is not there from config.json.
 *
 * @param folder undefined: there is none, and the config is all there is.
 * @param known The config, where it is at hand already.
 * @throws ShardspeedError ERR_CHECKPOINT when a file is there but cannot be read.
 */
export async function loadGenerationDefaults(
  folder: string | undefined,
  known?: JsonObject,
): Promise<GenerationDefaults> {
  const generationPath = join(folder ?? "", "generation_config.json");
  const configPath = join(folder ?? "", "config.json");
  const generation = folder === undefined ? {} : await readJson(generationPath);
  const config = known ?? (await readJson(configPath));
  const read = (key: string): number[] =>
    key in generation ? readIds(generation[key], key, generationPath) : readIds(config[key], key, configPath);
  return {
    eosTokenIds: read("eos_token_id"),
    bosTokenId: read("bos_token_id")[0],
    padTokenId: read("pad_token_id")[0],
  };
}

function readIds(value: unknown, key: string, path: string): number[] {
  if (value === undefined || value === null) return [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  if (!ids.every((id) => Number.isInteger(id) && (id as number) < 2 ** 31)) {
    throw new ShardspeedError(
      "ERR_CHECKPOINT",
      `${path}: expected ${key} to be a token id or an array of them, found ${JSON.stringify(value)}`,
    );
  }
  // -1 is written for "none" by some tools.
  return (ids as number[]).filter((id) => id >= 0);
}

async function readJson(path: string): Promise<JsonObject> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return {};
    throw new ShardspeedError("ERR_CHECKPOINT", `Cannot read ${path}: ${message}`, { cause: error });
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  } catch (error) {
    throw new ShardspeedError("ERR_CHECKPOINT", `${path} is not JSON: ${describeJsonError(text, error)}`, {
      cause: error,
    });
  }
  throw new ShardspeedError("ERR_CHECKPOINT", `${path} holds no JSON object`);
}
