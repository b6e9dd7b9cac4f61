import { isDeepStrictEqual } from "node:util";
import type { Logger } from "../base/logger.js";
import { type ConfigKey, configKeys, defaultOf, keysOf, valueAt } from "./keys.js";
import type { NamedConfig } from "./names.js";
import type { ResolvedDeepSpeedConfig } from "./types.js";

/** Says which keys are deprecated and which change nothing here, each with the reason: a line for either kind. */
export function reportEffects(config: NamedConfig, resolved: ResolvedDeepSpeedConfig, logger: Logger): void {
  const { where, values, written } = config;
  const old = configKeys.filter(({ name, renamedTo }) => renamedTo !== undefined && values[name] !== undefined);
  if (old.length > 0) {
    const list = old.map(({ name, renamedTo }) => `${written(name)} (write ${renamedTo})`).join(", ");
    logger.warn(`${where}: deprecated: ${list}`);
  }
  const idle = configKeys.filter((key) => key.effect === "none" && asksForSomething(key, config, resolved));
  if (idle.length > 0) {
    const reasons = [...new Set(idle.map(({ meaning }) => meaning))].map((reason) => {
      const names = idle.filter(({ meaning }) => meaning === reason).map(({ name }) => written(name));
      return `${names.join(", ")} (${reason})`;
    });
    logger.warn(`${where}: no effect here: ${reasons.join("; ")}`);
  }
  for (const { name, effect, meaning } of configKeys) {
    if (effect === "always" && values[name] !== undefined && valueAt(resolved, name) === true)
      logger.info(`${where}: ${written(name)}: ${meaning}`);
  }
}

function asksForSomething(key: ConfigKey, { values }: NamedConfig, resolved: ResolvedDeepSpeedConfig): boolean {
  if (keysOf.has(key.name)) return false; // its keys speak for themselves
  const value = key.name === "zero" ? values.zero : valueAt(resolved, key.name);
  return value !== undefined && value !== null && !isEmpty(value) && !isDeepStrictEqual(value, defaultOf(key));
}

function isEmpty(value: unknown): boolean {
  if (value instanceof Map) return value.size === 0;
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}
