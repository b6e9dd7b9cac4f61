import { contentOf } from "./class_builder.js";
import type { JsonObject } from "./encoding/json.js";
import type { TokenizerFiles } from "./files.js";
import type { TokenizerSource } from "./source.js";

/** A token as settings name it; flags that are undefined have their defaults. */
export interface DeclaredToken {
  content: string;
  special?: boolean | undefined;
  normalized?: boolean | undefined;
  single_word?: boolean | undefined;
  lstrip?: boolean | undefined;
  rstrip?: boolean | undefined;
}

/** What tokenizer_config.json and the files beside it come to. */
export interface Settings {
  config: JsonObject;
  /** By names such as bos_token, in transformers' order. */
  named: Record<string, DeclaredToken>;
  /** additional_special_tokens, extra_special_tokens. */
  extra: DeclaredToken[];
  /** added_tokens_decoder and what stands for it, by id. */
  declared: Map<number, DeclaredToken>;
  addsBos: boolean;
  addsEos: boolean;
}

const standardNames = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/**
 * Merges the settings as transformers 5 does (`PreTrainedTokenizerBase._from_pretrained`):
 * special_tokens_map.json and added_tokens.json count only where tokenizer_config.json has no added_tokens_decoder, and
 * then special_tokens_map.json wins.
 */
export function mergeSettings(files: TokenizerFiles, source: TokenizerSource): Settings {
  const config: JsonObject = { ...files.config };
  if (!isFilled(config.extra_special_tokens) && "additional_special_tokens" in config) {
    config.extra_special_tokens = config.additional_special_tokens;
  }
  const decoder = config.added_tokens_decoder;
  const isModern = typeof decoder === "object" && decoder !== null;
  if (!isModern) mergeSpecialTokensMap(config, files.specialTokens ?? {});
  applyDefaults(config, source);
  const declared = isModern ? readDecoder(decoder as JsonObject) : readLegacyTokens(files, config);
  const known = new Map([...declared.values()].map((token) => [token.content, token] as const));
  const named: Record<string, DeclaredToken> = {};
  const extraNamed = isPlainObject(config.extra_special_tokens) ? config.extra_special_tokens : {};
  const others = Object.keys(config).filter((key) => key.endsWith("_token") && !standardNames.includes(key));
  for (const name of [...standardNames, ...others, ...Object.keys(extraNamed)]) {
    const value = Object.hasOwn(extraNamed, name) ? extraNamed[name] : config[name];
    const token = readToken(value);
    if (token === undefined) continue;
    named[name] = known.get(token.content) ?? token;
  }
  const listed = Array.isArray(config.extra_special_tokens) ? config.extra_special_tokens : (source.extraTokens ?? []);
  const extra = listed.map(readToken).filter((token) => token !== undefined);
  const fromFlags = files.tokenizer === undefined;
  return {
    config,
    named,
    extra,
    declared,
    // transformers drops these two where there is a tokenizer.json.
    addsBos: fromFlags && source.addsByFlags && config.add_bos_token === true,
    addsEos: fromFlags && source.addsByFlags && config.add_eos_token === true,
  };
}

function isFilled(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : isPlainObject(value) && Object.keys(value).length > 0;
}

function isPlainObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function mergeSpecialTokensMap(config: JsonObject, map: JsonObject): void {
  for (const [key, value] of Object.entries(map)) {
    if (key === "extra_special_tokens" && Array.isArray(value)) {
      const existing = Array.isArray(config[key]) ? (config[key] as unknown[]) : [];
      const contents = new Set(existing.map(contentOf));
      config[key] = [...existing, ...value.filter((token) => !contents.has(contentOf(token)))];
    } else {
      config[key] = value;
    }
  }
  if (!isFilled(config.extra_special_tokens) && isFilled(map.additional_special_tokens)) {
    config.extra_special_tokens = map.additional_special_tokens;
  }
}

/** What the tokenizer's class, and padding that is set in tokenizer.json, give where the settings are silent. */
function applyDefaults(config: JsonObject, { defaults, tokenizer }: TokenizerSource): void {
  const padding = isPlainObject(tokenizer.padding) ? tokenizer.padding : {};
  const truncation = isPlainObject(tokenizer.truncation) ? tokenizer.truncation : {};
  const silent: JsonObject = {
    ...defaults,
    pad_token: padding.pad_token ?? defaults.pad_token,
    padding_side: typeof padding.direction === "string" ? padding.direction.toLowerCase() : defaults.padding_side,
    truncation_side: typeof truncation.direction === "string" ? truncation.direction.toLowerCase() : undefined,
    model_max_length: config.max_len,
  };
  for (const [key, value] of Object.entries(silent)) {
    if (value !== undefined && !(key in config)) config[key] = value;
  }
}

function readToken(value: unknown): DeclaredToken | undefined {
  const content = contentOf(value);
  if (content === undefined) return undefined;
  if (typeof value === "string") return { content };
  const { special, normalized, single_word, lstrip, rstrip } = value as JsonObject;
  const flag = (one: unknown) => (typeof one === "boolean" ? one : undefined);
  return {
    content,
    special: flag(special),
    normalized: flag(normalized),
    single_word: flag(single_word),
    lstrip: flag(lstrip),
    rstrip: flag(rstrip),
  };
}

function readDecoder(decoder: JsonObject): Map<number, DeclaredToken> {
  const tokens = new Map<number, DeclaredToken>();
  for (const [id, value] of Object.entries(decoder)) {
    const token = readToken(value);
    if (token === undefined || !/^\d+$/.test(id))
      throw new Error(`added_tokens_decoder has ${JSON.stringify(id)}, which is no token`);
    tokens.set(Number(id), { ...token, special: token.special ?? false });
  }
  return tokens;
}

/** added_tokens.json, then what tokenizer.json has. */
function readLegacyTokens({ addedTokens, tokenizer }: TokenizerFiles, config: JsonObject): Map<number, DeclaredToken> {
  const special = new Set<string | undefined>(standardNames.map((name) => contentOf(config[name])));
  if (Array.isArray(config.extra_special_tokens))
    for (const token of config.extra_special_tokens) special.add(contentOf(token));
  const tokens = new Map<number, DeclaredToken>();
  for (const [content, id] of Object.entries(addedTokens ?? {})) {
    if (!Number.isSafeInteger(id) || (id as number) < 0) {
      throw new Error(`added_tokens.json has no id for ${JSON.stringify(content)}`);
    }
    const isSpecial = special.has(content);
    tokens.set(id as number, { content, special: isSpecial, normalized: !isSpecial });
  }
  for (const token of readAddedTokens(tokenizer?.added_tokens)) tokens.set(token.id, token);
  return tokens;
}

/** `added_tokens` of a tokenizer.json. */
export function readAddedTokens(list: unknown): (DeclaredToken & { id: number })[] {
  if (list === undefined || list === null) return [];
  const invalid = (): Error => new Error('it has "added_tokens" that are no list of {id, content}');
  if (!Array.isArray(list)) throw invalid();
  return list.map((value: unknown) => {
    const token = typeof value === "object" && value !== null ? readToken(value) : undefined;
    const { id } = (value ?? {}) as JsonObject;
    if (token === undefined || !Number.isSafeInteger(id) || (id as number) < 0) throw invalid();
    return { ...token, id: id as number, special: token.special ?? false };
  });
}
