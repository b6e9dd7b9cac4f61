import { isError } from "../../base/errors.js";
import { Pattern } from "../../tokenizer/encoding/pattern.js";

/** Longer expressions are refused. */
const mostExpressionCharacters = 1000;
/** Longer texts match nothing: the time is linear in them, and they may be a stranger's. */
const mostTextCharacters = 8192;

export interface WholeMatchOptions {
  /** Whether upper and lower case are the same, as in TorchServe's URLs. */
  ignoresCase: boolean;
}

/**
 * A regular expression of Java that a whole text must match, as TorchServe uses them. JavaScript's engine would read some of them in another sense
 * without a word, and may take exponential time for others.
 */
export class WholeMatch {
  readonly #pattern: Pattern;

  /** @throws Error for what is not understood. */
  constructor(source: string, { ignoresCase }: WholeMatchOptions) {
    if (source.length > mostExpressionCharacters)
      throw new Error(`it has ${source.length} characters, expected at most ${mostExpressionCharacters}`);
    new Pattern(source); // one that closes the group below is none by itself
    this.#pattern = new Pattern(`${ignoresCase ? "(?i)" : ""}\\A(?:${source})\\z`);
  }

  test(text: string): boolean {
    if (text.length > mostTextCharacters) return false;
    try {
      return !this.#pattern.matches(text).next().done;
    } catch {
      return false; // more steps than any sensible expression takes
    }
  }
}

/** Why an expression is none; undefined where it is one. */
export function whyNotExpression(source: string, options: WholeMatchOptions): string | undefined {
  try {
    new WholeMatch(source, options);
    return undefined;
  } catch (error) {
    return isError(error) ? error.message : String(error);
  }
}
