import type { DecodeStream, Tokenizer } from "../tokenizer/types.js";
import { StopStrings } from "./stop_strings.js";

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
  /** The ids before the stream's: the text continues theirs. Default none. */
  prompt?: ArrayLike<number>;
}

/** Ids of a prompt's end that a decoder is shown: more than any holds back, or looks back at. */
const promptTail = 32;

/**
 * Turns the ids of a sequence, as they come, into text pieces. No piece splits a character, and what could be the
 * beginning of a stop string is held back until it is known not to be one. The cost of a token depends on the stop
 * strings, not on how much text there is.
 */
export class TextStream {
  readonly #tokenizer: Pick<Tokenizer, "decodeStream" | "idToToken" | "specialTokenIds">;
  readonly #decoder: DecodeStream;
  readonly #stops: StopStrings;
  readonly #skipsSpecialTokens: boolean;
  /** The prompt's text that the decoder has not let go of yet. */
  #ofPrompt = "";

  constructor(
    tokenizer: Pick<Tokenizer, "decodeStream" | "idToToken" | "specialTokenIds">,
    { stop = [], skipSpecialTokens = true, prompt = [] }: TextStreamOptions = {},
  ) {
    this.#tokenizer = tokenizer;
    this.#decoder = tokenizer.decodeStream({ skipSpecialTokens });
    this.#skipsSpecialTokens = skipSpecialTokens;
    this.#stops = new StopStrings(stop);
    this.#follow(prompt);
  }

  /** Whether a stop string has ended the text. */
  get stopped(): boolean {
    return this.#stops.found !== undefined;
  }

  /** The stop string that has ended the text. */
  get stopString(): string | undefined {
    return this.#stops.found;
  }

  /** Takes the next ids. Those behind a stop string are ignored. */
  push(ids: number | readonly number[]): TextPiece {
    if (typeof ids === "number") return { text: this.stopped ? "" : this.#take(ids), stopped: this.stopped };
    let text = "";
    for (const id of ids) {
      text += this.push(id).text;
      if (this.stopped) break;
    }
    return { text, stopped: this.stopped };
  }

  /** Ends the sequence: the text that was held back, an unfinished character as U+FFFD. */
  flush(): TextPiece {
    if (this.stopped) return { text: "", stopped: true };
    let text = this.#stops.push(this.#behindPrompt(this.#decoder.flush()));
    if (!this.stopped) text += this.#stops.release();
    return { text, stopped: this.stopped };
  }

  #take(id: number): string {
    const text = this.#stops.push(this.#behindPrompt(this.#decoder.push(id)));
    if (this.stopped || !this.#isLeftOut(id)) return text;
    // A stop string may be a special token, or have one in it, although none is shown.
    const shown = text + this.#stops.pushHidden(this.#tokenizer.idToToken(id) ?? "");
    return this.stopped && this.#stops.startsInHidden ? shown + this.#behindPrompt(this.#decoder.flush()) : shown;
  }

  #isLeftOut(id: number): boolean {
    return this.#skipsSpecialTokens && this.#tokenizer.specialTokenIds.has(id);
  }

  /** Shows the decoder the end of the prompt: the first token of a text loses its space, and a new token is not the first. */
  #follow(prompt: ArrayLike<number>): void {
    let start = prompt.length;
    for (let seen = 0; start > 0; start--) {
      const id = prompt[start - 1] as number;
      if (this.#isLeftOut(id)) continue;
      // A run of bytes is taken whole: its characters cannot be told from its middle.
      if (seen >= promptTail && !/^<0x..>$/.test(this.#tokenizer.idToToken(id) ?? "")) break;
      seen++;
    }
    if (start === prompt.length) return;
    const alone = this.#tokenizer.decodeStream({ skipSpecialTokens: this.#skipsSpecialTokens });
    for (let i = start; i < prompt.length; i++) {
      this.#decoder.push(prompt[i] as number);
      alone.push(prompt[i] as number);
    }
    this.#ofPrompt = alone.flush();
  }

  /** Takes the prompt's text off what the decoder lets go; what new tokens have changed of it is new. */
  #behindPrompt(text: string): string {
    if (this.#ofPrompt === "" || text === "") return text;
    let same = 0;
    while (same < text.length && text[same] === this.#ofPrompt[same]) same++;
    this.#ofPrompt = same === text.length ? this.#ofPrompt.slice(same) : "";
    return text.slice(same);
  }
}
