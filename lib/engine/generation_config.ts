import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { readJsonObject } from "../base/json.js";
import type { JsonObject } from "../base/objects.js";
import { type FileRules, fileLimits } from "../base/regular_file.js";
import { showValue } from "../base/text.js";
import { type GenerationDefaults, readSampling, readUnfollowed } from "./generation_defaults.js";
import { readStop } from "./generation_options.js";

const rules: FileRules = { code: "ERR_CHECKPOINT", limitBytes: fileLimits.settings };

/**
 * Reads eos_token_id, bos_token_id and pad_token_id: from generation_config.json, and what is not there from config.json; and the sampling
 * parameters and stop_strings, from config.json where there is no generation_config.json, as in transformers.
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
  const ownFile = folder === undefined ? undefined : await readJsonObject(generationPath, rules);
  const generation = ownFile ?? {};
  const config = known ?? (await readJsonObject(configPath, rules)) ?? {};
  const read = (key: string): number[] =>
    key in generation ? readIds(generation[key], key, generationPath) : readIds(config[key], key, configPath);
  return {
    eosTokenIds: read("eos_token_id"),
    bosTokenId: read("bos_token_id")[0],
    padTokenId: read("pad_token_id")[0],
    ...readStopStrings(ownFile ?? config, ownFile === undefined ? configPath : generationPath),
    ...readSampling(ownFile ?? config),
    ...readUnfollowed(ownFile ?? config),
  };
}

function readStopStrings({ stop_strings: value }: JsonObject, path: string): { stopStrings?: string[] } {
  if (value === undefined || value === null) return {};
  try {
    const stopStrings = readStop(value, "stop_strings");
    return stopStrings.length === 0 ? {} : { stopStrings };
  } catch (error) {
    throw new ShardspeedError("ERR_CHECKPOINT", `${path}: ${(error as Error).message}`, { cause: error });
  }
}

function readIds(value: unknown, key: string, path: string): number[] {
  if (value === undefined || value === null) return [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  if (!ids.every((id) => Number.isInteger(id) && (id as number) < 2 ** 31)) {
    throw new ShardspeedError(
      "ERR_CHECKPOINT",
      `${path}: expected ${key} to be a token id or an array of them, found ${showValue(value)}`,
    );
  }
  // -1 is written for "none" by some tools.
  return (ids as number[]).filter((id) => id >= 0);
}
