import type { JsonObject } from "../base/json.js";

/**
 * Rewrites a tokenizer.json so that @huggingface/tokenizers reads it as the Rust package does. That library knows word
 * and digit characters of ASCII only in some pre-tokenizers, takes every kind of split for "isolated", and does not split
 * at Metaspace; but its regular expressions are right, so those parts are put as regular expressions.
 *
 * @throws Error for parts that it would read wrongly, naming them.
 */
export function toLibraryForm(tokenizer: JsonObject): JsonObject {
  const model = tokenizer.model as JsonObject;
  if (
    model.type === "BPE" &&
    typeof model.continuing_subword_prefix === "string" &&
    model.continuing_subword_prefix !== ""
  ) {
    throw new Error("a BPE model with a continuing_subword_prefix is not supported");
  }
  return {
    ...tokenizer,
    normalizer: rewriteNormalizer(tokenizer.normalizer as JsonObject | null),
    pre_tokenizer: rewritePreTokenizer(tokenizer.pre_tokenizer as JsonObject | null),
    decoder: null, // Decoding is not its work.
  };
}

function rewriteNormalizer(config: JsonObject | null): JsonObject | null {
  if (config?.type === "Sequence") {
    return { ...config, normalizers: ((config.normalizers ?? []) as JsonObject[]).map(rewriteNormalizer) };
  }
  return config?.type === "Replace" ? literalContent(config) : config;
}

/** A dollar in the replacement stands for itself, which String.prototype.replaceAll must be told. */
export function literalContent(config: JsonObject): JsonObject {
  return typeof config.content === "string" ? { ...config, content: config.content.replaceAll("$", "$$$$") } : config;
}

/** How GPT-2 splits text before byte-level BPE. */
const gpt2Words = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/** Unicode's punctuation, and all of ASCII's, some of which Unicode counts as symbols. */
const punctuation = "[\\p{P}\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E]";

/** What \w is to Rust's regular expressions: with the joiners, without superscript digits. */
const wordCharacters = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\u200c\u200d";

function rewritePreTokenizer(config: JsonObject | null): JsonObject | null {
  switch (config?.type) {
    case "Sequence":
      return { ...config, pretokenizers: ((config.pretokenizers ?? []) as JsonObject[]).map(rewritePreTokenizer) };
    case "Split":
      return rewriteSplit(config);
    case "Whitespace":
      return pieces(`[${wordCharacters}]+|[^${wordCharacters}\\s]+`);
    case "WhitespaceSplit":
      return pieces("\\S+");
    case "CharDelimiterSplit":
      return rewriteSplit({ pattern: { String: config.delimiter }, behavior: "Removed" });
    case "Punctuation":
      return rewriteSplit({ pattern: { Regex: punctuation }, behavior: config.behavior ?? "Isolated" });
    case "Digits":
      return rewriteSplit({
        pattern: { Regex: "\\p{N}" },
        behavior: config.individual_digits === true ? "Isolated" : "Contiguous",
      });
    case "ByteLevel":
      // With a prefix space the library must see the text before it is split.
      if (config.use_regex === false || config.add_prefix_space === true) return config;
      return sequence(pieces(gpt2Words), { ...config, use_regex: false });
    case "Metaspace":
      return rewriteMetaspace(config);
  }
  return config;
}

function rewriteMetaspace(config: JsonObject): JsonObject {
  // Older files have add_prefix_space instead of prepend_scheme.
  const scheme = config.prepend_scheme ?? (config.add_prefix_space === false ? "never" : "always");
  const metaspace = { ...config, prepend_scheme: scheme };
  if (config.split === false) return metaspace;
  const mark = escapePattern((config.replacement as string | undefined) ?? "▁");
  return sequence(metaspace, pieces(`${mark}(?:(?!${mark})[\\s\\S])*|(?:(?!${mark})[\\s\\S])+`));
}

/** Each behaviour as a pattern of the pieces that are to come out. */
function rewriteSplit(config: JsonObject): JsonObject {
  const { Regex, String: literal } = (config.pattern ?? {}) as { Regex?: string; String?: string };
  if (Regex === undefined && literal === undefined) throw new Error("a Split pre-tokenizer has no pattern");
  const delimiter = `(?:${Regex ?? escapePattern(literal as string)})`;
  const other = `(?:(?!${delimiter})[\\s\\S])`;
  const invert = config.invert === true;
  switch (String(config.behavior ?? "Isolated").toLowerCase()) {
    case "isolated":
      return { ...config, type: "Split", invert: false };
    case "removed":
      return invert ? { ...config, type: "Split" } : pieces(`${other}+`);
    case "mergedwithprevious":
      if (!invert) return pieces(`${other}*${delimiter}|${other}+`);
      break;
    case "mergedwithnext":
      if (!invert) return pieces(`${delimiter}${other}*|${other}+`);
      break;
    case "contiguous":
      return pieces(`${delimiter}+|${other}+`);
  }
  throw new Error(`a Split pre-tokenizer with behavior ${config.behavior}, invert ${invert} is not supported`);
}

function pieces(pattern: string): JsonObject {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Removed", invert: true };
}

function sequence(...pretokenizers: JsonObject[]): JsonObject {
  return { type: "Sequence", pretokenizers };
}

function escapePattern(literal: string): string {
  return literal.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}
