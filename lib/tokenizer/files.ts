import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { isObject, type JsonObject, readJsonObject, readTextIfThere } from "../base/json.js";

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
    readJsonObject(path, "ERR_TOKENIZER"),
    readJsonObject(join(folder, "tokenizer_config.json"), "ERR_TOKENIZER"),
    readJsonObject(join(folder, "special_tokens_map.json"), "ERR_TOKENIZER"),
    readTextIfThere(join(folder, "chat_template.jinja"), "ERR_TOKENIZER"),
    readJsonObject(join(folder, "chat_template.json"), "ERR_TOKENIZER"),
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
  } else if (isObject(found)) {
    for (const [name, template] of Object.entries(found)) {
      if (typeof template === "string") templates.set(name, template);
    }
  }
}

async function readNamedTemplates(folder: string): Promise<Map<string, string>> {
  const names = await readdir(folder).catch(() => [] as string[]);
  const templates = new Map<string, string>();
  for (const name of names.filter((name) => name.endsWith(".jinja")).sort()) {
    const text = await readTextIfThere(join(folder, name), "ERR_TOKENIZER");
    if (text !== undefined) templates.set(name.slice(0, -".jinja".length), text);
  }
  return templates;
}
