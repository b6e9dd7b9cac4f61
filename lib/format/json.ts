import {
  characters,
  choice,
  digit,
  type Node,
  optional,
  type Ranges,
  repeat,
  sequence,
  subtract,
  text,
} from "./nodes.js";

/** What stands between values: at most one space, since models without a limit may write spaces for ever. */
const space = optional(text(" "));
export const comma = sequence(text(","), space);
export const colon = sequence(text(":"), space);

/** What a string cannot hold as it is. */
const escaped: Ranges = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
const plain: Ranges = subtract([[0, 0x10ffff]], [...escaped, [0xd800, 0xdfff]]);
const hex = characters([
  [0x30, 0x39],
  [0x41, 0x46],
  [0x61, 0x66],
]);

/** One character of a string, as it may be written. Surrogates are not, as one of a pair would not count as a character. */
export const character: Node = choice(
  characters(plain),
  sequence(text("\\"), characters([...'"\\/bfnrt'].map((one) => [one.charCodeAt(0), one.charCodeAt(0)] as const))),
  sequence(
    text("\\u"),
    choice(
      sequence(
        characters([
          [0x30, 0x39],
          [0x41, 0x43],
          [0x45, 0x46],
          [0x61, 0x63],
          [0x65, 0x66],
        ]),
        hex,
        hex,
        hex,
      ),
      sequence(
        characters([
          [0x44, 0x44],
          [0x64, 0x64],
        ]),
        characters([[0x30, 0x37]]),
        hex,
        hex,
      ),
    ),
  ),
);

/** What matches a text, as what matches that text within a JSON string: quotes, backslashes and controls are escaped. */
export function inString(node: Node): Node {
  switch (node.kind) {
    case "text":
      return text(JSON.stringify(node.text).slice(1, -1));
    case "class": {
      const special = escaped
        .flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i))
        .filter((code) => node.ranges.some(([first, last]) => first <= code && code <= last));
      const rest = characters(subtract(node.ranges, [...escaped, [0xd800, 0xdfff]]));
      if (special.length === 0) return rest;
      return choice(rest, ...special.map((code) => inString(text(String.fromCharCode(code)))));
    }
    case "repeat":
      return repeat(node.least, node.most, inString(node.body));
    case "rule":
      return node;
    default:
      return { kind: node.kind, parts: node.parts.map(inString) };
  }
}

/** A key that is none of these. It has no escapes, which could spell them too. */
export function otherKey(names: readonly string[]): Node {
  const any = repeat(0, -1, characters(plain));
  const spellings = names.map((name) => [...name]);
  const build = (within: readonly string[][], depth: number): Node => {
    if (within.length === 0) return any;
    const byNext = new Map<string, string[][]>();
    for (const name of within) {
      const next = name[depth];
      if (next === undefined) continue;
      const those = byNext.get(next);
      if (those === undefined) byNext.set(next, [name]);
      else those.push(name);
    }
    const taken = [...byNext.keys()].map((one) => one.codePointAt(0) as number);
    const parts: Node[] = within.some((name) => name.length === depth) ? [] : [sequence()];
    parts.push(
      sequence(
        characters(
          subtract(
            plain,
            taken.map((code) => [code, code] as const),
          ),
        ),
        any,
      ),
    );
    for (const [next, those] of byNext) {
      // A name that must be escaped cannot be spelled here at all.
      if (JSON.stringify(next) === `"${next}"`) parts.push(sequence(text(next), build(those, depth + 1)));
    }
    return choice(...parts);
  };
  return sequence(text('"'), build(spellings, 0), text('"'));
}

const nonZero = characters([[0x31, 0x39]]);
/** Without a sign; 18 digits, so that no model writes digits for ever and a number stays finite. */
const natural = choice(text("0"), sequence(nonZero, repeat(0, 17, digit)));
const sign = optional(text("-"));
export const integer = sequence(sign, natural);
export const number = sequence(
  sign,
  natural,
  optional(sequence(text("."), repeat(1, 16, digit))),
  optional(
    sequence(
      characters([
        [0x45, 0x45],
        [0x65, 0x65],
      ]),
      optional(
        characters([
          [0x2b, 0x2b],
          [0x2d, 0x2d],
        ]),
      ),
      repeat(1, 2, digit),
    ),
  ),
);
/** Above 0 and below 1, in so few digits that adding a bound of 9 digits is exact enough. */
const fraction = sequence(text("."), repeat(0, 5, digit), nonZero);

/** Integers from `least` to `most`, either of which may be infinite. */
export function integers(least: number, most: number): Node {
  const parts: Node[] = [];
  if (most >= 0) parts.push(naturals(Math.max(least, 0), most));
  if (least < 0) parts.push(sequence(text("-"), naturals(Math.max(-most, 1), -least)));
  return choice(...parts);
}

/** Numbers from `least` to `most`, integers or infinite. Which ends are numbers of it is told by the integers within. */
export function numbers(least: number, most: number, integersWithin: Node): Node {
  const parts = [integersWithin];
  if (most > 0) parts.push(sequence(naturals(Math.max(least, 0), most - 1), fraction));
  if (least < 0) parts.push(sequence(text("-"), naturals(Math.max(-most, 0), -least - 1), fraction));
  return choice(...parts);
}

function naturals(least: number, most: number): Node {
  if (least > most) return choice();
  const parts: Node[] = [];
  const longest = Number.isFinite(most) ? String(most).length : 18;
  for (let length = String(least).length; length <= longest; length++) {
    const low = length === String(least).length ? String(least) : `1${"0".repeat(length - 1)}`;
    const high = Number.isFinite(most) && length === longest ? String(most) : "9".repeat(length);
    parts.push(sameLength(low, high));
  }
  return choice(...parts);
}

/** Digits from `low` to `high`, which have equally many. */
function sameLength(low: string, high: string): Node {
  const [first, last] = [Number(low[0]), Number(high[0])];
  const digits = (from: number, to: number) => characters([[0x30 + from, 0x30 + to]]);
  if (low.length === 1) return digits(first, last);
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  const [zeros, nines] = ["0".repeat(lowRest.length), "9".repeat(lowRest.length)];
  if (first === last) return sequence(digits(first, first), sameLength(lowRest, highRest));
  const parts: Node[] = [];
  const from = lowRest === zeros ? first : first + 1;
  const to = highRest === nines ? last : last - 1;
  if (from !== first) parts.push(sequence(digits(first, first), sameLength(lowRest, nines)));
  if (from <= to) parts.push(sequence(digits(from, to), repeat(lowRest.length, lowRest.length, digit)));
  if (to !== last) parts.push(sequence(digits(last, last), sameLength(zeros, highRest)));
  return choice(...parts);
}
