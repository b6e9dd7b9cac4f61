import { Bpe, byteTokens, spellInBytes } from "./bpe.js";
import { type JsonObject, objectOf } from "./json.js";
import { PrefixTree } from "./prefix_tree.js";

/** Turns words into ids. */
export interface Model {
  /** Pushes a word's ids to `ids`; yields now and then where a word is long. */
  tokenize(word: string, ids: number[]): Generator<void>;
}

/** Tokens by id, with holes, and ids by token. */
export interface Vocabulary {
  tokens: (string | undefined)[];
  ids: Map<string, number>;
}

/** Ids above this are refused: tables are as long as the largest. */
const largestId = 2 ** 24;

/** Reads `model.vocab`. */
export function readVocabulary(model: JsonObject): Vocabulary {
  const tokens: (string | undefined)[] = [];
  const ids = new Map<string, number>();
  const { vocab } = model;
  if (typeof vocab !== "object" || vocab === null) throw new Error('it has no "model.vocab"');
  if (Array.isArray(vocab)) {
    for (const [id, entry] of vocab.entries()) {
      const token: unknown = Array.isArray(entry) ? entry[0] : undefined;
      if (typeof token !== "string" || !Number.isFinite(entry[1]))
        throw new Error(`model.vocab[${id}] is no [token, score]`);
      tokens[id] = token;
      // Of two that are equal the first one's id counts in a search, the last one's for the Rust package.
      ids.set(token, id);
    }
    return { tokens, ids };
  }
  for (const [token, id] of Object.entries(vocab)) {
    checkId(id, token);
    tokens[id as number] = token;
    ids.set(token, id as number);
  }
  return { tokens, ids };
}

export function checkId(id: unknown, token: string): asserts id is number {
  if (!Number.isSafeInteger(id) || (id as number) < 0 || (id as number) > largestId) {
    throw new Error(`the id of ${JSON.stringify(token)} is no integer from 0 to ${largestId}`);
  }
}

export function createModel(config: JsonObject, vocabulary: Vocabulary): Model {
  const { ids } = vocabulary;
  const type = config.type ?? guessType(config);
  switch (type) {
    case "BPE":
      if (!Array.isArray(config.merges)) throw new Error('a BPE model has no "model.merges"');
      return new Bpe(config, ids, vocabulary.tokens.length);
    case "Unigram":
      return new Unigram(config, vocabulary);
    case "WordPiece":
      return createWordPiece(config, ids);
    case "WordLevel": {
      const unknown = ids.get(String(config.unk_token ?? "<unk>"));
      return wholeWords((word) => ids.get(word) ?? unknown);
    }
  }
  throw new Error(`model type ${JSON.stringify(type)} is not known`);
}

/** Older files leave the type out. */
function guessType(config: JsonObject): string | undefined {
  if (Array.isArray(config.merges)) return "BPE";
  if (Array.isArray(config.vocab)) return "Unigram";
  return "max_input_chars_per_word" in config || "continuing_subword_prefix" in config ? "WordPiece" : "WordLevel";
}

function wholeWords(idOf: (word: string) => number | undefined): Model {
  return {
    // biome-ignore lint/correctness/useYield: a word is one look-up.
    *tokenize(word, ids) {
      const id = idOf(word);
      if (id !== undefined) ids.push(id);
    },
  };
}

/** The longest beginning that is a token, again and again. */
function createWordPiece(config: JsonObject, vocab: ReadonlyMap<string, number>): Model {
  const unknown = vocab.get(String(config.unk_token ?? "[UNK]"));
  const prefix = String(config.continuing_subword_prefix ?? "##");
  const longest = Number(config.max_input_chars_per_word ?? 100);
  const split = (word: string): number[] | undefined => {
    const characters = Array.from(word);
    if (characters.length > longest) return undefined;
    const ids: number[] = [];
    for (let start = 0; start < characters.length; ) {
      let end = characters.length;
      let id: number | undefined;
      for (; end > start; end--) {
        id = vocab.get((start > 0 ? prefix : "") + characters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return undefined;
      ids.push(id);
      start = end;
    }
    return ids;
  };
  return {
    // biome-ignore lint/correctness/useYield: words are short, and long ones are unknown.
    *tokenize(word, ids) {
      const found = split(word) ?? (unknown === undefined ? [] : [unknown]);
      for (const id of found) ids.push(id);
    },
  };
}

/** What an unknown character costs beyond the least likely token. */
const unknownPenalty = 10;

/** The likeliest way to spell a word in tokens (Viterbi), as in the Rust tokenizers package. */
class Unigram implements Model {
  readonly #tree = new PrefixTree();
  readonly #scores: Float64Array;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #unknown: number | undefined;
  readonly #unknownScore: number;
  readonly #byteIds: readonly number[] | undefined;

  constructor(config: JsonObject, { ids }: Vocabulary) {
    const entries = config.vocab as [string, number][];
    if (!Array.isArray(entries)) throw new Error("the vocabulary of a Unigram model is no array");
    this.#ids = ids;
    this.#scores = Float64Array.from(entries, ([, score]) => score);
    for (const [id, [token]] of entries.entries()) if (token !== "") this.#tree.add(token, id);
    const least = this.#scores.reduce((low, score) => Math.min(low, score), Number.POSITIVE_INFINITY);
    this.#unknownScore = least - unknownPenalty;
    const { unk_id: unknown } = config;
    if (unknown !== null && unknown !== undefined && entries[unknown as number] === undefined) {
      throw new Error("model.unk_id is no id of the vocabulary");
    }
    this.#unknown = (unknown as number | null | undefined) ?? undefined;
    this.#byteIds = config.byte_fallback === true ? byteTokens(ids) : undefined;
  }

  *tokenize(word: string, ids: number[]): Generator<void> {
    const { length } = word;
    const best = new Float64Array(length + 1);
    /** Where the token that ends here starts, -1: none does; and its id. */
    const from = new Int32Array(length + 1).fill(-1);
    const token = new Int32Array(length + 1).fill(-1);
    const offer = (start: number, end: number, id: number, score: number): void => {
      const total = (best[start] as number) + score;
      if (from[end] !== -1 && total <= (best[end] as number)) return;
      best[end] = total;
      from[end] = start;
      token[end] = id;
    };
    for (let start = 0; start < length; ) {
      const width = (word.codePointAt(start) as number) > 0xffff ? 2 : 1;
      let single = false;
      this.#tree.at(word, start, (id, end) => {
        offer(start, end, id, this.#scores[id] as number);
        if (end === start + width) single = true;
      });
      if (!single) offer(start, start + width, -1, this.#unknownScore);
      start += width;
      if ((start & 511) < width) yield;
    }
    const pieces: { start: number; end: number; id: number }[] = [];
    for (let end = length; end > 0; end = from[end] as number) {
      const isUnknown = token[end] === -1 || token[end] === this.#unknown;
      const before = pieces.at(-1);
      // Neighbouring unknown characters are one unknown token.
      if (isUnknown && before?.id === -1) before.start = from[end] as number;
      else pieces.push({ start: from[end] as number, end, id: isUnknown ? -1 : (token[end] as number) });
      if ((pieces.length & 1023) === 0) yield;
    }
    let done = 0;
    for (const { start, end, id } of pieces.reverse()) {
      if ((++done & 511) === 0) yield;
      if (id !== -1) ids.push(this.#ids.get(word.slice(start, end)) as number);
      else this.#spellUnknown(word.slice(start, end), ids);
    }
  }

  #spellUnknown(text: string, ids: number[]): void {
    const known = this.#ids.get(text);
    const bytes = known === undefined && this.#byteIds !== undefined ? spellInBytes(text, this.#byteIds) : undefined;
    if (known !== undefined) ids.push(known);
    else if (bytes !== undefined) for (const id of bytes) ids.push(id);
    else if (this.#unknown !== undefined) ids.push(this.#unknown);
  }
}

/** `model` of a tokenizer.json. */
export function modelOf(tokenizer: JsonObject): JsonObject {
  if (tokenizer.model === undefined || tokenizer.model === null) throw new Error('it has no "model"');
  return objectOf(tokenizer.model, "model");
}
