/** What a character was to the value before it. */
export type ValueStep =
  /** Part of the value, which goes on. */
  | "more"
  /** Its last character. */
  | "last"
  /** Not part of it: a number ends before the character that shows it. */
  | "after"
  /** No JSON. */
  | "wrong";

/** Deeper values are taken for garbage: templates and clients read them by recursion. */
export const maxDepth = 500;

type State =
  | "value"
  | "value or ]"
  | "key or }"
  | "key"
  | ":"
  | ", or end"
  | "string"
  | "escape"
  | "hex"
  | "literal"
  | "-"
  | "0"
  | "digits"
  | "."
  | "fraction"
  | "e"
  | "e sign"
  | "exponent";

const isSpace = (char: string) => char === " " || char === "\n" || char === "\r" || char === "\t";
const isDigit = (char: string) => char >= "0" && char <= "9" && char.length === 1;

/** Follows the text of one JSON value character by character, strictly as JSON.parse does, in constant time each. */
export class JsonValue {
  #state: State = "value";
  /** What closes each open object or array, outermost first. */
  readonly #closers: ("}" | "]")[] = [];
  #literalRest = "";
  #hexDigits = 0;
  /** The string that is read is a key. */
  #inKey = false;

  push(char: string): ValueStep {
    switch (this.#state) {
      case "string":
        if (char === '"') return this.#endString();
        if (char === "\\") this.#state = "escape";
        return char < " " ? "wrong" : "more";
      case "escape":
        return this.#escape(char);
      case "hex":
        if (!/[0-9a-fA-F]/.test(char)) return "wrong";
        return this.#go(++this.#hexDigits === 4 ? "string" : "hex");
      case "literal":
        if (char !== this.#literalRest[0]) return "wrong";
        this.#literalRest = this.#literalRest.slice(1);
        return this.#literalRest === "" ? this.#endValue() : "more";
      case "value":
      case "value or ]":
      case "key or }":
      case "key":
      case ":":
      case ", or end":
        return this.#closers.length > 0 && isSpace(char) ? "more" : this.#between(char);
      default:
        return this.#number(char);
    }
  }

  #go(state: State): ValueStep {
    this.#state = state;
    return "more";
  }

  #escape(char: string): ValueStep {
    if (char === "u") {
      this.#hexDigits = 0;
      return this.#go("hex");
    }
    return '"\\/bfnrt'.includes(char) ? this.#go("string") : "wrong";
  }

  /** A character outside of strings, numbers and literals. */
  #between(char: string): ValueStep {
    const state = this.#state;
    if (state === "value" || state === "value or ]")
      return state === "value or ]" && char === "]" ? this.#close(char) : this.#begin(char);
    if (state === "key" || state === "key or }") {
      if (char === "}" && state === "key or }") return this.#close(char);
      this.#inKey = true;
      return char === '"' ? this.#go("string") : "wrong";
    }
    if (state === ":") return char === ":" ? this.#go("value") : "wrong";
    if (char === ",") return this.#go(this.#closers.at(-1) === "}" ? "key" : "value");
    return this.#close(char);
  }

  #begin(char: string): ValueStep {
    if (char === "{" || char === "[") {
      if (this.#closers.length === maxDepth) return "wrong";
      this.#closers.push(char === "{" ? "}" : "]");
      return this.#go(char === "{" ? "key or }" : "value or ]");
    }
    this.#inKey = false;
    if (char === '"') return this.#go("string");
    if (char === "-" || char === "0") return this.#go(char);
    if (isDigit(char)) return this.#go("digits");
    const literal = ["true", "false", "null"].find((word) => word[0] === char);
    if (literal === undefined) return "wrong";
    this.#literalRest = literal.slice(1);
    return this.#go("literal");
  }

  #close(char: string): ValueStep {
    if (char !== this.#closers.at(-1)) return "wrong";
    this.#closers.pop();
    return this.#endValue();
  }

  #endString(): ValueStep {
    return this.#inKey ? this.#go(":") : this.#endValue();
  }

  #endValue(): ValueStep {
    this.#state = ", or end";
    return this.#closers.length === 0 ? "last" : "more";
  }

  #number(char: string): ValueStep {
    const state = this.#state;
    if (isDigit(char)) {
      if (state === "0") return "wrong";
      if (state === "-") return this.#go(char === "0" ? "0" : "digits");
      if (state === ".") return this.#go("fraction");
      return this.#go(state === "e" || state === "e sign" ? "exponent" : state);
    }
    const isInteger = state === "0" || state === "digits";
    if (char === "." && isInteger) return this.#go(".");
    if ((char === "e" || char === "E") && (isInteger || state === "fraction")) return this.#go("e");
    if ((char === "+" || char === "-") && state === "e") return this.#go("e sign");
    if (!isInteger && state !== "fraction" && state !== "exponent") return "wrong";
    // The number has ended before this character, which belongs to what it is in.
    this.#state = ", or end";
    if (this.#closers.length === 0) return "after";
    return isSpace(char) ? "more" : this.#between(char);
  }
}
