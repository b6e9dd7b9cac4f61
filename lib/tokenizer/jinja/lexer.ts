import { TemplateError } from "./budget.js";

export type TokenKind =
  | "data"
  | "block_begin"
  | "block_end"
  | "variable_begin"
  | "variable_end"
  | "name"
  | "string"
  | "integer"
  | "float"
  | "operator"
  | "end";

export interface Token {
  kind: TokenKind;
  /** The text of data, names and operators; strings are unescaped, digits as written without underscores. */
  text: string;
  line: number;
}

/** Longer operators first. */
const operators = [
  "//",
  "**",
  "==",
  "!=",
  ">=",
  "<=",
  "+",
  "-",
  "/",
  "*",
  "%",
  "~",
  "[",
  "]",
  "(",
  ")",
  "{",
  "}",
  ">",
  "<",
  "=",
  ".",
  ":",
  "|",
  ",",
  ";",
];
const closing: Record<string, string> = { "(": ")", "[": "]", "{": "}" };

const openPattern = /\{%|\{\{|\{#/g;
const rawPattern = /\{%([-+]?)\s*raw\s*(?:-%\}\s*|%\})/y;
const endRawPattern = /\{%([-+]?)\s*endraw\s*(?:\+%\}|-%\}\s*|%\}\n?)/g;
const commentEndPattern = /\+#\}|-#\}\s*|#\}\n?/g;
const blockEndPattern = /\+%\}|-%\}\s*|%\}\n?/y;
const variableEndPattern = /-\}\}\s*|\}\}/y;
const spacePattern = /\s+/y;
const namePattern = /[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*/uy;
const floatPattern = /(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?[eE][+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/y;
const integerPattern = /0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[\da-fA-F])+|[1-9](?:_?\d)*|0(?:_?0)*/y;

/**
 * Splits a template into tokens as Jinja2 does with trim_blocks and lstrip_blocks: the newline behind a block goes, and
 * so does white space before one on its line.
 */
export function tokenize(template: string): Token[] {
  return new Lexer(template).run();
}

class Lexer {
  readonly #source: string;
  readonly #tokens: Token[] = [];
  #place = 0;
  #line = 1;
  /** How far lines have been counted. */
  #counted = 0;
  /** Whether the text that comes is at the start of a line of the template. */
  #lineStart = true;

  constructor(template: string) {
    // One newline at the end is not part of a template, and all line ends are newlines.
    this.#source = template.replace(/\r\n?/g, "\n").replace(/\n$/, "");
  }

  run(): Token[] {
    while (this.#place < this.#source.length) this.#readRoot();
    this.#add("end", "");
    return this.#tokens;
  }

  #readRoot(): void {
    openPattern.lastIndex = this.#place;
    const opening = openPattern.exec(this.#source);
    if (opening === null) {
      this.#add("data", this.#source.slice(this.#place));
      this.#place = this.#source.length;
      return;
    }
    const open = opening[0];
    const start = opening.index;
    const raw = open === "{%" ? matchAt(rawPattern, this.#source, start) : null;
    const sign = raw === null ? this.#source[start + 2] : raw[1];
    this.#addText(this.#source.slice(this.#place, start), sign, open !== "{{");
    this.#place = start;
    if (raw !== null) {
      this.#place += raw[0].length;
      this.#lineStart = raw[0].endsWith("\n");
      this.#readRaw();
    } else {
      this.#place += sign === "-" || sign === "+" ? 3 : 2;
      this.#lineStart = false;
      if (open === "{#") this.#skipComment();
      else this.#readCode(open === "{%" ? "block" : "variable");
    }
  }

  /** Text before a tag, stripped as the tag's sign says. */
  #addText(text: string, sign: string | undefined, mayStrip: boolean): void {
    let kept = text;
    if (sign === "-") {
      kept = text.trimEnd();
    } else if (sign !== "+" && mayStrip) {
      const lineBegin = text.lastIndexOf("\n") + 1;
      if ((lineBegin > 0 || this.#lineStart) && text.slice(lineBegin).trim() === "") kept = text.slice(0, lineBegin);
    }
    if (kept !== "") this.#add("data", kept);
  }

  #readRaw(): void {
    const match = this.#search(endRawPattern, "Missing end of raw directive");
    this.#addText(this.#source.slice(this.#place, match.index), match[1], true);
    this.#place = match.index + match[0].length;
    this.#lineStart = match[0].endsWith("\n");
  }

  #skipComment(): void {
    const match = this.#search(commentEndPattern, "Missing end of comment tag");
    this.#place = match.index + match[0].length;
    this.#lineStart = match[0].endsWith("\n");
  }

  #search(pattern: RegExp, missing: string): RegExpExecArray {
    pattern.lastIndex = this.#place;
    const match = pattern.exec(this.#source);
    if (match === null) throw this.#error(missing);
    return match;
  }

  #readCode(kind: "block" | "variable"): void {
    this.#add(`${kind}_begin`, "");
    const endPattern = kind === "block" ? blockEndPattern : variableEndPattern;
    const open: string[] = [];
    for (;;) {
      const end = open.length === 0 ? matchAt(endPattern, this.#source, this.#place) : null;
      if (end !== null) {
        this.#add(`${kind}_end`, "");
        this.#place += end[0].length;
        this.#lineStart = end[0].endsWith("\n");
        return;
      }
      const space = matchAt(spacePattern, this.#source, this.#place);
      if (space !== null) this.#place += space[0].length;
      else this.#readToken(open);
    }
  }

  #readToken(open: string[]): void {
    const source = this.#source;
    const character = source[this.#place];
    if (character === undefined) throw this.#error("unexpected end of template");
    if (character === "'" || character === '"') {
      this.#readString(character);
      return;
    }
    // "1.2" after a dot, as in `x.0.1`, is no float.
    const float = source[this.#place - 1] === "." ? null : matchAt(floatPattern, source, this.#place);
    if (float !== null) {
      this.#take("float", float[0].replaceAll("_", ""), float[0].length);
      return;
    }
    const integer = matchAt(integerPattern, source, this.#place);
    if (integer !== null) {
      this.#take("integer", integer[0].replaceAll("_", ""), integer[0].length);
      return;
    }
    const name = matchAt(namePattern, source, this.#place);
    if (name !== null) {
      this.#take("name", name[0], name[0].length);
      return;
    }
    const operator = operators.find((one) => source.startsWith(one, this.#place));
    if (operator === undefined) throw this.#error(`unexpected char ${JSON.stringify(character)}`);
    if (operator in closing) {
      open.push(closing[operator] as string);
    } else if (operator === ")" || operator === "]" || operator === "}") {
      const expected = open.pop();
      if (expected === undefined) throw this.#error(`unexpected '${operator}'`);
      if (expected !== operator) throw this.#error(`unexpected '${operator}', expected '${expected}'`);
    }
    this.#take("operator", operator, operator.length);
  }

  #readString(quote: string): void {
    let end = this.#place + 1;
    while (end < this.#source.length && this.#source[end] !== quote) end += this.#source[end] === "\\" ? 2 : 1;
    if (end >= this.#source.length) throw this.#error("a string does not end");
    this.#take("string", replaceEscapes(this.#source.slice(this.#place + 1, end)), end + 1 - this.#place);
  }

  #take(kind: TokenKind, text: string, length: number): void {
    this.#add(kind, text);
    this.#place += length;
  }

  #add(kind: TokenKind, text: string): void {
    this.#countLines();
    this.#tokens.push({ kind, text, line: this.#line });
  }

  #countLines(): void {
    for (; this.#counted < this.#place; this.#counted++) {
      if (this.#source.charCodeAt(this.#counted) === 10) this.#line++;
    }
  }

  #error(message: string): TemplateError {
    this.#countLines();
    return new TemplateError(message, this.#line);
  }
}

function matchAt(pattern: RegExp, text: string, place: number): RegExpExecArray | null {
  pattern.lastIndex = place;
  return pattern.exec(text);
}

const simpleEscapes: Record<string, string> = {
  n: "\n",
  t: "\t",
  r: "\r",
  a: "\x07",
  b: "\b",
  f: "\f",
  v: "\v",
  "\\": "\\",
  "'": "'",
  '"': '"',
  "\n": "",
};

/** The escapes of Python's strings; an unknown one stays as it is. */
function replaceEscapes(text: string): string {
  if (!text.includes("\\")) return text;
  return text.replace(
    /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|([\s\S]))/g,
    (all, x, u, big, octal, other) => {
      const hex = x ?? u ?? big;
      if (hex !== undefined) {
        const code = Number.parseInt(hex, 16);
        return code > 0x10ffff ? all : String.fromCodePoint(code);
      }
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
      return simpleEscapes[other] ?? all;
    },
  );
}
