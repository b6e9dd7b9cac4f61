import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { isObject } from "../base/objects.js";
import type { NativeTokenLimits } from "../native/binding.js";
import type { Tokenizer } from "../tokenizer/types.js";

/** Options that say which tokens may come next, checked; what depends on the model is not. */
export interface TokenLimits {
  /** Ids and what is added to their logits. */
  logitBias: [id: number, bias: number][];
  /** undefined: all. */
  allowedTokenIds: number[] | undefined;
  badWords: string[];
}

/** Largest bias, as OpenAI's. */
export const mostBias = 100;
/** A step looks at each of them. */
export const mostBadWords = 1000;
const maxInt32 = 2 ** 31 - 1;

/** The limits of a request that has none. */
export const noLimits: NativeTokenLimits = {
  biasTokens: new Int32Array(0),
  biases: [],
  allowedTokens: new Int32Array(0),
  badWords: [],
  grammar: 0,
};

/** @throws ShardspeedError ERR_INVALID_ARGUMENT that names the option. */
export function readTokenLimits(get: (name: keyof TokenLimits) => unknown): TokenLimits {
  return {
    logitBias: readLogitBias(get("logitBias")),
    allowedTokenIds: readAllowedTokenIds(get("allowedTokenIds")),
    badWords: readBadWords(get("badWords")),
  };
}

function readLogitBias(value: unknown): [number, number][] {
  if (value === undefined) return [];
  const expected = `an object or a Map of token ids and numbers from -${mostBias} to ${mostBias}`;
  if (!(value instanceof Map) && !isObject(value)) throw invalidArgument("logitBias", expected, value);
  const entries: [unknown, unknown][] = value instanceof Map ? [...value] : Object.entries(value);
  const biases = new Map<number, number>();
  for (const [key, bias] of entries) {
    const id = typeof key === "string" && /^(0|[1-9]\d*)$/.test(key) ? Number(key) : key;
    if (!isTokenId(id)) throw invalidArgument("logitBias", "token ids as its keys", key);
    // A Map may have an id as a number and as text.
    if (biases.has(id)) throw invalidArgument("logitBias", "one number for each token id", key);
    if (typeof bias !== "number" || !(Math.abs(bias) <= mostBias))
      throw invalidArgument(`logitBias[${id}]`, `a number from -${mostBias} to ${mostBias}`, bias);
    biases.set(id, bias);
  }
  return [...biases];
}

function isTokenId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= maxInt32;
}

function readAllowedTokenIds(value: unknown): number[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length === 0)
    throw invalidArgument("allowedTokenIds", "an array of at least one token id", value);
  for (const [i, id] of value.entries())
    if (!isTokenId(id)) throw invalidArgument(`allowedTokenIds[${i}]`, "a token id", id);
  return [...new Set(value as number[])];
}

function readBadWords(value: unknown): string[] {
  if (value === undefined) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (!list.every((word) => typeof word === "string" && word !== ""))
    throw invalidArgument("badWords", "a string or an array of strings, none empty", value);
  if (list.length > mostBadWords)
    throw invalidArgument("badWords", `at most ${mostBadWords} strings`, `${list.length} strings`);
  const words = list as string[];
  for (const word of words)
    if (/\p{Surrogate}/u.test(word)) throw invalidArgument("badWords", "text of whole Unicode characters", word);
  return [...new Set(words)];
}

/**
 * What the engine takes. A bad word may stand at the beginning of a text and inside of one, so it is encoded with and without a space ahead of it.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for ids that the model does not have, ERR_TOKENIZER for bad words without a tokenizer.
 */
export async function toNativeLimits(
  { logitBias, allowedTokenIds = [], badWords }: TokenLimits,
  vocabSize: number,
  tokenizer: Tokenizer | undefined,
): Promise<Omit<NativeTokenLimits, "grammar">> {
  const expected = `token ids from 0 to ${vocabSize - 1}`;
  const check = (name: string, ids: readonly number[]): void => {
    const wrong = ids.find((id) => id >= vocabSize);
    if (wrong !== undefined) throw invalidArgument(name, expected, wrong);
  };
  const biased = logitBias.map(([id]) => id);
  check("logitBias", biased);
  check("allowedTokenIds", allowedTokenIds);
  return {
    biasTokens: Int32Array.from(biased),
    biases: logitBias.map(([, bias]) => bias),
    allowedTokens: Int32Array.from(allowedTokenIds),
    badWords: badWords.length === 0 ? [] : await encodeWords(badWords, tokenizer),
  };
}

async function encodeWords(words: readonly string[], tokenizer: Tokenizer | undefined): Promise<Int32Array[]> {
  if (tokenizer === undefined) {
    throw new ShardspeedError(
      "ERR_TOKENIZER",
      "Bad words need a tokenizer, and the model has none. Use logitBias with -100.",
    );
  }
  const forms = new Map<string, Int32Array>();
  for (const word of words) {
    for (const text of [word, ` ${word.trimStart()}`]) {
      // A space alone would forbid more than the word.
      if (text === " " && word !== " ") continue;
      const ids = await tokenizer.encodeAsync(text, { addSpecialTokens: false });
      if (ids.length > 0) forms.set(ids.join(), Int32Array.from(ids));
    }
  }
  return [...forms.values()];
}
