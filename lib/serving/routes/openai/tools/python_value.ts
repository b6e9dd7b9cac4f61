import { simpleEscapes } from "../../../../base/python_escapes.js";
import { isWhiteSpace } from "./call_reader.js";
import { maxDepth, type ValueStep } from "./json_value.js";

type State = "value" | "item" | "key" | ":" | ", or end" | "quote" | "string" | "escape" | "hex" | "octal" | "word";

/** An open list or dict. */
interface Container {
  closer: "}" | "]";
  isEmpty: boolean;
}

/** Hexadecimal digits behind `\x`, `\u` and `\U`. */
const codeLengths: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

const words: Readonly<Record<string, string>> = {
  None: "null",
  True: "true",
  False: "false",
  null: "null",
  true: "true",
  false: "false",
};

/**
 * Follows the text of one Python literal (texts, numbers, True, False, None, lists, dicts) character by character, and writes it as JSON.
 * What would have to be computed (names, sums, calls, f"...") is no literal.
 */
export class PythonValue {
  /** JSON that was made since it was last taken. */
  #json = "";
  #state: State = "value";
  /** Outermost first. */
  readonly #containers: Container[] = [];
  #quote = "";
  #isTriple = false;
  /** Marks in a row that may begin or end a string. */
  #quotes = 0;
  #inKey = false;
  /** The digits of an escape, or a number or name. */
  #kept = "";
  #codeLength = 0;

  /** The JSON text since the last call. */
  takeJson(): string {
    const json = this.#json;
    this.#json = "";
    return json;
  }

  push(char: string): ValueStep {
    switch (this.#state) {
      case "quote":
        return this.#beginString(char);
      case "string":
        return this.#inString(char);
      case "escape":
        return this.#escape(char);
      case "hex":
        return this.#hex(char);
      case "octal":
        return this.#octal(char);
      case "word":
        if (!/[\w.+-]/.test(char)) return this.#endWord(char);
        this.#kept += char;
        return "more";
      default:
        return this.#containers.length > 0 && isWhiteSpace(char) ? "more" : this.#between(char);
    }
  }

  #go(state: State): ValueStep {
    this.#state = state;
    return "more";
  }

  /** A character outside of texts, numbers and words. */
  #between(char: string): ValueStep {
    const state = this.#state;
    const container = this.#containers.at(-1);
    if (state === ":") {
      this.#json += ": ";
      return char === ":" ? this.#go("value") : "wrong";
    }
    // A comma may be the last character of a list, so one is written only before an item.
    if (char === container?.closer && state !== "value") return this.#close(container);
    if (state === ", or end") return char === "," ? this.#go(container?.closer === "}" ? "key" : "item") : "wrong";
    if (container !== undefined && state !== "value") {
      if (!container.isEmpty) this.#json += ", ";
      container.isEmpty = false;
    }
    return this.#begin(char, state === "key");
  }

  #begin(char: string, isKey: boolean): ValueStep {
    this.#inKey = isKey;
    if (char === "'" || char === '"') {
      this.#quote = char;
      this.#isTriple = false;
      this.#quotes = 1;
      this.#json += '"';
      return this.#go("quote");
    }
    if (isKey) return "wrong"; // JSON has no other keys
    if (char === "{" || char === "[") {
      if (this.#containers.length === maxDepth) return "wrong";
      this.#containers.push({ closer: char === "{" ? "}" : "]", isEmpty: true });
      this.#json += char;
      return this.#go(char === "{" ? "key" : "item");
    }
    this.#kept = char;
    return /[\w.+-]/.test(char) ? this.#go("word") : "wrong";
  }

  #close({ closer }: Container): ValueStep {
    this.#json += closer;
    this.#containers.pop();
    return this.#endValue();
  }

  #endValue(): ValueStep {
    this.#state = ", or end";
    return this.#containers.length === 0 ? "last" : "more";
  }

  /** The value has ended before this character. */
  #endBefore(char: string): ValueStep {
    if (this.#endValue() === "last") return "after";
    return isWhiteSpace(char) ? "more" : this.#between(char);
  }

  /** Behind the first mark: another may make the string empty, and two more make its marks three. */
  #beginString(char: string): ValueStep {
    if (char === this.#quote) {
      if (++this.#quotes < 3) return "more";
      this.#isTriple = true;
      this.#quotes = 0;
      return this.#go("string");
    }
    const isEmpty = this.#quotes === 2;
    this.#quotes = 0;
    if (!isEmpty) {
      this.#state = "string";
      return this.#inString(char);
    }
    this.#json += '"';
    if (!this.#inKey) return this.#endBefore(char);
    this.#state = ":";
    return isWhiteSpace(char) ? "more" : this.#between(char);
  }

  #inString(char: string): ValueStep {
    if (char === this.#quote) {
      this.#quotes++;
      if (this.#isTriple && this.#quotes < 3) return "more";
      this.#quotes = 0;
      this.#json += '"';
      return this.#inKey ? this.#go(":") : this.#endValue();
    }
    for (; this.#quotes > 0; this.#quotes--) this.#write(this.#quote);
    if (char === "\\") return this.#go("escape");
    this.#write(char);
    return "more";
  }

  #write(text: string): void {
    // Of a surrogate pair one half may come at a time, which JSON.stringify would escape.
    this.#json += /[\ud800-\udfff]/.test(text) ? text : JSON.stringify(text).slice(1, -1);
  }

  #escape(char: string): ValueStep {
    this.#kept = "";
    const codeLength = codeLengths[char];
    if (codeLength !== undefined) {
      this.#codeLength = codeLength;
      return this.#go("hex");
    }
    if (char >= "0" && char <= "7") {
      this.#kept = char;
      return this.#go("octal");
    }
    // Python leaves what it does not know as it is.
    this.#write(simpleEscapes[char] ?? `\\${char}`);
    return this.#go("string");
  }

  #hex(char: string): ValueStep {
    if (!/[0-9a-fA-F]/.test(char)) return "wrong";
    this.#kept += char;
    if (this.#kept.length < this.#codeLength) return "more";
    const code = Number.parseInt(this.#kept, 16);
    if (code > 0x10ffff) return "wrong";
    const isSurrogate = code >= 0xd800 && code <= 0xdfff;
    if (isSurrogate) this.#json += `\\u${code.toString(16)}`;
    else this.#write(String.fromCodePoint(code));
    return this.#go("string");
  }

  #octal(char: string): ValueStep {
    if (char >= "0" && char <= "7" && this.#kept.length < 3) {
      this.#kept += char;
      return "more";
    }
    this.#write(String.fromCharCode(Number.parseInt(this.#kept, 8)));
    this.#state = "string";
    return this.#inString(char);
  }

  #endWord(char: string): ValueStep {
    const json = Object.hasOwn(words, this.#kept) ? words[this.#kept] : toJsonNumber(this.#kept);
    if (json === undefined) return "wrong";
    this.#json += json;
    return this.#endBefore(char);
  }
}

/** A Python number as JSON writes it, with all its digits; undefined for what is none. */
function toJsonNumber(text: string): string | undefined {
  const match = /^([+-]?)(?:(0[xX][\da-fA-F]+)|(\d+(?:_\d+)*)?(\.(?:\d+(?:_\d+)*)?)?([eE][+-]?\d+)?)$/.exec(text);
  if (match === null) return undefined;
  const [, sign, hex, whole = "", fraction, exponent = ""] = match;
  const minus = sign === "-" ? "-" : "";
  if (hex !== undefined) return minus + BigInt(hex).toString();
  const isInteger = fraction === undefined && exponent === "";
  if (whole === "" && (fraction === undefined || fraction === ".")) return undefined;
  // 007 is an error in Python, 007.0 is not.
  if (isInteger && /^0\d/.test(whole.replaceAll("_", "")) && /[1-9]/.test(whole)) return undefined;
  const integer = whole.replaceAll("_", "").replace(/^0+(?=\d)/, "") || "0";
  const decimals = fraction === undefined ? "" : `.${fraction.slice(1).replaceAll("_", "") || "0"}`;
  return minus + integer + decimals + exponent;
}
