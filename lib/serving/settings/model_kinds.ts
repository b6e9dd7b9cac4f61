import path from "node:path";
import { nearestKey } from "../../base/nearest.js";
import { isObject } from "../../base/objects.js";
import type { Checked } from "../../base/rules.js";
import { truncate } from "../../base/text.js";
import { checkValue } from "../../torchserve_config/check_value.js";
import type { Settings } from "../../torchserve_config/effective.js";
import { modelYamlKeys } from "../../torchserve_config/keys.js";
import { type SettingKind, splitList } from "./kinds.js";

/** A model to load at the start. */
export interface ModelToLoad {
  /** undefined: as the archive names itself, or after its file. */
  name?: string;
  /** An archive, a folder or a URL, in the model store or anywhere. */
  location: string;
}

/** "all": every archive and folder of the model store. */
export type ModelsToLoad = "all" | readonly ModelToLoad[];

/** Settings of one version of a model, from the key `models` of config.properties. */
export interface ModelVersionSettings {
  model: string;
  version: string;
  isDefault: boolean;
  /** Its archive in the model store. */
  archive?: string;
  /** By the names of model-config.yaml, which goes first. */
  settings: Settings;
}

const namePattern = /^[A-Za-z0-9][\w.\-/]*$/;

/** `opt=opt.mar`, `opt.mar`, or a list of them; "all"; "standalone" and "none" for no model. */
export const modelsToLoad: SettingKind<ModelsToLoad> = {
  placeholder: " <name=path...>",
  words: "`all`, or a list of `NAME=PATH` and `PATH`",
  isList: true,
  read(text) {
    const items = splitList(text);
    const [only = ""] = items;
    if (items.length === 1 && only.toLowerCase() === "all") return { value: "all" };
    if (items.length === 1 && ["none", "standalone"].includes(only.toLowerCase())) return { value: [] };
    const value = items.map(readModelToLoad);
    const wrong = value.findIndex(({ location }) => location === "" || location.includes("\0"));
    if (wrong >= 0) return { expected: "NAME=PATH, such as opt=opt.mar", at: wrong };
    const names = value.map(nameOf);
    const repeated = names.findIndex((name, i) => names.indexOf(name) < i);
    return repeated < 0 ? { value } : { expected: "each model's name once", at: repeated };
  },
  show: (value) =>
    value === "all"
      ? value
      : value.map(({ name, location }) => (name === undefined ? location : `${name}=${location}`)).join(", "),
};

/** A path or URL may hold "=" as well: what is no name before it belongs to the path. */
function readModelToLoad(text: string): ModelToLoad {
  const [, name = "", location = ""] = /^([^=]*?)\s*=\s*(.*)$/s.exec(text) ?? [];
  return namePattern.test(name) ? { name, location } : { location: text };
}

/** The name that a model is served under, where nothing but its location names it. */
export function nameOf({ name, location }: ModelToLoad): string {
  return name ?? path.basename(location.replace(/[?#].*$/s, "")).replace(/\.(mar|zip|tar\.gz|tgz)$/i, "");
}

/** `custom_handler.py=TextGenerationHandler`, or a list of such pairs. */
export const handlerMap: SettingKind<Readonly<Record<string, string>>> = {
  placeholder: " <from=to...>",
  words: "a list of `HANDLER=REPLACEMENT`",
  isList: true,
  read(text) {
    const pairs = splitList(text).map((pair) => /^([^=]+)=([^=]+)$/.exec(pair)?.slice(1) ?? []);
    const wrong = pairs.findIndex((pair) => pair.length !== 2);
    if (wrong >= 0)
      return { expected: "HANDLER=REPLACEMENT, such as custom_handler.py=TextGenerationHandler", at: wrong };
    return { value: Object.fromEntries(pairs as [string, string][]) };
  },
};

/** TorchServe's `models={"opt": {"1.0": {"defaultVersion": true, "marName": "opt.mar", "minWorkers": 1}}}`. */
export const modelSettings: SettingKind<readonly ModelVersionSettings[]> = {
  placeholder: " <json>",
  words: 'JSON: `{"NAME": {"VERSION": {"marName": ..., "minWorkers": ...}}}`',
  read(text) {
    const expected = 'JSON of the form {"NAME": {"VERSION": {"marName": "x.mar", "minWorkers": 1}}}';
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch (error) {
      return { expected: `${expected}: ${truncate((error as Error).message)}` };
    }
    if (!isObject(parsed)) return { expected };
    const value: ModelVersionSettings[] = [];
    const remarks: string[] = [];
    for (const [model, versions] of Object.entries(parsed)) {
      if (!isObject(versions)) return { expected: `${expected}: ${truncate(model)} has no versions` };
      for (const [version, given] of Object.entries(versions)) {
        const read = readVersion(model, version, given, remarks);
        if ("expected" in read) return read;
        value.push(read.value);
      }
    }
    return remarks.length === 0 ? { value } : { value, remark: remarks.slice(0, 10).join("; ") };
  },
  show: (value) => JSON.stringify(value),
};

function readVersion(model: string, version: string, given: unknown, remarks: string[]): Checked<ModelVersionSettings> {
  const where = truncate(`${model} ${version}`);
  if (!isObject(given)) return { expected: `an object of settings for ${where}` };
  const { defaultVersion = false, marName, ...rest } = given;
  if (typeof defaultVersion !== "boolean") return { expected: `true or false as defaultVersion of ${where}` };
  if (marName !== undefined && (typeof marName !== "string" || marName === ""))
    return { expected: `the name of an archive as marName of ${where}` };
  const settings: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(rest)) {
    if (!Object.hasOwn(modelYamlKeys, key)) {
      const near = nearestKey(key, ["defaultVersion", "marName", ...Object.keys(modelYamlKeys)]);
      remarks.push(`${truncate(key)} of ${where} is no setting${near === undefined ? "" : `; did you mean ${near}?`}`);
      continue;
    }
    const checked = checkValue(key, value);
    if ("expected" in checked) return { expected: `${checked.expected} as ${key} of ${where}` };
    settings[key] = checked.value;
  }
  return {
    value: {
      model,
      version,
      isDefault: defaultVersion,
      ...(marName === undefined ? {} : { archive: marName }),
      settings,
    },
  };
}
