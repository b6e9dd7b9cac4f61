import type { Logger } from "../../dist/base/logger.js";
import { DeepSpeedInferenceConfig } from "../../dist/deepspeed_config/inference_config.js";
import type { ResolvedDeepSpeedConfig } from "../../dist/deepspeed_config/types.js";
import { fixture, readJson } from "../support/fixtures.js";

/** What DeepSpeed 0.19.8 resolves {} to. */
export const upstreamDefault = readJson<ResolvedDeepSpeedConfig>(fixture("deepspeed", "config_default.json"));

export interface Heard {
  warnings: string[];
  infos: string[];
  logger: Logger;
}

/** A logger that remembers. */
export function listener(): Heard {
  const warnings: string[] = [];
  const infos: string[] = [];
  const logger: Logger = {
    debug() {},
    info: (line) => infos.push(line),
    warn: (line) => warnings.push(line),
    error() {},
  };
  return { warnings, infos, logger };
}

export function parse(config: unknown): { resolved: ResolvedDeepSpeedConfig; warnings: string[]; infos: string[] } {
  const { logger, warnings, infos } = listener();
  const resolved = DeepSpeedInferenceConfig.parse(config as object, { logger });
  return { resolved, warnings, infos };
}

/** The object with all that it holds frozen: whoever changes it throws. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const item of Object.values(value)) deepFreeze(item);
  }
  return value;
}

/** { "a.b": 1 } as { a: { b: 1 } } */
export function nested(name: string, value: unknown): Record<string, unknown> {
  return name.split(".").reduceRight<unknown>((inner, part) => ({ [part]: inner }), value) as Record<string, unknown>;
}
