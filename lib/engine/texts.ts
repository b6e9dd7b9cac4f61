import { invalidArgument, ShardspeedError } from "../base/errors.js";
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

/** Tokens of one text, special ones included. `limit`: it is cut to so many; undefined: what is too long is an error. */
export async function readText(
  reader: TextReader,
  text: string,
  name: string,
  limit: number | undefined,
): Promise<number[]> {
  const tokenizer = requireTokenizer(reader);
  const most = limit === undefined ? undefined : Math.min(limit, reader.contextTokens);
  const tokens =
    most === undefined
      ? await tokenizer.encodeAsync(text)
      : tokenizer(text, { truncation: true, maxLength: most }).inputIds;
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
