import { ShardspeedError } from "../base/errors.js";
import { escapeControls, truncate } from "../base/text.js";

/** Where something stands in a file, both from 1. */
export interface Place {
  line: number;
  column: number;
}

/** What a file gives, by dotted name, with values as they count. */
export type Given = Map<string, { value: unknown; keyPlace: Place; valuePlace: Place }>;

/** A message is there to be read: what is beyond, comes up once these are mended. */
const mostShown = 20;

/** The YAML library quotes whole tokens. */
const longestText = 400;

/** Collects all that is wrong or odd in one file. */
export class Findings {
  readonly #file: string;
  readonly #errors: { place: Place; text: string }[] = [];
  readonly #warnings: { place: Place; text: string }[] = [];

  constructor(file: string) {
    this.#file = file;
  }

  error(place: Place, text: string): void {
    this.#errors.push({ place, text });
  }

  warn(place: Place, text: string): void {
    this.#warnings.push({ place, text });
  }

  /** `model-config.yaml:3:15` */
  name({ line, column }: Place): string {
    return `${this.#file}:${line}:${column}`;
  }

  warnings(): string[] {
    return this.#lines(this.#warnings);
  }

  /** @throws ShardspeedError ERR_CONFIG with all errors, a line each, where there are any. */
  throwErrors(): void {
    if (this.#errors.length === 0) return;
    const lines = this.#lines(this.#errors);
    if (lines.length > mostShown) {
      const more = lines.splice(mostShown).length;
      lines.push(`${escapeControls(this.#file)}: ${more} more`);
    }
    throw new ShardspeedError("ERR_CONFIG", lines.join("\n"));
  }

  #lines(findings: { place: Place; text: string }[]): string[] {
    return findings
      .toSorted((a, b) => a.place.line - b.place.line || a.place.column - b.place.column)
      .map(({ place, text }) => escapeControls(`${this.name(place)}: ${text.slice(0, longestText)}`));
  }
}

/** A key as it may stand in a message: in quotes where it is no plain word, and of bounded length. */
export function showKey(key: string): string {
  return /^[\w.-]{1,80}$/.test(key) ? key : showText(key);
}

/** Text in quotes, of bounded length. */
export function showText(text: string): string {
  return JSON.stringify(truncate(text));
}
