import { stat } from "node:fs/promises";
import path from "node:path";
import type { Logger } from "../base/logger.js";
import { configKeys, keysOf, parseConfig, valueAt } from "../deepspeed_config/index.js";
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

export interface ConfigurationFiles {
  /** model-config.yaml; undefined: the one in the folder, if there is one. */
  modelConfig: string | undefined;
  /** ds-config.json; undefined: the one that model-config.yaml names. */
  deepSpeed: string | undefined;
  /** What relative paths of model-config.yaml start from. */
  folder: string;
}

/** @throws ShardspeedError ERR_CONFIG for a file that is wrong. */
export async function readConfiguration(
  { modelConfig, deepSpeed, folder }: ConfigurationFiles,
  logger: Logger,
): Promise<ConfigurationReport & { handler: unknown }> {
  const yamlFile = modelConfig ?? (await existing(path.join(folder, "model-config.yaml")));
  const yaml = yamlFile === undefined ? undefined : await readModelConfigYaml(yamlFile, { logger });
  const named = yaml?.values.deepspeed.config;
  const deepSpeedFile = deepSpeed ?? (named === undefined ? undefined : path.resolve(folder, named));
  return {
    modelConfig:
      yaml === undefined ? null : { file: shortName(yamlFile as string, folder), settings: shorten(yaml, folder) },
    deepSpeed:
      deepSpeedFile === undefined
        ? null
        : { file: shortName(deepSpeedFile, folder), settings: readDeepSpeed(deepSpeedFile, logger) },
    handler: yaml?.raw.handler,
  };
}

/** A file of the folder by its place in it: the folder may be a temporary one. */
function shortName(file: string, folder: string): string {
  const inside = path.relative(folder, file);
  return inside.startsWith("..") || path.isAbsolute(inside) ? file : inside;
}

function shorten(yaml: ParsedModelConfig, folder: string): EffectiveValue[] {
  return effectiveConfig({ yaml }).map(({ place, ...setting }) => {
    const [, file = "", position = ""] = /^(.*)(:\d+:\d+)$/s.exec(place ?? "") ?? [];
    return place === undefined ? setting : { ...setting, place: shortName(file, folder) + position };
  });
}

async function existing(file: string): Promise<string | undefined> {
  return stat(file).then(
    () => file,
    () => undefined,
  );
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
