import { ShardspeedError } from "../base/errors.js";
import { isPlainObject } from "../base/objects.js";
import { orNull, type Rule, rule, trueOrFalse } from "../base/rules.js";
import { showValue } from "../base/text.js";
import { canonicalDtype } from "./dtype.js";
import { type ConfigKey, type ConfigType, defaultOf, keysOf, lastPart } from "./keys.js";
import type { NamedConfig } from "./names.js";
import type { ConfigDtype, ResolvedDeepSpeedConfig } from "./types.js";

/** Every key with its default; deprecated ones where they are given. */
export interface ConfigValues extends ResolvedDeepSpeedConfig {
  zero?: unknown;
  mp_size?: number;
  mpu?: unknown;
  ep_size?: number;
  ep_group?: unknown;
  ep_mp_group?: unknown;
  moe_experts?: unknown[];
  moe_type?: ResolvedDeepSpeedConfig["moe"]["type"];
}

const dtype: Rule<ConfigDtype> = (value) => {
  const meant = canonicalDtype(value);
  return meant === undefined
    ? { expected: '"fp16", "bf16", "fp32", "int8" or another name of these' }
    : { value: meant };
};

/** Pydantic's integers: "2", "1_000", 2.0 and true are integers too. */
const integer: Rule<number> = (value) => {
  let number = typeof value === "boolean" ? Number(value) : value;
  if (typeof value === "string" && /^[+-]?\d+(_\d+)*(\.0+)?$/.test(value.trim()))
    number = Number(value.trim().replaceAll("_", ""));
  if (!Number.isInteger(number)) return { expected: "an integer" };
  // Beyond, JavaScript's numbers cannot tell it from its neighbours.
  if (!Number.isSafeInteger(number)) return { expected: "an integer within 2^53" };
  return { value: (number as number) + 0 }; // not -0
};

const integerAboveZero: Rule<number> = (value) => {
  const checked = integer(value);
  return "value" in checked && checked.value <= 0 ? { expected: "more than 0" } : checked;
};

const words: ReadonlyMap<unknown, boolean> = new Map([
  ...["1", "on", "t", "true", "y", "yes", 1].map((word) => [word, true] as const),
  ...["0", "off", "f", "false", "n", "no", 0].map((word) => [word, false] as const),
]);

/** Pydantic's booleans: 1, "on", "Yes" and their like are booleans too. */
const boolean: Rule<boolean> = (value) =>
  trueOrFalse(words.get(typeof value === "string" ? value.toLowerCase() : value) ?? value);

const text = rule<string>("a string", (value) => typeof value === "string");
const list = rule<unknown[]>("a list", Array.isArray);
const object = rule<Record<string, unknown>>("an object", isPlainObject);
const policy = rule<object>("an object", (value) => isPlainObject(value) || value instanceof Map);

/** A rule for each type that keys.ts names, with what pydantic's lax mode makes of other values. */
const rules: Readonly<Record<ConfigType, Rule<unknown>>> = {
  anything: (value) => ({ value }),
  boolean,
  integer,
  "integer above 0": integerAboveZero,
  string: text,
  "string or null": orNull(text),
  "path or null": orNull(text),
  "path, object or null": rule(
    "a path, an object or null",
    (value) => value === null || typeof value === "string" || isPlainObject(value),
  ),
  object,
  "object or null": orNull(object),
  list,
  "list or null": orNull(list),
  "data type": dtype,
  "boolean or object": (value) => {
    const enabled = boolean(value);
    if ("value" in enabled) return { value: { enabled: enabled.value } };
    return isPlainObject(value) ? { value } : { expected: "true, false or an object" };
  },
  '"standard" or "residual"': rule('"residual" or "standard"', (value) => value === "residual" || value === "standard"),
  '"symmetric" or "asymmetric"': rule(
    '"symmetric" or "asymmetric"',
    (value) => value === "symmetric" || value === "asymmetric",
  ),
};

/** A Map is taken for this one alone: in Python its keys are classes. */
function ruleOf({ name, type }: ConfigKey): Rule<unknown> {
  return name === "injection_policy" ? orNull(policy) : rules[type];
}

/**
 * Checks the value of each key, and fills in those that are not given. Names have been checked by now (names.ts).
 *
 * @throws ShardspeedError ERR_CONFIG, naming the key as it is written, what was found and what is expected.
 */
export function checkValues({ values, where, written }: NamedConfig): ConfigValues {
  const check = (key: ConfigKey, value: unknown): unknown => {
    const checked = ruleOf(key)(value);
    if ("value" in checked) return checked.value;
    const found = showValue(value);
    throw new ShardspeedError(
      "ERR_CONFIG",
      `${where}: ${written(key.name)}: expected ${checked.expected}, found ${found}`,
    );
  };
  const readSection = (parent: string, given: Record<string, unknown>): Record<string, unknown> => {
    const result: Record<string, unknown> = {};
    for (const key of keysOf.get(parent) ?? []) {
      const part = lastPart(key.name);
      const value = given[part];
      if (keysOf.has(key.name)) {
        const section = value === undefined ? {} : check(key, value);
        result[part] = readSection(key.name, section as Record<string, unknown>);
      } else if (value !== undefined) result[part] = check(key, value);
      else if (isFilledIn(key)) result[part] = structuredClone(defaultOf(key));
    }
    return result;
  };
  // The table of keys says what each holds, which the compiler cannot see.
  return readSection("", values) as unknown as ConfigValues;
}

/** Deprecated keys, and the one that is for training only, are there where they are given. */
function isFilledIn({ name, renamedTo }: ConfigKey): boolean {
  return renamedTo === undefined && name !== "zero";
}
