import { ShardspeedError } from "../base/errors.js";
import { type Logger, readLogger } from "../base/logger.js";
import type { DeepSpeedConfig } from "./config_input.js";
import { reportEffects } from "./effects.js";
import { type NamedConfig, nameKeys } from "./names.js";
import { takeConfig } from "./snapshot.js";
import type { ResolvedDeepSpeedConfig } from "./types.js";
import { type ConfigValues, checkValues } from "./values.js";

/** The config of `deepspeed.init_inference(config=...)` (deepspeed/inference/config.py of DeepSpeed 0.19). */
export class DeepSpeedInferenceConfig {
  /**
   * Checks a config and fills in defaults. It accepts the keys of DeepSpeed with their aliases and deprecated names, and values
   * of other types if DeepSpeed does ("2" for 2, "yes" for true); "auto" means the default. The input is not changed.
   *
   * @param config The config, or the path of a JSON file; undefined is {}.
   * @param options.logger Receives warnings about deprecated keys and keys without effect. Default: none does.
   * @returns A plain object with every key.
   * @throws ShardspeedError ERR_CONFIG, with the key, the found and the expected value; ERR_INVALID_ARGUMENT for an invalid logger.
   */
  static parse(config: DeepSpeedConfig | string | undefined, options?: { logger?: Logger }): ResolvedDeepSpeedConfig {
    return parseConfig(config, readLogger(options?.logger)).resolved;
  }
}

/** A config with every key, and which of them it names. */
export interface ParsedConfig {
  resolved: ResolvedDeepSpeedConfig;
  named: NamedConfig;
}

export function parseConfig(config: object | string | undefined, logger: Logger): ParsedConfig {
  const named = nameKeys(takeConfig(config));
  const resolved = replaceDeprecated(checkValues(named));
  settleRanks(resolved, named, logger);
  reportEffects(named, resolved, logger);
  return { resolved, named };
}

/** The keys that deprecated ones became get their values. That both are given has been refused by now. */
function replaceDeprecated(values: ConfigValues): ResolvedDeepSpeedConfig {
  const { zero, mp_size, mpu, ep_size, ep_group, ep_mp_group, moe_experts, moe_type, ...resolved } = values;
  const { tensor_parallel: parallel, moe } = resolved;
  if (mp_size !== undefined) parallel.tp_size = mp_size;
  if (mpu !== undefined) parallel.mpu = mpu;
  if (ep_size !== undefined) moe.ep_size = ep_size;
  if (ep_group !== undefined) moe.ep_group = ep_group;
  if (ep_mp_group !== undefined) moe.ep_mp_group = ep_mp_group;
  if (moe_experts !== undefined) moe.moe_experts = moe_experts;
  if (moe_type !== undefined) moe.type = moe_type;
  return resolved;
}

/** More than any model has heads: a mistyped number. What a model can be divided among is checked once it is known (lib/loading/sharding.ts). */
const largestReadTpSize = 1024;

function settleRanks({ tensor_parallel: parallel }: ResolvedDeepSpeedConfig, named: NamedConfig, logger: Logger): void {
  const { where, values, written } = named;
  const key = written(values.mp_size === undefined ? "tensor_parallel.tp_size" : "mp_size");
  const outside =
    parallel.tp_size < 1
      ? "at least 1"
      : parallel.tp_size > largestReadTpSize
        ? `at most ${largestReadTpSize}`
        : undefined;
  if (outside !== undefined)
    throw new ShardspeedError("ERR_CONFIG", `${where}: ${key}: expected ${outside}, found ${parallel.tp_size}`);
  if (parallel.enabled || parallel.tp_size === 1) return;
  logger.warn(`${where}: ${written("tensor_parallel.enabled")} is false, so ${key} ${parallel.tp_size} is taken as 1`);
  parallel.tp_size = 1;
}
