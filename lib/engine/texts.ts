import { throwIfAborted } from "../base/abort.js";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { nextTurn } from "../tokenizer/encoding/turns.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { checkTokenIds } from "./generation_options.js";

/** What turning texts into sequences needs. */
export interface TextReader {
  tokenizer: Tokenizer | undefined;
  /** Why there is none, as a clause with the files that are there. */
  tokenizerFiles: string;
  vocabSize: number;
  contextTokens: number;
}

/** The tokenizer, or the error that says what there is in its place. */
export function requireTokenizer({ tokenizer, tokenizerFiles }: TextReader): Tokenizer {
  if (tokenizer) return tokenizer;
  throw new ShardspeedError("ERR_TOKENIZER", `Found a text, and no tokenizer: pass token ids. ${tokenizerFiles}.`);
}

/** How long texts are read at a stretch, in milliseconds. */
const slice = 2;

/** Reads texts one after another, giving way to other work every few milliseconds, and to the signal. */
export async function readTexts<T>(
  texts: readonly unknown[],
  read: (text: unknown, name: string) => Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T[]> {
  const rows: T[] = [];
  let end = performance.now() + slice;
  // A copy: the caller may change the array meanwhile.
  for (const [i, text] of [...texts].entries()) {
    rows.push(await read(text, `texts[${i}]`));
    if (performance.now() >= end) {
      await nextTurn();
      end = performance.now() + slice;
    }
    throwIfAborted(signal);
  }
  return rows;
}

/** More than any vocabulary's longest token: runs of spaces and dashes go up to some 128. */
const longestTokenCharacters = 512;

/** Encoding takes time on the JavaScript thread: none is spent on what is far too long. */
export function checkTextLength(text: string, contextTokens: number, name: string): void {
  if (text.length <= contextTokens * longestTokenCharacters) return;
  throw new ShardspeedError(
    "ERR_CONTEXT_LENGTH",
    `Found ${text.length} characters in ${name}, which cannot be ${contextTokens} tokens or fewer. Shorten the text.`,
  );
}

/** Tokens of one text, special ones included. `limit`: it is cut to so many; undefined: what is too long is an error. */
export async function readText(
  reader: TextReader,
  text: string,
  name: string,
  limit: number | undefined,
): Promise<number[]> {
  const tokenizer = requireTokenizer(reader);
  if (limit === undefined) checkTextLength(text, reader.contextTokens, name);
  const cut = limit === undefined ? {} : { maxLength: Math.min(limit, reader.contextTokens) };
  const tokens = await tokenizer.encodeAsync(text, cut);
  checkSequence(reader, tokens, name, text);
  return tokens;
}

/**
 * @param given What the tokens are of, for messages.
 * @throws ShardspeedError ERR_CONTEXT_LENGTH, or ERR_INVALID_ARGUMENT for no tokens and for ids that the model does not have.
 */
export function checkSequence(
  { vocabSize, contextTokens }: TextReader,
  tokens: readonly number[],
  name: string,
  given: unknown,
): void {
  if (tokens.length === 0) throw invalidArgument(name, "at least one token", given);
  checkTokenIds(tokens, vocabSize, name);
  if (tokens.length <= contextTokens) return;
  throw new ShardspeedError(
    "ERR_CONTEXT_LENGTH",
    `Found ${tokens.length} tokens in ${name}, expected no more than ${contextTokens}. Shorten the text, or pass truncate: true to have it cut.`,
  );
}
