import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { nearestKey } from "../base/nearest.js";
import { isObject } from "../base/objects.js";
import { checkValue } from "./check_value.js";
import { showKey } from "./findings.js";
import { modelYamlKeys } from "./keys.js";
import type { ModelConfigYaml, ParsedModelConfig } from "./types.js";
import { fillDefaults } from "./values.js";

/** An effective setting and its source. */
export interface EffectiveValue {
  /** Dotted name: `torchrun.nproc-per-node`, `handler.max_length`. */
  key: string;
  /** undefined: no value. */
  value: unknown;
  /** Where the value is from; the first of these that has one counts. */
  source: "option" | "model-config.yaml" | "server" | "default";
  /** `model-config.yaml:4:1`, if that file is the source. */
  place?: string;
}

/** Values by dotted name; undefined counts as not given. */
export type Settings = Readonly<Record<string, unknown>>;

/** What may set a value of the configuration. */
export interface ConfigSources {
  /** Options of a request or a command line. */
  options?: Settings | undefined;
  /** A parsed model-config.yaml. */
  yaml?: Pick<ParsedModelConfig, "given"> | undefined;
  /** Configuration of a server for all its models. */
  server?: Settings | undefined;
}

type Found = Omit<EffectiveValue, "key">;

/**
 * The effective settings and their sources. One order of precedence for all keys: options, `model-config.yaml`, the server's configuration, defaults.
 * (TorchServe has a rule for each key: for example, a model's file overrides the timeouts and workers of a request.)
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for an unknown or invalid option, ERR_CONFIG for such a key of the server and for maxWorkers below minWorkers.
 */
export function effectiveConfig(sources: ConfigSources): EffectiveValue[] {
  return resolve(sources).rows;
}

/**
 * The effective settings, by the rule of effectiveConfig().
 *
 * @throws ShardspeedError Like effectiveConfig().
 */
export function effectiveSettings(sources: ConfigSources): ModelConfigYaml {
  return resolve(sources).values;
}

function resolve({ options, yaml, server }: ConfigSources): { values: ModelConfigYaml; rows: EffectiveValue[] } {
  const found = new Map<string, Found>();
  const add = (key: string, next: Found) => {
    for (const other of otherNames(key, found)) if (found.get(other)?.source !== next.source) found.delete(other);
    found.set(key, next);
  };
  for (const [key, value] of readSettings(server, "server")) add(key, { value, source: "server" });
  for (const [key, given] of yaml?.given ?? []) add(key, { ...given, source: "model-config.yaml" });
  for (const [key, value] of readSettings(options, "options")) add(key, { value, source: "option" });
  const values = fillDefaults(new Map([...found].map(([key, { value }]) => [key, value])));
  checkWorkers(values, found);
  return { values, rows: toRows(values, found) };
}

const sameThing: readonly (readonly string[])[] = [
  ["parallelLevel", "torchrun.nproc-per-node"],
  ["continuousBatching", "asyncCommunication"],
];

/** Keys that say the same: whoever goes first with one of them, goes first with all. */
function otherNames(key: string, found: ReadonlyMap<string, Found>): string[] {
  if (key === "handler") return [...found.keys()].filter((name) => name.startsWith("handler."));
  if (key.startsWith("handler.")) return ["handler"];
  return (sameThing.find((names) => names.includes(key)) ?? []).filter((name) => name !== key);
}

function readSettings(settings: Settings | undefined, what: "options" | "server"): [string, unknown][] {
  if (settings === undefined) return [];
  if (!isObject(settings)) {
    throw invalidArgument(what, "an object of settings by dotted name", settings);
  }
  const code = what === "options" ? "ERR_INVALID_ARGUMENT" : "ERR_CONFIG";
  return Object.entries(settings)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => [key, readSetting(key, value, what, code)]);
}

function readSetting(key: string, value: unknown, what: string, code: "ERR_INVALID_ARGUMENT" | "ERR_CONFIG"): unknown {
  if (key.startsWith("handler.") && key !== "handler.") return value;
  if (key === "handler") {
    if (typeof value === "string" && value !== "") return value;
    throw wrongSetting(key, "the name of a shipped handler", value, code);
  }
  if (!Object.hasOwn(modelYamlKeys, key)) {
    const near = nearestKey(key, Object.keys(modelYamlKeys));
    const advice = near === undefined ? "docs/model-config.md lists all." : `Did you mean ${near}?`;
    throw new ShardspeedError(code, `${what}: unknown key ${showKey(key)}. ${advice}`);
  }
  const checked = checkValue(key, value);
  if ("expected" in checked) throw wrongSetting(key, checked.expected, value, code);
  return checked.value;
}

function wrongSetting(key: string, expected: string, value: unknown, code: "ERR_INVALID_ARGUMENT" | "ERR_CONFIG") {
  return new ShardspeedError(code, invalidArgument(key, expected, value).message);
}

function checkWorkers({ minWorkers, maxWorkers }: ModelConfigYaml, found: ReadonlyMap<string, Found>): void {
  if (maxWorkers >= minWorkers) return;
  const from = (key: string) => {
    const { place, source } = found.get(key) ?? { source: "default" };
    return place ?? source;
  };
  throw new ShardspeedError(
    "ERR_CONFIG",
    `maxWorkers: expected at least minWorkers, which is ${minWorkers} (${from("minWorkers")}), found ${maxWorkers} (${from("maxWorkers")})`,
  );
}

function toRows(values: ModelConfigYaml, found: ReadonlyMap<string, Found>): EffectiveValue[] {
  const unset: Omit<Found, "value"> = { source: "default" };
  const known = Object.keys(modelYamlKeys).map((key) => {
    const names = key === "parallelLevel" || key === "continuousBatching" ? [key, ...otherNames(key, found)] : [key];
    const { source, place } = names.map((name) => found.get(name)).find((row) => row !== undefined) ?? unset;
    return { key, value: valueAt(values, key), source, ...(place === undefined ? {} : { place }) };
  });
  const handler = [...found].filter(([key]) => key === "handler" || key.startsWith("handler."));
  return [...known, ...handler.map(([key, row]) => ({ key, ...row }))];
}

function valueAt(values: ModelConfigYaml, key: string): unknown {
  return key.split(".").reduce<unknown>((value, step) => (value as Record<string, unknown>)[step], values);
}

/**
 * model-config.yaml as plain data, with options in place of what it says: what a handler sees that reads the yaml itself. Options that are
 * undefined are not given.
 */
export function overlaySettings(
  raw: Readonly<Record<string, unknown>>,
  options: Settings = {},
): Record<string, unknown> {
  const all: Record<string, unknown> = structuredClone(raw);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const [section = "", ...rest] = key.split(".");
    const name = rest.join(".");
    if (name === "") all[section] = value;
    else all[section] = { ...toMap(section, all[section]), [name]: value };
  }
  return all;
}

/** `handler: Name` and `handler: { type: Name }` are the same. */
function toMap(section: string, value: unknown): object {
  if (section === "handler" && typeof value === "string") return { type: value };
  return isObject(value) ? value : {};
}
