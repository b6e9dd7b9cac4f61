import { constants as fsConstants } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { describeJsonError } from "../base/json.js";
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

/** Published tokenizer.json files have up to 35 MB, templates 20 kB. */
const largestVocabulary = 2 ** 28;
const largestSmallFile = 2 ** 24;
const largestTemplate = 2 ** 20;
const mostTemplates = 100;

/** Reads the JSON files and templates of a folder. */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const at = (name: string) => join(folder, name);
  const names = await readdir(folder).catch(() => [] as string[]);
  const [tokenizer, config, specialTokens, addedTokens, model, template, oldTemplate, named] = await Promise.all([
    readJson(at("tokenizer.json"), largestVocabulary),
    readJson(at("tokenizer_config.json")),
    readJson(at("special_tokens_map.json")),
    readJson(at("added_tokens.json")),
    readJson(at("config.json")).catch(() => undefined), // Reading the model tells about that one.
    readTextFile(at("chat_template.jinja"), largestTemplate),
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
    const text = await readTextFile(join(folder, name), largestTemplate);
    if (text !== undefined) templates.set(name.slice(0, -".jinja".length), text);
  }
  return templates;
}

/** The bytes of a file; undefined where there is none. Only plain files are read, and none beyond a size. */
export async function readBytes(path: string, limit = largestVocabulary): Promise<Buffer | undefined> {
  try {
    // Without O_NONBLOCK a pipe in the file's place would be waited for.
    const file = await open(path, fsConstants.O_RDONLY | (fsConstants.O_NONBLOCK ?? 0));
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw new ShardspeedError("ERR_TOKENIZER", `${path} is no plain file`);
      if (stats.size > limit) {
        throw new ShardspeedError("ERR_TOKENIZER", `${path} has ${stats.size} bytes; more than ${limit} are not read`);
      }
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (ShardspeedError.isInstance(error)) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new ShardspeedError("ERR_TOKENIZER", `Cannot read ${path}: ${message}`, { cause: error });
  }
}

export async function readTextFile(path: string, limit = largestVocabulary): Promise<string | undefined> {
  const bytes = await readBytes(path, limit);
  const text = bytes?.toString("utf8");
  return text?.startsWith("\uFEFF") ? text.slice(1) : text;
}

export async function readJson(path: string, limit = largestSmallFile): Promise<JsonObject | undefined> {
  const text = await readTextFile(path, limit);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof SyntaxError ? describeJsonError(text, error) : "it is nested too deep";
    throw new ShardspeedError("ERR_TOKENIZER", `${path} is not JSON: ${reason}`, { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ShardspeedError("ERR_TOKENIZER", `${path} holds no JSON object`);
  }
  return value as JsonObject;
}
