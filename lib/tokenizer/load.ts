import { ShardspeedError } from "../base/errors.js";
import type { JsonObject } from "../base/json.js";
import { readTokenizerFiles } from "./files.js";
import { HubTokenizer } from "./hub_tokenizer.js";
import type { NamedToken } from "./settings.js";
import type { Tokenizer } from "./types.js";

/**
 * Loads the tokenizer of a model folder: tokenizer.json, and if they exist tokenizer_config.json,
 * special_tokens_map.json and chat templates.
 *
 * @returns undefined if the folder has no tokenizer.json.
 * @throws ShardspeedError ERR_TOKENIZER if a file cannot be used; the message names it.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer | undefined> {
  const files = await readTokenizerFiles(folder);
  if (files === undefined) return undefined;
  const { path, chatTemplates } = files;
  const tokenizer = completeTokenizer(files.tokenizer, path);
  const specialTokens = addSpecialTokens(tokenizer, files.config);
  try {
    return new HubTokenizer(tokenizer, files.config, specialTokens, chatTemplates);
  } catch (error) {
    throw new ShardspeedError("ERR_TOKENIZER", `${path} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

/** The keys that may be left out, and the checks without which the library would fail with a message about itself. */
function completeTokenizer(json: JsonObject, path: string): JsonObject {
  const model = json.model as JsonObject | undefined;
  if (typeof model !== "object" || model === null) {
    throw new ShardspeedError("ERR_TOKENIZER", `${path} has no "model": it is not a tokenizer.json`);
  }
  if (typeof model.vocab !== "object" || model.vocab === null) {
    throw new ShardspeedError("ERR_TOKENIZER", `${path} has no "model.vocab"`);
  }
  if (model.type === "BPE" && !Array.isArray(model.merges)) {
    throw new ShardspeedError("ERR_TOKENIZER", `${path} has a BPE model without "model.merges"`);
  }
  const added = json.added_tokens ?? [];
  const valid = (token: unknown) => {
    const { id, content } = (token ?? {}) as JsonObject;
    return Number.isSafeInteger(id) && (id as number) >= 0 && typeof content === "string";
  };
  if (!Array.isArray(added) || !added.every(valid)) {
    throw new ShardspeedError("ERR_TOKENIZER", `${path} has "added_tokens" that are no list of {id, content}`);
  }
  return {
    ...json,
    normalizer: json.normalizer ?? null,
    pre_tokenizer: json.pre_tokenizer ?? null,
    post_processor: json.post_processor ?? null,
    decoder: json.decoder ?? null,
    added_tokens: added.map((token: JsonObject) => ({ ...token })),
  };
}

const namedTokens = [
  "bos_token",
  "eos_token",
  "unk_token",
  "sep_token",
  "pad_token",
  "cls_token",
  "mask_token",
] as const;

/** A token in tokenizer_config.json is a string, or an object with its text as `content`. */
function contentOf(token: unknown): string | undefined {
  const content = typeof token === "object" && token !== null ? (token as JsonObject).content : token;
  return typeof content === "string" ? content : undefined;
}

/**
 * Makes special what the config calls so: tokenizer.json may hold such tokens as plain vocabulary, and then a "</s>"
 * in a text would be spelled out and skipSpecialTokens would not skip it.
 *
 * @returns The named tokens, such as bos_token, that the tokenizer has.
 */
function addSpecialTokens(tokenizer: JsonObject, config: JsonObject): Map<string, NamedToken> {
  const added = tokenizer.added_tokens as JsonObject[];
  const vocab = (tokenizer.model as JsonObject).vocab as JsonObject | [string, number][];
  // Some models add thousands.
  const byContent = new Map(added.map((token) => [token.content, token]));
  const idOf = (token: string): number | undefined => {
    const known = byContent.get(token);
    if (known !== undefined) return known.id as number;
    const id = Array.isArray(vocab)
      ? vocab.findIndex(([piece]) => piece === token)
      : Object.hasOwn(vocab, token)
        ? vocab[token]
        : -1;
    return typeof id === "number" && id >= 0 ? id : undefined;
  };
  const declare = (content: string, id: number, options: JsonObject = {}): void => {
    const known = byContent.get(content);
    if (known !== undefined) {
      if (options.special !== false) known.special = true;
      return;
    }
    const token = { normalized: false, special: true, ...options, id, content };
    added.push(token);
    byContent.set(content, token);
  };
  for (const [id, token] of Object.entries((config.added_tokens_decoder ?? {}) as JsonObject)) {
    const content = contentOf(token);
    if (content !== undefined && /^\d+$/.test(id)) declare(content, Number(id), token as JsonObject);
  }
  const named = new Map<string, NamedToken>();
  for (const name of namedTokens) {
    const token = contentOf(config[name]);
    if (token === undefined) continue;
    const id = idOf(token);
    named.set(name, { token, id });
    if (id !== undefined) declare(token, id);
  }
  for (const list of [config.additional_special_tokens, config.extra_special_tokens]) {
    for (const entry of typeof list === "object" && list !== null ? Object.values(list) : []) {
      const token = contentOf(entry);
      const id = token === undefined ? undefined : idOf(token);
      if (token !== undefined && id !== undefined) declare(token, id);
    }
  }
  return named;
}
