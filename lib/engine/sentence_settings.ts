import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { parseJson, readJsonObject, readTextIfThere } from "../base/json.js";
import { isObject, type JsonObject } from "../base/objects.js";
import { type FileRules, fileLimits } from "../base/regular_file.js";
import { showValue } from "../base/text.js";
import type { Pooling } from "../native/binding.js";

/** What the files of a sentence-transformers folder say about embeddings. */
export interface SentenceSettings {
  /** One behind the other in an embedding; undefined where nothing is said. */
  pooling: readonly Pooling[] | undefined;
  normalize: boolean;
  /** Whether the tokens of a prompt count in pooling. */
  includePrompt: boolean;
  /** Longer texts are cut to so many tokens; undefined where nothing is said. */
  maxTokens: number | undefined;
  lowerCase: boolean;
  prompts: ReadonlyMap<string, string>;
  defaultPrompt: string | undefined;
  /** What the folder asks for and nothing here computes, as a sentence. */
  problem: string | undefined;
}

export const noSentenceSettings: SentenceSettings = {
  ...{ pooling: undefined, normalize: false, includePrompt: true, maxTokens: undefined, lowerCase: false },
  ...{ prompts: new Map<string, string>(), defaultPrompt: undefined, problem: undefined },
};

const rules: FileRules = { code: "ERR_CHECKPOINT", limitBytes: fileLimits.settings };

/** The keys of a pooling module's config, and what each is here. */
const poolingModes: Readonly<Record<string, Pooling>> = {
  pooling_mode_cls_token: "first",
  pooling_mode_max_tokens: "max",
  pooling_mode_mean_tokens: "mean",
  pooling_mode_mean_sqrt_len_tokens: "mean sqrt length",
  pooling_mode_weightedmean_tokens: "weighted mean",
  pooling_mode_lasttoken: "last",
};

/** The names of `pooling_mode` in newer configs. */
const modeNames: ReadonlyMap<unknown, Pooling> = new Map<unknown, Pooling>([
  ["cls", "first"],
  ["max", "max"],
  ["mean", "mean"],
  ["lasttoken", "last"],
  ["mean_sqrt_len_tokens", "mean sqrt length"],
  ["weightedmean", "weighted mean"],
]);

/**
 * Reads modules.json, the config of the pooling module, sentence_bert_config.json and config_sentence_transformers.json of a folder.
 *
 * @throws ShardspeedError ERR_CHECKPOINT when a file is there but cannot be read.
 */
export async function loadSentenceSettings(folder: string | undefined): Promise<SentenceSettings> {
  if (folder === undefined) return noSentenceSettings;
  const read = (...names: string[]) => readJsonObject(join(folder, ...names), rules);
  const modules = await readModules(join(folder, "modules.json"));
  const pooling = modules?.find(({ type }) => type === "Pooling");
  const poolingPath = join(pooling?.path ?? "1_Pooling", "config.json");
  const own = modules === undefined || pooling !== undefined ? await read(poolingPath) : undefined;
  const bert = (await read("sentence_bert_config.json")) ?? {};
  const general = (await read("config_sentence_transformers.json")) ?? {};
  const others = modules?.filter(({ type }) => !["Transformer", "Pooling", "Normalize"].includes(type)) ?? [];
  const most = bert.max_seq_length;
  const prompts = Object.entries(isObject(general.prompts) ? general.prompts : {});
  return {
    pooling: own && readPooling(own, join(folder, poolingPath)),
    normalize: modules?.some(({ type }) => type === "Normalize") ?? false,
    includePrompt: own?.include_prompt !== false,
    maxTokens: Number.isSafeInteger(most) && (most as number) > 0 ? (most as number) : undefined,
    lowerCase: bert.do_lower_case === true,
    prompts: new Map(prompts.filter((entry): entry is [string, string] => typeof entry[1] === "string")),
    defaultPrompt: typeof general.default_prompt_name === "string" ? general.default_prompt_name : undefined,
    problem:
      others.length === 0
        ? undefined
        : `${join(folder, "modules.json")} has modules that are not computed here: ${others.map(({ type }) => type).join(", ")}.`,
  };
}

async function readModules(path: string): Promise<{ type: string; path: string }[] | undefined> {
  const text = await readTextIfThere(path, rules);
  if (text === undefined) return undefined;
  const value = parseJson(text, path, rules.code);
  if (!Array.isArray(value) || !value.every(isObject)) {
    throw new ShardspeedError("ERR_CHECKPOINT", `${path}: expected an array of modules, found ${showValue(value)}.`);
  }
  return value.map(({ type, path: folder }) => ({
    type: typeof type === "string" ? (type.split(".").at(-1) as string) : showValue(type),
    path: typeof folder === "string" ? folder : "",
  }));
}

function readPooling(config: JsonObject, path: string): Pooling[] | undefined {
  const named = config.pooling_mode;
  const names = typeof named === "string" ? [named] : Array.isArray(named) ? named : undefined;
  const chosen = names
    ? names.map((name) => modeNames.get(name))
    : Object.entries(poolingModes).map(([key, pooling]) => (config[key] === true ? pooling : undefined));
  const known = chosen.filter((pooling) => pooling !== undefined);
  if (known.length > 0 && (names === undefined || known.length === names.length)) return [...new Set(known)];
  throw new ShardspeedError(
    "ERR_CHECKPOINT",
    `${path}: expected one of ${Object.keys(poolingModes).join(", ")} to be true, found ${showValue(config)}.`,
  );
}
