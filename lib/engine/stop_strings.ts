/** Text of a token that is not shown, within a longer text. */
interface HiddenSpan {
  start: number;
  end: number;
}

interface Match {
  stop: string;
  start: number;
  end: number;
}

/**
 * Looks for stop strings in text that comes in pieces. Where several occur, the one that is complete first ends the
 * text, and of those complete at the same character the longest: so the cut does not depend on where pieces end.
 * Special tokens that are not shown are part of the text that is searched: a stop string may have them, or go past them.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #found: string | undefined;
  #startsInHidden = false;
  /** Text that may be the beginning of a stop string, and what of it is not to be shown. */
  #held = "";
  #hidden: HiddenSpan[] = [];

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** The stop string that has ended the text. */
  get found(): string | undefined {
    return this.#found;
  }

  /** Whether the stop string begins with a token that is not shown. */
  get startsInHidden(): boolean {
    return this.#startsInHidden;
  }

  /** @returns The text that can be shown. */
  push(text: string): string {
    return text === "" || this.#found !== undefined ? "" : this.#search(this.#held + text);
  }

  /** Takes the text of a token that is not shown. */
  pushHidden(text: string): string {
    if (text === "" || this.#stops.length === 0 || this.#found !== undefined) return "";
    const start = this.#held.length;
    this.#hidden.push({ start, end: start + text.length });
    return this.#search(this.#held + text);
  }

  /** The text that was held back. */
  release(): string {
    const text = this.#shown(this.#held, this.#held.length);
    this.#held = "";
    this.#hidden = [];
    return text;
  }

  #search(text: string): string {
    const match = this.#findFirst(text);
    if (match !== undefined) {
      this.#found = match.stop;
      this.#startsInHidden = this.#hidden.some(({ start, end }) => start <= match.start && match.start < end);
      const shown = this.#shown(text, match.start);
      this.#held = "";
      this.#hidden = [];
      return shown;
    }
    const ready = this.#countReady(text);
    const shown = this.#shown(text, ready);
    this.#held = text.slice(ready);
    this.#hidden = this.#hidden
      .map(({ start, end }) => ({ start: Math.max(0, start - ready), end: end - ready }))
      .filter(({ end }) => end > 0);
    return shown;
  }

  /** The shown part of the first characters of a text. */
  #shown(text: string, length: number): string {
    let shown = "";
    let from = 0;
    for (const { start, end } of this.#hidden) {
      if (start >= length) break;
      shown += text.slice(from, start);
      from = Math.min(end, length);
    }
    return shown + text.slice(from, length);
  }

  /** In the text as it is, and in what is shown of it. */
  #findFirst(text: string): Match | undefined {
    const whole = findFirst(text, this.#stops);
    if (this.#hidden.length === 0) return whole;
    const shown = findFirst(this.#shown(text, text.length), this.#stops);
    if (shown === undefined) return whole;
    const match = { stop: shown.stop, start: this.#toWhole(shown.start), end: this.#toWhole(shown.end - 1) + 1 };
    return whole === undefined || isBefore(match, whole) ? match : whole;
  }

  #countReady(text: string): number {
    const ready = text.length - pendingLength(text, this.#stops);
    if (this.#hidden.length === 0) return ready;
    const shown = this.#shown(text, text.length);
    const pending = pendingLength(shown, this.#stops);
    return pending === 0 ? ready : Math.min(ready, this.#toWhole(shown.length - pending));
  }

  /** The place of a shown character in the whole text. */
  #toWhole(place: number): number {
    let whole = place;
    for (const { start, end } of this.#hidden) if (start <= whole) whole += end - start;
    return whole;
  }
}

function isBefore(a: Match, b: Match): boolean {
  return a.end < b.end || (a.end === b.end && a.start < b.start);
}

function findFirst(text: string, stops: readonly string[]): Match | undefined {
  let first: Match | undefined;
  for (const stop of stops) {
    const start = text.indexOf(stop);
    if (start < 0) continue;
    const match = { stop, start, end: start + stop.length };
    if (first === undefined || isBefore(match, first)) first = match;
  }
  return first;
}

/** The length of the longest end of `text` that begins a stop string. */
function pendingLength(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) {
        longest = length;
        break;
      }
    }
  }
  return longest;
}
