import type { DecodeStream, Tokenizer } from "../tokenizer/types.js";

/** What became of some tokens. */
export interface TextPiece {
  /** Text that is certain by now and can be shown. Often "". */
  text: string;
  /** A stop string has come: the text before it is complete with this piece. */
  stopped: boolean;
}

export interface TextStreamOptions {
  /** Text ends before the first of these; they are not part of it. Default none. */
  stop?: readonly string[];
  /** Leave special tokens out. Default true. */
  skipSpecialTokens?: boolean;
}

/**
 * Turns the ids of a sequence, as they come, into text pieces. No piece splits a character, and what could be the
 * beginning of a stop string is held back until it is known not to be one. The cost of a token depends on the stop
 * strings, not on how much text there is.
 */
export class TextStream {
  readonly #decoder: DecodeStream;
  readonly #stops: StopStrings;
  #stopped = false;

  constructor(
    tokenizer: Pick<Tokenizer, "decodeStream">,
    { stop = [], skipSpecialTokens = true }: TextStreamOptions = {},
  ) {
    this.#decoder = tokenizer.decodeStream({ skipSpecialTokens });
    this.#stops = new StopStrings(stop);
  }

  /** Whether a stop string has ended the text. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Takes the next ids. Those behind a stop string are ignored. */
  push(ids: number | readonly number[]): TextPiece {
    if (typeof ids === "number") return this.#take(this.#stopped ? "" : this.#decoder.push(ids));
    let text = "";
    for (const id of ids) {
      text += this.push(id).text;
      if (this.#stopped) break;
    }
    return { text, stopped: this.#stopped };
  }

  /** Ends the sequence: the text that was held back, an unfinished character as U+FFFD. */
  flush(): TextPiece {
    if (this.#stopped) return { text: "", stopped: true };
    const { text, stopped } = this.#take(this.#decoder.flush());
    return stopped ? { text, stopped } : { text: text + this.#stops.release(), stopped };
  }

  #take(text: string): TextPiece {
    if (this.#stopped || text === "") return { text: "", stopped: this.#stopped };
    const piece = this.#stops.push(text);
    this.#stopped = piece.stopped;
    return piece;
  }
}

/**
 * Looks for stop strings in text that comes in pieces. Where several occur, the one that is complete first ends the
 * text, and of those complete at the same character the longest: so the cut does not depend on where pieces end.
 */
class StopStrings {
  readonly #stops: readonly string[];
  /** Text that may be the beginning of a stop string. */
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  push(text: string): TextPiece {
    const candidate = this.#held + text;
    const cut = this.#findCut(candidate);
    if (cut !== undefined) {
      this.#held = "";
      return { text: candidate.slice(0, cut), stopped: true };
    }
    const ready = candidate.length - this.#pendingLength(candidate);
    this.#held = candidate.slice(ready);
    return { text: candidate.slice(0, ready), stopped: false };
  }

  release(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  #findCut(text: string): number | undefined {
    let cut: number | undefined;
    let end = Number.POSITIVE_INFINITY;
    for (const stop of this.#stops) {
      const start = text.indexOf(stop);
      if (start < 0) continue;
      const stopEnd = start + stop.length;
      if (stopEnd < end || (stopEnd === end && start < (cut as number))) {
        cut = start;
        end = stopEnd;
      }
    }
    return cut;
  }

  /** The length of the longest end of `text` that begins a stop string. */
  #pendingLength(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) {
          longest = length;
          break;
        }
      }
    }
    return longest;
  }
}
