import type { GeneratedLogprob, LikelyToken } from "../../../engine/logprobs.js";

/** JSON has no infinity; vLLM's number. */
const floor = -9999;

export function toNumber(logprob: number): number {
  return Math.max(logprob, floor);
}

/** The legacy form of completions: columns. */
export interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  text_offset: number[];
}

/** A token's text; one that is a part of a character as `bytes:\xe2\x80`, so that no two have the same name. */
export function toName({ id, token, bytes }: Omit<LikelyToken, "logprob">, asIds: boolean): string {
  if (asIds || token === undefined) return `token_id:${id}`;
  if (bytes === undefined || !token.includes("\uFFFD") || isWhole(bytes)) return token;
  return `bytes:${bytes.map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
}

/** Whether bytes are whole characters: the character U+FFFD is one. */
function isWhole(bytes: readonly number[]): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(bytes));
    return true;
  } catch {
    return false;
  }
}

/** Counts characters as Python does, by code points. */
export function countCharacters(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0xdc00 || unit > 0xdfff || !isHighSurrogate(text, i - 1)) count++;
  }
  return count;
}

function isHighSurrogate(text: string, i: number): boolean {
  const unit = text.charCodeAt(i);
  return unit >= 0xd800 && unit <= 0xdbff;
}

/** Makes columns of a sequence's tokens, and counts where each begins in the text. */
export class CompletionColumns {
  #characters: number;
  readonly #asIds: boolean;

  /** @param start Characters of the text ahead of the first token. */
  constructor(start: number, asIds: boolean) {
    this.#characters = start;
    this.#asIds = asIds;
  }

  take(logprobs: readonly GeneratedLogprob[]): CompletionLogprobs {
    const columns: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    for (const one of logprobs) {
      columns.tokens.push(toName(one, this.#asIds));
      columns.token_logprobs.push(toNumber(one.logprob));
      columns.top_logprobs.push(toTopColumn(one, one.top, this.#asIds));
      columns.text_offset.push(this.#place(one.bytes ?? []));
    }
    return columns;
  }

  /** A token that continues a character is where that begins. */
  #place(bytes: readonly number[]): number {
    const continues = (byte: number) => (byte & 0xc0) === 0x80;
    const place = bytes[0] !== undefined && continues(bytes[0]) ? Math.max(0, this.#characters - 1) : this.#characters;
    this.#characters += bytes.filter((byte) => !continues(byte)).length;
    return place;
  }
}

/** The token itself last: where two have one name, its number stays. */
export function toTopColumn(one: LikelyToken, top: readonly LikelyToken[], asIds: boolean): Record<string, number> {
  return Object.fromEntries([...top, one].map((likely) => [toName(likely, asIds), toNumber(likely.logprob)]));
}

export function joinColumns(parts: readonly CompletionLogprobs[]): CompletionLogprobs {
  return {
    tokens: parts.flatMap(({ tokens }) => tokens),
    token_logprobs: parts.flatMap((part) => part.token_logprobs),
    top_logprobs: parts.flatMap((part) => part.top_logprobs),
    text_offset: parts.flatMap((part) => part.text_offset),
  };
}

/** A token in the form of chat. */
export interface ChatToken {
  token: string;
  logprob: number;
  /** Those of the vocabulary, so that clients can join parts of characters. */
  bytes: number[] | null;
}

export type ChatLogprob = ChatToken & { top_logprobs: ChatToken[] };

export function toChatLogprob(one: GeneratedLogprob, asIds: boolean): ChatLogprob {
  return { ...toChatToken(one, asIds), top_logprobs: one.top.map((likely) => toChatToken(likely, asIds)) };
}

function toChatToken({ id, token, logprob, bytes }: LikelyToken, asIds: boolean): ChatToken {
  const name = asIds || token === undefined ? `token_id:${id}` : token;
  return { token: name, logprob: toNumber(logprob), bytes: bytes ?? null };
}
