import type { JsonObject } from "./encoding/json.js";

/**
 * What a class puts around a text, and around two: $A and $B, and between them tokens by their names in the settings ("cls_token") or as they are.
 * What stands behind a ":" is the type of a text or token, else it is 0.
 */
export interface Around {
  single: string;
  pair: string;
}

/** A tokenizer.json as a class of transformers makes it of a vocabulary, and what it has where the settings are silent. */
export interface ClassParts {
  tokenizer: JsonObject;
  defaults: JsonObject;
  /** Instead of a post-processor: the ids are known when all tokens are. */
  around?: Around;
  /** Tokens that are no plain text, beside those that the settings name. */
  extraTokens?: readonly JsonObject[];
}

/** The same, of a file. */
export interface SourceParts extends ClassParts {
  /** The post-processor follows add_bos_token and add_eos_token. */
  addsByFlags: boolean;
}

/** What a class reads of a tokenizer.json or of files of another form. */
export interface Given {
  model: JsonObject;
  config: JsonObject;
  /** A SentencePiece model's precompiled_charsmap. */
  charsMap: unknown;
  /** tokenizer.json's; null where there is none. */
  postProcessor: unknown;
}

export interface ClassBuilder {
  model: "BPE" | "Unigram" | "WordPiece";
  build(given: Given): ClassParts;
}

/** Text of a token in tokenizer_config.json: a string, or an object with its text as `content`. */
export function contentOf(token: unknown): string | undefined {
  const content = typeof token === "object" && token !== null ? (token as JsonObject).content : token;
  return typeof content === "string" ? content : undefined;
}

export function bytePairs({ vocab, merges }: JsonObject, more: JsonObject = {}): JsonObject {
  return { type: "BPE", vocab, merges, fuse_unk: false, ...more };
}

export const replace = (pattern: JsonObject, content: string): JsonObject => ({ type: "Replace", pattern, content });
export const sequenceOf = (key: string, parts: JsonObject[]): JsonObject => ({ type: "Sequence", [key]: parts });
/** Words at white space, each behind a ▁. */
export function unigramWords(
  model: JsonObject,
  unknown: unknown,
  config: JsonObject,
  normalizers: JsonObject[],
): JsonObject {
  const prefixed = { type: "Metaspace", prepend_scheme: config.add_prefix_space === false ? "never" : "always" };
  return {
    model: { type: "Unigram", vocab: model.vocab, unk_id: unknown, byte_fallback: false },
    normalizer: sequenceOf("normalizers", normalizers),
    pre_tokenizer: sequenceOf("pretokenizers", [{ type: "WhitespaceSplit" }, prefixed]),
    decoder: prefixed,
  };
}

export const precompiled = (charsMap: unknown): JsonObject[] =>
  charsMap === undefined ? [] : [{ type: "Precompiled", precompiled_charsmap: charsMap }];

export const special = (content: string): JsonObject => ({ content, special: true, normalized: false });
