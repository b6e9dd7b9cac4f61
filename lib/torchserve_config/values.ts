import { isObject } from "../base/objects.js";
import { checkValue } from "./check_value.js";
import { keysOf, modelYamlKeys } from "./keys.js";
import type { DeepSpeedSection, ModelConfigYaml, TorchrunSettings } from "./types.js";

/** All settings from those that are given, by dotted name: what one of them means for another, and defaults for the rest. */
export function fillDefaults(given: ReadonlyMap<string, unknown>): ModelConfigYaml {
  const value = (name: string): unknown => structuredClone(given.get(name) ?? modelYamlKeys[name]?.default);
  const section = (name: string) => Object.fromEntries(keysOf(name).map((key) => [key, value(`${name}.${key}`)]));
  const plain = Object.keys(modelYamlKeys).filter((name) => !name.includes("."));
  // The table of keys says what each holds, which the compiler cannot see.
  const values = Object.fromEntries(plain.map((name) => [name, value(name)])) as unknown as ModelConfigYaml;
  return {
    ...values,
    maxWorkers: (given.get("maxWorkers") as number | undefined) ?? values.minWorkers,
    parallelLevel: values.parallelLevel || ((given.get("torchrun.nproc-per-node") as number | undefined) ?? 0),
    continuousBatching: values.continuousBatching || values.asyncCommunication,
    torchrun: section("torchrun") as unknown as TorchrunSettings,
    deepspeed: section("deepspeed") as unknown as DeepSpeedSection,
    handler: (given.get("handler") as string | undefined) ?? handlerSettings(given),
  };
}

function handlerSettings(given: ReadonlyMap<string, unknown>): Record<string, unknown> {
  const own = [...given].filter(([name]) => name.startsWith("handler."));
  return Object.fromEntries(own.map(([name, value]) => [name.slice("handler.".length), value]));
}

/** Whether a model-config.yaml, as plain data, lets batches of a handler run at the same time: by continuousBatching or its other name. */
export function batchesOverlap(yaml: unknown): boolean {
  if (!isObject(yaml)) return false;
  return ["continuousBatching", "asyncCommunication"].some((key) => {
    const checked = Object.hasOwn(yaml, key) ? checkValue(key, yaml[key]) : { value: false };
    return "value" in checked && checked.value === true;
  });
}

/** Ranks that a worker's model is divided among; 0 where its DeepSpeed config says how many. */
export function ranksPerWorker({ parallelType, parallelLevel }: ModelConfigYaml): number {
  return parallelType === "none" ? 0 : parallelLevel;
}
