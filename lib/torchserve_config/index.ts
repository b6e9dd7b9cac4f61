import { resolve } from "node:path";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { type Logger, settleLogger, silentLogger } from "../base/logger.js";
import { OptionReader } from "../base/option_reader.js";
import { fileLimits, readRegularFile } from "../base/regular_file.js";
import { Findings } from "./findings.js";
import type { GivenKey, ParsedModelConfig } from "./types.js";
import { validate } from "./validate.js";
import { fillDefaults } from "./values.js";
import { readYaml } from "./yaml_reader.js";
import { describeValue, mapData } from "./yaml_tree.js";

export {
  type ConfigSources,
  type EffectiveValue,
  effectiveConfig,
  effectiveSettings,
  overlaySettings,
  type Settings,
} from "./effective.js";
export type { DeepSpeedSection, GivenKey, ModelConfigYaml, ParsedModelConfig, TorchrunSettings } from "./types.js";
export { ranksPerWorker } from "./values.js";

/** Options of readModelConfigYaml() and parseModelConfigYaml(). */
export interface ModelConfigOptions {
  /** Receives the warnings, which are also in the result. Default: none does. */
  logger?: Logger;
}

/**
 * Reads a `model-config.yaml`, the file of TorchServe's ModelConfig.java and handlers.
 *
 * @param options.signal Cancels the call with ERR_ABORTED.
 * @throws ShardspeedError ERR_CONFIG if the file cannot be read or is invalid. The message lists all errors, one per line: file, line, column, key, expected and found value.
 */
export async function readModelConfigYaml(
  path: string,
  options?: ModelConfigOptions & { signal?: AbortSignal },
): Promise<ParsedModelConfig> {
  if (typeof path !== "string" || path === "") throw invalidArgument("path", "the path of a YAML file", path);
  const { logger, signal } = readOptions(options, ["logger", "signal"]);
  return parse(await readText(path, signal), resolve(path), logger);
}

/**
 * Reads the text of a `model-config.yaml`.
 *
 * @param options.path Name of the file in messages. Default "model-config.yaml".
 * @throws ShardspeedError ERR_CONFIG, like readModelConfigYaml().
 */
export function parseModelConfigYaml(
  text: string,
  options?: ModelConfigOptions & { path?: string },
): ParsedModelConfig {
  if (typeof text !== "string") throw invalidArgument("text", "a string", text);
  const { path, logger } = readOptions(options, ["path", "logger"]);
  return parse(text, path, logger);
}

function readOptions(options: unknown, known: readonly string[]) {
  const reader = new OptionReader("model config option", options, known);
  const path = reader.get("path") ?? "model-config.yaml";
  if (typeof path !== "string") throw invalidArgument("path", "a string", path);
  const logger = (reader.get("logger") ?? silentLogger) as Partial<Logger>;
  if (typeof logger.warn !== "function") throw invalidArgument("logger", "an object with a method warn", logger);
  return { path, logger: settleLogger(logger as Logger), signal: reader.signal("signal") };
}

async function readText(path: string, signal: AbortSignal | undefined): Promise<string> {
  const bytes = await readRegularFile(path, { code: "ERR_CONFIG", limitBytes: fileLimits.yaml, signal });
  if (bytes === undefined) {
    throw new ShardspeedError("ERR_CONFIG", `Cannot read the model config: there is no file ${resolve(path)}`);
  }
  return decode(bytes, resolve(path));
}

function decode(bytes: Buffer, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new ShardspeedError("ERR_CONFIG", `${path} is not UTF-8 text: save it as UTF-8`, { cause: error });
  }
}

function parse(text: string, path: string, logger: Logger): ParsedModelConfig {
  if (text.length > fileLimits.yaml) {
    throw new ShardspeedError("ERR_CONFIG", `${path}: expected at most 1 MiB of YAML, found more`);
  }
  const findings = new Findings(path);
  const tree = readYaml(text.replace(/^\uFEFF/, ""), findings);
  if (tree !== undefined && tree.kind !== "map" && !(tree.kind === "scalar" && tree.value === null)) {
    findings.error(tree.place, `expected a map of settings, found ${describeValue(tree)}`);
  }
  const file = tree?.kind === "map" ? tree : undefined;
  const settings = file === undefined ? new Map() : validate(file, findings);
  findings.throwErrors();
  const warnings = findings.warnings();
  for (const warning of warnings) logger.warn(warning);
  const given = new Map<string, GivenKey>();
  for (const [name, { value, keyPlace }] of settings) given.set(name, { value, place: findings.name(keyPlace) });
  const values = fillDefaults(new Map([...given].map(([name, { value }]) => [name, value])));
  return { values, raw: file === undefined ? {} : mapData(file), given, warnings };
}
