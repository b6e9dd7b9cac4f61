import { characters, choice, type Node, optional, type Ranges, repeat, sequence, subtract, text } from "./nodes.js";

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
  return sequence(text('"'), otherThan(names, plain), text('"'));
}

/** A text that is none of these, not as JSON spells it. */
export function otherText(names: readonly string[]): Node {
  return otherThan(names, [[0, 0x10ffff]]);
}

/** Texts of these characters that are none of the names. */
function otherThan(names: readonly string[], allowed: Ranges): Node {
  const any = repeat(0, -1, characters(allowed));
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
    const others = subtract(
      allowed,
      taken.map((code) => [code, code] as const),
    );
    const parts: Node[] = within.some((name) => name.length === depth) ? [] : [sequence()];
    parts.push(sequence(characters(others), any));
    for (const [next, those] of byNext) {
      const code = next.codePointAt(0) as number;
      // A name with a character that is not allowed cannot be spelled at all.
      if (allowed.some(([first, last]) => first <= code && code <= last)) {
        parts.push(sequence(text(next), build(those, depth + 1)));
      }
    }
    return choice(...parts);
  };
  return build(
    names.map((name) => [...name]),
    0,
  );
}
