import { stat } from "node:fs/promises";
import path from "node:path";
import type { Logger } from "../base/logger.js";
import { parseConfig } from "../deepspeed_config/inference_config.js";
import { configKeys, keysOf, valueAt } from "../deepspeed_config/keys.js";
import {
  type EffectiveValue,
  effectiveConfig,
  type ParsedModelConfig,
  readModelConfigYaml,
} from "../torchserve_config/index.js";

/** A key of the DeepSpeed config as it counts. */
export interface DeepSpeedSetting {
  key: string;
  value: unknown;
  source: "config" | "default";
  /** As the config writes it, where that is another name. */
  written?: string;
}

/** What a model is served with, and where each value comes from. */
export interface ConfigurationReport {
  modelConfig: { file: string; settings: EffectiveValue[] } | null;
  deepSpeed: { file: string; settings: DeepSpeedSetting[] } | null;
}

/** A model-config.yaml and where it is. */
export interface FoundYaml {
  file: string;
  parsed: ParsedModelConfig;
}

/**
 * Reads the model-config.yaml of a model: the one that is given, or the one in its folder, if there is one.
 *
 * @throws ShardspeedError ERR_CONFIG for a file that is wrong, or that was given and cannot be read.
 */
export async function findModelConfigYaml(
  given: string | undefined,
  folder: string,
  logger: Logger,
  signal: AbortSignal | undefined,
): Promise<FoundYaml | undefined> {
  const inFolder = path.join(folder, "model-config.yaml");
  const file = given ?? ((await isThere(inFolder)) ? inFolder : undefined);
  return file === undefined
    ? undefined
    : { file, parsed: await readModelConfigYaml(file, { logger, ...(signal ? { signal } : {}) }) };
}

/**
 * What counts of a model's configuration, and where each value is from.
 *
 * @param deepSpeed ds-config.json; undefined: the one that the yaml names.
 * @param folder What relative paths of the yaml start from.
 * @throws ShardspeedError ERR_CONFIG for a DeepSpeed config that is wrong.
 */
export function describeConfiguration(
  yaml: FoundYaml | undefined,
  deepSpeed: string | undefined,
  folder: string,
  logger: Logger,
): ConfigurationReport {
  const named = yaml?.parsed.values.deepspeed.config;
  const deepSpeedFile = deepSpeed ?? (named === undefined ? undefined : path.resolve(folder, named));
  return {
    modelConfig:
      yaml === undefined
        ? null
        : { file: shortName(yaml.file, folder), settings: shorten(effectiveConfig({ yaml: yaml.parsed }), folder) },
    deepSpeed:
      deepSpeedFile === undefined
        ? null
        : { file: shortName(deepSpeedFile, folder), settings: readDeepSpeed(deepSpeedFile, logger) },
  };
}

export async function isThere(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

/** A file of the folder by its place in it: the folder may be a temporary one. */
function shortName(file: string, folder: string): string {
  const inside = path.relative(folder, file);
  return inside.startsWith("..") || path.isAbsolute(inside) ? file : inside;
}

function shorten(settings: readonly EffectiveValue[], folder: string): EffectiveValue[] {
  return settings.map(({ place, ...setting }) => {
    const [, file = "", position = ""] = /^(.*)(:\d+:\d+)$/s.exec(place ?? "") ?? [];
    return place === undefined ? setting : { ...setting, place: shortName(file, folder) + position };
  });
}

function readDeepSpeed(file: string, logger: Logger): DeepSpeedSetting[] {
  const { resolved, named } = parseConfig(file, logger);
  const settings = configKeys.filter(({ name, renamedTo }) => renamedTo === undefined && !keysOf.has(name));
  return settings.map(({ name }) => {
    const old = configKeys.find(({ renamedTo, name: one }) => renamedTo === name && named.values[one] !== undefined);
    const written = named.written(old?.name ?? name);
    const isGiven = named.has(name);
    return {
      key: name,
      value: valueAt(resolved, name),
      source: isGiven ? ("config" as const) : ("default" as const),
      ...(isGiven && written !== name ? { written } : {}),
    };
  });
}
