/** A regular expression as the Rust tokenizers package (Oniguruma) reads it. Classes are the inside of JavaScript's [...] with flag u. */
export type Node =
  | { type: "class"; source: string }
  | { type: "sequence" | "choice"; parts: Node[] }
  | { type: "repeat"; body: Node; least: number; most: number; kind: "greedy" | "lazy" | "possessive" }
  | { type: "look"; body: Node; behind: boolean; negated: boolean }
  | { type: "atomic"; body: Node }
  | { type: "place"; place: "start" | "end" | "lineStart" | "lineEnd" | "word" | "notWord" };

/** Unicode's white space: JavaScript's \s has U+FEFF and lacks U+0085. */
const space = "\\t-\\r\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
/** With the joiners, without superscript digits. */
const word = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200c\\u200d";
const named: Record<string, string> = { s: space, w: word, d: "\\p{Nd}", h: "0-9a-fA-F" };
const posix: Record<string, string> = {
  alpha: "\\p{Alphabetic}",
  digit: "\\p{Nd}",
  alnum: "\\p{Alphabetic}\\p{Nd}",
  upper: "\\p{Uppercase}",
  lower: "\\p{Lowercase}",
  space,
  punct: "\\p{P}$+<=>^`|~",
  word,
};
/** Copies that `{m,n}` may make; more are refused. */
const mostCopies = 1000;
const deepest = 50;

/** @throws Error for what is not understood. */
export function parsePattern(pattern: string): Node {
  return new PatternParser(pattern).parse();
}

class PatternParser {
  readonly #text: string;
  #place = 0;
  #depth = 0;
  #ignoreCase = false;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Node {
    const node = this.#choice();
    if (this.#place < this.#text.length) throw this.#error("unmatched )");
    return node;
  }

  #error(message: string): Error {
    return new Error(
      `the pattern ${JSON.stringify(this.#text.slice(0, 60))} cannot be read: ${message} at ${this.#place}`,
    );
  }

  #skip(text: string): boolean {
    if (!this.#text.startsWith(text, this.#place)) return false;
    this.#place += text.length;
    return true;
  }

  #character(): string {
    const code = this.#text.codePointAt(this.#place);
    if (code === undefined) throw this.#error("it ends too early");
    const character = String.fromCodePoint(code);
    this.#place += character.length;
    return character;
  }

  #choice(): Node {
    if (++this.#depth > deepest) throw this.#error("too deep");
    const ignoreCase = this.#ignoreCase;
    const parts = [this.#sequence()];
    while (this.#skip("|")) parts.push(this.#sequence());
    this.#ignoreCase = ignoreCase;
    this.#depth--;
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : { type: "choice", parts };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    while (this.#place < this.#text.length && !"|)".includes(this.#text[this.#place] as string)) {
      const atom = this.#atom();
      if (atom !== undefined) parts.push(this.#repeats(atom));
    }
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : { type: "sequence", parts };
  }

  #repeats(atom: Node): Node {
    let node = atom;
    for (;;) {
      const range = this.#range();
      if (range === undefined) return node;
      const isCount = range.braces;
      // In Oniguruma `x{1,3}+` is a repeat of a repeat, `x++` a possessive one.
      const kind = this.#skip("?") ? "lazy" : !isCount && this.#skip("+") ? "possessive" : "greedy";
      node = { type: "repeat", body: node, least: range.least, most: range.most, kind };
    }
  }

  #range(): { least: number; most: number; braces: boolean } | undefined {
    if (this.#skip("*")) return { least: 0, most: Number.POSITIVE_INFINITY, braces: false };
    if (this.#skip("+")) return { least: 1, most: Number.POSITIVE_INFINITY, braces: false };
    if (this.#skip("?")) return { least: 0, most: 1, braces: false };
    const [all, least, comma, most] = /^\{(\d*)(,?)(\d*)\}/.exec(this.#text.slice(this.#place, this.#place + 20)) ?? [];
    if (all === undefined || (least === "" && most === "")) return undefined;
    this.#place += all.length;
    const low = Number(least);
    const high = comma === "" ? low : most === "" ? Number.POSITIVE_INFINITY : Number(most);
    if (low > high || low > mostCopies || (Number.isFinite(high) && high > mostCopies)) {
      throw this.#error("a repeat count is too large");
    }
    return { least: low, most: high, braces: true };
  }

  #atom(): Node | undefined {
    if (this.#skip("(")) return this.#group();
    if (this.#skip("[")) return { type: "class", source: this.#classSource() };
    if (this.#skip(".")) return { type: "class", source: "^\\n" };
    if (this.#skip("^")) return { type: "place", place: "lineStart" };
    if (this.#skip("$")) return { type: "place", place: "lineEnd" };
    if (this.#skip("\\")) return this.#escape();
    const character = this.#character();
    if ("*+?".includes(character)) throw this.#error("nothing to repeat");
    return this.#literal(character);
  }

  #literal(character: string): Node {
    const source = escapeInClass(character);
    return { type: "class", source: this.#ignoreCase ? bothCases(character) : source };
  }

  #group(): Node | undefined {
    const end = <T>(node: T): T => {
      if (!this.#skip(")")) throw this.#error("missing )");
      return node;
    };
    if (!this.#skip("?")) return end(this.#choice());
    if (this.#skip("#")) {
      const close = this.#text.indexOf(")", this.#place);
      if (close < 0) throw this.#error("missing )");
      this.#place = close + 1;
      return undefined;
    }
    if (this.#skip(">")) return end<Node>({ type: "atomic", body: this.#choice() });
    for (const [opening, behind, negated] of [
      ["=", false, false],
      ["!", false, true],
      ["<=", true, false],
      ["<!", true, true],
    ] as const) {
      if (this.#skip(opening)) return end<Node>({ type: "look", body: this.#choice(), behind, negated });
    }
    const [name] = /^P?<[A-Za-z_]\w*>/.exec(this.#text.slice(this.#place, this.#place + 64)) ?? [];
    if (name !== undefined) {
      this.#place += name.length;
      return end(this.#choice());
    }
    const [flags, on = "", off = "", close] =
      /^([imsxu]*)(-[imsxu]+)?([:)])/.exec(this.#text.slice(this.#place, this.#place + 16)) ?? [];
    if (flags === undefined) throw this.#error("an unknown group");
    // "m" lets the dot match newlines in Oniguruma; what is not case is refused.
    if (/[msx]/.test(on + off)) throw this.#error(`the flags (?${flags} are not supported`);
    this.#place += flags.length;
    const outer = this.#ignoreCase;
    if (on.includes("i")) this.#ignoreCase = true;
    if (off.includes("i")) this.#ignoreCase = false;
    // (?i) holds to the end of the group that it is in, which puts the flag back.
    if (close === ")") return undefined;
    const inside = this.#choice();
    this.#ignoreCase = outer;
    return end(inside);
  }

  #escape(): Node {
    const places = { A: "start", z: "end", Z: "end", b: "word", B: "notWord" } as const;
    const next = this.#text[this.#place] as keyof typeof places;
    if (Object.hasOwn(places, next)) {
      this.#place++;
      return { type: "place", place: places[next] };
    }
    const found = this.#escapeSource();
    if (found.literal !== undefined) return this.#literal(found.literal);
    return { type: "class", source: found.source };
  }

  /** What stands behind a backslash, inside of a class or not. */
  #escapeSource(): { source: string; literal?: string } {
    const letter = this.#character();
    if (/[0-9]/.test(letter) && letter !== "0") throw this.#error("references to groups are not supported");
    const lower = letter.toLowerCase();
    if (Object.hasOwn(named, lower) && "sSwWdDhH".includes(letter)) {
      const source = named[lower] as string;
      return { source: letter === lower ? source : `^${source}` };
    }
    if (letter === "p" || letter === "P") {
      const [all, name = ""] = /^\{(\^?[\w=: -]+)\}|^[A-Z]/.exec(this.#text.slice(this.#place, this.#place + 64)) ?? [];
      if (all === undefined) throw this.#error("a property has no name");
      this.#place += all.length;
      const plain = (name === "" ? all : name).replace(/^\^/, "");
      return { source: property(plain, (letter === "P") !== name.startsWith("^")) };
    }
    if (letter === "x" || letter === "u") {
      const [all, long, short] =
        /^\{([\da-fA-F]{1,6})\}|^([\da-fA-F]{2,4})/.exec(this.#text.slice(this.#place, this.#place + 8)) ?? [];
      if (all === undefined) throw this.#error("a code has no digits");
      const digits = long ?? (short as string).slice(0, letter === "x" ? 2 : 4);
      this.#place += long === undefined ? digits.length : all.length;
      const literal = String.fromCodePoint(Number.parseInt(digits, 16));
      return { source: escapeInClass(literal), literal };
    }
    const controls: Record<string, string> = {
      n: "\n",
      r: "\r",
      t: "\t",
      f: "\f",
      v: "\v",
      a: "\x07",
      e: "\x1b",
      "0": "\0",
    };
    if (/[a-zA-Z]/.test(letter) && !Object.hasOwn(controls, letter)) throw this.#error(`\\${letter} is not known`);
    const literal = controls[letter] ?? letter;
    return { source: escapeInClass(literal), literal };
  }

  /** The inside of a class whose "[" has been read. A leading "^" negates it. */
  #classSource(): string {
    if (++this.#depth > deepest) throw this.#error("too deep");
    const negated = this.#skip("^");
    const parts: string[] = [];
    let first = true;
    while (first || this.#text[this.#place] !== "]") {
      first = false;
      if (this.#place >= this.#text.length) throw this.#error("missing ]");
      if (this.#skip("&&")) throw this.#error("&& is not supported");
      parts.push(this.#classPart());
    }
    this.#place++;
    this.#depth--;
    return combine(parts, negated);
  }

  #classPart(): string {
    if (this.#skip("[:")) {
      const [all, not = "", name = ""] = /^(\^?)(\w+):\]/.exec(this.#text.slice(this.#place, this.#place + 16)) ?? [];
      if (all === undefined || !Object.hasOwn(posix, name)) throw this.#error("a class of unknown name");
      this.#place += all.length;
      return (not === "" ? "" : "^") + (posix[name] as string);
    }
    if (this.#skip("[")) return this.#classSource();
    const low = this.#classCharacter();
    if (low.literal === undefined) return low.source;
    if (this.#text[this.#place] === "-" && this.#text[this.#place + 1] !== "]") {
      this.#place++;
      const high = this.#classCharacter();
      if (high.literal === undefined) throw this.#error("a range has no end");
      if ((low.literal.codePointAt(0) as number) > (high.literal.codePointAt(0) as number))
        throw this.#error("a range is empty");
      const range = `${low.source}-${high.source}`;
      if (!this.#ignoreCase) return range;
      const other = (text: string) => escapeInClass(swapCase(text));
      return /^[a-z]-[a-z]$|^[A-Z]-[A-Z]$/.test(range) ? `${range}${other(low.literal)}-${other(high.literal)}` : range;
    }
    return this.#ignoreCase ? bothCases(low.literal) : low.source;
  }

  #classCharacter(): { source: string; literal?: string } {
    if (this.#skip("\\")) {
      if (this.#skip("b")) return { source: "\\x08", literal: "\b" };
      return this.#escapeSource();
    }
    const literal = this.#character();
    return { source: escapeInClass(literal), literal };
  }
}

/** A union of class sources, some of them negated: "^..." at the start. */
function combine(parts: string[], negated: boolean): string {
  const plain = parts.filter((part) => !part.startsWith("^")).join("");
  const negatives = parts.filter((part) => part.startsWith("^")).map((part) => part.slice(1));
  const [only] = negatives;
  if (only === undefined) return (negated ? "^" : "") + plain;
  if (plain === "" && negatives.length === 1) return (negated ? "" : "^") + only;
  // A union with a negated class cannot be written in one class; the caller reads this form.
  const union = [...(plain === "" ? [] : [`[${plain}]`]), ...negatives.map((source) => `[^${source}]`)].join("|");
  return negated ? `!${union}` : `|${union}`;
}

/** A class source as a regular expression of one character. */
export function classPattern(source: string): RegExp {
  if (source.startsWith("|")) return new RegExp(`^(?:${source.slice(1)})$`, "u");
  if (source.startsWith("!")) return new RegExp(`^(?!(?:${source.slice(1)})$)[\\s\\S]$`, "u");
  return new RegExp(`^[${source}]$`, "u");
}

function property(name: string, negated: boolean): string {
  const known: Record<string, string> = {
    Han: "Script=Han",
    Hangul: "Script=Hangul",
    Hiragana: "Script=Hiragana",
    Katakana: "Script=Katakana",
    Latin: "Script=Latin",
    Cyrillic: "Script=Cyrillic",
    Thai: "Script=Thai",
    Arabic: "Script=Arabic",
    Hebrew: "Script=Hebrew",
    Greek: "Script=Greek",
    Devanagari: "Script=Devanagari",
    Space: "White_Space",
    Digit: "Nd",
    Alpha: "Alphabetic",
    Upper: "Uppercase",
    Lower: "Lowercase",
    Punct: "P",
  };
  const source = `\\${negated ? "P" : "p"}{${known[name] ?? name}}`;
  new RegExp(source, "u"); // Throws for a name that does not exist.
  return source;
}

function escapeInClass(character: string): string {
  // A lone surrogate cannot stand there as it is.
  const isPlain = /^[\p{L}\p{N}]$/u.test(character);
  return isPlain ? character : `\\u{${(character.codePointAt(0) as number).toString(16)}}`;
}

function swapCase(text: string): string {
  return text === text.toLowerCase() ? text.toUpperCase() : text.toLowerCase();
}

function bothCases(character: string): string {
  const forms = new Set([character, character.toLowerCase(), character.toUpperCase()]);
  return [...forms]
    .filter((form) => Array.from(form).length === 1)
    .map(escapeInClass)
    .join("");
}
