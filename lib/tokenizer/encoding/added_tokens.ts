import type { Normalizer } from "./normalizers.js";
import { isSpaceAt } from "./normalizers.js";
import { wordAt } from "./pattern.js";
import { PrefixTree } from "./prefix_tree.js";

/** A token beside the model's: it is found in the text before the model sees that. */
export interface AddedToken {
  id: number;
  content: string;
  special: boolean;
  /** Found in the normalized text, in the form that normalizing gives it. */
  normalized: boolean;
  /** Only as a word of its own. */
  singleWord: boolean;
  /** Takes the white space before it, behind it. */
  lstrip: boolean;
  rstrip: boolean;
}

/** A part of a text: a token, or what is between tokens. */
export type Part = { token: AddedToken } | { text: string; first: boolean };

/** Finds tokens in a text: the leftmost, of those the longest. */
class TokenFinder {
  readonly #tree = new PrefixTree();
  readonly #tokens: AddedToken[] = [];
  /** The first code units of tokens: most places of a text begin none. */
  readonly #firsts = new Set<number>();

  add(content: string, token: AddedToken): void {
    if (content === "") return;
    this.#tree.add(content, this.#tokens.push(token) - 1);
    this.#firsts.add(content.charCodeAt(0));
  }

  *split(text: string, first: boolean): Iterable<Part> {
    if (this.#tokens.length === 0) {
      if (text !== "") yield { text, first };
      return;
    }
    let done = 0;
    for (let place = 0; place < text.length; ) {
      let found = -1;
      let end = place;
      if (this.#firsts.has(text.charCodeAt(place))) {
        this.#tree.at(text, place, (index, stop) => {
          found = index;
          end = stop;
        });
      }
      if (found < 0) {
        place++;
        continue;
      }
      const token = this.#tokens[found] as AddedToken;
      const start = place;
      place = end;
      if (token.singleWord && (isInWord(text, start) || wordAt(text, end))) continue;
      let from = start;
      if (token.lstrip) while (from > done && isSpaceAt(text, from - 1)) from--;
      if (token.rstrip) while (isSpaceAt(text, end)) end++;
      if (from > done) yield { text: text.slice(done, from), first: first && done === 0 };
      yield { token };
      done = Math.max(end, done);
      place = Math.max(place, done);
    }
    if (done < text.length) yield { text: text.slice(done), first: first && done === 0 };
  }
}

/** Whether the character before a place belongs to a word. */
function isInWord(text: string, place: number): boolean {
  if (place === 0) return false;
  const isPair = place >= 2 && (text.codePointAt(place - 2) as number) > 0xffff;
  return wordAt(text, place - (isPair ? 2 : 1));
}

/** Splits a text at added tokens, as the Rust package does: first the raw text, then what is between, normalized. */
export class AddedTokens {
  readonly #raw = new TokenFinder();
  readonly #normalized = new TokenFinder();
  readonly #normalizer: Normalizer;

  constructor(tokens: Iterable<AddedToken>, normalizer: Normalizer) {
    this.#normalizer = normalizer;
    for (const token of tokens) {
      if (token.normalized) this.#normalized.add(normalizer(token.content), token);
      else this.#raw.add(token.content, token);
    }
  }

  *split(text: string): Iterable<Part> {
    for (const part of this.#raw.split(text, true)) {
      if ("token" in part) yield part;
      else {
        const text = this.#normalizer(part.text);
        // For the Rust package a text whose first character the normalizer took away does not start where it starts.
        const start = String.fromCodePoint(part.text.codePointAt(0) ?? 0);
        const lostStart = part.first && this.#normalizer(start) === "";
        yield* this.#normalized.split(text, part.first && !lostStart);
      }
    }
  }
}
