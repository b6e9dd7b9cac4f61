import type { LikelyToken, PromptLogprob } from "../../../engine/logprobs.js";
import { type CompletionLogprobs, toName, toNumber, toTopColumn } from "./logprobs.js";

/** vLLM's form of a place in a prompt: its own token and the likeliest, by their ids. */
export type PromptLogprobMap = Record<string, { logprob: number; rank: number; decoded_token: string | null }>;

/** @param most How many of the likeliest a place has. */
export function toPromptMaps(logprobs: readonly (PromptLogprob | null)[], most: number): (PromptLogprobMap | null)[] {
  return logprobs.map((one) => {
    if (one === null) return null;
    const ranked = [one, ...one.top.slice(0, most).map((likely, i) => ({ ...likely, rank: i + 1 }))];
    return Object.fromEntries(
      ranked.map(({ id, logprob, rank, token }) => [
        id,
        { logprob: toNumber(logprob), rank, decoded_token: token ?? null },
      ]),
    );
  });
}

/** What the columns of an echoed prompt are made of. */
export interface EchoedPrompt {
  /** As it is echoed. */
  text: string;
  firstToken: Omit<LikelyToken, "logprob">;
  /** One for each token. */
  logprobs: readonly (PromptLogprob | null)[];
  /** How many of the likeliest a place has. */
  most: number;
  tokensAsIds: boolean;
}

/** The columns of an echoed prompt. Nothing is ahead of its first token, whose numbers are null. */
export function toPromptColumns({ text, firstToken, logprobs, most, tokensAsIds }: EchoedPrompt): CompletionLogprobs {
  const columns: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
  const places = new TextPlaces(text);
  for (const one of logprobs) {
    const token = one ?? firstToken;
    columns.tokens.push(toName(token, tokensAsIds));
    columns.token_logprobs.push(one === null ? null : toNumber(one.logprob));
    columns.top_logprobs.push(one === null ? null : toTopColumn(one, one.top.slice(0, most), tokensAsIds));
    columns.text_offset.push(places.next(token.bytes ?? []));
  }
  return columns;
}

/**
 * Finds where tokens begin in the text that they were made of. Some are not in it (special tokens, a space that a tokenizer adds), and of some
 * it says something else: they begin where the last one ended, and the next one that is found soon behind it goes on from there.
 */
class TextPlaces {
  /** Farther away, another place with the same bytes would be taken for the token's. */
  static readonly #mostSkipped = 32;
  readonly #bytes: Buffer;
  #at = 0;
  #characters = 0;

  constructor(text: string) {
    this.#bytes = Buffer.from(text);
  }

  /** @returns Code points of the text ahead of the next token; of one that continues a character, those ahead of that. */
  next(bytes: readonly number[]): number {
    const space = 0x20;
    const found =
      this.#find(bytes, 0) ??
      (bytes[0] === space ? this.#find(bytes.slice(1), 0) : undefined) ??
      this.#find(bytes, TextPlaces.#mostSkipped);
    if (found === undefined) return this.#characters;
    this.#moveTo(found.begin);
    const isInside = isContinuation(this.#bytes[found.begin]);
    const place = this.#characters - (isInside ? 1 : 0);
    this.#moveTo(found.end);
    return place;
  }

  #find(bytes: readonly number[], mostSkipped: number): { begin: number; end: number } | undefined {
    if (bytes.length === 0) return undefined;
    const last = this.#at + mostSkipped + bytes.length;
    const begin = this.#bytes.subarray(this.#at, last).indexOf(Uint8Array.from(bytes));
    return begin < 0 ? undefined : { begin: this.#at + begin, end: this.#at + begin + bytes.length };
  }

  #moveTo(place: number): void {
    for (; this.#at < place; this.#at++) if (!isContinuation(this.#bytes[this.#at])) this.#characters++;
  }
}

/** Whether a byte is not the first one of a character. */
function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}
