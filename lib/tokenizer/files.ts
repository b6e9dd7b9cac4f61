import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { describeJsonError } from "../base/json_error.js";

/** An object as JSON has it. */
export type JsonObject = { [key: string]: unknown };

/** What a model folder says about its tokenizer. */
export interface TokenizerFiles {
  /** The path of tokenizer.json, for messages. */
  path: string;
  tokenizer: JsonObject;
  /** tokenizer_config.json, on top of special_tokens_map.json; empty where there are none. */
  config: JsonObject;
  /** Chat templates by name; the usual one is "default". */
  chatTemplates: Map<string, string>;
}

/** Reads the tokenizer files of a folder; undefined when it has no tokenizer.json. */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles | undefined> {
  const path = join(folder, "tokenizer.json");
  const [tokenizer, config, specialTokens, templateFile, oldTemplateFile, named] = await Promise.all([
    readJson(path),
    readJson(join(folder, "tokenizer_config.json")),
    readJson(join(folder, "special_tokens_map.json")),
    readText(join(folder, "chat_template.jinja")),
    readJson(join(folder, "chat_template.json")),
    readNamedTemplates(join(folder, "additional_chat_templates")),
  ]);
  if (tokenizer === undefined) return undefined;
  const chatTemplates = new Map<string, string>();
  addTemplates(chatTemplates, oldTemplateFile?.chat_template);
  // As in transformers, template files replace what the config has.
  if (templateFile === undefined && named.size === 0) addTemplates(chatTemplates, config?.chat_template);
  for (const [name, template] of named) chatTemplates.set(name, template);
  if (templateFile !== undefined) chatTemplates.set("default", templateFile);
  return { path, tokenizer, config: { ...specialTokens, ...config }, chatTemplates };
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
  const names = await readdir(folder).catch(() => [] as string[]);
  const templates = new Map<string, string>();
  for (const name of names.filter((name) => name.endsWith(".jinja")).sort()) {
    const text = await readText(join(folder, name));
    if (text !== undefined) templates.set(name.slice(0, -".jinja".length), text);
  }
  return templates;
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const text = await readFile(path, "utf8");
    return text.startsWith("\uFEFF") ? text.slice(1) : text;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new ShardspeedError("ERR_TOKENIZER", `Cannot read ${path}: ${message}`, { cause: error });
  }
}

async function readJson(path: string): Promise<JsonObject | undefined> {
  const text = await readText(path);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ShardspeedError("ERR_TOKENIZER", `${path} is not JSON: ${describeJsonError(text, error)}`, {
      cause: error,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ShardspeedError("ERR_TOKENIZER", `${path} holds no JSON object`);
  }
  return value as JsonObject;
}
