import path from "node:path";
import { ShardspeedError } from "../../base/errors.js";
import { readJsonObject } from "../../base/json.js";
import { isObject, type JsonObject } from "../../base/objects.js";
import { fileLimits } from "../../base/regular_file.js";
import { showValue } from "../../base/text.js";
import { findPattern, refusePattern } from "./pattern.js";

/** What adapter_config.json says of how an adapter's factors are added up. */
export interface AdapterConfig {
  /** For messages. */
  path: string;
  /** Rows of the first factor of a module. */
  rankOf(module: string): number;
  /** What the product of a module's factors is multiplied by. */
  scaleOf(module: string): number;
  /** Rows are scaled to lengths of their own afterwards. */
  usesDora: boolean;
  /** Ends of the names of modules that are replaced as a whole. */
  modulesToSave: readonly string[];
}

const mostRank = 2 ** 20;

/** Keys that say how an adapter was trained, or where: its tensors decide the rest. */
const ignoredKeys = new Set(
  (
    "task_type base_model_name_or_path revision auto_mapping inference_mode lora_dropout fan_in_fan_out bias target_modules exclude_modules " +
    "layers_to_transform layers_pattern peft_version eva_config loftq_config corda_config lora_ga_config runtime_config ensure_weight_tying " +
    "megatron_core qalora_group_size"
  ).split(" "),
);

/** Ways to start an adapter that leave the base as it is. The others move a part of it into the adapter. */
const plainStarts: readonly unknown[] = [undefined, null, true, false, "gaussian", "eva", "orthogonal"];

/** @throws ShardspeedError ERR_CHECKPOINT, ERR_UNSUPPORTED_MODEL, with the file, the key and what was found. */
export async function readAdapterConfig(folder: string, signal?: AbortSignal): Promise<AdapterConfig> {
  const file = path.join(folder, "adapter_config.json");
  const json = await readJsonObject(file, { code: "ERR_CHECKPOINT", limitBytes: fileLimits.settings, signal });
  if (json === undefined) {
    throw new ShardspeedError(
      "ERR_CHECKPOINT",
      `${folder}: expected the folder of a PEFT adapter, with adapter_config.json and adapter_model.safetensors, and it has no adapter_config.json.`,
    );
  }
  return readKeys(file, json);
}

function readKeys(file: string, json: JsonObject): AdapterConfig {
  const wrong = (key: string, found: unknown, expected: string) =>
    new ShardspeedError("ERR_CHECKPOINT", `${file}: ${key} is ${showValue(found)}, expected ${expected}.`);
  const unsupported = (key: string, found: unknown, expected: string) =>
    new ShardspeedError("ERR_UNSUPPORTED_MODEL", `${file}: ${key} is ${showValue(found)}, expected ${expected}.`);
  const flag = (key: string): boolean => {
    const value = json[key] ?? false;
    if (typeof value !== "boolean") throw wrong(key, value, "true or false");
    return value;
  };
  const rank = (key: string, value: unknown): number => {
    if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= mostRank) return value as number;
    throw wrong(key, value, `an integer from 1 to ${mostRank}`);
  };
  const alpha = (key: string, value: unknown): number => {
    if (typeof value === "number" && Math.abs(value) <= 1e30) return value;
    throw wrong(key, value, "a finite number");
  };
  if (json.peft_type !== "LORA")
    throw unsupported("peft_type", json.peft_type, '"LORA", the only kind of adapter that is merged');
  const start = json.init_lora_weights;
  if (!plainStarts.includes(start)) {
    const advice =
      "whose base weights were changed at the start. Save the adapter with path_initial_model_for_weight_conversion";
    throw unsupported("init_lora_weights", start, `true, false, "gaussian", "eva" or "orthogonal", not one ${advice}`);
  }
  const ranks = readPatterns(file, json, "rank_pattern", rank);
  const alphas = readPatterns(file, json, "alpha_pattern", alpha);
  const [r, loraAlpha] = [rank("r", json.r ?? 8), alpha("lora_alpha", json.lora_alpha ?? 8)];
  const [usesDora, isRankStabilised] = [flag("use_dora"), flag("use_rslora")];
  const modulesToSave = json.modules_to_save ?? [];
  if (!Array.isArray(modulesToSave) || !modulesToSave.every((name) => typeof name === "string")) {
    throw wrong("modules_to_save", modulesToSave, "a list of names or null");
  }
  const used = ["peft_type", "init_lora_weights", "r", "lora_alpha", "rank_pattern", "alpha_pattern"];
  used.push("use_dora", "use_rslora", "modules_to_save");
  for (const [key, value] of Object.entries(json)) {
    if (used.includes(key) || ignoredKeys.has(key) || isNothing(value)) continue;
    throw unsupported(key, value, "null or false: merging does not follow it");
  }
  const rankOf = (module: string) => ranks(module) ?? r;
  const divisor = (module: string) => (isRankStabilised ? Math.sqrt(rankOf(module)) : rankOf(module));
  return {
    path: file,
    rankOf,
    scaleOf: (module) => (alphas(module) ?? loraAlpha) / divisor(module),
    usesDora,
    modulesToSave,
  };
}

/** Values by patterns of names: what the first that fits a module says; undefined where none does. */
function readPatterns(
  file: string,
  json: JsonObject,
  key: string,
  check: (key: string, value: unknown) => number,
): (module: string) => number | undefined {
  const given = json[key] ?? {};
  if (!isObject(given)) {
    throw new ShardspeedError("ERR_CHECKPOINT", `${file}: ${key} is ${showValue(given)}, expected an object.`);
  }
  const values = new Map<string, number>();
  for (const [pattern, value] of Object.entries(given)) {
    const why = refusePattern(pattern);
    if (why !== undefined) {
      throw new ShardspeedError(
        "ERR_UNSUPPORTED_MODEL",
        `${file}: the pattern ${showValue(pattern)} of ${key} is not followed: ${why}.`,
      );
    }
    values.set(pattern, check(`${key}[${showValue(pattern)}]`, value));
  }
  const patterns = [...values.keys()];
  return (module) => {
    const found = findPattern(patterns, module);
    return found === undefined ? undefined : values.get(found);
  };
}

function isNothing(value: unknown): boolean {
  if (value === null || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}
