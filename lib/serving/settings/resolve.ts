import { existsSync } from "node:fs";
import path from "node:path";
import { ShardspeedError } from "../../base/errors.js";
import { escapeControls, showValue } from "../../base/text.js";
import { type ConfigFile, noConfigFile, readConfigFile } from "./config_file.js";
import { planServer } from "./plan.js";
import type { Origin, Origins, ResolvedSettings } from "./resolved.js";
import { variablesOf } from "./row.js";
import { type ServerSettings, type SettingName, settingNames, settingOf, settings } from "./table.js";

/** Where settings come from. */
export interface SettingSources {
  /** Values of flags as they are written; those of a list with commas between. */
  flags?: Partial<Record<SettingName, string>>;
  environment?: NodeJS.ProcessEnv;
  /** The current folder, where config.properties is looked for. */
  folder?: string;
}

interface Candidate extends Origin {
  text: string;
}

/**
 * The settings, each from the first source that has it: flags, environment, config.properties, default.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for wrong flags, ERR_CONFIG for all else; all wrong values are in one message.
 */
export async function resolveSettings(sources: SettingSources): Promise<ResolvedSettings> {
  const { flags = {}, environment = {}, folder = "." } = sources;
  const warnings: string[] = [];
  const file = await findConfigFile(flags, environment, folder);
  warnings.push(...(file?.warnings ?? []));
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  const errors: { isOfFlag: boolean; text: string }[] = [];
  for (const name of settingNames) {
    const candidate = findCandidate(name, { flags, environment, file }, warnings);
    if (candidate === undefined) {
      values[name] = settings[name].unset;
      origins[name] = { source: "default", place: "" };
      continue;
    }
    const { text, ...origin } = candidate;
    const checked = settingOf(name).kind.read(text);
    if ("expected" in checked) {
      errors.push({ isOfFlag: origin.source === "flag", text: describeWrong(name, candidate, checked.expected) });
      continue;
    }
    if (checked.remark !== undefined) warnings.push(escapeControls(`${nameOf(name, origin)}: ${checked.remark}`));
    values[name] = checked.value;
    origins[name] = origin;
  }
  if (errors.length > 0) {
    const code = errors.some(({ isOfFlag }) => isOfFlag) ? "ERR_INVALID_ARGUMENT" : "ERR_CONFIG";
    throw new ShardspeedError(code, errors.map(({ text }) => text).join("\n"));
  }
  // The table says what each value is, which the compiler cannot see.
  return planServer(values as unknown as ServerSettings, origins as unknown as Origins, warnings);
}

/**
 * Complete settings from values in the code, such as those of a test.
 *
 * @throws ShardspeedError as resolveSettings(), for values that contradict each other.
 */
export function completeSettings(given: Partial<ServerSettings>): ResolvedSettings {
  const has = (name: SettingName) => given[name] !== undefined;
  const values = Object.fromEntries(settingNames.map((name) => [name, has(name) ? given[name] : settings[name].unset]));
  const origins = Object.fromEntries(
    settingNames.map((name): [string, Origin] => [
      name,
      has(name) ? { source: "option", place: name } : { source: "default", place: "" },
    ]),
  );
  return planServer(values as unknown as ServerSettings, origins as unknown as Origins, []);
}

async function findConfigFile(
  flags: Partial<Record<SettingName, string>>,
  environment: NodeJS.ProcessEnv,
  folder: string,
): Promise<ConfigFile | undefined> {
  const { own } = variablesOf("configFile", settings.configFile);
  const named = flags.configFile ?? (environment[own] || environment.TS_CONFIG_FILE || undefined);
  if (named !== undefined) {
    const file = await readConfigFile(path.resolve(folder, named), environment);
    if (file === undefined) throw noConfigFile(path.resolve(folder, named));
    return file;
  }
  const model = variablesOf("modelFolder", settings.modelFolder).own;
  const hasModel = flags.modelFolder !== undefined || (environment[model] ?? "") !== "";
  const usual = path.resolve(folder, "config.properties");
  return hasModel || !existsSync(usual) ? undefined : readConfigFile(usual, environment);
}

interface TextSources {
  flags: Partial<Record<SettingName, string>>;
  environment: NodeJS.ProcessEnv;
  file: ConfigFile | undefined;
}

function findCandidate(name: SettingName, sources: TextSources, warnings: string[]): Candidate | undefined {
  const { flags, environment, file } = sources;
  const row = settingOf(name);
  const flag = flags[name];
  if (flag !== undefined) return { text: flag, source: "flag", place: flagPlace(name) };
  const { own, torchServe } = variablesOf(name, row);
  const text = ownVariable(name, own, environment, warnings);
  if (text !== undefined) return { text, source: "environment", place: own };
  if (name === "configFile" && environment.TS_CONFIG_FILE)
    return { text: environment.TS_CONFIG_FILE, source: "environment", place: "TS_CONFIG_FILE" };
  const theirs = torchServe === undefined ? undefined : environment[torchServe];
  if (torchServe !== undefined && theirs !== undefined && theirs !== "") {
    const missing = whyNotCounted(name, file);
    if (missing === undefined) return { text: theirs, source: "environment", place: torchServe };
    warnings.push(`${torchServe} has no effect without ${missing} in config.properties; ${own} has one`);
  }
  const property = file?.properties.find(({ key }) => key === row.key);
  // Java keeps blanks at the end, and TorchServe then fails on numbers.
  return property && property.value.trim() !== ""
    ? { text: property.value.trim(), source: "config.properties", place: `${file?.file}:${property.line}` }
    : undefined;
}

function ownVariable(
  name: SettingName,
  variable: string,
  environment: NodeJS.ProcessEnv,
  warnings: string[],
): string | undefined {
  const text = environment[variable];
  if (text === "" && settingOf(name).isSecret) warnings.push(`${variable} is empty, and counts as not set`);
  // Kubernetes sets this in every pod beside a service that is called "shardspeed".
  if (name === "port" && text?.startsWith("tcp://")) {
    warnings.push(`${variable}=${escapeControls(text)} is taken for the variable of a Kubernetes service, and ignored`);
    return undefined;
  }
  return text === "" ? undefined : text;
}

/** TorchServe reads its variables only where the file says so, and those of URLs only where it says so again. */
function whyNotCounted(name: SettingName, file: ConfigFile | undefined): string | undefined {
  if (!file?.readsVariables) return "enable_envvars_config=true";
  return name === "allowedUrls" && !file.readsAllowedUrls ? "use_env_allowed_urls=true" : undefined;
}

function flagPlace(name: SettingName): string {
  const flag = settingOf(name).flags?.[0];
  return flag === undefined ? "MODEL" : `--${flag}`;
}

/** "--port", "SHARDSPEED_PORT", "config.properties:3: job_queue_size". */
function nameOf(name: SettingName, { source, place }: Origin): string {
  return source === "config.properties" ? `${place}: ${settingOf(name).key}` : place;
}

function describeWrong(name: SettingName, candidate: Candidate, expected: string): string {
  const found = settingOf(name).isSecret ? "something else" : showValue(candidate.text);
  return escapeControls(`Expected ${nameOf(name, candidate)} to be ${expected.replaceAll("`", "")}, found ${found}`);
}
