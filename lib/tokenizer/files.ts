import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { readJsonObject, readTextIfThere } from "../base/json.js";
import { fileLimits, readRegularFile } from "../base/regular_file.js";
import type { JsonObject } from "./encoding/json.js";

export type { JsonObject } from "./encoding/json.js";

/** What a model folder says about its tokenizer. */
export interface TokenizerFiles {
  folder: string;
  /** The names of the files that are there, for messages. */
  names: string[];
  tokenizer: JsonObject | undefined;
  config: JsonObject | undefined;
  specialTokens: JsonObject | undefined;
  addedTokens: JsonObject | undefined;
  /** config.json */
  model: JsonObject | undefined;
  /** Chat templates by name; the usual one is "default". */
  chatTemplates: Map<string, string>;
}

const mostTemplates = 100;

/** Reads the JSON files and templates of a folder. */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const at = (name: string) => join(folder, name);
  const names = await readdir(folder).catch(() => [] as string[]);
  const [tokenizer, config, specialTokens, addedTokens, model, template, oldTemplate, named] = await Promise.all([
    readJson(at("tokenizer.json"), fileLimits.vocabulary),
    readJson(at("tokenizer_config.json")),
    readJson(at("special_tokens_map.json")),
    readJson(at("added_tokens.json")),
    readJson(at("config.json")).catch(() => undefined), // Reading the model tells about that one.
    readTextFile(at("chat_template.jinja"), fileLimits.template),
    readJson(at("chat_template.json")),
    readNamedTemplates(at("additional_chat_templates")),
  ]);
  const chatTemplates = new Map<string, string>();
  addTemplates(chatTemplates, oldTemplate?.chat_template);
  // As in transformers, template files replace what the config has.
  if (template === undefined && named.size === 0) addTemplates(chatTemplates, config?.chat_template);
  for (const [name, text] of named) chatTemplates.set(name, text);
  if (template !== undefined) chatTemplates.set("default", template);
  return { folder, names: names.sort(), tokenizer, config, specialTokens, addedTokens, model, chatTemplates };
}

/** A template is one string, or a list of named ones, or an object of them. */
function addTemplates(templates: Map<string, string>, found: unknown): void {
  if (typeof found === "string") {
    templates.set("default", found);
  } else if (Array.isArray(found)) {
    for (const entry of found as { name?: unknown; template?: unknown }[]) {
      if (typeof entry?.name === "string" && typeof entry.template === "string") {
        templates.set(entry.name, entry.template);
      }
    }
  } else if (typeof found === "object" && found !== null) {
    for (const [name, template] of Object.entries(found)) {
      if (typeof template === "string") templates.set(name, template);
    }
  }
}

async function readNamedTemplates(folder: string): Promise<Map<string, string>> {
  const names = (await readdir(folder).catch(() => [] as string[])).filter((name) => name.endsWith(".jinja")).sort();
  if (names.length > mostTemplates) {
    throw new ShardspeedError("ERR_TOKENIZER", `${folder} has more than ${mostTemplates} templates`);
  }
  const templates = new Map<string, string>();
  for (const name of names) {
    const text = await readTextFile(join(folder, name), fileLimits.template);
    if (text !== undefined) templates.set(name.slice(0, -".jinja".length), text);
  }
  return templates;
}

/** The bytes of a file; undefined where there is none. */
export async function readBytes(path: string, limitBytes: number = fileLimits.vocabulary): Promise<Buffer | undefined> {
  return readRegularFile(path, { code: "ERR_TOKENIZER", limitBytes });
}

export async function readTextFile(
  path: string,
  limitBytes: number = fileLimits.vocabulary,
): Promise<string | undefined> {
  return readTextIfThere(path, { code: "ERR_TOKENIZER", limitBytes });
}

export async function readJson(
  path: string,
  limitBytes: number = fileLimits.settings,
): Promise<JsonObject | undefined> {
  return (await readJsonObject(path, { code: "ERR_TOKENIZER", limitBytes })) as JsonObject | undefined;
}
