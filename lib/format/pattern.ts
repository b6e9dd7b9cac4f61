import { ShardspeedError } from "../base/errors.js";
import {
  characters,
  choice,
  complement,
  type Node,
  normalize,
  optional,
  type Ranges,
  repeat,
  sequence,
  text,
} from "./nodes.js";

const mostCopies = 10_000;
const deepest = 50;
const all: Ranges = [[0, 0x10ffff]];
const digits: Ranges = [[0x30, 0x39]];
const word: Ranges = [...digits, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const lineEnds: Ranges = [
  [0xa, 0xa],
  [0xd, 0xd],
  [0x2028, 0x2029],
];
const white: Ranges = [
  ...([
    [0x9, 0xd],
    [0x20, 0x20],
    [0xa0, 0xa0],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
  ] as const),
  ...([
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
    [0xfeff, 0xfeff],
  ] as const),
];
const named: Readonly<Record<string, Ranges>> = { d: digits, w: word, s: white };
const controls: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", f: "\f", v: "\v", 0: "\0" };

/**
 * What a regular expression of JavaScript matches. `search`: a text within which it matches, as JSON Schema has it; else the whole text.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT that names what is not supported.
 */
export function parsePattern(pattern: string, where: string, search: boolean): Node {
  return new PatternParser(pattern, where, search).parse();
}

class PatternParser {
  readonly #characters: string[];
  #place = 0;
  #depth = 0;

  constructor(
    readonly pattern: string,
    readonly where: string,
    readonly search: boolean,
  ) {
    this.#characters = [...pattern];
  }

  parse(): Node {
    const parts = [this.#whole()];
    while (this.#skip("|")) parts.push(this.#whole());
    if (this.#place < this.#characters.length) throw this.#error("unmatched )");
    return choice(...parts);
  }

  /** One of the outermost alternatives, with its anchors. */
  #whole(): Node {
    const any = repeat(0, -1, characters(all));
    const before = this.#skip("^") || !this.search ? [] : [any];
    const body = this.#sequence();
    const after = this.#skip("$") || !this.search ? [] : [any];
    return sequence(...before, body, ...after);
  }

  #error(message: string): ShardspeedError {
    return new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      `${this.where}: the pattern ${JSON.stringify(this.pattern.slice(0, 60))} cannot be used: ${message} at character ${this.#place}`,
    );
  }

  #peek(): string | undefined {
    return this.#characters[this.#place];
  }

  #skip(expected: string): boolean {
    const given = [...expected];
    if (!given.every((one, i) => this.#characters[this.#place + i] === one)) return false;
    this.#place += given.length;
    return true;
  }

  #next(): string {
    const one = this.#characters[this.#place++];
    if (one === undefined) throw this.#error("it ends too early");
    return one;
  }

  #sequence(): Node {
    const parts: Node[] = [];
    for (let next = this.#peek(); next !== undefined && next !== "|" && next !== ")"; next = this.#peek()) {
      if (next === "$" && this.#depth === 0 && [undefined, "|"].includes(this.#characters[this.#place + 1])) break;
      parts.push(this.#repeats(this.#atom()));
    }
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : sequence(...parts);
  }

  #repeats(atom: Node): Node {
    const node = this.#repeated(atom);
    if (node === undefined) return atom;
    // Lazy or not, the same texts match.
    this.#skip("?");
    if (["*", "+", "?"].includes(this.#peek() ?? "")) throw this.#error("a repeat of a repeat");
    return node;
  }

  #repeated(atom: Node): Node | undefined {
    if (this.#skip("*")) return repeat(0, -1, atom);
    if (this.#skip("+")) return repeat(1, -1, atom);
    if (this.#skip("?")) return optional(atom);
    const rest = this.#characters.slice(this.#place, this.#place + 20).join("");
    const [whole, low = "", comma, high = ""] = /^\{(\d+)(,?)(\d*)\}/.exec(rest) ?? [];
    if (whole === undefined) return undefined;
    this.#place += whole.length;
    const least = Number(low);
    const most = comma === "" ? least : high === "" ? -1 : Number(high);
    if (least > mostCopies || most > mostCopies) throw this.#error(`a repeat count above ${mostCopies}`);
    if (most >= 0 && most < least) throw this.#error("numbers out of order in {}");
    return repeat(least, most, atom);
  }

  #atom(): Node {
    const one = this.#next();
    if (one === "(") return this.#group();
    if (one === "[") return characters(this.#class());
    if (one === ".") return characters(complement(lineEnds));
    if (one === "^" || one === "$") throw this.#error(`the anchor ${one} within a pattern is not supported,`);
    if (one === "\\") return this.#escape();
    if ("*+?{}]".includes(one)) throw this.#error(`a ${one} that must be escaped`);
    return text(one);
  }

  #group(): Node {
    if (this.#skip("?")) {
      if (this.#skip("=") || this.#skip("!")) throw this.#error("lookahead is not supported,");
      if (this.#skip("<=") || this.#skip("<!")) throw this.#error("lookbehind is not supported,");
      if (this.#skip("<")) {
        while (this.#next() !== ">");
      } else if (!this.#skip(":")) throw this.#error("groups with flags are not supported,");
    }
    if (++this.#depth > deepest) throw this.#error("too many groups in one another");
    const parts = [this.#sequence()];
    while (this.#skip("|")) parts.push(this.#sequence());
    this.#depth--;
    if (!this.#skip(")")) throw this.#error("missing )");
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : choice(...parts);
  }

  #escape(): Node {
    const next = this.#peek();
    if (next === "b" || next === "B") throw this.#error("word boundaries are not supported,");
    if (next === "k" || /[1-9]/.test(next ?? "")) throw this.#error("backreferences are not supported,");
    return characters(this.#escapedRanges());
  }

  /** What stands behind a backslash, in a class or not. */
  #escapedRanges(): Ranges {
    const one = this.#next();
    const lower = one.toLowerCase();
    if (Object.hasOwn(named, lower)) {
      const ranges = named[lower] as Ranges;
      return normalize(one === lower ? ranges : complement(ranges));
    }
    if (lower === "p") throw this.#error("properties of Unicode are not supported,");
    if (one === "x" || one === "u") return this.#code(one === "x" ? 2 : 4);
    if (Object.hasOwn(controls, one)) return single(controls[one] as string);
    if (/[A-Za-z0-9]/.test(one)) throw this.#error(`the escape \\${one} is not supported,`);
    return single(one);
  }

  #code(length: number): Ranges {
    const rest = this.#characters.slice(this.#place, this.#place + 10).join("");
    const [whole, long, short] = new RegExp(`^(?:\\{([\\da-fA-F]{1,6})\\}|([\\da-fA-F]{${length}}))`).exec(rest) ?? [];
    const code = Number.parseInt(long ?? short ?? "", 16);
    if (whole === undefined || code > 0x10ffff) throw this.#error("a code without digits");
    if (code >= 0xd800 && code <= 0xdfff) throw this.#error("half of a surrogate pair");
    this.#place += whole.length;
    return [[code, code]];
  }

  #class(): Ranges {
    const negated = this.#skip("^");
    const ranges: (readonly [number, number])[] = [];
    while (!this.#skip("]")) {
      const from = this.#member();
      const isRange = this.#peek() === "-" && this.#characters[this.#place + 1] !== "]";
      if (!isRange) {
        ranges.push(...from);
        continue;
      }
      this.#next();
      const to = this.#member();
      const [first, last] = [onlyCode(from), onlyCode(to)];
      if (first === undefined || last === undefined || first > last) throw this.#error("a wrong range in []");
      ranges.push([first, last]);
    }
    return negated ? complement(ranges) : normalize(ranges);
  }

  #member(): Ranges {
    const one = this.#next();
    if (one !== "\\") return single(one);
    if (this.#skip("b")) return single("\b");
    return this.#escapedRanges();
  }
}

function single(one: string): Ranges {
  const code = one.codePointAt(0) as number;
  return [[code, code]];
}

function onlyCode(ranges: Ranges): number | undefined {
  return ranges.length === 1 && ranges[0]?.[0] === ranges[0]?.[1] ? ranges[0]?.[0] : undefined;
}
