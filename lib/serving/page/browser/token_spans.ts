import type { AnswerToken } from "./chunks.js";

/** A piece of the answer's text, and the tokens that it was made of: several where they share a character. */
export interface TokenSpan {
  text: string;
  tokens: AnswerToken[];
}

/**
 * Divides the text of an answer by its tokens. The text is what the server sent, whatever its tokens say: the texts of all spans together are
 * always the answer. Text and tokens need not come together, as the server holds back what may become a stop string.
 */
export class TokenSpans {
  #text = "";
  #tokens: AnswerToken[] = [];
  #isFirst = true;

  /** Adds what came, and returns the spans that are certain now. */
  push(text: string, tokens: readonly AnswerToken[]): TokenSpan[] {
    this.#text += text;
    this.#tokens.push(...tokens);
    const spans: TokenSpan[] = [];
    while (this.#text !== "") {
      const span = this.#next();
      if (span === undefined) break;
      spans.push(span);
    }
    return spans;
  }

  /** The rest: text without tokens, since those that are left were not shown. */
  end(): TokenSpan[] {
    const text = this.#text;
    this.#text = "";
    this.#tokens = [];
    return text === "" ? [] : [{ text, tokens: [] }];
  }

  #next(): TokenSpan | undefined {
    if (this.#tokens.length === 0) return this.#take(this.#text, 0);
    for (let from = 0; from < this.#tokens.length; from++) {
      const found = this.#match(from);
      if (found === "wait") return undefined;
      if (found === undefined) continue; // a special token, which is no text
      this.#tokens.splice(0, from);
      return this.#take(found.text, found.count);
    }
    // None of the tokens is how the text goes on.
    return this.#take(this.#text, this.#tokens.length);
  }

  /** The text of the tokens from an index on, as many as make whole characters. */
  #match(from: number): { text: string; count: number } | "wait" | undefined {
    const bytes: number[] = [];
    for (let end = from; end < this.#tokens.length; end++) {
      bytes.push(...(this.#tokens[end] as AnswerToken).bytes);
      const whole = decode(bytes);
      if (whole === undefined) continue;
      // Tokenizers that mark the beginnings of words write no space ahead of the first one.
      const text = this.#isFirst && !this.#text.startsWith(whole) ? whole.trimStart() : whole;
      if (text === "") return undefined;
      if (this.#text.startsWith(text)) return { text, count: end - from + 1 };
      return text.startsWith(this.#text) ? "wait" : undefined;
    }
    return bytes.length > 0 && this.#tokens.length - from < 8 ? "wait" : undefined;
  }

  #take(text: string, count: number): TokenSpan {
    this.#text = this.#text.slice(text.length);
    this.#isFirst = false;
    return { text, tokens: this.#tokens.splice(0, count) };
  }
}

/** undefined for bytes that end within a character. */
function decode(bytes: readonly number[]): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return undefined;
  }
}
