import { spellBytes } from "../byte_level.js";
import { flattenSequence, type JsonObject, stringOf } from "./json.js";
import { splitByMoses } from "./moses.js";
import { createDelimiter } from "./normalizers.js";
import { Pattern } from "./pattern.js";

/** A piece of a text. `first`: at the very start of it. */
interface Piece {
  text: string;
  first: boolean;
}

type Splitter = (piece: Piece) => Iterable<string>;

/** Splits text into the words that the model takes one by one. Lazily: a long text is not split at once. */
export type PreTokenizer = (text: string, first: boolean) => Iterable<string>;

/** Reads the `pre_tokenizer` of a tokenizer.json. */
export function createPreTokenizer(config: unknown): PreTokenizer {
  const steps = flattenSequence(config, "pretokenizers", "pre_tokenizer").map(createStep);
  const run = function* (text: string, first: boolean, from: number): Iterable<string> {
    const step = steps[from];
    if (step === undefined) {
      if (text !== "") yield text;
      return;
    }
    let isFirst = first;
    for (const piece of step({ text, first })) {
      if (piece === "") continue;
      yield* run(piece, isFirst, from + 1);
      isFirst = false;
    }
  };
  return (text, first) => run(text, first, 0);
}

/** How GPT-2 splits text before byte-level BPE. */
const gpt2Words = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/** Unicode's punctuation, and all of ASCII's, some of which Unicode counts as symbols. */
const punctuation = "[\\p{P}\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E]";

function createStep(config: JsonObject): Splitter {
  switch (config.type) {
    case "ByteLevel":
      return createByteLevel(config);
    case "Metaspace":
      return createMetaspace(config);
    case "Split":
      return createSplit(
        createDelimiter(config.pattern, "a Split's pattern"),
        config.behavior ?? "Isolated",
        config.invert === true,
      );
    case "Whitespace":
      return createSplit(new Pattern("\\w+|[^\\w\\s]+"), "Removed", true);
    case "WhitespaceSplit":
      return createSplit(new Pattern("\\s"), "Removed", false);
    case "CharDelimiterSplit":
      return createSplit(stringOf(config.delimiter, "pre_tokenizer.delimiter"), "Removed", false);
    case "Punctuation":
      return createSplit(new Pattern(punctuation), config.behavior ?? "Isolated", false);
    case "Digits":
      return createSplit(new Pattern("\\p{N}"), config.individual_digits === true ? "Isolated" : "Contiguous", false);
    case "BertPreTokenizer": {
      const words = createSplit(new Pattern("\\s"), "Removed", false);
      const marks = createSplit(new Pattern(punctuation), "Isolated", false);
      return function* (piece) {
        for (const word of words(piece)) yield* marks({ text: word, first: false });
      };
    }
    case "Moses":
      return ({ text }) => splitByMoses(text);
    case "FixedLength": {
      const length = config.length ?? 5;
      if (!Number.isSafeInteger(length) || (length as number) < 1) throw new Error("pre_tokenizer.length is no length");
      return function* ({ text }) {
        const characters = Array.from(text);
        for (let i = 0; i < characters.length; i += length as number)
          yield characters.slice(i, i + (length as number)).join("");
      };
    }
  }
  throw new Error(`pre-tokenizer type ${JSON.stringify(config.type)} is not known`);
}

function createByteLevel(config: JsonObject): Splitter {
  const words = config.use_regex === false ? undefined : createSplit(new Pattern(gpt2Words), "Isolated", false);
  return function* ({ text, first }) {
    const prefixed = config.add_prefix_space === true && !text.startsWith(" ") ? ` ${text}` : text;
    if (words === undefined) yield spellBytes(prefixed);
    else for (const word of words({ text: prefixed, first })) yield spellBytes(word);
  };
}

function createMetaspace(config: JsonObject): Splitter {
  const mark = typeof config.replacement === "string" ? config.replacement : "▁";
  // Older files have add_prefix_space instead of prepend_scheme.
  const scheme = config.prepend_scheme ?? (config.add_prefix_space === false ? "never" : "always");
  if (scheme !== "always" && scheme !== "first" && scheme !== "never") throw new Error("prepend_scheme is not known");
  const words = config.split === false ? undefined : createSplit(mark, "MergedWithNext", false);
  return function* ({ text, first }) {
    const marked = text.replaceAll(" ", mark);
    const prepends = !marked.startsWith(mark) && (scheme === "always" || (scheme === "first" && first));
    const prefixed = prepends ? mark + marked : marked;
    if (words === undefined) yield prefixed;
    else yield* words({ text: prefixed, first });
  };
}

interface Range {
  start: number;
  end: number;
}

function* literalMatches(text: string, literal: string): Iterable<Range> {
  if (literal === "") return;
  for (let start = text.indexOf(literal); start >= 0; ) {
    const end = start + literal.length;
    yield { start, end };
    start = text.indexOf(literal, end);
  }
}

/** A split as the Rust package has it: what to do with what a pattern matches. */
function createSplit(delimiter: string | Pattern, behavior: unknown, invert: boolean): Splitter {
  const matches = (text: string) =>
    typeof delimiter === "string" ? literalMatches(text, delimiter) : delimiter.matches(text);
  /** All ranges of a text in order, each with whether it is a delimiter. */
  const ranges = function* (text: string): Iterable<Range & { isDelimiter: boolean }> {
    let place = 0;
    for (const { start, end } of matches(text)) {
      if (start > place) yield { start: place, end: start, isDelimiter: invert };
      yield { start, end, isDelimiter: !invert };
      place = end;
    }
    if (place < text.length) yield { start: place, end: text.length, isDelimiter: invert };
  };
  const kind = String(behavior).toLowerCase();
  switch (kind) {
    case "isolated":
      return function* ({ text }) {
        for (const { start, end } of ranges(text)) yield text.slice(start, end);
      };
    case "removed":
      return function* ({ text }) {
        for (const { start, end, isDelimiter } of ranges(text)) if (!isDelimiter) yield text.slice(start, end);
      };
    case "mergedwithprevious":
    case "mergedwithnext":
    case "contiguous":
      return merging(kind, ranges);
  }
  throw new Error(`a Split's behavior ${JSON.stringify(behavior)} is not known`);
}

/** The behaviours by which a range joins its neighbour. */
function merging(kind: string, ranges: (text: string) => Iterable<Range & { isDelimiter: boolean }>): Splitter {
  /** Whether a range goes to the one before it. */
  const joins = (before: boolean, now: boolean): boolean =>
    kind === "contiguous" ? before === now : kind === "mergedwithprevious" ? now && !before : before && !now;
  return function* ({ text }) {
    let start = 0;
    let end = 0;
    let before: boolean | undefined;
    for (const range of ranges(text)) {
      if (before === undefined || !joins(before, range.isDelimiter)) {
        if (before !== undefined) yield text.slice(start, end);
        start = range.start;
      }
      end = range.end;
      before = range.isDelimiter;
    }
    if (before !== undefined) yield text.slice(start, end);
  };
}
